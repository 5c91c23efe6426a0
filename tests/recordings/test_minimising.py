"""Policies without the parts that recorded runs never used."""

import json
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import Mount, RecordError
from proxybox.policies import evolve, from_toml
from proxybox.records.minimising import minimised
from tests.recordings.test_commands import proxybox as command

CODE = """
import os
os.chdir('/read')
print(open('in.txt').read(), os.listdir('.'))
folder = os.open('/written', os.O_RDONLY)
os.close(os.open('out.txt', os.O_WRONLY | os.O_CREAT, dir_fd=folder))
"""


@pytest.fixture
def policy(tmp_path: Path) -> proxybox.Policy:
    for name in ("read", "written", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in.txt").write_text(name)
    mounts = [Mount(f"/{name}", str(tmp_path / name), mode="overlay") for name in ("read", "written", "other")]
    return evolve(proxybox.Policy(), filesystem={"mounts": mounts})


def recorded(policy: proxybox.Policy, path: Path, code: str = CODE) -> Path:
    with proxybox.Sandbox(policy) as box:
        result = box.run(code, record=path)
    assert result.ok, result.stderr
    return path


def test_what_was_not_used_goes(policy: proxybox.Policy, tmp_path: Path) -> None:
    smaller, unused = minimised(policy, [recorded(policy, tmp_path / "a.pbx")])
    assert {each.key for each in unused} >= {"filesystem.mounts[0].mode", "filesystem.mounts[2]", "limits.threads"}
    assert [(mount.target, mount.mode) for mount in smaller.filesystem.mounts] == [
        ("/read", "ro"),
        ("/written", "overlay"),
    ]
    assert smaller.limits.thread_count == 1
    assert smaller.limits.calls is not None
    assert smaller.limits.calls < 1_000_000
    recorded(smaller, tmp_path / "b.pbx")  # the program still passes


def test_several_runs_are_taken_together(policy: proxybox.Policy, tmp_path: Path) -> None:
    other = "print(open('/other/in.txt').read())"
    records = [recorded(policy, tmp_path / "a.pbx"), recorded(policy, tmp_path / "b.pbx", other)]
    smaller, _ = minimised(policy, records)
    assert [mount.target for mount in smaller.filesystem.mounts] == ["/read", "/written", "/other"]


def test_a_record_that_is_not_complete_is_refused(policy: proxybox.Policy, tmp_path: Path) -> None:
    path = recorded(policy, tmp_path / "a.pbx")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RecordError, match="not complete"):
        minimised(policy, [path])


def test_the_command(policy: proxybox.Policy, tmp_path: Path) -> None:
    path = recorded(policy, tmp_path / "a.pbx")
    mounts = "".join(
        f"[[filesystem.mounts]]\ntarget = '/{name}'\nsource = '{tmp_path}/{name}'\nmode = 'overlay'\n"
        for name in ("read", "written", "other")
    )
    (tmp_path / "mine.toml").write_text(mounts)
    done = command("policy", "minimise", tmp_path / "mine.toml", path)
    assert [mount.target for mount in from_toml(done.stdout).filesystem.mounts] == ["/read", "/written"]
    assert "filesystem.mounts[2] taken away: nothing at /other was reached" in done.stderr
    seen: dict[str, Any] = json.loads(command("policy", "minimise", "--json", tmp_path / "mine.toml", path).stdout)
    assert {each["key"] for each in seen["unused"]} >= {"filesystem.mounts[2]"}
    assert "No such file" in command("policy", "minimise", "default", tmp_path / "none", status=125).stderr
