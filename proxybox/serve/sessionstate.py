"""What the owner of a session is told of it."""

from typing import Literal

import attrs


@attrs.frozen(kw_only=True)
class SessionState:
    """A session: its age and the time since it was used, in seconds; its state, and the ids of its kept states.

    recorded: whether there is a record of it when it has ended.
    """

    id: str
    policy: str
    language: str
    age: float
    idle: float
    state: Literal["awake", "busy", "asleep"]
    snapshots: list[str]
    recorded: bool
