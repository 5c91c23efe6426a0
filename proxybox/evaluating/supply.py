"""The sources of sessions for expressions: the common part of sessions that are used again and of copies."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.status import Status
from proxybox.evaluating.session import ExpressionSession, has_spoilt
from proxybox.pool.slots import Slots
from proxybox.result import Result, TimeLimitExceeded


class Supply(ABC):
    """Sessions for the threads of an evaluator. size: how many may use one at once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._slots = Slots(size)
        self._closed = False

    def use(self, work: Callable[[ExpressionSession, float | None], Any], seconds: float | None, beyond: bool) -> Any:
        """Returns the value of `work`, called with a session that no other thread uses, and the remaining time.

        seconds: for `work` and for waiting; None: no limit. The start of a session does not count.
        beyond: whether the thread does not wait for others, because others may wait for it.

        Raises TimeLimitExceeded when the time is over, SandboxClosedError, SandboxStartError.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        if not beyond and not self._slots.acquire(seconds):
            raise late(f"{self._size} expressions were being evaluated all the time")
        try:
            session, started = self._take(deadline)
            is_spoilt = False
            try:
                left = None if deadline is None else deadline + started - time.monotonic()
                if left is not None and left <= 0:
                    raise late("no time was left when a box was free")
                return work(session, left)
            except BaseException as error:
                is_spoilt = has_spoilt(error)
                raise
            finally:
                self._give(session, not is_spoilt and session.alive and not self._closed)
        finally:
            if not beyond:
                self._slots.release()

    @property
    @abstractmethod
    def ready(self) -> int:
        """How many sessions wait for an expression."""

    @abstractmethod
    def _take(self, deadline: float | None) -> tuple[ExpressionSession, float]:
        """Returns a session for one expression, and the seconds that its start took. deadline: of `time.monotonic`."""

    @abstractmethod
    def _give(self, session: ExpressionSession, is_good: bool) -> None:
        """Takes a session back. is_good: whether the next expression can be evaluated in it."""

    def retire(self) -> None:
        """Ends idle sessions, and those in use after their use. Later requests for one raise SandboxClosedError."""
        self._closed = True
        self._slots.end(closed)

    @abstractmethod
    def join(self) -> None:
        """Waits until the work of `retire` is done."""


def late(why: str) -> TimeLimitExceeded:
    """Returns the exception for an expression whose time was over before it could be evaluated."""
    return TimeLimitExceeded(Result(status=Status.TIME_LIMIT, why=f"limits.wall_time; {why}"))


def closed() -> SandboxClosedError:
    """Returns the exception for the use of an evaluator that was closed."""
    return SandboxClosedError("the evaluator is closed: make another one for further expressions")
