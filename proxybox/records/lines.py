"""Which lines of a recorded program made its calls, as the program says in a replay.

Nothing of this is recorded, and a recorded run costs nothing for it: a replay is the same run, and each of its calls is
looked at there (controller/warm/inspecting.py).
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from proxybox.controller.record.parting import Divergence, Frame
from proxybox.controller.warm.inspecting import LIMIT_NS
from proxybox.records.ownfiles import is_of_interpreter
from proxybox.records.replaying import TIMEOUT, ReplayedCall, replay

#: Calls that are looked at, each of which takes some milliseconds; how many looks may take until their limit; and the
#: characters of all stacks that are kept, which are what a program claims.
MOST, MOST_SLOW, MOST_TEXT = 200_000, 50, 32 << 20
#: What a frame without texts counts as.
_FRAME = 100
#: How modules are named that an interpreter has within itself.
_FROZEN = ("<frozen ", "<builtin>")


@attrs.frozen(kw_only=True)
class Lines:
    """The stacks of a run's calls.

    stacks: by the call's number, each from the innermost frame on. near: the calls whose own stack could not be had,
    and that have that of the calls before and after them in their thread, which is the same. divergence: where the
    replay has parted from the record, so that nothing is known of what follows. looked: how many calls were looked at.
    """

    stacks: Mapping[int, tuple[Frame, ...]]
    near: frozenset[int]
    divergence: Divergence | None
    looked: int


def lines_of(
    path: str | os.PathLike[str],
    *,
    guest: str | os.PathLike[str] | None = None,
    packages: Sequence[str | os.PathLike[str]] = (),
    on_call: Callable[[], object] = lambda: None,
) -> Lines:
    """Replays a record, and asks at each call which lines of Python make it. on_call: called at each call.

    Raises what `replay` raises.
    """
    stacks: dict[int, tuple[Frame, ...]] = {}
    same: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}  # a program makes most of its calls in few places
    threads: dict[int, list[int]] = {}
    looked = slow = text = 0
    until = time.monotonic() + TIMEOUT  # the time of a look does not count as the replay's

    def look(call: ReplayedCall) -> None:
        nonlocal looked, slow, text
        if slow > MOST_SLOW or text > MOST_TEXT or time.monotonic() > until:
            return
        looked, began = looked + 1, time.monotonic_ns()
        found = call.stack()
        slow += time.monotonic_ns() - began >= LIMIT_NS
        threads.setdefault(call.asked.thread, []).append(call.number)
        if found:
            if found not in same:
                text += sum(_FRAME + len(each.file) + len(each.function) for each in found)
            stacks[call.number] = same.setdefault(found, found)
        on_call()

    done = replay(path, guest=guest, packages=packages, on_call=look, until=MOST)
    near = {number: stack for numbers in threads.values() for number, stack in _between(numbers, stacks)}
    return Lines(stacks={**stacks, **near}, near=frozenset(near), divergence=done.divergence, looked=looked)


def own_frame(stack: Sequence[Frame], prefix: str) -> Frame | None:
    """Returns the innermost frame that runs the program's own code, and not the library's; None where none does."""
    return next(
        (each for each in stack if not (each.file.startswith(_FROZEN) or is_of_interpreter(each.file, prefix))), None
    )


def at_line(frame: Frame) -> str:
    """Returns where a frame is, as file:line."""
    return f"{frame.file}:{'?' if frame.line is None else frame.line}"


def _between(
    numbers: Sequence[int], stacks: Mapping[int, tuple[Frame, ...]]
) -> "Sequence[tuple[int, tuple[Frame, ...]]]":  # fmt: skip
    """Returns the calls of a thread that have no stack, between two that have the same one, with that."""
    found: list[tuple[int, tuple[Frame, ...]]] = []
    waiting: list[int] = []
    before: tuple[Frame, ...] = ()
    for number in numbers:
        stack = stacks.get(number)
        if stack is None:
            waiting.append(number)
            continue
        if stack == before:
            found += [(each, stack) for each in waiting]
        waiting.clear()
        before = stack
    return found
