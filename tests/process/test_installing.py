"""Descriptors are installed in guests by other threads than the engine's, which serves many guests."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

import proxybox
from proxybox.controller.costs import descriptorshare
from proxybox.controller.drivers import admission
from proxybox.controller.process import installing
from proxybox.controller.process.installing import Installation, Installers
from proxybox.controller.process.listener import Listener, Notification
from proxybox.controller.process.reaper import settle

EACH_GUEST = True

THREADS = """
import threading
count = 0
def one():
    global count
    count += 1
for _ in range(20):
    threads = [threading.Thread(target=one) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
print(count)
"""


def test_the_engine_never_waits_for_a_guest_that_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """One guest's descriptor is not installed until another guest of the same engine has run."""
    give, other_has_run, waits, seen = Listener.give, threading.Event(), threading.Event(), []

    def late(listener: Listener, *arguments: int) -> bool:
        if threading.current_thread().name != "proxybox-engine" and not other_has_run.is_set() and not waits.is_set():
            return give(listener, *arguments)
        seen.append(threading.current_thread().name)
        assert other_has_run.wait(60)
        return give(listener, *arguments)

    async def main() -> None:
        async with proxybox.AsyncSandbox(limits={"threads": 8}) as slow, proxybox.AsyncSandbox() as other:
            await asyncio.gather(slow.run("1"), other.run("1"))
            waits.set()
            task = asyncio.create_task(slow.run("import threading; threading.Thread(target=print, args=(7,)).start()"))
            while not seen:
                await asyncio.sleep(0.001)
            monkeypatch.setattr(Listener, "give", give)  # the other box is copied in the same way
            assert (await other.run("print(6 * 7)")).stdout == "42\n"
            other_has_run.set()
            assert (await task).stdout == "7\n"

    monkeypatch.setattr(Listener, "give", late)
    asyncio.run(main())
    assert set(seen) == {"proxybox-install"}


def test_threads_of_a_box_in_an_event_loop() -> None:
    async def main() -> list[proxybox.Result]:
        async with proxybox.AsyncSandbox(limits={"threads": 8, "wall_time": 100}) as sandbox:
            return await asyncio.gather(*(sandbox.run(THREADS) for _ in range(4)))

    assert [result.stdout for result in asyncio.run(main())] == ["80\n"] * 4


def test_a_box_that_ends_while_its_descriptors_are_installed_keeps_none(monkeypatch: pytest.MonkeyPatch) -> None:
    released: list[int] = []
    done = Installation(lambda: 5, released.append, lambda: None, lambda number: released.append(-number))
    done.abandon()
    done.run()
    assert released == [-5]
    done = Installation(lambda: 6, released.append, lambda: None, lambda number: released.append(-number))
    done.run()
    done.abandon()
    assert released == [-5, -6]


def test_what_the_work_raises_is_raised_for_the_guest() -> None:
    seen: list[int] = []

    def work() -> int:
        raise ValueError("no")

    done = Installation(work, seen.append, lambda: seen.append(1), seen.append)
    done.run()
    assert done.is_done
    assert seen == [1]
    with pytest.raises(ValueError, match="no"):
        done.finish()


def test_no_more_threads_than_there_may_be_and_none_is_left_without_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing, "MOST", 3)
    monkeypatch.setattr(installing, "_IDLE", 0.01)
    threads, go, done = set(), threading.Event(), threading.Semaphore(0)

    def job() -> None:
        threads.add(threading.get_ident())
        go.wait(60)
        done.release()

    installers = Installers()
    for _ in range(10):
        installers.submit(job)
    go.set()
    for _ in range(10):
        assert done.acquire(timeout=60)
    assert len(threads) <= 3
    _until(lambda: installers._threads == 0)
    installers.submit(job)
    assert done.acquire(timeout=60)
    _until(lambda: installers._threads == 0)


def _until(condition: Callable[[], bool]) -> None:
    wait = threading.Event()
    for _ in range(6000):
        if condition():
            return
        wait.wait(0.01)
    raise AssertionError("it never came")


def test_a_listener_that_is_closed_meanwhile_gives_nothing() -> None:
    """ioctl of a descriptor of -1 raises ValueError, not OSError. Then descriptors opened before once stayed open."""
    listener = Listener(os.eventfd(0, os.EFD_CLOEXEC))
    listener.close()
    notification = Notification(identifier=1, tid=os.getpid(), is_fork=False, is_birth=False)
    before = len(os.listdir("/proc/self/fd"))
    assert admission._opened(listener, notification, [1, 2]) == []
    assert len(os.listdir("/proc/self/fd")) == before
    assert [listener.is_there(notification), listener.allow(notification), listener.refuse(notification)] == [False] * 3


def test_a_box_that_has_ended_before_the_installation_begins_keeps_no_descriptors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A guest can cause that: it makes a thread, and ends while the installing threads are busy with others."""
    go, ended = threading.Event(), threading.Event()
    opened = admission._opened

    def late(*given: Any) -> list[Any]:
        go.wait(60)
        try:
            return opened(*given)
        finally:
            ended.set()

    async def main() -> proxybox.Result:
        async with proxybox.AsyncSandbox(limits={"wall_time": 1}) as sandbox:
            await sandbox.run(THREADS)
            monkeypatch.setattr(admission, "_opened", late)
            return await sandbox.run(THREADS)

    held = descriptorshare._share._held
    assert asyncio.run(main()).status == "time_limit"
    settle()
    assert descriptorshare._share._held > held
    go.set()
    assert ended.wait(60)
    _until(lambda: descriptorshare._share._held == held)
