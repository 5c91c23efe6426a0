"""Runs in a submission's box: does what a test asks for, and holds the objects that cannot be sent.

Rules: this file is read as text (handles.py), and packing.py before it. It has a namespace of its own, since beginners
call a list list; `names` is the submission's. It is no more trusted than the code that is already there, and what it
answers is a claim of the submission.
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
#: The place in `held` of the object with this id, which `held` keeps alive.
numbers: dict[int, int] = {}

#: Characters of a type's name, and how the objects of some types are called.
_MOST_OF_NAME = 100
_CALLED = {
    "function": "a function", "builtin_function_or_method": "a function", "method": "a method", "module": "a module",
    "generator": "a generator", "coroutine": "a coroutine",
}  # fmt: skip


def hold(value: Any) -> tuple[str, Any]:
    """Packs an object as its number, the same one each time, and what it is."""
    number = numbers.setdefault(id(value), len(held))
    if number == len(held):
        held.append(value)
    return "object", (number, described(value))


def packed(value: object) -> tuple[str, Any]:
    """Packs what is sent to the test."""
    return pack(value, hold, attributes=True)


def described(value: object) -> str:
    """What an object is, in words."""
    if isinstance(value, type):
        return f"the class {value.__name__[:_MOST_OF_NAME]}"
    name = type(value).__name__[:_MOST_OF_NAME]
    return _CALLED.get(name) or f"{'an' if name[:1] in 'AEIOUaeiou' else 'a'} {name} object"


def real(kind: str, received: Any) -> Any:
    """The object, or the function, that an argument names; and a slice."""
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
    """Does what a `handles.Call` says, and packs the result. "missing", "uncallable": it cannot be done."""
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
    """The values that an object gives, up to one more than `most`. "missing": it gives none."""
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
