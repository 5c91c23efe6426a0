"""Sessions that sleep: their process is stopped between two calls, whatever its program does."""

import os
import select
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import proxybox
from proxybox import AsyncSandbox, SandboxClosedError, Session, SessionBusy, Status

EACH_GUEST = True
POLICY = {"session": {"branches": 4}, "limits": {"cpu_time": 60}}
SPINS = """
import threading
turns, end = 0, False
def spin():
    global turns
    while not end:
        turns += 1
thread = threading.Thread(target=spin)
thread.start()
"""
#: A program that tries to notice the stop and to prevent it.
RESISTS = """
import signal
seen = []
for number in range(1, 65):
    try:
        signal.signal(number, lambda number, frame: seen.append(number))
    except (OSError, ValueError, RuntimeError):
        pass
signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 65)) - {signal.SIGSYS} if BLOCKS else set())
"""


@pytest.fixture
def session() -> Iterator[Session]:
    with proxybox.Sandbox(**POLICY) as box, box.session() as made:
        yield made


def process(session: Any) -> Any:
    return session._live._live.process


def states(session: Any) -> set[str]:
    """The states of the threads of a session's process, as in proc_pid_stat(5)."""
    found = set()
    for task in Path(f"/proc/{process(session).pid}/task").iterdir():
        found.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def wait_for(session: Any, *wanted: str) -> None:
    while not states(session) <= set(wanted):
        os.sched_yield()


def work() -> None:
    """Computes in another box, so that other processes have time to run if they can."""
    assert proxybox.run("sum(range(10 ** 6))").ok


def test_threads_use_no_cpu_in_a_sleep(session: Session) -> None:
    session.exec(SPINS)
    session.sleep()
    wait_for(session, "T")
    assert session.asleep
    before = session.usage.cpu
    work()
    assert session.usage.cpu == before
    turns = session.eval("turns").value
    assert not session.asleep
    assert "T" not in states(session)
    while session.eval("turns").value == turns:
        pass
    session.exec("end = True; thread.join()")
    assert session.eval("6 * 7").value == 42


@pytest.mark.parametrize("blocks", [False, True])
def test_a_program_can_neither_prevent_it_nor_see_it(session: Session, blocks: bool) -> None:
    assert session.exec(RESISTS.replace("BLOCKS", str(blocks))).ok
    for _ in range(3):
        session.sleep()
        wait_for(session, "T")
        assert session.eval("seen").value == []
    if not blocks:
        session.exec("import os; os.kill(os.getpid(), signal.SIGCONT)")
        assert session.eval("seen").value == [18], "its own signals still come"


def test_a_program_that_stands_in_calls_and_locks_goes_on_as_it_was(session: Session) -> None:
    session.exec("""
import threading, time, queue
asked, told, lock = queue.Queue(), [], threading.Lock()
def serve():
    while (number := asked.get()) is not None:
        with lock:
            told.append(number)
        time.sleep(0)
threads = [threading.Thread(target=serve) for _ in range(4)]
for thread in threads: thread.start()
""")
    for number in range(30):
        session.sleep()
        assert session.exec(f"asked.put({number})").ok
    session.sleep()
    session.exec("for _ in threads: asked.put(None)\nfor thread in threads: thread.join()")
    assert session.eval("sorted(told)").value == list(range(30))


def test_files_are_reached_in_its_sleep(session: Session) -> None:
    session.sleep()
    session.write_file("a.txt", "from outside")
    assert session.read_file("a.txt") == b"from outside"
    assert [entry.name for entry in session.list_files()] == ["a.txt"]
    wait_for(session, "T")
    assert session.asleep
    assert session.eval("open('a.txt').read()").value == "from outside"


def test_copies_wake_it(session: Session) -> None:
    session.exec("x = 1")
    session.sleep()
    with session.fork() as copy:
        assert not session.asleep
        copy.exec("x = 2")
        copy.sleep()
        assert (session.eval("x").value, copy.asleep, session.asleep) == (1, True, False)
        assert copy.eval("x").value == 2
    session.sleep()
    with session.snapshot() as snapshot:
        session.exec("x = 3")
        session.sleep()
        session.restore(snapshot)
        assert not session.asleep
        assert session.eval("x").value == 1


def test_it_ends_in_its_sleep() -> None:
    with proxybox.Sandbox(**POLICY) as box:
        for end in (Session.close, lambda session: session._live.cancel()):
            session = box.session()
            session.exec(SPINS)
            session.sleep()
            wait_for(session, "T")
            pidfd = os.pidfd_open(process(session).pid)
            end(session)
            assert select.select([pidfd], [], [], 30)[0]
            os.close(pidfd)
            session.close()
            assert not session.asleep
            with pytest.raises(SandboxClosedError):
                session.sleep()
        sleeping = box.session()
        sleeping.sleep()
    assert not sleeping.alive


@pytest.mark.parametrize("grace", [0, 0.1])
def test_the_limit_of_its_real_time_goes_on(grace: float) -> None:
    with proxybox.Sandbox(session={"wall_time": 0.3, "grace": grace}) as box, box.session() as session:
        session.sleep()
        assert select.select([process(session).watch.pidfd], [], [], 30)[0]
        result = session.eval("1")
    assert (result.status, result.why) == (Status.TIME_LIMIT, "limits.wall_time; the session has ended")


def test_it_does_not_sleep_in_a_call(session: Session) -> None:
    errors: list[BaseException] = []

    def sleep(_: str) -> None:
        try:
            session.sleep()
        except BaseException as error:
            errors.append(error)

    assert session.exec("print(1)", on_stdout=sleep).ok
    assert [type(error) for error in errors] == [SessionBusy]
    assert not session.asleep


def test_an_interrupt_in_its_sleep_is_none(session: Session) -> None:
    session.sleep()
    session.interrupt()
    session.sleep()
    assert session.eval("1").value == 1


def test_sessions_of_pools_and_event_loops_sleep() -> None:
    with proxybox.Pool(size=1) as pool, pool.session() as session:
        session.exec("x = 1")
        session.sleep()
        wait_for(session, "T")
        assert session.eval("x").value == 1

    async def sleeps() -> None:
        async with AsyncSandbox(**POLICY) as box, await box.session() as session:
            await session.exec(SPINS)
            session.sleep()
            wait_for(session, "T")
            await session.write_file("a", "1")
            assert session.asleep
            assert (await session.eval("open('a').read()")).value == "1"
            assert not session.asleep
            await session.exec("end = True; thread.join()")
            session.sleep()
            async with await session.fork() as copy:
                assert (await copy.eval("end")).value is True
            session.sleep()

    anyio.run(sleeps)
