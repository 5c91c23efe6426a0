"""The addresses at which students reach a classroom: those of this computer on its networks.

Source: netdevice(7) for the requests about interfaces, and proc_net(5) for /proc/net/if_inet6.
"""

import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Final, TypeAlias

import attrs

from proxybox.classroom.config import LAN, ClassroomConfig

IP: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

_SIOCGIFADDR: Final = 0x8915
_IFREQ: Final = 40
_NAME_MAX: Final = 15
#: Flags of addresses (linux/if_addr.h): temporary, failed, deprecated, tentative. Students see none of these addresses.
_PASSING: Final = 0x01 | 0x08 | 0x20 | 0x40
_INET6: Final = "/proc/net/if_inet6"
_DEVICES: Final = "/sys/class/net"
#: Addresses for documentation (RFC 5737, RFC 3849): the route to one is the default route.
_ANYWHERE: Final = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))
_PORTS: Final = {"http": 80, "https": 443}


@attrs.frozen
class HostAddress:
    """An address of this host. is_real: it belongs to a network card. is_usual: packets leave from it by default."""

    ip: IP
    is_real: bool
    is_usual: bool


def addresses() -> tuple[str, ...]:
    """Returns the addresses of this computer at which others can reach it, the likeliest first.

    Addresses of networks inside this computer (of containers and virtual machines) are left out if there are others.
    The address of a VPN comes after those of network cards, because students are not in the VPN.
    """
    usual = set(_usual())
    found = [HostAddress(ip, _is_real(name), ip in usual) for name, ip in (*_version_4(), *_version_6(_read(_INET6)))]
    return tuple(str(each.ip) for each in best_first(found))


def best_first(found: Iterable[HostAddress]) -> list[HostAddress]:
    """Returns the addresses that are shown to students, the likeliest first."""
    known = [each for each in found if not (each.ip.is_loopback or each.ip.is_link_local)]
    likely = [each for each in known if each.is_real or each.is_usual] or known
    return sorted(likely, key=lambda each: (each.ip.version, not each.is_real, not each.is_usual))


def urls(config: ClassroomConfig, port: int, found: Iterable[str] = ()) -> tuple[str, ...]:
    """Returns the URLs at which students reach a classroom, those that are easiest to type first.

    port: at which the classroom listens. found: the addresses of this computer, for a classroom that listens at all.
    """
    own = found if config.host == LAN else (config.host,)
    return tuple(url(host, port, tls=config.has_tls) for host in dict.fromkeys((*config.names, *own)))


def url(host: str, port: int, *, tls: bool) -> str:
    """Returns the URL of an origin, without the port if it is the default one."""
    scheme = "https" if tls else "http"
    shown = f"[{host}]" if ":" in host else host
    return f"{scheme}://{shown}" if _PORTS[scheme] == port else f"{scheme}://{shown}:{port}"


def _usual() -> Iterator[IP]:
    """The source addresses of packets that leave this computer. connect(2) sends no packet for UDP (udp(7))."""
    for family, elsewhere in _ANYWHERE:
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((elsewhere, 9))
                yield ipaddress.ip_address(probe.getsockname()[0])
        except OSError:  # there is no such route
            continue


def _version_4() -> Iterator[tuple[str, IP]]:
    """Each interface that has an IPv4 address, with its first one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            request = struct.pack(f"{_IFREQ}s", os.fsencode(name)[:_NAME_MAX])
            try:
                answer = fcntl.ioctl(asking, _SIOCGIFADDR, request)
            except OSError:  # the interface has no address
                continue
            yield name, ipaddress.IPv4Address(answer[20:24])


def _version_6(text: str) -> Iterator[tuple[str, IP]]:
    """Each permanent IPv6 address with its interface, from the text of /proc/net/if_inet6."""
    for line in text.splitlines():
        address, _, _, _, flags, name = line.split()
        if not int(flags, 16) & _PASSING:
            yield name, ipaddress.IPv6Address(bytes.fromhex(address))


def _is_real(interface: str) -> bool:
    return os.path.exists(os.path.join(_DEVICES, interface, "device"))


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except OSError:  # a kernel without IPv6
        return ""
