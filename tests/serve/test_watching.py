"""Time limits, numbers and turns of connections, with a clock of our own."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import attrs
import pytest

pytest.importorskip("uvicorn", reason="services are served by uvicorn (extra server)")

import uvicorn
import uvicorn.server

from proxybox.policies import PolicyError
from proxybox.serve.connections.bounds import Bounds, Peers
from proxybox.serve.connections.http import Connection
from proxybox.serve.connections.room import Room
from proxybox.serve.connections.turns import LoopTurns
from proxybox.serve.connections.watching import ConnectionWatch
from proxybox.serve.problems import Refusal


@attrs.define
class Transport:
    """Stands for a connection's transport. left: bytes that the client has not read."""

    address: str = "192.0.2.1"
    left: int = 0
    aborted: bool = False
    closing: bool = False
    written: bytes = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": (self.address, 1), "sockname": ("192.0.2.9", 1)}.get(name, default)

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = self.closing = True

    def close(self) -> None:
        self.closing = True

    def is_closing(self) -> bool:
        return self.closing

    def get_write_buffer_size(self) -> int:
        return self.left

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


def in_a_loop(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        asyncio.run(test())

    run.__name__ = test.__name__
    return run


def connected(peers: Peers, transport: Transport) -> Connection:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    config = uvicorn.Config(nothing, log_config=None)
    made = Connection(config, uvicorn.server.ServerState(), {}, asyncio.get_running_loop(), peers=peers)
    made.connection_made(transport)  # type: ignore[arg-type]
    return made


# --- how many ---------------------------------------------------------------------------------------------------------


@in_a_loop
async def test_connections_are_counted_by_address_and_together() -> None:
    peers = Peers(Bounds(most=5, of_address=3))
    transports = [Transport(address) for address in ("192.0.2.1",) * 4 + ("192.0.2.2",) * 2]
    made = [connected(peers, transport) for transport in transports]
    refused = [transport.written.startswith(b"HTTP/1.1 503 ") for transport in transports]
    assert refused == [False, False, False, True, False, True]
    assert all(b"\r\nretry-after: " in transport.written for transport in transports if transport.written)
    for connection in made:
        connection.connection_lost(None)
        connection.connection_lost(None)  # as in a connection that has become a WebSocket
    assert (peers.count, dict(peers._connections)) == (0, {})


@in_a_loop
async def test_what_waits_of_an_address_is_counted_over_its_connections() -> None:
    peers = Peers(Bounds(unread="1M"))
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 900000\r\n\r\n"
    others = Transport("192.0.2.2")
    transports = [Transport(), Transport(), Transport()]
    for transport in (*transports, others):
        connected(peers, transport).data_received(head + bytes(400_000))
    assert [transport.written[:12] for transport in transports] == [b"", b"", b"HTTP/1.1 503"]
    assert not others.written


# --- how long ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("sent", "rounds"), [
    (b"", 4), (b"GET / HTTP/1.1\r\nHost", 4),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n", 4),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + bytes(20 << 10), 6),
])  # fmt: skip
def test_who_sends_too_slowly_is_told_so(sent: bytes, rounds: int) -> None:
    """The limit is 30 seconds, and one more for each KiB of the body; each look stands for ten seconds."""

    async def count() -> int:
        transport = Transport()
        connection = connected(Peers(Bounds()), transport)
        if sent:
            connection.data_received(sent)
            connection.flow.resume_reading()  # as a door does that reads the body
        assert connection._watch is not None
        looks = 0
        while not transport.written:
            connection._watch.look()
            looks += 1
        assert transport.written.startswith(b"HTTP/1.1 408 ")
        assert transport.closing
        return looks

    assert asyncio.run(count()) == rounds


@in_a_loop
async def test_nobody_is_late_while_the_service_does_not_read() -> None:
    transport = Transport()
    connection = connected(Peers(Bounds()), transport)
    connection.data_received(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n")
    assert connection.flow.read_paused
    assert connection._watch is not None
    for _ in range(100):
        connection._watch.look()
    assert not transport.closing


@pytest.mark.parametrize(("taken", "rounds"), [(0, 5), (5 << 10, 8), (10 << 10, None)])
@pytest.mark.parametrize("is_closing", [False, True])
def test_who_reads_too_slowly_is_let_go(taken: int, rounds: int | None, is_closing: bool) -> None:
    async def count() -> int | None:
        transport = Transport(left=1 << 20, closing=is_closing)
        watch = ConnectionWatch(
            asyncio.get_running_loop(), transport, Bounds(), lambda: None, lambda: False, lambda: not is_closing
        )
        for looks in range(1, 50):
            watch.look()
            if transport.aborted:
                return looks
            transport.left -= taken
        watch.stop()
        return None

    assert asyncio.run(count()) == rounds


def test_bounds_that_make_no_sense_are_named() -> None:
    with pytest.raises(PolicyError, match=r"(?s)head.*time.*rate") as caught:
        Bounds(head="1K", time="0s", rate="2M")
    assert len(caught.value.problems) == 3


# --- room and turns ---------------------------------------------------------------------------------------------------


def a_room(**changes: Any) -> Room:
    return Room(**{"most": 100, "share": 50, "queue": 4, "patience": 60.0, **changes})


@in_a_loop
async def test_who_has_no_room_waits_for_it_in_turn() -> None:
    room = a_room()
    for who, size in (("a", 30), ("a", 20), ("b", 40)):
        await room.take(who, size)
    order: list[str] = []

    async def take(name: str, who: str, size: int) -> None:
        await room.take(who, size)
        order.append(name)

    waiting = [asyncio.create_task(take(*each)) for each in (("1", "a", 10), ("2", "c", 20), ("3", "b", 5))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == []  # "3" would fit, but not before "2", which waits for room
    room.give("b", 40)
    await asyncio.gather(*waiting[1:])
    assert order == ["2", "3"]
    room.give("a", 30)
    await asyncio.gather(*waiting)
    assert (order, room.used) == (["2", "3", "1"], 55)


@in_a_loop
async def test_a_body_larger_than_any_share_is_let_in_alone() -> None:
    room = a_room(queue=0)
    await room.take("a", 1_000)
    with pytest.raises(Refusal) as caught:
        await room.take("b", 1)
    assert caught.value.status == 503
    room.give("a", 1_000)
    await room.take("b", 100)


@pytest.mark.parametrize(("who", "status"), [("a", 429), ("b", 503)])
def test_who_waits_too_long_is_sent_away(who: str, status: int) -> None:
    async def take() -> Refusal:
        room = a_room(patience=0.0)
        await room.take("a", 50)
        await room.take("c", 50)
        with pytest.raises(Refusal) as caught:
            await room.take(who, 10)
        assert (room.used, len(room._waiting)) == (100, 0)
        return caught.value

    refusal = asyncio.run(take())
    assert (refusal.status, refusal.headers) == (status, {"Retry-After": "2"})


@in_a_loop
async def test_one_client_has_half_of_the_queue() -> None:
    room = a_room()
    await room.take("a", 50)
    waiting = [asyncio.create_task(room.take("a", 10)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Refusal):
        await room.take("a", 10)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    room.give("a", 50)
    assert (room.used, len(room._waiting), dict(room._held)) == (0, 0, {})


@in_a_loop
async def test_room_that_comes_when_its_client_has_gone_is_the_next_ones() -> None:
    """The waiting task was cancelled, but has not run since, when there is room."""
    room = a_room()
    await room.take("a", 50)
    await room.take("b", 50)
    waiting = [asyncio.create_task(room.take(who, 50)) for who in "cd"]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    waiting[0].cancel()
    room.give("b", 50)
    seen = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in seen] == [asyncio.CancelledError, type(None)]
    assert (room.used, len(room._waiting), dict(room._held)) == (100, 0, {"a": 50, "d": 50})


@in_a_loop
async def test_clients_take_turns_however_much_one_of_them_asks_for() -> None:
    turns, order = LoopTurns(), []

    async def begin(who: str) -> None:
        await turns.wait(who)
        order.append(who)

    await asyncio.gather(*(begin(who) for who in "aaaaaaaabbc"))
    assert "".join(order) == "aabcabaaaaa"


@in_a_loop
async def test_a_turn_whose_client_has_gone_away_is_the_next_ones() -> None:
    turns = LoopTurns()
    tasks = [asyncio.create_task(turns.wait(who)) for who in "aaab"]
    await asyncio.sleep(0)
    for task in tasks[1:3]:
        task.cancel()
    await asyncio.wait_for(tasks[3], 5)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not turns._is_taken
