"""Fixtures and hooks of all tests."""

import contextlib
import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.fixtures import reorder_items

from proxybox import run
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.dispatch import TABLE, takes_thread
from proxybox.controller.effects import AnotherTurn
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.cpython import CPython
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.header import WRITE_BACK
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Policy
from tests import leaks, sizes, sweeps

# Background jobs of a shell ignore SIGINT and SIGQUIT, children of nohup(1) ignore SIGHUP, and their children inherit
# that. The tests send these signals, or look at them.
for number, handler in (
    (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL), (signal.SIGHUP, signal.SIG_DFL),
):  # fmt: skip
    if signal.getsignal(number) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):  # not in the main thread
            signal.signal(number, handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kind", choices=("pypy", "cpython"), help="run all tests with guests of this kind alone")
    parser.addoption("--sizes", action="store_true", help="end with a table of the suite's parts (sizes.py)")
    parser.addoption("--record-longest", action="store_true", help="write down which files take long (longest.txt)")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # xdist's workers report to the process that started them
        config.pluginmanager.register(sizes.Durations())
    config.addinivalue_line("markers", "pypy: of what only a PyPy has, or says so")
    config.addinivalue_line("markers", "cpython: of what only a CPython has, or says so")
    config.addinivalue_line("markers", "cover(strength): combinations in which all values, or pairs, come (sweeps.py)")
    config.addinivalue_line("markers", "sized(number): so many of a test's combinations (sweeps.py)")
    config.addinivalue_line("markers", "full: comes with `make full` alone (sweeps.py)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs the tests of files with EACH_GUEST = True with guests of both kinds."""
    if getattr(metafunc.module, "EACH_GUEST", False) and not metafunc.config.getoption("--kind", None):
        metafunc.parametrize("guest_kind", ["pypy", "cpython"], indirect=True, scope="module")


def _is_of_another_kind(item: pytest.Item) -> bool:
    """Returns whether a test, or a set of its arguments, is marked for the other kind of guest."""
    arguments = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = arguments.get("guest_kind") or item.config.getoption("--kind", None) or "pypy"
    return item.get_closest_marker({"pypy": "cpython", "cpython": "pypy"}[kind]) is not None


def _of_the_second_kind(items: list[pytest.Item]) -> set[pytest.Item]:
    """Returns what files with EACH_GUEST have for guests of the second kind, but for the first test of each file, and
    for tests of what that kind alone has: no other guest tries the same.
    """
    second: dict[Path, list[pytest.Item]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and getattr(item.module, "EACH_GUEST", False):
            arguments = item.callspec.params if hasattr(item, "callspec") else {}
            marks = item.get_closest_marker("full") or item.get_closest_marker("cpython")
            if arguments.get("guest_kind") == "cpython" and not marks:
                second.setdefault(item.path, []).append(item)
    return {item for found in second.values() for item in sorted(found, key=lambda item: item.nodeid)[1:]}


def left_for_the_full_run(items: list[pytest.Item]) -> set[pytest.Item]:
    """Returns the items that run only in `make full`: see sweeps.py."""
    left = {item for item in items if item.get_closest_marker("full")} | _of_the_second_kind(items)
    families: dict[str, list[pytest.Function]] = {}
    for item in sorted({*items} - left, key=lambda item: item.nodeid):
        if isinstance(item, pytest.Function) and (item.get_closest_marker("cover") or item.get_closest_marker("sized")):
            families.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for family in families.values():
        family.sort(key=_place)
        cover, sized = family[0].get_closest_marker("cover"), family[0].get_closest_marker("sized")
        if cover:
            chosen = [family[at] for at in sweeps.covering(_rows(family), *cover.args)]
        else:
            chosen = sweeps.spread(family, *sized.args)
        left |= {*family}.difference(chosen)
    return left


def _place(item: pytest.Function) -> list[tuple[str, int]]:
    """Returns a test's place among the combinations of its arguments, in any order of the tests."""
    return sorted(item.callspec.indices.items()) if hasattr(item, "callspec") else []


def _rows(family: list[pytest.Function]) -> list[tuple[int, ...]]:
    """Returns for each test the numbers of its arguments' values."""
    known: dict[str, dict[int, int]] = {}
    rows = []
    for item in family:
        values = sorted(item.callspec.params.items()) if hasattr(item, "callspec") else []
        found = [(known.setdefault(name, {}), id(value)) for name, value in values]
        rows.append(tuple(numbers.setdefault(value, len(numbers)) for numbers, value in found))
    return rows


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Removes items that other runs have. It comes after the plugin that shuffles, and otherwise keeps its order."""
    items[:] = [item for item in items if not _is_of_another_kind(item)]
    left = set[pytest.Item]() if sweeps.FULL else left_for_the_full_run(items)
    # Groups the items again, as before the shuffle: a module's fixture is made once for each of its parameters.
    items[:] = reorder_items([item for item in items if item not in left])
    # xdist gives a whole file to one process, so the files that take longest begin first.
    longest = sizes.longest()
    items.sort(key=lambda item: -longest.get(item.nodeid.partition("::")[0], 0))


def pytest_collection_finish() -> None:
    """Freezes the half million objects of the tests themselves: a garbage collection of them takes 0.5 s."""
    if "hypothesis" in sys.modules:  # otherwise hypothesis warns about later imports: it uses gc.get_referrers
        gc.collect()
        gc.freeze()


_BUFFER = 0x1000  # an address in the guest's memory


@pytest.fixture(scope="module", autouse=True)
def _ends_what_it_starts(request: pytest.FixtureRequest) -> Iterator[None]:
    """Otherwise the tests of another module would fail because of what this module leaves behind."""
    threads, children = leaks.threads(), leaks.children()
    yield
    left = leaks.threads_since(threads), leaks.children_since(children)
    assert left == ([], {}), f"{request.node.nodeid} leaves threads or processes behind"


@pytest.fixture(autouse=True, scope="session")
def _state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Puts the journals of commits into a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def other_runs_have_folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pytest closes the parent folder of all runs to other users when it starts, also when a test has started it."""
    own = tmp_path_factory.mktemp("runs")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(own)


@pytest.fixture(scope="session")
def open_the_way() -> Callable[[Path], None]:
    """Returns a function that lets other users, such as the user of root's guests, enter the test runner's folders."""

    def open_up(path: Path) -> None:
        for parent in path.parents:
            if parent == Path(tempfile.gettempdir()):
                return
            parent.chmod(parent.stat().st_mode | 0o011)

    return open_up


def _whole(call: Callable[[], Any]) -> Any:
    """Repeats a call that takes several turns, and returns its result."""
    while True:
        with contextlib.suppress(AnotherTurn):
            return call()


class Side:
    """A world from a policy, without a guest, and calls by name.

    A call that fails returns -errno, as to a guest. A call that stores something returns the stored bytes.
    """

    def __init__(self, builder: WorldBuilder, closing: contextlib.ExitStack) -> None:
        closing.callback(builder.close)
        self._closing = closing
        self.builder = builder
        self.world = builder.world

    def copy(self, pid: int = 200, stdin: bytes = b"") -> "Side":
        """Returns another side with a copy of this world."""
        streams = Stdin(stdin), OutputSink("stdout"), OutputSink("stderr")
        return Side(self.builder.copy(*streams, pid=pid), self._closing)

    def call(self, name: str, *arguments: Any) -> Any:
        handler = next(row.handler for row in TABLE.values() if row.name == name)
        caller = (self.world.thread,) if takes_thread(handler) else ()
        self.world.steps.renew()  # as for each call of a guest
        try:
            reply = _whole(lambda: handler(self.world, *caller, *arguments))
            while isinstance(reply, int) and reply <= WRITE_BACK:  # as with a stub that has nothing to write back
                reply = _whole(lambda: handler(self.world, *caller, *arguments))
        except OSError as error:
            return -(error.errno or 0)
        if isinstance(reply, tuple):
            return reply[1][1] if len(reply) == 2 else reply[0]
        return reply

    def open(self, path: bytes, flags: int = os.O_RDONLY, mode: int = 0o644) -> int:
        fd: int = self.call("open", path, flags, mode)
        assert fd >= 0, (path, os.strerror(-fd))
        return fd

    def put(self, path: bytes, data: bytes, flags: int = os.O_CREAT | os.O_TRUNC) -> None:
        fd = self.open(path, os.O_WRONLY | flags)
        assert self.write(fd, data) == len(data)
        self.call("close", fd)

    def get(self, path: bytes) -> bytes:
        fd, pieces = self.open(path), []
        while piece := self.read(fd, 1 << 20):
            pieces.append(piece)
        self.call("close", fd)
        return b"".join(pieces)

    def write(self, fd: int, data: bytes) -> Any:
        return self.call("write", fd, data, len(data))

    def read(self, fd: int, size: int) -> Any:
        return self.call("read", fd, _BUFFER, size)

    def names(self, path: bytes) -> list[bytes]:
        fd = self.open(path, os.O_DIRECTORY)
        found = [name for name, _, _ in _whole(self.world.descriptors.get(fd).entries)]  # type: ignore[attr-defined]
        self.call("close", fd)
        return sorted(found)[2:]


@pytest.fixture
def make_side() -> Iterator[Callable[..., Side]]:
    """Returns a function that makes sides from fields of a policy; `files` and `folder` are at /box."""
    with contextlib.ExitStack() as closing:

        def make(files: dict[str, bytes] | None = None, folder: str | None = None, **fields: Any) -> Side:
            builder = WorldBuilder(Policy(**fields), find_guest(), BoxFolder(folder=folder, files=files or {}))
            builder.build(Stdin(), OutputSink("stdout"), OutputSink("stderr"))
            return Side(builder, closing)

        yield make


@pytest.fixture
def side(make_side: Callable[..., Side]) -> Side:
    return make_side()


#: Each box starts its own interpreter: tests look at what is left after its end. Tests of warm guests set this
#: themselves.
os.environ.setdefault("PROXYBOX_WARM", "0")


@pytest.fixture(scope="session")
def cpython() -> CPython:
    """A CPython that can be a guest: one on PATH, or the distribution's."""
    for name in ("cpython", "/usr/bin/python3"):
        with contextlib.suppress(SandboxStartError):
            found = find_guest(name)
            run(code="pass", guest=found.executable, check=True)
            assert isinstance(found, CPython)
            return found
    pytest.skip("there is no CPython that every user can read")


@pytest.fixture(scope="module", autouse=True)
def guest_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of guest of boxes that name none."""
    if getattr(request, "param", request.config.getoption("--kind", None)) in (None, "pypy"):
        yield "pypy"
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXYBOX_GUEST", request.getfixturevalue("cpython").executable)
        run(code="open('/proc/self/exe', 'rb').read(1)", check=True)  # fills caches of this process
        yield "cpython"


@pytest.fixture(scope="session")
def release() -> Iterator[Path]:
    """An unpacked release, like PyPy's own archives: bin/pypy3 with lib/pypy3.x beside it."""
    executable = Path(shutil.which("pypy3") or "").resolve()
    library = Path("/usr/lib", executable.name)
    if not (library / "os.py").is_file():
        pytest.skip("there is no pypy3 of the distribution to make a release of")
    # Not in pytest's own folder: other users cannot enter it, and root's guests run as another user.
    root = Path(tempfile.mkdtemp(prefix="unpacked-"), "pypy3-release")
    (root / "bin").mkdir(parents=True)
    root.parent.chmod(0o755)
    shutil.copy(executable, root / "bin" / "pypy3")
    shutil.copytree(
        library,
        root / "lib" / library.name,
        ignore=shutil.ignore_patterns("test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "__pycache__"),
    )
    yield root
    shutil.rmtree(root.parent)


@pytest.fixture(scope="session")
def cpython_release(cpython: CPython) -> Iterator[Path]:
    """An unpacked CPython, like relocatable builds, in a folder with a known name."""
    root = Path(tempfile.mkdtemp(prefix="unpacked-"))
    root.chmod(0o755)
    home = root / "cpython-release"
    (home / "bin").mkdir(parents=True)
    shutil.copy(cpython.executable, home / "bin" / cpython.name)
    ignored = shutil.ignore_patterns("test", "idlelib", "ensurepip", "__pycache__")
    shutil.copytree(cpython.library, home / "lib" / cpython.name, ignore=ignored, ignore_dangling_symlinks=True)
    yield home
    shutil.rmtree(root)
