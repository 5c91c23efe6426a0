"""What a test asks of a submission, and what it says to the submission's author.

Everything that comes back was made by the submission. It is compared here, on the trusted side, with expected values
that no box has seen. A Failed is the verdict of a test; its text is for the author of the submission, and contains
nothing of the test's source.
"""

import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NoReturn

import attrs

from proxybox import Result, Session, Status
from proxybox.teach.compare import close, difference
from proxybox.teach.grades import PRINTED
from proxybox.teach.handles import HELPER, OBJECTS, Call, Handle, Source, belongs_to, key_of, packed, told_of
from proxybox.terminal.harmless import harmless_lines, on_one_line

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: Characters of a value, and of an output, in a message.
_MOST_OF_VALUE, _MOST_OF_OUTPUT = 200, 2000
#: Characters of an exception's message in which a pattern is looked for.
_MOST_MATCHED = 1000
#: Characters of what a submission prints in a test that are kept for its verdict.
MOST_PRINTED = 10_000


class Failed(AssertionError):
    """A test has failed.

    message: may hold what a submission returned, and is made harmless here. status: as in grades.py. line: of the
    submission.
    """

    def __init__(self, message: str, status: str = "wrong_answer", line: int | None = None) -> None:
        super().__init__(harmless_lines(message))
        self.status = status
        self.line = line


_NO_MORE: Final = "It asks for more input than there is."
_ENDS = {
    Status.TIME_LIMIT: "did not end in time. Is there a loop that goes on for ever, or does it wait for input?",
    Status.MEMORY_LIMIT: "needed more memory than there is. Does a list or a string grow for ever?",
    Status.OUTPUT_LIMIT: "printed more than is allowed. Is there a print in a loop that goes on for ever?",
    Status.DISK_LIMIT: "wrote more into files than is allowed.",
    Status.CALL_LIMIT: "asked the operating system for too much. Is there a loop that opens, reads or prints for ever?",
    Status.DENIED: "did something that is not allowed here.",
    Status.MISBEHAVED: "ended in a way in which Python does not end.",
    Status.CANCELLED: "was stopped.",
}


class Student:
    """A submission that was loaded, for a test to ask. `stdout`: what the last call has printed."""

    def __init__(self, session: Session, file: str) -> None:
        self._session = session
        self._file = file
        self._handles: dict[int, Handle] = {}
        self._has_helper = False
        self.stdout = ""
        self.printed: list[str] = []
        self.last = ""

    # --- for teachers -------------------------------------------------------------------------------------------------

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What a function of the submission returns. Fails the test where it raises or does not return."""
        return self.ask(Call(action="call", target=None, name=name, args=args, kwargs=kwargs))

    def expect(self, name: str, *args: Any, returns: Any, tolerance: float | None = None, **kwargs: Any) -> None:
        """Fails the test unless the function returns that.

        tolerance: for numbers, alone and in lists and other containers.
        """
        self.compare(Call(action="call", target=None, name=name, args=args, kwargs=kwargs), returns, tolerance)

    def raises(self, kind: Any, name: str, *args: Any, match: Any = None, **kwargs: Any) -> None:
        """Fails the test unless the function raises such an exception.

        kind: a class, which includes its subclasses; a name, which means that class alone; or a tuple of these. match:
        a regular expression that is looked for in the first 1,000 characters of the message, as by `pytest.raises`.
        """
        self.compare_raised(Call(action="call", target=None, name=name, args=args, kwargs=kwargs), kind, match)

    def new(self, name: str, *args: Any, **kwargs: Any) -> Handle:
        """A handle for an object of the submission.

        `account = student.new("Account", 100)` calls the class, and `account.deposit(5)` the object's method. Any
        function that returns an object may be called so.
        """
        made: Handle = self.ask(Call(action="new", target=None, name=name, args=args, kwargs=kwargs))
        return made

    @staticmethod
    def source(text: str) -> Source:
        """A function as an argument, by its source text.

        It is an expression, `student.call("apply", student.source("lambda x: x + 1"), 3)`, or a `def` with what it
        needs before it. The function sees Python's own names and none of the submission's. Raises SyntaxError or
        ValueError for any other text.
        """
        return Source(text)

    def get(self, name: str) -> Any:
        """The value of a variable of the submission."""
        result = self._session.eval(name)
        return self._value(f"the value of {name}", result)

    def expect_output(self, expected: str, *, tolerance: float | None = None) -> None:
        """Fails the test unless the last call has printed that; compares token by token."""
        _compare(self.last or "the submission", self.stdout, expected, tolerance)

    # --- for teachers and handles -------------------------------------------------------------------------------------

    def ask(self, call: Call) -> Any:
        """The result of a call. Fails the test where the call did not end well."""
        told, result = self._result(call)
        return self._answer(call, told, self._value(told, result))

    def compare(self, call: Call, returns: Any, tolerance: float | None) -> None:
        """Fails the test unless that is the result of the call."""
        value = self.ask(call)
        if not alike(value, returns, tolerance):
            raise Failed(f"{self.last} returned {shown(value)}, and {shown(returns)} was expected.")

    def compare_raised(self, call: Call, kind: Any, match: Any) -> None:
        """Fails the test unless the call raised that.

        Raises TypeError for a wrong `kind`, re.error for a wrong pattern.
        """
        kinds = _kinds(kind)
        pattern = None if match is None else re.compile(match)
        wanted = " or ".join(each if isinstance(each, str) else each.__name__ for each in kinds)
        told, result = self._result(call)
        if result.ok and result.error is None:
            value = self._answer(call, told, result.value)
            raise Failed(f"{told} returned {shown(value)}, and {wanted} was to be raised.")
        if _is_value(result):
            raise Failed(f"{told} returned an object, and {wanted} was to be raised.")
        if result.error is None or not any(self._is_raised(result.error.type, each) for each in kinds):
            self._fail(told, result, f"; {wanted} was to be raised")
        if pattern is not None and not pattern.search(result.error.message[:_MOST_MATCHED]):
            self._fail(told, result, f"; its message was to match {pattern.pattern!r}", "wrong_answer")

    # --- internal -----------------------------------------------------------------------------------------------------

    def _result(self, call: Call) -> tuple[str, Result]:
        """The call in words, and its result."""
        told = self.last = _call_text(call)
        if not call.is_plain:
            self._help(told)
        try:
            name, args, kwargs = (call.name, call.args, call.kwargs) if call.is_plain else self._packed(call)
            result = self._session.call(name, *args, **kwargs)
        except (TypeError, ValueError) as error:  # raised before anything was called
            words = str(error)
            if "cannot cross" in words:
                words += "; a function goes as student.source(...), an object as student.new(...)"
            raise type(error)(f"{told}: {words}") from None
        self.stdout = result.stdout
        keep(self.printed, result.stdout, result.stderr)
        if result.ok and not self._session.alive:  # it exited with status 0, which is no answer
            raise Failed(f"{told} ended the interpreter.", "error")
        if (
            result.error is not None
            and result.error.type == "NameError"
            and call.target is None
            and not self._defines(call.name)
        ):
            what = "class" if call.action == "new" else "function"
            raise Failed(f"{call.name} is not defined: the submission needs a {what} of that name.")
        return told, result

    def _help(self, told: str) -> None:
        """Installs the helper that holds objects in the box, once."""
        if not self._has_helper:
            result = self._session.exec(HELPER, name="<objects>")
            if not result.ok or result.error is not None:
                self._fail(told, result)
            self._has_helper = True

    def _packed(self, call: Call) -> tuple[str, Sequence[Any], Mapping[str, Any]]:
        args = [packed(each, self._number_of) for each in call.args]
        kwargs = {name: packed(each, self._number_of) for name, each in call.kwargs.items()}
        key = None if call.target is None else self._number_of(call.target)
        return OBJECTS, (call.action, key, call.name, args, kwargs), {}

    def _number_of(self, handle: Handle) -> int:
        if not belongs_to(handle, self):
            raise ValueError(f"{handle!r} is an object of another test's submission")
        return key_of(handle)

    def _answer(self, call: Call, told: str, value: Any) -> Any:
        """The box's answer: a value, or the handle with the number that it names."""
        if call.is_plain:
            return value
        kind, found = value if isinstance(value, tuple) and len(value) == 2 else ("", None)
        if kind == "value" and call.action != "new":
            return found
        if kind == "missing" and call.target is not None:
            raise Failed(f"{told_of(call.target)} has no {call.name}.")
        if kind == "uncallable":
            raise Failed(f"{call.name}{f' of {call.target!r}' if call.target is not None else ''} cannot be called.")
        if kind != "object" or type(found) is not int or not 0 <= found < len(self._handles) + (call.action == "new"):
            raise Failed(f"{told} gave no answer that makes sense.", "error")
        return self._handles.setdefault(found, Handle(self, found, told))

    def _is_raised(self, raised: str, wanted: str | type[BaseException]) -> bool:
        """Whether an exception is of a kind.

        This is a claim of the submission, as the name of the exception's type is.
        """
        if isinstance(wanted, str) or raised == wanted.__name__:
            return raised == (wanted if isinstance(wanted, str) else wanted.__name__)
        if raised == "SystemExit":  # a session reports no more of SystemExit than its name
            return issubclass(SystemExit, wanted)
        if getattr(builtins, wanted.__name__, None) is not wanted or not self._session.alive:
            return False
        asked = (
            f"__import__('builtins').isinstance(__import__('sys').last_value, __import__('builtins').{wanted.__name__})"
        )
        return self._session.eval(asked).value is True

    def _defines(self, name: str) -> bool:
        first = name.partition(".")[0]
        return self._session.alive and self._session.eval(f"{first!r} in globals()").value is True

    def _value(self, told: str, result: Result) -> Any:
        if result.error is not None and _is_value(result):
            words = result.error.message.replace("value[1]", "value", 1)  # the value is part of the helper's answer
            result = attrs.evolve(result, error=attrs.evolve(result.error, message=words))
        if not result.ok or (result.error is not None):
            self._fail(told, result)
        return result.value

    def _fail(self, told: str, result: Result, more: str = "", status: str = "") -> NoReturn:
        message, own, line = failure(told, result, self._file, more)
        raise Failed(message, status or own, line)


def _is_value(result: Result) -> bool:
    """Whether something was returned that cannot be sent: such an error has no traceback."""
    return result.error is not None and result.error.type == "TypeError" and not result.error.traceback


def _kinds(kind: Any) -> tuple[str | type[BaseException], ...]:
    """The kinds of exceptions that a test expects."""
    kinds = kind if isinstance(kind, tuple) else (kind,)
    for each in kinds:
        is_class = isinstance(each, type) and issubclass(each, BaseException)
        if not is_class and not (isinstance(each, str) and each.isidentifier()):
            raise TypeError(f"raises: want an exception class, its name, or a tuple of these, got {each!r}")
    if not kinds:
        raise TypeError("raises: want an exception class, its name, or a tuple of these, got ()")
    return kinds


class StudentRun:
    """A whole program that was run.

    It has stdout, stderr and exit_code. files: what the program has written into its folder or changed there, by name.
    """

    def __init__(self, result: Result, files: Mapping[str, bytes], file: str) -> None:
        self._result = result
        self._file = file
        self.stdout = result.stdout
        self.stderr = result.stderr
        self.exit_code = 1 if result.error is not None and result.exit_code is None else result.exit_code
        self.files = files

    def check(self) -> "StudentRun":
        """Fails the test unless the program has ended well."""
        if not self._result.ok:
            raise Failed(*failure("the program", self._result, self._file))
        return self

    def expect_output(self, expected: str, *, tolerance: float | None = None) -> None:
        """Fails the test unless the program has ended well and printed that; compares token by token."""
        self.check()
        _compare("the program", self.stdout, expected, tolerance)


def keep(printed: list[str], *texts: str) -> None:
    """Adds what was printed, as far as it is kept, and one character more, which shows that it was cut."""
    left = MOST_PRINTED + 1 - sum(map(len, printed))
    for text in texts:
        printed.append(text[: max(left, 0)])
        left -= len(text)


def _compare(what: str, output: str, expected: str, tolerance: float | None) -> None:
    if found := difference(output, expected, tolerance=tolerance):
        printed = output if len(output) <= _MOST_OF_OUTPUT else output[:_MOST_OF_OUTPUT] + "..."
        told = f"{PRINTED}{printed.rstrip()}" if output.strip() else "It printed nothing."
        raise Failed(f"The output of {what} is another: {found}.\n{told}")


def failure(told: str, result: Result, file: str, more: str = "") -> tuple[str, str, int | None]:
    """Describes a call or program that did not end well: a message, the status, the line of the submission."""
    error = result.error
    if result.status in _ENDS:
        return f"{told} {_ENDS[result.status]}{more}", str(result.status), None
    if error is None:
        return f"{told} ended the interpreter{more}.", str(result.status), None
    if error.type == "SystemExit":
        return f"{told} ended with exit(), which a function is not to do{more}.", "error", None
    line = line_of(error.traceback, file)
    where = f", on line {line}" if line is not None else ""
    words = one_line(error.message.replace(f" ({file}, line {line})", ""))
    what = f"raised {one_line(error.type)}{f': {words}' if words else ''}"
    meant = f" {_NO_MORE}" if error.type == "EOFError" else ""
    return f"{told} {what}{where}{more}.{meant}", str(result.status), line


def line_of(traceback: str, file: str) -> int | None:
    """The last line of the submission in a traceback."""
    mark = f'File "{file}", line '
    at = traceback.rfind(mark)
    digits = traceback[at + len(mark) : at + len(mark) + 9] if at >= 0 else ""
    number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    return int(number) if number else None


def alike(value: Any, expected: Any, tolerance: float | None) -> bool:
    """Whether a value is what was expected: of the same type, so that True is not 1; numbers within a tolerance."""
    if isinstance(expected, bool) or isinstance(value, bool) or expected is None:
        return value is expected
    if isinstance(expected, int | float) and isinstance(value, int | float):
        return value == expected or (tolerance is not None and close(value, expected, tolerance))
    if type(value) is not type(expected):
        return False
    if isinstance(expected, list | tuple):
        return len(value) == len(expected) and all(map(lambda a, b: alike(a, b, tolerance), value, expected))
    if isinstance(expected, set | frozenset):
        return len(value) == len(expected) and set(map(_exactly, value)) == set(map(_exactly, expected))
    if isinstance(expected, dict):
        same_keys = len(value) == len(expected) and set(map(_exactly, value)) == set(map(_exactly, expected))
        return same_keys and all(alike(value[key], expected[key], tolerance) for key in expected)
    return bool(value == expected)


def _exactly(value: Any) -> Any:
    """A member of a set, or a key, with its type, so that True is not 1."""
    return (type(value), tuple(map(_exactly, value)) if isinstance(value, tuple) else value)


def shown(value: Any) -> str:
    """The beginning of a value for a message, on one line; the rest of the value is not converted to text."""
    text = ""
    try:
        for piece in _pieces(value):
            text += piece
            if len(text) > 2 * _MOST_OF_VALUE:
                break
    except ValueError:  # an int of more than 4,300 digits (sys.set_int_max_str_digits)
        return "a value with a number of thousands of digits"
    return one_line(text)


def _pieces(value: Any) -> Iterator[str]:
    """The repr of a value, piece by piece."""
    kind = type(value)
    if kind in (str, bytes):
        yield repr(value[: 4 * _MOST_OF_VALUE])
    elif kind not in _BRACKETS or not value:
        yield repr(value)
    else:
        begin, end = _BRACKETS[kind]
        yield begin
        for number, each in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(each)
            if kind is dict:
                yield ": "
                yield from _pieces(value[each])
        yield ",)" if kind is tuple and len(value) == 1 else end


_BRACKETS: Mapping[type, tuple[str, str]] = {list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}")}


def one_line(text: str) -> str:
    """A submission's text for a message: harmless, and of bounded length."""
    told = on_one_line(text[: 2 * _MOST_OF_VALUE])
    return told if len(told) <= _MOST_OF_VALUE else told[:_MOST_OF_VALUE] + "..."


def _call_text(call: Call) -> str:
    name = call.name if call.target is None else f"{told_of(call.target)}.{call.name}"
    words = [shown(each) for each in call.args] + [f"{key}={shown(value)}" for key, value in call.kwargs.items()]
    return name if call.action == "get" else f"{name}({', '.join(words)})"
