"""The roles that the arguments of an OS call can have.

An annotation on a handler says how a register is to be read and what the stub must fetch from guest memory.
`dispatch` compiles decoders from these annotations, and the stub receives the same facts in the compact form of
`stub_row`. So a new call needs no C.
"""

from typing import Annotated

import attrs

from proxybox.controller.header import CALL_ROLES, LENGTH_INT, LENGTH_LONG, LENGTH_UNSIGNED, MAX_PATH, ROLE, Fetch


@attrs.frozen(eq=False)
class Scalar:
    """A register, read as the kernel reads it: `code` is a struct format of eight bytes.

    is_address: whether it is the place where an answer is stored, of which nothing is read.
    """

    code: str
    is_address: bool = False


@attrs.frozen(eq=False)
class Memory:
    """Guest memory, given to the handler as bytes in place of its address.

    size: bytes of one element, or of the whole where no argument counts elements.
    length: the name of the argument that counts the elements.
    optional: whether NULL gives None; otherwise NULL is EFAULT.
    with_address: whether the handler gets (address, bytes), because it also writes there. `Annotated[tuple[...], role]`
    sets it.
    """

    fetch: Fetch
    size: int = 1
    length: str = ""
    optional: bool = False
    with_address: bool = False


def Buffer(length: str, size: int = 1, *, optional: bool = False) -> Memory:  # noqa: N802 - reads as a type
    """As many elements of `size` bytes as the argument named `length` says, cut at MAX_PAYLOAD."""
    return Memory(Fetch.BUFFER, size, length, optional)


def Struct(size: int) -> Memory:  # noqa: N802
    """Exactly `size` bytes, or None for NULL."""
    return Memory(Fetch.STRUCT, size, optional=True)


def Soft(size: int) -> Memory:  # noqa: N802
    """`size` bytes where the register happens to be a readable address, else None (ioctl, fcntl)."""
    return Memory(Fetch.SOFT, size, optional=True)


def Gather(length: str) -> Memory:  # noqa: N802
    """The bytes that an iovec array points to, in one piece, cut at MAX_PAYLOAD."""
    return Memory(Fetch.GATHER, 16, length)


def Bits(length: str) -> Memory:  # noqa: N802
    """An fd_set of as many bits as the argument named `length` says, in whole 64-bit words; None for NULL."""
    return Memory(Fetch.BITS, 8, length, optional=True)


Int = Annotated[int, Scalar("i4x")]
Fd = Annotated[int, Scalar("i4x")]
UInt = Annotated[int, Scalar("I4x")]
Long = Annotated[int, Scalar("q")]
ULong = Annotated[int, Scalar("Q")]
Size = Annotated[int, Scalar("Q")]
Addr = Annotated[int, Scalar("Q", is_address=True)]
Path = Annotated[bytes, Memory(Fetch.STRING, MAX_PATH)]
OptionalPath = Annotated[bytes | None, Memory(Fetch.STRING, MAX_PATH, optional=True)]

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
