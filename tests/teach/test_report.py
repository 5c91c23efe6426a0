"""The report is well-formed, contains no markup of a submission, and fits on a phone."""

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxybox.teach import report
from proxybox.teach.grades import Grade, GradeBook, PassedOver, Verdict
from proxybox.teach.report import render
from proxybox.teach.similar import SimilarPair

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=80) | st.just(
    "</pre><script>alert(1)</script>"
)
TAGS = frozenset({
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "div", "table",
    "thead", "tbody",
    "tr", "th", "td", "span", "i", "a", "pre", "section", "ul", "li",
})  # fmt: skip


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in TAGS
        for name, value in attrs:
            assert name not in ("src", "onclick", "onerror")
            assert name != "href" or (value or "").startswith("#s")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _book(text: str = "x" * 300) -> GradeBook:
    tests = (
        Verdict(name="adds numbers", status="ok", points=1),
        Verdict(name="a name of some length " * 3, status="wrong_answer", message=text, output=text),
        Verdict(name="SECRET", status="time_limit", message="SECRET", hidden=True),
    )
    grades = [Grade(student=f"student{i}", tests=tests[: 1 + i % 3], late=i % 2 == 1) for i in range(6)]
    return GradeBook(title="Week 1", grades=[*grades, Grade(student="broken", failed=True, message=text)])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(TEXT)
def test_well_formed(text: str) -> None:
    tests = (Verdict(name=text, status="error", message=text, output=text),)
    book = GradeBook(title=text, grades=[Grade(student=text, message=text, tests=tests)])
    page = render(book, [SimilarPair(text, "other", 0.9)])
    page.encode()
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []


def test_for_students() -> None:
    page = render(_book(), [SimilarPair("student0", "student1", 0.9)], for_students=True)
    assert "SECRET" not in page
    assert "student0" not in page
    assert "0 of 1 passed" in page
    assert "SECRET" in render(_book())
    assert "student1 (90%)" in render(_book(), [SimilarPair("student0", "student1", 0.9)])


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("width", [390, 1280])
def test_no_sideways_scroll(tmp_path: Path, width: int) -> None:
    assert CHROMIUM is not None
    page = render(_book())
    frame = tmp_path / "frame.html"
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    frame.write_text(
        f'<iframe id="f" src="report.html" width="{width}" height="800" style="border:0"></iframe><p id="o"></p>'
        "<script>f.onload=()=>{const e=f.contentDocument.documentElement;"
        "o.textContent=`wide ${e.scrollWidth} of ${e.clientWidth}`}</script>"
    )
    seen = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    found = seen.split("wide ")[1].split("<")[0].split(" of ")
    assert int(found[1]) > width - 30
    assert int(found[0]) <= int(found[1])


# --- submissions that are made to cost whoever reads them -------------------------------------------------------------


def _loud(student: str) -> Grade:
    """Returns a grade with the longest messages; each of its characters is six on the page."""
    tests = [
        Verdict(name=f"t{n}", status="wrong_answer", message='"' * 10_000, output="<" * 10_000) for n in range(200)
    ]
    return Grade(student=student, tests=tuple(tests))


def test_what_one_says_at_length_is_cut() -> None:
    quiet = Grade(student="quiet", tests=(Verdict(name="t0", status="wrong_answer", message="to be read"),))
    page = render(GradeBook(title="t", grades=[_loud("loud"), quiet]))
    assert len(page) < report.MOST_OF_ONE + 100_000
    assert all(f">t{number} <" in page for number in range(200)), "each test is named"
    assert "to be read" in page
    assert "More is not shown here" in page


def test_what_all_say_at_length_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MOST_IN_ALL", 1 << 20)
    page = render(GradeBook(title="t", grades=[_loud(f"loud{number}") for number in range(20)]))
    assert len(page) < 2 << 20
    assert all(f">loud{number}</h3>" in page for number in range(20))
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []


def test_of_many_equal_ones_ten_are_named() -> None:
    book = GradeBook(title="t", grades=[Grade(student=f"s{number}") for number in range(60)])
    page = render(book, [SimilarPair(f"s{a}", f"s{b}", 1) for a in range(60) for b in range(a)])
    assert page.count("(100%)") == 2 * 60 * 10
    assert page.count("others") == 2 * 60


EVIL = "</pre></a>\"'><script>{{ 7 * 7 }}{% raw %}\x1b]0;x\x07\x9b2J\u202e\udcff\r"


def test_wherever_a_text_can_stand_it_is_harmless() -> None:
    test = Verdict(name=EVIL, status="wrong_answer", message=EVIL, output=EVIL, fault=EVIL, possible=2)
    grades = [Grade(student=f"{name}{EVIL}", tests=(test,), message=EVIL, note=EVIL, late=True) for name in "ab"]
    page = render(
        GradeBook(title=EVIL, grades=grades, passed_over=(PassedOver(path=EVIL, why=EVIL),)),
        [SimilarPair(grades[0].student, grades[1].student, 1)],
    )
    reader = _Reader()
    reader.feed(page)
    assert reader.open == []
    assert page.count("{{ 7 * 7 }}") > 20, "it is no template's"
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]|<script| on\\w+=", page)


def test_nothing_in_the_templates_passes_by_the_escaping() -> None:
    for path in Path(report.__file__).with_name("page").iterdir():
        text = path.read_text()
        assert not re.search(r"\|\s*safe\b|autoescape|\bMarkup\b", text)
        assert not re.search(r"=\{\{", text), "an attribute is in quotes"
