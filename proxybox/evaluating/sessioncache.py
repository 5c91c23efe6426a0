"""Sessions that are used again: an expression is evaluated in a guest that has evaluated others before."""

import time
from collections import deque
from collections.abc import Callable

from proxybox.evaluating.session import ExpressionSession
from proxybox.evaluating.supply import Supply


class SessionCache(Supply):
    """At most `size` sessions, each made at its first use. make: starts a prepared session."""

    def __init__(self, make: Callable[[], ExpressionSession], size: int) -> None:
        super().__init__(size)
        self._make = make
        self._idle = deque([make()])

    @property
    def ready(self) -> int:
        """See Supply."""
        return len(self._idle)

    def _take(self, deadline: float | None) -> tuple[ExpressionSession, float]:
        while True:
            try:
                session = self._idle.pop()  # the one whose memory is warm
            except IndexError:
                began = time.monotonic()
                return self._make(), time.monotonic() - began
            if session.is_running:
                return session, 0.0
            session.close()

    def _give(self, session: ExpressionSession, is_good: bool) -> None:
        if is_good and len(self._idle) < self._size:
            self._idle.append(session)
        else:
            session.close()
        if self._closed:
            self._empty()

    def _empty(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def retire(self) -> None:
        """See Supply."""
        super().retire()
        self._empty()

    def join(self) -> None:
        """See Supply. There is nothing to wait for."""
