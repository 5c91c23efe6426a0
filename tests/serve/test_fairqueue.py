"""Of the waiting keys, the one that was served longest ago is next."""

from collections.abc import Sequence

import pytest

from proxybox.serve import fairqueue
from proxybox.serve.fairqueue import FairQueue


def oldest(_: str, line: Sequence[str]) -> tuple[int, str]:
    return 0, line[0]


def served(queue: FairQueue[str]) -> list[str]:
    return [item for _, item in iter(lambda: queue.next(oldest), None)]


def test_who_floods_it_waits_behind_itself_alone() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3", "b1", "b2", "c1"):
        queue.put(item[0], item)
    assert (len(queue), list(queue), queue.longest()) == (6, ["a1", "a2", "a3", "b1", "b2", "c1"], "a")
    assert served(queue) == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert (len(queue), list(queue.line("a"))) == (0, [])


def test_a_key_that_leaves_and_comes_again_is_not_a_new_one() -> None:
    queue = FairQueue[str]()
    queue.serve("a")
    for item in ("a1", "b1", "b2"):
        queue.put(item[0], item)
    assert served(queue) == ["b1", "a1", "b2"]


def test_what_is_put_first_and_what_is_removed() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    queue.put("a", "a0", first=True)
    assert queue.remove("a", "a2")
    assert not queue.remove("a", "a2")
    assert not queue.remove("b", "a1")
    assert len(queue) == 3
    assert served(queue) == ["a0", "a1", "a3"]


def test_ranks_come_before_turns_and_what_is_not_chosen_waits() -> None:
    queue = FairQueue[str]()
    for item in ("a1", "b1", "c1"):
        queue.put(item[0], item)
    choose = {"a1": (2, "a1"), "b1": (1, "b1")}
    assert queue.next(lambda _, line: choose.get(line[0])) == ("b", "b1")
    assert queue.next(lambda _, line: choose.get(line[0])) == ("a", "a1")
    assert queue.next(lambda _, line: choose.get(line[0])) is None
    assert list(queue) == ["c1"]


def test_as_many_keys_are_remembered_as_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairqueue, "MOST_KEYS", 2)
    queue = FairQueue[str]()
    for key in "abc":
        queue.serve(key)
    for key in "bcad":
        queue.put(key, key)
    assert queue.next(oldest) == ("a", "a"), "a is forgotten: it is as new as d, which came after it"
