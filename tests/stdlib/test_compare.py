"""Some of the standard library's tests, boxed against bare: what passes bare passes boxed, or has its reason."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import compare

pytestmark = pytest.mark.skipif(
    not compare.TESTS.is_dir(), reason="the standard library's tests are not here (apt install pypy3-lib-testsuite)"
)


@pytest.mark.parametrize("module", ["test_json", "test_fileio", "test_glob", "test_tempfile", "test_posix"])
def test_nothing_is_unexplained(module: str) -> None:
    rows = compare.compare([module], None, 100, 1)
    bare, boxed, found = rows[module]
    assert len(bare.methods) > 10
    assert len(boxed.methods) >= len(bare.methods)
    assert [each for each in found if each.kind == "unexplained"] == []


def test_a_difference_is_told_with_its_reason() -> None:
    passed = compare.Outcome("passed")
    bare = compare.Results({f"test.m.C.test_{name}": passed for name in "abcd"})
    boxed = compare.Results(
        {
            "test.m.C.test_a": passed,
            "test.m.C.test_b": compare.Outcome("error", "PermissionError", ["clone: fork is refused"]),
            "test.m.C.test_c": compare.Outcome("failed", "AssertionError: 1 != 2"),
        }
    )
    found = compare.differences(bare, boxed, {"test.m.*_d": "known"})
    assert [(each.test[-1], each.kind, each.reason) for each in found] == [
        ("b", "refused", "clone: fork is refused"),
        ("c", "unexplained", "AssertionError: 1 != 2"),
        ("d", "explained", "known"),
    ]
    rows = {"m": (bare, boxed, found)}
    assert "| m | 4 | 1 | 1 | 2 |" in compare.table(rows)
    assert "| clone: fork is refused | 1 |" in compare.refusals(rows)
    assert "Known.\n\n- C: test_d" in compare.listing(rows)


def test_a_module_that_cannot_be_imported_in_a_box() -> None:
    """By the last line of what it says, and by what was refused meanwhile."""
    bare = compare.Results({"test.m.C.test_a": compare.Outcome("passed")})
    denied = ["socket: network: none"]
    refused = compare.Results(note="PermissionError: [Errno 1] Operation not permitted\n", denied=denied)
    broken = compare.Results(note="ImportError: no such thing\n", denied=denied)
    kinds = [compare.differences(bare, each, {})[0].kind for each in (refused, broken)]
    assert kinds == ["refused", "unexplained"]


def test_a_log_that_ends_too_early() -> None:
    log = compare.Log()
    for line in (b'{"start": "a"}', b'{"end": "a", "outcome": "passed", "text": ""}', b'{"start": "b"}'):
        log.line(line)
    log.killed("time limit")
    assert {name: outcome.outcome for name, outcome in log.methods.items()} == {"a": "passed", "b": "killed"}
    assert not log.done
