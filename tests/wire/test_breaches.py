"""After a breach nothing is read from that guest, and nothing is sent to it."""

import os
from collections.abc import Iterator

import pytest

from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.wire.channel import Channel
from proxybox.controller.wire.protocol import RequestReader, encode_request

GOOD = encode_request(39)
BREACHES = {
    "too short": b"\1\0\0\0" + bytes(60),
    "too long": b"\xff\xff\xff\xff" + bytes(60),
    "bytes follow": GOOD + b"\0",
}


def feed(reader: RequestReader, data: bytes, size: int) -> None:
    for start in range(0, len(data), size):
        assert reader.receive(data[start : start + size]) is None


@pytest.mark.parametrize("breach", BREACHES.values(), ids=BREACHES)
@pytest.mark.parametrize("size", [3, 1000])
def test_the_reader_takes_nothing_any_more(breach: bytes, size: int) -> None:
    reader = RequestReader()
    assert reader.receive(GOOD) == GOOD
    with pytest.raises(GuestMisbehaved):
        feed(reader, breach, size)
    for data in (GOOD, GOOD[:2], GOOD[2:], b"\0"):
        with pytest.raises(GuestMisbehaved):
            reader.receive(data)
    reader.end()  # the end of the channel is then no further breach


@pytest.fixture
def ends() -> Iterator[tuple[Channel, int, int]]:
    """A channel, and the descriptors where the guest writes and reads."""
    (request_read, request_write), (reply_read, reply_write) = os.pipe(), os.pipe2(os.O_NONBLOCK)
    channel = Channel(request_read, reply_write)
    yield channel, request_write, reply_read
    channel.close()
    os.close(request_write)
    os.close(reply_read)


def test_the_channel_says_nothing_any_more(ends: tuple[Channel, int, int]) -> None:
    channel, guest_writes, guest_reads = ends
    os.write(guest_writes, GOOD)
    assert channel.receive() == GOOD
    channel.send(7)
    assert len(os.read(guest_reads, 100)) == 16
    os.write(guest_writes, BREACHES["too long"])
    with pytest.raises(GuestMisbehaved) as first:
        channel.receive()
    os.write(guest_writes, GOOD)
    with pytest.raises(GuestMisbehaved) as second:
        channel.receive()
    assert second.value is first.value
    channel.send(0)
    channel.send((0, (4096, b"kept")))
    with pytest.raises(BlockingIOError):
        os.read(guest_reads, 100)
