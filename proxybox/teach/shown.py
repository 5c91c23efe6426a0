"""Texts of a submission's values for messages: harmless, on one line, and of bounded length."""

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxybox.teach.handles import Handle, kind_of, shown_handle
from proxybox.terminal.harmless import on_one_line

#: Characters of a value in a message.
MOST_OF_VALUE: Final = 200
_BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"), tuple: ("(", ")"), set: ("{", "}"), dict: ("{", "}"), deque: ("deque([", "])"),
    frozenset: ("frozenset({", "})"),
    type({}.keys()): ("dict_keys([", "])"), type({}.values()): ("dict_values([", "])"),
    type({}.items()): ("dict_items([", "])"),
}  # fmt: skip


def shown(value: Any) -> str:
    """The beginning of a value for a message, on one line; the rest of the value is not converted to text.

    An object is shown by its type ("a generator"), and in `call_text` by the test's name for it.
    """
    return _beginning(_pieces(value, is_argument=False))


def argument_text(value: Any) -> str:
    """The beginning of an argument as the test has written it."""
    return _beginning(_pieces(value, is_argument=True))


def call_text(name: str, args: Any, kwargs: Mapping[str, Any]) -> str:
    """A call as the test has written it, with the values of the arguments."""
    words = [argument_text(each) for each in args]
    words += [f"{key}={argument_text(each)}" for key, each in kwargs.items()]
    return f"{name}({', '.join(words)})"


def one_line(text: str) -> str:
    """A submission's text for a message: harmless, and of bounded length."""
    line = on_one_line(text[: 2 * MOST_OF_VALUE])
    return line if len(line) <= MOST_OF_VALUE else line[:MOST_OF_VALUE] + "..."


def _beginning(pieces: Iterator[str]) -> str:
    text = ""
    try:
        for piece in pieces:
            text += piece
            if len(text) > 2 * MOST_OF_VALUE:
                break
    except ValueError:  # an int of more than 4,300 digits (sys.set_int_max_str_digits)
        return "a value with a number of thousands of digits"
    return one_line(text)


def _pieces(value: Any, *, is_argument: bool) -> Iterator[str]:
    """The repr of a value, piece by piece."""
    kind = type(value)
    if isinstance(value, Handle):
        yield shown_handle(value) if is_argument else kind_of(value)
    elif kind in (str, bytes):
        yield repr(value[: 4 * MOST_OF_VALUE])
    elif kind not in _BRACKETS or not value:
        yield repr(value)
    else:
        begin, end = _BRACKETS[kind]
        yield begin
        for number, each in enumerate(value):
            yield ", " if number else ""
            yield from _pieces(each, is_argument=is_argument)
            if kind is dict:
                yield ": "
                yield from _pieces(value[each], is_argument=is_argument)
        yield ",)" if kind is tuple and len(value) == 1 else end
