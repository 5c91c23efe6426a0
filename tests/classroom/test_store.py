"""What the database stores of saves and of grades, whatever is written in between."""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sqlalchemy", reason="the extra classroom is not installed")

from proxybox.classroom.connected import ELSEWHERE, MERGED, Connected
from proxybox.classroom.records import Checked, HandIn, Saved
from proxybox.classroom.store import ClassStore

LONG = "x = 1\n" * 10


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ClassStore]:
    with contextlib.closing(ClassStore(str(tmp_path / "class.sqlite"))) as store:
        yield store


class Page:
    """A page of a seat. base: the version that it knows: its own last save, or the version that it has loaded."""

    def __init__(self, store: ClassStore, base: int = 0) -> None:
        self.store, self.base = store, base

    def save(self, text: str, now: float, why: str = "saved") -> Saved:
        def merge(_: Mapping[str, str] | None) -> Mapping[str, str]:
            return {"a.py": text}

        saved = asyncio.run(
            self.store.do(
                Connected.save, "seat", "loops", merge, now=now, why=why, base=self.base, save=f"{id(self)} {now}"
            )
        )
        self.base = saved.version
        return saved


def kept(store: ClassStore) -> list[tuple[str, str]]:
    """Returns the versions, the latest first: the reason of each, and its text."""
    versions = asyncio.run(store.do(Connected.versions, "seat", "loops"))
    texts = [asyncio.run(store.do(Connected.text, "seat", "loops", each["version"])) for each in versions]
    return [(text.why, text.files["a.py"]) for text in texts if text is not None]


def test_saves_of_one_page_are_one_version(store: ClassStore) -> None:
    page = Page(store)
    for second in range(5):
        assert page.save(f"{LONG}{second}", second).other is None
    assert kept(store) == [("saved", f"{LONG}4")]
    page.save(f"{LONG}later", MERGED + 1)
    assert kept(store) == [("saved", f"{LONG}later"), ("saved", f"{LONG}4")]


def test_what_another_page_has_saved_stays_and_is_named(store: ClassStore) -> None:
    one, two = Page(store), Page(store)
    first = one.save(f"{LONG}one", 1)
    assert two.save(f"{LONG}two", 2).other == (first.version, 1)
    assert kept(store) == [("saved", f"{LONG}two"), (ELSEWHERE, f"{LONG}one")]
    two.save(f"{LONG}two more", 3)
    assert kept(store) == [("saved", f"{LONG}two more"), (ELSEWHERE, f"{LONG}one")]


def test_two_pages_that_type_in_turns_lose_nothing_and_fill_nothing(store: ClassStore) -> None:
    one, two = Page(store), Page(store)
    for second in range(20):
        page, name = (two, "two") if second % 2 else (one, "one")
        assert (page.save(f"{LONG}{name} {second}", second).other is None) == (second == 0)
    assert kept(store) == [("saved", f"{LONG}two 19"), (ELSEWHERE, f"{LONG}one 18")]


def test_a_page_that_has_taken_over_another_ones_text_leaves_its_own_in_the_history(store: ClassStore) -> None:
    one, two = Page(store), Page(store)
    one.save(f"{LONG}one", 1)
    two.save(f"{LONG}two", 2)
    one.base = two.base  # it has loaded the other page's text
    one.save(f"{LONG}two and one", 3)
    assert kept(store) == [("saved", f"{LONG}two and one"), (ELSEWHERE, f"{LONG}one")]


def test_a_run_is_named_a_run_also_where_another_page_saves(store: ClassStore) -> None:
    one, two = Page(store), Page(store)
    one.save(f"{LONG}one", 1, why="run")
    assert two.save(f"{LONG}two", 2).other is not None
    assert kept(store) == [("saved", f"{LONG}two"), ("run", f"{LONG}one")]


# --- grades -----------------------------------------------------------------------------------------------------------


def graded(status: str, *, failed: bool = False) -> dict[str, Any]:
    return {
        "failed": failed,
        "message": "",
        "tests": [{"status": status, "points": float(status == "ok"), "possible": 1}],
    }


class Graded:
    """A hand-in that can be graded again and again, by tests with a given basis."""

    def __init__(self, store: ClassStore) -> None:
        self.store = store
        self.now = 100.0
        handed = HandIn(id="h1", seat="seat", exercise="loops", at=1.0, late=False, files={})
        asyncio.run(store.do(Connected.hand_in, handed, "s1"))

    def grade(self, grade: dict[str, Any], basis: str) -> HandIn:
        self.now += 1
        found = asyncio.run(self.store.do(Connected.grade, "h1", Checked(self.now, grade, basis)))
        assert found is not None
        assert found == asyncio.run(self.store.do(Connected.handin, "h1"))
        return found


def test_a_grade_by_mended_tests_keeps_the_one_of_before(store: ClassStore) -> None:
    handin = Graded(store)
    assert asyncio.run(store.do(Connected.due)) == ["h1"]
    first = handin.grade(graded("wrong_answer"), "old")
    assert (first.grade, first.graded, first.basis, first.earlier) == (graded("wrong_answer"), 101.0, "old", None)
    assert asyncio.run(store.do(Connected.due)) == []
    asyncio.run(store.do(Connected.grade_again, ["h1"]))
    assert asyncio.run(store.do(Connected.due)) == ["h1"]
    second = handin.grade(graded("ok"), "new")
    assert (second.grade, second.basis, second.due) == (graded("ok"), "new", False)
    assert second.earlier == Checked(101.0, graded("wrong_answer"), "old")
    third = handin.grade(graded("ok"), "new")  # once more, with the same tests
    assert third.earlier == second.earlier


def test_a_grade_stays_where_grading_has_failed(store: ClassStore) -> None:
    handin = Graded(store)
    assert handin.grade(graded("internal_error", failed=True), "broken").earlier is None
    good = handin.grade(graded("ok"), "old")
    assert (good.grade, good.earlier) == (graded("ok"), None)  # a failed grading is no earlier grade
    kept = handin.grade(graded("internal_error", failed=True), "broken")
    assert (kept.grade, kept.basis, kept.earlier, kept.due) == (graded("ok"), "old", None, False)


def test_only_the_latest_hand_in_is_graded(store: ClassStore) -> None:
    Graded(store)
    later = HandIn(id="h2", seat="seat", exercise="loops", at=2.0, late=False, files={})
    asyncio.run(store.do(Connected.hand_in, later, "s2"))
    assert asyncio.run(store.do(Connected.due)) == ["h2"]
