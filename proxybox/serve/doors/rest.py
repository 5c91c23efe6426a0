"""Our own REST interface, under /v1: runs, sessions, their files, and streams of events.

Answers of a worker are JSON already, and are passed on as they are.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, TypeAlias

import attrs
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

import proxybox
from proxybox.jsonvalues import JSONObject
from proxybox.serve import asking, downloads, models
from proxybox.serve.asking import caller_of, service_of
from proxybox.serve.callers import Caller
from proxybox.serve.edge import visit
from proxybox.serve.openapi import ANYWHERE, problems, reference
from proxybox.serve.problems import Refusal
from proxybox.serve.sessions import Served, Sessions
from proxybox.serve.workeranswers import JobAnswer
from proxybox.serve.workers import OnEvent, Transfer
from proxybox.streamevents import (
    FailedEvent,
    StartedEvent,
    StreamEvent,
    WorkerEvent,
    as_json,
    finished_as_json,
    for_clients,
)  # fmt: skip

router = APIRouter(prefix="/v1")
#: Models that OpenAPI describes besides the routes' own.
MODELS: Final = (models.ProblemDetails, models.RunEvent, models.ExecuteEvent)

Who = Annotated[Caller, Depends(caller_of)]
#: Does something, and reports the events meanwhile.
Work: TypeAlias = Callable[[OnEvent], Coroutine[Any, Any, JobAnswer]]
#: How many events may wait for the reader of a stream before the program has to wait.
_BACKLOG = 16


_PROBLEMS = problems(*ANYWHERE)
_RUNS = _PROBLEMS | problems(409)
_RUN_PROBLEMS = _PROBLEMS | problems(404)
_SESSION_PROBLEMS = _PROBLEMS | problems(404, 409, 410)
#: The forms of a stream: each event is a line, or the `data` of an event.
_LINES, _SSE = "application/x-ndjson", "text/event-stream"
_WANT_STREAM: Final = f"want an Accept header of {_SSE} or {_LINES} with it"


#: The options of operations that answer without content.
_NOTHING: Final[Any] = {"status_code": 204, "response_class": Response}


def _stream_of(event: type[BaseModel]) -> dict[int | str, Any]:
    payload = {"schema": {"type": "string"}, "x-itemSchema": {"$ref": reference(event)}}
    return {200: {"description": "What happens.", "content": {_SSE: payload, _LINES: payload}}}


def _as_json(data: bytes | JSONObject | list[JSONObject], status: int = 200) -> Response:
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Response(body, status, media_type="application/json")


@router.get(
    "/health", response_model=models.Health, tags=["service"], openapi_extra={"security": []},
    responses={**problems(400, 403, 431, 500), 503: {"model": models.Health}},
    summary="Whether the service takes requests",
)  # fmt: skip
async def health(request: Request) -> Response:
    """Answers 200 while the service takes requests; 503 before it has tested itself, and when it ends."""
    service = service_of(request)
    payload = {"status": service.state, "why": service.why, "version": proxybox.__version__}
    return _as_json(payload, 200 if service.state == "ready" else 503)


@router.get("/policies", tags=["service"], summary="The policies and languages", responses=_PROBLEMS)
async def policies(request: Request, who: Who) -> models.PoliciesAndLanguages:
    """Returns the names that `policy` and `language` may have; requests that name none get the first of each."""
    config = service_of(request).config
    allowed = [name for name in config.policies if who.policies is None or name in who.policies]
    return models.PoliciesAndLanguages(policies=allowed, languages=list(config.languages))


# --- runs -------------------------------------------------------------------------------------------------------------


@asking.directly(
    router, "/run", tags=["runs"], summary="Run a program", response_model=models.RunResult, responses=_RUNS,
)  # fmt: skip
async def run(request: Request, body: models.RunRequest, who: Who) -> Response:
    """Runs a program in a box of its own.

    The answer is 200 whenever the program ran, however it ended. With `Accept: text/event-stream` or
    `application/x-ndjson` it is that of `/v1/run/stream`.
    """
    if (kind := _stream_kind(request)) is not None:
        return _run_stream(request, body, who, kind)
    asked = _asked(request, body)
    if body.interactive:
        _fault("interactive", _WANT_STREAM)
    return _as_json(await asking.run(request, who, asked))


@asking.directly(
    router, "/run/stream", tags=["runs"], summary="Run a program, and be told what happens", response_class=Response,
    responses={**_RUNS, **_stream_of(models.RunEvent)},
)  # fmt: skip
async def run_stream(request: Request, body: models.RunRequest, who: Who) -> Response:
    """Runs a program as `/v1/run` does, and sends events; the first one is `started`.

    `finished` or `failed` is the last one. `Accept` says which form the stream has: that of server-sent events, unless
    it wants `application/x-ndjson`.
    """
    return _run_stream(request, body, who, _stream_kind(request) or _SSE)


def _asked(request: Request, body: models.RunRequest) -> dict[str, Any]:
    asked = body.asked()
    _check_files(request, asked)
    if body.record:
        service_of(request).jobs.record_limit()
    return asked


def _run_stream(request: Request, body: models.RunRequest, who: Caller, kind: str) -> Response:
    asked, service, here = _asked(request, body), service_of(request), visit(request.scope)
    asking.note(request, service, who, asked)
    service.check_free(who, here.id)

    def work(on_event: OnEvent) -> Coroutine[Any, Any, JobAnswer]:
        return service.run(who, asked, identity=here.id, on_event=on_event)

    return _stream(request, kind, here.id, work)


@router.post(
    "/runs/{run}/input",
    **_NOTHING,
    tags=["runs"],
    summary="Answer an input_request",
    responses=_RUN_PROBLEMS,
)
async def run_input(request: Request, run: str, body: models.Input, who: Who) -> None:
    """Sends input to a program that waits for it, with the newline; an empty text is the end of the input."""
    service_of(request).running(who, run).input(body.text)


@router.post(
    "/runs/{run}/interrupt",
    **_NOTHING,
    tags=["runs"],
    summary="Interrupt a run",
    responses=_RUN_PROBLEMS,
)
async def run_interrupt(request: Request, run: str, who: Who) -> None:
    """Interrupts a program that runs, as Ctrl-C does."""
    service_of(request).running(who, run).interrupt()


@router.delete("/runs/{run}", **_NOTHING, tags=["runs"], summary="End a run", responses=_RUN_PROBLEMS)
async def run_cancel(request: Request, run: str, who: Who) -> None:
    """Ends a program that runs: its result has the status "cancelled"."""
    service_of(request).running(who, run).cancel()


# --- sessions ---------------------------------------------------------------------------------------------------------


def _sessions(request: Request) -> Sessions:
    return service_of(request).sessions


def _session_route(path: str, method: str = "POST", **options: Any) -> Callable[[Any], Any]:
    options = {"responses": _SESSION_PROBLEMS, "tags": ["sessions"], **options}
    return router.api_route(f"/sessions{path}", methods=[method], **options)


@_session_route("", status_code=201, response_model=models.SessionInfo, summary="Start a session")
async def open_session(request: Request, body: models.SessionRequest, who: Who) -> Response:
    """Starts a session: an interpreter whose variables and files remain from call to call."""
    asked = body.asked()
    _check_files(request, asked)
    return _info(await _sessions(request).open(who, asked), 201)


@_session_route("", "GET", response_model=models.SessionInfos, summary="The sessions of this key")
async def list_sessions(request: Request, who: Who) -> Response:
    """Returns the sessions that exist, the oldest first."""
    return _as_json([attrs.asdict(session.state) for session in _sessions(request).of(who)])


@_session_route("/{session}", "GET", response_model=models.SessionInfo, summary="A session")
async def show_session(request: Request, session: str, who: Who) -> Response:
    """Returns the state of a session."""
    return _info(await _sessions(request).find(who, session))


@_session_route("/{session}", "DELETE", **_NOTHING, summary="End a session")
async def end_session(request: Request, session: str, who: Who) -> None:
    """Ends a session, and removes its snapshots."""
    await _sessions(request).end(who, session)


@asking.directly(
    router, "/sessions/{session}/execute", tags=["sessions"], summary="Run code in a session",
    response_model=models.ExecuteResult, responses=_SESSION_PROBLEMS,
)  # fmt: skip
async def execute(request: Request, session: str, body: models.ExecuteRequest, who: Who) -> Response:
    """Runs statements, or evaluates an expression, in a session.

    As for a run, `Accept` can ask for the answer of `/execute/stream`.
    """
    kind = _stream_kind(request)
    if kind is None and body.interactive:
        _fault("interactive", _WANT_STREAM)
    return await _execute(request, session, body, who, kind)


@asking.directly(
    router, "/sessions/{session}/execute/stream", tags=["sessions"], response_class=Response,
    summary="Run code in a session, and be told what happens",
    responses={**_SESSION_PROBLEMS, **_stream_of(models.ExecuteEvent)},
)  # fmt: skip
async def execute_stream(request: Request, session: str, body: models.ExecuteRequest, who: Who) -> Response:
    """Runs code as `/execute` does, and sends events as `/v1/run/stream` does.

    There are also the events `display` and `result`, for the objects that the program shows.
    """
    return await _execute(request, session, body, who, _stream_kind(request) or _SSE)


async def _execute(
    request: Request, session: str, body: models.ExecuteRequest, who: Caller, kind: str | None
) -> Response:
    service, here = service_of(request), visit(request.scope)
    asked = body.model_dump(exclude_unset=True, exclude_none=True, exclude={"mode", "record"})
    mode = "eval" if body.mode == "eval" else "exec"
    served = await service.sessions.find(who, session)
    here.policy, here.language = served.policy, served.language
    asking.note_code(request, body.code)

    def work(on_event: OnEvent | None) -> Coroutine[Any, Any, JobAnswer]:
        return service.sessions.command(who, session, mode, on_event=on_event, echo=body.echo, **asked)

    if kind is not None:
        return _stream(request, kind, here.id, work)
    data = await asking.until_gone(request, work(None))
    asking.note_result(request, data)
    return _as_json(data)


@_session_route("/{session}/input", **_NOTHING, summary="Answer an input_request")
async def session_input(request: Request, session: str, body: models.Input, who: Who) -> None:
    """Sends input to the call of a session that waits for it."""
    await _sessions(request).input(who, session, body.text)


@_session_route("/{session}/interrupt", **_NOTHING, summary="Interrupt a session's call")
async def interrupt(request: Request, session: str, who: Who) -> None:
    """Interrupts the call that runs, as Ctrl-C does. Without one, nothing happens."""
    await _sessions(request).interrupt(who, session)


@_session_route("/{session}/call", response_model=models.ExecuteResult, summary="Call something in a session")
async def call(request: Request, session: str, body: models.CallRequest, who: Who) -> Response:
    """Calls the object of this name, with arguments of plain data; returns a result with its value."""
    return await _command(request, who, session, "call", **body.model_dump())


@_session_route(
    "/{session}/variables/{name}", "GET", response_model=models.VariableRead, summary="The value of a variable"
)
async def get_variable(request: Request, session: str, name: str, who: Who) -> Response:
    """Returns the value of a name, with dots, if it is plain data."""
    return await _command(request, who, session, "get", name=name)


@_session_route("/{session}/variables/{name}", "PUT", **_NOTHING, summary="Set a variable")
async def set_variable(request: Request, session: str, name: str, body: models.Variable, who: Who) -> None:
    """Sets a variable to a value of plain data."""
    await _command(request, who, session, "set", name=name, value=body.value)


@_session_route("/{session}/complete", response_model=models.Completions, summary="Names that may stand at the cursor")
async def complete(request: Request, session: str, body: models.CodeRequest, who: Who) -> Response:
    """Returns `start`, the position at which the word begins, and `matches`. Untrusted: the guest wrote them."""
    return await _command(request, who, session, "complete", code=body.code, cursor=body.cursor)


@_session_route("/{session}/inspect", response_model=models.Inspected, summary="What is at the cursor")
async def inspect(request: Request, session: str, body: models.CodeRequest, who: Who) -> Response:
    """Returns `found`: name, type, signature, doc, source and text of the object; null for an unknown object."""
    return await _command(request, who, session, "inspect", code=body.code, cursor=body.cursor, detail=body.detail)


@_session_route("/{session}/is_complete", response_model=models.WholeOrNot, summary="Whether statements are complete")
async def is_complete(request: Request, session: str, body: models.CodeRequest, who: Who) -> Response:
    """Returns `status` (complete, incomplete, invalid or unknown), and the `indent` of the next line."""
    return await _command(request, who, session, "is_complete", code=body.code)


@_session_route("/{session}/reset", **_NOTHING, summary="Empty a session's namespace")
async def reset(request: Request, session: str, who: Who) -> None:
    """Empties the namespace; modules and files stay."""
    await _command(request, who, session, "reset")


@_session_route("/{session}/fork", status_code=201, response_model=models.SessionInfo, summary="Copy a session")
async def fork(request: Request, session: str, who: Who) -> Response:
    """Makes a session that goes on independently from the same state."""
    return _info(await _sessions(request).fork(who, session), 201)


@_session_route("/{session}/snapshots", status_code=201, response_model=models.SnapshotRequest, summary="Keep a state")
async def snapshot(request: Request, session: str, who: Who) -> Response:
    """Stores the current state, for `restore`. It counts as a copy of the session."""
    return _as_json({"snapshot": await _sessions(request).snapshot(who, session)}, 201)


@_session_route(
    "/{session}/snapshots/{snapshot}",
    "DELETE",
    **_NOTHING,
    summary="Give up a kept state",
)
async def forget(request: Request, session: str, snapshot: str, who: Who) -> None:
    """Removes a stored state."""
    await _sessions(request).forget(who, session, snapshot)


@_session_route("/{session}/restore", **_NOTHING, summary="Go back to a kept state")
async def restore(request: Request, session: str, body: models.SnapshotRequest, who: Who) -> None:
    """Restores a stored state, which remains stored."""
    await _sessions(request).restore(who, session, body.snapshot)


@_session_route(
    "/{session}/record", "GET", summary="The record of a session that has ended", response_model=models.SessionRecord
)
async def read_record(request: Request, session: str, who: Who) -> Response:
    """Returns the record of a session that was started with `record`.

    It is stored as long as an unused session would exist, unless it is removed before.
    """
    sessions = _sessions(request)
    pieces = sessions.record_as_json(await sessions.record(who, session))
    return StreamingResponse(pieces, media_type="application/json", headers={"Cache-Control": "no-store"})


@_session_route("/{session}/record", "DELETE", **_NOTHING, summary="Give up a session's record")
async def forget_record(request: Request, session: str, who: Who) -> None:
    """Removes the record of a session that has ended."""
    await _sessions(request).forget_record(who, session)


# --- files of a session -----------------------------------------------------------------------------------------------


@_session_route("/{session}/files", "GET", response_model=models.FolderEntries, summary="The entries of a folder")
async def list_files(
    request: Request, session: str, who: Who, path: Annotated[str, Query(max_length=4096)] = "."
) -> Response:
    """Returns the `entries` of a folder of the session, by name; without `path` those of its working directory."""
    return await _command(request, who, session, "list_files", path=path)


_FILE = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
_FILE_ROUTE: dict[str, Any] = {
    "response_class": Response,
    "responses": {
        200: {**_FILE, "description": "The file."},
        206: {**_FILE, "description": "The part that `Range` names."},
        304: {"description": "The file is the one whose tag `If-None-Match` has."},
        **_SESSION_PROBLEMS, **problems(416),
    },
}  # fmt: skip


@_session_route("/{session}/files/{path:path}", "GET", summary="The content of a file", **_FILE_ROUTE)
async def read_file(
    request: Request, session: str, path: str, who: Who,
    _range: Annotated[str | None, Header(alias="Range")] = None,
    _if_range: Annotated[str | None, Header(alias="If-Range")] = None,
    _if_none_match: Annotated[str | None, Header(alias="If-None-Match")] = None,
) -> Response:  # fmt: skip
    """Returns the bytes of a file at one moment, as the program would read it, or a part of them.

    Its `ETag` is the SHA-256 of the whole file.
    """
    return await _download(request, session, path, who)


@_session_route("/{session}/files/{path:path}", "HEAD", summary="The size and the tag of a file", **_FILE_ROUTE)
async def show_file(request: Request, session: str, path: str, who: Who) -> Response:
    """Answers as for GET, without the content of the file."""
    return await _download(request, session, path, who)


async def _download(request: Request, session: str, path: str, who: Caller) -> Response:
    most = service_of(request).config.limits.file

    def work(transfer: Transfer) -> Coroutine[Any, Any, bytes]:
        return _sessions(request).command(who, session, "send_file", path=path, limit=most, transfer=transfer)

    return await downloads.download(request, work)


@_session_route(
    "/{session}/files/{path:path}", "PUT", **_NOTHING, summary="Write a file",
    responses={**_SESSION_PROBLEMS, **problems(507)},
    openapi_extra={"requestBody": _FILE},
)  # fmt: skip
async def write_file(request: Request, session: str, path: str, who: Who, parents: bool = False) -> None:
    """Writes the body to a file, with the rights and the limits of the program. parents: makes missing folders.

    An existing file is replaced when the body is complete. A file for which the session has no space is refused before
    the body is read.
    """
    size, transfer = downloads.upload(request, service_of(request).config.limits.file)
    await _sessions(request).command(
        who, session, "receive_file", path=path, size=size, parents=parents, transfer=transfer
    )


@_session_route(
    "/{session}/changes", "GET", response_model=models.SessionChanges, summary="The files that a session has changed"
)
async def changes(request: Request, session: str, who: Who) -> Response:
    """Returns `files`: each change since the session began, without contents."""
    return await _command(request, who, session, "changes")


async def _command(request: Request, who: Caller, session: str, command: str, **asked: Any) -> Response:
    work = _sessions(request).command(who, session, command, **asked)
    return _as_json(await asking.until_gone(request, work))


def _info(session: Served, status: int = 200) -> Response:
    return _as_json(attrs.asdict(session.state), status)


# --- streams ----------------------------------------------------------------------------------------------------------


def _stream_kind(request: Request) -> str | None:
    """Returns the form of stream that the client wants; None for one answer."""
    accepted = request.headers.get("accept", "")
    return next((kind for kind in (_SSE, _LINES) if kind in accepted), None)


def _stream(request: Request, kind: str, run: str, work: Work) -> StreamingResponse:
    """Answers with a stream of events. If the client closes its connection, its program is ended."""
    form = _as_sse if kind == _SSE else _as_line

    async def lines() -> AsyncIterator[bytes]:
        number = 0
        async for event in _events(request, run, work):
            if isinstance(event, bytes):
                yield form(number, "finished", finished_as_json(event, seq=number))
            else:
                yield form(number, event.event, as_json(event, seq=number))
            number += 1

    return StreamingResponse(lines(), media_type=kind, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def _as_sse(number: int, name: str, event: bytes) -> bytes:
    """Returns an event in the form of https://html.spec.whatwg.org/multipage/server-sent-events.html."""
    return b"event: %b\nid: %d\ndata: %b\n\n" % (name.encode(), number, event)


def _as_line(_number: int, _name: str, event: bytes) -> bytes:
    return event + b"\n"


async def _events(request: Request, run: str, work: Work) -> AsyncGenerator[StreamEvent | bytes]:
    """Yields events, from `started` to the result, which is JSON, or to `failed` when there is no result."""
    queue: asyncio.Queue[WorkerEvent | None] = asyncio.Queue(_BACKLOG)
    doing = asyncio.ensure_future(work(queue.put))
    doing.add_done_callback(lambda _: asyncio.ensure_future(queue.put(None)))
    try:
        yield StartedEvent(run=run)
        while (event := await queue.get()) is not None:
            for payload in for_clients(event):
                yield payload
        try:
            data = doing.result()
        except Refusal as refusal:
            yield FailedEvent(problem=refusal.body(run))
            return
        asking.note_result(request, data)
        yield data
    finally:
        doing.cancel()


# --- faults -----------------------------------------------------------------------------------------------------------


def _check_files(request: Request, asked: Mapping[str, Any]) -> None:
    most, files = service_of(request).config.limits.files, asked.get("files") or {}
    if len(files) > most:
        _fault("files", f"want at most {most:,} files, got {len(files):,}")


def _fault(key: str, message: str) -> None:
    raise Refusal("invalid", errors=[{"loc": ["body", key], "msg": message}])
