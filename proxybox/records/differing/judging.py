"""Which kind of difference two answers to the same question have, and how it is shown.

Rule: all that is looked at may be forged. Nothing of it is followed: paths are names, and sizes are those of the bytes
that are there.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import attrs

from proxybox.controller.abi import DIRENT_HEAD
from proxybox.controller.audit import OSCall
from proxybox.controller.exchange.values import decode
from proxybox.records.differing.kinds import KINDS, Kind
from proxybox.records.differing.outline import STAT_SIZE, without_times
from proxybox.records.record import RecordedCall, Stored
from proxybox.terminal import strace

#: Bytes of a content that are compared line by line, and characters of a text that is shown.
_LOOKED_AT: Final = 1 << 20
SHOWN: Final = 300
#: Files whose descriptors are known, and entries of directories that are counted.
_MOST_OPEN: Final = 4096
_MOST_ENTRIES: Final = 100_000
#: Readings of clocks before one call that are looked for in what differs.
_MOST_READINGS: Final = 4
_ENOENT: Final = -2
_OWN_CLOCKS: Final = frozenset({200, 201})  # gettimeofday and time, which PyPy reads for itself

_OPENING = frozenset({"open", "openat", "openat2", "creat", "open_tree"})
_READING = frozenset({"read", "pread64", "readv", "preadv", "preadv2", "recvfrom", "recvmsg"})
_LISTING = frozenset({"getdents", "getdents64"})
CLOCKS = frozenset({"clock_gettime", "gettimeofday", "time", "times", "getrusage", "clock_getres", "getitimer",
                     "timer_gettime", "timerfd_gettime", "sysinfo", "clock_nanosleep", "nanosleep"})  # fmt: skip
_WAITING = frozenset({"poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2", "futex",
                      "futex_waitv", "rt_sigtimedwait", "wait4", "waitid"})  # fmt: skip
_IDENTITY = frozenset({"getpid", "getppid", "gettid", "clone", "clone3", "fork", "vfork", "set_tid_address", "getsid",
                       "getpgrp", "getpgid"})  # fmt: skip
_MAKING = frozenset({"socket", "accept", "accept4", "eventfd2", "epoll_create1", "memfd_create", "timerfd_create"})
_STATUS = frozenset({"stat", "lstat", "fstat", "newfstatat", "statx", "lseek", "statfs", "fstatfs"})
_RANDOM_FILES = (b"/dev/urandom", b"/dev/random")
_STDIN = b"standard input"


@attrs.define(eq=False)
class Descriptors:
    """What the descriptors of a run stand for, call after call."""

    paths: dict[int, bytes] = attrs.field(factory=lambda: {0: _STDIN, 1: b"standard output", 2: b"standard error"})

    def follow(self, call: RecordedCall) -> None:
        """Takes note of a call that was answered."""
        result, asked = call.result, call.asked
        if result is None or result < 0:
            return
        if call.name in _OPENING:
            self._set(result, asked.get("path"))
        elif call.name in ("dup", "dup2", "dup3") or (call.name == "fcntl" and asked.get("cmd") in (0, 1030)):
            old = next((asked[name] for name in ("fd", "oldfd", "fildes") if name in asked), None)
            self._set(result, self.paths.get(old) if isinstance(old, int) else None)
        elif call.name in ("pipe", "pipe2", "socketpair") and call.stored and call.stored[0].data:
            data = call.stored[0].data[:8]
            for at in range(0, len(data), 4):
                self._set(int.from_bytes(data[at : at + 4], "little"), b"a pipe")
        elif call.name in _MAKING:
            self._set(result, call.name.encode())

    def _set(self, fd: int, path: object) -> None:
        if isinstance(path, bytes) and (fd in self.paths or len(self.paths) < _MOST_OPEN):
            self.paths[fd] = path[:4096]
        else:
            self.paths.pop(fd, None)

    def path(self, call: RecordedCall) -> bytes:
        """Returns the path that a call is about; b"" for none, or one that is not known."""
        path = call.asked.get("path", call.asked.get("pathname", call.asked.get("target")))
        if isinstance(path, bytes) and path:
            return path[:4096]
        fd = call.asked.get("fd")
        return self.paths.get(fd, b"") if isinstance(fd, int) else b""


#: Texts that show where two values have gone, if the program prints them, by pairs; b"" where one has none.
Tokens: TypeAlias = tuple[tuple[bytes, bytes], ...]


@attrs.frozen
class Seen:
    """A call as it is judged and shown. path: what it is about. clocks: all readings since the thread's last call."""

    call: RecordedCall
    path: bytes
    clocks: tuple[tuple[int, int], ...]


@attrs.frozen
class Found:
    """Two different answers to the same question. a, b: the numbers of the calls, with each answer as it is shown.

    is_content: whether the answer has stored data. is_reading: whether it is a clock that was read before the call.
    """

    kind: Kind
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
class Pair:
    """The place of two different answers: what is kept of each of them. kind: its name in KINDS."""

    a: int
    b: int
    is_reading: bool
    kind: str
    path: str


@attrs.define(eq=False)
class Judge:
    """Says of which kind differences are.

    script: the program's path. begins: the numbers of the calls of both runs with which it begins.
    """

    script: bytes
    begins: tuple[int, int]
    entries: dict[bytes, Counter[bytes]] = attrs.field(factory=dict)
    counted: int = 0

    def judge(self, one: Seen, other: Seen, *, answers: bool) -> Iterator[Found]:
        """Yields the differences of two calls that ask the same. answers: whether more than clocks differs."""
        if one.clocks != other.clocks:
            yield attrs.evolve(self._clocks(one, other), is_reading=True)
        if not answers:
            if one.call.asked == other.call.asked and _are_only_times(one.call, other.call):
                yield self._found("times", one, other, *self._shown("times", one.call, other.call))
            return
        kind = self._kind(one, other)
        ours, theirs, tokens = self._shown(kind, one.call, other.call)
        yield self._found(kind, one, other, ours, theirs, tokens)

    def is_early(self, one: Seen, other: Seen) -> bool:
        """Whether both calls belong to the interpreter's start."""
        return one.call.number < self.begins[0] and other.call.number < self.begins[1]

    def _found(self, kind: str, one: Seen, other: Seen, ours: str, theirs: str, tokens: Tokens = ()) -> Found:
        path = one.path.decode("utf-8", "backslashreplace")
        has_content = any(len(each.data or b"") and each.size != STAT_SIZE for each in one.call.stored)
        return Found(
            KINDS[kind], one.call.number, other.call.number, path, ours, theirs, asked(one.call), has_content, tokens
        )

    def _clocks(self, one: Seen, other: Seen) -> Found:
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
        tokens = tuple(_of_time(a[1], b[1]) for a, b in pairs[:_MOST_READINGS])
        return self._found(
            kind, one, other, _reading(*ours_at), _reading(*theirs_at), tuple(pair for each in tokens for pair in each)
        )

    def _kind(self, one: Seen, other: Seen) -> str:
        ours, theirs, path = one.call, other.call, one.path
        name = ours.name
        if name == "exchange":
            message = ours.asked.get("message")
            return "host function" if isinstance(message, bytes) and message[:1] in (b"h", b"w", b"-") else "command"
        if ours.refusals != theirs.refusals:
            return "refusal"
        if name == "getrandom":
            if not self.is_early(one, other):
                return "random"
            return "hash seed" if ours.asked.get("count") in (16, 24) else "start"
        if path in _RANDOM_FILES and name in (*_READING, *_OPENING):
            return "random"
        if name in CLOCKS:
            return "clock" if not self.is_early(one, other) else "interpreter's clock"
        if name in _WAITING:
            return "waiting"
        if name in _IDENTITY:
            return "identity"
        if _are_only_times(ours, theirs):
            return "times"
        if path.startswith((b"/proc/", b"/sys/")):
            return "system"
        if name in _LISTING:
            return self._listing(path, ours, theirs)
        return self._of_file(name, path, ours, theirs)

    def _of_file(self, name: str, path: bytes, ours: RecordedCall, theirs: RecordedCall) -> str:
        if path == _STDIN:
            return "stdin"
        if path and (path == self.script or path.endswith((b".py", b".pyc"))):
            return "code"
        if path and (ours.result == _ENOENT) != (theirs.result == _ENOENT):
            return "existence"
        if name in _STATUS and path:
            return "status"
        return "content" if path and name in (*_READING, *_OPENING) else "answer"

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
        """Whether all entries of a directory are in both runs, now that all calls were judged."""
        counted = self.entries.get(path.encode("utf-8", "backslashreplace"))
        return counted is not None and self.counted < _MOST_ENTRIES and not any(counted.values())

    def _shown(self, kind: str, ours: RecordedCall, theirs: RecordedCall) -> tuple[str, str, Tokens]:
        if kind in ("directory order", "directory", "imports"):
            return _entries_apart(entries_of(ours), entries_of(theirs))
        results = tuple(_result(each) for each in (ours, theirs))
        data = _first_apart(ours.stored, theirs.stored)
        if data is None:
            numbers = tuple(str(each.result).encode() for each in (ours, theirs))
            return results[0], results[1], ((numbers[0], numbers[1]),) if kind == "identity" else ()
        first, second = (_data(each) for each in data)
        if kind == "host function":
            return _value(first), _value(second), ()
        if kind in ("random", "hash seed", "start"):
            hexes = first[:4].hex().encode(), second[:4].hex().encode()
            return _quoted(first, 16), _quoted(second, 16), (hexes, (first[:8], second[:8]))
        if first == second:
            return f"{results[0]}, {_told(data[0])}", f"{results[1]}, {_told(data[1])}", ()
        if {data[0].size, data[1].size} == {STAT_SIZE}:
            if kind == "times":
                return (*_times(first, second), (*_of_time(*(_modified(each) for each in (first, second))),))
            return f"{results[0]}, {_status(first)}", f"{results[1]}, {_status(second)}", ()
        line, one, other = _line_apart(first, second)
        words = (one.strip()[:200], other.strip()[:200])
        where = f"line {line}: " if _is_text(one) and _is_text(other) else ""
        return where + _quoted(one), where + _quoted(other), (words,) if all(words) else ()


def with_path(seen: Descriptors, call: RecordedCall, before: tuple[tuple[int, int], ...]) -> Seen:
    """Returns a call as it is judged. before: readings that were handed over before it."""
    return Seen(call, seen.path(call), before + call.clocks)


def asked(call: RecordedCall) -> str:
    """Returns a question as strace(1) shows a call, without addresses and cut."""
    made = OSCall(call.name, 0, "", {name: _cut_argument(value) for name, value in call.asked.items()}, 0)
    return _cut(f"{call.name}({strace.arguments(made)})")


def line_of(call: RecordedCall) -> str:
    """Returns a call with its answer, on one line."""
    stored = "".join(f" {_told(each)}" for each in call.stored[:2] if each.size != STAT_SIZE and each.size)
    refused = "".join(f" [refused: {ascii(each.reason)[1:-1]}]" for each in call.refusals[:1])
    return _cut(f"{asked(call)} {_result(call)}{stored}{refused}")


def entries_of(call: RecordedCall) -> tuple[bytes, ...]:
    """Returns the names in what getdents64(2) has stored."""
    data = b"".join(each.data or b"" for each in call.stored)
    names, at = [], 0
    while at + DIRENT_HEAD.size <= len(data):
        size = DIRENT_HEAD.unpack_from(data, at)[2]
        if size <= DIRENT_HEAD.size:
            break
        names.append(data[at + DIRENT_HEAD.size : at + size].partition(b"\0")[0])
        at += size
    return tuple(names)


def _cut_argument(value: Any) -> Any:
    if value is True:
        return _Address()
    return value[:4096] if isinstance(value, bytes) else value


class _Address:
    """Stands for an address, which is not compared."""

    def __repr__(self) -> str:
        return "&"


def _cut(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _result(call: RecordedCall) -> str:
    result = strace.outcome(OSCall(call.name, 0, "", {}, 0, result=call.result, errno=call.errno))
    reason = f" [refused: {ascii(call.refusals[0].reason)[1:-1][:SHOWN]}]" if call.refusals else ""
    return result + reason


def _are_only_times(ours: RecordedCall, theirs: RecordedCall) -> bool:
    """Whether two answers differ in nothing but the times and numbers of files, and do in these."""
    if ours.result != theirs.result or len(ours.stored) != len(theirs.stored) or ours.name not in _STATUS | _OPENING:
        return False
    for one, other in zip(ours.stored, theirs.stored, strict=True):
        first, second = one.data or b"", other.data or b""
        if one != other and not (
            len(first) == len(second) == STAT_SIZE and without_times(first) == without_times(second)
        ):
            return False
    return ours.stored != theirs.stored


def _status(data: bytes) -> str:
    fields = {"size": (48, 56), "mode": (24, 28), "uid": (28, 32), "gid": (32, 36), "links": (16, 24)}
    numbers: Mapping[str, int] = {
        name: int.from_bytes(data[start:end], "little") for name, (start, end) in fields.items()
    }
    return f"size {numbers['size']:,}, mode {numbers['mode']:o}, uid {numbers['uid']}, gid {numbers['gid']}"


def _times(first: bytes, second: bytes) -> tuple[str, str]:
    """Returns the times and numbers of two files that differ."""
    told: tuple[list[str], list[str]] = ([], [])
    for name, at in (("device", 0), ("inode", 8), ("accessed", 72), ("modified", 88), ("changed", 104)):
        size = 8 if at < 72 else 16
        if first[at : at + size] != second[at : at + size]:
            for shown, data in zip(told, (first, second), strict=True):
                number, ns = (int.from_bytes(data[each : each + 8], "little") for each in (at, at + 8))
                shown.append(f"{name} {number}" if size == 8 else f"{name} {number}.{ns:09d}")
    return ", ".join(told[0]), ", ".join(told[1])


def _modified(data: bytes) -> int:
    """Returns when a file was changed, in nanoseconds."""
    return int.from_bytes(data[88:96], "little") * 10**9 + int.from_bytes(data[96:104], "little")


def _value(data: bytes) -> str:
    """Returns a value that a host function has returned; where it is none, its bytes."""
    try:
        return _cut(ascii(decode(data)))
    except (ValueError, RecursionError):
        return _quoted(data)


def _first_apart(ours: tuple[Stored, ...], theirs: tuple[Stored, ...]) -> tuple[Stored, Stored] | None:
    """Returns the last pieces that differ: a file's content comes behind its status."""
    pairs = [pair for pair in zip(ours, theirs, strict=False) if pair[0] != pair[1]]
    if len(ours) != len(theirs):
        return None
    return pairs[-1] if pairs else None


def _data(stored: Stored) -> bytes:
    return (stored.data or b"")[:_LOOKED_AT]


def _told(stored: Stored) -> str:
    if stored.data is not None:
        return _quoted(stored.data, 48)
    source = ascii(stored.source)[1:-1] if stored.source else "that the record leaves out"
    return f"<{stored.size:,} bytes {'of ' if stored.source else ''}{source}>"


def _quoted(data: bytes, most: int = 160) -> str:
    return strace.quoted(data, most)


def _is_text(line: bytes) -> bool:
    try:
        return line.decode().isprintable() or not line
    except UnicodeDecodeError:
        return False


def _line_apart(first: bytes, second: bytes) -> tuple[int, bytes, bytes]:
    """Returns the first line that differs, with its number."""
    at = first_apart(first, second)
    start = first.rfind(b"\n", 0, at) + 1
    start = max(start, at - 80)
    lines = [each[start : start + 400].partition(b"\n")[0] for each in (first, second)]
    return first.count(b"\n", 0, at) + 1, lines[0], lines[1]


def first_apart(first: bytes | bytearray, second: bytes | bytearray) -> int:
    """Returns the place of the first byte that differs, or the length of the shorter one."""
    step, at, most = 1 << 12, 0, min(len(first), len(second))
    while at < most and first[at : at + step] == second[at : at + step]:
        at += step
    while at < most and first[at] == second[at]:
        at += 1
    return min(at, most)


def _entries_apart(first: tuple[bytes, ...], second: tuple[bytes, ...]) -> tuple[str, str, Tokens]:
    least = min(len(first), len(second))
    at = max(next((at for at in range(least) if first[at] != second[at]), least) - 1, 0)

    def told(names: tuple[bytes, ...]) -> str:
        shown = ", ".join(_quoted(name, 60) for name in names[at : at + 4])
        return _cut(f"{'..., ' if at else ''}{shown}{', ...' if len(names) > at + 4 else ''}" or "no entries")

    ours, theirs = set(first) - set(second), set(second) - set(first)
    tokens = tuple((name, b"") for name in sorted(ours)[:20]) + tuple((b"", name) for name in sorted(theirs)[:20])
    return told(first), told(second), tokens


def _reading(clock: int, ns: int) -> str:
    names = {200: "gettimeofday", 201: "time", **dict(enumerate(strace.CLOCKS))}
    return f"{names.get(clock, f'clock {clock}')} = {ns // 10**9}.{ns % 10**9:09d} s"


def _of_time(ours: int, theirs: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields how a program may print two readings of a clock, the longest first."""
    texts = [f"{each // 10**9}.{each % 10**9:09d}".encode() for each in (ours, theirs)]
    for size in (-3, -7):
        yield texts[0][:size], texts[1][:size]
    yield texts[0][:-10], texts[1][:-10]
    yield str(ours).encode(), str(theirs).encode()
