"""The engine alone: when items are submitted, which are tried again, and which are never submitted twice."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import BrokenExecutor, Future
from typing import Any

import pytest

from proxybox.batch import engine as engines
from proxybox.batch.engine import BatchEngine
from proxybox.pool.executor import WorkerLeft

Happens = Callable[[Sequence[int]], Sequence[Any]]


class Scripted:
    """Workers whose tasks end at once. happens: returns the results of a task, or raises."""

    pause = None

    def __init__(self, happens: Happens, workers: int = 2) -> None:
        self.workers = workers
        self.tasks: list[tuple[int, ...]] = []
        self._happens = happens
        self._given: set[Future[Any]] = set()
        self._is_kept = False
        self.looks = 0

    def has_room(self, *, alone: bool = False) -> bool:
        return not self._given if alone else len(self._given) <= self.workers and not self._is_kept

    def submit(self, work: Any, task: Sequence[int], *, alone: bool = False) -> "Future[Any]":
        self.tasks.append(tuple(task))
        future: Future[Any] = Future()
        self._given.add(future)
        self._is_kept = alone
        try:
            future.set_result(self._happens(task))
        except Exception as error:
            future.set_exception(error)
        return future

    def taken(self, future: "Future[Any]") -> None:
        self._given.remove(future)
        self._is_kept = False

    def look(self) -> None:
        self.looks += 1


def engine(happens: Happens, items: Iterable[int], **options: Any) -> tuple["BatchEngine[int, Any]", Scripted]:
    carrier = Scripted(happens, options.pop("workers", 2))
    defaults: dict[str, Any] = {
        "give_up": lambda number, item, error: f"given up: {error}",
        "is_fatal": lambda error: False,
        "retries": 2,
        "chunk": 4,
        "most_chunk": 4,
        "seconds": 1.0,
    }
    made: BatchEngine[int, Any] = BatchEngine(
        items=iter(items), carrier=carrier, work=len, pack=tuple, **{**defaults, **options}
    )
    return made, carrier


def all_of(made: "BatchEngine[int, Any]", most: int = 100) -> dict[int, Any]:
    found: dict[int, Any] = {}
    while made.is_unfinished:
        for number, answer in made.step(most):
            assert number not in found
            found[number] = answer
    return found


def squares(items: Sequence[int]) -> list[int]:
    return [item * item for item in items]


def test_each_item_is_given_once() -> None:
    made, carrier = engine(squares, range(10))
    assert all_of(made) == {number: number * number for number in range(10)}
    assert sorted(itertools.chain(*carrier.tasks)) == list(range(10))


def test_nothing_at_all() -> None:
    made, carrier = engine(squares, [])
    assert all_of(made) == {}
    assert carrier.tasks == []


def test_what_a_chunk_leaves_is_given_again_and_what_has_answered_is_not() -> None:
    made, carrier = engine(lambda items: squares(items)[:3], range(9))
    assert all_of(made) == {number: number * number for number in range(9)}
    given = Counter(itertools.chain(*carrier.tasks))
    assert given[0] == given[1] == given[2] == 1
    assert given[3] == 2


def test_a_lost_chunk_is_tried_again_item_by_item_with_no_other_beside_it() -> None:
    happened: list[int] = []

    def happens(items: Sequence[int]) -> list[int]:
        if len(items) > 1 and not happened:
            happened.append(1)
            raise OSError("the worker has ended")
        return squares(items)

    lost: list[int] = []
    made, carrier = engine(happens, range(12), on_lost=lambda number, _: lost.append(number))
    assert all_of(made) == {number: number * number for number in range(12)}
    assert lost == [0, 1, 2, 3]
    assert [task for task in carrier.tasks if len(task) == 1] == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
def test_an_item_that_ends_its_worker_each_time_is_given_up(retries: int) -> None:
    def happens(items: Sequence[int]) -> list[int]:
        if 5 in items:
            raise OSError("it died")
        return squares(items)

    made, carrier = engine(happens, range(8), retries=retries)
    found = all_of(made)
    assert found[5] == "given up: it died"
    assert sum(5 in task for task in carrier.tasks) == 1 + retries
    assert found == {**{number: number * number for number in range(8)}, 5: "given up: it died"}


@pytest.mark.parametrize("retries", [0, 1])
def test_a_worker_that_was_told_to_leave_blames_nobody(retries: int) -> None:
    left = Counter[int]()

    def happens(items: Sequence[int]) -> list[int]:
        left.update(items)
        if 5 in items and left[5] < 5:
            raise WorkerLeft("it was retired")
        return squares(items)

    lost: list[int] = []
    made, _ = engine(happens, range(8), retries=retries, on_lost=lambda number, _: lost.append(number))
    assert all_of(made) == {number: number * number for number in range(8)}
    assert lost.count(5) == 4


def test_an_item_whose_workers_all_leave_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_MOST_LEFT", 3)

    def happens(items: Sequence[int]) -> list[int]:
        raise WorkerLeft("it was retired")

    made, carrier = engine(happens, range(1), retries=1)
    assert all_of(made) == {0: "given up: it was retired"}
    assert len(carrier.tasks) == 3 + 1 + 1


def test_an_item_that_fails_by_itself_leaves_the_others_their_answers() -> None:
    def happens(items: Sequence[int]) -> list[Any]:
        return [ValueError("no") if item == 2 else item * item for item in items]

    made, carrier = engine(happens, range(4))
    assert all_of(made) == {0: 0, 1: 1, 2: "given up: no", 3: 9}
    assert Counter(itertools.chain(*carrier.tasks)) == {0: 1, 1: 1, 2: 3, 3: 1}


def test_a_fatal_exception_ends_everything() -> None:
    def happens(items: Sequence[int]) -> list[int]:
        raise KeyError("all wrong")

    made, carrier = engine(happens, range(100), is_fatal=lambda error: isinstance(error, KeyError))
    with pytest.raises(KeyError, match="all wrong"):
        all_of(made)
    assert len(carrier.tasks) <= 3


def test_a_broken_executor_gives_what_has_come() -> None:
    def happens(items: Sequence[int]) -> list[int]:
        if 8 in items:
            raise BrokenExecutor("gone")
        return squares(items)

    made, _ = engine(happens, range(100), retries=5)
    found = all_of(made)
    assert isinstance(made.broken, BrokenExecutor)
    assert found == {number: number * number for number in range(8)}


def test_no_more_items_are_read_than_may_be_without_an_answer() -> None:
    read: list[int] = []

    def items() -> Iterable[int]:
        for number in itertools.count():
            read.append(number)
            yield number

    made, _ = engine(squares, items())
    came: list[int] = []
    while len(came) < 40:
        came += [number for number, _ in made.step(6)]
        assert len(read) - len(came) <= 6
    assert made.stop() == 0


def test_what_was_read_before_the_items_failed_has_its_answers() -> None:
    def items() -> Iterable[int]:
        yield from range(5)
        raise RuntimeError("no more")

    made, _ = engine(squares, items())
    assert all_of(made) == {number: number * number for number in range(5)}
    assert str(made.unreadable) == "no more"


def test_items_that_are_large_are_given_in_small_chunks() -> None:
    made, carrier = engine(squares, range(8), weigh=lambda item: 3 << 20)
    all_of(made)
    assert {len(task) for task in carrier.tasks} == {2}


def test_a_small_batch_is_divided_among_the_workers() -> None:
    made, carrier = engine(squares, range(6), total=6, workers=2)
    all_of(made)
    assert [len(task) for task in carrier.tasks] == [1] * 6
