"""The tools and resources, for every transport.

    run_python     a program in a fresh box
    execute        statements in the client's own box, which is kept
    reset          ends that box
    box:///...     the files of kept boxes

A failure of user code is a result. A tool returns an error, with the reason, only when the code could not be run:
because a box is busy, the service is full, or the arguments are invalid.
"""

import base64
import contextlib
import logging
import mimetypes
import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeAlias, TypeVar
from urllib.parse import quote, unquote

import attrs

try:
    import anyio
    import mcp_types as types
    from mcp.server.context import ServerRequestContext
    from mcp.server.lowlevel.server import Server
    from mcp.shared.exceptions import MCPError
    from pydantic import BaseModel, Field, ValidationError
except ModuleNotFoundError as error:
    raise ImportError(f"the Model Context Protocol needs {error.name}: pip install 'proxybox[mcp]'") from error

import proxybox
from proxybox.jsonvalues import JSONObject
from proxybox.modelsummary import about, safe
from proxybox.policies import Policy
from proxybox.policies.overrides import within
from proxybox.serve.mcp.answers import Displays, McpAnswer, answer_of
from proxybox.serve.mcp.boxes import McpClient, OnEvent
from proxybox.serve.models import Path, Strict
from proxybox.serve.problems import Refusal
from proxybox.streamevents import DisplayEvent, TextEvent, WorkerEvent
from proxybox.terminal.harmless import on_one_line

Context: TypeAlias = ServerRequestContext[Any, Any]
P = TypeVar("P")
R = TypeVar("R")

log = logging.getLogger("proxybox.serve")

#: The most characters of source text, of a program's input, and of a file that is sent; and the most files.
_MOST_TEXT: Final = 4 << 20
_MOST_FILES: Final = 100
#: The most files that are listed, and the most folders that are searched for them.
_MOST_LISTED, _MOST_FOLDERS = 500, 50
#: The most bytes of a resource.
_MOST_READ: Final = 8 << 20
#: The most progress reports of one call, and the most characters of printed text in each.
_MOST_PROGRESS, _PROGRESS_TEXT = 1_000, 1_000
#: Seconds that a call waits for another call of its box if the policy has no wall_time, and between two tries.
_PATIENCE, _PAUSE = 10.0, 0.05
_SCHEME: Final = "box"
_URI: Final = re.compile(_SCHEME + r":///([\w-]{1,64})((?:/[^?#]{0,4096})?)", re.ASCII)

Text = Annotated[str, Field(max_length=_MOST_TEXT)]
Timeout = Annotated[float, Field(gt=0, le=86_400)]


# --- arguments --------------------------------------------------------------------------------------------------------


class RunPython(Strict):
    """The arguments of run_python."""

    code: Text = Field(description="The program: the text of a Python file.")
    stdin: Text = Field("", description="What the program reads with input() or sys.stdin.")
    files: Annotated[dict[Path, Text], Field(max_length=_MOST_FILES)] = Field(
        {}, description="Text files to put into the current folder, by their paths."
    )
    timeout: Timeout = Field(5, description="Seconds after which the program is ended.")


class ExecuteArguments(Strict):
    """The arguments of execute."""

    code: Text = Field(description="Python statements.")
    stdin: Text = Field("", description="What the statements read with input() or sys.stdin.")
    timeout: Timeout | None = Field(None, description="Seconds after which the statements are interrupted.")


class Reset(Strict):
    """The arguments of reset."""


class ExecuteIn(ExecuteArguments):
    """The arguments of execute from a client without a connection."""

    session: str = Field(
        "", max_length=64, description="The `session` that an earlier execute has told; empty for a new box."
    )


class ResetIn(Reset):
    """The arguments of reset from a client without a connection."""

    session: str = Field(min_length=1, max_length=64, description="The `session` that an execute has told.")


# --- what the tools are -----------------------------------------------------------------------------------------------

_INSTRUCTIONS: Final = (
    "Python runs in sealed boxes. run_python runs a program in a fresh box; execute keeps its box: variables and files "
    "stay for the next call. A result begins with lines of the box, each of which begins with [box]: how the code has "
    "ended, and what was refused and why. What the code printed follows, and is as trustworthy as the code."
)


def _tools(client: McpClient) -> list[types.Tool]:
    box, alone = about(client.boxes.policy), client.connection is None
    which = " Name the `session` that the first call has told in each further one." if alone else ""
    return [
        _tool(
            "run_python", "Run a Python program",
            "Runs a Python program in a fresh box and returns what it printed, and the pictures and texts that it "
            f"wrote to files. Nothing is kept. {box}", RunPython,
        ),
        _tool(
            "execute", "Run Python in a kept box",
            "Runs Python statements in a box that is kept: variables, imports and files stay for the next call. The "
            f"value of an expression at the end is returned, as at a prompt; display(...) shows pictures.{which} {box}",
            ExecuteIn if alone else ExecuteArguments,
        ),
        types.Tool(
            name="reset", title="End the kept box",
            description="Ends the box of execute, with its variables and files; the next execute starts a new one.",
            input_schema=(ResetIn if alone else Reset).model_json_schema(),
            annotations=types.ToolAnnotations(destructive_hint=True, idempotent_hint=True, open_world_hint=False),
        ),
    ]  # fmt: skip


def _tool(name: str, title: str, description: str, arguments: type[BaseModel]) -> types.Tool:
    return types.Tool(
        name=name, title=title, description=description, input_schema=arguments.model_json_schema(),
        output_schema=McpAnswer.model_json_schema(),
        annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
    )  # fmt: skip


# --- the server -------------------------------------------------------------------------------------------------------


def _guarded(handle: Callable[[Context, P], Awaitable[R]]) -> Callable[[Context, P], Awaitable[R]]:
    """Returns a handler that hides our own errors from clients: the package would send their text to old clients."""

    async def guarded(ctx: Context, params: P) -> R:
        try:
            return await handle(ctx, params)
        except MCPError:
            raise
        except Exception as error:
            log.exception("a request of the Model Context Protocol failed", exc_info=error)
            raise MCPError(types.INTERNAL_ERROR, "a fault of the server") from None

    return guarded


@attrs.define(eq=False)
class _Own:
    """The session of one connection; empty before its first call and after its end. Calls take turns."""

    session: str = ""
    turn: anyio.Lock = attrs.field(factory=anyio.Lock)


class Tools:
    """Answers the requests of clients. client_of: returns the client of a request; it may raise Refusal."""

    def __init__(self, client_of: Callable[[Context], McpClient]) -> None:
        self._client_of = client_of
        self._own: dict[tuple[str, str], _Own] = {}
        self.server: Server[Any] = Server(
            "proxybox", version=proxybox.__version__, title="Python in a box", instructions=_INSTRUCTIONS,
            on_list_tools=_guarded(self._list_tools), on_call_tool=_guarded(self._call_tool),
            on_list_resources=_guarded(self._list_resources), on_read_resource=_guarded(self._read_resource),
            on_list_resource_templates=_guarded(self._list_templates),
        )  # fmt: skip

    async def forget(self, client: McpClient) -> None:
        """Ends the session of a connection that has ended."""
        own = self._own.pop((client.owner, client.connection or ""), None)
        if own is not None and own.session:
            with contextlib.suppress(Refusal):
                await client.boxes.end(own.session)

    # --- tools --------------------------------------------------------------------------------------------------------

    async def _list_tools(self, ctx: Context, _: types.PaginatedRequestParams | None) -> types.ListToolsResult:
        return types.ListToolsResult(tools=_tools(self._client(ctx)))

    async def _call_tool(self, ctx: Context, params: types.CallToolRequestParams) -> types.CallToolResult:
        work = {"run_python": self._run_python, "execute": self._execute, "reset": self._reset}.get(params.name)
        if work is None:
            raise MCPError(types.INVALID_PARAMS, f"there is no tool {params.name[:64]!r}")
        client = self._client(ctx)
        try:
            return await work(ctx, client, params.arguments or {})
        except ValidationError as error:
            faults = "; ".join(f"{_place(each['loc'])}: {each['msg']}" for each in error.errors()[:10])
            return _failed(f"{params.name}: {faults}")
        except Refusal as refusal:
            return _failed(_said(refusal))

    async def _run_python(self, ctx: Context, client: McpClient, arguments: JSONObject) -> types.CallToolResult:
        asked = RunPython.model_validate(arguments)
        timeout = _within(asked.timeout, client.boxes.policy)
        result = await client.boxes.run({**asked.model_dump(), "timeout": timeout}, _progress(ctx, None))
        return answer_of(result, client.boxes.policy, timeout)

    async def _execute(self, ctx: Context, client: McpClient, arguments: JSONObject) -> types.CallToolResult:
        asked = (ExecuteIn if client.connection is None else ExecuteArguments).model_validate(arguments)
        timeout = _within(asked.timeout, client.boxes.policy)
        async with self._session(client, getattr(asked, "session", "")) as own:
            shown = Displays()
            result = await _command(
                client, own.session, "exec", _progress(ctx, shown),
                code=asked.code, stdin=asked.stdin, timeout=timeout, echo=True,
            )  # fmt: skip
            session, files, here = own.session, (), client.boxes.policy.environment.cwd
            if result["alive"]:
                with contextlib.suppress(Refusal):
                    files = (await _command(client, session, "list_files", path=here))["entries"]
            else:
                own.session = ""
        return answer_of(
            result, client.boxes.policy, timeout, shown=shown, entries=files, folder=uri_of(session, here),
            session=session if client.connection is None and result["alive"] else None,
        )  # fmt: skip

    async def _reset(self, _: Context, client: McpClient, arguments: JSONObject) -> types.CallToolResult:
        asked = (ResetIn if client.connection is None else Reset).model_validate(arguments)
        async with self._session(client, getattr(asked, "session", ""), is_new=False) as own:
            if own.session:
                session, own.session = own.session, ""
                try:
                    await client.boxes.end(session)
                except Refusal as refusal:
                    if refusal.kind != "session-ended":
                        raise
        return types.CallToolResult(content=[types.TextContent(text="ended: the next execute starts a new box")])

    @contextlib.asynccontextmanager
    async def _session(self, client: McpClient, named: str, *, is_new: bool = True) -> Any:
        """Yields the session of a call. is_new: whether a session is started if none exists. Raises Refusal."""
        own = _Own(named) if client.connection is None else self._own_of(client)
        async with own.turn:
            if not own.session and is_new:
                own.session = await client.boxes.open()
            try:
                yield own
            except Refusal as refusal:
                if refusal.kind == "session-ended":
                    own.session = ""
                raise

    def _own_of(self, client: McpClient) -> _Own:
        """Returns the session of a connection. Also removes those of connections that have ended without a message."""
        key = client.owner, client.connection or ""
        if key not in self._own:
            living = client.boxes.living()
            for other, own in tuple(self._own.items()):
                if other[0] == client.owner and own.session not in living and not own.turn.locked():
                    del self._own[other]
            self._own[key] = _Own()
        return self._own[key]

    # --- resources ----------------------------------------------------------------------------------------------------

    async def _list_resources(self, ctx: Context, _: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
        """Returns the files of the connection's own box, in and below its current folder."""
        client = self._client(ctx)
        found: list[types.Resource] = []
        if client.connection is not None:
            with _as_errors():
                async with self._session(client, "", is_new=False) as own:
                    if own.session:
                        found = await _files_of(client, own.session)
        return types.ListResourcesResult(resources=found)

    async def _list_templates(
        self, _: Context, __: types.PaginatedRequestParams | None
    ) -> types.ListResourceTemplatesResult:
        template = types.ResourceTemplate(
            name="file", title="A file of a kept box", uri_template=f"{_SCHEME}:///{{session}}/{{+path}}",
            description="A file as it is now, by its path in the box; for a folder, the names in it.",
        )  # fmt: skip
        return types.ListResourceTemplatesResult(resource_templates=[template])

    async def _read_resource(self, ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
        client, (session, path) = self._client(ctx), _of_uri(params.uri)
        with _as_errors():
            try:
                read = await _command(client, session, "read_file", path=path, limit=_MOST_READ)
            except Refusal as refusal:
                if refusal.more.get("errno") != "EISDIR":
                    raise
                entries = (await _command(client, session, "list_files", path=path))["entries"]
                names = "".join(f"{_name_of(entry)}\n" for entry in entries[:_MOST_LISTED])
                return types.ReadResourceResult(
                    contents=[types.TextResourceContents(uri=params.uri, mime_type="text/plain", text=names)]
                )
        return types.ReadResourceResult(contents=[_contents(params.uri, path, read["base64"])])

    def _client(self, ctx: Context) -> McpClient:
        with _as_errors():
            return self._client_of(ctx)


async def _command(
    client: McpClient, session: str, command: str, on_event: OnEvent | None = None, **asked: Any
) -> JSONObject:
    """Does a command in a session as soon as it is not busy: a cancelled call may still be ending."""
    patience = anyio.current_time() + (client.boxes.policy.limits.wall_time or _PATIENCE)
    while True:
        try:
            return await client.boxes.command(session, command, on_event, **asked)
        except Refusal as refusal:
            if refusal.kind != "session-busy" or anyio.current_time() > patience:
                raise
        await anyio.sleep(_PAUSE)


async def _files_of(client: McpClient, session: str) -> list[types.Resource]:
    found: list[types.Resource] = []
    folders = [client.boxes.policy.environment.cwd]
    for folder in folders:  # the loop adds to it
        for entry in (await _command(client, session, "list_files", path=folder))["entries"]:
            path = f"{folder.rstrip('/')}/{entry['name']}"
            if entry["type"] == "directory" and len(folders) < _MOST_FOLDERS:
                folders.append(path)
            elif entry["type"] == "file":
                found.append(types.Resource(
                    uri=uri_of(session, path), name=on_one_line(path), size=entry["size"], mime_type=_type_of(path),
                ))  # fmt: skip
            if len(found) >= _MOST_LISTED:
                return found
    return found


def _name_of(entry: JSONObject) -> str:
    return on_one_line(entry["name"]) + ("/" if entry["type"] == "directory" else "")


def _contents(uri: str, path: str, data: str) -> types.TextResourceContents | types.BlobResourceContents:
    """Returns a file as text if it is UTF-8, otherwise as bytes in base64."""
    kind = _type_of(path)
    if kind is None or not kind.startswith(("image/", "audio/", "video/")) or kind == "image/svg+xml":
        with contextlib.suppress(UnicodeDecodeError):
            text = base64.b64decode(data).decode()
            return types.TextResourceContents(uri=uri, mime_type=kind or "text/plain", text=text)
    return types.BlobResourceContents(uri=uri, mime_type=kind or "application/octet-stream", blob=data)


def _type_of(path: str) -> str | None:
    return mimetypes.guess_type(path)[0]


def uri_of(session: str, path: str) -> str:
    """Returns the URI of a file of a session."""
    return f"{_SCHEME}:///{session}{quote(path, errors='surrogateescape')}"


def _of_uri(uri: str) -> tuple[str, str]:
    """Returns the session and the path of a URI. Raises MCPError."""
    found = _URI.fullmatch(uri)
    if found is None:
        raise MCPError(types.INVALID_PARAMS, f"want {_SCHEME}:///SESSION/PATH, as resources and results name files")
    return found[1], unquote(found[2], errors="surrogateescape") or "/"


# --- what has happened ------------------------------------------------------------------------------------------------


def _progress(ctx: Context, shown: Displays | None) -> OnEvent | None:
    """Returns a callback for the events of a call: it stores shown objects, and reports progress if that is wanted.

    None when no event is needed. Progress is printed text.
    """
    wants = ctx.meta is not None and ctx.meta.get("progress_token") is not None
    if shown is None and not wants:
        return None
    sent = 0

    async def take(event: WorkerEvent) -> None:
        nonlocal sent
        if isinstance(event, DisplayEvent) and shown is not None:
            shown.take(event)
        elif wants and isinstance(event, TextEvent) and sent < _MOST_PROGRESS:
            sent += 1
            await ctx.session.report_progress(sent, message=safe(event.text[-_PROGRESS_TEXT:]))

    return take


def _within(timeout: float | None, policy: Policy) -> float | None:
    """Returns a timeout that the policy allows: a longer one is shortened, as docs/mcp.md says."""
    return None if timeout is None else within(policy, {"limits.wall_time": timeout})["limits"]["wall_time"]


def _failed(text: str) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(on_one_line(str(each))[:64] for each in loc)


def _said(refusal: Refusal) -> str:
    """Returns the text of a refusal for a model."""
    sent = [refusal.detail, *(str(error["msg"]) for error in refusal.errors[:10])]
    if "Retry-After" in refusal.headers:
        sent.append(f"try again in {refusal.headers['Retry-After']} s")
    if refusal.kind == "session-ended":
        sent.append("its variables and files are gone: the next execute without it starts a new box")
    return "; ".join(dict.fromkeys(sent))


@contextlib.contextmanager
def _as_errors() -> Any:
    """Turns refusals into errors of the protocol."""
    try:
        yield
    except Refusal as refusal:
        raise MCPError(types.INVALID_PARAMS, _said(refusal)) from None
