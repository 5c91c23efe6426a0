"""The requests that a client can send to a service, each as one value with the function that reads the answer."""

import base64
import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Generic, TypeVar
from urllib.parse import quote

import attrs

from proxybox import argumentchecks
from proxybox.commands import Completeness, Completion, Displayed, Echo, Inspection
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.jsonvalues import from_json, to_json
from proxybox.policies.checks import as_bytes
from proxybox.records.taking import Taking
from proxybox.remote.answers import (
    Recorded,
    ServiceError,
    displayed_of,
    exception_of_problem,
    record_of,
    result_of,
)  # fmt: skip
from proxybox.result import Result
from proxybox.session import Printed
from proxybox.streamevents import (
    DisplayEvent,
    FailedEvent,
    FinishedEvent,
    InputRequestEvent,
    StartedEvent,
    Stream,
    TextEvent,
    read_stream_event,
)  # fmt: skip

T = TypeVar("T")

#: The environment variables that name the service and the key.
URL, KEY = "PROXYBOX_URL", "PROXYBOX_KEY"
DEFAULT_URL: Final = "http://127.0.0.1:8000"
#: Seconds that a client waits for an answer beyond the time of its program, which may wait for a box first.
PATIENCE: Final = 60.0


@attrs.frozen
class Ask(Generic[T]):
    """A request. read: turns the body of the answer into the caller's value.

    stream: whether the answer is a stream of events.
    """

    method: str
    path: str
    read: Callable[[bytes], T]
    json: Any = None
    content: bytes | None = None
    params: Mapping[str, str] = attrs.field(factory=dict)
    stream: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """The headers that this request needs."""
        headers = {"Accept": "application/x-ndjson"} if self.stream else {"Accept": "application/json"}
        if self.json is not None:
            headers["Content-Type"] = "application/json"
        elif self.content is not None:
            headers["Content-Type"] = "application/octet-stream"
        return headers

    @property
    def body(self) -> bytes | None:
        """The body that is sent."""
        return self.content if self.json is None else json.dumps(self.json).encode()


def where(url: str | None) -> str:
    """Returns the address of the service: `url`, or that of the environment, or a service on this machine."""
    chosen = url or os.environ.get(URL) or DEFAULT_URL
    if not argumentchecks.text("url", chosen).startswith(("http://", "https://")):
        argumentchecks.no_sense("url", "an address that begins with http:// or https://", chosen)
    return chosen.rstrip("/")


def authorization(key: str | None) -> dict[str, str]:
    """Returns the headers that present a key: `key`, or that of the environment."""
    chosen = key or os.environ.get(KEY)
    return {"Authorization": f"Bearer {chosen}"} if chosen else {}


# --- runs and sessions ------------------------------------------------------------------------------------------------


def program(
    code: str | os.PathLike[str], args: Sequence[str], stdin: Any, files: Mapping[str, str | bytes] | None,
    timeout: float | str | None, streams: bool, *, taking: Taking | None = None, **chosen: Any,
) -> Ask[Result]:  # fmt: skip
    """Returns the request for a run. A PathLike is a local script, whose text is sent.

    chosen: further fields of the request.
    """
    argumentchecks.program(code)
    body = _chosen(files=files, timeout=timeout, taking=taking, **chosen)
    body["code"] = code if isinstance(code, str) else _script(code)
    body["return_files"] = True
    if args:
        body["args"] = list(argumentchecks.arguments(args))
    is_interactive = _put_stdin(body, stdin)
    read = partial(_read_result, taking=taking)
    return Ask("POST", "/v1/run", read, body, stream=streams or is_interactive)


def _script(path: os.PathLike[str]) -> str:
    with open(path, encoding="utf-8", newline="") as file:
        return file.read(argumentchecks.MOST_CODE + 1)


def _put_stdin(body: dict[str, Any], stdin: Any) -> bool:
    """Adds standard input to a request, and returns whether it is a function, which the client calls later."""
    if callable(stdin):
        body["interactive"] = True
        return True
    if stdin is None:
        return False
    source = stdin if isinstance(stdin, str | bytes) else stdin.read()
    body["stdin"] = _content(as_bytes("stdin", source))
    return False


def _chosen(**options: Any) -> dict[str, Any]:
    files, timeout = options.pop("files"), argumentchecks.duration("timeout", options.pop("timeout"))
    options["record"] = None if options.pop("taking", None) is None else True
    body = {key: value for key, value in options.items() if value is not None}
    if files:
        body["files"] = {name: _content(content) for name, content in argumentchecks.files(files).items()}
    if timeout is not None:
        body["timeout"] = timeout
    return body


def _content(data: bytes) -> Any:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(data).decode()}


def _read_result(body: bytes, taking: Taking | None = None) -> Result:
    return result_of(json.loads(body), taking)


def opening(
    files: Mapping[str, str | bytes] | None, timeout: float | str | None, taking: Taking | None, **chosen: Any
) -> Ask[str]:
    """Returns the request for a session; `read` returns its id."""
    body = _chosen(files=files, timeout=timeout, taking=taking, **chosen)
    return Ask("POST", "/v1/sessions", _read_id, body)


def _read_id(body: bytes) -> str:
    return str(json.loads(body)["id"])


def _nothing(_: bytes) -> None:
    return None


# --- what a session is asked ------------------------------------------------------------------------------------------


def mode_of(echo: Echo) -> str:
    """Returns the mode for `Session.exec`."""
    if echo == "display":
        return echo
    return "interactive" if argumentchecks.flag("echo", echo) else "exec"


def code_in(
    session: str, mode: str, code: str, *, name: str = "", timeout: float | str | None, stdin: Any, streams: bool
) -> Ask[Result]:
    """Returns the request for `Session.exec` (mode "exec", "interactive", "display") or `Session.eval` ("eval")."""
    body = _chosen(files=None, timeout=timeout, code=argumentchecks.text("code", code), mode=mode, name=name or None)
    is_interactive = _put_stdin(body, stdin)
    return Ask("POST", f"/v1/sessions/{session}/execute", _read_result, body, stream=streams or is_interactive)


def call_in(session: str, name: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Ask[Result]:
    """Returns the request for `Session.call`."""
    body = {"name": name, "args": to_json(list(args)), "kwargs": to_json(dict(kwargs))}
    return Ask("POST", f"/v1/sessions/{session}/call", _read_result, body)


def setting(session: str, name: str, value: Any) -> Ask[None]:
    """Returns the request for `Session.set`; the functions below do so for the methods that they name."""
    return Ask("PUT", f"/v1/sessions/{session}/variables/{_in_path(name)}", _nothing, {"value": to_json(value)})


def getting(session: str, name: str) -> Ask[Any]:
    """Returns the request for `Session.get`."""
    path = f"/v1/sessions/{session}/variables/{_in_path(name)}"
    return Ask("GET", path, lambda body: from_json(json.loads(body)["value"]))


def completion(session: str, code: str, cursor: int | None) -> Ask[Completion]:
    """Returns the request for `Session.complete`."""

    def read(body: bytes) -> Completion:
        found = json.loads(body)
        return Completion(found["start"], tuple(found["matches"]))

    return Ask("POST", f"/v1/sessions/{session}/complete", read, {"code": code, "cursor": cursor})


def inspection(session: str, code: str, cursor: int | None, detail: int) -> Ask[Inspection | None]:
    """Returns the request for `Session.inspect`."""

    def read(body: bytes) -> Inspection | None:
        found = json.loads(body)["found"]
        return None if found is None else Inspection(**found)

    body = {"code": code, "cursor": cursor, "detail": detail}
    return Ask("POST", f"/v1/sessions/{session}/inspect", read, body)


def completeness(session: str, code: str) -> Ask[Completeness]:
    """Returns the request for `Session.is_complete`."""

    def read(body: bytes) -> Completeness:
        found = json.loads(body)
        return Completeness(found["status"], found["indent"])

    return Ask("POST", f"/v1/sessions/{session}/is_complete", read, {"code": code})


def plain(session: str, what: str) -> Ask[None]:
    """Returns a request without arguments and answer: interrupt, reset."""
    return Ask("POST", f"/v1/sessions/{session}/{what}", _nothing)


def ending(session: str) -> Ask[None]:
    """Returns the request to end a session."""
    return Ask("DELETE", f"/v1/sessions/{session}", _nothing)


def recording(session: str, taking: Taking) -> Ask[Recorded]:
    """Returns the request for the record of a session that has ended; `read` writes it to its path."""
    return Ask("GET", f"/v1/sessions/{session}/record", lambda body: record_of(json.loads(body), taking))


def giving_up(session: str) -> Ask[None]:
    """Returns the request to remove the record of a session."""
    return Ask("DELETE", f"/v1/sessions/{session}/record", _nothing)


def forking(session: str) -> Ask[str]:
    """Returns the request for `Session.fork`; `read` returns the id of the copy."""
    return Ask("POST", f"/v1/sessions/{session}/fork", _read_id)


def keeping(session: str) -> Ask[str]:
    """Returns the request for `Session.snapshot`; `read` returns its id."""
    return Ask("POST", f"/v1/sessions/{session}/snapshots", lambda body: str(json.loads(body)["snapshot"]))


def restoring(session: str, snapshot: str) -> Ask[None]:
    """Returns the request for `Session.restore`."""
    return Ask("POST", f"/v1/sessions/{session}/restore", _nothing, {"snapshot": snapshot})


def forgetting(session: str, snapshot: str) -> Ask[None]:
    """Returns the request to remove a stored state."""
    return Ask("DELETE", f"/v1/sessions/{session}/snapshots/{snapshot}", _nothing)


def reading(session: str, path: str) -> Ask[bytes]:
    """Returns the request for `Session.read_file`."""
    return Ask("GET", f"/v1/sessions/{session}/files/{_in_path(path)}", lambda body: body)


def writing(session: str, path: str, data: bytes | str, parents: bool) -> Ask[None]:
    """Returns the request for `Session.write_file`."""
    return Ask(
        "PUT", f"/v1/sessions/{session}/files/{_in_path(path)}", _nothing,
        content=argumentchecks.as_bytes("data", data), params={"parents": "true"} if parents else {},
    )  # fmt: skip


def listing(session: str, path: str) -> Ask[list[FileEntry]]:
    """Returns the request for `Session.list_files`."""

    def read(body: bytes) -> list[FileEntry]:
        return [FileEntry(**entry) for entry in json.loads(body)["entries"]]

    return Ask("GET", f"/v1/sessions/{session}/files", read, params={"path": path})


def input_for(path: str, text: str) -> Ask[None]:
    """Returns the request that answers an input_request. path: of the run or the session."""
    return Ask("POST", f"{path}/input", _nothing, {"text": text})


def _in_path(text: str) -> str:
    return quote(text, safe="/")


# --- streams ----------------------------------------------------------------------------------------------------------


class Conversation:
    """Reads a stream of events, and returns the function to call for each.

    answers_to: the path of the session, to which input is sent; that of a run is in the stream. taking: the destination
    of a run's record.
    """

    def __init__(
        self, answers_to: str, stdin: Any, on_stdout: Callable[[str], Any] | None,
        on_stderr: Callable[[str], Any] | None, on_display: Callable[[Displayed], Any] | None = None,
        taking: Taking | None = None,
    ) -> None:  # fmt: skip
        self.answers_to = answers_to
        self._taking = taking
        self._stdin = stdin
        self._takers: dict[Stream, Callable[[str], Any] | None] = {"stdout": on_stdout, "stderr": on_stderr}
        self._on_display = on_display
        self._result: Result | None = None

    def take(self, line: str) -> tuple[Callable[..., Any] | None, tuple[Any, ...], bool]:
        """Takes a line of the stream. Returns a function to call, its arguments, and whether its value is input.

        Raises the exception for a run that has failed.
        """
        match read_stream_event(json.loads(line)):
            case StartedEvent(run=run) if not self.answers_to:
                self.answers_to = f"/v1/runs/{run}"
            case TextEvent(stream, text):
                return self._takers[stream], (text,), False
            case DisplayEvent() as event:
                return self._on_display, (displayed_of(event),), False
            case InputRequestEvent():
                return self._stdin, (1 << 16,), True
            case FailedEvent(problem=problem):
                name = problem["type"].rpartition(":")[2]
                raise exception_of_problem(problem, name, problem["detail"], problem["status"], None)
            case FinishedEvent(result=result):
                self._result = result_of(result, self._taking)
        return None, (), False

    def ended(self) -> Result:
        """Returns the result from the last line. Raises ServiceError if the stream was broken off."""
        if self._result is None:
            raise ServiceError("the service has ended in the middle of its answer")
        return self._result


def for_stream(session: str, stdin: Any) -> Conversation:
    """Returns the conversation of `Session.stream`: its functions return events."""
    readers = partial(Printed, "stdout"), partial(Printed, "stderr"), lambda shown: shown
    return Conversation(f"/v1/sessions/{session}", stdin, *readers)
