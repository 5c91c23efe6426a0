"""A higher limits.memory gives NumPy, pandas, pyarrow, polars and scikit-learn more memory, and they can use most of
it.
"""

from pathlib import Path

import pytest

from benchmarks import memory_limits
from proxybox.controller.guests.cpython import CPython
from tests.wheels import unpacked

pytestmark = [pytest.mark.full, pytest.mark.cpython, pytest.mark.filterwarnings("ignore:.*not compiled for")]
EACH_GUEST = True
WANTED = ("numpy", "pandas", "pyarrow", "polars", "scikit-learn")
#: The most memory that a program of each uses at its start, in MiB.
BEFORE = {"numpy": 40, "pandas": 120, "pyarrow": 100, "polars": 100, "sklearn": 160}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest, cpython: CPython) -> Path:
    """A folder of the packages. Their wheels are downloaded once into pytest's cache."""
    version = "{}.{}".format(*cpython.version)
    return unpacked(request, tmp_path_factory, "memory", version, WANTED)


@pytest.mark.parametrize("name", BEFORE)
def test_more_memory_is_more(name: str, packages: Path) -> None:
    """There was once less at 1G than at 900M: with room for it, an allocator reserved 1 GiB."""
    limits = (300, 900, 1024, 1500)
    found = [memory_limits.usable(name, f"{limit}M", packages) for limit in limits]
    for limit, (used, _) in zip(limits, found, strict=True):
        assert limit - BEFORE[name] <= used <= limit, found
    ends = {end for _, end in found}
    assert ends == {"memory_limit" if name == "polars" else "ArrowMemoryError" if name == "pyarrow" else "MemoryError"}
