"""`make check` and pre-commit run the same commands; targets in the help, and files that targets name, exist."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text()
HOOKS: list[dict[str, Any]] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]


def recipe(target: str) -> list[str]:
    found = re.search(rf"^{target}:.*\n((?:\t.+\n)+)", MAKEFILE, re.MULTILINE)
    assert found
    return [line.strip("\t@").replace("$(PY)", ".venv/bin/python") for line in found[1].splitlines()]


def test_pre_commit_runs_what_make_check_runs() -> None:
    """pre-commit passes the committed files to ruff, with an option to exclude the files that ruff itself excludes."""
    checks = [line.removesuffix(" .") for line in recipe("check")]
    assert [" ".join(shlex.split(hook["entry"])).replace(" --force-exclude", "") for hook in HOOKS] == checks
    assert {hook["language"] for hook in HOOKS} == {"system"}, "nothing is fetched"


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a checkout")
def test_ruff_sees_the_same_files_in_both() -> None:
    """For pre-commit a script without .py is Python because of its first line."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    scripts = {
        name
        for name in names.split("\0")
        if name and not Path(name).suffix and (ROOT / name).is_file()
        and (ROOT / name).read_bytes()[:40].startswith(b"#!/usr/bin/env python")
    }  # fmt: skip
    assert scripts == {"tools/classroom-pictures", "tools/pictures"}
    shown = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--show-files", "tools"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert all(name in shown for name in scripts)


def test_help_tells_of_every_target() -> None:
    (phony,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    seen = re.findall(r"^\t@echo 'make ([\w-]+) ", MAKEFILE, re.MULTILINE)
    assert sorted(seen) == sorted(set(phony.split()) - {"help", "setup"})
    page = (ROOT / "CONTRIBUTING.md").read_text()
    named = re.findall(r"(?:^    |`)make ([a-z-]+)", page, re.MULTILINE)
    assert {*named} <= {*seen}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize("target", ["test-quick", "orders"])
def test_what_a_target_names_is_there(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=True)
    named = re.findall(r"(?:(?<= )|--ignore=)(tests/[\w/.]+)", done.stdout)
    assert len(named) > 10
    assert [name for name in named if not (ROOT / name).exists()] == []
    assert target != "test-quick" or "tests/smoke" in named
