"""Copies of a session that evaluate one expression each: some are always ready, and a thread makes new ones.

The original session is prepared and never evaluates an expression of a user.
"""

import threading
import time
from collections import deque
from collections.abc import Callable

from proxybox.controller.errors import CannotCopy, SandboxStartError
from proxybox.controller.warm.zygotepool import MOST_FORKS, OLDEST
from proxybox.evaluating.session import ExpressionSession
from proxybox.evaluating.supply import Supply, closed, late
from proxybox.pool.slots import Slots

#: Making a copy slows expressions that are evaluated meanwhile. So while copies are ready, none is made for this
#: number of seconds after the last expression has begun or ended: while one is evaluated, and while none is.
_QUIET, _CALM = 0.05, 0.002
#: Seconds until the next try, after no copy could be made.
_PAUSE = 0.1


class Copied(Supply):
    """Copies of a session.

    size: how many copies are ready, besides those in use. make: starts a prepared session. If the session cannot be
    copied (its host does not allow it, or the caller's statements have started a thread), `make` starts each one.
    """

    def __init__(self, make: Callable[[], ExpressionSession], size: int) -> None:
        super().__init__(size)
        self._make = make
        self._original = make()
        self._copies, self._since = 0, time.monotonic()
        self._can_copy = True
        self._stock: deque[ExpressionSession] = deque()
        self._stocked = Slots(0)  # one slot for each session in stock
        self._change = threading.Condition()
        self._wanted = self._used = 0
        self._changed = 0.0  # when a session was last taken or given back
        try:
            self._add(self._copy())
        except CannotCopy:
            self._can_copy = False
            self._original.close()
            self._add(self._copy())
        self._filler = threading.Thread(target=self._fill, name="proxybox-expressions", daemon=True)
        self._filler.start()

    @property
    def ready(self) -> int:
        """See Supply."""
        return len(self._stock)

    # --- use ----------------------------------------------------------------------------------------------------------

    def _take(self, deadline: float | None) -> tuple[ExpressionSession, float]:
        while True:
            if not self._stocked.acquire(0):
                self._wait(deadline)
            try:
                session = self._stock.popleft()
            except IndexError:  # `retire` has emptied it meanwhile
                raise closed() from None
            with self._change:
                self._used += 1
                self._changed = time.monotonic()
            if session.is_running:
                return session, 0.0
            self._give(session, False)

    def _wait(self, deadline: float | None) -> None:
        """Waits for a session in the stock, which is empty."""
        with self._change:
            self._wanted += 1
            self._change.notify()
        try:
            if not self._stocked.acquire(None if deadline is None else deadline - time.monotonic()):
                raise late("no copy stood ready")
        finally:
            with self._change:
                self._wanted -= 1

    def _give(self, session: ExpressionSession, is_good: bool) -> None:
        session.close()
        with self._change:
            self._used -= 1
            self._changed = time.monotonic()
            self._change.notify()

    # --- supply -------------------------------------------------------------------------------------------------------

    def _copy(self) -> ExpressionSession:
        """Makes a copy. Raises CannotCopy, SandboxStartError, OSError, ExecutionError."""
        if not self._can_copy:
            return self._make()
        try:
            made = self._fork()
        except (OSError, SandboxStartError, CannotCopy):
            if self._original.is_running:
                raise
            made = self._fork()  # of a new original, because the other one has died
        try:
            if not self._wanted:  # otherwise it takes longer than it saves
                made.rehearse()
        except BaseException:
            made.close()
            raise
        return made

    def _fork(self) -> ExpressionSession:
        """Copies the original, which is replaced first if it is worn or has died."""
        is_worn = self._copies >= MOST_FORKS or time.monotonic() - self._since > OLDEST
        if is_worn or not self._original.is_running:  # copies share addresses and a hash seed with it
            self._original.close()
            self._original = self._make()
            self._copies, self._since = 0, time.monotonic()
        self._copies += 1
        return self._original.fork()

    def _add(self, session: ExpressionSession) -> None:
        self._stock.append(session)
        self._stocked.release()

    def _pause(self) -> float:
        """Returns the seconds until a copy has to be made."""
        if self._wanted and not self._stock:
            return 0.0
        if len(self._stock) >= self._size:
            return float("inf")
        return max(0.0, self._changed + (_QUIET if self._used else _CALM) - time.monotonic())

    def _fill(self) -> None:
        """Keeps copies ready; runs in a thread."""
        while True:
            with self._change:
                while not self._closed and (pause := self._pause()):
                    self._change.wait(None if pause == float("inf") else pause)
            if self._closed:
                break
            try:
                self._add(self._copy())
            except Exception as error:
                self._fail(error)
        self._original.close()
        while self._stock:
            self._stock.popleft().close()

    def _fail(self, error: Exception) -> None:
        """Makes waiting threads raise an error, and closes the original, which may be the cause."""

        def fault() -> SandboxStartError:
            raised = SandboxStartError(f"no box for an expression could be made: {error}")
            raised.__cause__ = error
            return raised

        self._original.close()
        self._stocked.fail(fault)
        with self._change:
            if not self._closed:
                self._change.wait(_PAUSE)

    # --- the end ------------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """See Supply."""
        super().retire()
        self._stocked.end(closed)
        with self._change:
            self._change.notify_all()

    def join(self) -> None:
        """See Supply."""
        self._filler.join()
