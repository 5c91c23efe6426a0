"""Rotation: of the boxes that compute for long on one CPU, one runs at a time; the others wait, stopped.

    waits, stopped ──> has a turn ──> it still computes: waits again
          ^                 └───────> it does not: is free ── it has used its credit, or others do, too ──┐
          └───────────────────────────────────────────────────────────────────────────────────────────────┘

Without this, the kernel divides the CPUs among all threads of all boxes. Any other thread that wakes up waits for some
of them, in spite of the priorities, and longer the more there are (EEVDF, sched(7): a thread that wakes up runs when it
is eligible, which each computing thread may delay). A stopped process delays no other.

A box comes here when it has used its allowance of CPU time (watchdog.py). Its credit grows by its fair share of the
CPU, up to the allowance, and decreases by the CPU time that it uses. So a box that uses less than its share is not
stopped. While it has its turn, its threads together have the weight of one (priority.py).

A box that gets a command, or is interrupted, continues at once. When a box begins, or gets a command, boxes that
compute for long make way on its CPU: they are stopped for a moment, and for at most half of all time.

The watchdog's thread passes turns on, at its ticks. This is so for the boxes of one controller: with several
controllers, a box of each may run on a CPU.

This schedule shares nothing with drivers/turns.py and costs/interpreter.py: here the kernel runs boxes, several at
once, so waiting boxes have to be stopped, and their CPU time is read only from time to time.
"""

import contextlib
import os
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
#: Nanoseconds after which a free box that uses no CPU time is removed. The watchdog adds it again when it may compute.
IDLE_NS: Final = 1_000_000_000
#: A box that has used less than this part of its turn, and does not want a CPU at its end, is free.
_LITTLE: Final = 1 / 4
#: Nanoseconds for which boxes that compute for long make way for a box that begins, and the largest part of all time.
WAY_NS: Final = 30_000_000
_PART: Final = 1 / 2
#: The part of a CPU that free boxes may use together, beside the box that has its turn.
_BESIDE: Final = 1 / 2
#: The most threads of a box that are checked for one count: the watchdog's thread enforces no limits meanwhile.
_LOOKS: Final = 32
#: The most boxes that are checked, to find out whether other programs use the CPU.
_LOOKED_AT: Final = 4


class Turning(Protocol):
    """A guest that takes turns: `Watch` has these attributes (watch.py).

    cpu: on which it runs; None for any. is_asked: whether it has got a command that was not noted yet.
    """

    cpu: int | None
    is_asked: bool

    @property
    def pid(self) -> int:
        """Its process."""

    @property
    def near(self) -> object:
        """None when the watchdog does not watch it any more."""

    @property
    def interrupted(self) -> str:
        """The limit for which it was interrupted; otherwise empty."""

    def spent_ns(self) -> int:
        """Returns the CPU time that was spent for it so far."""

    def take_turn(self) -> None:
        """Continues it."""

    def wait_for_turn(self) -> None:
        """Stops it."""

    def share(self, threads: int) -> None:
        """Gives `threads` computing threads together the share of one."""

    def begin_sharing(self) -> None:
        """Gives it a new allowance, after which the watchdog adds it here again."""


@attrs.define(eq=False)
class _Box:
    """A box that has computed for long.

    credit_ns: CPU time that it may use without a turn. since_ns, had_ns: when its turn began, and the CPU time spent
    until then. spent_ns: the CPU time spent until the last check, and used_ns: since the check before that. active_ns:
    the last check that found new CPU time.
    """

    watch: Turning
    credit_ns: int = 0
    since_ns: int = 0
    had_ns: int = 0
    spent_ns: int = 0
    used_ns: int = 0
    active_ns: int = 0

    def look(self, now: int) -> None:
        """Notes the CPU time that it has used since the last check."""
        spent = self.watch.spent_ns()
        self.used_ns = spent - self.spent_ns if self.active_ns else 0
        if self.used_ns or not self.active_ns:
            self.active_ns = now
        self.spent_ns = spent

    def settle(self, earned_ns: int) -> None:
        """Adds its share of the time since the last check to its credit, and subtracts the time that it has used."""
        self.credit_ns = max(min(self.credit_ns + earned_ns, ALLOWANCE_NS) - self.used_ns, -ALLOWANCE_NS)

    def is_wanted(self) -> bool:
        """Returns whether it has got a command, or is interrupted."""
        is_asked = self.watch.is_asked
        if is_asked:  # not cleared otherwise: another thread may set it at this moment
            self.watch.is_asked = False
            self.credit_ns, self.used_ns = ALLOWANCE_NS, 0
        return is_asked or bool(self.watch.interrupted)

    def has_ended(self) -> bool:
        return self.watch.near is None

    def rests(self, now: int) -> bool:
        """Whether it has ended, or has used no CPU time for IDLE_NS. In the second case it gets a new allowance."""
        if now - self.active_ns < IDLE_NS:
            return self.has_ended()
        self.watch.begin_sharing()
        return True

    def begin_turn(self, now: int) -> None:
        self.since_ns, self.had_ns = now, self.spent_ns
        self.watch.take_turn()

    def wants_more(self, now: int, runnable: int) -> bool:
        """Whether it has computed in its turn, or has runnable threads."""
        return self.spent_ns - self.had_ns >= (now - self.since_ns) * _LITTLE or runnable > 0


class Rotation:
    """The turns of the boxes on one CPU. places: how many boxes have a turn at a time."""

    def __init__(self, places: int = 1) -> None:
        self._places = places
        self._known: set[Turning] = set()
        self._free: list[_Box] = []
        self._going: list[_Box] = []
        self._waiting: deque[_Box] = deque()
        self._looked_ns = 0
        self._available_ns = 0  # CPU time that was available to the boxes between the last two checks
        self._lock = threading.Lock()
        self._left_ns = 0  # for how long boxes that have a turn may make way
        self._stopped_ns = 0  # when they began to make way; 0 if they do not
        self._until_ns = 0

    def join(self, watch: Turning) -> None:
        """Adds a box that has used its allowance, unless it was added before.

        It leaves when the watchdog no longer watches it, or when it has been free and idle for IDLE_NS.
        """
        with self._lock:
            if watch not in self._known:
                self._known.add(watch)
                self._waiting.append(_Box(watch))

    def make_way(self, now: int) -> None:
        """Stops boxes that have a turn for a moment, because another box begins. From any thread."""
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
        """Continues the boxes that have made way. Their turns are longer by that time."""
        stopped = now - self._stopped_ns
        self._left_ns -= stopped
        self._stopped_ns = 0
        for box in self._going:
            box.since_ns += stopped
            box.watch.take_turn()

    def pass_on(self, now: int) -> None:
        """Ends the turns that are over, and gives turns to the boxes that have waited longest.

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
        """Reads the CPU time of each box, and removes boxes that have left.

        Returns the CPU time of all places since the last check, in nanoseconds.
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
        """Whether the boxes have had as much CPU time as they wanted, or more than _BESIDE of all CPU time.

        Otherwise other programs have had it. used: CPU time of the boxes since the last check; passed: all CPU time
        since then.
        """
        if used > passed * _BESIDE:
            return True
        boxes = sorted((box for box in (*self._going, *self._free) if box.used_ns), key=_used, reverse=True)
        return not any(count_runnable(box.watch.pid) for box in boxes[:_LOOKED_AT])

    def _end_turns(self, now: int) -> None:
        """Ends the turns that are over, and continues boxes that have a command or an interrupt."""
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
        """Makes free boxes wait that compute without credit.

        If the free boxes use too much together, only those with the most credit continue, one for each place. If no box
        has a turn or waits for one, a free box that computes gets one.
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
        """Returns the boxes that do not leave."""
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
        """Makes boxes that compute for long on a CPU make way for a box that begins there. From any thread."""
        for each in {cpu, None}:
            rotation = self._by_cpu.get(each)
            if rotation is not None:
                rotation.make_way(time.monotonic_ns())

    def pass_on(self, now: int) -> None:
        """Calls `pass_on` of all rotations. now: nanoseconds of the monotonic clock."""
        for rotation in tuple(self._by_cpu.values()):
            rotation.pass_on(now)

    def __bool__(self) -> bool:
        return any(tuple(self._by_cpu.values()))


def _credit(box: _Box) -> int:
    return box.credit_ns


def _used(box: _Box) -> int:
    return box.used_ns


def count_runnable(pid: int) -> int:
    """Returns how many threads of a process run, or wait for a CPU (proc_pid_stat(5)); 0 when it has ended.

    Of many threads only a sample is read, and the result is an estimate.
    """
    count, step = 0, 1
    with contextlib.suppress(OSError):
        tids = hostproc.threads(pid)
        step = -(-len(tids) // _LOOKS) or 1  # a process that ends has none left
        for tid in tids[int.from_bytes(os.urandom(2)) % step :: step]:  # so that a box cannot arrange its threads
            with contextlib.suppress(OSError, ValueError):  # this thread has ended
                count += hostproc.state(tid) == "R"
    return count * step
