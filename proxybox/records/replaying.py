"""Runs a program again from its record, without the files, clocks, network or functions of the caller."""

import os
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import attrs

from proxybox import argumentchecks
from proxybox.controller.boxes.box import BoxResult, BoxRunner
from proxybox.controller.boxes.replayed import ReplayedRunner, Standing, outcome_differs
from proxybox.controller.errors import RecordError
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.guest import Guest
from proxybox.controller.record.exactness import Inexact
from proxybox.controller.record.parting import Divergence, Frame, RequestText
from proxybox.controller.warm.inspecting import session, stack
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Policy
from proxybox.records.record import Record
from proxybox.records.writes import Writes
from proxybox.result import Change, Files, Result, result_of
from proxybox.session import Session
from proxybox.terminal.harmless import on_one_line

_NAME = re.compile(r"(pypy|python)3\.(\d{1,2})", re.ASCII)
#: The default limit of a replay's wall time, in seconds.
TIMEOUT = 3600.0
#: Content of a record that a replay cannot check.
_CLAIMS = (
    "when it was recorded, and by which version",
    "what the host had: layers, usage",
    "what files, clocks, randomness, input and functions of the caller have answered",
)
_OF_POLICY = "that the policy answers such calls in this way: interceptors or another version may have answered"
_MOST_UNSURE = 10


@attrs.frozen(kw_only=True)
class Replay:
    """The result of a replay.

    result: the program's result in the replay. Its output, its end and its refusals were compared with the record, and
    changed files with the data that was written. divergence: where the program has parted from the record; None if it
    has not. calls: how many calls were as recorded. is_complete: whether the record has the whole run, and the replay
    has followed it to its end. is_stopped: whether it was stopped at `until`. inexact: the place from which on a replay
    may part, as the record says. claims: content that is taken from the record without a check, in words.
    Only a replay that is `ok` has the result of the recorded run.
    """

    result: Result
    divergence: Divergence | None
    calls: int
    is_complete: bool
    is_stopped: bool = False
    inexact: Inexact | None = None
    claims: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether the program has done the same as in the record, to its end."""
        return self.divergence is None and self.is_complete


@attrs.frozen(eq=False)
class ReplayedCall:
    """A call of a replayed program, which waits for its answer. `on_call` of `replay` gets it.

    The inspected values are the program's claims. The inspection does not change the replay.
    """

    _at: Standing = attrs.field(repr=False)
    _guest: Guest = attrs.field(repr=False)

    @property
    def number(self) -> int:
        """Its place in the order of all calls, from 1 on."""
        return self._at.number

    @property
    def asked(self) -> RequestText:
        """Its name, its arguments and the id of its thread."""
        return self._at.asked

    def stack(self) -> tuple[Frame, ...]:
        """Returns the frames of Python that make the call, from the innermost one on.

        There are none before Python runs, or if the interpreter makes the call while it or another thread holds its
        lock.
        """
        return stack(self._at)

    def session(self, policy: Policy | None = None) -> Session:
        """Returns a copy of the program as a session, in which the names of its innermost function can be used.

        Its OS calls are answered by a separate empty world, under `policy`. The caller must close it. Raises
        SandboxStartError and CannotCopy if no copy is possible; it may be possible at another call.
        """
        rules = Policy() if policy is None else policy
        return Session(session(self._at, BoxRunner(rules, self._guest)), rules)


def replay(
    path: str | os.PathLike[str],
    *,
    guest: str | os.PathLike[str] | None = None,
    guest_library: str | os.PathLike[str] | None = None,
    packages: Sequence[str | os.PathLike[str]] = (),
    on_stdout: Callable[[bytes], object] | None = None,
    on_stderr: Callable[[bytes], object] | None = None,
    until: int | None = None,
    speed: float | None = None,
    timeout: float | str | None = None,
    on_call: Callable[[ReplayedCall], object] | None = None,
    at: int | None = None,
) -> Replay:
    """Runs a recorded program again in a box, answered from the record alone.

    guest: the interpreter, which must be the build that was recorded; None to find it by its name in the record.
    packages: the folders of packages that the run had. on_stdout, on_stderr: called with its output. until: the number
    of the call at which to stop, from 1 on. speed: how many seconds of the recorded run pass in one second; None for
    the highest speed. timeout: the most seconds of wall time (an hour), without the time of `on_call`. on_call: called
    with each call that is as recorded, before it is answered: it can inspect the program. at: the number of the one
    call that `on_call` is called with, which is fast; None for all.

    Raises RecordError for a file that is no record, or that cannot be replayed here, OSError if it cannot be read, and
    SandboxStartError if no box can be started.
    """
    if until is not None:
        argumentchecks.count("until", until, 1)
    if at is not None:
        argumentchecks.count("at", at, 1)
    if speed is not None and not (isinstance(speed, int | float) and 0 < speed < 1e6):
        argumentchecks.no_sense("speed", "a number above 0", speed)
    streams = StandardStreams(
        stdout=argumentchecks.function("on_stdout", on_stdout), stderr=argumentchecks.function("on_stderr", on_stderr)
    )
    return followed(path, guest, guest_library, packages, timeout, streams, argumentchecks.function("on_call", on_call),
                    until=until, speed=speed, at=at)  # fmt: skip


def followed(
    path: str | os.PathLike[str],
    guest: str | os.PathLike[str] | None = None,
    guest_library: str | os.PathLike[str] | None = None,
    packages: Sequence[str | os.PathLike[str]] = (),
    timeout: float | str | None = None,
    streams: StandardStreams | None = None,
    look: Callable[[ReplayedCall], object] | None = None,
    **how: Any,
) -> Replay:
    """As `replay`. look: its `on_call`. how: see `ReplayedRunner`."""
    seconds = argumentchecks.duration("timeout", timeout)
    with Record(path) as record:
        reader = record.reader
        found = _guest(record, guest, guest_library, packages)
        spec = ReplayedRunner.of(
            reader, found, timeout=TIMEOUT if seconds is None else seconds,
            on_call=None if look is None else lambda here: look(ReplayedCall(here, found)), **how,
        )  # fmt: skip
        replayed = spec.run((), streams=StandardStreams() if streams is None else streams)
        replayer = spec.replayer
        divergence = replayer.divergence
        if divergence is None and reader.run is not None and not replayer.is_stopped:
            is_session = bool(reader.start.get("session"))
            keeps = bool(reader.start.get("keeps_output")) and not is_session
            other = outcome_differs(reader.run, replayed, keeps_output=keeps, is_session=is_session)
            if other:
                divergence = Divergence(replayer.calls_followed, f"{other} is another than in the recorded run")
        is_like_then = divergence is None and not replayer.is_stopped
        files = Files(reader.run.changes).changes if reader.run is not None and is_like_then else ()
        other, unsure = _written(path, record, files)
        if other:
            divergence = Divergence(replayer.calls_followed, f"the record tells of other changed files: {other}")
            is_like_then = False
        made = _joined(reader.run, replayed) if is_like_then else replayed
        return Replay(
            result=result_of(made, record.policy),
            divergence=divergence,
            calls=replayer.calls_followed,
            is_complete=reader.run is not None and replayer.is_over,
            is_stopped=replayer.is_stopped,
            inexact=reader.inexact,
            claims=(*_CLAIMS, *(() if spec.is_checked else (_OF_POLICY,)), *unsure),
        )


def _written(
    path: str | os.PathLike[str], record: Record, files: Collection[Change]
) -> tuple[str, tuple[str, ...]]:  # fmt: skip
    """Returns how changed files differ from the data in the calls, and which contents the calls do not show."""
    if not files:
        return "", ()
    if record.reader.start.get("session"):
        return "", ("changed files: the caller of a session may have written them from outside",)
    writes = Writes(record.policy.environment.cwd)
    with Record(path) as again:
        for call in again.calls():
            writes.follow(call)
    unsure = tuple(writes.unsure_of(files))
    left = len(unsure) - _MOST_UNSURE
    named = ", ".join(map(on_one_line, unsure[:_MOST_UNSURE])) + (f" and {left:,} more" if left > 0 else "")
    return writes.differs(files), (f"the content of changed files: {named}",) if unsure else ()


def _joined(recorded: BoxResult | None, replayed: BoxResult) -> BoxResult:
    """Returns the replayed run, with the facts that only the recorded run has."""
    if recorded is None:
        return replayed
    return attrs.evolve(
        recorded, outcome=replayed.outcome, output=replayed.output, truncated=replayed.truncated,
        denials=replayed.denials or recorded.denials,
        unknown=replayed.unknown or recorded.unknown,
    )  # fmt: skip


def _named(name: str) -> str:
    """Returns the name to search for on PATH, for the recorded kind of interpreter. Raises RecordError.

    No text of a record is ever used as a path of the host.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise RecordError("the record does not tell which kind of interpreter was used: name it with --guest")
    return "pypy" if found[1] == "pypy" else f"3.{int(found[2])}"


def _guest(
    record: Record, path: str | os.PathLike[str] | None, library: str | os.PathLike[str] | None,
    packages: Sequence[str | os.PathLike[str]],
) -> Guest:  # fmt: skip
    if path is None and "PROXYBOX_GUEST" not in os.environ:
        path = _named(record.guest)
    guest = find_guest(argumentchecks.guest(path), library)
    folders = argumentchecks.packages(packages)
    if folders:
        from proxybox.packages import with_packages

        guest = with_packages(guest, folders)
    wanted = record.reader.start.get("guest")
    count = wanted.get("packages") if isinstance(wanted, dict) else 0
    if count != len(guest.packages):
        raise RecordError(
            f"the recorded run had {count} folders of packages, and {len(guest.packages)} are given: name the same "
            "ones with --packages, in the same order"
        )
    return guest
