"""Loading of courses: the result for a good one, the message for every kind of fault, and the trials at the start."""

import asyncio
import re
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")

from proxybox.classroom.checks import Checks
from proxybox.classroom.course import (
    EXAMPLE,
    MOST_LESSONS,
    Course,
    CourseError,
    check_course,
    check_preload,
    find_course,
    load_course,
    new_course,
)
from proxybox.errors import SandboxStartError
from proxybox.policies import preset
from proxybox.teach.exercise import load_exercise
from proxybox.teach.grading import pack

EXERCISE = {"exercise.toml": 'title = "One"\n', "text.md": "# One\n", "data/sample/1.in": "1", "data/sample/1.ans": "1"}
WHOLE = """
title = "Whole"
language = "pt-BR"
syllabus = "about.md"
lessons = ["10-last", "9-first"]
seats = 12
guest = "./bin/pypy3"
packages = ["requirements.txt", "/usr"]
preload = ["json"]
randomness = 7

[limits]
wall_time = "30s"
cpu_time = 3
"""


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def exercise(folder: Path, settings: str = 'title = "One"\n') -> Path:
    return write(folder, {**EXERCISE, "exercise.toml": settings})


def faults(folder: Path) -> list[str]:
    with pytest.raises(CourseError) as caught:
        load_course(folder)
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def ids(course: Course) -> list[str]:
    return [lesson.id for lesson in course.lessons]


# --- what is found ----------------------------------------------------------------------------------------------------


def test_a_whole_one(tmp_path: Path) -> None:
    write(tmp_path, {"course.toml": WHOLE, "about.md": "# Abóut\n", "requirements.txt": ""})
    exercise(tmp_path / "9-first")
    exercise(tmp_path / "10-last", 'title = "Last"\npreload = ["csv"]\n[limits]\nwall_time = 5\ncpu_time = 9\n')
    exercise(tmp_path / "11-draft")
    course = load_course(tmp_path)
    assert (course.folder, course.title, course.language) == (tmp_path, "Whole", "pt-BR")
    assert (course.syllabus, course.seats) == ("# Abóut\n", 12)
    assert (course.guest, course.packages) == (f"{tmp_path}/bin/pypy3", (f"{tmp_path}/requirements.txt", "/usr"))
    assert ids(course) == ["10-last", "9-first"]
    assert (course.lessons[0].title, course.lessons[0].text) == ("Last", "# One\n")
    assert course.preload == ("json",)
    last, first = (lesson.exercise.policy for lesson in course.lessons)
    assert (last.limits.wall_time, last.limits.cpu_time, last.randomness) == (5, 3, 7)
    assert (first.limits.wall_time, first.limits.cpu_time, first.randomness) == (30, 3, 7)
    assert (first.preload, last.preload) == (("json",), ("csv", "json"))


def test_a_small_one(tmp_path: Path) -> None:
    write(tmp_path, {"course.toml": 'title = "Small"\n'})
    for name in ("10-c", "9-b", "a"):
        exercise(tmp_path / name)
    exercise(tmp_path / ".hidden")
    (tmp_path / "pictures").mkdir()
    course = load_course(tmp_path)
    assert (course.title, course.language, course.syllabus, course.seats) == ("Small", "en", "", 60)
    assert (course.guest, course.packages, course.preload) == (None, (), ())
    assert ids(course) == ["9-b", "10-c", "a"], "10 comes after 9"
    assert {lesson.exercise.policy for lesson in course.lessons} == {preset("classroom")}


def test_exercises_without_a_course(tmp_path: Path) -> None:
    folder = write(tmp_path / "Monday", {"syllabus.md": "# Plan\n"})
    exercise(folder / "1")
    exercise(folder / "2")
    course = load_course(folder)
    assert (course.title, course.syllabus, ids(course)) == ("Monday", "# Plan\n", ["1", "2"])


def test_a_single_exercise(tmp_path: Path) -> None:
    course = load_course(exercise(tmp_path / "My Exercise_1"))
    assert (course.title, ids(course), course.syllabus) == ("One", ["my-exercise-1"], "")
    assert course.lessons[0].exercise == load_exercise(tmp_path / "My Exercise_1")


def test_the_current_folder_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exercise(tmp_path / "area")
    monkeypatch.chdir(tmp_path / "area")
    assert ids(find_course(".")) == ["area"]


def test_the_example_is_meant_by_its_name_and_by_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exercise(tmp_path / EXAMPLE / "own")
    assert find_course() == find_course(EXAMPLE) == find_course(f"{EXAMPLE}/")
    assert find_course(f"./{EXAMPLE}").lessons[0].id == "own"


def test_what_is_graded_has_the_limits_of_the_course(tmp_path: Path) -> None:
    write(tmp_path, {"course.toml": 'title = "T"\n[limits]\ncpu_time = 1\n'})
    exercise(tmp_path / "a")
    course = load_course(tmp_path)
    packed = pack(course.lessons[0].exercise)
    assert load_exercise(tmp_path / "a", over=packed.over) == course.lessons[0].exercise
    assert packed.digest != pack(load_exercise(tmp_path / "a")).digest


def test_what_is_checked_for_students_has_them_too(tmp_path: Path) -> None:
    settings = (
        'title = "T"\n[output]\nlines = 2\non_excess = "end"\n[time]\nkind = "frozen"\nat = 2026-03-01T12:00:00Z\n'
    )
    write(tmp_path, {"course.toml": settings})
    tests = """
        def test_time(run_student):
            "Time"
            run_student("").expect_output("2026-03-01")

        def test_lines(run_student):
            "Lines"
            run_student("much").expect_output("2026-03-01")
    """
    exercise(tmp_path / "a")
    write(tmp_path / "a", {"tests/test_it.py": textwrap.dedent(tests)})
    code = b"import datetime, sys\nprint(datetime.date.today())\nif sys.stdin.read(): print('1\\n2\\n3')\n"

    async def check() -> list[str]:
        checks = Checks(quick=1, slow=1)
        await checks.start()
        try:
            grade = await checks.check("seat", pack(load_course(tmp_path).lessons[0].exercise), {"solution.py": code})
        finally:
            await checks.close()
        return [test.status for test in grade.tests]

    assert asyncio.run(check())[:2] == ["ok", "output_limit"]


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("", "course.toml: title: this key is needed"),
        ("title = 'T", "course.toml: not TOML: "),
        ("title = 'T'\ntitel = 1", "titel: there is no such key; did you mean title? (allowed: environment, guest, "),
        ("title = 'T'\nwall_time = 3", "wall_time: there is no such key; did you mean limits.wall_time?"),
        ("title = 'T'\nlanguage = 'english'", 'language: want the tag of a language (BCP 47), such as "en" or "pt-BR"'),
        ("title = 'T'\nseats = 0", "seats: want 1 to 1,000 seats, got 0"),
        ("title = 'T'\nseats = true", "seats: want a whole number, got True"),
        ("title = 'T'\nsyllabus = 'sylabus.md'", 'syllabus: there is no such file or folder, got \'sylabus.md\'; did '),
        ("title = 'T'\nsyllabus = '../x.md'", "syllabus: want a path in the folder, neither absolute nor with .."),
        ("title = 'T'\nlessons = []", "lessons: want a list of 1 to 200 folders with exercises, got []"),
        ("title = 'T'\nlessons = ['b']", "lessons[0]: there is no such file or folder, got 'b'"),
        ("title = 'T'\nlessons = ['a', 'a']", "lessons[1]: stands there twice, got 'a'"),
        ("title = 'T'\nlessons = ['../a']", "lessons[0]: want a name of a-z, 0-9 and -, at most 64 characters"),
        ("title = 'T'\nlessons = ['A']", "got 'A'; did you mean \"a\"?"),
        ("title = 'T'\nlessons = ['empty']", "empty/exercise.toml: cannot be read: No such file or directory"),
        ("title = 'T'\nguest = 3", 'guest: want the name or the path of an interpreter, such as "cpython", got 3'),
        ("title = 'T'\npackages = 'x'", "packages: want a list of paths, got 'x'"),
        ("title = 'T'\npackages = ['a', 'none']", "packages[1]: there is no such file or folder, got '"),
        ("title = 'T'\npreload = 'json'", "preload: want a list of module names"),
        ("title = 'T'\n[limits]\nwal_time = 3", "limits.wal_time: there is no such key; did you mean wall_time?"),
        ("title = 'T'\n[limits]\nmemory = '1M'", "limits.memory: want a size of 16M or more"),
        ("title = 'T'\n[limits]\ncalls = 0x" + "f" * 5000, "a number is too long, or something is nested too deeply"),
        ("title = 'T'\n[filesystem]\nbox = 'memory'", "filesystem: there is no such key"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(tmp_path: Path, settings: str, told: str) -> None:
    write(tmp_path, {"course.toml": settings, "empty/x": "", "syllabus.md": ""})
    exercise(tmp_path / "a")
    (found,) = faults(tmp_path)
    assert told in found


def test_all_faults_at_once_those_of_exercises_too(tmp_path: Path) -> None:
    settings = "titel = 1\nseats = 'x'\nguest = 1\nsyllabus = 'no.md'\n[limits]\nx = 1\n[output]\nlines = -1\n"
    write(tmp_path, {"course.toml": settings})
    exercise(tmp_path / "a", "points = -1\nhints = ['']\n")
    exercise(tmp_path / "b b")
    assert [re.split(": (?=want|this|there)", fault)[0] for fault in faults(tmp_path)] == [
        "course.toml: titel", "course.toml: title", "course.toml: seats", "course.toml: guest", "course.toml: limits.x",
        "course.toml: output.lines", "course.toml: syllabus", "b b", "a/exercise.toml: title",
        "a/exercise.toml: points", "a/exercise.toml: hints[0]",
    ]  # fmt: skip


def test_a_course_has_exercises(tmp_path: Path) -> None:
    told = "lessons: there are no exercises: want folders with exercise.toml, such as 01-print"
    assert faults(write(tmp_path, {"course.toml": "title = 'T'"})) == [f"course.toml: {told}"]
    (tmp_path / "course.toml").unlink()
    assert faults(tmp_path) == [f"course.toml: {told}"]


def test_a_course_is_bounded(tmp_path: Path) -> None:
    for number in range(MOST_LESSONS + 1):
        write(tmp_path, {f"e{number}/exercise.toml": ""})
    assert faults(tmp_path) == ["course.toml: lessons: there are 201 exercises; a course has at most 200"]


def test_what_is_no_course(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CourseError, match=r"^nowhere: there is no such folder$"):
        find_course("nowhere")
    with pytest.raises(CourseError, match=r"^first_step: there is no such folder; did you mean first-steps\?$"):
        find_course("first_step")
    with pytest.raises(CourseError, match="cannot be read: No such file or directory"):
        load_course(tmp_path / "nowhere")
    with pytest.raises(CourseError, match=r"exercise\.toml: not TOML"):
        load_course(write(tmp_path, {"exercise.toml": "="}))


# --- preload ----------------------------------------------------------------------------------------------------------

PACKAGES = {
    "packages/threads.py": "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    "packages/files.py": "kept = open(__file__)\n",
    "packages/fails.py": "1 / 0\n",
    "packages/fine.py": "",
}


def preloading(tmp_path: Path, settings: str) -> Course:
    write(tmp_path, {"course.toml": f"title = 'T'\npackages = ['packages']\n{settings}\n", **PACKAGES})
    for name in ("a", "b"):
        exercise(tmp_path / name)
    return load_course(tmp_path)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ("preload = ['json', 'none']", "course.toml: preload[1]: there is no such module in the box"),
        ("preload = ['fine', 'threads']", "preload: the module 'threads' of `preload` leaves a thread behind"),
        ("preload = ['files']", "course.toml: preload: the module 'files' of `preload` leaves a file open"),
        ("preload = ['fails']", "ZeroDivisionError"),
        ("preload = ['fine']\nrandomness = 7", "with a seed each box starts by itself, and would import them anew"),
    ],
)  # fmt: skip
def test_a_preload_that_cannot_be_copied_is_refused(tmp_path: Path, settings: str, told: str) -> None:
    course = preloading(tmp_path, settings)
    with pytest.raises(CourseError) as caught:
        check_preload(course)
    (problem,) = caught.value.problems
    assert told in str(problem)


def test_a_preload_of_one_exercise_is_tried_too(tmp_path: Path) -> None:
    course = preloading(tmp_path, "")
    exercise(tmp_path / "b", 'title = "B"\npreload = ["threads"]\n')
    check_preload(course)
    with pytest.raises(CourseError, match=r"b/exercise\.toml: preload: the module 'threads'"):
        check_preload(load_course(tmp_path))


def test_an_interpreter_that_is_not_there_is_no_fault_of_preload(tmp_path: Path) -> None:
    with pytest.raises(SandboxStartError, match="python4"):
        check_preload(preloading(tmp_path, "preload = ['fine']\nguest = 'python4'"))


def test_a_good_preload_passes(tmp_path: Path) -> None:
    check_preload(preloading(tmp_path, "preload = ['fine', 'json']"))


# --- a new one --------------------------------------------------------------------------------------------------------


def test_a_new_course_is_whole(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    new_course(folder)
    course = load_course(folder)
    assert ids(course) == ["01-greeting", "02-rectangle"]
    assert course.syllabus.startswith(f"# {course.title}\n")
    seen: list[str] = []
    found = check_course(course, workers=1, on_lesson=lambda lesson, _: seen.append(lesson.id))
    assert list(found) == seen == ids(course)
    assert [each for checks in found.values() for each in checks if each.problem] == []
    with pytest.raises(FileExistsError):
        new_course(folder)


def test_a_new_course_may_be_a_copy_of_the_example(tmp_path: Path) -> None:
    new_course(tmp_path / "mine", example=True)
    course, example = load_course(tmp_path / "mine"), find_course()
    assert (course.title, ids(course)) == (example.title, ids(example))
    assert not list((tmp_path / "mine").rglob("__pycache__"))
