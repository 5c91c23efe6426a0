"""Compares programs in bare pypy3, in cold boxes, and in warm ones."""

import difflib
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

import proxybox
from proxybox.controller import find_guest
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from proxybox.program import Program

#: The environment of a box, without the variables that its guest needs.
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/home/user",
    "USER": "user",
    "LOGNAME": "user",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}
LIMITS = {"wall_time": 200, "cpu_time": 60, "memory": "1G"}
#: Addresses, and numbers that differ by a frame or two, or by other references to an object.
NUMBERS = re.compile(r"(0x)[0-9a-f]{5,}|(Previous line repeated )\d+|(object refcount : )\d+")
#: A hint of CPython about the script's own folder. It is different with a bootstrap (limitations.md).
HINT = re.compile(r" \(consider renaming '.*' since it has the same name as .*\)$", re.MULTILINE)

Words = tuple[str, ...]
Contents = dict[str, bytes]
MakeSandbox = Callable[..., proxybox.Sandbox]


@pytest.fixture
def folder() -> Iterator[Path]:
    """An empty folder in which the ordinary user may write, also when root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="guest-"))
    path.chmod(0o755)
    if os.getuid() == 0:
        os.chown(path, 1000, 1000)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def warm_sandbox(guest_kind: str) -> Iterator[MakeSandbox]:
    """Makes sandboxes whose next box is a copy of a zygote."""
    made: list[proxybox.Sandbox] = []

    def make(**fields: Any) -> proxybox.Sandbox:
        box = proxybox.Sandbox(warm=True, **fields)
        made.append(box)
        seen = [box.run("print(hash('text'))").stdout for _ in range(3)]
        assert seen[1] == seen[2]  # copies of one zygote share the hash seed
        return box

    yield make
    for box in made:
        box.close()
    zygotepool.close()
    reaper.settle()


@pytest.fixture(scope="module")
def cold(guest_kind: str) -> proxybox.Sandbox:
    return proxybox.Sandbox(warm=False, limits=LIMITS)


@pytest.fixture(scope="module")
def warm(warm_sandbox: MakeSandbox) -> proxybox.Sandbox:
    return warm_sandbox(limits=LIMITS)


@attrs.frozen
class Shown:
    """The output and end of a program. exit: its status, or -signal."""

    stdout: list[str]
    stderr: list[str]
    exit: int | None

    def differences(self, other: "Shown", names: str) -> str:
        """The differences alone, as a unified diff, because the whole output is long."""
        mine, theirs = ([*each.stdout, "-" * 9, *each.stderr, f"exit {each.exit}"] for each in (self, other))
        one, other_one = names.split()
        return "\n".join(difflib.unified_diff(mine, theirs, one, other_one, n=0, lineterm=""))


@attrs.frozen
class Ways:
    """The three ways to run a program. folder: used instead of /box under bare pypy3."""

    folder: Path
    cold: proxybox.Sandbox
    warm: proxybox.Sandbox

    def bare(self, words: Words, files: Contents, stdin: str = "", **variables: str) -> Shown:
        for name, content in files.items():
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        here = str(self.folder)
        inside = {name: value.replace("/box", here) for name, value in variables.items()}
        done = subprocess.run(
            [find_guest().executable, *(word.replace("/box", here) for word in words)],
            cwd=here,
            env={**ENVIRONMENT, **find_guest().variables(), **inside},
            input=stdin.encode(),
            capture_output=True,
            timeout=100,
            check=False,
        )
        stdout, stderr = (_lines(data.replace(here.encode(), b"/box")) for data in (done.stdout, done.stderr))
        return Shown(stdout, stderr, done.returncode)

    def boxed(self, box: proxybox.Sandbox, words: Words, files: Contents, stdin: str = "") -> Shown:
        result = box.run_program(Program(words=words, files=files), stdin=stdin)
        status = result.exit_code if result.signal is None else -result.signal
        return Shown(_lines(result.stdout_bytes), _lines(result.stderr_bytes), status)

    def compare(self, words: Words, files: Contents, stdin: str = "", **variables: str) -> Shown:
        """Runs a program in all ways, and returns its output and end. Asserts that they are the same."""
        bare = self.bare(words, files, stdin, **variables)
        for name, box in (("cold", self.cold), ("warm", self.warm)):
            differences = bare.differences(self.boxed(box, words, files, stdin), f"bare {name}")
            assert not differences, differences
        return bare


def _lines(data: bytes) -> list[str]:
    text = data.decode("utf-8", "backslashreplace")
    return NUMBERS.sub(lambda found: "".join(filter(None, found.groups())) + "...", HINT.sub("", text)).splitlines()


@pytest.fixture
def ways(folder: Path, cold: proxybox.Sandbox, warm: proxybox.Sandbox) -> Ways:
    return Ways(folder, cold, warm)


def on_a_terminal(*words: str) -> tuple[int, subprocess.Popen[bytes]]:
    """Runs the command line on a terminal of its own. Returns that terminal and the process."""
    main, side = pty.openpty()
    command = [sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())", *words]
    process = subprocess.Popen(command, stdin=side, stdout=side, stderr=side, start_new_session=True)
    os.close(side)
    return main, process


def until(fd: int, words: bytes) -> bytes:
    """Reads a terminal up to `words`, and returns the text."""
    shown = b""
    while words not in shown:
        shown += os.read(fd, 4096)
    return shown


def at_its_prompt(guest: str, *exchanges: tuple[bytes, bytes]) -> bytes:
    """Runs a guest's own prompt, and returns all that it shows.

    exchanges: words to wait for, and a line to type after each. The last line makes the guest exit with status 5.
    """
    main, process = on_a_terminal("repl", "--guest", guest)
    shown = b""
    with process:
        for words, line in exchanges:
            shown += until(main, words)
            os.write(main, line + b"\n")
        assert process.wait(200) == 5
    os.close(main)
    return shown
