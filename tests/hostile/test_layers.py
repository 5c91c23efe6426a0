"""The attacks that each layer stops alone, if the seal had a hole.

The filter of these boxes has a hole: any call with HOLE in its last register reaches the kernel. Without layers every
attack succeeds (otherwise this file would show nothing). With a layer exactly the attacks that it is said to stop fail.
"""

import ctypes
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from proxybox.controller.process.launch import BOX_UID
from proxybox.controller.seal import filters, layers

HOLE = 0x686F6C65

#: attack -> the layers that stop it. The table in docs/seal.md is the same.
STOPPED_BY = {
    "read a file": {"namespaces", "landlock"},
    "make a folder": {"namespaces", "landlock"},
    "read a process's environment": {"namespaces", "landlock"},
    "connect to an abstract socket": {"namespaces", "landlock"},
    "connect by TCP": {"namespaces", "landlock"},
    "send a datagram": {"namespaces"},
    "attach to shared memory": {"namespaces"},
    "trace a process": {"namespaces", "landlock"},
    "make a user namespace": {"namespaces"},
    "kill a process": {"namespaces", "landlock"},
}

ATTACKS = """
import ctypes, os, raw, struct

def call(number, *registers):
    return raw.syscall(number, *registers, *[0] * (5 - len(registers)), HOLE)

def at(data):
    raw._pages.append(ctypes.create_string_buffer(data, len(data) + 1))
    return ctypes.addressof(raw._pages[-1])

def read(path):
    fd = call(2, at(path), 0)
    return fd if fd < 0 else call(0, fd, at(bytes(100)), 100)

def connect(family, kind, address):
    fd = call(41, family, kind, 0)
    return (fd, fd) if fd < 0 else (fd, call(42, fd, at(address), len(address)))

inet = struct.pack("<H", 2) + struct.pack(">H4s8x", PORT, bytes([127, 0, 0, 1]))

def datagram():
    fd, result = connect(2, 2, inet)
    return result if result < 0 else call(1, fd, at(b"x"), 1)

results = {
    "read a file": read(FOLDER + b"/secret"),
    "make a folder": call(83, at(FOLDER + b"/new"), 0o700),
    "read a process's environment": read(b"/proc/%d/environ" % VICTIM),
    "connect to an abstract socket": connect(1, 1, struct.pack("<H", 1) + ABSTRACT)[1],
    "connect by TCP": connect(2, 1, inet)[1],
    "send a datagram": datagram(),
    "attach to shared memory": call(29, KEY, 0, 0),
    "trace a process": call(101, 0x4206, VICTIM, 0, 0),
    "make a user namespace": call(272, 0x10000000),
    "kill a process": call(62, VICTIM, 9),
}
print(results)
"""


@attrs.frozen
class Victims:
    """Targets of hostile code on the host."""

    folder: Path
    process: subprocess.Popen[bytes]
    abstract: bytes
    port: int
    key: int

    def names(self) -> str:
        """The targets as the first lines of a program."""
        return (
            f"HOLE, FOLDER, VICTIM, ABSTRACT, PORT, KEY = {HOLE}, {os.fsencode(self.folder)!r}, {self.process.pid}, "
            f"{self.abstract!r}, {self.port}, {self.key}\n"
        )


@pytest.fixture
def victims(tmp_path_factory: pytest.TempPathFactory, open_the_way: Callable[[Path], None]) -> Iterator[Victims]:
    folder = tmp_path_factory.mktemp("host")
    open_the_way(folder)
    folder.chmod(0o777)
    (folder / "secret").write_text("of the host")
    user: dict[str, Any] = {} if os.getuid() else {"user": BOX_UID, "group": BOX_UID, "extra_groups": []}
    libc = ctypes.CDLL(None, use_errno=True)
    key = 0x70620000 | os.getpid() & 0xFFFF
    segment = libc.shmget(key, 4096, 0o1666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    abstract = b"\0proxybox-test-%d" % os.getpid()
    with (
        socket.socket(socket.AF_UNIX) as unix,
        socket.create_server(("127.0.0.1", 0)) as tcp,
        subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", **user) as process,
    ):
        unix.bind(abstract)
        unix.listen()
        # It answers, so the program runs as its user.
        assert process.stdin and process.stdout
        process.stdin.write(b"ready\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"ready\n"
        yield Victims(folder, process, abstract, tcp.getsockname()[1], key)
        process.kill()
    libc.shmctl(segment, 0, None)


@pytest.fixture
def hole(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Makes the filter of this test's boxes allow every call with HOLE in its last register."""
    numbers = {
        "open": 2,
        "shmget": 29,
        "socket": 41,
        "connect": 42,
        "kill": 62,
        "mkdir": 83,
        "ptrace": 101,
        "unshare": 272,
    }
    monkeypatch.setattr(filters, "NUMBERS", filters.NUMBERS | numbers)
    holes = [filters.Rule(name, (filters.low(5, HOLE),)) for name in ("read", "write", *numbers)]
    monkeypatch.setattr(
        filters, "RULES", tuple(sorted((*filters.RULES, *holes), key=lambda row: filters.NUMBERS[row.name]))
    )
    filters.seal_filter.cache_clear()
    yield
    filters.seal_filter.cache_clear()


def attacks_that_came_through(hostile: Any, victims: Victims, used: set[str]) -> set[str]:
    """Runs all attacks with the layers `used`. Returns the names of those that the kernel carried out."""
    result = hostile.run(victims.names() + ATTACKS)
    assert result.ok, f"{result.summary()}\n{result.stderr}"
    for layer in used:
        if layers.is_missing(result.layers[layer]):
            pytest.skip(f"this host has no {layer}: {result.layers[layer]}")
    results = eval(result.stdout)
    assert results.keys() == STOPPED_BY.keys()
    through = {attack for attack, answer in results.items() if answer >= 0}
    assert ("make a folder" in through) == (victims.folder / "new").exists()
    assert ("kill a process" in through) == (victims.process.poll() is not None or _dies(victims.process))
    return through


def _dies(process: subprocess.Popen[bytes]) -> bool:
    """Whether a process no longer answers: a signal is ending it."""
    try:
        assert process.stdin and process.stdout
        process.stdin.write(b"alive\n")
        process.stdin.flush()
        return process.stdout.readline() != b"alive\n"
    except BrokenPipeError:
        return True


@pytest.mark.parametrize(
    "used",
    [set(), {"namespaces"}, {"landlock"}, {"namespaces", "landlock"}],
    ids=lambda used: "+".join(sorted(used)) or "no layer",
)
def test_what_layers_stop_when_the_seal_has_a_hole(
    hostile: Any, hole: None, victims: Victims, monkeypatch: pytest.MonkeyPatch, used: set[str]
) -> None:
    monkeypatch.setattr(layers, "USED", used)
    through = attacks_that_came_through(hostile, victims, used)
    expected = {attack for attack, by in STOPPED_BY.items() if not by & used}
    if _yama():
        through, expected = through - {"trace a process"}, expected - {"trace a process"}
    assert through == expected


def test_the_init_of_a_box_holds_nothing(hostile: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The init runs no code of the guest. It also has no descriptor and no capability."""
    monkeypatch.setattr(layers, "USED", {"namespaces"})
    seen: dict[str, dict[str, str]] = {}

    def look(text: str) -> None:
        for pid in hostile.children():
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            status = {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}
            try:
                status["fds"] = " ".join(os.listdir(f"/proc/{pid}/fd"))
            except PermissionError:  # files of a process that is not dumpable belong to root
                assert os.getuid() != 0
                status["fds"] = ""
            seen[status["NSpid"].split()[-1]] = status

    result = hostile.run("print('now', flush=True)", on_stdout=look)
    if layers.is_missing(result.layers["namespaces"]):
        pytest.skip(f"this host has no namespaces: {result.layers['namespaces']}")
    assert seen.keys() == {"1", "2"}
    init = seen["1"]
    assert init["fds"] == ""
    assert {init[key].strip("0") for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {""}
    assert init["NoNewPrivs"] == "1"
    assert init["Uid"].split() == [str(os.getuid() or BOX_UID)] * 4


def _yama() -> bool:
    """Whether this host forbids tracing anyway (ptrace(2), Yama)."""
    try:
        return Path("/proc/sys/kernel/yama/ptrace_scope").read_text() != "0\n"
    except OSError:
        return False


def test_the_table_that_people_read_is_this_one() -> None:
    """docs/seal.md has a row for each attack, in the order of STOPPED_BY, with the columns namespaces and Landlock."""
    page = (Path(__file__).parents[2] / "docs" / "seal.md").read_text()
    rows = page.partition("| attack, through a hole")[2].partition("\n\n")[0].splitlines()[2:]
    columns = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    told = [
        {layer for layer, cell in zip(("namespaces", "landlock"), row[1:], strict=True) if cell != "-"}
        for row in columns
    ]
    assert told == list(STOPPED_BY.values())
    for row, attack in zip(columns, STOPPED_BY, strict=True):
        assert row[0].split()[0] == attack.split()[0]


def test_the_table_of_calls_that_people_read_is_the_filter() -> None:
    page = (Path(__file__).parents[2] / "docs" / "seal.md").read_text()
    rows = page.partition("| call | only so |")[2].partition("\n\n")[0].splitlines()[2:]
    told = {name.strip().strip("`") for row in rows for name in row.strip("|").split("|")[0].split(",")}
    assert told == {row.name for row in filters.RULES}
