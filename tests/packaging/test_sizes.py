"""The suite is within its budgets, and the names in the budgets exist."""

import tomllib

import pytest

from tests import sizes, sweeps

HOW = "see CONTRIBUTING.md: share a set-up, take pairs, delete what proves nothing more, or raise tests/budgets.toml"


@pytest.fixture
def tests(request: pytest.FixtureRequest) -> list[str]:
    """All tests of a commit: those of this run if it runs the whole suite."""
    if sweeps.FULL:
        pytest.skip("the full run has more")
    here = [item.nodeid for item in request.session.items]
    return here if sizes.tests_by_part(here).keys() >= sizes.budgets().keys() - {"agents"} else sizes.collected()


@pytest.mark.timeout(1200)  # alone, it starts another process to collect the whole suite
def test_each_part_has_at_most_so_many_tests(tests: list[str]) -> None:
    may_have, found = sizes.budgets(), sizes.tests_by_part(tests)
    new = found.keys() - may_have.keys()
    assert not new, f"folders without a budget: {sorted(new)}; give each a row in tests/budgets.toml"
    over = {name: (number, may_have[name].tests) for name, number in found.items() if number > may_have[name].tests}
    assert not over, f"more tests than a part may have, (tests, budget): {over}; {HOW}"


def test_each_part_has_at_most_so_many_lines() -> None:
    may_have = sizes.budgets()
    found = {name: number for name, number in sizes.lines_by_part().items() if name in may_have}
    over = {name: (number, may_have[name].lines) for name, number in found.items() if number > may_have[name].lines}
    assert not over, f"more lines than a part may have, (lines, budget): {over}; {HOW}"
    gone = may_have.keys() - found.keys()
    assert not gone, f"tests/budgets.toml has rows of folders that are gone: {sorted(gone)}; delete them"


def test_files_that_take_long_are_there() -> None:
    gone = [file for file in sizes.longest() if not (sizes.HERE.parent / file).is_file()]
    assert not gone, f"{gone} are gone: make test PYTEST_FLAGS=--record-longest, or delete them from tests/longest.txt"
    assert list(sizes.longest().values()) == sorted(sizes.longest().values(), reverse=True)


def test_a_table_has_each_part_and_the_share_of_its_set_up() -> None:
    durations = sizes.Durations()
    for when, seconds in (("setup", 3.0), ("call", 1.0), ("teardown", 1.0)):
        test = "tests/vfs/test_names.py::test_one"
        durations.pytest_runtest_logreport(
            pytest.TestReport(test, ("", 0, ""), {}, "passed", None, when, duration=seconds)  # type: ignore[arg-type]
        )
    head, row, total = durations.table().splitlines()
    budget = tomllib.loads(sizes.BUDGETS.read_text())["vfs"]
    assert head.split() == ["part", "tests", "of", "lines", "of", "seconds", "of", "set-up"]
    assert row.split()[:3] == ["vfs", "1", str(budget["tests"])]
    assert row.split()[4:] == [str(budget["lines"]), "5", str(budget["seconds"]), "80%"]
    assert total.split()[0] == "all"
