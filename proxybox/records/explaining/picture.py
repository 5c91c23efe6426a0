"""The timeline as SVG: a row for each thread, marks for calls, refusals and output, bars for waits."""

import math
from collections.abc import Iterator
from typing import Final

from proxybox.records.explaining.markup import Element, element, style
from proxybox.records.explaining.sections import seconds
from proxybox.records.explaining.timeline import (
    GROUPS,
    PRINTED_ROW,
    REFUSED,
    SIGNAL,
    SIGNAL_ROW,
    STDERR,
    STDOUT,
    Mark,
    ThreadWait,
    Timeline,
)

COLUMNS: Final = 1200
#: The most rows of threads, and the most marks, in one picture.
MOST_ROWS, MOST_DRAWN = 32, 15_000
_LEFT, _RIGHT, _TITLE, _TOP, _ROW, _BAND, _BAR = 96, 24, 28, 56, 52, 26, 9
_KINDS: Final = (*GROUPS, STDOUT, STDERR, SIGNAL)
_LEGEND: Final = (
    ("paths", "paths"), ("descriptors", "descriptors"), ("memory", "memory"), ("threads", "threads and signals"),
    ("time", "clocks and polling"), ("caller", "the caller"), ("others", "others"), ("wait", "waiting"),
    (REFUSED, "refused"), (STDOUT, "stdout"), (STDERR, "stderr"), (SIGNAL, "signals"),
)  # fmt: skip

STYLE: Final = """
.tl{--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--paths:#1f6feb;--descriptors:#1a7f37;--memory:#8250df;
--threads:#bc4c00;--time:#9a6700;--caller:#0a7d8c;--others:#6e7781;--wait:#f2cc60;--refused:#cf222e;--stdout:#57606a;
--stderr:#d1477a;--signal:#a40e26;font:12px system-ui,sans-serif;background:var(--bg)}
@media(prefers-color-scheme:dark){.tl{--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--paths:#58a6ff;
--descriptors:#3fb950;--memory:#bc8cff;--threads:#f0883e;--time:#e3b341;--caller:#39c5cf;--others:#8b949e;--wait:#6e5a1e;
--refused:#ff7b72;--stdout:#9aa4af;--stderr:#ff7bac;--signal:#ff8b82}}
.tl text{fill:var(--fg)}.tl .dim{fill:var(--dim)}.tl .back{fill:var(--bg)}.tl line{stroke:var(--line)}
.tl .paths{fill:var(--paths)}.tl .descriptors{fill:var(--descriptors)}.tl .memory{fill:var(--memory)}
.tl .threads{fill:var(--threads)}.tl .time{fill:var(--time)}.tl .caller{fill:var(--caller)}
.tl .others{fill:var(--others)}.tl .wait{fill:var(--wait)}.tl .refused{fill:var(--refused)}
.tl .stdout{fill:var(--stdout)}.tl .stderr{fill:var(--stderr)}.tl .signal{fill:var(--signal)}
"""


def draw(timeline: Timeline, title: str, *, columns: int = COLUMNS, alone: bool = True) -> Element:
    """Returns the picture. columns: its width in marks. alone: whether it has a heading and its own style sheet."""
    threads = _threads(timeline)
    names = {number: f"thread {number}" for number in threads} | {PRINTED_ROW: "printed"}
    if timeline.has_signals:
        names[SIGNAL_ROW] = "signals"
    tops = {row: _TOP + place * _ROW for place, row in enumerate(names)}
    bottom = _TOP + len(names) * _ROW
    width, height = _LEFT + columns + _RIGHT, bottom + 74
    top = 0 if alone else _TITLE  # a page has a heading
    root = element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg", "viewBox": f"0 {top} {width} {height - top}", "class": "tl",
            "role": "img", "aria-label": f"timeline: {title}"[:300],
            **({} if alone else {"width": width, "height": height - top}),
        },
    )  # fmt: skip
    root.append(element("rect", {"class": "back", "width": width, "height": height}))
    if alone:
        root.insert(0, style(STYLE))
        root.append(element("text", {"x": 12, "y": 22, "font-size": 15}, title[:120]))
    root.extend(_axis(timeline.ended, columns, bottom))
    for row, name in names.items():
        root.append(element("text", {"x": 12, "y": tops[row] + _BAND / 2 + 6}, name))
        line = tops[row] + _BAND + 2
        root.append(element("line", {"x1": _LEFT, "x2": _LEFT + columns, "y1": line, "y2": line}))
    root.extend(_waits(timeline, tops, columns))
    root.extend(_marks(timeline, tops, columns))
    root.extend(_legend(timeline, len(threads), bottom))
    return root


def _threads(timeline: Timeline) -> list[int]:
    """Returns the busiest threads, in the order of their numbers."""
    busiest = sorted(timeline.calls, key=lambda number: (-timeline.calls[number], number))
    return sorted(busiest[:MOST_ROWS])


def _axis(ended: int, columns: int, bottom: int) -> Iterator[Element]:
    """Yields lines with times, 1, 2 or 5 of a unit apart; about eight in a picture of the usual width."""
    rough = ended / 1e6 / (8 * columns / COLUMNS)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    for count in range(int(ended / 1e6 / step + 1e-9) + 1):
        at = count * step
        x = _LEFT + at * 1e6 / ended * columns
        yield element("line", {"x1": x, "x2": x, "y1": _TOP - 8, "y2": bottom})
        yield element("text", {"x": x, "y": _TOP - 13, "class": "dim", "text-anchor": "middle"},
                      seconds(at) if at else "0")  # fmt: skip


def _waits(timeline: Timeline, tops: dict[int, int], columns: int) -> Iterator[Element]:
    """Yields bars. Waits that begin and end in the same columns are drawn as one."""
    drawn: dict[tuple[int, int, int], list[ThreadWait]] = {}
    for wait in timeline.waits():
        if wait.thread in tops:
            start = int(wait.at * 1e6 * columns / timeline.ended)
            end = int((wait.at + wait.seconds) * 1e6 * columns / timeline.ended)
            drawn.setdefault((wait.thread, start, end), []).append(wait)
    for (thread, start, end), waits in drawn.items():
        first = waits[0]
        total = sum(wait.seconds for wait in waits)
        more = f" and {len(waits) - 1:,} more" if len(waits) > 1 else ""
        words = f"{seconds(first.at)}: waited {seconds(total)} in {first.text}{more}"
        yield element(
            "rect",
            {
                "class": "wait", "x": _LEFT + start, "y": tops[thread] + _BAND + 4, "width": max(1, end - start),
                "height": _BAR,
            },
            element("title", None, words),
        )  # fmt: skip


def _marks(timeline: Timeline, tops: dict[int, int], columns: int) -> Iterator[Element]:
    width, found = timeline.columns(columns, MOST_DRAWN)
    most = max((_size(row, kinds) for (row, _), kinds in found.items()), default=1)
    for (row, column), kinds in sorted(found.items()):
        if row not in tops:
            continue
        time = seconds(column * timeline.ended / columns / 1e6)
        yield from _stack(row, column, width, kinds, tops[row], most, time)
        if REFUSED in kinds:
            mark = kinds[REFUSED]
            x, y = _LEFT + column + width / 2, tops[row] - 3
            more = f" ({mark.count:,} in all)" if mark.count > 1 else ""
            yield element(
                "path", {"class": REFUSED, "d": f"M{x - 4:g} {y - 4}h8l-4 8z"},
                element("title", None, f"{time}: refused: {mark.text}{more}"),
            )  # fmt: skip


def _size(row: int, kinds: dict[str, Mark]) -> int:
    return sum(mark.count for kind, mark in kinds.items() if kind != REFUSED) if row >= 0 else 1


def _stack(
    row: int, column: int, width: int, kinds: dict[str, Mark], top: int, most: int, time: str
) -> Iterator[Element]:  # fmt: skip
    """Yields the bars of one column of a row. Their height is the logarithm of the calls, divided among their kinds."""
    total = sum(mark.count for kind, mark in kinds.items() if kind != REFUSED)
    high = _BAND * (0.4 + 0.6 * math.log1p(total) / math.log1p(most)) if row >= 0 else _BAND * 0.7
    y: float = top + _BAND
    for kind in _KINDS:
        mark = kinds.get(kind)
        if mark is None:
            continue
        share = high * mark.count / max(total, 1)
        y -= share
        if kind in (STDOUT, STDERR):
            words = f"{kind}, {mark.count:,} bytes: {mark.text}"
        else:
            words = mark.text if mark.count == 1 else f"{mark.count:,} calls: {mark.text} ..."
        yield element(
            "rect",
            {"class": kind, "x": _LEFT + column, "y": y, "width": max(width, 1 if row >= 0 else 3), "height": share},
            element("title", None, f"{time}: {words}"),
        )


def _legend(timeline: Timeline, threads: int, bottom: int) -> Iterator[Element]:
    x = _LEFT
    for kind, name in _LEGEND:
        yield element("rect", {"class": kind, "x": x, "y": bottom + 14, "width": 10, "height": 10})
        yield element("text", {"x": x + 14, "y": bottom + 23}, name)
        x += 28 + round(7.2 * len(name))
    notes = []
    if len(timeline.calls) > threads:
        notes.append(f"{len(timeline.calls) - threads:,} threads with fewer calls are not shown")
    if timeline.waits_left_out:
        notes.append(f"{timeline.waits_left_out:,} shorter waits are not shown")
    notes.append("calls that are near each other share a mark, which is higher for more of them")
    yield element("text", {"x": _LEFT, "y": bottom + 50, "class": "dim"}, "; ".join(notes))
