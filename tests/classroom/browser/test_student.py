"""The student's page, as a student sees it: in a browser, with programs that really run."""

import re
import signal
from pathlib import Path

import pytest

from tests.classroom.browser.conftest import COURSE, PATIENCE, Classroom, Teacher, Visitor, open_classroom
from tests.explained import PROGRAMS

axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe checks pages (extra browser)")
expect = pytest.importorskip("playwright.sync_api", reason="browsers are driven by Playwright (extra browser)").expect
expect.set_options(timeout=PATIENCE)

#: A program that shows a picture of each kind.
PICTURES = """
import base64
SVG = ('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><style>*{fill:red}</style>'
       '<script>parent.document.title = "taken over"</script><rect width="9" height="9"/></svg>')
PNG = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
class Drawn:
    def _repr_svg_(self): return SVG
class Pixels:
    def _repr_png_(self): return base64.b64decode(PNG)
display(Drawn())
display(Pixels())
"""
#: JavaScript: waits until the service worker has cached everything that a page without a network needs: its own files
#: and those that they load. (wait_for_function takes a promise as true at once.)
SHELL_IS_KEPT = """async (patience) => {
  const loaded = performance.getEntriesByType("resource").map((entry) => new URL(entry.name));
  const ours = loaded.filter((url) => url.pathname.startsWith("/static/") && url.search === "");
  const wanted = ["/", "/static/stream-worker.js", ...ours.map((url) => url.pathname)];
  const end = performance.now() + patience;
  while (true) {
    const kept = (await (await caches.open("classroom")).keys()).map((request) => new URL(request.url).pathname);
    const missing = wanted.filter((path) => !kept.includes(path));
    if (missing.length === 0) return;
    if (performance.now() > end) throw new Error(`not kept: ${missing.join(", ")}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}"""
MARKUP = "<img src=x onerror=\"document.title='taken over'\"><b>bold</b>"


def violations(visitor: Visitor) -> list[str]:
    """Returns the violations of WCAG 2.2 A and AA, and of axe's own advice, on the current page."""
    found = axe_module.Axe().run(visitor.page).response["violations"]
    return [f"{each['id']}: {[node['target'] for node in each['nodes']]}" for each in found]


# --- joining ----------------------------------------------------------------------------------------------------------


def test_who_gives_a_name_and_the_code_gets_a_seat_that_a_reload_keeps(visitor: Visitor, classroom: Classroom) -> None:
    page = visitor.page
    page.goto(classroom.url)
    page.get_by_label("Your name").fill("Ada by the form")
    page.get_by_label("Code of the class").fill(classroom.code)
    page.get_by_role("button", name="Join").click()
    visitor.ready()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Twice as much")
    page.reload()
    visitor.ready()
    page.get_by_text("Menu", exact=True).click()
    expect(page.locator("#who")).to_have_text("Ada by the form")


def test_a_wrong_code_is_told_at_its_field(visitor: Visitor, classroom: Classroom) -> None:
    page = visitor.page
    page.goto(classroom.url)
    page.get_by_label("Your name").fill("Somebody")
    page.get_by_label("Code of the class").fill("WRONG")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Code of the class")).to_be_focused()
    expect(page.get_by_label("Code of the class")).to_have_attribute("aria-invalid", "true")


@pytest.mark.full
def test_the_own_code_leads_to_the_same_seat_from_another_device(student: Visitor, classroom: Classroom) -> None:
    student.write("here = 1\n")
    expect(student.page.locator("#status")).to_have_attribute("data-kind", "saved")
    student.page.get_by_text("Menu", exact=True).click()
    student.page.get_by_role("button", name="Use another device").click()
    code = student.page.locator(".bigcode").inner_text()
    context = student.context.browser.new_context()
    other = Visitor(context, context.new_page())
    other.listen(other.page)
    other.page.goto(classroom.url)
    other.page.get_by_text("I have been here before").click()
    other.page.get_by_label("Your own code").fill(code)
    other.page.get_by_role("button", name="Continue").click()
    other.ready()
    expect(other.page.locator("#editor .cm-content")).to_contain_text("here = 1")
    other.close()


# --- running ----------------------------------------------------------------------------------------------------------


def test_output_comes_with_its_colours(student: Visitor) -> None:
    student.run("print('\\x1b[31mred\\x1b[0m plain')\nimport sys\nprint('oh', file=sys.stderr)")
    expect(student.page.locator("#output .ansi-red")).to_have_text("red")
    expect(student.page.locator("#output .stderr").first).to_have_text("oh")


def test_a_program_asks_and_gets_what_is_typed(student: Visitor) -> None:
    student.begin("print('Hello', input('Who? '))\n")
    field = student.page.locator("#input-text")
    expect(field).to_be_focused()
    student.page.keyboard.type("Ada")
    student.page.keyboard.press("Enter")
    expect(student.page.locator("#output")).to_contain_text("Who? Ada\nHello Ada", use_inner_text=True)
    expect(student.page.locator("#editor .cm-content")).to_be_focused()


@pytest.mark.full
def test_the_end_of_input_is_a_button(student: Visitor) -> None:
    student.begin("import sys\nprint(len(sys.stdin.read()))\n")
    student.page.locator("#input").get_by_role("button", name="End").click()
    student.page.locator("#output .end").wait_for()
    expect(student.page.locator("#output")).to_contain_text("0")


def test_pictures_are_shown_and_run_nothing(student: Visitor) -> None:
    student.run(PICTURES)
    images = student.page.locator("#output img")
    expect(images).to_have_count(2)
    for i in range(2):
        assert images.nth(i).evaluate("image => image.decode().then(() => image.naturalWidth > 0)")
        assert images.nth(i).get_attribute("src").startswith("data:image/")
        assert images.nth(i).get_attribute("alt")
    assert "taken over" not in student.page.title()


@pytest.mark.full
def test_an_error_is_told_and_its_line_is_marked(student: Visitor) -> None:
    student.run("a = 1\nb = a / 0\n")
    page = student.page
    expect(page.locator("#output .end")).to_contain_text("ZeroDivisionError")
    expect(page.locator(".cm-lint-marker-error")).to_have_count(1)
    page.get_by_role("button", name="Line 2").click()
    expect(page.locator("#editor .cm-activeLine")).to_have_text("b = a / 0")


def test_the_mark_of_a_line_goes_when_the_line_is_changed(student: Visitor) -> None:
    student.run("a = 1\nb = a / 0\n")
    page, marks = student.page, student.page.locator(".cm-lint-marker-error")
    expect(marks).to_have_count(1)
    page.locator("#editor .cm-line").first.click()
    page.keyboard.press("End")
    page.keyboard.insert_text("0\nc = 2")
    expect(marks).to_have_count(1)  # the marker has moved with its line
    page.locator("#editor .cm-line").nth(2).click()
    page.keyboard.press("End")
    page.keyboard.press("Backspace")
    expect(marks).to_have_count(0)


def test_the_line_of_an_error_says_what_was_meant(student: Visitor) -> None:
    student.run("pritn(1)\n")
    expect(student.page.locator("#output .error-line")).to_contain_text(
        "NameError: name 'pritn' is not defined. Did you mean: 'print'?"
    )


@pytest.mark.full
def test_a_program_whose_time_is_up_is_told_its_loop(visitor: Visitor, tmp_path: Path) -> None:
    short = {**COURSE, "course.toml": f"{COURSE['course.toml']}[limits]\ncpu_time = 1\n"}
    with open_classroom(tmp_path, course=short) as room:
        page = visitor.join(room)
        visitor.run("n = 0\nwhile True:\n    n += 1\n")
        expect(page.locator("#output .error-line")).to_have_text(
            re.compile(r"The time is over: after \d+ s the program was still in the loop of line 2\. Line 2")
        )
        expect(page.locator("#output .end")).not_to_contain_text("Stopped")
        expect(page.locator("#output .end")).not_to_contain_text("limits.")
        expect(page.locator(".cm-lint-marker-error")).to_have_count(1)


@pytest.mark.sized(1)
@pytest.mark.parametrize("wants", PROGRAMS)
def test_what_a_box_has_not_is_told_as_everywhere(student: Visitor, wants: str) -> None:
    code, text = PROGRAMS[wants]
    student.run(code)
    seen = student.page.locator("#output .end")
    expect(seen).to_contain_text(text)
    assert not re.search(r"limits\.|--\w|pip|packages=", str(seen.inner_text()).rpartition("Error")[2])


@pytest.mark.full
def test_an_endless_loop_is_stopped_by_the_key(student: Visitor) -> None:
    student.begin("n = 0\nprint('begun')\nwhile True:\n    n += 1\n")
    expect(student.page.locator("#output")).to_contain_text("begun")
    student.page.get_by_role("button", name="Raise hand").click()
    expect(student.page.locator("#hand")).to_have_attribute("aria-pressed", "true")
    student.page.keyboard.press("ControlOrMeta+.")
    expect(student.page.locator("#output .end")).to_contain_text("Stopped")
    assert "42" in student.run("print(42)")


@pytest.mark.full
def test_a_program_that_does_not_stop_is_ended_by_the_second_press(student: Visitor) -> None:
    student.begin(
        "print('begun')\nwhile True:\n    try:\n        while True: pass\n"
        "    except BaseException:\n        print('still here')\n"
    )
    page = student.page
    expect(page.locator("#output")).to_contain_text("begun")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#output")).to_contain_text("still here")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#output .end")).to_contain_text("Stopped")


@pytest.mark.full
def test_a_flood_of_output_leaves_the_page_alive_and_bounded(student: Visitor) -> None:
    student.begin("for i in range(100_000): print(i)\nprint('last')\n")
    page = student.page
    page.locator("#output .end").wait_for()
    assert page.locator("#output .line").count() <= 5_000
    student.write("typed = True")
    expect(page.locator("#editor .cm-content")).to_contain_text("typed = True")


@pytest.mark.full
def test_names_and_output_with_markup_stay_text(visitor: Visitor, classroom: Classroom) -> None:
    page = visitor.join(classroom, name="<b>Bob</b>")
    page.get_by_text("Menu", exact=True).click()
    expect(page.locator("#who")).to_have_text("<b>Bob</b>")
    page.keyboard.press("Escape")
    assert MARKUP in visitor.run(f"print({MARKUP!r})")
    assert page.locator("#output b, #output img").count() == 0
    visitor.run(f"raise ValueError({MARKUP!r})")
    expect(page.locator("#output .end").first).to_contain_text("<b>bold</b>")
    page.get_by_role("button", name="Next exercise").click()
    expect(page.locator("#title")).to_have_text("Echo <b>bold</b>")
    expect(page.locator("#text")).to_contain_text("Write what you read.")
    assert "taken over" not in page.title()


# --- the prompt -------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_the_prompt_has_the_variables_of_the_last_run_and_a_history(student: Visitor) -> None:
    student.run("answer = 6 * 7\n")
    page = student.page
    page.get_by_role("tab", name="Prompt").click()
    field = page.get_by_label("Python statement")
    field.fill("answer")
    field.press("Enter")
    expect(page.locator("#prompt-output .value")).to_have_text("42")
    field.press_sequentially("for i in range(2):")
    field.press("Shift+Enter")
    field.press_sequentially("    print('round', i)")
    expect(page.locator("body:not(.running)")).to_have_count(1)
    field.press("Enter")
    expect(page.locator("#prompt-output")).to_contain_text("round 1")
    expect(page.locator("body:not(.running)")).to_have_count(1)
    field.press("ArrowUp")
    expect(field).to_have_value("for i in range(2):\n    print('round', i)")
    field.press("ControlOrMeta+Home")
    field.press("ArrowUp")
    expect(field).to_have_value("answer")


# --- tests, hints, handing in -----------------------------------------------------------------------------------------


@pytest.mark.full
def test_tests_say_what_is_missing_and_count_the_hidden_ones(student: Visitor) -> None:
    page = student.page
    page.get_by_role("button", name="Test", exact=True).click()
    expect(page.locator("#tests .test.failed").first).to_contain_text("Small numbers")
    expect(page.locator("#tests .test.failed .message").first).not_to_be_empty()
    expect(page.locator("#tests")).to_contain_text("Hidden tests: 0 of 1 passed")
    assert "Secret" not in page.content()
    student.write("def double(n):\n    return 2 * n\n")
    page.keyboard.press("ControlOrMeta+Shift+Enter")
    expect(page.locator("#tests")).to_contain_text("Hidden tests: 1 of 1 passed")
    expect(page.locator("#tests .test.failed")).to_have_count(0)


def test_hints_come_one_at_a_time_and_stay(student: Visitor) -> None:
    page = student.page
    page.get_by_role("button", name="Show a hint (1 of 2)").click()
    expect(page.locator("#hints-list li")).to_have_count(1)
    page.get_by_role("button", name="Show a hint (2 of 2)").click()
    expect(page.locator("#hints-list code")).to_have_text("2 * n")
    expect(page.locator("#hint")).to_be_hidden()
    page.reload()
    student.ready()
    expect(page.locator("#hints-list li")).to_have_count(2)


def test_handing_in_asks_once_and_tells_what_was_kept(student: Visitor) -> None:
    student.write("def double(n):\n    return n + n\n")
    page = student.page
    page.get_by_role("button", name="Hand in").click()
    page.get_by_role("dialog").get_by_role("button", name="Hand in").click()
    expect(page.locator(".notice").first).to_contain_text("solution.py")
    page.get_by_role("tab", name="Tests").click()
    expect(page.locator("#tests .handed")).to_contain_text(re.compile(r"tests passed"))


# --- saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_what_is_typed_is_there_after_a_reload(student: Visitor) -> None:
    student.write("kept = 1\n")
    expect(student.page.locator("#status")).to_have_attribute("data-kind", "saved")
    student.page.reload()
    student.ready()
    expect(student.page.locator("#editor .cm-content")).to_contain_text("kept = 1")


@pytest.mark.full
def test_what_is_typed_at_the_moment_of_a_reload_is_there_afterwards(student: Visitor) -> None:
    student.write("just_now = 1\n")
    student.page.reload()
    student.ready()
    expect(student.page.locator("#editor .cm-content")).to_contain_text("just_now = 1")


@pytest.mark.full
def test_without_a_network_one_types_on_and_it_is_sent_later(student: Visitor) -> None:
    page = student.page
    student.context.set_offline(True)
    student.write("offline = 1\n")
    expect(page.locator("#status")).to_contain_text("Not sent yet")
    page.keyboard.type("more = 2\n")
    student.context.set_offline(False)
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")
    page.reload()
    student.ready()
    expect(page.locator("#editor .cm-content")).to_contain_text("more = 2")


@pytest.mark.full
def test_a_server_that_was_killed_gets_what_was_typed_meanwhile(visitor: Visitor, own_classroom: Classroom) -> None:
    page = visitor.join(own_classroom)
    visitor.write("before = 1\n")
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")
    own_classroom.end(signal.SIGKILL)
    page.keyboard.type("while_away = 2\n")
    expect(page.locator("#status")).to_contain_text("Not sent yet")
    own_classroom.open()
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved", timeout=2 * PATIENCE)
    page.reload()
    visitor.ready()
    expect(page.locator("#editor .cm-content")).to_contain_text("while_away = 2")


@pytest.mark.full
def test_a_page_that_is_closed_without_a_network_leaves_its_text_to_the_next_one(
    student: Visitor, classroom: Classroom
) -> None:
    student.context.set_offline(True)
    student.write("closed = 1\n")
    expect(student.page.locator("#status")).to_contain_text("Not sent yet")
    student.page.close()
    student.context.set_offline(False)
    student.page = student.context.new_page()
    student.listen(student.page)
    student.page.goto(classroom.url)
    student.ready()
    expect(student.page.locator("#editor .cm-content")).to_contain_text("closed = 1")


@pytest.mark.full
def test_the_page_is_loaded_again_without_a_network(student: Visitor) -> None:
    page = student.page
    page.evaluate(SHELL_IS_KEPT, PATIENCE)
    student.context.set_offline(True)
    student.write("in_the_woods = 1\n")
    expect(page.locator("#status")).to_contain_text("Not sent yet")
    page.reload()
    page.locator("body.ready").wait_for()
    expect(page.locator("#editor .cm-content")).to_contain_text("in_the_woods = 1")
    student.context.set_offline(False)
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")


@pytest.mark.full
def test_output_of_a_run_that_goes_on_is_whole_after_a_reload_and_another_exercise(student: Visitor) -> None:
    page = student.page
    student.begin("for i in range(40):\n    print(f'<{i}>')\n    if i == 19: input('Go on? ')\n")
    expect(page.locator("#output")).to_contain_text("Go on?")
    page.reload()
    student.ready()
    expect(page.locator("#stop")).to_be_enabled()
    page.get_by_role("button", name="Next exercise").click()
    expect(page.locator("#title")).to_have_text("Echo <b>bold</b>")
    page.get_by_role("button", name="Previous exercise").click()
    page.locator("#input-text").fill("yes")
    page.locator("#input-text").press("Enter")
    page.locator("#output .end").wait_for()
    assert re.findall(r"<(\d+)>", page.locator("#output").inner_text()) == [str(i) for i in range(40)]


@pytest.mark.full
def test_two_tabs_of_one_student_show_the_same_text(student: Visitor, classroom: Classroom) -> None:
    other = student.context.new_page()
    student.listen(other)
    other.goto(classroom.url)
    other.locator('body.ready #status[data-kind="saved"]').wait_for()
    student.page.bring_to_front()
    student.write("from_the_first = 1\n")
    expect(other.locator("#editor .cm-content")).to_contain_text("from_the_first = 1")


# --- files and versions -----------------------------------------------------------------------------------------------


@pytest.mark.full
def test_files_are_added_used_renamed_and_deleted(student: Visitor) -> None:
    page = student.page
    page.get_by_role("button", name="File", exact=False).first.click()
    page.get_by_label("Name of the file").fill("helper.py")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="helper.py")).to_have_attribute("aria-selected", "true")
    student.write("def help_me(): return 'helped'\n")
    page.get_by_role("tab", name="solution.py").click()
    assert "helped" in student.run("import helper\nprint(helper.help_me())\n")
    page.get_by_role("tab", name="helper.py").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("F2")
    page.get_by_label("Name of the file").fill("other.py")
    page.keyboard.press("Enter")
    expect(page.get_by_role("tab", name="other.py")).to_be_visible()
    expect(page.get_by_role("tab", name="helper.py")).to_have_count(0)
    page.get_by_role("tab", name="other.py").focus()
    page.keyboard.press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("tab", name="other.py")).to_have_count(0)
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")
    page.reload()
    student.ready()
    expect(page.locator("#files [role=tab]")).to_have_text(["solution.py"])


@pytest.mark.sized(2)
@pytest.mark.parametrize("name", ["../out.py", "/etc/passwd", ".hidden", "a//b.py", "bad\u202ename.py"])
def test_names_that_are_none_are_told(student: Visitor, name: str) -> None:
    page = student.page
    page.locator("#add-file").click()
    page.get_by_label("Name of the file").fill(name)
    page.keyboard.press("Enter")
    expect(page.locator(".notice.bad")).to_be_visible()
    expect(page.locator("#files [role=tab]")).to_have_count(1)


@pytest.mark.full
def test_an_older_version_is_compared_and_brought_back(student: Visitor) -> None:
    page = student.page
    student.write("def double(n):\n    return 'wrong'\n")
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")
    page.get_by_role("button", name="Versions").click()
    page.get_by_role("button", name="as it was at the beginning").click()
    expect(page.locator(".diff .gone").first).to_contain_text("pass")
    expect(page.locator(".diff .new").first).to_contain_text("return 'wrong'")
    page.get_by_label("Show").select_option("sides")
    expect(page.locator(".diff.sides .new")).to_contain_text("return 'wrong'")
    page.get_by_role("button", name="Bring this version back").click()
    expect(page.locator("#editor .cm-content")).to_contain_text("pass")
    expect(page.locator("#status")).to_have_attribute("data-kind", "saved")
    page.reload()
    student.ready()
    expect(page.locator("#editor .cm-content")).to_contain_text("pass")


def test_the_code_is_downloaded(student: Visitor, tmp_path: Path) -> None:
    student.write("mine = 'ä'\n")
    student.page.get_by_text("Menu", exact=True).click()
    with student.page.expect_download() as began:
        student.page.get_by_role("button", name="Download my code").click()
    target = tmp_path / "kept"
    began.value.save_as(target)
    assert target.read_text() == "mine = 'ä'\n"
    assert began.value.suggested_filename == "solution.py"


@pytest.mark.full
def test_completion_comes_from_the_box(student: Visitor) -> None:
    student.run("import math\n")
    student.page.keyboard.type("math.sq")
    expect(student.page.locator(".cm-tooltip-autocomplete")).to_contain_text("sqrt")
    student.page.locator(".cm-tooltip-autocomplete li").get_by_text("sqrt").click()
    expect(student.page.locator("#editor .cm-content")).to_contain_text("math.sqrt")


def test_a_text_that_is_too_long_is_not_taken(student: Visitor) -> None:
    student.write("short = 1\n")
    student.page.locator("#editor .cm-content").evaluate(
        """element => {
            const data = new DataTransfer();
            data.setData("text/plain", "x".repeat(10 * 1024 * 1024));
            element.dispatchEvent(new ClipboardEvent("paste", {clipboardData: data, bubbles: true, cancelable: true}));
        }"""
    )
    expect(student.page.locator(".notice.bad")).to_contain_text("too long")
    expect(student.page.locator("#editor .cm-content")).to_have_text("short = 1")


# --- what the teacher does --------------------------------------------------------------------------------------------


@pytest.mark.full
def test_while_all_look_at_the_teacher_nothing_can_be_typed_or_run(student: Visitor, teacher: Teacher) -> None:
    page = student.page
    student.write("before = 1\n")
    teacher.send("freeze", frozen=True)
    expect(page.locator("#banner")).to_contain_text("Eyes on the teacher")
    expect(page.locator("#run")).to_be_disabled()
    page.locator("#editor .cm-content").click()
    page.keyboard.type("nothing")
    expect(page.locator("#editor .cm-content")).to_have_attribute("aria-readonly", "true")
    assert "nothing" not in page.locator("#editor .cm-content").inner_text()
    teacher.send("freeze", frozen=False)
    expect(page.locator("#banner")).to_be_hidden()
    assert "42" in student.run("print(42)")


def test_code_that_is_shared_is_read_and_copied_as_text(student: Visitor, teacher: Teacher) -> None:
    page = student.page
    files = {"solution.py": f"shared = {MARKUP!r}\n"}
    share = teacher.send("share", exercise="01-double", title="<i>Look</i>", files=files)
    page.get_by_role("tab", name="Shared").click()
    page.get_by_role("button", name="<i>Look</i>").click()
    shown = page.locator("#share-editor .cm-content")
    expect(shown).to_contain_text("<b>bold</b>")
    shown.click()
    page.keyboard.type("nothing")
    expect(shown).not_to_contain_text("nothing")
    page.get_by_role("button", name="Copy into my editor").click()
    expect(page.get_by_role("tab", name="shared_solution.py")).to_have_attribute("aria-selected", "true")
    expect(page.locator("#editor .cm-content")).to_contain_text("<b>bold</b>")
    teacher.delete(f"share/{share['id']}")
    expect(page.locator("#shares-count")).to_be_hidden()


def test_an_exercise_that_is_pushed_opens_and_what_was_typed_stays(student: Visitor, teacher: Teacher) -> None:
    page = student.page
    student.write("half_done = 1\n")
    teacher.send("push", exercise="02-echo")
    expect(page.locator("#title")).to_have_text("Echo <b>bold</b>")
    page.get_by_role("button", name="Back to Twice as much").click()
    expect(page.locator("#editor .cm-content")).to_contain_text("half_done = 1")
    teacher.send("push", exercise=None)


def test_who_is_removed_is_asked_to_join_again(student: Visitor, teacher: Teacher) -> None:
    teacher.change(student.name, removed=True)
    expect(student.page.get_by_role("alert")).to_contain_text("not in this class")
    expect(student.page.get_by_label("Code of the class")).to_be_visible()


# --- for everybody ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_page_that_asks_to_join(visitor: Visitor, classroom: Classroom, theme: str) -> None:
    visitor.page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    visitor.page.goto(classroom.url)
    visitor.page.get_by_text("I have been here before").click()
    visitor.page.get_by_role("button", name="Join").click()
    expect(visitor.page.get_by_role("alert")).to_be_visible()
    assert violations(visitor) == []


@pytest.mark.full
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_on_the_students_page(student: Visitor, theme: str) -> None:
    page = student.page
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    student.run(
        "# a comment\nclass Thing:\n    'text'\n    n = 12\nfor i in range(30, 38):\n"
        "    print(f'\\x1b[{i}mcolour\\x1b[0m \\x1b[{i + 10}mground\\x1b[0m')\nprint(Thing.nothing)\n"
    )
    page.get_by_role("button", name="Show a hint").click()
    page.locator("#hints-list li").first.wait_for()
    page.get_by_role("button", name="Raise hand").click()
    expect(page.locator("#hand")).to_have_attribute("aria-pressed", "true")
    assert violations(student) == []
    page.get_by_role("button", name="Test", exact=True).click()
    page.locator("#tests .test").first.wait_for()
    page.get_by_role("tab", name="Course").click()
    assert violations(student) == []
    page.get_by_text("Menu", exact=True).click()
    page.get_by_role("tab", name="Prompt").focus()
    page.get_by_text("Menu", exact=True).click()
    assert violations(student) == []
    page.get_by_role("button", name="Keys and help").click()
    assert violations(student) == []
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Versions").click()
    page.locator("#history-shown table, #history-shown p").first.wait_for()
    assert violations(student) == []


@pytest.mark.sized(2)
@pytest.mark.parametrize(("width", "height"), [(1000, 700), (768, 1024), (500, 350), (320, 640)])
def test_nothing_is_cut_off_at_any_size(student: Visitor, width: int, height: int) -> None:
    page = student.page
    page.set_viewport_size({"width": width, "height": height})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for name in ("Run", "Stop", "Test", "Hand in", "Raise hand"):
        button = page.get_by_role("button", name=re.compile(f"^{name}"))
        button.scroll_into_view_if_needed()
        box = button.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert min(box["width"], box["height"]) >= 24


@pytest.mark.full
def test_the_keyboard_alone_joins_types_runs_and_hands_in(visitor: Visitor, classroom: Classroom) -> None:
    page = visitor.page
    page.goto(classroom.url)
    expect(page.get_by_label("Your name")).to_be_focused()
    page.keyboard.type("Keys alone")
    page.keyboard.press("Tab")
    page.keyboard.type(classroom.code)
    page.keyboard.press("Enter")
    visitor.ready()
    page.keyboard.press("Tab")
    expect(page.get_by_text("Go to the editor")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    expect(page.locator("#editor .cm-content")).to_be_focused()
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.press("Delete")
    page.keyboard.type("def double(n):\nreturn 2 * n")
    page.keyboard.press("ControlOrMeta+Enter")
    page.locator("#output .end.good").wait_for()
    page.keyboard.press("Escape")
    for name in ("run", "check", "hand-in"):
        page.keyboard.press("Tab")
        expect(page.locator(f"#{name}")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog").get_by_role("button", name="Hand in")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator(".notice").first).to_contain_text("Handed in")
