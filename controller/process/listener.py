"""Answers the kernel's notifications of system calls of guests, about which a guest cannot lie.

Each clone, the first call of each copied process, and each mapping of a file reach the controller as seccomp user
notifications (seccomp_unotify(2)). The kernel holds the calling thread until the controller answers with CONTINUE or
EAGAIN; register arguments cannot change in between. A guest's claims about its threads are used for routing only; the
kernel counts the threads. The registers distinguish the clone of a thread from that of a copy: a grant of one does not
allow the other.

Promise: a guest holds no files except those that were passed to `GuestListener.grant_library`, and each grant is for
one mapping.

A chain of filters has one listener, and guests that were forked from one another share it. The thread that reads it
passes each notification to the `GuestListener` of the guest that has caused it.
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

_NOTIF = struct.Struct("=QIIiIQ6Q")
_RESPONSE = struct.Struct("=QqiI")
_ADDFD = struct.Struct("=QIIII")
_RECV, _SEND, _ID_VALID, _ADD, _SET_FLAGS = 0xC0502100, 0xC0182101, 0x40082102, 0x40182103, 0x40082104
_CONTINUE = 1
_SETFD = 1
_SYNC_WAKE_UP = 1

#: The most notifications that are read at once, so that a guest that causes endless notifications delays no others.
_AT_ONCE = 16

#: Clones that the controller has not granted: the first REFUSED_AT_ONCE of a guest are refused at once, later ones at a
#: rate of one in REFUSED_EVERY_NS nanoseconds. Meanwhile the threads that make them sleep in the kernel, so that a
#: storm of clones costs next to nothing.
REFUSED_AT_ONCE = 16
REFUSED_EVERY_NS = 20_000_000

#: Mappings of files that a guest may make at once, and one more in each MAPPING_EVERY_NS nanoseconds. Beyond that,
#: files are copied, which is charged to the guest. To import pandas takes 300 mappings.
MAPPINGS_AT_ONCE = 2000
MAPPING_EVERY_NS = 10_000_000

#: A clone that was allowed counts as one more thread until its caller makes another clone, or until this time is over.
IN_FLIGHT_NS = 50_000_000


@attrs.frozen(eq=False)
class Notification:
    """A call that the kernel holds: the clone of a thread or of a copy, a copy's first call, or a mapping of a file.

    is_fork, is_birth: whether it is the clone of a copy, or a copy's first call. maps: the descriptor of the file to be
    mapped. identifier: of the notification. tid: the host's id of the calling thread, from the kernel. stack: of a
    clone, the address of the stack for the thread that it makes.
    """

    identifier: int
    tid: int
    is_fork: bool
    is_birth: bool
    maps: int | None = None
    stack: int = 0


class Listener:
    """The one listener of a family of guests. Owns `fd`."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        with contextlib.suppress(OSError, ValueError):  # since Linux 6.6: they wake each other on one CPU
            fcntl.ioctl(fd, _SET_FLAGS, _SYNC_WAKE_UP)
        self._doors: dict[int, GuestListener] = {}
        self._nests: dict[int, ExpectedCopy] = {}
        self._lock = threading.RLock()

    def add(self, guest_listener: "GuestListener") -> None:
        """Adds a guest, whose calls are sorted from now on."""
        with self._lock:
            self._doors[guest_listener.pid] = guest_listener

    def knows(self, guest_listener: "GuestListener") -> bool:
        """Whether that guest was added and has not ended."""
        return self._doors.get(guest_listener.pid) is guest_listener

    def discard(self, guest_listener: "GuestListener") -> None:
        """Forgets an ended guest."""
        with self._lock:
            if self._doors.get(guest_listener.pid) is guest_listener:
                del self._doors[guest_listener.pid]
            while guest_listener.libraries:
                os.close(guest_listener.libraries.popitem()[1])

    @contextlib.contextmanager
    def expect(self, group: int) -> Iterator["ExpectedCopy"]:
        """A context that gives the `ExpectedCopy` for the next copy of a guest of that process group.

        A guest cannot change its process group, and the guests of one group are copied one at a time.
        """
        expected = ExpectedCopy()
        with self._lock:
            self._nests[group] = expected
        try:
            yield expected
        finally:
            with self._lock:
                del self._nests[group]
            os.close(expected.wake)

    def close(self) -> None:
        """Closes the listener. All calls that the kernel holds for it then fail with ENOSYS."""
        with self._lock:
            fd, self.fd = self.fd, -1
            if fd >= 0:
                os.close(fd)

    def sort(self) -> None:
        """Reads the notifications that have come, and passes each to its guest's part. From any thread."""
        with self._lock:
            for _ in range(_AT_ONCE):
                if not self._has_come():
                    return
                notification = self._receive()
                if notification is None:
                    continue
                guest_listener = self._guest_listener_of(notification)
                if guest_listener is not None and notification.is_fork:
                    self._answer_fork(guest_listener, notification)
                elif guest_listener is not None and not notification.is_birth:
                    guest_listener.add(notification)
                elif (
                    guest_listener is None
                    and notification.is_birth
                    and (expected := self._nests.get(_group_of(notification.tid))) is not None
                ):
                    expected.put(notification)
                # A guest that repeats the first call of a copy gets no answer until its box ends: otherwise it could
                # repeat it endlessly.

    def _guest_listener_of(self, notification: Notification) -> "GuestListener | None":
        return self._doors.get(notification.tid) or self._doors.get(_process_of(notification.tid))

    def _answer_fork(self, guest_listener: "GuestListener", notification: Notification) -> None:
        """Allows one clone for each grant. It does so at once, so that a copy does not wait for its parent's turn."""
        if guest_listener.may_fork:
            guest_listener.may_fork = not self.allow(notification)
        else:
            guest_listener.refuse(notification)
            guest_listener.tell()

    def _has_come(self) -> bool:
        if self.fd < 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))

    def _receive(self) -> Notification | None:
        buffer = bytearray(_NOTIF.size)
        try:
            self._ask(_RECV, buffer)
        except OSError:  # the calling thread has ended meanwhile
            return None
        identifier, tid, _, number, _, _, first, second, _, _, fifth, _ = _NOTIF.unpack(buffer)
        if number == NUMBERS["mmap"]:
            return Notification(identifier, tid, is_fork=False, is_birth=False, maps=fifth & 0xFFFFFFFF)
        is_birth = number == NUMBERS["prctl"]
        return Notification(identifier, tid, not is_birth and first == FORK_FLAGS, is_birth, stack=second)

    def _ask(self, request: int, argument: bytes | bytearray) -> None:
        """Makes an ioctl(2) on the listener, which another thread may have closed. Raises OSError then, too."""
        fd = self.fd
        if fd < 0:  # ioctl raises ValueError
            raise OSError(errno.EBADF, "the guests of this listener have ended")
        fcntl.ioctl(fd, request, argument)

    def is_there(self, notification: Notification) -> bool:
        """Whether the kernel still holds the call, so that the thread's id cannot belong to another thread."""
        try:
            self._ask(_ID_VALID, struct.pack("=Q", notification.identifier))
        except OSError:
            return False
        return True

    def give_descriptors(self, notification: Notification, descriptors: dict[int, int]) -> bool:
        """Installs descriptors of the controller in the guest. descriptors: from the guest's numbers to ours.

        Returns False where that fails.
        """
        guest_listener = self._guest_listener_of(notification)
        if guest_listener is not None:
            guest_listener.installed.update(descriptors)
        return all(self.give(notification, number, fd) for number, fd in descriptors.items())

    def give(self, notification: Notification, number: int, fd: int) -> bool:
        """Installs a descriptor of the controller's in the guest. Returns False where that fails."""
        try:
            self._ask(_ADD, _ADDFD.pack(notification.identifier, _SETFD, fd, number, os.O_CLOEXEC))
        except OSError:  # the guest has ended, or this kernel adds no descriptors
            return False
        return True

    def allow(self, notification: Notification) -> bool:
        """Answers CONTINUE: the kernel carries out the call.

        Returns False where it no longer holds the call: the thread has ended, or it was stopped and makes the call
        again.
        """
        return self._respond(notification, 0, _CONTINUE)

    def refuse(self, notification: Notification) -> bool:
        """Answers EAGAIN, which pthread_create(3) and fork(2) expect at a limit.

        Returns what `allow` does.
        """
        return self._respond(notification, -errno.EAGAIN, 0)

    def _respond(self, notification: Notification, error: int, flags: int) -> bool:
        while True:
            try:
                self._ask(_SEND, bytearray(_RESPONSE.pack(notification.identifier, 0, error, flags)))
            except InterruptedError:  # interrupted by a signal to this thread: the kernel still holds the call
                continue
            except OSError:  # ENOENT
                return False
            return True


def _group_of(pid: int) -> int:
    """Returns the process group of a new copy, which is its parent's; 0 when it has ended."""
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def _process_of(tid: int) -> int:
    """Returns the id of the process of a thread; 0 when it has ended."""
    try:
        return hostproc.status(tid, "Tgid")
    except (OSError, ValueError):
        return 0


class ExpectedCopy:
    """A copy that is expected. `wake` becomes readable when it has made its first call."""

    def __init__(self) -> None:
        self.newborn: Notification | None = None
        self.wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def put(self, notification: Notification) -> None:
        """Stores the notification of that call. Called by `Listener.sort`, in any thread."""
        self.newborn = notification
        os.eventfd_write(self.wake, 1)


class GuestListener:
    """The part of a listener that is one guest's.

    limit: the most threads of the guest, the main thread included. may_fork: whether its next clone of a copy is
    allowed. installed: descriptors that were installed in the guest besides those of its first channel; its copies
    would inherit them. libraries: the controller's descriptors of files that the guest may map once, by their
    descriptors in the guest; they are closed with this object.
    """

    def __init__(self, listener: Listener, pid: int, limit: int) -> None:
        self.listener = listener
        self.pid = pid
        self.may_fork = False
        self.installed: set[int] = set()
        self.libraries: dict[int, int] = {}
        self._wake = -1
        self._limit = limit
        self._notifications: deque[Notification] = deque()
        self._unwelcome: dict[int, Notification] = {}  # by thread: a thread repeats a clone that a signal interrupts
        self._refused_ns = 0  # each refusal adds REFUSED_EVERY_NS
        self._granted_ns = 0  # each grant of a mapping adds MAPPING_EVERY_NS
        self._in_flight: dict[int, int] = {}
        listener.add(self)

    @property
    def wake(self) -> int:
        """An eventfd that is written to when a notification comes; -1 for none.

        After it was set to -1, nothing is written to it, so the descriptor may be closed.
        """
        return self._wake

    @wake.setter
    def wake(self, fd: int) -> None:
        with self.listener._lock:
            self._wake = fd

    def tighten(self, limit: int) -> None:
        """Sets the most threads of the guest, if that is fewer than before."""
        self._limit = min(self._limit, limit)

    def add(self, notification: Notification) -> None:
        """Adds the clone of a thread of this guest, or a mapping. Called by `Listener.sort`, in any thread."""
        self._notifications.append(notification)
        self.tell()

    def tell(self) -> None:
        """Wakes the driver of this guest. Called by `Listener.sort`, in any thread."""
        if self._wake >= 0:
            os.eventfd_write(self._wake, 1)

    def grant_library(self, number: int, fd: int) -> bool:
        """Allows the guest one mapping of the file `fd`, which it will get as its descriptor `number`.

        Takes `fd`, and returns True. Returns False where the guest has had too many mappings lately, because each of
        them wakes the drivers of its siblings.
        """
        now = time.monotonic_ns()
        granted_ns = max(self._granted_ns, now) + MAPPING_EVERY_NS
        if granted_ns - now > MAPPINGS_AT_ONCE * MAPPING_EVERY_NS:
            return False
        self._granted_ns = granted_ns
        with self.listener._lock:
            old = self.libraries.pop(number, None)
            self.libraries[number] = fd
        if old is not None:
            os.close(old)
        return True

    def answer_mapping(self, notification: Notification, number: int) -> None:
        """Installs the file that was granted for that descriptor, and allows the mapping."""
        fd = self.libraries.pop(number, None)
        if fd is None:
            self.refuse(notification)
            return
        try:
            # The kernel waits for the guest in `give`: the lock is not held meanwhile.
            if self.listener.give(notification, number, fd):
                is_answered = self.listener.allow(notification)
            else:  # then the stub copies the file
                is_answered = self.listener.refuse(notification)
            with self.listener._lock:
                if not is_answered and number not in self.libraries and self.listener.knows(self):
                    self.libraries[number], fd = fd, -1  # for the same call, when it is repeated
        finally:
            if fd >= 0:
                os.close(fd)

    def next_notification(self) -> Notification | None:
        """The next clone of a thread, or mapping, that waits for its answer; None where there is none."""
        return self._notifications.popleft() if self._notifications else None

    def refuse(self, notification: Notification) -> None:
        """Refuses a clone that was not granted: at once where such clones are rare, otherwise in `refuse_late`.

        From any thread.
        """
        with self.listener._lock:
            self._unwelcome.pop(notification.tid, None)
            self._unwelcome[notification.tid] = notification
            self.refuse_late()
            if len(self._unwelcome) > self._limit:  # more than the guest has threads: the first one has ended
                self.listener.refuse(self._unwelcome.pop(next(iter(self._unwelcome))))

    def refuse_late(self) -> None:
        """Refuses those clones without a grant whose time has come (`late_ns`)."""
        with self.listener._lock:
            while (due := self.late_ns) is not None and due <= (now := time.monotonic_ns()):
                self._refused_ns = max(self._refused_ns, now) + REFUSED_EVERY_NS
                self.listener.refuse(self._unwelcome.pop(next(iter(self._unwelcome))))

    @property
    def late_ns(self) -> int | None:
        """Host time at which to refuse the next clone without a grant; None where none waits."""
        return self._refused_ns - (REFUSED_AT_ONCE - 1) * REFUSED_EVERY_NS if self._unwelcome else None

    def threads(self) -> int:
        """Returns how many threads of the guest the kernel counts.

        Where that cannot be read, the limit is returned, so that no thread is allowed without a count.
        """
        try:
            return hostproc.thread_count(self.pid)
        except (OSError, ValueError):
            return self._limit

    def admits(self, tid: int) -> bool:
        """Whether one more thread, made by thread `tid`, is within the limit.

        Clones of the other threads that were allowed less than IN_FLIGHT_NS ago count as threads, too.
        """
        now = time.monotonic_ns()
        self._in_flight = {
            other: since for other, since in self._in_flight.items() if other != tid and now - since < IN_FLIGHT_NS
        }
        return self.threads() + len(self._in_flight) + 1 <= self._limit

    def allow_thread(self, notification: Notification) -> bool:
        """Allows the clone of a thread, and counts it as in flight. Returns as `Listener.allow` does."""
        self._in_flight[notification.tid] = time.monotonic_ns()
        return self.listener.allow(notification)
