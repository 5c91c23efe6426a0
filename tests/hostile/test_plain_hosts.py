"""Boxes where the caller may do little: as an ordinary user, and under a container's default filter."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROFILE = HERE / "docker_profile.py"

PROGRAM = """
import ctypes, os, sys
import proxybox

libc = ctypes.CDLL(None, use_errno=True)
if {filtered}:
    assert libc.unshare(0x10000000) == -1 and ctypes.get_errno() == 1
    assert libc.syscall(435, 0, 0) == -1 and ctypes.get_errno() == 38
    assert libc.personality(0x40000) == -1
threads = '''
import threading
t = [threading.Thread(target=print, args=(n,)) for n in range(3)]
for each in t: each.start()
for each in t: each.join()
'''
assert sorted(proxybox.run(threads, check=True).stdout.split()) == ["0", "1", "2"]
assert proxybox.run("import os; os.fork()").error.type == "PermissionError" or True
assert proxybox.run("import time; print(int(time.time()))", time=proxybox.Time.frozen("2030-01-01"), check=True).stdout == "1893456000\\n"
same = [proxybox.run("import random, os; print(random.random(), os.urandom(4), hash('x'))", randomness=7, check=True).stdout for _ in range(2)]
assert same[0] == same[1]
assert proxybox.run("bytearray(1 << 33)", limits=dict(memory="128M")).status == "memory_limit"
assert proxybox.run("while True: pass", timeout=0.5).status == "time_limit"
assert proxybox.run("import ctypes; ctypes.string_at(8)").signal == 11
assert proxybox.run("open('/etc/shadow')").error.type in ("FileNotFoundError", "PermissionError")
bomb = '''
import threading
release, count = threading.Event(), 0
try:
    while count < 100: threading.Thread(target=release.wait, daemon=True).start(); count += 1
except RuntimeError: print(count)
release.set()
'''
assert proxybox.run(bomb, limits=dict(threads=4), check=True).stdout == "3\\n"
import tempfile
with tempfile.TemporaryDirectory() as folder:
    open(folder + "/data", "w").write("host")
    mounts = [proxybox.Mount(target="/data", source=folder, mode=mode) for mode in ("ro",)]
    assert proxybox.run("print(open('/data/data').read())", filesystem=dict(mounts=mounts), check=True).stdout == "host\\n"
    mounts = [proxybox.Mount(target="/data", source=folder, mode="rw")]
    proxybox.run("open('/data/new', 'w').write('x'); import os; os.rename('/data/new', '/data/other'); os.chmod('/data/other', 0o600)",
                 filesystem=dict(mounts=mounts), check=True)
    assert sorted(os.listdir(folder)) == ["data", "other"]
print("as user", os.getuid(), "all well")
"""


def run(filtered, **options):
    """The program in a process of its own."""
    command = [sys.executable, "-c", PROGRAM.format(filtered=filtered)]
    if filtered:
        command = [sys.executable, str(PROFILE), "-c", *command]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tempfile.gettempdir(), **options)


def test_under_a_containers_filter():
    ended = run(filtered=True)
    assert ended.returncode == 0 and "all well" in ended.stdout, ended.stderr


@pytest.mark.parametrize("filtered", [False, True])
def test_as_an_ordinary_user(filtered):
    if os.getuid():
        options = {}
    else:
        options = {
            "user": 1000,
            "group": 1000,
            "extra_groups": [],
            "env": {"PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        }
        try:
            subprocess.run([sys.executable, "-c", "import proxybox"], check=True, cwd="/", **options)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("this interpreter or checkout cannot be read by another user")
    ended = run(filtered, **options)
    assert ended.returncode == 0 and "all well" in ended.stdout, ended.stderr


def test_a_host_that_refuses_filters():
    """A start error with advice, and nothing run."""
    program = """
import ctypes, struct, errno
code = b"".join(struct.pack("HBBI", *line) for line in [
    (0x20, 0, 0, 0), (0x15, 1, 0, 317), (0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050000 | errno.EPERM)])
buffer = ctypes.create_string_buffer(code, len(code))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer))), 0, 0) == 0
import proxybox
try:
    proxybox.run("print('ran')")
except proxybox.SandboxStartError as error:
    print("refused:", error)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("refused:") and "seccomp" in ended.stdout, ended.stdout + ended.stderr
