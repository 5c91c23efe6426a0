"""Packages of the data stack for guests, from their wheels."""

import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest


def unpacked(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, name: str, version: str, wanted: Sequence[str]
) -> Path:
    """Returns a folder of the packages.

    Their wheels are downloaded once, and stored in pytest's cache under `name`.
    """
    cache = getattr(request.config, "cache", None)
    wheels = cache.mkdir(f"{name}-{version}") if cache is not None else factory.mktemp("wheels")
    if not (wheels / "whole").exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--platform=manylinux{each}_x86_64" for each in ("_2_28", "_2_17", "2014")]
        command += [f"--python-version={version}", "--retries=0", "--timeout=20", "--dest", str(wheels), *wanted]
        done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
        if done.returncode:
            pytest.skip(f"wheels of {', '.join(wanted)} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
        (wheels / "whole").touch()
    folder = factory.mktemp("packages")
    folder.chmod(0o755)
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
    return folder
