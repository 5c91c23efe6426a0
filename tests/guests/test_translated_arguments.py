"""Tables of calls: a name has one number, a signature one answer, and both agree on the arguments."""

import re

import pytest

from proxybox.controller import dispatch
from proxybox.controller.dispatch import NUMBERS, TABLE, oscall
from proxybox.controller.guests.translated import functions, libc
from proxybox.controller.header import CALL_LOOK, CALL_MAP, CALL_OPEN, CALL_STAT
from proxybox.controller.roles import Memory, Scalar

#: Rows that refuse all their calls take no arguments.
REFUSED = {"execve", *(name for name in NUMBERS if "xattr" in name)}


def is_pointer(role: Scalar | Memory) -> bool:
    return isinstance(role, Memory) or role.is_address


@pytest.mark.parametrize("signature", libc.SAME)
def test_a_function_has_the_arguments_that_its_handler_takes(signature: str) -> None:
    row = TABLE[NUMBERS[libc.SAME[signature]]]
    kinds = signature[signature.index("(") + 1 : signature.index(")")]
    if row.name in REFUSED:
        assert row.parameters == []
    else:
        assert ["p" if is_pointer(role) else "i" for _, role in row.parameters] == list(kinds)


def test_a_name_has_one_number_which_is_the_kernel_s() -> None:
    others = set(TABLE) - set(NUMBERS.values())
    assert others == {CALL_LOOK, CALL_MAP, CALL_OPEN, CALL_STAT}
    assert {TABLE[number].name for number in others} <= set(NUMBERS)
    assert all(TABLE[number].name == name for name, number in NUMBERS.items())


def test_a_second_number_of_a_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TABLE", dict(TABLE))
    monkeypatch.setattr(dispatch, "NUMBERS", dict(NUMBERS))
    with pytest.raises(ValueError, match="openat has two numbers: 257 and 9999"):
        oscall(9999, "openat")(lambda world: 0)
    with pytest.raises(ValueError, match="call 257 has two handlers"):
        oscall(257, "another")(lambda world: 0)
    oscall(9999, form_of="openat")(lambda world: 0)
    assert dispatch.NUMBERS["openat"] == 257


@pytest.mark.parametrize("table", [libc.SAME, libc.REFUSED, libc.FUNCTIONS])
def test_a_second_answer_to_a_signature_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=re.escape(f"{next(iter(table))} has two answers")):
        libc.function(next(iter(table)))(functions.calls.mkfifo)
