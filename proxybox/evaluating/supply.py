"""What sessions for expressions are taken from: the common part of those that are kept and those that are copied."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.status import Status
from proxybox.evaluating.session import ExpressionSession, has_spoilt
from proxybox.evaluating.turns import EvaluationTurns
from proxybox.result import Result, TimeLimitExceeded


class Supply(ABC):
    """Sessions for the threads of an evaluator. size: how many may use one at once."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._turns = EvaluationTurns(size)
        self._closed = False

    def use(self, work: Callable[[ExpressionSession, float | None], Any], seconds: float | None, beyond: bool) -> Any:
        """Returns what `work` returns for a session that no other thread uses meanwhile, and the time that is left.

        seconds: for `work` and for waiting; None: for as long as it takes. The start of a session does not count.
        beyond: whether the thread waits for no other, since others may wait for it.

        Raises TimeLimitExceeded when the time is over, SandboxClosedError, SandboxStartError.
        """
        deadline = None if seconds is None else time.monotonic() + seconds
        if not beyond and not self._turns.take(seconds):
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
                self._turns.give()

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
        """Ends sessions that wait, and those in use after their use. Whoever asks for one gets SandboxClosedError."""
        self._closed = True
        self._turns.end(closed)

    @abstractmethod
    def join(self) -> None:
        """Waits until what `retire` has begun is done."""


def late(why: str) -> TimeLimitExceeded:
    """The exception for an expression whose time was over before it could be evaluated."""
    return TimeLimitExceeded(Result(status=Status.TIME_LIMIT, why=f"limits.wall_time; {why}"))


def closed() -> SandboxClosedError:
    """The exception for whoever uses an evaluator that was closed."""
    return SandboxClosedError("the evaluator is closed: make another one for further expressions")
