"""The common part of the doors: the caller of a request, the run that it requests, and a client that disconnects."""

import asyncio
import base64
import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, TypeVar, get_type_hints

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError
from starlette.requests import HTTPConnection

from proxybox.serve.callers import Caller
from proxybox.serve.edge import visit
from proxybox.serve.problems import Refusal
from proxybox.serve.service import Service
from proxybox.serve.workeranswers import JobAnswer, ResultFacts
from proxybox.serve.workers import OnEvent

T = TypeVar("T")
B = TypeVar("B", bound=BaseModel)
F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Response]])

#: The media types of JSON (RFC 8259, RFC 6839).
_JSON: Final = re.compile(r"application/(?:[\w.-]+\+)?json\s*(?:;|\Z)", re.IGNORECASE)


class ClientGone(Exception):
    """The client has closed its connection: nobody waits for an answer."""


def service_of(connection: HTTPConnection) -> Service:
    """Returns the service that has received a request."""
    service: Service = connection.app.state.service
    return service


def bearer(connection: HTTPConnection) -> str | None:
    """Returns the bearer key of a request (RFC 6750); None without one."""
    scheme, _, key = connection.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    return key.strip() if scheme.lower() == "bearer" else ""


def password(connection: HTTPConnection) -> str | None:
    """Returns the key of a request from a browser, which sends it as a password (RFC 7617), or as `bearer` does."""
    scheme, _, encoded = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return bearer(connection)
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except ValueError:
        return ""


def caller_by(connection: HTTPConnection, presented: str | None) -> Caller:
    """Returns the caller that has presented a key, and records it for the audit. Raises Refusal."""
    here = visit(connection.scope)
    caller = service_of(connection).authority.caller(presented, connection.scope["path"], is_open=here.is_open)
    here.key, here.name = caller.key, caller.name
    connection.scope["state"]["who"] = caller.key
    here.begun_for(caller)
    return caller


async def caller_of(request: Request) -> Caller:
    """The dependency of routes whose callers present a bearer key; it needs no thread. Raises Refusal."""
    return caller_by(request, bearer(request))


def of_door(service: Service, caller: Caller, door: str) -> dict[str, str]:
    """Returns policy and language for a protocol that names neither: those with the door's name, or the first ones.

    Raises Refusal.
    """
    policies, languages = service.config.policies, service.config.languages
    named = door in policies and (caller.policies is None or door in caller.policies)
    return {
        "policy": service.jobs.policy(caller, door if named else None),
        "language": service.jobs.language(door if door in languages else None),
    }


async def run(
    request: Request,
    caller: Caller,
    asked: Mapping[str, Any],
    *,
    on_event: OnEvent | None = None,
) -> bytes:
    """Runs a program for a request, and returns its Result as JSON.

    If the client closes its connection, the box is ended.
    """
    service, here = service_of(request), visit(request.scope)
    note(request, service, caller, asked)
    data = await until_gone(request, service.run(caller, asked, identity=here.id, on_event=on_event))
    note_result(request, data)
    return data


def note(request: HTTPConnection, service: Service, caller: Caller, asked: Mapping[str, Any]) -> None:
    """Records for the audit what is requested."""
    here = visit(request.scope)
    here.policy = service.jobs.policy(caller, asked.get("policy"))
    here.language = service.jobs.language(asked.get("language"))
    code = asked.get("code")
    note_code(request, code if isinstance(code, str) else json.dumps(asked.get("files"), sort_keys=True))


def note_code(request: HTTPConnection, code: str) -> None:
    """Records for the audit the digest of the code."""
    visit(request.scope).code_sha256 = hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()


def note_result(request: HTTPConnection, data: JobAnswer) -> None:
    """Records for the audit how a run has ended."""
    here = visit(request.scope)
    if isinstance(data.facts, ResultFacts):
        here.status, here.cpu = data.facts.status.value, data.facts.cpu


async def until_gone(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Returns what `work` returns. When the client closes its connection, cancels `work` and raises ClientGone."""
    doing, going = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((doing, going), return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            raise ClientGone
        return doing.result()
    finally:
        for each in (doing, going):
            each.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def content(data_or_text: str | Mapping[str, Any]) -> bytes:
    """Returns the bytes of a file that was sent as text, or in base64. Raises Refusal."""
    if isinstance(data_or_text, str):
        return data_or_text.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(data_or_text["base64"], validate=True)
    except (ValueError, KeyError, TypeError) as error:
        raise Refusal("invalid", errors=[{"loc": ["body", "files"], "msg": f"not base64: {error}"}]) from None


class _Direct(APIRoute):
    """A route whose function is called directly, without the framework's search for the values of its parameters."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See APIRoute."""
        kind = get_type_hints(self.endpoint)["body"]

        async def handle(request: Request) -> Response:
            who = await caller_of(request)
            if not _JSON.match(request.headers.get("content-type", "")):  # other origins' forms have none
                raise Refusal("invalid", errors=[{"loc": ["header", "content-type"], "msg": "want application/json"}])
            body = parsed(kind, await request.body(), "body")
            answer: Response = await self.endpoint(request=request, body=body, who=who, **request.path_params)
            return answer

        return handle


def directly(router: APIRouter, path: str, **options: Any) -> Callable[[F], F]:
    """Returns a decorator for the function of a POST route that is called often, which saves a third of the time.

    The function gets `request`, `body`, `who` and the parameters of the path, and returns a Response.
    """

    def add(function: F) -> F:
        router.add_api_route(path, function, methods=["POST"], route_class_override=_Direct, **options)
        return function

    return add


# --- faults -----------------------------------------------------------------------------------------------------------


def parsed(kind: type[B], data: bytes, *place: str) -> B:
    """Returns a parsed body, whatever its Content-Type: clients of other protocols omit it. Raises Refusal.

    place: the first part of the places of faults.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
    raise _of_faults(faults, *place)


def in_words(refusal: Refusal) -> str:
    """Returns the reason of a refusal as text, for protocols whose errors are one text."""
    faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in refusal.errors)
    return "; ".join(faults) if refusal.errors else refusal.detail


def as_json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Returns an answer in ASCII: lone surrogates, which a program can print, cannot be encoded otherwise."""
    return Response(json.dumps(value), status, dict(headers or {}), media_type="application/json")


def invalid(error: RequestValidationError) -> Refusal:
    """Returns the refusal for the faults that pydantic has found, without the values that it quotes."""
    return _of_faults(error.errors())


def _of_faults(faults: Sequence[Any], *place: str) -> Refusal:
    return Refusal("invalid", errors=[{"loc": [*place, *each["loc"]], "msg": each["msg"]} for each in faults[:100]])


def shaped(shape: Callable[[Refusal], Response]) -> type[APIRoute]:
    """Returns the class of a door's routes (APIRouter's route_class), whose refusals have the door's own shape."""

    class Shaped(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def shaping(request: Request) -> Response:
                try:
                    return await handle(request)
                except Refusal as refusal:
                    return shape(refusal)
                except RequestValidationError as error:
                    return shape(invalid(error))

            return shaping

    return Shaped
