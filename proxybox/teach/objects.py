"""Runs in a submission's box: carries out a test's requests, and stores the objects that cannot be sent.

Rules: this file is read as text (handles.py), after packing.py. It has a namespace of its own, because beginners call a
list list; `names` is the submission's namespace. It is as untrusted as the submission's code, and its answers are
claims of the submission.
"""

from __future__ import annotations

import builtins
import operator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from proxybox.teach.packing import content, pack, unpack

    names: dict[str, Any] = {}

held: list[object] = []
#: The index in `held` by the id of an object. `held` keeps the object alive.
numbers: dict[int, int] = {}

#: Characters of a type's name, and words for the objects of some types.
_MOST_OF_NAME = 100
_CALLED = {
    "function": "a function", "builtin_function_or_method": "a function", "method": "a method", "module": "a module",
    "generator": "a generator", "coroutine": "a coroutine",
}  # fmt: skip


def hold(value: Any) -> tuple[str, Any]:
    """Packs an object as its number, always the same one, and its type in words."""
    number = numbers.setdefault(id(value), len(held))
    if number == len(held):
        held.append(value)
    return "object", (number, described(value))


def packed(value: object) -> tuple[str, Any]:
    """Packs a value for the test."""
    return pack(value, hold, attributes=True)


def described(value: object) -> str:
    """The type of an object in words."""
    if isinstance(value, type):
        return f"the class {value.__name__[:_MOST_OF_NAME]}"
    name = type(value).__name__[:_MOST_OF_NAME]
    return _CALLED.get(name) or f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name} object"


def real(kind: str, received: Any) -> Any:
    """The object, function or slice that an argument stands for."""
    if kind == "object":
        return held[received]
    if kind == "slice":
        return slice(*[unpack(part, real) for part in received])
    text, name = received
    own: dict[str, Any] = {"__name__": "source"}
    if not name:
        return eval(text, own)
    exec(text, own)
    return own[name]


def answer(action: str, key: int | None, name: str, args: Any, kwargs: dict[str, Any]) -> tuple[str, Any]:
    """Carries out a `handles.SubmissionCall`, and packs the result. "missing", "uncallable": it is not possible."""
    if action == "items":
        return items(held[key or 0], args)
    if action == "value":
        return packed(content(held[key or 0]))
    if action == "operator":
        return packed((getattr(operator, name, None) or getattr(builtins, name))(*unpack(args, real)))
    if key is None:
        thing = eval(name, names)
    else:
        try:
            thing = getattr(held[key], name)
        except AttributeError:
            return "missing", None
    if action != "get":
        if not callable(thing):
            return "uncallable", None
        received = unpack(args, real)
        thing = thing(*received, **{word: unpack(each, real) for word, each in kwargs.items()})
    if action == "new" and thing is not None:
        return hold(thing)
    return packed(thing)


def items(thing: Any, most: int) -> tuple[str, Any]:
    """The values of an iterable object, up to one more than `most`. "missing": it is not iterable."""
    try:
        received = iter(thing)
    except TypeError:
        return "missing", None
    found = []
    for each in received:
        found.append(each)
        if len(found) > most:
            break
    return packed(found)
