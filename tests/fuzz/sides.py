"""One system call, twice: by the kernel, and by the controller's handler of the same number with the same arguments."""

import contextlib
import ctypes
import errno
import os
from collections.abc import Iterator

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.dispatch import NUMBERS, TABLE, Dispatcher
from proxybox.controller.effects import Blocked
from proxybox.controller.roles import Memory, Scalar
from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.nodes import Credentials, Directory
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.tree import Tree
from proxybox.controller.wire.protocol import encode_request
from proxybox.controller.world.clock import Clock
from proxybox.controller.world.state import World
from proxybox.policies import Policy

USER = 1000
LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.syscall.restype = ctypes.c_long


@attrs.frozen
class Room:
    """A buffer for the answer. size: in bytes."""

    size: int


#: An argument: an int or an address; bytes that the call reads; or a buffer that it fills.
Argument = int | bytes | Room


@attrs.frozen
class Answer:
    """The answer of a call: a value or -errno, and the contents of the buffers."""

    value: int
    filled: tuple[bytes, ...] = ()

    def __str__(self) -> str:
        name = errno.errorcode.get(-self.value, "") if self.value < 0 else ""
        return f"{name or self.value} {self.filled if self.filled else ''}"


@contextlib.contextmanager
def as_user() -> Iterator[Credentials]:
    """A context in which permissions apply: root acts as another user."""
    if os.geteuid() != 0:
        yield Credentials(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
        return
    os.setegid(USER)
    os.seteuid(USER)
    try:
        yield Credentials(USER, USER, frozenset(os.getgroups()))
    finally:
        os.seteuid(0)
        os.setegid(0)


class Kernel:
    """The side of the kernel."""

    def call(self, name: str, *arguments: Argument) -> Answer:
        rooms: list[ctypes.Array[ctypes.c_char]] = []
        given: list[object] = []
        for argument in arguments:
            if isinstance(argument, Room):
                rooms.append(ctypes.create_string_buffer(b"\xaa" * argument.size, argument.size))
                given.append(rooms[-1])
            else:
                given.append(argument if isinstance(argument, bytes) else ctypes.c_long(argument))
        with as_user():
            value = LIBC.syscall(ctypes.c_long(NUMBERS[name]), *given)
        if value < 0:
            return Answer(-ctypes.get_errno())
        return Answer(value, tuple(room.raw for room in rooms))


class Boxed:
    """The side of the controller: a world with one filesystem, mounted at `top`."""

    def __init__(self, root: Directory, top: bytes, creds: Credentials, quota: Quota) -> None:
        policy = Policy(limits={"calls": None}, time="real")
        tree = Tree()
        tree.mount(top, root)
        self.world = World(policy, tree, DescriptorTable(200), root, creds, Clock(policy.time), quota)
        self._dispatcher = Dispatcher(self.world)

    def call(self, name: str, *arguments: Argument) -> Answer:
        row = TABLE[NUMBERS[name]]
        registers: list[int] = []
        memory: list[bytes | int] = []
        rooms: dict[int, int] = {}
        for (_, role), argument in zip(row.parameters, arguments, strict=True):
            if isinstance(role, Memory):
                registers.append(0x1000 if argument else 0)
                memory.append(argument if isinstance(argument, bytes) else 0xFFFFFFFF)
            elif isinstance(argument, Room):
                rooms[address := 0x7000_0000 + len(rooms) * (1 << 24)] = argument.size
                registers.append(address)
            else:
                assert isinstance(role, Scalar)
                assert isinstance(argument, int)
                registers.append(argument)
        frame = encode_request(row.number, tuple(registers), tuple(memory))
        with as_user():
            reply = self._dispatcher.execute(self.world.thread, frame)
        assert not isinstance(reply, Blocked), "a call on a file waits"
        value, writes = (reply, ()) if isinstance(reply, int) else (reply[0], reply[1:])
        if value < 0:
            return Answer(value)
        kept = dict(writes)
        assert set(kept) <= set(rooms)
        filled = []
        for address, size in rooms.items():
            data = kept.get(address, b"")
            assert len(data) <= size, f"{name} stores more than its buffer holds"
            filled.append(data + b"\xaa" * (size - len(data)))
        return Answer(value, tuple(filled))
