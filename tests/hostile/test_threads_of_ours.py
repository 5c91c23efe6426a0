"""Threads of the controller that last (engine, watchdog, reaper): no request of a guest ends one.

An error in one is reported to the callers that it concerns, and to no others.
"""

import contextlib
import os
import queue
import select
import threading
from functools import partial

import anyio
import pytest

import proxybox
from proxybox.controller.drivers.engine import Engine, _Job, the_engine
from proxybox.controller.process import reaper
from proxybox.controller.process.listener import Listener
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import Watchdog, watchdog
from proxybox.program import Program
from tests.hostile.conftest import eventually

#: Waits that are longer than poll(2) and epoll_wait(2) allow. Each ends by the policy's time limit, or fails at once.
LONG = {
    "sleep": "time.sleep(3_000_000)",
    "sleep for a century": "time.sleep(3_200_000_000)",
    "select": "select.select([reading], [], [], 1e9)",
    "poll": "select.poll().poll((1 << 31) - 1)",
    "epoll": "select.epoll().poll(1e9)",
    "lock": "lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=1e9)",
    "event": "threading.Event().wait(3e9)",
    "setitimer": "signal.setitimer(signal.ITIMER_REAL, 4e9); signal.pause()",
    "setitimer of CPU time": "signal.setitimer(signal.ITIMER_VIRTUAL, 4e9); signal.pause()",
    "setitimer with an interval": "signal.setitimer(signal.ITIMER_PROF, 4e9, 4e9); signal.pause()",
    "alarm": "libc.alarm(ctypes.c_uint(4294967295)); signal.pause()",
    "nanosleep": "libc.nanosleep(ctypes.byref((ctypes.c_long * 2)((1 << 63) - 1, 0)), None)",
    "sigtimedwait": "libc.sigtimedwait(ctypes.byref((ctypes.c_ulong * 16)(512)), None, ctypes.byref((ctypes.c_long * 2)(1 << 62, 0)))",
}
BEGIN = """
import ctypes, os, select, signal, threading, time
libc = ctypes.CDLL(None)
reading, writing = os.pipe()
try:
    {}
except (OverflowError, ValueError, OSError) as error:
    print(type(error).__name__)
"""


@pytest.fixture(scope="module", autouse=True)
def _engines(_warm):
    """Starts the engine before the tests: it lasts as long as the process."""
    the_engine()


@contextlib.contextmanager
def told():
    """Collects exceptions of threads that have no caller."""
    faults, before = [], threading.excepthook
    threading.excepthook = lambda given: faults.append(given.exc_value)
    try:
        yield faults
    finally:
        threading.excepthook = before


async def run_all(*codes, **options):
    """Runs codes at the same time. Returns the Result or the exception of each."""
    found = [None] * len(codes)
    timeout = None if "limits" in options else 200  # the test is not about slow programs

    async def run(number, box):
        try:
            found[number] = await box.run(codes[number], timeout=timeout)
        except Exception as error:
            found[number] = error

    async with proxybox.AsyncSandbox(warm=False, **options) as box, anyio.create_task_group() as group:
        for number in range(len(codes)):
            group.start_soon(run, number, box)
    return found


# --- waits that are too long ------------------------------------------------------------------------------------------


def test_waits_that_no_poll_can_hold_in_engines():
    """All wait at once, beside two neighbours: the waiting boxes end by their limits, the neighbours by themselves."""
    codes = [BEGIN.format(line) for line in LONG.values()]
    found = {}

    async def run(name, *codes, **limits):
        found[name] = await run_all(*codes, limits=limits)

    async def both():
        async with anyio.create_task_group() as group:
            group.start_soon(partial(run, "waiting", *codes, wall_time=2))
            group.start_soon(partial(run, "neighbours", "print(1)", "print(1)", wall_time=60))

    anyio.run(both)
    waiting, neighbours = found["waiting"], found["neighbours"]
    for name, result in zip(LONG, waiting, strict=True):
        assert result.status in ("time_limit", "ok"), (name, result)
        assert result.status == "time_limit" or result.stdout in ("OverflowError\n", "ValueError\n"), (name, result)
    assert [each.stdout for each in neighbours] == ["1\n", "1\n"]


@pytest.mark.parametrize("line", LONG.values(), ids=LONG.keys())
def test_a_wait_that_no_poll_can_hold(hostile, line):
    result = hostile.run(BEGIN.format(line), timeout=0.5)
    assert result.status == "time_limit" or result.stdout in ("OverflowError\n", "ValueError\n"), result


@pytest.mark.parametrize(
    "sleep", ["time.sleep(0.01)", "select.select([], [], [], 0.01)", "threading.Event().wait(0.01)"]
)
def test_time_that_nearly_stands(hostile, sleep):
    """A hundredth of a second of the box's time is four months."""
    slow = proxybox.policies.Time.scaled(1e-9)
    one = hostile.run(BEGIN.format(sleep), timeout=0.5, time=slow)
    (other,) = anyio.run(lambda: run_all(BEGIN.format(sleep), limits={"wall_time": 0.5}, time=slow))
    assert one.status == other.status == "time_limit", (one, other)


# --- faults -----------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """An unexpected error."""


def once(monkeypatch, owner, name):
    """Makes the next call of a function fail. Returns a list with one element for each call."""
    before, calls = getattr(owner, name), []

    def fail(*args):
        calls.append(1)
        if len(calls) == 1:
            raise Broken(name)
        return before(*args)

    monkeypatch.setattr(owner, name, fail)
    return calls


@pytest.mark.parametrize("name", ["_look_at_the_clock", "_begin", "_timeout", "_sort"])
def test_a_fault_between_guests(monkeypatch, name):
    """All waiting callers get an error. The engine goes on and serves the next guests."""
    sleep = "import threading, time\nthreading.Thread(target=time.sleep, args=(0.2,)).start()\nprint(1)"

    async def both():
        once(monkeypatch, Engine, name)
        return await run_all(sleep, sleep, sleep), await run_all("print(2)", "print(2)", "print(2)")

    with told() as faults:
        first, second = anyio.run(both)
    assert faults or any(isinstance(each, Broken) for each in first), first
    assert all(isinstance(each, Broken) or each.stdout == "1\n" for each in first), first
    assert [each.stdout for each in second] == ["2\n"] * 3


THREADS = "import threading\nfor _ in range(3): threading.Thread(target=print).start()"


def test_a_fault_of_the_listener(monkeypatch):
    """The error is reported only to the boxes of that listener."""

    async def both():
        once(monkeypatch, Listener, "_receive")  # when a notification has come
        return await run_all(THREADS, "print(1)"), await run_all(THREADS)

    (first, neighbour), (second,) = anyio.run(both)
    assert isinstance(first, Broken), first
    assert neighbour.stdout == "1\n"
    assert second.ok


class Jobs:
    """Boxes served by one engine, without a loop."""

    def __init__(self):
        self.box = proxybox.Sandbox(warm=False)

    def serve(self, code, done):
        box = self.box._box(None)
        program = Program.source(code)
        live = box.open(program.words, folder=program)
        live.charge()
        the_engine().serve(live.driver, lambda: False, done)
        return live


def test_who_is_told_fails():
    """The caller's function `done` fails: that of another guest is still called."""
    jobs, over, outcomes = Jobs(), threading.Event(), []

    def broken(outcome, error):
        raise Broken("done")

    def done(outcome, error):
        outcomes.append((outcome, error))
        over.set()

    with told() as faults, jobs.box:
        first = jobs.serve("pass", broken)
        second = jobs.serve("import time; time.sleep(0.3)", done)
        assert over.wait(200)
        first.close()
        second.close()
    assert [type(each) for each in faults] == [Broken]
    assert outcomes[0][0].exit_code == 0


def test_a_second_fault_while_the_first_is_told(monkeypatch):
    """Serving fails, and so does removing the guest from the engine: the caller gets an error, and the next guest is
    served.
    """
    monkeypatch.setattr(proxybox.controller.drivers.serving.Serving, "conclude", lambda *_: 1 / 0)
    once(monkeypatch, Engine, "_forget")
    (broken,) = anyio.run(lambda: run_all("pass"))
    monkeypatch.undo()
    assert isinstance(broken, ZeroDivisionError | Broken), broken
    (after,) = anyio.run(lambda: run_all("print(1)"))
    assert after.stdout == "1\n"
    for _ in range(4):  # a new listener gets the descriptor number of the one that was not removed
        (after,) = anyio.run(lambda: run_all(THREADS))
        assert after.ok, after


def test_an_interrupt_that_raises(sandbox):
    """The first interrupt at a limit fails: the guest is ended and its caller gets the error. The watchdog still serves
    later guests.
    """
    session = sandbox(session={"grace": 5}).session()

    def broken():
        raise Broken("interrupt")

    session._live._live.process.watch.interrupt = broken
    with pytest.raises(Broken):
        session.exec("while True: pass", timeout=0.2)
    assert proxybox.run("print(1)").stdout == "1\n"
    assert proxybox.run("while True: pass", timeout=0.2).status == "time_limit"


def test_an_interrupt_that_raises_in_an_engine():
    async def run():
        async with proxybox.AsyncSandbox(session={"grace": 5}) as box, await box.session() as session:

            def broken():
                raise Broken("interrupt")

            session._live._live.process.watch.interrupt = broken
            with pytest.raises(Broken):
                await session.exec("while True: pass", timeout=0.2)
            return await box.run("print(1)")

    assert anyio.run(run).stdout == "1\n"


def test_a_fault_of_the_keeper(monkeypatch):
    """An error of the watchdog's thread is reported as any thread's; boxes start and end as before."""
    with told() as faults:
        calls = once(monkeypatch, Watch, "check")
        assert proxybox.run("while True: pass", timeout=0.3).status == "time_limit"
    assert calls
    assert [type(each) for each in faults] == [Broken]
    assert watchdog()._thread.is_alive()


def test_a_fault_of_the_undertaker():
    """Closing boxes fails: `settle` reports the errors, up to a maximum, and the next box is closed as usual."""
    reaper.settle()
    closed = threading.Event()

    def broken():
        raise Broken("close")

    for _ in range(reaper.MOST_FAULTS + 3):
        reaper.reaper().bury(broken)
    reaper.reaper().bury(closed.set)
    with pytest.raises(BaseExceptionGroup) as raised:
        reaper.settle()
    assert len(raised.value.exceptions) == reaper.MOST_FAULTS
    assert closed.is_set()
    reaper.settle()


def test_a_wake_for_what_was_taken_already(monkeypatch):
    """The wake-up may be written after its job was taken: the engine reads it all the same, and sleeps again."""
    engine = the_engine()
    os.eventfd_write(engine._wake, 1)
    assert eventually(lambda: not select.select([engine._wake], [], [], 0)[0])


def test_a_guest_that_rests_is_not_woken_by_its_input():
    """Meanwhile neither its own descriptors nor the copies of the caller's are watched."""
    engine, (reading, writing), (input_, typed) = object.__new__(Engine), os.pipe(), os.pipe()
    job = _Job(None, None, None, None, fds={reading: select.EPOLLIN}, callers={0: input_})
    with select.epoll() as engine._epoll:
        for fd in (reading, input_):
            engine._epoll.register(fd, select.EPOLLIN)
        os.write(writing, b"x"), os.write(typed, b"x")
        engine._mask(job)
        assert engine._epoll.poll(0) == []
        engine._unmask(job)
        assert sorted(engine._epoll.poll(0)) == sorted([(reading, select.EPOLLIN), (input_, select.EPOLLIN)])
    for fd in (reading, writing, input_, typed):
        os.close(fd)


def test_two_guests_that_begin_at_once_have_a_keeper():
    """Each sees the other: one of them must wake the watchdog, which sleeps while it watches no guest."""
    entered = threading.Semaphore(0)

    class Watched(set):
        def add(self, watch):
            super().add(watch)
            entered.release()
            for _ in range(2):  # until the other one has come, too, if that is possible
                entered.acquire(timeout=0.2)

    sleeping = object.__new__(Watchdog)
    sleeping._jobs, sleeping._watched, sleeping._adding = queue.SimpleQueue(), Watched(), threading.Lock()
    sleeping._near = set()
    threads = [threading.Thread(target=sleeping.watch, args=(Watch(os.getpid(), -1),)) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not sleeping._jobs.empty()


def test_input_that_an_epoll_comes_to_watch_while_it_waits(hostile):
    """The descriptor behind it is the caller's, and was not watched when the wait began."""
    code = """
import os, select, threading
epoll, found = select.epoll(), []
waiting = threading.Thread(target=lambda: found.append(epoll.poll()))
waiting.start()
epoll.register(0, select.EPOLLIN)
print("ready", flush=True)
waiting.join()
print(found)
"""
    reading, writing = os.pipe()

    def answer(text):
        threading.Timer(0.5, os.write, [writing, b"x"]).start()

    with open(reading, "rb", buffering=0) as file:
        result = hostile.run(code, stdin=file, on_stdout=lambda text: answer(text) if "ready" in text else None)
    os.close(writing)
    assert result.stdout == "ready\n[[(0, 1)]]\n", result
