"""The answer to the open of a library's file contains the whole file: a program cannot notice that, however it reads.

Each case runs without an observer, and once more with an audit: then each call goes to the controller.
"""

from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import OSCall

EACH_GUEST = True
#: trapped_read and trapped_place make the system call itself, without libc's function: a program sees no difference.
PROLOGUE = """
import ctypes, errno, fcntl, io, mmap, os, select, sys, termios, threading
libc = ctypes.CDLL(None, use_errno=True)
path = os.__file__
with open(path, "rb", buffering=0) as file: data = file.read()
size = len(data)
def trapped_read(fd, count):
    place = ctypes.create_string_buffer(count)
    got = libc.syscall(0, fd, place, count)
    return place.raw[:got]
def trapped_place(fd): return libc.syscall(8, fd, 0, 1)
def failing(call, *words):
    try: return call(*words)
    except OSError as error: return errno.errorcode[error.errno]
fd = os.open(path, os.O_RDONLY)
"""
CASES = {
    "pieces": "assert b''.join(iter(lambda: os.read(fd, 1000), b'')) == data and os.read(fd, 10) == b''",
    "all and more": "assert os.read(fd, 1 << 20) == data and os.read(fd, 1) == b'' and os.read(fd, 0) == b''",
    "status": "assert os.fstat(fd) == os.stat(path) and os.fstat(fd).st_size == size",
    "seeks": """
for to, whence, place in ((5, 0, 5), (7, 1, 12), (-2, 1, 10), (-10, 2, size - 10), (0, 2, size), (size, 0, size)):
    assert os.lseek(fd, to, whence) == place, (to, whence)
    assert os.read(fd, 3) == data[place:place + 3]; os.lseek(fd, place, 0)
""",
    "seeks that fail": """
os.lseek(fd, 9, 0)
for to, whence in ((-1, 0), (-10, 1), (-size - 1, 2), (-1 << 63, 0), ((1 << 63) - 1, 2), (0, 9), (0, -1)):
    assert failing(os.lseek, fd, to, whence) == "EINVAL" or (to, whence) == ((1 << 63) - 1, 2), (to, whence)
assert os.read(fd, 4) == data[9:13]
""",
    "beyond the end": """
assert os.lseek(fd, size + 10, 0) == size + 10 and os.read(fd, 5) == b'' and os.lseek(fd, 0, 1) == size + 10
""",
    "holes": "assert os.lseek(fd, 5, 3) == 5 and os.lseek(fd, 5, 4) == size",
    "a duplicate": """
assert os.read(fd, 10) == data[:10]; other = os.dup(fd)
assert os.read(other, 10) == data[10:20] and os.read(fd, 10) == data[20:30]
os.close(fd); assert os.read(other, 10) == data[30:40]
""",
    "a duplicate in its place": """
os.read(fd, 7)
null = os.open('/dev/null', 0)
os.dup2(null, fd)
assert os.read(fd, 5) == b'' and not os.isatty(fd)
""",
    "system calls between": """
assert os.read(fd, 10) == data[:10] and trapped_place(fd) == 10 and trapped_read(fd, 5) == data[10:15]
assert os.read(fd, 5) == data[15:20] and os.lseek(fd, 0, 1) == 20 and trapped_place(fd) == 20
""",
    "system calls alone": "assert trapped_read(fd, 10) == data[:10] and os.read(fd, 10) == data[10:20]",
    "at places": """
assert os.pread(fd, 9, 100) == data[100:109] and os.read(fd, 3) == data[:3] and os.read(fd, 3) == data[3:6]
""",
    "vectors": """
os.read(fd, 5)
place = ctypes.create_string_buffer(7)
vector = (ctypes.c_size_t * 2)(ctypes.addressof(place), 7)
assert libc.readv(fd, vector, 1) == 7 and place.raw == data[5:12] and os.read(fd, 2) == data[12:14]
""",
    "sendfile": """
os.read(fd, 5)
out = os.open('/box/out', os.O_RDWR | os.O_CREAT)
assert os.sendfile(out, fd, None, 20) == 20 and os.pread(out, 99, 0) == data[5:25]
assert os.read(fd, 3) == data[25:28]
""",
    "copy_file_range": """
os.read(fd, 5)
out = os.open('/box/out', os.O_RDWR | os.O_CREAT)
assert libc.copy_file_range(fd, None, out, None, 20, 0) == 20 and os.read(fd, 3) == data[25:28]
""",
    "a mapping": """
os.read(fd, 5)
assert mmap.mmap(fd, 0, prot=mmap.PROT_READ)[:] == data and os.read(fd, 3) == data[5:8]
""",
    "through /proc": """
os.read(fd, 5)
other = os.open(f'/proc/self/fd/{fd}', 0)
assert os.read(other, 3) == data[:3] and os.read(fd, 3) == data[5:8]
""",
    "what waits": """
os.read(fd, size - 5)
assert fcntl.ioctl(fd, termios.FIONREAD, bytes(4)) == (5).to_bytes(4, 'little') and os.read(fd, 9) == data[-5:]
""",
    "no terminal": "assert not os.isatty(fd) and os.read(fd, 4) == data[:4] and not os.isatty(fd)",
    "flags": """
os.read(fd, 5)
assert fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == 0 and not os.get_inheritable(fd)
os.set_inheritable(fd, True)
assert os.read(fd, 2) == data[5:7]
""",
    "writing": """
assert failing(os.write, fd, b'x') == 'EBADF' and failing(os.ftruncate, fd, 0) == 'EINVAL'
assert os.read(fd, 2) == data[:2]
""",
    "two files": """
other = os.open(ctypes.__file__, 0)
text = os.read(other, 1 << 20)
assert os.read(fd, 5) == data[:5] and os.lseek(other, 0, 0) == 0 and os.read(other, 1 << 20) == text
assert os.read(fd, 5) == data[5:10]
""",
    "the same file twice": """
os.read(fd, 5)
other = os.open(path, 0)
assert os.read(other, 9) == data[:9] and os.read(fd, 9) == data[5:14] and os.read(other, 9) == data[9:18]
""",
    "closed": """
os.read(fd, 5)
os.close(fd)
assert failing(os.read, fd, 1) == failing(os.fstat, fd) == "EBADF"
assert failing(os.lseek, fd, 0, 0) == failing(os.close, fd) == 'EBADF'
""",
    "closed, and the number used again": """
os.read(fd, 5); os.close(fd)
assert os.stat(path).st_size == size and failing(os.fstat, fd) == 'EBADF' and os.open(path, 0) == fd
os.close(fd); assert os.open('/dev/null', 0) == fd and os.read(fd, 1) == b''
""",
    "closed, then a path that no call can carry": """
for _ in range(100):
    os.close(os.open(path, 0))
    assert failing(os.open, "x" * 5000, 0) == "ENAMETOOLONG" and libc.open(ctypes.c_void_p(8), 0) == -1
os.close(fd)
assert os.dup(0) == fd
""",
    "closed, and gone from /proc": """
os.close(fd)
assert not os.path.exists(f"/proc/self/fd/{fd}") and not os.access(f"/proc/self/fd/{fd}", 0)
os.chdir("/proc/self/fd")
again = os.open(path, 0)
os.close(again)
assert not os.path.exists(str(again))
""",
    "nonsense of lseek": """
assert {failing(os.lseek, fd, 0, each) for each in (-1, -2, 5, 99, -1 << 31)} == {'EINVAL'}
assert os.read(fd, 3) == data[:3]
""",
    "deep folders": """
for _ in range(45):
    os.mkdir("d" * 100)
    os.chdir("d" * 100)
assert len(os.getcwd()) == 4 + 45 * 101 and libc.getcwd(ctypes.create_string_buffer(9), 0) == 0
""",
    "closed, then a pipe": "os.read(fd, 5); os.close(fd); assert os.pipe()[0] == fd",
    "closed, asked by a system call": "os.close(fd); assert libc.syscall(72, fd, 1) == -1 and ctypes.get_errno() == 9",
    "closed, then opened in vain": "os.close(fd); assert failing(os.open, '/none', 0) == 'ENOENT' and os.dup(0) == fd",
    "closed by a system call": """
os.read(fd, 5)
assert libc.syscall(3, fd) == 0 and failing(os.read, fd, 1) == 'EBADF' and os.open('/dev/null', 0) == fd
assert os.read(fd, 1) == b''
""",
    "closed by a range": "os.read(fd, 5); os.closerange(fd, fd + 1); assert failing(os.read, fd, 1) == 'EBADF'",
    "no memory there": """
assert libc.read(fd, ctypes.c_void_p(8), 10) == -1 and ctypes.get_errno() == 14
assert libc.fstat(fd, ctypes.c_void_p(8)) == -1 and os.lseek(fd, 0, 0) == 0 and os.read(fd, 4) == data[:4]
""",
    "threads that come later": """
os.read(fd, 5); pieces = []
thread = threading.Thread(target=lambda: pieces.append(os.read(fd, 10))); thread.start(); thread.join()
assert pieces == [data[5:15]] and os.read(fd, 5) == data[15:20]
fresh = os.open(path, 0); assert os.read(fresh, 10) == data[:10]
thread = threading.Thread(target=lambda: pieces.append(os.read(fresh, 10))); thread.start(); thread.join()
assert pieces[1] == data[10:20] and os.read(fresh, 5) == data[20:25]
""",
    "text files": """
file = open(path)
assert file.readline() == data.decode().splitlines(True)[0] and file.tell() and file.seek(0) == 0
assert file.read().encode() == data
""",
    "stdio": """
libc.fopen.restype = ctypes.c_void_p; stream = ctypes.c_void_p(libc.fopen(path.encode(), b"r"))
place = ctypes.create_string_buffer(30)
assert libc.fread(place, 1, 30, stream) == 30 and place.raw == data[:30] and libc.fclose(stream) == 0
""",
    "C's stream of it": """
os.read(fd, 5); libc.fdopen.restype = ctypes.c_void_p
stream = ctypes.c_void_p(libc.fdopen(fd, b"r")); place = ctypes.create_string_buffer(30)
assert libc.fread(place, 1, 30, stream) == 30 and place.raw == data[5:35] and libc.fclose(stream) == 0
""",
    "flags of open": """
assert failing(os.open, path, os.O_DIRECTORY) == 'ENOTDIR' and failing(os.open, path, os.O_WRONLY) == 'EROFS'
assert failing(os.open, path, os.O_CREAT | os.O_EXCL) == 'EEXIST'
""",
    "a path alone": """
there = os.open(path, 0o10000000)
assert failing(os.read, there, 1) == 'EBADF' and os.fstat(there).st_size == size
""",
    "a folder": """
folder = os.open(os.path.dirname(path), 0)
assert failing(os.read, folder, 1) == 'EISDIR' and 'os.py' in os.listdir(folder)
""",
    "relative to a folder": """
folder = os.open(os.path.dirname(path), 0)
there = os.open('os.py', 0, dir_fd=folder)
assert os.read(there, 9) == data[:9]
""",
    "other files": """
made = os.open('/box/own', os.O_CREAT | os.O_WRONLY)
os.write(made, b'own')
own = os.open('/box/own', os.O_RDWR)
assert os.read(own, 9) == b'own'
os.write(own, b'!')
assert os.pread(own, 9, 0) == b'own!'
""",
    "a large one": """
paths = [os.path.join(f, n) for f, _, names in os.walk(os.path.dirname(path)) for n in names]
big = max(filter(os.path.isfile, paths), key=os.path.getsize)
there = os.open(big, 0)
assert os.fstat(there).st_size > 300000 and len(os.read(there, 1 << 18)) == 1 << 18
assert os.lseek(there, 0, 1) == 1 << 18
""",
    "no descriptor left": """
import gc, resource
kept = []
try:
    while True: kept.append(os.open(path, 0))
except OSError as error: assert error.errno == errno.EMFILE
assert all(os.read(each, 5) == data[:5] for each in kept)
""",
}  # fmt: skip


@pytest.mark.sized(21)
@pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_cannot_tell(case: str, observed: bool) -> None:
    options: dict[str, Any] = {"audit": lambda call: None} if observed else {}
    with proxybox.Sandbox(limits={"open_files": 64}, **options) as box:
        result = box.run(PROLOGUE + case)
    assert result.ok, f"{result}\n{result.stderr}"


def test_an_audit_sees_each_call() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        box.run(PROLOGUE + "os.read(fd, 10); os.lseek(fd, 0, 1); os.fstat(fd); os.close(fd)", check=True)
    assert {call.number for call in calls if call.name == "openat"} == {257}
    names = " ".join(call.name for call in calls if call.family != "clock")
    assert "read lseek fstat close" in names


def test_a_file_that_the_host_has_removed(tmp_path: Path) -> None:
    """Opening it succeeds, as before, and reading fails. The descriptors are closed."""
    (tmp_path / "seen.py").write_text("x = 1\n")
    tmp_path.chmod(0o755)
    with proxybox.Sandbox(packages=[tmp_path], limits={"open_files": 20}) as box:
        found = box.run("import sys; print([p for p in sys.path if 'python' in p or 'packages' in p])").stdout
        code = f"""
import os
paths = [p + "/seen.py" for p in {found.strip()} if os.path.exists(p + "/seen.py")]
assert paths, {found!r}
os.stat(paths[0])
input()
for _ in range(100):
    fd = os.open(paths[0], 0)
    try: os.read(fd, 1)
    except OSError: pass
    os.close(fd)
"""

        def remove(_: int) -> str:
            (tmp_path / "seen.py").unlink(missing_ok=True)
            return "\n"

        result = box.run(code, stdin=remove)
    assert result.ok, f"{result}\n{result.stderr}"


def test_an_interceptor_by_number_is_asked_for_each_open() -> None:
    """The stub's own open by its number fails where calls are observed."""
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        result = box.run(
            "import ctypes, os\nprint(ctypes.CDLL(None).syscall(510, -100, os.__file__.encode(), 0, 0, 0, 0))"
        )
    assert result.stdout == "-1\n"
    assert 510 not in {call.number for call in calls}


def test_fewer_calls_are_counted_where_nobody_observes() -> None:
    seen = {}
    for name, options in {"observed": {"audit": lambda call: None}, "not": {}}.items():
        with proxybox.Sandbox(warm=False, **options) as box:  # type: ignore[arg-type]
            seen[name] = box.run("import decimal, json, asyncio").usage.calls
    assert seen["not"] < 0.7 * seen["observed"]


def test_a_session_that_is_observed_from_one_command_on() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox() as box, box.session() as session:
        session.exec(PROLOGUE + "os.read(fd, 5)", check=True)
        session.audit(calls.append)
        session.exec("assert os.read(fd, 5) == data[5:10]; other = os.open(path, 0); os.read(other, 5)", check=True)
        assert [call.name for call in calls if call.family in ("paths", "descriptors")].count("read") >= 1
        assert {call.number for call in calls if call.name == "openat"} == {257}
        session.audit(None)
        session.exec("assert os.read(fd, 5) == data[10:15] and os.read(other, 5) == data[5:10]", check=True)


def test_copies_of_a_session_read_on_where_it_stood() -> None:
    with proxybox.Sandbox(session={"branches": 2}) as box, box.session() as session:
        session.exec(PROLOGUE + "os.read(fd, 5)", check=True)
        with session.fork() as copy:
            for each in (copy, session):
                each.exec("assert os.read(fd, 5) == data[5:10]", check=True)


def _is_outside(path: str) -> bool:
    """Whether files that a program has closed stay open while it looks up `path`: then it makes fewer calls."""
    program = """
import os, sys
for _ in range(50): os.close(os.open(os.__file__, os.O_RDONLY)); os.access(sys.argv[1], os.F_OK)
"""
    with proxybox.Sandbox(warm=False) as box:
        calls = [box.run(program, args=[each], check=True).usage.calls for each in (path, "/etc/none")]
    return calls[1] - calls[0] > 40


def test_the_controller_says_which_paths_are_outside_of_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stub has no own list of paths. Before a lookup of any other path, it closes the files that the program has
    closed.
    """
    paths = ("/usr/lib", "/packages", "/packages/x", "/box")
    assert [_is_outside(path) for path in (*paths, "/box/x", "/usr")] == [True, True, True, True, False, False]
    others = ("/box/", "/packages/x/", "/packagesx", "/usr/libx", "/u", "")
    monkeypatch.setattr("proxybox.controller.boxes.box.OUTSIDE_PROC", others)
    assert [_is_outside(path) for path in (*paths, "/box/x")] == [False, False, False, False, True]
