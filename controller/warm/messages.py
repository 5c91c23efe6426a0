"""What crosses between a session and its guest: commands to it, and its claims, of which only the form is checked."""

import marshal
from collections.abc import Mapping
from typing import Any

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.exchange import values
from proxybox.controller.exchange.port import ENVELOPE
from proxybox.controller.warm.start import MARSHAL

#: The kinds of result that a guest may send, and the types of the parts of each.
RESULTS: Mapping[str, tuple[type, ...]] = {"ok": (object,), "value": (str,), "error": (str, str, str), "exit": (int,)}
#: How the form "ok" begins.
_OK = values.encode(("ok", None))[:-1]
#: What a guest may send to be shown besides its printed output: the value of an expression, an object to display, or
#: one in place of an earlier one (each as data by MIME type and metadata), or the wish to clear what was shown.
SHOWN: Mapping[str, tuple[type, ...]] = {
    "value": (dict, dict), "display": (dict, dict), "update": (dict, dict), "clear": (bool,),
}  # fmt: skip
#: The types of what a command's parts are, or hold, when they cross as marshal.
_IN_C = frozenset({str, int, bool, float, type(None)})
#: Names of the parts of a command, as the caller who gives them knows them.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "call": ("", "", "args", "kwargs"), "set": ("", "value"),
    "evaluate": ("", "", "names", ""), "lend": ("", "names", ""),
}  # fmt: skip


def encoded(command: tuple[Any, ...], limit: int) -> bytes:
    """Encodes a command.

    One of texts and numbers, and of flat containers of these, goes as marshal, which both sides do in C; others go as
    values. What a guest sends is never read as marshal. Raises TypeError and ValueError for what cannot cross.
    """
    if all(map(_is_in_c, command)):
        data = b"m" + marshal.dumps(command, MARSHAL)
        if len(data) <= limit:
            return data
    return b"v" + values.encode(command, limit, _PARTS.get(command[0], ()))


def _is_in_c(part: Any) -> bool:
    kind = type(part)
    if kind in _IN_C:
        return True
    if kind is dict:
        return _IN_C.issuperset(map(type, part)) and _IN_C.issuperset(map(type, part.values()))
    return kind is tuple and _IN_C.issuperset(map(type, part))


def form_of(data: bytes, value_size: int, forms: Mapping[str, tuple[type, ...]]) -> tuple[Any, ...]:
    """Returns what a guest has sent, as one of these forms. Raises GuestMisbehaved when it has none of them."""
    if forms is RESULTS and data.startswith(_OK) and (value := values.scalar(data, len(_OK))) is not None:
        return "ok", *value  # the most frequent claim by far
    try:
        claim = values.decode(data, value_size + ENVELOPE)
        form = forms[claim[0]]
        if len(claim) != len(form) + 1 or not all(map(isinstance, claim[1:], form)):
            raise ValueError("another form")
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise GuestMisbehaved(f"what a session gives is nothing that it may be: {error}") from error
    return tuple(claim)
