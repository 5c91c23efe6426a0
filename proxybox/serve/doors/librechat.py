"""The code interpreter of LibreChat and of npm's @librechat/agents (https://github.com/ClickHouse/code-interpreter).

    POST /librechat/exec                        {"code", "lang": "py", "args", "files": [...]} -> what it printed, files
    POST /librechat/upload, /upload/batch       multipart files -> {"storage_session_id", "files": [...]}
    GET  /librechat/download/{session}/{id}     the bytes of a file
    GET  /librechat/sessions/{session}/objects/{id}, DELETE /librechat/files/{session}/{id}, GET /librechat/health

The program and its files are in /mnt/data, which is also its working directory. The files that it leaves there are
stored as those of a new session, unless it fails. Sessions and files have ids that cannot be guessed, and only their
key can use them.
"""

import asyncio
import json
import mimetypes
import re
import secrets
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from proxybox.serve.interface import (
    Caller,
    JSONObject,
    Refusal,
    Service,
    ServiceDoor,
    as_json,
    bearer,
    caller_by,
    check_names,
    collect,
    content,
    find,
    for_worker,
    in_words,
    keep,
    parsed,
    python3,
    run,
    service_of,
    shaped,
    shelf,
)
from proxybox.serve.interface import remove as give_up

#: The folder in which programs find their files, and leave some.
FOLDER: Final = "/mnt/data"
#: The prefix of the shelves of sessions.
_SHELVES: Final = "librechat/"
_PYTHON: Final = frozenset({"py", "python", "python3"})
#: The form of an id that LibreChat accepts.
_ID: Final = re.compile(r"[A-Za-z0-9_-]{21}\Z")
#: The interpreter's status for a run that has failed.
_STATUSES: Final[Mapping[str, str | None]] = {
    "ok": None, "time_limit": "TO", "crashed": "SG", "memory_limit": "SG", "output_limit": "SG", "misbehaved": "SG",
    "internal_error": "XX",
}  # fmt: skip


def _refused(refusal: Refusal) -> Response:
    payload: JSONObject = {"error": in_words(refusal), **refusal.more}
    if refusal.status == 429:
        wait = int(refusal.headers.get("Retry-After", "1"))
        payload = {"error": "rate_limited", "message": payload["error"], "retry_after_seconds": wait}
    return as_json(payload, 400 if refusal.status == 422 else refusal.status, refusal.headers)


router = APIRouter(prefix="/librechat", route_class=shaped(_refused), include_in_schema=False)
door = ServiceDoor(
    router=router, clients=("/librechat/",), health=("/librechat/health",), always=("/librechat/health",)
)


class FileRef(BaseModel):
    """A stored file that a program needs at `name`."""

    id: str
    storage_session_id: str = ""
    session_id: str = ""  # the name in older clients
    name: Annotated[str, Field(min_length=1, max_length=1024)]

    @property
    def session(self) -> str:
        """The session of the file."""
        return self.storage_session_id or self.session_id


class ExecBody(BaseModel):
    """A program to run. Other fields are ignored."""

    code: Annotated[str, Field(max_length=64 << 20)]
    lang: Annotated[str, Field(max_length=64)]
    args: list[str] | None = None
    files: list[FileRef] | None = None


def _caller(request: Request) -> Caller:
    """Returns the caller, by a bearer key, or by X-API-Key as older clients send it. Raises Refusal."""
    return caller_by(request, bearer(request) or request.headers.get("x-api-key") or None)


def _new_id(kind: str = "w") -> str:
    """Returns a new id. kind: "r" for a file whose changed versions clients do not need."""
    return kind + secrets.token_urlsafe(15)


def _wrong(text: str) -> Refusal:
    return Refusal("invalid", text)


# --- running ----------------------------------------------------------------------------------------------------------


@router.post("/exec")
async def execute(request: Request) -> Response:
    """Runs a program."""
    caller, service = _caller(request), service_of(request)
    body = parsed(ExecBody, await request.body())
    if body.lang.lower() not in _PYTHON:
        return _unsupported(f"Unsupported language: {body.lang} (allowed: py)")
    refs = {ref.name: ref for ref in body.files or ()}
    check_names(refs)
    try:
        wanted = [(name, f"{_SHELVES}{_session(ref.session)}", ref.id) for name, ref in refs.items()]
        files = await collect(service, caller, wanted)
    except Refusal as refusal:
        if refusal.kind != "not-found":
            raise
        raise Refusal("forbidden", "Unauthorized file reference") from None
    entry = _free_name(files)
    asked = {
        "language": python3(service.config), "folder": FOLDER, "entry": entry, "args": body.args or [],
        "files": {**for_worker(files), entry: body.code}, "return_files": True,
    }  # fmt: skip
    data = await run(request, caller, asked)
    result = await asyncio.to_thread(json.loads, data)
    payload = _told(result)
    if result["status"] == "ok":
        payload |= await _keep_changes(service, caller, payload["session_id"], result["files"], refs)
    return as_json(payload)


@router.post("/exec/programmatic")
async def programmatic(request: Request) -> Response:
    """Answers that a box cannot call tools of the client."""
    _caller(request)
    return _unsupported("Programs that call tools are not supported")


def _unsupported(message: str) -> Response:
    """Answers that a request fails at each later try, too."""
    return as_json({"error": "unsupported_capability", "message": message}, 400)


def _free_name(files: Mapping[str, bytes]) -> str:
    """Returns a name for the program: main.py, or a name that none of its files has."""
    taken = {name.partition("/")[0] for name in files}
    return next(name for number in range(len(taken) + 1) if (name := f"main{number or ''}.py") not in taken)


def _told(result: Mapping[str, Any]) -> JSONObject:
    """Returns a result in the interpreter's form, without files. The model sees stdout and stderr alone."""
    stderr, why = result["stderr"], result["hint"]
    if why:
        stderr = f"{stderr.rstrip()}\n{why}\n".lstrip()
    return {
        "session_id": _new_id(), "stdout": result["stdout"], "stderr": stderr, "files": [],
        "code": result["exit_code"], "signal": _signal_name(result["signal"]), "message": why or None,
        "status": _STATUSES.get(result["status"], "RE"), "wall_time": round(1e3 * result["usage"]["wall"]),
    }  # fmt: skip


def _signal_name(number: int | None) -> str | None:
    if number is None:
        return None
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


async def _keep_changes(
    service: Service, caller: Caller, session: str, changes: Sequence[Mapping[str, Any]], refs: Mapping[str, FileRef]
) -> JSONObject:
    """Stores the files that a program has left in its folder, and returns their description."""
    left = {
        change["path"].removeprefix(f"{FOLDER}/"): change
        for change in changes
        if change["path"].startswith(f"{FOLDER}/") and change["type"] == "file"
    }
    deleted = [name for name, change in left.items() if change["kind"] == "deleted"]
    fixed = {name for name, ref in refs.items() if ref.id.startswith("r")}
    made = [
        (name, change)
        for name, change in left.items()
        if name not in fixed and ("text" in change or "base64" in change)
    ]
    files: list[JSONObject] = []
    for name, change in made[: service.config.limits.files]:
        identity, data = _new_id(), content(change.get("text", change))
        try:
            await keep(service, caller, f"{_SHELVES}{session}", name, data, identity=identity, evict=_SHELVES)
        except Refusal:
            continue
        payload: JSONObject = {"id": identity, "name": name, "storage_session_id": session}
        if name in refs:
            payload["modified_from"] = {"id": refs[name].id, "storage_session_id": refs[name].session}
        files.append(payload)
    answer: JSONObject = {}
    if len(files) < len(made):
        answer["artifact_delivery"] = {
            "code": "artifact_delivery_failed", "status": "partial" if files else "failed", "attempted": len(made),
            "delivered": len(files), "failed": len(made) - len(files),
        }  # fmt: skip
    files += [
        {"id": ref.id, "name": name, "storage_session_id": ref.session, "inherited": True}
        for name, ref in refs.items()
        if name not in left or (name in fixed and name not in deleted)
    ]
    if gone := [name for name in deleted if name in refs]:
        answer["deleted_files"] = gone
    return {**answer, "files": files}


# --- files ------------------------------------------------------------------------------------------------------------


@router.post("/upload")
async def upload(request: Request) -> Response:
    """Stores files as those of a new session."""
    session, files = await _upload(request)
    payload = {"message": "success", "storage_session_id": session, "session_id": session, "files": files}
    return as_json(payload)


@router.post("/upload/batch")
async def upload_batch(request: Request) -> Response:
    """Stores files as those of a new session, and answers with the outcome for each."""
    session, files = await _upload(request)
    files = [{"status": "success", **file} for file in files]
    return as_json({
        "message": "success", "storage_session_id": session, "session_id": session, "files": files,
        "succeeded": len(files), "failed": 0,
    })  # fmt: skip


async def _upload(request: Request) -> tuple[str, list[JSONObject]]:
    """Stores the files of a multipart body (RFC 7578). Raises Refusal."""
    caller, service = _caller(request), service_of(request)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _wrong("Invalid content type. Must be multipart/form-data.")
    try:
        async with request.form(max_files=service.config.limits.files, max_fields=64) as form:
            return await _keep_sent(service, caller, form)
    except HTTPException as error:
        raise _wrong(str(error.detail)) from None


async def _keep_sent(service: Service, caller: Caller, form: FormData) -> tuple[str, list[JSONObject]]:
    sent = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
    if not sent:
        raise _wrong("No files provided")
    names = [file.filename or "" for file in sent]
    check_names(names)
    kind = "r" if str(form.get("read_only")).lower() == "true" else "w"
    session = _new_id()
    files: list[JSONObject] = []
    for name, file in zip(names, sent, strict=True):
        identity = _new_id(kind)
        await keep(service, caller, f"{_SHELVES}{session}", name, await file.read(), identity=identity, evict=_SHELVES)
        files.append({"fileId": identity, "filename": name})
    return session, files


@router.get("/download/{session}/{identity}")
async def download(request: Request, session: str, identity: str) -> Response:
    """Answers with the bytes of a file."""
    caller, service = _caller(request), service_of(request)
    found = await find(service, caller, f"{_SHELVES}{_session(session)}", identity)
    if found is None:
        raise _not_found()
    name = quote(found[0].rpartition("/")[2], safe="", errors="surrogateescape")
    headers = {"Content-Disposition": f"attachment; filename*=UTF-8''{name}", "X-Content-Type-Options": "nosniff"}
    return Response(found[1], media_type="application/octet-stream", headers=headers)


@router.get("/sessions/{session}/objects/{identity}")
async def describe(request: Request, session: str, identity: str) -> Response:
    """Answers with the facts about a file: clients use them to check whether it is still stored."""
    caller, service = _caller(request), service_of(request)
    files = await shelf(service, caller, f"{_SHELVES}{_session(session)}")
    file = next((each for each in files if each["id"] == identity), None)
    if file is None:
        raise _not_found()
    return as_json({
        "name": f"{session}/{identity}", "originalFilename": file["name"], "size": file["size"],
        "lastModified": datetime.fromtimestamp(file["made"], UTC).isoformat(timespec="milliseconds"),
        "etag": file["sha256"], "contentType": mimetypes.guess_type(file["name"])[0] or "application/octet-stream",
    })  # fmt: skip


@router.delete("/files/{session}/{identity}")
async def remove(request: Request, session: str, identity: str) -> Response:
    """Removes a file."""
    caller, service = _caller(request), service_of(request)
    if not await give_up(service, caller, f"{_SHELVES}{_session(session)}", identity):
        raise _not_found()
    return as_json({"message": "success"})


def _session(identity: str) -> str:
    """Returns the id of a session. Raises Refusal if it is not one."""
    if not _ID.match(identity):
        raise _not_found()
    return identity


def _not_found() -> Refusal:
    return Refusal("not-found", "File not found", details="The file may have expired or does not exist")


@router.get("/health")
async def health(request: Request) -> Response:
    """Answers whether the service takes requests."""
    is_ready = service_of(request).state == "ready"
    return Response("OK" if is_ready else "Service Unavailable", 200 if is_ready else 503, media_type="text/plain")
