"""Attempts of a guest to make the controller store more for it than the policy allows."""

import errno
import gc
import struct

from proxybox.controller import abi
from proxybox.controller.oscalls import control, descriptors, directories, memory, paths, pipes, polling, sockets
from proxybox.controller.vfs import streams
from proxybox.controller.vfs.openfiles import OpenFile
from proxybox.controller.vfs.streams import Buffer
from proxybox.controller.world.state import HIDDEN

IN = abi.EPOLL_EVENT.pack(abi.POLLIN, 0)


def a_pair(box, make=pipes.pipe2, *arguments):
    return struct.unpack("<ii", box.written(make, *arguments or (8, 0)))


def alive(kind):
    gc.collect()
    return [each for each in gc.get_objects() if isinstance(each, kind)]


def kept_bytes():
    return sum(len(buffer.data) for buffer in alive(Buffer))


def close_all(box, *fds):
    for fd in fds:
        assert box.value(descriptors.close, fd) == 0


def test_full_pipes_closed_while_locked_are_forgotten(box):
    files, data = len(alive(OpenFile)), kept_bytes()
    for _ in range(20):
        reader, writer = a_pair(box)
        assert box.value(descriptors.write, writer, bytes(65536), 65536) == 65536
        assert box.value(control.flock, reader, abi.LOCK_EX) == 0
        close_all(box, reader, writer)
    assert box.world.flocks == {}
    assert (len(alive(OpenFile)), kept_bytes()) == (files, data)


def test_full_pipes_closed_while_watched_are_forgotten(box):
    files, data = len(alive(OpenFile)), kept_bytes()
    epolls = [box.value(polling.epoll_create1, 0) for _ in range(3)]
    for epoll in epolls:
        reader, writer = a_pair(box)
        assert box.value(descriptors.write, writer, bytes(65536), 65536) == 65536
        assert box.value(polling.epoll_ctl, epoll, abi.EPOLL_CTL_ADD, reader, IN) == 0
        close_all(box, reader, writer)
    assert box.world.epoll_watches == 0
    assert (len(alive(OpenFile)), kept_bytes()) == (files + len(epolls), data)


def test_a_pipe_watched_by_many_epolls_does_not_keep_them(box):
    reader, _ = a_pair(box)
    files = len(alive(OpenFile))
    for _ in range(20):
        epoll = box.value(polling.epoll_create1, 0)
        assert box.value(polling.epoll_ctl, epoll, abi.EPOLL_CTL_ADD, reader, IN) == 0
        close_all(box, epoll)
    assert box.world.epoll_watches == 0
    assert len(alive(OpenFile)) == files


def test_a_lock_waited_for_by_a_closed_description_is_not_taken(box):
    one, other = (box.value(paths.open_, b"/data/hello", 0, 0) for _ in range(2))
    assert box.value(control.flock, one, abi.LOCK_EX) == 0
    wait = box.call(control.flock, other, abi.LOCK_EX)
    close_all(box, one, other)
    assert wait.attempt() == 0
    assert box.world.flocks == {}


def test_buffers_go_with_their_last_reader(box):
    data = kept_bytes()
    reader, writer = a_pair(box)
    socket, other = a_pair(box, sockets.socketpair, 1, 1, 0, 8)
    held = [box.world.descriptors.get(fd) for fd in (reader, writer, socket, other)]
    for end in (writer, socket, other):
        assert box.value(descriptors.write, end, bytes(60_000), 60_000) == 60_000
    assert box.value(sockets.shutdown, other, 0) == 0
    assert kept_bytes() == data + 120_000
    close_all(box, reader, writer, socket, other)
    assert kept_bytes() == data
    assert held


def test_watches_of_all_epolls_are_counted_together(box, monkeypatch):
    monkeypatch.setattr(polling, "_WATCHES_MAX", 3)
    reader, writer = a_pair(box)
    epolls = [box.value(polling.epoll_create1, 0) for _ in range(2)]
    answers = [
        box.value(polling.epoll_ctl, epoll, abi.EPOLL_CTL_ADD, fd, IN) for epoll in epolls for fd in (reader, writer)
    ]
    assert answers == [0, 0, 0, -errno.ENOSPC]
    assert box.value(polling.epoll_ctl, epolls[0], abi.EPOLL_CTL_DEL, reader, None) == 0
    assert box.value(polling.epoll_ctl, epolls[1], abi.EPOLL_CTL_ADD, writer, IN) == 0
    assert box.value(polling.epoll_ctl, epolls[1], abi.EPOLL_CTL_MOD, writer, IN) == 0


def enlarge(box, fd, size=1 << 20):
    return box.value(control.fcntl, fd, abi.F_SETPIPE_SZ, (size, None))


def test_pipes_are_not_enlarged_without_end(box, monkeypatch):
    monkeypatch.setattr(streams, "ENLARGED_BYTES", 3 << 20)
    ends = [a_pair(box) for _ in range(4)]
    assert [enlarge(box, writer) for _, writer in ends] == [1 << 20] * 3 + [-errno.EPERM]
    close_all(box, *ends[0])
    assert enlarge(box, ends[3][0]) == 1 << 20
    assert enlarge(box, ends[1][0], 4096) == 4096
    close_all(box, *ends[1], *ends[2], *ends[3])
    assert box.world.anonymous.pipe_bytes == 0


def test_a_small_pipe_is_no_credit_for_large_ones(box):
    reader, writer = a_pair(box)
    assert enlarge(box, writer, 4096) == 4096
    assert box.world.anonymous.pipe_bytes == 0
    close_all(box, reader, writer)
    assert box.world.anonymous.pipe_bytes == 0


def test_mappings_count_as_open_files(make_box):
    box = make_box(limits={"open_files": 8})
    answers = []
    for _ in range(9):
        fd = box.value(paths.open_, b"/data/hello", 0, 0)
        answers.append(box.value(memory.mmap, 0, 4096, abi.PROT_READ, abi.MAP_PRIVATE, fd, 0))
        close_all(box, fd)
    assert answers == [HIDDEN + number for number in range(7)] + [-errno.ENFILE] * 2
    assert box.value(descriptors.close, HIDDEN) == 0
    fd = box.value(paths.open_, b"/data/hello", 0, 0)
    assert box.value(memory.mmap, 0, 4096, abi.PROT_READ, abi.MAP_PRIVATE, fd, 0) == HIDDEN


def listed(box, fd):
    reply = box.call(directories.getdents64, fd, 8, 4096)
    return reply if isinstance(reply, int) else reply[0]


def test_open_directories_do_not_remember_entries_without_end(box):
    box.world.tree.listings.room = 12
    one, other, third = (box.value(paths.open_, b"/data", abi.O_DIRECTORY, 0) for _ in range(3))
    assert listed(box, one) > 0
    assert listed(box, other) > 0
    assert listed(box, third) == -errno.ENOMEM
    assert box.value(descriptors.lseek, other, 0, 0) == 0
    assert listed(box, third) > 0
    close_all(box, one, other, third)
    assert box.world.tree.listings.room == 12


def test_long_paths_are_not_kept(box):
    tree = box.world.tree
    for number in range(100):
        for call in (paths.stat, paths.lstat):
            box.call(call, b"/data/" + b"./" * 1500 + b"%d" % number, 8)
            box.call(call, b"/data/" + b"./" * 1500 + b"hello", 8)
    assert sum(map(len, [*tree._followed, *tree._unfollowed])) < 1000
