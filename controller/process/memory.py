"""What a guest may have of memory: limits.memory is what it uses, not what it reserves.

The kernel limits a process's address space (RLIMIT_AS), and an allocation beyond that fails, so that a program gets a
MemoryError. A guest begins with as much as it may use, and most never need more. Such a guest cannot use too much, and
nobody looks at it. Where an allocation fails, the stub asks for room (stub_room.c):

    asked      what is used, and what the allocation is for, decide whether the limit is raised or the allocation fails
    stretched  it has more address space than it may use. The watchdog looks at it, the sooner the less it has left, and
               has the limit follow: what it uses of its reservations, it can allocate no more
    ended      it has used more than its limit and SPARE. The overseer sees that in time, where the watchdog would not

The hard limit is MOST_ROOM above the first one. So a guest that nobody can look at uses no more than that, either. The
last OF_CODE of it is kept for the code of a JIT.
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

#: Bytes that a guest may use beyond its limit before it is ended: what was reserved can be used at any time.
SPARE: Final = 16 << 20
#: Bytes that a guest could use beyond its limit, and nobody looks: parts of its libraries, the nursery.
UNWATCHED: Final = 96 << 20
#: Bytes for the code of a JIT, when nothing else gets any more. Without them PyPy ends, instead of a MemoryError.
OF_CODE: Final = 8 << 20
#: CPU time in nanoseconds in which a guest makes the allocation for which it has asked.
PROMISE_NS: Final = 50_000_000
#: Bytes by which a limit is not raised before it is asked for.
STEP: Final = 1 << 20
#: The part of its memory from which on a reservation counts like memory that is used.
HALF: Final = 1 / 2
#: A guest that died of a failed allocation has used at least this part of its memory.
NEARLY_ALL: Final = 3 / 4
#: Nanoseconds between two looks at the least, and at a guest that costs nothing; and after which that one is idle.
SHORTEST_NS, TICK_NS, IDLE_NS = 2_000_000, 20_000_000, 1_000_000_000
#: The most bytes that a CPU can use for the first time in a nanosecond: pages are cleared.
_FASTEST: Final = 6
_CPUS: Final = os.cpu_count() or 1


@attrs.frozen
class Beginning:
    """What an interpreter has before it runs a program: bytes of address space, and bytes in use.

    used: None where /proc does not tell. Then its address space is limited, as if all of it were used.
    """

    space: int
    used: int | None

    @classmethod
    def of(cls, pid: int) -> "Beginning":
        """Looks at a process. Raises OSError, ValueError."""
        try:
            return cls(*hostproc.space_and_use(pid))
        except ValueError:
            return cls(hostproc.memory(pid)[0], None)


@attrs.define(eq=False)
class GuestMemory:
    """The memory of one guest.

    pid: its process. limit: bytes that it may use beyond its beginning. asks: whether its stub asks for room. pidfd: by
    which it can be ended; -1 for a process that nobody ends. cpus: on how many it may run. soft: its limit of address
    space (RLIMIT_AS), and highest: what that was at the most. used: the most that it was seen to use.
    refused: the bytes that were left when an allocation was refused, at the least; None where none was.
    is_out_of_space: whether one was refused for lack of address space, when it had more than half of what it can get.
    is_idle: whether it has cost nothing for IDLE_NS.
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
        """Whether it could use so much more than it may that the watchdog has to look at it."""
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
        """Has nobody look at it while it is stopped."""
        if self._overseen is not None:
            self._overseen.rest(rests)

    def close(self) -> None:
        """Has nobody look at it any more; to be called before its pidfd is closed."""
        if self._overseen is not None:
            self._overseen.close()

    def most(self) -> int:
        """The hard limit of address space for it (RLIMIT_AS): no higher than this process's own."""
        most = self.soft + (MOST_ROOM if self.asks else 0)
        own = resource.getrlimit(resource.RLIMIT_AS)[1]
        return most if own == resource.RLIM_INFINITY else min(most, own)

    def enforce(self) -> None:
        """Sets the limit of a guest that has begun without one, or with a higher one. Raises OSError, ValueError."""
        set_space(self.pid, self.soft, self.most())

    # --- one that asks ------------------------------------------------------------------------------------------------

    def ask(self, size: int, kind: int) -> bool:
        """Raises the limit for an allocation that has failed, of so many bytes, where it lacks room.

        Returns whether it has room now, so that it is worth another try.
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
            except (OSError, ValueError):  # the guest has gone, or a sandbox around this process refuses prlimit(2)
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
        """The highest limit for allocations of that kind."""
        return self._first() + MOST_ROOM - (0 if kind == CODE else OF_CODE)

    # --- one that is stretched ----------------------------------------------------------------------------------------

    def look(self, cpu_ns: int) -> int:
        """Moves the limit to where what is used can grow to. Returns in how many nanoseconds to look again.

        0: it has used more than it may. cpu_ns: its CPU time; a guest that has spent none has used no memory. Raises
        OSError, ValueError for one that has gone.
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
        """Whether it has not made the allocation yet for which the limit was raised."""
        if self._promised_cpu_ns is None:
            self._promised_cpu_ns = cpu_ns
        if space >= self._promised or cpu_ns - self._promised_cpu_ns > PROMISE_NS:
            self._promised = 0
        return bool(self._promised)

    def _until_full_ns(self) -> int:
        return (self._left + SPARE) // (_FASTEST * self.cpus)

    def _measure(self) -> tuple[int, int]:
        """The address space that it has, and the bytes that it may still use."""
        space, used = hostproc.space_and_use(self.pid)
        used -= self.began.used or 0
        self.used = max(self.used, used)
        return space, self.limit - used

    def _set(self, soft: int) -> None:
        before, self.soft = self.soft, soft
        try:
            self._oversee()  # before it can use what it gets
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
        """Whether it uses nearly all of what it may, now, or was refused some. Raises OSError, ValueError."""
        if self._was_refused():
            return True
        if self.soft > self._first():
            return self._measure()[1] <= self.limit * (1 - NEARLY_ALL)
        return hostproc.memory(self.pid)[0] >= self.soft * NEARLY_ALL

    def _was_refused(self) -> bool:
        """Whether an allocation was refused when more than half of its memory was used, or of its address space.

        A huge one may be refused at any time, and says nothing.
        """
        return self.is_out_of_space or (self.refused is not None and self.refused <= self.limit * HALF)

    def was_nearly_full(self, peak: int | None) -> bool:
        """Whether it has used nearly all of what it may, or was refused some. peak: of its address space."""
        if self._was_refused():
            return True
        if self.highest > self._first():
            return self.used >= self.limit * NEARLY_ALL
        return peak is not None and peak >= self.soft * NEARLY_ALL

    def has_had_at_most(self, left: int, peak: int | None) -> bool:
        """Whether an allocation of so many bytes was, or would have been, refused. peak: of its address space."""
        if self.refused is not None and self.refused <= left:
            return True
        return peak is not None and self.highest - peak <= left
