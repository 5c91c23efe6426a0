"""What tests ask of a replay: that all is as it was recorded."""

from pathlib import Path
from typing import Any

import proxybox
from proxybox import Result
from proxybox.records.replaying import Replay


def told(result: Result) -> dict[str, Any]:
    """All that a Result tells, but for where its record is."""
    data = result.to_dict()
    return {key: value for key, value in data.items() if not key.startswith("record")} | {"output": result.output}


def replayed(record: Path, **how: Any) -> Replay:
    """The replay, which must be as recorded."""
    done = proxybox.replay(record, **how)
    assert done.divergence is None
    assert done.is_complete
    assert done.ok
    return done
