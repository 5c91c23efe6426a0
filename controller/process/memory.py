"""Enforces limits.memory, which limits the memory that a guest uses, not the memory that it reserves.

The kernel limits a process's address space (RLIMIT_AS), and an allocation beyond that fails, so that a program gets a
MemoryError. A guest begins with as much as it may use, and most guests never need more. Such a guest cannot use too
much, and is not checked. Where an allocation fails, the stub asks for room (stub_room.c):

    asked      The limit is raised, or the allocation fails: it depends on the used memory and the kind of allocation.
    stretched  The guest has more address space than it may use. The watchdog checks it, more often the less it has
               left, and adjusts the limit: reserved memory that it uses reduces what it can still allocate.
    ended      The guest has used more than its limit and SPARE. The overseer notices that in time, where the watchdog
               would not.

The hard limit is MOST_ROOM above the first one, which also bounds a guest that cannot be checked. The last OF_CODE
bytes of it are reserved for the code of a JIT.
"""

import os
import resource
import threading
import time
from typing import Final

import attrs

from proxybox.controller import hostproc, pidfd
from proxybox.controller.header import A_FILE, CODE, FOR_USE, MOST_ROOM, RESERVED
from proxybox.controller.process.overseer import Overseen
from proxybox.controller.process.spacelimits import set_space

#: Bytes that a guest may use beyond its limit before it is ended: reserved memory can be used at any time.
SPARE: Final = 16 << 20
#: A guest that could use at most this many bytes beyond its limit is not checked: parts of its libraries, the nursery.
UNWATCHED: Final = 96 << 20
#: Bytes for the code of a JIT, when all other allocations fail. Without them PyPy ends, instead of raising MemoryError.
OF_CODE: Final = 8 << 20
#: CPU time in nanoseconds in which a guest makes the allocation for which it has requested room.
PROMISE_NS: Final = 50_000_000
#: The watchdog raises a limit only by more bytes than this.
STEP: Final = 1 << 20
#: From this part of its memory on, a reservation counts like used memory.
HALF: Final = 1 / 2
#: A guest that died of a failed allocation has used at least this part of its memory.
NEARLY_ALL: Final = 3 / 4
#: In nanoseconds: the shortest time between two checks; the time between checks of a guest that uses no CPU time; and
#: the time after which that guest is idle.
SHORTEST_NS, TICK_NS, IDLE_NS = 2_000_000, 20_000_000, 1_000_000_000
#: The most bytes of new memory that a CPU can begin to use in a nanosecond: the kernel clears pages.
_FASTEST: Final = 6
_CPUS: Final = os.cpu_count() or 1


@attrs.frozen
class Beginning:
    """The memory of an interpreter before it runs a program: bytes of address space, and bytes in use.

    used: None where /proc does not show it. Then its address space is limited, as if all of it were used.
    """

    space: int
    used: int | None

    @classmethod
    def of(cls, pid: int) -> "Beginning":
        """Measures a process. Raises OSError, ValueError."""
        try:
            return cls(*hostproc.space_and_use(pid))
        except ValueError:
            return cls(hostproc.memory(pid)[0], None)


@attrs.define(eq=False)
class GuestMemory:
    """The memory of one guest.

    pid: its process. limit: bytes that it may use beyond its beginning. asks: whether its stub requests room. pidfd: by
    which it can be ended; -1 for a process that is not ended. cpus: on how many it may run. soft: its limit of address
    space (RLIMIT_AS), and highest: the maximum of that limit so far. used: the highest measured use. refused: the
    fewest bytes that were left when an allocation was refused; None where none was. is_out_of_space: whether an
    allocation was refused for lack of address space, when more than half of MOST_ROOM was in use. is_idle: whether it
    has used no CPU time for IDLE_NS.
    """

    pid: int
    limit: int
    began: Beginning
    asks: bool = True
    pidfd: int = -1
    cpus: int = _CPUS
    soft: int = attrs.field(default=attrs.Factory(lambda self: self.began.space + self.limit, takes_self=True))
    highest: int = attrs.field(default=attrs.Factory(lambda self: self.soft, takes_self=True))
    used: int = 0
    refused: int | None = None
    is_out_of_space: bool = False
    is_idle: bool = False
    _for_code: int = OF_CODE
    _promised: int = 0
    _promised_cpu_ns: int | None = None
    _seen_cpu_ns: int = -1
    _seen_ns: int = 0
    _left: int = 0
    _overseen: Overseen | None = None
    _lock: threading.Lock = attrs.field(factory=threading.Lock)

    @property
    def is_watched(self) -> bool:
        """Whether it could exceed its limit by more than UNWATCHED, so that the watchdog has to check it."""
        return self.began.used is not None and self.soft - self.began.used > self.limit + UNWATCHED

    @property
    def was_ended(self) -> bool:
        """Whether the overseer has ended it."""
        return self._overseen is not None and self._overseen.has_ended

    def of_copy(self, pid: int, pidfd: int) -> "GuestMemory":
        """Returns the memory of a copy of the guest, which has its limits. Raises OSError."""
        copy = attrs.evolve(self, pid=pid, pidfd=pidfd, seen_cpu_ns=-1, overseen=None, lock=threading.Lock())
        copy._oversee()
        return copy

    def rest(self, rests: bool) -> None:
        """Stops the checks of the overseer while the guest is stopped."""
        if self._overseen is not None:
            self._overseen.rest(rests)

    def close(self) -> None:
        """Ends the checks of the overseer; to be called before its pidfd is closed."""
        if self._overseen is not None:
            self._overseen.close()

    def most(self) -> int:
        """Returns its hard limit of address space (RLIMIT_AS): no higher than this process's own."""
        most = self.soft + (MOST_ROOM if self.asks else 0)
        own = resource.getrlimit(resource.RLIMIT_AS)[1]
        return most if own == resource.RLIM_INFINITY else min(most, own)

    def enforce(self) -> None:
        """Sets the limit of a guest that has begun without one, or with a higher one. Raises OSError, ValueError."""
        set_space(self.pid, self.soft, self.most())

    # --- one that asks ------------------------------------------------------------------------------------------------

    def ask(self, size: int, kind: int) -> bool:
        """Raises the limit, if necessary, for an allocation of `size` bytes that has failed.

        Returns whether there is room now, so that the allocation should be repeated.
        """
        if not self.asks or self.began.used is None:
            return False
        with self._lock:
            try:
                space, left = self._measure()
                if not self._may_have(size, kind, left):
                    self.refused = min(max(left, 0), self.limit if self.refused is None else self.refused)
                    return False
                most = self._highest(kind)
                wanted = min(space + max(size, left), most)
                if wanted > self.soft and space + size <= most:
                    self._set(wanted)
                if self.soft < space + size:
                    self.is_out_of_space |= space - self._first() > MOST_ROOM * HALF
                    return False
                if size > left or wanted > self._highest():
                    self._promised, self._promised_cpu_ns = space + size, None
                return True
            except (OSError, ValueError):  # the guest has ended, or a sandbox around this process refuses prlimit(2)
                return False

    def _may_have(self, size: int, kind: int, left: int) -> bool:
        if size <= left or kind == A_FILE:
            return True
        if kind == CODE and size <= self._for_code:
            self._for_code -= size
            return True
        return kind == RESERVED and left > self.limit * HALF

    def _first(self) -> int:
        return self.began.space + self.limit

    def _highest(self, kind: int = FOR_USE) -> int:
        """Returns the highest limit for allocations of that kind."""
        return self._first() + MOST_ROOM - (0 if kind == CODE else OF_CODE)

    # --- one that is stretched ----------------------------------------------------------------------------------------

    def look(self, cpu_ns: int) -> int:
        """Adjusts the limit to the memory that may still be used. Returns in how many nanoseconds to check again.

        Returns 0 where it has used more than it may. cpu_ns: its CPU time; without new CPU time, it has used no new
        memory. Raises OSError, ValueError where it has ended.
        """
        now = time.monotonic_ns()
        if cpu_ns == self._seen_cpu_ns:
            self.is_idle = now - self._seen_ns >= IDLE_NS
            return max(self._until_full_ns(), TICK_NS)
        with self._lock:
            self._seen_cpu_ns, self._seen_ns, self.is_idle = cpu_ns, now, False
            space, self._left = self._measure()
            if self._left < -SPARE:
                return 0
            wanted = min(space + max(self._left, 0), self._highest())
            if not self._is_promised(space, cpu_ns) and (wanted < self.soft or wanted > self.soft + STEP):
                self._set(wanted)
        return max(self._until_full_ns(), SHORTEST_NS)

    def _is_promised(self, space: int, cpu_ns: int) -> bool:
        """Whether the limit was raised for an allocation that it has not made yet."""
        if self._promised_cpu_ns is None:
            self._promised_cpu_ns = cpu_ns
        if space >= self._promised or cpu_ns - self._promised_cpu_ns > PROMISE_NS:
            self._promised = 0
        return bool(self._promised)

    def _until_full_ns(self) -> int:
        return (self._left + SPARE) // (_FASTEST * self.cpus)

    def _measure(self) -> tuple[int, int]:
        """Returns its address space, and the bytes that it may still use."""
        space, used = hostproc.space_and_use(self.pid)
        used -= self.began.used or 0
        self.used = max(self.used, used)
        return space, self.limit - used

    def _set(self, soft: int) -> None:
        before, self.soft = self.soft, soft
        try:
            self._oversee()  # before it can use the new memory
            self.soft = set_space(self.pid, soft)
        except BaseException:
            self.soft = before
            raise
        self.highest = max(self.soft, self.highest)

    def _oversee(self) -> None:
        if self.is_watched and self._overseen is None and self.pidfd >= 0 and pidfd.has_pidfds():
            self._overseen = Overseen(self.pid, self.pidfd, (self.began.used or 0) + self.limit + SPARE, self.cpus)

    # --- verdicts -----------------------------------------------------------------------------------------------------

    def is_nearly_full(self) -> bool:
        """Whether it uses nearly all of its memory now, or an allocation was refused. Raises OSError, ValueError."""
        if self._was_refused():
            return True
        if self.soft > self._first():
            return self._measure()[1] <= self.limit * (1 - NEARLY_ALL)
        return hostproc.memory(self.pid)[0] >= self.soft * NEARLY_ALL

    def _was_refused(self) -> bool:
        """Whether an allocation was refused when more than half of its memory, or of its address space, was in use.

        A huge allocation may be refused at any time, so it does not count.
        """
        return self.is_out_of_space or (self.refused is not None and self.refused <= self.limit * HALF)

    def was_nearly_full(self, peak: int | None) -> bool:
        """Whether it has used nearly all of its memory, or an allocation was refused. peak: of its address space."""
        if self._was_refused():
            return True
        if self.highest > self._first():
            return self.used >= self.limit * NEARLY_ALL
        return peak is not None and peak >= self.soft * NEARLY_ALL

    def has_had_at_most(self, left: int, peak: int | None) -> bool:
        """Whether at some time it had at most `left` bytes left. peak: of its address space."""
        if self.refused is not None and self.refused <= left:
            return True
        return peak is not None and self.highest - peak <= left
