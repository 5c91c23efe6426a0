"""proxybox kernel install, uninstall, run: what they write, and how they fail."""

import copy
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import click
import pytest
from jupyter_client.kernelspec import KernelSpecManager

import proxybox
from proxybox import Policy, cli
from proxybox.cli.installing import kernel_install, kernel_run
from proxybox.controller import find_guest
from proxybox.kernel.box import default_policy
from proxybox.kernel.spec import SHIPPED, KernelOptions, choice_for, specification
from tests.kernel.conftest import opened

ROOT = Path(__file__).resolve().parents[2]


def spec(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        Path(KernelSpecManager().get_kernel_spec(name).resource_dir, "kernel.json").read_text()
    )
    return found


def said(capsys: pytest.CaptureFixture[str], status: int, *words: str) -> str:
    capsys.readouterr()
    assert cli.main(["kernel", *words]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


def test_what_the_wheel_ships_is_what_install_writes(jupyter: Path) -> None:
    text = (ROOT / "share/jupyter/kernels/proxybox/kernel.json").read_text()
    assert text == SHIPPED
    shipped = json.loads(text)
    assert shipped == specification("python", "Python in a box (proxybox)", KernelOptions())
    assert spec("proxybox") == {**shipped, "argv": [sys.executable, *shipped["argv"][1:]]}
    assert shipped["interrupt_mode"] == "message"


def test_install_and_uninstall(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text("[limits]\nmemory = '64M'\n")
    words = ("--name", "mine", "--display-name", "Mine", "--policy", "mine.toml", "--folder", ".")
    assert said(capsys, 0, "install", "--user", *words).startswith("mine: installed in /")
    written = spec("mine")
    policy = str(tmp_path / "mine.toml")
    assert written["display_name"] == "Mine"
    assert written["metadata"]["proxybox"] == {"policy": policy, "folder": "."}
    assert written["argv"][-4:] == ["--policy", policy, "--folder", "."]
    assert said(capsys, 0, "uninstall", "--name", "mine").startswith("mine: removed from /")
    assert "there is no kernel 'mine'" in said(capsys, 125, "uninstall", "--name", "mine")


def test_install_below_a_prefix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said(capsys, 0, "install", "--prefix", str(tmp_path))
    assert (tmp_path / "share/jupyter/kernels/proxybox/kernel.json").is_file()


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment with an installed wheel: its kernel is where Jupyter looks first."""
    shipped = tmp_path / "env/share/jupyter/kernels/proxybox/kernel.json"
    shipped.parent.mkdir(parents=True)
    shutil.copy(ROOT / "share/jupyter/kernels/proxybox/kernel.json", shipped)
    record = tmp_path / "env/lib/proxybox-0.1.0.dist-info/RECORD"
    record.parent.mkdir(parents=True)
    record.write_text("../share/jupyter/kernels/proxybox/kernel.json,,\nproxybox-0.1.0.dist-info/RECORD,,\n")
    record.with_name("METADATA").write_text("Metadata-Version: 2.1\nName: proxybox\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(str(record.parents[1]))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "env/share/jupyter"))
    return shipped


def test_the_policy_that_was_given_is_that_of_the_kernel_that_jupyter_starts(
    environment: Path, jupyter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when Jupyter finds the wheel's own kernel before the user's."""
    wheels, users = environment.read_text(), jupyter / "data/kernels/proxybox/kernel.json"
    before = users.read_text()
    lines = said(capsys, 0, "install", "--policy", "strict").splitlines()
    assert lines == [
        f"proxybox: installed in {environment.parent}, in the place of one that Jupyter finds first",
        f"proxybox: installed in {users.parent}",
    ]
    with opened() as notebook:
        notebook.run("import time\ntime.sleep(3600)\nprint(time.ctime())")
        assert notebook.text() == "Thu Jan  1 01:00:00 2026\n"  # the clock of `strict`
    out = said(capsys, 0, "uninstall")
    assert f"removed from {users.parent}" in out
    assert f"without a policy of yours, in {environment.parent}" in out
    assert environment.read_text() == wheels
    assert not users.exists()
    assert f"{environment.parent} came with proxybox" in said(capsys, 125, "uninstall")
    assert environment.read_text() == wheels
    users.parent.mkdir()
    users.write_text(before)


def test_a_place_that_jupyter_would_not_come_to(
    environment: Path, jupyter: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A policy that Jupyter would not use is an error, before anything is written."""
    users = jupyter / "data/kernels/proxybox/kernel.json"
    before = users.read_text(), environment.read_text()
    error = said(capsys, 125, "install", "--user", "--policy", "strict")
    assert f"it finds {environment.parent}, the one that came with proxybox." in error
    assert (users.read_text(), environment.read_text()) == before
    other = environment.parents[1] / "course/kernel.json"
    other.parent.mkdir()
    other.write_text('{"argv": [], "display_name": "", "language": "", "metadata": []}')
    for words in ((), ("--user",)):
        error = said(capsys, 125, "install", "--name", "Course", *words)
        assert f"it finds {other.parent}, another kernel's." in error
    assert not (jupyter / "data/kernels/course").exists()
    assert cli.main(["kernel", "install", "--prefix", str(tmp_path / "elsewhere")]) == 0
    assert "does not look there" in capsys.readouterr().err


def test_a_name_that_is_a_folder_above(jupyter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("..", "."):
        assert "is no name of a kernel" in said(capsys, 125, "install", "--name", name)
    assert (jupyter / "data/kernels/proxybox/kernel.json").exists()


def test_a_name_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert "can't install the kernel" in said(capsys, 125, "install", "--name", "a b/c")


def test_two_places(capsys: pytest.CaptureFixture[str]) -> None:
    assert "want one of --user, --prefix" in said(capsys, 2, "install", "--user", "--sys-prefix")


def test_a_policy_that_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean strict?" in said(capsys, 125, "install", "--policy", "strikt")
    assert "cannot be read: No such file" in said(capsys, 125, "install", "--policy", str(tmp_path / "none.toml"))
    assert "is no folder" in said(capsys, 2, "install", "--folder", str(tmp_path / "none"))


def test_anothers_kernel_is_not_uninstalled(jupyter: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = jupyter / "data" / "kernels" / "other"
    folder.mkdir()
    (folder / "kernel.json").write_text('{"argv": [], "display_name": "", "language": ""}')
    assert "is no kernel of proxybox's" in said(capsys, 125, "uninstall", "--name", "other")
    assert folder.exists()


def test_run_without_a_connection(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "connection.json"
    assert "can't open the connection file" in said(capsys, 125, "run", "-f", str(path))
    path.write_text("{}")
    assert "there is no preset" in said(capsys, 125, "run", "-f", str(path), "--policy", "strikt")


def test_metadata_that_was_edited(jupyter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The metadata of the kernel's specification says what the command line leaves open."""
    connection = tmp_path / "connection.json"
    connection.write_text('{"kernel_name": "edited"}')
    folder = jupyter / "data" / "kernels" / "edited"
    folder.mkdir()

    def edit(own: object) -> None:
        written = {**specification("python", "Edited", KernelOptions()), "metadata": {"proxybox": own}}
        (folder / "kernel.json").write_text(json.dumps(written))

    edit({"policy": "strict"})
    assert choice_for(str(connection)) == KernelOptions(policy="strict")
    edit({"packages": ["a", "b"], "record": "/r"})
    assert choice_for(str(connection)) == KernelOptions(packages=("a", "b"), record="/r")
    for nonsense in ({"polcy": "strict"}, {"policy": 3}, "strict", ["policy"], {"packages": "a"}, {"packages": [1]}):
        edit(nonsense)
        assert "metadata.proxybox" in said(capsys, 125, "run", "-f", str(connection))
    connection.write_text('{"kernel_name": "gone"}')
    assert choice_for(str(connection)) == KernelOptions()


def test_the_default_has_time_and_memory_for_a_cell() -> None:
    policy = default_policy()
    assert (policy.limits.wall_time, policy.limits.cpu_time, policy.limits.calls) == (600, 300, None)
    assert policy.limits.memory == 1 << 30
    assert policy.filesystem == Policy().filesystem


def test_without_ipykernel_the_command_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "ipykernel.py").write_text("raise ModuleNotFoundError('gone', name='ipykernel')\n")
    done = subprocess.run(
        [sys.executable, "-m", "proxybox.cli", "kernel", "install"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 125
    assert done.stderr == (
        "proxybox: the kernel needs ipykernel, which is not installed: pip install 'proxybox[jupyter]'\n"
    )


#: For each option a value, as words with a folder of the test's own, and a cell that fails without it.
OPTIONS = {
    "policy": ("strict", "import time; assert time.ctime().startswith('Thu Jan  1 ')"),
    "folder": ("{0}/shown", "assert open('/box/a.txt').read() == 'shown'"),
    "guest": ("{1}", "import sys; assert sys.executable == {1!r}"),
    "packages": ("{0}/packages", "import greeting; assert greeting.text == 'hello'"),
    "record": ("{0}/records", "pass"),
}


@pytest.fixture
def chosen(tmp_path: Path) -> Iterator[dict[str, tuple[str, str]]]:
    """OPTIONS, with existing folders and files for the values."""
    place = Path(tempfile.mkdtemp(prefix="kernel-"))  # the user of root's guests cannot enter pytest's own folder
    for path, text in {"shown/a.txt": "shown", "packages/greeting.py": "text = 'hello'"}.items():
        (place / path).parent.mkdir()
        (place / path).write_text(text)
    place.chmod(0o755)
    guest = find_guest().executable
    yield {name: (value.format(place, guest), cell.format(place, guest)) for name, (value, cell) in OPTIONS.items()}
    shutil.rmtree(place)


def test_an_option_stands_in_one_place() -> None:
    """The command line, KernelOptions and this file have the same options."""
    parameters: dict[str, click.Parameter] = {}
    for command in (kernel_install, kernel_run):
        parameters = {each.name or "": each for each in command.params}
        assert {*OPTIONS} <= {*parameters}
    assert {*parameters} == {*OPTIONS, "connection_file"}
    assert [field.name for field in attrs.fields(KernelOptions)] == [*OPTIONS]


@pytest.mark.parametrize("options", [(), *((option,) for option in OPTIONS), tuple(OPTIONS)], ids=" ".join)
def test_what_is_written_is_what_is_read(
    options: tuple[str, ...], chosen: dict[str, tuple[str, str]], jupyter: Path, tmp_path: Path
) -> None:
    words = [word for option in options for word in (f"--{option}", chosen[option][0])]
    assert cli.main(["kernel", "install", "--name", "each", *words]) == 0
    connection = tmp_path / "connection.json"
    connection.write_text('{"kernel_name": "each"}')
    choice = choice_for(str(connection))
    for option in OPTIONS:
        value = chosen[option][0] if option in options else ""
        assert getattr(choice, option) == (tuple(filter(None, [value])) if option == "packages" else value)
    argv = json.loads((jupyter / "data/kernels/each/kernel.json").read_text())["argv"]
    read = copy.copy(kernel_run).make_context("run", argv[argv.index("run") + 1 :]).params
    given = {option: read[option] for option in OPTIONS if read[option]}
    assert attrs.evolve(KernelOptions(), **given) == choice


@pytest.mark.sized(3)
@pytest.mark.parametrize("options", [*((option,) for option in OPTIONS), tuple(OPTIONS)], ids=" ".join)
def test_a_kernel_that_was_installed_with_it_starts(
    options: tuple[str, ...], chosen: dict[str, tuple[str, str]]
) -> None:
    words = [word for option in options for word in (f"--{option}", chosen[option][0])]
    assert cli.main(["kernel", "install", "--name", "each", *words]) == 0
    with opened("each") as notebook:
        for option in options:
            reply = notebook.run(chosen[option][1])
            assert reply["status"] == "ok", (option, notebook.messages)
    if "record" in options:
        (record,) = Path(chosen["record"][0]).iterdir()
        with proxybox.Record(record) as read:
            assert read.result is not None


def test_what_cannot_be_is_told_before_anything_is_installed(
    jupyter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in (["--guest", "/nowhere/python"], ["--packages", str(tmp_path / "none")]):
        assert said(capsys, 125, "install", "--name", "wrong", *wrong)
    assert not (jupyter / "data/kernels/wrong").exists()
