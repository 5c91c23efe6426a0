"""poll, select and epoll on pipes, pairs and counters; the pairs themselves."""

import errno
import struct

from proxybox.controller import abi
from proxybox.controller.effects import Blocked
from proxybox.controller.header import LASTS
from proxybox.controller.oscalls import control, descriptors, paths, pipes, polling, sockets


def pipe(box, flags=0):
    return struct.unpack("<ii", box.written(pipes.pipe2, 8, flags))


def pair(box, flags=0):
    return struct.unpack("<ii", box.written(sockets.socketpair, 1, 1 | flags, 0, 8))


def poll(box, *wanted, timeout=0):
    """Calls poll for (fd, events) pairs. Returns the list of revents, or the reply if it has none."""
    data = b"".join(abi.POLLFD.pack(fd, events, 0) for fd, events in wanted)
    reply = box.call(polling.poll, (64, data), len(wanted), timeout)
    if isinstance(reply, tuple):
        return [revents for _, _, revents in abi.POLLFD.iter_unpack(reply[1][1])]
    return reply


def test_poll_tells_what_is_ready(box):
    reader, writer = pipe(box)
    regular = box.value(paths.open_, b"/data/hello", 0, 0)
    both = abi.POLLIN | abi.POLLOUT
    assert poll(box, (reader, both), (writer, both), (regular, both)) == [0, abi.POLLOUT, both]
    box.call(descriptors.write, writer, b"x", 1)
    assert poll(box, (reader, abi.POLLIN), (-1, 1), (99, 1)) == [1, 0, abi.POLLNVAL]
    box.call(descriptors.close, writer)
    assert poll(box, (reader, 0)) == [abi.POLLHUP]


def test_poll_waits_and_times_out(box):
    reader, writer = pipe(box)
    wait = poll(box, (reader, abi.POLLIN), timeout=1500)
    assert isinstance(wait, Blocked)
    assert wait.deadline_ns == box.host.ns + 1_500_000_000
    assert wait.attempt() is None
    box.call(descriptors.write, writer, b"x", 1)
    assert wait.attempt() == (1, (64, abi.POLLFD.pack(reader, 1, 1)))
    assert poll(box, timeout=0) == 0
    assert box.wait_out(poll(box, timeout=10)) == 0
    forever = poll(box, timeout=-1)
    assert isinstance(forever, Blocked)
    assert forever.deadline_ns is None


def test_who_only_looks_is_answered_at_once(box):
    """With a timeout of 0 there is no wait, for which the driver would first check all other waits."""
    reader, writer = pipe(box)
    instance = box.value(polling.epoll_create1, 0)
    box.call(polling.epoll_ctl, instance, abi.EPOLL_CTL_ADD, reader, abi.EPOLL_EVENT.pack(abi.POLLIN, 7))
    bit = (1 << reader).to_bytes(8, "little")
    looks = {
        0: (0, 0, (0, bytes(8))),
        1: (1, 1, (1, bit)),
    }  # fmt: skip
    for written, (events, revents, chosen) in looks.items():
        assert box.value(polling.epoll_wait, instance, 64, 8, 0) == events
        assert poll(box, (reader, abi.POLLIN), timeout=0) == [revents]
        reply = box.call(polling.select, 64, (64, bit), (0, None), (0, None), bytes(16))
        assert (reply[0], reply[1][1]) == chosen
        if not written:
            box.call(descriptors.write, writer, b"x", 1)


def test_poll_counts_are_bounded(box):
    assert box.value(polling.poll, (64, bytes(1 << 20)), 0xFFFFFFFF, 0) == -errno.EINVAL
    assert box.value(polling.poll, (64, bytes(1025 * 8)), 1025, 0) == -errno.EINVAL


def test_ppoll_takes_a_mask_for_as_long_as_it_waits(box):
    mask = abi.U64.pack(1 << 9)
    data = (64, b"")
    wait = box.call(polling.ppoll, data, 0, abi.pack_timespec(10**9), mask, 8)
    assert box.world.thread.sigmask == 1 << 9
    assert box.wait_out(wait) == 0
    assert box.world.thread.sigmask == 0
    assert box.value(polling.ppoll, data, 0, None, mask, 4) == -errno.EINVAL


def test_select(box):
    reader, writer = pipe(box)
    bits = abi.U64.pack(1 << reader | 1 << writer)
    nothing = (0, None)
    now = abi.pack_timespec(0)
    reply = box.call(polling.select, 64, (8, bits), (16, bits), nothing, now)
    assert reply == (1, (8, bytes(8)), (16, abi.U64.pack(1 << writer)))
    box.call(descriptors.write, writer, b"x", 1)
    reply = box.call(polling.pselect6, 64, (8, bits), nothing, nothing, None, None)
    assert reply == (1, (8, abi.U64.pack(1 << reader)))
    bad = (8, abi.U64.pack(1 << 40))
    assert box.value(polling.select, 64, bad, nothing, nothing, now) == -errno.EBADF
    assert box.value(polling.select, -1, nothing, nothing, nothing, now) == -errno.EINVAL


def test_select_under_a_mask(box):
    nothing, mask = (0, None), abi.U64.pack(1 << 9)
    wait = box.call(polling.pselect6, 0, nothing, nothing, nothing, abi.pack_timespec(10**9), mask)
    assert box.world.thread.sigmask == 1 << 9
    assert box.wait_out(wait) == (0,)
    assert box.world.thread.sigmask == 0


def control_epoll(box, epoll, operation, fd, events=abi.POLLIN, data=7):
    return box.value(polling.epoll_ctl, epoll, operation, fd, abi.EPOLL_EVENT.pack(events, data))


def epoll_wait(box, epoll, room=8, timeout=0):
    reply = box.call(polling.epoll_wait, epoll, 64, room, timeout)
    if isinstance(reply, tuple):
        return list(abi.EPOLL_EVENT.iter_unpack(reply[1][1]))
    return reply


def test_epoll_watches(box):
    reader, writer = pipe(box)
    epoll = box.value(polling.epoll_create1, abi.EPOLL_CLOEXEC)
    assert control_epoll(box, epoll, abi.EPOLL_CTL_ADD, reader, data=(1 << 64) - 1) == 0
    assert control_epoll(box, epoll, abi.EPOLL_CTL_ADD, reader) == -errno.EEXIST
    assert control_epoll(box, epoll, abi.EPOLL_CTL_MOD, writer) == -errno.ENOENT
    assert epoll_wait(box, epoll) == 0
    box.call(descriptors.write, writer, b"x", 1)
    assert epoll_wait(box, epoll) == [(abi.POLLIN, (1 << 64) - 1)]
    assert poll(box, (epoll, abi.POLLIN)) == [abi.POLLIN]
    assert epoll_wait(box, epoll) == [(abi.POLLIN, (1 << 64) - 1)]
    assert control_epoll(box, epoll, abi.EPOLL_CTL_DEL, reader) == 0
    assert epoll_wait(box, epoll) == 0


def test_epoll_edges_and_single_shots(box):
    reader, writer = pipe(box)
    epoll = box.value(polling.epoll_create, 1)
    control_epoll(box, epoll, abi.EPOLL_CTL_ADD, writer, abi.POLLOUT | abi.EPOLLET)
    assert epoll_wait(box, epoll) == [(abi.POLLOUT, 7)]
    assert epoll_wait(box, epoll) == 0
    control_epoll(box, epoll, abi.EPOLL_CTL_ADD, reader, abi.POLLIN | abi.EPOLLONESHOT)
    box.call(descriptors.write, writer, b"x", 1)
    assert epoll_wait(box, epoll) == [(abi.POLLIN, 7)]
    assert epoll_wait(box, epoll) == 0
    control_epoll(box, epoll, abi.EPOLL_CTL_MOD, reader, abi.POLLIN)
    assert epoll_wait(box, epoll) == [(abi.POLLIN, 7)]


def test_a_look_says_whether_its_answer_lasts(box):
    """The answer lasts only where no other event than the guest's own calls can make a descriptor ready."""
    epoll = box.value(polling.epoll_create, 1)
    assert box.value(polling.epoll_look, epoll, 64, 9) == LASTS
    reader, writer = pipe(box)
    for fd in (reader, pair(box)[0], box.value(pipes.eventfd2, 0, 0)):
        control_epoll(box, epoll, abi.EPOLL_CTL_ADD, fd)
    assert box.value(polling.epoll_look, epoll, 64, 9) == LASTS
    box.call(descriptors.write, writer, b"x", 1)
    assert box.call(polling.epoll_look, epoll, 64, 9)[0] == 1
    assert box.value(polling.epoll_look, epoll, 64, 0) == -errno.EINVAL
    assert box.value(polling.epoll_look, reader, 64, 9) == -errno.EINVAL


def test_epoll_forgets_what_was_closed_and_starves_nobody(box):
    epoll = box.value(polling.epoll_create, 1)
    counters = [box.value(pipes.eventfd2, 1, 0) for _ in range(3)]
    for fd in counters:
        control_epoll(box, epoll, abi.EPOLL_CTL_ADD, fd, data=fd)
    seen = [epoll_wait(box, epoll, room=1)[0][1] for _ in range(3)]
    assert sorted(seen) == counters
    box.call(descriptors.close, counters[0])
    assert len(epoll_wait(box, epoll)) == 2


def test_epoll_refusals(box):
    epoll, other = (box.value(polling.epoll_create1, 0) for _ in range(2))
    regular = box.value(paths.open_, b"/data/hello", 0, 0)
    assert control_epoll(box, epoll, abi.EPOLL_CTL_ADD, regular) == -errno.EPERM
    assert control_epoll(box, epoll, abi.EPOLL_CTL_ADD, other) == -errno.EINVAL
    assert control_epoll(box, epoll, abi.EPOLL_CTL_ADD, epoll) == -errno.EINVAL
    assert control_epoll(box, regular, abi.EPOLL_CTL_ADD, epoll) == -errno.EINVAL
    assert control_epoll(box, epoll, 9, pipe(box)[0]) == -errno.EINVAL
    assert box.value(polling.epoll_wait, epoll, 64, 0, 0) == -errno.EINVAL
    assert box.value(polling.epoll_wait, epoll, 64, -1, 0) == -errno.EINVAL


def test_a_pair_carries_bytes_both_ways(box):
    one, other = pair(box, abi.O_NONBLOCK)
    assert box.value(sockets.sendto, one, b"ping", 4, abi.MSG_NOSIGNAL, 0, 0) == 4
    peek = box.call(sockets.recvfrom, other, 8, 2, abi.MSG_PEEK, 0, (0, None))
    assert peek == (2, (8, b"pi"))
    assert box.call(sockets.recvfrom, other, 8, 99, 0, 0, (0, None)) == (4, (8, b"ping"))
    assert box.value(sockets.recvfrom, other, 8, 99, 0, 0, (0, None)) == -errno.EAGAIN
    assert box.value(descriptors.write, other, b"pong", 4) == 4
    assert box.call(descriptors.read, one, 8, 9) == (4, (8, b"pong"))
    assert box.value(sockets.shutdown, one, 1) == 0
    assert box.call(sockets.recvfrom, other, 8, 9, 0, 0, (0, None)) == (0, (8, b""))
    box.call(descriptors.close, other)
    gone = box.value(sockets.sendto, one, b"x", 1, abi.MSG_NOSIGNAL, 0, 0)
    assert gone == -errno.EPIPE
    assert box.world.ending is None


def test_a_full_pair_takes_part_of_a_write(box):
    one, _ = pair(box)
    big = bytes(1 << 20)
    first = box.value(sockets.sendto, one, big, len(big), abi.MSG_DONTWAIT, 0, 0)
    assert first == 65536
    again = box.value(sockets.sendto, one, big, len(big), abi.MSG_DONTWAIT, 0, 0)
    assert again == -errno.EAGAIN
    assert isinstance(box.call(sockets.sendto, one, big, len(big), 0, 0, 0), Blocked)


def test_pairs_answer_their_options(box):
    one, _ = pair(box)
    length = (16, abi.INT.pack(4))
    reply = box.call(sockets.getsockopt, one, 1, 3, 8, length)
    assert reply == (0, (8, abi.INT.pack(1)), (16, abi.INT.pack(4)))
    assert box.value(sockets.getsockopt, one, 1, 999, 8, length) == -errno.ENOPROTOOPT
    assert box.value(sockets.getsockopt, one, 1, 3, 8, (0, None)) == -errno.EFAULT
    assert box.written(sockets.getsockname, one, 8, (16, abi.INT.pack(110))) == b"\1\0"
    assert box.value(sockets.setsockopt, one, 1, 7, 8, 4) == 0
    assert box.value(control.fcntl, one, abi.F_GETFD, (0, None)) == 0
    plain = box.value(paths.open_, b"/data/hello", 0, 0)
    assert box.value(sockets.shutdown, plain, 0) == -errno.ENOTSOCK


def test_only_unix_streams_pair(box):
    assert box.value(sockets.socketpair, 2, 1, 0, 8) == -errno.EOPNOTSUPP
    assert box.value(sockets.socketpair, 1, 2, 0, 8) == -errno.EOPNOTSUPP
    assert box.value(sockets.socketpair, 1, 1 | 1 << 20, 0, 8) == -errno.EINVAL
