"""OS calls, printed as strace(1) would print them.

Rules: data of the guest in arguments is printed as ASCII without control characters, on one line, so that a trace is
safe in a terminal. The meaning of an argument is declared in the row of its call; names of flags come from
proxybox.controller.abi.
"""

import errno
import functools
import os
import re
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxybox.controller import abi
from proxybox.controller.audit import OSCall
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.header import SECONDS, TIME_OF_DAY
from proxybox.controller.roles import Meaning

SHOWN_BYTES: Final = 32
_UNPRINTABLE: Final = re.compile(rb'[^ -~]|["\\]')
_ESCAPES: Final = {b'"': '\\"', b"\\": "\\\\", b"\n": "\\n", b"\t": "\\t", b"\r": "\\r"}

CLOCKS: Final = (
    "CLOCK_REALTIME",
    "CLOCK_MONOTONIC",
    "CLOCK_PROCESS_CPUTIME_ID",
    "CLOCK_THREAD_CPUTIME_ID",
    "CLOCK_MONOTONIC_RAW",
    "CLOCK_REALTIME_COARSE",
    "CLOCK_MONOTONIC_COARSE",
    "CLOCK_BOOTTIME",
    "CLOCK_REALTIME_ALARM",
    "CLOCK_BOOTTIME_ALARM",
)
_READINGS: Final = {TIME_OF_DAY: "gettimeofday", SECONDS: "time", **dict(enumerate(CLOCKS))}


def clock_read(number: int) -> str:
    """Returns the name of the clock of a recorded reading."""
    return _READINGS.get(number, f"clock {number}")


def constants(prefix: str, *without: str) -> dict[int, str]:
    """Returns the constants of abi whose names begin with `prefix`, by value."""
    return {
        value: name
        for name, value in vars(abi).items()
        if name.startswith(prefix) and isinstance(value, int) and name not in without
    }


def quoted(data: bytes, shown: int | None = None) -> str:
    """Returns a byte string in quotes; of a long one, only the first `shown` bytes, and dots."""
    cut = data if shown is None else data[:shown]
    text = _UNPRINTABLE.sub(_escape, cut).decode("ascii")
    return f'"{text}"' + ("..." if len(cut) < len(data) else "")


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match.group()
    return _ESCAPES.get(byte, f"\\x{byte[0]:02x}").encode()


def flags_of(names: Mapping[int, str], none: str = "0") -> Callable[[int], str]:
    """Returns a printer for a set of bits; bits without a name are printed in hexadecimal."""
    widest_first = sorted((bits for bits in names if bits > 0), key=int.bit_count, reverse=True)

    def show(value: int) -> str:
        found, left = [], value
        for bits in widest_first:
            if left & bits == bits:
                found.append(names[bits])
                left &= ~bits
        if left:
            found.append(hex(left))
        return "|".join(found) or none

    return show


def choice_of(names: Mapping[int, str]) -> Callable[[int], str]:
    """Returns a printer for one of several values."""
    return lambda value: names.get(value, str(value))


def _open_flags() -> Callable[[int], str]:
    access = {0: "O_RDONLY", 1: "O_WRONLY", 2: "O_RDWR", 3: "O_ACCMODE"}
    names = constants("O_", "O_ACCMODE", "O_RDONLY", "O_WRONLY", "O_RDWR", "O_KNOWN")
    rest = flags_of(names, "")
    return lambda value: "|".join(filter(None, (access[value & 3], rest(value & ~3))))


def _map_flags() -> Callable[[int], str]:
    kinds = {1: "MAP_SHARED", 2: "MAP_PRIVATE", 3: "MAP_SHARED_VALIDATE"}
    rest = flags_of(constants("MAP_", "MAP_TYPE", *kinds.values()), "")
    return lambda value: "|".join(filter(None, (kinds.get(value & 0xF, str(value & 0xF)), rest(value & ~0xF))))


def _octal(value: int) -> str:
    return f"0{value:o}" if value else "0"


def _signal(value: int) -> str:
    try:
        return signal.Signals(value).name
    except ValueError:
        return str(value)


def _clock(value: int) -> str:
    return CLOCKS[value] if 0 <= value < len(CLOCKS) else str(value)


def _address(value: int) -> str:
    return hex(value) if value else "NULL"


def _socket_kind(value: int) -> str:
    kinds = {int(kind): kind.name for kind in socket.SocketKind if kind < 16}
    flags = flags_of({0o4000: "SOCK_NONBLOCK", 0o2000000: "SOCK_CLOEXEC"}, "")
    kind = kinds.get(value & 0xF, str(value & 0xF))
    return "|".join(filter(None, (kind, flags(value & ~0xF))))


def _dirfd(value: int) -> str:
    return "AT_FDCWD" if value == abi.AT_FDCWD else str(value)


#: The functions that print an argument, by its meaning in the row of its call.
PRINTERS: Final[Mapping[Meaning, Callable[[int], str]]] = {
    Meaning.NOTHING: str,
    Meaning.ADDRESS: _address,
    Meaning.DESCRIPTOR: str,
    Meaning.DIRECTORY: _dirfd,
    Meaning.PATH: _address,  # a path that could not be read is shown as its address
    Meaning.TEXT: _address,
    Meaning.TIME: str,
    Meaning.MODE: _octal,
    Meaning.OPEN_FLAGS: _open_flags(),
    Meaning.AT_FLAGS: flags_of(constants("AT_", "AT_FDCWD", "AT_STATX_SYNC_TYPE", "AT_EACCESS")),
    Meaning.UNLINK_FLAGS: flags_of({0x200: "AT_REMOVEDIR"}),
    Meaning.RENAME_FLAGS: flags_of(constants("RENAME_")),
    Meaning.CLOSE_FLAGS: flags_of(constants("CLOSE_RANGE_")),
    Meaning.ACCESS: flags_of({4: "R_OK", 2: "W_OK", 1: "X_OK"}, "F_OK"),
    Meaning.PROTECTION: flags_of(constants("PROT_"), "PROT_NONE"),
    Meaning.MAP_FLAGS: _map_flags(),
    Meaning.REMAP_FLAGS: flags_of(constants("MREMAP_")),
    Meaning.SYNC_FLAGS: flags_of(constants("MS_")),
    Meaning.WHENCE: choice_of(constants("SEEK_")),
    Meaning.COMMAND: choice_of(constants("F_", "F_OK", "F_RDLCK", "F_WRLCK", "F_UNLCK")),
    Meaning.REQUEST: choice_of({**constants("TC"), **constants("TIOC"), **constants("FIO")}),
    Meaning.LOCK: flags_of(constants("LOCK_")),
    Meaning.CLOCK_ID: _clock,
    Meaning.SIGNAL: _signal,
    Meaning.FAMILY: choice_of({int(name): name.name for name in socket.AddressFamily}),
    Meaning.SOCKET_KIND: _socket_kind,
}
_WHOLE: Final = (Meaning.PATH, Meaning.TEXT)


# The rows are imported when a call is printed: then a box has run, and has imported them already.


@functools.lru_cache(4096)
def _meaning(call: str, argument: str) -> Meaning:
    from proxybox.controller.oscalls.rows import meaning_of

    return meaning_of(call, argument)


@functools.cache
def _with_address() -> frozenset[str]:
    """Returns the calls whose result is an address."""
    from proxybox.controller.oscalls.rows import names_of

    return names_of(CallEffect.MAPS)


def argument(call: str, name: str, value: Any) -> str:
    """Returns one argument in strace's notation."""
    if value is None:
        return "NULL"
    meaning = _meaning(call, name)
    if isinstance(value, bytes):
        return quoted(value, None if meaning in _WHOLE else SHOWN_BYTES)
    if not isinstance(value, int):
        return ascii(value)
    return _address(value) if meaning is Meaning.NOTHING and value > 1 << 32 else PRINTERS[meaning](value)


def outcome(call: OSCall) -> str:
    """Returns the result of a call in strace's notation: `= 3`, `= -1 ENOENT (No such file ...)`."""
    if call.result is None:
        return "= ?"
    if call.errno is not None:
        number = getattr(errno, call.errno, -call.result)
        return f"= -1 {call.errno} ({os.strerror(number)})"
    return f"= {_address(call.result) if call.name in _with_address() else call.result}"


def arguments(call: OSCall) -> str:
    """Returns all arguments, for the text between the parentheses."""
    return ", ".join(argument(call.name, name, value) for name, value in call.arguments.items())


def call_line(call: OSCall) -> str:
    """Returns the whole call, without colours and without the decision."""
    return f"{call.name}({arguments(call)}) {outcome(call)}"
