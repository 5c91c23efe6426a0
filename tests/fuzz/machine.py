"""The same calls, in any order, on a virtual filesystem and on a real one: the same answers, the same tree at the end.

Everything goes through the handlers of OS calls, like a guest's requests. Intended differences are left out of the
calls or of the comparison. DIFFERENCES lists them with their reasons.
"""

import contextlib
import os
import shutil
import stat
import struct
import sys
import tempfile
from pathlib import Path

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from sides import Answer, Argument, Boxed, Kernel, Room, as_user

from proxybox.controller.abi import AT_FDCWD, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, STAT
from proxybox.controller.vfs.host.mount import HostMount
from proxybox.controller.vfs.memory import MemoryDirectory
from proxybox.controller.vfs.nodes import Directory, Superblock
from proxybox.controller.vfs.overlay.mount import OverlayMount
from proxybox.controller.vfs.quota import Quota

KINDS = ("memory", "overlay", "rw")

#: What is left out, for which kinds of filesystem, and why.
DIFFERENCES = {
    "sizes and link counts of directories": (KINDS, "each filesystem has its own"),
    "set-id bits": (("rw",), "host folders never show nor store them (limitations.md, Files)"),
    "folders that their owner may not enter": (
        ("rw",),
        "an open folder is walked and read by its path, with the permissions of the moment (limitations.md, Files)",
    ),
    "O_CREAT with O_DIRECTORY": (KINDS, "EINVAL here and since Linux 6.4; before that a file was made"),
    "fallocate with KEEP_SIZE": (("rw",), "sets nothing aside on the host: EOPNOTSUPP (limitations.md, Files)"),
    "very long sparse files": (
        ("overlay",),
        "what would not fit into what is left of the limit is not copied up, however sparse it is (limitations.md, Files)",
    ),
    "offsets in directories": (KINDS, "each filesystem has its own; only going back to the start is the same"),
    "hard links of symbolic links": (("rw",), "each has one name there: EXDEV (limitations.md, Files)"),
    "sendfile within one file": (KINDS, "Linux copies in pieces, and may copy again what it has just written"),
    "links that may lead out": (
        ("overlay", "rw"),
        "others on the host would follow them, at once or after a commit (limitations.md, Files)",
    ),
}


def leads_up(text: bytes) -> bool:
    """Returns whether a link with this text may lead out of its folder, or to the folder itself."""
    parts = text.split(b"/")
    return text[:2] == b"@/" or b".." in parts or not set(parts) - {b"", b"."}


def differs(kind: str, what: str) -> bool:
    return kind in DIFFERENCES[what][0]


# --- what calls are made of -------------------------------------------------------------------------------------------

LEVELS = 8
NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
PARTS = NAMES | NAMES | NAMES | st.sampled_from([b".", b"..", b"", b"n" * 255, b"n" * 256])
PATHS = st.builds(
    lambda start, parts, end: (start + b"/".join(parts).lstrip(b"/") or b".") + end,
    st.sampled_from([b"", b"", b"", b"", b"", b"@/"]),
    st.lists(PARTS, min_size=1, max_size=3) | st.lists(NAMES, min_size=1, max_size=2),
    st.sampled_from([b"", b"", b"", b"", b"", b"/", b"//", b"/."]),
)
MODES = st.sampled_from([0o644, 0o755, 0o755, 0o700, 0o777, 0o600, 0o444, 0o555, 0o333, 0o000, 0o1777, 0o2755, 0o4711])
ACCESS = st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR])
EXTRAS = st.sampled_from(
    [0, os.O_CREAT, os.O_CREAT, os.O_CREAT | os.O_EXCL, os.O_TRUNC, os.O_APPEND, os.O_DIRECTORY, os.O_NOFOLLOW,
     os.O_PATH, os.O_CREAT | os.O_TRUNC, os.O_CREAT | os.O_APPEND, os.O_PATH | os.O_NOFOLLOW, os.O_CREAT | os.O_NOFOLLOW]
)  # fmt: skip
FLAGS = st.builds(lambda access, some: access | some, ACCESS, EXTRAS) | st.builds(
    lambda access, some: access | some[0] | some[1], ACCESS, st.tuples(EXTRAS, EXTRAS)
)
FILES = st.integers(0, 9)
DATA = st.builds(
    lambda text, times: text * times, st.binary(min_size=1, max_size=5), st.sampled_from([0, 1, 1, 3, 900, 2500])
)
OFFSETS = st.sampled_from([0, 0, 1, 5, 4095, 4096, 8192, 10_000, 20_480, 100_000])
HUGE = st.sampled_from([-1, 1 << 32, (1 << 62), (1 << 63) - 1, -(1 << 63)])
SIZES = st.sampled_from([0, 1, 4, 4096, 10_000, 70_000])
TIMES = st.sampled_from(
    [(0, 0), (1, 5), (1_000_000_000, 999_999_999), (5, 0x3FFFFFFE), (7, 0x3FFFFFFF), (0, 10**9), (-3, 1)]
)


class FilesystemMachine(RuleBasedStateMachine):
    """A sequence of calls on both sides."""

    kind = "memory"

    def __init__(self) -> None:
        super().__init__()
        self._closing = contextlib.ExitStack()
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self._closing.callback(os.umask, os.umask(0o022))
        self._closing.callback(os.chdir, os.getcwd())
        with as_user() as creds:
            parent = Path(tempfile.mkdtemp(prefix="proxybox-machine-", dir=base))
        self._closing.callback(_remove, parent)
        self.top = os.fsencode(parent / "top")
        below = os.fsencode(parent / "below")
        self.kernel = Kernel()
        for folder in (self.top, below):
            self.kernel.call("mkdir", folder, 0o755)
        if self.kind != "memory":
            self._populate(self.kernel, below)
        self._populate(self.kernel, self.top)
        quota = Quota(bytes=1 << 30)
        self.boxed = Boxed(
            self._root(below, Superblock(dev=9, uid=creds.uid, gid=creds.gid, quota=quota)), self.top, creds, quota
        )
        self._closing.callback(self.boxed.world.descriptors.close_all)
        if self.kind == "memory":
            self._populate(self.boxed, self.top)
        self.start = self.top + b"/deep" * LEVELS
        self.files: list[tuple[int, int]] = []
        self.inodes: dict[int, int] = {}
        self.streams: dict[tuple[int, int], Streams] = {}
        self.both("chdir", self.start)

    def _root(self, below: bytes, superblock: Superblock) -> Directory:
        if self.kind == "memory":
            return MemoryDirectory(superblock, 0o755)
        creds = superblock.uid, superblock.gid
        writable = self.kind == "rw"
        lower = superblock if writable else Superblock(uid=creds[0], gid=creds[1])
        mount = HostMount(os.fsdecode(below), lower, writable=writable)
        self._closing.callback(mount.close)
        assert isinstance(mount.root, Directory)
        return mount.root if writable else OverlayMount(mount.root, superblock).root

    @staticmethod
    def _populate(side: Kernel | Boxed, top: bytes) -> None:
        """Makes the files at the start; for an overlay, in the lower folder."""
        path = top
        for _ in range(LEVELS):
            path += b"/deep"
            side.call("mkdir", path, 0o755)
        for folder in (path + b"/c", path + b"/c/a", path + b"/d"):
            side.call("mkdir", folder, 0o755)
        for name, data in ((b"/a", b"first\n" * 1000), (b"/c/b", b"second\n"), (b"/c/a/d", b"")):
            fd = side.call("open", path + name, os.O_WRONLY | os.O_CREAT, 0o644).value
            side.call("write", fd, data, len(data))
            side.call("close", fd)
        side.call("symlink", b"c/b", path + b"/b")
        side.call("symlink", b"a", path + b"/c/d")

    # --- both sides -----------------------------------------------------------------------------------------------

    def both(self, name: str, *arguments: Argument | tuple[int, int]) -> tuple[Answer, Answer]:
        """Makes the same call on both sides. In a pair of numbers each side has its own descriptor."""
        real, ours = ([each[side] if isinstance(each, tuple) else each for each in arguments] for side in (0, 1))
        real, ours = ([self._path(each) for each in side] for side in (real, ours))
        answers = self.kernel.call(name, *real), self.boxed.call(name, *ours)
        self.look_at_open_directories()
        return answers

    def _path(self, argument: Argument) -> Argument:
        return self.start + argument[1:] if isinstance(argument, bytes) and argument[:2] == b"@/" else argument

    def same(self, name: str, *arguments: Argument | tuple[int, int]) -> int:
        """Makes the call on both sides, and checks that the answers are the same."""
        real, ours = self.both(name, *arguments)
        assert ours == real, f"{name}{arguments}: Linux {real}, here {ours}"
        return real.value

    def new(self, name: str, *arguments: Argument | tuple[int, int]) -> tuple[int, int] | None:
        """Makes a call that returns a descriptor on both sides, or the same error."""
        real, ours = self.both(name, *arguments)
        if real.value < 0 or ours.value < 0:
            if real.value >= 0:
                os.close(real.value)
            assert ours.value == real.value, f"{name}{arguments}: Linux {real}, here {ours}"
            return None
        pair = real.value, ours.value
        self.files.append(pair)
        self.streams[pair] = Streams()
        if len(self.files) > 9:
            self.drop(self.files[0])
        return pair

    def file(self, which: int) -> tuple[int, int]:
        return self.files[which % len(self.files)] if self.files else (999, 999)

    def directory(self, which: int) -> tuple[int, int]:
        """Returns a descriptor to start a path from: mostly the current directory."""
        return self.file(which) if which < 3 else (AT_FDCWD, AT_FDCWD)

    def mode(self, mode: int, directory: bool = False) -> int:
        if differs(self.kind, "set-id bits"):
            mode &= ~0o6000
        return mode | 0o700 if directory and differs(self.kind, "folders that their owner may not enter") else mode

    def is_kind(self, at: tuple[int, int], path: bytes, kind: int) -> bool:
        """Returns whether a path leads to a file of this kind; a symbolic link is followed unless kind is S_IFLNK."""
        found = self.kernel.call("newfstatat", at[0], self._path(path), Room(144), 0x100 if kind == S_IFLNK else 0)
        return found.value == 0 and STAT.unpack(found.filled[0])[3] & S_IFMT == kind

    def drop(self, pair: tuple[int, int]) -> None:
        self.files.remove(pair)
        del self.streams[pair]
        self.same("close", pair)

    def status(self, name: str, *arguments: Argument | tuple[int, int]) -> None:
        """Makes the call on both sides, and checks that the status is the same."""
        real, ours = self.both(name, *arguments)
        assert (real.value, ours.value) == (real.value, real.value), (
            f"{name}{arguments}: Linux {real.value}, here {ours.value}"
        )
        if real.value == 0:
            at = next(index for index, each in enumerate(arguments) if isinstance(each, Room))
            assert isinstance(arguments[at], Room)
            shown = self.shown(real.filled[0]), self.shown(ours.filled[0])
            assert shown[1] == shown[0], f"{name}{arguments}: Linux {shown[0]}, here {shown[1]}"
            theirs, own = (STAT.unpack(answer.filled[0])[1] for answer in (real, ours))
            assert self.inodes.setdefault(theirs, own) == own, f"{name}{arguments}: another file than on Linux"

    def shown(self, status: bytes) -> tuple[object, ...]:
        """Returns the fields of a status that are compared."""
        _, _, nlink, mode, uid, gid, _, _, size, _, _, _, _, seconds, ns, *_ = STAT.unpack(status)
        time = (seconds, ns) if seconds <= 1_000_000_000 else "now"
        if mode & S_IFMT == S_IFDIR and differs(self.kind, "sizes and link counts of directories"):
            return oct(mode), uid, gid, time
        return oct(mode), uid, gid, time, nlink, size

    def look_at_open_directories(self) -> None:
        """Notes which entries are in the open directories, before they are read further."""
        for (fd, _), streams in self.streams.items():
            if streams.is_open and self.is_directory((fd, 0)):
                streams.look(_names(fd))

    # --- names ----------------------------------------------------------------------------------------------------

    @rule(at=FILES, path=PATHS, mode=MODES)
    def mkdir(self, at: int, path: bytes, mode: int) -> None:
        self.same("mkdirat", self.directory(at), path, self.mode(mode, directory=True))

    @rule(at=FILES, path=PATHS, mode=MODES)
    def mknod(self, at: int, path: bytes, mode: int) -> None:
        self.same("mknodat", self.directory(at), path, S_IFREG | self.mode(mode), 0)

    @rule(at=FILES, path=PATHS, flags=st.sampled_from([0, 0, 0x200]))
    def unlink(self, at: int, path: bytes, flags: int) -> None:
        self.same("unlinkat", self.directory(at), path, flags)

    @rule(at=FILES, old=PATHS, to=FILES, new=PATHS, flags=st.sampled_from([0, 0, 0, 1, 2, 3]))
    def rename(self, at: int, old: bytes, to: int, new: bytes, flags: int) -> None:
        self.same("renameat2", self.directory(at), old, self.directory(to), new, flags)

    @rule(at=FILES, old=PATHS, to=FILES, new=PATHS, flags=st.sampled_from([0, 0x400]))
    def link(self, at: int, old: bytes, to: int, new: bytes, flags: int) -> None:
        start = self.directory(at)
        if not flags and differs(self.kind, "hard links of symbolic links") and self.is_kind(start, old, S_IFLNK):
            return
        self.same("linkat", start, old, self.directory(to), new, flags)

    @rule(text=PATHS, at=FILES, path=PATHS)
    def symlink(self, text: bytes, at: int, path: bytes) -> None:
        if differs(self.kind, "links that may lead out") and leads_up(text):
            return
        self.same("symlinkat", text, self.directory(at), path)

    @rule(at=FILES, path=PATHS)
    def readlink(self, at: int, path: bytes) -> None:
        self.same("readlinkat", self.directory(at), path, Room(100), 100)

    @rule(at=FILES, path=PATHS, flags=st.sampled_from([0, 0x100]))
    def stat(self, at: int, path: bytes, flags: int) -> None:
        self.status("newfstatat", self.directory(at), path, Room(144), flags)

    @rule(at=FILES, path=PATHS, mode=st.integers(0, 7))
    def access(self, at: int, path: bytes, mode: int) -> None:
        self.same("faccessat2", self.directory(at), path, mode, 0x200)

    @rule(at=FILES, path=PATHS, mode=MODES)
    def chmod(self, at: int, path: bytes, mode: int) -> None:
        start = self.directory(at)
        self.same("fchmodat", start, path, self.mode(mode, self.is_kind(start, path, S_IFDIR)))

    @rule(at=FILES, path=PATHS, times=st.none() | st.tuples(TIMES, TIMES), flags=st.sampled_from([0, 0x100]))
    def utimensat(self, at: int, path: bytes, times: tuple[tuple[int, int], ...] | None, flags: int) -> None:
        self.same("utimensat", self.directory(at), path, _times(times), flags)

    @rule(path=PATHS, size=OFFSETS)
    def truncate(self, path: bytes, size: int) -> None:
        self.same("truncate", path, size)

    @rule(path=PATHS)
    def chdir(self, path: bytes) -> None:
        self.same("chdir", path)

    @rule(which=FILES)
    def fchdir(self, which: int) -> None:
        self.same("fchdir", self.file(which))

    @rule()
    def back(self) -> None:
        self.same("chdir", self.start)

    @rule()
    def getcwd(self) -> None:
        self.same("getcwd", Room(4096), 4096)

    @rule(mask=st.sampled_from([0, 0o022, 0o077, 0o777]))
    def umask(self, mask: int) -> None:
        if mask < 0o700 or not differs(self.kind, "folders that their owner may not enter"):
            self.same("umask", mask)

    # --- files ----------------------------------------------------------------------------------------------------

    @rule(at=FILES, path=PATHS, flags=FLAGS, mode=MODES)
    def open(self, at: int, path: bytes, flags: int, mode: int) -> None:
        if flags & os.O_CREAT and differs(self.kind, "O_CREAT with O_DIRECTORY"):
            flags &= ~os.O_DIRECTORY
        self.new("openat", self.directory(at), path, flags | os.O_NONBLOCK, self.mode(mode))

    @rule(path=NAMES, flags=st.sampled_from([os.O_RDWR | os.O_CREAT, os.O_RDONLY, os.O_RDONLY | os.O_DIRECTORY]))
    def open_simply(self, path: bytes, flags: int) -> None:
        self.new("openat", (AT_FDCWD, AT_FDCWD), path, flags, 0o644)

    @rule(which=FILES)
    def close(self, which: int) -> None:
        if self.files:
            self.drop(self.file(which))

    @rule(which=FILES)
    def dup(self, which: int) -> None:
        pair = self.file(which)
        made = self.new("dup", pair)
        if made is not None and pair in self.streams:  # otherwise it was closed as the oldest of ten
            self.streams[made] = self.streams[pair]

    @rule(which=FILES, size=SIZES)
    def read(self, which: int, size: int) -> None:
        self.same("read", self.file(which), Room(size), size)

    @rule(which=FILES, size=SIZES, offset=OFFSETS | HUGE)
    def pread(self, which: int, size: int, offset: int) -> None:
        self.same("pread64", self.file(which), Room(size), size, offset)

    @rule(which=FILES, data=DATA)
    def write(self, which: int, data: bytes) -> None:
        self.same("write", self.file(which), data, len(data))

    @rule(which=FILES, data=DATA, offset=OFFSETS)
    def pwrite(self, which: int, data: bytes, offset: int) -> None:
        self.same("pwrite64", self.file(which), data, len(data), offset)

    @rule(which=FILES, offset=OFFSETS | HUGE, whence=st.integers(0, 5))
    def lseek(self, which: int, offset: int, whence: int) -> None:
        if offset > 1 << 31 and differs(self.kind, "very long sparse files"):
            return
        pair = self.file(which)
        if not (self.is_directory(pair) and differs(self.kind, "offsets in directories")):
            self.same("lseek", pair, offset, whence)

    @rule(which=FILES, size=OFFSETS)
    def ftruncate(self, which: int, size: int) -> None:
        self.same("ftruncate", self.file(which), size)

    @rule(which=FILES)
    def fstat(self, which: int) -> None:
        self.status("fstat", self.file(which), Room(144))

    @rule(which=FILES, mode=MODES)
    def fchmod(self, which: int, mode: int) -> None:
        pair = self.file(which)
        self.same("fchmod", pair, self.mode(mode, self.is_directory(pair)))

    @rule(which=FILES, times=st.none() | st.tuples(TIMES, TIMES))
    def futimens(self, which: int, times: tuple[tuple[int, int], ...] | None) -> None:
        self.same("utimensat", self.file(which), 0, _times(times), 0)

    @rule(which=FILES, mode=st.sampled_from([0, 1]), offset=OFFSETS, size=SIZES)
    def fallocate(self, which: int, mode: int, offset: int, size: int) -> None:
        if mode and differs(self.kind, "fallocate with KEEP_SIZE"):
            return
        self.same("fallocate", self.file(which), mode, offset, size)

    def are_one(self, first: int, second: int) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self.file(first)[0]), os.fstat(self.file(second)[0]))
        return False

    @rule(source=FILES, to=FILES, size=SIZES)
    def sendfile(self, source: int, to: int, size: int) -> None:
        if source != to and differs(self.kind, "sendfile within one file") and self.are_one(source, to):
            return
        self.same("sendfile", self.file(to), self.file(source), 0, size)

    # --- directories ----------------------------------------------------------------------------------------------

    def is_directory(self, pair: tuple[int, int]) -> bool:
        try:
            return os.fstat(pair[0]).st_mode & S_IFMT == S_IFDIR
        except OSError:
            return False

    @rule(path=PATHS)
    def listing(self, path: bytes) -> None:
        """Reads a whole directory at once."""
        pair = self.new("openat", (AT_FDCWD, AT_FDCWD), path, os.O_RDONLY | os.O_DIRECTORY, 0)
        if pair is not None:
            self.same_entries(pair)
            self.drop(pair)

    def same_entries(self, pair: tuple[int, int]) -> list[tuple[bytes, int]]:
        listed: tuple[list[tuple[bytes, int]], list[tuple[bytes, int]]] = ([], [])
        while True:
            real, ours = self.both("getdents64", pair, Room(32768), 32768)
            same_error("getdents64", real, ours)
            for side, answer in zip(listed, (real, ours), strict=True):
                side += _entries(answer)
            if real.value <= 0:
                break
        assert sorted(listed[1]) == sorted(listed[0])
        return listed[0]

    @rule(which=FILES, size=st.sampled_from([24, 60, 32768]))
    def some_entries(self, which: int, size: int) -> None:
        """Reads a part of a directory. Changes of entries meanwhile are checked when its end is reached."""
        pair = self.file(which)
        if not self.is_directory(pair):
            self.same("getdents64", pair, Room(size), size)
            return
        real, ours = self.both("getdents64", pair, Room(size), size)
        same_error("getdents64", real, ours)
        if real.value < 0:
            return
        self.streams[pair].take(_names(pair[0]), (real, ours))

    @rule(which=FILES)
    def rewind(self, which: int) -> None:
        pair = self.file(which)
        if self.is_directory(pair):
            self.same("lseek", pair, 0, os.SEEK_SET)
            self.streams[pair].rewind()

    # --- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self.same("chdir", self.top)
                self.same_tree(b".")
            for pair in tuple(self.files):
                os.close(pair[0])
        finally:
            self._closing.close()

    def same_tree(self, path: bytes) -> None:
        self.status("newfstatat", (AT_FDCWD, AT_FDCWD), path, Room(144), 0x100)
        kind = self.kernel.call("newfstatat", AT_FDCWD, path, Room(144), 0x100)
        mode = STAT.unpack(kind.filled[0])[3] & S_IFMT if kind.value == 0 else 0
        if mode == S_IFLNK:
            self.same("readlink", path, Room(4096), 4096)
        elif mode:
            flags = os.O_RDONLY | os.O_NOFOLLOW
            pair = self.new("openat", (AT_FDCWD, AT_FDCWD), path, flags, 0)
            if pair is None:
                return
            if mode == S_IFREG:
                self.same("read", pair, Room(200_000), 200_000)
                self.drop(pair)
                return
            entries = self.same_entries(pair)
            self.drop(pair)
            for name, _ in entries:
                if name not in (b".", b".."):
                    self.same_tree(path + b"/" + name)


def same_error(name: str, real: Answer, ours: Answer) -> None:
    assert min(real.value, 0) == min(ours.value, 0), f"{name}: Linux {real.value}, here {ours.value}"


class Streams:
    """An open directory that both sides read in parts: which entries must come once, and which may come."""

    def __init__(self) -> None:
        self.rewind()

    def rewind(self) -> None:
        self._lasting: set[bytes] | None = None
        self._ever: set[bytes] = set()
        self._given: tuple[list[bytes], list[bytes]] = ([], [])

    @property
    def is_open(self) -> bool:
        """Returns whether a part of it has been read."""
        return self._lasting is not None

    def look(self, there: set[bytes]) -> None:
        """Notes the entries that the directory has now."""
        if self._lasting is not None:
            self._lasting &= there
            self._ever |= there

    def take(self, there: set[bytes], answers: tuple[Answer, Answer]) -> None:
        if self._lasting is None:
            self._lasting = set(there)
        self.look(there)
        for given, answer in zip(self._given, answers, strict=True):
            new = [name for name, _ in _entries(answer)]
            assert len({*given, *new}) == len(given) + len(new), "an entry was given twice"
            given += new
            assert set(given) <= self._ever, "an entry was never there"
            assert answer.value or self._lasting <= set(given), "an entry was left out"


def _names(fd: int) -> set[bytes]:
    """Returns the entries of an open directory, without moving its offset."""
    with contextlib.suppress(FileNotFoundError):  # the directory was removed
        mode = stat.S_IMODE(os.fstat(fd).st_mode)
        try:
            again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        except PermissionError:  # its own mode forbids that to users other than root
            os.fchmod(fd, 0o700)
            again = os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            os.fchmod(fd, mode)
        try:
            return {*map(os.fsencode, os.listdir(again)), b".", b".."}
        finally:
            os.close(again)
    return {b".", b".."}


def _entries(answer: Answer) -> list[tuple[bytes, int]]:
    """Returns names and types of linux_dirent64 records."""
    found, at = [], 0
    while at < answer.value:
        _, _, length, kind = struct.unpack_from("<QqHB", answer.filled[0], at)
        found.append((answer.filled[0][at + 19 : at + length].split(b"\0")[0], kind))
        at += length
    return found


def _times(times: tuple[tuple[int, int], ...] | None) -> bytes | int:
    return 0 if times is None else struct.pack("<4q", *times[0], *times[1])


def _remove(folder: Path) -> None:
    with as_user():
        os.chmod(folder, 0o700)
        for path, names, _ in os.walk(folder):  # os.walk reads each folder after it has yielded the parent
            for name in names:
                if not os.path.islink(os.path.join(path, name)):
                    os.chmod(os.path.join(path, name), 0o700)
    shutil.rmtree(folder)
