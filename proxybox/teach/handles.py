"""Objects of the submission in a teacher's test, and functions for it: neither can be sent as a value.

An object stays in its box. The test has a `Handle`, a number with methods, and every call is sent as plain values. A
`Source` is a function as text, from which the box makes the function. What the box reports about them is a claim of the
submission.
"""

import ast
import keyword
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, Protocol

import attrs

from proxybox.teach.operators import Operators, operation
from proxybox.teach.packing import pack

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: The name that `HELPER` adds to the box's builtins. It is not among the submission's own names.
OBJECTS: Final = "__proxybox_objects__"
_FILES: Final = [Path(__file__).with_name(name).read_text(encoding="utf-8") for name in ("packing.py", "objects.py")]
#: Runs in a box before the submission does. It is one expression, so it defines no name.
HELPER: Final = (
    "(lambda run, own, own_builtins: ("
    f"run({_FILES[0]!r}, own), run({_FILES[1]!r}, own), setattr(own_builtins, {OBJECTS!r}, own['answer'])))"
    "(exec, {'__name__': 'objects', 'names': globals()}, __import__('builtins'))"
)
#: The most values that are read from an iterable object.
MOST_ITEMS: Final = 100_000


@attrs.frozen(kw_only=True)
class SubmissionCall:
    """A request of a test to a submission.

    action: "call", "get" (the value of a name), "new" (call, and store the result in the box), "items" (the values of
    an iterable object), "value" (of the object itself), or "operator" (operators.py; all operands are arguments).
    target: the object, None for the module.
    """

    action: str
    target: "Handle | None"
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        parts = self.name.split(".") if isinstance(self.name, str) and self.target is None else [self.name]
        if not all(isinstance(each, str) and each.isidentifier() and not keyword.iskeyword(each) for each in parts):
            raise ValueError(f"{self.name!r} is no name of what a submission could have")


class Requester(Protocol):
    """The sender of requests to the submission (student.Student)."""

    def ask(self, call: SubmissionCall) -> Any:
        """Returns the result of a call. Fails the test if the call did not end well."""

    def compare(self, call: SubmissionCall, returns: Any, tolerance: float | None) -> None:
        """Fails the test unless the call returns the value `returns`."""

    def compare_raised(self, call: SubmissionCall, kind: Any, match: Any) -> None:
        """Fails the test unless the call raises an exception of this kind."""


class Source:
    """A function as source text: see `Student.source`."""

    def __init__(self, text: str) -> None:
        """Raises TypeError, SyntaxError or ValueError if the text is not the source of a function."""
        if not isinstance(text, str):
            raise TypeError(f"want the source of a function, such as 'lambda x: x + 1', got {text!r}")
        self.text = textwrap.dedent(text).strip()
        self.name = ""
        try:
            ast.parse(self.text, mode="eval")
        except SyntaxError:
            last = ast.parse(self.text).body[-1:]
            if not last or not isinstance(last[0], ast.FunctionDef | ast.ClassDef):
                raise ValueError("want one expression, such as a lambda, or a def as the last statement") from None
            self.name = last[0].name

    def __repr__(self) -> str:
        return self.name or self.text


class Handle(Operators):
    """An object of the submission, which stays in its box.

    `account.deposit(5)` calls its method, `get("balance")` reads an attribute, `account.balance = 5` sets it. `call`,
    `expect`, `raises` and `new` are like those of `student`, for the object's methods. `list(account)` has the values
    of a loop over the object. Operators are the object's own (operators.py).
    """

    __slots__ = ("_asked", "_key", "_kind", "_told")
    _asked: Requester
    _key: int
    _kind: str
    _told: str

    def __init__(self, asked: Requester, key: int, value_text: str, kind: str) -> None:
        own = {"_asked": asked, "_key": key, "_told": value_text, "_kind": kind}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> "Method":
        if name.startswith("__") and name.endswith("__"):  # Python itself looks up such names
            raise AttributeError(name)
        return Method(self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._operate("setattr", self, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._asked.ask(SubmissionCall(action="items", target=self, name="__iter__")))

    def _operate(self, name: str, *operands: Any) -> Any:
        return self._asked.ask(SubmissionCall(action="operator", target=None, name=name, args=operands))

    def _value(self) -> Any:
        return self._asked.ask(SubmissionCall(action="value", target=self, name="value"))

    def _method(self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> SubmissionCall:
        """The request for a method; for a special method such as `__add__`, the request for its operator."""
        if isinstance(name, str) and not kwargs and (found := operation(name, self, args)):
            return SubmissionCall(action="operator", target=None, name=found[0], args=found[1])
        return SubmissionCall(action="call", target=self, name=name, args=args, kwargs=kwargs)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a method and returns the result: `account.call("deposit", 5)`, `account.call("__add__", 3)`."""
        return self._asked.ask(self._method(name, args, kwargs))

    def get(self, name: str, /) -> Any:
        """The value of an attribute; a handle if it is an object."""
        return self._asked.ask(SubmissionCall(action="get", target=self, name=name))

    def new(self, name: str, /, *args: Any, **kwargs: Any) -> "Handle | None":
        """A handle for the result of a method, whatever its type; None if it returns None."""
        made: Handle | None = self._asked.ask(
            SubmissionCall(action="new", target=self, name=name, args=args, kwargs=kwargs)
        )
        return made

    def expect(self, name: str, /, *args: Any, returns: Any, tolerance: float | None = None, **kwargs: Any) -> None:
        """Fails the test unless the method returns the value `returns`."""
        self._asked.compare(self._method(name, args, kwargs), returns, tolerance)

    def raises(self, kind: Any, name: str, /, *args: Any, match: Any = None, **kwargs: Any) -> None:
        """Fails the test unless the method raises an exception of this kind."""
        self._asked.compare_raised(self._method(name, args, kwargs), kind, match)


def belongs_to(handle: Handle, asked: Requester) -> bool:
    """Whether a handle belongs to this submission, in this test."""
    return handle._asked is asked


def shown_handle(handle: Handle) -> str:
    """The text for a handle in messages: the call from which the test got it."""
    return handle._told


def kind_of(handle: Handle) -> str:
    """The type of the object in words, as the submission reports it."""
    return handle._kind


def key_of(handle: Handle) -> int:
    """A handle's number in the box."""
    return handle._key


class Method:
    """A method of an object, which can be called. Any use as a value raises TypeError with an explanation."""

    __slots__ = ("_handle", "_name")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls the method of the object in the box."""
        return Handle.call(self._handle, self._name, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{shown_handle(self._handle)}.{self._name}"

    def _no_value(self, *_: object) -> NoReturn:
        raise TypeError(f"{self!r} is a method, to be called; an attribute is read by .get({self._name!r})")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __getitem__ = _no_value
    __int__ = __float__ = __str__ = __format__ = _no_value


# --- arguments --------------------------------------------------------------------------------------------------------


def packed(value: Any, number_of: Callable[[Handle], int]) -> tuple[str, Any]:
    """Packs an argument with its handles and sources (packing.py). Raises TypeError for values that cannot be sent."""

    def refer(each: object) -> tuple[str, Any]:
        if isinstance(each, Handle):
            return "object", number_of(each)
        if isinstance(each, Source):
            return "source", (each.text, each.name)
        if isinstance(each, slice):  # an index: the test may slice an object
            return "slice", [pack(part, refer) for part in (each.start, each.stop, each.step)]
        if isinstance(each, Method):
            raise TypeError(f"{each!r} is a method of an object: want a value, an object or a source")
        raise TypeError(
            f"a {type(each).__name__!r} object cannot be sent: "
            "a function goes as student.source(...), an object as student.new(...)"
        )

    return pack(value, refer)
