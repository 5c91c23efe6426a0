"""What comes of a sweep at one commit: each thing in one way at the least; and at some commit each way."""

import pytest

from tests import sweeps
from tests.conftest import left_for_another_commit

MODULE = """
import pytest

@pytest.fixture(params=["cold", "warm"])
def make(request): return request.param

@pytest.mark.sweep("moment", "make", parts=3)
@pytest.mark.parametrize("moment", ["before", "behind"])
@pytest.mark.parametrize("attack", ["one", "two", "three"])
def test_ways(attack, moment, make): pass

@pytest.mark.sweep(parts=2)
@pytest.mark.parametrize(("a", "b"), [(1, 2), (3, 4), (5, 6), (7, 8)])
def test_all_are_ways(a, b): pass

@pytest.mark.parametrize("attack", ["one", "two"])
def test_no_sweep(attack): pass

@pytest.mark.parametrize("guest_kind", ["pypy", "cpython"])
@pytest.mark.parametrize("attack", ["one", "two"])
def test_guests(attack, guest_kind): pass

@pytest.mark.seldom
@pytest.mark.parametrize("a", [1, 2])
def test_long(a): pass

@pytest.mark.seldom(parts=2)
def test_longer(): pass
"""
WORDS = [f"commit {number}" for number in range(40)]


def test_what_comes_at_each_commit(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    pytester.makeini("[pytest]\nmarkers =\n sweep\n seldom")
    pytester.makepyfile(MODULE)
    monkeypatch.delenv("PROXYBOX_SWEEP", raising=False)
    items, _ = pytester.inline_genitems()
    whole, each = {item.name for item in items}, []
    assert len(whole) == 12 + 4 + 2 + 4 + 2 + 1
    for word in WORDS:
        monkeypatch.setenv("PROXYBOX_SWEEP", word)
        each.append(whole - {item.name for item in left_for_another_commit(items)})
    assert set[str]().union(*each) == whole
    for names in each:
        for attack in ("one", "two", "three"):
            ways = {name for name in whole if name.startswith("test_ways") and attack in name}
            assert len(ways) == 4
            assert 1 <= len(ways & names) <= 2
        assert sum(name.startswith("test_all_are_ways") for name in names) == 2
        assert {"test_no_sweep[one]", "test_no_sweep[two]"} <= names
        for attack in ("one", "two"):
            assert sum(name.startswith("test_guests") and attack in name for name in names) == 1
        assert ("test_long[1]" in names) == ("test_long[2]" in names)
    assert 5 < sum("test_long[1]" in names for names in each) < sum("test_longer" in names for names in each) < 30
    assert len({frozenset(names) for names in each}) > 20, "things are swept apart from each other"


def test_parts_are_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    for word in WORDS:
        monkeypatch.setenv("PROXYBOX_SWEEP", word)
        tried.append(sweeps.part(range(20), 3))
        assert sweeps.part(["one"], 3) == ["one"]
        assert sweeps.few(90) == 30
    assert {len(part) for part in tried} == {6, 7}
    assert set[int]().union(*tried) == set(range(20))
    monkeypatch.setenv("PROXYBOX_SWEEP", "")
    assert sweeps.part(range(20), 3) == [*range(20)]
    assert sweeps.few(90) == 90
