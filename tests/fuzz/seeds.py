"""The first conversations: `seeds.py FOLDER` writes them, one file each. Those that still matter are in the corpus."""

import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller import abi
from proxybox.controller.dispatch import NUMBERS, TABLE
from proxybox.controller.header import THREAD_FLAGS, Fetch
from proxybox.controller.roles import Memory

AUDITED, TTY, COMMITS = 0x60, 0x10, 0x80


def call(name: str, *arguments: int | bytes) -> bytes:
    """Returns the script of one call; bytes stand for an argument that the stub fetches from memory."""
    row = TABLE[NUMBERS[name]]
    said = [b"\0", row.number.to_bytes(2, "little")]
    said += [_register(each) if isinstance(each, int) else b"\x01" for each in arguments]
    for (_, role), each in zip(row.parameters, arguments, strict=True):
        if not isinstance(role, Memory):
            continue
        if isinstance(each, int):
            said.append(b"\xf0")  # the first of MARKERS: no memory
        elif role.fetch is Fetch.STRING:
            said += [b"\0\xf0", bytes([len(each)]), each]
        elif role.fetch is Fetch.GATHER or (role.length and role.size == 1):
            said += [
                b"\0",
                _register(len(each)) if role.fetch is Fetch.GATHER else b"",
                bytes([min(len(each), 31)]),
                each[:31],
            ]
        else:
            words = [int.from_bytes(each[at : at + 8], "little") for at in range(0, len(each), 8)]
            said += [b"\x01", *map(_register, words)]
    return b"".join(said)


def _register(value: int) -> bytes:
    return bytes([value]) if 0 <= value < 64 else b"\xff" + (value & (1 << 64) - 1).to_bytes(8, "little")


def _words(*values: int) -> bytes:
    return b"".join((value & (1 << 64) - 1).to_bytes(8, "little") for value in values)


def conversations() -> Iterator[bytes]:
    for base in (b"/rw", b"/over", b"/tmp", b"/ro", b"/small"):
        yield bytes([COMMITS]) + names(base)
        yield bytes([COMMITS | 2]) + files(base)
        yield bytes([AUDITED | COMMITS]) + names(base)[:600] + files(base)
    for first in (call("open", b"/rw/file", 2, 0), call("pipe2", 0x10, 0o4000), call("open", b"/over", 0, 0),
                  call("socketpair", 1, 1, 0, 0x10), call("epoll_create1", 0), b""):  # fmt: skip
        yield b"\0" + first + b"".join(call("fcntl", 3, command, _words(1, 0, 0, 0)) for command in _named("F_"))
        yield (
            bytes([TTY])
            + first
            + b"".join(
                call("ioctl", fd, request, _words(1, 0, 0, 0, 0, 0))
                for fd in (1, 3)
                for request in _named("TC", "TIO", "FIO")
            )
        )
    yield b"\0" + streams()
    yield b"\x04" + waits()


def _named(*prefixes: str) -> list[int]:
    return [value for name, value in vars(abi).items() if name.startswith(prefixes) and isinstance(value, int)]


def names(base: bytes) -> bytes:
    a, b, c = (base + b"/" + name for name in (b"a", b"b", b"c"))
    return b"".join([
        call("mkdir", a, 0o755), call("mkdir", a + b"/d", 0o755), call("mknod", b, 0o100644, 0),
        call("symlink", b"a/b", c), call("readlink", c, 1, 100), call("lstat", c, 1),
        call("link", b, a + b"/b"), call("rename", b, a + b"/c"), call("renameat2", -100, a, -100, base + b"/folder", 2),
        call("renameat2", -100, base + b"/folder/d", -100, base + b"/d", 1), call("rename", base + b"/file", b),
        call("open", base, 0x10000, 0), call("getdents64", 3, 1, 100), call("chmod", b, 0o600),
        call("chown", b, 1000, 1000), call("utimensat", -100, b, _words(5, 0, 6, 0), 0),
        call("utimensat", -100, c, _words(5, 0, 6, 0), 0x100), call("chdir", base), call("getcwd", 1, 4096),
        call("unlink", c), call("unlink", base + b"/link"), call("rmdir", base + b"/d"), call("getdents64", 3, 1, 4096),
        call("access", b, 7), call("truncate", b, 10_000), call("statfs", base, 1), call("statx", -100, b, 0, 0xFFF, 1),
        call("fchdir", 3), call("unlinkat", -100, b"a", 0x200), call("readlink", b"/proc/self/fd/3", 1, 200),
        call("rename", base + b"/folder", base + b"/z"), call("readlink", base + b"/out", 1, 200),
    ])  # fmt: skip


def files(base: bytes) -> bytes:
    return b"".join([
        call("open", base + b"/n", 0o102, 0o644), call("write", 3, b"w" * 20, 20), call("ftruncate", 3, 50_000),
        call("pwrite64", 3, b"x" * 20, 20, 9000), call("lseek", 3, 0, 3), call("lseek", 3, 0, 4), call("read", 3, 1, 8192),
        call("fallocate", 3, 0, 0, 60_000), call("open", base + b"/file", 2, 0), call("pwrite64", 4, b"y" * 20, 20, 5),
        call("mmap", 0, 4096, 3, 1, 4, 0), call("pwrite64", 1 << 20, b"z" * 20, 20, 0), call("pread64", 1 << 20, 1, 4096, 0),
        call("fstat", 1 << 20, 1), call("close", 1 << 20), call("sendfile", 3, 4, 0, 100),
        call("copy_file_range", 4, _words(1), 3, _words(70_000), 10, 0), call("preadv", 4, _words(1, 5, 2, 5), 2, 0, 0),
        call("pwritev", 3, b"v" * 9, 1, 3, 0), call("unlink", base + b"/file"), call("read", 4, 1, 100),
        call("fchmod", 4, 0o600), call("utimensat", 4, 0, _words(1, 0, 2, 0), 0), call("open", base + b"/n", 0o3001, 0),
        call("fsync", 4), call("flock", 3, 2), call("flock", 5, 6), call("dup2", 3, 9), call("close_range", 3, 9, 0),
        call("open", base + b"/folder/a", 0o1001, 0), call("open", base, 0o20200002, 0o600), call("memfd_create", b"m", 1),
    ])  # fmt: skip


def streams() -> bytes:
    said = [call("pipe2", 0x10, 0), call("socketpair", 1, 1, 0, 0x10), call("eventfd2", 1, 0), call("epoll_create1", 0)]
    said += [call("epoll_ctl", 8, 1, fd, _words(0x80000001 + (fd << 32), fd)) for fd in (3, 4, 5, 6, 7, 0)]
    said += [call("epoll_wait", 8, 0x10, 8, 0), call("poll", _words(1 << 32 | 3, 4 << 32 | 4), 2, 0)]
    said += [
        call("pselect6", 10, _words(0xFF), _words(0xFF), 0, _words(0, 0), 0),
        call("close", 4),
        call("read", 3, 1, 10),
    ]
    said += [call("sendto", 5, b"s" * 9, 9, 0, 0, 0), call("recvfrom", 6, 1, 9, 0, 0, 0), call("shutdown", 5, 1)]
    said += [call("read", 6, 1, 9), call("epoll_ctl", 8, 3, 5, _words(4, 0)), call("epoll_pwait", 8, 0x10, 8, 0, 0, 8)]
    return b"".join(said)


def waits() -> bytes:
    said = [
        call("rt_sigaction", 14, _words(0x1000, 0x4000000, 0x2000, 0), 1, 8),
        call("setitimer", 0, _words(0, 500, 0, 500), 0),
    ]
    said += [call("clone", THREAD_FLAGS, 1, 1, 1, 1), call("pipe2", 0x10, 0), call("read", 3, 1, 5)]
    said += [b"\x0e\x01", call("nanosleep", _words(1, 0), 0), b"\x0d\x04", call("kill", 100, 14), b"\x0d\x04"]
    said += [
        call("tgkill", 100, 101, 10),
        call("rt_sigprocmask", 0, _words(0x2000), 0, 8),
        call("alarm", 1),
        b"\x0d\x05",
    ]
    said += [
        call("rt_sigtimedwait", _words(0x2000), 1, _words(1, 0), 8),
        call("futex", 8, 0, 1, _words(1, 0), 0, 0),
        b"\x0d\x05",
    ]
    said += [call("exit", 0), b"\x0e\x00", call("exit_group", 3)]
    return b"".join(said)


if __name__ == "__main__":
    for number, data in enumerate(conversations()):
        Path(sys.argv[1], f"seed-{number:02}").write_bytes(data)
