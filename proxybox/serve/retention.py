"""How long a service stores records and files, and how much of them: a section of its configuration."""

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
    """Bounds of the database, from which the oldest entries are removed.

    records: seconds for which records of the audit, and the ends of sessions, are stored. audit, sessions: the most
    bytes that these use, approximately. files: seconds for which a file is stored that was sent for later runs, or left
    by a run.
    """

    records: float = attrs.field(default=90 * _DAY, converter=_to_age, validator=between(60, 1e10, _AGE))
    audit: int = attrs.field(default=256 * _MIB, converter=_to_size, validator=between(_MIB, 1 << 50, _SIZE))
    sessions: int = attrs.field(default=64 * _MIB, converter=_to_size, validator=between(_MIB, 1 << 50, _SIZE))
    files: float = attrs.field(default=90 * _DAY, converter=_to_age, validator=between(60, 1e10, _AGE))
