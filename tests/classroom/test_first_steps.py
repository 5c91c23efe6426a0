"""The course that comes with proxybox: lessons are complete, models pass, wrong solutions and starters do not."""

import ast
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="a classroom is served by FastAPI (extra classroom)")
pytest.importorskip("markdown_it", reason="Markdown is read by markdown-it-py (extra classroom)")

import attrs

import proxybox
from proxybox.classroom.course import Course, CourseExercise, check_course, find_course
from proxybox.classroom.markdown import to_html

ROOT = Path(__file__).parents[2]
COURSE = find_course()
IDS = [lesson.id for lesson in COURSE.lessons]
#: A program in a text, with the output that the text shows.
EXAMPLE = re.compile(r"^```python\n(.*?)^```\n\n```\n(.*?)^```\n", re.MULTILINE | re.DOTALL)


@pytest.fixture(params=COURSE.lessons, ids=IDS)
def lesson(request: pytest.FixtureRequest) -> CourseExercise:
    found: CourseExercise = request.param
    return found


@pytest.fixture(scope="module")
def box() -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox("classroom") as sandbox:
        yield sandbox


def test_there_are_twelve() -> None:
    assert [name[:3] for name in IDS] == [f"{number:02}-" for number in range(1, 13)]


def test_the_syllabus_names_each_lesson() -> None:
    named = re.findall(r"^\| (\d+)\. (.+?) \|", COURSE.syllabus, re.MULTILINE)
    assert named == [(str(number), lesson.title) for number, lesson in enumerate(COURSE.lessons, 1)]
    assert COURSE.syllabus.startswith(f"# {COURSE.title}\n")


def test_each_is_whole(lesson: CourseExercise) -> None:
    exercise = lesson.exercise
    assert lesson.text.startswith(f"# {lesson.title}\n")
    assert "\n## Your task\n" in lesson.text
    assert exercise.file in exercise.starter_files()
    assert len(exercise.hints) == 3
    assert len(exercise.model_solutions()) >= 2
    assert len(exercise.wrong_solutions()) >= 3


def test_texts_and_hints_are_pages(lesson: CourseExercise) -> None:
    for text in (lesson.text, *lesson.exercise.hints):
        shown = to_html(text)
        assert not re.search(r"```|\*\*|\]\(", re.sub(r"<code.*?</code>", "", shown, flags=re.DOTALL))
    assert to_html(lesson.text).startswith("<h2>")


def test_examples_print_what_the_text_shows(lesson: CourseExercise, box: proxybox.Sandbox) -> None:
    for program, shown in EXAMPLE.findall(lesson.text):
        result = box.run(program)
        assert result.ok, result.stderr
        assert result.stdout.startswith(shown)


def test_most_texts_have_such_an_example() -> None:
    assert sum(bool(EXAMPLE.search(lesson.text)) for lesson in COURSE.lessons) >= 10


def test_starters_run(lesson: CourseExercise, box: proxybox.Sandbox) -> None:
    """Running a starter as it is ends without a traceback."""
    exercise = lesson.exercise
    files = exercise.starter_files()
    source = files[exercise.file].decode()
    result = box.run(source, files=files, stdin="1\n" * source.count("input("))
    assert result.ok, result.stderr


def test_names_of_tests_are_for_students(lesson: CourseExercise) -> None:
    assert lesson.exercise.tests is not None
    for path in lesson.exercise.tests.glob("test_*.py"):
        tests = [node for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("test_")]
        words = [ast.get_docstring(node) for node in tests if isinstance(node, ast.FunctionDef)]
        assert all(words)
        assert len(words) == len(set(words)) >= 4


@pytest.mark.sized(2)
@pytest.mark.parametrize("name", IDS)
def test_models_pass_and_all_others_do_not(name: str) -> None:
    chosen = tuple(lesson for lesson in COURSE.lessons if lesson.id == name)
    course: Course = attrs.evolve(COURSE, lessons=chosen)
    (checks,) = check_course(course, workers=1).values()
    assert {each.name: each.problem for each in checks} == dict.fromkeys((each.name for each in checks), "")
    assert "starter" in {each.name for each in checks}


def test_it_is_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["proxybox.classroom"]
    home = COURSE.folder.parent
    found = {path for folder in ("course", "template") for path in (home / folder).rglob("*")}
    files = {path for path in found if path.is_file() and "__pycache__" not in path.parts}
    assert files <= {path for pattern in patterns for path in home.glob(pattern)}
