"""Files, limits and results that programs meet by chance, and that were once different in a box than on Linux."""

import subprocess

import pytest

import proxybox
from proxybox.controller.guests.finding import find_guest

PROGRAM = r"""
import os, resource, signal, socket, sys
def told(name, action):
    try:
        print(name, repr(action()), flush=True)
    except OSError as error:
        print(name, type(error).__name__, error.errno, flush=True)
told("http", lambda: (socket.getservbyname("http"), socket.getservbyname("domain", "udp"), socket.getservbyport(443)))
told("tcp", lambda: (socket.getprotobyname("tcp"), socket.getprotobyname("udp"), socket.getprotobyname("icmp")))
told("urandom", lambda: (len(os.urandom(1 << 24)), len(set(os.urandom(1 << 21)))))
with open("large", "wb") as file:
    file.write(bytes(3 << 20))
told("read", lambda: len(os.read(os.open("large", os.O_RDONLY), 5 << 19)))
told("links", lambda: [os.readlink(f"/dev/{name}") for name in ("stdin", "stdout", "stderr", "fd")])
told("cmdline", lambda: open("/proc/self/cmdline", "rb").read().split(b"\0")[1:])
told("environ", lambda: b"\0HOME=" in b"\0" + open("/proc/self/environ", "rb").read())
with open("/dev/stdout", "w") as file:
    print("to /dev/stdout", file=file)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
fd = os.open("limited", os.O_RDWR | os.O_CREAT)
told("first", lambda: os.write(fd, bytes(1500)))
told("second", lambda: os.write(fd, b"x"))
told("pwrite", lambda: (os.pwrite(fd, bytes(20), 990), os.pwrite(fd, b"x", 1000)))
told("truncate", lambda: os.truncate(fd, 1001))
told("shorter", lambda: os.truncate("limited", 10))
told("allocate", lambda: os.posix_fallocate(fd, 0, 2000))
told("sendfile", lambda: os.sendfile(fd, os.open("large", os.O_RDONLY), 0, 5000))
told("append", lambda: (os.write(os.open("limited", os.O_WRONLY | os.O_APPEND), b"yes"), os.stat(fd).st_size))
told("handled", lambda: signal.signal(signal.SIGXFSZ, lambda *_: print("SIGXFSZ")) and None)
told("third", lambda: os.pwrite(fd, b"x", 5000))
"""

#: Parts for which the output of bare PyPy depends on the machine.
IN_A_BOX = r"""
import curses, os, platform, socket
print(socket.if_nameindex(), platform.freedesktop_os_release()["ID"])
try:
    socket.if_nametoindex("lo")
except OSError as error:
    print(type(error).__name__)
print(os.readlink("/proc/self/fd/1").partition("[")[0])
for name in ("xterm-256color", "linux", "dumb"):
    try:
        curses.setupterm(name, 1)
        print(curses.tigetnum("cols"), end=" ")
    except curses.error:
        print("none", end=" ")
"""


def test_a_box_and_bare_pypy_say_the_same(tmp_path) -> None:
    script = tmp_path / "script.py"
    script.write_text(PROGRAM)
    bare = subprocess.run(
        [find_guest().executable, "/proc/self/cwd/script.py", "a", "b"],
        cwd=tmp_path, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    (tmp_path / "large").unlink()
    (tmp_path / "limited").unlink()
    with proxybox.Sandbox(limits={"wall_time": 100, "cpu_time": 50}) as box:
        results = [box.run(script, ["a", "b"]) for _ in range(3)]
    for result in results:
        said = result.stdout.replace("/box/script.py", "/proc/self/cwd/script.py")
        assert said == bare.stdout, result.stderr


@pytest.mark.parametrize("name", ["default", "strict"])
def test_what_a_box_says_of_itself(name: str) -> None:
    said = proxybox.run(IN_A_BOX, policy=name, limits={"wall_time": 100, "cpu_time": 50}, on_denied="end").stdout
    head, _, terminals = said.rpartition("\n")
    assert head == "[] linux\nOSError\npipe:"
    known = subprocess.run(
        ["find", "/usr/share/terminfo", "/usr/lib/terminfo", "-name", "xterm-256color"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    assert terminals == ("80 80 80 " if known else "none none none ")


@pytest.mark.parametrize("kind", ["pypy", "cpython"])
def test_pselect_waits_under_its_signal_mask(kind: str, request: pytest.FixtureRequest) -> None:
    guest = request.getfixturevalue("cpython").executable if kind == "cpython" else None
    result = proxybox.run(
        """
import ctypes, errno, os, signal, struct
libc = ctypes.CDLL(None, use_errno=True)
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
os.kill(os.getpid(), signal.SIGUSR1)
print(came, end=" ")
soon = struct.pack("qq", 0, 1000)
blocked = struct.pack("Q", 1 << signal.SIGUSR1 - 1)
print(libc.pselect(0, None, None, None, soon, blocked + bytes(120)), came, end=" ")
print(libc.pselect(0, None, None, None, None, bytes(128)), ctypes.get_errno() == errno.EINTR)
print(signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]) == {signal.SIGUSR1}, came)
print(libc.syscall(270, 0, None, None, None, soon, ctypes.c_void_p(8)), ctypes.get_errno() == errno.EFAULT)
print(libc.syscall(270, 0, None, None, None, soon, struct.pack("QQ", 4096, 4)), ctypes.get_errno() == errno.EINVAL)
""",
        guest=guest,
    )
    assert result.stdout == "[] 0 [] -1 True\nTrue [1]\n-1 True\n-1 True\n", result


PAIR = """
import array, errno, socket
here, there = socket.socketpair()
print(here.sendmsg([b"one ", b"two"]), there.recvmsg(100)[0], here.sendmsg([b"three"]))
pieces = [bytearray(2), bytearray(9)]
print(there.recvmsg_into(pieces), *map(bytes, pieces))
def attempt(call, *words):
    try: print(call(*words), end=" ")
    except OSError as error: print(errno.errorcode[error.errno], end=" ")
attempt(here.sendmsg, [b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [1]))])
attempt(here.sendmsg, [b"x"], [], 0, "/tmp/socket")
attempt(here.sendmsg, [b"x"] * 1025)
attempt(there.recvmsg, 5, 100, socket.MSG_DONTWAIT)
here.sendmsg([b"last"])
here.close()
attempt(there.recvmsg, 100, 100)
attempt(there.recvmsg, 100)
attempt(there.sendmsg, [b"x"])
import ctypes
attempt(lambda: (ctypes.CDLL(None, use_errno=True).sendmsg(there.fileno(), 8, 0), errno.errorcode[ctypes.get_errno()]))
attempt(lambda: (ctypes.CDLL(None, use_errno=True).sendmsg(1, bytes(56), 0), errno.errorcode[ctypes.get_errno()]))
"""


def test_pieces_of_memory_through_a_pair(guest_kind: str) -> None:
    """sendmsg and recvmsg transfer only data."""
    assert proxybox.run(PAIR, check=True).stdout.splitlines() == [
        "7 b'one two' 5",
        "(5, [], 0, None) b'th' b'ree\\x00\\x00\\x00\\x00\\x00\\x00'",
        "ENOTSUP ENOTSUP EMSGSIZE EAGAIN (b'last', [], 0, None) (b'', [], 0, None) EPIPE "
        "(-1, 'EFAULT') (-1, 'ENOTSOCK') ",
    ]


def test_memory_that_has_grown_once_grows_where_it_is() -> None:
    """mremap(2) is emulated: it copies the memory once to a place with room, and then grows it there."""
    program = """
import ctypes
libc, MIB = ctypes.CDLL(None), 1 << 20
for name in ("mmap", "mremap"): getattr(libc, name).restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
place = libc.mmap(0, MIB, 3, 0x22, -1, 0)
libc.mmap(place + MIB, 4096, 3, 0x100022, -1, 0)  # a neighbour, where there is none
ctypes.memset(place, 65, MIB)
grown = libc.mremap(place, MIB, 2 * MIB, 1)
again = libc.mremap(grown, 2 * MIB, 8 * MIB, 1)
print(grown != place, again == grown, ctypes.string_at(again, 8 * MIB) == b"A" * MIB + bytes(7 * MIB))
"""
    for guest in ("pypy", "cpython"):
        assert proxybox.run(program, guest=guest).stdout == "True True True\n"


def test_a_shared_mapping_that_is_cut_where_it_has_nothing() -> None:
    """As on Linux nothing happens: pages that are not mapped are not read to compare them."""
    program = """
import ctypes, os
libc = ctypes.CDLL(None)
for name in ("mmap", "mremap"): getattr(libc, name).restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mremap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
fd = os.open("/box/file", os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 16)
place = libc.mmap(0, 8192, 3, 1, fd, 0)
print(libc.mremap(place, 16384, 12288, 1) == place)
print(libc.munmap(place + 4096, 4096), libc.mremap(place, 8192, 6000, 1) == place)
ctypes.memset(place, 65, 5)
print(libc.munmap(place, 8192), os.pread(fd, 6, 0))
"""
    assert proxybox.run(program).stdout == "True\n0 True\n0 b'AAAAA\\x00'\n"
