"""Counts threads and copies of guests where a guest cannot lie: at the kernel's own door.

Each clone, and the first call of each copied process, reaches the controller as a seccomp user notification
(seccomp_unotify(2)). The answer is CONTINUE or EAGAIN; register arguments cannot change in between. What a guest says
about its threads is believed for routing only; the numbers are the kernel's. A thread and a copy are told apart by the
registers, since a grant of one is none of the other.

A chain of filters has one listener. Guests that were forked from one another share it, so whoever looks at it takes
what has come to the door of the guest that it is from.
"""

import contextlib
import errno
import fcntl
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator

import attrs

from proxybox.controller import hostproc
from proxybox.controller.header import FORK_FLAGS
from proxybox.controller.seal.filters import NUMBERS

#: In proc_pid_stat(5).
_NUM_THREADS = 20
_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDFD = struct.Struct("=QIIII")
_RECV, _SEND, _ID_VALID, _ADD = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103
_CONTINUE = 1
_SETFD = 1

#: So many are taken at once: a guest that knocks without end holds nobody up.
_AT_ONCE = 16

#: Clones that nobody has granted: so many of a guest are refused at once, and from then on one in so many nanoseconds.
#: Meanwhile the threads that make them sleep in the kernel, so that a storm of them costs next to nothing.
REFUSED_AT_ONCE = 16
REFUSED_EVERY_NS = 20_000_000

#: A clone that was let through counts as a thread of its own until its maker asks again or this time is over.
IN_FLIGHT_NS = 50_000_000


@attrs.frozen
class Knock:
    """A call that stands at the door: the clone of a thread, or that of a copy, or what a copy does first. tid: the
    host's id of the thread that makes it, by the kernel's word."""

    identifier: int
    tid: int
    is_fork: bool
    is_birth: bool


class Listener:
    """The one listener of a family of guests. Owns `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._doors: dict[int, Door] = {}
        self._nests: dict[int, Nest] = {}
        self._lock = threading.RLock()

    def add(self, door: "Door") -> None:
        """Begins to sort what comes from the guest of that door."""
        with self._lock:
            self._doors[door.pid] = door

    def discard(self, door: "Door") -> None:
        """Forgets an ended guest."""
        with self._lock:
            if self._doors.get(door.pid) is door:
                del self._doors[door.pid]

    @contextlib.contextmanager
    def expect(self, group: int) -> Iterator["Nest"]:
        """Where a newborn of that process group will be, until the end of the with block. Nothing that a guest can do
        takes it into another group, and the guests of one ask for one copy at a time."""
        nest = Nest()
        with self._lock:
            self._nests[group] = nest
        try:
            yield nest
        finally:
            with self._lock:
                del self._nests[group]
            os.close(nest.wake)

    def close(self) -> None:
        """Closes the listener: all that stands at a door gets ENOSYS."""
        with self._lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

    def sort(self) -> None:
        """Takes what has come, if anything has, to the guest that it is from. From any thread."""
        with self._lock:
            for _ in range(_AT_ONCE):
                if not self._has_come():
                    return
                knock = self._receive()
                if knock is None:
                    continue
                door = self._door_of(knock)
                if door is not None and knock.is_fork:
                    self._answer_fork(door, knock)
                elif door is not None and not knock.is_birth:
                    door.knock(knock)
                elif door is None and knock.is_birth and (nest := self._nests.get(_group_of(knock.tid))) is not None:
                    nest.put(knock)
                # Whoever claims to be born again stands there until its box ends: an answer would let it ask once more.

    def _door_of(self, knock: Knock) -> "Door | None":
        return self._doors.get(knock.tid) or self._doors.get(_process_of(knock.tid))

    def _answer_fork(self, door: "Door", knock: Knock) -> None:
        """One for each grant, and at once: a copy waits for nobody's turn."""
        if door.may_fork:
            door.may_fork = False
            self.allow(knock)
        else:
            door.refuse(knock)
            door.tell()

    def _has_come(self) -> bool:
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _receive(self) -> Knock | None:
        buffer = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self.fd, _RECV, buffer)
        except OSError:  # the thread that asked has gone meanwhile
            return None
        identifier, tid, _, number, _, _, first, *_ = _NOTIF.unpack(buffer)
        is_birth = number == NUMBERS["prctl"]
        return Knock(identifier, tid, not is_birth and first == FORK_FLAGS, is_birth)

    def is_there(self, knock: Knock) -> bool:
        """Whether the thread still stands at the door, so that its number means no other."""
        try:
            fcntl.ioctl(self.fd, _ID_VALID, struct.pack("=Q", knock.identifier))
        except OSError:
            return False
        return True

    def give_descriptors(self, knock: Knock, descriptors: dict[int, int]) -> bool:
        """Opens the controller's descriptors in the guest under the numbers that are the keys."""
        door = self._door_of(knock)
        if door is not None:
            door.given.update(descriptors)
        try:
            for number, fd in descriptors.items():
                fcntl.ioctl(self.fd, _ADD, _ADDFD.pack(knock.identifier, _SETFD, fd, number, os.O_CLOEXEC))
        except OSError:
            return False
        return True

    def allow(self, knock: Knock) -> None:
        """Lets the call go on."""
        self._respond(knock, 0, _CONTINUE)

    def refuse(self, knock: Knock) -> None:
        """The call fails with EAGAIN, as pthread_create(3) and fork(2) expect of a limit."""
        self._respond(knock, -errno.EAGAIN, 0)

    def _respond(self, knock: Knock, error: int, flags: int) -> None:
        with contextlib.suppress(OSError):  # ENOENT: the thread is gone
            fcntl.ioctl(self.fd, _SEND, bytearray(_RESPONSE.pack(knock.identifier, 0, error, flags)))


def _group_of(pid: int) -> int:
    """The process group of a newborn, which is its parent's; 0 when it has gone."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _process_of(tid: int) -> int:
    """The process that a thread is of; 0 when it has gone."""
    try:
        return hostproc.status(tid, "Tgid")
    except (OSError, ValueError):
        return 0


class Nest:
    """Where one newborn is expected: `wake` is readable when it is there."""

    def __init__(self) -> None:
        self.newborn: Knock | None = None
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, knock: Knock) -> None:
        """By `Listener.sort`, in any thread."""
        self.newborn = knock
        os.eventfd_write(self.wake, 1)


class Door:
    """One guest's part of a listener. `limit` counts the main thread too.

    may_fork: whether the next clone of a copy is let through. given: descriptors that the guest holds besides its first
    channel's; its copies would hold them, too.
    """

    def __init__(self, listener: Listener, pid: int, limit: int) -> None:
        self.listener = listener
        self.pid = pid
        self.may_fork = False
        self.given: set[int] = set()
        self._wake = -1
        self._limit = limit
        self._knocks: deque[Knock] = deque()
        self._unwelcome: dict[int, Knock] = {}  # by thread: a signal calls one away, which then comes again
        self._refused_ns = 0  # each refusal puts it off by REFUSED_EVERY_NS
        self._in_flight: dict[int, int] = {}
        listener.add(self)

    @property
    def wake(self) -> int:
        """An eventfd that is told of what comes; -1 for none. Who has set it to -1 may close it: nobody writes then."""
        return self._wake

    @wake.setter
    def wake(self, fd: int) -> None:
        with self.listener._lock:
            self._wake = fd

    def knock(self, knock: Knock) -> None:
        """A thread's clone has come from this guest; by `Listener.sort`, in any thread."""
        self._knocks.append(knock)
        self.tell()

    def tell(self) -> None:
        """Whoever serves this guest looks here; by `Listener.sort`, in any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def next_knock(self) -> Knock | None:
        """The next clone of a thread that stands here."""
        return self._knocks.popleft() if self._knocks else None

    def refuse(self, knock: Knock) -> None:
        """A clone that nobody has granted fails with EAGAIN: at once where that is rare, else by `refuse_late`. From
        any thread."""
        with self.listener._lock:
            self._unwelcome.pop(knock.tid, None)
            self._unwelcome[knock.tid] = knock
            self.refuse_late()
            if len(self._unwelcome) > self._limit:  # more than can stand here: the thread of the first has ended
                self.listener.refuse(self._unwelcome.pop(next(iter(self._unwelcome))))

    def refuse_late(self) -> None:
        """Refuses as many clones that nobody has granted as it is time for; when `late_ns` has come."""
        with self.listener._lock:
            while (due := self.late_ns) is not None and due <= (now := time.monotonic_ns()):
                self._refused_ns = max(self._refused_ns, now) + REFUSED_EVERY_NS
                self.listener.refuse(self._unwelcome.pop(next(iter(self._unwelcome))))

    @property
    def late_ns(self) -> int | None:
        """Host time at which the next clone that nobody has granted is to be refused; None where none stands here."""
        return self._refused_ns - (REFUSED_AT_ONCE - 1) * REFUSED_EVERY_NS if self._unwelcome else None

    def threads(self) -> int:
        """How many threads the kernel counts. Where that cannot be read it is as many as there may be: nobody is let in
        unseen."""
        try:
            return hostproc.stat(self.pid, _NUM_THREADS)[0]
        except (OSError, ValueError):
            return self._limit

    def admits(self, tid: int) -> bool:
        """Whether one more thread is within the limit, counting those that are about to appear."""
        now = time.monotonic_ns()
        self._in_flight = {
            other: since for other, since in self._in_flight.items() if other != tid and now - since < IN_FLIGHT_NS
        }
        return self.threads() + len(self._in_flight) + 1 <= self._limit

    def allow_thread(self, knock: Knock) -> None:
        """Lets a clone go on."""
        self._in_flight[knock.tid] = time.monotonic_ns()
        self.listener.allow(knock)
