"""Waiting for several descriptors at once: poll, select and epoll.

All three check each description with `ready`, and only once, however often it is named. A wait is tried again when one
of its descriptions has changed (`OpenFile.sources`). EPOLLET is honoured for descriptions that know their edges
(`OpenFile.edge`), and for writing. Other descriptions are reported as long as there is something to read. A program
that drains its descriptors notices no difference.
"""

import errno
from collections.abc import Callable, Iterable, Set
from typing import Annotated, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply, Write
from proxybox.controller.header import CALL_LOOK, LASTS
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.clock import timeout as time_of
from proxybox.controller.oscalls.signals import MASKED, check_set_size, wait_masked
from proxybox.controller.roles import Addr, Bits, Buffer, Fd, Int, Milliseconds, Size, Struct, TimeStruct, UInt
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.vfs.streams import AnonymousNode
from proxybox.controller.world.state import GuestThread, World

_ALWAYS: Final = abi.POLLERR | abi.POLLHUP
_IN: Final = abi.POLLIN | abi.POLLRDNORM
_OUT: Final = abi.POLLOUT | abi.POLLWRNORM
_SELECT_READ: Final = _IN | abi.POLLHUP | abi.POLLERR
_SELECT_WRITE: Final = _OUT | abi.POLLERR
_FD_SETSIZE: Final = 1024
_WATCHES_MAX: Final = 4096
"""The most watches of all epoll instances of a box together."""
_EVENTS_MAX: Final = 4096
_EPOLL_FLAGS: Final = abi.EPOLLET | abi.EPOLLONESHOT | abi.EPOLLWAKEUP | abi.EPOLLEXCLUSIVE

InOut = tuple[int, bytes]
OptionalInOut = tuple[int, bytes | None]


def ready(file: OpenFile, wanted: int) -> int:
    """Returns which of the wanted poll(2) events a description has; errors and hang-ups always count."""
    if file.is_path_only:
        return abi.POLLNVAL
    if not file.pollable:
        return wanted & (_IN | _OUT)
    events = 0
    if wanted & _IN and file.may_read and file.readable():
        events |= _IN
    if wanted & _OUT and file.may_write and file.writable():
        events |= _OUT
    if file.hangup():
        events |= abi.POLLHUP | abi.POLLRDHUP
    if file.failed():
        events |= abi.POLLERR
    return events & (wanted | _ALWAYS)


class _States(dict[OpenFile, int]):
    """The events for which descriptions are ready; each description is checked once."""

    def __missing__(self, file: OpenFile) -> int:
        state = self[file] = file.state(self) if isinstance(file, EpollFile) else ready(file, 0xFFFF)
        return state

    def among(self, file: OpenFile, wanted: int) -> int:
        """Returns the same as `ready`, but checks no description twice."""
        return self[file] & (wanted | _ALWAYS | abi.POLLNVAL)


def _states(world: World) -> _States:
    """Returns the states shared by the waits that are being tried, or new ones for a new call."""
    seen = world.changes.seen
    if seen is None:
        return _States()
    if not isinstance(seen, _States):
        seen = world.changes.seen = _States()
    return seen


def _sources(files: Iterable[OpenFile]) -> tuple[Set[object], ...]:
    """Returns the sources of a wait for all these files.

    An epoll instance may watch more descriptions during the wait, so its part is a view.
    """
    files = set(files)
    instances = [file.sources() for file in files if isinstance(file, EpollFile)]
    return frozenset[object]().union(*(file.sources() for file in files if not isinstance(file, EpollFile))), *instances


def _host_fd(files: list[tuple[OpenFile, int]]) -> int | None:
    """Returns the host descriptor to watch as well: that of standard input, when it is to be read."""
    return next((f.host_fd for f, wanted in files if f.host_fd is not None and wanted & _IN), None)


def _wait(
    world: World,
    attempt: Callable[[], Reply | None],
    timeout_ns: int | None,
    on_timeout: Callable[[], Reply],
    files: list[tuple[OpenFile, int]],
) -> Reply:
    """Waits for the wanted events of files, for poll and select."""
    if timeout_ns == 0:  # no wait
        return world.wait(attempt, 0, on_timeout)
    return world.wait(
        attempt, timeout_ns, on_timeout, host_fd=_host_fd(files), sources=_sources(file for file, _ in files),
        only_time=not files,
    )  # fmt: skip


def _milliseconds(timeout: int) -> int | None:
    return None if timeout < 0 else timeout * 1_000_000


# --- poll -----------------------------------------------------------------------------------------


@oscall(7, effect=CallEffect.WAITS, partial="8,192 entries at the most", asked=asked.polling)
def poll(world: World, fds: Annotated[InOut, Buffer("nfds", 8)], nfds: UInt, timeout: Milliseconds) -> Reply:
    """poll(2): waits for events; the timeout is in milliseconds."""
    return _poll(world, fds, nfds, _milliseconds(timeout))


@oscall(271, effect=CallEffect.WAITS, partial=f"8,192 entries at the most; {MASKED}", asked=asked.polling)
def ppoll(
    world: World,
    thread: GuestThread,
    fds: Annotated[InOut, Buffer("nfds", 8)],
    nfds: UInt,
    timeout: Annotated[bytes | None, TimeStruct(16)],
    sigmask: Annotated[bytes | None, Struct(8)],
    sigsetsize: Size,
) -> Reply:
    """ppoll(2): poll with a timespec and under another signal mask."""
    ns = time_of(timeout)
    if sigmask is None:
        return _poll(world, fds, nfds, ns)
    check_set_size(sigsetsize)
    return wait_masked(world, thread, sigmask, lambda: _poll(world, fds, nfds, ns))


def _poll(world: World, fds: InOut, nfds: int, timeout_ns: int | None) -> Reply:
    address, data = fds
    if nfds > world.descriptors.open_files or len(data) != nfds * abi.POLLFD.size:
        raise OSError(errno.EINVAL, "more than there can be descriptors")
    world.steps.take(nfds, errno.ENOMEM)
    table = world.descriptors
    entries = [(fd, events, table.get(fd) if fd in table else None) for fd, events, _ in abi.POLLFD.iter_unpack(data)]
    files = [(file, events & 0xFFFF) for _, events, file in entries if file is not None]

    def answer(revents: list[int]) -> Reply:
        packed = (abi.POLLFD.pack(fd, events, got) for (fd, events, _), got in zip(entries, revents, strict=True))
        count = sum(1 for got in revents if got)
        return (count, (address, b"".join(packed))) if entries else 0

    def attempt() -> Reply | None:
        states = _states(world)
        revents = [_revents(states, fd, events & 0xFFFF, file) for fd, events, file in entries]
        return answer(revents) if any(revents) else None

    return _wait(world, attempt, timeout_ns, lambda: answer([0] * len(entries)), files)


def _revents(states: _States, fd: int, wanted: int, file: OpenFile | None) -> int:
    if fd < 0:
        return 0
    if file is None or file.references <= 0:  # closed during the wait
        return abi.POLLNVAL
    return states.among(file, wanted)


# --- select ---------------------------------------------------------------------------------------


@oscall(23, effect=CallEffect.WAITS, partial="the time that is left is not written back")
def select(
    world: World,
    nfds: Int,
    readfds: Annotated[OptionalInOut, Bits("nfds")],
    writefds: Annotated[OptionalInOut, Bits("nfds")],
    exceptfds: Annotated[OptionalInOut, Bits("nfds")],
    timeout: Annotated[bytes | None, TimeStruct(16)],
) -> Reply:
    """select(2): poll for sets; unlike on Linux, the timeout is not changed."""
    ns = None if timeout is None else abi.unpack_timeval(timeout)
    if timeout is not None and ns is None:
        raise OSError(errno.EINVAL, "not a time")
    return _select(world, nfds, (readfds, writefds, exceptfds), ns)


@oscall(270, effect=CallEffect.WAITS, partial=MASKED)
def pselect6(
    world: World,
    thread: GuestThread,
    nfds: Int,
    readfds: Annotated[OptionalInOut, Bits("nfds")],
    writefds: Annotated[OptionalInOut, Bits("nfds")],
    exceptfds: Annotated[OptionalInOut, Bits("nfds")],
    timeout: Annotated[bytes | None, TimeStruct(16)],
    sigmask: Annotated[bytes | None, Struct(8)],
) -> Reply:
    """pselect(2): select with a timespec and under another signal mask.

    The kernel reads that mask through a second pointer; the stub passes the pointer to the mask itself.
    """
    ns = time_of(timeout)

    def selected() -> Reply:
        return _select(world, nfds, (readfds, writefds, exceptfds), ns)

    return selected() if sigmask is None else wait_masked(world, thread, sigmask, selected)


def _members(data: bytes | None, nfds: int) -> list[int]:
    if data is None:
        return []
    bits = int.from_bytes(data, "little") & ((1 << nfds) - 1)
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found


def _select(world: World, nfds: int, sets: tuple[OptionalInOut, ...], timeout_ns: int | None) -> Reply:
    if nfds < 0:
        raise OSError(errno.EINVAL, "a negative count")
    nfds = min(nfds, _FD_SETSIZE)
    table = world.descriptors
    masks = (_SELECT_READ, _SELECT_WRITE, abi.POLLPRI)
    watched = [[(fd, table.get(fd)) for fd in _members(data, nfds)] for _, data in sets]
    files = [(file, mask) for files, mask in zip(watched, masks, strict=True) for _, file in files]

    def answer(found: list[list[int]]) -> Reply:
        writes: list[Write] = []
        for (address, data), fds in zip(sets, found, strict=True):
            if address and data:
                bits = sum(1 << fd for fd in fds)
                writes.append((address, bits.to_bytes(len(data), "little")))
        return sum(len(fds) for fds in found), *writes

    def attempt() -> Reply | None:
        states = _states(world)
        found = [[fd for fd, file in files if states[file] & mask] for files, mask in zip(watched, masks, strict=True)]
        return answer(found) if any(found) else None

    return _wait(world, attempt, timeout_ns, lambda: answer([[], [], []]), files)


# --- epoll ----------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class Interest:
    """A watch of one descriptor (epoll_ctl(2)), and what was reported about it."""

    fd: int
    file: OpenFile
    events: int
    data: int
    reported: int = 0
    edge: int | None = None
    disabled: bool = False


class EpollFile(OpenFile):
    """An epoll instance; its watches are keyed by descriptor and description, as in Linux.

    _watched: the descriptors by which each description is watched. _sources: what a wait for the instance depends
    on, each with the number of watched descriptions that have it. The instance's own node is one of them; it changes
    when the watches change.
    """

    __slots__ = ("_sources", "_watched", "_world", "watches")

    def __init__(self, world: World) -> None:
        super().__init__(AnonymousNode(world.anonymous), abi.O_RDWR)
        self._world = world
        self.watches: dict[tuple[int, int], Interest] = {}
        self._watched: dict[OpenFile, set[int]] = {}
        self._sources: dict[object, int] = {}
        self.begin()

    def begin(self) -> None:
        """Starts without watches."""
        self._sources[self.node] = 1

    def watch(self, key: tuple[int, int], watch: Interest) -> None:
        """Watches a description until it is closed. Raises OSError (ENOSPC)."""
        if key not in self.watches:
            if self._world.epoll_watches >= _WATCHES_MAX:
                raise OSError(errno.ENOSPC, "too many watches")
            self._world.epoll_watches += 1
            watch.file.on_close |= {self.forget}
        self.enter(watch)
        self._world.changes.tell(self.node)

    def enter(self, watch: Interest) -> None:
        """Enters a watch that has been counted already."""
        file = watch.file
        self.watches[watch.fd, id(file)] = watch
        if file not in self._watched:
            self._watched[file] = set()
            for source in file.sources():
                self._sources[source] = self._sources.get(source, 0) + 1
        self._watched[file].add(watch.fd)

    def unwatch(self, key: tuple[int, int]) -> None:
        """Stops watching a description by one of its descriptors."""
        file = self.watches.pop(key).file
        self._world.epoll_watches -= 1
        self._watched[file].discard(key[0])
        if not self._watched[file]:
            file.on_close -= {self.forget}
            self._leave(file)

    def _leave(self, file: OpenFile) -> None:
        del self._watched[file]
        for source in file.sources():
            self._sources[source] -= 1
            if not self._sources[source]:
                del self._sources[source]

    def forget(self, file: OpenFile) -> None:
        """Removes the watches of a description that was closed."""
        for fd in self._watched[file]:
            del self.watches[fd, id(file)]
            self._world.epoll_watches -= 1
        self._leave(file)

    def close(self) -> None:  # noqa: D102 - as in OpenFile, and so on below
        self._world.epoll_watches -= len(self.watches)
        for file in self._watched:
            file.on_close -= {self.forget}
        self.watches.clear()
        self._watched.clear()
        self._sources.clear()
        super().close()

    def put_last(self, watches: list[Interest]) -> None:
        """Moves reported watches to the end, so that those which did not fit are reported first the next time."""
        for watch in watches:
            key = (watch.fd, id(watch.file))
            self.watches[key] = self.watches.pop(key)

    def sources(self) -> Set[object]:
        """Returns a view, so that a wait also depends on descriptions that are watched later."""
        return self._sources.keys()

    def state(self, states: _States) -> int:
        """Returns the events for which the instance is ready, from the states of its descriptions."""
        return _IN if any(_fresh(watch, states, peek=True) for watch in self.watches.values()) else 0

    def readable(self) -> bool:  # noqa: D102
        return bool(self.state(_states(self._world)))

    def writable(self) -> bool:  # noqa: D102
        return False

    @property
    def pollable(self) -> bool:  # noqa: D102
        return True


def _fresh(watch: Interest, states: _States, *, peek: bool = False) -> int:
    """Returns the events to report now, and notes them as reported unless `peek` is true."""
    if watch.disabled:
        return 0
    events = states.among(watch.file, watch.events & 0xFFFF)
    new = events
    edge = watch.file.edge()
    if watch.events & abi.EPOLLET and edge == watch.edge:
        # Where a description does not know its edges, readability is reported again rather than never.
        new = events & ~(watch.reported if edge is not None else watch.reported & ~_IN)
    if not peek:
        watch.reported, watch.edge = events, edge
        if new and watch.events & abi.EPOLLONESHOT:
            watch.disabled = True
    return new


@oscall(213, effect=CallEffect.CREATES)
def epoll_create(world: World, size: Int) -> Reply:
    """epoll_create(2): an epoll descriptor; the size is a hint that has no effect."""
    if size <= 0:
        raise OSError(errno.EINVAL, "not a size")
    return epoll_create1(world, 0)


@oscall(291, effect=CallEffect.CREATES)
def epoll_create1(world: World, flags: Int) -> Reply:
    """epoll_create1(2): an epoll descriptor."""
    if flags & ~abi.EPOLL_CLOEXEC:
        raise OSError(errno.EINVAL, "unknown flags")
    return world.descriptors.install(EpollFile(world), bool(flags))


def _epoll(world: World, fd: int) -> EpollFile:
    file = world.descriptors.get(fd)
    if not isinstance(file, EpollFile):
        raise OSError(errno.EINVAL, "not an epoll descriptor")
    return file


@oscall(233, effect=CallEffect.NONE, partial="an epoll descriptor cannot be watched", asked=asked.watching)
def epoll_ctl(world: World, epfd: Fd, op: Int, fd: Fd, event: Annotated[bytes | None, Struct(12)]) -> Reply:
    """epoll_ctl(2): changes what an epoll descriptor watches."""
    target = world.descriptors.get(fd)
    instance = _epoll(world, epfd)
    if not target.pollable:
        raise OSError(errno.EPERM, "cannot be waited for")
    if isinstance(target, EpollFile):
        raise OSError(errno.EINVAL, "no epoll inside epoll")
    key = (fd, id(target))
    known = key in instance.watches
    if op not in (abi.EPOLL_CTL_ADD, abi.EPOLL_CTL_DEL, abi.EPOLL_CTL_MOD):
        raise OSError(errno.EINVAL, "unknown operation")
    if op == abi.EPOLL_CTL_ADD and known:
        raise OSError(errno.EEXIST, "watched already")
    if op != abi.EPOLL_CTL_ADD and not known:
        raise OSError(errno.ENOENT, "not watched")
    if op == abi.EPOLL_CTL_DEL:
        instance.unwatch(key)
        return 0
    if event is None:
        raise OSError(errno.EFAULT, "no event")
    events, data = abi.EPOLL_EVENT.unpack(event)
    if events & ~(0xFFFF | _EPOLL_FLAGS):
        raise OSError(errno.EINVAL, "unknown events")
    instance.watch(key, Interest(fd, target, events, data))
    return 0


def _epoll_wait(world: World, epfd: int, events: int, maximum: int, timeout_ns: int | None) -> Reply:
    instance = _epoll(world, epfd)
    if maximum <= 0:
        raise OSError(errno.EINVAL, "no room for events")
    room = min(maximum, _EVENTS_MAX)

    def attempt() -> Reply | None:
        found, states = [], _states(world)
        states.pop(instance, None)  # its own readiness changes with what it reports now
        for watch in instance.watches.values():
            new = _fresh(watch, states)
            if new:
                found.append((watch, abi.EPOLL_EVENT.pack(new, watch.data)))
                if len(found) == room:
                    break
        if len(found) == room:
            instance.put_last([watch for watch, _ in found])
        data = b"".join(event for _, event in found)
        return (len(found), (events, data)) if found else None

    if timeout_ns == 0:
        return world.wait(attempt, 0)
    files = [(watch.file, watch.events) for watch in instance.watches.values()]
    return world.wait(attempt, timeout_ns, host_fd=_host_fd(files), sources=_sources([instance]))


@oscall(232, effect=CallEffect.WAITS)
def epoll_wait(world: World, epfd: Fd, events: Addr, maxevents: Int, timeout: Milliseconds) -> Reply:
    """epoll_wait(2): waits for events; the timeout is in milliseconds."""
    return _epoll_wait(world, epfd, events, maxevents, _milliseconds(timeout))


@oscall(CALL_LOOK, form_of="epoll_wait")
def epoll_look(world: World, epfd: Fd, events: Addr, maxevents: Int) -> Reply:
    """epoll_wait(2) with a timeout of 0, from the stub in a box whose calls nobody observes (stub_statcache.c).

    Where nothing is ready, and only a call of the guest can change that, the answer says so.
    """
    reply = _epoll_wait(world, epfd, events, maxevents, 0)
    if reply == 0 and all(watch.file.is_within for watch in _epoll(world, epfd).watches.values()):
        return LASTS
    return reply


@oscall(281, effect=CallEffect.WAITS, partial=MASKED)
def epoll_pwait(
    world: World,
    thread: GuestThread,
    epfd: Fd,
    events: Addr,
    maxevents: Int,
    timeout: Milliseconds,
    sigmask: Annotated[bytes | None, Struct(8)],
    sigsetsize: Size,
) -> Reply:
    """epoll_pwait(2): epoll_wait under another signal mask."""
    ns = _milliseconds(timeout)
    return _masked(world, thread, sigmask, sigsetsize, lambda: _epoll_wait(world, epfd, events, maxevents, ns))


@oscall(441, effect=CallEffect.WAITS, partial=MASKED)
def epoll_pwait2(
    world: World,
    thread: GuestThread,
    epfd: Fd,
    events: Addr,
    maxevents: Int,
    timeout: Annotated[bytes | None, TimeStruct(16)],
    sigmask: Annotated[bytes | None, Struct(8)],
    sigsetsize: Size,
) -> Reply:
    """epoll_pwait2(2): epoll_pwait with a timespec."""
    ns = time_of(timeout)
    return _masked(world, thread, sigmask, sigsetsize, lambda: _epoll_wait(world, epfd, events, maxevents, ns))


def _masked(world: World, thread: GuestThread, mask: bytes | None, size: int, call: Callable[[], Reply]) -> Reply:
    if mask is None:
        return call()
    check_set_size(size)
    return wait_masked(world, thread, mask, call)
