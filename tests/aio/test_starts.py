"""The starts of many boxes by one sandbox do not delay the starts of another sandbox."""

import threading
import time

import anyio
import pytest

from proxybox.aio import errands
from proxybox.aio.errands import STARTS, STARTS_OF_ONE, Errands

pytestmark = pytest.mark.anyio


async def test_a_sandbox_that_starts_many_boxes_leaves_room_for_another(anyio_backend_name: str) -> None:
    busy, other, end = Errands(), Errands(), threading.Event()
    begun = []

    def start() -> None:
        begun.append(1)
        assert end.wait(60)

    async with anyio.create_task_group() as tasks:
        for _ in range(4 * STARTS):
            tasks.start_soon(busy.in_worker, start, bool)
        while len(begun) < STARTS_OF_ONE:
            await anyio.lowlevel.checkpoint()
        try:
            with anyio.fail_after(60):
                assert await other.in_worker(lambda: "started", bool) == "started"
            assert len(begun) == STARTS_OF_ONE
        finally:
            end.set()
    assert len(begun) == 4 * STARTS


def _burn() -> None:
    until = time.thread_time() + 0.01
    while time.thread_time() < until:
        pass


@pytest.mark.parametrize("wants", [True, False])
async def test_who_has_started_more_waits_where_another_wants_something(
    anyio_backend_name: str, monkeypatch: pytest.MonkeyPatch, wants: bool
) -> None:
    """The wait is a tenth of a second at most, however long the last start took.

    It is 0 where only one sandbox has work.
    """
    busy, other, waits = Errands(), Errands(), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(errands.anyio, "sleep", sleep)
    await other.in_worker(str, bool)
    for _ in range(3):
        await busy.in_worker(_burn, bool)
    assert not waits
    end = threading.Event()
    if wants:
        other._wait_for(end)
    await busy.in_worker(_burn, bool)
    assert len(waits) == wants
    assert all(0.04 <= seconds <= 0.1 for seconds in waits)
    busy._last = 9.0
    await busy.in_worker(str, bool)
    assert waits[1:] == [0.1] * wants
    busy._wait_for(end)
    await other.in_worker(str, bool)
    assert len(waits) == 2 * wants, "who has started less does not wait"


def test_errands_of_one_sandbox_in_one_event_loop_after_another() -> None:
    sandbox = Errands()
    for backend in ("asyncio", "trio", "asyncio"):

        async def several() -> list[int]:
            found: list[int] = []

            async def one(number: int) -> None:
                found.append(await sandbox.in_worker(lambda: number, bool))

            async with anyio.create_task_group() as tasks:
                for number in range(4 * STARTS):
                    tasks.start_soon(one, number)
            return sorted(found)

        assert anyio.run(several, backend=backend) == list(range(4 * STARTS))
