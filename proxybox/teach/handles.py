"""Objects of the submission in a teacher's test, and functions for it: neither can be sent as a value.

An object stays in its box. The test has a `Handle`, a number with methods, and every call is sent as plain values. A
`Source` is a function as text, from which the box makes the function. What the box reports of them is a claim of the
submission.
"""

import ast
import keyword
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import attrs

#: pytest shows a test's own line, not lines of this file.
__tracebackhide__ = True

#: The name that `HELPER` defines among the submission's names.
OBJECTS = "__proxybox_objects__"
#: Runs in the box, and is no more trusted than the code already there. It holds the objects, and puts them where
#: `packed` has left their numbers. names: the submission's namespace; this code has its own, since beginners call a
#: list list.
_HELPER = f"""
held = []
plain = (type(None), bool, int, float, str, bytes, list, tuple, set, frozenset, dict)

def real(given):
    kind, value = given
    if kind == "value":
        return value
    if kind == "object":
        return held[value]
    if kind == "source":
        text, name = value
        own = {{"__name__": "source"}}
        if not name:
            return eval(text, own)
        exec(text, own)
        return own[name]
    if kind == "dict":
        return {{key: real(each) for key, each in value}}
    made = [real(each) for each in value]
    return tuple(made) if kind == "tuple" else made

def answer(action, key, name, args, kwargs):
    if key is None:
        thing = eval(name, names)
    else:
        try:
            thing = getattr(held[key], name)
        except AttributeError:
            return ("missing", None)
    if action != "get":
        if not callable(thing):
            return ("uncallable", None)
        thing = thing(*map(real, args), **{{word: real(each) for word, each in kwargs.items()}})
    if action == "new":
        held.append(thing)
        return ("object", len(held) - 1)
    if type(thing) not in plain:
        for number, each in enumerate(held):
            if each is thing:
                return ("object", number)
    return ("value", thing)

names[{OBJECTS!r}] = answer
"""
HELPER = f"__import__('builtins').exec({_HELPER!r}, {{'names': __import__('builtins').globals()}})"


@attrs.frozen(kw_only=True)
class Call:
    """What a test asks of a submission.

    action: "call", "get" (the value of a name), or "new" (call, and hold the result). target: the object that is asked,
    None for the module. is_plain: whether the call is sent without the helper.
    """

    action: str
    target: "Handle | None"
    name: str
    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = attrs.field(factory=dict)
    is_plain: bool = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        parts = self.name.split(".") if isinstance(self.name, str) and self.target is None else [self.name]
        if not all(isinstance(each, str) and each.isidentifier() and not keyword.iskeyword(each) for each in parts):
            raise ValueError(f"{self.name!r} is no name of what a submission could have")

    @is_plain.default
    def _is_plain(self) -> bool:
        return self.action == "call" and self.target is None and not _holds((self.args, self.kwargs))


class Asked(Protocol):
    """The object that asks the submission (student.Student)."""

    def ask(self, call: Call) -> Any:
        """The result of a call. Fails the test where the call did not end well."""

    def compare(self, call: Call, returns: Any, tolerance: float | None) -> None:
        """Fails the test unless that is the result of the call."""

    def compare_raised(self, call: Call, kind: Any, match: Any) -> None:
        """Fails the test unless the call raised that."""


class Source:
    """A function as source text: see `Student.source`."""

    def __init__(self, text: str) -> None:
        """Raises TypeError, SyntaxError or ValueError for what is not the source of a function."""
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


class Handle:
    """An object of the submission, which stays in its box.

    `account.deposit(5)` calls its method, `get("balance")` reads an attribute. `call`, `expect`, `raises` and `new` are
    as those of `student`, for the object's methods.
    """

    __slots__ = ("_asked", "_key", "_told")

    def __init__(self, asked: Asked, key: int, told: str) -> None:
        self._asked = asked
        self._key = key
        self._told = told

    def __repr__(self) -> str:
        return self._told

    def __getattr__(self, name: str) -> "Method":
        if name.startswith("__") and name.endswith("__"):  # Python itself looks for such names
            raise AttributeError(name)
        return Method(self, name)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """What a method returns: `account.call("deposit", 5)`, `account.call("__len__")`."""
        return self._asked.ask(Call(action="call", target=self, name=name, args=args, kwargs=kwargs))

    def get(self, name: str) -> Any:
        """The value of an attribute."""
        return self._asked.ask(Call(action="get", target=self, name=name))

    def new(self, name: str, *args: Any, **kwargs: Any) -> "Handle":
        """A handle for the object that a method returns."""
        made: Handle = self._asked.ask(Call(action="new", target=self, name=name, args=args, kwargs=kwargs))
        return made

    def expect(self, name: str, *args: Any, returns: Any, tolerance: float | None = None, **kwargs: Any) -> None:
        """Fails the test unless the method returns that."""
        self._asked.compare(Call(action="call", target=self, name=name, args=args, kwargs=kwargs), returns, tolerance)

    def raises(self, kind: Any, name: str, *args: Any, match: Any = None, **kwargs: Any) -> None:
        """Fails the test unless the method raises such an exception."""
        self._asked.compare_raised(Call(action="call", target=self, name=name, args=args, kwargs=kwargs), kind, match)


def belongs_to(handle: Handle, asked: Asked) -> bool:
    """Whether a handle belongs to this submission, in this test."""
    return handle._asked is asked


def told_of(handle: Handle) -> str:
    """What a handle is called in messages."""
    return handle._told


def key_of(handle: Handle) -> int:
    """A handle's number in the box."""
    return handle._key


class Method:
    """A method of an object, to be called. Taken for the value of an attribute, it raises TypeError, which says so."""

    __slots__ = ("_handle", "_name")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, handle: Handle, name: str) -> None:
        self._handle = handle
        self._name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the method of the object in the box."""
        return self._handle.call(self._name, *args, **kwargs)

    def __repr__(self) -> str:
        return f"{self._handle!r}.{self._name}"

    def _no_value(self, *_: object) -> NoReturn:
        raise TypeError(f"{self!r} is a method, to be called; an attribute is read by .get({self._name!r})")

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __bool__ = __len__ = __iter__ = __getitem__ = _no_value
    __int__ = __float__ = __str__ = __format__ = _no_value


# --- how arguments are sent -------------------------------------------------------------------------------------------


_SCALARS = frozenset({type(None), bool, int, float, str, bytes})


def _holds(value: Any) -> bool:
    if isinstance(value, list | tuple | dict):
        inner = value.values() if isinstance(value, dict) else value
        return not set(map(type, inner)) <= _SCALARS and any(map(_holds, inner))
    return isinstance(value, Handle | Source | Method)


def packed(value: Any, number_of: Callable[[Handle], int]) -> tuple[str, Any]:
    """A value with its handles and sources, in the form that `HELPER` unpacks."""
    if isinstance(value, Handle):
        return ("object", number_of(value))
    if isinstance(value, Source):
        return ("source", (value.text, value.name))
    if isinstance(value, Method):
        raise TypeError(f"{value!r} is a method of an object: want a value, an object or a source")
    if not _holds(value):
        return ("value", value)
    if isinstance(value, dict):
        return ("dict", [(key, packed(each, number_of)) for key, each in value.items()])
    return ("tuple" if isinstance(value, tuple) else "list", [packed(each, number_of) for each in value])
