"""Signals of a guest that is served, and its caller's interrupts: when they are sent, and which calls they end.

They are sent before the answer to the call that has caused them, or with the guest's next call where it computes
(`Dispatcher.patience_ns`). A call that waits is answered with EINTR.
"""

import errno
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial

from proxybox.controller.abi import SIGINT
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.threadchannels import ThreadChannel, any_waits
from proxybox.controller.effects import Reply
from proxybox.controller.process.activity import Patience, all_wait
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.world.state import Signal, World

#: After this time, signals that exceed what may be pending for a guest are offered again, if it makes no call before.
_OFFER_AGAIN_NS = 20_000_000
#: The entry that `interrupt` adds to the guest's outbox while it waits for a call (`Dispatcher.patience_ns`).
_INTERRUPT = Signal(SIGINT)


class SignalDelivery:
    """The signals of one guest.

    lines: the guest's current channels. computes: whether the guest may be computing. release: answers a call that
    waits. wake: wakes the driver. `interrupt` may be called from any thread, everything else by the serving thread.
    is_interrupted: an interrupt was sent, and no call has been answered EINTR for it yet.
    """

    def __init__(
        self,
        process: GuestProcess,
        world: World,
        dispatcher: Dispatcher,
        lines: Mapping[int, ThreadChannel],
        *,
        computes: Callable[[], bool],
        release: Callable[[ThreadChannel, Reply | None], None],
        wake: Callable[[], None],
    ) -> None:
        self._process, self._world, self._dispatcher, self._lines = process, world, dispatcher, lines
        self._computes, self._release, self._wake = computes, release, wake
        self.is_interrupted = False
        self._overdue: threading.Timer | None = None  # the timer, while an interrupt waits for the guest's next call
        self._look_ns: int | None = None  # signals wait for the guest's next call, and it is looked at again then
        waits = partial(all_wait, process.pid)
        self._patience = Patience(process.watch.cpu_time_ns, waits)  # of the serving thread, with those signals
        self._asker_patience = Patience(process.watch.cpu_time_ns, waits)  # with an interrupt; under the watch's lock

    # --- interrupts of the caller -------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Sends SIGINT now, or with the guest's next call. May be called from signal handlers."""
        if self._dispatcher.patience_ns and self._computes():
            self._interrupt_soon()
        else:
            self._interrupt_now()

    def _interrupt_now(self) -> None:
        self._dispatcher.sent(SIGINT, True)  # before the signal: its effects are noted after it
        self._process.watch.send(SIGINT)
        self.is_interrupted = True  # not before: a reader of this checks whether the signal is pending
        self._wake()

    def _interrupt_soon(self) -> None:
        """Sends SIGINT with the guest's next call; if none comes in time, while the guest computes.

        Interrupts that come meanwhile are merged with it, as with a pending signal (signal(7)).
        """
        with self._process.watch.lock:
            if self._overdue is not None:
                return
            self._asker_patience.begin()
            if not self._look_at_overdue():
                self._interrupt_now()
                return
        self._world.signals.outbox.append(_INTERRUPT)
        self._wake()

    def _look_at_overdue(self) -> bool:
        """Starts a timer that checks whether the interrupt still waits. False where no thread can be started."""
        timer = threading.Timer(self._dispatcher.patience_ns / 1e9, self._interrupt_overdue)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return False
        self._overdue = timer
        return True

    def _interrupt_overdue(self) -> None:
        with self._process.watch.lock:
            waits = self._computes() and not self._asker_patience.is_over(self._dispatcher.patience_ns)
            if self._overdue is not None and waits and self._process.watch.is_running() and self._look_at_overdue():
                return
        if self._takes_interrupt():
            self._interrupt_now()

    def _takes_interrupt(self) -> bool:
        """Returns whether the interrupt waited for a call until now. It is true for one caller, which then sends it."""
        with self._process.watch.lock:
            overdue, self._overdue = self._overdue, None
        if overdue is not None:
            overdue.cancel()
        return overdue is not None

    def forget_interrupt(self) -> None:
        """Drops an interrupt that waits for a call of the guest, because the command to interrupt is over."""
        self._takes_interrupt()

    def heed_interrupt(self) -> None:
        """After `interrupt`: answers with EINTR a call whose request was on its way when the signal came."""
        if self.is_interrupted and any_waits(self._lines.values()):
            self.is_interrupted = False
            if self._process.has_pending(SIGINT):
                self._answer_interrupted(Signal(SIGINT))

    def heed_wake(self) -> None:
        """After `interrupt`, when the driver was woken: answers a call that waits with EINTR."""
        if self.is_interrupted and any_waits(self._lines.values()):
            self.is_interrupted = False
            self._answer_interrupted(Signal(SIGINT))

    # --- signals of the box -------------------------------------------------------------------------------------------

    def send(self, *, late: bool = False) -> None:
        """Sends the guest's signals, before the answer of the call that has caused them.

        So their handlers run before the call returns, as with kill(2). Signals beyond the limit of pending ones stay in
        the outbox, and are sent after a later call, or after _OFFER_AGAIN_NS.

        After a signal was sent, a call that waits is answered with EINTR. The guest blocks the signal while the call is
        under way, so the handler runs before the interrupted code goes on. late: whether no call is being answered.
        """
        signals = self._world.signals
        signals.offer_ns = None
        if not signals.outbox:
            return
        if late and self._holds_back():
            return
        self._look_ns = None
        waiting = signals.outbox[:]
        del signals.outbox[: len(waiting)]  # another thread may have added an interrupt meanwhile
        if any(each is _INTERRUPT for each in waiting):
            waiting = [each for each in waiting if each is not _INTERRUPT]
            if self._takes_interrupt():
                self._interrupt_here(late)
        unsent = []
        for signal, is_sent in zip(waiting, self._process.watch.offer([each.number for each in waiting]), strict=True):
            if is_sent:
                self._dispatcher.sent(signal.number, late and self._computes())
                self._answer_interrupted(signal)
            else:
                unsent.append(signal)
        if unsent:
            signals.outbox[:0] = unsent
            signals.offer_ns = time.monotonic_ns() + _OFFER_AGAIN_NS

    def _interrupt_here(self, late: bool) -> None:
        """Sends the interrupt that waited for a call. late: as for `send`."""
        if late and self._computes():  # its next call may be on its way
            self._interrupt_now()
            return
        self._dispatcher.sent(SIGINT, False)
        self._process.watch.send(SIGINT)
        self._answer_interrupted(_INTERRUPT)

    def _holds_back(self) -> bool:
        """Whether signals still wait for the next call of a guest that computes (`Dispatcher.patience_ns`)."""
        patience, now = self._dispatcher.patience_ns, time.monotonic_ns()
        if not patience or not self._computes():
            return False
        if self._look_ns is None:
            self._patience.begin()
            self._look_ns = now + patience
        elif now >= self._look_ns:
            if self._patience.is_over(patience):
                return False
            self._look_ns = now + patience
        self._world.signals.offer_ns = self._look_ns
        return True

    def _answer_interrupted(self, signal: Signal) -> None:
        waiting = [line for line in self._lines.values() if line.blocked is not None]
        for line in waiting:
            thread = line.thread
            if thread is None or thread.blocks(signal.number) or signal.thread not in (None, thread):
                continue
            on_interrupt = line.blocked.on_interrupt  # type: ignore[union-attr]
            self._release(line, -errno.EINTR if on_interrupt is None else self._dispatcher.settle(on_interrupt))
            return
