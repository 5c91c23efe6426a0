"""The clients of a service: the same methods as a local sandbox, blocking and for an event loop."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import httpx
import pytest

from proxybox import AsyncClient, Client, Displayed, Finished, Printed, ServiceError
from proxybox.errors import CannotCopy, ExecutionError, PolicyError, SandboxClosedError, SessionBusy, TimeLimitExceeded
from proxybox.remote.client import RemoteSession
from tests.serve.conftest import Server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address, transport=server.transport()) as client:
        yield client


@pytest.fixture
def session(client: Client) -> Iterator[RemoteSession]:
    with client.session() as session:
        yield session


def test_a_result_is_as_one_from_here(client: Client) -> None:
    code = "import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr)\n1 / 0"
    result = client.run(code, args=["x"], files={"d": b"\0"})
    assert (str(result.status), result.exit_code, result.stdout) == ("error", 1, "a\n")
    assert result.output[0] == ("stdout", "a\n")
    assert result.error is not None
    assert result.error.type == "ZeroDivisionError"
    assert result.usage.cpu > 0
    assert result.layers["seal"]
    assert dict(client.run("f = open('c', 'wb'); f.write(b'\\xff'); f.close()").files) == {"c": b"\xff"}
    assert client.run("print(1)").output == (("stdout", "1\n"),)


def test_what_is_given_crosses(client: Client) -> None:
    code = "import os, sys; print(input(), sys.argv[1:], open('a').read(), os.environ['B'])"
    assert client.run(code, ["x"], "in", {"a": "file"}, env={"B": "c"}).stdout == "in ['x'] file c\n"
    assert client.run("print(input())", stdin=b"\xc3\xa9\n").stdout == "é\n"


def test_check_raises_as_here(client: Client) -> None:
    with pytest.raises(TimeLimitExceeded):
        client.run("while True: pass", limits={"cpu_time": 0.2}, check=True)


def test_a_file_is_sent_as_its_text(client: Client, tmp_path: Any) -> None:
    (tmp_path / "script.py").write_text("print('from a file')")
    assert client.run(tmp_path / "script.py").stdout == "from a file\n"
    assert client.run_file(str(tmp_path / "script.py")).stdout == "from a file\n"


def test_callbacks_and_a_function_for_input(client: Client) -> None:
    told: list[tuple[str, str]] = []
    lines = iter(["one\n", "two\n", ""])
    result = client.run(
        "import sys\nfor line in sys.stdin: print(line.strip(), file=sys.stderr)",
        stdin=lambda size: next(lines),
        on_stdout=lambda text: told.append(("out", text)), on_stderr=lambda text: told.append(("err", text)),
    )  # fmt: skip
    assert result.ok
    assert "".join(text for stream, text in told if stream == "err") == "one\ntwo\n"


def test_faults_are_those_from_here(client: Client) -> None:
    with pytest.raises(PolicyError, match=r"limits\.wall_time.*at most"):
        client.run("1", limits={"wall_time": 1000})
    with pytest.raises(TypeError, match="code"):
        client.run(5)  # type: ignore[arg-type]
    with pytest.raises(PolicyError, match="http"):
        Client("localhost:8000")


def test_a_session(client: Client, session: RemoteSession) -> None:
    session.exec("x = 1\ndef add(a, b): return a + b")
    assert session.eval("x").value == 1
    assert session.call("add", b"a", b"\xff").value == b"a\xff"
    session.set("y", {"a": (1, {2}, 1 << 80)})
    assert session.get("y") == {"a": (1, {2}, 1 << 80)}
    assert session.complete("ad").matches == ("add",)
    found = session.inspect("add")
    assert found is not None
    assert found.name == "add"
    assert session.is_complete("if 1:").status == "incomplete"
    session.write_file("in/a", b"\xff", parents=True)
    assert session.read_file("in/a") == b"\xff"
    assert [(entry.name, entry.type) for entry in session.list_files()] == [("in", "directory")]
    with pytest.raises(FileNotFoundError):
        session.read_file("nothing")
    with pytest.raises(ExecutionError) as caught:
        session.get("nothing")
    assert caught.value.result.error is not None
    session.reset()
    assert session.exec("x").error is not None


def test_what_a_session_shows(session: RemoteSession) -> None:
    shown = []
    session.exec("display(1)\n2", echo="display", on_display=shown.append)
    assert [each.kind for each in shown] == ["display"]
    shown.clear()
    session.exec("display(1)\n2", echo=True, on_display=shown.append)
    assert [(each.kind, each.data["text/plain"]) for each in shown] == [("display", "1"), ("value", "2")]


def test_a_stream(session: RemoteSession) -> None:
    code = "import sys\nprint(1, flush=True)\nprint(2, file=sys.stderr)\ndisplay(3)\n4"
    *events, last = session.stream(code, name="cell", echo=True)
    assert [event for event in events if isinstance(event, Printed)] == [
        Printed("stdout", "1\n"),
        Printed("stderr", "2\n"),
    ]
    shown = [event for event in events if isinstance(event, Displayed)]
    assert [(each.kind, each.data["text/plain"]) for each in shown] == [("display", "3"), ("value", "4")]
    assert isinstance(last, Finished)
    assert (last.result.ok, last.result.stdout) == (True, "1\n")
    lines = iter(["one\n", ""])
    *events, last = session.stream(
        "import sys\nfor line in sys.stdin: print(line.strip())", stdin=lambda size: next(lines)
    )
    assert "".join(event.text for event in events if isinstance(event, Printed)) == "one\n"
    with pytest.raises(ExecutionError, match="ZeroDivisionError"):
        list(session.stream("1 / 0", check=True))


def test_a_reader_that_leaves_a_stream(session: RemoteSession) -> None:
    """The program is interrupted, and the session can be used at once."""
    code = "import time\ntry:\n    while True: print('on', flush=True)\nfinally: x = 1"
    for _ in range(3):
        events = session.stream(code)
        assert next(events) == Printed("stdout", "on\n")
        events.close()
        assert session.eval("x").value == 1
        session.reset()


def test_a_stream_that_breaks_off(client: Client) -> None:
    session = client.session()
    events = session.stream("print(1, flush=True)\ninput()", stdin=lambda size: session.close() or "\n")
    assert next(events) == Printed("stdout", "1\n")
    with pytest.raises((SandboxClosedError, ServiceError)):
        list(events)
    with pytest.raises(SandboxClosedError):
        next(session.stream("1"))


def test_copies_and_kept_states(session: RemoteSession) -> None:
    session.exec("x = 1")
    with session.fork() as copy, session.snapshot() as kept:
        copy.exec("x = 2")
        session.exec("x = 3")
        session.restore(kept)
        assert [each.eval("x").value for each in (session, copy)] == [1, 2]
    copies = [session.fork() for _ in range(4)]  # as many as the policy allows
    with pytest.raises(CannotCopy):
        session.fork()
    for copy in copies:
        copy.close()


def test_an_interrupt_from_another_thread(session: RemoteSession) -> None:
    def stop(text: str) -> None:
        threading.Thread(target=session.interrupt).start()

    result = session.exec("print('on', flush=True)\nwhile True: pass", on_stdout=stop)
    assert result.error is not None
    assert result.error.type == "KeyboardInterrupt"


def test_a_session_that_has_ended(client: Client) -> None:
    session = client.session()
    session.close()
    with pytest.raises(SandboxClosedError, match="it was closed"):
        session.exec("1")
    session.close()


def test_one_call_at_a_time(session: RemoteSession) -> None:
    def ask(size: int) -> str:
        with pytest.raises(SessionBusy):
            session.exec("1")
        return "\n"

    assert session.exec("input()", stdin=ask).ok


def test_a_service_that_is_not_there() -> None:
    with Client("http://127.0.0.1:1") as client:
        with pytest.raises(ServiceError, match=r"no answer from http://127\.0\.0\.1:1"):
            client.run("1")
        with pytest.raises(ServiceError, match="no answer"):
            client.run("1", on_stdout=print)


def test_another_try_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    import proxybox.remote.client as module

    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    problem = {"type": "urn:proxybox:overloaded", "detail": "too many requests wait"}
    transport = httpx.MockTransport(lambda _: httpx.Response(503, json=problem, headers={"Retry-After": "3"}))
    with Client("http://localhost", transport=transport) as client, pytest.raises(ServiceError) as caught:
        client.run("1")
    assert (caught.value.kind, caught.value.status, caught.value.retry_after) == ("overloaded", 503, 3)
    assert pauses == [3, 3]


@pytest.mark.parametrize("answer", [b"", b"<html>", b"[]", b'{"type": 5}', b'{"type": "x"}'])
def test_an_answer_of_somebody_else(answer: bytes) -> None:
    transport = httpx.MockTransport(lambda _: httpx.Response(500, content=answer))
    with Client("http://localhost", transport=transport) as client, pytest.raises(ServiceError, match="status 500"):
        client.run("1")


def test_the_key_and_the_address_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(401, json={"type": "urn:proxybox:unauthorized", "detail": "A key is needed"})

    monkeypatch.setenv("PROXYBOX_URL", "http://boxes.example:8000/")
    monkeypatch.setenv("PROXYBOX_KEY", "pbx_key")
    with Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(ServiceError):
        client.run("1")
    assert (str(seen[0].url), seen[0].headers["authorization"]) == (
        "http://boxes.example:8000/v1/run",
        "Bearer pbx_key",
    )


# --- for an event loop ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_same_for_an_event_loop(server: Server, backend: str) -> None:
    async def use() -> None:
        transport = server.async_transport()
        async with AsyncClient("http://localhost", transport=transport) as client:
            assert (await client.run("print(6 * 7)")).stdout == "42\n"
            told: list[str] = []

            async def tell(text: str) -> None:
                await anyio.lowlevel.checkpoint()
                told.append(text)

            async def ask(size: int) -> str:
                await anyio.lowlevel.checkpoint()
                return "line\n"

            result = await client.run("print(input())", stdin=ask, on_stdout=tell)
            assert (result.ok, "".join(told)) == (True, "line\n")
            async with await client.session(files={"a": "b"}) as session:
                *events, last = [event async for event in session.stream("print(input())", stdin=ask)]
                assert events == [Printed("stdout", "line\n")]
                assert isinstance(last, Finished)
                async with contextlib.aclosing(session.stream("while True: print(1, flush=True)")) as stream:
                    assert await anext(stream) == Printed("stdout", "1\n")
                with anyio.CancelScope() as scope:
                    async for _ in session.stream("print(1, flush=True)\nwhile True: pass"):
                        scope.cancel()
                while True:
                    with contextlib.suppress(SessionBusy):
                        await session.exec("x = 1")
                        break
                assert (await session.eval("x, open('a').read()")).value == (1, "b")
                async with await session.snapshot() as kept:
                    await session.set("x", 2)
                    await session.restore(kept)
                    assert await session.get("x") == 1
                async with await session.fork() as copy:
                    assert (await copy.call("len", [1])).value == 1
            with pytest.raises(SandboxClosedError):
                await session.exec("1")

    anyio.run(use, backend=backend)


def test_both_have_the_same_methods() -> None:
    from proxybox import Session
    from proxybox.remote import aclient, client

    for one, other in (
        (client.Client, aclient.AsyncClient), (client.RemoteSession, aclient.AsyncRemoteSession),
        (client.RemoteSnapshot, aclient.AsyncRemoteSnapshot),
    ):  # fmt: skip
        public = [{name for name in vars(each) if not name.startswith("_")} for each in (one, other)]
        assert public[0] == public[1]
    missing = {name for name in dir(Session) if not name.startswith("_")} - set(dir(client.RemoteSession))
    assert missing <= {"alive", "audit", "files", "layers", "policy", "timeout", "usage", "sleep", "asleep"}
