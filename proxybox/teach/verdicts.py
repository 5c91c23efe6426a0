"""Makes the verdict of a submission from the end of a test."""

import dataclasses
from typing import Any

import pytest

from proxybox.teach.faults import fault_of
from proxybox.teach.grades import Verdict
from proxybox.teach.settling import AT_FAULT, by_use
from proxybox.teach.student import Failed
from proxybox.teach.testoutput import MOST_PRINTED, is_of_use, output_of
from proxybox.terminal.harmless import harmless_lines

#: Characters of a message, which may contain a submission's result if the test's author puts it there.
_MOST_MESSAGE = 10_000


def verdict_of(item: pytest.Item, call: pytest.CallInfo[Any], points: float) -> Verdict:
    """The verdict of one test. points: for a test without the mark points."""
    mark = item.get_closest_marker("points")
    possible = float(mark.args[0]) if mark is not None and mark.args else points
    status, message, line = _end(call)
    message = message or (output_of(item).refused() if status == "wrong_answer" else "")
    message = harmless_lines(message)  # a teacher's message may contain text of a submission, too
    error = None if call.excinfo is None else call.excinfo.value
    raised = error if status == "internal_error" else None
    verdict = Verdict(
        name=name_of(item),
        status=status,
        points=possible if status == "ok" else 0.0,
        possible=possible,
        message=message if len(message) <= _MOST_MESSAGE else message[:_MOST_MESSAGE] + "...",
        output=_printed(item),
        hidden=item.get_closest_marker("hidden") is not None,
        seconds=call.duration,
        line=line,
        fault="" if raised is None else fault_of(raised, item.config.rootpath),
        answers="" if raised is None else harmless_lines(output_of(item).used_in(raised)),
    )
    if raised is None or not verdict.answers or not is_of_use(raised, item.config.rootpath):
        return verdict
    return by_use(verdict)


def make_harmless(report: pytest.TestReport) -> None:
    """Makes harmless what pytest prints of a test run by hand: it may contain a submission's result."""
    report.longrepr = _harmless(report.longrepr)
    report.sections = _harmless(report.sections)
    if hasattr(report, "wasxfail"):
        report.wasxfail = _harmless(report.wasxfail)


def _harmless(part: Any) -> Any:
    if isinstance(part, str):
        return harmless_lines(part)
    if isinstance(part, list | tuple):
        return type(part)(map(_harmless, part))
    if dataclasses.is_dataclass(part):
        for name, value in vars(part).items():
            setattr(part, name, _harmless(value))
    return part


def name_of(item: pytest.Item) -> str:
    """The first line of the test's docstring, or else the test's own name; with its parameters."""
    function = getattr(item, "function", None)
    words = (getattr(function, "__doc__", None) or "").strip().split("\n")[0].rstrip(".")
    callspec = getattr(item, "callspec", None)
    name = words or getattr(item, "originalname", item.name).removeprefix("test_").replace("_", " ")
    return f"{name} ({callspec.id})" if callspec is not None and callspec.id else name


def _end(call: pytest.CallInfo[Any]) -> tuple[str, str, int | None]:
    if call.excinfo is None:
        return "ok", "", None
    error = call.excinfo.value
    if isinstance(error, Failed):
        return error.status, str(error), error.line
    if isinstance(error, pytest.skip.Exception):
        return "skipped", str(error), None
    if isinstance(error, pytest.fail.Exception):  # pytest.fail, or an expected exception that was not raised
        return "wrong_answer", str(error), None
    if isinstance(error, AssertionError):
        # Only what the teacher wrote for students: with --assert=plain pytest adds no words that would show the source.
        # If that is empty, the student gets the answers (SubmissionOutput.refused).
        return "wrong_answer", str(error).strip(), None
    return "internal_error", AT_FAULT, None


def _printed(item: pytest.Item) -> str:
    text = "".join(output_of(item).printed)
    return harmless_lines(text[:MOST_PRINTED]) + ("..." if len(text) > MOST_PRINTED else "")
