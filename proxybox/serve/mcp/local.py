"""The tools over standard input and output, for one client: `proxybox mcp`. Its boxes are started by this process."""

import base64
import errno
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from proxybox.serve.mcp.server import Tools  # isort: skip - reports which extra to install

import anyio
import attrs
from mcp.server.stdio import stdio_server

from proxybox.aio.sandbox import AsyncSandbox
from proxybox.aio.session import AsyncSession
from proxybox.commands import Displayed
from proxybox.errors import ProxyboxError, SandboxClosedError, SandboxStartError, SessionBusy
from proxybox.jsonvalues import JSONObject
from proxybox.policies import Policy
from proxybox.serve.mcp.boxes import McpClient, OnEvent
from proxybox.serve.problems import Refusal
from proxybox.serve.results import display_event, result_as_json
from proxybox.streamevents import Stream, TextEvent

#: The most sessions at once; a client with a connection needs one.
_MOST_SESSIONS: Final = 4
#: The kind of refusal for each exception.
_REFUSALS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (SandboxClosedError, "session-ended"), (SessionBusy, "session-busy"), (SandboxStartError, "cannot-start"),
    (ProxyboxError, "invalid"), (ValueError, "invalid"), (TypeError, "invalid"),
)  # fmt: skip


def serve(sandbox: AsyncSandbox) -> None:
    """Serves the client at standard input and output, until the input ends."""
    anyio.run(_serve, sandbox)


async def _serve(sandbox: AsyncSandbox) -> None:
    async with sandbox, stdio_server() as (received, sent):
        client = McpClient(boxes=LocalBoxes(sandbox), connection="stdio")
        server = Tools(lambda _: client).server
        await server.run(received, sent, server.create_initialization_options())


class LocalBoxes:
    """The boxes of a sandbox (boxes.py)."""

    def __init__(self, sandbox: AsyncSandbox) -> None:
        self._sandbox = sandbox
        self._sessions: dict[str, AsyncSession] = {}
        self._numbers = count(1)

    @property
    def policy(self) -> Policy:
        """As `McpBoxes.policy`."""
        return self._sandbox.policy

    async def run(self, asked: Mapping[str, Any], on_event: OnEvent | None) -> JSONObject:
        """As `McpBoxes.run`."""
        with _refusing():
            result = await self._sandbox.run(
                asked["code"], (), asked["stdin"], asked["files"] or None, timeout=asked["timeout"],
                on_stdout=_reader("stdout", on_event), on_stderr=_reader("stderr", on_event),
            )  # fmt: skip
            return result_as_json(result, contents=True)

    async def open(self) -> str:
        """As `McpBoxes.open`."""
        if len(self._sessions) >= _MOST_SESSIONS:
            raise Refusal("overloaded", f"there are {_MOST_SESSIONS} kept boxes already")
        with _refusing():
            session = await self._sandbox.session(stdin=b"")
        name = str(next(self._numbers))
        self._sessions[name] = session
        return name

    async def command(self, session: str, command: str, on_event: OnEvent | None = None, **asked: Any) -> JSONObject:
        """As `McpBoxes.command`."""
        found = self._sessions.get(session)
        if found is None:
            raise Refusal("session-ended", "there is no such box, or it has ended")
        with _refusing():
            try:
                return await _COMMANDS[command](found, asked, on_event)
            finally:
                if not found.alive:
                    del self._sessions[session]
                    await found.close()

    async def end(self, session: str) -> None:
        """As `McpBoxes.end`."""
        found = self._sessions.pop(session, None)
        if found is not None:
            await found.close()

    def living(self) -> Collection[str]:
        """As `McpBoxes.living`."""
        return self._sessions.keys()


async def _exec(session: AsyncSession, asked: Mapping[str, Any], on_event: OnEvent | None) -> JSONObject:
    async def show(shown: Displayed) -> None:
        if on_event is not None:
            await on_event(display_event(shown))

    result = await session.exec(
        asked["code"], echo=True, stdin=asked["stdin"], timeout=asked["timeout"], on_display=show,
        on_stdout=_reader("stdout", on_event), on_stderr=_reader("stderr", on_event),
    )  # fmt: skip
    return {**result_as_json(result), "alive": session.alive}


async def _list_files(session: AsyncSession, asked: Mapping[str, Any], _: OnEvent | None) -> JSONObject:
    return {"entries": [attrs.asdict(entry) for entry in await session.list_files(asked["path"])]}


async def _read_file(session: AsyncSession, asked: Mapping[str, Any], _: OnEvent | None) -> JSONObject:
    return {"base64": base64.b64encode(await session.read_file(asked["path"], asked["limit"])).decode()}


_COMMANDS: Final[Mapping[str, Callable[[AsyncSession, Mapping[str, Any], OnEvent | None], Awaitable[JSONObject]]]] = {
    "exec": _exec,
    "list_files": _list_files,
    "read_file": _read_file,
}


def _reader(stream: Stream, on_event: OnEvent | None) -> Callable[[str], Awaitable[None]] | None:
    """Returns a callback for the text that a program prints to a stream."""
    if on_event is None:
        return None

    async def read(text: str) -> None:
        await on_event(TextEvent(stream, text))

    return read


@contextmanager
def _refusing() -> Iterator[None]:
    """Turns exceptions of the API into refusals."""
    try:
        yield
    except OSError as error:
        kind = errno.errorcode.get(error.errno or errno.EIO, "EIO")
        raise Refusal("file-error", error.strerror or kind, errno=kind) from None
    except (ProxyboxError, ValueError, TypeError) as error:
        raise Refusal(next(name for kind, name in _REFUSALS if isinstance(error, kind)), str(error)) from None
