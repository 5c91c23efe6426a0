"""Decides which guest of an engine is next: the guests share the engine's thread by deficit.

Each guest has credit, in nanoseconds. The time that the engine spends for the guest is subtracted from it. When no
guest with requests has credit left, each guest gets a QUANTUM. The guest with the most credit comes first. The others
rest, which means that the engine does not read their requests, until the first one has used a QUANTUM, by requests or
by its own computing. So a guest that uses less than its share, and has saved up to a BURST of credit, waits only for
the current step, and not for all guests that use more.

Rules: a guest never rests when it is alone, or when all others only wait. The engine waits only for guests that
compute, for as long as a step of the next guest takes. It does not wait long for guests on another CPU, because it does
not delay them there. The CPU time of a guest is read from the kernel's clock of its process. When the CPU was idle
while the engine waited in vain, the guests that it waited for become dormant: for some rounds the engine does not wait
for them.

This schedule shares nothing with rotation.py and costs/interpreter.py: it makes a guest wait by leaving its requests
unread, at no cost for the others, and reads its credit at each request.
"""

import ctypes
import functools
import select
import struct
import time
from collections.abc import Callable
from typing import Final, Protocol

#: In nanoseconds: the credit that each guest gets when none has any; the most credit that a guest can save, or owe; how
#: long the engine waits for guests that compute, at least and at the most. In between, it waits as long as the last
#: steps of the next guests took.
QUANTUM: Final = 200_000
BURST: Final = 30_000_000
PATIENCE: Final = 200_000
LONGEST_PATIENCE: Final = 2_000_000
#: When the engine has waited in vain for NOTICEABLE nanoseconds or longer, and the guests have used too little of that
#: time, it does not wait for them in the next DORMANT rounds. A late request may come from a guest that was woken
#: slowly: an idle CPU of a virtual machine takes 0.1 ms for that.
NOTICEABLE: Final = 50_000
DORMANT: Final = 16
#: For this many rounds the engine does not wait for a guest on another CPU, after it has waited for PATIENCE in vain.
LONG_DORMANT: Final = 64


@functools.cache
def _ppoll() -> "ctypes._NamedFuncPointer":
    return ctypes.CDLL(None).ppoll


_POLLFD, _TIMESPEC = struct.Struct("=ihh"), struct.Struct("=qq")


def wait_readable(fd: int, ns: int) -> bool:
    """Waits until `fd` is readable, for at most `ns` nanoseconds, and returns whether it is.

    Python's poll and epoll count in milliseconds.
    """
    return bool(_ppoll()(_POLLFD.pack(fd, select.POLLIN, 0), 1, _TIMESPEC.pack(0, min(ns, 999_999_999)), None) > 0)


class Turn(Protocol):
    """The state of one guest in `EngineTurns`; the engine's jobs have these attributes.

    cpu: the guest's; None for any. credit_ns: its credit. step_ns: the duration of its last step. is_resting: whether
    its requests are left for later. dormant: for how many rounds the engine does not wait for it.
    """

    cpu: int | None
    credit_ns: int
    step_ns: int
    is_resting: bool
    dormant: int

    @property
    def computes(self) -> bool:
        """Whether the guest may be computing: not all of its threads wait for an answer."""

    @property
    def is_stopped(self) -> bool:
        """Whether the guest waits for its turn on the CPU (rotation.py)."""

    def guest_cpu_ns(self) -> int:
        """CPU time of the guest's process, in nanoseconds."""


class EngineTurns:
    """The guests of an engine, and which of them rest.

    turns: returns all of them. mask, unmask: stop and begin to read the requests of one guest. wait: waits until a
    guest has a request, for at most the given nanoseconds, and returns whether one has. cpu: returns the CPU that runs
    the engine; -1: not known. now_ns: the clock.
    """

    def __init__(
        self,
        turns: Callable[[], set[Turn]],
        mask: Callable[[Turn], None],
        unmask: Callable[[Turn], None],
        wait: Callable[[int], bool],
        cpu: Callable[[], int],
        now_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._turns = turns
        self._mask = mask
        self._unmask = unmask
        self._wait = wait
        self._cpu = cpu
        self._now_ns = now_ns
        self._here = -1
        self.resting: set[Turn] = set()
        #: A guest with this much credit, or less, rests.
        self.line = 0

    def came(self, turn: Turn) -> None:
        """Raises the line for a guest that has a request, and far more credit than those that were served before."""
        self.line = turn.credit_ns - QUANTUM

    def rest(self, turn: Turn) -> None:
        """Lets a guest rest, since it has less credit than others."""
        turn.is_resting = True
        self.resting.add(turn)
        self._mask(turn)

    def forget(self, turn: Turn) -> None:
        """Ends a guest's rest, without reading its requests; also called when the engine stops serving it."""
        turn.is_resting = False
        self.resting.discard(turn)

    def go_on(self) -> None:
        """Is called while guests rest: lets other guests with credit compute, or sets a new line if there are none."""
        here = self._cpu()
        if here != self._here:  # the engine has moved, and delays this CPU's guests now
            self._here = here
            for each in self._turns():
                if each.cpu == here:
                    each.dormant = 0
        others = [each for each in self._turns() if each.credit_ns > self.line and _is_waited_for(each)]
        if others:
            self._let_compute(others)
        else:
            self._draw_line()

    def _let_compute(self, others: list[Turn]) -> None:
        patience = min(max([PATIENCE, *(each.step_ns for each in self.resting)]), LONGEST_PATIENCE)
        before = [each.guest_cpu_ns() for each in others]
        began = self._now_ns()
        came = self._wait(patience)
        waited = self._now_ns() - began
        used = [max(0, each.guest_cpu_ns() - cpu) for each, cpu in zip(others, before, strict=True)]
        is_idle = not came and waited >= NOTICEABLE and sum(used) < waited // 2
        here = self._cpu()
        for each, cpu in zip(others, used, strict=True):
            each.credit_ns -= max(cpu, waited // len(others))
            if not came and waited >= PATIENCE and here >= 0 and each.cpu not in (here, None):
                each.dormant = LONG_DORMANT
            elif is_idle and cpu < waited // 2:
                each.dormant = DORMANT

    def _draw_line(self) -> None:
        """Sets the line just below the guest with the most credit, and ends the rest of guests above the line.

        Where no guest has credit, all first get as many quanta as it takes until one has.
        """
        most = max(each.credit_ns for each in self._turns() if each.is_resting or _is_waited_for(each))
        rounds = max(0, -most // QUANTUM + 1)
        for each in self._turns():
            each.credit_ns = min(each.credit_ns + rounds * QUANTUM, BURST)
            each.dormant = max(0, each.dormant - 1)
        self.line = max(0, most + rounds * QUANTUM - QUANTUM)
        for each in tuple(self.resting):
            if each.credit_ns > self.line:
                self.forget(each)
                self._unmask(each)


def _is_waited_for(turn: Turn) -> bool:
    return not turn.is_resting and not turn.dormant and turn.computes and not turn.is_stopped
