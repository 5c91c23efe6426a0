"""`proxybox trace`: the forms of a trace, with calls that a stand-in makes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller.audit import Decision, OSCall

Proxybox = Callable[..., Any]

OPEN = OSCall("open", 2, "paths", {"path": b"/a\xff", "flags": 0, "mode": 0}, 1, result=3)
OPEN.duration_ns = 2_000
SOCKET = OSCall("socket", 41, "refused", {"family": 2}, 1, Decision.DENIED, -1, "EPERM", "there is no network")


@pytest.fixture
def calls(api: Any) -> Any:
    api.calls = [OPEN, SOCKET]
    return api


def test_calls_go_to_stderr_with_decisions(calls: Any, proxybox: Proxybox) -> None:
    outcome = proxybox("trace", "-c", "pass")
    assert outcome.out == ""
    assert outcome.err.splitlines() == [
        'open("/a\\xff", O_RDONLY, 0) = 3',
        "socket(2) = -1 EPERM (Operation not permitted) [denied: there is no network]",
    ]


def test_colours_are_for_terminals(calls: Any, proxybox: Proxybox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[31m= -1 EPERM" in proxybox("trace", "-c", "pass").err
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in proxybox("trace", "-c", "pass").err


@pytest.mark.parametrize("words", [["--denied"], ["-d"], ["--family", "refused"]])
def test_only_some_calls(calls: Any, proxybox: Proxybox, words: list[str]) -> None:
    assert proxybox("trace", *words, "-c", "pass").err.startswith("socket(")


def test_an_unknown_family(calls: Any, proxybox: Proxybox) -> None:
    outcome = proxybox("trace", "--family", "path", "-c", "pass")
    assert outcome.status == 2
    assert "paths" in outcome.err


def test_json_lines_in_a_file(calls: Any, proxybox: Proxybox, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    outcome = proxybox("trace", "--json", "--output", str(path), "-c", "pass")
    assert outcome.err == ""
    first, second = map(json.loads, path.read_text().splitlines())
    assert first["arguments"]["path"] == "/a\\xff"
    assert (second["name"], second["decision"], second["errno"]) == ("socket", "denied", "EPERM")


def test_a_file_that_cannot_be_written(calls: Any, proxybox: Proxybox) -> None:
    outcome = proxybox("trace", "--output", "/proc/nothing/x", "-c", "pass")
    assert outcome.status == 125
    assert "can't write the trace" in outcome.err


def test_summary(calls: Any, proxybox: Proxybox) -> None:
    lines = proxybox("trace", "--summary", "-c", "pass").err.splitlines()
    head = " ".join(lines[0].split())
    assert head == "% time seconds usecs/call calls errors refused call"
    assert lines[2].split() == ["100.00", "0.000002", "2.0", "1", "open"]
    assert lines[-1].split()[-4:] == ["2", "1", "1", "total"]
    rows = json.loads(proxybox("trace", "--summary", "--json", "-c", "pass").err)
    assert [row["name"] for row in rows] == ["open", "socket"]


def unknown(number: int) -> OSCall:
    return OSCall(f"call_{number}", number, "unknown", {}, 1, Decision.UNKNOWN, -38, "ENOSYS")


def test_a_summary_of_calls_that_there_are_not_is_of_bounded_size(api: Any, proxybox: Proxybox) -> None:
    """A guest can make calls with four billion different numbers."""
    api.calls = [*map(unknown, range(5_000, 8_000)), OPEN, *map(unknown, range(5_000, 8_000))]
    rows = {row["name"]: row for row in json.loads(proxybox("trace", "--summary", "--json", "-c", "pass").err)}
    assert len(rows) == 1_002
    assert (rows["unknown"]["calls"], rows["call_5000"]["calls"], rows["open"]["calls"]) == (4_000, 2, 1)


def test_of_a_buffer_the_beginning_is_written(api: Any, proxybox: Proxybox) -> None:
    """A guest writes a megabyte in a call; each of its bytes would be five characters."""
    api.calls = [OSCall("write", 1, "descriptors", {"fd": 1, "data": b"\xff" * (1 << 20)}, 1, result=1 << 20)] * 3
    lines = proxybox("trace", "--json", "-c", "pass").err.splitlines()
    assert all(json.loads(line)["arguments"]["data"].endswith("... (1048576 bytes)") for line in lines)
    assert max(map(len, lines)) < 32 << 10
