"""Packs arguments and results that are not plain data as a whole, between a test and a submission's box.

    value               plain data, as it is
    list, tuple, dict   one with other members; a dict is a dict of places, and a list of the values at these places
    set, frozenset      one whose members are not plain, such as dates or frozensets: a list of them
    pairs               a dict with such keys: a list of the keys, and a list of the values
    known               a value of a type of the standard library, by its parts: (name of the type, parts)
    object              an object that stays in its box: (number, its type in words)
    source              a function as text, for the box to make: (text, name)
    slice               as an argument: a list of its three parts

Both sides run this file: a test's process imports it, and in the box it is run before objects.py. So it uses only
Python 3.9's language, and modules that are already imported. Data from a box may be anything: `unpack` makes only
objects of the types named here, and raises ValueError for everything else.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # the box need not import typing
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

#: The depth up to which `is_plain` and `pack` examine containers. values.py sends no deeper ones.
MOST_LEVELS = 60
_PACKED_LEVELS = 20
#: The bounds of a known value: bits of a number, characters of digits and of an exponent, values of a range. Larger
#: ones would cost the test too much time and memory.
_MOST_BITS, _MOST_DIGITS, _MOST_IN_RANGE = 1 << 14, 5000, 1_000_000

#: The most members of a set, or keys, that are not plain, and the most of them with the same hash. More could be slow,
#: because their hashes may be chosen for that (values.py checks those of plain ones).
_MOST_KEYS, _MOST_OF_HASH = 1000, 16

_CONTAINERS = (dict, list, tuple, set, frozenset)
_SCALARS = frozenset((type(None), bool, int, float, str, bytes))
_PLAIN = (type(None), int, float, str, bytes, bytearray, memoryview)

#: The known types: the name, the module, the parts of a value, and the type of the parts.
_KNOWN: Mapping[str, tuple[str, Callable[[Any], Any], type]] = {
    "range": ("builtins", lambda value: [value.start, value.stop, value.step], int),
    "complex": ("builtins", lambda value: [value.real, value.imag], float),
    "Fraction": ("fractions", lambda value: [value.numerator, value.denominator], int),
    "Decimal": ("decimal", lambda value: [str(value)], str),
    "date": ("datetime", lambda value: [value.year, value.month, value.day], int),
    "time": ("datetime", lambda value: [value.hour, value.minute, value.second, value.microsecond], int),
    "timedelta": ("datetime", lambda value: [value.days, value.seconds, value.microseconds], int),
}
#: Views of a dict. Keys are sent as a dict, whose hashes values.py checks on arrival.
_VIEWS: Mapping[type, tuple[str, Callable[[Any], Any]]] = {
    type({}.keys()): ("dict_keys", dict.fromkeys),
    type({}.values()): ("dict_values", list),
    type({}.items()): ("dict_items", dict),
}

_READ_ONLY = type(type.__dict__)


def is_plain(
    value: object, levels: int = MOST_LEVELS, seen: set[int] | None = None, *, attributes: bool = False
) -> bool:
    """Whether values.py sends the value as a whole. True also for too deep values: values.py reports these itself.

    seen: the ids of the containers that were examined before, so that a container that contains itself is examined
    once. attributes: whether a container with attributes is not plain (`has_attributes`).
    """
    kind = type(value)
    if kind in _SCALARS or not levels:
        return True
    if attributes and has_attributes(value):
        return False
    if isinstance(value, (set, frozenset)):
        return all(map(_is_key, value))
    if not isinstance(value, (dict, list, tuple)):
        return isinstance(value, _PLAIN) or _is_of(kind, "datetime", "datetime")
    if isinstance(value, dict) and not all(map(_is_key, value)):
        return False
    values: Any = value.values() if isinstance(value, dict) else value
    seen = set() if seen is None else seen
    if _SCALARS.issuperset(map(type, values)) or id(value) in seen:
        return True
    seen.add(id(value))
    return all(is_plain(each, levels - 1, seen, attributes=attributes) for each in values)


def has_attributes(value: object) -> bool:
    """Whether it is a container of a subclass with attributes of its own, which a test may need."""
    if type(value) in _CONTAINERS or not isinstance(value, _CONTAINERS):
        return False
    try:
        return bool(object.__getattribute__(value, "__dict__"))
    except AttributeError:
        return False


def content(value: object) -> object:
    """The plain container in a container of a subclass; any other value unchanged."""
    for kind in _CONTAINERS:
        if isinstance(value, kind):
            return kind(value)
    return value


def _is_key(value: object, levels: int = MOST_LEVELS) -> bool:
    """Whether the value can be a key after its arrival. A frozenset arrives as a set."""
    if type(value) in _SCALARS or not levels:
        return True
    if isinstance(value, tuple):
        return all(_is_key(each, levels - 1) for each in value)
    return not isinstance(value, frozenset) and is_plain(value)


def _is_of(kind: type, module: str, name: str, *, derived: bool = False) -> bool:
    """Whether `kind` is this type, or derived from it. A module that was not imported has made no value."""
    known = getattr(sys.modules.get(module), name, None)
    return known is kind or (derived and isinstance(known, type) and issubclass(kind, known))


def _datetime_of(value: Any) -> Any:
    """A datetime for one of a subclass, which is a date as well; None for any other value."""
    if not _is_of(type(value), "datetime", "datetime", derived=True):
        return None
    own = sys.modules["datetime"].datetime
    clock = (value.hour, value.minute, value.second, value.microsecond)
    return own(value.year, value.month, value.day, *clock, value.tzinfo, fold=value.fold)


def pack(
    value: object,
    refer: Callable[[object], tuple[str, Any]],
    within: frozenset[int] = frozenset(),
    *,
    attributes: bool = False,
) -> tuple[str, Any]:
    """A value in the form of this file. refer: packs a value that is neither plain nor known, or raises an exception.

    within: the ids of the containers around the value. A container inside itself, or a deep one, is passed to `refer`.
    attributes: whether containers with attributes are passed to `refer` (`has_attributes`), and not sent without them.
    """

    def all_of(values: Any) -> list[tuple[str, Any]]:
        inside = within | {id(value)}
        return [pack(each, refer, inside, attributes=attributes) for each in values]

    if type(value) is _READ_ONLY:  # such a view is equal to a dict
        value = dict(value)
    if is_plain(value, attributes=attributes):
        return "value", value
    if len(within) < _PACKED_LEVELS and id(value) not in within and not (attributes and has_attributes(value)):
        if isinstance(value, (list, tuple)):
            return "tuple" if isinstance(value, tuple) else "list", all_of(value)
        if isinstance(value, dict) and all(map(_is_key, value)):
            return "dict", ({key: place for place, key in enumerate(value)}, all_of(value.values()))
        if isinstance(value, (dict, set, frozenset)):
            keys = _pack_keys(value, _PACKED_LEVELS - len(within) - 1)
            if keys is not None and isinstance(value, dict):
                return "pairs", (keys, all_of(value.values()))
            if keys is not None:
                return "set", keys
        if (moment := _datetime_of(value)) is not None:
            return "value", moment
        name, parts = _parts(value)
        if name:
            return "known", (name, pack(parts, refer, within | {id(value)}, attributes=attributes))
    return refer(value)


def _pack_keys(values: Any, levels: int) -> list[tuple[str, Any]] | None:
    """Packs members of a set, or keys; None if one of them is an object, or if they are too many."""
    if len(values) > _MOST_KEYS:
        return None
    packed = [_pack_key(each, levels) for each in values]
    return None if None in packed else [each for each in packed if each is not None]


def _pack_key(value: Any, levels: int) -> tuple[str, Any] | None:
    if _is_key(value):
        return "value", value
    if levels and isinstance(value, (tuple, frozenset)):
        inner = _pack_keys(value, levels - 1)
        return None if inner is None else ("tuple" if isinstance(value, tuple) else "frozenset", inner)
    if (moment := _datetime_of(value)) is not None:
        return "value", moment
    name, parts = _parts(value)
    return ("known", (name, ("value", parts))) if name in _KNOWN else None


def _parts(value: Any) -> tuple[str, Any]:
    """The name of a known type, and the parts of the value; ("", None) for another type."""
    kind = type(value)
    if kind in _VIEWS:
        name, parts = _VIEWS[kind]
        made = parts(value)
        can_be = name == "dict_values" or all(map(_is_key, made)) or _pack_keys(made, _PACKED_LEVELS) is not None
        return (name, made) if can_be else ("", None)
    if _is_of(kind, "collections", "deque", derived=True):
        return "deque", list(value)
    for name, (module, parts, _) in _KNOWN.items():
        if _is_of(kind, module, name, derived=True) and getattr(value, "tzinfo", None) is None:
            made = parts(value)
            return (name, made) if _are_small(name, made) and _is_small(name, value) else ("", None)
    return "", None


def _are_small(name: str, parts: list[Any]) -> bool:
    """Whether these may be parts of a known value."""
    of = _KNOWN[name][2]
    if not all(type(each) is of for each in parts):
        return False
    if of is str:
        return all(len(each) <= _MOST_DIGITS for each in parts)
    return of is float or all(each.bit_length() <= _MOST_BITS for each in parts)


def _is_small(name: str, value: Any) -> bool:
    if name == "range":
        return bool(abs(value.stop - value.start) // abs(value.step) <= _MOST_IN_RANGE)
    return bool(name != "Decimal" or not value.is_finite() or abs(value.adjusted()) <= _MOST_DIGITS)


def unpack(packed: Any, resolve: Callable[[str, Any], Any]) -> Any:
    """The value that was packed. resolve: returns the value for the result of `refer`.

    Raises ValueError for data that `pack` does not make, and the exceptions of `resolve`.
    """
    if not isinstance(packed, tuple) or len(packed) != 2 or not isinstance(packed[0], str):
        raise ValueError("not packed")
    kind, held = packed
    if kind == "value":
        return held
    if kind in ("list", "tuple") and isinstance(held, list):
        made = [unpack(each, resolve) for each in held]
        return tuple(made) if kind == "tuple" else made
    if kind == "dict":
        places, inner = _pair(held, dict, list)
        if sorted(places.values(), key=_number) != list(range(len(inner))):
            raise ValueError("no places")
        made = [unpack(each, resolve) for each in inner]
        return {key: made[place] for key, place in places.items()}
    if kind in ("set", "frozenset") and isinstance(held, list):
        members = _keys([unpack(each, _no_object) for each in held])
        return set(members) if kind == "set" else frozenset(members)
    if kind == "pairs":
        keys, inner = _pair(held, list, list)
        if len(keys) != len(inner):
            raise ValueError("no pairs")
        made = _keys([unpack(each, _no_object) for each in keys])
        return dict(zip(made, [unpack(each, resolve) for each in inner]))  # noqa: B905 - Python 3.9
    if kind == "known":
        name, inside = _pair(held, str, tuple)
        return _made(name, unpack(inside, resolve))
    return resolve(kind, held)


def _pair(held: Any, first: type, second: type) -> Any:
    if isinstance(held, tuple) and len(held) == 2 and isinstance(held[0], first) and isinstance(held[1], second):
        return held
    raise ValueError("no pair")


def _no_object(kind: str, held: Any) -> Any:
    raise ValueError("no key")


def _keys(made: list[Any]) -> list[Any]:
    """Returns the members of a set, or keys, if they differ and few have the same hash. Raises ValueError."""
    if len(made) > _MOST_KEYS:
        raise ValueError("too many keys")
    counts: dict[int, int] = {}
    try:
        for each in made:
            own = hash(each)
            counts[own] = counts.get(own, 0) + 1
    except (TypeError, RecursionError) as error:  # a list, a signalling NaN
        raise ValueError("no keys") from error
    if max(counts.values(), default=0) > _MOST_OF_HASH or len(set(made)) < len(made):
        raise ValueError("no keys")
    return made


def _number(value: object) -> int:
    if type(value) is int:
        return value
    raise ValueError("no number")


def _made(name: str, parts: Any) -> Any:
    """The known value that has these parts. Raises ValueError."""
    if name in ("dict_keys", "dict_items") and type(parts) is dict:
        return parts.keys() if name == "dict_keys" else parts.items()
    if name == "dict_values" and type(parts) is list:
        return dict(enumerate(parts)).values()
    if type(parts) is not list or name not in ("deque", *_KNOWN):
        raise ValueError("not known")
    if name == "deque":
        return __import__("collections").deque(parts)
    if not _are_small(name, parts):
        raise ValueError("no parts")
    try:
        value = getattr(__import__(_KNOWN[name][0]), name)(*parts)
    except (TypeError, ArithmeticError) as error:  # decimal raises ArithmeticError
        raise ValueError("no parts") from error
    if not _is_small(name, value):
        raise ValueError("too large")
    return value
