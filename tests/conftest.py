"""What tests of several kinds need."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def release() -> Iterator[Path]:
    """An unpacked release, as PyPy's own archives are: bin/pypy3 with lib/pypy3.x beside it."""
    executable = Path(shutil.which("pypy3") or "").resolve()
    library = Path("/usr/lib", executable.name)
    if not (library / "os.py").is_file():
        pytest.skip("there is no pypy3 of the distribution to make a release of")
    # Not in pytest's own folder: that is closed to the user that a guest runs as when root starts it.
    root = Path(tempfile.mkdtemp(prefix="unpacked-"), "pypy3-release")
    (root / "bin").mkdir(parents=True)
    root.parent.chmod(0o755)
    shutil.copy(executable, root / "bin" / "pypy3")
    shutil.copytree(
        library,
        root / "lib" / library.name,
        ignore=shutil.ignore_patterns("test", "tests", "idlelib", "lib2to3", "ensurepip", "tkinter", "__pycache__"),
    )
    yield root
    shutil.rmtree(root.parent)
