"""The faster path for a translated guest's calls (direct.py) sends the same bytes as the general one."""

import os
from collections.abc import Iterator

import attrs
import pytest

from proxybox.controller.effects import Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.guests.translated import direct, libc, wire
from proxybox.controller.guests.translated.channel import TranslatedChannel

REPLIES: tuple[Reply, ...] = (
    0, 7, -2, -4095, -4096, 1 << 62, (0, (0x5000, b"data")), (3, (0x5000, b"a"), (0x6000, b"b" * 300)),
    (0, (0, b"to NULL")), (-1, (0x5000, b"with an error")), (0,),
)  # fmt: skip
#: The addresses of strings that the calls read, with their contents, as far as the guest sends them.
STRINGS = {
    0: b"", 0x1000: b"/box/main.py", 0x2000: b"", 0x3000: b"x" * 4095, 0x4000: b"x" * 4096, 0x5000: b"a\0b",
}  # fmt: skip


@attrs.define
class Guest:
    """The guest's ends of a channel."""

    channel: TranslatedChannel
    requests: int
    commands: int

    def send(self, data: bytes, piece: int) -> bytes | None:
        """Sends bytes in pieces. Returns the frame that the channel received."""
        frame = None
        for at in range(0, len(data), piece):
            assert frame is None
            os.write(self.requests, data[at : at + piece])
            frame = self.channel.receive()
        return frame

    def told(self) -> bytes:
        try:
            return os.read(self.commands, 1 << 16)
        except BlockingIOError:
            return b""


@pytest.fixture
def guest() -> Iterator[Guest]:
    ends = [*os.pipe2(os.O_NONBLOCK), *os.pipe2(os.O_NONBLOCK)]
    functions = libc.Libc(None, {}, "/usr/lib/pypy/pypy-c", lambda *refused: None)  # type: ignore[arg-type]
    channel = TranslatedChannel(ends[0], ends[3], functions, lambda thread, frame: 0)
    made = Guest(channel, ends[1], ends[2])
    channel.send(0)  # for the stub
    made.told()
    yield made
    for fd in ends:
        os.close(fd)


def conversation(guest: Guest, signature: str, address: int, reply: Reply, piece: int) -> list[bytes | None]:
    """All that the channel sends in one call. piece: the size of the pieces in which its bytes come."""
    kinds = signature[signature.index("(") + 1 : signature.index(")")]
    arguments = [address if kind == "p" else number - 3 for number, kind in enumerate(kinds)]
    request = bytes([len(signature)]) + signature.encode()
    request += b"".join((each % 2**64).to_bytes(8, "little") for each in arguments)
    said: list[bytes | None] = [guest.send(request, piece)]
    if said[0] is None:
        command = guest.told()
        text = STRINGS[address][: int.from_bytes(command[9:17], "little")]
        said += [command, guest.send(len(text).to_bytes(8, "little") + text, piece)]
    assert said[-1] is not None
    guest.channel.send(reply)
    return [*said, guest.told()]


@pytest.mark.parametrize("head", direct.table(), ids=lambda head: head[1:].decode())
def test_both_ways_say_the_same(guest: Guest, head: bytes) -> None:
    signature = head[1:].decode()
    for address in STRINGS:
        for reply in REPLIES if address in (0, 0x1000) else REPLIES[:1]:
            whole, pieces, halves = (conversation(guest, signature, address, reply, piece) for piece in (1 << 16, 1, 9))
            assert whole == pieces == halves


def test_which_functions_take_it() -> None:
    """The faster path has the most frequent functions."""
    taken = {head[1:].decode() for head in direct.table()}
    assert taken < set(libc.SAME)
    assert {"stat64(pp)i", "open(pii)i", "read(ipi)i", "lseek(iii)i", "fstat64(ip)i", "gettimeofday(pp)i"} <= taken


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ((b"\x09getuid()i", b"\x09getuid()i"), "a second call"),
        ((b"\x09getuid()i\x09getuid()i",), "bytes follow a request"),
        ((b"\x08chdir(p)i" + bytes(7),), "without the name"),
        ((b"\x09chdir(p)i" + b"\1" * 8, bytes(8) + b"x"), "bytes follow the answer"),
        ((b"\x09chdir(p)i" + b"\1" * 8, wire.allocate(b"")[1:] + b"\x09getuid()i"), "bytes follow the answer"),
        ((b"\x09chdir(p)i" + b"\1" * 8, (5000).to_bytes(8, "little") + b"x" * 5000), "a string of 5000 bytes"),
        ((b"\x09chdir(p)i" + b"\1" * 8, b"\xff" * 8), "a string of 18446744073709551615 bytes"),
    ],
)
def test_what_breaks_the_wire_there(guest: Guest, sent: tuple[bytes, ...], words: str) -> None:
    def say() -> None:
        for each in sent:
            guest.send(each, 1 << 16)

    with pytest.raises(GuestMisbehaved, match=words):
        say()
    with pytest.raises(GuestMisbehaved, match=words):  # and from then on it receives nothing
        guest.channel.receive()
