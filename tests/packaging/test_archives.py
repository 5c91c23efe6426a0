"""The contents of the source distribution and of the wheel, and what an installed wheel can do."""

import importlib.util
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from proxybox.guest import build

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source distribution of this tree, and a wheel that was made from it."""
    if not (ROOT / "proxybox" / "controller").is_symlink():
        pytest.skip("not a checkout")
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


@pytest.fixture(scope="module")
def installed(archives: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that contains only the wheel."""
    (wheel,) = archives.glob("*.whl")
    place = tmp_path_factory.mktemp("installed") / "environment"
    venv.create(place, with_pip=False, symlinks=True)
    python = place / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    done = run([*pip, "install", "--quiet", "--no-deps", wheel])
    assert done.returncode == 0, done.stderr
    return python


def sources() -> set[str]:
    """Returns every Python file of the package, by its installed name."""
    found = {
        f"proxybox/{path.relative_to(ROOT)}"
        for folder in ("controller", "policies")
        for path in (ROOT / folder).rglob("*.py")
    }
    for path in (ROOT / "proxybox").rglob("*.py"):
        below = path.relative_to(ROOT)
        if below.parts[1] not in ("controller", "policies"):
            found.add(str(below))
    return found


@pytest.mark.timeout(300)
def test_the_wheel_holds_everything_and_nothing_else(archives: Path) -> None:
    (wheel,) = archives.glob("*.whl")
    assert wheel.name.endswith("-py3-none-linux_x86_64.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {info.filename: info.external_attr >> 16 for info in archive.infolist()}
    assert {name for name in names if name.endswith(".py")} == sources()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"proxybox"}
    presets = {f"proxybox/policies/presets/{p.name}" for p in (ROOT / "policies/presets").iterdir()}
    binaries = {f"proxybox/guest/{name}" for name in build.PROGRAMS}
    templates = {f"proxybox/teach/page/{path.name}" for path in (ROOT / "proxybox/teach/page").iterdir()}
    assert names >= presets | binaries | templates | {"proxybox/py.typed"}
    (page,) = (name for name in names if name.endswith("/share/man/man1/proxybox.1"))
    assert page.partition("/")[0].endswith(".data"), "pip puts it beside Python's own"
    assert modes["proxybox/guest/_launcher"] & 0o111


def test_the_source_distribution_can_be_built_and_tested(archives: Path) -> None:
    (sdist,) = archives.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"Makefile", "setup.py", "LICENSE", "README.md", "mkdocs.yml", "tools/setup", "share/man/man1/proxybox.1"}
    assert wanted <= names
    assert {f"proxybox/teach/page/{path.name}" for path in (ROOT / "proxybox/teach/page").iterdir()} <= names
    for folder in ("tests", "controller", "benchmarks"):
        assert {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*.py")} <= names
    assert {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.*")} <= names, "pictures, too"
    assert not [name for name in names if name.endswith(("_launcher", ".so", ".pyc"))]


@pytest.mark.full
@pytest.mark.timeout(300)
def test_an_installed_wheel_keeps_to_itself(installed: Path, tmp_path: Path) -> None:
    """Only `proxybox` can be imported; a user's own controller.py is still the user's."""
    (tmp_path / "controller.py").write_text("mine = True\n")
    code = (
        "import importlib.util, controller, proxybox.policies.sizes, proxybox.controller.effects\n"
        "assert controller.mine\n"
        "assert importlib.util.find_spec('policies') is None\n"
        "print(proxybox.controller.effects.__file__)"
    )
    done = run([installed, "-W", "error", "-c", code], dependencies(tmp_path), cwd=tmp_path)
    environment = installed.parents[1]
    assert done.stdout.startswith(str(environment)), done.stderr
    assert (environment / "share/man/man1/proxybox.1").exists(), "where man(1) looks, by PATH"


@pytest.mark.timeout(300)
def test_without_the_cli_extra_the_command_says_what_to_install(installed: Path, tmp_path: Path) -> None:
    done = run([installed.with_name("proxybox"), "--version"], dependencies(tmp_path))
    assert done.returncode == 125
    assert "pip install 'proxybox[cli]'" in done.stderr


def dependencies(folder: Path) -> Path:
    """A folder with the packages that the core depends on, and no others."""
    place = folder / "dependencies"
    place.mkdir()
    for name in ("attr", "attrs", "cattr", "cattrs", "typing_extensions"):
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        origin = Path(spec.origin)
        source = origin.parent if origin.name == "__init__.py" else origin
        (place / source.name).symlink_to(source)
    return place


def run(command: list[Any], path: Path | None = None, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = os.environ | ({} if path is None else {"PYTHONPATH": str(path)})
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
