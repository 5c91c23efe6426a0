"""Guests that fill the host's disk through a writable folder: they are charged for all that they have on it."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import proxybox
from proxybox.controller.drivers.engine import the_engine

pytestmark = pytest.mark.parametrize("driver", ["blocking", "pool", "asyncio"])
ENOSPC = 28


@pytest.fixture(scope="module", autouse=True)
def lasting_threads() -> None:
    """Starts the engine before the tests: it lasts as long as the process."""
    the_engine()


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="disk-"))
    yield made
    shutil.rmtree(made)


def run(driver: str, folder: Path, code: str, **limits: Any) -> proxybox.Result:
    options: dict[str, Any] = {
        "filesystem": {"mounts": [{"target": "/there", "source": str(folder), "mode": "rw"}]},
        "limits": {"wall_time": 200, "cpu_time": 60, **limits},
    }

    async def run_async() -> proxybox.Result:
        async with proxybox.AsyncSandbox(**options) as box:
            return await box.run(code)

    if driver == "asyncio":
        return anyio.run(run_async)
    if driver == "pool":
        with proxybox.Pool(size=1, **options) as pool:
            return pool.run(code)
    return proxybox.run(code, **options)


def told(result: proxybox.Result) -> list[str]:
    assert result.ok, (result.summary(), result.stderr)
    return result.stdout.split()


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.iterdir())


def test_hard_links_without_end(driver: str, folder: Path) -> None:
    """Without this limit: 319,013 names until the time limit, and a usage of 4,096 bytes."""
    code = """
import os
open("/there/file", "w").close()
made = 0
try:
    for made in range(5000): os.link("/there/file", f"/there/{made}")
except OSError as error: print(made, error.errno)
"""
    assert told(run(driver, folder, code, files=1000)) == ["999", str(ENOSPC)]
    assert len(list(folder.iterdir())) == 1000


@pytest.mark.parametrize("through", ["'/there/file'", "f'/proc/self/fd/{one}'"])
def test_files_that_are_removed_while_they_are_open_twice(driver: str, folder: Path, through: str) -> None:
    """Without this limit: 300 MiB on the disk with a limit of 4 MiB."""
    code = f"""
import os
held, kept = [], 0
try:
    for _ in range(100):
        one = os.open("/there/file", os.O_CREAT | os.O_RDWR)
        held.append(os.open({through}, os.O_RDONLY))
        wanted = 1 << 20
        while wanted: wanted -= os.write(one, bytes(wanted))
        os.unlink("/there/file")
        os.close(one)
        kept += 1
except OSError as error: print(kept, error.errno)
for fd in held: os.close(fd)
os.close(one)
os.unlink("/there/file")
with open("/there/again", "wb") as file: print(file.write(bytes(4 << 20)))
os.unlink("/there/again")
"""
    result = run(driver, folder, code, disk="4M")
    assert told(result) == ["4", str(ENOSPC), str(4 << 20)]
    assert list(folder.iterdir()) == []


def test_a_sparse_file_that_is_filled_by_and_by(driver: str, folder: Path) -> None:
    """A sparse file's length is not charged, so writes into it are."""
    code = """
import os
fd = os.open("/there/file", os.O_CREAT | os.O_RDWR)
os.ftruncate(fd, 1 << 38)
done = 0
try:
    while True: done += os.pwrite(fd, b"x" * 65536, done * 1000)
except OSError as error: print(done >> 20, error.errno)
"""
    assert told(run(driver, folder, code, disk="4M")) == ["4", str(ENOSPC)]
    assert on_disk(folder) <= 5 << 20


def test_holes_of_a_file_of_the_hosts(driver: str, folder: Path) -> None:
    (folder / "file").write_bytes(b"")
    os.truncate(folder / "file", 1 << 30)
    code = """
fd = __import__("os").open("/there/file", 2)
done = 0
try:
    while True: done += __import__("os").pwrite(fd, b"x" * 65536, done)
except OSError as error: print(done >> 20, error.errno)
"""
    assert told(run(driver, folder, code, disk="4M")) == ["4", str(ENOSPC)]
    assert on_disk(folder) <= 5 << 20
