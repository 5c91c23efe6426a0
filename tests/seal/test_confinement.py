"""What a confined process can still do, with each of the two layers alone and with both."""

import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from proxybox.controller.header import ROUTE
from proxybox.controller.seal.confinement import FAMILIES, REFUSED, refusing_filter
from tests.seal.bpf import Call, action, parse, run

#: A filter makes a layer's call fail, as on a host that does not have the layer.
PROGRAM = """
import ctypes, json, os, socket, struct, subprocess, sys
from proxybox.controller.seal.confinement import Confinement, run

task = json.load(sys.stdin)
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
lines = [(0x20, 0, 0, 0)]
for number in task["without"]:
    lines += [(0x15, 0, 1, number), (6, 0, 0, 0x50001)]
code = b"".join(struct.pack("=HBBI", *line) for line in [*lines, (6, 0, 0, 0x7FFF0000)])
class Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))
assert libc.syscall(317, 1, 0, ctypes.byref(Filter(len(code) // 8, code))) == 0

here = os.getcwd()
def tried(act):
    try:
        act()
    except OSError as error:
        return error.strerror
    return "done"
def connected(address):
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(address)
status = open("/proc/self/status")
told = {"layers": Confinement(
    reads=["/usr", "/lib", "/lib64", "/etc/hosts", "/etc/nsswitch.conf", *sys.path,
        here + "/reads", here + "/none"], writes=[here + "/writes"],
    links=task["links"], programs=["/bin/echo", "/lib64/ld-linux-x86-64.so.2"],
).enter()}
def started(*words):
    return lambda: subprocess.run(words, check=True)
def replaced(program):
    child = os.fork()
    if not child:
        try:
            os.execve(program, ["-n"], {})
        except OSError as error:
            os._exit(error.errno)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, os.strerror(status))
told |= {
    "start": tried(started("/bin/true")), "start by a descriptor": tried(lambda: replaced(os.open("/bin/true", 0))),
    "start the program": tried(lambda: replaced("/bin/echo")),
    "start a file of its own": tried(started(here + "/writes/program")),
    "read": tried(lambda: open("reads/file").read()), "read another": tried(lambda: open("secret").read()),
    "list": tried(lambda: os.listdir("reads")), "list another": tried(lambda: os.listdir(".")),
    "write": tried(lambda: open("writes/new", "w").close()), "write another": tried(lambda: open("reads/file", "a")),
    "make another": tried(lambda: open("new", "w")), "remove another": tried(lambda: os.unlink("reads/file")),
    "rename": tried(lambda: os.rename("writes/new", "writes/folder/new")),
    "rename away": tried(lambda: os.rename("writes/folder/new", "reads/new")),
    "link": tried(lambda: os.symlink("/", "writes/link")),
    "hard link": tried(lambda: os.link("reads/file", "writes/hard")),
    "signal": tried(lambda: os.kill(os.getppid(), 0)), "pair": str(bool(socket.socketpair())),
    "socket": tried(lambda: connected(here + "/socket")), "abstract": tried(lambda: connected(b"\\0" + here.encode())),
    "network": tried(lambda: socket.socket().close()), "resolve": str(bool(socket.getaddrinfo("localhost", 80))),
    "rights": [line.split()[1] for line in status if line[:6] in ("CapEff", "CapPrm", "CapInh")],
    "fifo": tried(lambda: os.mkfifo("writes/fifo")), "truncate": tried(lambda: os.truncate("secret", 0)),
}
print(json.dumps(told), flush=True)
run("/bin/echo", ["still", "here"], {})
"""
CALLS = {"landlock": 444, "seccomp": 317}
LANDLOCK, SECCOMP = CALLS.values()
X86_64, I386 = 0xC000003E, 0x40000003
DENIED = "Permission denied"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for name in ("reads", "writes/folder"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("reads/file", "secret"):
        (tmp_path / name).write_text("text")
    (tmp_path / "writes/program").write_text("#!/bin/sh\n")
    (tmp_path / "writes/program").chmod(0o755)
    return tmp_path


def confined(place: Path, *without: int, links: bool = False) -> tuple[dict[str, str], str]:
    task = json.dumps({"without": without, "links": links})
    words = [sys.executable, "-c", PROGRAM]
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as abstract:
        named.bind(f"{place}/socket")
        abstract.bind(f"\0{place}")
        named.listen()
        abstract.listen()
        done = subprocess.run(words, input=task, cwd=place, capture_output=True, text=True, check=True, timeout=60)
    os.unlink(place / "socket")
    *_, seen, rest = done.stdout.splitlines()
    return json.loads(seen), rest


@pytest.mark.parametrize("without", [(), (SECCOMP,), (LANDLOCK,)], ids=["both", "landlock", "seccomp"])
def test_nothing_is_started(place: Path, without: tuple[int, ...]) -> None:
    seen, rest = confined(place, *without)
    assert seen["layers"] == [
        name for name, call in (("landlock", LANDLOCK), ("seccomp", SECCOMP)) if call not in without
    ]
    for name in ("start", "start by a descriptor", "start a file of its own"):
        assert seen[name] == DENIED, name
    assert seen["start the program"] == (DENIED if SECCOMP not in without else "done")
    assert rest == "still here"  # `run` starts this one program


def test_files_that_can_be_opened(place: Path) -> None:
    seen, _ = confined(place)
    done = {name for name, result in seen.items() if result == "done"}
    assert done == {"read", "list", "write", "rename", "network"}
    assert (place / "secret").read_text() == "text"
    seen, _ = confined(place, links=True)
    assert seen["link"] == "done"


@pytest.mark.parametrize("without", [(), (SECCOMP,), (LANDLOCK,)], ids=["both", "landlock", "seccomp"])
def test_no_other_process_is_reached(place: Path, without: tuple[int, ...]) -> None:
    """Neither by a signal, nor by a socket of a process that starts programs for others."""
    seen, _ = confined(place, *without)
    if SECCOMP not in without:
        assert {seen[name] for name in ("signal", "socket", "abstract")} == {DENIED}
    elif landlock_version() >= 6:
        assert {seen[name] for name in ("signal", "abstract")} == {"Operation not permitted"}
    assert (seen["pair"], seen["network"], seen["resolve"]) == ("True", "done", "True")
    assert {int(each, 16) & ~0b110 for each in seen["rights"]} == {0}


def landlock_version() -> int:
    return int(ctypes.CDLL(None).syscall(CALLS["landlock"], None, 0, 1))


def test_without_both_layers_that_is_told(place: Path) -> None:
    seen, _ = confined(place, SECCOMP, LANDLOCK)
    assert seen["layers"] == []
    assert seen["start"] == "done"


def test_the_filter() -> None:
    program = parse(refusing_filter(runs=True))
    execve, execveat, x32 = 59, 322, 0x40000000
    for number, args, arch, expected in (
        (execve, (), X86_64, "ERRNO"),
        (execveat, (0,) * 6, X86_64, "ERRNO"),
        (execveat, (3, 0, 0, ROUTE, ROUTE, 0), X86_64, "ERRNO"),
        (execveat, (3, 0, 0, 0, 0x1000, ROUTE), X86_64, "ALLOW"),  # `run`
        (0, (), X86_64, "ALLOW"),
        (56, (), X86_64, "ALLOW"),
        (x32 | 520, (), X86_64, "ERRNO"),
        (x32 | 545, (0, 0, 0, 0, 0, ROUTE), X86_64, "ERRNO"),
        (11, (), I386, "KILL_PROCESS"),
    ):
        assert action(run(program, Call(number, args, arch))) == expected, (number, args)

    for number in REFUSED.values():
        assert action(run(program, Call(number, (), X86_64))) == "ERRNO"
    for family in range(64):
        assert action(run(program, Call(41, (family,), X86_64))) == ("ALLOW" if family in FAMILIES else "ERRNO")


def test_the_filter_of_what_starts_nothing() -> None:
    program = parse(refusing_filter(runs=False))
    for args in ((0,) * 6, (3, 0, 0, 0, 0x1000, ROUTE)):
        assert action(run(program, Call(322, args, X86_64))) == "ERRNO"
