"""The watchdog checks a guest when it can be near a limit, and at no other time."""

import gc
import itertools
import os
import queue
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

from proxybox.controller import hostproc, pidfd
from proxybox.controller.process import priority
from proxybox.controller.process import watch as watches
from proxybox.controller.process import watchdog as keepers
from proxybox.controller.process.rotation import ALLOWANCE_NS, Rotations
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import Watchdog

SECOND = 1_000_000_000


class Host:
    """A watchdog without its thread, whose turns a test makes, and a clock that the test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000 * SECOND
        self.cpu = 0
        self.checked: list[Watch] = []
        monkeypatch.setattr(keepers.time, "monotonic_ns", lambda: self.now)
        monkeypatch.setattr(Watch, "cpu_time_ns", lambda _: self.cpu)
        check = Watch.check

        def counted(watch: Watch) -> int:
            self.checked.append(watch)
            return check(watch)

        monkeypatch.setattr(Watch, "check", counted)
        self.watchdog = object.__new__(Watchdog)
        self.watchdog._jobs, self.watchdog._adding = queue.SimpleQueue(), threading.Lock()
        self.watchdog._watched, self.watchdog._near, self.watchdog._later = set(), set(), []
        self.watchdog._rotations, self.watchdog._filling, self.watchdog._tick_ns = Rotations(1), [], 0
        self.watchdog._numbers = itertools.count()

    def watch(self, **limits: Any) -> Watch:
        made = Watch(os.getpid(), -1, **limits)
        self.watchdog.watch(made)
        return made

    def turn(self, seconds: float = 0.02) -> int:
        """Lets time pass, and makes a turn of the watchdog. Returns how many guests it has checked."""
        self.now += int(seconds * SECOND)
        self.checked.clear()
        self.watchdog._jobs.put(lambda: None)
        self.watchdog._turn()
        return len(self.checked)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(monkeypatch)


def test_a_guest_without_a_limit_is_looked_at_seldom(host: Host) -> None:
    guests = [host.watch() for _ in range(100)]
    assert host.turn() == 100
    assert sum(host.turn() for _ in range(240)) == 0
    assert host.turn(1) == 100
    assert not any(guest.expired for guest in guests)


@pytest.mark.parametrize("limit", ["deadline_ns", "cpu_ns"])
def test_a_limit_that_is_set_is_seen_at_the_next_tick(limit: str, host: Host) -> None:
    guest = host.watch()
    host.turn()
    assert host.turn() == 0
    setattr(guest, limit, host.now if limit == "deadline_ns" else 0)
    assert host.turn() == 1
    assert guest.expired == ("wall_time" if limit == "deadline_ns" else "cpu_time")
    assert host.turn() == 0


def test_wall_time_that_is_over_is_seen_within_a_tick(host: Host) -> None:
    guest = host.watch(deadline_ns=host.now + 3 * SECOND)
    turns = 0
    while not guest.expired:
        turns += host.turn()
    assert host.now - guest.deadline_ns <= 0.02 * SECOND  # type: ignore[operator]
    assert turns < 10


def test_cpu_time_that_is_used_as_fast_as_can_be_is_seen_within_a_tick(host: Host) -> None:
    guest = host.watch(cpu_ns=10 * SECOND)
    turns = 0
    while not guest.expired:
        host.cpu += int(0.02 * SECOND) * watches._FASTEST
        turns += host.turn()
    assert host.cpu - 10 * SECOND <= 0.02 * SECOND * watches._FASTEST
    assert turns < 30


def test_a_guest_that_gets_new_limits_all_the_time_is_kept_once(host: Host) -> None:
    """A session sets new limits with each command."""
    guest = host.watch()
    for _ in range(1000):
        guest.deadline_ns, guest.cpu_ns = host.now + 60 * SECOND, 60 * SECOND
        host.turn()
    assert len(host.watchdog._later) <= 2
    guest.deadline_ns = host.now + 60_000_000
    assert host.turn() == host.turn() == host.turn() == 1
    assert guest.expired == "wall_time"


def test_suspended_time_and_grace_are_watched_at_each_tick(host: Host) -> None:
    interrupted: list[str] = []
    guest = host.watch(deadline_ns=host.now + 60 * SECOND, grace_ns=SECOND // 10)
    guest.interrupt = lambda: interrupted.append(guest.interrupted)
    host.turn()
    since = guest.suspend()
    assert host.turn() == host.turn() == 1
    guest.resume(since)
    assert host.turn() == 1
    assert host.turn() == 0
    guest.deadline_ns = host.now
    host.turn()
    assert interrupted == ["wall_time"]
    assert not guest.expired
    host.turn(0.06)
    host.turn(0.06)
    assert guest.expired == "wall_time"


def test_a_limit_that_is_set_while_the_keeper_looks_is_not_missed(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread sets it after the watchdog has read the old one."""
    guest = host.watch()
    left: Callable[[Watch], int] = Watch._left_ns

    def meanwhile(watch: Watch) -> int:
        found = left(watch)
        watch.deadline_ns = host.now
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "_left_ns", meanwhile)
        assert host.turn() == 1
    assert host.turn() == 1
    assert guest.expired == "wall_time"


def test_a_guest_that_was_released_is_neither_looked_at_nor_kept(host: Host) -> None:
    guest = host.watch(cpu_ns=SECOND)
    host.turn()
    known = weakref.ref(guest)
    host.watchdog.release(guest)
    guest.deadline_ns = 0
    assert host.turn(100) == 0
    host.checked.clear()
    del guest
    gc.collect()
    assert known() is None


def test_a_guest_that_cannot_be_put_off_stays_near(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """There may be no memory for that."""
    guest = host.watch(deadline_ns=host.now + 3 * SECOND)

    def fails(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(keepers.heapq, "heappush", fails)
        with pytest.raises(MemoryError):
            host.turn()
    assert host.turn() == 1
    assert host.turn(3) == 1
    assert guest.expired == "wall_time"


def test_what_the_controller_computes_counts_towards_the_turns(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    guest = host.watch()
    guest.begin_sharing()
    assert host.turn() == 1
    assert not host.watchdog._rotations
    monkeypatch.setattr(type(guest.meter), "spent_ns", lambda _: ALLOWANCE_NS)
    assert host.turn() == 1
    assert host.watchdog._rotations


def test_guests_that_cost_nothing_are_looked_at_seldom_before_they_take_turns(host: Host) -> None:
    guests = [host.watch() for _ in range(100)]
    for guest in guests:
        guest.begin_sharing()
    looked = sum(host.turn() for _ in range(500))  # this is ten seconds
    assert looked <= 100 * 35
    host.cpu += ALLOWANCE_NS
    for _ in range(25):  # this is half a second
        host.turn()
    assert all(guest in rotation._known for rotation in host.watchdog._rotations._by_cpu.values() for guest in guests)


def test_a_guest_whose_priority_cannot_be_changed_goes_on(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, niceness: int) -> None:
        raise PermissionError

    monkeypatch.setattr(priority, "lower_all", refuse)
    guest = host.watch()
    fd = guest.pidfd = os.eventfd(0)
    try:
        guest.share(15)
        assert not guest.fault
    finally:
        guest.pidfd = -1
        os.close(fd)


def test_a_pid_that_is_another_process_s_by_now_is_not_stopped_and_not_lowered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's code may wait for its own children, and so for proxybox's: then the kernel may reuse their pids."""
    reached = []
    monkeypatch.setattr(pidfd, "stop_threads", lambda pid, tids: reached.append(pid))
    monkeypatch.setattr(priority, "lower_all", lambda pid, niceness: reached.append(pid))
    monkeypatch.setattr(hostproc, "threads", lambda pid: [pid, pid + 1])
    for program, is_reached in (("input()", True), ("", False)):
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as guest:
            watch = Watch(os.getpid(), pidfd.open_pidfd(guest.pid), near=set())
            if not is_reached:
                guest.wait()
            watch.wait_for_turn()
            watch.share(15)
            assert reached == [os.getpid()] * 2 * is_reached
            reached.clear()
            watch.kill()
            watch.close()
