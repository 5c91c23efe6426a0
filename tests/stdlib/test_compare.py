"""Some of the standard library's tests, boxed against bare: what passes bare passes boxed, or has its reason."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import compare
import kinds
import reports
from records import Log, Outcome, Results

from proxybox.controller import SandboxStartError, find_guest

OF_PYPY = ("test_json", "test_fileio", "test_glob", "test_tempfile", "test_posix")
OF_CPYTHON = ("test_fileio", "test_tempfile", "test_posix", "test_struct", "test_array")


@pytest.mark.parametrize(
    ("guest", "module"),
    [
        *(pytest.param("pypy", module, marks=pytest.mark.pypy) for module in OF_PYPY),
        *(pytest.param("cpython", module) for module in OF_CPYTHON),
    ],
)
def test_nothing_is_unexplained(guest: str, module: str) -> None:
    try:
        tests = kinds.tests_of(guest)
    except SandboxStartError as error:
        pytest.skip(str(error))
    if tests.lack:
        pytest.skip(tests.lack)
    rows = compare.compare(tests, [module], None, 100, 1)
    bare, boxed, found = rows[module]
    assert len(bare.methods) > 10
    assert len(boxed.methods) >= len(bare.methods)
    assert [each for each in found if each.kind == "unexplained"] == []


def test_reasons_of_one_kind_come_first(monkeypatch: pytest.MonkeyPatch) -> None:
    written = {"reasons": {"a": "all", "b": "all"}, "cpython": {"reasons": {"b": "own"}, "left_out": ["c"]}}
    monkeypatch.setattr(kinds, "WRITTEN", written)
    guest = find_guest()
    of_all, of_one = kinds.OfPyPy(guest), kinds.OfCPython(guest)
    assert (of_all.reasons, of_all.left_out) == ({"a": "all", "b": "all"}, [])
    assert (of_one.reasons, of_one.left_out) == ({"b": "own", "a": "all"}, ["c"])


def test_a_difference_is_told_with_its_reason() -> None:
    passed = Outcome("passed")
    bare = Results({f"test.m.C.test_{name}": passed for name in "abcd"})
    boxed = Results(
        {
            "test.m.C.test_a": passed,
            "test.m.C.test_b": Outcome("error", "PermissionError", ["clone: fork is refused"]),
            "test.m.C.test_c": Outcome("failed", "AssertionError: 1 != 2"),
        }
    )
    found = compare.differences(bare, boxed, {"test.m.*_d": "known"})
    assert [(each.test[-1], each.kind, each.reason) for each in found] == [
        ("b", "refused", "clone: fork is refused"),
        ("c", "unexplained", "AssertionError: 1 != 2"),
        ("d", "explained", "known"),
    ]
    rows = {"m": (bare, boxed, found)}
    assert "| m | 4 | 1 | 1 | 2 |" in reports.table(rows)
    assert "4 methods that pass bare, 25.00% pass boxed" in reports.shares(rows)
    assert "3 others, 33.33% pass boxed, and 66.67% do not." in reports.shares(rows).replace("\n", " ")
    assert "| clone: fork is refused | 1 |" in reports.refusals(rows)
    assert "Known.\n\n- C: test_d" in reports.listing(rows)


def test_a_module_that_cannot_be_imported_in_a_box() -> None:
    """The last line of its error, and the refused calls, give the reason."""
    bare = Results({"test.m.C.test_a": Outcome("passed")})
    denied = ["socket: network: none"]
    refused = Results(note="...\nPermissionError: [Errno 1] Operation not permitted: '/bin/x'\n", denied=denied)
    broken = Results(note="ImportError: no such thing\n", denied=denied)
    kinds = [compare.differences(bare, each, {})[0].kind for each in (refused, broken)]
    assert kinds == ["refused", "unexplained"]


def test_a_log_that_ends_too_early() -> None:
    log = Log()
    for line in (b'{"start": "a"}', b'{"end": "a", "outcome": "passed", "text": ""}', b'{"start": "b"}'):
        log.line(line)
    log.killed("time limit")
    assert {name: outcome.outcome for name, outcome in log.methods.items()} == {"a": "passed", "b": "killed"}
    assert not log.done
