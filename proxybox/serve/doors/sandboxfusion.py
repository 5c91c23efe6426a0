"""ByteDance's SandboxFusion: runs for the training of code models.

https://github.com/bytedance/SandboxFusion; the client is `sandbox-fusion` of PyPI. It has /run_code for python and
pytest, /run_jupyter and /v1/ping, and nothing for datasets. Policy and language are those named "sandboxfusion", or the
first ones; pytest has the language "pytest", if it exists. If a key is needed, it is the password in the URL of the
service.
"""

import asyncio
import base64
import binascii
import json
import math
import posixpath
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from proxybox import Status
from proxybox.serve.interface import (
    Caller,
    JSONObject,
    Refusal,
    ServiceDoor,
    caller_by,
    note,
    of_door,
    password,
    run,
    service_of,
    shaped,
    until_gone,
)

_MIB: Final = 1 << 20
#: The least memory that a policy can allow (policies.Limits).
#: The most bytes of the files that one request fetches, and of what its cells show.
_MOST_FETCHED: Final = 64 << 20
_MOST_SHOWN: Final = 64 << 20
#: How pytest is run on a file.
_PYTEST: Final = 'import sys, pytest\nsys.exit(pytest.main(["-p", "no:cacheprovider", sys.argv[1]]))\n'
_NO_PYTEST: Final = "this service has no pytest: name it in `packages` of a language pytest"


def _shape(refusal: Refusal) -> Response:
    """Returns the answer for a refusal, in the form of FastAPI, as in the original."""
    detail: Any = refusal.detail
    if refusal.errors:
        detail = [{"type": "value_error", **error} for error in refusal.errors]
    body = json.dumps({"detail": detail})
    return Response(body, refusal.status, refusal.headers, media_type="application/json")


router = APIRouter(route_class=shaped(_shape), tags=["SandboxFusion"], include_in_schema=False)
door = ServiceDoor(router=router, clients=("/run_code", "/run_jupyter"), health=("/v1/ping",))


async def _caller(request: Request) -> Caller:
    return caller_by(request, password(request))


Who = Annotated[Caller, Depends(_caller)]


# --- bodies -----------------------------------------------------------------------------------------------------------


def _box_path(name: str) -> str:
    """Returns the path of a fetched file as in a result: relative below /box, otherwise absolute."""
    return posixpath.normpath(posixpath.join("/box", name)).removeprefix("/box/")


def _bytes(text: str) -> str:
    """Returns base64 as clients write it, which may have line breaks, in the form that workers read."""
    try:
        return base64.b64encode(base64.b64decode(text)).decode()
    except (binascii.Error, ValueError) as error:
        raise ValueError(f"not base64: {error}") from None


Name = Annotated[str, Field(min_length=1, max_length=4096)]
Encoded = Annotated[str, AfterValidator(_bytes)]
Fetched = Annotated[list[Name], Field(max_length=10_000)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class RunCode(BaseModel):
    """A program. Other fields, and the time for compiling, are ignored."""

    code: str
    language: str
    run_timeout: Seconds = 10
    memory_limit: int = Field(-1, alias="memory_limit_MB")
    stdin: str | None = None
    files: dict[Name, Encoded | None] = {}
    fetch_files: Fetched = []


class RunJupyter(BaseModel):
    """Cells of a notebook. A time of 0 means the policy's limit."""

    cells: Annotated[list[str], Field(max_length=10_000)]
    cell_timeout: Seconds = 0
    total_timeout: Seconds = 45
    memory_limit: int = Field(-1, alias="memory_limit_MB")
    kernel: Literal["python3"] = "python3"
    files: dict[Name, Encoded | None] = {}
    fetch_files: Fetched = []


def _files(body: RunCode | RunJupyter, most: int) -> dict[str, dict[str, str]]:
    """Returns the files of a body in the form that workers read. Raises Refusal."""
    if len(body.files) > most:
        raise Refusal("invalid", errors=[{"loc": ["body", "files"], "msg": f"want at most {most:,} files"}])
    return {name: {"base64": content} for name, content in body.files.items() if content is not None}


def _wanted(body: RunCode | RunJupyter) -> dict[str, float]:
    """Returns the requested limits, except times."""
    return {"limits.memory": body.memory_limit * _MIB} if body.memory_limit > 0 else {}


def _answer(status: str, message: str = "", files: Mapping[str, str] | None = None, **more: Any) -> Response:
    payload = {"status": status, "message": message, **more, "executor_pod_name": None, "files": dict(files or {})}
    return Response(json.dumps(payload), media_type="application/json")


# --- routes -----------------------------------------------------------------------------------------------------------


@router.get("/v1/ping", summary="Whether the service answers")
async def ping() -> str:
    """Answers "pong"."""
    return "pong"


@router.post("/run_code", summary="Run a program")
async def run_code(request: Request, body: RunCode, who: Who) -> Response:
    """Runs a program. The answer is 200 whenever the service has run the program, however it has ended."""
    service = service_of(request)
    asked: JSONObject = of_door(service, who, "sandboxfusion")
    if body.language not in ("python", "pytest"):
        return _no_run(f"there is no language {body.language[:60]!r} here: want python or pytest")
    files = _files(body, service.config.limits.files)
    if body.language == "pytest":
        asked["language"] = "pytest" if "pytest" in service.config.languages else asked["language"]
        entry, asked["args"] = _free("run_pytest.py", files), [_free("test_program.py", files)]
        programs = {entry: _PYTEST, asked["args"][0]: body.code}
    else:
        entry = _free("program.py", files)
        programs = {entry: body.code}
    paths = {name: _box_path(name) for name in body.fetch_files}
    limits = {"limits.wall_time": body.run_timeout, **_wanted(body)} if body.run_timeout else _wanted(body)
    data = await run(request, who, {
        **asked, "files": {**files, **programs}, "entry": entry, "stdin": body.stdin,
        **service.jobs.within(asked["policy"], limits), "return_files": list(paths.values()),
    })  # fmt: skip
    return await asyncio.to_thread(_of_run, body, paths, files, json.loads(data))


@router.post("/run_jupyter", summary="Run the cells of a notebook")
async def run_jupyter(request: Request, body: RunJupyter, who: Who) -> Response:
    """Runs cells in one session, which ends after them. If a cell fails, the next ones run all the same."""
    return await until_gone(request, _notebook(request, body, who))


# --- a program --------------------------------------------------------------------------------------------------------


def _free(name: str, files: Iterable[str]) -> str:
    """Returns a name in the folder of the program that no file or folder of the client has."""
    taken = {each.partition("/")[0] for each in files}
    while name in taken:
        name = f"_{name}"
    return name


def _no_run(why: str) -> Response:
    return _answer("SandboxError", why, compile_result=None, run_result=None)


def _of_run(
    body: RunCode, paths: Mapping[str, str], files: Mapping[str, Mapping[str, str]], result: Mapping[str, Any]
) -> Response:
    """Returns the answer for a result."""
    ran = _ran(result)
    if ran["status"] == "Error":
        return _answer("SandboxError", ran["stderr"], compile_result=None, run_result=ran)
    error = result["error"] or {}
    if body.language == "pytest" and error.get("message") == "No module named 'pytest'":
        return _no_run(_NO_PYTEST)
    is_success = ran["status"] == "Finished" and ran["return_code"] == 0
    fetched = _fetched(paths, files, result["files"]) if paths else {}
    return _answer("Success" if is_success else "Failed", files=fetched, compile_result=None, run_result=ran)


def _ran(result: Mapping[str, Any]) -> JSONObject:
    """Returns a result as that of a command: Finished whenever the program has ended by itself or by a signal."""
    usage, status = result["usage"] or {}, result["status"]
    ran = {
        "status": "Finished", "execution_time": usage.get("wall"), "cpu_time": usage.get("cpu"),
        "return_code": result["exit_code"], "stdout": result["stdout"], "stderr": result["stderr"],
    }  # fmt: skip
    if status == Status.TIME_LIMIT:
        return {**ran, "status": "TimeLimitExceeded", "return_code": None}
    if status in (Status.INTERNAL_ERROR, Status.CANCELLED):
        return {**ran, "status": "Error", "return_code": None, "stderr": result["why"] or "the service has failed"}
    if result["exit_code"] is None:  # the controller kills what it ends
        ran["return_code"] = -(result["signal"] or 9)
    return ran


def _fetched(
    paths: Mapping[str, str], files: Mapping[str, Mapping[str, str]], changed: Iterable[Mapping[str, Any]]
) -> dict[str, str]:
    """Returns the requested files, in base64: as the program has left them, or as the client has sent them."""
    found = {name: content["base64"] for name, content in files.items()}
    for change in changed:
        found.pop(change["path"], None)
        if change["kind"] != "deleted" and "size" in change:
            text = change.get("text")
            encoded = change.get("base64") if text is None else base64.b64encode(_encoded(text)).decode()
            found |= {change["path"]: encoded} if encoded is not None else {}
    fetched, room = {}, _MOST_FETCHED
    for name, path in paths.items():  # several names may refer to one file
        size = len(found.get(path, "")) * 3 // 4
        if path in found and size <= room:
            fetched[name] = found[path]
            room -= size
    return fetched


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


# --- a notebook -------------------------------------------------------------------------------------------------------


async def _notebook(request: Request, body: RunJupyter, who: Caller) -> Response:
    service, began = service_of(request), time.monotonic()
    asked = of_door(service, who, "sandboxfusion")
    note(request, service, who, {**asked, "code": "\n".join(body.cells)})
    most = service.config.policies[asked["policy"]].limits.wall_time or math.inf
    session = await service.sessions.open(who, {
        **asked, "files": _files(body, service.config.limits.files),
        **service.jobs.within(asked["policy"], _wanted(body)),
    })  # fmt: skip
    driver: JSONObject = {"status": "Finished", "return_code": 0, "stdout": "", "stderr": ""}
    cells: list[JSONObject] = []
    room = _MOST_SHOWN
    try:
        for cell in body.cells:
            left = body.total_timeout - (time.monotonic() - began) if body.total_timeout else math.inf
            if left <= 0:
                driver |= {"status": "TimeLimitExceeded", "return_code": None}
                break
            seconds = min(left, body.cell_timeout or math.inf, most)
            data = await service.sessions.command(
                who, session.id, "exec", code=cell, echo=True, timeout=None if seconds == math.inf else seconds
            )
            result = json.loads(data)
            cells.append(_cell(result))
            room -= len(data)
            if room < 0:
                driver |= {"status": "Error", "return_code": None, "stderr": f"more than {_MOST_SHOWN:,} bytes shown"}
                break
            if not result["alive"]:
                driver |= {"status": "TimeLimitExceeded" if result["status"] == Status.TIME_LIMIT else "Error"}
                driver |= {"return_code": None, "stderr": f"the session has ended: {result['status']} {result['why']}"}
                break
        has_ended = driver["status"] == "Finished"
        fetched = await _fetch(request, who, session.id, body.fetch_files) if has_ended else {}
    finally:
        await asyncio.shield(_end(request, who, session.id))
    driver["execution_time"] = time.monotonic() - began
    return _answer("Success" if has_ended else "Failed", files=fetched, driver=driver, cells=cells)


async def _end(request: Request, who: Caller, session: str) -> None:
    try:
        await service_of(request).sessions.end(who, session)
    except Refusal as refusal:
        if refusal.kind not in ("not-found", "session-ended"):
            raise


def _cell(result: Mapping[str, Any]) -> JSONObject:
    """Returns the outputs of a cell, in the form of a notebook."""
    errors, error = [], result["error"]
    if error is not None:
        lines = error["traceback"].splitlines()
        errors = [{"ename": error["type"], "evalue": error["message"], "traceback": lines}]
    elif result["status"] != Status.OK:
        errors = [{"ename": result["status"], "evalue": result["why"], "traceback": []}]
    display = [shown["data"] for shown in result["display"]]
    return {"stdout": result["stdout"], "stderr": result["stderr"], "display": display, "error": errors}


async def _fetch(request: Request, who: Caller, session: str, names: Sequence[str]) -> dict[str, str]:
    """Returns the requested files of a session, in base64, without those that cannot be read."""
    found: dict[str, str] = {}
    room = _MOST_FETCHED
    if names:  # writes and closes files without references, which PyPy leaves to its collector
        await service_of(request).sessions.command(who, session, "exec", code='__import__("gc").collect()')
    for name in names:
        path = posixpath.join("/box", name)
        try:
            data = await service_of(request).sessions.command(
                who, session, "read_file", path=path, limit=room
            )  # fmt: skip
        except Refusal as refusal:
            if refusal.kind not in ("file-error", "invalid"):
                raise
            continue
        found[name] = json.loads(data)["base64"]
        room -= len(found[name]) * 3 // 4
    return found
