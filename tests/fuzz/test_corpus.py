"""The kept corpus, all findings, and a bounded number of new inputs, with the targets of targets.py.

The promise: an event or GuestMisbehaved, never another exception, never more memory than the limit. These tests need no
atheris; `make fuzz` is the guided, longer run.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests import sweeps

sys.path.insert(0, str(Path(__file__).parent))
from scene import Stage
from targets import TARGETS

HERE = Path(__file__).parent

FILES = {name: sorted((HERE / "corpus" / name).glob("*")) for name in TARGETS}
FOUND = sorted(
    path for name in TARGETS for path in (HERE / "findings" / name).glob("*")
)  # the stub's are in test_stub.py
NEW = {"framing": 1500, "decoders": 3000, "calls": 400, "translated": 600}


@pytest.mark.parametrize("name", TARGETS)
def test_the_kept_corpus(name: str) -> None:
    assert FILES[name], "the corpus is kept in git"
    for path in FILES[name]:
        try:
            TARGETS[name](path.read_bytes())
        except Exception as error:
            error.add_note(f"the input is {path}")
            raise


def test_a_link_that_a_guest_has_made_leads_us_nowhere(tmp_path: Path) -> None:
    """The next execution restores permissions to remove folders: it must not change the target of a guest's link."""
    tmp_path.chmod(0o755)
    stage = Stage()
    try:
        stage.set()
        (stage.mounted / "rw/evil").symlink_to(tmp_path)
        stage.set()
    finally:
        stage.close()
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_the_kept_corpus_is_small() -> None:
    kept = [path.stat().st_size for files in FILES.values() for path in files]
    assert len(kept) <= 300
    assert sum(kept) <= 1 << 20


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_what_was_found(path: Path) -> None:
    TARGETS[path.parent.name](path.read_bytes())


def changed(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    """Returns `data` with pieces of it replaced."""
    for at, count, piece in edits:
        start = at % (len(data) + 1)
        data = data[:start] + piece + data[start + count :]
    return data


def new_inputs(name: str) -> st.SearchStrategy[bytes]:
    """Generates any bytes, and kept inputs that are changed and joined."""
    kept = st.sampled_from(FILES[name]).map(Path.read_bytes)
    edits = st.lists(st.tuples(st.integers(0, 2048), st.integers(0, 8), st.binary(max_size=8)), max_size=4)
    joined = st.lists(kept, min_size=1, max_size=3).map(b"".join)
    return st.binary(max_size=300) | st.builds(changed, kept | joined, edits)


@pytest.mark.parametrize("name", TARGETS)
def test_new_inputs(name: str) -> None:
    target: Callable[[bytes], None] = TARGETS[name]

    @settings(
        max_examples=sweeps.tries(NEW[name] // 3, NEW[name]),
        derandomize=True,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(data=new_inputs(name))
    def run(data: bytes) -> None:
        target(data)

    run()
