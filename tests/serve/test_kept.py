"""The files that the service keeps for clients: how much room they take, and which make room."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("sqlalchemy", reason="the extra server is not installed")

from proxybox.serve import kept
from proxybox.serve.callers import Caller
from proxybox.serve.config import Config
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.store import NoRoom, Store

KIB = 1024


class Serving:
    """What of a service the files of a run are taken from."""

    def __init__(self, store: Store) -> None:
        self.store, self.config = store, Config(limits={"body": "4K", "files": 3})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path}/db.sqlite", "test")
    yield store
    store.close()


def names(store: Store, key: str, shelf: str) -> list[str]:
    return [str(file["name"]) for file in store.shelf(key, shelf)]


def test_empty_files_take_up_room(store: Store) -> None:
    for number in range(4):
        store.put("key", "shelf", str(number), b"", room=16 * KIB)
    with pytest.raises(NoRoom):
        store.put("key", "shelf", "5", b"", room=16 * KIB)


def test_the_oldest_files_of_a_door_make_room_for_the_latest(store: Store) -> None:
    store.put("key", "rest", "theirs", b"x" * 4 * KIB, room=16 * KIB)
    store.put("other", "door/1", "theirs", b"x" * 4 * KIB, room=16 * KIB)
    for number in range(3):
        store.put("key", f"door/{number}", f"{number}", b"x" * 4 * KIB, room=16 * KIB, evict="door/")
    store.put("key", "door/3", "3", b"x" * 5 * KIB, room=16 * KIB, evict="door/")
    assert [names(store, "key", f"door/{number}") for number in range(4)] == [[], [], ["2"], ["3"]]
    assert names(store, "key", "rest") == ["theirs"]
    assert names(store, "other", "door/1") == ["theirs"]


def test_what_has_no_room_at_all_leaves_the_others_alone(store: Store) -> None:
    store.put("key", "rest", "theirs", b"x" * 8 * KIB, room=16 * KIB)
    store.put("key", "door/1", "1", b"x" * 4 * KIB, room=16 * KIB, evict="door/")
    for size in (9 * KIB, 17 * KIB):
        with pytest.raises(NoRoom):
            store.put("key", "door/2", "2", b"x" * size, room=16 * KIB, evict="door/")
    assert names(store, "key", "door/1") == ["1"]


@pytest.mark.parametrize(("count", "size", "kind"), [
    (3, 2 * KIB, None), (4, 1, "too-large"), (3, 3 * KIB, "too-large"),
])  # fmt: skip
def test_the_files_of_one_run_are_bounded(store: Store, count: int, size: int, kind: str | None) -> None:
    """A file counts as often as it is wanted."""
    identity = store.put("key", "door/1", "a", b"x" * size, room=16 * KIB)
    wanted = [(str(number), "door/1", identity) for number in range(count)]
    work = kept.collect(cast(Service, Serving(store)), Caller(key="key"), wanted)
    if kind is None:
        assert asyncio.run(work) == dict.fromkeys(("0", "1", "2"), b"x" * size)
        return
    with pytest.raises(Refusal) as refused:
        asyncio.run(work)
    assert refused.value.kind == kind
