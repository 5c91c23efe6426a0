"""proxybox/guest/build.py: what it compiles, and its messages when it cannot."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from proxybox.guest import build


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of small sources in place of the real ones."""
    folder = tmp_path / "guest"
    folder.mkdir()
    (folder / "launcher.c").write_text("int main(void) { return 3; }\n")
    (folder / "stub.c").write_text('#include "stub.h"\nint hidden(void) { return 0; }\n')
    (folder / "stub.h").write_text("int hidden(void);\n")
    (folder / "overseer.c").write_text('#include "stub.h"\nint hidden(void) { return 1; }\n')
    monkeypatch.setattr(build, "SOURCES", folder)
    return folder


def test_each_program_is_made(sources: Path, tmp_path: Path) -> None:
    made = build.build(tmp_path / "out")
    assert [path.name for path in made] == [*build.PROGRAMS]
    assert subprocess.run([made[0]], check=False).returncode == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(build.PROGRAMS)


def test_only_what_is_old_is_made_again(sources: Path, tmp_path: Path) -> None:
    launcher, stub, _ = build.build(tmp_path)
    before = launcher.stat().st_ino, stub.stat().st_ino
    build.build(tmp_path)
    assert (launcher.stat().st_ino, stub.stat().st_ino) == before
    newer = stub.stat().st_mtime + 5
    os.utime(sources / "stub.c", (newer, newer))
    build.build(tmp_path)
    assert launcher.stat().st_ino == before[0]
    assert stub.stat().st_ino != before[1]


def test_a_compiler_error_is_shown_and_leaves_nothing(sources: Path, tmp_path: Path) -> None:
    (sources / "launcher.c").write_text("int main(void) { return oops; }\n")
    with pytest.raises(build.BuildError, match=r"(?s)compiling failed.*oops"):
        build.build(tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_missing_header_comes_with_advice(sources: Path, tmp_path: Path) -> None:
    (sources / "launcher.c").write_text("#include <no/such.h>\n")
    with pytest.raises(build.BuildError, match="libc6-dev"):
        build.build(tmp_path / "out")


def test_check_makes_warnings_errors(sources: Path) -> None:
    assert build.check() >= 1
    (sources / "stub.c").write_text("int f(int unused);\nint f(int unused) { return 0; }\n")
    with pytest.raises(build.BuildError, match="unused"):
        build.check()


def test_no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    with pytest.raises(build.BuildError, match="apt install gcc libc6-dev"):
        build.find_compiler()
    monkeypatch.setenv("CC", "nocc -m64")
    with pytest.raises(build.BuildError, match="CC was not found: nocc"):
        build.find_compiler()


def test_cc_may_hold_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CC", f"{sys.executable} -I")
    assert build.find_compiler() == [sys.executable, "-I"]


def test_programs_of_the_current_folder(sources: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The compiler, and the programs that the compiler starts."""
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", f":.:{os.environ['PATH']}:")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    for name in ("gcc", "clang", "cc", "as", "ld"):
        Path(name).write_text(f"#!/bin/sh\n: > {tmp_path}/ran-{name}\n")
        Path(name).chmod(0o755)
    assert os.path.isabs(build.find_compiler()[0])
    build.build(tmp_path / "out", force=True)
    assert not list(tmp_path.glob("ran-*"))


def test_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(build.BuildError, match="Linux on x86-64"):
        build.build()


def test_the_command_says_why_and_exits_125(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, build.__file__, "--force", "--into", tmp_path],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 125
    assert done.stderr.startswith("proxybox: no C compiler found")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", build.PROGRAMS)
def test_what_is_made_is_sealed_against_patching(name: str) -> None:
    """Relocations read-only, no executable stack, no runpath: as the linker flags ask."""
    build.build()
    assert (build.SOURCES / name).read_bytes()[:4] == b"\x7fELF"
    dynamic = subprocess.run(
        ["readelf", "-dlW", build.SOURCES / name], capture_output=True, text=True, check=False
    ).stdout
    if not dynamic:
        pytest.skip("readelf is not installed")
    assert "BIND_NOW" in dynamic
    assert "GNU_RELRO" in dynamic
    assert "RUNPATH" not in dynamic
    assert "RPATH" not in dynamic
    stack = next(line for line in dynamic.splitlines() if "GNU_STACK" in line)
    assert "RWE" not in stack
