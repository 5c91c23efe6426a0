"""Niceness: small steps below the controller's own, so that no process starves. It depends on the box, not on its
threads.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import proxybox
from proxybox.controller import hostproc
from proxybox.controller.process import priority
from proxybox.controller.process.watch import Watch
from proxybox.session import Session

RAW = Path(__file__).parents[1] / "hostile/guest/raw.py"

#: In a child, because a lowered priority cannot be raised again.
PROGRAM = """
import os, sys
import proxybox
from proxybox.controller.process import priority

priority.lower(int(sys.argv[1]))
with proxybox.Sandbox(warm=True) as sandbox, sandbox.session() as session, sandbox.session() as other:
    assert session.eval("1").value == other.eval("1").value == 1
    pid = session._live._live.process.pid
    print(os.getpriority(os.PRIO_PROCESS, 0), os.getpriority(os.PRIO_PROCESS, pid), session.layers["priority"])
    sessions = {os.getsid(0), os.getsid(pid), os.getsid(other._live._live.process.pid)}
    print(len(sessions) == 3, os.sched_getscheduler(pid) == os.SCHED_OTHER)
"""


def may_set_others() -> bool:
    """Whether this process may lower its guests: root's are another user's (CAP_SYS_NICE)."""
    return os.geteuid() != 0 or bool(hostproc.status("self", "CapEff", 16) >> 23 & 1)


def watch_of(session: Session) -> Watch:
    return session._live._live.process.watch


def niceness_of(pid: int) -> set[int]:
    """The values of niceness of a process's threads."""
    return {os.getpriority(os.PRIO_PROCESS, tid) for tid in hostproc.threads(pid)}


def _autogroup() -> str:
    path = Path("/proc/self/autogroup")
    return path.read_text() if path.exists() else ""


def computing_until(session: Session, code: str, condition: Callable[[], bool]) -> None:
    """Runs code that does not end until the condition is met, and interrupts it then."""
    thread = threading.Thread(target=session.exec, args=(code,))
    thread.start()
    limit = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < limit
        thread.join(0.005)
    session.interrupt()
    thread.join()


@pytest.mark.sized(1)
@pytest.mark.parametrize("controller", [0, 10, 19])
def test_boxes_are_a_small_step_below_their_controller(controller: int, guest_kind: str) -> None:
    before = _autogroup()
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM, str(controller)], stdout=subprocess.PIPE, text=True, check=True
    )
    assert _autogroup() == before  # the session is this process's
    first, second = done.stdout.splitlines()
    own, guest, layer = first.split(maxsplit=2)
    assert int(guest) == min(int(own) + priority.BELOW, 19)
    assert layer == f"niceness {guest}"
    assert second == "True True"  # a session of its own, and never SCHED_IDLE


def test_threads_together_have_the_weight_of_one() -> None:
    weights = {count: count * 1.25 ** -priority.of_long(3, count) for count in range(1, 16)}
    assert max(weights.values()) < 1.2 * min(weights.values())
    assert priority.of_long(19, 15) == priority.of_long(3, 1000) == priority.LOWEST
    assert priority.of_guests(-20) == priority.BELOW  # the higher priority of root's controller is not for its guests


@pytest.mark.skipif(not may_set_others(), reason="root without CAP_SYS_NICE may not lower other users' processes")
def test_threads_that_compute_for_long_come_lower_together() -> None:
    spin = RAW.read_text() + "import threading\nthreading.Thread(target=function(b'\\xeb\\xfe'), daemon=True).start()"
    limits = {"wall_time": 60, "cpu_time": 60, "threads": 8}
    with proxybox.Sandbox(limits=limits) as sandbox, sandbox.session() as busy, sandbox.session() as other:
        pid, before = watch_of(busy).pid, watch_of(busy).niceness
        if before == priority.LOWEST:
            pytest.skip("these tests run with a niceness below which there is none")
        assert niceness_of(pid) == {before}
        assert busy.exec(spin).ok
        computing_until(busy, "while True: pass", lambda: min(niceness_of(pid)) > before)
        assert len(hostproc.threads(pid)) == 2
        assert before < min(niceness_of(pid)) <= before + 4
        assert niceness_of(watch_of(other).pid) == {before}
        assert other.eval("6 * 7").value == busy.eval("6 * 7").value == 42
