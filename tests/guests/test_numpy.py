"""NumPy from its PyPy wheel, in a virtual environment that is mounted read-only: a large extension module in a box."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import proxybox
from proxybox.controller import find_guest
from proxybox.packages.compiling import compile_all

pytestmark = pytest.mark.pypy
LIMITS = {"wall_time": 90, "cpu_time": 90, "memory": "2G"}
MATRICES = """
import numpy as np

numbers = np.arange(90_000, dtype=float).reshape(300, 300)
product = numbers @ numbers.T
expected = [sum(a * b for a, b in zip(numbers[0].tolist(), numbers[n].tolist())) for n in (0, 7, 299)]
print(np.allclose(product[0, [0, 7, 299]], expected), product.shape, product.dtype)
print(round(np.linalg.det(np.eye(4) * 3), 6), np.linalg.solve([[3, 1], [1, 2]], [9, 8]), np.sort([3, 1, 2])[::-1])
np.save("product.npy", product)
print(np.load("product.npy", mmap_mode="r")[299, 299] == product[299, 299])
print(np.__file__.startswith("/packages/"))
"""
EXPECTED = "True (300, 300) float64\n81.0 [2. 3.] [3 2 1]\nTrue\nTrue\n"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A virtual environment of pypy3 with NumPy in it. The wheel is downloaded once into pytest's cache."""
    if (spoken := find_guest().version) != (3, 11):
        pytest.skip(f"NumPy's wheel is made for PyPy 3.11, and this is {spoken[0]}.{spoken[1]}")
    cache = getattr(request.config, "cache", None)
    wheels = cache.mkdir("numpy-for-pypy") if cache is not None else tmp_path_factory.mktemp("wheels")
    if not list(wheels.glob("numpy-*pypy311_pp73*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--python-version=3.11", "--implementation=pp", "--abi=pypy311_pp73", "--retries=0"]
        command += ["--platform=manylinux_2_27_x86_64", "--platform=manylinux_2_28_x86_64", "--timeout=10"]
        done = subprocess.run(
            [*command, "--dest", str(wheels), "numpy"], capture_output=True, text=True, timeout=100, check=False
        )
        if done.returncode:
            pytest.skip(f"NumPy's wheel for PyPy 3.11 cannot be had: {done.stderr.strip().splitlines()[-1:]}")
    made = tmp_path_factory.mktemp("environment")
    subprocess.run(["pypy3", "-m", "venv", "--without-pip", made], check=True, timeout=100)
    (site,) = made.glob("lib/pypy3.*/site-packages")
    with zipfile.ZipFile(sorted(wheels.glob("numpy-*.whl"))[-1]) as wheel:
        wheel.extractall(site)
    compile_all(str(site), find_guest())
    return made


def test_matrices_with_packages_of_an_environment(environment: Path) -> None:
    with proxybox.Sandbox(packages=[environment], limits=LIMITS) as box:
        result = box.run(MATRICES)
    assert (result.stdout, result.stderr) == (EXPECTED, "")
    assert list(result.files) == ["product.npy"]


def test_matrices_with_the_interpreter_of_an_environment(environment: Path) -> None:
    with proxybox.Sandbox(guest=environment / "bin" / "pypy3", limits=LIMITS) as box:
        result = box.run(MATRICES)
    assert (result.stdout, result.stderr) == (EXPECTED, "")


def test_the_environment_cannot_be_written(environment: Path) -> None:
    code = "import numpy; open(numpy.__file__, 'a')"
    with proxybox.Sandbox(packages=[environment], limits=LIMITS) as box:
        result = box.run(code)
    assert result.error is not None
    assert result.error.message.startswith("[Errno 30] Read-only file system")
