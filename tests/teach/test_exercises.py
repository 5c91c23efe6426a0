"""The exercises that come with proxybox: each is complete, its models pass all tests, its wrong solutions do not."""

import ast
import tomllib
from pathlib import Path

import pytest

import proxybox
from proxybox.teach.checking import check_exercise
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.rules import check_rules

ROOT = Path(__file__).parents[2]
EXERCISES = Path(proxybox.__file__).parent / "teach" / "exercises"
TEMPLATE = EXERCISES.parent / "template"
FOLDERS = sorted(path for path in EXERCISES.iterdir() if path.is_dir())


@pytest.fixture(params=FOLDERS, ids=lambda folder: folder.name)
def exercise(request: pytest.FixtureRequest) -> Exercise:
    return load_exercise(request.param)


def test_there_are_ten() -> None:
    assert [folder.name[:3] for folder in FOLDERS] == [f"{number:02}-" for number in range(1, 11)]


def test_two_at_least_have_data() -> None:
    assert sum(bool(load_exercise(folder).data_cases()) for folder in FOLDERS) >= 2


def test_each_is_whole(exercise: Exercise) -> None:
    assert exercise.text.startswith(f"# {exercise.title}\n")
    assert exercise.file in exercise.starter_files()
    assert exercise.model_solutions()
    assert len(exercise.hints) == 3
    wrong = [each.student for each in exercise.wrong_solutions()]
    assert len(wrong) >= 3
    assert "constant" in wrong, "one that tries to cheat"


def test_starters_can_be_parsed_and_solve_nothing(exercise: Exercise) -> None:
    starter = exercise.starter_files()
    for name, data in starter.items():
        if name.endswith(".py"):
            ast.parse(data.decode())
    assert all(starter[exercise.file] != each.main(exercise.file) for each in exercise.model_solutions())


@pytest.mark.sized(5)
def test_models_keep_the_rules(exercise: Exercise) -> None:
    for model in exercise.model_solutions():
        assert check_rules(model.main(exercise.file).decode(), exercise.rules) == []


def test_no_hint_is_a_solution(exercise: Exercise) -> None:
    lines = {
        line.strip() for model in exercise.model_solutions() for line in model.main(exercise.file).decode().splitlines()
    }
    given = exercise.starter_files()[exercise.file].decode()
    for hint in exercise.hints:
        copied = [line for line in lines if len(line) > 12 and line not in given and line in hint]
        assert len(copied) <= 1, "at most one line, to show how it is written"


def test_names_of_tests_are_for_students(exercise: Exercise) -> None:
    if exercise.tests is None:
        return
    for path in exercise.tests.glob("test_*.py"):
        tests = [node for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("test_")]
        words = [ast.get_docstring(node) for node in tests if isinstance(node, ast.FunctionDef)]
        assert all(words)
        assert len(words) == len(set(words)) >= 3


@pytest.mark.sized(1)
def test_models_pass_and_wrong_ones_do_not(exercise: Exercise) -> None:
    checks = check_exercise(exercise, workers=1)
    assert {each.name: each.problem for each in checks} == dict.fromkeys((each.name for each in checks), "")
    assert sum(each.name.startswith("model/") for each in checks) == len(exercise.model_solutions())
    assert [each.name for each in checks if each.why == ""] == [
        each.name for each in checks if each.name.startswith("model/")
    ]


def test_they_are_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = settings["tool"]["setuptools"]["package-data"]["proxybox.teach"]
    found = [path for folder in (EXERCISES, TEMPLATE) for path in folder.rglob("*")]
    files = {path for path in found if path.is_file() and "__pycache__" not in path.parts}
    assert files <= {path for pattern in patterns for path in EXERCISES.parent.glob(pattern)}
