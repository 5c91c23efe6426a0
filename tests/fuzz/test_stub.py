"""The stub's kept corpus, and all findings in it, under AddressSanitizer and UndefinedBehaviorSanitizer."""

import subprocess
from pathlib import Path

import pytest

from tests.fuzz import stub_harness

HERE = Path(__file__).parent


CORPUS = HERE / "corpus" / "stub"
FOUND = HERE / "findings" / "stub"


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = stub_harness.compile_harness(tmp_path_factory.mktemp("stub"), libfuzzer=False)
    if program is None:
        pytest.skip("no compiler here has AddressSanitizer")
    return program


def run(harness: Path, *arguments: str) -> str:
    done = subprocess.run([harness, *arguments], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, (
        f"the stub misuses memory ({harness.name} {' '.join(arguments)}):\n{done.stderr[-4000:]}"
    )
    return done.stdout


def test_the_kept_corpus(harness: Path) -> None:
    files = sorted(str(file) for folder in (CORPUS, FOUND) for file in folder.glob("*"))
    assert files, "the corpus is kept in git"
    seen = run(harness, f"-runs={len(files)}", *files)
    assert f"number_of_executed_units: {len(files)}\n" in seen


def test_a_bounded_number_of_new_inputs(harness: Path, tmp_path: Path) -> None:
    """They are the same each time: mutations of the kept corpus, in an order that a seed determines."""
    run(harness, "-runs=3000", "-seed=41", f"-artifact_prefix={tmp_path}/", *map(str, sorted(CORPUS.glob("*"))))


def test_what_a_real_controller_answers_is_an_input(harness: Path, tmp_path: Path) -> None:
    """The kept corpus began with such seeds. New ones must work, too: a program's calls with their real answers."""
    for number, data in enumerate(stub_harness.seeds()):
        (tmp_path / f"seed-{number}").write_bytes(data)
    seeds = sorted(map(str, tmp_path.glob("*")))
    assert len(run(harness, "-choose=1", *seeds).splitlines()) >= 5
    assert f"number_of_executed_units: {len(seeds)}\n" in run(harness, f"-runs={len(seeds)}", *seeds)
