"""The command line with real boxes: it works as `python` does."""

import contextlib
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pexpect
import pytest
import rich

from proxybox.controller import find_guest

COMMAND = (sys.executable, "-m", "proxybox.cli")


def proxybox(*words: Any, stdin: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs the command with a text as its standard input."""
    return subprocess.run(
        [*COMMAND, *map(str, words)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        **options,
    )


@contextlib.contextmanager
def started(*words: str, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Starts the command for the context, and kills it at the end."""
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def out_of(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "program" / "script.py"
    path.parent.mkdir()
    return path


# --- what python does -----------------------------------------------------------------------------


def test_code_arguments_and_output() -> None:
    done = proxybox("run", "-c", "import sys; print(sys.argv[1:])", "--policy", "-x", "")
    assert (done.stdout, done.stderr, done.returncode) == ("['--policy', '-x', '']\n", "", 0)


def test_a_script_with_modules_beside_it(script: Path) -> None:
    script.write_text("import helper, sys; print(helper.name, sys.argv[1])")
    (script.parent / "helper.py").write_text("name = 'helper'")
    assert proxybox("run", script, "one").stdout == "helper one\n"


def test_a_folder_with_a_main(script: Path) -> None:
    (script.parent / "__main__.py").write_text("print(__name__)")
    assert proxybox("run", script.parent).stdout == "__main__\n"


def test_a_module_of_the_library() -> None:
    done = proxybox("run", "-m", "json.tool", "--compact", stdin='{"a": [1, 2]}')
    assert done.stdout == '{"a":[1,2]}\n'


def test_a_program_on_standard_input() -> None:
    done = proxybox("run", "-", "x", stdin="import sys; print(sys.argv)\n")
    assert done.stdout == "['-', 'x']\n"
    assert proxybox("run", stdin="print(6 * 7)\n").stdout == "42\n"


def test_standard_input_is_the_programs() -> None:
    done = proxybox("run", "-c", "import sys; print(sum(map(int, sys.stdin)))", stdin="1\n2\n3\n")
    assert done.stdout == "6\n"


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [
        ("raise SystemExit(7)", 7, ""),
        ("raise SystemExit('no')", 1, "no\n"),
        ("import os; os._exit(9)", 9, ""),
        ("1 / 0", 1, "ZeroDivisionError: "),
        ("def", 1, "SyntaxError: "),
    ],
)
def test_exit_statuses_are_the_programs(code: str, status: int, said: str) -> None:
    done = proxybox("run", "-c", code)
    assert done.returncode == status
    assert said in done.stderr
    assert (done.stderr == "") == (said == "")


def test_a_traceback_names_the_script(script: Path) -> None:
    script.write_text("def f():\n    raise ValueError('oh')\nf()\n")
    done = proxybox("run", script)
    assert done.returncode == 1
    assert "script.py" in done.stderr
    assert "line 2, in f" in done.stderr
    assert str(script.parent) not in done.stderr


def test_output_comes_as_it_is_written() -> None:
    code = "import time; print('first', flush=True); time.sleep(30)"
    with started("run", "--timeout", "60", "-c", code) as process:
        assert out_of(process).readline() == b"first\n"
        assert process.poll() is None


def test_bytes_are_not_changed() -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)))"
    done = subprocess.run([*COMMAND, "run", "-c", code], capture_output=True, check=False)
    assert done.stdout == bytes(range(256))


def test_a_reader_that_leaves_is_met_as_by_python() -> None:
    code = "while True: print('spam')"
    with started("run", "-c", code) as process:
        out_of(process).readline()
        out_of(process).close()
        assert process.wait(200) == 1
        assert process.stderr is not None
        assert b"BrokenPipeError" in process.stderr.read()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_may_be_closed(closed: str) -> None:
    line = f'"{sys.executable}" -m proxybox.cli run -c "raise SystemExit(5)" {closed}'
    assert subprocess.run(line, shell=True, check=False).returncode == 5


# --- terminals and signals ------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Any]:
    """Starts the command on a terminal: terminal("run", ...)."""
    children = []

    def start(*words: str) -> Any:
        child = pexpect.spawn(COMMAND[0], [*COMMAND[1:], *words], timeout=200, encoding="utf-8", echo=False)
        children.append(child)
        return child

    yield start
    for child in children:
        child.close(force=True)


def test_programs_know_a_terminal_on_which_escapes_would_be_text(
    terminal: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `rich`, which sets bold type whatever NO_COLOR says, fills the screen with \\x1b[1m."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    code = "import os; print(*(f'{name}={os.environ.get(name)}' for name in ('TERM', 'NO_COLOR')))"
    packages = str(Path(rich.__file__).parent.parent)
    bold = "import sys; sys.path.append('/r'); from rich import print; print('[bold]' + 'b' + 'old[/], [link=x]u[/]')"
    for words, shown in (
        (["-c", code], "TERM=dumb NO_COLOR=1\r\n"),
        (["--set", "output.escapes=raw", "-c", code], "TERM=xterm-256color NO_COLOR=None\r\n"),
        (["--env", "TERM=vt100", "-c", code], "TERM=vt100 NO_COLOR=1\r\n"),
        (["--mount", f"{packages}:/r", "-c", bold], "bold, u\r\n"),
        (["--mount", f"{packages}:/r", "--set", "output.escapes=raw", "-c", bold], "\x1b[1mbold\x1b[0m, "),
    ):
        child = terminal("run", *words)
        child.expect(pexpect.EOF)
        assert child.before.startswith(shown)


def test_a_dialogue_on_a_terminal(terminal: Any) -> None:
    child = terminal("run", "-c", "print('Hello,', input('Name? ')); raise SystemExit(3)")
    child.expect_exact("Name? ")
    child.sendline("Ada")
    child.expect_exact("Hello, Ada")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 3


def test_the_program_sees_a_terminal_where_there_is_one(terminal: Any) -> None:
    code = "import sys; print([f.isatty() for f in (sys.stdin, sys.stdout, sys.stderr)])"
    terminal("run", "-c", code).expect_exact("[True, True, True]")
    assert proxybox("run", "-c", code).stdout == "[False, False, False]\n"


def test_escapes_are_neutralised_on_terminals_alone(terminal: Any) -> None:
    code = "print('\\x1b]0;owned\\x07' + 'é')"
    terminal("run", "-c", code).expect_exact("\\x1b]0;owned\\x07é")
    assert proxybox("run", "-c", code).stdout == "\x1b]0;owned\x07é\n"
    terminal("run", "--set", "output.escapes=raw", "-c", code).expect_exact("\x1b]0;owned\x07é")


def test_tracebacks_at_a_terminal_are_not_full_of_escapes(terminal: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyPy colours tracebacks only where the policy lets escape sequences through and NO_COLOR is not set."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    program = ("-c", "import os; print('told', os.environ.get('NO_COLOR')); 1/0")
    raw = ("run", "--set", "output.escapes=raw", *program)
    child = terminal("run", *program)
    child.expect("""told 1\r\n.*File "<string>", line 1, in <module>\r\n.*ZeroDivisionError: division by zero""")
    terminal(*raw).expect("told None")
    monkeypatch.setenv("NO_COLOR", "1")
    child = terminal(*raw)
    child.expect(pexpect.EOF)
    assert "told 1" in child.before
    assert "ZeroDivisionError" in child.before
    assert "\x1b" not in child.before


def test_what_is_typed_for_getpass_is_not_shown(terminal: Any) -> None:
    code = "import getpass; w = getpass.getpass('word: '); print('got', w.upper()); print('hello', input('name: '))"
    child = terminal("run", "-c", code)
    child.setecho(True)
    child.logfile_read = said = io.StringIO()
    child.expect_exact("word: ")
    assert child.waitnoecho(20)
    child.sendline("secret")
    child.expect_exact("got SECRET")
    child.expect_exact("name: ")
    child.sendline("Ada")
    child.expect_exact("Ada\r\nhello Ada")
    child.expect(pexpect.EOF)
    assert "secret" not in said.getvalue()


@pytest.mark.sized(4)
@pytest.mark.parametrize("end", ["exit", "os.abort()", "while 1: pass", signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_the_terminal_is_left_as_it_was(terminal: Any, end: Any) -> None:
    """After each kind of end. A program can change nothing of the terminal but its echo."""
    code = (
        "import os, termios, time\nsettings = termios.tcgetattr(0)\nsettings[0] = settings[1] = settings[3] = 0\n"
        "termios.tcsetattr(0, termios.TCSAFLUSH, settings)\nprint('begun')\nassert termios.tcgetattr(0)[3] == 0\n"
    )
    how = "" if end == "exit" else end if isinstance(end, str) else "while 1: time.sleep(1)"
    child = terminal("run", "--timeout", "30" if not isinstance(end, str) else "3", "-c", code + how)
    child.setecho(True)
    before = termios.tcgetattr(child.child_fd)
    child.expect_exact("begun")
    if not isinstance(end, str):
        assert child.waitnoecho(20)
        changed = termios.tcgetattr(child.child_fd)
        changed[3] |= termios.ECHO
        assert changed == before
        child.kill(end)
    child.expect(pexpect.EOF)
    child.wait()
    assert termios.tcgetattr(child.child_fd) == before
    child.close()
    assert isinstance(end, str) or child.signalstatus == end


def test_end_of_file_on_a_terminal(terminal: Any) -> None:
    child = terminal("run", "-c", "import sys; print(repr(sys.stdin.read()))")
    child.sendline("line")
    for _ in range(2):  # PyPy asks a second time
        child.sendeof()
    child.expect_exact("'line\\n'")


def test_control_c_ends_it_as_it_ends_python(terminal: Any) -> None:
    child = terminal("run", "-c", "print('ready'); input()")
    child.expect_exact("ready")
    child.sendintr()
    child.expect_exact("KeyboardInterrupt")
    child.expect(pexpect.EOF)
    child.close()
    assert child.signalstatus == signal.SIGINT or child.exitstatus == 130


def test_a_program_may_catch_control_c(terminal: Any) -> None:
    code = (
        "import time\ntry:\n print('ready')\n time.sleep(50)\n"
        "except KeyboardInterrupt:\n print('caught'); raise SystemExit(4)"
    )
    child = terminal("run", "--timeout", "60", "-c", code)
    child.expect_exact("ready")
    child.sendintr()
    child.expect_exact("caught")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 4


def test_one_that_ignores_control_c_is_ended_by_the_second(terminal: Any) -> None:
    code = "import signal\nsignal.signal(2, signal.SIG_IGN)\nprint('ready')\nwhile True: pass"
    child = terminal("run", "--timeout", "60", "--set", "limits.cpu_time=60", "-c", code)
    child.expect_exact("ready")
    child.sendintr()
    time.sleep(0.3)
    child.sendintr()
    child.expect(pexpect.EOF, timeout=200)
    child.close()
    assert child.signalstatus == signal.SIGINT or child.exitstatus == 130


def test_sigterm_ends_the_command_and_the_guest() -> None:
    code = "print('ready', flush=True)\nwhile True: pass"
    with started("run", "--timeout", "60", "-c", code) as process:
        out_of(process).readline()
        guests = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        assert process.wait(200) in (-signal.SIGTERM, 128 + signal.SIGTERM)
        deadline = time.monotonic() + 60
        while any(is_alive(pid) for pid in guests) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(is_alive(pid) for pid in guests)


def children_of(pid: int) -> list[int]:
    """Returns all processes below one."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
                if parent == pid:
                    found += [int(name), *children_of(int(name))]
    return found


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# --- what boxes do --------------------------------------------------------------------------------


def test_changes_stay_in_the_box_unless_rw(script: Path) -> None:
    code = "from pathlib import Path; p = Path('out.txt'); p.write_text('new'); print(p.read_text())"
    script.write_text(code)
    assert proxybox("run", script).stdout == "new\n"
    assert not (script.parent / "out.txt").exists()
    done = proxybox("run", "--rw", script)
    assert done.stdout == "new\n", done.stderr
    assert (script.parent / "out.txt").read_text() == "new"


def test_mounts(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("data")
    code = "print(open('/data/in.txt').read()); open('/data/in.txt', 'w')"
    done = proxybox("run", "-v", "--mount", f"{tmp_path}:/data", "-c", code)
    assert done.stdout == "data\n"
    assert "Read-only file system" in done.stderr
    assert done.returncode == 1


def test_nothing_is_inherited() -> None:
    done = proxybox(
        "run",
        *(
            "--env",
            "GIVEN=yes",
            "-c",
            "import os; print(os.environ.get('SECRET'), os.environ['GIVEN'])",
        ),
        env={**os.environ, "SECRET": "hidden"},
    )
    assert done.stdout == "None yes\n"


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--timeout", "0.5", "-c", "while True: pass"], 124, "time limit"),
        (["--timeout", "0.5", "-c", "import time; time.sleep(9)"], 124, "time limit"),
        (
            ["--set", "output.on_excess=end", "-c", "while True: print('x' * 99)"],
            153,
            "it printed more than 1 MiB",
        ),
        (
            ["--set", "on_denied=end", "-c", "import socket; socket.socket()"],
            126,
            "a call that this box refuses",
        ),
        (["-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], 137, "Killed"),
        (["-c", "import ctypes; ctypes.memset(0, 1, 1)"], 139, "Segmentation fault"),
    ],
)
def test_how_boxes_end(words: list[str], status: int, said: str) -> None:
    done = proxybox("run", *words)
    assert done.returncode == status
    assert said in done.stderr


def test_a_result_as_json() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); open('f', 'w').write('x'); 1/0"
    done = proxybox("run", "--json", "-c", code)
    result = json.loads(done.stdout)
    assert done.returncode == 1
    assert done.stderr == ""
    assert result["status"] == "error"
    assert result["stdout"] == "out\n"
    assert result["stderr"].startswith("err\n")
    assert result["error"]["type"] == "ZeroDivisionError"
    assert [(change["path"], change["kind"]) for change in result["files"]] == [("f", "added")]


@pytest.mark.parametrize("guest", ["/nonexistent/pypy3", "/usr/bin/true", "/etc/passwd"])
def test_what_cannot_be_a_guest(guest: str) -> None:
    for command in (["run", "-c", "pass"], ["doctor"]):
        done = proxybox(*command[:1], "--guest", guest, *command[1:])
        assert done.returncode == 125
        assert "Traceback" not in done.stderr
        assert guest in done.stderr + done.stdout


def test_the_guest_can_be_named_by_the_environment() -> None:
    done = proxybox("run", "-c", "pass", env={**os.environ, "PROXYBOX_GUEST": "/nonexistent"})
    assert done.returncode == 125
    assert "/nonexistent" in done.stderr


# --- trace and doctor -----------------------------------------------------------------------------


def test_a_trace_of_a_real_program(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    code = "import socket\nprint(open('/etc/hostname').read())\nsocket.socket()"
    done = proxybox("trace", "--json", "-o", path, "-c", code)
    assert done.returncode == 1
    calls = [json.loads(line) for line in path.read_text().splitlines()]
    opened = [
        call for call in calls if call["name"] in ("open", "openat") and "/etc/hostname" in call["arguments"].values()
    ]
    assert opened[-1]["decision"] == "allowed"
    refused = [call for call in calls if call["name"] == "socket"]
    assert refused[-1]["decision"] == "denied"
    assert refused[-1]["errno"] in ("EPERM", "EACCES", "EAFNOSUPPORT")
    assert refused[-1]["reason"]


def test_only_refused_calls_as_strace_shows_them() -> None:
    done = proxybox("trace", "--denied", "-c", "import socket; socket.socket()")
    lines = [line for line in done.stderr.splitlines() if line.startswith("socket(")]
    assert len(lines) == 1
    assert "= -1 E" in lines[0]
    assert "[denied: " in lines[0]


def test_a_summary_of_a_real_program() -> None:
    done = proxybox("trace", "--summary", "-c", "print('hello')")
    assert done.stdout == "hello\n"
    assert done.stderr.splitlines()[-1].endswith("total")


def test_doctor() -> None:
    done = proxybox("doctor")
    assert done.returncode == 0, done.stdout
    assert "Boxes can run here." in done.stdout
    assert find_guest().executable in done.stdout
    report = json.loads(proxybox("doctor", "--json").stdout)
    assert report["ok"]
    assert any(layer["mandatory"] and layer["available"] for layer in report["layers"])


def test_guests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each guest is listed once, by the first of its names.

    Scripts are left out. A file that is no guest has a reason.
    """
    (tmp_path / "python3").write_text("#!/bin/sh\n")
    (tmp_path / "pypy3").write_bytes(b"no program")
    for program in tmp_path.iterdir():
        program.chmod(0o755)
    (tmp_path / "pypy3.11").symlink_to(shutil.which("pypy3") or "")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    done = proxybox("guests", "--json")
    assert done.returncode == 0, done.stderr
    found = {each["path"]: each for each in json.loads(done.stdout)}
    assert "not an x86-64 program" in found.pop(f"{tmp_path}/pypy3")["problem"]
    ours = found.pop(f"{tmp_path}/pypy3.11")
    assert (ours["kind"], ours["sessions"], ours["problem"]) == ("PyPy", True, "")
    assert not any("pypy3" in path or path.startswith(str(tmp_path)) for path in found)
    assert all(each["problem"] or each["kind"] == "CPython" for each in found.values())
    shown = proxybox("guests").stdout
    assert f"{tmp_path}/pypy3.11" in "".join(shown.split())


def test_guests_heed_the_rules_of_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is not looked up: it would be another program in each folder. A name is listed once."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pypy3").symlink_to(shutil.which("pypy3") or "")
    monkeypatch.setenv("PROXYBOX_GUEST", "bin/pypy3")
    seen = {each["path"]: each for each in json.loads(proxybox("guests", "--json", cwd=tmp_path).stdout)}
    assert "a relative path" in seen["bin/pypy3"]["problem"]
    monkeypatch.setenv("PROXYBOX_GUEST", "pypy")
    named = json.loads(proxybox("guests", "--json", cwd=tmp_path).stdout)
    assert [each["path"] for each in named if each["kind"] == "PyPy"] == ["pypy"]
    assert not named[0]["problem"]


# --- streams that are closed or full, readers that leave, scripts that are no files -----------------------------------


def shell(line: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a line of bash, in which $proxybox is the command."""
    environment = {**os.environ, "proxybox": " ".join(COMMAND), "PYTHONUNBUFFERED": "", **variables}
    return subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=False, env=environment)


OURS = (
    "run --json -c 1", "policy list", "policy list --json", "policy show strict", "policy explain strict --json",
    "policy check /dev/null", "commits", "commits --json", "completion bash", "exercise list", "exercise list --json",
    "--help", "--version", "run --help",
)  # fmt: skip


@pytest.mark.sized(5)
@pytest.mark.parametrize("command", OURS)
def test_what_cannot_be_written_is_told_in_one_line(command: str) -> None:
    for stream, reason in (("> /dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        done = shell(f"$proxybox {command} {stream}")
        assert (done.returncode, done.stderr) == (125, f"proxybox: can't write standard output: {reason}\n")


@pytest.mark.parametrize("command", ["run --json -c 1", "policy show default", "trace --json -c 1 2>&1"])
def test_a_reader_that_leaves_is_left_alone(command: str) -> None:
    done = shell(f"$proxybox {command} | true; echo ${{PIPESTATUS[0]}}")
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_a_program_meets_a_full_disk_as_by_python() -> None:
    done = shell("""$proxybox run -c 'import os
try: os.write(1, b"x")
except OSError as error: raise SystemExit(error.errno)' > /dev/full""")
    assert (done.returncode, done.stderr) == (errno.ENOSPC, "")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("run -v -c 1 2>/dev/full", 125, ""),
        ("trace -c 1 2>/dev/full", 125, ""),
        ("trace -c 1 2>&-", 0, ""),
        ("trace -o /dev/full -c 1", 125, "proxybox: can't write the trace to '/dev/full': No space left on device\n"),
        ("run nothing.py 2>&-", 125, ""),
        ("run - <&-", 0, ""),
        ("repl <&-", 0, ""),
        ("doctor --json <&- >&- 2>&-", 125, ""),
        ("run /dev/full", 125, "proxybox: code: '/dev/full' has more than 64 MiB: want a program that is smaller, or "
         "a file\n"),
    ],
)  # fmt: skip
def test_no_stream_brings_a_traceback(command: str, status: int, said: str) -> None:
    done = shell(f"$proxybox {command}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", said)


def test_what_is_closed_is_nobody_elses() -> None:
    """No file of proxybox gets the number of a closed standard stream, so the program's output goes nowhere."""
    done = shell("""$proxybox run -c 'import os
for fd in (1, 2):
    try: os.write(fd, b"x")
    except OSError: pass
raise SystemExit(7)' >&- 2>&- <&-""")
    assert (done.returncode, done.stdout, done.stderr) == (7, "", "")


@pytest.mark.parametrize(
    ("script", "source"),
    [('<(echo "$code")', ""), ("/dev/stdin", '<<< "$code"'), ("/proc/self/fd/0", '< <(echo "$code")')],
)
def test_scripts_that_are_no_files(script: str, source: str) -> None:
    done = shell(f"$proxybox run {script} a b {source}", code="import sys; print(sys.argv[1:])")
    assert (done.returncode, done.stdout, done.stderr) == (0, "['a', 'b']\n", "")


def test_a_hidden_script_is_told_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / ".program.py").write_text("print('seen')")
    done = proxybox("run", tmp_path / ".program.py")
    assert (done.returncode, done.stdout) == (125, "")
    assert "filesystem.hide_dotfiles = false" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_limit_of_calls_has_its_own_word() -> None:
    done = proxybox("run", "--set", "limits.calls=3000", "-c", "import os\nwhile True: os.getppid()")
    assert (done.returncode, done.stderr) == (
        153,
        "proxybox: the limit of 3,000 OS calls was reached: read and write more at a time (limits.calls)\n",
    )
