"""Programs as people write them, recorded and replayed: the replay is the same, or the record says that it may not be.

Only threads that compute at the same time may differ; replays of programs of one thread are always the same.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest

import proxybox
from proxybox import Result, Sandbox
from tests import sweeps
from tests.recordings.programs import everyday, threaded
from tests.recordings.replays import replayed, told
from tests.soak.busy import busy_loops

#: Programs whose threads compute for long while others wait.
COMPUTING = {
    "a flag that is spun on", "a daemon that computes", "computing side by side", "garbage of threads",
    "a switch interval", "no lock", "a progress",
}  # fmt: skip


@pytest.fixture(scope="module", params=["pypy", "cpython"])
def guest(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def everyday_box(guest: str) -> Iterator[Sandbox]:
    with Sandbox(guest=guest, limits=everyday.LIMITS) as box:
        yield box


@pytest.fixture(scope="module")
def threaded_box(guest: str) -> Iterator[Sandbox]:
    with Sandbox(guest=guest, limits=threaded.LIMITS) as box:
        yield box


@pytest.mark.sized(8)
@pytest.mark.parametrize("name", everyday.PROGRAMS)
def test_a_program_is_replayed_to_the_byte(name: str, guest: str, everyday_box: Sandbox, tmp_path: Path) -> None:
    result = everyday_box.run(everyday.PROGRAMS[name], stdin=everyday.STDIN, record=tmp_path / "run.pbx")
    assert (result.record_fault, result.record_inexact) == ("", None)
    done = replayed(tmp_path / "run.pbx", guest=guest)
    assert told(done.result) == told(result)
    assert done.calls >= result.usage.calls


def is_the_same_or_was_told(result: Result, guest: str) -> bool:
    """Returns whether a replay does the same. If it does not, its record must have said that it may not."""
    assert result.record is not None
    assert not result.record_fault
    done = proxybox.replay(result.record, guest=guest)
    if done.ok:
        assert told(done.result) == told(result)
        return True
    inexact = result.record_inexact
    assert inexact is not None, done.divergence
    assert done.divergence is not None
    assert done.divergence.number >= inexact.call
    return False


@pytest.mark.sized(4)
@pytest.mark.parametrize("name", threaded.PROGRAMS)
def test_a_program_of_threads_is_replayed_to_the_byte(
    name: str, guest: str, threaded_box: Sandbox, tmp_path: Path
) -> None:
    result = threaded_box.run(threaded.PROGRAMS[name], stdin=threaded.STDIN, record=tmp_path / "run.pbx")
    assert is_the_same_or_was_told(result, guest) or name in COMPUTING


@pytest.mark.full
def test_programs_of_threads_that_were_recorded_beside_busy_loops(
    guest: str, threaded_box: Sandbox, tmp_path: Path
) -> None:
    names = sweeps.spread(threaded.PROGRAMS, 8)
    with busy_loops(4):
        results = [
            threaded_box.run(threaded.PROGRAMS[name], stdin=threaded.STDIN, record=tmp_path / f"{at}.pbx")
            for at, name in enumerate(names)
        ]
    parted = [name for name, result in zip(names, results, strict=True) if not is_the_same_or_was_told(result, guest)]
    assert not {*parted} - COMPUTING
