"""The exercises that come with proxybox: each is whole, its models pass everything, its wrong solutions do not."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.rules import check_rules

ROOT = Path(__file__).parents[2]
EXERCISES = Path(proxybox.__file__).parent / "teach" / "exercises"
FOLDERS = sorted(path for path in EXERCISES.iterdir() if path.is_dir())

#: Grades, and tells of each submission: the rules that it breaks, and what came of each test. Data cases end with the
#: first that fails: some submissions never end, and each case would take its whole time.
SCRIPT = """
import contextlib, io, json, os, sys
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
from pathlib import Path
import pytest
from proxybox import Sandbox
from proxybox.teach import plugin
from proxybox.teach.boxes import Boxes, grading_policy
from proxybox.teach.exercise import load_exercise
from proxybox.teach.rules import check_rules
from proxybox.teach.student import Failed

exercise = load_exercise(Path(sys.argv[1]))
models, wrong = exercise.model_solutions(), exercise.wrong_solutions()
submissions = [*models, *wrong]
told = [[] for _ in submissions]

def run_data(loaded, tell):
    for case in exercise.data_cases():
        try:
            run = loaded.run(case.input, [], {}, None)
            run.expect_output(case.answer.decode(), tolerance=exercise.float_tolerance)
        except Failed as failed:
            tell.append((case.name, failed.status))
            return
        tell.append((case.name, "ok"))

with Sandbox(grading_policy(exercise.policy)) as box:
    boxes = Boxes(box, submissions, file=exercise.file, files=exercise.box_files(), points=exercise.points)
    with contextlib.closing(boxes):
        if exercise.tests is not None:
            grader = plugin.Grader(boxes, lambda number, verdict: told[number].append((verdict.name, verdict.status)))
            folder = str(exercise.tests)
            with contextlib.redirect_stdout(io.StringIO()):
                pytest.main([folder, "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", folder],
                            plugins=[plugin, grader])
        for number, tell in enumerate(told):
            with boxes.load(number) as loaded:
                run_data(loaded, tell)
found = {"models": {}, "wrong": {}}
for number, submission in enumerate(submissions):
    breaches = [each.message for each in check_rules(submission.main(exercise.file).decode(), exercise.rules)]
    kind = "models" if number < len(models) else "wrong"
    found[kind][submission.student] = [breaches, told[number]]
json.dump(found, sys.stdout)
"""


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
    wrong = [each.student for each in exercise.wrong_solutions()]
    assert len(wrong) >= 3
    assert "constant" in wrong, "one that tries to cheat"


def test_starters_can_be_parsed_and_solve_nothing(exercise: Exercise) -> None:
    starter = exercise.starter_files()
    for name, data in starter.items():
        if name.endswith(".py"):
            ast.parse(data.decode())
    assert all(starter[exercise.file] != each.main(exercise.file) for each in exercise.model_solutions())


def test_models_keep_the_rules(exercise: Exercise) -> None:
    for model in exercise.model_solutions():
        assert check_rules(model.main(exercise.file).decode(), exercise.rules) == []


def test_names_of_tests_are_for_students(exercise: Exercise) -> None:
    if exercise.tests is None:
        return
    for path in exercise.tests.glob("test_*.py"):
        tests = [node for node in ast.parse(path.read_text()).body if getattr(node, "name", "").startswith("test_")]
        words = [ast.get_docstring(node) for node in tests if isinstance(node, ast.FunctionDef)]
        assert all(words)
        assert len(words) == len(set(words)) >= 3


def test_models_pass_and_wrong_ones_do_not(exercise: Exercise) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(exercise.folder)], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    for name, (breaches, told) in found["models"].items():
        assert not breaches, name
        assert told, name
        assert {status for _, status in told} == {"ok"}, (name, told)
    for name, (breaches, told) in found["wrong"].items():
        assert told, name
        assert breaches or any(status != "ok" for _, status in told), f"{name} passes"
        assert not any(status == "internal_error" for _, status in told), (name, told)


def test_they_are_package_data() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (pattern,) = settings["tool"]["setuptools"]["package-data"]["proxybox.teach"]
    files = {path for path in EXERCISES.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files <= set((EXERCISES.parent).glob(pattern))
