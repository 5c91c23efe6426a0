"""The settings that a worker gets when it starts: interpreters and policies, and no secrets."""

from collections.abc import Mapping

import attrs

from proxybox.policies import Policy


@attrs.frozen(kw_only=True)
class Interpreter:
    """The interpreter of one language, as for `Sandbox`. packages: host paths. preload: names of modules."""

    guest: str | None = None
    packages: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Setup:
    """The settings of a worker.

    slots: runs at once. input_wait: seconds that a program waits for its caller's input. nice: how much lower its
    priority is than that of the service (priority.py). record: bytes of the record of a run or a session; None if the
    service makes no records.
    """

    policies: Mapping[str, Policy]
    interpreters: Mapping[str, Interpreter]
    slots: int
    input_wait: float
    nice: int = 0
    record: int | None = None
