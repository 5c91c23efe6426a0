"""How long a service keeps what it writes down, and how much of it: a section of its configuration."""

from typing import Final

import attrs

from proxybox.policies.building import model
from proxybox.policies.checks import between, limited
from proxybox.policies.sizes import to_duration, to_size

_MIB: Final = 1 << 20
_DAY: Final = 86_400.0
_AGE: Final = 'a duration of at least 1m, such as "90d"'
_SIZE: Final = 'a size of at least 1M, such as "256M"'


def _to_age(value: float | str) -> float:
    return limited(to_duration, value, _AGE)


def _to_size(value: int | str) -> int:
    return limited(to_size, value, _SIZE)


@model("retention")
@attrs.frozen(kw_only=True)
class Retention:
    """What is removed from the database, the oldest first.

    records: seconds that records of the audit are kept, and how sessions have ended. audit, sessions: bytes that these
    take up at most, about. files: seconds that a file is kept which was sent for later runs, or left by one.
    """

    records: float = attrs.field(default=90 * _DAY, converter=_to_age, validator=between(60, 1e10, _AGE))
    audit: int = attrs.field(default=256 * _MIB, converter=_to_size, validator=between(_MIB, 1 << 50, _SIZE))
    sessions: int = attrs.field(default=64 * _MIB, converter=_to_size, validator=between(_MIB, 1 << 50, _SIZE))
    files: float = attrs.field(default=90 * _DAY, converter=_to_age, validator=between(60, 1e10, _AGE))
