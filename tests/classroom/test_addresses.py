"""The addresses of a classroom."""

import ipaddress
import socket

import pytest

from proxybox.classroom import addresses as module
from proxybox.classroom.addresses import HostAddress, addresses, best_first, url, urls
from proxybox.classroom.config import ClassroomConfig


def found(ip: str, *, real: bool = False, usual: bool = False) -> HostAddress:
    return HostAddress(ipaddress.ip_address(ip), real, usual)


def test_a_network_card_comes_before_a_vpn_and_version_4_before_6() -> None:
    machine = [
        found("127.0.0.1"), found("::1"), found("fe80::1", real=True), found("169.254.3.4", real=True),
        found("172.17.0.1"), found("10.8.0.2", usual=True), found("fd00::7", real=True, usual=True),
        found("10.42.0.1", real=True), found("192.168.1.4", real=True, usual=True),
    ]  # fmt: skip
    assert [str(each.ip) for each in best_first(machine)] == [
        "192.168.1.4", "10.42.0.1", "10.8.0.2", "fd00::7",
    ]  # fmt: skip


def test_a_machine_without_a_card_of_its_own_has_addresses_too() -> None:
    """As in a container, or with a cable between two machines and no route to the Internet."""
    assert [str(each.ip) for each in best_first([found("127.0.0.1"), found("10.0.0.2")])] == ["10.0.0.2"]


def test_others_reach_this_machine_at_what_is_found() -> None:
    """A client that connects to any address that was found reaches a socket that listens on all addresses."""
    for address in addresses():
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with (
            socket.create_server(("", 0), family=family) as listener,
            socket.create_connection((address, listener.getsockname()[1])) as client,
        ):
            assert client.getpeername()[0] == address
        assert not ipaddress.ip_address(address).is_loopback


def test_passing_addresses_are_not_told() -> None:
    """A privacy address (RFC 8981) changes each day. A tentative address is not in use yet."""
    text = (
        "fd000000000000000000000000000002 04 40 00 80     eth0\n"
        "20010db8000000000000000000000003 02 40 00 01    wlan0\n"
        "20010db8000000000000000000000004 02 40 00 40    wlan0\n"
        "20010db8000000000000000000000005 02 40 00 00    wlan0\n"
    )
    assert [(name, str(ip)) for name, ip in module._version_6(text)] == [
        ("eth0", "fd00::2"), ("wlan0", "2001:db8::5"),
    ]  # fmt: skip


@pytest.mark.parametrize(("host", "port", "tls", "seen"), [
    ("192.168.1.4", 8080, False, "http://192.168.1.4:8080"), ("192.168.1.4", 80, False, "http://192.168.1.4"),
    ("fd00::2", 8443, True, "https://[fd00::2]:8443"), ("class.example", 443, True, "https://class.example"),
    ("class.example", 80, True, "https://class.example:80"),
])  # fmt: skip
def test_what_is_typed(host: str, port: int, tls: bool, seen: str) -> None:
    assert url(host, port, tls=tls) == seen


def test_a_name_is_typed_easier_than_an_address() -> None:
    lan = ClassroomConfig(host="lan", names=["class.example"], data="/kept")
    assert urls(lan, 8080, ["192.168.1.4", "fd00::2"]) == (
        "http://class.example:8080", "http://192.168.1.4:8080", "http://[fd00::2]:8080",
    )  # fmt: skip
    one = ClassroomConfig(host="192.168.1.4", tls="self", data="/kept")
    assert urls(one, 8080, ["10.0.0.2"]) == ("https://192.168.1.4:8080",)
