"""Boxes in asyncio's and trio's event loops. A fixture compares processes, threads and descriptors before and after."""

import gc
import os
from collections.abc import Iterator

import pytest

from proxybox.aio.sandbox import AsyncSandbox
from proxybox.controller.process import reaper
from proxybox.controller.warm import zygotepool
from tests import leaks
from tests.soak.counts import descendants


def descriptors() -> dict[str, int]:
    """Returns the number of open descriptors of each kind.

    Their numbers are not compared: a number may be used again.
    """
    kinds: dict[str, int] = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            kind = os.readlink(f"/proc/self/fd/{name}").partition(":")[0]
        except OSError:
            continue
        if kind in ("pipe", "anon_inode", "socket"):
            kinds[kind] = kinds.get(kind, 0) + 1
    return kinds


@pytest.fixture(scope="session", autouse=True)
def lasting_ones() -> None:
    """Starts what lasts as long as the process, before the first count."""
    import anyio

    from proxybox.controller.drivers.engine import the_engine

    async def run() -> None:
        async with AsyncSandbox() as box:
            assert (await box.run("pass")).ok

    anyio.run(run)
    the_engine()


@pytest.fixture(autouse=True)
def nothing_left(lasting_ones: None) -> Iterator[None]:
    before, threads, processes = descriptors(), leaks.threads(), descendants()
    yield
    zygotepool.close()
    gc.collect()
    reaper.settle()
    assert descendants().keys() <= processes.keys()
    assert leaks.threads_since(threads) == []
    assert {kind: count for kind, count in descriptors().items() if count > before.get(kind, 0)} == {}, before


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)
