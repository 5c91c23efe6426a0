"""The CPU of a thread that serves many guests (controller/process/cpus.py)."""

import os
import threading

import pytest

from proxybox.controller.process import cpus
from proxybox.controller.process.cpus import FOLLOWED, RARE_NS, Stand, allowed_cpus, on_cpu


class Host:
    """CPUs 0 to 3, and those on which the one thread may run."""

    def __init__(self) -> None:
        self.now, self.allowed, self.moves = 10 * RARE_NS, {0, 1, 2, 3}, 0

    def sched_getaffinity(self, _: int) -> set[int]:
        return set(self.allowed)

    def sched_setaffinity(self, _: int, wanted: "set[int] | tuple[int, ...]") -> None:
        self.allowed = set(wanted)
        self.moves += 1


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host()
    for name in ("sched_getaffinity", "sched_setaffinity"):
        monkeypatch.setattr(cpus.os, name, getattr(host, name))
    monkeypatch.setattr(cpus.time, "monotonic_ns", lambda: host.now)
    monkeypatch.setattr(cpus._here, "allowed", None)
    return host


def call(stand: Stand, host: Host, cpu: int | None, times: int = 1, every_ns: int = 20_000) -> None:
    """Reports calls of a guest on `cpu`, as an engine does."""
    for _ in range(times):
        host.now += every_ns
        if cpu != stand.cpu:
            stand.called_from(cpu)


def test_it_goes_where_calls_come_from_in_a_row(host: Host) -> None:
    stand = Stand()
    call(stand, host, 2, FOLLOWED - 1)
    assert host.moves == 0
    call(stand, host, 2)
    assert (stand.cpu, host.allowed) == (2, {2})
    call(stand, host, 2, 1000)
    assert host.moves == 1


def test_among_guests_of_several_cpus_it_is_free(host: Host) -> None:
    stand = Stand()
    call(stand, host, 2, FOLLOWED)
    for _ in range(1000):
        call(stand, host, 1)
        call(stand, host, 2)
    assert (stand.cpu, host.allowed) == (None, {0, 1, 2, 3})
    assert host.moves == 2


def test_a_rare_call_from_elsewhere_moves_nothing(host: Host) -> None:
    stand = Stand()
    call(stand, host, 2, FOLLOWED)
    for _ in range(100):
        call(stand, host, 1, every_ns=RARE_NS)
        call(stand, host, 2, 50)
    assert (stand.cpu, host.moves) == (2, 1)


def test_it_follows_from_one_cpu_to_another(host: Host) -> None:
    stand = Stand()
    call(stand, host, 2, FOLLOWED)
    call(stand, host, 3, FOLLOWED + 2)
    assert (stand.cpu, host.allowed) == (3, {3})


def test_guests_that_run_anywhere_do_not_hold_it(host: Host) -> None:
    """The host refuses affinity to guests."""
    stand = Stand()
    call(stand, host, None, 100)
    assert host.moves == 0
    call(stand, host, 2, FOLLOWED)
    call(stand, host, None, 2)
    assert (stand.cpu, host.allowed) == (None, {0, 1, 2, 3})


def test_a_host_that_refuses_affinity(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(cpus.os, "sched_setaffinity", refuse)
    stand = Stand()
    call(stand, host, 2, 1000)
    assert stand.cpu is None


def test_it_may_run_where_its_maker_may_that_serves_a_guest_at_the_moment() -> None:
    """Otherwise a thread that is made in a host function would stay on that guest's CPU for ever."""
    everywhere = os.sched_getaffinity(0)
    with on_cpu(max(everywhere)), on_cpu(min(everywhere)):
        stand = Stand()
        thread = threading.Thread(target=lambda: (stand.begin(), found.append(os.sched_getaffinity(0))))
        found: list[set[int]] = []
        thread.start()
        thread.join()
    assert found == [everywhere]
    assert os.sched_getaffinity(0) == allowed_cpus() == everywhere


def test_a_thread_that_is_there_anyway_is_pinned_when_it_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = os.sched_getaffinity(0)
    here = min(everywhere)
    monkeypatch.setattr(cpus, "current_cpu", lambda: here)
    with on_cpu(here, at_first=True) as place:
        assert os.sched_getaffinity(0) == everywhere
        place.stay()
        place.stay()
        assert os.sched_getaffinity(0) == {here}
        assert allowed_cpus() == everywhere
    assert os.sched_getaffinity(0) == everywhere


@pytest.mark.parametrize("elsewhere", [-1, 1 << 20])
def test_a_thread_that_is_elsewhere_is_pinned_at_once(monkeypatch: pytest.MonkeyPatch, elsewhere: int) -> None:
    everywhere = os.sched_getaffinity(0)
    monkeypatch.setattr(cpus, "current_cpu", lambda: elsewhere)
    with on_cpu(min(everywhere), at_first=True):
        assert os.sched_getaffinity(0) == {min(everywhere)}
    assert os.sched_getaffinity(0) == everywhere


def test_a_host_that_has_refused_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def refuse(pid: int, wanted: object) -> None:
        asked.append(wanted)
        raise PermissionError

    with monkeypatch.context() as patch:
        patch.setattr(os, "sched_setaffinity", refuse)
        with on_cpu(min(os.sched_getaffinity(0))) as place:
            place.stay()
            place.stay()
    assert len(asked) == 1


def test_a_real_thread_stands_where_it_is_called_from() -> None:
    before = os.sched_getaffinity(0)
    cpu = max(before)
    stand = Stand()
    try:
        for _ in range(FOLLOWED):
            stand.called_from(cpu)
        assert os.sched_getaffinity(0) == {cpu}
        assert cpus.allowed_cpus() == before
    finally:
        stand.begin()
    assert os.sched_getaffinity(0) == cpus.allowed_cpus() == before


@pytest.mark.parametrize(
    ("count", "shares"),
    [
        (1, [{0, 1, 2, 5}]),
        (2, [{0, 2}, {1, 5}]),
        (3, [{0, 5}, {1}, {2}]),
        (4, [{0}, {1}, {2}, {5}]),
        (6, [{0}, {1}, {2}, {5}, {0}, {1}]),
    ],
)
def test_cpus_are_divided_among_processes(count: int, shares: list[set[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5, 1, 2, 0})
    assert cpus.shares_of_cpus(count) == shares


def test_without_affinity_nothing_is_divided(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> set[int]:
        raise OSError

    monkeypatch.setattr(os, "sched_getaffinity", refuse)
    assert cpus.shares_of_cpus(2) == [set(), set()]
