"""Reading directories."""

import errno
from typing import Final

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.roles import Addr, Fd, Path, UInt
from proxybox.controller.world.state import World

_OLD: Final = "use getdents64"
_ROOT: Final = "the root is the policy's"


@oscall(217, effect=CallEffect.LISTS)
def getdents64(world: World, fd: Fd, dirp: Addr, count: UInt) -> Reply:
    """getdents64(2): the next entries of an open directory."""
    data = world.descriptors.get(fd).getdents(min(count, MAX_PAYLOAD))
    return (len(data), (dirp, data)) if data else 0


@oscall(78, effect=CallEffect.LISTS, refused=_OLD)
def getdents(world: World, fd: Fd, dirp: Addr, count: UInt) -> Reply:
    """getdents(2): not offered; no C library of today uses this old form."""
    world.descriptors.get(fd)
    raise OSError(errno.ENOSYS, _OLD)


@oscall(161, effect=CallEffect.SYSTEM, refused=_ROOT)
def chroot(world: World, path: Path) -> Reply:
    """chroot(2): refused; the root is the policy's."""
    world.tree.resolve(path, world.cwd, world.credentials)
    raise Denied(errno.EPERM, _ROOT)
