"""What aclient.py is, for threads, and is made of: change that file, and then `make twins`."""

import contextlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, Self, TypeVar

try:
    import httpx
except ModuleNotFoundError as error:
    raise ImportError("a client of a service needs httpx: pip install 'proxybox[client]'") from error

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


class Client:
    """A remote service, used like a `Sandbox`.

    url: of the service; by default that of $PROXYBOX_URL, or a service on this machine. key: a bearer key; by default
    that of $PROXYBOX_KEY. policy, language: names that the service knows. retries: how often a request is sent again
    that the service has refused because of its load, after the time that it requests. record: a folder in which each
    run and each session stores a record. A client can be used from many threads.

    Methods raise the same exceptions as the local methods, and ServiceError for other failures of the service.
    """

    def __init__(
        self, url: str | None = None, key: str | None = None, *, policy: str | None = None, language: str | None = None,
        retries: int = 2, transport: httpx.BaseTransport | None = None, record: Where | None = None,
    ) -> None:  # fmt: skip
        self._taking = takes(record, None)
        self._chosen = {"policy": policy, "language": language}
        self._retries = retries
        self._http = httpx.Client(
            base_url=asks.where(url), headers=asks.authorization(key), transport=transport, follow_redirects=False,
            timeout=httpx.Timeout(10, read=None, pool=None),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connections. Sessions remain at the service until their time is over."""
        self._http.close()

    def run(
        self, code: Code, args: Sequence[str] = (), stdin: Any = None, files: Mapping[str, str | bytes] | None = None,
        *, timeout: float | str | None = None, check: bool = False, on_stdout: Taker = None, on_stderr: Taker = None,
        limits: Mapping[str, Any] | None = None, output: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None, record: Where | None = None,
    ) -> Result:  # fmt: skip
        """As `Sandbox.run`.

        A PathLike is a script here; only its own text is sent. stdin: also a function, which is called when the program
        asks for input. limits, output: tighter than the policy's. env: environment variables. record: a path for the
        record of this run, if the service allows records (limits.record).
        """
        taking = self._taking(record)
        ask = asks.program(
            code, args, stdin, files, timeout, on_stdout is not None or on_stderr is not None,
            limits=limits, output=output, env=env, taking=taking, **self._chosen,
        )  # fmt: skip
        result = self._result(ask, Conversation("", stdin, on_stdout, on_stderr, taking=taking))
        return result.check() if check else result

    def run_file(self, path: Code, *args: Any, **options: Any) -> Result:
        """Does what `run` does, for the script at `path`, which may be a str."""
        return self.run(AsPath(path), *args, **options)

    def session(
        self, *, files: Mapping[str, str | bytes] | None = None, timeout: float | str | None = None,
        limits: Mapping[str, Any] | None = None, output: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None, record: Where | None = None,
    ) -> "RemoteSession":  # fmt: skip
        """As `Sandbox.session`, with limits, output, env and record as for `run`.

        The record is fetched when the session is closed.
        """
        taking = self._taking(record)
        ask = asks.opening(files, timeout, taking, limits=limits, output=output, env=env, **self._chosen)
        return RemoteSession(self, self.ask(ask), taking)

    # --- requests -----------------------------------------------------------------------------------------------------

    def ask(self, ask: Ask[T]) -> T:
        """Sends a request, and returns the value that its `read` makes of the answer."""
        for left in reversed(range(self._retries + 1)):
            try:
                answer = self._http.request(
                    ask.method, ask.path, content=ask.body, headers=ask.headers, params=ask.params
                )
            except httpx.HTTPError as error:
                raise ServiceError(f"no answer from {self._http.base_url}: {error or type(error).__name__}") from error
            if answer.is_success:
                return ask.read(answer.content)
            self._pause(exception_of(answer.status_code, answer.content, answer.headers.get("retry-after")), left)
        raise AssertionError

    @staticmethod
    def _pause(error: Exception, left: int) -> None:
        """Waits before another try; raises the error if there is none."""
        if not left or not isinstance(error, ServiceError) or error.pause is None:
            raise error
        time.sleep(min(error.pause, LONGEST_PAUSE))

    def _result(self, ask: Ask[Result], conversation: Conversation) -> Result:
        if not ask.stream:
            return self.ask(ask)
        for _ in self._events(ask, conversation):
            pass
        return conversation.ended()

    def _events(self, ask: Ask[Any], conversation: Conversation) -> Generator[Any]:
        """Handles all events of a conversation, and yields the values that its functions return, except input."""
        with contextlib.closing(self._lines(ask)) as lines:
            for line in lines:
                function, arguments, is_input = conversation.take(line)
                answered = None if function is None else function(*arguments)
                if is_input:
                    text = as_bytes("stdin: what its function returned", answered).decode("utf-8", "surrogateescape")
                    self.ask(asks.input_for(conversation.answers_to, text))
                elif function is not None:
                    yield answered

    def _lines(self, ask: Ask[Any]) -> Generator[str]:
        for left in reversed(range(self._retries + 1)):
            try:
                with self._http.stream(ask.method, ask.path, content=ask.body, headers=ask.headers) as answer:
                    if answer.is_success:
                        yield from answer.iter_lines()
                        return
                    body, retry_after = answer.read(), answer.headers.get("retry-after")
            except httpx.HTTPError as error:
                raise ServiceError(f"no answer from {self._http.base_url}: {error or type(error).__name__}") from error
            self._pause(exception_of(answer.status_code, body, retry_after), left)


class RemoteSession(RecordedSession):
    """A remote session, used like a `Session`.

    record, record_fault, record_inexact, record_digest: of a session that was recorded and closed, as in a Result.
    """

    def __init__(self, client: Client, identity: str, taking: Taking | None = None) -> None:
        self._client, self._taking = client, taking
        self.id = identity

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the session, and fetches its record. It is no error if the session has already ended."""
        try:
            self._client.ask(asks.ending(self.id))
        except ProxyboxError as error:
            if not is_gone(error):
                raise
        if self._taking is not None:
            self._fetch(self._taking)

    def _fetch(self, taking: Taking) -> None:
        """Writes the record to its path, and removes it at the service. It is no error if the record is lost."""
        try:
            answered = self._client.ask(asks.recording(self.id, taking))
        except ProxyboxError as error:
            if not is_gone(error):
                raise
            answered = Recorded(record_fault=str(error))
        self._taking = None
        self._tell(answered)
        if answered.is_here:
            with contextlib.suppress(ProxyboxError):
                self._client.ask(asks.giving_up(self.id))

    def exec(
        self, code: str, *, name: str = "", echo: Echo = False, timeout: float | str | None = None, stdin: Any = None,
        check: bool = False, on_stdout: Taker = None, on_stderr: Taker = None,
        on_display: Callable[[Displayed], object] | None = None,
    ) -> Result:  # fmt: skip
        """As `Session.exec`."""
        streams = any(taker is not None for taker in (on_stdout, on_stderr, on_display))
        mode = asks.mode_of(echo)
        ask = asks.code_in(self.id, mode, code, name=name, timeout=timeout, stdin=stdin, streams=streams)
        path = f"/v1/sessions/{self.id}"
        result = self._client._result(ask, Conversation(path, stdin, on_stdout, on_stderr, on_display))
        return result.check() if check else result

    def eval(self, code: str, *, timeout: float | str | None = None, stdin: Any = None, check: bool = False) -> Result:
        """As `Session.eval`."""
        ask = asks.code_in(self.id, "eval", code, timeout=timeout, stdin=stdin, streams=False)
        result = self._client._result(ask, Conversation(f"/v1/sessions/{self.id}", stdin, None, None))
        return result.check() if check else result

    def stream(
        self, code: str, *, name: str = "", echo: Echo = False, timeout: float | str | None = None, stdin: Any = None,
        check: bool = False,
    ) -> Generator[Printed | Displayed | Finished]:  # fmt: skip
        """As `Session.stream`."""
        mode = asks.mode_of(echo)
        ask = asks.code_in(self.id, mode, code, name=name, timeout=timeout, stdin=stdin, streams=True)
        conversation = asks.for_stream(self.id, stdin)
        with contextlib.closing(self._client._events(ask, conversation)) as events:
            for event in events:
                try:
                    yield event
                except BaseException:  # the reader has left; the session can be used again when its call has ended
                    with contextlib.suppress(ProxyboxError):
                        self.interrupt()
                        for _ in events:
                            pass
                    raise
        result = conversation.ended()
        yield Finished(result.check() if check else result)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result:
        """As `Session.call`."""
        return self._client.ask(asks.call_in(self.id, name, args, kwargs))

    def set(self, name: str, value: Any) -> None:
        """As `Session.set`."""
        self._client.ask(asks.setting(self.id, name, value))

    def get(self, name: str) -> Any:
        """As `Session.get`."""
        return self._client.ask(asks.getting(self.id, name))

    def complete(self, code: str, cursor: int | None = None) -> Completion:
        """As `Session.complete`."""
        return self._client.ask(asks.completion(self.id, code, cursor))

    def inspect(self, code: str, cursor: int | None = None, detail: int = 0) -> Inspection | None:
        """As `Session.inspect`."""
        return self._client.ask(asks.inspection(self.id, code, cursor, detail))

    def is_complete(self, code: str) -> Completeness:
        """As `Session.is_complete`."""
        return self._client.ask(asks.completeness(self.id, code))

    def interrupt(self) -> None:
        """As `Session.interrupt`: from another thread."""
        self._client.ask(asks.plain(self.id, "interrupt"))

    def reset(self) -> None:
        """As `Session.reset`."""
        self._client.ask(asks.plain(self.id, "reset"))

    def read_file(self, path: str) -> bytes:
        """As `Session.read_file`."""
        return self._client.ask(asks.reading(self.id, path))

    def write_file(self, path: str, data: bytes | str, *, parents: bool = False) -> None:
        """As `Session.write_file`."""
        self._client.ask(asks.writing(self.id, path, data, parents))

    def list_files(self, path: str = ".") -> list[FileEntry]:
        """As `Session.list_files`."""
        return self._client.ask(asks.listing(self.id, path))

    def fork(self) -> "RemoteSession":
        """As `Session.fork`."""
        return RemoteSession(self._client, self._client.ask(asks.forking(self.id)))

    def snapshot(self) -> "RemoteSnapshot":
        """As `Session.snapshot`."""
        return RemoteSnapshot(self, self._client.ask(asks.keeping(self.id)))

    def restore(self, snapshot: "RemoteSnapshot") -> None:
        """As `Session.restore`."""
        self._client.ask(asks.restoring(self.id, snapshot.id))


class RemoteSnapshot:
    """A stored state of a remote session."""

    def __init__(self, session: RemoteSession, identity: str) -> None:
        self._session = session
        self.id = identity

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the stored state."""
        self._session._client.ask(asks.forgetting(self._session.id, self.id))
