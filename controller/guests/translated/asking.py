"""Requests of a function of libc while it runs: for memory of the guest, for allocations there, and for OS calls.

A function is a generator (libc.py). It yields these requests, which channel.py carries out, and returns a
`FunctionResult`.
"""

import functools
import struct
from collections.abc import Generator
from typing import Any, Final, TypeAlias

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the tables
from proxybox.controller.dispatch import NUMBERS, TABLE
from proxybox.controller.guests.translated import wire
from proxybox.controller.header import ABSENT, MAX_PAYLOAD, TOO_LONG
from proxybox.controller.header import Fetch as Kind
from proxybox.controller.roles import Memory, Scalar
from proxybox.controller.wire.protocol import encode_request


@attrs.define
class FetchMemory:
    """A request for guest memory, as bytes."""

    address: int
    size: int

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.read_memory(self.address, self.size)


@attrs.define
class CString:
    """A request for a C string of the guest, as bytes, cut at `most`."""

    address: int
    most: int

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.read_string(self.address, self.most)


@attrs.define
class Allocate:
    """A request to allocate memory in the guest with these bytes; the answer is its address."""

    data: bytes

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.allocate(self.data)


@attrs.define
class Free:
    """A request to free memory that was allocated."""

    address: int


@attrs.define
class SideCall:
    """A request for an OS call that never waits; the answer is (value, writes)."""

    name: str
    registers: tuple[int, ...]
    memory: tuple[bytes | int, ...] = ()

    def frame(self) -> bytes:
        """The frame of the call, as the stub of another guest would send it."""
        return encode_request(NUMBERS[self.name], self.registers, self.memory)


@attrs.define
class Serve(SideCall):
    """A request for an OS call that may wait, or take several turns of the driver. A function makes at most one."""


@attrs.define
class FunctionResult:
    """The result of a function of libc.

    writes: (address, bytes) to store in the guest.
    """

    value: float = 0
    errno: int = 0
    writes: "Writes" = ()


Steps: TypeAlias = Generator[Any, Any, FunctionResult]
Writes: TypeAlias = tuple[tuple[int, bytes], ...]

MASK: Final = (1 << 64) - 1
#: An address that no handler reads. Bytes that a handler would write there are used by the function here, or dropped.
NOWHERE: Final = 0x1000
#: Nothing is mapped below this (vm.mmap_min_addr): an argument smaller than this is a number, not an address.
_LOWEST: Final = 1 << 16


def written(writes: Writes) -> bytes:
    """Returns the bytes that an OS call stores; b"" where an interceptor has answered without any."""
    return writes[0][1] if writes else b""


def failed(value: int) -> bool:
    """Whether an OS call's value is -errno."""
    return -4095 <= value < 0


@functools.cache
def _read_by(name: str) -> tuple[tuple[int, Memory, int, str], ...]:
    """Returns the memory that a call's handler reads: the index of the argument with the address, and its role.

    Where another argument counts it, that argument's index and type (a code of struct) follow; otherwise -1 and "".
    """
    places = {parameter: place for place, (parameter, _) in enumerate(TABLE[NUMBERS[name]].parameters)}
    roles = dict(TABLE[NUMBERS[name]].parameters)
    found = []
    for parameter, role in roles.items():
        if isinstance(role, Memory):
            counter = roles.get(role.length)
            code = counter.code if isinstance(counter, Scalar) else "Q"
            found.append((places[parameter], role, places.get(role.length, -1), code if role.length else ""))
    return tuple(found)


def fetched(name: str, registers: tuple[int, ...]) -> Generator[Any, Any, tuple[bytes | int, ...]]:
    """Fetches the memory that the handler of an OS call reads, in the order of its arguments (roles.py)."""
    memory: list[bytes | int] = []
    for place, role, counter, code in _read_by(name):
        address = _argument(registers, place) & MASK
        if not address or (role.fetch is Kind.SOFT and address < _LOWEST):
            memory.append(ABSENT)
        elif role.fetch is Kind.STRING:
            text: bytes = yield CString(address, role.size)
            memory.append(text if len(text) < role.size and b"\0" not in text else TOO_LONG)
        else:
            size = _size(role, _argument(registers, counter), code)
            memory.append((yield FetchMemory(address, size)) if size else b"")
    return tuple(memory)


def _argument(registers: tuple[int, ...], place: int) -> int:
    """Returns the argument of an OS call at index `place`; 0 where it has none there."""
    return registers[place] if 0 <= place < len(registers) else 0


def _size(role: Memory, counted: int, code: str) -> int:
    """Returns how many bytes a handler reads. counted: the argument that counts them, of type `code` ("" for none)."""
    size = role.size
    if code:
        (count,) = struct.unpack("<" + code, struct.pack("<Q", counted & MASK))
        if role.fetch is Kind.BITS:
            size = (min(max(count, 0), 1024) + 63) // 64 * 8
        else:
            size = min(max(count, 0) * role.size, MAX_PAYLOAD)
    return size


def os_call(name: str, *registers: int) -> Generator[Any, Any, tuple[int, Writes]]:
    """Makes an OS call that never waits, after fetching the memory that it reads from the guest."""
    memory = yield from fetched(name, registers)
    reply: tuple[int, Writes] = yield SideCall(name, registers, memory)
    return reply


def waited(name: str, *registers: int) -> Generator[Any, Any, tuple[int, Writes]]:
    """Makes an OS call that may wait, after fetching the memory that it reads from the guest."""
    memory = (yield from fetched(name, registers)) if _read_by(name) else ()
    reply: tuple[int, Writes] = yield Serve(name, registers, memory)
    return reply


def served(name: str, *registers: int) -> Steps:
    """A function that is an OS call: returns its value, or -1 and errno, together with the writes of the call."""
    return done(*(yield from waited(name, *registers)))


def done(value: int, writes: Writes) -> FunctionResult:
    """Returns the result of a function that is an OS call, from the answer to the call."""
    return FunctionResult(-1, -value) if failed(value) else FunctionResult(value, 0, writes)


def failure(number: int, value: int = -1) -> Steps:
    """A function that fails."""
    yield from ()
    return FunctionResult(value, number)
