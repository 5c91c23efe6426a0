"""One model of answers: a Result's fields, its JSON, the OpenAPI description, and what a client reads."""

import json
from pathlib import Path
from typing import Any

import attrs
import httpx
import pytest

pytest.importorskip("fastapi", reason="the service is made of FastAPI (extra server)")

from proxybox.controller.audit import Denial
from proxybox.controller.record.exactness import Inexact
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.explanations import Explanation
from proxybox.remote.answers import result_of
from proxybox.result import Files, GuestError, Result, Status, Usage
from proxybox.resultjson import BESIDE, KEYS, RECORD_KEYS, SERVED_KEYS
from proxybox.serve.results import result_as_json
from tests.serve.declared import check, description, expected

METHODS = ("get", "put", "post", "delete", "head")
OPERATIONS = {
    f"{method.upper()} {path}": operation
    for path, methods in description()["paths"].items()
    for method, operation in methods.items()
    if method in METHODS
}


class ChangedFiles(Files):
    def __init__(self, *changes: Change) -> None:
        super().__init__()
        self.changes = changes
        self._content = {change.name: change.content for change in changes if change.content is not None}


#: A Result in which no field has its default.
RESULT = Result(
    status=Status.ERROR, exit_code=3, signal=9, why="why", stdout_bytes=b"out", stderr_bytes=b"err", value=(1, b"\xff"),
    error=GuestError("ValueError", "no", "Traceback"),
    usage=Usage(**{field.name: number for number, field in enumerate(attrs.fields(Usage), 1)}),
    truncated=True,
    denials={Denial("openat", "EACCES", "mounts"): 2}, unknown_calls={451: 3}, left_open=("/box/a",),
    files=ChangedFiles(
        Change(name="a", path=b"a", kind="added", type="file", mode=0o644, content=b"text"),
        Change(name="b", path=b"b", kind="modified", type="file", mode=0o600, content=b"\xff"),
        Change(name="c", path=b"c", kind="deleted", type="dir", mode=0o700),
    ),
    layers={"seal": "seccomp"}, record=Path("run.pbx"), record_fault="fault", record_inexact=Inexact(5, "late"),
    record_digest="00", explanations=(Explanation("key", "text", "remedy"),),
)  # fmt: skip


def test_each_field_of_a_result_has_a_key() -> None:
    fields = {field.name for field in attrs.fields(Result)}
    read = {key.field for key in (*KEYS, *SERVED_KEYS, *RECORD_KEYS) if key.field}
    lacking = fields - read - BESIDE
    assert not lacking, f"{lacking}: give each a row in proxybox/resultjson.py, or name it in BESIDE there"
    assert read | BESIDE <= fields, "proxybox/resultjson.py names fields that Result does not have"


def test_each_field_of_a_result_is_described() -> None:
    for field in attrs.fields(Result):
        assert field.name.startswith("_") or field.name in (Result.__doc__ or ""), (
            f"{field.name}: say in the docstring of Result (proxybox/result.py) what it is"
        )


@pytest.mark.parametrize("record", [None, b"record"])
def test_what_a_client_reads_is_what_was_sent(record: bytes | None) -> None:
    seen = json.loads(json.dumps(result_as_json(RESULT, contents=True, record=record)))
    check(seen, {"$ref": "#/components/schemas/RunResult"}, "a Result as JSON")
    back = result_of(seen)
    unset = Result(status=Status.OK)
    for name in (field.name for field in attrs.fields(Result)):
        if name in BESIDE or name.startswith("record") or name == "files":
            continue
        sent = getattr(RESULT, name)
        assert sent != getattr(unset, name), f"{name}: give it a value in RESULT above, so that it is seen to come back"
        assert getattr(back, name) == sent, f"{name}: see its row in proxybox/resultjson.py"
    assert [(each.name, each.kind, each.content) for each in back.files.changes] == [
        (each.name, each.kind, each.content) for each in RESULT.files.changes
    ]


def test_to_dict_is_json_of_the_same_keys() -> None:
    seen = RESULT.to_dict()
    assert list(seen) == [key.name for key in (*KEYS, *RECORD_KEYS)]
    assert seen["record"] == "run.pbx"
    assert json.loads(json.dumps(seen)) == seen


# --- the description --------------------------------------------------------------------------------------------------


def test_operations_keep_their_ids() -> None:
    """Generated clients use them as names of functions: new operations are added here, and none is renamed."""
    assert sorted(operation["operationId"] for operation in OPERATIONS.values()) == sorted(
        [
            "call",
            "changes",
            "complete",
            "end_session",
            "execute",
            "execute_stream",
            "forget",
            "forget_record",
            "fork",
            "get_variable",
            "health",
            "inspect",
            "interrupt",
            "is_complete",
            "list_files",
            "list_sessions",
            "open_session",
            "open_socket",
            "policies",
            "read_file",
            "read_record",
            "reset",
            "restore",
            "run",
            "run_cancel",
            "run_input",
            "run_interrupt",
            "run_stream",
            "session_input",
            "set_variable",
            "show_file",
            "show_session",
            "snapshot",
            "write_file",
        ]
    )


@pytest.mark.parametrize("name", OPERATIONS)
def test_problems_are_declared_as_such(name: str) -> None:
    declared = OPERATIONS[name]["responses"]
    problems = {status: answer for status, answer in declared.items() if int(status) >= 400}
    assert problems, f"{name}: it says of no problem: name some in `responses` (openapi.problems)"
    assert "422" not in declared or "HTTPValidationError" not in json.dumps(declared["422"])
    for status, answer in problems.items():
        is_health = name.endswith("/health") and status == "503"
        media = "application/json" if is_health else "application/problem+json"
        assert list(answer["content"]) == [media], f"{name}: {status}"


def test_who_needs_a_key() -> None:
    assert description()["security"] == [{"key": []}]
    assert [name for name, operation in OPERATIONS.items() if operation.get("security") == []] == ["GET /v1/health"]
    assert description()["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_examples_are_what_they_are_examples_of() -> None:
    schemas = description()["components"]["schemas"]
    shown = [(name, example) for name, schema in schemas.items() for example in schema.get("examples", ())]
    assert {"RunRequest", "RunResult"} <= {name for name, _ in shown}
    for name, example in shown:
        check(example, {"$ref": f"#/components/schemas/{name}"}, f"the example of {name}")


@pytest.mark.parametrize(("body", "is_good"), [
    ({"code": "1"}, True), ({"files": {"a": "1"}, "entry": "a"}, True), ({"code": "1", "files": {"a": "1"}}, True),
    ({}, False), ({"entry": "a"}, False), ({"code": "1", "entry": "a", "files": {"a": "1"}}, False),
    ({"code": None}, False), ({"code": "1", "cod": 1}, False),
])  # fmt: skip
def test_a_program_is_exactly_one_of_two(body: dict, is_good: bool) -> None:
    def is_taken() -> bool:
        try:
            check(body, {"$ref": "#/components/schemas/RunRequest"}, "a request")
        except AssertionError:
            return False
        return True

    assert is_taken() == is_good


# --- answers that are not declared are seen ---------------------------------------------------------------------------


def answered(path: str, status: int, media: str, body: Any, method: str = "GET") -> None:
    request = httpx.Request(method, f"http://localhost{path}")
    compared = expected(request, httpx.Response(status, headers={"content-type": media}))
    assert compared is not None
    compared.take(json.dumps(body).encode() + b"\n")
    compared.end()


HEALTH = {"status": "ready", "why": "", "version": "1"}


def test_what_is_declared_passes() -> None:
    answered("/v1/health", 200, "application/json", HEALTH)
    answered("/v1/run", 200, "application/x-ndjson", {"event": "started", "run": "r", "seq": 0}, "POST")


@pytest.mark.parametrize(("path", "status", "media", "body", "says"), [
    ("/v1/health", 418, "application/json", HEALTH, "this status is not declared"),
    ("/v1/health", 200, "text/plain", HEALTH, "declared are application/json"),
    ("/v1/health", 200, "application/json", {**HEALTH, "more": 1}, "'more' was unexpected"),
    ("/v1/health", 200, "application/json", {"status": "ready"}, "'why' is a required property"),
    ("/v1/health", 200, "application/json", {**HEALTH, "status": "well"}, "'well' is not one of"),
    ("/v1/sessions/x/files", 404, "application/json", {}, "declared are application/problem"),
    ("/v1/new", 200, "application/json", {}, "no such operation"),
    ("/v1/new", 404, "application/problem+json", {}, "'type' is a required property"),
])  # fmt: skip
def test_what_is_not_declared_fails_and_says_what_to_do(
    path: str, status: int, media: str, body: Any, says: str
) -> None:
    with pytest.raises(AssertionError, match=says) as failed:
        answered(path, status, media, body)
    assert "declare it in proxybox/serve" in str(failed.value)
