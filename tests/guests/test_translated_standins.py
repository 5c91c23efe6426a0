"""Modules that replace those that a translated PyPy lacks (proxybox/guest/translated): they behave like the modules of
this Python.

If there is a genuine build, they are also tested in it.
"""

import contextvars
import csv
import dataclasses
import hashlib
import importlib.util
import io
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from proxybox import Sandbox
from proxybox.controller.guests.programs import guest_folder
from tests.guests.test_translated_genuine import ARCHIVE, genuine  # noqa: F401 - a fixture

SIZES = (0, 1, 55, 63, 64, 65, 71, 72, 73, 127, 128, 129, 135, 136, 137, 143, 144, 145, 167, 168, 169, 256, 300)


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"standin{name}", Path(guest_folder(), "translated", f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses looks up the module there
    spec.loader.exec_module(module)
    return module


def what(function: Callable[[], object]) -> object:
    """The result of a function: its value, or the class and the text of its exception."""
    try:
        return function()
    except Exception as error:
        return type(error).__name__, str(error)


# --- hashes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sha3_224", "sha3_256", "sha3_384", "sha3_512", "shake_128", "shake_256"])
def test_sha3(name: str) -> None:
    make, chance = getattr(load("_sha3"), name), random.Random(name)
    for size in SIZES:
        data = chance.randbytes(size)
        length = (300,) if name.startswith("shake") else ()
        found = make(data[: size // 3])
        found.update(data[size // 3 :])
        wanted = hashlib.new(name, data)
        assert found.digest(*length) == wanted.digest(*length)  # type: ignore[call-arg]
        assert found.copy().hexdigest(*length) == wanted.hexdigest(*length)  # type: ignore[call-arg]
        for field in ("name", "block_size", "digest_size"):
            assert getattr(found, field) == getattr(wanted, field)


@pytest.mark.parametrize("name", ["blake2b", "blake2s"])
def test_blake2(name: str) -> None:
    make, real, chance = getattr(load("_blake2"), name), getattr(hashlib, name), random.Random(name)
    for size in SIZES:
        data = chance.randbytes(size)
        tree = {"fanout": size % 250, "depth": 1 + size % 200, "leaf_size": size * 1000, "node_offset": size * 12345,
                "node_depth": size % 255, "inner_size": size % 32, "last_node": bool(size % 2)}  # fmt: skip
        keyed = {"key": chance.randbytes(size % 30), "salt": chance.randbytes(size % 8), "person": b"x" * (size % 7)}
        for more in ({}, {"digest_size": 1 + size % 32, **keyed, **tree}):
            found = make(data[: size // 2], **more)
            found.update(data[size // 2 :])
            assert found.hexdigest() == real(data, **more).hexdigest()
    for wrong in ({"digest_size": 0}, {"key": b"x" * 65}, {"fanout": 256}, {"depth": 0}, {"leaf_size": 1 << 32}):
        kinds = {what(lambda given=wrong, kind=kind: kind(**given))[0] for kind in (make, real)}  # type: ignore
        assert len(kinds) == 1, wrong


# --- csv --------------------------------------------------------------------------------------------------------------

LETTERS = "ab,;\"'\\ \n\r\t19"
CHOICES: dict[str, Any] = {
    "delimiter": ",;\t", "doublequote": [True, False], "escapechar": [None, "\\"], "quotechar": "\"'",
    "quoting": range(4), "skipinitialspace": [False, True], "strict": [False, True],
    "lineterminator": ["\r\n", "\n", "x"],
}  # fmt: skip


def formats(chance: random.Random) -> Iterator[tuple[dict[str, Any], str]]:
    for _ in range(4000):
        named = {name: chance.choice(list(each)) for name, each in CHOICES.items() if chance.random() < 0.4}
        yield named, "".join(chance.choice(LETTERS) for _ in range(chance.randrange(25)))


@pytest.fixture(scope="module")
def ours() -> ModuleType:
    module = load("_csv")
    module.register_dialect("excel", csv.excel)
    return module


AS_IN_3_6 = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="csv of later Pythons quotes otherwise")


@AS_IN_3_6
def test_csv_is_read_as_csv_reads_it(ours: ModuleType) -> None:
    for fields, text in formats(random.Random("read")):
        lines = io.StringIO(text, newline="").readlines()
        both = [what(lambda kind=kind: list(kind.reader(lines, **fields))) for kind in (ours, csv)]  # noqa: B023
        assert both[0] == both[1], (fields, lines)


@AS_IN_3_6
def test_csv_is_written_as_csv_writes_it(ours: ModuleType) -> None:
    chance = random.Random("write")
    for fields, text in formats(chance):
        row = [chance.choice([None, 1, 2.5, "", text[:5], text[5:9]]) for _ in range(chance.randrange(5))]
        seen = []
        for kind in (ours, csv):
            file = io.StringIO()
            seen.append((what(lambda kind=kind, file=file: kind.writer(file, **fields).writerow(row)), file.getvalue()))  # noqa: B023
        assert seen[0] == seen[1], (fields, row)


@pytest.mark.parametrize(
    "fields",
    [{"delimiter": ""}, {"delimiter": "ab"}, {"quotechar": None, "quoting": 1}, {"quoting": 9},
     {"lineterminator": None}, {"delimiter": 3}, {"nonsense": 1}, {"quotechar": ""}],
)  # fmt: skip
def test_formats_that_are_none(ours: ModuleType, fields: dict[str, Any]) -> None:
    kinds = {type(what(lambda kind=kind: kind.reader([], **fields))) for kind in (ours, csv)}
    assert len(kinds) == 1
    assert what(lambda: ours.reader([], "none")) == ("Error", "unknown dialect") == what(lambda: csv.reader([], "none"))


# --- dataclasses, contextvars -----------------------------------------------------------------------------------------


def with_dataclasses(kind: ModuleType | Any) -> list[object]:
    @kind.dataclass
    class Point:
        x: int
        y: int = 2
        z: list = kind.field(default_factory=list, repr=False)  # type: ignore[type-arg]

    @kind.dataclass(order=True, frozen=True)
    class Frozen:
        a: int
        b: str = "q"
        c: int = kind.field(default=3, compare=False)

    @kind.dataclass
    class Below(Point):
        w: int = 5
        i: kind.InitVar[int] = 4

        def __post_init__(self, i: int) -> None:
            self.s = i * 2

    @kind.dataclass
    class Own:
        x: int

        def __eq__(self, other: object) -> bool:
            return NotImplemented

        def __repr__(self) -> str:
            return "R"

    def wrong(**names: Any) -> Callable[[], object]:
        annotations = dict.fromkeys(names, int)
        return lambda: kind.dataclass(type("Wrong", (), {**names, "__annotations__": annotations}))

    made = kind.make_dataclass("Made", ["x", ("y", int), ("z", int, kind.field(default=5))])
    me = made(1, 2)
    me.x = me
    point = Point(1, z=[Point(3)])
    return [what(each) for each in (
        lambda: repr(Point(1)), lambda: Point(1) == Point(1), lambda: Point(1) != Point(2), lambda: Point() and 0,
        lambda: hash(Point(1)), lambda: kind.asdict(point), lambda: kind.astuple(point), lambda: Point(1) < Point(2),
        lambda: repr(kind.replace(Point(1), x=9)), lambda: [each.name for each in kind.fields(Below)],
        lambda: repr(sorted([Frozen(2), Frozen(1), Frozen(1, "a")])), lambda: hash(Frozen(1)) == hash(Frozen(1, c=8)),
        lambda: setattr(Frozen(1), "a", 2), lambda: delattr(Frozen(1), "a"), lambda: repr(Below(1)),
        lambda: Below(1, i=10).s, lambda: repr(Own(1)), lambda: hash(Own(1)), lambda: Own(1) == Own(1),
        wrong(x=[]), lambda: repr(me), lambda: kind.make_dataclass("C", ["1x"]) and 0,
        lambda: kind.is_dataclass(Point) and kind.is_dataclass(point) and not kind.is_dataclass(3),
        lambda: kind.fields(3),
    )]  # fmt: skip


def test_dataclasses() -> None:
    ours, theirs = with_dataclasses(load("dataclasses")), with_dataclasses(dataclasses)
    for one, other in zip(ours, theirs, strict=True):
        if isinstance(other, tuple):  # compare only the class of exceptions: their texts differ between versions
            assert isinstance(one, tuple)
            assert one[0] == other[0]
        else:
            assert one == other


def with_contextvars(kind: ModuleType | Any) -> list[object]:
    first, second = kind.ContextVar("first", default=1), kind.ContextVar("second")
    before = first.get(), second.get(5)
    token = first.set(3)
    copy = kind.copy_context()
    found = [
        before, token.old_value is kind.Token.MISSING, copy.run(lambda: (first.set(9), first.get())[1]), first.get(),
        copy[first], second in copy, len(copy), first.name, first.reset(token), first.get(), copy.copy()[first],
    ]  # fmt: skip
    for wrong in (second.get, lambda: first.reset(token), lambda: copy.run(lambda: copy.run(int)),
                  lambda: kind.ContextVar(3), lambda: second.reset(first.set(1)), lambda: 3 in copy):  # fmt: skip
        found.append(what(wrong)[0])  # type: ignore[index]
    return found


def test_contextvars() -> None:
    ours, theirs = load("contextvars"), contextvars
    assert ours.Context().run(with_contextvars, ours) == theirs.Context().run(with_contextvars, theirs)


# --- threads and signals ----------------------------------------------------------------------------------------------


def test_a_lock_that_nobody_else_can_release() -> None:
    thread = load("_thread")
    lock, again = thread.allocate_lock(), thread.RLock()
    assert (lock.acquire(), lock.locked(), lock.acquire(False), lock.acquire(True, 0.001)) == (True, True, False, False)
    for wrong in (
        lock.acquire,
        lambda: thread.start_new_thread(print, ()),
        thread.allocate_lock().release,
        again.release,
    ):
        with pytest.raises(RuntimeError):
            wrong()
    lock.release()
    assert (lock.locked(), again.acquire(), again.acquire(), again._is_owned()) == (False, True, True, True)
    with lock, pytest.raises(ValueError, match="can't specify a timeout"):
        lock.acquire(False, 1)


def test_handlers_of_signals_are_kept() -> None:
    signal = load("_signal")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.signal(signal.SIGTERM, print) == signal.SIG_DFL
    assert signal.signal(signal.SIGTERM, signal.SIG_IGN) is print
    assert (signal.SIGKILL, signal.SIGTERM, signal.SIGCHLD, signal.SIGSYS) == (9, 15, 17, 31)
    for number, handler, kind in (
        (0, print, ValueError),
        (65, print, ValueError),
        (9, print, OSError),
        (2, 7, TypeError),
    ):
        with pytest.raises(kind):
            signal.signal(number, handler)


PROGRAM = r"""
import csv, dataclasses, doctest, hashlib, io, pdb, queue, random, signal, sys, threading, unittest, _thread

class Test(unittest.TestCase):
    def test_right(self):
        self.assertEqual(1 + 1, 2)
    def test_wrong(self):
        self.assertEqual(1 + 1, 3)

def double(x):
    '''
    >>> double(2)
    4
    >>> double(3)
    7
    '''
    return 2 * x

found = unittest.TextTestRunner(stream=io.StringIO()).run(unittest.defaultTestLoader.loadTestsFromTestCase(Test))
print(found.testsRun, len(found.failures))
tests = doctest.DocTestFinder().find(double, 'double', globs={'double': double})
print(doctest.DocTestRunner(verbose=False).run(tests[0], out=lambda text: None))
print(list(csv.DictReader(io.StringIO('a,b\n1,"x, y"\n'))))
print(hashlib.sha3_256(b'x').hexdigest()[:8], hashlib.blake2b(b'x').hexdigest()[:8], hashlib.new('sha256').name)
lock = threading.Lock()
with lock:
    print(lock.acquire(False), lock.acquire(timeout=0.01))
    try:
        lock.acquire()
    except RuntimeError as error:
        print(error)
try:
    threading.Thread(target=print).start()
except RuntimeError as error:
    print(error)
event = threading.Event()
print(event.wait(0.01), threading.active_count(), threading.current_thread().name)
local = threading.local()
local.x = 1
print(local.x, signal.signal(signal.SIGTERM, print), signal.getsignal(signal.SIGTERM) is print)
@dataclasses.dataclass
class Point:
    x: int
    y: 'typing.ClassVar[int]' = 3
print(Point(1), queue.Queue().empty())
"""


@pytest.mark.skipif(not ARCHIVE.is_file(), reason=f"no genuine translated PyPy ({ARCHIVE})")
def test_a_program_that_teaches(genuine: str) -> None:  # noqa: F811
    with Sandbox(guest=genuine) as box:
        result = box.run(PROGRAM)
        own = box.run("import _csv; print(_csv.MINE)", files={"_csv.py": "MINE = 'mine'"})
        changed = box.run("open('/usr/lib/pypy/lib_pypy/__extensions__/_csv.py', 'w')")
    assert result.stderr.count("Warning") == 0
    assert result.stdout.splitlines() == [
        "2 1", "TestResults(failed=1, attempted=2)", "[OrderedDict([('a', '1'), ('b', 'x, y')])]",
        "741efa31 0909377a sha256", "False False",
        "deadlock: there is one thread, and it waits for a lock that it holds",
        "can't start new thread: this interpreter has one", "False 1 MainThread", "1 Handlers.SIG_DFL True",
        "Point(x=1) True",
    ]  # fmt: skip
    assert own.stdout == "mine\n", "a program's own modules come first"
    assert changed.error is not None
    assert changed.error.message.endswith("Read-only file system: '/usr/lib/pypy/lib_pypy/__extensions__/_csv.py'")
