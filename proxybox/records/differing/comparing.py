"""Compares two runs: their inputs, their calls, and their results.

It reads each record twice. First it makes outlines, to align the calls. Then it reads both records in step, for the
calls that differ and the calls around them, so that only a few calls are in memory at a time.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice, zip_longest
from typing import Final, TypeAlias

from proxybox.records.differing.aligning import Alignment, Span, align, alike
from proxybox.records.differing.causes import CauseSearch, DifferingBytes
from proxybox.records.differing.difference import Difference, DifferingLine, Parting
from proxybox.records.differing.giving import files_apart, given_apart
from proxybox.records.differing.judging import Judge
from proxybox.records.differing.outline import Digests, Outline, Track, outline
from proxybox.records.differing.reading import Reading
from proxybox.records.differing.runs import ComparedRun
from proxybox.records.differing.showing import SHOWN, first_apart

#: The most pairs of calls with different answers, rows, and rows of one stretch; and the equal calls around a
#: difference.
MOST_PAIRS: Final = 200_000
MOST_ROWS: Final = 2_000
_MOST_OF_SPAN: Final = 60
AROUND: Final = 3
_Tracks: TypeAlias = dict[int, tuple[Track, Track]]
#: A thread, and the numbers of one of its calls in both runs, 0 for the thread's end.
_Parted: TypeAlias = tuple[int, int, int]
#: How two calls differ (`CallPair.how`), their thread, both numbers, and how many calls of each run are left out.
_Row: TypeAlias = tuple[str, int, int, int, int, int]


def diff(first: str | os.PathLike[str], second: str | os.PathLike[str]) -> Difference:
    """Compares the records of two runs. Raises RecordError for a file that is no complete record, and OSError."""
    return compare(ComparedRun.of_file(first), ComparedRun.of_file(second))


def compare(a: ComparedRun, b: ComparedRun) -> Difference:
    """Compares two runs."""
    digests = Digests()
    ours, theirs = (outline(side.read(), digests, side.inputs.script.encode()) for side in (a, b))
    none = Track()
    tracks = {
        thread: (ours.tracks.get(thread, none), theirs.tracks.get(thread, none))
        for thread in sorted({*ours.tracks, *theirs.tracks})
    }
    aligned = {thread: align(one.forms, other.forms) for thread, (one, other) in tracks.items()}
    parted = _parted(tracks, aligned)
    rows = _rows(tracks, aligned, parted)
    numbers: tuple[set[int], set[int]] = ({row[2] for row in rows if row[2]}, {row[3] for row in rows if row[3]})
    if parted is not None:
        numbers[0].add(parted[1])
        numbers[1].add(parted[2])
    judge = Judge(a.inputs.script.encode(), (ours.begins, theirs.begins))
    wanted, left_out = _wanted(tracks, aligned, parted)
    if parted is not None and all(parted[1:]):
        wanted[parted[1]] = parted[2], False  # for the clock readings before the call
    reading = Reading(judge, wanted, numbers)
    reading.read(a.read(), b.read())
    lines, ends = _lines(ours, theirs), (a.ended, b.ended)
    same = parted is None and not lines and ends[0] == ends[1]
    search = CauseSearch(
        apart=(*given_apart(a.inputs, b.inputs), *files_apart(a, b)),
        found=reading.found,
        pairs=reading.pairs,
        judge=judge,
        evidence=_evidence(reading, parted, lines),
        threads=_threads(ours, theirs, parted),
        signal=_signal(a, b, parted),
        ended=ends if a.was_ended != b.was_ended or (a.was_ended and ends[0] != ends[1]) else None,
    )
    return Difference(
        names=(a.name, b.name),
        inputs=(a.inputs, b.inputs),
        same=same,
        apart=search.apart,
        parting=parted and Parting(parted[0], reading.place(0, parted[1]), reading.place(1, parted[2])),
        causes=() if same else search.causes(),
        first=min(search.found, key=lambda each: each.a, default=None),
        counts=Counter(each.kind for each in search.pairs),
        lines=lines,
        ends=ends,
        calls=(ours.calls, theirs.calls),
        rows=tuple(reading.row(*row) for row in rows),
        pairs=tuple(search.pairs),
        derived=frozenset(islice(_all_derived(tracks, aligned, parted), MOST_PAIRS)),
        is_aligned=not any(each.given_up for each in aligned.values()) and not left_out + reading.left_out,
        is_whole=ours.is_whole and theirs.is_whole,
    )


def _evidence(reading: Reading, parted: _Parted | None, lines: tuple[DifferingLine, ...]) -> DifferingBytes:
    """Returns the differing bytes: arguments of the calls where the runs part, and printed lines."""
    pairs = [(each.ours.encode("utf-8", "replace"), each.theirs.encode("utf-8", "replace")) for each in lines]
    if parted is not None:
        first, second = (reading.passed[side].get(parted[1 + side], b"") for side in (0, 1))
        pairs.append((first, second))
    return DifferingBytes(tuple(pairs))


def _threads(ours: Outline, theirs: Outline, parted: _Parted | None) -> int:
    """Returns the number of the first call that different threads made, if it is before the parting; otherwise 0."""
    if max(len(ours.tracks), len(theirs.tracks)) < 2:
        return 0
    at = alike(ours.order, theirs.order) + 1
    is_before = parted is None or all(not number or at <= number for number in parted[1:])
    return at if is_before and at <= min(len(ours.order), len(theirs.order)) else 0


def _signal(a: ComparedRun, b: ComparedRun, parted: _Parted | None) -> tuple[int, str, str] | None:
    """Returns the first differing signal before the parting: the number of the call before it, and both in words."""
    for one, other in zip_longest(a.signals, b.signals):
        first, second = (None if each is None else (each.signal, each.after) for each in (one, other))
        if first != second:
            numbers = [each[1] for each in (first, second) if each is not None]
            is_before = parted is None or any(not limit or min(numbers) <= limit for limit in parted[1:])
            return (min(numbers), _told(first), _told(second)) if is_before else None
    return None


def _told(signal: tuple[int, int] | None) -> str:
    return "no signal" if signal is None else f"signal {signal[0]} after call {signal[1]:,}"


def _wanted(
    tracks: _Tracks, aligned: dict[int, Alignment], parted: _Parted | None
) -> tuple[dict[int, tuple[int, bool]], int]:
    """Returns the pairs of calls with different answers before the runs part, and how many pairs are left out.

    The key is the number of the first call. The value is the number of the second call, and whether more than clock
    readings differs. If there are too many pairs, only the first and the last ones are returned.
    """
    first: list[tuple[int, tuple[int, bool]]] = []
    last: deque[tuple[int, tuple[int, bool]]] = deque(maxlen=MOST_PAIRS // 2)
    count = 0
    for thread, (one, other) in tracks.items():
        for span in aligned[thread].spans:
            if not span.same:
                continue
            for i, j, answers in _different(one, other, span):
                a, b = one.numbers[i], other.numbers[j]
                if parted is None or _is_before(a, b, parted):
                    count += 1
                    (first if len(first) < MOST_PAIRS // 2 else last).append((a, (b, answers)))
    return dict((*first, *last)), count - len(first) - len(last)


def _different(one: Track, other: Track, span: Span) -> Iterator[tuple[int, int, bool]]:
    """Yields the places of a stretch where answers or readings of clocks differ."""
    a, b, end = span.a_from, span.b_from, span.a_to
    while a < end:
        equal = min(alike(one.answers, other.answers, a, b, end), alike(one.clocks, other.clocks, a, b, end))
        a, b = a + equal, b + equal
        while a < end:
            answers, clocks = one.answers[a] != other.answers[b], one.clocks[a] != other.clocks[b]
            if not answers and not clocks:
                break
            answers = answers and one.asked[a] == other.asked[b]  # otherwise the questions differ
            if answers or clocks:
                yield a, b, answers
            a, b = a + 1, b + 1


def _derived(one: Track, other: Track, span: Span) -> Iterator[tuple[int, int]]:
    """Yields the places of a stretch where the questions differ but have the same form."""
    a, b, end = span.a_from, span.b_from, span.a_to
    while a < end:
        equal = alike(one.asked, other.asked, a, b, end)
        a, b = a + equal, b + equal
        while a < end and one.asked[a] != other.asked[b]:
            yield a, b
            a, b = a + 1, b + 1


def _all_derived(tracks: _Tracks, aligned: dict[int, Alignment], parted: _Parted | None) -> Iterator[int]:
    """Yields the numbers of the first run's calls before the parting that differ but have the same form."""
    for thread, (one, other) in tracks.items():
        for span in aligned[thread].spans:
            for a, b in _derived(one, other, span) if span.same else ():
                if parted is None or _is_before(one.numbers[a], other.numbers[b], parted):
                    yield one.numbers[a]


def _parted(tracks: _Tracks, aligned: dict[int, Alignment]) -> _Parted | None:
    """Returns the question where both runs part: its thread, and its numbers in both runs, 0 for none.

    It is the first question whose form differs. If there is none, it is the first question that prints different bytes,
    and then the first that differs: times and names that a program makes up differ in any two runs.
    """
    found: list[_Parted] = []
    printing: list[_Parted] = []
    derived: list[_Parted] = []
    for thread, (one, other) in tracks.items():
        for span in aligned[thread].spans:
            if not span.same:
                found.append((thread, _number(one, span.a_from), _number(other, span.b_from)))
                break
            for a, b in _derived(one, other, span):
                place = thread, one.numbers[a], other.numbers[b]
                if not derived or derived[-1][0] != thread:
                    derived.append(place)
                if one.prints[a]:
                    printing.append(place)
                    break
    return min(found or printing or derived, key=lambda each: min(filter(None, each[1:])), default=None)


def _number(track: Track, at: int) -> int:
    return track.numbers[at] if at < len(track.numbers) else 0


def _is_before(a: int, b: int, parted: _Parted) -> bool:
    """Whether two calls came before the first question that differs."""
    return (not parted[1] or a < parted[1]) and (not parted[2] or b < parted[2])


def _rows(tracks: _Tracks, aligned: dict[int, Alignment], parted: _Parted | None) -> list[_Row]:
    """Returns the rows that are shown side by side."""
    rows: list[_Row] = []
    for thread, (one, other) in tracks.items():
        hunks = _hunks(one, other, aligned[thread].spans, (parted or (0, 0, 0))[1])
        a = b = 0
        for span, how in hunks:
            if len(rows) >= MOST_ROWS:
                break
            if span.a_from > a or span.b_from > b:
                rows.append(("left out", thread, 0, 0, span.a_from - a, span.b_from - b))
            shown = min(max(span.a_to - span.a_from, span.b_to - span.b_from), _MOST_OF_SPAN)
            for at in range(shown):
                i, j = span.a_from + at, span.b_from + at
                numbers = _number(one, i) if i < span.a_to else 0, _number(other, j) if j < span.b_to else 0
                rows.append((how, thread, *numbers, 0, 0))
            a, b = min(span.a_from + shown, span.a_to), min(span.b_from + shown, span.b_to)
            if a < span.a_to or b < span.b_to:
                rows.append(("left out", thread, 0, 0, span.a_to - a, span.b_to - b))
                a, b = span.a_to, span.b_to
        left = len(one.numbers) - a, len(other.numbers) - b
        if any(left):
            rows.append(("left out", thread, 0, 0, *left))
    return rows


def _hunks(one: Track, other: Track, spans: list[Span], parted: int) -> Iterator[tuple[Span, str]]:
    """Yields the stretches that are shown, each of one kind: those that differ, and a few equal calls around them.

    parted: the number of the call where the runs part.
    """
    for at, span in enumerate(spans):
        if not span.same:
            yield span, "asked"
            continue
        renamed = {i - span.a_from for i, _ in islice(_derived(one, other, span), MOST_ROWS)}
        answered = [i - span.a_from for i, _, answers in _different(one, other, span) if answers][:MOST_ROWS]
        apart = sorted({*answered, *renamed})
        size = span.a_to - span.a_from
        shown = sorted(
            {near for each in apart for near in range(max(0, each - AROUND), min(size, each + AROUND + 1))}
            | set(range(min(AROUND, size)) if at else ())
            | set(range(max(0, size - AROUND), size) if at < len(spans) - 1 else ())
        )
        differing = set(answered)
        for each in shown:
            a, b = span.a_from + each, span.b_from + each
            how = "answer" if each in differing else "same"
            if each in renamed:
                how = "asked" if one.numbers[a] == parted else "renamed"
            yield Span(True, a, a + 1, b, b + 1), how


def _lines(ours: Outline, theirs: Outline) -> tuple[DifferingLine, ...]:
    found = []
    for stream, name in enumerate(("stdout", "stderr")):
        first, second = ours.printed[stream], theirs.printed[stream]
        if first != second:
            at = first_apart(first, second)
            start = first.rfind(b"\n", 0, at) + 1
            texts = (
                bytes(each[max(start, at - 80) : at + SHOWN]).partition(b"\n")[0].decode("utf-8", "backslashreplace")
                for each in (first, second)
            )
            found.append(DifferingLine(name, first.count(b"\n", 0, at) + 1, *texts))
    return tuple(found)
