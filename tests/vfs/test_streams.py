"""Pipes, stream pairs and event counters."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from proxybox.controller.effects import Blocked
from proxybox.controller.vfs.nodes import Superblock
from proxybox.controller.vfs.streams import EventFile, pipe, stream_pair

SUPERBLOCK = Superblock()


def test_a_pipe_carries_bytes_in_order():
    reader, writer = pipe(SUPERBLOCK)
    assert writer.write(b"one") == 3
    assert writer.write(b"two") == 3
    assert reader.available() == 6
    assert reader.read(4) == b"onet"
    assert reader.read(100) == b"wo"


def test_an_empty_pipe_waits_and_then_ends():
    reader, writer = pipe(SUPERBLOCK)
    wait = reader.read(5)
    assert isinstance(wait, Blocked)
    assert wait.attempt() is None
    assert not reader.readable()
    writer.write(b"x")
    assert reader.readable()
    assert wait.attempt() == b"x"
    writer.close()
    assert reader.hangup()
    assert reader.read(5) == b""


def test_nonblocking_ends_say_eagain(fails):
    reader, writer = pipe(SUPERBLOCK, os.O_NONBLOCK)
    with fails(errno.EAGAIN):
        reader.read(1)
    assert writer.write(bytes(100_000)) == 65536
    assert not writer.writable()
    with fails(errno.EAGAIN):
        writer.write(b"x")


def test_small_writes_are_never_split(fails):
    reader, writer = pipe(SUPERBLOCK, os.O_NONBLOCK)
    writer.write(bytes(65536 - 100))
    with fails(errno.EAGAIN):
        writer.write(bytes(4096))
    assert writer.write(bytes(5000)) == 100
    assert reader.available() == 65536


def test_a_waiting_write_goes_on_until_all_is_written():
    reader, writer = pipe(SUPERBLOCK)
    data = os.urandom(150_000)
    wait = writer.write(data)
    assert isinstance(wait, Blocked)
    got = b""
    while len(got) < len(data):
        piece = reader.read(40_000)
        assert isinstance(piece, bytes)
        got += piece
        done = wait.attempt()
    assert done == len(data)
    assert got == data


def test_an_interrupted_write_tells_what_it_wrote():
    _reader, writer = pipe(SUPERBLOCK)
    wait = writer.write(bytes(100_000))
    assert isinstance(wait, Blocked)
    assert wait.on_interrupt is not None
    assert wait.on_interrupt() == 65536


def test_writing_without_a_reader(fails):
    reader, writer = pipe(SUPERBLOCK)
    reader.close()
    assert writer.failed()
    with fails(errno.EPIPE):
        writer.write(b"x")


def test_a_pipe_opened_again_is_a_further_end():
    reader, writer = pipe(SUPERBLOCK)
    again = writer.node.open(os.O_WRONLY)
    writer.close()
    assert not reader.hangup()
    again.write(b"x")
    assert reader.read(1) == b"x"
    again.close()
    assert reader.hangup()


def test_pipe_sizes(fails):
    _, writer = pipe(SUPERBLOCK)
    assert writer.capacity() == 65536
    assert writer.set_capacity(5000) == 8192
    with fails(errno.EPERM):
        writer.set_capacity(2 << 20)
    writer.write(bytes(8000))
    with fails(errno.EBUSY):
        writer.set_capacity(4096)


def test_streams_cannot_seek(fails):
    for file in (*pipe(SUPERBLOCK), *stream_pair(SUPERBLOCK)):
        with fails(errno.ESPIPE):
            file.seek(0, 0)
        with fails(errno.ESPIPE):
            file.pread(1, 0)
        with fails(errno.EINVAL):
            file.truncate(0)


def test_a_pair_carries_both_ways(fails):
    one, other = stream_pair(SUPERBLOCK)
    one.write(b"ping")
    assert other.peek(2) == b"pi"
    assert other.read(10) == b"ping"
    other.write(b"pong")
    assert one.read(10) == b"pong"
    assert isinstance(one.read(1), Blocked)
    other.shutdown(reading=False, writing=True)
    assert one.read(1) == b""
    assert one.write(b"still") == 5
    other.close()
    with fails(errno.EPIPE):
        one.write(b"x")
    assert one.hangup()


def test_event_counters(fails):
    event = EventFile(SUPERBLOCK, 3, os.O_NONBLOCK)
    assert event.read(8) == struct.pack("<Q", 3)
    with fails(errno.EAGAIN):
        event.read(8)
    with fails(errno.EINVAL):
        event.read(7)
    assert event.write(struct.pack("<Q", 2)) == 8
    assert event.readable()
    with fails(errno.EINVAL):
        event.write(b"short")
    with fails(errno.EINVAL):
        event.write(b"\xff" * 8)
    with fails(errno.EAGAIN):
        event.write(struct.pack("<Q", (1 << 64) - 2))
    semaphore = EventFile(SUPERBLOCK, 2, 0, semaphore=True)
    assert semaphore.read(8) == semaphore.read(8) == struct.pack("<Q", 1)


@pytest.mark.parametrize("size", [0, 1, 100, 65536])
def test_memory_of_a_pipe_is_given_back(size):
    reader, writer = pipe(SUPERBLOCK)
    for _ in range(5):
        writer.write(bytes(size))
        assert len(reader.read(1 << 20) if size else b"") == size
    assert reader.available() == 0
    assert len(reader.node.buffer.data) == 0
