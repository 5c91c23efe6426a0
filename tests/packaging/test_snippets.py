"""Commands and snippets of pages that no other test runs, and their output on the pages.

test_docs.py runs sessions.md, host-functions.md, evaluate.md and others;
tests/kernel jupyter.md; tests/teach the classes of exercises.md; tests/serve the client of serve-sandboxfusion.md, and
the configurations of both.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.classroom.course import CourseError, check_preload, find_course, new_course
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.evaluating import shared
from proxybox.policies import PolicyError, load_policy
from proxybox.teach.checking import find_exercise
from proxybox.teach.exercise import ExerciseError, load_exercise
from proxybox.teach.rules import Rules, check_rules

ROOT = Path(__file__).resolve().parents[2]
#: Marks the end of a command's output.
MARK = "@@@"


def page(name: str) -> str:
    return (ROOT / name).read_text()


def indented(text: str) -> list[str]:
    """Returns the indented blocks of a text."""
    blocks = re.findall(r"(?:^    .*\n(?:[ \t]*\n(?=    ))?)+", text, re.MULTILINE)
    return [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in blocks]


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("PROXYBOX_WARM", raising=False)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    shared.close()
    zygotepool.close()
    reaper.settle()


# --- commands ---------------------------------------------------------------------------------------------------------


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Returns each command of a block, with the lines that are shown below it."""
    parts = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [(part.partition("\n")[0], part.partition("\n")[2].splitlines()) for part in parts]


def plain(lines: list[str]) -> list[str]:
    """Returns lines without numbers and spaces, sorted: the order of two streams is not determined."""
    words = (" ".join(re.sub(r"\S*\d\S*", "#", each) for each in line.split()) for line in lines)
    return sorted(re.sub(r"-{2,}", "--", line) for line in words if line)


def hold(block: str) -> None:
    """Runs all commands of a block in one shell, and compares their output. A line of dots stands for any lines."""
    found = commands(block)
    script = "".join(f"{command}\ns=$?; echo {MARK}; (exit $s)\n" for command, _ in found)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", script], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        env={"PATH": path, "HOME": os.getcwd(), "LANG": "C.UTF-8", "COLUMNS": "200"},
    )  # fmt: skip
    said = done.stdout.split(f"{MARK}\n")
    assert len(said) == len(found) + 1
    for (command, shown), text in zip(found, said, strict=False):
        came, wanted = plain(text.splitlines()), plain(shown)
        if "..." in wanted:
            wanted = sorted(set(wanted) - {"..."})
            came = sorted(set(came) & set(wanted))
        assert not shown or came == wanted, f"{command}\n{text}"


def test_the_tour(folder: Path) -> None:
    text = page("docs/tour.md").partition("## In Python")[0]
    program, *blocks = indented(text)
    (folder / "count.py").write_text(program)
    (folder / "data").mkdir()
    (folder / "data/words.txt").write_text("one two\nthree four\n")
    shutil.copytree(ROOT / "examples", folder / "examples")
    assert sum(len(commands(block)) for block in blocks) >= 7
    for block in blocks:
        hold(block)


def test_the_first_policy(folder: Path) -> None:
    text = page("docs/first-policy.md")
    program, *blocks = indented(text)
    (folder / "report.py").write_text(program)
    (folder / "sales").mkdir()
    (folder / "sales/today.csv").write_text("tea,3\ncake,5\n")
    (folder / "sales.toml").write_text(fenced(text, "toml")[0])
    for block in blocks:
        hold(block)


@pytest.mark.full
def test_the_commands_of_exercises(folder: Path) -> None:
    blocks = [block for block in indented(page("docs/write-exercises.md")) if block.startswith("$ proxybox exercise")]
    shutil.copy(find_exercise("05-second-largest").folder / "wrong/counts_twice.py", "homework.py")
    once_more = "$ proxybox exercise new my-exercise --from"
    assert once_more in blocks[0]
    hold(blocks[0].replace(once_more, f"$ rm -r my-exercise\n{once_more}"))
    for block in blocks[1:]:
        hold(block)


@pytest.mark.full
def test_the_commands_of_courses(folder: Path) -> None:
    blocks = indented(page("docs/write-exercises.md"))
    hold(next(block for block in blocks if block.startswith("$ proxybox classroom")))
    assert (folder / "my-lessons/12-quiz/text.md").is_file()


@pytest.mark.full
def test_the_commands_of_teaching(folder: Path) -> None:
    text = page("docs/write-exercises.md")
    (by_hand,) = (block for block in indented(text) if block.startswith("$ pytest"))
    table = next(block for block in indented(page("docs/teaching.md")) if block.startswith("$ "))
    exercise = find_exercise("05-second-largest").folder
    shutil.copytree(exercise / "wrong", "homework", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(exercise / "solutions/one_pass.py", "homework")
    hold(table)
    (folder / "tests").mkdir()
    (folder / "tests/test_it.py").write_text(fenced(text, "python")[0])
    (folder / "hers").mkdir()
    (folder / "hers/homework.py").write_text("def area(a, b): return a + b\n")
    hold(by_hand.replace("homework.py", "hers/homework.py"))


def test_the_jobs_of_a_batch(folder: Path) -> None:
    blocks = indented(page("docs/batch.md"))
    (folder / "jobs.jsonl").write_text(next(block for block in blocks if block.startswith('{"id": "ada", "code"')))
    (folder / "submissions").mkdir()
    (folder / "submissions/bob.py").write_text("import sys; print(sys.argv[1], input())")
    (folder / "inputs").mkdir()
    (folder / "inputs/1.txt").write_text("line\n")
    hold(next(block for block in blocks if block.startswith("$ proxybox batch jobs.jsonl --check")))
    lines = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    assert sorted(line["result"]["stdout"] for line in lines) == ["--fast line\n", "3\n"]


# --- Python -----------------------------------------------------------------------------------------------------------


def double(number: int) -> int:
    return 2 * number


HOMEWORK = """
import socket, sys
print(input(), input(), sys.argv[1:])
open("output.csv", "w").write(open("input.csv").read())
try: socket.socket()
except OSError: pass
"""


class Database:
    get = staticmethod({"a": 1, "b": 2, "c": 3}.get)
    price = staticmethod({"tea": 3, "cake": 5}.get)


def test_the_readmes_python(folder: Path) -> None:
    (block,) = (block for block in indented(page("README.md")) if "import proxybox" in block)
    names: dict[str, Any] = {"database": Database}
    exec(compile(block.replace("session.eval", "count = session.eval"), "README.md", "exec"), names)
    assert (names["result"].status, names["result"].stdout, names["count"]) == (proxybox.Status.OK, "42\n", 3)


def test_the_tours_python(folder: Path) -> None:
    names: dict[str, Any] = {"function": double, "inputs": range(3), "database": Database}
    (folder / "homework").mkdir()
    (folder / "homework/main.py").write_text(HOMEWORK)
    (folder / "mine.toml").write_text('extends = "strict"\n')
    blocks = [block for block in indented(page("docs/tour.md")) if "proxybox." in block and "\n" in block.strip()]
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, "tour.md", "exec"), names)
    names["rules"].close()
    result, session = names["result"], names["session"]
    assert (result.ok, result.stdout) == (True, "3 4 ['--fast']\n")
    assert [denial.call for denial in result.denials] == ["socket"]
    assert (folder / "homework/output.csv").read_text() == "a,b\n1,2\n"
    assert sorted(path.name for path in (folder / "homework").iterdir()) == ["main.py", "output.csv"]
    assert not session.alive


def test_the_rule_of_the_controllers_page(folder: Path) -> None:
    (rule,) = (block for block in fenced(page("controller/README.md"), "python") if "import proxybox" in block)
    exec(compile(rule, "README.md", "exec"), {})


def test_the_policies_page(folder: Path) -> None:
    text = page("docs/policies.md")
    file, complaints, python = (
        next(block for block in indented(text) if word in block) for word in ("extends", "wal_time", "load_policy")
    )
    (folder / "data").mkdir()
    (folder / "mine.toml").write_text(file)
    names: dict[str, Any] = {}
    exec(compile(python, "policies.md", "exec"), names)
    assert (names["policy"].limits.wall_time, names["policy"].limits.threads) == (60, 0)
    (folder / "mine.toml").write_text("[limits]\nwal_time = 3\nmemory = '1K'\n")
    with pytest.raises(PolicyError) as caught:
        load_policy("mine.toml")
    for line in complaints.splitlines():
        assert line.partition("...")[0] in str(caught.value)


# --- exercises --------------------------------------------------------------------------------------------------------


def test_what_exercises_are_said_to_tell(folder: Path) -> None:
    text = page("docs/exercises.md")
    (folder / "area/tests").mkdir(parents=True)
    (folder / "area/tests/test_it.py").touch()
    (folder / "area/text.md").touch()
    (folder / "area/exercise.toml").write_text(next(each for each in fenced(text, "toml") if "tittle" in each))
    with pytest.raises(ExerciseError) as caught:
        load_exercise(Path("area"))
    seen = [line.strip() for line in str(caught.value).splitlines()[1:]]
    assert len(seen) == 7
    assert [seen[0], seen[2], seen[6]] == re.findall(r"^    (area/exercise\.toml: .*)", text, re.MULTILINE)
    cases = re.findall(r"^    (DataCase\(.*)", text, re.MULTILINE)
    assert cases == [repr(each) for each in find_exercise("10-weather").data_cases()][: len(cases)]
    rules = Rules(forbid=["import", "sorted"], require=["function:area"])
    sources = "import os\nx = sorted('b')\n", "def f()\n", "(" * 1000 + ")" * 1000 + "\n"
    assert re.findall(r"^    (Breach\(.*)", text, re.MULTILINE) == [
        repr(breach) for source in sources for breach in check_rules(source, rules)
    ]


# --- courses ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_what_courses_are_said_to_tell_and_to_do(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = page("docs/courses.md")
    good, faulty = fenced(text, "toml")
    new_course(folder / "evening")
    (folder / "evening/course.toml").write_text(faulty)
    with pytest.raises(CourseError) as caught:
        find_course("evening")
    seen = [str(problem) for problem in caught.value.problems]
    assert seen == re.findall(r"^    (evening/course\.toml: .*)", text, re.MULTILINE)
    new_course(folder / "my-course")
    (folder / "my-course/course.toml").write_text(good)
    check_preload(find_course("my-course"))
    (python,) = fenced(text, "python")
    exec(compile(python.replace("check_course(course)", "check_course(course, workers=1)"), "courses.md", "exec"), {})
    assert capsys.readouterr().out == "01-greeting A greeting 3\n02-rectangle The area of a rectangle 2\n"
