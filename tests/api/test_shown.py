"""The basis of front ends: displayed values, a terminal to read from, files and counts seen from outside."""

import errno
import sys
import time
from collections.abc import Iterator

import pytest

import proxybox
from proxybox import Displayed, OSCall, Status
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from tests.api.conftest import shown, texts

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def box() -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox(warm=True, session={"branches": 2}, output={"limit": "64K"}) as box:
        yield box
    zygotepool.close()
    reaper.settle()


@pytest.mark.parametrize(
    ("code", "seen"),
    [
        ("'a' * 900_000", "value 'aaaa"),
        ("10 ** 100_000", "value of type int" if sys.version_info < (3, 14) else "<int instance"),
        ("[1, {2: (10 ** 5_000,)}]", "value of type list" if sys.version_info < (3, 14) else "<int instance"),
        ("{i: {j: ['x' * 9] * 9 for j in range(9)} for i in range(9)}", "value {0: {0: ['xxx"),
    ],
)
def test_the_repr_of_a_result_is_short_whatever_a_guest_gives(box: proxybox.Sandbox, code: str, seen: str) -> None:
    with box.session() as session:
        shown = repr(session.eval(code))
    assert seen in shown  # Python 3.14's reprlib shortens integers itself
    assert len(shown) < 300


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "values"),
    [
        ("1 + 1", ["2"]),
        ("x = 5\nx", ["5"]),
        ("3\n4", ["4"]),
        ("'a'; 'b'", ["'b'"]),
        ("None", []),
        ("x = 1", []),
        ("", []),
        ("# nothing", []),
        ("for i in range(3): i", []),
        ("from __future__ import annotations\n1", ["1"]),
    ],
)
def test_only_the_last_expression_is_shown(session: proxybox.Session, code: str, values: list[str]) -> None:
    assert texts(session, code) == values


def test_the_last_value_is_kept(session: proxybox.Session) -> None:
    assert texts(session, "6 * 7") == ["42"]
    assert texts(session, "None") == []
    assert texts(session, "_ + 1") == ["43"]


def test_without_echo_nothing_is_shown(session: proxybox.Session) -> None:
    events: list[Displayed] = []
    result = session.exec("1", on_display=events.append, check=True)
    assert (events, result.stdout) == ([], "")


def test_a_program_shows_what_it_displays_and_no_value_of_its_own(session: proxybox.Session) -> None:
    seen: list[object] = []
    session.exec(
        "print(1)\ndisplay(2)\n3", echo="display", check=True, on_stdout=seen.append,
        on_display=lambda event: seen.append(event.data["text/plain"]),
    )  # fmt: skip
    assert seen == ["1\n", "2"]
    with pytest.raises(TypeError, match='echo: want True, False or "display"'):
        session.exec("1", echo="no")  # type: ignore[arg-type]


@pytest.mark.parametrize("code", ["x = \\", "if True:", "print(1)\nfor n in 1, 2:\n", "'''", "x = ("])
def test_a_program_is_compiled_as_it_is(session: proxybox.Session, code: str) -> None:
    shown = session.exec(code, name="solution.py", echo="display").error
    plain = session.exec(code, name="solution.py").error
    assert shown is not None
    assert plain is not None
    assert shown.traceback.splitlines()[1:] == plain.traceback.splitlines()[1:]


def test_what_was_printed_before_comes_before(session: proxybox.Session) -> None:
    seen: list[object] = []
    session.exec(
        "print(1, end='')\ndisplay(2)\nprint(3)\n4", echo=True, on_stdout=seen.append,
        on_display=lambda event: seen.append(event.data["text/plain"]),
    )  # fmt: skip
    assert seen == ["1", "2", "3\n", "4"]


def test_output_comes_line_by_line(session: proxybox.Session) -> None:
    seen: list[str] = []
    session.exec("print(1)\nprint(2)", echo=True, on_stdout=seen.append)
    assert seen == ["1\n", "2\n"]


def test_futures_last(session: proxybox.Session) -> None:
    assert texts(session, "from __future__ import annotations") == []
    assert texts(session, "def f(a: undefined): pass\nf.__annotations__") == ["{'a': 'undefined'}"]


def test_a_traceback_has_the_lines(session: proxybox.Session) -> None:
    error = session.exec("x = 0\n1 / x", echo=True).error
    assert error is not None
    assert error.traceback.splitlines()[:3] == [
        "Traceback (most recent call last):", '  File "<session-1>", line 2, in <module>', "    1 / x",
    ]  # fmt: skip


def test_a_hook_of_the_programs_own(session: proxybox.Session) -> None:
    session.exec("import sys\nsys.displayhook = lambda value: print('mine', value)", echo=True, check=True)
    assert session.exec("5", echo=True).stdout == "mine 5\n"


def test_a_repr_that_fails_is_an_error(session: proxybox.Session) -> None:
    result = session.exec("class A:\n    def __repr__(self): 1 / 0\nA()", echo=True)
    assert result.error is not None
    assert result.error.type == "ZeroDivisionError"


def test_a_flood_of_empty_displays_is_bounded(box: proxybox.Sandbox) -> None:
    """Each display is a message to a front end, also an empty one."""
    seen: list[proxybox.Displayed] = []
    with box.session() as session:  # its output limit is 64K
        flood = "for _ in range(1000): display({}, raw=True); clear_output()"
        result = session.exec(flood, echo=True, on_display=seen.append)
        assert (result.truncated, len(seen)) == (True, 256)
        seen.clear()
        session.exec("for _ in range(9): display({}, raw=True)", echo=True, on_display=seen.append)
        assert len(seen) == 9


def test_a_long_repr_is_cut(box: proxybox.Sandbox) -> None:
    with proxybox.Sandbox(output={"limit": "1M"}) as wide, wide.session() as session:
        (text,) = texts(session, "'a' * 300_000")
    assert text.endswith("... (168930 characters more)")


# --- pictures ---------------------------------------------------------------------------------------------------------

RICH = """
class Rich:
    def __repr__(self): return 'rich'
    def _repr_svg_(self): return '<svg/>'
    def _repr_png_(self): return b'png', {'width': 3}
    def _repr_html_(self): return None
    def _repr_latex_(self): 1 / 0
class Bundled:
    def _repr_mimebundle_(self): return {'text/plain': 'mine', 'a/b': 1, 2: 3}, {'a/b': {'c': 4}}
class Greedy:
    def __getattr__(self, name): return lambda: name
"""


def test_an_object_says_how_it_looks(session: proxybox.Session) -> None:
    session.exec(RICH, check=True)
    assert shown(session, "Rich()") == [
        Displayed("value", {"text/plain": "rich", "image/svg+xml": "<svg/>", "image/png": b"png"},
                  {"image/png": {"width": 3}}),
    ]  # fmt: skip
    assert shown(session, "Bundled()") == [Displayed("value", {"text/plain": "mine", "a/b": 1}, {"a/b": {"c": 4}})]
    assert [list(event.data) for event in shown(session, "Greedy()")] == [["text/plain"]]
    assert [list(event.data) for event in shown(session, "Rich")] == [["text/plain"]]


def test_display(session: proxybox.Session) -> None:
    assert [(event.kind, event.data) for event in shown(session, "display(1, 'a')")] == [
        ("display", {"text/plain": "1"}), ("display", {"text/plain": "'a'"}),
    ]  # fmt: skip
    raw = shown(session, "display({'image/png': b'x'}, raw=True, metadata={'a': 1})")
    assert raw == [Displayed("display", {"image/png": b"x"}, {"a": 1})]
    assert shown(session, "clear_output(wait=True)") == [Displayed("clear", wait=True)]


def test_what_cannot_cross_is_an_error_of_the_programs(session: proxybox.Session) -> None:
    result = session.exec("display({'a/b': object()}, raw=True)", echo=True)
    assert result.error is not None
    assert result.error.type == "TypeError"
    assert session.alive


def test_nobody_looks(session: proxybox.Session) -> None:
    assert session.exec("display(1)\n2", echo=True).ok


def test_what_is_shown_counts_as_output(session: proxybox.Session) -> None:
    events: list[Displayed] = []
    result = session.exec("for i in range(100): display('a' * 5000)", echo=True, on_display=events.append)
    assert result.truncated
    assert 10 <= len(events) <= 13


def test_too_much_shown_ends_a_box_whose_policy_says_so() -> None:
    with proxybox.Sandbox(output={"limit": 1000, "on_excess": "end"}) as box, box.session() as session:
        result = session.exec("while True: display('a' * 100)", echo=True, on_display=lambda event: None)
    assert result.status is Status.OUTPUT_LIMIT


def test_a_stream_has_what_is_shown(session: proxybox.Session) -> None:
    events = list(session.stream("print(1)\n2", echo=True))
    assert events[:2] == [proxybox.Printed("stdout", "1\n"), Displayed("value", {"text/plain": "2"})]
    assert isinstance(events[2], proxybox.Finished)


def test_a_reader_that_fails_ends_the_session(box: proxybox.Sandbox) -> None:
    def fail(event: Displayed) -> None:
        raise LookupError("ours")

    session = box.session()
    with pytest.raises(LookupError, match="ours"):
        session.exec("1", echo=True, on_display=fail)
    assert not session.alive


# --- a terminal -------------------------------------------------------------------------------------------------------


class Typist:
    """Types lines, and records whether each was echoed."""

    def __init__(self, *lines: str | type[BaseException]) -> None:
        self.lines = list(lines)
        self.echoes: list[bool] = []

    def __call__(self, size: int, echo: bool) -> str:
        self.echoes.append(echo)
        line = self.lines.pop(0) if self.lines else ""
        if isinstance(line, type):
            raise line
        return line


def test_input_and_passwords(box: proxybox.Sandbox) -> None:
    typist = Typist("Ada\n", "secret\n")
    with box.session(stdin=proxybox.Terminal(typist)) as session:
        result = session.exec("import getpass, sys\nx = input('name? '), getpass.getpass('password: ')", check=True)
        assert session.get("x") == ("Ada", "secret")
        assert session.eval("sys.stdin.isatty()").value is True
    assert result.stdout == "name? password: \n"
    assert typist.echoes == [True, False]


@pytest.mark.parametrize(
    ("get", "set_"), [(0x5401, 0x5404), (0x802C542A, 0x402C542D)], ids=["termios", "termios2, as of glibc 2.42"]
)
def test_echo_is_turned_off_by_the_requests_of_each_libc(box: proxybox.Sandbox, get: int, set_: int) -> None:
    typist = Typist("secret\n")
    code = f"""
import fcntl
settings = bytearray(fcntl.ioctl(0, {get}, bytes(44)))
settings[12] &= ~8
fcntl.ioctl(0, {set_}, bytes(settings))
word, changed = input(), fcntl.ioctl(0, {get}, bytes(44)) == settings
"""
    with box.session(stdin=proxybox.Terminal(typist)) as session:
        session.exec(code, check=True)
        assert session.eval("word, changed").value == ("secret", True)
    assert typist.echoes == [False]


def test_the_end_of_a_terminals_file_is_not_the_last_word(box: proxybox.Sandbox) -> None:
    with box.session(stdin=proxybox.Terminal(Typist("", "more\n"))) as session:
        assert session.exec("try: input()\nexcept EOFError: print('end')").stdout == "end\n"
        assert session.eval("input()").value == "more"


def test_an_interrupted_read(box: proxybox.Sandbox) -> None:
    def press_ctrl_c(size: int, echo: bool) -> str:
        session.interrupt()
        raise InterruptedError

    with box.session(stdin=proxybox.Terminal(press_ctrl_c)) as session:
        result = session.exec("input()")
        assert result.error is not None
        assert (result.error.type, session.alive) == ("KeyboardInterrupt", True)


def test_the_time_of_who_types_is_not_the_programs() -> None:
    clock = iter([True])

    def think(size: int, echo: bool) -> str:
        # Long enough for the watchdog to end the box if the time counted: it checks every 20 ms.
        started = time.monotonic()
        while next(clock, False) or time.monotonic() - started < 1.4:
            pass
        return "done\n"

    with proxybox.Sandbox(limits={"wall_time": 1}) as box, box.session(stdin=proxybox.Terminal(think)) as session:
        assert session.eval("input()").value == "done"


def test_copies_share_the_terminal(box: proxybox.Sandbox) -> None:
    with box.session(stdin=proxybox.Terminal(Typist("a\n", "b\n"))) as session, session.fork() as copy:
        assert session.eval("input()").value == "a"
        assert copy.eval("input()").value == "b"


# --- files, counts, calls ---------------------------------------------------------------------------------------------


def test_files_from_outside(session: proxybox.Session) -> None:
    session.exec("import os\nos.mkdir('d')\nwith open('d/f', 'w') as file: file.write('text')", check=True)
    assert session.read_file("d/f") == b"text"
    assert session.read_file("/box/d/f", limit=4) == b"text"
    session.write_file("d/g", "ü")
    session.write_file("d/f", b"other")
    assert session.exec("print(open('d/f').read(), open('d/g').read())").stdout == "other ü\n"
    assert [(entry.name, entry.type, entry.size) for entry in session.list_files("d")] == [
        ("f", "file", 5), ("g", "file", 2),
    ]  # fmt: skip
    assert [entry.name for entry in session.list_files("d/f")] == ["f"]
    assert {"box", "etc", "proc", "usr"} <= {entry.name for entry in session.list_files("/")}
    assert session.exec("os.chdir('d')", check=True).ok
    assert session.read_file("g") == "ü".encode()


@pytest.mark.parametrize(
    ("path", "number"),
    [("none", errno.ENOENT), ("/etc", errno.EISDIR), ("/dev/stdin", errno.EINVAL), ("/dev/zero", errno.EINVAL),
     ("secret", errno.EACCES), ("loop", errno.ELOOP), ("big", errno.EFBIG),
     ("etc/passwd/x", errno.ENOENT), ("\0", errno.EINVAL)],
)  # fmt: skip
def test_files_that_cannot_be_read(session: proxybox.Session, path: str, number: int) -> None:
    session.exec(
        "import os\nopen('secret', 'w').close()\nos.chmod('secret', 0)\nos.symlink('loop', 'loop')\n"
        "with open('big', 'w') as file: file.truncate(1000)",
        check=True,
    )
    with pytest.raises(OSError) as caught:
        session.read_file(path, limit=100)
    assert caught.value.errno == number


@pytest.mark.parametrize(
    ("path", "number"),
    [("/etc/passwd", errno.EACCES), ("/dev/null", errno.EINVAL), (".", errno.EISDIR), ("none/x", errno.ENOENT)],
)
def test_files_that_cannot_be_written(session: proxybox.Session, path: str, number: int) -> None:
    with pytest.raises(OSError) as caught:
        session.write_file(path, b"x")
    assert caught.value.errno == number


def test_what_a_caller_writes_is_within_the_limits() -> None:
    with proxybox.Sandbox(limits={"disk": "64K"}) as box, box.session() as session:
        with pytest.raises(OSError) as caught:
            session.write_file("big", bytes(1 << 20))
        assert caught.value.errno == errno.ENOSPC
        assert "limits.disk leaves room for" in str(caught.value)
        session.write_file("big", b"old")
        with pytest.raises(OSError, match=r"limits\.disk"):
            session.write_file("big", bytes(1 << 20))
        assert session.read_file("big") == b"old"


def test_a_file_with_holes_is_not_read_whole(session: proxybox.Session) -> None:
    session.exec("with open('huge', 'wb') as file: file.truncate(1 << 40)", check=True)
    with pytest.raises(OSError) as caught:
        session.read_file("huge")
    assert caught.value.errno == errno.EFBIG


@pytest.mark.full
def test_many_folders_above_a_file(session: proxybox.Session) -> None:
    path = "d/" * 1500 + "f"
    session.write_file(path, "deep", parents=True)
    assert session.read_file(path) == b"deep"
    with pytest.raises(OSError) as caught:
        session.write_file("d/" * 3000 + "f", "x", parents=True)
    assert caught.value.errno == errno.ENAMETOOLONG


def test_folders_above_a_file(session: proxybox.Session) -> None:
    session.write_file("a/b/c.txt", "x", parents=True)
    session.write_file("a/b/d.txt", "y", parents=True)
    assert [entry.name for entry in session.list_files("a/b")] == ["c.txt", "d.txt"]
    with pytest.raises(OSError) as caught:
        session.write_file("a/b/c.txt/e/f", "z", parents=True)
    assert caught.value.errno == errno.ENOTDIR


def test_the_time_of_each_call_can_be_changed(session: proxybox.Session) -> None:
    session.timeout = 0.2
    session.exec("def forever():\n    while True: pass", check=True)
    result = session.call("forever")
    assert (result.status, result.why[:16]) == (Status.TIME_LIMIT, "limits.wall_time")


def test_files_are_reached_between_calls(session: proxybox.Session) -> None:
    def look(text: str) -> None:
        with pytest.raises(RuntimeError, match="between calls"):
            session.list_files()

    assert session.exec("print(1)", on_stdout=look).ok
    session.close()
    with pytest.raises(proxybox.SandboxClosedError):
        session.list_files()


def test_usage_of_the_whole(session: proxybox.Session) -> None:
    before = session.usage
    session.exec("for _ in range(10**6): pass\nwith open('f', 'w') as file: file.write('a' * 10_000)", check=True)
    after = session.usage
    assert after.cpu > before.cpu
    assert after.calls > before.calls
    assert after.disk >= before.disk + 10_000
    assert (after.memory or 0) > 1 << 20


def test_calls_are_told_from_now_on(session: proxybox.Session) -> None:
    seen: list[OSCall] = []
    session.audit(seen.append)
    session.exec("import os\nos.stat('/etc')", check=True)
    session.audit(None)
    session.exec("os.stat('/etc/passwd')", check=True)
    paths = [call.arguments.get("path") for call in seen]
    assert b"/etc" in paths
    assert b"/usr" not in paths


def test_a_look_has_few_calls(session: proxybox.Session) -> None:
    session.exec(
        "import os\nclass Slow:\n    def __dir__(self):\n        while True: os.stat('/etc/passwd')\nslow = Slow()",
        check=True,
    )
    assert session.complete("slow.").matches == ()
    assert session.eval("1").value == 1
