"""Messages between a session and its guest: commands, and the guest's claims, of which only the form is checked."""

import marshal
from collections.abc import Mapping
from typing import Any

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.exchange import values
from proxybox.controller.exchange.port import ENVELOPE
from proxybox.controller.warm.start import MARSHAL

#: The kinds of result that a guest may send, and the types of the parts of each.
RESULTS: Mapping[str, tuple[type, ...]] = {"ok": (object,), "value": (str,), "error": (str, str, str), "exit": (int,)}
#: The first bytes of the form "ok".
_OK = values.encode(("ok", None))[:-1]
#: Messages of a guest that are shown besides its printed output: the value of an expression, an object to display, or
#: one that replaces an earlier one (each as data by MIME type and metadata), or a request to clear the output.
SHOWN: Mapping[str, tuple[type, ...]] = {
    "value": (dict, dict), "display": (dict, dict), "update": (dict, dict), "clear": (bool,),
}  # fmt: skip
#: The types of a command's parts, and of the items in them, that are sent as marshal.
_IN_C = frozenset({str, int, bool, float, type(None)})
#: Names of the parts of a command, for messages to the caller.
_PARTS: Mapping[str, tuple[str, ...]] = {
    "call": ("", "", "args", "kwargs"), "set": ("", "value"),
    "evaluate": ("", "", "names", ""), "lend": ("", "names", ""),
}  # fmt: skip


def encoded(command: tuple[Any, ...], limit: int) -> bytes:
    """Encodes a command.

    A command of texts and numbers, and of flat containers of these, is sent as marshal, which is fast; others are sent
    as values. Messages of a guest are never read as marshal. Raises TypeError and ValueError for values that cannot be
    sent.
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
    """Returns a guest's message, as one of `forms`. Raises GuestMisbehaved when it has none of these forms."""
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
