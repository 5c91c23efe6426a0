"""The other tests notice a weaker table: the simulation sees each row or condition that was weakened."""

from collections.abc import Iterator, Sequence

import attrs
import pytest

from proxybox.controller.seal import filters
from tests import sweeps
from tests.seal.bpf import Call, Instruction, action, parse, run
from tests.seal.cases import LET_THROUGH, TABLE, argument_sets, around
from tests.seal.expected import ARCH_I386, ARCH_X86_64, EXPECTED, KINDS, Kind, expected


def compiled_anew(kind: Kind) -> list[Instruction]:
    return parse(filters.seal_filter.__wrapped__(**kind._asdict()))


def differences(numbers: Sequence[int]) -> Iterator[tuple[Kind, int, int]]:
    """Where the filters of the present table differ from expected.py: kind, architecture, number."""
    for kind in KINDS:
        program = compiled_anew(kind)
        for arch in (ARCH_X86_64, ARCH_I386):
            for number in numbers:
                edges = around(number, kind) if number in LET_THROUGH and arch == ARCH_X86_64 else ()
                calls = [*argument_sets(kind).values(), *edges]
                for registers in calls:
                    if action(run(program, Call(number, registers, arch))) != expected(kind, arch, number, registers):
                        yield kind, arch, number
                        break


def dropped() -> Iterator[tuple[str, int]]:
    for row_at, row in enumerate(filters.RULES):
        for at in range(len(row.where)):
            yield f"{row.name}, row {row_at}, condition {at}", row_at * 100 + at


DROPPED = dict(sweeps.spread(dropped(), 12))


@pytest.mark.sized(4)
@pytest.mark.parametrize("where", DROPPED.values(), ids=DROPPED.keys())
def test_a_condition_is_dropped(monkeypatch: pytest.MonkeyPatch, where: int) -> None:
    row_at, at = divmod(where, 100)
    row = filters.RULES[row_at]
    weaker = attrs.evolve(row, where=(*row.where[:at], *row.where[at + 1 :]))
    monkeypatch.setattr(filters, "RULES", (*filters.RULES[:row_at], weaker, *filters.RULES[row_at + 1 :]))
    assert next(differences([filters.NUMBERS[row.name]]))[2] == filters.NUMBERS[row.name]


@pytest.mark.sized(8)
@pytest.mark.parametrize("row_at", [at for at, row in enumerate(filters.RULES) if row.only])
def test_a_row_is_there_for_every_box(monkeypatch: pytest.MonkeyPatch, row_at: int) -> None:
    row = attrs.evolve(filters.RULES[row_at], only="")
    monkeypatch.setattr(filters, "RULES", (*filters.RULES[:row_at], row, *filters.RULES[row_at + 1 :]))
    assert next(differences([filters.NUMBERS[row.name]]))[2] == filters.NUMBERS[row.name]


@pytest.mark.sized(4)
@pytest.mark.parametrize("number", [number for number in range(460) if number not in EXPECTED][::50])
def test_a_row_more(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setitem(filters.NUMBERS, "one more", number)
    monkeypatch.setattr(filters, "RULES", (*filters.RULES, filters.Rule("one more")))
    assert next(differences(TABLE))[2] == number


@pytest.mark.parametrize("name", ["KILL_PROCESS", "TRAP"])
def test_a_milder_action(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(filters, name, {"KILL_PROCESS": filters.TRAP, "TRAP": filters.ALLOW}[name])
    assert next(differences([39]), None)


def test_the_architecture_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "KILL_PROCESS", filters.ALLOW)
    assert next(differences([39]))[1] == ARCH_I386


def test_the_table_as_it_is() -> None:
    assert list(differences(sweeps.spread([0, 28, 39, 56, 112, 157, 160, 203, 219, 317], 4))) == []
