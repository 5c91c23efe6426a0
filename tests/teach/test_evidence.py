"""Records of failed tests: only of those, in a place for teachers, and without a change of the grades."""

import json
import os
import textwrap
from pathlib import Path
from typing import Any

import attrs
import pytest

import proxybox
from proxybox import cli
from proxybox.teach import evidence
from proxybox.teach.checking import find_exercise
from proxybox.teach.evidence import GradingRecords
from proxybox.teach.exercise import Exercise, load_exercise
from proxybox.teach.filenames import is_device
from proxybox.teach.grades import Grade, GradeBook, Verdict
from proxybox.teach.grading import Task, grade, grade_some, pack
from proxybox.teach.report import render
from proxybox.teach.submissions import Submission
from proxybox.teach.writers import WRITERS

TESTS = """
    import pytest

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_double(student, number):
        "Doubles"
        student.expect("double", number, returns=2 * number)

    @pytest.mark.hidden
    def test_secret(student):
        "A hidden one"
        student.expect("double", 20230601, returns=40461202)

    def test_printed(run_student):
        "Prints"
        run_student("a").check()
        run_student("b").expect_output("b b")
"""
CODE = {
    "right": "def double(n):\n    return n * 2\nif __name__ == '__main__':\n    t = input()\n    print(t, t)\n",
    "square": "def double(n):\n    return n ** 2\nif __name__ == '__main__':\n    print(input())\n",
    "no python": "def double(n) return\n",
    "forever": "def double(n):\n    while n > 1: pass\n    return 2 * n\nif __name__ == '__main__':\n    1 / 0\n",
}


@pytest.fixture(scope="module")
def exercise(tmp_path_factory: pytest.TempPathFactory) -> Exercise:
    folder = tmp_path_factory.mktemp("exercise") / "doubles"
    (folder / "tests").mkdir(parents=True)
    settings = 'title = "Doubles"\ntext = "Double it."\n[limits]\ncpu_time = 0.3\n'
    (folder / "exercise.toml").write_text(settings)
    (folder / "tests/test_it.py").write_text(textwrap.dedent(TESTS))
    return load_exercise(folder)


def submissions(*names: str) -> tuple[Submission, ...]:
    return tuple(Submission(student=name, files={"solution.py": CODE[name].encode()}) for name in names)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


@pytest.fixture(scope="module")
def graded(exercise: Exercise, folder: Path) -> dict[str, Grade]:
    grades = grade_some(Task(exercise=pack(exercise), submissions=submissions(*CODE), records=str(folder)))
    return {each.student: each for each in grades}


def without(grade: Grade) -> Grade:
    return attrs.evolve(grade, tests=tuple(attrs.evolve(test, records=(), unrecorded="") for test in grade.tests))


def test_grades_are_those_without_records(exercise: Exercise, graded: dict[str, Grade]) -> None:
    plain = grade_some(Task(exercise=pack(exercise), submissions=submissions(*CODE)))
    assert {each.student: without(each) for each in plain} == {name: without(each) for name, each in graded.items()}


def test_what_passes_leaves_none(graded: dict[str, Grade], folder: Path) -> None:
    assert not any(test.records for each in graded.values() for test in each.tests if test.passed)
    assert graded["right"].status == "ok"
    assert not (folder / "right").exists()
    assert [test.passed for test in graded["square"].tests] == [True, False, True, False, False]
    assert sorted(os.listdir(folder / "square")) == [
        "A_hidden_one.pbx", "Doubles_1.pbx", "Prints-2.pbx", "Prints.pbx"
    ]  # fmt: skip


def test_each_test_that_fails_names_its_records(graded: dict[str, Grade], folder: Path) -> None:
    named = {path for each in graded.values() for test in each.tests for path in test.records}
    assert named == {str(path) for path in folder.rglob("*.pbx")}
    for each in graded.values():
        for test in each.tests:
            assert bool(test.records) is not test.passed


@pytest.mark.full
def test_a_record_is_replayed_and_shows_what_went_wrong(graded: dict[str, Grade]) -> None:
    printed = graded["square"].tests[-1]
    assert [Path(path).name for path in printed.records] == ["Prints.pbx", "Prints-2.pbx"]
    for one in graded.values():
        for test in one.tests:
            for path in test.records:
                assert proxybox.replay(path).ok


def test_a_submission_that_cannot_be_loaded_has_one_record_for_all_its_tests(
    graded: dict[str, Grade], folder: Path
) -> None:
    *loaded, printed = graded["no python"].tests
    assert len({test.records for test in loaded}) == 1
    assert {test.status for test in loaded} == {"syntax_error"}
    (place,) = {os.path.dirname(path) for test in graded["no python"].tests for path in test.records}
    assert os.path.basename(place).startswith("no_python-")
    assert len(os.listdir(place)) == 1 + len(printed.records)


def test_students_are_told_nothing_of_them(graded: dict[str, Grade], folder: Path) -> None:
    book = GradeBook(title="Doubles", grades=[graded["square"]])
    for name, writer in WRITERS.items():
        if writer.for_students:
            assert all(str(folder) not in text for _, text in writer.files(book)), name
    assert str(folder) not in render(book, for_students=True)
    page = render(book)
    for test in graded["square"].tests:
        for path in test.records:
            assert f"proxybox replay {path}" in page


@pytest.mark.full
def test_processes_write_into_one_folder(exercise: Exercise, tmp_path: Path) -> None:
    students = [attrs.evolve(submissions("square")[0], student=name) for name in ("a b", "a_b", "a/b", "../c", "é")]
    grades = grade(exercise, students, workers=2, records=tmp_path / "records")
    places = [{os.path.dirname(path) for test in each.tests for path in test.records} for each in grades]
    assert [len(place) for place in places] == [1] * 5
    assert len(set.union(*places)) == 5
    assert {Path(place).parent for (place,) in places} == {tmp_path / "records"}


def test_a_record_that_cannot_be_written_is_no_submissions_fault(exercise: Exercise, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "records").mkdir()
    (tmp_path / "records/square").symlink_to(tmp_path / "elsewhere")
    (found,) = grade(exercise, submissions("square"), workers=1, records=tmp_path / "records")
    assert found.failed
    assert "the record cannot be written" in found.message
    assert not os.listdir(tmp_path / "elsewhere")


def test_names_of_tests_that_are_the_same_or_nearly(tmp_path: Path) -> None:
    kept, failed = GradingRecords(str(tmp_path)), Verdict(name="x", status="error")
    found: list[Any] = []
    for name in ("a b", "a_b", "a b.2", "../../x", ".", "a b"):
        kept.begin("s", name)
        Path(kept.next()).touch()
        found += kept.settle(failed).records
    assert len({*found}) == 6
    assert {os.path.dirname(path) for path in found} == {str(tmp_path / "s")}
    kept.begin("s", "a b")
    Path(kept.next()).touch()
    assert kept.settle(Verdict(name="x", status="ok")).records == ()
    assert {str(path) for path in (tmp_path / "s").iterdir()} == {*found}


LOUD = """
import os, threading
def double(n):
    for _ in range(4):
        with open("noise", "wb") as file: file.write(os.urandom(1 << 20))
    threads = [threading.Thread(target=os.urandom, args=[9]) for _ in range(3)]
    for each in threads: each.start()
    for each in threads: each.join()
    return n ** 2
"""


@pytest.mark.full
def test_a_record_that_grows_too_large_changes_no_grade(
    exercise: Exercise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "LIMIT", 1 << 20)
    loud = (Submission(student="loud", files={"solution.py": LOUD.encode()}),)
    patient = attrs.evolve(
        exercise, policy=attrs.evolve(exercise.policy, limits=proxybox.Limits(cpu_time=20, wall_time=100))
    )
    task = Task(exercise=pack(patient), submissions=loud)
    (plain,), (recorded,) = grade_some(task), grade_some(attrs.evolve(task, records=str(tmp_path)))
    assert [test.status for test in recorded.tests] == [
        "ok", "wrong_answer", "ok", "wrong_answer", "wrong_answer"
    ]  # fmt: skip
    assert without(recorded) == without(plain)
    assert [bool(test.unrecorded) for test in recorded.tests] == [False, True, False, True, False]
    assert [len(test.records) for test in recorded.tests] == [0, 0, 0, 0, 2]
    assert sorted(os.listdir(tmp_path / "loud")) == ["Prints-2.pbx", "Prints.pbx"]
    assert "a record that would need more" in render(GradeBook(title="Doubles", grades=[recorded]))
    assert "a record that" not in render(GradeBook(title="Doubles", grades=[recorded]), for_students=True)


# --- commands ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def homework(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "homework").mkdir()
    (tmp_path / "homework/bob.py").write_text("def is_leap(year):\n    return year % 4 == 0\n")
    return tmp_path


def run(capfd: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(words)
    return (status, *capfd.readouterr())


@pytest.mark.full
def test_grade_says_how_to_see_a_failure_again(homework: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("grade", "-j", "1", "02-leap-year", "homework", "--records", "kept")
    status, out, _ = run(capfd, *words)
    records = sorted(str(path) for path in (homework / "kept/bob").iterdir())
    assert status == 0
    assert f"{len(records)} records of tests that failed. To see one again: proxybox replay {homework}/kept/bob/" in out
    assert f"proxybox replay {records[0]}" in (homework / "grades/report.html").read_text()
    (seen,) = json.loads((homework / "grades/grades.json").read_text())["grades"]
    assert sorted(path for test in seen["tests"] for path in test["records"]) == records
    status, out, _ = run(capfd, "replay", records[0])
    assert status == 0
    before = os.stat(records[0]).st_ino
    run(capfd, *words)
    assert os.stat(records[0]).st_ino == before, "what is known is not graded again"
    os.unlink(records[0])
    run(capfd, *words)
    assert os.path.exists(records[0]), "what was removed is made again"


def test_one_submission_says_it_for_each_test(homework: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, "exercise", "test", "02-leap-year", "homework/bob.py", "--records", "k")
    assert status == 1
    for path in (homework / "k/bob").iterdir():
        assert f"proxybox replay {path}" in out.splitlines()


def test_a_cluster_or_a_link_takes_no_records(homework: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("grade", "02-leap-year", "homework", "--records")
    status, _, err = run(capfd, *words, "k", "--cluster", "tcp://127.0.0.1:1")
    assert (status, "--records: the workers of a cluster" in err) == (2, True)
    (homework / "homework/way").symlink_to(homework)
    status, _, err = run(capfd, *words, "homework/way/k")
    assert (status, "is a symbolic link" in err) == (2, True)


@pytest.mark.full
def test_shipped_exercises_are_graded_the_same(tmp_path: Path) -> None:
    exercise = find_exercise("05-second-largest")
    solutions = [*exercise.model_solutions(), *exercise.wrong_solutions()]
    plain = grade(exercise, solutions, workers=1)
    recorded = grade(exercise, solutions, workers=1, records=tmp_path / "records")
    assert plain == tuple(map(without, recorded))


def test_no_submission_has_the_folder_of_another_one(tmp_path: Path) -> None:
    """A student may give a submission the name of another one's folder."""
    kept, folders = GradingRecords(str(tmp_path)), list[str]()
    for name in ("a b", "a?b", "a_b"):
        kept.begin(name, "test")
        folders.append(os.path.basename(os.path.dirname(kept.next())))
    for name in tuple(folders[:2]):
        kept.begin(name, "test")
        folders.append(os.path.basename(os.path.dirname(kept.next())))
    assert len(set(folders)) == 5
    kept.begin("CON", "test")
    assert not is_device(os.path.basename(os.path.dirname(kept.next())))
    kept.begin("\U00020000" * 90, "\U00020001" * 90)
    assert len(os.path.basename(kept.next()).encode()) < 255
