"""Which interpreter runs: PROXYBOX_GUEST, guest=, an unpacked release; and guests that are refused, with the
reasons.
"""

import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.guests import finding, programs

WHO = "import sys; print(sys.implementation.name, sys.prefix, sys.executable)"


def test_a_release_by_its_program_and_by_its_folder(release: Path) -> None:
    for guest in (release / "bin" / "pypy3", release):
        with proxybox.Sandbox(guest=guest) as box:
            result = box.run(WHO + "\nimport json, decimal, sqlite3, ssl, ctypes\nprint(json.__file__)")
        assert result.ok, result.stderr
        assert result.stdout.startswith("pypy ")
        assert str(release) not in result.stdout
        assert str(release.parent) not in result.stdout


@pytest.mark.parametrize("kind", ["release", "cpython_release"])
def test_what_else_is_installed_beside_a_guest_is_not_seen(kind: str, request: pytest.FixtureRequest) -> None:
    """A release's prefix may be /usr/local, or in a user's home folder."""
    prefix: Path = request.getfixturevalue(kind)
    for name in ("share/kept", "bin/other", "lib/other/secret", "lib/notes.txt"):
        (prefix / name).parent.mkdir(parents=True, exist_ok=True)
        (prefix / name).write_text("private")
    code = "import os, sys\nfor name in ('', '/bin', '/lib'): print(os.listdir(sys.prefix + name))"
    seen = proxybox.run(code, guest=prefix)
    (program,) = (path.name for path in (prefix / "bin").iterdir() if path.name != "other")
    (library,) = (path.name for path in (prefix / "lib").iterdir() if path.name.startswith(("pypy", "python")))
    assert seen.stdout == f"['bin', 'lib']\n['{program}']\n['{library}']\n"


def test_a_release_by_the_environment(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXYBOX_GUEST", str(release / "bin" / "pypy3"))
    named = proxybox.run(WHO)
    assert named.ok, named.stderr
    monkeypatch.delenv("PROXYBOX_GUEST")
    assert proxybox.run(WHO).stdout != named.stdout


def test_the_argument_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXYBOX_GUEST", "/nonexistent")
    with pytest.raises(proxybox.SandboxStartError, match="/nonexistent"):
        proxybox.run("pass")
    with proxybox.Sandbox(guest=shutil.which("pypy3")) as box:
        assert box.run("print(1)").stdout == "1\n"


def test_an_environment_of_pypy(tmp_path: Path) -> None:
    import subprocess

    subprocess.run(["pypy3", "-m", "venv", "--without-pip", tmp_path / "venv"], check=True, timeout=60)
    (site,) = (tmp_path / "venv").glob("lib/pypy3.*/site-packages")
    (site / "installed.py").write_text("name = 'installed'")
    with proxybox.Sandbox(guest=tmp_path / "venv" / "bin" / "pypy3") as box:
        assert box.run("import installed; print(installed.name)").stdout == "installed\n"


def headers_at(table: int, count: int = 1) -> bytes:
    """The headers of a program for this machine, with its table of segments at `table` (elf(5))."""
    begin = b"\x7fELF\x02\x01\x01" + bytes(9)
    return begin + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, table, 0, 0, 64, 56, count, 0, 0, 0)


def wrong(tmp_path: Path) -> dict[str, tuple[str, str]]:
    """Paths that are no guest, each with a part of its error."""
    (tmp_path / "text").write_text("#!/bin/sh\nexec pypy3\n")
    (tmp_path / "text").chmod(0o755)
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "alone").mkdir()
    os.mkfifo(tmp_path / "fifo")  # opening it would wait
    for name, text in (("far", b"Py_BytesMain\0"), ("farther", b"RPY_SANDBOX_DUMP\0")):
        (tmp_path / name).write_bytes(headers_at((1 << 64) - 1) + text)
    pypy = shutil.which("pypy3")
    if pypy:
        shutil.copy(os.path.realpath(pypy), tmp_path / "alone" / "pypy3")
    return {
        "missing": ("/nonexistent/pypy3", "there is no"),
        "a text": (str(tmp_path / "text"), "not an x86-64 program"),
        "empty": (str(tmp_path / "empty"), "not an x86-64 program"),
        "a folder": (str(tmp_path), "a folder without bin/pypy3 or bin/python3"),
        "another program": ("/bin/true", "neither a PyPy .* nor a CPython"),
        "a FIFO": (str(tmp_path / "fifo"), "not an x86-64 program"),
        "a CPython without segments": (str(tmp_path / "far"), "not a program that the kernel could start"),
        "a translated one without segments": (str(tmp_path / "farther"), "neither a PyPy .* nor a CPython"),
        "a lone copy": (str(tmp_path / "alone" / "pypy3"), "standard library"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "missing", "a text", "empty", "a folder", "another program", "a FIFO", "a CPython without segments",
        "a translated one without segments", "a lone copy",
    ],
)  # fmt: skip
def test_what_is_no_guest(name: str, tmp_path: Path) -> None:
    path, reason = wrong(tmp_path)[name]
    with pytest.raises(proxybox.SandboxStartError, match=reason) as caught, proxybox.Sandbox(guest=path) as box:
        box.run("pass")
    assert path in str(caught.value)


def test_a_name_is_that_of_a_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other files of that name on PATH are skipped, and the working directory is not searched."""
    folder, text, program, later = (tmp_path / name for name in ("folder", "text", "program", "later"))
    (folder / "some-pypy").mkdir(parents=True)
    for place, mode in ((text, 0o644), (program, 0o755), (later, 0o755), (tmp_path / "here", 0o755)):
        place.mkdir()
        (place / "some-pypy").touch(mode)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PATH", ":".join(map(str, ("", ".", folder, text, program, later))))
    assert programs.on_path("some-pypy") == str(program / "some-pypy")
    assert programs.on_path("no-such-pypy") is None
    assert programs.on_path("no-such-pypy", "some-pypy") == str(program / "some-pypy")


def test_a_program_that_guests_could_not_run_is_taken_last(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("script", "closed", "open")]
    for folder in folders:
        folder.mkdir()
        (folder / "some-python").touch(0o755)
    (folders[0] / "some-python").write_text("#!/bin/sh\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(programs, "closed_at", lambda path: "" if "/open/" in path else "/closed")
    for count, taken in ((3, "open"), (2, "closed"), (1, "script")):
        monkeypatch.setenv("PATH", ":".join(map(str, folders[:count])))
        assert programs.on_path("some-python") == str(tmp_path / taken / "some-python")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("PATH", ":".join(map(str, folders)))
    assert programs.on_path("some-python") == str(tmp_path / "closed" / "some-python")


def test_what_keeps_others_from_a_program(tmp_path: Path, open_the_way: Callable[[Path], None]) -> None:
    program = tmp_path / "home" / "bin" / "python3"
    program.parent.mkdir(parents=True)
    program.touch(0o750)
    open_the_way(program)
    assert programs.closed_at(str(program)) == str(program)
    program.chmod(0o755)
    assert programs.closed_at(str(program)) == ""
    (tmp_path / "link").symlink_to(program)
    (tmp_path / "home").chmod(0o700)
    assert programs.closed_at(str(tmp_path / "link")) == str(tmp_path / "home")


@pytest.mark.skipif(os.geteuid() != 0, reason="only guests of root's run as another user")
@pytest.mark.parametrize("kind", ["release", "cpython_release"])
def test_an_interpreter_in_a_folder_that_only_its_owner_may_enter(kind: str, request: pytest.FixtureRequest) -> None:
    home: Path = request.getfixturevalue(kind)
    home.chmod(0o700)
    try:
        with pytest.raises(proxybox.SandboxStartError, match=f"may not enter {home}: .*chmod o\\+x {home}"):
            proxybox.run("pass", guest=home)
    finally:
        home.chmod(0o755)


def test_the_program_of_an_unpacked_release(tmp_path: Path) -> None:
    assert finding._in_release(str(tmp_path)) == str(tmp_path)
    (tmp_path / "bin").touch()
    assert finding._in_release(str(tmp_path)) == str(tmp_path)
    (tmp_path / "bin").unlink()
    (tmp_path / "bin" / "pypy3").mkdir(parents=True)
    for name in ("python", "python3.11", "pypy3.9-config", "pypy3.11"):
        (tmp_path / "bin" / name).touch()
    assert finding._in_release(str(tmp_path)) == str(tmp_path / "bin" / "pypy3.11")


@pytest.mark.pypy
def test_no_pypy_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "on_path", lambda name: None)
    with pytest.raises(proxybox.SandboxStartError, match="apt install pypy3"):
        proxybox.run("pass")
    diagnosis = proxybox.diagnose()
    assert diagnosis.guest is None
    assert diagnosis.problems


def test_diagnosis() -> None:
    diagnosis = proxybox.diagnose()
    assert diagnosis.guest is not None
    assert not diagnosis.problems
    assert all(layer.available for layer in diagnosis.layers if layer.mandatory)
