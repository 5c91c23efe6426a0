"""The interface of Dify's sandbox, which its code nodes and templates use (https://github.com/langgenius/dify-sandbox).

    POST /v1/sandbox/run            {"language": "python3", "code": ...} -> {"code": 0, "message", "data"}
    GET  /v1/sandbox/dependencies   the packages of the interpreter
    GET  /health                    "ok"

Differences: a box has no network, whatever `enable_network` says, which Dify always sets; `preload` is ignored, as the
sandbox does by default; packages are those that the service's configuration gives the language.
"""

import json
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from proxybox.serve.interface import (
    Caller,
    JSONObject,
    Refusal,
    ServiceDoor,
    as_json,
    caller_by,
    facts_of,
    in_words,
    parsed,
    python3,
    run,
    service_of,
    shaped,
)


def _refused(refusal: Refusal) -> Response:
    if refusal.status == 401:
        return Response(status_code=401)
    # For 503, Dify reports to its users that the sandbox is busy; for any other status, that it cannot be reached.
    status = 503 if refusal.status == 429 else 400 if refusal.status == 422 else refusal.status
    text = "Too many requests" if status == 503 else in_words(refusal)
    return _answer(-status, text, None, status, refusal.headers)


def _answer(
    code: int, message: str, data: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    return as_json({"code": code, "message": message, "data": data}, status, headers)


router = APIRouter(route_class=shaped(_refused), include_in_schema=False)
door = ServiceDoor(router=router, clients=("/v1/sandbox/",), health=("/health",), always=("/health",))


class DifyRunBody(BaseModel):
    """A program to run."""

    language: Annotated[str, Field(min_length=1, max_length=64)]
    code: Annotated[str, Field(min_length=1, max_length=64 << 20)]


def _caller(request: Request) -> Caller:
    return caller_by(request, request.headers.get("x-api-key") or None)


def _language(request: Request, named: str) -> str:
    """Returns the service's language for the name that a client sends. Raises Refusal."""
    if named != "python3":
        raise Refusal("invalid", "unsupported language")
    return python3(service_of(request).config)


@router.post("/v1/sandbox/run")
async def post_run(request: Request) -> Response:
    """Runs a program."""
    caller = _caller(request)
    body = parsed(DifyRunBody, await request.body())
    asked = {"code": body.code, "language": _language(request, body.language)}
    result = json.loads(await run(request, caller, asked))
    if result["status"] == "internal_error":
        return _answer(-500, result["why"], None)
    return _answer(0, "success", _data(result))


def _data(result: Mapping[str, Any]) -> JSONObject:
    """Returns a result in the form of Dify's sandbox: a program that was ended has the exit code -1."""
    status, stderr = result["status"], result["stderr"]
    code = -1 if result["exit_code"] is None else result["exit_code"]
    why = "error: timeout" if status == "time_limit" else result["hint"]
    parts = (f"process exited with code {code}", why, stderr)
    error = "\n".join(part for part in parts if part) if code else ""
    return {"stdout": result["stdout"], "stderr": stderr, "error": error, "exit_code": code}


@router.get("/v1/sandbox/dependencies")
@router.get("/v1/sandbox/dependencies/refresh")
async def dependencies(request: Request, language: str = "") -> Response:
    """Answers with the packages of the interpreter."""
    _caller(request)
    facts = await facts_of(service_of(request), _language(request, language))
    return _answer(0, "success", {
        "dependencies": [{"name": name, "version": version} for name, version in facts.packages.items()],
    })  # fmt: skip


@router.post("/v1/sandbox/dependencies/update")
async def update(request: Request) -> Response:
    """Does nothing: the configuration names the packages, and they are installed when the service starts."""
    _caller(request)
    return _answer(0, "success", {})


@router.get("/health")
async def health(request: Request) -> Response:
    """Answers whether the service takes requests."""
    service = service_of(request)
    is_ready = service.state == "ready"
    return as_json("ok" if is_ready else service.why, 200 if is_ready else 503)
