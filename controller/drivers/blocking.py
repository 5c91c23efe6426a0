"""The blocking driver: the calling thread serves one box, until its guest has ended or waits for its caller.

It has two modes. `serve_alone` is for a guest of one thread with nothing pending: it only reads, executes and writes.
In all other cases (several threads, calls that wait, alarms) the driver uses poll(2). A guest that computes and makes
no calls is ended by the watchdog.

Both processes run on one CPU where the host allows it: a round trip is then a hand-over, and no CPU has to be woken.
"""

import select
import time
from collections.abc import Callable

from proxybox.controller.callers import as_raised
from proxybox.controller.costs.meter import thread_clock, thread_time_ns
from proxybox.controller.drivers.serving import Outcome as Outcome
from proxybox.controller.drivers.serving import Serving
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.process.cpus import on_cpu
from proxybox.controller.process.undisturbed import Closing

#: poll(2) takes a C int of milliseconds.
_LONGEST_MS = 1_000_000_000


class BlockingDriver(Serving):
    """Serves one guest: with `run` until it has ended, or with repeated calls of `serve`, and then `close`."""

    def run(self) -> Outcome:
        """Answers calls until the guest has ended.

        Raises exceptions that the guest has not caused. The caller then ends the guest, with `GuestProcess.close`.
        """
        with Closing(self.close):
            outcome = None
            while outcome is None:
                outcome = self.serve(never)
            return outcome

    def serve(self, until: Callable[[], bool], *, briefly: bool = False) -> Outcome | None:
        """Answers calls until `until` returns true, or the guest has ended.

        Returns None in the first case, and otherwise how the guest has ended. `until` is called before each turn of the
        loop, but not between plain calls of a guest that is alone. briefly: whether there will probably be one exchange
        only; then the thread is not pinned to the guest's CPU, if it runs there already. Raises exceptions that the
        guest has not caused. Those of the caller's functions are raised unchanged.
        """
        return as_raised(lambda: self._serve(until, briefly))

    def _serve(self, until: Callable[[], bool], briefly: bool) -> Outcome | None:
        self.set_blocking(True)
        end = None
        self.meter.begin(thread_time_ns(), thread_clock())
        try:
            self.interpreter.begin()
            with on_cpu(self.cpu, at_first=briefly) as place:
                self.begin()
                while not self.is_over:
                    if until():
                        return None
                    if not briefly:
                        place.stay()
                    if self.is_alone:
                        self.serve_alone(once=briefly)
                    else:
                        self.step(self._wait())
                    briefly = False
        except (EndBox, GuestMisbehaved) as error:
            end = error
        finally:
            self.interpreter.end()
            self.meter.end(thread_time_ns())
        return self.conclude(end) or self.reap()

    def _wait(self) -> dict[int, int]:
        """Waits, and returns the descriptors that are ready, with their events; none when a deadline passed first."""
        poll = select.poll()
        fds, callers, due = self.waits()
        for fd, events in fds.items():
            poll.register(fd, events)
        for fd in callers:
            poll.register(fd, select.POLLIN)
        if self.listener is not None and self.computes:  # otherwise no thread of this guest can notify
            poll.register(self.listener.fd, select.POLLIN)
        # Rounded up, since a wait that ends too early would only be repeated. A wait too long for poll(2) is repeated.
        timeout = None if due is None else min(max(0, -(-(due - time.monotonic_ns()) // 1_000_000)), _LONGEST_MS)
        self.begin_waiting()
        try:
            return dict(poll.poll(timeout))
        finally:
            self.end_waiting()


def never() -> bool:
    """The argument `until` for serving a guest until it has ended."""
    return False
