"""The teacher's page, as a teacher sees it: in a browser, with students in browsers of their own."""

import contextlib
import json
import re
import select
import signal
import socket
import threading
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest

from tests.classroom.browser.conftest import PATIENCE, Classroom, Newcomer, Visitor, card, dialog, enter

axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe checks pages (extra browser)")
sync_api = pytest.importorskip("playwright.sync_api", reason="browsers are driven by Playwright (extra browser)")
expect = sync_api.expect
expect.set_options(timeout=PATIENCE)

RIGHT = "def double(n):\n    return 2 * n\n"
#: A program long enough for two hand-ins to be found similar, even with other names in it.
LONG = """def double({n}):
    {total} = 0
    for {i} in range(2):
        if {n} > 0 or {n} < 0:
            {total} = {total} + {n}
        else:
            {total} = {total} + 0
    while {total} > 10 ** 9:
        {total} = {total} - 1
    return {total}
"""


# --- who is there -----------------------------------------------------------------------------------------------------


@pytest.fixture
def teacher(newcomer: Newcomer, classroom: Classroom) -> Visitor:
    """A teacher with a laptop's screen."""
    return enter(newcomer(1366, 768), classroom.teacher)


@pytest.fixture
def student(newcomer: Newcomer, classroom: Classroom) -> Visitor:
    """A student who has joined, and whom the teacher's page shows."""
    student = newcomer()
    student.join(classroom)
    return student


def visit(teacher: Visitor, student: Visitor) -> "sync_api.Page":
    """Opens a student's seat."""
    card(teacher, student).click()
    expect(teacher.page.locator("#seat-name")).to_have_text(student.name)
    return teacher.page


def hand_in(student: Visitor, names: tuple[str, str, str]) -> None:
    """Hands in the program of others, with other names in it."""
    n, total, i = names
    student.write(LONG.format(n=n, total=total, i=i))
    student.page.get_by_role("button", name="Hand in").click()
    dialog(student.page).get_by_role("button", name="Hand in").click()


def violations(page: "sync_api.Page") -> list[str]:
    """Returns the violations that axe finds on the current page."""
    found = axe_module.Axe().run(page).response["violations"]
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]


# --- the key ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_key_in_the_address_is_sent_and_taken_out_of_it(newcomer: Newcomer, classroom: Classroom) -> None:
    teacher, key = newcomer(), classroom.teacher.partition("#")[2]
    assert key
    teacher.page.goto(classroom.teacher)
    teacher.page.locator("body.teacher.ready").wait_for()
    assert key not in teacher.page.url
    expect(teacher.page.get_by_role("heading", level=1)).to_have_text("A course of tests")
    teacher.page.go_back()
    assert key not in teacher.page.url


@pytest.mark.full
def test_a_wrong_key_opens_nothing_and_the_right_one_can_be_typed(newcomer: Newcomer, classroom: Classroom) -> None:
    somebody = newcomer()
    address, _, key = classroom.teacher.partition("#")
    somebody.page.goto(f"{address}#WRONG")
    expect(somebody.page.get_by_role("alert")).to_contain_text("not right")
    assert "WRONG" not in somebody.page.url
    assert violations(somebody.page) == []
    somebody.page.get_by_label("Key").fill(f"  {key.lower()} ")
    somebody.page.keyboard.press("Enter")
    somebody.page.locator("body.teacher.ready").wait_for()


def test_who_logs_out_is_asked_for_the_key(newcomer: Newcomer, classroom: Classroom) -> None:
    teacher = enter(newcomer(), classroom.teacher)
    teacher.page.get_by_text("Menu", exact=True).click()
    teacher.page.get_by_role("button", name="Log out").click()
    expect(teacher.page.get_by_label("Key")).to_be_visible()


# --- seats ------------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_code_and_output_are_seen_as_they_change(teacher: Visitor, student: Visitor) -> None:
    page = visit(teacher, student)
    student.write("seen = 1\n")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("seen = 1")
    student.begin("print('first')\nprint('told', input('Who? '))\n")
    expect(page.locator("#seat-output")).to_contain_text("Who?")
    expect(page.locator("#seat-run")).to_have_text("runs")
    student.page.keyboard.type("Ada\n")
    expect(page.locator("#seat-output")).to_contain_text("told Ada")
    student.run("1 / 0\n")
    expect(page.locator("#seat-output")).to_contain_text("ZeroDivisionError")
    student.run("x = bytearray(1 << 40)\n")
    expect(page.locator("#seat-run")).to_have_text("The program needed too much memory, and was ended.")
    page.locator("#seat-code .cm-content").click()
    page.keyboard.type("not mine")
    expect(page.locator("#seat-code .cm-content")).not_to_contain_text("not mine")


@pytest.mark.full
def test_the_card_tells_tests_errors_and_presence(teacher: Visitor, student: Visitor) -> None:
    there = card(teacher, student)
    expect(there).to_contain_text("Twice as much")
    student.run("nmae\n")
    expect(there.locator(".state.error")).to_contain_text("NameError")
    student.write(RIGHT)
    student.page.keyboard.press("ControlOrMeta+Shift+Enter")
    expect(there).to_contain_text("2/2")
    expect(there).to_contain_text("All tests pass")
    expect(there.locator(".error")).to_have_count(0)
    student.page.close()
    expect(there).to_have_attribute("data-looks", "away")
    expect(there).to_contain_text("Away")


@pytest.mark.full
def test_tests_and_versions_of_a_seat_can_be_looked_at(teacher: Visitor, student: Visitor) -> None:
    student.write("def double(n):\n    return 'wrong'\n")
    student.page.keyboard.press("ControlOrMeta+Shift+Enter")
    page = visit(teacher, student)
    expect(page.locator("#seat-tests")).to_contain_text("failed")
    expect(page.locator("#seat-tests")).to_contain_text("Small numbers")
    page.locator("#seat-version").select_option("0")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("pass")
    expect(page.locator("#seat-live")).to_have_text("An earlier version")
    student.write("later = 1\n")
    student.page.locator('#status[data-kind="saved"]').wait_for()
    expect(page.locator("#seat-code .cm-content")).to_contain_text("pass")
    page.locator("#seat-version").select_option("")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("later = 1")
    page.locator("#seat-exercise").select_option("02-echo")
    expect(page.locator("#seat-tests")).to_contain_text("not been run yet")


@pytest.mark.full
def test_a_seat_is_renamed_locked_removed_and_given_back(teacher: Visitor, student: Visitor) -> None:
    page = visit(teacher, student)
    page.get_by_role("button", name="Rename …").click()
    dialog(page).get_by_label("Name").fill(f"{student.name} B")
    dialog(page).get_by_role("button", name="Rename").click()
    student.name += " B"
    expect(page.locator("#seat-name")).to_have_text(student.name)

    page.get_by_role("button", name="Lock", exact=True).click()
    expect(student.page.locator("#banner")).to_contain_text("locked")
    page.get_by_role("button", name="Undo").click()
    expect(student.page.locator("#banner")).to_be_hidden()

    page.get_by_role("button", name="Remove…").click()
    dialog(page).get_by_role("button", name="Cancel").click()
    expect(page.locator("#seat-facts")).not_to_contain_text("Removed")
    page.get_by_role("button", name="Remove…").click()
    dialog(page).get_by_role("button", name="Remove", exact=True).click()
    expect(student.page.get_by_label("Code of the class")).to_be_visible()
    page.get_by_role("button", name="All seats").click()
    expect(card(teacher, student)).to_have_count(0)

    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("button", name="Reserved and removed seats …").click()
    dialog(page).get_by_role("button", name=f"Restore {student.name}").click()
    dialog(page).get_by_role("button", name="Close", exact=True).click()
    expect(card(teacher, student)).to_be_visible()


@pytest.mark.full
def test_a_name_that_somebody_has_is_refused_in_the_dialog(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    other = newcomer()
    other.join(classroom)
    page = visit(teacher, student)
    page.get_by_role("button", name="Rename …").click()
    dialog(page).get_by_label("Name").fill(other.name)
    page.keyboard.press("Enter")
    expect(dialog(page).get_by_role("alert")).to_contain_text("already")
    page.keyboard.press("Escape")
    expect(page.locator("#seat-name")).to_have_text(student.name)


@pytest.mark.full
def test_a_seat_that_is_kept_is_taken_by_its_personal_code(
    teacher: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    page = teacher.page
    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("button", name="Reserved and removed seats …").click()
    dialog(page).get_by_label("Name").fill("Kept for Zoë")
    dialog(page).get_by_role("button", name="Reserve").click()
    dialog(page).get_by_role("button", name="Personal code of Kept for Zoë").click()
    code = page.locator(".bigcode").inner_text()
    zoe = newcomer()
    zoe.page.goto(classroom.url)
    zoe.page.get_by_text("I have been here before").click()
    zoe.page.get_by_label("Your own code").fill(code)
    zoe.page.get_by_role("button", name="Continue").click()
    zoe.ready()
    zoe.page.get_by_text("Menu", exact=True).click()
    expect(zoe.page.locator("#who")).to_have_text("Kept for Zoë")


def test_names_and_code_with_markup_stay_text(teacher: Visitor, newcomer: Newcomer, classroom: Classroom) -> None:
    markup = "<img src=x onerror=alert(1)>"
    student = newcomer()
    student.join(classroom, name=markup)
    student.run(f"raise ValueError({markup!r})\n")
    expect(card(teacher, student)).to_contain_text("ValueError")
    page = visit(teacher, student)
    expect(page.locator("#seat-code .cm-content")).to_contain_text(markup)
    expect(page.locator("#seat-output")).to_contain_text(markup)
    student.page.locator("#hand").click()
    expect(page.locator("#hands")).to_contain_text(markup)
    assert page.locator("img[src=x]").count() == 0
    student.page.locator("#hand").click()
    expect(page.locator("#hands")).not_to_contain_text(markup)


# --- who needs help ---------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_raised_hands_wait_in_their_order_and_are_lowered(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    second = newcomer()
    second.join(classroom)
    page, names = teacher.page, page_names(teacher, "#hands")
    for each in (second, student):
        each.page.locator("#hand").click()
        expect(page.locator("#hands")).to_contain_text(each.name)
    shown = [name for name in names() if name in (student.name, second.name)]
    assert shown == [second.name, student.name]
    expect(card(teacher, student)).to_contain_text("Hand raised")
    page.get_by_role("button", name=f"Lower the hand of {second.name}").click()
    expect(page.locator("#hands")).not_to_contain_text(second.name)
    expect(second.page.locator("#hand")).to_have_attribute("aria-pressed", "false")
    page.get_by_label("need", exact=False).check()
    expect(card(teacher, student)).to_be_visible()
    expect(card(teacher, second)).to_have_count(0)
    visit(teacher, student).get_by_role("button", name="Lower hand").click()
    expect(page.locator("#hands")).not_to_contain_text(student.name)


def page_names(teacher: Visitor, place: str) -> Callable[[], list[str]]:
    """Returns the names in a list of the page, in its order."""
    return lambda: teacher.page.locator(f"{place} .link").all_inner_texts()


@pytest.mark.full
def test_the_commonest_errors_lead_to_the_seats_that_had_them(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    second, third = newcomer(), newcomer()
    second.join(classroom)
    third.join(classroom)
    for each, text in ((student, "{}['one']\n"), (second, "{}['two']\n"), (third, "print('fine')\n")):
        each.run(text)
    error = teacher.page.locator("#errors button", has_text="KeyError")
    expect(error).to_have_accessible_name(re.compile("^2 seats: KeyError"))
    error.click()
    expect(teacher.page.locator(".card")).to_have_count(2)
    expect(card(teacher, student)).to_be_visible()
    expect(card(teacher, third)).to_have_count(0)
    teacher.page.get_by_role("button", name="Show all").click()
    expect(card(teacher, third)).to_be_visible()
    expect(error).to_have_attribute("aria-pressed", "false")


@pytest.mark.full
def test_cards_are_put_in_order_but_never_under_the_focus(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    second = newcomer()
    second.join(classroom)
    page = teacher.page
    expect(card(teacher, second)).to_be_visible()
    page.get_by_label("Order").select_option("hand")
    second.page.locator("#hand").click()
    ahead, behind = (f'li:has(.card:has-text("{each.name}"))' for each in (second, student))
    expect(page.locator(f"{ahead} ~ {behind}")).to_have_count(1)  # others may have raised their hands before
    card(teacher, student).focus()
    before = page.locator(".card .name").all_inner_texts()
    second.page.locator("#hand").click()
    student.page.locator("#hand").click()
    expect(card(teacher, student)).to_contain_text("Hand raised")
    expect(card(teacher, second)).not_to_contain_text("Hand raised")
    expect(card(teacher, student)).to_be_focused()
    assert page.locator(".card .name").all_inner_texts() == before
    page.get_by_label("Find").fill(second.name)
    expect(page.locator(".card")).to_have_count(1)


# --- what all see -----------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_code_of_a_student_is_shared_without_the_name(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom
) -> None:
    other = newcomer()
    other.join(classroom)
    student.write("nobody_knows_whose = 1\n")
    student.page.locator('#status[data-kind="saved"]').wait_for()
    page = visit(teacher, student)
    page.get_by_role("button", name="Share …").click()
    dialog(page).get_by_label("Title").fill("Look at this")
    dialog(page).get_by_role("button", name="Share with all").click()
    expect(page.locator("#going")).to_contain_text("Look at this")
    other.page.get_by_role("tab", name="Shared").click()
    expect(other.page.locator("#shares")).to_contain_text("Look at this")
    assert student.name not in other.page.content()
    page.get_by_role("button", name="Stop sharing Look at this").click()
    expect(other.page.locator("#shares")).not_to_contain_text("Look at this")
    page.get_by_role("button", name="Undo").click()
    expect(other.page.locator("#shares")).to_contain_text("Look at this")
    page.get_by_role("button", name="Stop sharing Look at this").click()


@pytest.mark.full
def test_the_teachers_own_code_is_shared_and_a_closed_dialog_keeps_it(teacher: Visitor, student: Visitor) -> None:
    page = teacher.page
    page.get_by_role("button", name="Share code …").click()
    dialog(page).get_by_role("button", name="Share with all").click()
    expect(dialog(page).get_by_role("alert")).to_contain_text("no code yet")
    page.keyboard.insert_text("for_all = 1")
    dialog(page).get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Share code …").click()
    expect(dialog(page).locator(".cm-content")).to_contain_text("for_all = 1")
    dialog(page).get_by_label("Title").fill("From the teacher")
    dialog(page).get_by_role("button", name="Share with all").click()
    student.page.get_by_role("tab", name="Shared").click()
    expect(student.page.locator("#shares")).to_contain_text("From the teacher")
    page.get_by_role("button", name="Stop sharing From the teacher").click()


@pytest.mark.full
def test_a_pushed_exercise_opens_for_all_until_it_is_stopped(wired: "Own") -> None:
    page = wired.teacher.page
    page.get_by_role("button", name="Push exercise …").click()
    dialog(page).get_by_label("Exercise").select_option("02-echo")
    dialog(page).get_by_role("button", name="Push to all").click()
    expect(wired.student.page.locator("#title")).to_contain_text("Echo")
    expect(card(wired.teacher, wired.student)).to_contain_text("Echo <b>bold</b>")
    page.get_by_role("button", name="Stop pushing").click()
    expect(page.locator("#going")).to_be_hidden()


@pytest.mark.full
def test_everybody_is_frozen_and_let_go(wired: "Own") -> None:
    page = wired.teacher.page
    page.get_by_role("button", name="Freeze all").click()
    expect(wired.student.page.locator("#banner")).to_be_visible()
    expect(page.locator("#going")).to_contain_text("Frozen")
    page.locator("#going").get_by_role("button", name="Unfreeze").click()
    expect(wired.student.page.locator("#banner")).to_be_hidden()
    expect(page.get_by_role("button", name="Freeze all")).to_have_attribute("aria-pressed", "false")


@pytest.mark.full
def test_joining_is_shown_locked_and_given_a_new_code(wired: "Own", newcomer: Newcomer) -> None:
    page = wired.teacher.page
    page.get_by_role("button", name="Joining").click()
    expect(page.locator("#join-code")).to_have_text(wired.room.code)
    expect(page.locator("#join-address")).to_have_text(wired.room.url)
    assert page.locator("#join-qr").evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
    page.get_by_role("button", name="Lock joining").click()
    late = newcomer()
    late.page.goto(wired.room.url)
    late.page.get_by_label("Your name").fill("Late")
    late.page.get_by_label("Code of the class").fill(wired.room.code)
    late.page.keyboard.press("Enter")
    expect(late.page.get_by_role("alert")).to_contain_text("Nobody can join")
    page.get_by_role("button", name="Let students join").click()
    page.get_by_role("button", name="New code …").click()
    dialog(page).last.get_by_role("button", name="New code").click()
    expect(page.locator("#join-code")).not_to_have_text(wired.room.code)
    wired.room.code = page.locator("#join-code").inner_text()
    late.join(wired.room, "Late")


# --- afterwards -------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_hand_ins_that_are_alike_are_shown_side_by_side_and_all_is_taken_home(
    teacher: Visitor, student: Visitor, newcomer: Newcomer, classroom: Classroom, tmp_path: Path
) -> None:
    second = newcomer()
    second.join(classroom)
    for each, names in ((student, ("n", "total", "i")), (second, ("x", "result", "k"))):
        hand_in(each, names)
        expect(card(teacher, each)).to_contain_text("Handed in")
    page = teacher.page
    page.get_by_role("link", name="Results").click()
    expect(page.locator("#progress tr", has_text=student.name)).to_contain_text("in")
    page.get_by_role("button", name="Compare all").click()
    both = "|".join(f"{one} with {other}" for one, other in ((student.name, second.name), (second.name, student.name)))
    page.get_by_role("button", name=re.compile(f"Compare ({both})")).click()
    expect(page.locator("#compare-rows")).to_contain_text("range(2)")
    assert {page.locator("#compare-first").inner_text(), page.locator("#compare-second").inner_text()} == {
        student.name, second.name,
    }  # fmt: skip
    page.get_by_role("button", name="Close", exact=True).click()

    formats = page.locator("#export-format option").evaluate_all("all => all.map(option => option.value)")
    assert formats
    link = page.get_by_role("link", name="Download grades")
    for name in formats:  # browsers allow at most ten downloads in a row
        page.locator("#export-format").select_option(name)
        size = page.evaluate("async (url) => (await (await fetch(url)).blob()).size", link.get_attribute("href"))
        assert size > 0, name
    with page.expect_download() as began:
        link.click()
    assert Path(began.value.path()).read_bytes()
    with page.expect_download() as began:
        page.get_by_role("link", name="All code (zip)").click()
    began.value.save_as(tmp_path / "code.zip")
    with zipfile.ZipFile(tmp_path / "code.zip") as all_code:
        assert any("range(2)" in all_code.read(name).decode() for name in all_code.namelist())
    with page.expect_download() as began:
        page.get_by_role("link", name="Records of runs (csv)").click()
    assert Path(began.value.path()).read_text()


# --- a lesson ---------------------------------------------------------------------------------------------------------


def test_a_lesson_with_three_students(
    teacher: Visitor, newcomer: Newcomer, classroom: Classroom, tmp_path: Path
) -> None:
    ada, bo, cy = (newcomer() for _ in range(3))
    for each, name in ((ada, "Ada L"), (bo, "Bo L"), (cy, "Cy L")):
        each.join(classroom, name)
        expect(card(teacher, each)).to_contain_text("Twice as much")
    page = teacher.page

    page.get_by_role("button", name="Freeze all").click()
    for each in (ada, bo, cy):
        expect(each.page.locator("#banner")).to_be_visible()
    page.get_by_role("button", name="Unfreeze").first.click()
    expect(ada.page.locator("#banner")).to_be_hidden()

    bo.run("[][1]\n")
    cy.run("[][2]\n")
    error = page.locator("#errors button", has_text="IndexError")
    expect(error).to_have_accessible_name(re.compile("^2 seats"))
    bo.page.locator("#hand").click()
    page.locator("#hands").get_by_role("button", name="Bo L", exact=True).click()
    expect(page.locator("#seat-output")).to_contain_text("IndexError")
    page.get_by_role("button", name="Lower hand").click()
    bo.write("helped = True\n")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("helped = True")
    expect(bo.page.locator("#hand")).to_have_attribute("aria-pressed", "false")

    page.get_by_role("button", name="Share …").click()
    dialog(page).get_by_label("Title").fill("From the lesson")
    dialog(page).get_by_role("button", name="Share with all").click()
    cy.page.get_by_role("tab", name="Shared").click()
    expect(cy.page.locator("#shares")).to_contain_text("From the lesson")
    page.get_by_role("button", name="Stop sharing From the lesson").click()

    page.get_by_role("button", name="Remove…").click()
    dialog(page).get_by_role("button", name="Remove", exact=True).click()
    expect(bo.page.get_by_label("Code of the class")).to_be_visible()
    page.get_by_role("button", name="All seats").click()
    expect(card(teacher, bo)).to_have_count(0)

    for each, names in ((ada, ("n", "total", "i")), (cy, ("x", "result", "k"))):
        hand_in(each, names)
        expect(card(teacher, each)).to_contain_text("Handed in")
    page.get_by_role("link", name="Results").click()
    page.get_by_role("button", name="Compare all").click()
    page.get_by_role("button", name=re.compile("Compare (Ada L with Cy L|Cy L with Ada L)")).click()
    expect(page.locator("#compare-rows")).to_contain_text("range(2)")
    page.get_by_role("button", name="Close", exact=True).click()
    page.locator("#export-format").select_option("csv")
    with page.expect_download() as began:
        page.get_by_role("link", name="Download grades").click()
    began.value.save_as(tmp_path / "grades.csv")
    assert {"Ada L", "Cy L"} <= set(re.findall(r"\w+ L\b", (tmp_path / "grades.csv").read_text()))


# --- the stream -------------------------------------------------------------------------------------------------------


class Wire:
    """A TCP proxy to the classroom that can be cut. asked: how often the stream of events was requested."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._streams: set[socket.socket] = set()
        self._silent: set[socket.socket] = set()
        self.asked = 0
        self._closed = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                self._threads.append(threading.Thread(target=self._carry, args=(near,)))
                self._threads[-1].start()

    def _carry(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError), near, socket.create_connection(("127.0.0.1", self._to)) as far:
            with self._lock:
                if self._closed:
                    return
                self._open += [near, far]
            while True:
                for ready in select.select((near, far), (), ())[0]:
                    data = ready.recv(1 << 16)
                    if not data:
                        return
                    if ready is near and b"GET /api/teacher/events" in data:
                        self.asked += 1
                        self._streams.add(near)
                    if near in self._silent:
                        continue
                    (far if ready is near else near).sendall(data)

    def cut(self) -> None:
        """Closes all connections; new ones can be made."""
        with self._lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            self._open.clear()

    def silence(self) -> None:
        """Forwards nothing more of the open streams, which stay open."""
        self._silent |= self._streams

    def close(self) -> None:
        """Closes the proxy and its connections."""
        self._closed = True
        self._listening.shutdown(socket.SHUT_RDWR)  # it wakes the thread that waits for connections
        self._threads[0].join()
        self._listening.close()
        self.cut()
        for each in self._threads:
            each.join()


@attrs.define
class Own:
    """A classroom with a teacher, a student, and the proxy between teacher and classroom."""

    room: Classroom
    teacher: Visitor
    student: Visitor
    wire: Wire


#: Ends freeze, push and lock.
LET_GO = """async () => {
    const headers = { "Content-Type": "application/json" };
    const off = { freeze: { frozen: false }, push: { exercise: null }, lock: { locked: false } };
    for (const [name, body] of Object.entries(off)) {
        await fetch(`/api/teacher/${name}`, { method: "POST", headers, body: JSON.stringify(body) });
    }
}"""


def sit(newcomer: Newcomer, room: Classroom, wire: Wire) -> Own:
    """Makes an Own."""
    student = newcomer()
    student.join(room)
    address = room.teacher.replace(f":{room.port}/", f":{wire.port}/")
    return Own(room, enter(newcomer(1366, 768), address), student, wire)


@pytest.fixture
def wired(newcomer: Newcomer, classroom: Classroom) -> Iterator[Own]:
    """An Own in the shared classroom. Freeze, push and lock end with the test."""
    wire = Wire(classroom.port)
    own = sit(newcomer, classroom, wire)
    yield own
    own.teacher.page.evaluate(LET_GO)
    wire.close()


@pytest.fixture
def own(newcomer: Newcomer, own_classroom: Classroom) -> Iterator[Own]:
    """An Own with a classroom that the test may end."""
    wire = Wire(own_classroom.port)
    yield sit(newcomer, own_classroom, wire)
    wire.close()


#: Collects the ids of all events that a page gets, with the stream library of all pages.
COLLECT = """async () => {
    const { subscribe } = await import("/static/lib/stream.js");
    const state = await (await fetch("/api/teacher/state")).json();
    window.ids = [];
    window.statuses = [];
    const note = (data, { id }) => window.ids.push(id);
    const handlers = { row: note, state: note, share: note, unshare: note, errors: note, resync: note };
    const onStatus = (status) => window.statuses.push(status);
    subscribe("/api/teacher/events", handlers, { since: state.event, onStatus });
    return state.event;
}"""


def told(own: Own, since: str, until: Callable[[list[str]], bool]) -> list[str]:
    """Reads the stream without a browser, after the event `since`, until `until` holds; returns the ids."""
    cookies = "; ".join(f"{each['name']}={each['value']}" for each in own.teacher.context.cookies())
    request = urllib.request.Request(
        f"{own.room.url}/api/teacher/events", headers={"Cookie": cookies, "Last-Event-ID": since}
    )
    ids: list[str] = []
    with urllib.request.urlopen(request, timeout=PATIENCE / 1000) as stream:
        for line in stream:
            if line.startswith(b"id: "):
                ids.append(line[4:].decode().strip())
            if until(ids):
                return ids
    raise AssertionError(f"the stream ended after {ids}")


@pytest.mark.full
def test_tabs_of_one_browser_share_one_stream(wired: Own) -> None:
    for _ in range(2):
        page = wired.teacher.context.new_page()
        wired.teacher.listen(page)
        page.goto(wired.teacher.page.url)
        page.locator('body.ready #status[data-kind="saved"]').wait_for()
        wired.student.page.locator("#hand").click()
        expect(page.locator("#hands")).to_contain_text(wired.student.name)
        expect(wired.teacher.page.locator("#hands")).to_contain_text(wired.student.name)
        page.get_by_role("button", name=f"Lower the hand of {wired.student.name}").click()
        expect(wired.teacher.page.locator("#hands")).not_to_contain_text(wired.student.name)
    assert wired.wire.asked == 1


@pytest.mark.full
def test_two_tabs_watch_two_seats_on_one_stream(wired: Own, newcomer: Newcomer) -> None:
    second = newcomer()
    second.join(wired.room)
    expect(card(wired.teacher, second)).to_be_visible()
    page = wired.teacher.context.new_page()
    wired.teacher.listen(page)
    page.goto(wired.teacher.page.url)
    visit(wired.teacher, wired.student)
    page.locator(".card", has_text=second.name).click()
    expect(page.locator("#seat-name")).to_have_text(second.name)
    for text in ("one = 1\n", "one = 2\n"):
        wired.student.write(text)
        second.write(f"other_{text}")
        expect(wired.teacher.page.locator("#seat-code .cm-content")).to_contain_text(text.strip())
        expect(page.locator("#seat-code .cm-content")).to_contain_text(f"other_{text.strip()}")
    assert wired.wire.asked == 1


@pytest.mark.full
def test_a_stream_that_is_cut_is_resumed_and_loses_no_event(wired: Own) -> None:
    page, hand = wired.teacher.page, wired.student.page.locator("#hand")
    raised = page.locator("#hands li", has_text=wired.student.name)
    since = page.evaluate(COLLECT)
    for up in (True, False, True):
        hand.click()
        expect(raised).to_have_count(int(up))
        wired.wire.cut()
    hand.click()
    expect(raised).to_have_count(0)
    page.wait_for_function("ids.length > 0 && statuses.at(-1) === 'open'")
    last = page.evaluate("ids.at(-1)")
    ids = told(wired, since, lambda ids: last in ids)
    assert ids == page.evaluate("ids")[: len(ids)]
    assert len(set(ids)) == len(ids)
    assert wired.wire.asked > 1


@pytest.mark.full
def test_a_tab_that_opens_later_gets_what_the_others_already_had(wired: Own) -> None:
    since = wired.teacher.page.evaluate(COLLECT)
    wired.student.page.locator("#hand").click()
    expect(wired.teacher.page.locator("#hands")).to_contain_text(wired.student.name)
    wired.teacher.page.wait_for_function("ids.length > 0")
    page = wired.teacher.context.new_page()
    wired.teacher.listen(page)
    page.goto(wired.teacher.page.url)
    had = page.evaluate(
        """async (since) => {
            const { subscribe } = await import("/static/lib/stream.js");
            return new Promise((resolve) => {
                const row = (data, { id }) => resolve(id);
                subscribe("/api/teacher/events", { row, resync: () => resolve("resync") }, { since });
            });
        }""",
        since,
    )
    assert had in wired.teacher.page.evaluate("ids")


@pytest.mark.full
def test_a_server_that_was_killed_is_waited_for_and_all_is_loaded_again(own: Own) -> None:
    page = visit(own.teacher, own.student)
    own.student.write("before = 1\n")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("before = 1")
    own.room.end(signal.SIGKILL)
    own.wire.cut()
    expect(page.locator("#offline")).to_be_visible()
    expect(page.locator("#status")).to_have_text("Not connected")
    own.room.open()
    expect(page.locator("#offline")).to_be_hidden(timeout=2 * PATIENCE)
    own.student.ready()
    own.student.write("after = 2\n")
    expect(page.locator("#seat-code .cm-content")).to_contain_text("after = 2")


@pytest.mark.full
def test_a_stream_that_falls_silent_is_begun_anew(wired: Own) -> None:
    context = wired.teacher.context
    context.add_init_script("delete window.SharedWorker")
    context.clock.install()
    page = enter(wired.teacher, wired.teacher.page.url).page
    page.reload()
    page.locator('body.ready #status[data-kind="saved"]').wait_for()
    expect(card(wired.teacher, wired.student)).to_be_visible()
    asked = wired.wire.asked
    wired.wire.silence()
    wired.student.page.locator("#hand").click()
    context.clock.fast_forward(31_000)
    expect(page.locator("#hands")).to_contain_text(wired.student.name)
    assert wired.wire.asked > asked


@pytest.mark.full
def test_a_browser_without_shared_workers_has_a_stream_of_its_own(newcomer: Newcomer, classroom: Classroom) -> None:
    teacher, student = newcomer(), newcomer()
    teacher.context.add_init_script("delete window.SharedWorker")
    enter(teacher, classroom.teacher)
    student.join(classroom)
    expect(card(teacher, student)).to_be_visible()


# --- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(newcomer: Newcomer, classroom: Classroom, student: Visitor, scheme: str) -> None:
    teacher = enter(newcomer(1366, 768, scheme), classroom.teacher)
    page = teacher.page
    found = {}
    student.run("nmae\n")
    student.page.locator("#hand").click()
    expect(page.locator("#hands")).to_contain_text(student.name)
    found["class"] = violations(page)
    for name in ("Joining", "Push exercise …", "Share code …"):
        page.get_by_role("button", name=name).click()
        found[name] = violations(page)
        page.keyboard.press("Escape")
    page.get_by_text("Menu", exact=True).click()
    found["menu"] = violations(page)
    page.get_by_role("button", name="Reserved and removed seats …").click()
    found["seats"] = violations(page)
    page.keyboard.press("Escape")
    student.page.keyboard.press("ControlOrMeta+Shift+Enter")
    visit(teacher, student)
    expect(page.locator("#seat-tests")).to_contain_text("Small numbers")
    found["seat"] = violations(page)
    page.get_by_role("button", name="Remove…").click()
    found["remove"] = violations(page)
    page.keyboard.press("Escape")
    page.get_by_role("link", name="Results").click()
    expect(page.locator("#progress")).to_contain_text(student.name)
    found["results"] = violations(page)
    student.page.locator("#hand").click()
    assert {name: faults for name, faults in found.items() if faults} == {}


@pytest.mark.full
def test_everything_can_be_done_by_keyboard(newcomer: Newcomer, classroom: Classroom) -> None:
    first, second = newcomer(), newcomer()
    first.join(classroom, "00 Anna")
    second.join(classroom, "00 Berta")
    teacher = newcomer(1366, 768)
    page, keys = teacher.page, teacher.page.keyboard
    address, _, key = classroom.teacher.partition("#")
    page.goto(address)
    expect(page.get_by_label("Key")).to_be_focused()
    keys.type(key)
    keys.press("Enter")
    page.locator("body.teacher.ready").wait_for()
    expect(card(teacher, second)).to_be_visible()

    tab_to(page, page.get_by_role("button", name="Freeze all"))
    keys.press("Space")
    expect(first.page.locator("#banner")).to_be_visible()
    keys.press("Space")
    expect(first.page.locator("#banner")).to_be_hidden()

    tab_to(page, page.locator('.card[tabindex="0"]'))  # one of them takes the focus, and the arrows lead to the others
    keys.press("Home")
    for _ in range(80):  # seats of other tests may come before it
        if card(teacher, first).evaluate("element => element === document.activeElement"):
            break
        keys.press("ArrowRight")
    expect(card(teacher, first)).to_be_focused()
    keys.press("ArrowRight")
    expect(card(teacher, second)).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#seat-name")).to_be_focused()
    expect(page.locator("#seat-name")).to_have_text("00 Berta")
    tab_to(page, page.get_by_role("button", name="Rename …"))
    keys.press("Enter")
    keys.press("ControlOrMeta+a")
    keys.type("00 Carla")
    keys.press("Enter")
    expect(page.locator("#seat-name")).to_have_text("00 Carla")
    expect(page.get_by_role("button", name="Rename …")).to_be_focused()
    tab_to(page, page.locator("#seat-code .cm-content"))
    tab_to(page, page.locator("#seat-output"))
    keys.press("Escape")
    second.name = "00 Carla"
    expect(card(teacher, second)).to_be_focused()

    tab_to(page, page.get_by_role("button", name="Share code …"), back=True)
    keys.press("Enter")
    tab_to(page, page.locator("#share-code .cm-content"))
    keys.type("shared = 1")
    keys.press("Escape")
    keys.press("Tab")
    keys.press("Enter")
    expect(page.locator("#going")).to_contain_text("Example")
    page.get_by_role("button", name="Stop sharing Example").click()


def tab_to(page: "sync_api.Page", target: "sync_api.Locator", *, back: bool = False) -> None:
    """Presses Tab until something has the focus, which must come within one round of the page."""
    for _ in range(80):
        page.keyboard.press("Shift+Tab" if back else "Tab")
        if target.evaluate("element => element === document.activeElement"):
            return
    raise AssertionError(f"the tab key does not lead to {target}")


@pytest.mark.full
def test_sixty_seats_are_on_one_screen(newcomer: Newcomer, own_classroom: Classroom) -> None:
    teacher = enter(newcomer(1366, 768), own_classroom.teacher)
    add = """async (name) => {
        const headers = { "Content-Type": "application/json" };
        return (await fetch("/api/teacher/seats", { method: "POST", headers, body: JSON.stringify({ name }) })).status;
    }"""
    for number in range(60):
        assert teacher.page.evaluate(add, f"Somebody {number}") == 201
    cards = teacher.page.locator(".card")
    expect(cards).to_have_count(60)
    assert all(box["y"] + box["height"] <= 768 for box in (each.bounding_box() for each in cards.all()) if box)
    sizes = cards.first.locator(".name, .exercise, .since").evaluate_all(
        "all => all.map(element => parseFloat(getComputedStyle(element).fontSize))"
    )
    assert min(sizes) >= 12
    assert json.dumps(teacher.page.evaluate("document.documentElement.scrollWidth")) == "1366"
