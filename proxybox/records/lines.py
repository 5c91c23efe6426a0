"""Finds in a replay which lines of a recorded program made its calls, as the program claims.

The lines are not recorded, so a recorded run has no cost for them. A replay is the same run, and the stack is read at
each of its calls (controller/warm/inspecting.py).
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence

import attrs

from proxybox.controller.record.parting import Divergence, Frame
from proxybox.controller.warm.inspecting import LIMIT_NS
from proxybox.records.ownfiles import is_of_interpreter
from proxybox.records.replaying import TIMEOUT, ReplayedCall, replay

#: The most calls whose stacks are read, which takes some milliseconds each; the most such calls that may reach their
#: time limit; and the most characters of all stacks, which the program can choose.
MOST, MOST_SLOW, MOST_TEXT = 200_000, 50, 32 << 20
#: The size that is counted for a frame without its texts.
_FRAME = 100
#: The beginnings of the file names of built-in modules.
_FROZEN = ("<frozen ", "<builtin>")


@attrs.frozen(kw_only=True)
class Lines:
    """The stacks of a run's calls.

    stacks: by the call's number, each from the innermost frame on. near: the calls whose own stack could not be read;
    the calls before and after them in their thread have the same stack, and it is used for them. divergence: where the
    replay has parted from the record; no stacks are known after it. looked: the number of inspected calls.
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
    """Replays a record, and reads at each call the Python stack that makes it. on_call: called at each call.

    Raises what `replay` raises.
    """
    stacks: dict[int, tuple[Frame, ...]] = {}
    same: dict[tuple[Frame, ...], tuple[Frame, ...]] = {}  # a program makes most of its calls in few places
    threads: dict[int, list[int]] = {}
    looked = slow = text = 0
    until = time.monotonic() + TIMEOUT  # the replay's own timeout does not count the time of looks

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
    """Returns the innermost frame of the program's own code, not of the library; None if there is none."""
    return next(
        (each for each in stack if not (each.file.startswith(_FROZEN) or is_of_interpreter(each.file, prefix))), None
    )


def at_line(frame: Frame) -> str:
    """Returns the place of a frame, as file:line."""
    return f"{frame.file}:{'?' if frame.line is None else frame.line}"


def _between(
    numbers: Sequence[int], stacks: Mapping[int, tuple[Frame, ...]]
) -> "Sequence[tuple[int, tuple[Frame, ...]]]":  # fmt: skip
    """Returns the calls of a thread without a stack between two calls with the same stack, each with that stack."""
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
