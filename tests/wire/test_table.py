"""The stub's table of arguments that are memory: no row makes the stub read beside the registers."""

import pytest

import proxybox
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.header import CALL_ROLES, MAX_PAYLOAD, ROLE, Fetch
from proxybox.controller.process import launch
from proxybox.controller.roles import ROW_SIZE


def started(monkeypatch: pytest.MonkeyPatch, number: int, role: bytes, count: int = 1) -> None:
    """Starts a box whose stub has one more row."""
    rows = launch._rows() + (CALL_ROLES.pack(number, count) + role * min(count, 6)).ljust(ROW_SIZE, b"\0")
    monkeypatch.setattr(launch, "_rows", lambda: rows)
    with proxybox.Sandbox(warm=False) as box:
        box.run("", check=True)


@pytest.mark.parametrize(
    ("role", "count"),
    [
        (ROLE.pack(6, Fetch.STRING, 0, 0, 1), 1),
        (ROLE.pack(0, Fetch.BUFFER, 6, 0, 1), 1),
        (ROLE.pack(0, Fetch.BUFFER, 1, 0, 0), 1),
        (ROLE.pack(0, Fetch.STRUCT, 0, 0, MAX_PAYLOAD + 1), 1),
        (ROLE.pack(0, 0, 0, 0, 1), 1),
        (ROLE.pack(0, max(Fetch) + 1, 0, 0, 1), 1),
        (ROLE.pack(0, Fetch.STRING, 0, 0, 1), 7),
    ],
    ids=["argument", "length", "no size", "large", "no kind", "unknown kind", "seven"],
)
def test_a_row_that_makes_no_sense_is_no_start(monkeypatch: pytest.MonkeyPatch, role: bytes, count: int) -> None:
    with pytest.raises(SandboxStartError, match=r"configuration"):
        started(monkeypatch, 500, role, count)


@pytest.mark.parametrize("number", [500, 514, 515, 65535])
def test_rows_of_calls_that_nobody_makes(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    started(monkeypatch, number, ROLE.pack(5, Fetch.BITS, 5, 2, MAX_PAYLOAD))
