"""Whether a record can be replayed exactly, and if not, from which call on."""

from collections.abc import Mapping
from typing import Any, Final

import attrs

from proxybox.controller.errors import RecordError

#: The most characters of a reason.
_LONGEST: Final = 1000

#: The reasons: what happens in runs that a record cannot fully contain.
BESIDE: Final = "a thread computed for long while others waited for it, and they went on beside it"
LATE: Final = "a signal came in the middle of a computation"
LEFT_OUT: Final = "what the program read there is left out of the record"
ADDRESSES: Final = "addresses are other ones in each run here (Result.layers)"


@attrs.frozen
class Inexact:
    """From where on a replay may differ from the recorded run.

    call: the number of the first call that may differ; calls are counted from 1. why: what happened before that call.
    """

    call: int
    why: str


def as_data(inexact: Inexact | None) -> dict[str, Any] | None:
    """Returns `inexact` as a JSON object; None for None."""
    return None if inexact is None else attrs.asdict(inexact)


def read_inexact(stored: Any) -> Inexact | None:
    """Returns the Inexact that `as_data` has converted; None for None. Raises RecordError for anything else."""
    if stored is None:
        return None
    if isinstance(stored, Mapping):
        call, why = stored.get("call"), stored.get("why")
        if type(call) is int and call > 0 and isinstance(why, str) and len(why) <= _LONGEST:
            return Inexact(call, why)
    raise RecordError("the record tells in no sense from which call on it is inexact")
