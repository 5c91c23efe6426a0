"""Pipes and event counters (eventfd(2))."""

import errno
import struct
from collections.abc import Callable

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.roles import Addr, Int, OpenFlags, UInt
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.vfs.streams import EventFile
from proxybox.controller.vfs.streams import pipe as make_pipe
from proxybox.controller.world.state import World


def install_pair(
    world: World, address: int, flags: int, make: Callable[[Superblock, int], tuple[OpenFile, OpenFile]]
) -> Reply:
    """Installs two new descriptions and stores their numbers at `address`. With EMFILE, it installs none."""
    world.descriptors.room_for(2)
    ends = make(world.anonymous, flags & abi.O_NONBLOCK)
    one, other = (world.descriptors.install(end, bool(flags & abi.O_CLOEXEC)) for end in ends)
    return 0, (address, struct.pack("<ii", one, other))


@oscall(22, effect=CallEffect.CREATES)
def pipe(world: World, fds: Addr) -> Reply:
    """pipe(2): a reading and a writing end."""
    return pipe2(world, fds, 0)


@oscall(293, effect=CallEffect.CREATES, partial="without O_DIRECT")
def pipe2(world: World, fds: Addr, flags: OpenFlags) -> Reply:
    """pipe2(2): pipe with O_CLOEXEC and O_NONBLOCK; packet mode (O_DIRECT) is not offered."""
    if flags & ~(abi.O_CLOEXEC | abi.O_NONBLOCK):
        raise OSError(errno.EINVAL, "unknown flags")
    return install_pair(world, fds, flags, make_pipe)


@oscall(284, effect=CallEffect.CREATES)
def eventfd(world: World, count: UInt) -> Reply:
    """eventfd(2): a counter."""
    return eventfd2(world, count, 0)


@oscall(290, effect=CallEffect.CREATES)
def eventfd2(world: World, count: UInt, flags: Int) -> Reply:
    """eventfd2(2): eventfd with O_CLOEXEC, O_NONBLOCK and EFD_SEMAPHORE."""
    if flags & ~(abi.O_CLOEXEC | abi.O_NONBLOCK | abi.EFD_SEMAPHORE):
        raise OSError(errno.EINVAL, "unknown flags")
    semaphore = bool(flags & abi.EFD_SEMAPHORE)
    file = EventFile(world.anonymous, count, flags & abi.O_NONBLOCK, semaphore=semaphore)
    return world.descriptors.install(file, bool(flags & abi.O_CLOEXEC))
