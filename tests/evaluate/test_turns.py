"""EvaluationTurns: in the order of asking, each until its deadline."""

import threading
from collections.abc import Callable

import pytest

from proxybox.evaluating import turns
from proxybox.evaluating.turns import EvaluationTurns


def asking(of: EvaluationTurns, then: Callable[[], object], seconds: float | None = None) -> threading.Thread:
    """A thread that asks for a turn, and is waiting for it now."""
    before = of.waiting

    def work() -> None:
        of.take(seconds)
        then()

    thread = threading.Thread(target=work)
    thread.start()
    while of.waiting == before:
        pass
    return thread


def test_they_come_in_the_order_of_asking() -> None:
    free, came = EvaluationTurns(1), list[int]()
    assert free.take(0)
    threads = [asking(free, lambda n=n: came.append(n) or free.give()) for n in range(5)]  # type: ignore[misc]
    free.give()
    for thread in threads:
        thread.join()
    assert came == list(range(5))
    assert free.take(0)
    assert not free.take(0)


def test_who_gives_its_turn_back_and_asks_again_is_the_last() -> None:
    free, came = EvaluationTurns(1), list[str]()
    free.take(None)
    thread = asking(free, lambda: came.append("other") or free.give())  # type: ignore[func-returns-value]
    free.give()
    free.take(None)
    came.append("first")
    thread.join()
    assert came == ["other", "first"]


def test_who_waits_in_vain_takes_nothing() -> None:
    free = EvaluationTurns(0)
    assert not free.take(0)
    assert not free.take(0.001)
    assert not free.take(-1)
    free.give()
    assert free.take(None)


def test_faults_and_the_end() -> None:
    free, raised = EvaluationTurns(0), list[BaseException]()

    def work() -> None:
        try:
            free.take(None)
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
    free.give()
    assert free.take(0), "later ones are served"
    free.end(lambda: KeyError("ended"))
    with pytest.raises(KeyError, match="ended"):
        free.take(0)


@pytest.mark.parametrize("comes", [False, True])
def test_an_interrupted_wait_takes_no_turn(monkeypatch: pytest.MonkeyPatch, comes: bool) -> None:
    """By the handler of a signal that raises, before the turn has come or just after."""
    free = EvaluationTurns(0)

    class Interrupted:
        fault = None

        def __init__(self) -> None:
            self.woken, self.is_waiting = self, False

        def acquire(self, timeout: float = -1) -> None:
            if self.is_waiting:
                if comes:
                    free.give()
                raise KeyboardInterrupt
            self.is_waiting = True

        def release(self) -> None:
            pass

    with monkeypatch.context() as patch:
        patch.setattr(turns, "_Waiter", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            free.take(None)
    assert free.waiting == 0
    assert free.take(0) is comes
