"""Looks into replayed programs, with real guests: the lines that make calls, and sessions in copies of the program."""

import contextlib
import os
import random
import select
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import CannotCopy, Limits, Policy, RecordError
from proxybox.controller.process.birth import _ask
from proxybox.controller.process.reaper import settle
from proxybox.controller.wire.channel import Channel
from proxybox.records import lines as lines_module
from proxybox.records.lines import Lines, lines_of
from proxybox.records.replaying import ReplayedCall, replay
from tests.hostile.conftest import children

EACH_GUEST = True

#: A main program; each of its lines does one thing.
SOURCE = """\
import os
def look(path):
    number = len(path)
    return os.listdir(path)
def work():
    for path in ("/box", "/usr"):
        look(
            path)
    os.stat("/none") if False else None
    try:
        os.stat("/none")
    except OSError:
        pass
    for _ in range(1200):
        os.access("/box", 0)
work()
print("done")
"""
FILE = "/box/main.py"


@pytest.fixture(scope="module")
def taken(guest_kind: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("taken") / "run.pbx"
    assert proxybox.run(SOURCE, record=path).ok
    return path


def at(path: Path, wanted: Callable[[ReplayedCall], bool], look: Callable[[ReplayedCall], Any]) -> list[Any]:
    """Returns the value of `look` at the first wanted call; the replay continues, and does the same as the run."""
    found: list[Any] = []

    def on_call(call: ReplayedCall) -> None:
        if not found and wanted(call):
            found.append(look(call))

    assert replay(path, on_call=on_call).ok
    return found


def listing(call: ReplayedCall) -> bool:
    """Returns whether the call opens /usr, which the program lists."""
    return call.asked.name == "openat" and call.asked.arguments.get("path") == b"/usr" and bool(call.stack())


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lines(taken: Path) -> Lines:
    return lines_of(taken)


def test_each_call_is_made_by_its_line(lines: Lines) -> None:
    made = {
        tuple((frame.line, frame.function) for frame in stack if frame.file == FILE) for stack in lines.stacks.values()
    }
    assert {
        ((4, "look"), (7, "work"), (16, "<module>")),
        ((11, "work"), (16, "<module>")),
        ((15, "work"), (16, "<module>")),
    } <= made  # fmt: skip
    assert not any(line in (2, 3, 9, 13) for stack in made for line, _ in stack)


def test_a_loop_that_was_compiled_has_its_line(lines: Lines) -> None:
    count = sum(stack[0].file == FILE and stack[0].line == 15 for stack in lines.stacks.values())
    assert count in (1200, 1)  # every call, or one for compiled code


def test_looks_do_not_change_the_replay(lines: Lines) -> None:
    assert (lines.divergence, lines.near & lines.stacks.keys()) == (None, lines.near)


def test_looks_leave_nothing_behind(taken: Path) -> None:
    settle()
    before = children(), len(os.listdir("/proc/self/fd"))
    done = replay(taken, on_call=lambda call: call.stack() if call.number % 40 == 0 else None)
    assert done.ok
    settle()
    assert (children(), len(os.listdir("/proc/self/fd"))) == before


def test_one_call_alone_is_told(taken: Path) -> None:
    told: list[int] = []
    assert replay(taken, on_call=lambda call: told.append(call.number), at=50).ok
    done = replay(taken, on_call=lambda call: told.append(call.number), at=60, until=60)
    assert (told, done.is_stopped, done.calls) == ([50, 60], True, 60)
    assert replay(taken, on_call=lambda call: told.append(call.number), at=10**9).ok
    assert told == [50, 60]
    with pytest.raises(proxybox.PolicyError, match="at"):
        replay(taken, on_call=print, at=0)


def test_a_program_whose_frames_lie(tmp_path: Path) -> None:
    code = """
import os
def f(): return os.listdir("/usr")
name = "\\x1b[31m\\0;" + "x" * 5000
f.__code__ = f.__code__.replace(co_name=name.replace(chr(0), ""), co_firstlineno=10**6)
f()
"""
    path = tmp_path / "run.pbx"
    assert proxybox.run(code, record=path).ok
    stack = at(path, listing, ReplayedCall.stack)[0]
    assert len(stack[0].function) <= 400


def test_a_deep_program_is_told_from_within(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    assert proxybox.run("import os\ndef f(n): return f(n - 1) if n else os.listdir('/usr')\nf(500)", record=path).ok
    stack = at(path, listing, ReplayedCall.stack)[0]
    assert [frame.function for frame in stack] == ["f"] * 100


def test_a_program_that_does_not_let_itself_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import os, sys
def profile(frame, event, argument):
    while frame.f_code.co_name == "look": pass
sys.setprofile(profile)
for _ in range(30): os.listdir("/usr")
print("done")
"""
    path = tmp_path / "run.pbx"
    assert proxybox.run(code, record=path).ok
    monkeypatch.setattr(lines_module, "MOST_SLOW", 2)
    told = lines_of(path)
    assert told.divergence is None
    with proxybox.Record(path) as record:
        assert told.looked < sum(1 for _ in record.calls())


# --- sessions ---------------------------------------------------------------------------------------------------------


def test_a_copy_knows_the_names_of_its_function(taken: Path) -> None:
    def look(call: ReplayedCall) -> tuple[Any, ...]:
        with call.session() as session:
            return session.eval("(number, path, os.getcwd is not None, frame.f_lineno)").value

    assert at(taken, listing, look) == [(4, "/usr", True, 4)]


def test_copies_of_one_call_do_not_know_each_other(taken: Path) -> None:
    def look(call: ReplayedCall) -> list[Any]:
        with call.session() as first, call.session() as second:
            first.exec("number = 7; os.environ['A'] = 'b'; open('/box/new', 'w').write('x')")
            told = "number, os.environ.get('A'), os.path.exists('/box/new')"
            return [each.eval(told).value for each in (first, second)]

    assert at(taken, listing, look) == [[(7, "b", True), (4, None, False)]]


def test_a_copy_lives_in_an_empty_world(taken: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x")

    def look(call: ReplayedCall) -> tuple[Any, ...]:
        with call.session() as session:
            listed = session.eval("os.listdir('/box')").value
            failed = session.eval(f"open({str(secret)!r})").error
            forked = session.exec("os.fork()").error
            return listed, failed and failed.type, forked is not None

    assert at(taken, listing, look) == [([], "FileNotFoundError", True)]


def test_a_copy_can_be_interrupted_and_ended(taken: Path) -> None:
    def look(call: ReplayedCall) -> tuple[Any, ...]:
        policy = Policy(limits=Limits(wall_time=0.2))
        with call.session(policy) as session:
            result = session.exec("while True: pass")
            alive = session.eval("number").value
            ended = session.exec("os._exit(3)").exit_code
        with call.session(policy) as session:
            return result.status.value, alive, ended, session.eval("number").value

    assert at(taken, listing, look) == [("time_limit", 4, 3, 4)]


def test_a_copy_calls_no_function_of_the_caller(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    code = "import host, os\nseven = host.seven()\nos.listdir('/usr')"
    assert proxybox.run(code, record=path, functions={"seven": lambda: 7}).ok

    def look(call: ReplayedCall) -> tuple[Any, ...]:
        with call.session() as session:
            error = session.exec("host.seven()").error
            return session.eval("seven").value, error is not None

    assert at(path, listing, look) == [(7, True)]


def test_there_is_no_python_at_the_first_call(taken: Path) -> None:
    def look(call: ReplayedCall) -> bool:
        assert call.stack() == ()
        with pytest.raises(CannotCopy, match="take another call"):
            call.session()
        return True

    assert at(taken, lambda call: call.number == 1, look) == [True]


def test_a_program_without_threads_cannot_be_looked_into(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    assert proxybox.run("1", policy=Policy(limits=Limits(threads=0)), record=path).ok
    with pytest.raises(RecordError, match=r"limits\.threads"):
        replay(path, on_call=lambda call: None)
    assert replay(path).ok


def test_a_look_that_raises_ends_the_replay(taken: Path) -> None:
    def fail(call: ReplayedCall) -> None:
        raise ZeroDivisionError

    settle()
    before = children()
    with pytest.raises(ZeroDivisionError):
        replay(taken, on_call=fail)
    settle()
    assert children() == before


def test_the_time_of_a_look_is_not_charged(taken: Path) -> None:
    assert replay(taken, on_call=lambda call: os.sched_yield(), timeout=60).ok


# --- programs that mind -----------------------------------------------------------------------------------------------

#: Runs `{code}` in the copy, when the copy imports posix.
MINDS = """
import builtins, ctypes, os, sys
libc, usual, ROUTE = ctypes.CDLL(None), builtins.__import__, 0x70626f78
libc.syscall.restype = ctypes.c_long
class Posix:
    def write(self, fd, data): return os.write(fd, said)
    def _exit(self, status): os._exit(status)
def mind(name, *more):
    if name == "posix" and sys._getframe(1).f_code.co_name == "look":
        {code}
    return usual(name, *more)
builtins.__import__, said = mind, b""
os.listdir("/usr")
print("done")
"""
HUGE = "libc.syscall(1, 1, b'x', ctypes.c_ulong(1 << 63))"
MALFORMED = "libc.syscall(1, 4, bytes(64), 64, ROUTE)"
TWO_AT_ONCE = "frame = b'8' + bytes(55); libc.syscall(1, 4, frame * 2, 112, ROUTE)"
ONE_AND_A_HALF = "frame = b'8' + bytes(55); libc.syscall(1, 4, frame * 2, 84, ROUTE)"


@pytest.mark.sized(2)
@pytest.mark.parametrize("code", [HUGE, MALFORMED, TWO_AT_ONCE, ONE_AND_A_HALF])
def test_what_a_copy_asks_is_nothing_that_the_replay_notices(code: str, tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    assert proxybox.run(MINDS.format(code=code), record=path).ok
    settle()
    before = children()
    assert lines_of(path).divergence is None
    assert at(path, lambda call: call.asked.arguments.get("path") == b"/usr", ReplayedCall.stack)
    settle()
    assert children() == before


def test_a_copy_tells_no_more_frames_than_a_look_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    assert proxybox.run(MINDS.format(code="globals()['said'] = bytes(60_000); return Posix()"), record=path).ok
    found = at(path, lambda call: call.asked.arguments.get("path") == b"/usr", ReplayedCall.stack)
    assert len(found[0]) <= 300


def test_what_is_kept_of_stacks_is_bounded(taken: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines_module, "MOST_TEXT", 0)
    assert len(set(lines_of(taken).stacks.values())) == 1
    monkeypatch.setattr(lines_module, "TIMEOUT", -1)
    assert lines_of(taken).looked == 0


def test_a_thread_that_ends_is_not_looked_into(tmp_path: Path) -> None:
    """The thread reads no answer, so there would be no copy, and the program would be ended."""
    path = tmp_path / "run.pbx"
    code = """
import os, threading, time
t = threading.Thread(target=os.listdir, args=["/usr"])
t.start(); t.join()
time.sleep(0.05)  # else the process may end before the thread says that it does
"""
    assert proxybox.run(code, record=path).ok

    def look(call: ReplayedCall) -> bool:
        with pytest.raises(CannotCopy, match="the thread ends"):
            call.session()
        return call.stack() == ()

    assert at(path, lambda call: call.asked.name == "exit", look) == [True]


def test_a_program_that_reads_no_answers_is_not_waited_for() -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    channel = Channel(os.dup(read), write)
    try:
        while select.select([], [write], [], 0)[1]:
            _ask(channel)
        with pytest.raises(proxybox.SandboxStartError, match="does not read"):
            _ask(channel)
    finally:
        channel.close()
        os.close(read)


@pytest.mark.full
def test_an_interrupted_look_leaves_nothing_behind(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupted

    path = tmp_path / "run.pbx"
    assert proxybox.run("import os\nfor _ in range(500): os.listdir('/usr')", record=path).ok
    settle()
    before = children(), len(os.listdir("/proc/self/fd"))
    chance, usual = random.Random(4), signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(30):
            with contextlib.suppress(Interrupted):
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.15, 0.4))
                replay(path, on_call=lambda call: call.stack() if call.number > 150 else None)
                signal.pause()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, usual)
    settle()
    assert (children(), len(os.listdir("/proc/self/fd"))) == before


# --- where no function of the program runs ----------------------------------------------------------------------------


def numbers(path: Path, wanted: Callable[[Any], bool]) -> list[int]:
    with proxybox.Record(path) as record:
        return [call.number for call in record.calls() if wanted(call)]


def seen(path: Path, number: int, name: str) -> Any:
    """Returns the value of a name of the program in a session at a call."""
    found: list[Any] = []

    def look(call: ReplayedCall) -> None:
        with call.session() as session:
            found.append(session.eval(name).value)

    assert replay(path, on_call=look, at=number).ok
    return found[0]


def test_a_session_at_the_print_with_which_a_program_ends(tmp_path: Path) -> None:
    """The output is written after the program's last line: its names are those of the main module."""
    path = tmp_path / "run.pbx"
    proxybox.run("total = 42\nprint('the end')", record=path).check()
    number = numbers(path, lambda call: call.name == "write" and call.asked["buf"] == b"the end\n")[-1]
    assert seen(path, number, "total") == 42


def test_a_session_at_an_exception_that_nobody_catches(tmp_path: Path) -> None:
    """Its names are those of the function that raised it."""
    path = tmp_path / "run.pbx"
    code = "total = 42\ndef broken(number):\n    inner = number * 2\n    raise ValueError('it broke')\nbroken(4)"
    assert not proxybox.run(code, record=path).ok
    for number in numbers(path, lambda call: call.name == "write" and call.asked["fd"] == 2)[-1:]:
        assert seen(path, number, "(total, inner)") == (42, 8)


def test_a_session_at_the_first_call_of_a_thread_says_why_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "run.pbx"
    proxybox.run("import threading; t = threading.Thread(target=print); t.start(); t.join()", record=path).check()
    first = numbers(path, lambda call: call.thread != 0)[0]

    def look(call: ReplayedCall) -> None:
        assert call.stack() == ()
        with pytest.raises(CannotCopy, match=r"take another|cannot be looked into"):
            call.session()

    assert replay(path, on_call=look, at=first).ok
