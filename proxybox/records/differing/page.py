"""A comparison as a page: one HTML file that needs no other file, runs no script and loads nothing.

Rule: every text passes through `_shown`, which makes it harmless and escapes it. The page has at most
`comparing.MOST_ROWS` rows, whose texts are cut.
"""

import html
from collections.abc import Iterable, Iterator
from typing import Final

from proxybox.records.differing.difference import CallPair, CallPlace, Cause, Difference
from proxybox.records.differing.judging import AnswerDifference
from proxybox.records.differing.wording import ended, of_kind, summary
from proxybox.terminal.harmless import on_one_line

#: Characters of one text.
_MOST: Final = 2000
_HEAD: Final = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Difference of two runs</title>
<style>
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--dim:#57606a;--line:#d0d7de;--box:#f6f8fa;
--a:#ffebe9;--b:#dafbe1;--odd:#fff8c5}
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--box:#161b22;
--a:#4b1d21;--b:#16391f;--odd:#3b2e0a}}
*{box-sizing:border-box}body{margin:0 auto;max-width:100rem;padding:1rem;background:var(--bg);color:var(--fg);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:1.5rem}p.verdict{font-size:1.1rem;font-weight:600}
table{border-collapse:collapse;width:100%;table-layout:fixed}
caption{text-align:left;color:var(--dim)}
th,td{text-align:left;padding:.2rem .5rem;border-bottom:1px solid var(--line);vertical-align:top}
th{width:14rem;font-weight:600}thead th{width:auto}
td{font-family:ui-monospace,monospace;font-size:.85rem}
table.calls .no{width:5rem;text-align:right;color:var(--dim)}
tr.asked td.a{background:var(--a)}tr.asked td.b{background:var(--b)}
tr.answer td.a,tr.answer td.b{background:var(--odd)}
tr.fold td{text-align:center;color:var(--dim);background:var(--box);font-family:inherit}
tr.asked td.none{background:var(--box)}.dim,.note{color:var(--dim)}.note{font-weight:400;font-size:.85rem}
@media(max-width:50rem){th{width:7rem}table.calls .no{width:3.5rem}}
</style></head><body><main>
"""
_TAIL: Final = "</main></body></html>\n"
_NAMES: Final = {
    "same": "the same", "answer": "another answer", "asked": "another question",
    "renamed": "the same question, with another time, number or name", "left out": "left out",
}  # fmt: skip


def page(difference: Difference) -> str:
    """Returns the page's text."""
    return "".join(_parts(difference))


def _shown(text: object, most: int = _MOST) -> str:
    """Returns any text for the page, on one line and escaped."""
    cut = str(text)[: most + 1]
    shown = on_one_line(cut if len(cut) <= most else cut[:most] + "...")
    return html.escape(shown)


def _parts(difference: Difference) -> Iterator[str]:
    yield _HEAD
    yield "<h1>Difference of two runs</h1>\n"
    yield f'<p class="verdict">{_shown(summary(difference))}</p>\n'
    yield from _pairs("The runs", _runs(difference))
    if difference.apart:
        yield from _pairs(
            "What they were given otherwise",
            ((f"{each.kind.name}: {each.name}", each.ours, each.theirs) for each in difference.apart),
        )
    if difference.parting is not None:
        thread = f", thread {difference.parting.thread}" if difference.parting.thread else ""
        yield from _pairs(
            "Where they part",
            [
                (
                    f"the first question that differs{thread}",
                    _placed(difference.parting.a),
                    _placed(difference.parting.b),
                )
            ],
        )
    if difference.causes:
        yield from _pairs("What may have led to it, the likeliest first", map(_cause, difference.causes))
    came = [(f"{each.stream}, line {each.number}", each.ours, each.theirs) for each in difference.lines]
    yield from _pairs("What came of it", [*came, ("end", ended(difference.ends[0]), ended(difference.ends[1]))])
    if difference.first is not None:
        yield from _pairs("The first answer that differs", [_answer(difference.first)])
        counts = ", ".join(of_kind(name, count) for name, count in difference.counts.items())
        yield f'<p class="dim">Answers that differ before that: {_shown(counts)}.</p>\n'
    yield from _calls(difference)
    yield _TAIL


def _runs(difference: Difference) -> Iterator[tuple[str, str, str]]:
    one, other = difference.inputs
    yield ("record", *difference.names)
    yield "interpreter", one.guest, other.guest
    yield "recorded", one.recorded, other.recorded
    yield "command line", " ".join(one.argv), " ".join(other.argv)
    yield "OS calls", f"{difference.calls[0]:,}", f"{difference.calls[1]:,}"


def _placed(place: CallPlace) -> str:
    return f"{place.number:,}: {place.line}" if place.number else place.line


def _cause(cause: Cause) -> tuple[str, ...]:
    found, number = cause.found, "call {:,}: "
    notes = [
        f"By replays: {cause.tried}." if cause.tried else "",
        f"Try: {cause.kind.advice}." if cause.kind.advice else "",
    ]
    return (
        f"{cause.kind.group}: {cause.words}",
        ("" if found is None else number.format(found.a)) + (cause.ours or "-"),
        ("" if found is None else number.format(found.b)) + (cause.theirs or "-"),
        *filter(None, notes),
    )


def _answer(found: AnswerDifference) -> tuple[str, str, str]:
    return f"{found.kind.words}: {found.call}", f"{found.a:,}: {found.ours}", f"{found.b:,}: {found.theirs}"


def _pairs(title: str, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yields a table with values of both runs. rows: a name, the value of each run, and notes on the name."""
    yield f"<h2>{_shown(title)}</h2>\n<table><thead><tr><th></th><th>a</th><th>b</th></tr></thead>\n"
    for name, ours, theirs, *notes in rows:
        noted = "".join(f'<div class="note">{_shown(note)}</div>' for note in notes)
        yield f'<tr><th scope="row">{_shown(name)}{noted}</th><td>{_shown(ours)}</td><td>{_shown(theirs)}</td></tr>\n'
    yield "</table>\n"


def _calls(difference: Difference) -> Iterator[str]:
    thread = -1
    for row in difference.rows:
        if row.thread != thread:
            if thread >= 0:
                yield "</table>\n"
            thread = row.thread
            yield f"<h2>Calls{f' of thread {thread}' if thread else ''}</h2>\n"
            yield (
                '<table class="calls"><caption>Yellow: the same question, with another answer. Red and green: another '
                "question.</caption>\n"
                '<thead><tr><th class="no">a</th><th></th><th class="no">b</th><th></th></tr></thead>\n'
            )
        yield _row(row)
    if thread >= 0:
        yield "</table>\n"


def _row(row: CallPair) -> str:
    if row.how == "left out":
        ours, theirs = row.skipped
        both = f"{ours:,} calls" if ours == theirs else f"{ours:,} calls of a, {theirs:,} of b"
        return f'<tr class="fold"><td colspan="4">{both}</td></tr>\n'
    cells = "".join(
        f'<td class="no"></td><td class="{side} none"></td>'
        if place is None
        else f'<td class="no">{place.number}</td><td class="{side}">{_shown(place.line)}</td>'
        for side, place in (("a", row.a), ("b", row.b))
    )
    return f'<tr class="{row.how}" title="{_NAMES[row.how]}">{cells}</tr>\n'
