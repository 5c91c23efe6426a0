"""The arguments that a call reads only when another argument says so.

Each function here belongs to the row of a call (`@oscall(..., asked=...)`). asked: the arguments of a request without
addresses. arguments: all of them. It returns those parts of `asked` that the call reads, by which a record is compared
with another run (record/calls.py).
"""

import struct
from typing import Any, TypeAlias

from proxybox.controller import abi

Arguments: TypeAlias = dict[str, Any]

_SET_NAME, _SET_NO_NEW_PRIVS, _SET_DUMPABLE = 15, 38, 4
_OP_DEL = 2
_UTIMES = (abi.UTIME_NOW, abi.UTIME_OMIT)
_WITH_NUMBER = (abi.F_DUPFD, abi.F_DUPFD_CLOEXEC, abi.F_SETFD, abi.F_SETFL, abi.F_SETOWN, abi.F_SETPIPE_SZ)
_WITH_LOCK = (abi.F_GETLK, abi.F_SETLK, abi.F_SETLKW, abi.F_OFD_GETLK, abi.F_OFD_SETLK, abi.F_OFD_SETLKW)
#: Bytes that a request of ioctl(2) reads.
_READ = {
    abi.FIONBIO: 4, abi.FIOASYNC: 4, abi.TCSETS: 36, abi.TCSETSW: 36, abi.TCSETSF: 36, abi.TCSETS2: 44,
    abi.TCSETSW2: 44, abi.TCSETSF2: 44, abi.TIOCSWINSZ: 8,
}  # fmt: skip


def opening(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the mode where a file may be created."""
    creates = asked["flags"] & (abi.O_CREAT | abi.O_TMPFILE & ~abi.O_DIRECTORY)
    return asked if creates else {**asked, "mode": 0}


def opening_whole(asked: Arguments, arguments: Arguments) -> Arguments:
    """As `opening`, with the descriptor that the stub has closed meanwhile."""
    asked = dict(asked)
    if "room" in asked:  # earlier stubs put the descriptor to be closed, plus one, into the upper half of the mode
        del asked["room"]
        asked["mode"], asked["closed"] = asked["mode"] & 0xFFFFFFFF, (asked["mode"] >> 32) - 1
    return opening(asked, arguments)


def controlling(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the argument of fcntl(2) as the command reads it."""
    address, data = arguments["arg"]
    command, compared = asked["cmd"], None
    if command in _WITH_NUMBER:
        compared = address & 0xFFFFFFFF
    elif command in _WITH_LOCK and data is not None:
        kind, whence, _, start, length, _, _ = abi.FLOCK.unpack(data)
        compared = kind, whence, start, length
    return {**asked, "arg": compared}


def to_device(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the bytes that the request of ioctl(2) reads."""
    _, data = arguments["arg"]
    return {**asked, "arg": None if data is None else data[: _READ.get(asked["request"], 0)]}


def process_control(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the argument of prctl(2) as the option reads it."""
    address, data = arguments["arg"]
    compared = None
    if asked["option"] == _SET_NAME and data is not None:
        compared = data[:15].partition(b"\0")[0]
    elif asked["option"] in (_SET_NO_NEW_PRIVS, _SET_DUMPABLE):
        compared = address
    return {**asked, "arg": compared}


def polling(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the descriptors and the events that are waited for, without the fields for the answer."""
    data = asked["fds"]
    if data is None:
        return asked
    return {**asked, "fds": tuple((fd, events) for fd, events, _ in struct.iter_unpack("<iHH", data[: len(data) & ~7]))}


def watching(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the event, unless the descriptor is to be removed."""
    event = asked["event"]
    return {**asked, "event": None if event is None or asked["op"] == _OP_DEL else event[:8]}


def waiting(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the bits where the operation has any."""
    is_for_bits = arguments["op"] & abi.FUTEX_CMD_MASK == abi.FUTEX_WAIT_BITSET
    return {**asked, "uaddr2": None, "value3": arguments["value3"] if is_for_bits else None}


def acting(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps whether there is a handler, but not its address."""
    if asked["act"] is None:
        return asked
    handler, flags, _, mask = abi.SIGACTION.unpack(asked["act"])
    return {**asked, "act": (min(handler, 2), flags, mask)}


def stacking(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the flags and the size of the stack, but not its address."""
    return {**asked, "stack": None if asked["stack"] is None else asked["stack"][8:]}


def queueing(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the code and the value."""
    info = asked["info"]
    return {**asked, "info": None if info is None else (info[8:12], info[24:32])}


def timing(asked: Arguments, arguments: Arguments) -> Arguments:
    """Keeps the times, without the seconds of UTIME_NOW and UTIME_OMIT."""
    if asked["times"] is None:
        return asked
    pairs = struct.iter_unpack("<qq", asked["times"])
    return {**asked, "times": tuple((0 if ns in _UTIMES else seconds, ns) for seconds, ns in pairs)}
