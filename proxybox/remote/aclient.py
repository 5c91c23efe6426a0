"""A client of a service, for event loops. client.py, for threads, is generated from this file: `make twins`."""

import contextlib
import inspect
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Self, TypeVar

try:
    import httpx
except ModuleNotFoundError as error:
    raise ImportError("a client of a service needs httpx: pip install 'proxybox[client]'") from error

import anyio

from proxybox.commands import Completeness, Completion, Displayed, Echo, Inspection
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.errors import ProxyboxError
from proxybox.policies.checks import as_bytes
from proxybox.records.taking import Taking, Where
from proxybox.remote import asks
from proxybox.remote.answers import Recorded, RecordedSession, ServiceError, exception_of, is_gone
from proxybox.remote.asks import Ask, Conversation
from proxybox.result import Result
from proxybox.sandbox import AsPath, Code, takes
from proxybox.session import Finished, Printed

T = TypeVar("T")
Taker = Callable[[str], Any] | None

#: The most seconds that a client waits before another try.
LONGEST_PAUSE = 10.0


class AsyncClient:
    """A remote service, used like an `AsyncSandbox`.

    url: of the service; by default that of $PROXYBOX_URL, or a service on this machine. key: a bearer key; by default
    that of $PROXYBOX_KEY. policy, language: names that the service knows. retries: how often a request is sent again
    that the service has refused because of its load, after the time that it requests. record: a folder in which each
    run and each session stores a record. A client can be used from many tasks.

    Methods raise the same exceptions as the local methods, and ServiceError for other failures of the service.

    In an event loop: callbacks may be coroutine functions.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, policy: str | None = None, language: str | None = None,
        retries: int = 2, transport: httpx.AsyncBaseTransport | None = None, record: Where | None = None,
    ) -> None:  # fmt: skip
        self._taking = takes(record, None)
        self._chosen = {"policy": policy, "language": language}
        self._retries = retries
        self._http = httpx.AsyncClient(
            base_url=asks.where(url), headers=asks.authorization(key), transport=transport, follow_redirects=False,
            timeout=httpx.Timeout(10, read=None, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )  # fmt: skip

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections. Sessions remain at the service until their time is over."""
        await self._http.aclose()

    async def run(
        self, code: Code, args: Sequence[str] = (), stdin: Any = None, files: Mapping[str, str | bytes] | None = None,
        *, timeout: float | str | None = None, check: bool = False, on_stdout: Taker = None, on_stderr: Taker = None,
        limits: Mapping[str, Any] | None = None, output: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None, record: Where | None = None,
    ) -> Result:  # fmt: skip
        """As `AsyncSandbox.run`.

        A PathLike is a script here; only its own text is sent. stdin: also a function, which is called when the program
        asks for input. limits, output: tighter than the policy's. env: environment variables. record: a path for the
        record of this run, if the service allows records (limits.record).
        """
        taking = self._taking(record)
        ask = asks.program(
            code, args, stdin, files, timeout, on_stdout is not None or on_stderr is not None,
            limits=limits, output=output, env=env, taking=taking, **self._chosen,
        )  # fmt: skip
        result = await self._result(ask, Conversation("", stdin, on_stdout, on_stderr, taking=taking))
        return result.check() if check else result

    async def run_file(self, path: Code, *args: Any, **options: Any) -> Result:
        """Does what `run` does, for the script at `path`, which may be a str."""
        return await self.run(AsPath(path), *args, **options)

    async def session(
        self, *, files: Mapping[str, str | bytes] | None = None, timeout: float | str | None = None,
        limits: Mapping[str, Any] | None = None, output: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None, record: Where | None = None,
    ) -> "AsyncRemoteSession":  # fmt: skip
        """As `AsyncSandbox.session`, with limits, output, env and record as for `run`.

        The record is fetched when the session is closed.
        """
        taking = self._taking(record)
        ask = asks.opening(files, timeout, taking, limits=limits, output=output, env=env, **self._chosen)
        return AsyncRemoteSession(self, await self.ask(ask), taking)

    # --- requests -----------------------------------------------------------------------------------------------------

    async def ask(self, ask: Ask[T]) -> T:
        """Sends a request, and returns the value that its `read` makes of the answer."""
        for left in reversed(range(self._retries + 1)):
            try:
                answer = await self._http.request(
                    ask.method, ask.path, content=ask.body, headers=ask.headers, params=ask.params
                )
            except httpx.HTTPError as error:
                raise ServiceError(f"no answer from {self._http.base_url}: {error or type(error).__name__}") from error
            if answer.is_success:
                return ask.read(answer.content)
            await self._pause(exception_of(answer.status_code, answer.content, answer.headers.get("retry-after")), left)
        raise AssertionError

    @staticmethod
    async def _pause(error: Exception, left: int) -> None:
        """Waits before another try; raises the error if there is none."""
        if not left or not isinstance(error, ServiceError) or error.pause is None:
            raise error
        await anyio.sleep(min(error.pause, LONGEST_PAUSE))

    async def _result(self, ask: Ask[Result], conversation: Conversation) -> Result:
        if not ask.stream:
            return await self.ask(ask)
        async for _ in self._events(ask, conversation):
            pass
        return conversation.ended()

    async def _events(self, ask: Ask[Any], conversation: Conversation) -> AsyncGenerator[Any]:
        """Handles all events of a conversation, and yields the values that its functions return, except input."""
        async with contextlib.aclosing(self._lines(ask)) as lines:
            async for line in lines:
                function, arguments, is_input = conversation.take(line)
                answered = None if function is None else function(*arguments)
                if inspect.isawaitable(answered):
                    answered = await answered
                if is_input:
                    text = as_bytes("stdin: what its function returned", answered).decode("utf-8", "surrogateescape")
                    await self.ask(asks.input_for(conversation.answers_to, text))
                elif function is not None:
                    yield answered

    async def _lines(self, ask: Ask[Any]) -> AsyncGenerator[str]:
        for left in reversed(range(self._retries + 1)):
            try:
                async with self._http.stream(ask.method, ask.path, content=ask.body, headers=ask.headers) as answer:
                    if answer.is_success:
                        async for line in answer.aiter_lines():
                            yield line
                        return
                    body, retry_after = await answer.aread(), answer.headers.get("retry-after")
            except httpx.HTTPError as error:
                raise ServiceError(f"no answer from {self._http.base_url}: {error or type(error).__name__}") from error
            await self._pause(exception_of(answer.status_code, body, retry_after), left)


class AsyncRemoteSession(RecordedSession):
    """A remote session, used like an `AsyncSession`.

    record, record_fault, record_inexact, record_digest: of a session that was recorded and closed, as in a Result.
    """

    def __init__(self, client: AsyncClient, identity: str, taking: Taking | None = None) -> None:
        self._client, self._taking = client, taking
        self.id = identity

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the session, and fetches its record. It is no error if the session has already ended."""
        try:
            await self._client.ask(asks.ending(self.id))
        except ProxyboxError as error:
            if not is_gone(error):
                raise
        if self._taking is not None:
            await self._fetch(self._taking)

    async def _fetch(self, taking: Taking) -> None:
        """Writes the record to its path, and removes it at the service. It is no error if the record is lost."""
        try:
            answered = await self._client.ask(asks.recording(self.id, taking))
        except ProxyboxError as error:
            if not is_gone(error):
                raise
            answered = Recorded(record_fault=str(error))
        self._taking = None
        self._tell(answered)
        if answered.is_here:
            with contextlib.suppress(ProxyboxError):
                await self._client.ask(asks.giving_up(self.id))

    async def exec(
        self, code: str, *, name: str = "", echo: Echo = False, timeout: float | str | None = None, stdin: Any = None,
        check: bool = False, on_stdout: Taker = None, on_stderr: Taker = None,
        on_display: Callable[[Displayed], object] | None = None,
    ) -> Result:  # fmt: skip
        """As `AsyncSession.exec`."""
        streams = any(taker is not None for taker in (on_stdout, on_stderr, on_display))
        mode = asks.mode_of(echo)
        ask = asks.code_in(self.id, mode, code, name=name, timeout=timeout, stdin=stdin, streams=streams)
        path = f"/v1/sessions/{self.id}"
        result = await self._client._result(ask, Conversation(path, stdin, on_stdout, on_stderr, on_display))
        return result.check() if check else result

    async def eval(
        self, code: str, *, timeout: float | str | None = None, stdin: Any = None, check: bool = False
    ) -> Result:
        """As `AsyncSession.eval`."""
        ask = asks.code_in(self.id, "eval", code, timeout=timeout, stdin=stdin, streams=False)
        result = await self._client._result(ask, Conversation(f"/v1/sessions/{self.id}", stdin, None, None))
        return result.check() if check else result

    async def stream(
        self, code: str, *, name: str = "", echo: Echo = False, timeout: float | str | None = None, stdin: Any = None,
        check: bool = False,
    ) -> AsyncGenerator[Printed | Displayed | Finished]:  # fmt: skip
        """As `AsyncSession.stream`.

        In an event loop: when its task is cancelled while it waits for an event, the service interrupts the program,
        and the session is busy until that has ended.
        """
        mode = asks.mode_of(echo)
        ask = asks.code_in(self.id, mode, code, name=name, timeout=timeout, stdin=stdin, streams=True)
        conversation = asks.for_stream(self.id, stdin)
        async with contextlib.aclosing(self._client._events(ask, conversation)) as events:
            async for event in events:
                try:
                    yield event
                except BaseException:  # the reader has left; the session can be used again when its call has ended
                    with anyio.CancelScope(shield=True), contextlib.suppress(ProxyboxError):
                        await self.interrupt()
                        async for _ in events:
                            pass
                    raise
        result = conversation.ended()
        yield Finished(result.check() if check else result)

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result:
        """As `AsyncSession.call`."""
        return await self._client.ask(asks.call_in(self.id, name, args, kwargs))

    async def set(self, name: str, value: Any) -> None:
        """As `AsyncSession.set`."""
        await self._client.ask(asks.setting(self.id, name, value))

    async def get(self, name: str) -> Any:
        """As `AsyncSession.get`."""
        return await self._client.ask(asks.getting(self.id, name))

    async def complete(self, code: str, cursor: int | None = None) -> Completion:
        """As `AsyncSession.complete`."""
        return await self._client.ask(asks.completion(self.id, code, cursor))

    async def inspect(self, code: str, cursor: int | None = None, detail: int = 0) -> Inspection | None:
        """As `AsyncSession.inspect`."""
        return await self._client.ask(asks.inspection(self.id, code, cursor, detail))

    async def is_complete(self, code: str) -> Completeness:
        """As `AsyncSession.is_complete`."""
        return await self._client.ask(asks.completeness(self.id, code))

    async def interrupt(self) -> None:
        """As `AsyncSession.interrupt`: from another task."""
        await self._client.ask(asks.plain(self.id, "interrupt"))

    async def reset(self) -> None:
        """As `AsyncSession.reset`."""
        await self._client.ask(asks.plain(self.id, "reset"))

    async def read_file(self, path: str) -> bytes:
        """As `AsyncSession.read_file`."""
        return await self._client.ask(asks.reading(self.id, path))

    async def write_file(self, path: str, data: bytes | str, *, parents: bool = False) -> None:
        """As `AsyncSession.write_file`."""
        await self._client.ask(asks.writing(self.id, path, data, parents))

    async def list_files(self, path: str = ".") -> list[FileEntry]:
        """As `AsyncSession.list_files`."""
        return await self._client.ask(asks.listing(self.id, path))

    async def fork(self) -> "AsyncRemoteSession":
        """As `AsyncSession.fork`."""
        return AsyncRemoteSession(self._client, await self._client.ask(asks.forking(self.id)))

    async def snapshot(self) -> "AsyncRemoteSnapshot":
        """As `AsyncSession.snapshot`."""
        return AsyncRemoteSnapshot(self, await self._client.ask(asks.keeping(self.id)))

    async def restore(self, snapshot: "AsyncRemoteSnapshot") -> None:
        """As `AsyncSession.restore`."""
        await self._client.ask(asks.restoring(self.id, snapshot.id))


class AsyncRemoteSnapshot:
    """A stored state of a remote session."""

    def __init__(self, session: AsyncRemoteSession, identity: str) -> None:
        self._session = session
        self.id = identity

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Removes the stored state."""
        await self._session._client.ask(asks.forgetting(self._session.id, self.id))
