"""`proxybox explain`: its output and files, and its error messages."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

import proxybox
from proxybox import cli
from proxybox.controller.record.encoding import Encoder
from proxybox.controller.wire.protocol import encode_request
from proxybox.records.explaining import profiles
from tests.recordings.madeup import made_up, openat, write

EVIL = "/\x1b]0;title\x07\x9b2J\r\n\u202e"


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explained") / "run.pbx"
    code = "import time; print('printed'); time.sleep(0.01)\ntry: __import__('socket').socket()\nexcept OSError: pass"
    proxybox.run(code, record=path).check()
    return path


def run(capfd: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Runs a command line; returns its exit status, and its output."""
    status = cli.main(["explain", *map(str, words)])
    return status, *capfd.readouterr()


def test_the_explanation_is_printed(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, recorded)
    assert (status, err) == (0, "")
    titles = re.findall(r"^(\w.*)$", out, re.MULTILINE)
    assert titles == [
        "What was run", "How it ended", "What it read", "What it printed", "What it asked for",
        "What it was refused, and why", "Where the time went",
    ]  # fmt: skip
    assert "  ok\n" in out
    assert "  | printed\n" in out.replace("    | ", "  | ")


def test_json(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capfd, "--json", recorded)
    seen = json.loads(out)
    assert (status, seen["status"], seen["is_complete"]) == (0, "ok", True)
    assert seen["refusals"][0]["call"] == "socket"


def test_strace(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "--strace", recorded)
    lines = out.splitlines()
    assert all(re.match(r" *\d+ +\d+\.\d{6} \[0\] \w+\(.*\) = ", line) for line in lines)
    assert [int(line.split()[0]) for line in lines] == list(range(1, len(lines) + 1))
    assert any('write(1, "printed\\n", 8) = 8' in line for line in lines)
    assert any(re.search(r"nanosleep\(.*\) = 0 <0\.\d{6}>$", line) for line in lines)
    assert any(re.search(r"socket\(.* = -1 EPERM .*\[denied: network: none\]$", line) for line in lines)
    assert len(lines) == json.loads(run(capfd, "--json", recorded)[1])["calls"]


def test_files_are_written_and_the_explanation_printed(
    recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    names = {each: tmp_path / each for each in ("svg", "html", "folded", "perfetto")}
    words = [word for name, path in names.items() for word in (f"--{name}", path)]
    status, out, _ = run(capfd, *words, recorded)
    assert (status, "How it ended" in out) == (0, True)
    ElementTree.fromstring(names["svg"].read_text())
    assert names["html"].read_text().startswith("<!DOCTYPE html>")
    assert "clock;clock_nanosleep 1\n" in names["folded"].read_text()
    assert json.loads(names["perfetto"].read_text())["traceEvents"]


def test_a_file_can_be_standard_output(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capfd, "--svg", "-", recorded)
    assert ElementTree.fromstring(out).tag.endswith("svg")
    _, out, _ = run(capfd, "--folded", "-", "--weight", "us", recorded)
    assert re.fullmatch(r"clock;clock_nanosleep \d{4,}\n", out)


def test_two_things_for_standard_output(recorded: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capfd, "--json", "--svg", "-", recorded)
    assert (status, out, err.count("\n")) == (2, "", 1)


def test_no_record_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").write_bytes(b"PBXR" + bytes(100))
    for name in ("none", "missing"):
        status, out, err = run(capfd, tmp_path / name)
        assert (status, out, err.count("\n")) == (125, "", 1)


def test_a_damaged_record_is_one_line(recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(recorded.read_bytes())
    data[-10] ^= 1
    (tmp_path / "damaged.pbx").write_bytes(data)
    status, out, err = run(capfd, "--svg", tmp_path / "picture.svg", tmp_path / "damaged.pbx")
    assert (status, out, err.count("\n")) == (125, "", 1)
    assert "damaged" in err
    assert not (tmp_path / "picture.svg").exists()


def test_what_was_left_out_is_told(
    recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiles, "MOST_WRITTEN", 500)
    monkeypatch.setattr(profiles, "MOST_FOLDED", 100)
    status, out, err = run(capfd, "--strace", "--perfetto", tmp_path / "a", "--folded", tmp_path / "b", recorded)
    assert (status, len(out) <= 500) == (0, True)
    for seen in (
        r"--strace: \d+ further lines are left out", r"--perfetto: \d+ further events are left out",
        r"--folded: \d+ calls are counted as others",
    ):  # fmt: skip
        assert re.search(f"^proxybox: {seen}$", err, re.MULTILINE)


def test_a_file_that_cannot_be_written(recorded: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for option in ("--svg", "--perfetto"):
        status, _, err = run(capfd, option, tmp_path / "none" / "file", recorded)
        assert (status, err.count("\n")) == (125, 1)


def test_a_record_cannot_write_to_the_terminal(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fill(encoder: Encoder) -> Iterator[None]:
        text = EVIL.encode()
        encoder.call(0, 1000, openat(text), 3)
        encoder.call(0, 2000, encode_request(3, (3,)), 0)
        encoder.printed(0, len(text), None)
        encoder.call(0, 3000, write(1, text), len(text))
        encoder.call(0, 3000, openat(text + b"2"), -2)
        yield

    path = made_up(
        tmp_path / "evil.pbx", fill, guest={"name": EVIL}, argv=[EVIL, EVIL], recorded=EVIL, session=True,
        policy={"warm_up": EVIL},
    )  # fmt: skip
    for words in ((), ("--all",), ("--json",), ("--strace",), ("--folded", "-"), ("--perfetto", "-"), ("--svg", "-")):
        status, out, err = run(capfd, *words, path)
        assert (status, err) == (0, ""), words
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", out), words
