"""Grading as a whole: the result of a task, in any executor, and what happens when a worker does not come back."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxybox.teach.exercise import Exercise, ExerciseError, load_exercise
from proxybox.teach.grades import Grade
from proxybox.teach.grading import RULES, GradingError, Packed, Task, grade, grade_some, local_pool, pack
from proxybox.teach.records import GradeRecords, key_of, surroundings
from proxybox.teach.rules import MOST_SOURCE
from proxybox.teach.submissions import Submission

TESTS = """
import pytest

@pytest.mark.parametrize("number", [0, 1, 2])
def test_double(student, number):
    "Doubles"
    student.expect("double", number, returns=2 * number)

@pytest.mark.points(3)
def test_printed(student):
    "Doubles"
    student.expect("double", 10, returns=20)
"""
RIGHT = "def double(n):\n    return n * 2\n"
WRONG = "def double(n):\n    return n ** 2\n"


def make(folder: Path, tests: str = TESTS, settings: str = "", **files: str) -> Exercise:
    """Writes and loads an exercise. files: additional ones; __ in a name stands for /; names are complete."""
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "exercise.toml").write_text(f'title = "Doubles"\ntext = "Double it."\n{settings}')
    (folder / "tests/test_it.py").write_text(textwrap.dedent(tests))
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return load_exercise(folder)


def submission(student: str, code: str, **more: Any) -> Submission:
    return Submission(student=student, files={"solution.py": code.encode()}, **more)


def told(grade: Grade) -> list[tuple[str, str, float]]:
    return [(test.name, test.status, test.points) for test in grade.tests]


@pytest.fixture
def exercise(tmp_path: Path) -> Exercise:
    return make(tmp_path / "exercise")


# --- a task -----------------------------------------------------------------------------------------------------------


def graded(exercise: Exercise, *codes: str) -> tuple[Grade, ...]:
    submissions = tuple(submission(f"s{number}", code) for number, code in enumerate(codes))
    return grade_some(Task(exercise=pack(exercise), submissions=submissions))


def test_a_task(exercise: Exercise) -> None:
    right, wrong = graded(exercise, RIGHT, WRONG)
    assert told(right) == [("Doubles (0)", "ok", 1), ("Doubles (1)", "ok", 1), ("Doubles (2)", "ok", 1),
                           ("Doubles", "ok", 3)]  # fmt: skip
    assert [status for _, status, _ in told(wrong)] == ["ok", "wrong_answer", "ok", "wrong_answer"]
    assert (right.code, right.seconds, right.late, right.failed) == (RIGHT, 0, False, False)


def test_names_do_not_depend_on_the_place_in_a_task(exercise: Exercise) -> None:
    """A test's parameter is a number, and so is that of a submission."""
    assert {tuple(test.name for test in each.tests) for each in graded(exercise, *[RIGHT] * 4)} == {
        ("Doubles (0)", "Doubles (1)", "Doubles (2)", "Doubles")
    }


def test_two_tests_of_one_name(tmp_path: Path) -> None:
    tests = 'def test_a(student):\n    "One"\ndef test_b(student):\n    "One"\n'
    (only,) = graded(make(tmp_path / "e", tests), RIGHT)
    assert [test.name for test in only.tests] == ["One", "One (2)"]


def test_data_beside_tests(tmp_path: Path) -> None:
    files = {"data__sample__1.in": "3\n", "data__sample__1.ans": "6\n", "data__secret__2.in": "4",
             "data__secret__2.ans": "8.0000001"}  # fmt: skip
    exercise = make(tmp_path / "e", settings="float_tolerance = 1e-6\n", **files)
    code = RIGHT + "if __name__ == '__main__':\n    print(double(int(input())))\n"
    right, silent = graded(exercise, code, RIGHT)
    assert told(right)[-2:] == [("The data (sample/1)", "ok", 1), ("The data (secret/2)", "ok", 1)]
    assert [test.hidden for test in right.tests[-2:]] == [False, True]
    assert told(silent)[-1] == ("The data (secret/2)", "wrong_answer", 0)
    assert "It printed nothing." in silent.tests[-1].message


def test_what_input_asks_can_be_left_out(tmp_path: Path) -> None:
    """From the output of data's cases, and of runs. The output of a program that replaces input() is not changed."""
    tests = """
    def test_without(run_student):
        run_student("3", prompts=False).expect_output("6")

    def test_with(run_student):
        run_student("3").expect_output("A number? 6")

    def test_nothing_to_read(run_student):
        run_student("", prompts=False).check()
    """
    files = {"data__sample__1.in": "3\n", "data__sample__1.ans": "6\n"}
    code = "print(2 * int(input('A number? ')))\n"
    (asking,) = graded(make(tmp_path / "a", tests, "prompts = false\n", **files), code)
    assert [test.status for test in asking.tests] == ["ok", "ok", "error", "ok"]
    message = asking.tests[2].message
    assert message.replace(": EOF when reading a line", "") == (
        "the program raised EOFError, on line 1. It asks for more input than there is."
    )
    own, wrong = graded(
        make(tmp_path / "b", tests, **files), "def input(p): print(p); return 3\nprint(2 * input('A number?'))\n", code
    )
    assert [test.status for test in own.tests] == ["wrong_answer", "ok", "ok", "wrong_answer"]
    assert [test.status for test in wrong.tests] == ["ok", "ok", "error", "wrong_answer"]


def test_a_broken_rule_takes_the_points(tmp_path: Path) -> None:
    exercise = make(tmp_path / "e", settings='[rules]\nforbid = ["import"]\n')
    kept, broken, unread = graded(exercise, RIGHT, "import os\n" + RIGHT, "def double(n) return")
    assert told(kept)[0] == (RULES, "ok", 0)
    assert kept.points == 6
    assert (broken.points, broken.possible, broken.status) == (0, 6, "forbidden")
    assert broken.tests[0].message == (
        "This exercise is to be solved without import. See line 1.\nNo points are given while a rule is broken."
    )
    assert [test.status for test in broken.tests[1:]] == ["ok"] * 4, "what the tests say is told all the same"
    assert (unread.tests[0].status, unread.status) == ("skipped", "syntax_error")


def test_late(tmp_path: Path) -> None:
    import datetime

    exercise = make(tmp_path / "e", settings="deadline = 2026-10-01T12:00:00Z\n")
    noon = datetime.datetime(2026, 10, 1, 12, tzinfo=datetime.UTC)
    given = [noon, noon + datetime.timedelta(seconds=1), None]
    some = tuple(submission(str(number), RIGHT, submitted=when) for number, when in enumerate(given))
    grades = grade_some(Task(exercise=pack(exercise), submissions=some))
    assert [each.late for each in grades] == [False, True, False]


def test_timings_only_where_they_are_wanted(exercise: Exercise) -> None:
    task = Task(exercise=pack(exercise), submissions=(submission("a", RIGHT),), timings=True)
    (timed,) = grade_some(task)
    assert timed.seconds == sum(test.seconds for test in timed.tests) > 0


def test_without_a_main_file(exercise: Exercise) -> None:
    empty = Submission(student="a", files={"notes.txt": b""})
    (grade_of_it,) = grade_some(Task(exercise=pack(exercise), submissions=(empty,)))
    assert {test.message for test in grade_of_it.tests} == {
        "There is no file solution.py in the submission, which holds notes.txt."
    }
    assert grade_of_it.points == 0


def test_exercises_of_one_process_do_not_mix(tmp_path: Path) -> None:
    """Their test files and helpers have the same names."""
    tests = "from wanted import NUMBER\ndef test_it(student): student.expect('double', 1, returns=NUMBER)"
    conftest = "import sys, os; sys.path.insert(0, os.path.dirname(__file__))"
    for number, status in (("2", "ok"), ("3", "wrong_answer"), ("2", "ok")):
        folder = tmp_path / f"e{len(list(tmp_path.iterdir()))}"
        files = {"tests__wanted.py": f"NUMBER = {number}", "tests__conftest.py": conftest}
        assert [each.status for each in graded(make(folder, tests, **files), RIGHT)] == [status]


def test_settings_of_whoever_grades_change_nothing(exercise: Exercise, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_ADDOPTS", "--no-such-option -k nothing")
    monkeypatch.setenv("PYTEST_PLUGINS", "no_such_plugin")
    assert [each.status for each in graded(exercise, RIGHT)] == ["ok"]
    assert os.environ["PYTEST_ADDOPTS"] == "--no-such-option -k nothing"


# --- exercises that are wrong -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        ("def test_it(student)", "SyntaxError"),
        ("import no_such_module", "No module named 'no_such_module'"),
        ("def test_it(): pass", "test_it takes neither student nor run_student"),
        ("import pytest\n@pytest.mark.point(2)\ndef test_it(student): pass", "'point' not found in `markers`"),
        ("def test_it(studnet): pass", "takes neither student"),
        ("X = 1", "test_it.py: there is no test in it"),
        ("import pytest\npytest.importorskip('no_such')\ndef test_it(student): pass", "is skipped: nothing of it"),
        ("def test_it(student, no_such): pass", "'no_such' is no fixture"),
        ("import pytest\n@pytest.mark.points(n=5)\ndef test_it(student): pass", "want the mark points(NUMBER)"),
        (
            "import pytest\n@pytest.mark.points(float('nan'))\ndef test_it(student): pass",
            "want the mark points(NUMBER)",
        ),
        ("import pytest\n@pytest.mark.points(-3)\ndef test_it(student): pass", "want the mark points(NUMBER)"),
        (
            "import pytest\n@pytest.mark.timeout(seconds=2)\ndef test_it(student): pass",
            "want the mark timeout(SECONDS)",
        ),
        ("import pytest\n@pytest.mark.hidden(True)\ndef test_it(student): pass", "want the mark hidden"),
    ],
)
def test_tests_that_cannot_grade(tmp_path: Path, tests: str, words: str) -> None:
    with pytest.raises(GradingError, match=r"(?s).*") as caught:
        graded(make(tmp_path / "e", tests), RIGHT)
    assert words in str(caught.value)


def test_pytests_own_ways_to_fail(tmp_path: Path) -> None:
    tests = """
    import pytest
    def test_told(student): pytest.fail("too slow for a list of ten")
    def test_raises(student):
        with pytest.raises(ValueError): pass
    """
    (only,) = graded(make(tmp_path / "e", tests), RIGHT)
    assert told(only) == [("told", "wrong_answer", 0), ("raises", "wrong_answer", 0)]
    assert only.tests[0].message == "too slow for a list of ten"


def test_what_a_submission_says_at_length_is_cut(tmp_path: Path) -> None:
    """Its output and its values, in any number of calls."""
    tests = """
    def test_told(student):
        for _ in range(5):
            assert student.call("f") == 1, student.stdout
    def test_kept(student):
        for _ in range(30):
            student.call("f")
        assert sum(map(len, student.printed)) <= 10_001
    def test_run(run_student):
        run_student()
    """
    code = "import sys\ndef f(): print('x' * 100_000); return 'y' * 100_000\nprint('z' * 100_000, file=sys.stderr)\n"
    (only,) = graded(make(tmp_path / "e", tests), code)
    told, kept, run = only.tests
    assert (told.status, told.message) == ("wrong_answer", "x" * 10_000 + "...")
    assert kept.status == "ok"
    assert kept.output == told.output == "x" * 10_000 + "..."
    assert run.output == "z" * 10_000 + "..."


def test_no_grade_depends_on_who_else_is_graded(tmp_path: Path) -> None:
    """Nothing shows a submission how many there were before it."""
    tests = """
    def test_pid(student): student.expect("pid", returns=0)
    def test_run(run_student): run_student().expect_output("x")
    """
    exercise = make(tmp_path / "e", tests)
    code = "import os, time, random\ndef pid(): return os.getpid(), time.time(), random.random()\nprint(pid())\n"
    grades = graded(exercise, *[code] * 5)
    assert len({tuple(test.message for test in each.tests) for each in grades}) == 1


def test_a_source_whose_rules_cannot_be_looked_at_gets_no_points(tmp_path: Path) -> None:
    exercise = make(tmp_path / "e", settings='[rules]\nforbid = ["sum"]\n')
    (padded,) = graded(exercise, "_=0\n" * (MOST_SOURCE // 4) + RIGHT)
    assert [test.status for test in padded.tests] == ["forbidden", *["ok"] * 4]
    assert padded.points == 0


@pytest.mark.pypy
def test_rules_are_looked_at_by_the_parser_that_runs_it(tmp_path: Path) -> None:
    """CPython's parser refuses source that PyPy's accepts."""
    exercise = make(tmp_path / "e", settings='[rules]\nforbid = ["sum"]\n')
    deep = "_ = " + "(" * 220 + "0" + ")" * 220 + "\n"
    clean, broken = graded(exercise, deep + RIGHT, deep + "_ = sum\n" + RIGHT)
    assert [test.status for test in clean.tests] == ["ok"] * 5
    assert [test.status for test in broken.tests] == ["forbidden", *["ok"] * 4]


def test_rules_look_at_all_of_a_submission(tmp_path: Path) -> None:
    exercise = make(tmp_path / "e", settings='[rules]\nforbid = ["sum"]\nrequire = ["for"]\n')
    main = b"from helper import double\n"
    loop = b"def double(n):\n    for _ in (1, 2):\n        pass\n    return 2 * n\n"
    cheat = loop.replace(b"2 * n", b"sum([n, n])")
    some = tuple(Submission(student=str(number), files={"solution.py": main, "helper.py": helper})
                 for number, helper in enumerate((loop, cheat)))  # fmt: skip
    kept, broken = grade_some(Task(exercise=pack(exercise), submissions=some))
    assert (kept.status, kept.points) == ("ok", 6)
    assert (broken.status, broken.points) == ("forbidden", 0)


@pytest.mark.parametrize("folder", ["", "hw/"])
def test_files_beside_the_main_one(tmp_path: Path, folder: str) -> None:
    """The main file can import them when it is loaded and when it is run, from any folder."""
    files = {"data__sample__1.in": "3", "data__sample__1.ans": "6"}
    exercise = make(tmp_path / "e", **files)
    code = b"from helper import double\nif __name__ == '__main__':\n    print(double(int(input())))\n"
    one = Submission(student="a", files={f"{folder}solution.py": code, f"{folder}helper.py": RIGHT.encode()})
    (grade_of_it,) = grade_some(Task(exercise=pack(exercise), submissions=(one,)))
    assert {test.status for test in grade_of_it.tests} == {"ok"}, grade_of_it.tests


def test_a_large_source_is_not_kept_whole(exercise: Exercise) -> None:
    (only,) = graded(exercise, RIGHT + "#" * (1 << 20))
    assert (only.status, len(only.code)) == ("ok", 1 << 18)


def test_a_wait_has_its_end(exercise: Exercise) -> None:
    """The classroom's limit of five minutes is for people at a prompt."""
    from proxybox.policies import preset
    from proxybox.teach.boxes import grading_policy

    policy = preset("classroom")
    assert policy.limits.wall_time == 300
    assert grading_policy(policy).limits.wall_time == 3 * policy.limits.cpu_time


def test_cases_that_stand_nowhere(tmp_path: Path) -> None:
    files = {"data__sample__1.in": "", "data__sample__1.ans": "", "data__9.in": "", "data__secrets__2.in": ""}
    with pytest.raises(ExerciseError, match=r"(?s)9.in stands neither.*secrets/2.in stands neither"):
        make(tmp_path / "e", **files)


def test_folders_of_other_names_and_links_are_packed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere/sample").mkdir(parents=True)
    for end in ("in", "ans"):
        (tmp_path / f"elsewhere/sample/1.{end}").write_text("")
    (tmp_path / "e").mkdir()
    (tmp_path / "e/data").symlink_to(tmp_path / "elsewhere")
    exercise = make(tmp_path / "e", settings='solutions = "models"\n', **{"models__a.py": RIGHT, "files__.cfg__a": "x"})
    (only,) = graded(exercise, RIGHT)
    assert [test.name for test in only.tests][-1] == "The data (sample/1)"


def test_a_fixture_that_fails_is_nobodys_fault(tmp_path: Path) -> None:
    tests = "import pytest\n@pytest.fixture\ndef it(): 1 / 0\ndef test_it(student, it): pass"
    (only,) = graded(make(tmp_path / "e", tests), RIGHT)
    assert told(only) == [("it", "internal_error", 0)]
    assert "not this program" in only.tests[0].message


def test_boxes_that_cannot_be_had_are_no_submissions_fault(exercise: Exercise, monkeypatch: pytest.MonkeyPatch) -> None:
    from proxybox import SandboxStartError, Session

    def fail(*_: Any) -> None:
        raise SandboxStartError("out of processes")

    monkeypatch.setattr(Session, "fork", fail)
    with pytest.raises(SandboxStartError, match="out of processes"):
        graded(exercise, RIGHT)


# --- executors --------------------------------------------------------------------------------------------------------

CLASS = [submission(f"s{number:02}", RIGHT if number % 3 else WRONG) for number in range(12)]


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[Exercise, tuple[Grade, ...]]:
    exercise = make(tmp_path_factory.mktemp("class") / "exercise")
    return exercise, grade_some(Task(exercise=pack(exercise), submissions=tuple(CLASS)))


def test_local_processes(expected: Any) -> None:
    exercise, grades = expected
    came: list[str] = []
    assert grade(exercise, CLASS, workers=2, on_grade=lambda each: came.append(each.student)) == grades
    assert sorted(came) == [each.student for each in CLASS]


def test_asserts_say_what_their_author_wrote(tmp_path: Path) -> None:
    """pytest does not rewrite asserts, so that messages are the same in each of its versions, and show no source.

    An assert without a message shows what the submission has returned.
    """
    tests = """
    import pytest
    def test_words(student): assert student.call("double", 1) == 3, "assert that one is doubled\\nassert two"
    def test_none(student): assert student.call("double", 1) == 3
    def test_raw(student):
        with pytest.raises(AssertionError) as caught:
            assert student.call("double", 1) == 3
        pytest.fail(f"[{caught.value}]")
    """
    (only,) = grade(make(tmp_path / "e", tests), CLASS[1:2], workers=1)
    assert [test.status for test in only.tests] == ["wrong_answer"] * 3
    answered = "double(1) returned 2.\nThe test expects something else."
    assert [test.message for test in only.tests] == ["assert that one is doubled\nassert two", answered, "[]"]


@pytest.mark.full
def test_threads_of_one_process(expected: Any) -> None:
    exercise, grades = expected
    with ThreadPoolExecutor(3) as pool:
        assert grade(exercise, CLASS, executor=pool, workers=3) == grades


def test_nothing_to_grade(exercise: Exercise) -> None:
    assert grade(exercise, []) == ()


class Scripted(Executor):
    """Runs tasks at once. happens: called first; when it raises, the task fails."""

    def __init__(self, happens: Callable[[tuple[str, ...]], None]) -> None:
        self.happens = happens
        self.tasks: list[tuple[str, ...]] = []

    def submit(self, function: Any, task: Any, /, *_: Any, **__: Any) -> "Future[Any]":
        names = tuple(each.student for each in task.submissions)
        self.tasks.append(names)
        future: Future[Any] = Future()
        try:
            self.happens(names)
            future.set_result(tuple(Grade(student=name) for name in names))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.mark.parametrize(("seconds", "most"), [(0.0, 50), (0.1, 20), (0.5, 10)])
def test_tasks_have_as_many_submissions_as_are_graded_in_two_seconds(
    exercise: Exercise, monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    clock = [0.0]

    def happens(names: tuple[str, ...]) -> None:
        clock[0] += seconds * len(names)

    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    many = [submission(f"s{number:03}", "") for number in range(200)]
    pool = Scripted(happens)
    grades = grade(exercise, many, executor=pool, workers=1)
    assert [each.student for each in grades] == [each.student for each in many]
    sizes = [len(names) for names in pool.tasks]
    assert (sizes[0], max(sizes), min(sizes[:-1])) == (10, most, 10)


def test_who_is_alone_with_a_dying_worker_is_to_blame(exercise: Exercise) -> None:
    def happens(names: tuple[str, ...]) -> None:
        if "s05" in names:
            raise MemoryError("it died")

    pool = Scripted(happens)
    grades = grade(exercise, CLASS, executor=pool, workers=1)
    assert [each.student for each in grades if each.failed] == ["s05"]
    assert [each.student for each in grades] == [each.student for each in CLASS]
    assert pool.tasks.count(("s05",)) == 3
    assert grades[5].message == "MemoryError: it died"


def test_an_executor_that_has_ended(exercise: Exercise) -> None:
    from concurrent.futures.process import BrokenProcessPool

    def happens(names: tuple[str, ...]) -> None:
        if "s05" in names:
            raise BrokenProcessPool("gone")

    grades = grade(exercise, CLASS, executor=Scripted(happens), workers=1)
    done = [each.student for each in grades if not each.failed]
    assert done
    assert "s05" not in done
    assert {each.message for each in grades if each.failed} == {"its executor has ended"}


def test_a_fault_of_the_exercise_ends_all(exercise: Exercise) -> None:
    def happens(_: tuple[str, ...]) -> None:
        raise GradingError("the tests are at fault")

    pool = Scripted(happens)
    with pytest.raises(GradingError, match="the tests are at fault"):
        grade(exercise, CLASS, executor=pool, workers=1)
    assert len(pool.tasks) <= 2


def test_ctrl_c_finishes_what_is_begun(exercise: Exercise) -> None:
    def happens(names: tuple[str, ...]) -> None:
        if "s05" in names:
            os.kill(os.getpid(), signal.SIGINT)

    came: list[str] = []
    pool = Scripted(happens)
    with pytest.raises(KeyboardInterrupt):
        grade(exercise, CLASS, executor=pool, workers=1, on_grade=lambda each: came.append(each.student))
    assert sorted(came) == sorted(name for names in pool.tasks[:-1] for name in names)


KILLER = """
import os, signal
from pathlib import Path

def test_double(student):
    if student.call("name") == "s05":
        seen = Path({mark!r})
        if not seen.exists():
            seen.touch()
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.full
def test_a_worker_that_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real pool: another process continues; no result is lost, and no file of the exercise is left."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    exercise = make(tmp_path / "e", KILLER.format(mark=str(tmp_path / "mark")))
    some = [submission(f"s{number:02}", f"def name(): return 's{number:02}'") for number in range(8)]
    grades = grade(exercise, some, workers=2)
    assert (tmp_path / "mark").exists()
    assert not list((tmp_path / "temporary").iterdir())
    assert [(each.student, each.status) for each in grades] == [(each.student, "ok") for each in some]


def test_workers_end_with_whoever_gives_the_tasks(tmp_path: Path) -> None:
    """The process is killed without a chance to clean up; still no file of the exercise is left."""
    make(tmp_path / "e", "def test_wait(student):\n    import time\n    print(flush=True)\n    time.sleep(300)\n")
    (tmp_path / "a.py").write_text(RIGHT)
    temporary = Path(tempfile.mkdtemp(prefix="g"))
    command = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", "grade", "e", "a.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, start_new_session=True
    )
    try:
        soon(lambda: list(temporary.glob("proxybox-grading-*/*/proxybox-exercise-*")))
        workers = [pid for pid in below(process.pid) if b"proxybox/worker.py" in commands(pid)]
        assert workers
    finally:
        process.kill()
        process.wait()
    soon(lambda: not any(commands(pid) for pid in workers))
    assert not list(temporary.iterdir())
    shutil.rmtree(temporary)


def below(pid: int) -> list[int]:
    """Returns the children of a process, of all its threads."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def commands(pid: int) -> bytes:
    """Returns the command line of a process; b"" when it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def soon(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end, "too late"
        time.sleep(0.01)


def test_the_pool_ends_its_workers() -> None:
    pids = []

    def fail() -> None:
        with local_pool(1) as pool:
            pids.append(pool.submit(os.getpid).result())
            raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        fail()
    assert not Path(f"/proc/{pids[0]}").exists()


# --- what was graded before -------------------------------------------------------------------------------------------


def test_records_are_kept(tmp_path: Path, expected: Any) -> None:
    _, grades = expected
    odd = attrs.evolve(grades[0], student="\udc80 ü", message="a\0b\u2028", code="\ud800")
    records = GradeRecords(tmp_path)
    for number, each in enumerate((*grades, odd)):
        records.add(str(number), each)
    again = GradeRecords(tmp_path)
    assert [again.find(str(number)) for number in range(len(grades))] == list(grades)
    assert again.find(str(len(grades))) == odd
    assert again.find("another") is None


def test_what_was_graded_before_is_read_line_by_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line may contain hundreds of kilobytes of code."""
    records = GradeRecords(tmp_path)
    for number in range(20):
        records.add(str(number), Grade(student="ada", code="x" * 100_000))
    tracemalloc.start()
    try:
        for number in range(20, 40):
            records.add("the same", Grade(student="ada", code=f"{number}" * 50_000))
        again = GradeRecords(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 40 * 100_000, "neither the whole file, nor what was replaced"
    finally:
        tracemalloc.stop()
    found = again.find("the same")
    assert found is not None
    assert found.code == "39" * 50_000


def test_a_line_that_was_cut_off_counts_for_nothing(tmp_path: Path, expected: Any) -> None:
    _, grades = expected
    GradeRecords(tmp_path).add("a", grades[0])
    (path,) = tmp_path.iterdir()
    whole = path.read_text()
    for end in range(0, len(whole) - 1, 7):
        path.write_text(whole[:end])
        records = GradeRecords(tmp_path)
        assert records.find("a") is None
        records.add("b", grades[1])
        assert GradeRecords(tmp_path).find("b") == grades[1]


def test_bytes_that_are_no_text_count_for_nothing(tmp_path: Path, expected: Any) -> None:
    _, grades = expected
    GradeRecords(tmp_path).add("a", grades[0])
    (path,) = tmp_path.iterdir()
    path.write_bytes(b"\xff\xfe\n" + path.read_bytes() + b"\xff\n")
    assert GradeRecords(tmp_path).find("a") == grades[0]


def test_what_is_mounted_counts(tmp_path: Path) -> None:
    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted/a").write_text("1")
    settings = f'[[filesystem.mounts]]\nsource = "{tmp_path}/mounted"\ntarget = "/data"\n'
    exercise = make(tmp_path / "e", settings=settings)
    before = surroundings(exercise, None)
    (tmp_path / "mounted/a").write_text("12")
    assert before != surroundings(exercise, None)


def test_failures_are_not_kept(tmp_path: Path) -> None:
    GradeRecords(tmp_path).add("a", Grade(student="a", failed=True))
    assert GradeRecords(tmp_path).find("a") is None


def test_keys_tell_apart_what_changes_a_grade() -> None:
    first, packed = submission("a", RIGHT), Packed({"exercise.toml": b"1"})
    keys = [
        key_of(packed, first),
        key_of(Packed({"exercise.toml": b"2"}), first),
        key_of(Packed({"exercise.toml1": b""}), first),
        key_of(packed, submission("b", RIGHT)),
        key_of(packed, submission("a", WRONG)),
        key_of(packed, first, "/usr/bin/pypy"),
        key_of(packed, attrs.evolve(first, files={"solution.p": b"y" + RIGHT.encode()})),
    ]
    assert len(set(keys)) == len(keys)
    assert key_of(packed, submission("a", RIGHT)) == keys[0]
