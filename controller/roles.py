"""The roles that the arguments of an OS call can have.

An annotation on a handler says how a register is read and what the stub must fetch from guest memory. `dispatch`
compiles decoders from these annotations, and the stub receives the same facts in the compact form of `stub_row`. So a
new call needs no C. They also say what an argument means: a trace needs this to print it, and readers of calls to find
their paths and descriptors.
"""

import enum
from typing import Annotated

import attrs

from proxybox.controller.header import CALL_ROLES, LENGTH_INT, LENGTH_LONG, LENGTH_UNSIGNED, MAX_PATH, ROLE, Fetch


class Meaning(enum.Enum):
    """The meaning of an argument's value, where its type alone does not say it."""

    NOTHING = enum.auto()
    ADDRESS = enum.auto()
    DESCRIPTOR = enum.auto()
    DIRECTORY = enum.auto()  # the descriptor from which the next argument, a path, counts
    PATH = enum.auto()
    TEXT = enum.auto()  # a name that is not a path
    TIME = enum.auto()  # a duration, or a point in time
    MODE = enum.auto()
    OPEN_FLAGS = enum.auto()
    AT_FLAGS = enum.auto()
    UNLINK_FLAGS = enum.auto()
    RENAME_FLAGS = enum.auto()
    CLOSE_FLAGS = enum.auto()
    ACCESS = enum.auto()
    PROTECTION = enum.auto()
    MAP_FLAGS = enum.auto()
    REMAP_FLAGS = enum.auto()
    SYNC_FLAGS = enum.auto()
    WHENCE = enum.auto()
    COMMAND = enum.auto()  # of fcntl(2)
    REQUEST = enum.auto()  # of ioctl(2)
    LOCK = enum.auto()
    CLOCK_ID = enum.auto()
    SIGNAL = enum.auto()
    FAMILY = enum.auto()
    SOCKET_KIND = enum.auto()


@attrs.frozen(eq=False)
class Scalar:
    """A register, read as the kernel reads it: `code` is a struct format of eight bytes.

    is_address: whether it is an address where an answer is stored, and from which nothing is read.
    """

    code: str
    is_address: bool = False
    meaning: Meaning = Meaning.NOTHING


@attrs.frozen(eq=False)
class Memory:
    """Guest memory: the handler gets bytes instead of the address.

    size: bytes of one element, or of all where no argument counts elements. length: the name of the argument that
    counts the elements. optional: whether NULL becomes None; otherwise NULL is EFAULT. with_address: whether the
    handler gets (address, bytes), because it also writes there. `Annotated[tuple[...], role]` sets it.
    """

    fetch: Fetch
    size: int = 1
    length: str = ""
    optional: bool = False
    with_address: bool = False
    meaning: Meaning = Meaning.NOTHING


def Buffer(length: str, size: int = 1, *, optional: bool = False) -> Memory:  # noqa: N802 - reads as a type
    """As many elements of `size` bytes as the argument named `length` says, cut at MAX_PAYLOAD."""
    return Memory(Fetch.BUFFER, size, length, optional)


def Struct(size: int, meaning: Meaning = Meaning.NOTHING) -> Memory:  # noqa: N802
    """Exactly `size` bytes, or None for NULL."""
    return Memory(Fetch.STRUCT, size, optional=True, meaning=meaning)


def TimeStruct(size: int) -> Memory:  # noqa: N802
    """A struct timespec or timeval, or two of them, or None for NULL."""
    return Struct(size, Meaning.TIME)


def Soft(size: int) -> Memory:  # noqa: N802
    """`size` bytes if the register is a readable address, otherwise None (ioctl, fcntl)."""
    return Memory(Fetch.SOFT, size, optional=True)


def Gather(length: str) -> Memory:  # noqa: N802
    """The bytes that an iovec array points to, in one piece, cut at MAX_PAYLOAD."""
    return Memory(Fetch.GATHER, 16, length)


def Bits(length: str) -> Memory:  # noqa: N802
    """An fd_set of as many bits as the argument named `length` says, in whole 64-bit words; None for NULL."""
    return Memory(Fetch.BITS, 8, length, optional=True)


Int = Annotated[int, Scalar("i4x")]
UInt = Annotated[int, Scalar("I4x")]
Long = Annotated[int, Scalar("q")]
ULong = Annotated[int, Scalar("Q")]
Size = Annotated[int, Scalar("Q")]
Addr = Annotated[int, Scalar("Q", is_address=True)]
Fd = Annotated[int, Scalar("i4x", meaning=Meaning.DESCRIPTOR)]
#: The descriptor of a directory, or AT_FDCWD. The path in the next argument counts from it.
DirFd = Annotated[int, Scalar("i4x", meaning=Meaning.DIRECTORY)]
Path = Annotated[bytes, Memory(Fetch.STRING, MAX_PATH, meaning=Meaning.PATH)]
OptionalPath = Annotated[bytes | None, Memory(Fetch.STRING, MAX_PATH, optional=True, meaning=Meaning.PATH)]
#: A string that is no path of the box: the target of a symbolic link, or a name of memory.
Text = Annotated[bytes, Memory(Fetch.STRING, MAX_PATH, meaning=Meaning.TEXT)]
Milliseconds = Annotated[int, Scalar("i4x", meaning=Meaning.TIME)]
Mode = Annotated[int, Scalar("I4x", meaning=Meaning.MODE)]
OpenFlags = Annotated[int, Scalar("i4x", meaning=Meaning.OPEN_FLAGS)]
AtFlags = Annotated[int, Scalar("i4x", meaning=Meaning.AT_FLAGS)]
UnlinkFlags = Annotated[int, Scalar("i4x", meaning=Meaning.UNLINK_FLAGS)]
RenameFlags = Annotated[int, Scalar("I4x", meaning=Meaning.RENAME_FLAGS)]
CloseFlags = Annotated[int, Scalar("I4x", meaning=Meaning.CLOSE_FLAGS)]
AccessMode = Annotated[int, Scalar("i4x", meaning=Meaning.ACCESS)]
Protection = Annotated[int, Scalar("i4x", meaning=Meaning.PROTECTION)]
MapFlags = Annotated[int, Scalar("i4x", meaning=Meaning.MAP_FLAGS)]
RemapFlags = Annotated[int, Scalar("I4x", meaning=Meaning.REMAP_FLAGS)]
SyncFlags = Annotated[int, Scalar("i4x", meaning=Meaning.SYNC_FLAGS)]
Whence = Annotated[int, Scalar("i4x", meaning=Meaning.WHENCE)]
FcntlCommand = Annotated[int, Scalar("i4x", meaning=Meaning.COMMAND)]
IoctlRequest = Annotated[int, Scalar("I4x", meaning=Meaning.REQUEST)]
FlockKind = Annotated[int, Scalar("i4x", meaning=Meaning.LOCK)]
ClockId = Annotated[int, Scalar("i4x", meaning=Meaning.CLOCK_ID)]
SignalNumber = Annotated[int, Scalar("i4x", meaning=Meaning.SIGNAL)]
SocketFamily = Annotated[int, Scalar("i4x", meaning=Meaning.FAMILY)]
SocketKind = Annotated[int, Scalar("i4x", meaning=Meaning.SOCKET_KIND)]

#: Bytes of one row of the stub's table: call number, number of roles, six roles.
ROW_SIZE = CALL_ROLES.size + 6 * ROLE.size

_WIDTHS = {"i4x": LENGTH_INT, "I4x": LENGTH_UNSIGNED}


def _counter(parameters: list[tuple[str, Scalar | Memory]], name: str) -> tuple[int, int]:
    """Returns the index of the argument that counts the elements, and its width."""
    for index, (other, role) in enumerate(parameters):
        if name and other == name:
            return index, _WIDTHS.get(role.code, LENGTH_LONG) if isinstance(role, Scalar) else LENGTH_LONG
    return 0, 0


def stub_row(number: int, parameters: list[tuple[str, Scalar | Memory]]) -> bytes:
    """Returns the compact form of one call's memory roles; b"" for a call that reads no memory."""
    roles = [
        ROLE.pack(index, role.fetch, *_counter(parameters, role.length), role.size)
        for index, (_, role) in enumerate(parameters)
        if isinstance(role, Memory)
    ]
    if not roles:
        return b""
    return (CALL_ROLES.pack(number, len(roles)) + b"".join(roles)).ljust(ROW_SIZE, b"\0")
