"""The commands for records, as a person types them."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from proxybox.cli.replayed import parting
from proxybox.controller.record.parting import Divergence, RequestText
from proxybox.records.signing import public_key_id
from proxybox.terminal.text import Paint
from tests.recordings.keys import made

COMMAND = (sys.executable, "-c", "from proxybox.cli import main; raise SystemExit(main())")


def proxybox(*words: Any, status: int = 0, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Runs the command, which must end with this status."""
    done = subprocess.run([*COMMAND, *map(str, words)], input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.pbx"


def test_a_run_is_recorded_and_replayed(record: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import random, sys; print(random.random(), input()); print('err', file=sys.stderr); sys.exit(3)")
    first = proxybox("run", "--record", record, script, stdin="typed\n", status=3)
    script.unlink()
    again = proxybox("replay", record)
    assert again.stdout == first.stdout
    said = again.stderr.splitlines()
    assert said[0] == "err"
    assert said[1].startswith("proxybox: the same as recorded: ")
    assert proxybox("replay", "--quiet", record).stdout == ""
    seen = json.loads(proxybox("replay", "--json", record).stdout)
    assert (seen["ok"], seen["divergence"], seen["result"]["exit_code"]) == (True, None, 3)
    assert seen["result"]["stdout"] == first.stdout


def test_a_record_is_replayed_at_once(record: Path) -> None:
    done = proxybox("run", "--record", record, "--check", "-c", "import sys; print('said'); sys.exit(3)", status=3)
    assert done.stdout == "said\n"
    assert done.stderr.startswith("proxybox: the same as recorded: ")
    seen = json.loads(proxybox("run", "--record", record, "--check", "--json", "-c", "1").stdout)
    assert (seen["check"]["ok"], seen["record_exact"], seen["record_inexact"]) == (True, True, None)
    assert "--record" in proxybox("run", "--check", "-c", "1", status=2).stderr


def test_a_message_begins_a_line(record: Path, tmp_path: Path) -> None:
    """Both streams go to one file, and the output, complete or cut, ends without a newline."""
    with (tmp_path / "both").open("w+") as file:
        for words in (
            ("run", "--record", record, "--check", "--set", "output.limit=10", "-c", "print('12345678901234')"),
            ("replay", record),
        ):
            subprocess.run([*COMMAND, *map(str, words)], stdout=file, stderr=file, check=True)
        file.seek(0)
        said = file.read().splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "1234567890", "proxybox", "proxybox", "1234567890", "proxybox",  # the cut, and the check
    ]  # fmt: skip
    done = proxybox(
        "run", "--set", "output.limit=3", "--set", "output.on_excess=end", "-c", "print('12345')", status=153
    )
    assert (done.stdout, done.stderr.partition(":")[0]) == ("123", "proxybox")


def test_a_record_that_does_not_replay_is_told(record: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("secret")
    words = ("run", "--record", record, "--redact", "/data", "--mount", f"{tmp_path / 'file'}:/data", "-c")
    code = "print(len(open('/data').read()))"
    assert "a replay of the record may part: what the program read there is left out" in proxybox(*words, code).stderr
    done = proxybox(*words[:-1], "--check", "-c", code, status=125)
    assert "proxybox: the replay parts from its record at call" in done.stderr
    assert "proxybox: the record says that it is inexact from call" in done.stderr


@pytest.mark.full
def test_a_policy_is_told_with_its_record(record: Path) -> None:
    proxybox("run", "--record", record, "-c", "1")
    assert "\nunder the default policy\nnot signed\n" in proxybox("verify", record).stdout
    proxybox("run", "--record", record, "--set", "limits.threads=3", "-c", "1")
    assert "\nunder the default policy, but for:\n  limits.threads = 3\n" in proxybox("verify", record).stdout
    assert json.loads(proxybox("verify", "--json", record).stdout)["policy"]["limits"]["threads"] == 3


def test_a_parting_shows_what_differs() -> None:
    """Both calls look the same: their data differs only far from its beginning."""
    passed = [b"x" * 300 + text for text in (b"one", b"two")]
    expected, got = (RequestText(1, "write", {"fd": 1, "buf": each}, {"fd": 1, "buf": each}) for each in passed)
    lines = parting(Divergence(7, "the program asks something else", expected, got), Paint(io.StringIO()))
    assert lines[1].startswith("  at        write(1, ")
    assert lines[2:] == ["  buf: at byte 300 of 303 and 303: ...b'xxxxxxxxxxxxone' and ...b'xxxxxxxxxxxxtwo'"]
    other = RequestText(1, "write", {"fd": 2, "buf": passed[0]}, {"fd": 2, "buf": passed[0]})
    lines = parting(Divergence(7, "the program asks something else", expected, other), Paint(io.StringIO()))
    assert [line.split()[0] for line in lines[1:]] == ["expected", "got", "fd:"]
    assert lines[3] == "  fd: 1 and 2"


def test_a_replay_is_stopped_where_that_is_asked_for(record: Path) -> None:
    proxybox("run", "--record", record, "-c", "print(1, flush=True); import json; print(2)")
    done = proxybox("replay", "--until", "30", record)
    assert done.stderr == "proxybox: the same as recorded until call 30, where it was stopped\n"
    assert proxybox("replay", "--speed", "100", record).stdout == "1\n2\n"


def test_a_call_that_the_record_has_not_is_said(record: Path) -> None:
    proxybox("run", "--record", record, "-c", "print(1)")
    for flag in ("--at-call", "--until"):
        done = proxybox("replay", flag, "99999", record, status=2)
        assert done.stderr.splitlines()[-1].startswith(f"proxybox: {flag}: there is no call 99,999, the record has 1")
        assert "'five' is not a valid number of a call." in proxybox("replay", flag, "five", record, status=2).stderr


@pytest.mark.full
def test_what_cannot_be_replayed_is_said_in_one_line(record: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no record")
    for path, seen in ((tmp_path / "text", "this is no record of a run"), (tmp_path / "none", "No such file")):
        done = proxybox("replay", path, status=125)
        assert seen in done.stderr
        assert len(done.stderr.splitlines()) == 1
    proxybox("run", "--record", record, "-c", "1")
    data = record.read_bytes()
    record.write_bytes(data[:-1000] + bytes([data[-1000] ^ 1]) + data[-999:])
    assert "changed or damaged" in proxybox("replay", record, status=125).stderr
    record.write_bytes(data[:-100])
    assert "the record ends" in proxybox("replay", record, status=1).stderr


def test_another_interpreter_is_named(record: Path) -> None:
    proxybox("run", "--record", record, "-c", "1")
    done = proxybox("replay", "--guest", "cpython", record, status=125)
    assert "made by another build of pypy" in done.stderr


def test_options_that_make_no_sense(record: Path, tmp_path: Path) -> None:
    assert "record" in proxybox("run", "--record", tmp_path / "no" / "where", "-c", "1", status=125).stderr
    assert "record_limit" in proxybox("run", "--record", record, "--record-limit", "3", "-c", "1", status=125).stderr
    assert "redact" in proxybox("run", "--record", record, "--redact", "NOBODY", "-c", "1", status=125).stderr
    proxybox("replay", "--until", "0", record, status=2)
    proxybox("repl", "--record", tmp_path, status=2)


def test_signed_and_verified(record: Path, tmp_path: Path) -> None:
    for name in ("key", "other"):
        made(tmp_path / name)
    key, public, other = tmp_path / "key", tmp_path / "key.pub", tmp_path / "other.pub"
    proxybox("run", "--record", record, "--sign", key, "-c", "print(1)")
    assert f"signed by key {public_key_id(key)[:16]}" in proxybox("verify", record, "--key", public).stdout
    assert "it is not signed by" in proxybox("verify", record, "--key", public, "--key", other, status=1).stdout
    seen = json.loads(proxybox("verify", "--json", record).stdout)
    assert (seen["ok"], seen["status"], seen["signatures"][0]["valid"]) == (True, "ok", True)
    proxybox("verify", tmp_path / "none", status=125)
    proxybox("run", "--sign", key, "-c", "print(1)", status=2)
    proxybox("run", "--record", record, "--sign", public, "-c", "print(1)", status=125)


def test_a_record_without_a_signature_is_not_signed_by_anybody(record: Path, tmp_path: Path) -> None:
    made(tmp_path / "key")
    proxybox("run", "--record", record, "-c", "print(1)")
    assert "not signed" in proxybox("verify", record).stdout
    assert "it is not signed by" in proxybox("verify", record, "--key", tmp_path / "key.pub", status=1).stdout


def test_nothing_of_a_record_reaches_the_terminal_raw(record: Path) -> None:
    proxybox("run", "--record", record, "-c", "import sys; 1", "\x1b[31mred\x07\u202e")
    for done in (proxybox("verify", record), proxybox("replay", record)):
        assert not set(done.stdout + done.stderr) & {"\x1b", "\x07", "\u202e"}


# --- looks into a replay ----------------------------------------------------------------------------------------------

LOOKED = """\
import os
def find(folder):
    found = len(folder)
    return os.listdir(folder)
find("/usr")
"""


@pytest.fixture
def listed(record: Path) -> tuple[Path, int]:
    """A record, and the number of a call that the program's fourth line makes."""
    proxybox("run", "--record", record, "-c", LOOKED)
    lines = json.loads(proxybox("explain", "--lines", "--json", record).stdout)["lines"]
    assert [each["function"] for each in lines if each["line"] == 4] == ["find"]
    calls = proxybox("explain", "--strace", record).stdout.splitlines()
    (number,) = (number for number, line in enumerate(calls, 1) if 'openat(AT_FDCWD, "/usr", ' in line)
    return record, number


def test_code_runs_in_the_program_at_a_call(listed: tuple[Path, int]) -> None:
    record, number = listed
    done = proxybox("replay", "--at-call", number, record, stdin="print(folder)\nfound + 1")
    assert done.stdout == "/usr\n5\n"
    assert "  in <string>:4, find\n  from <string>:5, <module>\n" in done.stderr
    failed = proxybox("replay", "--at-call", number, record, stdin="1/0", status=1)
    assert "ZeroDivisionError" in failed.stderr
    early = proxybox("replay", "--at-call", 1, record, stdin="1", status=125)
    assert "proxybox: --at-call 1: the interpreter makes this call by itself, so no Python can run here" in early.stderr
    assert "(proxybox explain --lines tells which calls" in early.stderr


def test_a_prompt_stands_in_the_program_at_a_call(listed: tuple[Path, int]) -> None:
    import pexpect

    record, number = listed
    words = [*COMMAND[1:], "replay", "--no-history", "--at-call", str(number), str(record)]
    prompt = pexpect.spawn(COMMAND[0], words, encoding="utf-8", timeout=30, env={**os.environ, "TERM": "dumb"})
    for typed, shown in (
        ("found = 1000 + found; found", "1004"), ("%undo", ">>> "), ("found + 2000", "2004"),
        ("import os; os._exit(3)", "a new box was started"), ("found + 3000", "3004"),
    ):  # fmt: skip
        prompt.sendline(typed)
        prompt.expect_exact(shown)
    prompt.sendline("exit()")
    prompt.expect_exact(f"until call {number}, where it was stopped")
    prompt.wait()
    assert prompt.exitstatus == 0


@pytest.mark.full
def test_lines_stand_in_every_form(listed: tuple[Path, int], tmp_path: Path) -> None:
    record, number = listed
    files = {name: tmp_path / name for name in ("svg", "html", "folded", "perfetto")}
    seen = proxybox(
        "explain", "--lines", record, *(word for name, path in files.items() for word in (f"--{name}", path))
    )
    assert "<string>:4  find" in seen.stdout
    strace = proxybox("explain", "--lines", "--strace", record).stdout.splitlines()
    assert strace[number - 1].endswith("  # <string>:4 find")
    assert "<module> (<string>:5);find (<string>:4);openat;/usr 1\n" in files["folded"].read_text()
    events = json.loads(files["perfetto"].read_text())["traceEvents"]
    assert any(each.get("args", {}).get("line") == "<string>:4" for each in events)
    assert "(&lt;string&gt;:4)" in files["svg"].read_text()
    assert "&lt;string&gt;:4" in files["html"].read_text()
