"""A test's requests to a submission, and the messages to the submission's author.

Everything that comes back was made by the submission. It is compared here, on the trusted side, with expected values
that no box has seen. A Failed is the verdict of a test; its text is for the author of the submission, and contains
nothing of the test's source.
"""

import builtins
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from proxybox import Result, Session, Status
from proxybox.teach.compare import alike, difference
from proxybox.teach.grades import PRINTED
from proxybox.teach.handles import (
    MOST_ITEMS,
    OBJECTS,
    Handle,
    Source,
    SubmissionCall,
    belongs_to,
    key_of,
    kind_of,
    packed,
    shown_handle,
)
from proxybox.teach.operators import is_infix, may_return, words
from proxybox.teach.packing import unpack
from proxybox.teach.shown import argument_text, call_text, one_line, shown
from proxybox.teach.testoutput import SubmissionOutput
from proxybox.terminal.harmless import harmless_lines

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: Characters of an output in a message.
_MOST_OF_OUTPUT: Final = 2000
#: Characters of an exception's message in which a pattern is searched.
_MOST_MATCHED: Final = 1000
#: The most objects of a submission that have handles in one test.
_MOST_OBJECTS: Final = 10_000
#: Seconds of the box's CPU time for one object's value that do not count.
_AT_ONCE: Final = 0.002


class Failed(AssertionError):
    """A test has failed.

    message: may contain a submission's result, and is made harmless here. status: as in grades.py. line: of the
    submission.
    """

    def __init__(self, message: str, status: str = "wrong_answer", line: int | None = None) -> None:
        super().__init__(harmless_lines(message))
        self.status = status
        self.line = line


class NoLength(Failed, TypeError):
    """An object has no len(). `list(handle)` calls it as well, and continues after a TypeError."""


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
    """A loaded submission, for the requests of a test. `stdout`: the output of the last call."""

    def __init__(self, session: Session, file: str, heard: SubmissionOutput) -> None:
        self._session = session
        self._file = file
        self._heard = heard
        self._handles: dict[int, Handle] = {}
        self._spent = 0.0
        self.stdout = ""
        self.last = ""

    @property
    def printed(self) -> list[str]:
        """The submission's output in this test, as far as it is stored."""
        return self._heard.printed

    # --- for teachers -------------------------------------------------------------------------------------------------

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a function of the submission and returns the result; a handle if it is an object.

        Fails the test if the function raises an exception or does not return.
        """
        return self.ask(SubmissionCall(action="call", target=None, name=name, args=args, kwargs=kwargs))

    def expect(self, name: str, /, *args: Any, returns: Any, tolerance: float | None = None, **kwargs: Any) -> None:
        """Fails the test unless the function returns the value `returns`.

        tolerance: for numbers, alone and in lists and other containers.
        """
        self.compare(
            SubmissionCall(action="call", target=None, name=name, args=args, kwargs=kwargs), returns, tolerance
        )

    def raises(self, kind: Any, name: str, /, *args: Any, match: Any = None, **kwargs: Any) -> None:
        """Fails the test unless the function raises an exception of this kind.

        kind: a class, which includes its subclasses; a name, which means only that class; or a tuple of these. match: a
        regular expression that is searched in the first 1,000 characters of the message, as in `pytest.raises`.
        """
        self.compare_raised(
            SubmissionCall(action="call", target=None, name=name, args=args, kwargs=kwargs), kind, match
        )

    def new(self, name: str, /, *args: Any, **kwargs: Any) -> Handle | None:
        """A handle for an object of the submission.

        `account = student.new("Account", 100)` calls the class, and `account.deposit(5)` the object's method. It can
        call any function, and the result stays in the box; for None it returns None instead of a handle.
        """
        made: Handle | None = self.ask(SubmissionCall(action="new", target=None, name=name, args=args, kwargs=kwargs))
        return made

    @staticmethod
    def source(text: str) -> Source:
        """Makes a function as an argument, from its source text.

        It is an expression, `student.call("apply", student.source("lambda x: x + 1"), 3)`, or a `def` with the
        statements that it needs before it. The function sees Python's builtins and no names of the submission. Raises
        SyntaxError or ValueError for any other text.
        """
        return Source(text)

    def get(self, name: str, /) -> Any:
        """The value of a variable of the submission; a handle if it is an object."""
        return self.ask(SubmissionCall(action="get", target=None, name=name))

    def expect_output(self, expected: str, *, tolerance: float | None = None) -> None:
        """Fails the test unless the last call has printed `expected`; compares token by token."""
        _compare(self.last or "the submission", self.stdout, expected, tolerance)

    # --- for teachers and handles -------------------------------------------------------------------------------------

    def ask(self, call: SubmissionCall) -> Any:
        """Returns the result of a call. Fails the test if the call did not end well."""
        value_text, result = self._result(call)
        self._spend(call, value_text, result)
        return self._answer(call, value_text, result)

    def compare(self, call: SubmissionCall, returns: Any, tolerance: float | None) -> None:
        """Fails the test unless the call returns the value `returns`."""
        value = self.ask(call)
        last, stdout = self.last, self.stdout
        is_alike = alike(value, returns, tolerance)  # asks the box whether two objects are equal
        self.last, self.stdout = last, stdout
        if not is_alike:
            wanted = "another one" if isinstance(value, Handle) and isinstance(returns, Handle) else shown(returns)
            raise Failed(f"{last} returned {shown(value)}, and {wanted} was expected.")

    def compare_raised(self, call: SubmissionCall, kind: Any, match: Any) -> None:
        """Fails the test unless the call raises an exception of this kind.

        Raises TypeError for a wrong `kind`, re.error for a wrong pattern.
        """
        kinds = _kinds(kind)
        pattern = None if match is None else re.compile(match)
        wanted = " or ".join(each if isinstance(each, str) else each.__name__ for each in kinds)
        value_text, result = self._result(call)
        if result.ok and (result.error is None or _is_value(result)):
            value = self._answer(call, value_text, result)
            raise Failed(f"{value_text} returned {shown(value)}, and {wanted} was to be raised.")
        if result.error is None or not any(self._is_raised(result.error.type, each) for each in kinds):
            self._fail(value_text, result, f"; {wanted} was to be raised")
        if pattern is not None and not pattern.search(result.error.message[:_MOST_MATCHED]):
            self._fail(value_text, result, f"; its message was to match {pattern.pattern!r}", "wrong_answer")

    # --- internal -----------------------------------------------------------------------------------------------------

    def _spend(self, call: SubmissionCall, value_text: str, result: Result) -> None:
        """Fails the test if the values of objects take as much time as one call may.

        A comparison reads the value of each object in a list, and the submission decides how many there are.
        """
        if call.action != "value":
            self._spent = 0.0
            return
        self._spent += max(0.0, result.usage.cpu - _AT_ONCE)
        most = (self._session.policy.limits.cpu_time, self._session.timeout)
        if any(each is not None and self._spent > each for each in most):
            raise Failed(f"{value_text} {_ENDS[Status.TIME_LIMIT]}", str(Status.TIME_LIMIT))

    def _result(self, call: SubmissionCall) -> tuple[str, Result]:
        """The call in words, and its result."""
        value_text = _told(call)
        try:
            result = self._session.call(OBJECTS, *self._packed(call))
        except (TypeError, ValueError) as error:  # the error comes before the call
            raise type(error)(f"{value_text}: {error}") from None
        if call.action not in ("get", "value"):
            self.last, self.stdout = value_text, result.stdout
        self._heard.keep(result.stdout, result.stderr)
        if result.ok and not self._session.alive:  # it exited with status 0, which is no result
            raise Failed(f"{value_text} ended the interpreter.", "error")
        if (
            result.error is not None
            and result.error.type == "NameError"
            and call.target is None
            and call.action != "operator"
            and not self._defines(call.name)
        ):
            what = {"new": "class", "get": "variable"}.get(call.action, "function")
            raise Failed(f"{call.name} is not defined: the submission needs a {what} of that name.")
        return value_text, result

    def _packed(self, call: SubmissionCall) -> tuple[Any, ...]:
        key = None if call.target is None else self._number_of(call.target)
        if call.action == "items":
            return call.action, key, call.name, MOST_ITEMS, {}
        kwargs = {word: packed(each, self._number_of) for word, each in call.kwargs.items()}
        return call.action, key, call.name, packed(list(call.args), self._number_of), kwargs

    def _number_of(self, handle: Handle) -> int:
        if not belongs_to(handle, self):
            raise ValueError(f"{shown_handle(handle)} is an object of another test's submission")
        return key_of(handle)

    def _answer(self, call: SubmissionCall, value_text: str, result: Result) -> Any:
        """The box's answer: a value, in which objects are handles."""
        if _is_value(result):
            raise Failed(f"{value_text} returned what cannot be compared: {one_line(_why(result))}.")
        if not result.ok or result.error is not None:
            is_length = call.action == "operator" and call.name == "len"
            if is_length and result.error is not None and result.error.type == "TypeError":
                raise NoLength(*failure(value_text, result, self._file))
            self._fail(value_text, result)
        try:
            value = unpack(result.value, lambda kind, held: self._object(call, value_text, kind, held))
            if not _is_answer(call, value):
                raise ValueError("another kind of answer")
        except ValueError:
            raise Failed(f"{value_text} gave no answer that makes sense.", "error") from None
        if call.action == "items" and len(value) > MOST_ITEMS:
            raise Failed(f"{value_text} gave more than {MOST_ITEMS:,} values.")
        self._heard.answered(call, value_text, value, result.stdout)
        return value

    def _object(self, call: SubmissionCall, value_text: str, kind: str, held: Any) -> Handle:
        """The handle for an object; fails the test if there is none. Raises ValueError for an invalid answer."""
        if kind == "missing" and call.target is not None:
            if call.action == "items":
                raise Failed(
                    f"{shown_handle(call.target)} is {kind_of(call.target)}, which holds no values to go through."
                )
            raise Failed(f"{shown_handle(call.target)} has no {call.name}.")
        if kind == "uncallable":
            of = "" if call.target is None else f" of {shown_handle(call.target)}"
            raise Failed(f"{call.name}{of} cannot be called.")
        if kind != "object" or not isinstance(held, tuple) or len(held) != 2:
            raise ValueError("no object")
        number, what = held
        if type(number) is not int or number < 0 or type(what) is not str:
            raise ValueError("no object")
        if number >= _MOST_OBJECTS:
            raise Failed(f"{value_text} returned more than {_MOST_OBJECTS:,} objects.")
        infix = call.action == "operator" and is_infix(call.name)
        return self._handles.setdefault(
            number, Handle(self, number, f"({value_text})" if infix else value_text, one_line(what))
        )

    def _is_raised(self, raised: str, wanted: str | type[BaseException]) -> bool:
        """Whether an exception is of a kind.

        This is a claim of the submission, like the name of the exception's type.
        """
        if isinstance(wanted, str) or raised == wanted.__name__:
            return raised == (wanted if isinstance(wanted, str) else wanted.__name__)
        if raised == "SystemExit":  # a session reports only the name of SystemExit
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

    def _fail(self, value_text: str, result: Result, more: str = "", status: str = "") -> NoReturn:
        message, own, line = failure(value_text, result, self._file, more)
        raise Failed(message, status or own, line)


def _is_value(result: Result) -> bool:
    """Whether the result is a value that cannot be sent: such an error has no traceback."""
    return result.error is not None and result.error.type == "TypeError" and not result.error.traceback


def _why(result: Result) -> str:
    """The reason why a value cannot be sent. Its place is left out, because it is a place in the helper's answer."""
    message = result.error.message if result.error is not None else ""
    return message.partition(": ")[2] or message


def _is_answer(call: SubmissionCall, value: Any) -> bool:
    if call.action == "new":
        return value is None or isinstance(value, Handle)
    if call.action == "operator":
        return may_return(call.name, value)
    return call.action != "items" or isinstance(value, list)


def _told(call: SubmissionCall) -> str:
    """A call as text."""
    if call.action in ("items", "value") and call.target is not None:
        return f"{'a loop over ' if call.action == 'items' else ''}{shown_handle(call.target)}"
    if call.action == "operator":
        attribute = call.name == "setattr"  # its name is written without quotes
        value_text = [each if attribute and place == 1 else _operand_text(each) for place, each in enumerate(call.args)]
        return words(call.name, value_text)
    name = call.name if call.target is None else f"{shown_handle(call.target)}.{call.name}"
    return name if call.action == "get" else call_text(name, call.args, call.kwargs)


def _operand_text(value: Any) -> str:
    """An operand as the test has written it, also a slice."""
    if not isinstance(value, slice):
        return argument_text(value)
    begin, end, step = ("" if each is None else argument_text(each) for each in (value.start, value.stop, value.step))
    return f"{begin}:{end}:{step}" if step else f"{begin}:{end}"


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

    It has stdout, stderr and exit_code. files: the files that the program has written or changed in its folder, by
    name.
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
        """Fails the test unless the program has ended well and printed `expected`; compares token by token."""
        self.check()
        _compare("the program", self.stdout, expected, tolerance)


def _compare(what: str, output: str, expected: str, tolerance: float | None) -> None:
    if found := difference(output, expected, tolerance=tolerance):
        printed = output if len(output) <= _MOST_OF_OUTPUT else output[:_MOST_OF_OUTPUT] + "..."
        value_text = f"{PRINTED}{printed.rstrip()}" if output.strip() else "It printed nothing."
        raise Failed(f"The output of {what} is another: {found}.\n{value_text}")


def failure(value_text: str, result: Result, file: str, more: str = "") -> tuple[str, str, int | None]:
    """Describes a call or program that did not end well: a message, the status, the line of the submission."""
    error = result.error
    if result.status in _ENDS:
        return f"{value_text} {_ENDS[result.status]}{more}", str(result.status), None
    if error is None:
        return f"{value_text} ended the interpreter{more}.", str(result.status), None
    if error.type == "SystemExit":
        return f"{value_text} ended with exit(), which a function is not to do{more}.", "error", None
    line = line_of(error.traceback, file)
    where = f", on line {line}" if line is not None else ""
    words = one_line(error.message.replace(f" ({file}, line {line})", ""))
    what = f"raised {one_line(error.type)}{f': {words}' if words else ''}"
    meant = f" {_NO_MORE}" if error.type == "EOFError" else ""
    # Explanations of the box are shown as everywhere. Not for missing input: that is chosen by the test's author, not
    # the box.
    why = meant or "".join(f"\n{one_line(each.text)}" for each in result.explanations)
    return f"{value_text} {what}{where}{more}.{why}", str(result.status), line


def line_of(traceback: str, file: str) -> int | None:
    """The last line of the submission in a traceback."""
    mark = f'File "{file}", line '
    at = traceback.rfind(mark)
    digits = traceback[at + len(mark) : at + len(mark) + 9] if at >= 0 else ""
    number = digits[: len(digits) - len(digits.lstrip("0123456789"))]
    return int(number) if number else None
