"""Packages that are not compiled: a box cannot write the result, so a warning says so, once for each folder."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import proxybox
from proxybox import cli
from proxybox.controller import find_guest
from proxybox.errors import ProxyboxWarning
from proxybox.packages import compiling

EACH_GUEST = True


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Packages, as `pip install --no-compile` and uv leave them."""
    place = tmp_path / "packages"
    for name in ("one/__init__", "one/part", "two/__init__", "three", "four", "broken/inner"):
        path = place / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import sys\nfound = 1\n" if name != "broken/inner" else "def")
    (place / "one-1.0.dist-info").mkdir()
    (place / "two/__init__.py").write_text("")  # nothing to compile
    for path in (place, *place.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return place


def test_it_is_told_once(folder: Path, guest_kind: str) -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            assert proxybox.run("import one; print(one.found)", packages=[folder], guest=guest_kind).stdout == "1\n"
    (told,) = seen
    assert told.category is ProxyboxWarning
    assert f"{folder}: not compiled for {find_guest(guest_kind).name}: four, one, three. " in str(told.message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        proxybox.run("import one", packages=[folder], guest=guest_kind, check=True)


def test_of_somebodys_own_folder_nothing_is_told(folder: Path, guest_kind: str) -> None:
    (folder / "one-1.0.dist-info").rmdir()
    proxybox.run("import one", packages=[folder], guest=guest_kind, check=True)  # a warning would be an error here


def test_they_are_compiled_in_a_box(folder: Path, guest_kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["packages", "compile", str(folder), "--guest", guest_kind]) == 0
    name = find_guest(guest_kind).name
    assert capfd.readouterr().out == f"{folder}: compiled for {name}\n"
    assert compiling.not_compiled(str(folder), find_guest(guest_kind).cache_tag) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        code = "import one, one.part; print(all(open(m.__cached__, 'rb').read(5)[4] == 1 for m in (one, one.part)))"
        assert proxybox.run(code, packages=[folder], guest=guest_kind).stdout == "True\n"


def test_each_interpreter_has_its_own(folder: Path) -> None:
    compiling.compile_all(str(folder), find_guest("pypy"))
    assert compiling.not_compiled(str(folder), "pypy311") == []
    assert compiling.not_compiled(str(folder), "cpython-313") == ["four", "one", "three"]


@pytest.mark.parametrize("change", ["newer", "cut", "removed", "hashed", "a fifo"])
def test_stale_files(folder: Path, change: str) -> None:
    """By the interpreter's own comparison (PEP 3147, PEP 552)."""
    subprocess.run([sys.executable, "-m", "compileall", "-q", folder / "one"], check=True)
    tag = sys.implementation.cache_tag
    assert "one" not in compiling.not_compiled(str(folder), tag)
    source, compiled = folder / "one/__init__.py", folder / f"one/__pycache__/__init__.{tag}.pyc"
    if change == "newer":
        os.utime(source, (1, 1))
    elif change == "cut":
        compiled.write_bytes(compiled.read_bytes()[:15])
    elif change == "removed":
        compiled.unlink()
    elif change == "a fifo":
        compiled.unlink()
        os.mkfifo(compiled)
    else:
        words = ["-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash", folder / "one"]
        subprocess.run([sys.executable, *words], check=True)
        os.utime(source, (1, 1))
    assert ("one" in compiling.not_compiled(str(folder), tag)) == (change != "hashed")


def test_what_cannot_be_compiled_is_told(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (folder / "three.py").write_text("def")
    assert cli.main(["packages", "compile", str(folder)]) == 125
    assert f"{folder}: could not be compiled for {find_guest().name}: three" in capfd.readouterr().err
    assert cli.main(["packages", "compile", str(folder / "four.py")]) == 2
    assert "want a virtual environment, or a folder of packages" in capfd.readouterr().err


def test_the_command_line_tells_it_in_one_line(folder: Path) -> None:
    words = [sys.executable, "-m", "proxybox.cli", "run", "--packages", folder, "-c", "import one; print(one.found)"]
    said = subprocess.run(words, capture_output=True, text=True, check=True, timeout=200)
    assert said.stdout == "1\n"
    assert said.stderr.startswith(f"proxybox: {folder}: not compiled for ")
    assert said.stderr.count("\n") == 1
