"""A WebSocket for browsers, at /v1/socket: one session, whose events come as they happen.

The first message opens a session, or attaches to one; a page cannot send headers, so the message also has the key:

    {"do": "open", "key": "pbx_...", "policy": "default"}     or {"do": "attach", "key": "pbx_...", "session": "..."}
    {"do": "execute", "id": "1", "code": "input()", "mode": "interactive"}
    {"do": "input", "text": "42\\n"}     {"do": "interrupt"}     {"do": "complete", "id": "2", "code": "pri"}

Each answer has an `event`: opened, started, stdout, stderr, input_request, display, result, error, finished, completed
or failed, with the `id` of the message that it answers. A session that was opened here ends with the socket;
with `"record": true` its record is then at /v1/sessions/ID/record, where ID is the `session` of `opened`.

The client is unknown before the first message, so that has to arrive soon (`connections.time`) and be small
(`connections.head`): files are written to the session afterwards.
"""

import asyncio
import contextlib
import json
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Response, WebSocket, WebSocketDisconnect
from pydantic import ConfigDict, Field, RootModel, TypeAdapter, ValidationError

from proxybox.serve import models
from proxybox.serve.asking import bearer, caller_by, caller_of
from proxybox.serve.callers import Caller
from proxybox.serve.edge import room_for, visit
from proxybox.serve.openapi import ANYWHERE, problems, reference
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.sessions import Sessions
from proxybox.streamevents import (
    CallStartedEvent,
    CompletedEvent,
    FailedEvent,
    OpenedEvent,
    SocketEvent,
    WorkerEvent,
    as_json,
    finished_as_json,
    for_clients,
)  # fmt: skip

router = APIRouter()

#: The most characters of one message, and the close codes (RFC 6455, section 7.4).
_MOST, _TOO_LARGE, _REFUSED, _NO_TEXT = 8 << 20, 1009, 1008, 1003


class _Numbered(models.Strict):
    """A message that has answers. id: the answers have it, too."""

    id: Annotated[str, Field(max_length=64)] = ""


class OpenMessage(models.SessionRequest):
    """Opens a session."""

    do: Literal["open"]
    key: str | None = None


class Attach(models.Strict):
    """Attaches to a session that exists."""

    do: Literal["attach"]
    key: str | None = None
    session: models.Name


class ExecuteMessage(models.ExecuteRequest, _Numbered):
    """Runs code. When the program reads its input, the service sends an input_request."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"do": "execute", "id": "1", "code": "6 * 7"}]})

    do: Literal["execute"]


class CompleteMessage(models.CodeRequest, _Numbered):
    """Requests the names that complete the code at the cursor."""

    do: Literal["complete"]


class InputMessage(models.Input):
    """A piece of standard input."""

    do: Literal["input"]


class Interrupt(models.Strict):
    """Interrupts the call that runs."""

    do: Literal["interrupt"]


_First = Annotated[OpenMessage | Attach, Field(discriminator="do")]
_Later = Annotated[ExecuteMessage | CompleteMessage | InputMessage | Interrupt, Field(discriminator="do")]
_FIRST: TypeAdapter[OpenMessage | Attach] = TypeAdapter(_First)
_LATER: TypeAdapter[ExecuteMessage | CompleteMessage | InputMessage | Interrupt] = TypeAdapter(_Later)


class SocketMessage(
    RootModel[
        Annotated[
            OpenMessage | Attach | ExecuteMessage | CompleteMessage | InputMessage | Interrupt,
            Field(discriminator="do"),
        ]
    ]
):
    """A message of a client; the first one is `open` or `attach`."""


#: Models that OpenAPI describes besides the routes' own.
MODELS: Final = (models.ProblemDetails, models.SocketEvent, SocketMessage)


_MESSAGES: Final = {"receives": {"$ref": reference(SocketMessage)}, "sends": {"$ref": reference(models.SocketEvent)}}


@router.get(
    "/v1/socket", tags=["sessions"], summary="A WebSocket for one session", response_class=Response, status_code=101,
    responses={101: {"description": "It is open: messages follow (x-messages)."}, **problems(*ANYWHERE, 426)},
    openapi_extra={"x-messages": _MESSAGES},
)  # fmt: skip
async def open_socket(who: Annotated[Caller, Depends(caller_of)]) -> None:
    """Opens a WebSocket (RFC 6455), whose messages are JSON. Other requests are refused."""
    raise Refusal("upgrade-required", headers={"Upgrade": "websocket", "Connection": "Upgrade"})


@router.websocket("/v1/socket")
async def socket(websocket: WebSocket) -> None:
    """Serves one socket."""
    service: Service = websocket.app.state.service
    await websocket.accept()
    talk = _Talk(websocket, service)
    try:
        with contextlib.suppress(WebSocketDisconnect):
            await talk.begin()
            await talk.go_on()
    finally:
        await talk.end()


class _Talk:
    """A socket and its session."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket, self._authority = websocket, service.authority
        self._sessions: Sessions = service.sessions
        self._patience = service.config.connections.time
        self._caller: Caller
        self._session, self._is_own = "", False
        self._sending = asyncio.Lock()
        self._call: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Receives the first message. Raises WebSocketDisconnect."""
        try:
            async with asyncio.timeout(self._patience):
                first, _ = await self._receive(_FIRST)
            self._caller = caller_by(self._websocket, first.key if first.key is not None else bearer(self._websocket))
            if isinstance(first, OpenMessage):
                asked = first.model_dump(exclude_unset=True, exclude_none=True, exclude={"do", "key"})
                served, self._is_own = await self._sessions.open(self._caller, asked), True
            else:
                served = await self._sessions.find(self._caller, first.session)
        except TimeoutError:
            await self._websocket.close(_REFUSED, "no first message came in time")
            raise WebSocketDisconnect(_REFUSED) from None
        except Refusal as refusal:
            await self._fail("", refusal)
            await self._websocket.close(_REFUSED, refusal.title)
            raise WebSocketDisconnect(_REFUSED) from None
        self._session, here = served.id, visit(self._websocket.scope)
        here.policy, here.language = served.policy, served.language
        await self._send(OpenedEvent(session=self._session))

    async def go_on(self) -> None:
        """Receives further messages, until the socket is closed, or its key is no longer valid."""
        try:
            with self._authority.using(self._caller):
                await self._take()
        except Refusal as refusal:
            await self._websocket.close(_REFUSED, refusal.detail)

    async def _take(self) -> None:
        while True:
            try:
                message, size = await self._receive(_LATER)
                if isinstance(message, ExecuteMessage):
                    await self._execute(message, size)
                else:
                    with room_for(self._websocket.scope, self._caller, size):
                        await self._do(message)
            except Refusal as refusal:
                await self._fail("", refusal)

    async def _do(self, message: CompleteMessage | InputMessage | Interrupt) -> None:
        if isinstance(message, CompleteMessage):
            data = await self._sessions.command(
                self._caller, self._session, "complete", code=message.code, cursor=message.cursor
            )
            found = json.loads(data)
            event = CompletedEvent(start=found["start"], matches=found["matches"], alive=data.facts.alive)
            await self._send(event, message.id)
        elif isinstance(message, InputMessage):
            await self._sessions.input(self._caller, self._session, message.text)
        else:
            await self._sessions.interrupt(self._caller, self._session)

    async def _execute(self, message: ExecuteMessage, size: int) -> None:
        if self._call is not None and not self._call.done():
            raise Refusal("session-busy")
        self._call = asyncio.create_task(self._run(message, size))

    async def _run(self, message: ExecuteMessage, size: int) -> None:
        asked = message.model_dump(exclude_unset=True, exclude_none=True, exclude={"do", "id", "mode", "record"})
        mode = "eval" if message.mode == "eval" else "exec"

        async def tell(event: WorkerEvent) -> None:
            for sent in for_clients(event):
                await self._send(sent, message.id)

        try:
            await self._send(CallStartedEvent(), message.id)
            with room_for(self._websocket.scope, self._caller, size):
                data = await self._sessions.command(
                    self._caller, self._session, mode, on_event=tell, **asked, interactive=True,
                    echo=message.echo,
                )  # fmt: skip
            await self._send_json(finished_as_json(data, id=message.id))
        except Refusal as refusal:
            await self._fail(message.id, refusal)
        except (WebSocketDisconnect, RuntimeError):  # the page has closed the socket, and so this call is ended
            pass

    async def end(self) -> None:
        """Ends the call that runs, and the session if it was opened here."""
        if self._call is not None:
            self._call.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._call
        if self._is_own:
            with contextlib.suppress(Refusal):
                await self._sessions.end(self._caller, self._session)

    async def _receive(self, form: TypeAdapter[Any]) -> tuple[Any, int]:
        """Returns the next message, and its size."""
        try:
            text = await self._websocket.receive_text()
        except KeyError:  # a binary message, for which Starlette has no text
            await self._websocket.close(_NO_TEXT)
            raise WebSocketDisconnect(_NO_TEXT) from None
        if len(text) > _MOST:
            await self._websocket.close(_TOO_LARGE)
            raise WebSocketDisconnect(_TOO_LARGE)
        try:
            return form.validate_json(text), len(text)
        except ValidationError as error:
            faults = [{"loc": list(each["loc"]), "msg": each["msg"]} for each in error.errors(include_input=False)]
            raise Refusal("invalid", errors=faults[:100]) from None

    async def _fail(self, identity: str, refusal: Refusal) -> None:
        await self._send(FailedEvent(problem=refusal.body()), identity)

    async def _send(self, event: SocketEvent, identity: str | None = None) -> None:
        await self._send_json(as_json(event) if identity is None else as_json(event, id=identity))

    async def _send_json(self, data: bytes) -> None:
        async with self._sending:
            await self._websocket.send_text(data.decode())
