"""The stub requests the status of a library's file or of a folder in memory once: a program cannot notice that.

Each case runs without an observer, and once more with an audit: then each call goes to the controller.
"""

from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import OSCall

EACH_GUEST = True
PROLOGUE = """
import ctypes, os, stat, threading, time
libc = ctypes.CDLL(None, use_errno=True)
here, library = "/tmp", os.path.dirname(os.__file__)
def failing(call, *words):
    try: return call(*words)
    except OSError as error: return error.errno
def looked(path): # asks twice, so that the second answer may be remembered, and compares with a call that traps
    found = [failing(os.stat, path), failing(os.stat, path), failing(os.lstat, path), failing(os.lstat, path)]
    assert found[0] == found[1] and found[2] == found[3], (path, found)
    return found[0]
def changes(path, change):
    before = looked(path)
    time.sleep(0.002)
    change()
    after = looked(path)
    assert (after, getattr(after, "st_ctime_ns", 0)) != (before, getattr(before, "st_ctime_ns", 0)), path
"""
CASES = {
    "the library": """
first = looked(os.__file__)
assert all(os.stat(os.__file__) == first for _ in range(200)) and first.st_size == len(open(os.__file__, "rb").read())
assert looked(library).st_ino != first.st_ino and stat.S_ISDIR(looked(library).st_mode)
""",
    "a new file": "changes('/box', lambda: open('/box/new', 'w').close())",
    "a new file, by a system call": "changes('/tmp', lambda: libc.syscall(85, b'/tmp/new', 0o644))",
    "a new file, by a call that mostly changes nothing": """
changes('/tmp', lambda: libc.syscall(257, -100, b'/tmp/new', os.O_CREAT, 0o644))
""",
    "a new folder": "changes('/tmp', lambda: os.mkdir('/tmp/new'))",
    "a file is removed": "open('/box/new', 'w').close(); changes('/box', lambda: os.unlink('/box/new'))",
    "a file is renamed": "open('/tmp/a', 'w').close(); changes('/tmp', lambda: os.rename('/tmp/a', '/tmp/b'))",
    "a link": "changes('/box', lambda: os.symlink('/nowhere', '/box/link'))",
    "a hard link": "open('/tmp/a', 'w').close(); changes('/tmp', lambda: os.link('/tmp/a', '/tmp/b'))",
    "its mode": "os.mkdir('/tmp/d'); changes('/tmp/d', lambda: os.chmod('/tmp/d', 0o700))",
    "its mode, by descriptor": """
os.mkdir('/tmp/d'); fd = os.open('/tmp/d', 0); changes('/tmp/d', lambda: os.fchmod(fd, 0o700))
""",
    "its times": "os.mkdir('/tmp/d'); changes('/tmp/d', lambda: os.utime('/tmp/d', (1, 2)))",
    "it is removed": "os.mkdir('/tmp/d'); changes('/tmp/d', lambda: os.rmdir('/tmp/d')); assert looked('/tmp/d') == 2",
    "it is made": "assert looked('/tmp/d') == 2; changes('/tmp/d', lambda: os.mkdir('/tmp/d'))",
    "it is moved": """
os.mkdir('/tmp/d'); before = looked('/tmp/d'); os.rename('/tmp/d', '/tmp/e')
assert looked('/tmp/d') == 2 and looked('/tmp/e').st_ino == before.st_ino
""",
    "two are swapped": """
os.mkdir('/tmp/a'); os.mkdir('/tmp/b'); a, b = looked('/tmp/a').st_ino, looked('/tmp/b').st_ino
assert libc.renameat2(-100, b'/tmp/a', -100, b'/tmp/b', 2) == 0
assert (looked('/tmp/a').st_ino, looked('/tmp/b').st_ino) == (b, a)
""",
    "a link in its place": """
os.mkdir('/tmp/d'); looked('/tmp/d'); os.rmdir('/tmp/d'); os.symlink(library, '/tmp/d')
assert looked('/tmp/d') == looked(library) and stat.S_ISLNK(os.lstat('/tmp/d').st_mode)
""",
    "a link on the way is turned": """
os.symlink(library, '/tmp/way'); os.mkdir('/tmp/other'); assert looked('/tmp/way/os.py') == looked(os.__file__)
os.unlink('/tmp/way'); os.symlink('/tmp/other', '/tmp/way'); assert looked('/tmp/way/os.py') == 2
""",
    "a folder on the way is closed": """
os.mkdir('/tmp/a'); os.mkdir('/tmp/a/b'); looked('/tmp/a/b'); os.chmod('/tmp/a', 0); assert looked('/tmp/a/b') == 13
os.chmod('/tmp/a', 0o700); assert stat.S_ISDIR(looked('/tmp/a/b').st_mode)
""",
    "another spelling": """
assert looked(library + '/') == looked(library) == looked('/' + library) == looked(library + '/./../' +
    os.path.basename(library))
assert looked(os.__file__ + '/') == 20
""",
    "relative": """
os.chdir(library); first = looked('os.py'); os.chdir('/tmp')
assert looked('os.py') == 2 and looked('.') == looked('/tmp')
assert first == looked(os.__file__)
""",
    "where the program is, by a link of /proc": """
os.mkdir('/tmp/a'); os.chdir('/tmp/a'); first = looked('/proc/self/cwd')
os.chdir('/tmp'); assert looked('/proc/self/cwd') == looked('/tmp') != first
""",
    "a link itself": """
os.symlink(library, '/tmp/link')
assert stat.S_ISLNK(os.lstat('/tmp/link').st_mode) and stat.S_ISDIR(os.stat('/tmp/link').st_mode)
assert stat.S_ISLNK(os.lstat('/tmp/link').st_mode) and looked('/tmp/link') == looked(library)
""",
    "files in memory": """
with open('/tmp/file', 'wb', buffering=0) as file:
    for size in range(1, 20): file.write(b'x'); assert looked('/tmp/file').st_size == size
""",
    "a file that a descriptor is still written to": """
fd = os.open('/box/file', os.O_CREAT | os.O_RDWR)
for size in range(1, 20): assert os.pwrite(fd, b'x', size - 1) == 1 and os.stat('/box/file').st_size == size
""",
    "many": """
names = [os.path.join(folder, name) for folder, _, files in os.walk(library) for name in files]
names = [name for name in names if os.path.isfile(name) and not os.path.islink(name)][:300]
first = [os.stat(name) for name in names]
assert all([os.stat(name) for name in names] == first for _ in range(3)) and len({each.st_ino for each in first}) == 300
""",
    "long names": """
path = '/tmp'
for _ in range(12): path += '/' + 'd' * 20; os.mkdir(path); assert stat.S_ISDIR(looked(path).st_mode)
assert looked(path + '/none') == 2 and looked('/' + 'x' * 5000) == 36
""",
    "no memory there": """
place = ctypes.create_string_buffer(144)
for _ in range(3):
    assert libc.stat(os.__file__.encode(), ctypes.c_void_p(8)) == -1 and ctypes.get_errno() == 14
    assert libc.stat(os.__file__.encode(), place) == 0
    assert libc.stat(ctypes.c_void_p(8), place) == libc.stat(None, place) == -1 and ctypes.get_errno() == 14
    assert libc.stat(b'', place) == -1 and ctypes.get_errno() == 2
""",
    "flags": """
place = ctypes.create_string_buffer(144)
for flags in (0x800, 0x1000, 0x100 | 0x800): assert libc.fstatat(-100, library.encode(), place, flags) == 0
for flags in (0x200, 1, -1):
    assert libc.fstatat(-100, library.encode(), place, flags) == -1 and ctypes.get_errno() == 22
""",
    "relative to a folder, with an absolute path": """
place = ctypes.create_string_buffer(144)
assert libc.fstatat(99, library.encode(), place, 0) == 0 and libc.fstatat(99, b'os.py', place, 0) == -1
""",
    "a thread": """
looked('/tmp'); seen = []
def work(): os.mkdir('/tmp/new'); seen.append(os.stat('/tmp').st_nlink)
before = os.stat('/tmp').st_nlink; thread = threading.Thread(target=work); thread.start(); thread.join()
assert seen == [before + 1] and os.stat('/tmp').st_nlink == before + 1
""",
    "imports see new modules": """
import sys
sys.path.insert(0, '/tmp')
for number in range(5):
    assert failing(__import__, 'json') is sys.modules['json']
    with open(f'/tmp/made{number}.py', 'w') as file: file.write(f'x = {number}')
    import importlib
    assert importlib.import_module(f'made{number}').x == number
""",
}  # fmt: skip


@pytest.mark.sized(24)
@pytest.mark.parametrize("observed", [False, True], ids=["unobserved", "observed"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_program_cannot_tell(case: str, observed: bool) -> None:
    options: dict[str, Any] = {"audit": lambda call: None} if observed else {}
    with proxybox.Sandbox(**options) as box:
        result = box.run(PROLOGUE + case)
    assert result.ok, f"{result}\n{result.stderr}"


@pytest.mark.parametrize("mode", ["ro", "overlay"])
def test_a_host_folder_is_asked_again(tmp_path: Path, mode: str) -> None:
    """The host may change the folder at any time."""
    tmp_path.chmod(0o755)
    code = """
import os
before = os.stat('/data').st_mtime_ns, os.path.exists('/data/new')
print("asked", flush=True)
while os.stat('/data').st_mtime_ns == before[0]: pass
print(before[1], os.path.exists('/data/new'))
"""
    mounts = [{"target": "/data", "source": str(tmp_path), "mode": mode}]
    limits = {"wall_time": 300, "cpu_time": 100, "calls": None}
    with proxybox.Sandbox(filesystem={"mounts": mounts}, limits=limits) as box:
        result = box.run(code, on_stdout=lambda _: (tmp_path / "new").touch())
    assert result.ok, f"{result}\n{result.stderr}"
    assert result.stdout == "asked\nFalse True\n"


def test_what_the_caller_writes_between_commands_is_seen() -> None:
    with proxybox.Sandbox() as box, box.session() as session:
        session.exec("import os\ndef look(): return [os.stat('/box').st_mtime_ns for _ in range(3)]", check=True)
        before = session.call("look").value
        session.write_file("/box/new", b"x")
        after = session.call("look").value
    assert len(set(before)) == len(set(after)) == 1
    assert before != after


def test_boxes_of_a_pool_see_their_own_files() -> None:
    with proxybox.Pool(size=1) as pool:
        for number in range(4):
            code = "import os\nprint(sorted(os.listdir('/box')), os.path.exists('/box/a'), os.path.exists('/box/b'))"
            result = pool.run(code, files={"ab"[number % 2]: b"x"}, check=True)
            assert ("True False", "False True")[number % 2] in result.stdout


def test_a_session_that_is_observed_later_sees_each_call() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox() as box, box.session() as session:
        session.exec("import os\ndef look(): return len({os.stat(os.__file__).st_ino for _ in range(100)})", check=True)
        assert session.call("look").usage.calls < 10
        session.audit(calls.append)
        assert session.call("look").value == 1
        assert sum(1 for call in calls if call.name == "newfstatat" and call.number == 262) == 100
        session.audit(None)
        assert session.call("look").usage.calls < 10
