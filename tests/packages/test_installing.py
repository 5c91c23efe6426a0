"""Packages from requirements: installed once, outside of boxes, and seen by all of them."""

import base64
import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import cli
from proxybox.controller import find_guest
from proxybox.errors import PackagesError
from proxybox.packages import installing

EACH_GUEST = True


def wheel(folder: Path, name: str, tag: str = "py3-none-any", **files: str) -> Path:
    """Makes a wheel of some modules."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}-1.0-{tag}.whl"
    info = f"{name}-1.0.dist-info"
    content = {
        **{f"{module}.py": text for module, text in files.items()},
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = ""
    for file, text in content.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        record += f"{file},sha256={digest},{len(text.encode())}\n"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in {**content, f"{info}/RECORD": record}.items():
            archive.writestr(file, text)
    return path


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cache of the test's own, which other users can reach."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o755)
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    yield
    installing.prune()


def requirements(folder: Path, *lines: str) -> Path:
    file = folder / "requirements.txt"
    file.write_text("\n".join(("--no-index", "-f wheels", *lines)) + "\n")
    return file


def test_they_are_installed_once_and_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guest_kind: str) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'", typing="raise ImportError")
    file = requirements(tmp_path, "greeting>=1  # and no other")
    code = "import greeting as g, typing; print(g.text, g.__file__, open(g.__cached__, 'rb').read(5)[4])"
    for _ in range(2):
        result = proxybox.Sandbox(packages=[file]).run(code)
        assert result.stdout == "hello /packages/greeting.py 1\n", result  # 1: an unchecked hash (PEP 552)
        monkeypatch.setattr(subprocess, "run", None)  # the second time nothing is installed
    (only,) = installing.cached()
    assert (only.guest, only.requirements[-1]) == (find_guest().name, "greeting>=1")
    assert installing.prune(older_than=1000) == []
    assert installing.prune() == [only]
    assert not Path(only.folder).exists()


def test_inline_metadata_on_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    script = tmp_path / "main.py"
    script.write_text("# /// script\n# dependencies = ['greeting']\n# ///\nimport greeting; print(greeting.text)\n")
    words = [sys.executable, "-m", "proxybox.cli", "run", "--packages", script, script]
    said = subprocess.run(words, input="", capture_output=True, text=True, check=True, timeout=200)
    assert said.stdout == "hello\n"
    assert f"installing packages for {find_guest().name}" in said.stderr
    assert cli.main(["packages", "--json"]) == 0
    (only,) = json.loads(capfd.readouterr().out)
    assert only["requirements"] == ["greeting"]
    assert cli.main(["packages", "prune", "--older-than", "1h"]) == 0
    assert capfd.readouterr().out == "nothing to remove\n"
    assert cli.main(["packages", "prune"]) == 0
    assert "greeting" in capfd.readouterr().out
    assert cli.main(["packages", "prune", "--older-than", "soon"]) == 2


@pytest.mark.cpython  # pip takes half a minute on a PyPy
def test_what_cannot_be_installed_is_told(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "old", tag="cp27-cp27m-manylinux1_x86_64", old="")
    (tmp_path / "wheels/source-1.0.tar.gz").write_bytes(b"")
    path = wheel(tmp_path / "wheels", "hashed", hashed="")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong: dict[str, str] = {
        "old": "No matching distribution found for old\n.*only wheels are installed",
        "source": "No matching distribution found for source\n.*only wheels are installed",
        "none": "No matching distribution found for none",
        f"hashed==1.0 --hash=sha256:{'0' * 64}": "(?s)DO NOT MATCH THE HASHES",
    }
    for line, reason in wrong.items():
        with pytest.raises(PackagesError, match=reason):
            proxybox.run("pass", packages=[requirements(tmp_path, line)])
    assert list(installing.cached()) == []
    file = requirements(tmp_path, f"hashed==1.0 --hash=sha256:{right}")
    assert proxybox.run("import hashed; print('in')", packages=[file]).stdout == "in\n"


def test_without_pip_there_is_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    wheel(tmp_path / "wheels", "old", tag="cp27-cp27m-manylinux1_x86_64", old="")
    monkeypatch.setattr(sys, "executable", f"{tmp_path}/python")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    with pytest.raises(PackagesError, match="need pip beside proxybox, or uv on PATH"):
        proxybox.run("pass", packages=[requirements(tmp_path, "greeting")])
    monkeypatch.undo()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    result = proxybox.run("import greeting; print(greeting.text)", packages=[requirements(tmp_path, "greeting")])
    assert result.stdout == "hello\n", result
    for line, reason in {
        "old": "(?s)no wheels with a matching.*only wheels are installed",
        "none": "none was not found",
        f"greeting==1.0 --hash=sha256:{'0' * 64}": "Hash mismatch for `greeting==1.0`",
    }.items():
        with pytest.raises(PackagesError, match=reason):
            proxybox.run("pass", packages=[requirements(tmp_path, line)])


def test_a_policys_modules_are_looked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str], guest_kind: str) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="")
    policy = tmp_path / "policy.toml"
    policy.write_text("preload = ['json', 'greeting']\n")
    assert cli.main(["policy", "check", str(policy)]) == 0
    assert cli.main(["policy", "check", str(policy), "--guest", guest_kind]) == 125
    assert f"{policy}: preload[1]: there is no such module in the box" in capfd.readouterr().out
    words = ["--guest", guest_kind, "--packages", str(requirements(tmp_path, "greeting"))]
    assert cli.main(["policy", "check", str(policy), *words]) == 0


def test_a_package_that_wants_to_hurt_runs_in_the_box_alone(tmp_path: Path) -> None:
    """A .pth file, a module, and names of modules that pip and the compiler import."""
    mark = tmp_path / "mark"
    hurt = f"open({str(mark)!r}, 'w').close()"
    wheel(tmp_path / "wheels", "hostile", hostile=hurt, sitecustomize=hurt, compileall=hurt, pip=hurt)
    with zipfile.ZipFile(tmp_path / "wheels/hostile-1.0-py3-none-any.whl", "a") as archive:
        archive.writestr("hostile.pth", f"import sys; sys.came = True; {hurt}\n")
    file = requirements(tmp_path, "hostile")
    result = proxybox.run("import sys; print(sys.came)", packages=[file])
    assert not mark.exists()
    assert "hostile.pth" in result.stderr  # where it failed


def test_a_path_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(proxybox.PolicyError, match=r"packages\[0\]: want a folder, a requirements file or a script"):
        proxybox.Sandbox(packages=[tmp_path / "none"])
    assert cli.main(["run", "--packages", str(tmp_path / "none"), "-c", "pass"]) == 125
    assert "--packages: there is no" in capfd.readouterr().err


# --- virtual environments ---------------------------------------------------------------------------------------------


def environment(folder: Path, name: str, **settings: Any) -> Path:
    """What looks like a virtual environment for an interpreter of that name."""
    place = folder / "lib" / name / "site-packages"
    place.mkdir(parents=True)
    (place / "installed.py").write_text("")
    lines = {"home": "/usr/bin", **settings}
    (folder / "pyvenv.cfg").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def test_an_environment_as_packages(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    home = environment(tmp_path / "venv", find_guest().name)
    assert (
        proxybox.run("import installed; print(installed.__file__)", packages=[home]).stdout
        == "/packages/installed.py\n"
    )


def test_what_is_installed_beside_the_interpreter(tmp_path: Path) -> None:
    """It is seen where the environment says so."""
    for key, value in {"include-system-site-packages": "true", "Include-System-Site-Packages": "false"}.items():
        home = environment(tmp_path / value, find_guest().name, **{key: value})
        found = find_guest().with_packages((str(home),)).packages
        installed = [folder for folder in find_guest().installed_folders() if Path(folder).is_dir()]
        assert found == (f"{home}/lib/{find_guest().name}/site-packages", *(installed if value == "true" else ()))


def test_an_environment_for_another_version(tmp_path: Path) -> None:
    home = environment(tmp_path / "venv", "python3.2")
    with pytest.raises(proxybox.SandboxStartError, match=r"its packages are for python3\.2"):
        proxybox.run("pass", packages=[home])


def test_an_environment_whose_interpreter_is_gone(tmp_path: Path) -> None:
    home = environment(tmp_path / "venv", "python3.13", home="/gone/bin")
    with pytest.raises(proxybox.SandboxStartError, match=r"interpreter is gone \(it was in /gone/bin\): make it anew"):
        proxybox.run("pass", guest=home)


def test_a_pool_of_processes_installs_once(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    with proxybox.Pool(size=2, processes=2, packages=[requirements(tmp_path, "greeting")]) as pool:
        assert pool.run("import greeting; print(greeting.text)", check=True).stdout == "hello\n"
    assert len(list(installing.cached())) == 1
