"""The door for Open edX: requests as its client sends them, and the answers of codejail-service."""

import io
import json
import math
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from proxybox.serve.keys import Keys
from tests.serve.conftest import Server, serving

PATH = "/api/v0/code-exec"


@pytest.fixture(scope="module")
def edx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A service with the preset and a key."""
    folder: Path = tmp_path_factory.mktemp("codejail")
    key = Keys(folder / "data" / "keys.json").add("edx")
    config = """
        workers = 1
        slots = 2
        [policies.codejail]
        extends = "codejail"
        limits = { wall_time = 10, cpu_time = 3 }
    """
    with serving(folder, config) as server:
        server.http.auth = ("codejail", key)  # as with the URL http://codejail:KEY@host/
        yield server


def post(edx: Server, payload: object, files: dict[str, bytes] | None = None, **more: object) -> httpx.Response:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return edx.http.post(PATH, data={"payload": text}, files=files, **more)  # type: ignore[arg-type]


def execute(edx: Server, code: str, variables: dict, **more: object) -> dict:
    answer = post(edx, {"code": code, "globals_dict": variables, **more})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json"), answer.text
    return answer.json()


def emsg(edx: Server, code: str, variables: dict | None = None) -> str:
    seen = execute(edx, code, variables or {})
    assert seen["globals_dict"] == (variables or {})
    return seen["emsg"]


def test_variables_go_in_and_come_back(edx: Server) -> None:
    code = "out = input * 2\ncontainer.append(4)\nlost = object()\ndef double(x): return 2 * x\nraw = b'\\xff'"
    seen = execute(edx, code, {"input": 21, "container": [1, (2)]}, slug="a problem", python_path=None, more=1)
    assert seen == {"globals_dict": {"input": 21, "out": 42, "container": [1, 2, 4]}}


def test_numbers_that_json_does_not_have(edx: Server) -> None:
    answer = post(edx, '{"code": "out = [given, float(\'-inf\')]", "globals_dict": {"given": NaN}}')
    out = answer.json()["globals_dict"]["out"]
    assert math.isnan(out[0])
    assert out[1] == -math.inf


def test_an_exception_leaves_the_variables_as_they_were(edx: Server) -> None:
    code = "import sys\nprimitive = 22\ncontainer.append(1)\nprint('hidden')\nprint('seen', file=sys.stderr)\n1 / 0"
    assert emsg(edx, code, {"primitive": 7, "container": []}) == (
        "Couldn't execute jailed code: stdout: b'', stderr: b'seen\\nTraceback (most recent call last):\\n"
        '  File "jailed_code", line 2, in <module>\\n    exec(code, g_dict)\\n  File "<string>", line 6, in <module>\\n'
        "ZeroDivisionError: division by zero\\n' with status code: 1"
    )


@pytest.mark.sized(2)
@pytest.mark.parametrize(("code", "status"), [
    ("while True: pass", -9),
    ("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nwhile True: pass", -9),
    ("import os; os.kill(os.getpid(), 15)", -15),
    ("raise SystemExit(3)", 3),
])  # fmt: skip
def test_how_it_ends_is_told_as_a_status(edx: Server, code: str, status: int) -> None:
    assert emsg(edx, code) == f"Couldn't execute jailed code: stdout: b'', stderr: b'' with status code: {status}"


@pytest.mark.parametrize(("code", "words"), [
    ("import os; os.listdir('../')", "PermissionError: [Errno 13] Permission denied: \\'../\\'"),
    ("import os; os.listdir('/tmp')", "PermissionError: [Errno 13] Permission denied: \\'/tmp\\'"),
    ("open('/tmp/x', 'w')", "PermissionError: [Errno 13] Permission denied: \\'/tmp/x\\'"),
    ("open('../x', 'w')", "PermissionError: [Errno 13] Permission denied: \\'../x\\'"),
    ("open('/etc/hosts')", "PermissionError: [Errno 13] Permission denied: \\'/etc/hosts\\'"),
    ("f = open('tmp/x', 'wb')\nf.seek(1 << 30)\nf.write(b'x')\nf.flush()", "OSError: [Errno 27] File too large"),
    ("x = [bytearray(1 << 20) for _ in range(1024)]", "MemoryError"),
    ("import socket; socket.getaddrinfo('example.org', 80)", "gaierror: [Errno -3] Temporary failure in name"),
])  # fmt: skip
def test_what_codejail_forbids_fails_as_there(edx: Server, code: str, words: str) -> None:
    assert words in emsg(edx, code)


def test_the_folder_of_the_code(edx: Server) -> None:
    code = "import os, tempfile\nout = sorted(os.listdir('.'))\nhere = tempfile.NamedTemporaryFile().name"
    seen = execute(edx, code, {})["globals_dict"]
    assert seen["out"] == ["jailed_code", "tmp"]
    assert seen["here"].startswith("/box/jail/tmp/")


def test_a_library_of_the_course(edx: Server) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("course_library.py", "def triangular(n): return sum(range(n + 1))")
    payload = {"code": "from course_library import triangular\nout = triangular(6)", "globals_dict": {}}
    files = {"python_lib.zip": content.getvalue()}
    there = post(edx, {**payload, "python_path": ["python_lib.zip"]}, files)
    assert there.json() == {"globals_dict": {"out": 21}}
    assert "No module named" in post(edx, payload, files).json()["emsg"]


WELL = {"code": "x = 1", "globals_dict": {}}
SCHEMA = "Payload JSON did not match schema at path "


@pytest.mark.parametrize(("payload", "error"), [
    ("Not JSON", "Unable to parse payload JSON: Expecting value: line 1 column 1 (char 0)"),
    ({"globals_dict": {}}, SCHEMA + "$: 'code' is a required property"),
    ({"code": ""}, SCHEMA + "$: 'globals_dict' is a required property"),
    ({**WELL, "code": 5}, SCHEMA + "$.code: Input should be a valid string"),
    ({**WELL, "python_path": [1]}, SCHEMA + "$.python_path[0]: Input should be a valid string"),
    ([], SCHEMA + "$: Input should be a valid dictionary or instance of Payload"),
    ({**WELL, "python_path": ["/etc"]}, "Only allowed entry in 'python_path' is 'python_lib.zip'"),
    ({**WELL, "unsafely": True}, "Refusing codejail execution with unsafely=true"),
])  # fmt: skip
def test_what_makes_no_sense_is_told(edx: Server, payload: object, error: str) -> None:
    answer = post(edx, payload)
    assert (answer.status_code, answer.json()) == (400, {"error": error})


@pytest.mark.parametrize("depth", [300, 990, 995, 1_000, 100_000])
def test_deep_payloads_are_answered(edx: Server, depth: int) -> None:
    answer = post(edx, f'{{"code": "", "globals_dict": {{"x": {"[" * depth}{"]" * depth}}}}}')
    assert answer.status_code in (200, 400)
    assert "error" in answer.json() or "globals_dict" in answer.json()


def test_other_files_are_refused(edx: Server) -> None:
    for files in ({"/tmp/test.txt": b"x"}, {"python_lib.zip": b"x", "unknown.zip": b"x"}):
        answer = post(edx, WELL, files)
        assert (answer.status_code, answer.json()) == (
            400, {"error": "Only allowed name for uploaded file is 'python_lib.zip'"},
        )  # fmt: skip


def test_a_request_without_a_payload(edx: Server) -> None:
    for body in ({"data": {"x": "1"}}, {"files": {"payload": b"{}"}}, {"content": b"{}"}, {}):
        answer = edx.http.post(PATH, **body)  # type: ignore[arg-type]
        assert (answer.status_code, answer.json()) == (400, {"error": "Missing 'payload' parameter in POST body"})
    cut = edx.http.post(PATH, content=b"--x\r\n", headers={"Content-Type": "multipart/form-data; boundary=y"})
    assert (cut.status_code, list(cut.json())) == (400, ["error"])


def test_a_key_is_needed_and_its_health_is_told_to_all(edx: Server) -> None:
    answer = post(edx, WELL, auth=("codejail", "none"))
    assert (answer.status_code, list(answer.json())) == (401, ["error"])
    health = edx.http.get("/health/", auth=None)
    assert (health.status_code, health.json()) == (200, {"status": "OK"})


@pytest.mark.parametrize("claim", [
    "''", "'{'", "'[]'", "'5'", "'[' * 100_000", "'{\"x\":' * 100_000 + '1' + '}' * 100_000", "'\\udcff'",
    "'1' * 5_000",
])  # fmt: skip
def test_what_the_code_claims_to_have_left_is_no_fault_of_the_service(edx: Server, claim: str) -> None:
    """The code runs in the same process as the writer of that file, so it can write anything there."""
    file = "open('/box/left.json', 'w', errors='surrogateescape')"
    code = f"claim = {claim}\nimport os\nwith {file} as left: left.write(claim)\nos._exit(0)"
    seen = execute(edx, code, {"x": 1})
    assert seen == {"globals_dict": {"x": 1}, "emsg": "Sandboxed code produced corrupted stdout."}


@pytest.mark.parametrize("depth", [300, 990, 995, 1_000, 5_000])
def test_deep_variables_that_the_code_leaves_are_answered(edx: Server, depth: int) -> None:
    """The depth limit of JSON is that of the running Python: what it can read it can also write."""
    claim = f"""'{{"x":' * {depth} + '1' + '}}' * {depth}"""
    code = f"import os\nwith open('/box/left.json', 'w') as left: left.write({claim})\nos._exit(0)"
    seen = execute(edx, code, {"x": 1})
    if "emsg" in seen:
        assert seen == {"globals_dict": {"x": 1}, "emsg": "Sandboxed code produced corrupted stdout."}
        return
    assert list(seen) == ["globals_dict"]
    left = seen["globals_dict"]
    for _ in range(depth):
        assert list(left) == ["x"]
        left = left["x"]
    assert left == 1
