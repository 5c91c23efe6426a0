"""Grades of hand-ins: one for each, the same everywhere, and another one when the tests were corrected."""

import asyncio
import contextlib
import csv
import io
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from proxybox.classroom import grading
from proxybox.classroom.connected import Connected
from proxybox.classroom.course import load_course
from proxybox.classroom.models import Save
from proxybox.classroom.reading import sheets_of
from proxybox.classroom.records import HandIn
from proxybox.classroom.store import ClassStore
from proxybox.classroom.work import StudentWork
from proxybox.teach.grades import Grade
from tests.classroom.attacking import Events, Student, Target, target, write_course

RIGHT = "def double(n):\n    return 2 * n\n"
WRONG = "def double(n):\n    return 7\n"
#: Both tests are wrong: a right solution does not pass.
FALSE_TESTS = (
    "def test_two(student):\n    student.expect('double', 2, returns=5)\n\n\n"
    "def test_three(student):\n    student.expect('double', 3, returns=7)\n"
)
TRUE_TESTS = FALSE_TESTS.replace("returns=5", "returns=4").replace("returns=7", "returns=6")


def exercise(tests: str, title: str = "Twice") -> dict[str, str]:
    return {
        "exercise.toml": f'title = "{title}"\n', "text.md": "Write `double(n)`.\n",
        "starter/solution.py": "def double(n):\n    pass\n", "tests/test_double.py": tests,
    }  # fmt: skip


def course(**exercises: Mapping[str, str]) -> dict[str, str]:
    return {
        "course.toml": 'title = "Course"\n',
        **{f"{name}/{file}": text for name, files in exercises.items() for file, text in files.items()},
    }


@attrs.frozen
class Class:
    """An open class, its course, and its teacher."""

    room: Target
    folder: Path
    teacher: httpx.Client

    def mend(self, file: str, text: str) -> None:
        """Writes a file of the course, and waits until the classroom has loaded it again."""
        with Events(self.teacher, "/api/teacher/events") as events:
            self.write(file, text)
            events.until("course")

    def write(self, file: str, text: str) -> None:
        path = self.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.name}.new")  # as editors do it: the file is complete, or not there
        new.write_text(text)
        new.rename(path)

    def state(self) -> Any:
        return self.teacher.get("/api/teacher/state").json()

    def mark(self, student: Student, exercise: str) -> Any:
        """Returns the hand-in as the teacher's page shows it."""
        row = next(row for row in self.state()["seats"] if row["id"] == student.id)
        return row["progress"][exercise]["handed_in"]

    def csv(self, exercise: str) -> dict[str, dict[str, str]]:
        seen = self.teacher.get("/api/teacher/export/grades", params={"exercise": exercise, "format": "csv"}).text
        return {row["student"]: row for row in csv.DictReader(io.StringIO(seen.removeprefix("\ufeff")))}

    def hand_in(self, exercise: str, code: str) -> Student:
        """Joins and hands in; returns the student after the grade."""
        student = self.room.join()
        hand_in(student, exercise, code)
        return student


def hand_in(student: Student, exercise: str, code: str) -> Any:
    with student.events() as events:
        answer = student.ask("hand-in", {"solution.py": code}, exercise)
        assert answer.status_code == 201, answer.text
        return events.until("graded")[-1][1]["handed_in"]


def ask(student: Student, what: str, exercise: str, code: str) -> Any:
    """Sends "run" or "check", and returns the last event of it."""
    with student.events() as events:
        answer = student.ask(what, {"solution.py": code}, exercise)
        assert answer.status_code == 202, answer.text
        return events.until("checked" if what == "check" else "finished")[-1][1]


def scores(seen: Any) -> tuple[int, int] | None:
    return None if seen is None else (seen["passed"], seen["total"])


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    """One class for all tests: each changes an exercise of its own."""
    folder = tmp_path_factory.mktemp("class")
    files = course(one=exercise(TRUE_TESTS), mended=exercise(FALSE_TESTS), broken=exercise("def test(:\n"),
                   toml=exercise(TRUE_TESTS), policy=exercise(TRUE_TESTS), command=exercise(FALSE_TESTS),
                   now=exercise(TRUE_TESTS))  # fmt: skip
    with target(folder, files=files) as room:
        yield Class(room, folder / "course", room.teacher())


def test_a_hand_in_has_one_grade_which_all_read(group: Class) -> None:
    """The grid, the file of grades and the student's page show the same grade, whatever is typed and tested later."""
    student = group.hand_in("one", RIGHT)
    ask(student, "check", "one", WRONG)
    row = next(row for row in group.state()["seats"] if row["id"] == student.id)["progress"]["one"]
    assert (scores(row["handed_in"]["score"]), scores(row["now"])) == ((2, 2), (0, 2))
    mine = next(each for each in student.http.get("/api/me").json()["course"]["exercises"] if each["id"] == "one")
    assert (scores(mine["handed_in"]["score"]), scores(mine["now"])) == ((2, 2), (0, 2))
    page = student.http.get("/api/exercises/one").json()
    assert (scores(page["handed_in"]["score"]), scores(page["results"])) == ((2, 2), (0, 2))
    looked = group.teacher.get(f"/api/teacher/seats/{student.id}", params={"exercise": "one"}).json()
    assert (scores(looked["handed_in"]["score"]), scores(looked["results"])) == ((2, 2), (0, 2))
    seen = group.csv("one")[student.me["name"]]
    assert (float(seen["score"]), float(seen["possible"]), seen["status"]) == (2.0, 2.0, "ok")


def test_what_was_tested_before_the_hand_in_is_not_the_state_now(group: Class) -> None:
    """Where nothing was tested since, the state now is the grade of the hand-in, also after it is graded again."""
    student = group.room.join()
    ask(student, "check", "now", WRONG)
    with student.events() as events:
        assert student.ask("hand-in", {"solution.py": RIGHT}, "now").status_code == 201
        seen = events.until("graded")[-1][1]
    assert (scores(seen["handed_in"]["score"]), scores(seen["results"])) == ((2, 2), (2, 2))

    def states() -> tuple[Any, Any, Any]:
        row = next(row for row in group.state()["seats"] if row["id"] == student.id)["progress"]["now"]
        page = student.http.get("/api/exercises/now").json()
        return scores(row["handed_in"]["score"]), scores(row["now"]), scores(page["results"])

    assert states() == ((2, 2), (2, 2), (2, 2))
    group.mend("now/tests/test_double.py", FALSE_TESTS)
    with student.events() as events:
        group.teacher.post("/api/teacher/grade-again", json={"exercise": "now"})
        assert scores(events.until("graded")[-1][1]["results"]) == (0, 2)
    assert states() == ((0, 2), (0, 2), (0, 2))
    ask(student, "check", "now", WRONG)
    with student.events() as events:
        group.teacher.post("/api/teacher/grade-again", json={"exercise": "now"})
        assert "results" not in events.until("graded")[-1][1]  # newer test results stay


def test_mended_tests_are_read_anew_and_grade_again(group: Class) -> None:
    """Without a restart: old grades are marked, one request gives new ones, and the student sees both."""
    student = group.hand_in("mended", RIGHT)
    ask(student, "check", "mended", RIGHT)
    before = group.mark(student, "mended")
    assert (scores(before["score"]), before["is_outdated"]) == ((0, 2), False)

    group.mend("mended/tests/test_double.py", TRUE_TESTS)
    marked = group.mark(student, "mended")
    assert (scores(marked["score"]), marked["is_outdated"]) == ((0, 2), True)
    page = student.http.get("/api/exercises/mended").json()
    assert page["handed_in"]["is_outdated"] is True
    assert page["results"]["is_outdated"] is True

    with student.events() as events:
        answer = group.teacher.post("/api/teacher/grade-again", json={"exercise": "mended"})
        assert (answer.status_code, answer.json()) == (202, {"count": 1})
        mine = events.until("graded")[-1][1]["handed_in"]
    assert (scores(mine["score"]), scores(mine["earlier"]["score"]), mine["is_outdated"]) == ((2, 2), (0, 2), False)
    assert mine["graded"] > mine["earlier"]["at"] >= mine["at"]
    now = group.mark(student, "mended")
    assert (scores(now["score"]), scores(now["earlier"]["score"]), now["is_due"]) == ((2, 2), (0, 2), False)
    assert float(group.csv("mended")[student.me["name"]]["score"]) == 2.0
    assert group.teacher.post("/api/teacher/grade-again", json={"exercise": "none"}).status_code == 404


@pytest.mark.full
def test_tests_that_cannot_run_give_no_grade_and_grade_by_themselves_once_mended(group: Class) -> None:
    student = group.hand_in("broken", RIGHT)
    mark = group.mark(student, "broken")
    assert (mark["score"], mark["has_failed"]) == (None, True)
    assert "def test(:" in group.state()["grading_faults"]["broken"]
    assert group.csv("broken")[student.me["name"]]["score"] == ""
    with student.events() as events:
        group.write("broken/tests/test_double.py", TRUE_TESTS)
        mine = events.until("graded")[-1][1]["handed_in"]
    assert (scores(mine["score"]), mine["has_failed"], mine["earlier"]) == ((2, 2), False, None)
    assert "broken" not in group.state()["grading_faults"]

    group.mend("broken/tests/test_double.py", "def test(:\n")  # wrong again: the grade stays
    with student.events() as events:
        group.teacher.post("/api/teacher/grade-again", json={"exercise": "broken"})
        mine = events.until("graded")[-1][1]["handed_in"]
    assert (scores(mine["score"]), mine["is_outdated"]) == ((2, 2), True)


@pytest.mark.full
def test_a_course_with_a_fault_stays_as_it_was_and_the_fault_is_told(group: Class) -> None:
    with Events(group.teacher, "/api/teacher/events") as events:
        group.write("toml/exercise.toml", 'title = "Twice"\ntset = "x"\n')
        seen = next(data for name, data in iter(events.next, None) if name == "state" and data["course_fault"])
    assert "tset" in seen["course_fault"]
    student = group.room.join()
    assert ask(student, "check", "toml", RIGHT)["results"]["passed"] == 2
    group.mend("toml/exercise.toml", 'title = "Two times"\n')
    assert group.state()["course_fault"] == ""
    assert student.http.get("/api/exercises/toml").json()["title"] == "Two times"


@pytest.mark.full
def test_an_exercise_that_is_new_is_there_and_a_policy_that_is_new_is_not(group: Class) -> None:
    with Events(group.teacher, "/api/teacher/events") as events:
        for file, text in exercise(TRUE_TESTS, "New").items():
            group.write(f"new/{file}", text)
        while "new" not in [each["id"] for each in group.state()["course"]["exercises"]]:
            events.until("course")
    student = group.hand_in("new", RIGHT)
    assert scores(group.mark(student, "new")["score"]) == (2, 2)
    assert ask(student, "run", "new", "print('runs')\n")["status"] == "ok"

    with Events(group.teacher, "/api/teacher/events") as events:
        group.write("policy/exercise.toml", 'title = "Twice"\n[limits]\nmemory = "99M"\n')
        seen = next(data for name, data in iter(events.next, None) if name == "state" and data["course_fault"])
    assert seen["course_fault"] == "policy: its policy has changed: end the classroom and start it again"
    group.write("policy/exercise.toml", 'title = "Twice"\n')


# --- the command ------------------------------------------------------------------------------------------------------


def regrade(group: Class, *options: str) -> tuple[int, list[dict[str, Any]]]:
    command = [sys.executable, "-P", "-m", "proxybox", "classroom", "regrade", "--json", "--data", str(group.room.data)]
    done = subprocess.run([*command, *options, str(group.folder)], capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.full
def test_a_command_has_an_open_classroom_grade_again(group: Class) -> None:
    student = group.hand_in("command", RIGHT)
    group.write("command/tests/test_double.py", TRUE_TESTS)  # the classroom may not have noticed the change yet
    with student.events() as events:
        status, (seen,) = regrade(group, "--exercise", "command")
        mine = events.until("graded")[-1][1]["handed_in"]
    assert (status, seen["name"], scores(seen["before"]), scores(seen["now"])) == (
        0,
        student.me["name"],
        (0, 2),
        (2, 2),
    )
    assert (scores(mine["score"]), scores(mine["earlier"]["score"])) == ((2, 2), (0, 2))


@pytest.mark.full
def test_a_command_grades_again_while_no_classroom_is_open(tmp_path: Path) -> None:
    with target(tmp_path, files=course(one=exercise(FALSE_TESTS), two=exercise(TRUE_TESTS))) as room:
        group = Class(room, tmp_path / "course", room.teacher())
        group.hand_in("one", RIGHT)
        group.hand_in("two", RIGHT)
    group.write("one/tests/test_double.py", TRUE_TESTS)
    status, (seen,) = regrade(group, "--outdated")
    assert (status, seen["exercise"], scores(seen["before"]), scores(seen["now"])) == (0, "one", (0, 2), (2, 2))
    assert regrade(group, "--outdated") == (0, [])
    group.write("one/tests/test_double.py", "def test(:\n")
    status, (seen,) = regrade(group, "--exercise", "one")
    assert (status, scores(seen["now"])) == (0, (2, 2))  # a grade stays when grading fails


def test_a_command_for_what_is_not_there_says_so(tmp_path: Path) -> None:
    folder = write_course(tmp_path / "course", course(loops=exercise(TRUE_TESTS)))
    command = [sys.executable, "-P", "-m", "proxybox", "classroom", "regrade", "--data", str(tmp_path / "data")]
    for options, words in [
        (["--exercise", "loop"], "there is no exercise loop in this course: did you mean loops?"),
        ([], "there is no class here"),
    ]:
        done = subprocess.run([*command, *options, str(folder)], capture_output=True, text=True, timeout=60)
        assert (done.returncode, words in done.stderr) == (125, True), done.stderr
    assert not (tmp_path / "data").exists()


# --- what a grade depends on ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "text", "changes"),
    [
        ("exercise.toml", 'title = "Other"\nhints = ["A hint."]\ndeadline = 2030-01-01T00:00:00Z\n', False),
        ("text.md", "Another text.\n", False),
        ("starter/solution.py", "# more\n", False),
        ("solutions/right.py", RIGHT, False),
        ("exercise.toml", 'title = "Twice"\npoints = 2\n', True),
        ("exercise.toml", 'title = "Twice"\n[rules]\nforbid = ["import"]\n', True),
        ("exercise.toml", 'title = "Twice"\n[limits]\ncpu_time = 1\n', True),
        ("tests/test_double.py", TRUE_TESTS + "# mended\n", True),
        ("conftest.py", "", True),
        ("files/table.txt", "1\n", True),
        ("tests/.test_double.py.swp", "what an editor keeps there", False),
        ("tests/test_double.py~", "", False),
    ],
)
def test_only_what_a_grade_depends_on_marks_it(tmp_path: Path, file: str, text: str, changes: bool) -> None:
    folder = write_course(tmp_path / "course", course(one=exercise(TRUE_TESTS)))
    before = sheets_of(load_course(folder))["one"]
    write_course(folder / "one", {file: text})
    after = sheets_of(load_course(folder))["one"]
    assert (after.basis != before.basis) == changes
    assert after.packed.digest != before.packed.digest


def test_a_course_lays_over_what_a_grade_depends_on(tmp_path: Path) -> None:
    folder = write_course(tmp_path / "course", course(one=exercise(TRUE_TESTS)))
    before = sheets_of(load_course(folder))["one"].basis
    (folder / "course.toml").write_text('title = "Course"\n[limits]\ncpu_time = 1\n')
    assert sheets_of(load_course(folder))["one"].basis != before


# --- who has handed in the same ---------------------------------------------------------------------------------------


def test_hand_ins_that_are_the_same_are_told_however_short(group: Class) -> None:
    short = "print('Ada')\n"
    students = [group.hand_in("one", code) for code in (short, f"{short}\n", "print('Eve')\n")]
    seen = group.teacher.get("/api/teacher/similar", params={"exercise": "one"}).json()
    pair = next(each for each in seen["pairs"] if students[0].id in (each["first"], each["second"]))
    assert {pair["first"], pair["second"]} == {students[0].id, students[1].id}
    assert (pair["is_identical"], pair["share"]) == (True, 1.0)
    assert {student.id for student in students} <= set(seen["too_short"])
    files = group.teacher.get(f"/api/teacher/seats/{students[0].id}/exercises/one/handed-in").json()["files"]
    assert files == {"solution.py": short}


# --- who waits for whom -----------------------------------------------------------------------------------------------


def test_hand_ins_that_do_not_end_hold_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are more of them than are graded at the same time. Those that are stopped stay due."""
    monkeypatch.setattr(grading, "_PLACE", 0.01)
    sheets = sheets_of(load_course(write_course(tmp_path / "course", course(one=exercise(TRUE_TESTS)))))

    class Tests:
        """Stands for the processes that run tests: a loop never ends."""

        async def check(self, key: str, _: object, files: Mapping[str, bytes], *, deadline: float | None) -> Grade:
            if b"while" in files["solution.py"]:
                await asyncio.Event().wait()
            return Grade(student=key)

    async def grade(store: ClassStore) -> tuple[str, set[str]]:
        work = StudentWork(store, sheets)
        for number in range(3 * grading._AT_ONCE):
            await work.hand_in(f"loop {number}", sheets["one"], Save(files={"solution.py": "while True: pass\n"}))
        good, _ = await work.hand_in("good", sheets["one"], Save(files={"solution.py": RIGHT}))
        tests: Any = Tests()
        graded: asyncio.Queue[HandIn] = asyncio.Queue()
        doing = grading.Grading(store, work, tests, sheets)
        doing.on_graded.append(graded.put)
        task = asyncio.create_task(doing.grade_due())
        async with asyncio.timeout(60):
            assert (await graded.get()).id == good.id
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return good.id, set(await store.do(Connected.due))

    with contextlib.closing(ClassStore(str(tmp_path / "class.sqlite"))) as store:
        good, due = asyncio.run(grade(store))
    assert len(due) == 3 * grading._AT_ONCE
    assert good not in due
