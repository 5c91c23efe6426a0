"""Decides which kind of difference two answers to the same question have.

Rule: all data may be forged. It is not trusted: paths are only names, and sizes are those of the stored bytes.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import attrs

from proxybox.controller.calleffects import ON_NAMES, CallEffect
from proxybox.controller.header import SECONDS, TIME_OF_DAY
from proxybox.controller.oscalls.rows import by_effect, names_of
from proxybox.records.differing.kinds import KINDS, DifferenceKind
from proxybox.records.differing.outline import STAT_SIZE, without_times
from proxybox.records.differing.showing import Tokens, asked, entries_of, of_time, reading, shown
from proxybox.records.openfiles import duplicates
from proxybox.records.record import RecordedCall

#: The most descriptors that are tracked, and the most directory entries that are counted.
_MOST_OPEN: Final = 4096
_MOST_ENTRIES: Final = 100_000
#: The most clock readings before one call that are searched for in the differing bytes.
_MOST_READINGS: Final = 4
_ENOENT: Final = -2
_OWN_CLOCKS: Final = frozenset({TIME_OF_DAY, SECONDS})  # PyPy reads these for its own use

_OPENING: Final = names_of(CallEffect.OPENS)
_DUPLICATING: Final = names_of(CallEffect.DUPLICATES)
_CREATING: Final = names_of(CallEffect.CREATES)
CLOCKS: Final = names_of(CallEffect.CLOCK | CallEffect.SLEEPS)
#: The calls whose answers may hold a struct stat.
_WITH_STATUS: Final = names_of(CallEffect.OPENS | CallEffect.STATUS)
#: The first guess of a difference's kind, by the effect of the call. All others are an "answer".
_AT_FIRST: Final = by_effect(
    {
        CallEffect.CALLER: "command",
        CallEffect.RANDOMNESS: "random",
        CallEffect.CLOCK: "clock",
        CallEffect.SLEEPS: "clock",
        CallEffect.WAITS: "waiting",
        CallEffect.IDENTITY: "identity",
        CallEffect.LISTS: "directory",
        CallEffect.STATUS: "status",
        CallEffect.SEEKS: "status",
        CallEffect.OPENS: "content",
        CallEffect.READS: "content",
    },
    nothing=ON_NAMES | CallEffect.WRITES | CallEffect.LOOKS | CallEffect.RESIZES | CallEffect.ALTERS
    | CallEffect.CREATES | CallEffect.DUPLICATES | CallEffect.CLOSES | CallEffect.ENTERS | CallEffect.LOCKS
    | CallEffect.TIMERS | CallEffect.STARTS | CallEffect.ENDS | CallEffect.SENDS | CallEffect.SIGNALS
    | CallEffect.MEMORY | CallEffect.MAPS | CallEffect.SOCKETS | CallEffect.SYSTEM,
)  # fmt: skip
_RANDOM_FILES = (b"/dev/urandom", b"/dev/random")
_STDIN = b"standard input"


@attrs.define(eq=False)
class Descriptors:
    """The paths of a run's descriptors, updated call by call."""

    paths: dict[int, bytes] = attrs.field(factory=lambda: {0: _STDIN, 1: b"standard output", 2: b"standard error"})

    def follow(self, call: RecordedCall) -> None:
        """Updates the paths after a call that was answered."""
        result, asked = call.result, call.asked
        if result is None or result < 0:
            return
        if call.name in _OPENING:
            self._set(result, asked.get("path"))
        elif call.name in _DUPLICATING and duplicates(call):
            old = next((asked[name] for name in ("fd", "oldfd", "fildes") if name in asked), None)
            self._set(result, self.paths.get(old) if isinstance(old, int) else None)
        elif call.name in _CREATING and call.stored and call.stored[0].data:
            data = call.stored[0].data[:8]
            for at in range(0, len(data), 4):
                self._set(int.from_bytes(data[at : at + 4], "little"), b"a pipe")
        elif call.name in _CREATING:
            self._set(result, call.name.encode())

    def _set(self, fd: int, path: object) -> None:
        if isinstance(path, bytes) and (fd in self.paths or len(self.paths) < _MOST_OPEN):
            self.paths[fd] = path[:4096]
        else:
            self.paths.pop(fd, None)

    def path(self, call: RecordedCall) -> bytes:
        """Returns the path that a call refers to; b"" if there is none, or if it is not known."""
        path = call.asked.get("path", call.asked.get("pathname", call.asked.get("target")))
        if isinstance(path, bytes) and path:
            return path[:4096]
        fd = call.asked.get("fd")
        return self.paths.get(fd, b"") if isinstance(fd, int) else b""


@attrs.frozen
class Seen:
    """A call to judge and show. path: that the call refers to. clocks: all readings since the thread's last call."""

    call: RecordedCall
    path: bytes
    clocks: tuple[tuple[int, int], ...]


@attrs.frozen
class AnswerDifference:
    """Two different answers to the same question. a, b: the numbers of the calls, with each answer as it is shown.

    is_content: whether an answer has stored data. is_reading: whether a clock reading before the call differs.
    """

    kind: DifferenceKind
    a: int
    b: int
    path: str
    ours: str
    theirs: str
    call: str
    is_content: bool = False
    tokens: Tokens = ()
    is_reading: bool = False


@attrs.frozen(slots=True)
class AnswerPair:
    """The place of two different answers. It is stored for each difference, so it is small. kind: its name in KINDS."""

    a: int
    b: int
    is_reading: bool
    kind: str
    path: str


@attrs.define(eq=False)
class Judge:
    """Decides which kinds differences have.

    script: the program's path. begins: the numbers of the calls in both runs with which the program begins.
    """

    script: bytes
    begins: tuple[int, int]
    entries: dict[bytes, Counter[bytes]] = attrs.field(factory=dict)
    counted: int = 0

    def judge(self, one: Seen, other: Seen, *, answers: bool) -> Iterator[AnswerDifference]:
        """Yields the differences of two calls with the same question. answers: whether more than clocks differs."""
        if one.clocks != other.clocks:
            yield attrs.evolve(self._clocks(one, other), is_reading=True)
        if not answers:
            if one.call.asked == other.call.asked and _are_only_times(one.call, other.call):
                yield self._found("times", one, other, *shown("times", one.call, other.call))
            return
        kind = self._kind(one, other)
        ours, theirs, tokens = shown(kind, one.call, other.call)
        yield self._found(kind, one, other, ours, theirs, tokens)

    def is_early(self, one: Seen, other: Seen) -> bool:
        """Whether both calls belong to the interpreter's start."""
        return one.call.number < self.begins[0] and other.call.number < self.begins[1]

    def _found(
        self, kind: str, one: Seen, other: Seen, ours: str, theirs: str, tokens: Tokens = ()
    ) -> AnswerDifference:
        path = one.path.decode("utf-8", "backslashreplace")
        has_content = any(len(each.data or b"") and each.size != STAT_SIZE for each in one.call.stored)
        return AnswerDifference(
            KINDS[kind], one.call.number, other.call.number, path, ours, theirs, asked(one.call), has_content, tokens
        )

    def _clocks(self, one: Seen, other: Seen) -> AnswerDifference:
        pairs = [pair for pair in zip(one.clocks, other.clocks, strict=False) if pair[0] != pair[1]]
        own = next((pair for pair in pairs if not {pair[0][0], pair[1][0]} <= _OWN_CLOCKS), None)
        kind = "interpreter's clock" if own is None or self.is_early(one, other) else "clock"
        if own is None and not pairs:
            ours, theirs = (f"{len(each.clocks):,} readings of clocks" for each in (one, other))
            rest = (one.clocks if len(one.clocks) > len(other.clocks) else other.clocks)[
                min(len(one.clocks), len(other.clocks)) :
            ]
            if not self.is_early(one, other) and any(clock not in _OWN_CLOCKS for clock, _ in rest):
                kind = "clock"
            return self._found(kind, one, other, ours, theirs)
        ours_at, theirs_at = own or pairs[0]
        tokens = tuple(of_time(a[1], b[1]) for a, b in pairs[:_MOST_READINGS])
        return self._found(
            kind, one, other, reading(*ours_at), reading(*theirs_at), tuple(pair for each in tokens for pair in each)
        )

    def _kind(self, one: Seen, other: Seen) -> str:
        ours, theirs, path = one.call, other.call, one.path
        kind = _AT_FIRST.get(ours.name, "answer")
        if kind == "command":
            message = ours.asked.get("message")
            return "host function" if isinstance(message, bytes) and message[:1] in (b"h", b"w", b"-") else "command"
        if ours.refusals != theirs.refusals:
            return "refusal"
        if kind == "random":
            if not self.is_early(one, other):
                return "random"
            return "hash seed" if ours.asked.get("count") in (16, 24) else "start"
        if path in _RANDOM_FILES and kind == "content":
            return "random"
        if kind == "clock":
            return "clock" if not self.is_early(one, other) else "interpreter's clock"
        if kind in ("waiting", "identity"):
            return kind
        if _are_only_times(ours, theirs):
            return "times"
        if path.startswith((b"/proc/", b"/sys/")):
            return "system"
        if kind == "directory":
            return self._listing(path, ours, theirs)
        return self._of_file(kind, path, ours, theirs)

    def _of_file(self, kind: str, path: bytes, ours: RecordedCall, theirs: RecordedCall) -> str:
        if path == _STDIN:
            return "stdin"
        if path and (path == self.script or path.endswith((b".py", b".pyc"))):
            return "code"
        if path and (ours.result == _ENOENT) != (theirs.result == _ENOENT):
            return "existence"
        return kind if path else "answer"

    def _listing(self, path: bytes, ours: RecordedCall, theirs: RecordedCall) -> str:
        first, second = (entries_of(each) for each in (ours, theirs))
        if first == second:
            return "times"
        self.counted += len(first) + len(second)
        if self.counted < _MOST_ENTRIES:
            counted = self.entries.setdefault(path, Counter())
            counted.update(first)
            counted.subtract(second)
        if sorted(first) == sorted(second):
            return "directory order"
        return "imports" if path == self.script.rpartition(b"/")[0] else "directory"

    def is_only_order(self, path: str) -> bool:
        """Whether a directory has the same entries in both runs. It is called after all calls were judged."""
        counted = self.entries.get(path.encode("utf-8", "backslashreplace"))
        return counted is not None and self.counted < _MOST_ENTRIES and not any(counted.values())


def with_path(seen: Descriptors, call: RecordedCall, before: tuple[tuple[int, int], ...]) -> Seen:
    """Returns a call to judge. before: clock readings that the thread reported before it."""
    return Seen(call, seen.path(call), before + call.clocks)


def _are_only_times(ours: RecordedCall, theirs: RecordedCall) -> bool:
    """Whether two answers differ only in the times and numbers of files."""
    if ours.result != theirs.result or len(ours.stored) != len(theirs.stored) or ours.name not in _WITH_STATUS:
        return False
    for one, other in zip(ours.stored, theirs.stored, strict=True):
        first, second = one.data or b"", other.data or b""
        if one != other and not (
            len(first) == len(second) == STAT_SIZE and without_times(first) == without_times(second)
        ):
            return False
    return ours.stored != theirs.stored
