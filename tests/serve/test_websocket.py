"""The WebSocket for browsers: one session, whose events are sent as they happen."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.serve.conftest import Server, serving
from tests.serve.declared import check_message

websockets = pytest.importorskip("websockets", reason="the WebSocket needs the package websockets")


class Talk:
    """A socket, as a page uses it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def send(self, **message: object) -> None:
        await self.connection.send(json.dumps(message))

    async def next(self) -> dict:
        message = json.loads(await self.connection.recv())
        check_message(message)
        return message

    async def until(self, event: str) -> list[dict]:
        seen = [await self.next()]
        while seen[-1]["event"] != event:
            seen.append(await self.next())
        return seen


@asynccontextmanager
async def talking(server: Server, **options: Any) -> AsyncGenerator[Talk]:
    path = server.url.removeprefix("unix:")
    async with websockets.unix_connect(path, "ws://localhost/v1/socket", **options) as connection:
        yield Talk(connection)


def in_a_loop(test: Callable[[Server], Awaitable[None]]) -> Callable[[Server], None]:
    def run(server: Server) -> None:
        asyncio.run(asyncio.wait_for(test(server), 60))

    run.__name__ = test.__name__
    return run


@in_a_loop
async def test_a_session_at_a_page(server: Server) -> None:
    async with talking(server) as talk:
        await talk.send(do="open", policy="default")
        opened = await talk.next()
        await talk.send(do="execute", id="1", code="print('n?')\nx = int(input())\nx * 2", mode="interactive")
        assert [each["event"] for each in await talk.until("input_request")] == ["started", "stdout", "input_request"]
        await talk.send(do="input", text="21\n")
        seen = await talk.until("finished")
        assert {each["id"] for each in seen} == {"1"}
        (value,) = [each for each in seen if each["event"] == "result"]
        assert value["data"]["text/plain"] == "42"
        await talk.send(do="complete", id="2", code="prin")
        assert (await talk.next()) == {"event": "completed", "id": "2", "start": 0, "matches": ["print"], "alive": True}
    session = f"/v1/sessions/{opened['session']}"
    while server.http.get(session).status_code == 200:
        await asyncio.sleep(0)
    assert server.http.get(session).status_code == 410  # the session has ended with its socket


@in_a_loop
async def test_an_interrupt(server: Server) -> None:
    async with talking(server) as talk:
        await talk.send(do="open")
        await talk.next()
        await talk.send(do="execute", id="1", code="print('on', flush=True)\nwhile True: pass")
        await talk.until("stdout")
        await talk.send(do="execute", id="2", code="1")
        assert (await talk.until("failed"))[-1]["problem"]["type"] == "urn:proxybox:session-busy"
        await talk.send(do="interrupt")
        assert (await talk.until("finished"))[-1]["result"]["error"]["type"] == "KeyboardInterrupt"


@in_a_loop
async def test_a_session_that_is_there_already(server: Server) -> None:
    session = server.session()
    server.execute(session, "x = 1")
    async with talking(server) as talk:
        await talk.send(do="attach", session=session.rpartition("/")[2])
        await talk.next()
        await talk.send(do="execute", code="x", mode="eval")
        assert (await talk.until("finished"))[-1]["result"]["value"] == 1
    assert server.execute(session, "x", mode="eval")["value"] == 1
    server.http.delete(session)


@in_a_loop
async def test_messages_that_make_no_sense(server: Server) -> None:
    async with talking(server) as talk:
        await talk.send(do="open")
        await talk.next()
        wrong = '{"do": "what"}', '{"do": "execute"}', '{"do": "execute", "code": 1}'
        for message in ("", "{", "[]", "[" * 9999, *wrong):
            await talk.connection.send(message)
            problem = (await talk.next())["problem"]
            assert (problem["type"], problem["status"]) == ("urn:proxybox:invalid", 422)
        await talk.send(do="execute", code="1", mode="eval")
        assert (await talk.until("finished"))[-1]["result"]["value"] == 1


@pytest.mark.parametrize("first", [
    {"do": "execute", "code": "1"}, {"do": "open", "policy": "none"}, {"do": "attach", "session": "never"},
    {"do": "open", "key": "pbx_wrong"},
])  # fmt: skip
def test_a_first_message_that_opens_nothing_closes_the_socket(server: Server, first: dict) -> None:
    async def talk() -> None:
        async with talking(server) as talk:
            await talk.send(**first)
            assert (await talk.next())["event"] == "failed"
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talk.next()
            assert caught.value.rcvd.code == 1008

    asyncio.run(talk())


def test_a_binary_message_closes_the_socket(server: Server) -> None:
    """The code is 1003 (RFC 6455, 7.4.1). The log has no error, because it is not the service's fault."""

    async def talk() -> None:
        async with talking(server) as talk:
            await talk.connection.send(b"{}")
            with pytest.raises(websockets.ConnectionClosed) as caught:
                await talk.next()
            assert caught.value.rcvd.code == 1003

    asyncio.run(talk())


@pytest.mark.parametrize("options", [
    {"origin": "http://evil.example"}, {"additional_headers": {"Host": "evil.example"}},
])  # fmt: skip
def test_a_page_of_another_origin_is_not_let_in(server: Server, options: dict) -> None:
    async def talk() -> None:
        with pytest.raises((websockets.InvalidStatus, websockets.InvalidHandshake, websockets.ConnectionClosed)):
            async with talking(server, **options) as talk:
                await talk.next()

    asyncio.run(talk())


def test_a_key_in_the_first_message(tmp_path: Any) -> None:
    from proxybox.serve.keys import Keys

    with serving(tmp_path, "workers = 1\nslots = 1\nrequire_keys = true\n") as server:
        key = Keys(server.data / "keys.json").add("page")

        async def talk() -> None:
            async with talking(server) as talk:
                await talk.send(do="open")
                assert (await talk.next())["problem"]["type"] == "urn:proxybox:unauthorized"
            async with talking(server) as talk:
                await talk.send(do="open", key=key)
                assert (await talk.next())["event"] == "opened"

        asyncio.run(talk())
        assert key not in server.log.read_text()


def test_what_asks_for_no_websocket(server: Server) -> None:
    answer = server.http.get("/v1/socket")
    assert (answer.status_code, answer.headers["upgrade"]) == (426, "websocket")
    assert answer.json()["type"] == "urn:proxybox:upgrade-required"
