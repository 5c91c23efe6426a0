"""The report: well-formed, nothing of a submission is markup, fits on a phone."""

import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxybox.teach.grades import Grade, GradeBook, Verdict
from proxybox.teach.report import render
from proxybox.teach.similar import Pair

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=80) | st.just(
    "</pre><script>alert(1)</script>"
)
TAGS = frozenset({
    "html", "head", "meta", "title", "style", "body", "main", "h1", "h2", "h3", "h4", "p", "div", "table",
    "thead", "tbody",
    "tr", "th", "td", "span", "i", "a", "pre", "section",
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
    page = render(book, [Pair(text, "other", 0.9)])
    page.encode()
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []


def test_for_students() -> None:
    page = render(_book(), [Pair("student0", "student1", 0.9)], for_students=True)
    assert "SECRET" not in page
    assert "student0" not in page
    assert "0 of 1 passed" in page
    assert "SECRET" in render(_book())
    assert "student1 (90%)" in render(_book(), [Pair("student0", "student1", 0.9)])


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
    told = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
         f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    found = told.split("wide ")[1].split("<")[0].split(" of ")
    assert int(found[1]) > width - 30
    assert int(found[0]) <= int(found[1])
