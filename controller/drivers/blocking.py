"""The blocking driver: the calling thread serves one box, until its guest has ended or waits for its caller.

Two modes. `serve_alone` is for a guest of one thread with nothing pending: read, execute, write, and nothing else.
Else it polls: several threads, calls that wait, alarms. What ends a guest that does neither is the keeper.

Both processes run on one CPU where the host allows it: a round trip is a hand-over then, and not a wake-up.
"""

import select
import time
from collections.abc import Callable

from proxybox.controller.costs.meter import thread_clock, thread_time_ns
from proxybox.controller.drivers.serving import Outcome as Outcome
from proxybox.controller.drivers.serving import Serving
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.process.cpus import on_cpu
from proxybox.controller.process.undisturbed import Closing

#: poll(2) takes a C int of milliseconds.
_LONGEST_MS = 1_000_000_000


class BlockingDriver(Serving):
    """Serves one guest: `run` until it has ended, or `serve` again and again, and `close`."""

    def run(self) -> Outcome:
        """Answers calls until the guest is gone. Whatever is no doing of the guest's is raised; `GuestProcess.close`,
        which is the caller's to call, ends the guest then."""
        with Closing(self.close):
            outcome = None
            while outcome is None:
                outcome = self.serve(never)
            return outcome

    def serve(self, until: Callable[[], bool]) -> Outcome | None:
        """Answers calls until `until` holds, which is looked at when the guest's main thread waits for something: None
        then, and how the guest has ended else. Whatever is no doing of the guest's is raised."""
        self.set_blocking(True)
        end = None
        self.meter.begin(thread_time_ns(), thread_clock())
        try:
            with on_cpu(self.cpu):
                self.begin()
                while not self.is_over:
                    if until():
                        return None
                    if self.is_alone:
                        self.serve_alone()
                    else:
                        self.step(self._wait())
        except (EndBox, GuestMisbehaved) as error:
            end = error
        finally:
            self.meter.end(thread_time_ns())
        return self.conclude(end) or self.reap()

    def _wait(self) -> dict[int, int]:
        """Descriptors that are ready, with their events, or nothing when a deadline has come first."""
        poll = select.poll()
        fds, callers, due = self.waits()
        for fd, events in fds.items():
            poll.register(fd, events)
        for fd in callers:
            poll.register(fd, select.POLLIN)
        if self.listener is not None:
            poll.register(self.listener.fd, select.POLLIN)
        # Rounded up: a wait that ends too early would only be repeated, as one that poll(2) cannot hold is.
        timeout = None if due is None else min(max(0, -(-(due - time.monotonic_ns()) // 1_000_000)), _LONGEST_MS)
        self.begin_waiting()
        try:
            return dict(poll.poll(timeout))
        finally:
            self.end_waiting()


def never() -> bool:
    """`until` the guest has ended."""
    return False
