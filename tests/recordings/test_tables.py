"""Programs that use NumPy and pandas in a CPython, from their wheels: recorded, and replayed to the byte."""

from pathlib import Path

import pytest

import proxybox
from proxybox.controller.guests.cpython import CPython
from tests.recordings import tables
from tests.soak.suite import told
from tests.wheels import unpacked

pytestmark = [pytest.mark.full, pytest.mark.cpython, pytest.mark.filterwarnings("ignore:.*not compiled for")]
EACH_GUEST = True
LIMITS = {"wall_time": 100, "cpu_time": 100, "memory": "2G"}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, cpython: CPython) -> Path:
    """A folder of the packages. Their wheels are downloaded once, and stored in pytest's cache."""
    version = "{}.{}".format(*cpython.version)
    return unpacked(request, tmp_path_factory, "tables", version, tables.WANTED)


@pytest.mark.parametrize("name", tables.PROGRAMS)
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
