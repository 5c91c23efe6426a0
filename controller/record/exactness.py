"""Whether a record can be replayed exactly, and from which call on not."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from proxybox.controller.errors import RecordError

#: The most characters of a reason.
_LONGEST: Final = 1000

#: What has happened in the run that no record can tell whole.
BESIDE: Final = "a thread computed for long while others waited for it, and they went on beside it"
LATE: Final = "a signal came in the middle of a computation"
LEFT_OUT: Final = "what the program read there is left out of the record"
ADDRESSES: Final = "addresses are other ones in each run here (Result.layers)"


@attrs.frozen
class Inexact:
    """From where on a replay may do something else than the recorded run.

    call: the number of the first call that may be another one, from 1 on. why: what has happened before it.
    """

    call: int
    why: str


def as_data(inexact: Inexact | None) -> dict[str, Any] | None:
    """Returns it as JSON has it."""
    return None if inexact is None else attrs.asdict(inexact)


def read_inexact(stored: Any) -> Inexact | None:
    """Returns what `as_data` has made; None for None. Raises RecordError for anything else."""
    if stored is None:
        return None
    if isinstance(stored, Mapping):
        call, why = stored.get("call"), stored.get("why")
        if type(call) is int and call > 0 and isinstance(why, str) and len(why) <= _LONGEST:
            return Inexact(call, why)
    raise RecordError("the record tells in no sense from which call on it is inexact")
