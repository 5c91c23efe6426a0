"""A report of all grades: one HTML file that needs nothing else, runs no script and loads nothing.

All text is escaped in one place, `_e`, after what is harmful in it has been made visible.
"""

import html
from collections import Counter
from collections.abc import Iterable, Sequence

from proxybox.teach.grades import STATUSES, Grade, GradeBook, PassedOver, Verdict
from proxybox.teach.similar import Pair
from proxybox.teach.writers.common import FAILED, clean, number, shown

#: Characters of the page for one submission, and for all: of what is beyond, only names and scores are there.
MOST_OF_ONE, MOST_IN_ALL = 200_000, 64 << 20
#: Near-duplicates of one that are named.
_MOST_ALIKE = 10
_MOST_PASSED_OVER = 1000
_CUT = '<p class="dim">More is not shown here: see grades.json.</p>'
_MARKS = {"ok": "✓", "wrong_answer": "✗", "skipped": "–", "forbidden": "⊘", "time_limit": "T", "memory_limit": "M"}
_STYLE = """
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;
--dim:#57606a;--line:#d0d7de;
--box:#f6f8fa;--ok:#116329;--bad:#a40e26;--odd:#7a4b00}
@media(prefers-color-scheme:dark){:root{
--bg:#0d1117;--fg:#e6edf3;--dim:#9aa4af;--line:#30363d;--box:#161b22;--ok:#56d364;--bad:#ff8b82;--odd:#e3b341}}
*{box-sizing:border-box}body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--bg);color:var(--fg);
font:1rem/1.5 system-ui,sans-serif;overflow-wrap:anywhere}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;overflow-wrap:normal}
th,td{text-align:left;padding:.3rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td,thead th{white-space:nowrap}td.num,th.num{text-align:right}
h4{margin:.5rem 0}.of{font-weight:normal;margin-left:.5rem}
pre{white-space:pre-wrap;background:var(--box);border:1px solid var(--line);border-radius:.3rem;
padding:.6rem;margin:.4rem 0}
.ok{color:var(--ok)}.wrong_answer{color:var(--bad)}.other{color:var(--odd)}.dim{color:var(--dim)}
.bar{display:flex;height:1rem;margin-top:.25rem;min-width:8rem;background:var(--box)}.bar i{display:block}
i.ok{background:var(--ok)}i.wrong_answer{background:var(--bad)}i.other{background:var(--odd)}
section{border-top:1px solid var(--line);margin-top:1.5rem}
@media print{section{break-inside:avoid}.scroll{overflow:visible}td,thead th{white-space:normal}}
"""


def _e(text: str, limit: int = 10_000) -> str:
    return html.escape(clean(text, limit))


def _kind(status: str) -> str:
    return status if status in ("ok", "wrong_answer") else "other"


def _word(status: str) -> str:
    return f'<span class="{_kind(status)}">{_MARKS.get(status, "!")} {status.replace("_", " ")}</span>'


def _table(caption: str, heads: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f'<th scope="col" class="{"num" if name == "Score" else ""}">{name}</th>' for name in heads)
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{caption}"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _distribution(name: str, tests: list[Verdict]) -> str:
    counts = Counter(test.status for test in tests)
    present = [status for status in STATUSES if counts[status]]
    bars = "".join(f'<i class="{_kind(s)}" style="width:{100 * counts[s] / len(tests):.2f}%"></i>' for s in present)
    words = ", ".join(f"{counts[status]} {_word(status)}" for status in present)
    return f'<tr><th scope="row">{_e(name, 200)}</th><td><div class="bar">{bars}</div></td><td>{words}</td></tr>'


def _score(grade: Grade) -> str:
    return "none" if grade.failed else f"{number(grade.points):g} / {number(grade.possible):g}"


def _section(index: int, name: str, grade: Grade, tests: list[Verdict], alike: list[str], *, for_students: bool) -> str:
    parts = [f'<section id="s{index}"><h3>{name}</h3><p>{_word(_whole(grade, tests))}, {_score(grade)}']
    parts.append(", late</p>" if grade.late else "</p>")
    if alike:
        parts.append(f"<p>Nearly the same as {', '.join(alike)}: a hint to look, not proof.</p>")
    if grade.failed or grade.message:
        parts.append(f"<pre>{_e(FAILED if grade.failed else grade.message)}</pre>")
    if grade.note:
        parts.append(f'<pre class="dim">{_e(grade.note)}</pre>')
    left = MOST_OF_ONE
    for test in tests:
        points = f", {number(test.points):g} / {number(test.possible):g}" if test.possible else ""
        parts.append(f'<h4>{_e(test.name, 200)} <span class="of">{_word(test.status)}{points}</span></h4>')
        told = _told(test, with_fault=not for_students) if left > 0 else _CUT
        parts.append(told if len(told) <= left else _CUT)
        left -= len(told)
    return "".join(parts) + "</section>"


def _told(test: Verdict, *, with_fault: bool) -> str:
    message = f"<pre>{_e(test.message)}</pre>" if test.message else ""
    if test.fault and with_fault:  # it has lines of the test in it
        message += f'<p class="dim">For whoever has written the test</p><pre>{_e(test.fault)}</pre>'
    return message + (f'<p class="dim">Output</p><pre>{_e(test.output)}</pre>' if test.output else "")


def _passed_over(found: Sequence[PassedOver]) -> str:
    """What lay among the submissions and was not graded."""
    if not found:
        return ""
    rows = "".join(f"<li>{_e(each.path, 500)}: {_e(each.why, 500)}</li>" for each in found[:_MOST_PASSED_OVER])
    left = len(found) - _MOST_PASSED_OVER
    more = f"<li>{left} more: see grades.json</li>" if left > 0 else ""
    return f"<h2>Passed over</h2><p>These are no submissions, and were not graded.</p><ul>{rows}{more}</ul>"


def _whole(grade: Grade, tests: list[Verdict]) -> str:
    if grade.failed:
        return "internal_error"
    return next((test.status for test in tests if not test.passed and test.status != "skipped"), "ok")


def _alike(pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Whom each is nearly the same as, as far as they are named."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            told = found.setdefault(one, [])
            if len(told) < _MOST_ALIKE:
                told.append(f"{_e(other, 200)} ({pair.share:.0%})")
            elif len(told) == _MOST_ALIKE:
                told.append("others")
    return found


def render(book: GradeBook, pairs: Iterable[Pair] = (), *, for_students: bool = False) -> str:
    """The file's text. pairs: of `similar`. for_students: no names nor near-duplicates, hidden tests only counted."""
    names = [f"Submission {i}" if for_students else _e(g.student, 200) for i, g in enumerate(book.grades, 1)]
    tests = [[] if g.failed else shown(g) if for_students else list(g.tests) for g in book.grades]
    alike = {} if for_students else _alike(pairs)
    by_test: dict[str, list[Verdict]] = {}
    for each in tests:
        for test in each:
            by_test.setdefault(test.name, []).append(test)
    rows = [
        f'<tr><th scope="row"><a href="#s{i}">{name}</a></th><td class="num">{_score(grade)}</td>'
        f"<td>{_word(_whole(grade, own))}</td><td>{'late' if grade.late else ''}</td>"
        f"<td>{'≈ ' + ', '.join(alike[grade.student]) if grade.student in alike else ''}</td></tr>"
        for i, (name, grade, own) in enumerate(zip(names, book.grades, tests, strict=True), 1)
    ]
    sections: list[str] = []
    left = MOST_IN_ALL
    for i, (name, grade, own) in enumerate(zip(names, book.grades, tests, strict=True), 1):
        cut = f'<section id="s{i}"><h3>{name}</h3>{_CUT}</section>'
        section = cut
        if left > 0:
            section = _section(i, name, grade, own, alike.get(grade.student, []), for_students=for_students)
        sections.append(section if len(section) <= left else cut)
        left -= len(section)
    full = sum(_whole(g, own) == "ok" for g, own in zip(book.grades, tests, strict=True))
    late, failed = sum(g.late for g in book.grades), sum(g.failed for g in book.grades)
    summary = f"{len(names)} submissions, {full} passed everything, {late} late, {failed} could not be graded."
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_e(book.title, 200)}</title><style>{_STYLE}</style></head><body><main><h1>{_e(book.title, 200)}</h1>"
        f"<p>{summary}</p><h2>Tests</h2>"
        + _table("Tests", ("Test", "Share", "Counts"), (_distribution(n, t) for n, t in by_test.items()))
        + "<h2>Submissions</h2>"
        + _table("Submissions", ("Submission", "Score", "Status", "Late", "Alike"), rows)
        + ("" if for_students else _passed_over(book.passed_over))
        + f"<h2>Details</h2>{''.join(sections)}</main></body></html>\n"
    )
