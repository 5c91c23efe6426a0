"""Loading of exercises: the result for a good one, and the message for every kind of fault."""

import datetime
from pathlib import Path
from typing import Any

import pytest

from proxybox.policies import ProxyboxError, preset
from proxybox.teach.exercise import ExerciseError, load_exercise

SMALL = {"exercise.toml": 'title = "Small"\n', "text.md": "# Small\n", "tests/test_it.py": "def test(): pass\n"}
WHOLE = {
    "exercise.toml": """
title = "Whole"
text = "about.md"
file = "area.py"
starter = ["start", "notes.txt"]
files = "beside"
policy = "strict"
points = 2
hints = ["Draw a *rectangle*.", '''
How many squares are in a row,
and how many rows are there?
''']
deadline = 2026-10-01T23:59:00+02:00
tests = "checks"
data = "cases"
float_tolerance = 1e-6
solutions = "right"
wrong = "not_right"
randomness = 7

[rules]
forbid = ["import"]
max_lines = 30

[limits]
wall_time = "3s"
""",
    "about.md": "# Ärea\n",
    "start/area.py": "def area(): ...\n",
    "start/more/a.txt": "a",
    "notes.txt": "notes",
    "beside/data.csv": "1,2\n",
    "checks/deep/test_area.py": "",
    "cases/sample/1.in": "1",
    "cases/sample/1.ans": "2",
    "cases/secret/10.in": "10",
    "cases/secret/10.ans": "20",
    "cases/secret/9.in": "9",
    "cases/secret/9.ans": "18",
    "cases/secret/group/1.in": "5",
    "cases/secret/group/1.ans": "",
    "cases/secret/README": "",
    "right/a.py": "a",
    "right/b/area.py": "b",
    "right/b/helper.py": "",
    "right/.DS_Store": "",
    "not_right/c.py": "c",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def faults(folder: Path, settings: str, **files: str) -> list[str]:
    write(folder, {**SMALL, "exercise.toml": settings, **files})
    with pytest.raises(ExerciseError) as caught:
        load_exercise(folder)
    start = f"{folder / 'exercise.toml'}: "
    return [str(problem).removeprefix(start) for problem in caught.value.problems]


def test_a_small_one(tmp_path: Path) -> None:
    exercise = load_exercise(write(tmp_path, SMALL))
    assert (exercise.title, exercise.text, exercise.file, exercise.points) == ("Small", "# Small\n", "solution.py", 1)
    assert exercise.policy == preset("classroom")
    assert exercise.tests == tmp_path / "tests"
    assert (exercise.starter, exercise.deadline, exercise.float_tolerance) == ((), None, None)
    assert (exercise.files, exercise.data, exercise.solutions, exercise.wrong) == (None, None, None, None)
    assert not exercise.rules
    assert exercise.hints == ()
    assert (exercise.data_cases(), exercise.model_solutions(), exercise.wrong_solutions()) == ((), (), ())
    assert (exercise.starter_files(), exercise.box_files()) == ({}, {})


def test_a_whole_one(tmp_path: Path) -> None:
    exercise = load_exercise(write(tmp_path, WHOLE))
    assert (exercise.text, exercise.file, exercise.points) == ("# Ärea\n", "area.py", 2)
    assert exercise.deadline == datetime.datetime(2026, 10, 1, 21, 59, tzinfo=datetime.UTC)
    assert exercise.policy.limits.wall_time == 3
    assert exercise.policy.limits.cpu_time == preset("strict").limits.cpu_time
    assert exercise.policy.randomness == 7
    assert exercise.rules.forbid == ("import",)
    assert exercise.hints == ("Draw a *rectangle*.", "How many squares are in a row,\nand how many rows are there?")
    assert exercise.starter_files() == {"area.py": b"def area(): ...\n", "more/a.txt": b"a", "notes.txt": b"notes"}
    assert exercise.box_files() == {"data.csv": b"1,2\n"}
    assert [(each.student, each.main("area.py")) for each in exercise.model_solutions()] == [("a", b"a"), ("b", b"b")]
    assert [each.student for each in exercise.wrong_solutions()] == ["c"]
    cases = [(case.name, case.input, case.answer, case.secret) for case in exercise.data_cases()]
    assert cases == [
        ("sample/1", b"1", b"2", False), ("secret/9", b"9", b"18", True), ("secret/10", b"10", b"20", True),
        ("secret/group/1", b"5", b"", True),
    ]  # fmt: skip


def test_a_policy_in_the_folder(tmp_path: Path) -> None:
    settings = 'title = "T"\npolicy = "own.toml"\n[limits]\ncpu_time = 2'
    own = {"own.toml": 'extends = "strict"\n[limits]\nwall_time = 4\ncpu_time = 4'}
    limits = load_exercise(write(tmp_path, {**SMALL, "exercise.toml": settings, **own})).policy.limits
    assert (limits.wall_time, limits.cpu_time, limits.threads) == (4, 2, preset("strict").limits.threads)


def test_a_text_in_the_file(tmp_path: Path) -> None:
    settings = 'title = "T"\ntext = "Print 1.\\nSee notes.md"'
    assert load_exercise(write(tmp_path, {**SMALL, "exercise.toml": settings})).text == "Print 1.\nSee notes.md"


def test_what_lies_over_the_policy(tmp_path: Path) -> None:
    settings = "title = 'T'\nrandomness = 7\n[limits]\nwall_time = 5\ncpu_time = 1"
    folder = write(tmp_path, {**SMALL, "exercise.toml": settings})
    over = {"limits": {"wall_time": 2, "cpu_time": 9}, "time": "frozen"}
    with pytest.raises(ExerciseError, match=r"exercise\.toml: time\.at: frozen time needs"):
        load_exercise(folder, over=over)
    exercise = load_exercise(folder, over={**over, "time": {"kind": "virtual"}})
    limits = exercise.policy.limits
    assert (limits.wall_time, limits.cpu_time, exercise.policy.time.kind) == (2, 1, "virtual")
    assert exercise.policy.randomness == 7
    assert load_exercise(folder).policy.limits.wall_time == 5


def test_data_alone_is_enough(tmp_path: Path) -> None:
    files = {**SMALL, "data/sample/1.in": "", "data/sample/1.ans": "1"}
    del files["tests/test_it.py"]
    exercise = load_exercise(write(tmp_path, files))
    assert exercise.tests is None
    assert [case.name for case in exercise.data_cases()] == ["sample/1"]


SETTINGS: list[tuple[str, str]] = [
    ("", "title: this key is needed"),
    ("title = 3", "title: want a title: one line of at most 200 characters, got 3"),
    ("title = '  '", "title: want a title"),
    ("tittle = 'T'\ntitle = 'T'", "tittle: there is no such key; did you mean title? (allowed: data, deadline, "),
    ("title = 'T'\nforbid = ['import']", "forbid: there is no such key; did you mean rules.forbid?"),
    ("title = 'T'\nwall_time = 3", "wall_time: there is no such key; did you mean limits.wall_time?"),
    ("title = 'T'\ntext = ''", "text: want the name of a Markdown file"),
    ("title = 'T'\ntext = 'txt.md'", "text: there is no such file or folder, got 'txt.md'; did you mean \"text.md\"?"),
    ("title = 'T'\ntext = 'tests.md'", "text: there is no such file or folder"),
    ("title = 'T'\nfile = 'solution.txt'", 'did you mean "solution.py"?'),
    ("title = 'T'\nfile = 'a/b.py'", "file: want the name of a Python file, without folders"),
    ("title = 'T'\nfile = '../x.py'", "file: want a path in the folder, neither absolute nor with .."),
    ("title = 'T'\nstarter = 3", "starter: want a path"),
    ("title = 'T'\nstarter = ['text.md', '/etc/passwd']", "starter[1]: want a path in the folder, neither"),
    ("title = 'T'\nstarter = 'begin'", "starter: there is no such file or folder, got 'begin'"),
    ("title = 'T'\nfiles = 'text.md'", "files: want a folder, and this is a file, got 'text.md'"),
    ("title = 'T'\nfiles = 'a\\b'", "files: want a path in the folder: at most 80 characters, with / in"),
    ("title = 'T'\npolicy = 'clasroom'", "policy: want the name of a preset, or of a TOML file in the folder, got 'cl"),
    ("title = 'T'\npolicy = 'own.toml'", "policy: there is no such file or folder, got 'own.toml'"),
    ("title = 'T'\npolicy = '../own.toml'", "policy: want a path in the folder, neither absolute"),
    ("title = 'T'\npolicy = {}", "policy: want the name of a preset"),
    ("title = 'T'\n[limits]\nwal_time = 3", "limits.wal_time: there is no such key; did you mean wall_time?"),
    ("title = 'T'\n[limits]\nmemory = 'much'", "limits.memory: "),
    ("title = 'T'\npoints = -1", "points: want a number from 0 to 1,000,000, got -1"),
    ("title = 'T'\npoints = true", "points: want a number"),
    ("title = 'T'\npoints = nan", "points: want a number"),
    ("title = 'T'\ndeadline = 2026-10-01", "deadline: want a date and time without quotes, such as 2026-10-01T23:59"),
    ("title = 'T'\ndeadline = '2026-10-01T23:59:00Z'", "deadline: want a date and time without quotes"),
    ("title = 'T'\ndeadline = 2026-10-01T23:59:00", "deadline: want a time with its offset from UTC"),
    ("title = 'T'\nhints = 'Try it'", "hints: want a list of at most 20 texts, which are shown one after another"),
    ("title = 'T'\nhints = ['a', ' ']", "hints[1]: want a text in Markdown of at most 2,000 characters, got ' '"),
    ("title = 'T'\nhints = ['" + "a" * 2001 + "']", "hints[0]: want a text in Markdown of at most 2,000 characters"),
    ("title = 'T'\nhints = [" + "'a'," * 21 + "]", "hints: want a list of at most 20 texts"),
    ("title = 'T'\nhint = ['a']", "hint: there is no such key; did you mean hints?"),
    ("title = 'T'\n[rules]\nforbid = ['improt']", "rules.forbid[0]: there is no such rule, got 'improt'; did you mean"),
    ("title = 'T'\n[rules]\nforbids = []", "rules.forbids: there is no such key; did you mean forbid?"),
    ("title = 'T'\nrules = ['import']", "rules: want a table of forbid, require, max_lines"),
    ("title = 'T'\npoints = 1\nfloat_tolerance = '1e-6'", "float_tolerance: want a number between 0 and 1"),
    ("title = 'T'\nfloat_tolerance = 0.1", "float_tolerance: is for data, and there is none"),
    ("title = 'T'\nprompts = 'no'", "prompts: want true or false, got 'no'"),
    (
        "title = 'T'\nprompts = false",
        "prompts: is for data, and there is none: run_student(prompts=False) is for tests",
    ),
    ("title = 'T'\ntests = 'test'", "tests: there is no such file or folder, got 'test'; did you mean \"tests\"?"),
    ("title = 'T'\ndata = 'data'", "data: there is no such file or folder"),
    ("title = 'T'\nsolutions = 'right'", "solutions: there is no such file or folder"),
    ("title = 'T'\nwrong = 'bad'", "wrong: there is no such file or folder"),
    ("title = ", "not TOML: "),
    ("title = 'T'\nx = " + "[" * 5000, "n"),
    ("title = 'T'\npoints = " + "1" * 5000, "not TOML: "),
    ("title = 'T'\n#" + "x" * (1 << 20), "larger than 1 MiB"),
]


@pytest.mark.parametrize(("settings", "seen"), SETTINGS, ids=lambda text: text[:40])
def test_a_fault_is_told_with_its_place(tmp_path: Path, settings: str, seen: str) -> None:
    (found,) = faults(tmp_path, settings)
    assert seen in found


def test_all_faults_at_once(tmp_path: Path) -> None:
    settings = """
pints = 3
points = "3"
hints = ["", 3, "good"]
policy = "stict"
solutions = "none"
[limits]
wall_time = -1
[rules]
forbid = ["lop"]
require = ["a b"]
max_lines = 0
"""
    keys = [line.partition(":")[0] for line in faults(tmp_path, settings)]
    assert sorted(keys) == [
        "hints[0]", "hints[1]", "limits.wall_time", "pints", "points", "policy", "rules.forbid[0]", "rules.max_lines",
        "rules.require[0]", "solutions", "title",
    ]  # fmt: skip


def test_the_text_counts_them(tmp_path: Path) -> None:
    write(tmp_path, {**SMALL, "exercise.toml": "points = -1"})
    with pytest.raises(ExerciseError, match=r"^2 problems:\n  ") as caught:
        load_exercise(tmp_path)
    assert isinstance(caught.value, ProxyboxError)


MISSING: list[tuple[dict[str, Any], list[str]]] = [
    ({"text.md": None}, ["text: this key is needed, or a file text.md"]),
    ({"tests/test_it.py": None}, ["tests: there is nothing to grade by: want a folder tests, or data, or both"]),
    ({"tests/test_it.py": None, "tests/it.py": ""}, ["tests: there is no file test_*.py in tests"]),
    ({"data/1.in": ""}, ["data: there are no cases: want files such as data/sample/1.in and 1.ans"]),
    ({"data/sample/1.in": ""}, ["data: there is sample/1.in, and no 1.ans"]),
    (
        {"data/secret/a.in": "", "data/secret/b.ans": ""},
        ["data: there is secret/a.in, and no a.ans", "data: there is secret/b.ans, and no b.in"],
    ),
]


@pytest.mark.parametrize(("files", "seen"), MISSING)
def test_what_is_missing(tmp_path: Path, files: dict[str, str | None], seen: list[str]) -> None:
    write(tmp_path, {name: text for name, text in {**SMALL, **files}.items() if text is not None})
    with pytest.raises(ExerciseError) as caught:
        load_exercise(tmp_path)
    assert [f"{problem.key}: {problem.message}" for problem in caught.value.problems] == seen


def test_no_exercise_at_all(tmp_path: Path) -> None:
    with pytest.raises(ExerciseError) as caught:
        load_exercise(tmp_path / "nothing")
    assert str(caught.value) == f"{tmp_path}/nothing/exercise.toml: cannot be read: No such file or directory"


def test_faults_of_a_policy_name_its_file(tmp_path: Path) -> None:
    write(tmp_path, {**SMALL, "exercise.toml": "title = 'T'\npolicy = 'own.toml'", "own.toml": "[limits]\nx = 1"})
    with pytest.raises(ExerciseError) as caught:
        load_exercise(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/own.toml: limits.x: there is no such key")


def test_text_that_is_no_text(tmp_path: Path) -> None:
    write(tmp_path, SMALL)
    (tmp_path / "text.md").write_bytes(b"ok \xff")
    with pytest.raises(ExerciseError, match=r"text\.md is no text in UTF-8 \(byte 3\)"):
        load_exercise(tmp_path)


def test_a_solution_that_cannot_be_read(tmp_path: Path) -> None:
    exercise = load_exercise(write(tmp_path, {**SMALL, "solutions/broken.zip": "no archive"}))
    with pytest.raises(ExerciseError, match=r"broken\.zip"):
        exercise.model_solutions()
