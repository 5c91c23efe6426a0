"""Makes texts for calls and their answers.

Rule: all texts are ASCII without controls, on one line, and cut.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

from proxybox.controller.abi import DIRENT_HEAD
from proxybox.controller.audit import OSCall
from proxybox.controller.exchange.values import decode
from proxybox.records.differing.outline import STAT_SIZE
from proxybox.records.record import RecordedCall, Stored
from proxybox.terminal import strace

#: The most bytes of a content that are compared line by line, and the most characters of a text.
_LOOKED_AT: Final = 1 << 20
SHOWN: Final = 300
#: Pairs of texts by which two values can be found in the program's output; b"" if a value has none.
Tokens: TypeAlias = tuple[tuple[bytes, bytes], ...]


def shown(kind: str, ours: RecordedCall, theirs: RecordedCall) -> tuple[str, str, Tokens]:
    """Returns the texts for two answers, and texts by which their values can be found in the program's output."""
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
            return (*_times(first, second), (*of_time(*(_modified(each) for each in (first, second))),))
        return f"{results[0]}, {_status(first)}", f"{results[1]}, {_status(second)}", ()
    line, one, other = _line_apart(first, second)
    words = (one.strip()[:200], other.strip()[:200])
    where = f"line {line}: " if _is_text(one) and _is_text(other) else ""
    return where + _quoted(one), where + _quoted(other), (words,) if all(words) else ()


def asked(call: RecordedCall) -> str:
    """Returns a question like a call in strace(1), cut and without addresses."""
    made = OSCall(call.name, 0, "", {name: _cut_argument(value) for name, value in call.asked.items()}, 0)
    return _cut(f"{call.name}({strace.arguments(made)})")


def line_of(call: RecordedCall) -> str:
    """Returns a call with its answer, on one line."""
    stored = "".join(f" {_told(each)}" for each in call.stored[:2] if each.size != STAT_SIZE and each.size)
    refused = "".join(f" [refused: {ascii(each.reason)[1:-1]}]" for each in call.refusals[:1])
    return _cut(f"{asked(call)} {_result(call)}{stored}{refused}")


def entries_of(call: RecordedCall) -> tuple[bytes, ...]:
    """Returns the names that getdents64(2) has stored."""
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


def _status(data: bytes) -> str:
    fields = {"size": (48, 56), "mode": (24, 28), "uid": (28, 32), "gid": (32, 36), "links": (16, 24)}
    numbers: Mapping[str, int] = {
        name: int.from_bytes(data[start:end], "little") for name, (start, end) in fields.items()
    }
    return f"size {numbers['size']:,}, mode {numbers['mode']:o}, uid {numbers['uid']}, gid {numbers['gid']}"


def _times(first: bytes, second: bytes) -> tuple[str, str]:
    """Returns the differing times and numbers of two files, in words."""
    shown_texts: tuple[list[str], list[str]] = ([], [])
    for name, at in (("device", 0), ("inode", 8), ("accessed", 72), ("modified", 88), ("changed", 104)):
        size = 8 if at < 72 else 16
        if first[at : at + size] != second[at : at + size]:
            for shown, data in zip(shown_texts, (first, second), strict=True):
                number, ns = (int.from_bytes(data[each : each + 8], "little") for each in (at, at + 8))
                shown.append(f"{name} {number}" if size == 8 else f"{name} {number}.{ns:09d}")
    return ", ".join(shown_texts[0]), ", ".join(shown_texts[1])


def _modified(data: bytes) -> int:
    """Returns when a file was changed, in nanoseconds."""
    return int.from_bytes(data[88:96], "little") * 10**9 + int.from_bytes(data[96:104], "little")


def _value(data: bytes) -> str:
    """Returns the text for a host function's value; for bytes that are no value, the bytes in quotes."""
    try:
        return _cut(ascii(decode(data)))
    except (ValueError, RecursionError):
        return _quoted(data)


def _first_apart(ours: tuple[Stored, ...], theirs: tuple[Stored, ...]) -> tuple[Stored, Stored] | None:
    """Returns the last pair of pieces that differs: a file's content is stored after its status."""
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

    def shown_texts(names: tuple[bytes, ...]) -> str:
        shown = ", ".join(_quoted(name, 60) for name in names[at : at + 4])
        return _cut(f"{'..., ' if at else ''}{shown}{', ...' if len(names) > at + 4 else ''}" or "no entries")

    ours, theirs = set(first) - set(second), set(second) - set(first)
    tokens = tuple((name, b"") for name in sorted(ours)[:20]) + tuple((b"", name) for name in sorted(theirs)[:20])
    return shown_texts(first), shown_texts(second), tokens


def reading(clock: int, ns: int) -> str:
    """Returns the reading of a clock in words."""
    return f"{strace.clock_read(clock)} = {ns // 10**9}.{ns % 10**9:09d} s"


def of_time(ours: int, theirs: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields pairs of texts in which a program may print two clock readings, the longest first."""
    texts = [f"{each // 10**9}.{each % 10**9:09d}".encode() for each in (ours, theirs)]
    for size in (-3, -7):
        yield texts[0][:size], texts[1][:size]
    yield texts[0][:-10], texts[1][:-10]
    yield str(ours).encode(), str(theirs).encode()
