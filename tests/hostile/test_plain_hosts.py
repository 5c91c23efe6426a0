"""Boxes of a caller with few rights: as an ordinary user, under a container's default filter, and in a container."""

import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from proxybox.controller.seal.layers import is_missing

HERE = Path(__file__).parent
CHECKOUT = HERE.parent.parent
sys.path.insert(0, str(HERE))
from container import CANNOT  # noqa: E402
from profiles import NUMBERS, PROFILES, ranges  # noqa: E402

PROGRAM = """
import ctypes, os, sys
import proxybox

libc = ctypes.CDLL(None, use_errno=True)
def error_of(*call):
    return 0 if libc.syscall(*call) >= 0 else ctypes.get_errno()

NEWUSER, NEWNS, SIGCHLD = 0x10000000, 0x20000, 17
if "{outer}" in ("docker", "containerd"):
    assert [error_of(272, flag) for flag in (NEWUSER, NEWNS)] == [1, 1], "unshare"
    assert error_of(56, NEWUSER | SIGCHLD, 0, 0, 0, 0) == 1, "clone"
    assert error_of(435, 0, 0) == 38, "clone3"
    assert [error_of(41, family, 2, 0) for family in (38, 40)] == [1, 1], "socket: AF_ALG, AF_VSOCK"
    assert error_of(438, 0, 0, 0) == 1, "pidfd_getfd"
    assert [error_of(425, 1, 0), error_of(165, 0, 0, 0, 0, 0), error_of(321, 0, 0, 0)] == [1, 1, 1], "io_uring, mount, bpf"
    assert [error_of(135, value) for value in (0x40000, 0xFFFFFFFF)] == [1, 0], "personality: ADDR_NO_RANDOMIZE"
if "{outer}" == "podman":
    assert [error_of(425, 1, 0), error_of(135, 0x40000), error_of(0x20420004)] == [38, 38, 38], "io_uring, personality, unknown"
if "{outer}" == "systemd":
    assert [error_of(321, 0, 0, 0), error_of(227, 0, 0), error_of(0x20420004)] == [1, 1, 38], "bpf, clock_settime, unknown"
    assert error_of(41, 16, 2, 0) == 97, "socket: AF_NETLINK"
if "{outer}" != "none":
    socket = libc.socket(2, 2, 0)
    assert socket >= 0 and not libc.close(socket)
    assert error_of(999) != 0 and error_of(321, 0, 0, 0) != 0, "newer than the profile, bpf"
    layers = proxybox.run("1", check=True).layers
    assert "missing" not in layers["seal"] + layers["thread count"], layers
if {contained}:
    assert os.getuid() == 1000
    status = dict(line.split(":\t") for line in open("/proc/self/status").read().splitlines())
    assert all(int(status[name], 16) == 0 for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    for folder in ["/", "/usr", "/etc", "/dev"] + ([] if {writable} else ["/tmp", "/dev/shm"]):
        assert not os.access(folder, os.W_OK), folder
threads = '''
import threading
t = [threading.Thread(target=print, args=(n,)) for n in range(3)]
for each in t: each.start()
for each in t: each.join()
'''
assert sorted(proxybox.run(threads, check=True).stdout.split()) == ["0", "1", "2"]
assert proxybox.run("import os; os.fork()").error.type == "PermissionError"
unlisted = "import ctypes; print([ctypes.CDLL(None).syscall(number, 0, 0, 0, 0) for number in (169, 321, 227, 1000)])"
assert proxybox.run(unlisted, check=True).stdout == "[-1, -1, -1, -1]\\n", "calls that the filter would refuse are the box's all the same"
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
if {writable}:
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


def run(command, **options):
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=100, cwd=tempfile.gettempdir(), **options
    )


def in_container(options, command, timeout=100):
    """Runs a command in a container. Skips the test where this user may not make one."""
    ended = subprocess.run(
        [sys.executable, HERE / "container.py", *options, *command], capture_output=True, text=True, timeout=timeout
    )
    if ended.returncode == CANNOT:
        pytest.skip(f"no container of this kind can be made here: {ended.stderr}")
    return ended


def test_the_profiles_name_their_calls_rightly():
    """The numbers are those of this system's headers, except for calls that are newer."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.exists():
        pytest.skip("the C library's headers are not where Debian has them")
    numbers = {name: int(number) for name, number in re.findall(r"#define __NR_(\w+) (\d+)", header.read_text())}
    known = {
        name: number for name, number in NUMBERS.items() if number <= max(numbers.values()) and name != "uretprobe"
    }
    assert known == {name: numbers[name] for name in known}
    for profile in PROFILES.values():
        assert len(profile.names) > 290
        covered = [number for first, last in ranges(profile.numbers) for number in range(first, last + 1)]
        assert covered == profile.numbers


def test_the_profile_of_podman_is_the_one_that_is_installed():
    """Debian has the profile in golang-github-containers-common, on which podman and buildah depend."""
    installed = Path("/usr/share/containers/seccomp.json")
    if not installed.exists():
        pytest.skip("no profile of Podman's is installed here")
    allowed, by_arguments = set(), set()
    for rule in json.loads(installed.read_text())["syscalls"]:
        includes = rule.get("includes") or {}
        if (
            rule["action"] == "SCMP_ACT_ALLOW"
            and not includes.get("caps")
            and "amd64" in includes.get("arches", ["amd64"])
        ):
            (by_arguments if rule.get("args") else allowed).update(rule["names"])
    of_x86_64 = NUMBERS.keys() & allowed
    assert PROFILES["podman"].names - {"socket"} == of_x86_64
    assert by_arguments & NUMBERS.keys() == {"socket", "personality"}


def test_under_a_containers_filter():
    program = PROGRAM.format(outer="docker", contained=False, writable=True)
    ended = run([HERE / "profiles.py", "docker", "-c", sys.executable, "-c", program])
    assert ended.returncode == 0 and "all well" in ended.stdout, ended.stderr


def test_as_an_ordinary_user():
    """When root runs this: a user who can read only files that everybody may read, and may make namespaces."""
    program = PROGRAM.format(outer="none", contained=not os.getuid(), writable=True)
    command = ["-c", program]
    ended = run(command) if os.getuid() else in_container(["--filter=none"], [sys.executable, *command])
    assert ended.returncode == 0 and "all well" in ended.stdout, ended.stderr


#: Layers that a box lacks under each filter, but not in the same container without a filter.
LACKING = {
    "docker": {"namespaces", "same addresses"},
    "containerd": {"namespaces", "same addresses"},
    "podman": {"same addresses"},
    "systemd": set(),
}


@pytest.mark.sized(2)
@pytest.mark.parametrize(
    ("outer", "writable"),
    [("docker", True), ("docker", False), ("containerd", True), ("podman", False), ("systemd", True)],
)
def test_in_an_ordinary_container(outer, writable):
    """A profile or the unit's filters, no capabilities, uid 1000, a read-only root that alone is executable."""
    options = [f"--filter={outer}", *([] if writable else ["--nothing-writable"])]
    program = PROGRAM.format(outer=outer, contained=True, writable=writable)
    ended = in_container(options, [sys.executable, "-c", program])
    assert ended.returncode == 0 and "as user 1000 all well" in ended.stdout, ended.stderr


@functools.cache
def layers_under(outer):
    program = "import json, proxybox; print(json.dumps(proxybox.run('1', check=True, randomness=7).layers))"
    ended = in_container([f"--filter={outer}"], [sys.executable, "-c", program])
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.sized(2)
@pytest.mark.outer_layers
@pytest.mark.parametrize("outer", LACKING)
def test_what_a_box_lacks_under_a_filter(outer):
    """Compared with a box in the same container without a filter, all other layers have exactly the same text."""
    without, under = layers_under("none"), layers_under(outer)
    if is_missing(without["namespaces"]):
        pytest.skip(f"boxes have no namespaces here: {without['namespaces']}")
    assert {name for name in without if is_missing(under[name]) and not is_missing(without[name])} == LACKING[outer]
    assert {name: text for name, text in under.items() if name not in LACKING[outer]} == {
        name: text for name, text in without.items() if name not in LACKING[outer]
    }


@pytest.mark.full
def test_the_demo_in_an_ordinary_container():
    ended = in_container([], [sys.executable, str(CHECKOUT / "examples" / "demo.py")])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "no file on this machine was changed" in ended.stdout
    assert "NOT AS EXPECTED" not in ended.stdout


@pytest.mark.full
@pytest.mark.pypy
@pytest.mark.timeout(600)
def test_hostile_code_in_an_ordinary_container():
    """The hostile tests that depend on the kernel. To run all of them: python tests/hostile/container.py --init
    $PWD/.venv/bin/python -m pytest -c $PWD/pyproject.toml --rootdir $PWD -p no:cacheprovider $PWD/tests/hostile
    """
    names = ("raw_system_calls", "stub_overwritten", "threads_and_forks", "own_memory", "paths_out_of_mounts")
    files = [str(HERE / f"test_{name}.py") for name in names]
    options = ["-q", "-p", "no:cacheprovider", "-c", str(CHECKOUT / "pyproject.toml"), f"--rootdir={CHECKOUT}"]
    # Left out: half a minute in which nothing depends on the kernel, and tests that would execute files in /tmp, which
    # a container forbids. For the kernel both kinds of guest are the same.
    options += ["--kind=pypy", "-k", "not while_many_threads_wait and not unpacked"]
    ended = in_container(["--init"], [sys.executable, "-m", "pytest", *options, *files], timeout=500)
    assert ended.returncode == 0, ended.stdout[-5000:] + ended.stderr[-2000:]


def test_a_host_that_refuses_filters():
    """The start fails with advice, and nothing runs."""
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
