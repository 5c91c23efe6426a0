"""Open edX's codejail-service: an installation of Open edX sends the code of its problems to it.

https://github.com/openedx/codejail-service. Policy and language are those named "codejail", or the first ones. As in
codejail-service, JSON is that of Python, with NaN and Infinity. If a key is needed, it is the password in the URL of
the service.
"""

import asyncio
import base64
import contextlib
import json
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, StrictBool, StrictStr, ValidationError
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from proxybox import Status
from proxybox.serve.interface import (
    JSONObject,
    Refusal,
    ServiceDoor,
    caller_by,
    of_door,
    password,
    run,
    service_of,
    shaped,
)
from proxybox.shims.codejail import CORRUPTED, LEFT, MAIN, failure, jail, variables_of

#: The only file that may be sent with the code, and the only additional place to import from.
_LIBRARY: Final = "python_lib.zip"


class Payload(BaseModel):
    """The code to run. Other fields are ignored, as in codejail-service."""

    code: StrictStr
    globals_dict: dict[StrictStr, Any]
    python_path: list[StrictStr] | None = None
    limit_overrides_context: StrictStr | None = None
    slug: StrictStr | None = None
    unsafely: StrictBool = False


def _answer(body: JSONObject, status: int = 200) -> Response:
    return Response(json.dumps(body), status, media_type="application/json")


def _shape(refusal: Refusal) -> Response:
    """Returns the answer for a refusal, with the statuses of codejail-service: 400 for every invalid request."""
    detail = refusal.errors[0]["msg"] if refusal.errors else refusal.detail
    answer = _answer({"error": detail}, 400 if refusal.kind == "invalid" else refusal.status)
    answer.headers.update(refusal.headers)
    return answer


router = APIRouter(route_class=shaped(_shape), include_in_schema=False)
door = ServiceDoor(router=router, clients=("/api/v0/",), health=("/health/",))


def _refuse(words: str) -> Refusal:
    return Refusal("invalid", words)


@router.get("/health/", tags=["codejail"], summary="Whether code can be run")
async def health(request: Request) -> Response:
    """Answers 200 while the service takes requests; otherwise the service itself answers 503."""
    return _answer({"status": "OK"})


@router.post("/api/v0/code-exec", tags=["codejail"], summary="Run the code of a problem")
async def code_exec(request: Request) -> Response:
    """Runs code with variables, and answers with those that it leaves, or with an `emsg` about its failure."""
    caller = caller_by(request, password(request))
    service = service_of(request)
    payload, library = await _read(request, service.config.limits.body)
    asked = of_door(service, caller, "codejail")
    most = service.config.policies[asked["policy"]].limits.disk
    files = {} if library is None else {_LIBRARY: library}
    program = await asyncio.to_thread(_program, payload, files, most)
    data = await run(request, caller, {**asked, "files": program, "entry": MAIN, "return_files": [LEFT]})
    return await asyncio.to_thread(_result, payload, data)


def _program(payload: Payload, files: dict[str, bytes], most: int | None) -> dict[str, dict[str, str]]:
    try:
        program = jail(payload.code, payload.globals_dict, files, payload.python_path or (), most)
    except RecursionError:
        raise _refuse("Unable to parse payload JSON: nested too deeply") from None
    return {name: {"base64": base64.b64encode(content).decode()} for name, content in program.items()}


def _result(payload: Payload, data: bytes) -> Response:
    """Returns the answer for a run's result as JSON."""
    result = json.loads(data)
    if result["status"] in (Status.INTERNAL_ERROR, Status.CANCELLED):
        return _answer({"error": "Couldn't execute sandboxed code: the service has failed"}, 500)
    # a byte that is not UTF-8 is an escape in the text
    output = (result[stream].encode("utf-8", "surrogatepass") for stream in ("stdout", "stderr"))
    message = failure(result["status"], result["exit_code"], result["signal"], *output)
    left = None if message else _left(result["files"])
    if left is not None:
        with contextlib.suppress(RecursionError):  # the value is one level deeper here than in `variables_of`
            return _answer({"globals_dict": {**payload.globals_dict, **left}})
    return _answer({"globals_dict": payload.globals_dict, "emsg": message or CORRUPTED})


def _left(files: list[JSONObject]) -> JSONObject | None:
    """Returns the variables that the code has left, from the changed files; None if it has left none."""
    for file in files:
        if file["path"] == LEFT and isinstance(text := file.get("text"), str):
            return variables_of(text.encode("utf-8", "surrogatepass"))
    return None


# --- the request ------------------------------------------------------------------------------------------------------


async def _read(request: Request, most: int) -> tuple[Payload, bytes | None]:
    """Returns the payload and python_lib.zip of a form.

    Raises Refusal for the same faults as codejail-service, in its order.
    """
    try:
        async with request.form(max_files=10, max_fields=10, max_part_size=most) as form:
            texts = [value for name, value in form.multi_items() if name == "payload" and isinstance(value, str)]
            uploads = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
            if not texts:
                raise _refuse("Missing 'payload' parameter in POST body")
            payload = await asyncio.to_thread(_parsed, texts[-1])
            if set(payload.python_path or ()) - {_LIBRARY}:
                raise _refuse(f"Only allowed entry in 'python_path' is '{_LIBRARY}'")
            if {name for name, _ in uploads} - {_LIBRARY}:
                raise _refuse(f"Only allowed name for uploaded file is '{_LIBRARY}'")
            if payload.unsafely:
                raise _refuse("Refusing codejail execution with unsafely=true")
            return payload, await uploads[-1][1].read() if uploads else None
    except HTTPException as error:
        raise _refuse(f"Unable to parse the form: {error.detail}") from None


def _parsed(text: str) -> Payload:
    try:
        given = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _refuse(f"Unable to parse payload JSON: {error}") from None
    try:
        return Payload.model_validate(given)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = list(fault["loc"])
        words = fault["msg"]
        if fault["type"] == "missing":
            words = f"'{place.pop()}' is a required property"
        path = "".join(f"[{each}]" if isinstance(each, int) else f".{each}" for each in place)
        raise _refuse(f"Payload JSON did not match schema at path ${path}: {words}") from None
