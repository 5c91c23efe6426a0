"""The signals that stop a guest, continue it, and end it.

There are several reasons to stop it, and it continues when none is left: its session sleeps; other boxes have their
turn (rotation.py); or it waits for an answer, and its memory would have to be checked meanwhile (`park`).
"""

import contextlib
import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from proxybox.controller import hostproc, pidfd
from proxybox.controller.header import WOKEN

#: The most signals, of those that a guest itself has caused, that are pending for it at one time. The kernel counts the
#: pending signals of all processes of a user together (RLIMIT_SIGPENDING), so a guest that never takes its own signals
#: would use up the share of others.
SIGNALS_AT_ONCE = 8
_FIRST_REAL_TIME = 32
_OF_STOPS = (signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL)


@attrs.define(slots=True, eq=False)
class Signalled:
    """A guest's process, to which signals are sent.

    pid: of the guest. pidfd: for signals, owned by this object; -1 when it is closed, so that a late `kill` from
    another thread reaches no process. unreachable: the kernel does not let this process send the guest signals, so no
    code may wait for the guest to end by a signal. offered: a mask of the signals that `offer` has sent, and that may
    still be pending. near: the guests that the watchdog checks at each tick; None while it does not watch this guest.
    stops: how often it has been stopped. waits: returns whether it waits for answers.
    """

    pid: int
    pidfd: int
    unreachable: bool = attrs.field(default=False, kw_only=True)
    offered: int = attrs.field(default=0, kw_only=True)
    lock: threading.RLock = attrs.field(factory=threading.RLock, kw_only=True)  # signal handlers re-enter it
    near: "set[Any] | None" = attrs.field(default=None, kw_only=True)
    stops: int = attrs.field(default=0, kw_only=True)
    waits: Callable[[], bool] = attrs.field(default=bool, kw_only=True)
    is_parked: bool = attrs.field(default=False, kw_only=True)
    _sleeps: bool = attrs.field(default=False, kw_only=True)
    _waits_for_turn: bool = attrs.field(default=False, kw_only=True)
    _awake: int = attrs.field(default=0, kw_only=True)

    def is_running(self) -> bool:
        """Whether the guest has not ended yet. A pidfd becomes readable when its process ends (pidfd_open(2))."""
        with self.lock:
            if self.pidfd < 0:
                return False
            return not pidfd.has_ended(self.pidfd)

    def kill(self) -> None:
        """Ends the guest at once."""
        self.send(signal.SIGKILL)

    def stop(self) -> None:
        """Stops all threads of the guest until `go_on`."""
        self._stop(sleeps=True)

    def go_on(self) -> None:
        """Continues a guest that was stopped. Its program does not notice."""
        self._stop(sleeps=False)

    def wait_for_turn(self) -> None:
        """Stops the guest until `take_turn`, for this reason besides others; not while it is `awake`."""
        with self.lock:
            self._stop(waits_for_turn=not self._awake)

    def take_turn(self) -> None:
        """Continues the guest, unless it is stopped for another reason."""
        self._stop(waits_for_turn=False)

    def park(self) -> None:
        """Stops a guest that waits for answers until it gets one (`unpark`), so that its memory need not be checked."""
        with self.lock:
            if not self._awake and self.waits():
                self._stop(parks=True)
                if not self.waits():  # it was answered at this moment
                    self._stop(parks=False)

    def unpark(self) -> None:
        """Continues a guest that gets an answer or a signal now."""
        self._stop(parks=False)
        self.look_soon()

    @property
    def is_stopped(self) -> bool:
        """Whether the guest is stopped for another reason than `park`."""
        return self._sleeps or self._waits_for_turn

    @contextlib.contextmanager
    def awake(self) -> Iterator[None]:
        """A context in which the guest does not wait for its turn."""
        with self.lock:
            self._awake += 1
            self.take_turn()
            self.unpark()
        try:
            yield
        finally:
            with self.lock:
                self._awake -= 1

    def _stop(
        self, *, sleeps: bool | None = None, waits_for_turn: bool | None = None, parks: bool | None = None
    ) -> None:
        with self.lock:
            was = self.is_stopped or self.is_parked
            if parks is not None:
                self.is_parked = parks
                self._on_park(parks)
            self._sleeps = self._sleeps if sleeps is None else sleeps
            self._waits_for_turn = self._waits_for_turn if waits_for_turn is None else waits_for_turn
            stops = self.is_stopped or self.is_parked
            if was and not stops:
                self.send(signal.SIGCONT, WOKEN)
            elif stops and not was:
                self.stops += 1
                self.send(signal.SIGSTOP)
                self._stop_each_thread()

    def _stop_each_thread(self) -> None:
        """Makes the kernel stop the guest at once, also where all of its threads compute.

        One thread has to take the signal before any is stopped, and the kernel may choose the thread that runs last:
        with 15 threads, each of which runs for a tick, this takes 60 ms. With a signal for each thread, the running
        thread takes it at once.
        """
        with contextlib.suppress(OSError):
            if (tids := hostproc.threads(self.pid))[1:] and self._has_its_pid():
                pidfd.stop_threads(self.pid, tids)

    def _has_its_pid(self) -> bool:
        """Whether its pid is still its own. It is reaped after `release`, but the caller's code may have reaped it."""
        return self.pidfd >= 0 and self.near is not None and not pidfd.has_ended(self.pidfd)

    def send(self, number: int, value: int = 0) -> bool:
        """Sends a real signal, by pidfd, so that it cannot reach another process.

        Its siginfo shows the guest nothing about the controller. Returns False where the signal has to be sent again
        later, because the kernel's limit of pending real-time signals is reached (EAGAIN). Other signals do not fail in
        this way: beyond the limit the kernel sends them without their siginfo.
        """
        with self.lock:
            if self.pidfd < 0:
                return True
            if self.is_parked and number not in _OF_STOPS:
                self.unpark()
            error = pidfd.send(self.pidfd, self.pid, number, value)
            self.unreachable = self.unreachable or error == errno.EPERM
            return error != errno.EAGAIN

    def offer(self, numbers: Sequence[int]) -> list[bool]:
        """Sends signals that the guest itself has caused, and returns for each whether it was sent.

        The caller offers the others again later: one of each real-time signal may be pending at a time, and
        SIGNALS_AT_ONCE different signals in total.
        """
        wanted = queued = 0
        if self.is_parked:
            self.unpark()
        for number in numbers:
            wanted |= 1 << number - 1
            queued |= 1 << number - 1 if number >= _FIRST_REAL_TIME else 0
        if self.offered & queued or (self.offered | wanted).bit_count() > SIGNALS_AT_ONCE:
            self.offered &= self.undelivered()
        return [self._offer(number) for number in numbers]

    def _offer(self, number: int) -> bool:
        bit = 1 << number - 1
        if self.offered & bit:
            if number >= _FIRST_REAL_TIME:
                return False
        elif self.offered.bit_count() >= SIGNALS_AT_ONCE:
            return False
        with self.lock:
            if number == signal.SIGCONT and self.is_stopped:  # it would end the stop, also for its sender
                return False
            if not self.send(number):
                return False
        self.offered |= bit
        return True

    def undelivered(self) -> int:
        """A mask of the signals that are pending for the whole process; every bit is set where it cannot be read."""
        try:
            return hostproc.status(self.pid, "ShdPnd", 16)
        except (OSError, ValueError):
            return -1

    def close(self) -> None:
        """Closes the pidfd, after all objects that use it."""
        with self.lock:
            self._before_close()
            fd, self.pidfd = self.pidfd, -1
            if fd >= 0:
                os.close(fd)

    def look_soon(self) -> None:
        """Makes the watchdog check the guest at its next tick."""
        if self.near is not None:
            self.near.add(self)

    def _on_park(self, parks: bool) -> None:
        """Called when the guest is parked, and before it continues."""

    def _before_close(self) -> None:
        """Called before its pidfd is closed."""
