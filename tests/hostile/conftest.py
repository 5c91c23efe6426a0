"""Real boxes with hostile code in them, and a look at the controller before and after.

Every test here passes through `_unharmed`: when it ends, this process has no child, descriptor or
thread that it did not have before, and a new box works.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.controller.launch import guest_program

GUEST = Path(__file__).parent / "guest"


def descriptors() -> dict[int, str]:
    """This process's open descriptors and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: what for fd, what in found.items() if what != f"/proc/{os.getpid()}/fd"}


def children() -> list[int]:
    """Processes whose parent this one is, zombies included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
                if int(stat[1]) == os.getpid():
                    found.append(int(name))
    return found


def resident() -> int:
    """Bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def symbol(name: str) -> int:
    """The offset of a function in the compiled stub, from its ELF symbol table."""
    image = Path(guest_program("_stub.so")).read_bytes()

    def number(at: int, size: int) -> int:
        return int.from_bytes(image[at : at + size], "little")

    start, count = number(0x28, 8), number(0x3C, 2)
    sections = [
        {
            "type": number(at + 4, 4),
            "offset": number(at + 24, 8),
            "size": number(at + 32, 8),
            "link": number(at + 40, 4),
        }
        for at in range(start, start + 64 * count, 64)
    ]
    table = next(section for section in sections if section["type"] == 2)
    names = sections[table["link"]]["offset"]
    for at in range(table["offset"], table["offset"] + table["size"], 24):
        text = names + number(at, 4)
        if image[text : image.index(b"\0", text)] == name.encode():
            return number(at + 8, 8)
    raise LookupError(name)


class Hostile:
    """Runs hostile code in boxes of its own."""

    children = staticmethod(children)
    descriptors = staticmethod(descriptors)
    resident = staticmethod(resident)
    symbol = staticmethod(symbol)

    def __init__(self) -> None:
        self.files = {path.name: path.read_text() for path in GUEST.glob("*.py")}

    def run(self, code: str, *, files: dict[str, Any] | None = None, **options: Any) -> proxybox.Result:
        """The Result of `code`, which can import what stands in guest/."""
        options.setdefault("timeout", 20)
        return proxybox.run(code, files={**self.files, **(files or {})}, **options)

    def ok(self, code: str, **options: Any) -> str:
        """What `code` printed; it must have ended well."""
        result = self.run(code, **options)
        assert result.ok, f"{result.summary()}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        return result.stdout


@pytest.fixture
def hostile() -> Hostile:
    return Hostile()


@pytest.fixture(scope="session", autouse=True)
def _warm() -> None:
    """The first box of a process fills caches and starts the keeper's thread."""
    proxybox.run("print('warm')", check=True)


@pytest.fixture(autouse=True)
def _unharmed(_warm: None) -> Iterator[None]:
    before = descriptors()
    threads = set(threading.enumerate())
    affinity = os.sched_getaffinity(0)
    yield
    assert eventually(lambda: not children()), f"children left: {children()}"
    assert eventually(lambda: set(descriptors()) <= set(before)), "descriptors left: " + str(
        {fd: what for fd, what in descriptors().items() if fd not in before}
    )
    assert eventually(lambda: set(threading.enumerate()) <= threads), threading.enumerate()
    assert os.sched_getaffinity(0) == affinity
    assert proxybox.run("print(6 * 7)", check=True).stdout == "42\n"


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the condition comes true in time: the kernel ends processes when it likes."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
