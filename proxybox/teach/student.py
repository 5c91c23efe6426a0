"""What a test asks of a submission, and what it says to its author.

Everything that comes back was made by the submission: it is compared here, on the trusted side, with what no box has
seen. A Failed is the verdict of a test; its words are for the author of the submission, and hold nothing of the test's
source.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from proxybox import Result, Session, Status
from proxybox.result import on_one_line
from proxybox.teach.compare import close, difference

#: Characters of a value, and of an output, in a message.
_MOST_OF_VALUE, _MOST_OF_OUTPUT = 200, 2000
#: Characters of what a submission prints in a test that are kept for its verdict.
MOST_PRINTED = 10_000


class Failed(AssertionError):
    """A test has failed. status: as in grades.py. line: of the submission."""

    def __init__(self, message: str, status: str = "wrong_answer", line: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.line = line


_ENDS = {
    Status.TIME_LIMIT: "did not end in time. Is there a loop that goes on for ever, or does it wait for input?",
    Status.MEMORY_LIMIT: "needed more memory than there is. Does a list or a string grow for ever?",
    Status.OUTPUT_LIMIT: "printed more than is allowed. Is there a print in a loop that goes on for ever?",
    Status.DISK_LIMIT: "wrote more into files than is allowed.",
    Status.DENIED: "did something that is not allowed here.",
    Status.MISBEHAVED: "ended in a way in which Python does not end.",
    Status.CANCELLED: "was stopped.",
}


class Student:
    """A submission that was loaded: what a test asks of it. `stdout`: what the last call has printed."""

    def __init__(self, session: Session, file: str) -> None:
        self._session = session
        self._file = file
        self.stdout = ""
        self.printed: list[str] = []
        self.last = ""

    # --- what teachers use --------------------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What a function of the submission returns. Fails the test where it raises, or does not return."""
        told = _call_text(name, args, kwargs)
        return self._value(told, self._result(told, name, args, kwargs))

    def expect(self, name: str, *args: Any, returns: Any, tolerance: float | None = None, **kwargs: Any) -> None:
        """Fails the test unless the function returns that. tolerance: for numbers, alone and in lists and the like."""
        value = self.call(name, *args, **kwargs)
        if not alike(value, returns, tolerance):
            raise Failed(f"{self.last} returned {shown(value)}, and {shown(returns)} was expected.")

    def raises(self, kind: str, name: str, *args: Any, **kwargs: Any) -> None:
        """Fails the test unless the function raises such an exception, by its name."""
        told = _call_text(name, args, kwargs)
        result = self._result(told, name, args, kwargs)
        if result.ok and result.error is None:
            raise Failed(f"{told} returned {shown(result.value)}, and {kind} was to be raised.")
        if result.error is None or result.error.type != kind:
            self._fail(told, result, f"; {kind} was to be raised")

    def get(self, name: str) -> Any:
        """The value of a variable of the submission."""
        result = self._session.eval(name)
        return self._value(f"the value of {name}", result)

    def expect_output(self, expected: str, *, tolerance: float | None = None) -> None:
        """Fails the test unless the last call has printed that, token by token."""
        _compare(self.last or "the submission", self.stdout, expected, tolerance)

    # --- how ----------------------------------------------------------------------------------------------------------

    def _result(self, told: str, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Result:
        self.last = told
        result = self._session.call(name, *args, **kwargs)
        self.stdout = result.stdout
        keep(self.printed, result.stdout, result.stderr)
        if result.ok and not self._session.alive:  # with exit status 0: that is no answer
            raise Failed(f"{told} ended the interpreter.", "error")
        if result.error is not None and result.error.type == "NameError" and not self._defines(name):
            raise Failed(f"{name} is not defined: the submission needs a function of that name.")
        return result

    def _defines(self, name: str) -> bool:
        return self._session.alive and self._session.eval(f"{name!r} in globals()").value is True

    def _value(self, told: str, result: Result) -> Any:
        if not result.ok or (result.error is not None):
            self._fail(told, result)
        return result.value

    def _fail(self, told: str, result: Result, more: str = "") -> NoReturn:
        raise Failed(*failure(told, result, self._file, more))


class Run:
    """A whole program that was run. stdout, stderr, exit_code; files: what stands in its folder then, by name."""

    def __init__(self, result: Result, files: Mapping[str, bytes], file: str) -> None:
        self._result = result
        self._file = file
        self.stdout = result.stdout
        self.stderr = result.stderr
        self.exit_code = 1 if result.error is not None and result.exit_code is None else result.exit_code
        self.files = files

    def check(self) -> "Run":
        """Fails the test unless the program has ended well."""
        if not self._result.ok:
            raise Failed(*failure("the program", self._result, self._file))
        return self

    def expect_output(self, expected: str, *, tolerance: float | None = None) -> None:
        """Fails the test unless the program has ended well and printed that, token by token."""
        self.check()
        _compare("the program", self.stdout, expected, tolerance)


def keep(printed: list[str], *texts: str) -> None:
    """Adds what was printed, as far as it is kept, and a little more to show that it was cut."""
    left = MOST_PRINTED + 1 - sum(map(len, printed))
    for text in texts:
        printed.append(text[: max(left, 0)])
        left -= len(text)


def _compare(what: str, output: str, expected: str, tolerance: float | None) -> None:
    if found := difference(output, expected, tolerance=tolerance):
        printed = output if len(output) <= _MOST_OF_OUTPUT else output[:_MOST_OF_OUTPUT] + "..."
        told = f"It printed:\n{printed.rstrip()}" if output.strip() else "It printed nothing."
        raise Failed(f"The output of {what} is another: {found}.\n{told}")


def failure(told: str, result: Result, file: str, more: str = "") -> tuple[str, str, int | None]:
    """What to say of a call, or a program, that did not end well: a message, the status, the line of the submission."""
    error = result.error
    if result.status in _ENDS:
        return f"{told} {_ENDS[result.status]}{more}", str(result.status), None
    if error is None:
        return f"{told} ended the interpreter{more}.", str(result.status), None
    if error.type == "SystemExit":
        return f"{told} ended with exit(){more}, which a function is not to do.", "error", None
    line = line_of(error.traceback, file)
    where = f", on line {line}" if line is not None else ""
    words = one_line(error.message.replace(f" ({file}, line {line})", ""))
    what = f"raised {one_line(error.type)}{f': {words}' if words else ''}"
    return f"{told} {what}{where}{more}.", str(result.status), line


def line_of(traceback: str, file: str) -> int | None:
    """The last line of the submission in a traceback."""
    mark = f'File "{file}", line '
    at = traceback.rfind(mark)
    digits = traceback[at + len(mark) : at + len(mark) + 9] if at >= 0 else ""
    number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    return int(number) if number else None


def alike(value: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether a value is what was expected: of the same kind, so that True is not 1; numbers within a tolerance."""
    if isinstance(expected, bool) or isinstance(value, bool) or expected is None:
        return value is expected
    if isinstance(expected, int | float) and isinstance(value, int | float):
        return value == expected or (tolerance is not None and close(value, expected, tolerance))
    if type(value) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(lambda a, b: alike(a, b, tolerance), value, expected))
    if isinstance(expected, set | frozenset):
        return set(map(_exactly, value)) == set(map(_exactly, expected))
    if isinstance(expected, dict):
        return set(map(_exactly, value)) == set(map(_exactly, expected)) and all(
            alike(value[key], expected[key], tolerance) for key in expected
        )
    return bool(value == expected)


def _exactly(value: Any) -> Any:
    """A member of a set, or a key, with its type, so that True is not 1."""
    return (type(value), tuple(map(_exactly, value)) if isinstance(value, tuple) else value)


def shown(value: Any) -> str:
    """A value for a message, on one line."""
    try:
        return one_line(repr(value))
    except ValueError:  # an int of more than 4,300 digits (sys.set_int_max_str_digits)
        return "a value with a number of thousands of digits"


def one_line(text: str) -> str:
    """A submission's text for a message: harmless, and of bounded length."""
    told = on_one_line(text[: 2 * _MOST_OF_VALUE])
    return told if len(told) <= _MOST_OF_VALUE else told[:_MOST_OF_VALUE] + "..."


def _call_text(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    words = [shown(each) for each in args] + [f"{key}={shown(value)}" for key, value in kwargs.items()]
    return f"{name}({', '.join(words)})"
