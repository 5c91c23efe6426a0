"""Converts points in time from the forms that people write to seconds since 1970 UTC, and back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from proxybox.policies.errors import PolicyError, Problem, shown

if TYPE_CHECKING:  # otherwise it is imported only for times that are no numbers: few runs need it
    import datetime

Moment: TypeAlias = "float | str | datetime.datetime | datetime.date"

EARLIEST: Final = 0.0
LATEST: Final = 7_258_118_400.0
"""2200-01-01. The kernel's 64-bit nanoseconds end in 2262."""
MOMENTS: Final = 'a time from 1970-01-01 to 2200-01-01 UTC, such as "2026-01-01T12:00:00Z"'


def to_moment(value: Moment | None) -> float | None:
    """Returns the seconds since 1970 UTC of a number, a datetime or date, or an ISO 8601 text. None stays None.

    A time without a zone is UTC. Raises PolicyError for anything else.
    """
    if value is None:
        return None
    seconds = _seconds(value)
    if EARLIEST <= seconds <= LATEST:
        return seconds
    raise PolicyError(Problem(key="", message=f"want {MOMENTS}", given=shown(value)))


def _seconds(value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if -LATEST <= value <= LATEST else math.nan
    import datetime

    if isinstance(value, str) and len(value) <= 40:
        try:
            value = datetime.datetime.fromisoformat(value.strip())
        except ValueError:
            return math.nan
    if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
        value = datetime.datetime(value.year, value.month, value.day)
    if not isinstance(value, datetime.datetime):
        return math.nan
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()


def format_moment(seconds: float) -> str | float:
    """Returns the ISO 8601 text that `to_moment` reads back exactly, or the number where there is no such text."""
    import datetime

    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    if moment.timestamp() != seconds:
        return seconds
    return moment.isoformat().replace("+00:00", "Z")


def spoken_moment(seconds: float) -> str:
    """Returns a point in time in a form for people."""
    import datetime

    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
