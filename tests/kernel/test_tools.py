"""Tools that run notebooks without a person: nbclient and nbgrader."""

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from proxybox.controller import find_guest

pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:There is no current event loop:DeprecationWarning"),
]


def executed(*cells: str, **options: Any) -> Any:
    """Runs cells as a notebook of the kernel python3, and returns it with its outputs."""
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    options = {"kernel_name": "proxybox", "timeout": 30, **options}
    return NotebookClient(notebook, **options).execute()


def outputs(notebook: Any, cell: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = notebook.cells[cell].outputs
    return found


def test_a_notebook_runs_with_this_kernel_and_not_with_its_own() -> None:
    notebook = executed("x = 6", "import platform, os\nprint(platform.python_implementation(), os.getcwd())", "x * 7")
    assert outputs(notebook, 1) == [{"output_type": "stream", "name": "stdout", "text": f"{find_guest().title} /box\n"}]
    assert outputs(notebook, 2)[0]["data"] == {"text/plain": "42"}
    nbformat.validate(notebook)


@pytest.mark.full
def test_an_endless_loop_is_interrupted_and_the_names_are_kept() -> None:
    notebook = executed(
        "x = 1", "print('begun')\nwhile True: x += 1", "x > 1",
        timeout=3, interrupt_on_timeout=True, allow_errors=True,
    )  # fmt: skip
    printed, error = outputs(notebook, 1)
    assert (printed["text"], error["ename"]) == ("begun\n", "KeyboardInterrupt")
    assert outputs(notebook, 2)[0]["data"] == {"text/plain": "True"}


def test_an_endless_loop_without_an_interrupt_is_an_error_and_leaves_nothing() -> None:
    with pytest.raises(CellTimeoutError):
        executed("while True: pass", timeout=1)


def test_an_error_ends_a_notebook() -> None:
    with pytest.raises(CellExecutionError, match="division by zero"):
        executed("1 / 0", "2")


@pytest.mark.full
def test_a_flood() -> None:
    (flood, after) = executed(
        "while True: print('a' * 1000)", "1", timeout=5, interrupt_on_timeout=True, allow_errors=True
    ).cells
    text = "".join(output["text"] for output in flood.outputs if output["output_type"] == "stream")
    assert len(text) == 1 << 20
    assert [output["output_type"] for output in flood.outputs if output["output_type"] != "stream"] == [
        "display_data", "error",
    ]  # fmt: skip
    assert after.outputs[0]["data"] == {"text/plain": "1"}


def test_input_has_nobody_to_ask() -> None:
    notebook = executed("input('name? ')", allow_errors=True)
    (*_, error) = outputs(notebook, 0)
    assert error["ename"] == "EOFError"
    assert "takes no input" in error["evalue"]
    assert not [output for output in outputs(notebook, 0) if output.get("name") == "stderr"]


def test_pictures_stay_in_the_notebook() -> None:
    notebook = executed("display({'image/svg+xml': '<svg><script/><rect/></svg>', 'text/html': '<script>'}, raw=True)")
    assert outputs(notebook, 0)[0]["data"] == {
        "image/svg+xml": '<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>',
        "text/plain": "[not shown: text/html (it has no table and no text)]",
    }


def test_the_example_of_the_documentation() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "jupyter.md").read_text()
    (example,) = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    exec(example, {})


# --- nbgrader ---------------------------------------------------------------------------------------------------------


def graded(grade_id: str, source: str, *, points: int = 0, solution: bool = False) -> Any:
    metadata = {
        "schema_version": 3, "grade_id": grade_id, "grade": bool(points), "solution": solution, "task": False,
        "locked": not solution, "cell_type": "code",
    }  # fmt: skip
    if points:
        metadata["points"] = points
    return new_code_cell(source, metadata={"nbgrader": metadata})


def assignment(double: str, half: str) -> Any:
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# Numbers"),
            graded("double", double, solution=True),
            graded("half", half, solution=True),
            graded("test_double", "import sys\nprint(sys.implementation.name)\nassert double(4) == 8", points=3),
            graded("test_half", "assert half(4) == 2", points=5),
        ]
    )
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return notebook


@pytest.mark.full
@pytest.mark.timeout(120)
def test_nbgrader_grades_with_it(tmp_path: Path) -> None:
    """Right answers, a wrong one, and one that never ends."""
    (tmp_path / "nbgrader_config.py").write_text(
        "c = get_config()\n"
        "c.CourseDirectory.course_id = 'course'\n"
        "c.ExecutePreprocessor.kernel_name = 'proxybox'\n"
        "c.ExecutePreprocessor.timeout = 2\n"
        "c.ClearSolutions.code_stub = {'python': 'raise NotImplementedError'}\n"
    )
    begin, end = "    ### BEGIN SOLUTION\n", "\n    ### END SOLUTION"
    put(
        tmp_path / "source/ps1/numbers.ipynb",
        assignment(f"def double(x):\n{begin}    return 2 * x{end}", f"def half(x):\n{begin}    return x / 2{end}"),
    )
    nbgrader(tmp_path, "generate_assignment", "ps1", "--create")
    answers = {
        "ada": ("def double(x): return 2 * x", "def half(x): return x / 2"),
        "bob": ("def double(x): return 2 * x", "def half(x): return x"),
        "eve": (
            "def double(x):\n    while True: pass",
            "import os\ndef half(x): return x / (2 if os.listdir() else 2)",
        ),
    }
    for student, (double, half) in answers.items():
        put(tmp_path / f"submitted/{student}/ps1/numbers.ipynb", assignment(double, half))
    nbgrader(tmp_path, "autograde", "ps1", "--create")

    with sqlite3.connect(tmp_path / "gradebook.db") as gradebook:
        rows = gradebook.execute(
            "SELECT submitted_assignment.student_id, SUM(grade.auto_score) FROM grade "
            "JOIN submitted_notebook ON grade.notebook_id = submitted_notebook.id "
            "JOIN submitted_assignment ON submitted_notebook.assignment_id = submitted_assignment.id "
            "GROUP BY submitted_assignment.student_id"
        ).fetchall()
    gradebook.close()
    assert dict(rows) == {"ada": 8, "bob": 3, "eve": 5}
    result = nbformat.read(tmp_path / "autograded/ada/ps1/numbers.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    assert [cell.outputs for cell in result.cells[-2:]] == [
        [{"output_type": "stream", "name": "stdout", "text": f"{find_guest().title.lower()}\n"}], [],
    ]  # fmt: skip


def put(path: Path, notebook: Any) -> None:
    path.parent.mkdir(parents=True)
    nbformat.write(notebook, path)  # type: ignore[no-untyped-call]


def nbgrader(folder: Path, *words: str) -> None:
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # nbgrader runs `alembic`
    done = subprocess.run(
        [sys.executable, "-m", "nbgrader", *words],
        cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
