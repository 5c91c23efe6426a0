"""Terminals."""

import struct
from collections.abc import Generator
from typing import Any

from proxybox.controller import abi
from proxybox.controller.guests.translated.asking import NOWHERE, FunctionResult, SideCall, Steps, failed, written
from proxybox.controller.guests.translated.libc import Libc, function
from proxybox.controller.header import MAX_PATH

#: The memory that an ioctl(2) made here reads: the guest has passed none.
_NOTHING = bytes(44)


def _terminal(fd: int) -> Generator[Any, Any, int]:
    value, _writes = yield SideCall("ioctl", (fd, abi.TCGETS, NOWHERE), (_NOTHING,))
    return int(value)


@function("isatty(i)i")
def isatty(_: Libc, fd: int) -> Steps:
    value = yield from _terminal(fd)
    return FunctionResult(0, -value) if failed(value) else FunctionResult(1)


@function("ttyname(i)p")
def ttyname(libc: Libc, fd: int) -> Steps:
    value = yield from _terminal(fd)
    if failed(value):
        return FunctionResult(0, -value)
    link = b"/proc/self/fd/%d" % fd  # glibc reads this link, too
    value, writes = yield SideCall("readlink", (NOWHERE, NOWHERE, MAX_PATH), (link,))
    return (
        FunctionResult(0, -value)
        if failed(value)
        else FunctionResult((yield from libc.string(b"=ttyname", written(writes))))
    )


@function("ctermid(p)p")
def ctermid(libc: Libc, at: int) -> Steps:
    if at:
        return FunctionResult(at, 0, ((at, b"/dev/tty\0"),))
    return FunctionResult((yield from libc.string(b"=ctermid", b"/dev/tty")))


@function("tcgetpgrp(i)i")
def tcgetpgrp(_: Libc, fd: int) -> Steps:
    value, writes = yield SideCall("ioctl", (fd, abi.TIOCGPGRP, NOWHERE), (_NOTHING,))
    if failed(value):
        return FunctionResult(-1, -value)
    return FunctionResult(struct.unpack("<i", written(writes).ljust(4, b"\0")[:4])[0])


@function("tcsetpgrp(ii)i")
def tcsetpgrp(_: Libc, fd: int, group: int) -> Steps:
    packed = struct.pack("<i40x", max(-1, min(group, 2**31 - 1)))
    value, _writes = yield SideCall("ioctl", (fd, abi.TIOCSPGRP, NOWHERE), (packed,))
    return FunctionResult(-1, -value) if failed(value) else FunctionResult(0)
