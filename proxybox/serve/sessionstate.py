"""The state of a session, for its owner."""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class SessionState:
    """A session: its age and the time since its last use, in seconds; its state, and the ids of its snapshots.

    recorded: whether it has a record after its end.
    """

    id: str
    policy: str
    language: str
    age: float
    idle: float
    state: Literal["awake", "busy", "asleep"]
    snapshots: list[str]
    recorded: bool
