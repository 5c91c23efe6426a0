"""Watches whether the next call of a record can still come. Only the states of the guest's threads decide."""

import threading
import time
from typing import Final

import attrs

from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.watch import Watch
from proxybox.controller.record.events import CallEvent
from proxybox.controller.record.replayer import LONGEST_NS, Replayer

#: A guest may compute for so many times the time between the two calls in the recorded run, and for this time more.
_TIMES_LONGER: Final = 20
_COMPUTES_NS: Final = 10_000_000_000
#: Seconds between two checks whether a call can still come.
_LOOK_SECONDS: Final = 0.05
#: After so many rounds of the driver, all calls that were on their way have come. One round is not enough: it may have
#: begun before a call was written.
_ROUNDS: Final = 2


@attrs.frozen
class _Idle:
    """A guest whose threads all wait. spent: its CPU time. until: the driver's round after which no call can come."""

    spent: int
    until: int


def watch(replayer: Replayer, process: GuestProcess) -> None:
    """Starts a thread that watches whether the guest continues, until `Replayer.conclude`."""
    replayer.kill = process.watch.kill
    threading.Thread(target=_watch, args=(replayer, process.watch), name="proxybox-replay", daemon=True).start()


def _watch(replayer: Replayer, guest: Watch) -> None:
    seen, used, idle = -1, 0, None
    while not replayer.concluded.wait(_LOOK_SECONDS):
        rounds, waits = replayer.rounds, replayer.waits()
        spent = guest.cpu_time_ns()  # read last: the guest may continue meanwhile
        if replayer.steps != seen or replayer.pauses:
            seen, used, idle = replayer.steps, spent, None
        elif not waits or replayer.has_deadline:
            idle = None
            if spent - used > _most_computed(replayer):
                break
        elif idle is None or idle.spent != spent:
            idle = _Idle(spent, replayer.rounds + _ROUNDS)
            replayer.wake()
        elif rounds < idle.until:
            replayer.wake()
        elif replayer.due:
            replayer.due[:] = [time.monotonic_ns()]  # no thread computes, so the signal is sent now
            idle = None
            replayer.wake()
        else:
            break
    else:
        return
    replayer.give_up()


def _most_computed(replayer: Replayer) -> int:
    """Returns the CPU time that the guest may take until the next call."""
    event, then = replayer.next, 0 if replayer.seen is None else replayer.seen.at_ns
    took = event.at_ns - then if isinstance(event, CallEvent) else 0
    return _COMPUTES_NS + _TIMES_LONGER * min(max(took, 0), LONGEST_NS)
