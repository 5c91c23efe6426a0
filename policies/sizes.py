"""Converts sizes and durations from the forms that people write to ints and floats, and back.

Rules: a bare number is bytes or seconds. K, M, G, T and KiB, MiB, GiB, TiB are powers of 1024; KB, MB, GB, TB are
powers of 1000. Case does not matter for sizes. "none" and "unlimited" are None: no limit.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from proxybox.policies.errors import PolicyError, Problem, shown

if TYPE_CHECKING:  # otherwise it is imported only for values that are no number or text: few runs need it
    import datetime

SIZES: Final = 'a size such as "512M", "1GiB" or 1_000_000 (bytes), or "none"'
DURATIONS: Final = 'a duration such as 2.5 (seconds), "500ms", "2s" or "1m30s", or "none"'

_MAXIMUM: Final = 1 << 63
_NO_LIMIT: Final = frozenset({"none", "unlimited"})
_POWERS: Final = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
SIZE: Final = re.compile(r"([0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?) ?([kKmMgGtT]?)([iI]?)([bB]?)", re.ASCII)
_PIECE: Final = r"([0-9]+(?:\.[0-9]+)?)"
DURATION: Final = re.compile(
    rf"(?:{_PIECE} ?d)? ?(?:{_PIECE} ?h)? ?(?:{_PIECE} ?(?:m|min))?"
    rf" ?(?:{_PIECE} ?s)? ?(?:{_PIECE} ?ms)?",
    re.ASCII,
)
_SECONDS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
NUMBER: Final = re.compile(r"[0-9]+(?:_[0-9]+)*(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)


def to_size(value: int | str | None) -> int | None:
    """Returns the bytes of `value`: an int, a text such as "512M", or None for no limit.

    Raises PolicyError for anything else.
    """
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and len(value) <= 40:
        text = value.strip()
        if text.lower() in _NO_LIMIT:
            return None
        match = SIZE.fullmatch(text)
        if match is not None and (match[2] or not match[3]):
            base = 1000 if match[4] and match[2] and not match[3] else 1024
            number = match[1].replace("_", "")
            factor = base ** _POWERS[match[2].lower()]
            size = float(number) * factor if "." in number else int(number) * factor
            if size < _MAXIMUM and size == int(size):
                return int(size)
    raise PolicyError(Problem(key="", message=f"want {SIZES}", given=shown(value)))


def to_duration(value: float | str | datetime.timedelta | None) -> float | None:
    """Returns the seconds of `value`: a number, a text such as "1m30s", a timedelta, or None for no limit.

    Raises PolicyError for anything else.
    """
    seconds = _seconds(value)
    if seconds is None or math.isfinite(seconds):
        return seconds
    raise PolicyError(Problem(key="", message=f"want {DURATIONS}", given=shown(value)))


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    if not isinstance(value, str):
        import datetime

        return value.total_seconds() if isinstance(value, datetime.timedelta) else math.nan
    if len(value) > 60:
        return math.nan
    text = value.strip()
    if text.lower() in _NO_LIMIT:
        return None
    if NUMBER.fullmatch(text):
        return float(text)
    match = DURATION.fullmatch(text) if text else None
    if match is None:
        return math.nan
    pieces = zip(match.groups(), _SECONDS, strict=True)
    return math.fsum(float(piece) * unit for piece, unit in pieces if piece)


def format_size(size: int | None) -> str | int:
    """Returns the shortest form of `size` that `to_size` reads back exactly."""
    if size is None:
        return "none"
    for letter, power in reversed(_POWERS.items()):
        unit = 1024**power
        if power and size and size % unit == 0:
            return f"{size // unit}{letter.upper()}"
    return size


def spoken_size(size: int) -> str:
    """Returns `size` in a form for people: "512 MiB", "1,000 bytes"."""
    for letter, power in reversed(_POWERS.items()):
        unit = 1024**power
        if power and size >= unit and size * 10 % unit == 0:
            return f"{size / unit:g} {letter.upper()}iB"
    return f"{size:,} byte{'' if size == 1 else 's'}"


def spoken_duration(seconds: float) -> str:
    """Returns `seconds` in a form for people: "1 min 30 s", "500 ms"."""
    if seconds < 1:
        return f"{seconds * 1000:g} ms"
    if seconds < 60 or seconds != int(seconds):
        return f"{seconds:g} s"
    pieces, rest = [], int(seconds)
    for unit, word in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, rest = divmod(rest, unit)
        if count:
            pieces.append(f"{count} {word}")
    return " ".join(pieces)
