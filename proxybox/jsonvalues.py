"""Plain values as JSON, without loss, for messages between a service and its clients.

    None, bool, str, list       as JSON has them
    int, float                  a number; {"$int": "-0x..."} from 2**53 on, {"$float": "nan"} and the infinities
    bytes, tuple, set           {"$bytes": base64}, {"$tuple": [...]}, {"$set": [...]}
    dict                        an object, or {"$dict": [[key, value]]} if a key is no text or begins with "$"
    datetime                    {"$datetime": ISO 8601}

Only objects of these types are made; nothing is looked up by name or called.
"""

import base64
import binascii
import datetime
import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from proxybox.policies.errors import shown

#: A JSON object, as a service or a client sends it. Our own modules use classes between each other.
JSONObject: TypeAlias = dict[str, Any]

#: Integers of a smaller size are exact in every reader of JSON (RFC 8259, section 6).
_EXACT: Final = 1 << 53
#: How deep containers may be nested; the same limit applies to values that are sent to a guest.
MAX_DEPTH: Final = 64
_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


def to_json(value: Any, depth: int = 0) -> Any:
    """Returns the JSON form of a value. Raises TypeError or ValueError for a value without a JSON form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return value if -_EXACT < value < _EXACT else {"$int": hex(value)}
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    if isinstance(value, datetime.datetime):
        return {"$datetime": value.isoformat()}
    if depth >= MAX_DEPTH:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(value, list):
        return [to_json(each, depth + 1) for each in value]
    if isinstance(value, tuple):
        return {"$tuple": [to_json(each, depth + 1) for each in value]}
    if isinstance(value, set | frozenset):
        return {"$set": [to_json(each, depth + 1) for each in value]}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: to_json(each, depth + 1) for key, each in value.items()}
        return {"$dict": [[to_json(key, depth + 1), to_json(each, depth + 1)] for key, each in value.items()]}
    raise TypeError(f"want plain data, got {shown(value)}")


def from_json(data: Any, depth: int = 0) -> Any:
    """Returns the value of a JSON form. Raises ValueError for JSON that `to_json` does not make."""
    if depth > MAX_DEPTH:
        raise ValueError(f"a value is nested more than {MAX_DEPTH} deep")
    if isinstance(data, list):
        return [from_json(each, depth + 1) for each in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        ((tag, content),) = data.items()
        if isinstance(tag, str) and tag.startswith("$"):
            return _tagged(tag, content, depth + 1)
    if any(key.startswith("$") for key in data):
        raise ValueError(
            f"no key may begin with $, got {shown(data)}: write such a dict as {{'$dict': [[key, value]]}}"
        )
    return {key: from_json(each, depth + 1) for key, each in data.items()}


def _tagged(tag: str, content: Any, depth: int) -> Any:
    read = _READERS.get(tag)
    if read is None:
        raise ValueError(f"there is no {shown(tag)} (allowed: {', '.join(_READERS)})")
    try:
        return read(content, depth)
    except (TypeError, ValueError, KeyError, binascii.Error) as error:
        raise ValueError(f"{tag}: {error}") from None


def _items(content: Any, depth: int) -> list[Any]:
    if not isinstance(content, list):
        raise TypeError("want a list")
    return [from_json(each, depth) for each in content]


def _pairs(content: Any, depth: int) -> dict[Any, Any]:
    pairs = [_items(pair, depth) for pair in (content if isinstance(content, list) else [None])]
    return {key: value for key, value in pairs}  # noqa: C416 - a pair of another length is refused here


_READERS: Final[dict[str, Callable[[Any, int], Any]]] = {
    "$int": lambda content, _: int(content, 16),
    "$float": lambda content, _: _FLOATS[content],
    "$bytes": lambda content, _: base64.b64decode(content, validate=True),
    "$tuple": lambda content, depth: tuple(_items(content, depth)),
    "$set": lambda content, depth: set(_items(content, depth)),
    "$dict": _pairs,
    "$datetime": lambda content, _: datetime.datetime.fromisoformat(content),
}
