"""Checks that a replay does the same as the recorded run."""

from pathlib import Path
from typing import Any

import proxybox
from proxybox import Result
from proxybox.records.replaying import Replay


def told(result: Result) -> dict[str, Any]:
    """Returns everything in a Result, except where its record is."""
    data = result.to_dict()
    return {key: value for key, value in data.items() if not key.startswith("record")} | {"output": result.output}


def replayed(record: Path, **how: Any) -> Replay:
    """Replays a record, checks that it does the same as the recorded run, and returns the replay."""
    done = proxybox.replay(record, **how)
    assert done.divergence is None
    assert done.is_complete
    assert done.ok
    return done
