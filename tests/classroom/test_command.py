"""`proxybox classroom` as a teacher uses it: a real class in a process of its own."""

import contextlib
import hashlib
import io
import json
import os
import re
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import attrs
import pexpect
import pytest

pytest.importorskip("fastapi", reason="the extra server is not installed")
pytest.importorskip("markdown_it", reason="the extra classroom is not installed")

import httpx
import segno

from proxybox import cli
from proxybox.classroom import running
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.showing import ClassroomFacts, as_json, show
from proxybox.classroom.store import ClassStore

COMMAND = [sys.executable, "-P", "-m", "proxybox", "classroom"]


@attrs.define(kw_only=True)
class Class:
    """An open class. told: the JSON that the command has printed."""

    process: "subprocess.Popen[str]"
    course: Path
    data: Path
    told: dict[str, Any]

    @property
    def port(self) -> int:
        return int(self.told["addresses"][0].rpartition(":")[2])

    def browser(self) -> httpx.Client:
        """Returns a browser that trusts only this class's certificate."""
        trust = ssl.create_default_context(cafile=str(self.data / "certificate.pem"))
        return browser(self.told["addresses"][0], verify=trust)


def browser(address: str, **more: Any) -> httpx.Client:
    return httpx.Client(base_url=address, headers={"Origin": address}, timeout=60, **more)


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Class]:
    """A class with TLS and a new course. SIGHUP ends it, as the end of its terminal would."""
    folder = tmp_path_factory.mktemp("class")
    assert cli.main(["classroom", "new", str(folder / "course")]) == 0
    words = [str(folder / "course"), "--data", str(folder / "kept"), "--port", "0", "--tls", "--json"]
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline() or "{}")
        yield Class(process=process, course=folder / "course", data=folder / "kept", told=told)
        process.send_signal(signal.SIGHUP)
        assert process.wait(60) == 0
        assert process.stdout.read() == ""
        assert len([*(folder / "kept" / "backups").iterdir()]) == 1
    finally:
        process.kill()
        process.communicate()


Said = Callable[..., tuple[int, str]]


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Said:
    """Runs commands that fail before they open a class, in this process; returns exit status and standard error."""
    monkeypatch.setattr(running, "begin", lambda *_, **__: None)  # this process has loggers of its own
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str]:
        status = cli.main(["classroom", *words])
        return status, capsys.readouterr().err

    return run


# --- a class that is open ---------------------------------------------------------------------------------------------


def test_what_a_program_is_told(opened: Class) -> None:
    assert {**opened.told, "code": "", "teacher": "", "fingerprint": ""} == {
        "title": "My course", "addresses": [f"https://127.0.0.1:{opened.port}"], "code": "", "teacher": "",
        "course": str(opened.course), "data": str(opened.data), "fingerprint": "", "is_local": True,
    }  # fmt: skip
    assert re.fullmatch(rf"https://127\.0\.0\.1:{opened.port}/teacher#[A-Z0-9-]{{12,}}", opened.told["teacher"])


def test_browsers_see_the_certificate_whose_fingerprint_is_told(opened: Class) -> None:
    with opened.browser() as client:
        answer = client.get("/")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    seen = ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", opened.port)))
    assert hashlib.sha256(seen).hexdigest().upper() == opened.told["fingerprint"].replace(":", "")


def test_old_tls_is_not_spoken(opened: Class) -> None:
    context = ssl.create_default_context(cafile=str(opened.data / "certificate.pem"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSVersion"):
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", opened.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain, server_hostname="127.0.0.1")


def test_the_key_in_the_teachers_address_is_the_teachers(opened: Class) -> None:
    key = opened.told["teacher"].partition("#")[2]
    with opened.browser() as client:
        assert [client.post("/api/teacher/login", json={"key": given}).status_code for given in (key, key[::-1])] == [
            204,
            403,
        ]


def test_two_classes_do_not_share_data(opened: Class, said: Said) -> None:
    status, told = said(str(opened.course), "--data", str(opened.data), "--port", "0")
    assert status == 125
    assert f"runs already (process {opened.process.pid}, {opened.told['addresses'][0]})" in told
    assert "--data PATH" in told


def test_a_port_that_is_in_use_is_not_replaced_by_another(opened: Class, said: Said) -> None:
    status, told = said(str(opened.course), "--data", "kept", "--port", str(opened.port))
    assert status == 125
    assert f"port {opened.port} is in use by another program" in told
    assert f"(--port {opened.port % 65_535 + 1})" in told


# --- in a terminal ----------------------------------------------------------------------------------------------------


def test_in_a_terminal_until_ctrl_c(tmp_path: Path) -> None:
    """Open streams of students would keep a server waiting; they are ended. The students' work is in the backup."""
    course, data = tmp_path / "course", tmp_path / "kept"
    assert cli.main(["classroom", "new", str(course)]) == 0
    words = [*COMMAND[1:], str(course), "--data", str(data), "--port", "0", "-v"]
    env = {**os.environ, "NO_COLOR": "1", "TERM": "xterm"}
    child = pexpect.spawn(COMMAND[0], words, env=env, encoding="utf-8", timeout=120, dimensions=(50, 100))
    with contextlib.closing(child):
        child.expect(r"students open  http://127\.0\.0\.1:(\d+)\r\n")
        port = int(child.match[1])
        child.expect(r"and join with  (\S+)\r\n")
        code = child.match[1]
        child.expect("Only this machine reaches this classroom")
        child.expect("Ctrl-C ends the lesson")
        with browser(f"http://127.0.0.1:{port}") as client:
            assert client.post("/api/join", json={"name": "Ada", "code": code}).status_code == 201
            with client.stream("GET", "/api/events") as one, client.stream("GET", "/api/events") as another:
                lines = [stream.iter_lines() for stream in (one, another)]
                assert all(next(line) for line in lines)
                child.expect("INFO Ada has joined\r\n")
                child.sendintr()
                child.expect("The lesson ends. Everything is kept.")
                for line in lines:
                    list(line)  # until the stream ends
        child.expect(pexpect.EOF)
        child.wait()
        assert child.exitstatus == 0
    (backup,) = (data / "backups").iterdir()
    with contextlib.closing(sqlite3.connect(backup)) as kept:
        (tables,) = kept.execute("select group_concat(name) from sqlite_master where type = 'table'").fetchone()
        assert "Ada" in [row[0] for row in kept.execute("select name from seats")], tables


# --- what is told -----------------------------------------------------------------------------------------------------


class Terminal(io.StringIO):
    """A terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> ClassroomFacts:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return ClassroomFacts(
        title="Python\x1b[2J", addresses=("https://192.168.1.4:8080", "https://[fd00::2]:8080"), code="K7Q-3MF",
        teacher="https://127.0.0.1:8080/teacher#GT4HQ-NC1W2", course="/courses/py", data="/kept",
        fingerprint=":".join(["4E"] * 32),
    )  # fmt: skip


def shown(told: ClassroomFacts, file: TextIO) -> str:
    show(told, file)
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def modules_of(text: str, *, ink_is_dark: bool) -> list[list[bool]]:
    """Returns the modules of the QR code in a text, without the margin."""
    halves = {" ": (False, False), "▀": (True, False), "▄": (False, True), "█": (True, True)}
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line)[2:] for line in text.splitlines()]
    lines = [line for line in lines if len(line) > 20 and not set(line) - {*halves}]
    rows = [[halves[char][half] == ink_is_dark for char in line] for line in lines for half in (0, 1)]
    size = len(lines[0]) - 4
    return [row[2:-2] for row in rows[2 : 2 + size]]


@pytest.mark.parametrize("coloured", [True, False])
def test_a_qr_code_leads_to_the_first_address(
    told: ClassroomFacts, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without colours the light modules are drawn: text is light on a dark terminal."""
    if not coloured:
        monkeypatch.setenv("NO_COLOR", "1")
    text = shown(told, Terminal())
    assert ("\x1b[" in text) == coloured
    wanted = [[bool(module) for module in row] for row in segno.make_qr(told.addresses[0]).matrix]
    assert modules_of(text, ink_is_dark=coloured) == wanted


def test_plain_text_where_there_is_no_terminal(told: ClassroomFacts) -> None:
    text = shown(told, io.StringIO())
    assert "\x1b" not in text
    assert "█" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    assert "  students open  https://192.168.1.4:8080\n  or             https://[fd00::2]:8080\n" in text
    assert f"  you open       {told.teacher}\n" in text
    assert "Wi-Fi for guests" in text
    assert text.count(":4E") == 30  # two lines, the second of which begins with a colon


@pytest.mark.parametrize(("columns", "encoding"), [("30", "utf-8"), ("100", "ascii")])
def test_no_code_where_it_cannot_be_seen(
    told: ClassroomFacts, columns: str, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    terminal = Terminal()
    terminal.encoding = encoding  # type: ignore[misc]
    text = shown(told, terminal)
    assert not {*"▀▄█"} & {*text}
    assert told.teacher in text  # on one line, so that it can be copied


def test_json_is_one_line(told: ClassroomFacts) -> None:
    line = as_json(told)
    assert "\n" not in line
    assert json.loads(line)["addresses"] == ["https://192.168.1.4:8080", "https://[fd00::2]:8080"]


# --- what is kept, and what is refused --------------------------------------------------------------------------------


def test_the_last_ten_backups_are_kept(tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    for day in range(10, 25):
        (folder / f"2020-01-{day}-080000.sqlite").touch()
    store = ClassStore(str(tmp_path / "classroom.sqlite"))
    store.close()
    running._back_up(SimpleNamespace(config=ClassroomConfig(data=str(tmp_path)), store=store))  # type: ignore[arg-type]
    left = sorted(path.name for path in folder.iterdir())
    assert (len(left), left[0]) == (10, "2020-01-16-080000.sqlite")
    assert left[-1] > "2026"


def test_a_backup_that_fails_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def backup(path: str) -> None:
        raise OSError(28, "No space left on device", path)

    lesson = SimpleNamespace(config=ClassroomConfig(data=str(tmp_path)), store=SimpleNamespace(backup=backup))
    running._back_up(lesson)  # type: ignore[arg-type]
    assert "there is no backup of this lesson: [Errno 28] No space left on device" in caplog.text


@pytest.mark.parametrize(("words", "status", "text"), [
    (["--host", "two words"], 125, "host: want a host name or an address"),
    (["--tls-cert", "a.pem"], 125, 'tls = "files" needs both tls_cert and tls_key'),
    (["--name", "http://x"], 125, "names: want a host name"),
    (["--host", "203.0.113.77"], 125, "this machine has no address 203.0.113.77 (--host lan: "),
    (["--host", "no-such-host.invalid"], 125, "this machine has no address no-such-host.invalid"),
    (["no-such-course", "--port", "0"], 125, "no-such-course: there is no such folder"),
    (["a", "b"], 2, "unexpected extra argument (b)"),
    (["--port", "http"], 2, "'http' is not a valid integer"),
])  # fmt: skip
def test_what_makes_no_sense(said: Said, words: list[str], status: int, text: str) -> None:
    ended, told = said(*words, "--data", "kept")
    assert (ended, text in told, "Traceback" in told) == (status, True, False), told


def test_files_of_tls_that_do_not_fit(said: Said, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("nonsense")
    status, told = said("--port", "0", "--data", "kept", "--tls-cert", "cert.pem", "--tls-key", "cert.pem")
    assert status == 125
    assert f"{tmp_path}/cert.pem: there is no certificate in it" in told


def test_data_that_cannot_be_kept(said: Said, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, told = said("--port", "0", "--data", "file/kept")
    assert (status, "nothing can be kept there: Not a directory (--data PATH)" in told) == (125, True)


@pytest.mark.sized(2)
@pytest.mark.parametrize("package", ["fastapi", "segno", "babel", "cryptography", "markdown_it"])
def test_what_is_not_installed_is_named(package: str, tmp_path: Path) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; from proxybox.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "classroom", "--data", str(tmp_path)]
    ended = subprocess.run(words, capture_output=True, text=True)
    assert ended.returncode == 125
    assert re.fullmatch(rf"proxybox: .* needs? {package}.*: pip install 'proxybox\[classroom\]'\n", ended.stderr)


# --- courses ----------------------------------------------------------------------------------------------------------


@pytest.mark.full
def test_a_new_course_is_as_it_should_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    course = tmp_path / "course"
    assert cli.main(["classroom", "new", str(course)]) == 0
    assert capsys.readouterr().out == f"{course}: made. Change what is in it, then: proxybox classroom check {course}\n"
    assert cli.main(["classroom", "check", str(course), "--json", "-j", "1"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert {*checks} == {"course/01-greeting", "course/02-rectangle"}
    assert all(not each["problem"] for found in checks.values() for each in found)
    assert cli.main(["classroom", "new", str(course)]) == 125
    assert f"can't make {course}: there is something already" in capsys.readouterr().err


def test_a_course_with_faults_is_not_checked_further(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "course.toml").write_text('titel = "x"\n')
    assert cli.main(["classroom", "check", str(tmp_path)]) == 125
    assert "titel: there is no such key" in capsys.readouterr().err
