"""Real boxes with hostile code in them, and a look at the controller before and after.

Every test here passes through `_unharmed`: when it ends, this process has no child, descriptor or thread that it did
not have before. At the end of each file a new box works. Tests with the fixture `outside` also have a folder and a port
of the host that nobody may have touched.

    pytest tests/hostile --layers=off    with the seal alone: none of the outer layers
    pytest tests/hostile --heavy         the longest forms of some attacks, too
"""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

import proxybox
from proxybox.controller.guests.programs import guest_program
from proxybox.controller.process import reaper
from proxybox.controller.seal import layers
from proxybox.controller.vfs.host import library
from proxybox.controller.warm import zygotepool
from tests.hostile.table import what_stood

HERE = Path(__file__).parent
GUEST = HERE / "guest"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--layers", choices=("on", "off"), default="on", help="the defences around the seal")
    parser.addoption("--heavy", action="store_true", help="attacks of full size, which take long")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "heavy: takes long, and has a smaller twin; runs with --heavy")
    config.addinivalue_line("markers", "outer_layers: is about the layers themselves; does not run with --layers=off")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    # When tests are collected from a folder further up, these options are unknown. Layers are on then.
    if not config.getoption("--heavy", False):
        items[:] = [item for item in items if item.get_closest_marker("heavy") is None]
    if config.getoption("--layers", "on") == "off":
        items[:] = [item for item in items if item.get_closest_marker("outer_layers") is None]


@pytest.fixture(scope="session")
def without_layers(request: pytest.FixtureRequest) -> bool:
    """Whether this session runs with the seal alone."""
    return bool(request.config.getoption("--layers", "on") == "off")


@pytest.fixture(scope="session", autouse=True)
def _layers(without_layers: bool, request: pytest.FixtureRequest) -> Iterator[None]:
    """With --layers=off no box of this process, or of a Python that it starts, has an outer layer.

    A worker of pytest-xdist reports its own layers for the table.
    """
    if without_layers:
        layers.USED.clear()
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE / "without_layers"), *([path] if path else [])])
    yield
    if without_layers and hasattr(request.config, "workeroutput"):
        request.config.workeroutput["stood"] = what_stood()


def descriptors() -> dict[int, str]:
    """This process's open descriptors, each with the target of its /proc link."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {fd: what for fd, what in found.items() if what != f"/proc/{os.getpid()}/fd"}


def descriptors_of_libraries() -> dict[int, str]:
    """Descriptors of library files that this process keeps open for all boxes. Their number is bounded."""
    kept = set(library._contents._fds.values())
    assert len(kept) <= library.CACHE_FILES
    return {fd: what for fd, what in descriptors().items() if fd in kept}


def children() -> list[int]:
    """The process ids of this process's children, zombies included."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                stat = Path("/proc", name, "stat").read_bytes().rpartition(b")")[2].split()
                if int(stat[1]) == os.getpid():
                    found.append(int(name))
    return found


def guests() -> list[int]:
    """The children that are interpreters: a box may also have an init."""
    found = []
    for pid in children():
        with contextlib.suppress(OSError):
            if "_launcher" not in Path("/proc", str(pid), "comm").read_text():
                found.append(pid)
    return found


def resident() -> int:
    """The resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def symbols() -> dict[str, int]:
    """The symbols of the compiled stub and their offsets, from its ELF symbol table."""
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
    found = {}
    for at in range(table["offset"], table["offset"] + table["size"], 24):
        text = names + number(at, 4)
        found[image[text : image.index(0, text)].decode()] = number(at + 8, 8)
    return found


def symbol(name: str) -> int:
    """The offset of a function or an object in the compiled stub."""
    return symbols()[name]


class Hostile:
    """Runs hostile code in boxes of its own."""

    children = staticmethod(children)
    descriptors = staticmethod(descriptors)
    guests = staticmethod(guests)
    resident = staticmethod(resident)
    symbol = staticmethod(symbol)
    symbols = staticmethod(symbols)

    def __init__(self) -> None:
        self.files = {path.name: path.read_text() for path in GUEST.glob("*.py")}

    def run(self, code: str, *, files: dict[str, Any] | None = None, **options: Any) -> proxybox.Result:
        """The Result of `code`, which can import the modules of guest/."""
        options.setdefault("timeout", 200)
        return proxybox.run(code, files={**self.files, **(files or {})}, **options)

    def ok(self, code: str, **options: Any) -> str:
        """What `code` printed. Asserts that it ended well."""
        result = self.run(code, **options)
        assert result.ok, f"{result.summary()}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        return result.stdout


@pytest.fixture
def hostile() -> Hostile:
    return Hostile()


class GuestObserver(threading.Thread):
    """Observes the guests of this process repeatedly, from outside, until its context ends."""

    def __init__(self, hostile: Hostile) -> None:
        super().__init__()
        self.most_guests, self._guests, self._over = 0, hostile.guests, threading.Event()

    def look(self, pid: int) -> None:
        """Observes one guest. An OSError means that the guest has ended."""
        raise NotImplementedError

    def run(self) -> None:
        while not self._over.wait(0.004):
            pids = self._guests()
            self.most_guests = max(self.most_guests, len(pids))
            for pid in pids:
                with contextlib.suppress(OSError):
                    self.look(pid)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()


@pytest.fixture
def sandbox() -> Iterator[Callable[..., proxybox.Sandbox]]:
    """Makes sandboxes. At the end their boxes, sessions, copies and zygotes are closed."""
    with contextlib.ExitStack() as closing:
        closing.callback(reaper.settle)
        closing.callback(zygotepool.close)

        def make(**options: Any) -> proxybox.Sandbox:
            return closing.enter_context(proxybox.Sandbox(**options))

        yield make


@pytest.fixture
def warm(sandbox: Callable[..., proxybox.Sandbox]) -> Callable[..., proxybox.Sandbox]:
    """Makes sandboxes whose boxes and sessions all come from zygotes."""

    def make(**options: Any) -> proxybox.Sandbox:
        made = sandbox(warm=True, **options)
        box = made._box(None)
        assert zygotepool.zygote_pool().find(box, now=True) is not None, "no zygote"
        return made

    return make


class Outside:
    """What hostile code would touch if it got out of its box (guest/outside.py). Any user of the host can reach it."""

    def __init__(self, folder: Path, listener: socket.socket) -> None:
        self.folder = folder
        self.listener = listener
        (folder / "file").write_text("untouched")
        (folder / "file").chmod(0o666)
        self._before = self._state()
        #: A statement for the guest. Its value: the numbers of the calls that the kernel did not refuse.
        self.reach = f"__import__('outside').reach({str(folder)!r}, {listener.getsockname()[1]})"
        #: The same with Python's own functions. Its value: the names of the ways that succeeded.
        self.python = f"__import__('outside').python({str(folder)!r}, {listener.getsockname()[1]})"

    def _state(self) -> list[object]:
        status = [(path, os.lstat(path)) for path in (self.folder, *sorted(self.folder.iterdir()))]
        return [(path.name, each.st_mode, each.st_uid, each.st_nlink, each.st_mtime_ns) for path, each in status]

    def is_untouched(self) -> bool:
        """Whether the files and names are unchanged, and nobody has connected to the port."""
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()[0].close()
            return False
        return self._state() == self._before and (self.folder / "file").read_text() == "untouched"


@pytest.fixture
def outside() -> Iterator[Outside]:
    # Not in pytest's own folder: when root starts a guest, the guest's user cannot enter that one.
    folder = Path(tempfile.mkdtemp(prefix="outside-"))
    folder.chmod(0o777)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Outside(folder, listener)
        yield made
        assert made.is_untouched(), f"came out: {sorted(os.listdir(folder))}"
    shutil.rmtree(folder)


@pytest.fixture(scope="session", autouse=True)
def _warm(_layers: None) -> None:
    """Runs a first box, which fills caches and starts the threads of the watchdog and of the reaper."""
    proxybox.run("print('warm')", check=True)
    reaper.reaper()


@pytest.fixture(autouse=True)
def _unharmed(_warm: None) -> Iterator[None]:
    before = descriptors()
    threads = set(threading.enumerate())

    def started() -> set[threading.Thread]:  # threads that install descriptors wait some seconds for the next one
        return {each for each in threading.enumerate() if each.name != "proxybox-install"}

    affinity = os.sched_getaffinity(0)
    yield
    assert eventually(lambda: not children()), f"children left: {children()}"
    before |= descriptors_of_libraries()
    assert eventually(lambda: set(descriptors()) <= set(before)), "descriptors left: " + str(
        {fd: what for fd, what in descriptors().items() if fd not in before}
    )
    assert eventually(lambda: started() <= threads), threading.enumerate()
    assert os.sched_getaffinity(0) == affinity


@pytest.fixture(scope="module", autouse=True)
def _usable(_warm: None) -> Iterator[None]:
    """After each file of attacks the next box works. Within a file, each test's own box shows that."""
    yield
    assert proxybox.run("print(6 * 7)", check=True).stdout == "42\n"


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    """Whether the condition becomes true in time. The kernel may end a process later than expected."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)
    return True
