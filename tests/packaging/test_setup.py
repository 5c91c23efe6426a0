"""tools/setup on machines that lack something: its message says what, why, and what to do."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ("sh", "dirname", "id", "uname", "cat", "cksum", "printf", "python3")
UNPRIVILEGED = 65534


@pytest.fixture
def checkout(tmp_path: Path, open_the_way: Callable[[Path], None]) -> Path:
    """A copy of the files that tools/setup reads, without a .venv; everybody can read it."""
    folder = tmp_path / "checkout"
    for name in ("tools/setup", "pyproject.toml", "setup.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    tmp_path.chmod(0o755)
    open_the_way(tmp_path)
    return folder


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with only those commands that every machine has."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = "/usr/bin/python3" if name == "python3" else shutil.which(name)
        if found is not None and os.path.exists(found):
            (folder / name).symlink_to(found)
    if not (folder / "python3").exists():
        pytest.skip("no /usr/bin/python3 here")
    return folder


def command(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


def setup(checkout: Path, path: Path, *, root: bool = True) -> subprocess.CompletedProcess[str]:
    if root and os.getuid() != 0:
        command(path, "id", "echo 0") if not (path / "id").unlink() else None
    return subprocess.run(
        ["/bin/sh", checkout / "tools" / "setup"],
        env={"PATH": str(path)},
        user=None if root or os.getuid() != 0 else UNPRIVILEGED,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_apt_the_missing_things_are_named(checkout: Path, bare: Path) -> None:
    done = setup(checkout, bare)
    assert done.returncode == 125
    assert "lacks: " in done.stderr
    assert "gcc libc6-dev pypy3" in done.stderr
    assert "no apt-get here" in done.stderr


def test_without_sudo_the_command_for_root_is_given(checkout: Path, bare: Path) -> None:
    command(bare, "apt-get", "exit 0")
    done = setup(checkout, bare, root=False)
    assert done.returncode == 125
    assert "there is no sudo" in done.stderr
    assert "apt-get install --no-install-recommends" in done.stderr


def test_sudo_that_would_ask_for_a_password_is_not_waited_for(checkout: Path, bare: Path) -> None:
    command(bare, "apt-get", "exit 0")
    command(bare, "sudo", 'echo "sudo $*" >&2; exit 1')
    done = setup(checkout, bare, root=False)
    assert done.returncode == 125
    assert "sudo -n apt-get update" in done.stderr
    assert "could not install" in done.stderr


def test_a_failing_apt_is_told(checkout: Path, bare: Path) -> None:
    command(bare, "apt-get", 'echo "E: no network" >&2; exit 100')
    done = setup(checkout, bare)
    assert done.returncode == 125
    assert "E: no network" in done.stderr
    assert "reachable package mirror" in done.stderr


def test_what_apt_did_not_bring_is_told(checkout: Path, bare: Path) -> None:
    command(bare, "apt-get", "exit 0")
    done = setup(checkout, bare)
    assert done.returncode == 125
    assert "still missing after installing: " in done.stderr


def test_an_old_python_is_refused(checkout: Path, bare: Path) -> None:
    (bare / "python3").unlink()
    command(bare, "python3", "exit 1")
    done = setup(checkout, bare)
    assert "python3 python3-venv" in done.stderr or "lacks" in done.stderr


def test_another_machine_is_refused(checkout: Path, bare: Path) -> None:
    (bare / "uname").unlink()
    command(bare, "uname", "case $1 in -s) echo Linux;; *) echo aarch64;; esac")
    done = setup(checkout, bare)
    assert done.returncode == 125
    assert "boxes need Linux on x86-64; this is Linux on aarch64" in done.stderr
