"""The overseer, with a real process: it ends a process that uses too much, in time also while no thread gets the
interpreter.
"""

import ctypes
import errno
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import attrs
import pytest

from proxybox.controller import hostproc
from proxybox.controller.process import overseer
from proxybox.controller.process.overseer import Overseen

M = 1 << 20
#: Uses more MiB on request, and reports that.
PROGRAM = """
import ctypes, sys, threading
kept = []
def run():
    print(flush=True)
    for line in sys.stdin:
        if line == "first thread ends\\n": threading.Thread(target=run).start(); ctypes.CDLL(None).pthread_exit(None)
        kept.append(b"x" * (int(line) << 20))
        print(flush=True)
run()
"""


@attrs.define
class Other:
    """A process. used: how many bytes it uses at its start."""

    process: "subprocess.Popen[bytes]"
    pidfd: int
    used: int

    def tell(self, size: int | str) -> bool:
        """Makes the process use more MiB. Returns whether it has done so and is alive."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{size}\n".encode())
        self.process.stdin.flush()
        return self.process.stdout.readline() == b"\n"

    def watch(self, more: int) -> Overseen:
        """Makes the overseer end the process when it uses more than `more` further MiB."""
        return Overseen(self.process.pid, self.pidfd, self.used + more * M, 1)


@pytest.fixture
def other() -> Iterator[Other]:
    with subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        pidfd = os.pidfd_open(process.pid)
        yield Other(process, pidfd, hostproc.space_and_use(process.pid)[1])
        process.kill()
        os.close(pidfd)


def test_it_counts_what_the_controller_counts(other: Other) -> None:
    for _ in range(3):
        assert other.tell(20)
        assert overseer.used(other.process.pid) == hostproc.space_and_use(other.process.pid)[1] > 20 * M
    other.process.kill()
    select.select([other.pidfd], [], [])
    assert overseer.used(other.process.pid) == 0


def test_who_uses_too_much_is_ended(other: Other) -> None:
    overseen = other.watch(100)
    assert other.tell(60)
    assert not overseen.has_ended
    other.tell(60)  # it may finish before it is checked
    assert other.process.wait() == -signal.SIGKILL
    assert overseen.has_ended
    overseen.close()
    assert overseen.has_ended, "the verdict stays"
    overseen.close()


def test_who_uses_too_much_is_ended_also_when_its_first_thread_has_ended_before(other: Other) -> None:
    """The kernel reports a process's usage for each thread: zero for the first one after it has ended, while others go
    on.
    """
    used = hostproc.space_and_use(other.process.pid)[1]
    overseen = other.watch(100)
    assert other.tell("first thread ends")
    while hostproc.state(other.process.pid) != "Z":
        pass
    assert other.tell(60)
    assert overseer.used(other.process.pid) == hostproc.space_and_use(other.process.pid)[1] > used + 60 * M
    assert hostproc.memory(other.process.pid)[1] > 60 * M
    assert hostproc.peaks(other.process.pid)["VmHWM"] > 60 * M
    assert not overseen.has_ended
    other.tell(60)
    assert other.process.wait() == -signal.SIGKILL
    assert overseen.has_ended
    overseen.close()


@pytest.mark.parametrize("ask", ["has_ended", "rest", "close"])
def test_a_signal_handler_may_close_it_behind_any_call(ask: str, other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here a handler runs when the library has been looked up. Python may run handlers after any call."""
    overseen = other.watch(-1 if ask == "has_ended" else 1000)
    if ask == "has_ended":
        other.process.wait()
    library, calls = overseer._library, [overseen.close]

    def looked_up() -> ctypes.CDLL:
        if calls:
            calls.pop()()
        return library()

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(overseer, "_library", looked_up)
    if ask == "has_ended":
        assert overseen.has_ended, "the verdict stays"
    elif ask == "rest":
        overseen.rest(True)
    else:
        overseen.close()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert calls == []


def test_an_interrupt_before_anybody_has_got_it_leaves_nothing(other: Other) -> None:
    before = len(os.listdir("/proc/self/fd"))
    other.watch(50)
    assert len(os.listdir("/proc/self/fd")) == before
    assert other.tell(60)
    assert other.tell(1), "nobody looks at it"


def test_it_is_told_before_the_process_ends(other: Other) -> None:
    """A thread that sees the end knows the reason, without waiting for another thread."""
    overseen = other.watch(-1)
    select.select([other.pidfd], [], [])
    assert overseen.has_ended
    overseen.close()


def test_it_needs_no_interpreter(other: Other) -> None:
    """Here this thread holds the interpreter's lock until the process has ended."""
    held = ctypes.PyDLL(None)
    events = (ctypes.c_int * 2)(other.pidfd, select.POLLIN)
    overseen = other.watch(100)
    assert other.process.stdin is not None
    os.write(other.process.stdin.fileno(), b"200\n")
    assert held.poll(events, 1, 30_000) == 1
    assert overseen.has_ended
    overseen.close()


def test_nobody_looks_while_it_rests(other: Other) -> None:
    overseen = other.watch(50)
    overseen.rest(True)
    assert other.tell(60)
    assert not overseen.has_ended
    overseen.rest(False)
    assert other.process.wait() == -signal.SIGKILL
    assert overseen.has_ended
    overseen.close()


def test_nobody_looks_at_one_that_was_given_up(other: Other) -> None:
    other.watch(50).close()
    second = other.watch(500)  # the overseer still runs, and checks this one
    assert other.tell(60)
    assert other.tell(60)
    assert not second.has_ended
    second.close()


def test_one_that_has_ended_does_no_harm(other: Other) -> None:
    overseen = other.watch(0)
    other.process.kill()
    other.process.wait()
    with pytest.raises(OSError, match="No such"):
        other.watch(0)
    overseen.close()


def test_another_process_that_has_got_its_number_decides_nothing(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here `other` has the number of a process that has ended and was reaped, but is still being checked."""
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pidfd, status = os.pidfd_open(ended.pid), os.open(f"/proc/{ended.pid}/status", os.O_RDONLY)
    with monkeypatch.context() as patch:
        patch.setattr(overseer, "_open_status", lambda _: status)
        overseen = Overseen(other.process.pid, pidfd, 0, 1)
    assert other.tell(100)
    later = other.watch(-1)
    select.select([other.pidfd], [], [])
    assert later.has_ended, "it has looked at both"
    assert not overseen.has_ended
    overseen.close()
    os.close(pidfd)


def test_it_takes_no_signals_of_the_program(other: Other) -> None:
    overseen = other.watch(100)
    (thread,) = (tid for tid in hostproc.threads(os.getpid()) if _name(tid) == "proxybox-memory")
    assert hostproc.status(thread, "SigBlk", 16) | 1 << 32 | 1 << 31 | 1 << 18 | 1 << 8 == (1 << 64) - 1
    overseen.close()


def _name(tid: int) -> str:
    with open(f"/proc/self/task/{tid}/comm") as file:
        return file.read().strip()


#: The overseer begins in a thread that runs on its guest's CPU.
PLACED = """
import os, sys
from proxybox.controller import hostproc
from proxybox.controller.process.cpus import Stand, on_cpu
from proxybox.controller.process.overseer import Overseen
every = os.sched_getaffinity(0)
if sys.argv[1] == "on_cpu":
    on_cpu(min(every)).stay()
else:
    Stand()._move(min(every))
assert os.sched_getaffinity(0) == {min(every)}
overseen = Overseen(os.getpid(), os.pidfd_open(os.getpid()), 1 << 40, 1)
(thread,) = set(hostproc.threads(os.getpid())) - {os.getpid()}
assert os.sched_getaffinity(thread) == every, os.sched_getaffinity(thread)
"""


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
@pytest.mark.parametrize("by", ["on_cpu", "Stand"])
def test_it_stays_on_no_guests_cpu(by: str) -> None:
    subprocess.run([sys.executable, "-c", PLACED, by], check=True, timeout=60)


FORKS = """
import os, select, subprocess, sys
from proxybox.controller.process.overseer import Overseen
def child():
    process = subprocess.Popen(["sleep", "1000"])
    return process, Overseen(process.pid, os.pidfd_open(process.pid), int(sys.argv[1]), 1)
process, overseen = child()
pid = os.fork()
if pid == 0:
    overseen.rest(True)  # the parent's: that is not this process's matter any more
    overseen.close()
    other, mine = child()
    if sys.argv[1] == "0":
        assert other.wait() == -9 and mine.has_ended
    else:
        other.kill()
    mine.close()
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
if sys.argv[1] == "0":
    assert process.wait() == -9 and overseen.has_ended
process.kill()
"""


@pytest.mark.parametrize("most", [0, 1 << 40])
def test_a_fork_has_an_overseer_of_its_own(most: int) -> None:
    subprocess.run([sys.executable, "-c", FORKS, str(most)], check=True, timeout=60)


def test_where_it_cannot_be_started_that_is_an_error(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overseer, "_open_status", lambda pid: os.open("/dev/null", os.O_RDONLY))
    monkeypatch.setattr(overseer._library(), "overseer_watch", lambda *arguments: errno.EAGAIN)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(OSError, match="cannot be looked at"):
        other.watch(0)
    assert len(os.listdir("/proc/self/fd")) == before
