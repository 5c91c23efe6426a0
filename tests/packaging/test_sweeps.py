"""The tests of a sweep: the same at each commit, with each value, or each pair of values; and all of them."""

import itertools

import pytest

from tests import sweeps
from tests.conftest import left_for_the_full_run

MODULE = """
import pytest

@pytest.fixture(params=["cold", "warm"])
def make(request): return request.param

@pytest.mark.cover(2)
@pytest.mark.parametrize("moment", ["before", "behind"])
@pytest.mark.parametrize("attack", ["one", "two", "three"])
@pytest.mark.parametrize("guest_kind", ["pypy", "cpython"])
def test_pairs(attack, moment, make, guest_kind): pass

@pytest.mark.cover(1)
@pytest.mark.parametrize("attack", ["one", "two", "three", "four"])
def test_values(attack, make): pass

@pytest.mark.sized(3)
@pytest.mark.parametrize(("a", "b"), [(1, 2), (3, 4), (5, 6), (7, 8), (9, 10)])
def test_size(a, b): pass

@pytest.mark.cover(2)
def test_no_arguments(): pass

@pytest.mark.parametrize("guest_kind", ["pypy", "cpython"])
@pytest.mark.parametrize("attack", ["one", "two"])
def test_all(attack, guest_kind): pass

@pytest.mark.full
def test_long(): pass
"""


#: A file with EACH_GUEST, as the plugin of the tests would leave it.
GUESTS = """
import pytest

EACH_GUEST = True
pytestmark = pytest.mark.parametrize("guest_kind", ["pypy", "cpython"])

@pytest.mark.cover(2)
@pytest.mark.parametrize("moment", ["before", "behind"])
@pytest.mark.parametrize("attack", ["one", "two"])
def test_pairs(guest_kind, attack, moment): pass

def test_alone(guest_kind): pass

@pytest.mark.cpython
@pytest.mark.parametrize("way", ["one", "two"])
def test_what_the_other_has_not(guest_kind, way): pass
"""

_collected: list[pytest.Item] = []


@pytest.fixture
def names(pytester: pytest.Pytester) -> set[str]:
    """The names of MODULE's tests at each commit. MODULE is collected once: that takes a second."""
    if not _collected:
        pytester.makeini("[pytest]\nmarkers =\n cover\n sized\n full")
        pytester.makepyfile(MODULE)
        _collected.extend(pytester.inline_genitems()[0])
    return {item.name for item in _collected} - {item.name for item in left_for_the_full_run(_collected[::-1])}


def values(names: set[str], test: str) -> list[set[str]]:
    return [set(name[:-1].partition("[")[2].split("-")) for name in names if name.startswith(f"{test}[")]


def test_each_two_values_of_different_arguments_meet(names: set[str]) -> None:
    arguments = (["before", "behind"], ["one", "two", "three"], ["cold", "warm"], ["pypy", "cpython"])
    came = values(names, "test_pairs")
    assert 6 <= len(came) <= 8 < 24
    for one, another in itertools.combinations(arguments, 2):
        for pair in itertools.product(one, another):
            assert any(each.issuperset(pair) for each in came), f"{pair} do not meet: look at sweeps.covering"


def test_each_value_comes_and_none_much_more_often_than_another(names: set[str]) -> None:
    came = values(names, "test_values")
    assert sorted(min(each & {"one", "two", "three", "four"}) for each in came) == ["four", "one", "three", "two"]
    assert sum("cold" in each for each in came) == 2


def test_sizes_are_spread_over_all(names: set[str]) -> None:
    assert {"test_size[1-2]", "test_size[5-6]", "test_size[9-10]"} <= names
    assert len(values(names, "test_size")) == 3


def test_what_has_no_mark_comes_whole_and_what_is_marked_full_does_not(names: set[str]) -> None:
    assert len(values(names, "test_all")) == 4
    assert "test_no_arguments" in names
    assert "test_long" not in names


def test_one_test_of_a_file_comes_with_guests_of_the_second_kind(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nmarkers =\n cover\n cpython")
    pytester.makepyfile(GUESTS)
    items = pytester.inline_genitems()[0]
    names = {item.name for item in items} - {item.name for item in left_for_the_full_run(items[::-1])}
    alone = {name for name in names if name.startswith("test_what_the_other_has_not")}
    assert len([name for name in names - alone if "cpython" in name]) == 1
    assert len([name for name in names - alone if "pypy" in name]) == 5
    assert len([name for name in alone if "cpython" in name]) == 2, "no other guest tries what only this kind has"


def test_the_full_run_has_all(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sweeps.spread(range(101), 3) == [0, 50, 100]
    assert sweeps.spread("ab", 1) == ["a"]
    assert sweeps.spread("ab", 3) == ["a", "b"]
    assert [*sweeps.every(4, 10, first=2)] == [2, 6]
    assert sweeps.tries(3, full=9) == 3
    monkeypatch.setattr(sweeps, "FULL", True)
    assert sweeps.spread("abc", 1) == ["a", "b", "c"]
    assert [*sweeps.every(4, 5, first=2)] == [1, 2, 3, 4]
    assert [*sweeps.every(4, 3, first=0)] == [0, 1, 2]
    assert sweeps.tries(3, full=9) == 9
