"""Rotation: of the boxes that compute for long on one CPU, one runs at a time; the others wait, stopped.

    waits, stopped ──> has a turn ──> it still computes: waits again
          ^                 └───────> it does not: is free ── it has used its credit, or others do, too ──┐
          └───────────────────────────────────────────────────────────────────────────────────────────────┘

Left to itself the kernel divides the CPUs among all threads of all boxes, and whoever else wakes up waits for some of
them, the longer the more there are, in spite of the priorities (EEVDF, sched(7): a thread that wakes up runs when it is
eligible, which each of those that compute may put off). A process that is stopped makes nobody wait.

A box comes here when it has used its allowance of CPU time (watchdog.py). Its credit grows by what its fair share of
the CPU is, up to the allowance, and it pays with what it uses. So a box that uses less than its share is not stopped.
While it has its turn, its threads together have the weight of one (priority.py).

A box that gets a command, or is interrupted, goes on at once. Where a box begins, or gets a command, those that
compute for long make way on its CPU: they are stopped for a moment, though for no more than half of all time.

The watchdog's thread passes turns on, at its ticks. This counts for the boxes of one controller: of several
controllers, each has a box of its own on a CPU.

This schedule shares nothing with drivers/turns.py and costs/interpreter.py: the kernel runs what has its turn, several
at once, so that who waits has to be stopped, and what was used is only known from time to time.
"""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

import attrs

from proxybox.controller import hostproc

#: Nanoseconds of a turn.
TURN_NS: Final = 40_000_000
#: CPU time in nanoseconds after which a box comes to the rotation, and the most credit that it can save.
ALLOWANCE_NS: Final = 50_000_000
#: Nanoseconds after which a box that is free and costs nothing is forgotten. The watchdog brings it back when it may
#: compute.
IDLE_NS: Final = 1_000_000_000
#: A box that has used less than this part of its turn, and does not want a CPU at its end, is free.
_LITTLE: Final = 1 / 4
#: Nanoseconds for which those that compute for long make way for one that begins, and the part of all time.
WAY_NS: Final = 30_000_000
_PART: Final = 1 / 2
#: The part of a CPU that those which are free may use together, beside the one that has its turn.
_BESIDE: Final = 1 / 2
#: The most threads of a box that are looked at for one count: the watchdog's thread does nothing else meanwhile, and
#: enforces no limit.
_LOOKS: Final = 32
#: And the most boxes, where it looks whether other programs take their time.
_LOOKED_AT: Final = 4


class Turning(Protocol):
    """What takes turns: a guest, as its `Watch` has it (watchdog.py).

    cpu: on which it runs; None for any. is_asked: whether it has been given something to do, until this is noted.
    """

    cpu: int | None
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

    def share(self, threads: int) -> None:
        """Gives so many threads that compute the share of one."""

    def begin_sharing(self) -> None:
        """Gives it a new allowance, after which the watchdog brings it here again."""


@attrs.define(eq=False)
class _Box:
    """A box that has computed for long.

    credit_ns: CPU time that it may use without a turn. since_ns, had_ns: when its turn began, and the CPU time that it
    had cost then. spent_ns: what it had cost when it was looked at last, and used_ns since the look before.
    active_ns: when it has cost something last.
    """

    watch: Turning
    credit_ns: int = 0
    since_ns: int = 0
    had_ns: int = 0
    spent_ns: int = 0
    used_ns: int = 0
    active_ns: int = 0

    def look(self, now: int) -> None:
        """Notes what it has used since the last look."""
        spent = self.watch.spent_ns()
        self.used_ns = spent - self.spent_ns if self.active_ns else 0
        if self.used_ns or not self.active_ns:
            self.active_ns = now
        self.spent_ns = spent

    def settle(self, earned_ns: int) -> None:
        """Pays for what it has used since the last look. earned_ns: its share of that time."""
        self.credit_ns = max(min(self.credit_ns + earned_ns, ALLOWANCE_NS) - self.used_ns, -ALLOWANCE_NS)

    def is_wanted(self) -> bool:
        """Whether it has been asked to do something, or is interrupted."""
        is_asked = self.watch.is_asked
        if is_asked:  # not cleared otherwise: another thread may set it at this moment
            self.watch.is_asked = False
            self.credit_ns, self.used_ns = ALLOWANCE_NS, 0
        return is_asked or bool(self.watch.interrupted)

    def has_ended(self) -> bool:
        return self.watch.near is None

    def rests(self, now: int) -> bool:
        """Whether it has ended, or has cost nothing for a while. Then it gets a new allowance."""
        if now - self.active_ns < IDLE_NS:
            return self.has_ended()
        self.watch.begin_sharing()
        return True

    def begin_turn(self, now: int) -> None:
        self.since_ns, self.had_ns = now, self.spent_ns
        self.watch.take_turn()

    def wants_more(self, now: int, runnable: int) -> bool:
        """Whether it has computed in its turn, or would if the CPU were not given to others."""
        return self.spent_ns - self.had_ns >= (now - self.since_ns) * _LITTLE or runnable > 0


class Rotation:
    """The turns of the boxes on one CPU. places: how many have one at a time."""

    def __init__(self, places: int = 1) -> None:
        self._places = places
        self._known: set[Turning] = set()
        self._free: list[_Box] = []
        self._going: list[_Box] = []
        self._waiting: deque[_Box] = deque()
        self._looked_ns = 0
        self._available_ns = 0  # CPU time that there was for the boxes between the last two looks
        self._lock = threading.Lock()
        self._left_ns = 0  # for which those that have a turn may make way
        self._stopped_ns = 0  # when they have begun to make way; 0 where they do not
        self._until_ns = 0

    def join(self, watch: Turning) -> None:
        """Adds a box that has used its allowance, unless it is there.

        It leaves when the watchdog watches it no more, or when it has been free and idle for a while.
        """
        with self._lock:
            if watch not in self._known:
                self._known.add(watch)
                self._waiting.append(_Box(watch))

    def make_way(self, now: int) -> None:
        """Stops those that have a turn for a moment, for a box that begins. From any thread."""
        if not self._going:
            return
        with self._lock:
            left = self._left_ns - (now - self._stopped_ns if self._stopped_ns else 0)
            if left <= 0:
                return
            self._until_ns = now + min(WAY_NS, left)
            if not self._stopped_ns:
                self._stopped_ns = now
                for box in self._going:
                    box.watch.wait_for_turn()

    def _go_on(self, now: int) -> None:
        """Lets those go on that have made way. Their turns are longer by that time."""
        stopped = now - self._stopped_ns
        self._left_ns -= stopped
        self._stopped_ns = 0
        for box in self._going:
            box.since_ns += stopped
            box.watch.take_turn()

    def pass_on(self, now: int) -> None:
        """Ends the turns that are over, and gives them to those that have waited longest.

        now: nanoseconds of the monotonic clock.
        """
        with self._lock:
            if self._known:
                self._pass_on(now)
            else:
                self._looked_ns = self._stopped_ns = 0

    def _pass_on(self, now: int) -> None:
        passed = self._look(now)
        if not self._stopped_ns:
            self._left_ns = min(self._left_ns + int(passed / self._places * _PART), ALLOWANCE_NS)
        elif now >= self._until_ns:
            self._go_on(now)
        self._end_turns(now)
        self._free_few()
        while self._waiting and len(self._going) < self._places and not self._stopped_ns:
            box = self._waiting.popleft()
            box.begin_turn(now)
            self._going.append(box)
        for box in self._waiting:
            box.watch.wait_for_turn()

    def _look(self, now: int) -> int:
        """Looks at what each box has used, and forgets those that have left.

        Returns the CPU time that there was since the last look, in nanoseconds.
        """
        passed = (now - self._looked_ns) * self._places if self._looked_ns else 0
        self._looked_ns = now
        boxes = (*self._waiting, *self._going, *self._free)
        for box in boxes:
            box.look(now)
        used = sum(box.used_ns for box in boxes)
        self._available_ns = passed if self._has_room(used, passed) else max(used, 1)
        computing = len(self._waiting) + len(self._going) + sum(box.used_ns > 0 for box in self._free)
        for box in boxes:
            box.settle(self._available_ns // max(self._places, computing))
        self._free = self._staying(self._free, lambda box: box.rests(now))
        self._going = self._staying(self._going, _Box.has_ended)
        self._waiting = deque(self._staying(self._waiting, _Box.has_ended))
        return passed

    def _has_room(self, used: int, passed: int) -> bool:
        """Whether the boxes have had as much CPU time as they wanted, or nearly all that there was.

        Else other programs have had it. used: CPU time that they have used since the last look; passed: that there was.
        """
        if used > passed * _BESIDE:
            return True
        boxes = sorted((box for box in (*self._going, *self._free) if box.used_ns), key=_used, reverse=True)
        return not any(count_runnable(box.watch.pid) for box in boxes[:_LOOKED_AT])

    def _end_turns(self, now: int) -> None:
        """Ends the turns that are over, and lets those go on that are wanted."""
        waiting, self._waiting = self._waiting, deque()
        for box in waiting:
            self._put(box, waits=True)
        going, self._going = self._going, []
        for box in going:
            if self._stopped_ns and not box.watch.is_asked and not box.watch.interrupted:
                self._going.append(box)
                continue
            runnable = count_runnable(box.watch.pid)
            box.watch.share(runnable)
            wants_more = box.wants_more(now, runnable)
            if wants_more and now - box.since_ns < TURN_NS and not box.watch.is_asked:
                self._going.append(box)
            else:
                self._put(box, waits=wants_more)

    def _put(self, box: _Box, *, waits: bool) -> None:
        if box.is_wanted():
            box.watch.take_turn()
            self._free.append(box)
        else:
            (self._waiting if waits else self._free).append(box)

    def _free_few(self) -> None:
        """Lets those boxes wait that are free and compute without credit.

        Where those that are free use too much together, only those with most credit go on, as many as there are places.
        One that computes while nobody has a turn gets one.
        """
        is_vacant = not self._waiting and not self._going
        free, self._free = sorted(self._free, key=_credit, reverse=True), []
        most = self._places if sum(box.used_ns for box in free) > self._available_ns * _BESIDE else len(free)
        computing = 0
        for box in free:
            computing += box.used_ns > 0
            takes_place = is_vacant and box.used_ns > self._available_ns * _BESIDE
            has_credit = box.credit_ns > 0 and computing <= most and not takes_place
            if box.is_wanted() or not box.used_ns or has_credit:
                self._free.append(box)
            else:
                self._waiting.append(box)

    def _staying(self, boxes: "deque[_Box] | list[_Box]", leaves: Callable[[_Box], bool]) -> list[_Box]:
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


class Rotations:
    """The rotations of one controller: one for each CPU, and one for boxes that may run on any. cpus: how many."""

    def __init__(self, cpus: int) -> None:
        self._cpus = cpus
        self._by_cpu: dict[int | None, Rotation] = {}

    def join(self, watch: Turning) -> None:
        """Adds a box to the rotation of its CPU."""
        rotation = self._by_cpu.get(watch.cpu)
        if rotation is None:
            rotation = self._by_cpu[watch.cpu] = Rotation(self._cpus if watch.cpu is None else 1)
        rotation.join(watch)

    def make_way(self, cpu: int | None) -> None:
        """Has those that compute for long on a CPU make way for a box that begins there. From any thread."""
        for each in {cpu, None}:
            rotation = self._by_cpu.get(each)
            if rotation is not None:
                rotation.make_way(time.monotonic_ns())

    def pass_on(self, now: int) -> None:
        """Passes the turns of all of them on. now: nanoseconds of the monotonic clock."""
        for rotation in tuple(self._by_cpu.values()):
            rotation.pass_on(now)

    def __bool__(self) -> bool:
        return any(tuple(self._by_cpu.values()))


def _credit(box: _Box) -> int:
    return box.credit_ns


def _used(box: _Box) -> int:
    return box.used_ns


def count_runnable(pid: int) -> int:
    """How many threads of a process run, or wait for a CPU (proc_pid_stat(5)); 0 when it has ended.

    Of many threads some are looked at, spread over all, and stand for the others.
    """
    count, step = 0, 1
    with contextlib.suppress(OSError):
        tids = hostproc.threads(pid)
        step = -(-len(tids) // _LOOKS) or 1  # none is left of a process that ends
        for tid in tids[time.monotonic_ns() % step :: step]:  # others each time; which ones is no secret
            with contextlib.suppress(OSError, ValueError):  # this one has ended
                count += hostproc.state(tid) == "R"
    return count * step
