"""A bounded run of the filesystem machine (machine.py), and steps that once behaved differently than on Linux.

PROXYBOX_FUZZ_SEED makes a long run use other examples than the daily ones; `make fuzz` sets it.
"""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests import sweeps

sys.path.insert(0, str(Path(__file__).parent))
from machine import KINDS, FilesystemMachine

# --- what was found ---------------------------------------------------------------------------------------------------

#: Steps that once behaved differently here than on Linux.
FOUND = {
    "a path that is not there and times that are none": [("utimensat", 9, b"a/a", ((0, 10**9), (0, 0)), 0)],
    "no old path, and no descriptor for the new one": [("rename", 9, b"a/b", 0, b"c", 0)],
    "sendfile from a description to itself": [
        ("open_simply", b"a", os.O_RDWR), ("sendfile", 0, 0, 4), ("sendfile", 0, 0, 4), ("lseek", 0, 0, os.SEEK_CUR),
    ],
    "sendfile of nothing from a directory": [
        ("open_simply", b"a", os.O_RDWR), ("open_simply", b"c", os.O_RDONLY), ("sendfile", 1, 0, 0),
    ],
    "times of a symbolic link": [("utimensat", 9, b"b", ((5, 0), (7, 0)), 0x100), ("stat", 9, b"b", 0x100)],
    "a range that ends where no offset can be": [
        ("open_simply", b"a", os.O_RDWR), ("pread", 0, 1, (1 << 63) - 1), ("pwrite", 0, b"x", (1 << 63) - 1),
        ("open_simply", b"c", os.O_RDONLY), ("pread", 1, 1, (1 << 63) - 1),
    ],
    "a sticky bit for a new file": [("mknod", 9, b"d/a", 0o1777), ("stat", 9, b"d/a", 0)],
    "fallocate of a path's descriptor": [("open", 9, b"a", os.O_PATH, 0), ("fallocate", 0, 0, 0, 0)],
    "set-id bits of a file that space is set aside for": [
        ("open", 9, b"c/a/a", os.O_CREAT | os.O_WRONLY, 0o2755), ("fallocate", 0, 0, 0, 1), ("stat", 9, b"c/a/a", 0),
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("steps", FOUND.values(), ids=FOUND)
def test_found(kind: str, steps: list[tuple[object, ...]]) -> None:
    machine = machine_of(kind)()
    try:
        for name, *arguments in steps:
            getattr(machine, str(name))(*arguments)
    finally:
        machine.teardown()


def machine_of(kind: str) -> type[FilesystemMachine]:
    return type(f"{kind.capitalize()}Machine", (FilesystemMachine,), {"kind": kind})


LONG = "PROXYBOX_FUZZ_SEED" in os.environ
SETTINGS = settings(
    max_examples=int(os.environ.get("PROXYBOX_EXAMPLES", "500" if LONG else sweeps.tries(20, 40))),
    stateful_step_count=60,
    deadline=None,
    derandomize=not LONG,
    database=None,
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.sized(1)
@pytest.mark.parametrize("kind", KINDS)
def test_same_as_linux(kind: str) -> None:
    machine = machine_of(kind)
    if LONG:
        machine = seed(int(os.environ["PROXYBOX_FUZZ_SEED"]))(machine)
    run_state_machine_as_test(machine, settings=SETTINGS)
