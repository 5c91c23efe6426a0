"""Slots: given in the order of requests, until a deadline, or until the run is cancelled."""

import threading
from collections.abc import Callable

import pytest

from proxybox.pool import slots
from proxybox.pool.slots import Slots
from proxybox.running import Running


def asking(of: Slots, then: Callable[[], object], running: Running | None = None) -> threading.Thread:
    """Starts a thread that requests a slot, and returns it when it waits."""
    before = of.waiting

    def work() -> None:
        if of.acquire(running=running):
            then()

    thread = threading.Thread(target=work)
    thread.start()
    while of.waiting == before:
        pass
    return thread


def test_they_come_in_the_order_of_asking() -> None:
    free, came = Slots(1), list[int]()
    assert free.acquire(0)
    threads = [asking(free, lambda n=n: came.append(n) or free.release()) for n in range(5)]  # type: ignore[misc]
    free.release()
    for thread in threads:
        thread.join()
    assert came == list(range(5))
    assert free.acquire(0)
    assert not free.acquire(0)


def test_who_gives_its_room_back_and_asks_again_is_the_last() -> None:
    free, came = Slots(1), list[str]()
    free.acquire(None)
    thread = asking(free, lambda: came.append("other") or free.release())  # type: ignore[func-returns-value]
    free.release()
    free.acquire(None)
    came.append("first")
    thread.join()
    assert came == ["other", "first"]


def test_who_waits_in_vain_takes_nothing() -> None:
    free = Slots(0)
    assert not free.acquire(0)
    assert not free.acquire(0.001)
    assert not free.acquire(-1)
    free.release()
    assert free.acquire(None)


def test_faults_and_the_end() -> None:
    free, raised = Slots(0), list[BaseException]()

    def work() -> None:
        try:
            free.acquire(None)
        except KeyError as error:
            raised.append(error)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    while free.waiting < 2:
        pass
    free.fail(lambda: KeyError("now"))
    for thread in threads:
        thread.join()
    assert len({id(error) for error in raised}) == 2, "each has its own"
    free.release()
    assert free.acquire(0), "later ones are served"
    free.end(lambda: KeyError("ended"))
    with pytest.raises(KeyError, match="ended"):
        free.acquire(0)


@pytest.mark.parametrize("comes", [False, True])
def test_an_interrupted_wait_takes_no_room(monkeypatch: pytest.MonkeyPatch, comes: bool) -> None:
    """A signal's handler raises while the thread waits, or just after a slot became free."""
    free = Slots(0)

    class Interrupted:
        def __init__(self) -> None:
            self.woken, self.is_waiting, self.answer = self, False, None

        def acquire(self, timeout: float = -1) -> None:
            if self.is_waiting:
                if comes:
                    free.release()
                raise KeyboardInterrupt
            self.is_waiting = True

        def release(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(slots, "_Waiter", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            free.acquire(None)
    assert free.waiting == 0
    assert free.acquire(0) is comes


def test_a_run_that_is_cancelled_waits_no_longer_and_takes_nothing() -> None:
    free, came = Slots(0), list[str]()
    cancelled, other = Running(), Running()
    threads = [
        asking(free, lambda: came.append("cancelled"), cancelled), asking(free, lambda: came.append("other"), other)
    ]  # fmt: skip
    cancelled.cancel()
    threads[0].join()
    assert (came, free.waiting) == ([], 1)
    free.release()
    threads[1].join()
    assert came == ["other"]
    other.cancel()
    free.release()
    assert not free.acquire(running=cancelled), "one that was cancelled before takes no room"
    assert free.acquire(0)
