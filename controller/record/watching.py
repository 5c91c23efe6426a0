"""Watches whether the call that a record has next can still come: by what the guest's threads do, never by time."""

import threading
import time
from typing import Final

import attrs

from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.watch import Watch
from proxybox.controller.record.events import CallEvent
from proxybox.controller.record.replayer import LONGEST_NS, Replayer

#: A guest that computes may take so many times the CPU time that it took then in all, and this besides.
_TIMES_LONGER: Final = 20
_COMPUTES_NS: Final = 10_000_000_000
#: Seconds between two looks whether a call can still come.
_LOOK_SECONDS: Final = 0.05
#: How often the driver has to look for calls until all that were on their way have come: the first look may have begun
#: before they were.
_ROUNDS: Final = 2


@attrs.frozen
class _Idle:
    """A guest whose threads all wait. spent: its CPU time. until: the driver's rounds after which no call has come."""

    spent: int
    until: int


def watch(replayer: Replayer, process: GuestProcess) -> None:
    """Begins to watch whether the guest goes on, in a thread of its own, until `Replayer.conclude`."""
    replayer.kill = process.watch.kill
    threading.Thread(target=_watch, args=(replayer, process.watch), name="proxybox-replay", daemon=True).start()


def _watch(replayer: Replayer, guest: Watch) -> None:
    seen, used, idle = -1, 0, None
    while not replayer.concluded.wait(_LOOK_SECONDS):
        rounds, waits = replayer.rounds, replayer.waits()
        spent = guest.cpu_time_ns()  # after these: the guest may go on meanwhile
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
            replayer.due[:] = [time.monotonic_ns()]  # nobody computes, so the signal comes now
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
