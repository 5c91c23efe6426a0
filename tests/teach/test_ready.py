"""An exercise that stays ready: what one submission leaves for the next, and what happens to one that is stopped."""

import contextlib
import os
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from proxybox.teach.boxes import NOT_RUN
from proxybox.teach.exercise import load_exercise
from proxybox.teach.grades import Grade
from proxybox.teach.grading import GradingError, Packed, Task, grade_some, pack
from proxybox.teach.pytestrun import STOPPED
from proxybox.teach.ready import ReadyExercise
from proxybox.teach.submissions import Submission


def packed(folder: Path, tests: str, settings: str = "") -> Packed:
    (folder / "tests").mkdir(parents=True, exist_ok=True)
    (folder / "exercise.toml").write_text(f'title = "Doubles"\ntext = "Double it."\n{settings}')
    (folder / "tests/test_it.py").write_text(textwrap.dedent(tests))
    return pack(load_exercise(folder))


def submission(code: str) -> Submission:
    return Submission(student="ann", files={"solution.py": code.encode()})


def told(grade: Grade) -> list[tuple[str, str]]:
    return [(test.status, test.message) for test in grade.tests]


@pytest.mark.full
def test_grades_are_those_of_a_task(tmp_path: Path) -> None:
    exercise = packed(
        tmp_path,
        """
        import pytest

        @pytest.mark.parametrize("number", [2, 3])
        def test_double(student, number):
            "Doubles"
            student.expect("double", number, returns=2 * number)

        def test_program(run_student):
            "Prints"
            run_student().expect_output("done")
        """,
        '[rules]\nforbid = ["import"]\n',
    )
    given = [
        submission(code)
        for code in (
            "def double(n):\n    return 2 * n\nprint('done')\n",
            "def double(n):\n    return n * n\n",
            "import sys\nsys.exit()\n",
            "def double(n) return n\n",
            "",
            "X = 1\nprint('done')\n",
        )
    ]
    wanted = list(grade_some(Task(exercise=exercise, submissions=tuple(given))))
    with contextlib.closing(ReadyExercise(exercise)) as ready:
        found = [ready.grade(each) for each in (*given, *reversed(given))]
    assert found == [(each, False) for each in (*wanted, *reversed(wanted))]


def test_fixtures_of_a_session_begin_anew_with_each_submission(tmp_path: Path) -> None:
    exercise = packed(
        tmp_path,
        """
        import pytest

        BEGUN, ENDED = [], []

        @pytest.fixture(scope="session")
        def number():
            BEGUN.append(1)
            yield len(BEGUN)
            ENDED.append(1)

        def test_number(student, number):
            assert len(ENDED) == number - 1
            student.expect("number", returns=number)

        def test_number_again(student, number):
            student.expect("number", returns=number)
        """,
    )
    given = [submission(f"def number(): return {count}") for count in (1, 2, 3)]
    grades = grade_some(Task(exercise=exercise, submissions=tuple(given)))
    with contextlib.closing(ReadyExercise(exercise)) as ready:
        assert [ready.grade(each) for each in given] == [(each, False) for each in grades]
    assert [told(each) for each in grades] == [[("ok", "")] * 2] * 3


def test_tests_that_have_not_ended_when_it_is_stopped_have_not_passed(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    exercise = packed(
        tmp_path / "exercise",
        f"""
        def test_first(student):
            "The first"
            student.expect("first", returns=1)

        def test_second(student):
            "The second"
            open({str(fifo)!r}, "w").close()
            try:
                student.call("second")
            finally:
                student.call("second")

        def test_third(run_student):
            "The third"
            run_student().check()
        """,
    )
    code = "def first():\n    return 1\ndef second():\n    while True: pass\n"

    def stop() -> None:
        fifo.open().close()
        ready.stop()

    with contextlib.closing(ReadyExercise(exercise)) as ready:
        stopping = threading.Thread(target=stop)
        stopping.start()
        grade, stopped = ready.grade(submission(code))
        stopping.join()
        assert stopped
        assert told(grade) == [("ok", ""), ("time_limit", STOPPED), ("skipped", NOT_RUN)]
        reading = threading.Thread(target=lambda: fifo.open().close())
        reading.start()
        ready.begin()
        grade, stopped = ready.grade(submission(code.replace("while True: pass", "return 2")))
        reading.join()
    assert not stopped
    assert told(grade) == [("ok", "")] * 3


def test_what_surrounds_the_tests_is_gone_between_them(tmp_path: Path) -> None:
    exercise = packed(tmp_path, "def test_double(student):\n    student.expect('double', 1, returns=2)\n")
    before = dict(os.environ), list(sys.path)
    with contextlib.closing(ReadyExercise(exercise)) as ready:
        ready.grade(submission("def double(n): return 2 * n"))
        own = [name for name in sys.modules if name.startswith("exercise-")]
        assert (dict(os.environ), list(sys.path), own) == (*before, [])


@pytest.mark.parametrize(
    ("tests", "fault"),
    [
        ("def test_double(student)\n", "SyntaxError"),
        ("def test_double(studnet):\n    pass\n", "takes neither student nor run_student"),
        ("import pytest\n@pytest.mark.points('many')\ndef test_double(student):\n    pass\n", "want the mark points"),
        ("", "there is no test"),
    ],
)
def test_an_exercise_at_fault_is_refused_at_once(tmp_path: Path, tests: str, fault: str) -> None:
    with pytest.raises(GradingError, match=fault):
        ReadyExercise(packed(tmp_path, tests))
