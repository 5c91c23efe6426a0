"""Notebooks as submissions, and files among submissions that are none."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from proxybox import cli
from proxybox.teach.grades import Grade
from proxybox.teach.grading import RULES, Packed, Task, grade_some
from proxybox.teach.notebooks import MOST_CODE, MOST_PARTS, NotebookError, read_notebook
from proxybox.teach.student import Failed
from proxybox.teach.submissions import Submission, find_submissions

TESTS = b"def test_double(student):\n    'Doubles'\n    student.expect('double', 3, returns=6)\n"
CELLS = ["%matplotlib inline\nimport math\n", "!pip install numpy\ndef double(n):\n    return 2 * n\n", "double?\n"]


def notebook(*cells: Any, **more: Any) -> bytes:
    """Returns a Jupyter notebook with a text cell before its code cells."""
    found: list[Any] = [{"cell_type": "markdown", "source": ["# Homework"], "metadata": {}}]
    found += [{"cell_type": "code", "source": cell, "outputs": [{"text": "9" * 40}]} for cell in cells]
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": found, **more}).encode()


def graded(*submissions: dict[str, bytes], settings: str = "", problem: str = "") -> tuple[Grade, ...]:
    """Grades submissions. problem: of one more, which cannot be read."""
    files = {"exercise.toml": f"title = 'Doubles'\ntext = 'Double it.'\n{settings}".encode(), "tests/test_it.py": TESTS}
    given = [Submission(student=f"s{number}", files=each) for number, each in enumerate(submissions)]
    given += [Submission(student="unread", problem=problem)] if problem else []
    return grade_some(Task(exercise=Packed(files), submissions=tuple(given)))


@pytest.mark.full
def test_a_folder_with_all_that_people_hand_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Notebooks are graded. Ignored files are named on standard error, on the page and in the JSON."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "homework"
    for name in ("carol", ".hidden", "__pycache__", ".git", "forged", "carol/.git"):
        (folder / name).mkdir(parents=True)
    right = "def is_leap(year):\n    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)\n"
    (folder / "ada.ipynb").write_bytes(notebook("%pylab inline\n", right))
    (folder / "carol/solution.py").write_text(right)
    (folder / "bob.txt").write_text(right)
    (folder / "eve\x1b[2J.docx").touch()
    (folder / "dan.py").symlink_to("carol/solution.py")
    (folder / "carol/link.py").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.py")
    (folder / "forged/.grades.jsonl").touch()
    assert cli.main(["grade", "02-leap-year", "homework", "-f", "feedback"]) == 0
    out, err = capfd.readouterr()
    assert [line.split()[:4] for line in out.splitlines()[2:4]] == [["ada", "6", "/", "6"], ["carol", "6", "/", "6"]]
    kind = "it is no folder, and no .py, .ipynb or .zip file"
    expected = {
        "homework/.hidden": "its name begins with a dot or with __",
        "homework/bob.txt": kind,
        "homework/dan.py": "links are not followed",
        "homework/eve\\x1b[2J.docx": kind,
        "homework/forged": "it holds the grades of an earlier grading (.grades.jsonl)",
        "homework/pipe.py": kind,
        "homework/carol/link.py": "links are not followed",
    }
    assert err.splitlines() == [f"proxybox: passed over: {path}: {why}" for path, why in expected.items()]
    book = json.loads((tmp_path / "grades/grades.json").read_text())
    assert {each["path"]: each["why"] for each in book["passed_over"]} == expected
    page = (tmp_path / "grades/report.html").read_text()
    assert all(f"<li>{path}: {why}</li>" in page for path, why in expected.items())
    assert "%pylab inline" in book["grades"][0]["note"]
    assert "These lines are IPython&#x27;s and no Python; they are not run" in page
    feedback = {path.parent.name: path.read_text() for path in (tmp_path / "grades").glob("feedback/*/feedback.txt")}
    assert sorted(feedback) == ["ada", "carol"]
    assert feedback["ada"].startswith("Leap years\nSubmission: ada\nScore: 6 of 6 points\n\n+ ")
    assert "      %pylab inline" in feedback["ada"].splitlines()
    assert cli.main(["grade", "02-leap-year", "."]) == 0
    assert "grades" not in capfd.readouterr().err, "the folder that this grading writes to is known"


def test_what_a_moodle_download_holds_besides(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "all.zip", "w") as made:
        made.writestr("Ada_1_assignsubmission_file/hw.ipynb", notebook(*CELLS))
        made.writestr("list.txt", "")
        made.writestr(".x/y", "")
    passed: list[str] = []
    (only,) = find_submissions([tmp_path / "all.zip"], "solution.py", lambda each: passed.append(each.path))
    assert (only.student, b"def double" in only.main("solution.py")) == ("Ada", True)
    assert passed == [f"{tmp_path}/all.zip:list.txt", f"{tmp_path}/all.zip:.x"]


def test_notebooks_are_graded_by_their_code_cells() -> None:
    """IPython's own lines are left out, and the note says so. Rules are checked in the rest of the code."""
    found = graded(
        {"hw.ipynb": notebook(*CELLS)},
        {"hw.ipynb": notebook(["def double(n):\n", "    return 2 * n\n"]), "notes.txt": b""},
        {"a/solution.ipynb": notebook("def double(n): return n"), "other.ipynb": notebook("1 / 0")},
        {"hw.ipynb": notebook("def double(n)\n    return n")},
        {"hw.ipynb": notebook("import os\ndef double(n):\n    return 1 // 0")},
        settings="[rules]\nforbid = ['import:os']\n",
    )
    assert [each.status for each in found] == ["ok", "ok", "wrong_answer", "syntax_error", "forbidden"]
    assert found[0].note == (
        "Of the notebook its code cells are graded, one behind another: cell 1 from line 2, cell 2 from line 6, "
        "cell 3 from line 11.\nThese lines are IPython's and no Python; they are not run:\n"
        "    %matplotlib inline\n    !pip install numpy\n    double?"
    )
    assert found[4].tests[1].line == 4
    assert found[4].code.splitlines()[3] == "    return 1 // 0"


@pytest.mark.parametrize(
    ("cell", "code", "left_out"),
    [
        ("x = 1\n  % 2", None, ["% 2"]),  # this is no Python either
        ("x = (7\n%\n4)", "x = (7\n%\n4)", []),
        ("x = 7 \\\n%4", "x = 7 \\\n%4", []),
        ("'''\n%time\n'''\n# (\n%time x", "'''\n%time\n'''\n# (\npass  # %time x", ["%time x"]),
        ("if 1:\n    !ls \\\n  -l\nelse: pass", "if 1:\n    pass  # !ls \\\n#   -l\nelse: pass", ["!ls \\\n  -l"]),
        ("%%time\nx = 1\n%ls", "# %%time\nx = 1\npass  # %ls", ["%%time", "%ls"]),
        ("\n%%bash\nrm -r /\n", "# \n# %%bash\n# rm -r /\n# ", ["%%bash (the whole cell)"]),
        ("?x\nx.y??\nx = y if x else '?'", "pass  # ?x\npass  # x.y??\nx = y if x else '?'", ["?x", "x.y??"]),
        ("'\\\n%'\n)\n'''", "'\\\n%'\n)\n'''", []),
        ("%%capture", "# %%capture", ["%%capture"]),
    ],
)
def test_lines_that_are_no_python(cell: str, code: str | None, left_out: list[str]) -> None:
    found = read_notebook(notebook(cell))
    assert found.code.count("\n") == cell.count("\n") + 2, "lines stay where they are"
    if code is not None:
        assert found.code == f"# Code cell 1\n{code}\n"
    seen = [line.strip() for line in found.note.splitlines()[2:]]
    assert seen == [" ".join(each.split()) for each in left_out]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"[" * 100_000, "nested too deeply"),
        (b'{"cells":' * 100_000, "nested too deeply"),
        (b"[]," * MOST_PARTS, "more than 1,000,000 parts"),
        (b"print(1)", "no JSON: Expecting value"),
        (b"9" * 5000, "no JSON"),
        (b"\xff\xfe", "no text in UTF-8 (byte 0)"),
        (b"[]", "no notebook of Jupyter's format 4"),
        (b'{"worksheets": []}', "no notebook of Jupyter's format 4"),
        (b'{"cells": [1]}', "a cell is no object"),
        (notebook({"a": 1}), "the source of a code cell is no text"),
        (notebook(["a", 1]), "the source of a code cell is no text"),
        (notebook("x" * MOST_CODE, "y"), "more than 1 MiB of code"),
        (notebook("x", metadata={"kernelspec": {"language": "R"}}), "a notebook in R, not in Python"),
    ],
)
def test_what_is_no_notebook(data: bytes, words: str) -> None:
    """The result is an error with a message."""
    with pytest.raises(NotebookError) as found:
        read_notebook(data)
    assert str(found.value).startswith(words)
    with pytest.raises(Failed) as failed:
        Submission(student="eve", files={"hw\x1b.ipynb": data}).main("solution.py")
    assert str(failed.value).startswith(f"The notebook hw\\x1b.ipynb cannot be read: {words}")


def test_odd_notebooks_that_are_some() -> None:
    for more in ({"metadata": None}, {"metadata": {"kernelspec": 1, "language_info": {"name": "Python"}}}):
        assert read_notebook(notebook("x", **more)).code == "# Code cell 1\nx\n"
    assert read_notebook(notebook("x\r\ny\rz")).code == "# Code cell 1\nx\ny\nz\n"
    code = read_notebook(notebook("x = '\ud800'")).code
    assert "\ud800" in code
    assert "3 more" in read_notebook(notebook("\n".join(f"%m{n}" for n in range(23)))).note
    (found,) = graded({"hw.ipynb": notebook("x = '\ud800'")})
    assert (found.status, "is no text in UTF-8" in found.tests[0].message) == ("syntax_error", True)


@pytest.mark.parametrize("sign", ["(", "'", '"""', "\\", "%", "\n%", "a?\n", "#", "\n"])
def test_code_that_is_made_to_be_slow(sign: str) -> None:
    """Each character is read once: a hundred thousand of them take no time."""
    assert read_notebook(notebook(sign * (100_000 // len(sign)))).note


def test_what_is_empty_or_cannot_be_read_breaks_no_rule() -> None:
    """The result is an error with a message, and not "forbidden"."""
    found = graded(
        {"solution.py": b""},
        {"solution.py": b"\xef\xbb\xbf \n\t\n"},
        {"hw.ipynb": notebook()},
        {"hw.ipynb": notebook("", "\n")},
        {"hw.ipynb": b"{}"},
        {"notes.txt": b"x"},
        {},
        settings="[rules]\nrequire = ['function:double']\n",
        problem="Permission denied",
    )
    assert {each.status for each in found} == {"error"}
    assert {(each.tests[0].name, each.tests[0].status) for each in found} == {(RULES, "skipped")}
    assert [each.tests[1].message for each in found] == [
        "The file solution.py is empty.",
        "The file solution.py is empty.",
        "The notebook hw.ipynb is empty.",
        "The notebook hw.ipynb is empty.",
        "The notebook hw.ipynb cannot be read: no notebook of Jupyter's format 4, which has a list of cells.",
        "There is no file solution.py in the submission, which holds notes.txt.",
        "There is no file solution.py in the submission, which holds nothing.",
        "The submission cannot be read: Permission denied.",
    ]


def test_which_notebooks_of_a_folder_are_a_submission_each(tmp_path: Path) -> None:
    for name in ("one/solution.ipynb", "one/helper.py", "two/solution.ipynb", "two/ada.ipynb", "three/solution.py",
                 "three/ada.ipynb", "four/bob/solution.ipynb", "four/solution.ipynb"):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(json.dumps(json.loads(notebook("import helper\n")), indent=1).encode())
    found = {
        folder: [each.student for each in find_submissions([tmp_path / folder], "solution.py")]
        for folder in ("one", "two", "three", "four")
    }
    assert found == {"one": ["one"], "two": ["ada", "solution"], "three": ["ada", "solution"],
                     "four": ["bob", "solution"]}  # fmt: skip
