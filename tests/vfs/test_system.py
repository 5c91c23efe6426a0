"""/dev, /proc, /etc, generated files, the library, and the memory of the tree."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import stat as st
import struct
import tracemalloc

import pytest

from proxybox.controller import abi
from proxybox.controller.effects import Blocked
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.host.library import altered_file, library, library_file
from proxybox.controller.vfs.memory import MemoryDirectory, MemoryFile
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.pageset import PageSet
from proxybox.controller.vfs.pseudo.devices import dev_directory, open_standard
from proxybox.controller.vfs.pseudo.etc import Identity, etc_directory
from proxybox.controller.vfs.pseudo.generated import GeneratedFile
from proxybox.controller.vfs.pseudo.proc import ProcFacts, proc_directory
from proxybox.controller.vfs.quota import PAGE, Quota
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin


@pytest.fixture
def system(new_box, tmp_path):
    """A box with /dev, /proc and /etc, and its descriptor table."""
    table = DescriptorTable()
    with new_box("memory", tmp_path) as box:
        owner = Superblock(uid=0, gid=0)
        stdin = Stdin(b"given")
        out, err = OutputSink("stdout"), OutputSink("stderr")
        dev = dev_directory(owner, lambda size: b"r" * size, stdin, out)
        box.tree.mount(b"/dev", dev)
        for file in open_standard(owner, stdin, out, err):
            table.install(file)
        facts = ProcFacts(
            tree=box.tree,
            descriptors=table,
            credentials=box.creds,
            cwd=lambda: box.start,
            cmdline=(b"pypy3", b"x.py"),
        )
        box.tree.mount(b"/proc", proc_directory(Superblock(), facts))
        box.tree.mount(b"/etc", etc_directory(Superblock(uid=0, gid=0), Identity()))
        box.out = out
        yield box, table


def test_devices(system, fails):
    box, _ = system
    null, zero = box.open(b"/dev/null", os.O_RDWR), box.open(b"/dev/zero", os.O_RDWR)
    assert null.read(10) == b""
    assert null.write(b"gone") == 4
    assert zero.read(3) == bytes(3)
    assert len(zero.read(1 << 40)) == 1 << 20
    assert box.open(b"/dev/urandom").read(4) == b"rrrr"
    with fails(errno.ENOSPC):
        box.open(b"/dev/full", os.O_WRONLY).write(b"x")
    with fails(errno.ENXIO):
        box.open(b"/dev/tty")
    seen = box.stat(b"/dev/null")
    assert st.S_ISCHR(seen.mode)
    assert seen.rdev == os.makedev(1, 3)
    assert abi.STAT.unpack(box.node(b"/dev/null").stat_bytes())[7] == seen.rdev


def test_standard_streams(system, fails):
    box, table = system
    assert table.get(0).read(3) == b"giv"
    assert box.open(b"/dev/stdin").read(10) == b"en"
    assert table.get(1).write(b"to ") == 3
    assert box.open(b"/dev/stdout", os.O_WRONLY).write(b"stdout") == 6
    assert box.out.getvalue() == b"to stdout"
    with fails(errno.EBADF):
        table.get(0).write(b"x")
    with fails(errno.EBADF):
        table.get(1).read(1)
    with fails(errno.ESPIPE):
        table.get(1).seek(0, 0)
    assert not table.get(0).is_tty


def test_standard_input_that_has_nothing_yet(system):
    reading, writing = os.pipe()
    file = open_standard(Superblock(), Stdin(reading), OutputSink("stdout"), OutputSink("stderr"))[0]
    wait = file.read(10)
    assert isinstance(wait, Blocked)
    assert wait.host_fd == reading
    os.write(writing, b"now")
    assert wait.attempt() == b"now"
    os.close(reading)
    os.close(writing)


def test_proc(system, fails):
    box, _ = system
    assert box.read(b"/proc/self/cmdline") == b"pypy3\0x.py\0"
    assert b"Uid:\t1000\t1000" in box.read(b"/proc/self/status")
    assert box.stat(b"/proc/self/status").size == 0
    assert len(box.read(b"/proc/self/stat").split()) == 52
    assert box.read(b"/proc/cpuinfo").count(b"processor") == 1
    assert b"tmpfs /dev tmpfs" in box.read(b"/proc/self/mounts")
    assert box.read(b"/proc/sys/kernel/ostype") == b"Linux\n"
    assert box.readlink(b"/proc/self/cwd") == b"/m"
    assert box.names(b"/proc/self/fd") == {b"0", b"1", b"2"}
    for name in (b"3", b"-1", b"00", b"x", b"9" * 30):
        with fails(errno.ENOENT):
            box.stat(b"/proc/self/fd/" + name, follow=False)
    with fails(errno.ENOENT):
        box.open(b"/proc/1")
    with fails(errno.EROFS):
        box.write(b"/proc/new", b"")
    for name in (b"meminfo", b"uptime", b"stat", b"loadavg", b"version", b"filesystems"):
        assert box.read(b"/proc/" + name)


def test_descriptors_reopened_through_proc(system):
    box, table = system
    box.write(b"f", b"contents")
    fd = table.install(box.open(b"f"))
    path = b"/proc/self/fd/%d" % fd
    assert box.readlink(path) == b"/m/f"
    assert box.read(path) == b"contents"
    box.unlink(b"f")
    assert box.readlink(path) == b"/m/f (deleted)"
    assert box.read(path) == b"contents"
    assert box.open(b"/dev/fd/1", os.O_WRONLY).write(b"x") == 1


def test_etc(system):
    box, _ = system
    assert b"user:x:1000:1000:" in box.read(b"/etc/passwd")
    assert box.read(b"/etc/hostname") == b"box\n"
    assert box.read(b"/etc/localtime")[:5] == b"TZif2"
    with pytest.raises(OSError, match="mode"):
        box.write(b"/etc/passwd", b"")


def test_utc_is_a_time_zone_that_python_reads(system):
    import io
    import zoneinfo
    from datetime import UTC, datetime, timedelta

    box, _ = system
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(box.read(b"/etc/localtime")), key="local")
    assert datetime(2026, 7, 1, tzinfo=UTC).astimezone(zone).utcoffset() == timedelta(0)


def test_generated_files(fails):
    made = []

    def produce() -> str:
        made.append(1)
        return f"made {len(made)}"

    node = GeneratedFile(Superblock(), produce)
    file = node.open(os.O_RDONLY)
    assert file.read(4) == b"made"
    assert node.open(os.O_RDONLY).read(9) == b"made 2"
    assert file.read(9) == b" 1"
    assert node.stat().size == 6
    with fails(errno.EPERM):
        node.open(os.O_WRONLY)


def test_what_is_allocated_and_not_written_is_a_hole():
    node = MemoryFile(Superblock(), 0o644, 0, 0)
    node.pwrite(bytes(8192), 0)
    node.allocate(8192, 5000, keep_size=False)
    assert (node.seek_data(0, True), node.size()) == (8192, 13192)
    with pytest.raises(OSError) as caught:
        node.seek_data(8192, False)
    assert caught.value.errno == errno.ENXIO
    node.pwrite(b"x", 13000)
    assert (node.seek_data(8192, False), node.seek_data(8192, True)) == (12288, 8192)


def test_pages_set_aside_are_charged_once_wherever_files_are_written_cut_and_copied():
    """Compared with sets of page numbers, with a quota that is often full."""
    dice = random.Random(0)
    for _ in range(300):
        quota = Quota(bytes=24 * PAGE)
        files = [MemoryFile(Superblock(quota=quota), 0o644, 0, 0) for _ in range(2)]
        charged: list[set[int]] = [set(), set()]
        sizes = [0, 0]
        for _ in range(20):
            which = dice.randrange(2)
            file, pages = files[which], charged[which]
            first, count = dice.choice([0, 3, 509, 1 << 40]) + dice.randrange(4), dice.randrange(1, 6)
            wanted = set(range(first, first + count))
            free = 24 - len(charged[0]) - len(charged[1])
            match dice.randrange(4):
                case 0:
                    with contextlib.suppress(OSError):
                        file.allocate(first * PAGE, count * PAGE, keep_size=dice.random() < 0.5)
                        pages |= wanted
                case 1:
                    written, room = set(), free
                    for page in sorted(wanted):
                        if page not in pages and not room:
                            break
                        room -= page not in pages
                        written.add(page)
                    with contextlib.suppress(OSError):
                        assert file.pwrite(b"x" * count * PAGE, first * PAGE) == len(written) * PAGE
                    pages |= written
                case 2 if first * PAGE <= sizes[which]:
                    file.truncate(first * PAGE)
                    charged[which] = {page for page in pages if page < first}
                case 3 if quota.used_bytes + len(pages) * PAGE <= 24 * PAGE:
                    quota.credit_pages(len(charged[1 - which]))
                    quota.charge_pages(len(pages))
                    file.share_pages(files[1 - which])
                    charged[1 - which] = set(pages)
            sizes = [each.size() for each in files]
            assert [each.stat().blocks * 512 for each in files] == [len(each) * PAGE for each in charged]
            assert quota.used_bytes == sum(map(len, charged)) * PAGE
        for each in files:
            each.truncate(0)
            each.allocate(0, PAGE, keep_size=True)
            each.free()
        assert quota.used_bytes == 0


def test_truncating_a_file_to_its_size_gives_back_what_is_set_aside_beyond_it():
    """Truncating frees the reserved pages beyond the end, as on tmpfs(5)."""
    quota = Quota(bytes=1 << 20)
    node = MemoryFile(Superblock(quota=quota), 0o644, 0, 0)
    node.pwrite(b"x" * 5000, 0)
    node.allocate(0, 10 * PAGE, keep_size=True)
    assert quota.used_bytes == 10 * PAGE
    node.truncate(5000)
    assert (quota.used_bytes, node.pread(9999, 0)) == (2 * PAGE, b"x" * 5000)


def _cut_back():
    node = MemoryFile(Superblock(quota=Quota()), 0o644, 0, 0)
    other = MemoryFile(node.superblock, 0o644, 0, 0)
    node.share_pages(other)
    for index in range(COUNT):
        node.pwrite(b"x", index * PAGE)
    node.truncate(PAGE)
    return node, other


def _cut_back_bit_by_bit():
    node, other = _cut_back()
    for index in range(COUNT):
        node.pwrite(b"x", index * PAGE)
    for index in reversed(range(1, COUNT)):
        node.truncate(index * PAGE)
    return node, other


def _cut_back_where_space_was_set_aside():
    node = MemoryFile(Superblock(quota=Quota()), 0o644, 0, 0)
    for index in reversed(range(COUNT)):
        node.allocate(index << 21, PAGE, keep_size=False)
    node.truncate(PAGE)
    return node


def _names_removed():
    root = MemoryDirectory(Superblock(quota=Quota()))
    for index in range(COUNT):
        root.create(b"%d" % index, 0o644, Credentials(0, 0))
    for index in range(COUNT):
        root.unlink(b"%d" % index)
    return root


def _pages_given_back():
    pages = PageSet()
    pages.add([0])
    for index in range(1, COUNT):
        pages.add([index << 9])
        pages.remove([index << 9])
    return pages


#: The number of pages and names; nearly all are removed again.
COUNT = 3000


@pytest.mark.parametrize(
    "scene",
    [_cut_back, _cut_back_bit_by_bit, _cut_back_where_space_was_set_aside, _names_removed, _pages_given_back],
    ids=lambda scene: scene.__name__.strip("_"),
)
def test_what_was_removed_takes_no_memory(scene):
    """Removed data is freed. Otherwise a guest could make the controller store gigabytes, with each of its 10,000
    files.
    """
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        kept = scene()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 20_000
        assert kept is not None
    finally:
        tracemalloc.stop()


def test_sparse_files_cost_nothing():
    quota = Quota(bytes=1 << 20)
    node = MemoryFile(Superblock(quota=quota), 0o644, 0, 0)
    node.truncate(1 << 40)
    assert quota.used_bytes == 0
    node.pwrite(b"end", (1 << 40) - 3)
    assert quota.used_bytes == 4096
    assert node.stat().blocks == 8
    file = node.open(os.O_RDWR)
    assert file.seek(0, os.SEEK_DATA) == (1 << 40) - 4096
    assert file.seek(0, os.SEEK_HOLE) == 0
    assert file.read(1 << 40) == bytes(1 << 20)
    with pytest.raises(OSError, match="space"):
        node.allocate(0, 1 << 40, keep_size=True)
    node.truncate(0)
    assert quota.used_bytes == 0


@pytest.mark.parametrize("offset", [(1 << 63) - 1, (1 << 63) - 2, 1 << 62])
def test_offsets_at_the_end_of_the_world(offset, fails):
    file = MemoryFile(Superblock(), 0o644, 0, 0).open(os.O_RDWR)
    if offset == 1 << 62:
        assert file.pwrite(b"abc", offset) == 3
    else:
        with fails(errno.EINVAL):  # as on Linux: the range would end beyond all offsets
            file.pwrite(b"abc", offset)
    assert file.seek(offset, os.SEEK_SET) == offset
    with fails(errno.EINVAL):
        file.seek(1 << 63, os.SEEK_CUR)


def test_times_come_from_the_box_clock(new_box, tmp_path):
    now = [5_000]
    for kind in ("memory", "overlay", "rw"):
        folder = tmp_path / kind
        folder.mkdir()
        with new_box(kind, folder) as box:
            box.start.superblock.now = lambda: now[0]
            box.start.superblock.clock_is_real = False
            box.write(b"f", b"x")
            seen = box.stat(b"f")
            assert (seen.mtime_ns, seen.ctime_ns) == (5_000, 5_000), kind


def test_resolved_paths_are_kept_until_something_changes(system, fails):
    box, _ = system
    box.mkdir(b"/m/d")
    with fails(errno.ENOENT):
        box.stat(b"/m/d/f")
    with fails(errno.ENOENT):
        box.stat(b"/m/d/f")
    box.write(b"/m/d/f", b"x")
    node = box.node(b"/m/d/f")
    assert box.node(b"/m/d/f") is node
    other = Credentials(1001, 1001)
    box.chmod(b"/m/d", 0o700)
    with fails(errno.EACCES):
        box.tree.resolve(b"/m/d/f", box.tree.root, other)
    assert box.node(b"/m/d/f") is node
    box.rename(b"/m/d", b"/m/e")
    with fails(errno.ENOENT):
        box.stat(b"/m/d/f")


def test_mounts_over_folders_files_and_nothing(system, fails):
    box, _ = system
    box.tree.mount(b"/made/on/the/way", MemoryDirectory(Superblock()))
    above = box.open(b"/made/on/the")
    assert [name for name, _, _ in above.entries()] == [b".", b"..", b"way"]
    box.tree.mount(b"/proc/nothing/here", MemoryDirectory(Superblock()))
    file = box.open(b"/proc")
    assert b"nothing" in {name for name, _, _ in file.entries()}
    assert box.tree.path_of(box.node(b"/proc/nothing/here")) == b"/proc/nothing/here"
    box.tree.mount(b"/etc/hostname", GeneratedFile(Superblock(), lambda: b"other\n"))
    assert box.read(b"/etc/hostname") == b"other\n"
    root = Credentials(0, 0)
    with fails(errno.EBUSY):
        namei.unlink(box.tree, b"/etc/hostname", box.tree.root, root)
    with fails(errno.EXDEV):
        namei.rename(box.tree, b"/etc/passwd", box.tree.root, b"/m/x", box.tree.root, root)
    with pytest.raises(ValueError, match="twice"):
        box.tree.mount(b"/again", box.node(b"/etc"))


def test_library_numbers_do_not_depend_on_the_order(host_folder, tmp_path):
    (tmp_path / "large").mkdir()
    (tmp_path / "large" / "file").write_bytes(os.urandom(5 << 20))
    one = library(str(host_folder), b"/lib/one")
    two = library(str(host_folder), b"/lib/two")
    assert one.root.lookup(b"file").stat().ino != two.root.lookup(b"file").stat().ino
    assert one.root.entries() == sorted(one.root.entries())
    inos = {name: ino for name, ino, _ in one.root.entries()}
    assert one.root.lookup(b"file").stat().ino == inos[b"file"]
    assert struct.unpack_from("<Q", one.root.lookup(b"file").stat_bytes(), 8)[0] == inos[b"file"]
    big = library_file(str(tmp_path / "large" / "file"), b"/lib/large/file")
    data = (tmp_path / "large" / "file").read_bytes()
    assert big.open(os.O_RDONLY).pread(10, 4 << 20) == data[4 << 20 : (4 << 20) + 10]


def test_a_library_that_was_replaced_since_is_not_given_to_a_guest(tmp_path):
    file = tmp_path / "lib.so"
    file.write_bytes(b"first")
    assert library_file(str(file), b"/lib.so").host_descriptor() is None
    node = library(str(tmp_path), b"/usr/lib", may_be_mapped=True).root.lookup(b"lib.so")
    fd = node.host_descriptor()
    assert fd is not None
    assert os.read(fd, 9) == b"first"
    os.close(fd)
    altered = altered_file(str(file), b"/lib.so", bytes.upper)
    assert altered is not None
    assert altered.host_descriptor() is None
    file.write_bytes(b"second!")
    assert node.host_descriptor() is None
    file.unlink()
