"""The error messages of cells.

Names, values and tracebacks of the guest are made harmless before words of our own are put around them.
"""

import re
from collections.abc import Iterator
from typing import Final

import attrs

from proxybox import Result, Status
from proxybox.explanations import CUT
from proxybox.terminal.colouring import traceback
from proxybox.terminal.harmless import harmless, on_one_line

GONE = "The names of earlier cells are gone: run those that you need once more."
NOT_HEEDED = "the cell did not heed the interrupt, so its box was ended"
NO_INPUT = "this front end takes no input (allow_stdin is false)"
NO_MAGIC = (
    "IPython's %magics and !commands are not there, but for %matplotlib inline and "
    "%config InlineBackend.figure_format: a cell is plain Python"
)
NO_WIDGETS = (
    "there are no widgets: they need a connection between the notebook's page and the code in the box (a comm), and a "
    "page obeys what comes by that; a box shows text, pictures and JSON, with display(...)"
)
NO_IPYTHON = (
    "the cell's Python is no IPython: of that there is IPython.display, with display, HTML, Image, Markdown and the "
    "like; display(...) and clear_output() are there without an import"
)
#: Explanations, by the module that was not found.
_NOT_THERE = {"ipywidgets": NO_WIDGETS, "anywidget": NO_WIDGETS, "ipympl": NO_WIDGETS, "IPython": NO_IPYTHON}
#: Characters of a message, and of a traceback, that are read: an honest session sends no more.
_MOST_TOLD = 1 << 16
_NO_NAME = re.compile(r"cannot import name '\w+' from 'IPython(?:\.\w+)*'.*")
_NO_MODULE = re.compile(r"No module named '(\w+)(?:\.[\w.]*)?'")
#: The names of errors, by the status of a cell; the explanations are in the result.
_NAMES: Final = {
    Status.TIME_LIMIT: "TimeLimitExceeded",
    Status.MEMORY_LIMIT: "MemoryLimitExceeded",
    Status.OUTPUT_LIMIT: "OutputLimitExceeded",
    Status.DISK_LIMIT: "DiskLimitExceeded",
    Status.CALL_LIMIT: "CallLimitExceeded",
    Status.DENIED: "CallDenied",
    Status.CRASHED: "InterpreterCrashed",
    Status.MISBEHAVED: "GuestMisbehaved",
    Status.CANCELLED: "KeyboardInterrupt",
    Status.OVERLOADED: "Overloaded",
}


@attrs.frozen
class CellError:
    """The content of an error message."""

    ename: str
    evalue: str
    traceback: tuple[str, ...]

    @classmethod
    def of(cls, ename: str, evalue: str, before: str = "") -> "CellError":
        """Makes an error message with words of our own. before: the guest's own traceback, if there is one."""
        lines = coloured(harmless(before)) if before else ()
        return cls(ename, evalue, (*lines, f"\x1b[31m{ename}\x1b[39m: {evalue}"))

    def content(self) -> dict[str, object]:
        """Returns the content of the Jupyter message."""
        return {"ename": self.ename, "evalue": self.evalue, "traceback": list(self.traceback)}


def cell_error(result: Result, alive: bool, no_input: bool, code: str = "") -> CellError | None:
    """Returns the error of a cell; None for a cell without an error.

    code: of the cell. alive: whether the session goes on. no_input: whether the cell asked for input that the front end
    cannot give.
    """
    error = result.error
    trace = "" if error is None else error.traceback[-_MOST_TOLD:]
    explained = "; ".join(str(each) for each in result.explanations if each.key != CUT)
    if not alive:
        name = _NAMES.get(result.status, "SessionEnded")
        if result.status is Status.CANCELLED:  # by a second interrupt, which only the kernel treats so
            explained = NOT_HEEDED
        return CellError.of(name, f"{explained or 'the interpreter has ended'}. {GONE}")
    if result.status in (Status.TIME_LIMIT, Status.CALL_LIMIT):
        return CellError.of(_NAMES[result.status], f"{explained}. The names are kept.", trace)
    if error is None:
        return None
    if error.type == "SystemExit":
        return CellError.of(
            "SystemExit", f"{on_one_line(error.message[:_MOST_TOLD])} (the cell has ended, the session goes on)"
        )
    evalue, text = harmless(error.message[:_MOST_TOLD]), harmless(error.traceback[-_MOST_TOLD:])
    if error.type == "EOFError" and no_input:
        evalue = f"{evalue}: {NO_INPUT}" if evalue else NO_INPUT
        text = f"{text.rstrip()}: {NO_INPUT}\n"
    name = on_one_line(error.type[:_MOST_TOLD])
    trouble = CellError(name, evalue, coloured(text or f"{name}: {evalue}"))
    hint = _of_jupyter(trouble, code) or explained
    if not hint or (no_input and error.type == "EOFError"):
        return trouble
    evalue = "; ".join(filter(None, (trouble.evalue, hint)))
    return attrs.evolve(trouble, evalue=evalue, traceback=(*trouble.traceback, f"({hint})"))


def _of_jupyter(trouble: CellError, code: str) -> str:
    """Returns an explanation for IPython's own syntax, or for a missing module of Jupyter; "" for other errors."""
    if trouble.ename == "SyntaxError" and any(line.lstrip().startswith(("%", "!")) for line in code.splitlines()):
        return NO_MAGIC
    if trouble.ename == "ModuleNotFoundError" and (missing := _NO_MODULE.fullmatch(trouble.evalue)):
        return _NOT_THERE.get(missing[1], "")
    return NO_IPYTHON if trouble.ename == "ImportError" and _NO_NAME.fullmatch(trouble.evalue) else ""


def cut_off(result: Result) -> Iterator[str]:
    """Yields the text that is shown when output was cut."""
    yield from (f"[{each}]" for each in result.explanations if each.key == CUT)


def coloured(text: str) -> tuple[str, ...]:
    """Returns the lines of a traceback with colours. text: already harmless."""
    return tuple(traceback(text.rstrip("\n")).split("\n"))
