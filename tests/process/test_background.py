"""Boxes that have used much CPU time are in the background, and those that begin are not."""

import os
import threading
from collections.abc import Callable, Iterator

import pytest

import proxybox
from proxybox.controller import hostproc
from proxybox.controller.process import priority
from proxybox.session import Session

AFTER = 0.05
LIMITS = {"wall_time": 60, "cpu_time": 60, "threads": 8}


def may_set_others() -> bool:
    """Whether this process may set the policy of its guests: root's are another user's (CAP_SYS_NICE)."""
    return os.geteuid() != 0 or bool(hostproc.status("self", "CapEff", 16) >> 23 & 1)


pytestmark = pytest.mark.skipif(not may_set_others(), reason="root without CAP_SYS_NICE may not do it")


@pytest.fixture
def sandbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[proxybox.Sandbox]:
    monkeypatch.setattr(priority, "_steps", priority.steps_to_background(AFTER))
    with proxybox.Sandbox(limits=LIMITS, session={"branches": 1}) as made:
        yield made


def pid_of(session: Session) -> int:
    return session._live._live.process.pid


def policies(pid: int) -> set[int]:
    """The scheduling policies of a process's threads."""
    return {os.sched_getscheduler(tid) for tid in hostproc.threads(pid)}


def until(session: Session, code: str, condition: Callable[[], bool]) -> proxybox.Result:
    """Runs code that does not end, until the condition is met, and interrupts it; or until its time is over."""
    results: list[proxybox.Result] = []
    begun = threading.Event()
    options = {"on_stdout": lambda _: begun.set()}
    thread = threading.Thread(target=lambda: results.append(session.exec(f"print(flush=True)\n{code}", **options)))
    thread.start()
    begun.wait()
    while thread.is_alive() and not condition():
        thread.join(0.005)
    session.interrupt()
    thread.join()
    return results[0]


def test_a_box_that_computes_for_long_goes_to_the_background_and_others_do_not(sandbox: proxybox.Sandbox) -> None:
    with sandbox.session() as busy, sandbox.session() as other:
        assert policies(pid_of(busy)) == {os.SCHED_OTHER}
        result = until(busy, "while True: pass", lambda: policies(pid_of(busy)) == {os.SCHED_IDLE})
        assert policies(pid_of(busy)) == {os.SCHED_IDLE}
        assert result.error is not None
        assert result.error.type == "KeyboardInterrupt"
        assert other.eval("6 * 7").value == 42
        with sandbox.session() as later:
            assert later.eval("6 * 7").value == 42
            assert policies(pid_of(other)) | policies(pid_of(later)) == {os.SCHED_OTHER}
        assert busy.eval("6 * 7").value == 42


def test_all_threads_are_there_and_those_that_start_later(sandbox: proxybox.Sandbox) -> None:
    spin = (
        "import threading, time\ndef spin():\n    while not done: time.sleep(0.001)\ndone = False\n"
        "def begin():\n    threading.Thread(target=spin, daemon=True).start()\n"
    )
    with sandbox.session() as session:
        pid = pid_of(session)
        assert session.exec(spin + "begin(); begin()").ok
        until(session, "while True: pass", lambda: policies(pid) == {os.SCHED_IDLE})
        assert len(hostproc.threads(pid)) == 3
        assert policies(pid) == {os.SCHED_IDLE}
        assert session.exec("begin()").ok
        assert len(hostproc.threads(pid)) == 4
        assert policies(pid) == {os.SCHED_IDLE}
        session.exec("done = True")


def test_a_copy_of_a_box_in_the_background_is_there_too(sandbox: proxybox.Sandbox) -> None:
    with sandbox.session() as session:
        until(session, "while True: pass", lambda: policies(pid_of(session)) == {os.SCHED_IDLE})
        with session.fork() as copy:
            assert copy.eval("6 * 7").value == 42
            assert policies(pid_of(copy)) == {os.SCHED_IDLE}


def test_what_the_controller_computes_for_a_box_counts(sandbox: proxybox.Sandbox) -> None:
    with sandbox.session() as session:
        watch = session._live._live.process.watch
        seen = []

        def is_behind() -> bool:
            if watch.steps:
                return False
            seen.append((watch.cpu_time_ns(), watch.spent_ns()))
            return True

        until(session, "import os\nwhile True: os.write(1, b'')", is_behind)
        assert seen
        assert all(spent >= AFTER * 1e9 and spent > own for own, spent in seen)


@pytest.mark.parametrize("warm", [False, True])
def test_a_run_ends_by_its_limits_there(warm: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(priority, "_steps", priority.steps_to_background(AFTER))
    put: list[tuple[int, int]] = []

    def noted(step: priority.Step) -> priority.Step:
        def take(pid: int) -> None:
            step(pid)
            put.append((os.sched_getscheduler(pid), os.getpriority(os.PRIO_PROCESS, pid)))

        return take

    steps = [(ns, noted(step)) for ns, step in priority.steps_to_background(AFTER)]
    monkeypatch.setattr(priority, "_steps", steps)
    with proxybox.Sandbox(limits=LIMITS, warm=warm) as sandbox:
        result = sandbox.run("while True: pass", limits={"cpu_time": 0.5})
    assert (result.status, result.why) == ("time_limit", "limits.cpu_time")
    assert put[-1] == (os.SCHED_IDLE, priority.LOWEST)


def test_nothing_goes_there_unless_it_is_wanted() -> None:
    with proxybox.Sandbox(limits=LIMITS) as sandbox, sandbox.session() as session:
        watch = session._live._live.process.watch
        assert not watch.steps
        until(session, "while True: pass", lambda: watch.cpu_time_ns() > 4e9 * AFTER)
        assert policies(pid_of(session)) == {os.SCHED_OTHER}
        assert os.getpriority(os.PRIO_PROCESS, pid_of(session)) == priority.LOWEST
