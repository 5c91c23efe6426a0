"""deploy/ and .dockerignore: they are complete, and agree with each other."""

import base64
import fnmatch
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.hostile.systemd_unit import UNIT, lines

CHECKOUT = Path(__file__).parent.parent.parent
DEPLOY = CHECKOUT / "deploy"
SERVICE = lines(UNIT)
#: The highest exposure that `systemd-analyze security` may compute, of 100, so that no protecting line gets lost.
MOST_EXPOSED = 25


def tool(name: str) -> str:
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin")
    if found is None:
        pytest.skip(f"no {name} here (Debian's package systemd)")
    return found


# --- systemd ----------------------------------------------------------------------------------------------------------


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """With an existing program in place of the installed one."""
    program = SERVICE["ExecStart"].split()[0]
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, sys.executable))
    done = subprocess.run(
        [tool("systemd-analyze"), "verify", "--man=no", "--recursive-errors=no", copy],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "not booted with systemd" in done.stderr or "Failed to" in done.stderr:
        pytest.skip(f"systemd-analyze cannot verify units here: {done.stderr}")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_unit_keeps_away_what_it_can() -> None:
    done = subprocess.run(
        [tool("systemd-analyze"), "security", "--offline=true", f"--threshold={MOST_EXPOSED}", UNIT],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "exposure" not in done.stdout:
        pytest.skip(f"this systemd-analyze has no security --offline: {done.stderr}")
    assert done.returncode == 0, done.stdout


def test_a_call_that_is_not_on_the_list_fails_and_ends_nothing() -> None:
    """How the filters affect boxes: tests/hostile/test_plain_hosts.py."""
    assert SERVICE["SystemCallErrorNumber"] == "EPERM"
    assert SERVICE["SystemCallFilter"].split() == ["@system-service", "@mount"]


def test_the_units_user_is_made() -> None:
    file = DEPLOY / "proxybox.sysusers"
    (line,) = [line for line in file.read_text().splitlines() if not line.startswith("#")]
    kind, name, _ = line.split(None, 2)
    assert (kind, name) == ("u", SERVICE["User"])
    assert SERVICE["Group"] == name
    assert re.search(rf"/var/lib/{SERVICE['StateDirectory']}\b", file.read_text())
    done = subprocess.run([tool("systemd-sysusers"), "--dry-run", file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_units_paths_are_those_of_its_installation() -> None:
    program = SERVICE["ExecStart"].split()[0]
    folder = str(Path(program).parent.parent)
    for text in (UNIT.read_text(), (DEPLOY / "README.md").read_text()):
        assert f"python3 -m venv {folder}" in text
        assert f"{folder}/bin/pip install" in text
        assert f"{program} serve keys add" in text.replace("\\\n#     ", "")
    assert f"--data /var/lib/{SERVICE['StateDirectory']}" in SERVICE["ExecStart"]


# --- images -----------------------------------------------------------------------------------------------------------


def context() -> set[str]:
    """Returns the committed files in a build's context: the last pattern in .dockerignore that matches decides."""
    patterns = [line for line in (CHECKOUT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    listed = subprocess.run(["git", "ls-files"], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    given = set()
    for path in [
        *listed.stdout.splitlines(),
        ".git/config",
        ".venv/bin/python",
        ".env",
        "keys.json",
        "controller/x.pyc",
    ]:
        is_given = True
        for pattern in patterns:
            wanted = pattern.removeprefix("!")
            parts = path.split("/")
            if wanted.startswith("**/"):
                fits = any(fnmatch.fnmatchcase(part, wanted[3:]) for part in parts)
            else:
                fits = any(fnmatch.fnmatchcase("/".join(parts[:end]), wanted) for end in range(1, len(parts) + 1))
            if fits:
                is_given = pattern.startswith("!")
        given |= {path} if is_given else set()
    return given


def test_a_build_is_given_the_package_and_nothing_else() -> None:
    given = context()
    tops = {path.split("/")[0] for path in given}
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", project["readme"], *project["license-files"]}
    assert tops == {"controller", "policies", "proxybox", "share", *needed}
    listed = subprocess.run(
        ["git", "ls-files", "controller", "policies", "proxybox", "share"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(listed.stdout.splitlines()) <= given
    assert not [path for path in given if path.endswith((".pyc", ".env", "keys.json"))]


def instructions(name: str) -> list[str]:
    """Returns the instructions of a Dockerfile, each in one line, without comments."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / name).read_text(), flags=re.MULTILINE)
    return [re.sub(r"\s*\\\n\s*", " ", each) for each in re.findall(r"^[A-Z]+ (?:.*\\\n)*.*$", text, re.MULTILINE)]


def wheel(folder: Path) -> Path:
    """Makes a wheel with one module."""
    content = {
        "baked.py": "WORD = 'baked in'\n",
        "baked-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: baked\nVersion: 1.0\n",
        "baked-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        file: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for file, text in content.items()
    }
    content["baked-1.0.dist-info/RECORD"] = "".join(
        f"{file},sha256={digest},{len(content[file].encode())}\n" for file, digest in digests.items()
    )
    path = folder / "baked-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file, text in content.items():
            archive.writestr(file, text)
    return path


def test_packages_are_baked_in_as_the_dockerfile_does_it(tmp_path: Path) -> None:
    """Runs its RUN in a folder of the test. The result is used without network, cache and requirements."""
    tmp_path.chmod(0o755)
    (tmp_path / "wheels").mkdir()
    wheel(tmp_path / "wheels")
    (tmp_path / "requirements.txt").write_text(f"--no-index\n--find-links {tmp_path}/wheels\nbaked\n")
    (run,) = [each for each in instructions("Dockerfile.packages") if "proxybox run" in each]
    for place, own in (
        ("/tmp/cache", "cache"),
        ("/tmp/requirements.txt", "requirements.txt"),
        ("/opt/packages", "packages"),
        ("/opt/serve.toml", "serve.toml"),
    ):
        assert place in run
        run = re.sub(rf"(?<![\w/]){place}\b", str(tmp_path / own), run)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["sh", "-euc", run.removeprefix("RUN ")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "requirements.txt").exists()
    config = tomllib.loads((tmp_path / "serve.toml").read_text())
    (folder,) = config["languages"]["python"]["packages"]
    program = "import baked; print(baked.WORD, baked.__cached__.rpartition('.')[2])"
    environment = {"PATH": environment["PATH"], "HOME": "/nonexistent"}
    command = [sys.executable, "-m", "proxybox", "run", "--packages", folder, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=CHECKOUT)
    assert (done.stdout, done.stderr) == ("baked in pyc\n", "")
