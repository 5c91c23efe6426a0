"""Memory: mappings of virtual files, hints, and the timed futex waits.

The guest gets private anonymous memory from the kernel, without the controller. A mapping of a file is approved with a
hidden descriptor. The stub reads it to fill the mapping, and writes to it for MAP_SHARED. Before a call on a file with
a writable shared mapping, the stub writes back what was stored there (oscalls/stores.py). Files that never change,
mostly shared libraries, are mapped by the guest itself, so that all boxes share their pages.
"""

import errno
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.header import A_FILE, CALL_MAP, CALL_ROOM, CODE, FOR_USE, LIBRARY, RESERVED
from proxybox.controller.oscalls import asked
from proxybox.controller.oscalls.clock import timeout
from proxybox.controller.oscalls.stores import after_stores, identity
from proxybox.controller.roles import (
    Addr,
    Fd,
    Int,
    MapFlags,
    Protection,
    RemapFlags,
    Size,
    SyncFlags,
    TimeStruct,
    UInt,
    ULong,
)
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.world.clock import TimedWait
from proxybox.controller.world.state import HIDDEN, GuestThread, World

if TYPE_CHECKING:
    from proxybox.controller.world.futexes import Futexes

MAPPINGS_MAX: Final = 4096
_MAP_KNOWN: Final = (
    abi.MAP_TYPE
    | abi.MAP_FIXED
    | abi.MAP_ANONYMOUS
    | abi.MAP_DENYWRITE
    | abi.MAP_EXECUTABLE
    | abi.MAP_NORESERVE
    | abi.MAP_POPULATE
    | abi.MAP_NONBLOCK
    | abi.MAP_STACK
    | abi.MAP_FIXED_NOREPLACE
)
_HINTS: Final = frozenset({0, 1, 2, 3, 4, 8, 14, 15, 16, 17})
_SLICE_FIRST_NS: Final = 50_000
_SLICE_LAST_NS: Final = 2_000_000
_SAME_WAIT_NS: Final = 100_000_000
"""A call that comes later than this after a slice counts as a new wait."""
FIRST_SLICE: Final = 2
NEXT_SLICE: Final = 1
"""What the stub may put into the unused fifth argument of a sliced wait; with 0, the controller guesses."""


@oscall(9, effect=CallEffect.MAPS | CallEffect.MEMORY, partial="without locked, huge and growing mappings")
@after_stores(4)
def mmap(
    world: World,
    thread: GuestThread,
    addr: Addr,
    length: Size,
    prot: Protection,
    flags: MapFlags,
    fd: Fd,
    offset: ULong,
) -> Reply:  # fmt: skip
    """mmap(2): a hidden descriptor for a file that may be mapped in this way; 0 for anonymous memory."""
    file = _mapped(world, length, prot, flags, fd, offset)
    if file is None:
        return 0
    if len(world.mappings) >= MAPPINGS_MAX:
        raise OSError(errno.ENOMEM, "too many mappings")
    if len(world.mappings) + len(world.descriptors) >= world.descriptors.open_files:
        raise OSError(errno.ENFILE, "each mapping holds a file open, and too many are")
    number = HIDDEN
    while number in world.mappings:
        number += 1
    file.hold()
    world.mappings[number] = file
    if flags & abi.MAP_TYPE != abi.MAP_PRIVATE and prot & abi.PROT_WRITE:
        world.stored.setdefault(identity(file), set()).add(number)
    return number


@oscall(CALL_MAP, form_of="mmap")
def mmap_library(
    world: World,
    thread: GuestThread,
    addr: Addr,
    length: Size,
    prot: Protection,
    flags: MapFlags,
    fd: Fd,
    offset: ULong,
) -> Reply:  # fmt: skip
    """mmap(2) from a stub that can map files by itself: LIBRARY tells it to do so (stub_memory.c).

    The guest's next mapping of this thread's library descriptor is then allowed, and finds the file there.
    """
    file = _mapped(world, length, prot, flags, fd, offset)
    if file is not None and flags & abi.MAP_TYPE == abi.MAP_PRIVATE:
        host_fd = file.node.host_descriptor()
        if host_fd is not None:
            if world.grant_library(thread.channel, host_fd):
                return LIBRARY
            os.close(host_fd)
    return mmap(world, thread, addr, length, prot, flags, fd, offset)


def _mapped(world: World, length: int, prot: int, flags: int, fd: int, offset: int) -> OpenFile | None:
    """Returns the file that may be mapped in this way; None for anonymous memory. Raises OSError."""
    kind = flags & abi.MAP_TYPE
    if kind not in (abi.MAP_PRIVATE, abi.MAP_SHARED, abi.MAP_SHARED_VALIDATE):
        raise OSError(errno.EINVAL, "neither shared nor private")
    if flags & ~_MAP_KNOWN:
        code = errno.EOPNOTSUPP if kind == abi.MAP_SHARED_VALIDATE else errno.EINVAL
        raise OSError(code, "locked, huge, growing or unknown mappings are not offered")
    if length == 0 or offset % abi.PAGE_SIZE or prot & ~7:
        raise OSError(errno.EINVAL, "no length, or an offset inside a page")
    if length >= 1 << 47:
        raise OSError(errno.ENOMEM, "larger than the address space")
    if flags & abi.MAP_ANONYMOUS:
        return None
    if offset + length >= 1 << 63:
        raise OSError(errno.EOVERFLOW, "past the largest file")
    file = world.descriptors.get(fd)
    if file.is_path_only:
        raise OSError(errno.EBADF, "opened with O_PATH")
    shared = kind != abi.MAP_PRIVATE
    if not file.may_read or (shared and prot & abi.PROT_WRITE and not file.may_write):
        raise OSError(errno.EACCES, "not open for that")
    if file.node.kind != abi.S_IFREG:
        raise OSError(errno.ENODEV, "not a regular file")
    return file


@oscall(CALL_ROOM, "room", effect=CallEffect.NONE, counted=False)
def room(world: World, size: Size, kind: UInt) -> Reply:
    """A call of the stub, not of Linux: an allocation of `size` bytes has failed for lack of address space.

    The answer is 0 where the stub should try again (process/memory.py).
    """
    if kind not in (FOR_USE, RESERVED, A_FILE, CODE):
        raise OSError(errno.EINVAL, "no such kind")
    if not world.make_room(size, kind):
        raise OSError(errno.ENOMEM, "limits.memory")
    return 0


@oscall(11, effect=CallEffect.MEMORY)
def munmap(world: World, addr: Addr, length: Size) -> Reply:
    """munmap(2): the stub does the work; only what the kernel would refuse is refused here."""
    if addr % abi.PAGE_SIZE or length == 0:
        raise OSError(errno.EINVAL, "not whole pages")
    return 0


@oscall(25, effect=CallEffect.MAPS | CallEffect.MEMORY, partial="MREMAP_DONTUNMAP is not offered")
def mremap(world: World, addr: Addr, old_size: Size, new_size: Size, flags: RemapFlags, new_addr: Addr) -> Reply:
    """mremap(2): the stub does the work; only what the kernel would refuse is refused here."""
    known = abi.MREMAP_MAYMOVE | abi.MREMAP_FIXED
    if flags & ~known or (flags & abi.MREMAP_FIXED and not flags & abi.MREMAP_MAYMOVE):
        raise OSError(errno.EINVAL, "unknown flags")
    if addr % abi.PAGE_SIZE or new_size == 0:
        raise OSError(errno.EINVAL, "not whole pages")
    return 0


@oscall(26, effect=CallEffect.MEMORY)
def msync(world: World, addr: Addr, length: Size, flags: SyncFlags) -> Reply:
    """msync(2): the stub writes back; only what the kernel would refuse is refused here."""
    both = abi.MS_ASYNC | abi.MS_SYNC
    if flags & ~(both | abi.MS_INVALIDATE) or flags & both == both or addr % abi.PAGE_SIZE:
        raise OSError(errno.EINVAL, "unknown flags, or an address inside a page")
    return 0


@oscall(28, effect=CallEffect.MEMORY, partial="hints change nothing, but for DONTNEED and FREE")
def madvise(world: World, addr: Addr, length: Size, advice: Int) -> Reply:
    """madvise(2): hints change nothing. DONTNEED is native in the guest, and FREE is DONTNEED there."""
    if addr % abi.PAGE_SIZE or advice not in _HINTS:
        raise OSError(errno.EINVAL, "not advice that is taken here")
    return 0


# --- futex ----------------------------------------------------------------------------------------


@attrs.define(slots=True, eq=False)
class Slice:
    """A wait that the stub makes in slices; between the slices it looks at the futex word."""

    key: tuple[int, int, int, bytes | None]
    wait: TimedWait | None
    calls: int
    count: int = 0
    ends_ns: int = 0


@oscall(
    202, effect=CallEffect.WAITS | CallEffect.LOCKS, counted=False, partial="WAIT and WAKE only", asked=asked.waiting
)
def futex(
    world: World,
    thread: GuestThread,
    uaddr: Addr,
    op: Int,
    value: UInt,
    time: Annotated[bytes | None, TimeStruct(16)],
    uaddr2: Addr,
    value3: UInt,
) -> Reply:
    """futex(2): one slice of a timed or shared wait.

    0 tells the stub to look at the word and to call again with the same arguments. The box's clock causes -ETIMEDOUT, a
    signal -EINTR. Private wakes and private waits without a timeout are native, and so not counted. In guests of which
    one thread runs at a time (world/futexes.py), no call is native or divided into slices.
    """
    command = op & abi.FUTEX_CMD_MASK
    if world.futexes is not None:
        return _in_turn(world, world.futexes, thread, uaddr, op, value, time, value3)
    if command in (abi.FUTEX_WAKE, abi.FUTEX_WAKE_BITSET):
        return 0  # a thread that waits for a shared word soon looks at it again
    if command not in (abi.FUTEX_WAIT, abi.FUTEX_WAIT_BITSET):
        raise OSError(errno.ENOSYS, "only WAIT and WAKE")
    if command == abi.FUTEX_WAIT_BITSET and value3 == 0:
        raise OSError(errno.EINVAL, "waits for no bit")
    key = (uaddr, op, value, time)
    piece = _continued(world, thread, key, uaddr2) or _begun(world, thread, key)
    wait = piece.wait
    if wait is not None and wait.deadline_ns is None:
        thread.slice = None
        if world.jump_to_alarm(wait.ends_ns):
            return -errno.EINTR
        world.clock.finish(wait)
        return -errno.ETIMEDOUT
    return _slice(world, thread, piece)


def _in_turn(
    world: World, futexes: "Futexes", thread: GuestThread,
    uaddr: int, op: int, value: int, time: bytes | None, value3: int,
) -> Reply:  # fmt: skip
    """Answers a wake, or a wait whose word the stub has just compared."""
    command = op & abi.FUTEX_CMD_MASK
    bits = value3 if command in (abi.FUTEX_WAIT_BITSET, abi.FUTEX_WAKE_BITSET) else abi.FUTEX_BITSET_MATCH_ANY
    if command in (abi.FUTEX_WAKE, abi.FUTEX_WAKE_BITSET):
        return futexes.wake(uaddr, value, bits)
    if command not in (abi.FUTEX_WAIT, abi.FUTEX_WAIT_BITSET):
        raise OSError(errno.ENOSYS, "only WAIT and WAKE")
    if not bits:
        raise OSError(errno.EINVAL, "waits for no bit")
    wait = _timed(world, op, time)
    ends_ns = None if wait is None else wait.deadline_ns

    def late() -> Reply:
        if wait is not None:
            world.clock.finish(wait)
        return -errno.ETIMEDOUT

    if wait is not None and ends_ns is None:
        return -errno.EINTR if world.jump_to_alarm(wait.ends_ns) else late()
    if ends_ns is not None and ends_ns <= world.clock.host_ns():
        return late()
    waiter = futexes.wait(thread.channel, uaddr, bits, is_shared=not op & abi.FUTEX_PRIVATE_FLAG)
    if waiter is None:
        return 0

    def leaving(answer: Callable[[], Reply]) -> Callable[[], Reply]:
        def leave() -> Reply:
            if waiter.is_woken:  # as in the kernel: a woken thread returns 0, because otherwise that wake would be lost
                return 0
            futexes.leave(uaddr, waiter)
            return answer()

        return leave

    return Blocked(
        lambda: 0 if waiter.is_woken else None, ends_ns, leaving(late), leaving(lambda: -errno.EINTR)
    )  # fmt: skip


def _timed(world: World, op: int, time: bytes | None) -> TimedWait | None:
    """Returns the wait until the timeout; None where there is none."""
    ns = timeout(time)
    if ns is None:
        return None
    clock_id = abi.CLOCK_REALTIME if op & abi.FUTEX_CLOCK_REALTIME else abi.CLOCK_MONOTONIC
    absolute = op & abi.FUTEX_CMD_MASK == abi.FUTEX_WAIT_BITSET
    return world.clock.wait(clock_id, ns, absolute=absolute, skip=len(world.threads) <= 1)


def _continued(world: World, thread: GuestThread, key: tuple[int, int, int, bytes | None], mark: int) -> Slice | None:
    """Returns the wait that this call continues; None for a new wait."""
    piece = thread.slice
    if not isinstance(piece, Slice) or piece.key != key or mark == FIRST_SLICE:
        return None
    if mark != NEXT_SLICE:
        pause = world.clock.host_ns() - piece.ends_ns
        if thread.calls - piece.calls > 1 or pause > _SAME_WAIT_NS:
            return None
    piece.calls = thread.calls
    return piece


def _begun(world: World, thread: GuestThread, key: tuple[int, int, int, bytes | None]) -> Slice:
    _, op, _, time = key
    thread.slice = piece = Slice(key, _timed(world, op, time), thread.calls)
    return piece


def _slice(world: World, thread: GuestThread, piece: Slice) -> Reply:
    """Returns a wait for one slice of host time. The first slices of a wait are short, later ones longer."""
    now = world.clock.host_ns()
    deadline = now + min(_SLICE_FIRST_NS << min(piece.count, 6), _SLICE_LAST_NS)
    piece.count += 1
    end = None if piece.wait is None else piece.wait.deadline_ns
    if end is not None:
        deadline = min(deadline, end)
    piece.ends_ns = deadline

    def over() -> Reply:
        if piece.wait is None or end is None or world.clock.host_ns() < end:
            return 0
        thread.slice = None
        world.clock.finish(piece.wait)
        return -errno.ETIMEDOUT

    return Blocked(lambda: None, deadline, over)
