"""The socket on which a server listens."""

import errno
import socket
from pathlib import Path
from typing import Any

import pytest

from proxybox.serve.listening import ListenError, listening, spoken


def reaches(host: str, port: int) -> bool:
    with socket.create_connection((host, port)):
        return True


def test_an_empty_host_is_all_addresses() -> None:
    with listening(("", 0), "all") as listener:
        port = listener.getsockname()[1]
        assert reaches("127.0.0.1", port)
        if socket.has_dualstack_ipv6():
            assert reaches("::1", port)


def test_all_addresses_where_ipv6_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.create_server

    def create_server(address: Any, **options: Any) -> socket.socket:
        if options.get("family") == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no IPv6 here")
        return real(address, **options)

    monkeypatch.setattr(socket, "create_server", create_server)
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: True)
    with listening(("", 0), "all") as listener:
        assert reaches("127.0.0.1", listener.getsockname()[1])


def test_an_address_that_is_taken_is_named() -> None:
    with (
        listening(("127.0.0.1", 0), "one") as first,
        pytest.raises(ListenError, match="cannot listen at another: Address already in use") as caught,
        listening(first.getsockname(), "another"),
    ):
        pass
    assert caught.value.errno == errno.EADDRINUSE


def test_a_fault_of_what_serves_is_not_the_addresss() -> None:
    with pytest.raises(OSError, match="mine") as caught, listening(("127.0.0.1", 0), "one"):
        raise OSError(errno.EACCES, "mine")
    assert caught.value.filename is None


def test_a_socket_in_a_folder_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with listening(str(path), "a path") as listener:
        assert (spoken(listener), path.is_socket()) == (f"unix:{path}", True)
    assert not path.exists()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with listening(str(path), "a path"):  # the socket file of a killed server does not matter
        assert path.is_socket()
