"""Makes visible what a guest stores into a shared mapping of a file, before the file is read, mapped or written.

Only the stub knows what was stored. So a call on a file with writable shared mappings is answered WRITE_BACK, once
for each mapping. The stub writes this mapping back, and makes the call again.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Concatenate, ParamSpec, cast

from proxybox.controller import abi
from proxybox.controller.effects import Reply
from proxybox.controller.header import WRITE_BACK
from proxybox.controller.world.state import GuestThread, World

if TYPE_CHECKING:
    from proxybox.controller.vfs.openfiles import OpenFile


_Arguments = ParamSpec("_Arguments")
_Handler = Callable[Concatenate[World, GuestThread, _Arguments], Reply]


def identity(file: "OpenFile") -> bytes:
    """Returns device and inode, which are the same for all descriptions of a file."""
    return file.stat_bytes()[:16]


def forget(world: World, number: int) -> None:
    """Removes a closed mapping from the world."""
    for key, numbers in list(world.stored.items()):
        numbers.discard(number)
        if not numbers:
            del world.stored[key]


def after_stores(*places: int) -> Callable[[_Handler[_Arguments]], _Handler[_Arguments]]:
    """Decorates handlers of calls on files, so that stores into mappings are written back first.

    places: the positions of the arguments that are descriptors.
    """

    def decorate(handler: _Handler[_Arguments]) -> _Handler[_Arguments]:
        @functools.wraps(handler)
        def call(world: World, thread: GuestThread, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> Reply:
            if world.stored:
                number = _next(world, thread, [cast(int, args[place]) for place in places])
                if number is not None:
                    return WRITE_BACK - number
            return handler(world, thread, *args, **kwargs)

        return cast(_Handler[_Arguments], call)

    return decorate


def _next(world: World, thread: GuestThread, fds: list[int]) -> int | None:
    """Returns the next mapping of these files to write back, or None when all are written back."""
    done, is_mapped = thread.written_back, False
    for fd in fds:
        if fd not in world.descriptors:
            continue  # a mapping's number, or no descriptor
        file = world.descriptors.get(fd)
        numbers = world.stored.get(identity(file)) if file.node.kind == abi.S_IFREG else None
        if not numbers:
            continue
        if left := numbers - done:
            number = min(left)
            done.add(number)
            return number
        is_mapped = True
    if is_mapped:
        done.clear()
    return None
