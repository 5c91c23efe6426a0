"""Rotation: of the boxes in the background that compute, as many run as there are CPUs; the others wait, stopped.

    waits, stopped ──> has a turn ──> it still wants to compute: waits again
          ^                  └──────> it does not: is free ── it has used its allowance ──┐
          └───────────────────────────────────────────────────────────────────────────────┘

Left to itself the kernel divides the CPUs among all of them, and whoever else wakes up waits for some of them, the
longer the more there are, in spite of the priorities (EEVDF, sched(7): a thread that wakes up runs when it is eligible,
which each of those that compute may put off). A process that is stopped makes nobody wait.

Who is asked to do something, or is interrupted, goes on at once. All of this is done by the keeper's thread, at its
ticks.
"""

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

import attrs

from proxybox.controller import hostproc

#: Nanoseconds of a turn.
TURN_NS: Final = 40_000_000
#: CPU time in nanoseconds after which who is free waits for a turn.
ALLOWANCE_NS: Final = 20_000_000
#: Nanoseconds after which who is free and costs nothing is forgotten. The keeper brings it back when it may compute.
IDLE_NS: Final = 1_000_000_000
#: Who has used less than this part of a turn, and does not want a CPU at its end, is free.
_LITTLE: Final = 1 / 4


class Turning(Protocol):
    """What takes turns: a guest, as its `Watch` has it (keeper.py).

    is_asked: whether it has been given something to do, until this is noted.
    """

    is_asked: bool

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def near(self) -> object:
        """None when it has left."""

    @property
    def interrupted(self) -> str:
        """Not empty while it is to react to an interrupt."""

    def spent_ns(self) -> int:
        """CPU time that it has cost so far."""

    def take_turn(self) -> None:
        """Lets it go on."""

    def wait_for_turn(self) -> None:
        """Stops it."""


@attrs.define(eq=False)
class _Box:
    """A box in the background. since_ns, spent_ns: when it was let go last, and the CPU time that it had cost then."""

    watch: Turning
    since_ns: int = 0
    spent_ns: int = 0
    _active_ns: int = 0
    _seen_ns: int = -1

    def is_wanted(self) -> bool:
        """Whether it has been asked to do something, or is interrupted."""
        is_asked = self.watch.is_asked
        if is_asked:  # not cleared otherwise: another thread may set it at this moment
            self.watch.is_asked = False
        return is_asked or bool(self.watch.interrupted)

    def used_ns(self) -> int:
        return self.watch.spent_ns() - self.spent_ns

    def has_gone(self) -> bool:
        return self.watch.near is None

    def is_idle(self, now: int) -> bool:
        """Whether it has cost nothing for a while."""
        spent = self.watch.spent_ns()
        if spent != self._seen_ns:
            self._seen_ns, self._active_ns = spent, now
        return now - self._active_ns >= IDLE_NS

    def let_go(self, now: int) -> None:
        self.since_ns, self.spent_ns = now, self.watch.spent_ns()
        self.watch.take_turn()

    def wants_more(self, now: int) -> bool:
        """Whether it has computed in its turn, or would if the CPU were not given to others."""
        return self.used_ns() >= (now - self.since_ns) * _LITTLE or is_runnable(self.watch.pid)


class Rotation:
    """The turns of one controller's boxes. places: how many have one at a time."""

    def __init__(self, places: int) -> None:
        self._places = places
        self._known: set[Turning] = set()
        self._free: list[_Box] = []
        self._going: list[_Box] = []
        self._waiting: deque[_Box] = deque()

    def join(self, watch: Turning) -> None:
        """Adds a box that has come to the background, and has used its allowance, unless it is there.

        It leaves when the keeper watches it no more, or when it has been free and idle for a while.
        """
        if watch not in self._known:
            self._known.add(watch)
            self._waiting.append(_Box(watch))

    def pass_on(self, now: int) -> None:
        """Ends the turns that are over, and gives them to those that have waited longest.

        now: nanoseconds of the monotonic clock.
        """
        if not self._known:
            return
        waiting, going = self._staying(self._waiting, _Box.has_gone), self._staying(self._going, _Box.has_gone)
        free = self._staying(self._free, lambda box: box.has_gone() or box.is_idle(now))
        self._waiting, self._going, self._free = deque(), [], []
        for box in waiting:
            self._put(box, now, waits=True)
        for box in going:
            wants_more = box.wants_more(now)
            if wants_more and now - box.since_ns < TURN_NS and not box.watch.is_asked:
                self._going.append(box)
            else:
                self._put(box, now, waits=wants_more)
        for box in free:
            self._put(box, now, waits=box.used_ns() >= ALLOWANCE_NS)
        while self._waiting and len(self._going) < self._places:
            box = self._waiting.popleft()
            box.let_go(now)
            self._going.append(box)
        for box in self._waiting:
            box.watch.wait_for_turn()

    def _put(self, box: _Box, now: int, *, waits: bool) -> None:
        if box.is_wanted():
            box.let_go(now)
            self._free.append(box)
        else:
            (self._waiting if waits else self._free).append(box)

    def _staying(self, boxes: Iterable[_Box], leaves: Callable[[_Box], bool]) -> list[_Box]:
        """Those that do not leave."""
        staying = []
        for box in boxes:
            if leaves(box):
                self._known.discard(box.watch)
            else:
                staying.append(box)
        return staying

    def __bool__(self) -> bool:
        return bool(self._known)


def is_runnable(pid: int) -> bool:
    """Whether a thread of a process runs, or waits for a CPU (proc_pid_stat(5))."""
    try:
        return any(hostproc.state(tid) == "R" for tid in hostproc.threads(pid))
    except (OSError, ValueError):  # it has ended
        return False
