"""Grades on the pages: one for each hand-in, beside the state now; and the saves of two pages of one seat."""

import re

import pytest

from tests.classroom.browser.conftest import PATIENCE, Classroom, Newcomer, Visitor, card, dialog, enter

pytestmark = pytest.mark.full  # a browser for each test

sync_api = pytest.importorskip("playwright.sync_api", reason="browsers are driven by Playwright (extra browser)")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)

RIGHT, WRONG = "def double(n):\n    return 2 * n\n", "def double(n):\n    return 0\n"
SHORT = "double = lambda n: n + n\n"


@pytest.fixture
def teacher(newcomer: Newcomer, classroom: Classroom) -> Visitor:
    return enter(newcomer(1366, 768), classroom.teacher)


def hand_in(student: Visitor, code: str) -> None:
    student.write(code)
    student.page.get_by_role("button", name="Hand in").click()
    dialog(student.page).get_by_role("button", name="Hand in").click()
    expect(student.page.locator(".notices")).to_contain_text("Your hand-in was tested")


def check(student: Visitor, code: str) -> None:
    student.write(code)
    student.page.keyboard.press("ControlOrMeta+Shift+Enter")
    expect(student.page.locator("#tests .summary")).to_be_visible()


def test_the_grade_of_the_hand_in_stands_beside_the_state_now(teacher: Visitor, student: Visitor) -> None:
    """On the card, in the table, at the seat, and on the student's own page."""
    hand_in(student, RIGHT)
    check(student, WRONG)
    mine = student.page
    expect(mine.locator("#tests .summary")).to_have_text(re.compile("^Now: 0 of 2 tests passed"))
    expect(mine.locator("#tests .handed")).to_contain_text("2 of 2 tests passed")
    mine.get_by_role("tab", name="Course", exact=True).click()
    expect(mine.locator("#exercises li").first).to_contain_text("handed in: 2/2 · now 0/2")

    there = card(teacher, student)
    expect(there).to_contain_text("2/2 in, now 0/2")
    there.click()
    page = teacher.page
    expect(page.locator("#seat-tests .handed")).to_contain_text("2 of 2 passed · 2 of 2 points")
    expect(page.locator("#seat-passed")).to_have_text("Now: 0 of 2 passed")
    expect(page.locator("#seat-facts")).to_contain_text("All tests pass")
    page.get_by_role("link", name="Results").click()
    row = page.locator("#progress tr", has_text=student.name)
    expect(row.locator("td").first).to_have_text("2/2 in, now 0/2")
    expect(row.locator("td").first).to_have_class("done")


def test_mended_tests_grade_again_at_one_click_and_the_student_sees_both(
    newcomer: Newcomer, own_classroom: Classroom
) -> None:
    teacher, student = enter(newcomer(1366, 768), own_classroom.teacher), newcomer()
    student.join(own_classroom)
    hand_in(student, "def double(n):\n    return n * n\n")  # the program is right for 2 only
    tests = own_classroom.course / "01-double/tests/test_double.py"
    tests.write_text(tests.read_text().replace("returns=4", "returns=5"))
    page, mine = teacher.page, student.page
    expect(page.locator("#going")).to_contain_text("Tests have changed")
    expect(page.locator("#going")).to_contain_text("Twice as much: 1 grade")
    mine.get_by_role("tab", name=re.compile("^Tests")).click()
    page.get_by_role("button", name="Grade all again: Twice as much").click()
    expect(mine.locator("#tests .handed")).to_contain_text("Before: 1 of 2 tests passed")
    expect(mine.locator("#tests .handed")).to_contain_text("0 of 2 tests passed")
    expect(page.locator("#going")).to_be_hidden()
    expect(card(teacher, student)).to_contain_text("0/2 in")

    (own_classroom.course / "01-double/exercise.toml").write_text('title = "Doubled"\nhint = 1\n')
    expect(page.locator("#going")).to_contain_text("The course was not read anew")
    page.get_by_role("button", name="Why").click()
    expect(dialog(page)).to_contain_text("did you mean hints?")
    dialog(page).get_by_role("button", name="Close").click()
    (own_classroom.course / "01-double/exercise.toml").write_text('title = "Doubled"\n')
    expect(mine.locator("#title")).to_have_text("Doubled")  # what is typed stays
    expect(mine.locator("#editor .cm-content")).to_contain_text("n * n")


def test_two_pages_of_one_seat_lose_no_text(student: Visitor, classroom: Classroom) -> None:
    """Also within a minute: the text that the other page has saved is in Versions, with the page's name."""
    other = student.context.new_page()
    student.listen(other)
    other.goto(classroom.url)
    other.locator('body.ready #status[data-kind="saved"]').wait_for()
    other.route("**/files", lambda route: route.abort())  # without a connection it cannot save
    other.locator("#editor .cm-content").click()
    other.keyboard.insert_text("of_the_other = 1\n")
    student.page.bring_to_front()
    student.write("of_the_first = 1\n")
    student.page.locator('#status[data-kind="saved"]').wait_for()
    other.bring_to_front()
    other.unroute("**/files")
    expect(other.locator(".notices")).to_contain_text("Also changed on another page")
    other.get_by_role("button", name="Versions").last.click()
    versions = other.locator("#history-list .version", has_text="saved on another page")
    expect(versions).to_have_count(1)
    versions.click()
    other.locator("#history-view").select_option("text")
    expect(other.locator("#history-shown")).to_contain_text("of_the_first = 1")
    expect(other.locator("#editor .cm-content")).to_contain_text("of_the_other = 1")
    # The page whose text was replaced shows the latest one, and says where its own text is.
    expect(student.page.locator("#editor .cm-content")).to_contain_text("of_the_other = 1")
    expect(student.page.locator(".notices")).to_contain_text("Changed on another page")


def test_hand_ins_that_are_the_same_are_listed_however_short(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    second = newcomer()
    second.join(classroom)
    hand_in(student, SHORT)
    hand_in(second, SHORT)
    page = teacher.page
    page.get_by_role("link", name="Results").click()
    page.get_by_role("button", name="Compare all").click()
    expect(page.locator("#similar-pairs")).to_contain_text("too short to compare")
    expect(page.locator("#similar-pairs tbody tr").first).to_contain_text("identical")
    page.locator("#similar-pairs tbody button").first.click()
    expect(page.locator("#compare-rows")).to_contain_text("lambda n: n + n")
