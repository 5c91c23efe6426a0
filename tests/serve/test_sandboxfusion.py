"""The door for SandboxFusion's clients: programs, pytest, notebooks, and its published client."""

import asyncio
import base64
import contextlib
import re
import socket
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox.serve.config import load_config
from proxybox.serve.doors import sandboxfusion
from proxybox.serve.keys import Keys
from tests.serve.conftest import Server, serving

DOCS = Path(__file__).parents[2] / "docs"


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The service's folder. A module in it stands for pytest, so that nothing must be installed."""
    folder: Path = tmp_path_factory.mktemp("fusion")
    (folder / "packages").mkdir()
    (folder / "packages" / "pytest.py").write_text(STANDS_FOR_PYTEST)
    return folder


@pytest.fixture(scope="module")
def key(folder: Path) -> str:
    """A key of the service."""
    return Keys(folder / "data" / "keys.json").add("training")


@pytest.fixture(scope="module")
def fusion(folder: Path, key: str) -> Iterator[Server]:
    """A service that needs a key."""
    config = """
        workers = 1
        slots = 2
        [policies.default]
        extends = "default"
        limits = { wall_time = 5, cpu_time = 5, memory = "256M" }
        [languages.python]
        [languages.pytest]
        packages = ["packages"]
    """
    with serving(folder, config) as server:
        server.http.auth = ("", key)
        yield server


STANDS_FOR_PYTEST = """
def main(arguments):
    assert arguments[:2] == ["-p", "no:cacheprovider"], arguments
    names = {"__name__": "tests"}
    exec(compile(open(arguments[2]).read(), arguments[2], "exec"), names)
    try:
        for name, test in list(names.items()):
            name.startswith("test_") and test()
    except AssertionError:
        print("1 failed")
        return 1
    print("passed")
"""


def run(fusion: Server, code: str, language: str = "python", **more: object) -> dict[str, Any]:
    answer = fusion.post("/run_code", {"code": code, "language": language, **more})
    assert answer.status_code == 200, answer.text
    seen: dict[str, Any] = answer.json()
    assert seen["compile_result"] is None
    return seen


def test_ping(fusion: Server) -> None:
    assert fusion.http.get("/v1/ping", auth=None).text == '"pong"'


def test_a_program(fusion: Server) -> None:
    seen = run(fusion, "print(int(input()))", stdin="65535", compile_timeout=10, extra="ignored")
    ran = seen.pop("run_result")
    assert seen == {
        "status": "Success", "message": "", "compile_result": None, "executor_pod_name": None, "files": {},
    }  # fmt: skip
    assert (ran["status"], ran["return_code"], ran["stdout"], ran["stderr"]) == ("Finished", 0, "65535\n", "")
    assert ran["execution_time"] > 0
    assert ran["cpu_time"] > 0


@pytest.mark.parametrize(("code", "more", "status", "return_code"), [
    ("assert 1 == 2", {}, "Finished", 1),
    ("int a = 1", {}, "Finished", 1),
    ("raise SystemExit(7)", {}, "Finished", 7),
    ("import os; os.kill(os.getpid(), 15)", {}, "Finished", -15),
    ("import time; time.sleep(3)", {"run_timeout": 0.1}, "TimeLimitExceeded", None),
    ("while True: pass", {"run_timeout": 1000, "memory_limit_MB": 100_000, "stdin": ""}, "TimeLimitExceeded", None),
    ("x = bytearray(200 << 20)", {"memory_limit_MB": 128}, "Finished", 1),
    ("x = bytearray(1 << 30)", {"memory_limit_MB": -1}, "Finished", 1),
])  # fmt: skip
def test_a_program_that_fails(fusion: Server, code: str, more: dict, status: str, return_code: int | None) -> None:
    seen = run(fusion, code, **more)
    ran = seen["run_result"]
    assert (seen["status"], seen["message"], ran["status"], ran["return_code"]) == ("Failed", "", status, return_code)


def test_files_go_in_and_come_back(fusion: Server) -> None:
    code = "open('a.bin', 'wb').write(open('d/in', 'rb').read())\nopen('b', 'w').write('é')"
    files = {
        "d/in": encoded(b"\xff\0"), "program.py": encoded(b"x"), "null": None, "kept": encoded(b"as it came"),
    }  # fmt: skip
    names = ["a.bin", "./b", "/box/d/../d/in", "kept", "null", "../../etc/passwd", "/etc/passwd", "d"]
    seen = run(fusion, code, files=files, fetch_files=names)
    assert seen["status"] == "Success", seen
    assert {name: base64.b64decode(content) for name, content in seen["files"].items()} == {
        "a.bin": b"\xff\0", "./b": "é".encode(), "/box/d/../d/in": b"\xff\0", "kept": b"as it came",
    }  # fmt: skip


def test_files_are_fetched_after_a_failure_too(fusion: Server) -> None:
    seen = run(fusion, "open('a', 'w').write('x')\n1 / 0", fetch_files=["a"])
    assert (seen["status"], seen["files"]) == ("Failed", {"a": encoded(b"x")})


def test_what_comes_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many names of one large file would otherwise each return its content."""
    monkeypatch.setattr(sandboxfusion, "_MOST_FETCHED", 250)
    names = {f"{'./' * count}big": "big" for count in range(6)}
    changed = [{"path": "big", "kind": "added", "size": 99, "text": "x" * 99}]
    assert list(sandboxfusion._fetched(names, {}, changed)) == ["big", "./big"]
    assert list(sandboxfusion._fetched(names, {"big": {"base64": encoded(b"y" * 99)}}, [])) == ["big", "./big"]


def test_what_cells_show_is_bounded(fusion: Server) -> None:
    seen = notebook(fusion, ["print('x' * 1_000_000)"] * 80, total_timeout=0)
    assert (seen["status"], seen["driver"]["status"]) == ("Failed", "Error")
    assert 60 < len(seen["cells"]) < 80


def test_pytest_runs_the_tests_of_a_program(fusion: Server) -> None:
    for code, status, printed in (
        ("def test_it(): assert 1", "Success", "passed\n"),
        ("def test_it(): assert 0", "Failed", "1 failed\n"),
    ):
        seen = run(fusion, code, "pytest", files={"test_program.py": encoded(b"1 / 0")})
        assert (seen["status"], seen["run_result"]["stdout"]) == (status, printed), seen


def test_other_languages_are_the_service_s_fault(fusion: Server) -> None:
    seen = run(fusion, "int main() {}", "cpp")
    assert (seen["status"], seen["run_result"]) == ("SandboxError", None)
    assert seen["message"] == "there is no language 'cpp' here: want python or pytest"


@pytest.mark.parametrize(("path", "body", "place"), [
    ("/run_code", {"language": "python"}, ["body", "code"]),
    ("/run_code", {"code": 5, "language": "python"}, ["body", "code"]),
    ("/run_code", {"code": "", "language": "python", "run_timeout": -1}, ["body", "run_timeout"]),
    ("/run_code", {"code": "", "language": "python", "files": {"a": "A"}}, ["body", "files", "a"]),
    ("/run_code", {"code": "", "language": "python", "files": {"../a": ""}}, ["body", "files"]),
    ("/run_code", {"code": "", "language": "python", "files": {"/a": ""}}, ["body", "files"]),
    ("/run_jupyter", {}, ["body", "cells"]),
    ("/run_jupyter", {"cells": [], "kernel": "ir"}, ["body", "kernel"]),
    ("/run_jupyter", {"cells": [], "files": {"../a": ""}}, ["body", "files"]),
])  # fmt: skip
def test_a_body_that_makes_no_sense_is_told_where(fusion: Server, path: str, body: dict, place: list) -> None:
    answer = fusion.post(path, body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["detail"][0]["loc"][: len(place)] == place


def test_a_key_is_needed(fusion: Server) -> None:
    for path, body in (("/run_code", {"code": "", "language": "python"}), ("/run_jupyter", {"cells": []})):
        answer = fusion.post(path, body, auth=("", "none"))
        assert (answer.status_code, list(answer.json())) == (401, ["detail"])


# --- notebooks --------------------------------------------------------------------------------------------------------


def notebook(fusion: Server, cells: list[str], **more: object) -> dict[str, Any]:
    answer = fusion.post("/run_jupyter", {"cells": cells, **more})
    assert answer.status_code == 200, answer.text
    seen: dict[str, Any] = answer.json()
    return seen


def test_the_cells_of_a_notebook_share_a_session(fusion: Server, key: str) -> None:
    seen = notebook(
        fusion,
        [
            'a = "hello"', "a", "import sys\nn = sys.stderr.write('to err\\n')", "1 / 0", "print(a)",
            "n = open('out', 'w').write(open('in').read() * 2)",
        ],
        files={"in": encoded(b"x")}, fetch_files=["out", "missing", "/etc/shadow"],
    )  # fmt: skip
    assert (seen["status"], seen["message"], seen["files"]) == ("Success", "", {"out": encoded(b"xx")})
    assert (seen["driver"]["status"], seen["driver"]["return_code"]) == ("Finished", 0)
    cells = seen["cells"]
    assert cells[0] == {"stdout": "", "stderr": "", "display": [], "error": []}
    assert cells[1]["display"] == [{"text/plain": "'hello'"}]
    assert cells[2]["stderr"] == "to err\n"
    (error,) = cells[3]["error"]
    assert (error["ename"], error["evalue"], error["traceback"][-1]) == (
        "ZeroDivisionError", "division by zero", "ZeroDivisionError: division by zero",
    )  # fmt: skip
    assert cells[4]["stdout"] == "hello\n"
    assert fusion.http.get("/v1/sessions", auth=None, headers={"Authorization": f"Bearer {key}"}).json() == []


def test_a_cell_that_takes_too_long(fusion: Server) -> None:
    seen = notebook(fusion, ["while True: pass", "print('on')"], cell_timeout=0.3)
    assert seen["status"] == "Success"
    assert (seen["cells"][0]["error"][0]["ename"], seen["cells"][1]["stdout"]) == ("KeyboardInterrupt", "on\n")


def test_a_notebook_that_takes_too_long(fusion: Server) -> None:
    seen = notebook(fusion, ["x = 1", "while True: pass", "never = 1"], total_timeout=0.5, fetch_files=["x"])
    assert (seen["status"], seen["driver"]["status"], seen["files"]) == ("Failed", "TimeLimitExceeded", {})


def test_a_notebook_whose_session_ends(fusion: Server) -> None:
    seen = notebook(fusion, ["x = 1", "import os; os._exit(3)", "never = 1"])
    assert (seen["status"], seen["driver"]["status"], len(seen["cells"])) == ("Failed", "Error", 2)


# --- the client -------------------------------------------------------------------------------------------------------


class Relay(socketserver.ThreadingTCPServer):
    """A TCP port for a client that cannot use a Unix socket. path: of the service's socket."""

    def __init__(self, path: str) -> None:
        super().__init__(("127.0.0.1", 0), _Carry)
        self.path = path
        self.open: list[socket.socket] = []

    def server_close(self) -> None:
        for connection in self.open:  # of clients that have not closed them
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()


class _Carry(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Relay)
        self.server.open.append(self.request)
        with socket.socket(socket.AF_UNIX) as inner:
            inner.connect(self.server.path)
            back = threading.Thread(target=_carry, args=(inner, self.request))
            back.start()
            _carry(self.request, inner)
            back.join()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def endpoint(fusion: Server, key: str) -> Iterator[str]:
    with Relay(fusion.url.removeprefix("unix:")) as relay:
        thread = threading.Thread(target=relay.serve_forever)
        thread.start()
        yield f"http://training:{key}@127.0.0.1:{relay.server_address[1]}"
        relay.shutdown()
        thread.join()


def test_the_example_of_the_documentation(endpoint: str) -> None:
    pytest.importorskip("sandbox_fusion", reason="sandbox-fusion is not installed (PyPI)")
    (example,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "serve-sandboxfusion.md").read_text(), re.M | re.S)
    assert "http://127.0.0.1:8080" in example
    exec(compile(example.replace("http://127.0.0.1:8080", endpoint), "serve-sandboxfusion.md", "exec"), {})


@pytest.mark.parametrize("name", ["serve-codejail.md", "serve-sandboxfusion.md"])
def test_the_configurations_of_the_documentation(name: str, tmp_path: Path) -> None:
    (example,) = re.findall(r"^```toml\n(.*?)^```", (DOCS / name).read_text(), re.MULTILINE | re.DOTALL)
    file = tmp_path / "serve.toml"
    file.write_text(example)
    config = load_config(file, data=str(tmp_path))
    door = name.removeprefix("serve-").removesuffix(".md")
    assert {door} <= set(config.doors) & set(config.policies) & set(config.languages)


def test_its_client(endpoint: str) -> None:
    client: Any = pytest.importorskip("sandbox_fusion", reason="sandbox-fusion is not installed (PyPI)")
    request = client.RunCodeRequest(code="print(input())", language="python", stdin="42")
    seen = client.run_code(request, endpoint=endpoint, max_attempts=1)
    assert (seen.status, seen.run_result.stdout) == ("Success", "42\n")
    seen = asyncio.run(client.run_code_async(request, endpoint=endpoint, max_attempts=1))
    assert seen.run_result.stdout == "42\n"
    many = client.run_concurrent(client.run_code, args=[[request, endpoint, 1]] * 8, concurrency=4)
    assert [seen.run_result.stdout for seen in many] == ["42\n"] * 8
    seen = client.run_jupyter(client.RunJupyterRequest(cells=["6 * 7"]), endpoint=endpoint, max_attempts=1)
    assert seen.cells[0].display == [{"text/plain": "42"}]
    with pytest.raises(Exception, match="there is no language 'cpp' here"):
        client.run_code(client.RunCodeRequest(code="", language="cpp"), endpoint=endpoint, max_attempts=1)
