"""How a cell has ended, in the words of an error message.

Names, values and tracebacks of the guest are made harmless before words of our own are put around them.
"""

import re

import attrs

from proxybox import Policy, Result, Status, hints
from proxybox.terminal.colouring import traceback
from proxybox.terminal.harmless import harmless, on_one_line

GONE = "The names of earlier cells are gone: run those that you need once more."
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
#: Characters of a message, and of a traceback, that are looked at: a session sends no more of its own accord.
_MOST_TOLD = 1 << 16
_NO_NAME = re.compile(r"cannot import name '\w+' from 'IPython(?:\.\w+)*'.*")
_NO_MODULE = re.compile(r"No module named '(\w+)(?:\.[\w.]*)?'")
_SAID = {
    Status.TIME_LIMIT: ("TimeLimitExceeded", "the cell took longer than {why} allows ({limits})"),
    Status.MEMORY_LIMIT: ("MemoryLimitExceeded", "the cell needed more memory than the policy gives ({limits})"),
    Status.OUTPUT_LIMIT: ("OutputLimitExceeded", "the cell printed more than the policy allows ({limits})"),
    Status.DISK_LIMIT: ("DiskLimitExceeded", "the cell's files need more than the policy gives ({limits})"),
    Status.CALL_LIMIT: ("CallLimitExceeded", "the cell made more OS calls than the policy allows ({limits})"),
    Status.DENIED: ("CallDenied", "a call was refused, for which this policy ends the box ({why})"),
    Status.CRASHED: ("InterpreterCrashed", "the interpreter in the box has crashed ({why})"),
    Status.MISBEHAVED: ("GuestMisbehaved", "the interpreter broke the protocol of the box ({why})"),
    Status.CANCELLED: ("KeyboardInterrupt", "the cell did not heed the interrupt, so its box was ended"),
    Status.OVERLOADED: ("Overloaded", "there are too many boxes"),
}


@attrs.frozen
class Trouble:
    """The content of an error message."""

    ename: str
    evalue: str
    traceback: tuple[str, ...]

    @classmethod
    def of(cls, ename: str, evalue: str, before: str = "") -> "Trouble":
        """Makes an error message with words of our own. before: the guest's own traceback, if there is one."""
        lines = coloured(harmless(before)) if before else ()
        return cls(ename, evalue, (*lines, f"\x1b[31m{ename}\x1b[39m: {evalue}"))

    def content(self) -> dict[str, object]:
        """Returns the content as a message has it."""
        return {"ename": self.ename, "evalue": self.evalue, "traceback": list(self.traceback)}


def trouble_of(result: Result, policy: Policy, alive: bool, no_input: bool) -> Trouble | None:
    """Returns what went wrong with a cell; None when nothing did.

    alive: whether the session goes on. no_input: whether the cell asked for input that the front end cannot give.
    """
    error = result.error
    told = "" if error is None else error.traceback[-_MOST_TOLD:]
    if not alive:
        name, words = _SAID.get(result.status, ("SessionEnded", "the interpreter has ended"))
        return Trouble.of(name, f"{_filled(words, result, policy)}. {GONE}")
    if result.status is Status.TIME_LIMIT:
        name, words = _SAID[Status.TIME_LIMIT]
        return Trouble.of(name, f"{_filled(words, result, policy)}. The names are kept.", told)
    if error is None:
        return None
    if error.type == "SystemExit":
        return Trouble.of(
            "SystemExit", f"{on_one_line(error.message[:_MOST_TOLD])} (the cell has ended, the session goes on)"
        )
    evalue, text = harmless(error.message[:_MOST_TOLD]), harmless(error.traceback[-_MOST_TOLD:])
    if error.type == "EOFError" and no_input:
        evalue = f"{evalue}: {NO_INPUT}" if evalue else NO_INPUT
        text = f"{text.rstrip()}: {NO_INPUT}\n"
    name = on_one_line(error.type[:_MOST_TOLD])
    return Trouble(name, evalue, coloured(text or f"{name}: {evalue}"))


def with_hint(trouble: Trouble, code: str) -> Trouble:
    """Adds what explains IPython's own syntax, or a missing module of Jupyter's; else the hint of any box."""
    hint = ""
    if trouble.ename == "SyntaxError" and any(line.lstrip().startswith(("%", "!")) for line in code.splitlines()):
        hint = NO_MAGIC
    elif trouble.ename == "ModuleNotFoundError" and (missing := _NO_MODULE.fullmatch(trouble.evalue)):
        hint = _NOT_THERE.get(missing[1], "")
    elif trouble.ename == "ImportError" and _NO_NAME.fullmatch(trouble.evalue):
        hint = NO_IPYTHON
    if not (hint := hint or hints.hint(trouble.ename, trouble.evalue)):
        return trouble
    return attrs.evolve(trouble, evalue=f"{trouble.evalue}; {hint}", traceback=(*trouble.traceback, f"({hint})"))


def _filled(words: str, result: Result, policy: Policy) -> str:
    limits, output = policy.limits, policy.output
    why = on_one_line(result.why.partition(";")[0])
    key = why.removeprefix("limits.")
    values = {
        Status.TIME_LIMIT: f"limits.{key} = {getattr(limits, key, None)}",
        Status.MEMORY_LIMIT: f"limits.memory = {limits.memory}",
        Status.OUTPUT_LIMIT: f"output.limit = {output.limit}, output.lines = {output.lines}",
        Status.CALL_LIMIT: f"{why} = {policy.session.calls if why.startswith('session') else limits.calls}",
        Status.DISK_LIMIT: f"limits.disk = {limits.disk}, limits.files = {limits.files}",
    }
    return words.format(why=why or "limits", limits=values.get(result.status, ""))


def cut_off(policy: Policy) -> str:
    """Returns the text that is shown when output was left out."""
    output = policy.output
    lines = "" if output.lines is None else f", output.lines = {output.lines}"
    return f"[output beyond the policy's limit was left out: output.limit = {output.limit}{lines}]"


def coloured(text: str) -> tuple[str, ...]:
    """Returns the lines of a traceback with colours. text: already harmless."""
    return tuple(traceback(text.rstrip("\n")).split("\n"))
