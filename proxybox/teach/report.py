"""A report of all grades: one HTML file that needs no other file, runs no script and loads nothing.

page/ has its templates (Jinja2). Every value in it is made harmless and escaped in one place, `_environment`: all
expressions of the templates pass through it.
"""

import html
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

import attrs
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from proxybox.teach.grades import STATUSES, Grade, GradeBook, Verdict
from proxybox.teach.similar import SimilarPair
from proxybox.teach.writers.common import FAILED, clean, number, shown

#: The most characters of the page for one submission, and for all; after these only names and scores are shown.
MOST_OF_ONE, MOST_IN_ALL = 200_000, 64 << 20
#: Characters of one text.
_MOST_OF_TEXT = 10_000
#: The most near-duplicates of one submission that are named.
_MOST_ALIKE = 10
_MOST_PASSED_OVER = 1000
_MARKS = {"ok": "✓", "wrong_answer": "✗", "skipped": "–", "forbidden": "⊘", "time_limit": "T", "memory_limit": "M"}


@cache
def _environment() -> Environment:
    """Jinja2's environment, which escapes all text after making visible what is harmful in it.

    Markup, which only macros make, stays unchanged.
    """
    made = Environment(
        loader=PackageLoader("proxybox.teach", "page"),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    made.filters |= {"line": _line, "figure": _figure, "kind": _kind, "mark": _mark, "quoted": shlex.quote}
    return made


def _shown(value: object) -> Markup:
    """A value escaped with html.escape's spelling; autoescape escapes values that do not pass through this function."""
    return value if isinstance(value, Markup) else Markup(html.escape(clean(str(value), _MOST_OF_TEXT)))  # noqa: S704


def _line(text: str, most: int = 200) -> str:
    return clean(text, most)


def _figure(value: float) -> str:
    return f"{number(value):g}"


def _kind(status: str) -> str:
    return status if status in ("ok", "wrong_answer") else "other"


def _mark(status: str) -> str:
    return _MARKS.get(status, "!")


@attrs.frozen(kw_only=True)
class _Row:
    """A submission on the page. number: its place. alike: the submissions that are nearly the same."""

    number: int
    name: str
    grade: Grade
    tests: Sequence[Verdict]
    alike: Sequence[str] = ()

    @property
    def score(self) -> str:
        return "none" if self.grade.failed else f"{_figure(self.grade.points)} / {_figure(self.grade.possible)}"

    @property
    def status(self) -> str:
        """The status of the first test that did not pass."""
        if self.grade.failed:
            return "internal_error"
        return next((test.status for test in self.tests if not test.passed and test.status != "skipped"), "ok")

    @property
    def late(self) -> bool:
        return self.grade.late

    @property
    def message(self) -> str:
        return FAILED if self.grade.failed else self.grade.message

    @property
    def note(self) -> str:
        return self.grade.note


def _counted(rows: Iterable[_Row]) -> Mapping[str, Counter[str]]:
    """For each test, how often it had each status."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        for test in row.tests:
            found.setdefault(test.name, Counter())[test.status] += 1
    order = STATUSES.index
    return {name: Counter({s: counts[s] for s in sorted(counts, key=order)}) for name, counts in found.items()}


def _alike(pairs: Iterable[SimilarPair], too_short: Iterable[str]) -> dict[str, list[str]]:
    """For each student, the others whose submissions are nearly the same, with a bounded number of names."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        for one, other in ((pair.first, pair.second), (pair.second, pair.first)):
            parts_of = found.setdefault(one, [])
            if len(parts_of) < _MOST_ALIKE:
                parts_of.append(f"{clean(other, 200)} ({'identical' if pair.is_identical else f'{pair.share:.0%}'})")
            elif len(parts_of) == _MOST_ALIKE:
                parts_of.append("others")
    for student in too_short:
        found.setdefault(student, ["too short to compare"])
    return found


def _sections(rows: Iterable[_Row], parts: Any, *, with_faults: bool) -> Iterator[Markup]:
    """The section of each submission; only the submission's name if the page has no more room."""
    left = MOST_IN_ALL
    for row in rows:
        cut = parts.cut_section(row)
        section = parts.section(row, _inside(row, parts, with_faults)) if left > 0 else cut
        yield section if len(section) <= left else cut
        left -= len(section)


def _inside(row: _Row, parts: Any, with_faults: bool) -> Iterator[tuple[Verdict, Markup]]:
    """Each test with its details, while the submission has room for them."""
    left = MOST_OF_ONE
    for test in row.tests:
        parts_of = parts.told(test, with_faults) if left > 0 else parts.cut()
        yield test, parts_of if len(parts_of) <= left else parts.cut()
        left -= len(parts_of)


def render(
    book: GradeBook, pairs: Iterable[SimilarPair] = (), *, too_short: Iterable[str] = (), for_students: bool = False
) -> str:
    """The file's text.

    pairs, too_short: the result of `compare`. for_students: no names and no near-duplicates, and hidden tests are only
    counted.
    """
    alike = {} if for_students else _alike(pairs, too_short)
    rows = [
        _Row(
            number=place,
            name=f"Submission {place}" if for_students else grade.student,
            grade=grade,
            tests=() if grade.failed else shown(grade) if for_students else grade.tests,
            alike=alike.get(grade.student, ()),
        )
        for place, grade in enumerate(book.grades, 1)
    ]
    full = sum(row.status == "ok" for row in rows)
    late, failed = sum(row.late for row in rows), sum(row.grade.failed for row in rows)
    sections = _sections(rows, _environment().get_template("parts.html").module, with_faults=not for_students)
    return (
        _environment()
        .get_template("report.html")
        .render(
            title=book.title,
            summary=f"{len(rows)} submissions, {full} passed everything, {late} late, {failed} could not be graded.",
            tests=_counted(rows),
            rows=rows,
            sections=Markup().join(sections),
            passed_over=() if for_students else book.passed_over,
            most_passed_over=_MOST_PASSED_OVER,
        )
    )
