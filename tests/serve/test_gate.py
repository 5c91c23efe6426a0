"""Which request gets a worker's free line: shares, turns, a bounded queue, workers that end."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from proxybox.serve.gate import Gate, Overloaded
from proxybox.serve.workers import Slot, WorkerLost


def _worker(number: int = 0, *, express: bool = False) -> Any:
    return SimpleNamespace(number=number, express=express, ended=False)


def _gate(
    slots: int = 2, *, workers: int = 1, share: int = 2, queue: int = 4, patience: float = 60
) -> tuple[Gate, list[Any]]:
    gate = Gate("run", share=share, queue=queue, patience=patience)
    made = [_worker(number) for number in range(workers)]
    for worker in made:
        for _ in range(slots):
            gate.free(Slot(worker, "run", None))  # type: ignore[arg-type]
    return gate, made


def _in_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(asyncio.wait_for(test(), 20))

    run.__name__ = test.__name__
    return run


async def _waits(*tasks: "asyncio.Task[Any]") -> None:
    """Lets tasks run as far as they can."""
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)


@_in_a_loop
async def test_a_free_line_is_given_at_once() -> None:
    gate, _ = _gate()
    first, second = await gate.enter("a"), await gate.enter("a")
    assert first is not second
    assert (gate.held, gate.waiting) == (2, 0)


@_in_a_loop
async def test_a_key_holds_no_more_than_its_share() -> None:
    gate, _ = _gate(4, share=2)
    held = [await gate.enter("a") for _ in range(2)]
    waits = asyncio.create_task(gate.enter("a"))
    await _waits(waits)
    other = await gate.enter("b")  # there is room for others
    gate.free(other)
    await _waits(waits)
    assert not waits.done()
    gate.free(held[0])
    await waits
    assert gate.held == 2


@_in_a_loop
async def test_who_holds_fewer_lines_is_next_even_if_it_was_served_later() -> None:
    gate, _ = _gate(4, share=3)
    _, _, _, other = [await gate.enter(name) for name in ("a", "a", "b", "c")]
    more, fewer = [asyncio.create_task(gate.enter(name)) for name in ("a", "b")]
    await _waits(more, fewer)
    gate.free(other)
    await fewer
    await _waits(more)
    more.cancel()


@_in_a_loop
async def test_a_share_of_its_own() -> None:
    gate, _ = _gate(4, share=1)
    assert [await gate.enter("a", share=3) for _ in range(3)]
    await _waits(task := asyncio.create_task(gate.enter("a", share=3)))
    task.cancel()


def _with_express(slots: int = 2, *, share: int = 4) -> Gate:
    """Returns a gate for two workers, the second of which is the express."""
    gate = Gate("run", share=share, queue=9, patience=60)
    for worker in (_worker(0), _worker(1, express=True)):
        for _ in range(slots):
            gate.free(Slot(worker, "run", None))  # type: ignore[arg-type]
    return gate


@_in_a_loop
async def test_the_express_is_for_what_a_key_holds_beside_nothing_else() -> None:
    gate = _with_express()
    held = [await gate.enter("flood") for _ in range(3)]
    assert [slot.worker.express for slot in held] == [True, False, False]
    waits = asyncio.create_task(gate.enter("flood"))
    await _waits(waits)
    assert not waits.done()  # the express has a free line, and the key's share is not used up
    assert (await gate.enter("quiet")).worker.express
    gate.free(held[1])
    assert not (await waits).worker.express


@_in_a_loop
async def test_a_key_that_holds_nothing_any_more_gets_the_express() -> None:
    gate = _with_express(1)
    held = [await gate.enter("flood") for _ in range(2)]
    waits = asyncio.create_task(gate.enter("other"))
    await _waits(waits)
    gate.free(held[0])
    assert (await waits) is held[0]


@_in_a_loop
async def test_whoever_is_wanted_of_the_express_alone_gets_its_lines() -> None:
    gate = _with_express()
    held = [await gate.enter("a", worker=1) for _ in range(2)]  # two calls of its sessions
    assert all(slot.worker.express for slot in held)


@_in_a_loop
async def test_a_request_that_was_given_up_gets_no_line() -> None:
    gate, _ = _gate(1)
    held = await gate.enter("a")
    waits = [asyncio.create_task(gate.enter(name)) for name in ("b", "c")]
    await _waits(*waits)
    waits[0].cancel()
    gate.free(held)  # before the cancelled task has run
    assert (await waits[1]) is held
    assert gate.waiting == 0


@_in_a_loop
async def test_the_key_that_holds_the_fewest_is_next() -> None:
    gate, _ = _gate(2, share=2)
    held = [await gate.enter("flood") for _ in range(2)]
    order: list[str] = []

    async def come(name: str) -> None:
        slot = await gate.enter(name)
        order.append(name)
        await asyncio.sleep(0)
        gate.free(slot)

    tasks = [asyncio.create_task(come(name)) for name in ("flood", "flood", "b", "c")]
    await _waits(*tasks)
    gate.free(held[0])
    await asyncio.gather(*tasks[2:])
    assert order[:2] == ["b", "c"]
    gate.free(held[1])
    await asyncio.gather(*tasks)


@_in_a_loop
async def test_a_full_queue_sends_away_at_once() -> None:
    gate, _ = _gate(1, share=1, queue=2)
    await gate.enter("a")
    waiting = [asyncio.create_task(gate.enter("a")) for _ in range(2)]
    await _waits(*waiting)
    with pytest.raises(Overloaded) as caught:
        await gate.enter("a")
    assert caught.value.is_own
    assert caught.value.retry_after >= 1
    for task in waiting:
        task.cancel()


@_in_a_loop
async def test_who_floods_the_queue_makes_room_for_another() -> None:
    gate, _ = _gate(1, share=1, queue=3)
    held = await gate.enter("flood")
    flood = [asyncio.create_task(gate.enter("flood")) for _ in range(3)]
    await _waits(*flood)
    other = asyncio.create_task(gate.enter("b"))
    await _waits(other)
    with pytest.raises(Overloaded):
        await flood[2]
    gate.free(held)
    assert await other is held  # and it is next, too
    for task in flood[:2]:
        task.cancel()


@_in_a_loop
async def test_patience_ends() -> None:
    gate, _ = _gate(1, patience=0.01)
    await gate.enter("a")
    with pytest.raises(Overloaded, match="in time"):
        await gate.enter("b")
    assert gate.waiting == 0


@_in_a_loop
async def test_one_who_leaves_while_it_is_given_a_line_gives_it_back() -> None:
    gate, _ = _gate(1)
    held = await gate.enter("a")
    waits = asyncio.create_task(gate.enter("b"))
    await _waits(waits)
    gate.free(held)  # the line is b's now
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert (gate.held, gate.waiting) == (0, 0)
    assert await gate.enter("c") is held


@_in_a_loop
async def test_a_line_of_one_worker() -> None:
    gate, _ = _gate(1, workers=2)
    slot = await gate.enter("a", worker=1)
    assert slot.worker.number == 1
    waits = asyncio.create_task(gate.enter("b", worker=1))
    await _waits(waits)  # worker 0 has a free line, too
    gate.free(slot)
    assert (await waits).worker.number == 1


@_in_a_loop
async def test_a_worker_that_dies_takes_its_lines_with_it() -> None:
    gate, workers = _gate(1, workers=2, share=4)
    await gate.enter("a", worker=1)
    wants_it, wants_any = asyncio.create_task(gate.enter("b", worker=1)), None
    await _waits(wants_it)
    workers[1].ended = True
    gate.lost(workers[1])
    with pytest.raises(WorkerLost):
        await wants_it
    assert gate.held == 0
    assert (await gate.enter("c")).worker.number == 0
    wants_any = asyncio.create_task(gate.enter("d"))
    await _waits(wants_any)
    gate.free(Slot(_worker(1), "run", None))  # type: ignore[arg-type]
    await wants_any


@_in_a_loop
async def test_nothing_is_kept_of_keys_that_have_left() -> None:
    gate, _ = _gate(1)
    for name in ("", *map(str, range(100))):
        gate.free(await gate.enter(name))
    assert not gate._keys


@_in_a_loop
async def test_a_key_leaves_lines_of_each_worker_to_the_sessions_of_others() -> None:
    gate, _ = _gate(4, workers=2, share=6)
    held = [await gate.enter("a", worker=1) for _ in range(3)]
    waits = asyncio.create_task(gate.enter("a", worker=1))
    await _waits(waits)
    gate.free(await gate.enter("b", worker=1))
    await _waits(waits)
    gate.free(held[0])
    assert (await waits).worker.number == 1
    assert [await gate.enter("c", share=8, worker=0) for _ in range(4)]  # it may have all of them


@_in_a_loop
async def test_a_worker_with_one_line_has_it_for_all() -> None:
    gate, _ = _gate(1, share=1)
    assert await gate.enter("a", worker=0)
