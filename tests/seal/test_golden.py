"""The filters have exactly the text in golden/, which shows a change of the table for each call."""

from typing import Any

import pytest

from proxybox.controller.seal.filters import RULES, Condition, Rule
from tests.seal import dumps
from tests.seal.bpf import assemble, parse
from tests.seal.expected import KINDS, Kind

PROGRAMS = list(dumps.programs())


@pytest.mark.parametrize(("name", "kind"), PROGRAMS, ids=[name for name, _ in PROGRAMS])
def test_the_text_is_the_filters(name: str, kind: Kind | None) -> None:
    difference = dumps.difference(name, kind)
    assert not difference, f"python -m tests.seal golden --write makes the file anew\n{difference}"


@pytest.mark.parametrize(("name", "kind"), PROGRAMS, ids=[name for name, _ in PROGRAMS])
def test_the_text_decodes_to_the_filter(name: str, kind: Kind | None) -> None:
    """The file without comments is the whole program, byte for byte."""
    assert assemble((dumps.FOLDER / name).read_text()) == dumps.compiled(kind)


def test_no_file_is_left_over() -> None:
    assert sorted(path.name for path in dumps.FOLDER.iterdir()) == sorted(name for name, _ in PROGRAMS)


def test_every_row_stands_in_a_golden_file() -> None:
    """The kinds differ in every property that the table uses."""
    assert {row.only for row in RULES} == {
        "",
        "parallel",
        "real_time",
        "threads",
        "forks",
        "listener",
        "zygote",
        "bare",
        "clocks",
    }
    assert len({dumps.compiled(kind) for kind in KINDS}) == len(KINDS)


def test_more_channels_change_three_numbers_and_no_more() -> None:
    """So 17 channels stand for all numbers except 1, where the one file to map needs no range."""
    for zygote in (False, True):
        kind = Kind(1, real_time=True, threads=True, forks=True, zygote=zygote)
        few, many = (parse(dumps.compiled(kind._replace(channels=channels))) for channels in (2, 257))
        changed = [(one, other) for one, other in zip(few, many, strict=True) if one != other]
        assert [(one.k, other.k) for one, other in changed] == [(4, 514), (4, 514), (2, 257)]
        assert changed == [(one, one._replace(k=other.k)) for one, other in changed]


@pytest.mark.parametrize(
    "fields",
    [
        {"arg": 6, "value": 0},
        {"arg": -1, "value": 0},
        {"arg": 0, "value": 1 << 32},
        {"arg": 0, "value": -1},
        {"arg": 0, "value": 3, "mask": 1},  # no half of a register matches
        {"arg": 0, "value": 0, "mask": 0},  # every half of a register matches
        {"arg": 0, "value": 0, "count": -1},
        {"arg": 0, "value": 0, "count": 2, "differs": True},
    ],
    ids=str,
)
def test_a_condition_that_makes_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        Condition(**fields)


@pytest.mark.parametrize(("name", "only"), [("getpid_", ""), ("read", "thread")])
def test_a_rule_that_makes_no_sense(name: str, only: str) -> None:
    with pytest.raises(ValueError, match="makes no sense"):
        Rule(name, only=only)
