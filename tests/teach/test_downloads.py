"""Downloads of Moodle and Canvas: each student has one submission, with the platform's number, and grades go back."""

import csv
import datetime
import io
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxybox.teach.downloads import canvas
from proxybox.teach.exercise import load_exercise
from proxybox.teach.grades import Grade, GradeBook, PassedOver, Verdict
from proxybox.teach.grading import Task, grade_some, pack
from proxybox.teach.submissions import Submission, find_submissions
from proxybox.teach.writers import WRITERS
from proxybox.teach.writers.csv import local_time

RIGHT, WRONG = "def f(): return 1\n", "def f(): pass\n"
#: Names as Canvas gives them: sorted by family name; late, handed in again, several files, two students of one name,
#: text only, other scripts.
CANVAS = {
    "lovelaceada_101_9001_solution.py": RIGHT,
    "turingalan_LATE_102_9002_solution-2.py": RIGHT,
    "hoppergrace_103_9003_solution.py": "from helper import f\n",
    "hoppergrace_103_9004_helper-1.py": RIGHT,
    "hoppergrace_103_9005_notes.pdf": "no text",
    "smithjo_104_9006_solution.py": WRONG,
    "smithjo_105_9007_solution.py": RIGHT,
    "ritchiedennis_106_text.html": "<p>def f(): return 1</p>",
    "राम_de_la_cruz_107_9008_solution.py": RIGHT,
    "anon_Ab1cD_9009_solution.py": RIGHT,
}
#: Names as Moodle gives them, with folders and without.
MOODLE = {
    "Ada Lovelace_4711_assignsubmission_file/solution.py": RIGHT,
    "Ada Lovelace_4711_assignsubmission_onlinetext/onlinetext.html": "<p>",
    "Jo Smith_12_assignsubmission_file_/solution.py": WRONG,
    "Jo Smith_9_assignsubmission_file_solution.py": RIGHT,
}
Make = Callable[[Path, dict[str, str]], Path]


def archive(path: Path, files: dict[str, str]) -> Path:
    with zipfile.ZipFile(path / "download.zip", "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return path / "download.zip"


def folder(path: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = path / "download" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path / "download"


@pytest.fixture(params=[archive, folder])
def make(request: pytest.FixtureRequest) -> Make:
    found: Make = request.param
    return found


def found_in(path: Path) -> dict[str, Submission]:
    return {each.student: each for each in find_submissions([path], "solution.py")}


def test_each_student_of_canvas_is_one_submission(tmp_path: Path, make: Make) -> None:
    passed_over: list[PassedOver] = []
    path = make(tmp_path, CANVAS)
    found = {each.student: each for each in find_submissions([path], "solution.py", passed_over.append)}
    assert {name: (each.id, sorted(each.files), each.late) for name, each in found.items()} == {
        "lovelaceada": ("101", ["solution.py"], False),
        "turingalan": ("102", ["solution.py"], True),
        "hoppergrace": ("103", ["helper.py", "notes.pdf", "solution.py"], False),
        "smithjo": ("104", ["solution.py"], False),
        "smithjo (105)": ("105", ["solution.py"], False),
        "ritchiedennis": ("106", ["text.html"], False),
        "राम_de_la_cruz": ("107", ["solution.py"], False),
        "anon_Ab1cD": ("anon_Ab1cD", ["solution.py"], False),
    }
    assert {each.submitted for each in found.values()} == {None}, "the files have the time of the download"
    assert passed_over == []


def test_each_student_of_moodle_is_one_submission(tmp_path: Path, make: Make) -> None:
    found = found_in(make(tmp_path, MOODLE))
    assert {name: (each.id, sorted(each.files)) for name, each in found.items()} == {
        "Ada Lovelace": ("4711", ["onlinetext.html", "solution.py"]),
        "Jo Smith": ("9", ["solution.py"]),
        "Jo Smith (12)": ("12", ["solution.py"]),
    }


def test_numbers_of_gradescope_are_kept(tmp_path: Path) -> None:
    path = folder(tmp_path, {"submission_1/solution.py": RIGHT})
    (path / "submission_metadata.yml").write_text('submission_1:\n  :submitters:\n  - :name: Ada\n    :sid: "00717"\n')
    assert found_in(path)["Ada"].id == "00717"


@pytest.mark.parametrize(
    "names",
    [
        ["ada.py", "bob.py"],
        ["lovelaceada_101_9001_solution.py", "bob.py"],
        ["hw_1_2_ada.py", "hw_1_2_bob.py"],  # no attachment number occurs twice
        ["ada_1.py", "bob_2.py"],
        [],
    ],
)
def test_what_is_no_download_of_canvas(names: list[str]) -> None:
    assert canvas(names) == {}


def test_other_files_beside_a_download_of_canvas_do_not_matter(tmp_path: Path, make: Make) -> None:
    files = {"lovelaceada_101_9001_solution.py": RIGHT, "turingalan_102_9002_solution.py": RIGHT, "notes.txt": ""}
    assert sorted(found_in(make(tmp_path, files))) == ["lovelaceada", "turingalan"]


def test_an_archive_in_a_download_is_opened(tmp_path: Path, make: Make) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as made:
        made.writestr("solution.py", RIGHT)
        made.writestr("helper.py", "")
    path = make(tmp_path, {"lovelaceada_101_9001_solution.py": RIGHT})
    name = "turingalan_LATE_102_9002_work-1.zip"
    if path.is_dir():
        (path / name).write_bytes(inner.getvalue())
    else:
        with zipfile.ZipFile(path, "a") as made:
            made.writestr(name, inner.getvalue())
    found = found_in(path)["turingalan"]
    assert (sorted(found.files), found.late, found.id) == (["helper.py", "solution.py"], True, "102")
    assert found.submitted is None


def test_no_name_of_a_file_makes_another_student(tmp_path: Path) -> None:
    """A student's file name is behind the numbers of the platform."""
    files = {
        "lovelaceada_101_9001_solution.py": RIGHT,
        "evemallory_666_9002_lovelaceada_101_9001_solution.py": WRONG,
        "evemallory_666_9003_a\nb_4711_assignsubmission_file_solution.py": WRONG,
    }
    found = found_in(archive(tmp_path, files))
    assert {name: len(each.files) for name, each in found.items()} == {"lovelaceada": 1, "evemallory": 2}


# --- times ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def in_india(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def dated(path: Path, extra: bytes = b"") -> Path:
    name = "Ada_1_assignsubmission_file_/solution.py"
    with zipfile.ZipFile(path / "download.zip", "w") as made:
        info = zipfile.ZipInfo(name, (2026, 10, 1, 23, 30, 0))
        info.extra = extra
        made.writestr(info, RIGHT)
    return path / "download.zip"


@pytest.mark.usefixtures("in_india")
def test_times_in_an_archive_are_local(tmp_path: Path) -> None:
    """Unless the archive contains UTC times."""
    (only,) = found_in(dated(tmp_path)).values()
    assert only.submitted == datetime.datetime(2026, 10, 1, 18, 0, tzinfo=datetime.UTC)
    assert local_time(only.submitted) == "2026-10-01 23:30:00"
    seconds = int(datetime.datetime(2026, 10, 1, 12, 0, tzinfo=datetime.UTC).timestamp())
    stated = struct.pack("<HHHHBi", 0x7875, 0, 0x5455, 5, 1, seconds)
    (only,) = found_in(dated(tmp_path, stated)).values()
    assert local_time(only.submitted) == "2026-10-01 17:30:00"
    for cut in range(1, len(stated)):
        assert len(found_in(dated(tmp_path, stated[:cut]))) == 1, "an extra field may be anything"


@pytest.mark.usefixtures("in_india")
def test_a_deadline_and_the_platforms_word_both_make_late(tmp_path: Path) -> None:
    (tmp_path / "e/tests").mkdir(parents=True)
    (tmp_path / "e/tests/test_it.py").write_text("def test_it(student): student.expect('f', returns=1)\n")
    settings = "title = 'T'\ntext = 'T.'\ndeadline = 2026-10-01T23:00:00+05:30\n"
    (tmp_path / "e/exercise.toml").write_text(settings)
    exercise = load_exercise(tmp_path / "e")
    (late,) = grade_some(Task(exercise=pack(exercise), submissions=tuple(found_in(dated(tmp_path)).values())))
    assert (late.late, late.id, late.status) == (True, "1", "ok")
    found = found_in(archive(tmp_path, {name: CANVAS[name] for name in list(CANVAS)[:2]}))
    grades = grade_some(Task(exercise=pack(exercise), submissions=tuple(found.values())))
    assert {each.student: (each.late, each.id) for each in grades} == {
        "lovelaceada": (False, "101"), "turingalan": (True, "102"),
    }  # fmt: skip


# --- back to the platform ---------------------------------------------------------------------------------------------

BOOK = GradeBook(
    title="Week 1, leaps",
    grades=(
        Grade(student="lovelaceada", id="101", tests=(Verdict(name="a", status="ok", points=2.5, possible=3),),
              submitted=datetime.datetime(2026, 10, 1, 18, 0, tzinfo=datetime.UTC)),
        Grade(student="=cmd|'x'", id="102", tests=(
            Verdict(name="a", status="wrong_answer", possible=3, message="f() returned '<script>\"',\n 1 wanted."),
        )),
        Grade(student="broken", id="103", failed=True),
        Grade(student="anon_Ab1cD", id="anon_Ab1cD", tests=(Verdict(name="a", status="ok", points=3, possible=3),)),
        Grade(student="unknown", tests=(Verdict(name="a", status="ok", points=3, possible=3),)),
    ),
)  # fmt: skip


def table(form: str) -> list[list[str]]:
    text = WRITERS[form].render(BOOK)
    assert text.startswith("\ufeff"), "Excel takes a file without a byte order mark for something else than UTF-8"
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))


def test_canvas_reads_its_grades() -> None:
    """Like GradebookImporter: columns by their place, the student by the number, any title."""
    head, *rows = table("canvas")
    assert len(head) > 3
    assert "Student" in head[0]
    assert "ID" in head[1]
    assert "Section" in head[2]
    assert head[3:] == ["Week 1, leaps"]
    assert {row[1]: row[3] for row in rows if row[1]} == {"101": "2.5", "102": "0.0"}, "an empty cell removes a grade"
    assert [row[0] for row in rows if not row[1]] == ["anon_Ab1cD", "unknown"]
    assert {len(row) for row in rows} == {4}


def test_moodle_reads_its_worksheet() -> None:
    """Like assignfeedback_offline: columns by their name, the number after "Participant "."""
    head, *rows = table("moodle")
    assert {"Identifier", "Grade", "Last modified (grade)", "Feedback comments"} <= set(head)
    found = {row["Identifier"]: row for row in (dict(zip(head, each, strict=True)) for each in rows)}
    grades = {name[len("Participant ") :]: row["Grade"] for name, row in found.items() if name}
    assert grades == {"101": "2.5", "102": "0.0", "103": ""}
    assert found["Participant 102"]["Full name"] == "'=cmd|'x'"
    comment = found["Participant 102"]["Feedback comments"]
    assert "&lt;script&gt;" in comment
    assert "<script" not in comment
    assert comment.startswith("<pre>Week 1, leaps<br>Submission: ")


@pytest.mark.usefixtures("in_india")
def test_the_table_for_a_spreadsheet() -> None:
    head, first, *_ = table("csv")
    found = dict(zip(head, first, strict=True))
    assert (found["id"], found["submitted"], found["score"]) == ("101", "2026-10-01 23:30:00", "2.5")
