"""A neighbour goes on beside many boxes that compute for ever: each box has a share of the CPU, not each thread.

The assertions do not depend on how busy the machine is: boxes that compute for long are stopped, except one on each
CPU, and the neighbour's runs end within their limits. `python -m benchmarks.shares` measures the cost.
"""

import asyncio
import time

import pytest

import proxybox
from benchmarks.shares import KINDS, NEIGHBOUR
from proxybox.controller.process.watchdog import watchdog
from tests import sweeps
from tests.hostile.conftest import GUEST

LIMITS = {"wall_time": 120, "cpu_time": 60, "calls": None}
#: How many boxes of each kind: a third of the number, or the whole number with PROXYBOX_FULL.
BESIDE = {
    kind: sweeps.tries(count // 3, count)
    for kind, count in (
        ("one loop", 40), ("15 loops", 12), ("access", 20), ("threads and 10 loops", 12), ("mappings and 14 loops", 12),
        ("bursts", 20),
    )
}  # fmt: skip
#: Kinds that wait for the controller, or sleep, most of the time: they are free (rotation.py).
FREE = ("access", "bursts")
RUNS = 3


@pytest.fixture(scope="module", autouse=True)
def _engine() -> None:
    """Starts the engine before the tests: it and its descriptors last as long as the process."""

    async def once() -> None:
        async with proxybox.AsyncSandbox() as sandbox:
            await sandbox.run("1")

    asyncio.run(once())


async def _goes_on(sandbox: proxybox.AsyncSandbox) -> None:
    for _ in range(RUNS):
        result = await sandbox.run(NEIGHBOUR)
        assert result.ok, result.summary()


def _running() -> int:
    """How many of the boxes in the rotation are not stopped."""
    return sum(not watch.is_stopped for each in watchdog()._rotations._by_cpu.values() for watch in tuple(each._known))


async def _beside(kind: str, count: int) -> None:
    """Runs the neighbour beside `count` boxes of a kind, after all of them have used their allowance."""
    files = {"raw.py": (GUEST / "raw.py").read_bytes()}
    async with proxybox.AsyncSandbox(limits=LIMITS) as box, proxybox.AsyncSandbox(limits=LIMITS) as good:
        await _goes_on(good)
        others = [asyncio.create_task(box.run(KINDS[kind], files=files)) for _ in range(count)]
        try:
            limit = time.monotonic() + 60
            while sum(len(each._known) for each in watchdog()._rotations._by_cpu.values()) < count:
                assert time.monotonic() < limit, "they did not come to the rotation"
                await asyncio.sleep(0.02)
            while kind not in FREE and _running() > 2 * len(watchdog()._rotations._by_cpu):
                assert time.monotonic() < limit, "more compute than have turns"
                await asyncio.sleep(0.02)
            await _goes_on(good)
        finally:
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)


@pytest.mark.sized(3)
@pytest.mark.parametrize("kind", BESIDE)
def test_a_neighbour_goes_on(kind: str) -> None:
    asyncio.run(_beside(kind, BESIDE[kind]))
