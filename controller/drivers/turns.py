"""Whose turn it is: the guests of the engine share its thread by deficit.

Each guest has credit, in nanoseconds: what the engine computes for it is taken from that, and when nobody who wants
something has any left, all get a QUANTUM. Who has most comes first: others rest, which means that their requests are
not looked at, until it has used a QUANTUM more, whether it has a request or its guest computes at the moment. So who
asks for less than its part, and has saved up to a BURST, waits for the one step that is under way and not for all that
want more.

Rules: a guest that is alone, or beside others that only wait, rests never. Nobody is waited for that does not compute,
nor for long who computes on another CPU, where the engine is not in its way:
what a guest has used is read from the kernel's clock of its process, not believed, and where a wait has left the CPU
idle, who was waited for comes to its part by its requests alone for a while.
"""

import ctypes
import functools
import select
import struct
import time
from collections.abc import Callable
from typing import Final, Protocol

#: Nanoseconds: what each gets when nobody has credit; what can be saved, or owed; how long others are waited for.
QUANTUM: Final = 200_000
BURST: Final = 30_000_000
PATIENCE: Final = 200_000
#: Those for whom it was waited so many nanoseconds, and who have used too little of it, are not waited for in so many
#: rounds.
NOTICEABLE: Final = 50_000
DORMANT: Final = 16
#: The same for those that it was waited for in vain, and that run on another CPU.
LONG_DORMANT: Final = 64


@functools.cache
def _ppoll() -> "ctypes._NamedFuncPointer":
    return ctypes.CDLL(None).ppoll


_POLLFD, _TIMESPEC = struct.Struct("=ihh"), struct.Struct("=qq")


def wait_readable(fd: int, ns: int) -> None:
    """Waits for less than a millisecond, which ppoll(2) can and Python's own functions cannot."""
    _ppoll()(_POLLFD.pack(fd, select.POLLIN, 0), 1, _TIMESPEC.pack(0, min(ns, 999_999_999)), None)


class Turn(Protocol):
    """What is known of one guest's turn; the owner has them as attributes of its own."""

    cpu: int | None
    credit_ns: int
    is_resting: bool
    dormant: int

    @property
    def computes(self) -> bool:
        """Whether its guest is not known to wait for anything."""

    def guest_cpu_ns(self) -> int:
        """CPU time of its process."""


class Turns:
    """The guests of an engine. turns: all of them. mask, unmask: stops and begins to look at the requests of one.
    wait: until somebody has a request, or for so many nanoseconds. cpu: which one runs the engine; -1: not known."""

    def __init__(
        self,
        turns: Callable[[], set[Turn]],
        mask: Callable[[Turn], None],
        unmask: Callable[[Turn], None],
        wait: Callable[[int], object],
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
        #: Who has no more credit than this rests.
        self.line = 0

    def came(self, turn: Turn) -> None:
        """It has a request, and far more credit than those that were served meanwhile."""
        self.line = turn.credit_ns - QUANTUM

    def rest(self, turn: Turn) -> None:
        """It has less credit than others."""
        turn.is_resting = True
        self.resting.add(turn)
        self._mask(turn)

    def forget(self, turn: Turn) -> None:
        """It is served no more."""
        turn.is_resting = False
        self.resting.discard(turn)

    def go_on(self) -> None:
        """Some rest: others that compute get their part of the CPU, else the line is drawn anew."""
        here = self._cpu()
        if here != self._here:  # it is in other guests' way from now on
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
        before = [each.guest_cpu_ns() for each in others]
        began = self._now_ns()
        self._wait(PATIENCE)
        waited = self._now_ns() - began
        used = [max(0, each.guest_cpu_ns() - cpu) for each, cpu in zip(others, before, strict=True)]
        is_idle = waited >= NOTICEABLE and sum(used) < waited // 2
        here = self._cpu()
        for each, cpu in zip(others, used, strict=True):
            each.credit_ns -= max(cpu, waited // len(others))
            if waited >= PATIENCE and here >= 0 and each.cpu not in (here, None):
                each.dormant = LONG_DORMANT
            elif is_idle and cpu < waited // 2:
                each.dormant = DORMANT

    def _draw_line(self) -> None:
        """Just below whoever has most. Where nobody has any credit, all get as much as it takes."""
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
    return not turn.is_resting and not turn.dormant and turn.computes
