"""Data that a program wrote to files without closing them is in the files at the next call of its session."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox import Status
from proxybox.controller.warm.leftopen import OpenFileWatch

EACH_GUEST = True

#: Statements that write to files without closing them, the file's name, and an expression for its contents.
FORGOTTEN = {
    "text": ("open('f', 'w').write('abc')", "open('f').read() == 'abc'"),
    "bytes": ("open('f', 'wb').write(b'abc')", "open('f', 'rb').read() == b'abc'"),
    "both ways": ("open('f', 'w+').write('abc')", "open('f').read() == 'abc'"),
    "at the end": ("open('f', 'w').write('a')\nopen('f', 'a').write('bc')", "sorted(open('f').read()) == [*'abc']"),
    "JSON": ("import json\njson.dump({'a': 1}, open('f', 'w'))", "json.load(open('f')) == {'a': 1}"),
    "CSV": ("import csv\ncsv.writer(open('f', 'w')).writerow([1, 2])", "open('f').read() == '1,2\\n'"),
    "print": ("print('abc', file=open('f', 'w'))", "open('f').read() == 'abc\\n'"),
    "pathlib": ("import pathlib\npathlib.Path('f').open('w').write('abc')", "open('f').read() == 'abc'"),
    "an encoding": ("import codecs\ncodecs.open('f', 'w', 'utf-16').write('abc')", "len(open('f', 'rb').read()) == 8"),
    "a cycle": (
        "class A: pass\na = A()\na.a, a.file = a, open('f', 'w')\na.file.write('abc')\ndel a",
        "open('f').read() == 'abc'",
    ),
    "compressed": ("import gzip\ngzip.open('f', 'wt').write('abc')", "gzip.open('f', 'rt').read() == 'abc'"),
    "compressed into a file": (
        "import gzip\ngzip.GzipFile(fileobj=open('f', 'wb'), mode='wb').write(b'abc')",
        "gzip.open('f', 'rt').read() == 'abc'",
    ),
    "an archive": (
        "import zipfile\nzipfile.ZipFile('f', 'w').writestr('a', 'abc')",
        "zipfile.ZipFile('f').read('a') == b'abc'",
    ),
    "many files": (
        "for i in range(100): open(f'f{i}', 'w').write('abc')",
        "all(open(f'f{i}').read() == 'abc' for i in range(100))",
    ),
}


@pytest.fixture(scope="module")
def box(guest_kind: str) -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox(session={"branches": 2, "grace": 20}, limits={"disk": "1M", "wall_time": 60}) as box:
        yield box


@pytest.mark.parametrize("way", FORGOTTEN)
def test_a_file_that_nothing_refers_to_is_closed_with_the_call(session: proxybox.Session, way: str) -> None:
    write, is_there = FORGOTTEN[way]
    assert session.exec(write, check=True).left_open == ()
    assert session.eval(is_there, check=True).value is True


def test_a_file_that_is_still_open_is_flushed_and_told_once(session: proxybox.Session) -> None:
    write = "f = open('f', 'w')\nf.write('a')\ng = open('/tmp/g', 'wb')\ng.write(b'a')\nr = open('/etc/passwd')"
    assert session.exec(write, check=True).left_open == ("/box/f", "/tmp/g")
    assert (session.read_file("f"), session.read_file("/tmp/g")) == (b"a", b"a")
    assert session.exec("f.write('b')\ng.write(b'b')\ng.close()", check=True).left_open == ()
    assert (session.read_file("f"), session.read_file("/tmp/g")) == (b"ab", b"ab")
    assert session.exec("f.write('c')\ndel f", check=True).left_open == ()
    assert session.read_file("f") == b"abc"
    assert session.files["f"] == b"abc"


def test_what_is_told_is_a_name_that_is_there(session: proxybox.Session) -> None:
    made = (
        "import os, tempfile\nt = tempfile.TemporaryFile()\nt.write(b'a')\nf = open('f', 'w')\nos.unlink('f')\n"
        "os.mkdir('d')\ng = open('d/g', 'w')\nos.unlink('d/g')\nos.rmdir('d')\nh = open('h', 'w')\np = os.pipe()"
    )
    assert session.exec(made, check=True).left_open == ("/box/h",)
    assert session.exec("x = [open(f'x{i}', 'w') for i in range(50)]", check=True).left_open == tuple(
        f"/box/x{number}" for number in range(20)
    )


def test_a_file_that_is_open_many_times_is_told_once(session: proxybox.Session) -> None:
    """If a file were listed each time, one file would fill a model's answer, and hide the others."""
    opened = "same = [open('same', 'w') for _ in range(60)]\nother = open('other', 'w')"
    assert session.exec(opened, check=True).left_open == ("/box/same", "/box/other")


@pytest.mark.parametrize("how", ["eval", "call", "get", "sys.exit", "echo"])
def test_every_kind_of_call(session: proxybox.Session, how: str) -> None:
    session.exec(
        "import sys\ndef write(): open('f', 'w').write('abc'); return 5\n"
        "class Main:\n    @property\n    def attribute(self): return write()\nmain = Main()"
    )
    result: object = None
    if how == "eval":
        result = session.eval("write()").value
    elif how == "call":
        result = session.call("write").value
    elif how == "get":
        result = session.get("main.attribute")
    elif how == "sys.exit":
        result = session.exec("write(); sys.exit(5)").exit_code
    else:
        shown: list[proxybox.Displayed] = []
        session.exec("write()", echo=True, on_display=shown.append)
        result = int(shown[0].data["text/plain"])
    assert result == 5
    assert session.read_file("f") == b"abc"


def test_what_a_traceback_keeps_open_is_told(session: proxybox.Session) -> None:
    """sys.last_traceback refers to the frames, and these to the file."""
    result = session.exec("def fail():\n    f = open('f', 'w'); f.write('abc'); 1 / 0\nfail()")
    assert (result.error and result.error.type, result.left_open) == ("ZeroDivisionError", ("/box/f",))
    assert session.read_file("f") == b"abc"


def test_a_copy_and_a_state_kept_have_files_of_their_own(session: proxybox.Session) -> None:
    session.exec("f = open('f', 'w')\nf.write('1')", check=True)
    with session.fork() as copy:
        assert copy.exec("f.write('2')\nopen('g', 'w').write('g')", check=True).left_open == ()
        session.exec("f.write('3')", check=True)
        assert (copy.read_file("f"), copy.read_file("g"), session.read_file("f")) == (b"12", b"g", b"13")
    with session.snapshot() as kept:
        session.exec("f.write('4')\nopen('h', 'w').write('h')", check=True)
        session.restore(kept)
        session.exec("f.write('5')", check=True)
    assert session.read_file("f") == b"135"
    assert [entry.name for entry in session.list_files()] == ["f"]


def test_in_a_loop(box: proxybox.Sandbox) -> None:
    async def work() -> None:
        async with proxybox.AsyncSandbox(policy=box.policy) as other, await other.session() as session:
            assert (await session.exec("open('f', 'w').write('abc')", check=True)).left_open == ()
            assert (await session.exec("g = open('g', 'w')\ng.write('abc')", check=True)).left_open == ("/box/g",)
            assert (await session.read_file("f"), await session.read_file("g")) == (b"abc", b"abc")

    asyncio.run(work())


def test_what_has_no_room_is_told_as_ever_and_the_session_goes_on(session: proxybox.Session) -> None:
    result = session.exec("f = open('f', 'w', buffering=1 << 21)\nf.write('x' * (1 << 20) + 'y' * 100_000)", check=True)
    assert result.left_open == ("/box/f",)
    assert session.eval("6 * 7").value == 42
    assert session.exec("f.close()").error is not None


@pytest.mark.parametrize("way", ["in a finaliser", "as it is flushed"])
def test_it_is_within_the_time_of_the_call(session: proxybox.Session, way: str) -> None:
    endless = {
        "in a finaliser": (
            "class A:\n    def __del__(self):\n        while True: pass\na = A()\na.a = a\ndel a\nf = open('f', 'w')"
        ),
        "as it is flushed": (
            "import io\nclass Raw(io.FileIO):\n    def write(self, data):\n        while True: pass\n"
            "f = io.BufferedWriter(Raw('f', 'w'))\nf.write(b'a')"
        ),
    }
    result = session.exec(endless[way], timeout=0.5)
    assert (result.status, result.why) == (
        Status.TIME_LIMIT, "limits.wall_time; the call was interrupted, the session goes on",
    )  # fmt: skip
    assert session.eval("6 * 7", timeout=60).value == 42
    session.exec("import os\nos._exit(0)")


def test_a_call_that_was_interrupted_leaves_it_to_the_next_one(session: proxybox.Session) -> None:
    write = (
        "open('f', 'w').write('abc')\na = type('A', (), {})()\na.a, a.f = a, open('g', 'w')\na.f.write('abc')\ndel a"
    )
    assert session.exec(f"{write}\nwhile True: pass", timeout=0.5).status is Status.TIME_LIMIT
    assert session.eval("open('f').read() + open('g').read()", check=True).value == "abcabc"


def test_a_call_has_two_rounds_at_most(session: proxybox.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finalizer that opens a file with such a finalizer would need rounds without end."""
    rounds: list[bytes] = []
    command = OpenFileWatch.command

    def counted(left_open: OpenFileWatch, is_before: bool) -> bytes | None:
        made = command(left_open, is_before)
        if not is_before:
            rounds.append(made or b"")
        return made

    monkeypatch.setattr(OpenFileWatch, "command", counted)
    session._live._port.first = session._live._left_open.command
    session.exec("1")
    assert rounds == [b""]
    del rounds[:]
    session.exec(
        "class A:\n    def __init__(self): self.a, self.file = self, open('f', 'w')\n    def __del__(self): A()\nA()",
        check=True,
    )
    assert [bool(made) for made in rounds] == [True, True, False]
    assert session.eval("6 * 7").value == 42


@pytest.mark.parametrize(
    "broken",
    [
        "import gc\ngc.collect = gc.get_objects = None",
        "import sys\nsys.modules['gc'] = sys.modules['_io'] = None",
        "import io\nclass Raw(io.FileIO):\n    def fileno(self): raise KeyError\nr = io.BufferedWriter(Raw('r', 'w'))",
        "import io\nclass Raw(io.FileIO):\n    def write(self, data): raise SystemError\n"
        "r = io.BufferedWriter(Raw('r', 'w'))\nr.write(b'a')",
        "class A:\n    def __del__(self): raise SystemExit(3)\na = A()\na.a = a\ndel a",
        "import io\nclass Lies(io.TextIOWrapper):\n    @property\n    def __class__(self): 1 / 0\n"
        "r = Lies(open('r', 'wb'))",
    ],
)
def test_a_program_can_only_harm_itself(session: proxybox.Session, broken: str) -> None:
    result = session.exec(f"{broken}\ng = open('g', 'w')\ng.write('abc')\nopen('f', 'w').write('abc')")
    assert result.ok
    assert (session.read_file("f"), session.read_file("g")) == (b"abc", b"abc")
    assert session.eval("6 * 7").value == 42


#: Ends of programs. After each of them, all written data is in the files.
ENDS = {
    "by itself": "pass",
    "sys.exit": "import sys; sys.exit(3)",
    "sys.exit in a function": "def f(): g = open('g', 'w'); g.write('abc'); import sys; sys.exit(0)\nf()",
    "sys.exit with words": "import sys; sys.exit('why')",
    "an exception": "1 / 0",
    "Ctrl-C": "raise KeyboardInterrupt",
    "a thread": "import threading; threading.Thread(target=lambda: open('t', 'w').write('abc')).start()",
    "atexit": "import atexit; atexit.register(lambda: open('t', 'w').write('abc'))",
}


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("end", ENDS)
def test_a_program_that_ends_by_itself_has_written_all(box: proxybox.Sandbox, end: str, warm: bool) -> None:
    with proxybox.Sandbox(box.policy, warm=warm) as other:
        files = other.run(f"f = open('f', 'w'); f.write('abc'); open('u', 'w').write('abc')\n{ENDS[end]}").files
    assert files["f"] == files["u"] == b"abc"
    assert set(files.values()) == {b"abc"}


def test_a_record_of_it_is_replayed(box: proxybox.Sandbox, tmp_path: Path) -> None:
    record = tmp_path / "record.pbx"
    with box.session(record=record) as session:
        session.exec("\n".join(write.replace("'f'", f"'f{at}'") for at, (write, _) in enumerate(FORGOTTEN.values())))
        assert session.exec("f = open('f', 'w')\nf.write('a')\ng = open('g', 'w')\ng.write('a')").left_open
        session.exec("f.write('b')\ndel f\ng.write('b')", check=True)
        assert (session.read_file("f"), session.read_file("g")) == (b"ab", b"ab")
    done = proxybox.replay(record)
    assert (done.ok, done.divergence) == (True, None)
