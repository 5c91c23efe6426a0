"""Programs that use NumPy and pandas in a CPython, from their wheels: recorded, and replayed to the byte."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.guests.cpython import CPython
from tests import sweeps
from tests.recordings import tables
from tests.soak.suite import told

pytestmark = [pytest.mark.cpython, pytest.mark.filterwarnings("ignore:.*not compiled for")]
EACH_GUEST = True
LIMITS = {"wall_time": 100, "cpu_time": 100, "memory": "2G"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, cpython: CPython) -> Path:
    """A folder of the packages. Their wheels are fetched once, and kept with pytest's cache."""
    version = "{}.{}".format(*cpython.version)
    cache = getattr(request.config, "cache", None)
    wheels = cache.mkdir(f"tables-{version}") if cache is not None else tmp_path_factory.mktemp("wheels")
    if not (wheels / "whole").exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--implementation=cp"]
        command += [f"--platform=manylinux{each}_x86_64" for each in ("_2_28", "_2_17", "2014")]
        command += [f"--python-version={version}", "--retries=0", "--timeout=20", "--dest", str(wheels)]
        done = subprocess.run([*command, *tables.WANTED], capture_output=True, text=True, timeout=200, check=False)
        if done.returncode:
            pytest.skip(f"wheels of {', '.join(tables.WANTED)} cannot be had: {done.stderr.strip().splitlines()[-1:]}")
        (wheels / "whole").touch()
    folder = tmp_path_factory.mktemp("packages")
    folder.chmod(0o755)
    for path in wheels.glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            wheel.extractall(folder)
    return folder


@pytest.mark.parametrize("name", sweeps.part(tables.PROGRAMS, 5))
def test_a_program_on_tables_is_replayed_to_the_byte(name: str, packages: Path, tmp_path: Path) -> None:
    inputs, record = tmp_path / "inputs", tmp_path / "a.pbx"
    inputs.mkdir()
    tables.make_inputs(inputs)
    mounts = {"mounts": [f"{inputs}:/data"]}
    with proxybox.Sandbox(packages=[packages], limits=LIMITS, filesystem=mounts) as box:
        result = box.run(tables.PROGRAMS[name], record=record, check=True)
    inputs.rename(tmp_path / "elsewhere")
    done = proxybox.replay(record, packages=[packages])
    assert done.ok, done.divergence
    assert told(done.result) == told(result)
