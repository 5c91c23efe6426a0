"""What tests of several kinds need."""

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

# A shell has its background jobs ignore SIGINT and SIGQUIT, nohup(1) SIGHUP, and what they start does so, too: the
# tests send them, or look.
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
    if not hasattr(config, "workerinput"):  # what the workers of xdist do is reported to the process that started them
        config.pluginmanager.register(sizes.Durations())
    config.addinivalue_line("markers", "pypy: of what only a PyPy has, or says so")
    config.addinivalue_line("markers", "cpython: of what only a CPython has, or says so")
    config.addinivalue_line("markers", "cover(strength): combinations in which all values, or pairs, come (sweeps.py)")
    config.addinivalue_line("markers", "sized(number): so many of a test's combinations (sweeps.py)")
    config.addinivalue_line("markers", "full: comes with `make full` alone (sweeps.py)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Files with EACH_GUEST = True are for guests of both kinds."""
    if getattr(metafunc.module, "EACH_GUEST", False) and not metafunc.config.getoption("--kind", None):
        metafunc.parametrize("guest_kind", ["pypy", "cpython"], indirect=True, scope="module")


def _is_of_another_kind(item: pytest.Item) -> bool:
    """Whether a test, or a set of its arguments, is marked as of one kind of guest, and this guest is of the other."""
    arguments = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    kind = arguments.get("guest_kind") or item.config.getoption("--kind", None) or "pypy"
    return item.get_closest_marker({"pypy": "cpython", "cpython": "pypy"}[kind]) is not None


def left_for_the_full_run(items: list[pytest.Item]) -> set[pytest.Item]:
    """What comes with `make full` alone: see sweeps.py."""
    left = {item for item in items if item.get_closest_marker("full")}
    families: dict[str, list[pytest.Function]] = {}
    for item in sorted(items, key=lambda item: item.nodeid):
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
    """Where it stands among the combinations of its arguments, whatever the order in which tests run."""
    return sorted(item.callspec.indices.items()) if hasattr(item, "callspec") else []


def _rows(family: list[pytest.Function]) -> list[tuple[int, ...]]:
    """A number for each value of each argument."""
    known: dict[str, dict[int, int]] = {}
    rows = []
    for item in family:
        values = sorted(item.callspec.params.items()) if hasattr(item, "callspec") else []
        found = [(known.setdefault(name, {}), id(value)) for name, value in values]
        rows.append(tuple(numbers.setdefault(value, len(numbers)) for numbers, value in found))
    return rows


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves out what another commit runs. Comes after the plugin that shuffles, and keeps its order otherwise."""
    items[:] = [item for item in items if not _is_of_another_kind(item)]
    left = set[pytest.Item]() if sweeps.FULL else left_for_the_full_run(items)
    # Once more, as before the shuffle: what a module makes for each of some values is made once for each.
    items[:] = reorder_items([item for item in items if item not in left])
    # A file comes whole to one process, so those that take longest begin first.
    longest = sizes.longest()
    items.sort(key=lambda item: -longest.get(item.nodeid.partition("::")[0], 0))


def pytest_collection_finish() -> None:
    """Half a million objects stand for the tests themselves: no collection looks at them again, which takes 0.5 s."""
    if "hypothesis" in sys.modules:  # else what it imports later would be warned of: it asks who refers to what
        gc.collect()
        gc.freeze()


_BUFFER = 0x1000  # where the guest's memory would be


@pytest.fixture(scope="module", autouse=True)
def _ends_what_it_starts(request: pytest.FixtureRequest) -> Iterator[None]:
    """What a module leaves behind, another one's tests would be blamed for."""
    threads, children = leaks.threads(), leaks.children()
    yield
    left = leaks.threads_since(threads), leaks.children_since(children)
    assert left == ([], {}), f"{request.node.nodeid} leaves threads or processes behind"


@pytest.fixture(autouse=True, scope="session")
def _state_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Journals of commits lie in a folder of the tests' own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(scope="session", autouse=True)
def other_runs_have_folders_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A pytest that starts closes the folder of all runs to other users, also when it is a test that has started it."""
    own = tmp_path_factory.mktemp("runs")
    os.environ["PYTEST_DEBUG_TEMPROOT"] = str(own)


@pytest.fixture(scope="session")
def open_the_way() -> Callable[[Path], None]:
    """Lets other users, such as that which root's guests run as, pass through the test runner's own folders."""

    def open_up(path: Path) -> None:
        for parent in path.parents:
            if parent == Path(tempfile.gettempdir()):
                return
            parent.chmod(parent.stat().st_mode | 0o011)

    return open_up


def _whole(call: Callable[[], Any]) -> Any:
    """What a call gives that may take several turns."""
    while True:
        with contextlib.suppress(AnotherTurn):
            return call()


class Side:
    """A world as a builder makes it from a policy, without a guest, and calls that are made to it by name.

    A call that fails gives -errno, as to a guest, and one that stores something gives that.
    """

    def __init__(self, builder: WorldBuilder, closing: contextlib.ExitStack) -> None:
        closing.callback(builder.close)
        self._closing = closing
        self.builder = builder
        self.world = builder.world

    def copy(self, pid: int = 200, stdin: bytes = b"") -> "Side":
        """Another side, on which everything is as it is here."""
        streams = Stdin(stdin), OutputSink("stdout"), OutputSink("stderr")
        return Side(self.builder.copy(*streams, pid=pid), self._closing)

    def call(self, name: str, *arguments: Any) -> Any:
        handler = next(row.handler for row in TABLE.values() if row.name == name)
        caller = (self.world.thread,) if takes_thread(handler) else ()
        self.world.steps.renew()  # as for each call of a guest
        try:
            reply = _whole(lambda: handler(self.world, *caller, *arguments))
            while isinstance(reply, int) and reply <= WRITE_BACK:  # as a stub that has nothing to write back
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
    """Makes sides from the fields of a policy; `files` and `folder` stand at /box."""
    with contextlib.ExitStack() as closing:

        def make(files: dict[str, bytes] | None = None, folder: str | None = None, **fields: Any) -> Side:
            builder = WorldBuilder(Policy(**fields), find_guest(), BoxFolder(folder=folder, files=files or {}))
            builder.build(Stdin(), OutputSink("stdout"), OutputSink("stderr"))
            return Side(builder, closing)

        yield make


@pytest.fixture
def side(make_side: Callable[..., Side]) -> Side:
    return make_side()


#: Each box is started by itself: tests look at what is left of one when it has ended. Those of warm guests ask for
#: them.
os.environ.setdefault("PROXYBOX_WARM", "0")


@pytest.fixture(scope="session")
def cpython() -> CPython:
    """A CPython that boxes can be made of: one on PATH, or the distribution's."""
    for name in ("cpython", "/usr/bin/python3"):
        with contextlib.suppress(SandboxStartError):
            found = find_guest(name)
            run(code="pass", guest=found.executable, check=True)
            assert isinstance(found, CPython)
            return found
    pytest.skip("there is no CPython that every user can read")


@pytest.fixture(scope="module", autouse=True)
def guest_kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """The kind of guest that boxes have without being told."""
    if getattr(request, "param", request.config.getoption("--kind", None)) in (None, "pypy"):
        yield "pypy"
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROXYBOX_GUEST", request.getfixturevalue("cpython").executable)
        run(code="open('/proc/self/exe', 'rb').read(1)", check=True)  # caches of this process
        yield "cpython"


@pytest.fixture(scope="session")
def release() -> Iterator[Path]:
    """An unpacked release, as PyPy's own archives are: bin/pypy3 with lib/pypy3.x beside it."""
    executable = Path(shutil.which("pypy3") or "").resolve()
    library = Path("/usr/lib", executable.name)
    if not (library / "os.py").is_file():
        pytest.skip("there is no pypy3 of the distribution to make a release of")
    # Not in pytest's own folder: that is closed to the user that a guest runs as when root starts it.
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
    """The same of a CPython, as relocatable builds are, in a folder with a telling name."""
    root = Path(tempfile.mkdtemp(prefix="unpacked-"))
    root.chmod(0o755)
    home = root / "cpython-release"
    (home / "bin").mkdir(parents=True)
    shutil.copy(cpython.executable, home / "bin" / cpython.name)
    ignored = shutil.ignore_patterns("test", "idlelib", "ensurepip", "__pycache__")
    shutil.copytree(cpython.library, home / "lib" / cpython.name, ignore=ignored, ignore_dangling_symlinks=True)
    yield home
    shutil.rmtree(root)
