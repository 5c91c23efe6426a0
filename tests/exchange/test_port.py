"""The port: which answer carries which message."""

import pytest

from proxybox.controller.effects import Blocked
from proxybox.controller.exchange.port import Port


def test_what_the_guest_is_told_comes_with_its_command_and_no_other_answer() -> None:
    """Another thread may be answered first; it would store the bytes when the command has already begun."""
    port = Port()
    waits = port.exchange(0, b"r", 0x1000, 100)
    assert isinstance(waits, Blocked)
    port.post(b"command", ((0x9000, b"told"),))
    assert port.exchange(1, b"d", 0x2000, 100) == (0, (0x2000, b""))
    assert waits.attempt() == (7, (0x1000, b"command"), (0x9000, b"told"))
    waits = port.exchange(0, b"r", 0x1000, 100)
    assert isinstance(waits, Blocked)
    port.post(b"next")
    assert waits.attempt() == (4, (0x1000, b"next"))


def test_what_was_imported_is_told_to_whoever_asks() -> None:
    port, names = Port(), []
    with pytest.raises(OSError, match="no such message"):
        port.exchange(0, b"pjson", 0x1000, 100)
    port.imported = names.append
    assert port.exchange(0, b"pjson", 0x1000, 100) == (0, (0x1000, b""))
    assert names == [b"json"]
