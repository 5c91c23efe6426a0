"""A stand-in for the API, so that the command line can be tested without starting a box."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from proxybox import cli
from proxybox.explanations import Explanation, explain
from proxybox.policies import Policy
from proxybox.result import Files, Result, Status


@attrs.define
class FakeResult:
    status: str = "ok"
    exit_code: int | None = 0
    signal: int | None = None
    stdout: str = ""
    why: str = ""
    denials: dict[Any, int] = attrs.field(factory=dict)
    files: Files = attrs.field(factory=Files)
    truncated: bool = False
    unknown_calls: dict[int, int] = attrs.field(factory=dict)
    record: None = None
    record_fault: str = ""
    record_inexact: None = None

    @property
    def explanations(self) -> tuple[Explanation, ...]:
        made = Result(status=Status(self.status), why=self.why, denials=self.denials)
        return () if made.ok else explain(made, Policy())

    def to_dict(self) -> dict[str, Any]:
        return {"status": self.status, "stdout": self.stdout}


@attrs.define
class FakeAPI:
    """Stands for the API. asked: the arguments of the last call.

    It returns `result`, prints `stdout`, audits `calls`.
    """

    result: FakeResult = attrs.field(factory=FakeResult)
    stdout: bytes = b""
    calls: list[Any] = attrs.field(factory=list)
    error: BaseException | None = None
    program: Any = None
    asked: dict[str, Any] = attrs.field(factory=dict)

    def run_program(self, program: Any, **asked: Any) -> FakeResult:
        self.program, self.asked = program, asked
        if self.error is not None:
            raise self.error
        if asked["on_stdout"] is not None and self.stdout:
            asked["on_stdout"](self.stdout)
        for call in self.calls:
            asked["audit"](call)
        return self.result


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> FakeAPI:
    fake = FakeAPI()
    monkeypatch.setattr("proxybox.api.run_program", fake.run_program)
    return fake


@attrs.frozen
class Outcome:
    status: int
    out: str
    err: str


@pytest.fixture
def proxybox(capfd: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """Runs a command line in this process: proxybox("run", "-c", "1")."""

    def call(*words: str) -> Outcome:
        status = cli.main(words)
        captured = capfd.readouterr()
        return Outcome(status, captured.out, captured.err)

    return call
