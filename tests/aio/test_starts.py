"""Starts of many boxes by one sandbox do not stand before those of another."""

import threading

import anyio
import pytest

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


def test_errands_of_one_sandbox_in_one_event_loop_after_another() -> None:
    errands = Errands()
    for backend in ("asyncio", "trio", "asyncio"):

        async def several() -> list[int]:
            found: list[int] = []

            async def one(number: int) -> None:
                found.append(await errands.in_worker(lambda: number, bool))

            async with anyio.create_task_group() as tasks:
                for number in range(4 * STARTS):
                    tasks.start_soon(one, number)
            return sorted(found)

        assert anyio.run(several, backend=backend) == list(range(4 * STARTS))
