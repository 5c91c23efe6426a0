"""Packages from requirements: installed once, outside of boxes, and visible in all of them."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

import proxybox
from proxybox import cli
from proxybox.controller import find_guest
from proxybox.errors import PackagesError
from proxybox.packages import cache
from tests.packages.wheels import Index, wheel

EACH_GUEST = True


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
        monkeypatch.setattr("proxybox.packages.installing.resolve", None)  # the second time nothing is installed
    (only,) = cache.cached()
    assert (only.guest, only.requirements[-1]) == (find_guest().name, "greeting>=1")
    assert only.packages == ("greeting==1.0",)
    assert cache.prune(older_than=1000) == []
    assert cache.prune() == [only]
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


@pytest.mark.full
def test_what_cannot_be_installed_is_told(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "old", tag="cp27-cp27m-manylinux1_x86_64", old="")
    (tmp_path / "wheels/source-1.0.tar.gz").write_bytes(b"")
    path = wheel(tmp_path / "wheels", "hashed", hashed="")
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    wrong: dict[str, str] = {
        "old": "(?s)no wheels with a matching.*only wheels are installed",
        "source": "(?s)no usable wheels.*only wheels are installed",
        "none": "none was not found",
        "hashed>1": r"hashed.*1\.0",
        f"hashed==1.0 --hash=sha256:{'0' * 64}": "its hash is another one",
    }
    for line, reason in wrong.items():
        with pytest.raises(PackagesError, match=reason):
            proxybox.run("pass", packages=[requirements(tmp_path, line)])
    assert list(cache.cached()) == []
    file = requirements(tmp_path, f"hashed==1.0 --hash=sha256:{right}")
    assert proxybox.run("import hashed; print('in')", packages=[file]).stdout == "in\n"


@pytest.mark.parametrize("name", ["uv", "installer", "packaging"])
def test_without_what_the_extra_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="")
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(PackagesError, match=r"need `\w+` here: pip install 'proxybox\[packages\]'"):
        proxybox.run("pass", packages=[requirements(tmp_path, "greeting")])


@pytest.mark.full
def test_the_wheel_that_fits_best_is_taken(tmp_path: Path, guest_kind: str) -> None:
    """Of several that fit the guest; listed hashes limit the choice."""
    guest = find_guest(guest_kind)
    tag = f"py3{guest.version[1]}-none-any"
    best = wheel(tmp_path / "wheels", "greeting", tag=tag, greeting="text = 'best'")
    other = wheel(tmp_path / "wheels", "greeting", greeting="text = 'any'")
    for hashes, text in {(): "best", (best, other): "best", (other,): "any"}.items():
        line = " ".join(("greeting", *(f"--hash=sha256:{hashlib.sha256(p.read_bytes()).hexdigest()}" for p in hashes)))
        code = "import greeting; print(greeting.text)"
        result = proxybox.run(code, packages=[requirements(tmp_path, line)], guest=guest_kind)
        assert result.stdout == f"{text}\n", result


def test_markers_and_extras_are_the_guests(tmp_path: Path, guest_kind: str) -> None:
    requires = (
        "ours ; implementation_name == 'pypy'", "theirs ; implementation_name == 'cpython'", "more ; extra == 'all'",
    )  # fmt: skip
    wheel(tmp_path / "wheels", "greeting", requires=requires, greeting="")
    for name in ("ours", "theirs", "more"):
        wheel(tmp_path / "wheels", name, **{name: ""})
    code = "import importlib.util as u; print([n for n in ('ours', 'theirs', 'more') if u.find_spec(n)])"
    result = proxybox.run(code, packages=[requirements(tmp_path, "greeting[all]")], guest=guest_kind)
    assert result.stdout == f"{['ours' if guest_kind == 'pypy' else 'theirs', 'more']}\n"


def test_a_policys_modules_are_looked_for(tmp_path: Path, capfd: pytest.CaptureFixture[str], guest_kind: str) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="")
    policy = tmp_path / "policy.toml"
    policy.write_text("preload = ['json', 'greeting']\n")
    assert cli.main(["policy", "check", str(policy)]) == 0
    assert cli.main(["policy", "check", str(policy), "--guest", guest_kind]) == 125
    assert f"{policy}: preload[1]: there is no such module in the box" in capfd.readouterr().out
    words = ["--guest", guest_kind, "--packages", str(requirements(tmp_path, "greeting"))]
    assert cli.main(["policy", "check", str(policy), *words]) == 0


def test_a_path_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(proxybox.PolicyError, match=r"packages\[0\]: want a folder, a requirements file or a script"):
        proxybox.Sandbox(packages=[tmp_path / "none"])
    assert cli.main(["run", "--packages", str(tmp_path / "none"), "-c", "pass"]) == 125
    assert "--packages: there is no" in capfd.readouterr().err


def test_progress_is_shown_on_a_terminal(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    words = ["-m", "proxybox.cli", "run", "--packages", str(requirements(tmp_path, "greeting")), "-c", "pass"]
    with pexpect.spawn(sys.executable, words, timeout=200, env={**os.environ, "TERM": "xterm"}) as terminal:
        terminal.expect("fetching greeting 1.0")
        terminal.expect("greeting-1.0-py3-none-any.whl.* bytes|greeting-1.0-py3-none-any.whl.* kB")
        terminal.expect(pexpect.EOF)


# --- several at once, and what is cut off ---------------------------------------------------------------------------

INSTALL = """
import sys, proxybox
print(proxybox.run("import greeting; print(greeting.text)", packages=[sys.argv[1]]).stdout, end="", flush=True)
"""


@pytest.mark.full
def test_several_processes_install_the_same_at_once(tmp_path: Path, cache_folder: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    file = requirements(tmp_path, "greeting")
    words = [sys.executable, "-c", INSTALL, str(file)]
    started = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [each.communicate(timeout=200) for each in started] == [("hello\n", "")] * 4
    (only,) = cache.cached()
    assert sorted(os.listdir(cache_folder / "proxybox/packages")) == [Path(only.folder).name]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_an_installation_that_is_cut_off_leaves_nothing(tmp_path: Path, cache_folder: Path, number: int) -> None:
    """Its helpers end with it.

    The files of a killed one are removed by the next one, which leaves other installations alone.
    """
    parent = cache_folder / "proxybox/packages"
    wheel(tmp_path / "files", "greeting", greeting="text = 'hello'")
    with Index(tmp_path / "files", stalls="/files/greeting-1.0-py3-none-any.whl") as index:
        file = tmp_path / "requirements.txt"
        file.write_text(f"-i {index.url}\ngreeting\n")
        words = [sys.executable, "-c", INSTALL, str(file)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            index.wait_until_it_stalls()
            (work,) = parent.glob(".new-*")
            cache.prune()
            assert work.is_dir()  # a lock says that it is in use
            process.send_signal(number)
            process.communicate(timeout=60)
        index.go_on()
    os.utime(work, (1, 1)) if work.exists() else None
    assert work.exists() == (number == signal.SIGKILL)
    assert not list(cache.cached())
    cache.prune()
    assert list(parent.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_installs(tmp_path: Path, open_the_way: Callable[[Path], None]) -> None:
    """With an interpreter that this user can start: the tests' own may be in root's home."""
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    file = requirements(tmp_path, "greeting")
    open_the_way(file)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1000, 1000)
    become = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "sh", "-c", 'exec "$@"', "sh"]
    own = [each for each in sys.path if each.endswith("site-packages")]
    path = os.pathsep.join((str(Path(proxybox.__file__).parents[1]), *own))
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(home), "PROXYBOX_GUEST": find_guest().executable}
    for python, its in ((sys.executable, ""), ("/usr/bin/python3", path)):
        env = {**variables, "PYTHONPATH": its}
        look = [*become, python, "-c", "import sys, proxybox; sys.exit(sys.version_info < (3, 11))"]
        if subprocess.run(look, capture_output=True, check=False, cwd="/", env=env).returncode == 0:
            words = [*become, python, "-c", INSTALL, str(file)]
            done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200, cwd="/", env=env)
            assert (done.stdout, done.stderr) == ("hello\n", ""), done.stderr
            return
    pytest.skip("there is no Python 3.11 or newer that another user can start")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts filesystems")
def test_a_cache_where_nothing_can_be_started(tmp_path: Path, cache_folder: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "noexec", "none", cache_folder], check=False).returncode:
        pytest.skip("this root may not mount")
    try:
        with pytest.raises(PackagesError, match=r"\(noexec\): set XDG_CACHE_HOME to another folder"):
            proxybox.run("pass", packages=[requirements(tmp_path, "greeting")])
    finally:
        subprocess.run(["umount", cache_folder], check=True)


def test_a_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PackagesError, match=r"/file: File exists: set XDG_CACHE_HOME"):
        proxybox.run("pass", packages=[requirements(tmp_path, "greeting")])


def test_the_cache_does_not_tell_boxes_of_passwords(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="")
    file = requirements(tmp_path, "greeting", "--extra-index-url https://me:secret@index.example/simple")
    code = "print(open('/packages/proxybox.json').read())"
    seen = proxybox.run(code, packages=[file], check=True).stdout
    assert "https://index.example/simple" in seen
    assert "secret" not in seen


def test_a_wheel_is_fetched_once(tmp_path: Path, cache_folder: Path) -> None:
    """Unless the cache's copy was changed."""
    path = wheel(tmp_path / "files", "greeting", greeting="text = 'hello'")
    (kept,) = [cache_folder / "proxybox/wheels" / hashlib.sha256(path.read_bytes()).hexdigest()]
    with Index(tmp_path / "files") as index:
        file = tmp_path / "requirements.txt"

        def fetched(line: str) -> int:
            before = len(index.asked)
            file.write_text(f"-i {index.url}\n{line}\n")
            assert proxybox.run("import greeting; print(greeting.text)", packages=[file]).stdout == "hello\n"
            assert kept.read_bytes() == path.read_bytes()
            return sum(headers.get("User-Agent") == "proxybox" for _, headers in index.asked[before:])

        assert fetched("greeting") == 1
        assert fetched("greeting>0") == 0
        kept.write_bytes(b"x" * kept.stat().st_size)
        assert fetched("greeting>=1") == 1
        assert cache.prune(older_than=1000) == []
        assert kept.exists()
        assert len(cache.prune()) == 3
        assert not kept.exists()


# --- virtual environments ---------------------------------------------------------------------------------------------


def environment(folder: Path, name: str, **settings: Any) -> Path:
    """Makes the files of a virtual environment for an interpreter of that name."""
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
    """It is visible only if the environment says so."""
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


@pytest.mark.full
def test_a_pool_of_processes_installs_once(tmp_path: Path) -> None:
    wheel(tmp_path / "wheels", "greeting", greeting="text = 'hello'")
    with proxybox.Pool(size=2, processes=2, packages=[requirements(tmp_path, "greeting")]) as pool:
        assert pool.run("import greeting; print(greeting.text)", check=True).stdout == "hello\n"
    assert len(list(cache.cached())) == 1
