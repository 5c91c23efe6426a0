"""The files of a run that the service has stored for its client: how many, and how large."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("sqlalchemy", reason="the extra server is not installed")

from proxybox.serve import clientfiles
from proxybox.serve.callers import Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.store import ServiceStore

KIB = 1024


class Serving:
    """The attributes of a service that `clientfiles` uses."""

    def __init__(self, store: ServiceStore) -> None:
        self.store, self.config = store, ServiceConfig(limits={"body": "4K", "files": 3})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ServiceStore]:
    store = ServiceStore(f"sqlite:///{tmp_path}/db.sqlite", "test")
    yield store
    store.close()


@pytest.mark.parametrize(("count", "size", "kind"), [
    (3, 2 * KIB, None), (4, 1, "too-large"), (3, 3 * KIB, "too-large"),
])  # fmt: skip
def test_the_files_of_one_run_are_bounded(store: ServiceStore, count: int, size: int, kind: str | None) -> None:
    """A file counts as often as it is requested."""
    identity = store.put("key", "door/1", "a", b"x" * size, room=16 * KIB)
    wanted = [(str(number), "door/1", identity) for number in range(count)]
    work = clientfiles.collect(cast(Service, Serving(store)), Caller(key="key"), wanted)
    if kind is None:
        assert asyncio.run(work) == dict.fromkeys(("0", "1", "2"), b"x" * size)
        return
    with pytest.raises(Refusal) as refused:
        asyncio.run(work)
    assert refused.value.kind == kind
