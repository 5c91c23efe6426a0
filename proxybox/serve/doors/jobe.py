"""Jobe's REST interface, which Moodle's CodeRunner speaks (https://github.com/trampgeek/jobe, restapi.pdf).

    GET  /jobe/index.php/restapi/languages        [["python3", "3.11.13"]]
    POST /jobe/index.php/restapi/runs             {"run_spec": {...}} -> {"run_id", "outcome", "cmpinfo", ...}
    PUT, HEAD /jobe/index.php/restapi/files/{id}  a file that runs name; for POST /files the door chooses the id

Errors are a text, in JSON. Files are stored for each key; requested limits are reduced to those of the policy.
"""

import base64
import hashlib
import json
import math
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field, ValidationError

from proxybox.serve.interface import (
    Caller,
    JSONObject,
    Measure,
    Refusal,
    Service,
    ServiceConfig,
    ServiceDoor,
    as_json,
    bearer,
    caller_by,
    collect,
    facts_of,
    for_worker,
    in_words,
    keep,
    keys,
    python3,
    request_id,
    run,
    service_of,
    shaped,
)

#: The shelf of the files that clients send.
_SHELF: Final = "jobe"
_OVERLOAD, _RUNTIME_ERROR, _OUTPUT_LIMIT = 21, 12, 30
#: Jobe's word for each status.
_OUTCOMES: Final[Mapping[str, int]] = {
    "ok": 15, "syntax_error": 11, "error": 12, "crashed": 12, "time_limit": 13, "memory_limit": 17,
    "output_limit": _RUNTIME_ERROR, "disk_limit": 12, "denied": 19, "misbehaved": 19, "cancelled": 20,
    "internal_error": 20,
}  # fmt: skip
#: Outcomes whose answer has no stderr: a client takes anything in stderr for an error at run time.
_WITHOUT_STDERR: Final = frozenset({11, 13, 17, _OUTPUT_LIMIT})
_MB: Final = 1_000_000
#: Jobe's parameters: the keys of a policy that each one sets, with its unit.
_LIMITS: Final[Mapping[str, Mapping[str, int]]] = {
    "cputime": {"limits.cpu_time": 1, "limits.wall_time": 2},  # as Jobe does
    "memorylimit": {"limits.memory": _MB},
    "disklimit": {"limits.disk": _MB},
    "streamsize": {"output.limit": _MB},
    "numprocs": {"limits.threads": 1},
}
#: Statuses of refusals for which Jobe uses others.
_STATUSES: Final[Mapping[int, int]] = {401: 403, 422: 400}

_ID: Final = re.compile(r"[A-Za-z0-9]{8,128}\Z")
#: Names that Jobe accepts: of files, and those of programs, with more characters.
_NAME: Final = re.compile(r"(?=[-_.]*[A-Za-z0-9])[A-Za-z0-9._-]{1,255}\Z")
_SOURCE: Final = re.compile(r"(?![.-])[^<>:\"/\\|?*\x00-\x1f\x7f\xa0\xad#\[\]@!$&'()+,;={}^~`]{1,255}\Z")


def _refused(refusal: Refusal) -> Response:
    return as_json(in_words(refusal), _STATUSES.get(refusal.status, refusal.status), refusal.headers)


router = APIRouter(prefix="/jobe/index.php/restapi", route_class=shaped(_refused), include_in_schema=False)
door = ServiceDoor(router=router, clients=("/jobe/",))


class RunSpec(BaseModel):
    """A program to run. Unknown fields are ignored, as in Jobe."""

    sourcecode: Annotated[str, Field(max_length=64 << 20)]
    language_id: Annotated[str, Field(max_length=64)]
    sourcefilename: str | None = None
    input: str | None = None
    file_list: list[list[Any]] | None = None
    parameters: JSONObject | list[Any] | None = None  # an empty table is a list in PHP


class JobeRunBody(BaseModel):
    """The body of POST runs."""

    run_spec: RunSpec


class FileBody(BaseModel):
    """The body of PUT and POST files. file_contents: base64."""

    file_contents: str


def _caller(request: Request) -> Caller:
    """Returns the caller, by X-API-KEY or by a bearer key. Raises Refusal."""
    presented = request.headers.get("x-api-key") or bearer(request)
    try:
        return caller_by(request, presented)
    except Refusal as refusal:
        if refusal.kind != "unauthorized":
            raise
        raise Refusal("unauthorized", "Unknown API key" if presented else "Missing API key") from None


def _wrong(text: str) -> Refusal:
    return Refusal("invalid", text)


def _parsed(kind: type[BaseModel], data: bytes) -> Any:
    """Returns a parsed body, whatever its Content-Type. Raises Refusal."""
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        fault = error.errors(include_input=False, include_url=False)[0]
    place = [str(part) for part in fault["loc"]]
    if fault["type"] in ("json_invalid", "model_type") and not place:
        raise _wrong("Non-JSON post data received")
    if place == ["run_spec"]:
        raise _wrong("No run_spec attribute found in post data")
    if fault["type"] == "missing" and place[:1] == ["run_spec"]:
        raise _wrong(f"run_spec is missing the required attribute '{place[-1]}'")
    raise _wrong(f"{'.'.join(place)}: {fault['msg']}")


# --- languages --------------------------------------------------------------------------------------------------------


def languages_of(config: ServiceConfig) -> dict[str, str]:
    """Returns the languages of the service by the ids that clients use."""
    meant = python3(config)
    return {"python3": meant} | {name.lower(): name for name in config.languages if name != meant}


@router.get("/languages")
@router.get("/languages/")
async def languages(request: Request) -> Response:
    """Answers with the languages, and the versions of their interpreters."""
    _caller(request)
    service = service_of(request)
    known = languages_of(service.config).items()
    return as_json([[identity, (await facts_of(service, name)).version] for identity, name in known])


# --- files ------------------------------------------------------------------------------------------------------------


@router.put("/files/{identity}")
async def put_file(request: Request, identity: str) -> Response:
    """Stores a file under an id that the client has chosen: usually the MD5 of its content."""
    caller, content = _caller(request), _content(await request.body(), f"put: contents of file {identity[:128]}")
    await _keep(service_of(request), caller, identity, content)
    return Response(status_code=204)


@router.post("/files")
@router.post("/files/")
async def post_file(request: Request) -> Response:
    """Stores a file, and answers with its id."""
    caller, content = _caller(request), _content(await request.body(), "post: contents")
    identity = hashlib.md5(content, usedforsecurity=False).hexdigest()
    await _keep(service_of(request), caller, identity, content)
    return as_json(identity)


@router.head("/files/{identity}")
async def head_file(request: Request, identity: str) -> Response:
    """Answers whether a file is stored."""
    caller = _caller(request)
    await collect(service_of(request), caller, [("", _SHELF, _key_of(caller, identity))])
    return Response(status_code=204)


async def _keep(service: Service, caller: Caller, identity: str, content: bytes) -> None:
    if not _ID.match(identity):
        raise _wrong("put: want a file id of at least 8 letters and digits")
    await keep(service, caller, _SHELF, identity, content, identity=_key_of(caller, identity), evict=_SHELF)


def _key_of(caller: Caller, identity: str) -> str:
    """Returns the name under which a file is stored: clients of other keys may use the same id."""
    return hashlib.sha256(f"{_SHELF}\0{caller.key}\0{identity}".encode("utf-8", "surrogatepass")).hexdigest()


def _content(data: bytes, what: str) -> bytes:
    try:
        body = FileBody.model_validate_json(data)
    except ValidationError:
        raise _wrong(f"{what.partition(':')[0]}: missing file_contents parameter") from None
    try:
        return base64.b64decode(body.file_contents, validate=True)
    except ValueError:
        raise _wrong(f"{what} are not valid base-64") from None


# --- runs -------------------------------------------------------------------------------------------------------------


@router.post("/runs")
@router.post("/runs/")
async def post_run(request: Request) -> Response:
    """Runs a program."""
    caller, service = _caller(request), service_of(request)
    spec: RunSpec = _parsed(JobeRunBody, await request.body()).run_spec
    asked = await _asked(service, caller, spec)
    identity = request_id(request)
    try:
        data = await run(request, caller, asked)
    except Refusal as refusal:
        if refusal.kind != "overloaded":
            raise
        payload = {"run_id": identity, "outcome": _OVERLOAD, "cmpinfo": "", "stdout": "", "stderr": ""}
        return as_json(payload, headers=refusal.headers)
    is_coderunner = request.headers.get("user-agent", "").startswith("CodeRunner")
    return as_json({"run_id": identity, **_result(json.loads(data), is_coderunner=is_coderunner)})


async def _asked(service: Service, caller: Caller, spec: RunSpec) -> JSONObject:
    """Returns the fields of the requested run. Raises Refusal."""
    language = languages_of(service.config).get(spec.language_id.lower())
    if language is None:
        raise _wrong(f"Language '{spec.language_id.lower()}' is not known")
    name = spec.sourcefilename or "prog.py"
    if not _SOURCE.match(name):
        raise _wrong("The sourcefilename for the run_spec is illegal")
    wanted = []
    for file in spec.file_list or ():
        if len(file) not in (2, 3) or not all(isinstance(each, str) for each in file[:2]):
            raise _wrong("Invalid file specifier: want an id and a name")
        if not _ID.match(file[0]) or not _NAME.match(file[1]) or file[1] in (".", ".."):
            raise _wrong(f"Invalid file specifier: {file[0][:128]!r}, {file[1][:255]!r}")
        if file[1] == name:
            raise _wrong(f"Invalid file specifier: {name!r} is the name of the program itself")
        wanted.append((file[1], _SHELF, _key_of(caller, file[0])))
    files = for_worker(await collect(service, caller, wanted))
    parameters = spec.parameters if isinstance(spec.parameters, dict) else {}
    policy = service.jobs.policy(caller, None)
    return {
        "policy": policy, "language": language, "entry": name, "files": {**files, name: spec.sourcecode},
        "stdin": spec.input or "", "args": _words(parameters, "runargs"),
        "options": _words(parameters, "interpreterargs"),
        **_limits(service, policy, parameters),
    }  # fmt: skip


def _words(parameters: Mapping[str, Any], key: str) -> list[str]:
    """Returns the arguments of a parameter, which Jobe puts into a line of a shell. Raises Refusal."""
    values = parameters.get(key) or []
    if isinstance(values, str):
        values = [values]
    if not isinstance(values, list) or not all(isinstance(each, str) for each in values):
        raise _wrong(f"parameters: {key}: want a list of texts")
    try:
        return shlex.split(" ".join(values))
    except ValueError as error:
        raise _wrong(f"parameters: {key}: {error}") from None


def _limits(service: Service, policy: str, parameters: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Returns the requested limits, within the policy's.

    A value that is not a positive number gives the policy's limit.
    """
    wanted: dict[str, float] = {}
    for name, number in _numbers(parameters):
        for key, unit in _LIMITS[name].items():
            is_seconds = keys()[key].facts.measure is Measure.DURATION
            if value := unit * number if is_seconds else int(unit * number):
                wanted[key] = value
    return service.jobs.within(policy, wanted)


def _numbers(parameters: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in _LIMITS:
        value = parameters.get(name)
        try:
            number = float(value) if isinstance(value, int | float | str) else 0.0
        except (ValueError, OverflowError):
            continue
        if 0 < number < math.inf:
            yield name, min(number, 1e6)


def _result(result: Mapping[str, Any], *, is_coderunner: bool) -> JSONObject:
    """Returns a result in Jobe's form."""
    status, stderr = result["status"], result["stderr"]
    outcome = _OUTCOMES[status]
    if status == "output_limit" and is_coderunner:
        outcome = _OUTPUT_LIMIT
    cmpinfo = stderr if status == "syntax_error" else ""
    if outcome in _WITHOUT_STDERR:
        stderr = ""
    elif not stderr.strip() and status != "ok":  # CodeRunner takes any text here for an error
        stderr = result["hint"]
    return {"outcome": outcome, "cmpinfo": cmpinfo, "stdout": result["stdout"], "stderr": stderr}
