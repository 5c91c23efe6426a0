"""A minimal /etc: the users, groups, host names and services that the box shows."""

from __future__ import annotations

import struct

import attrs

from proxybox.controller.vfs.memory import MemoryDirectory, from_tree
from proxybox.controller.vfs.nodes import Superblock

#: services(5): the entries of IANA's registry that programs ask for. Then protocols(5).
SERVICES = (
    ("echo", "7/tcp", "7/udp"), ("discard", "9/tcp", "9/udp"), ("systat", "11/tcp"), ("daytime", "13/tcp", "13/udp"),
    ("qotd", "17/tcp"), ("chargen", "19/tcp", "19/udp"), ("ftp-data", "20/tcp"), ("ftp", "21/tcp"), ("ssh", "22/tcp"),
    ("telnet", "23/tcp"), ("smtp", "25/tcp"), ("time", "37/tcp", "37/udp"), ("whois", "43/tcp"),
    ("domain", "53/tcp", "53/udp"), ("tftp", "69/udp"), ("gopher", "70/tcp"), ("finger", "79/tcp"),
    ("http", "80/tcp"), ("kerberos", "88/tcp", "88/udp"), ("pop3", "110/tcp"), ("sunrpc", "111/tcp", "111/udp"),
    ("nntp", "119/tcp"), ("ntp", "123/udp"), ("imap2", "143/tcp"), ("snmp", "161/tcp", "161/udp"), ("irc", "194/tcp"),
    ("ldap", "389/tcp", "389/udp"), ("https", "443/tcp", "443/udp"), ("submission", "587/tcp"), ("ldaps", "636/tcp"),
    ("imaps", "993/tcp"), ("pop3s", "995/tcp"), ("mysql", "3306/tcp"), ("postgresql", "5432/tcp"),
)  # fmt: skip
PROTOCOLS = {
    "ip": 0, "icmp": 1, "igmp": 2, "tcp": 6, "egp": 8, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51,
    "ipv6-icmp": 58, "ospf": 89, "sctp": 132, "udplite": 136,
}  # fmt: skip


@attrs.frozen(slots=True, kw_only=True, eq=False)
class Identity:
    """The user and the machine that a box shows."""

    user: str = "user"
    uid: int = 1000
    gid: int = 1000
    group: str = "user"
    home: str = "/home/user"
    hostname: str = "box"


def etc_directory(superblock: Superblock, identity: Identity) -> MemoryDirectory:
    """The directory that is mounted at /etc, owned by the superblock's owner; mount ld.so.cache into it."""
    user = identity
    passwd = "root:x:0:0:root:/root:/bin/sh\n"
    group = "root:x:0:\n"
    if user.uid != 0:
        passwd += f"{user.user}:x:{user.uid}:{user.gid}:{user.user}:{user.home}:/bin/sh\n"
    if user.gid != 0:
        group += f"{user.group}:x:{user.gid}:\n"
    passwd += "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    group += "nogroup:x:65534:\n"
    return from_tree(
        {
            "passwd": passwd,
            "group": group,
            "hostname": user.hostname + "\n",
            "hosts": f"127.0.0.1\tlocalhost\n::1\tlocalhost\n127.0.1.1\t{user.hostname}\n",
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
            "services": "".join(f"{name}\t{place}\n" for name, *places in SERVICES for place in places),
            "protocols": "".join(f"{name}\t{number}\t{name.upper()}\n" for name, number in PROTOCOLS.items()),
            "os-release": 'NAME="Linux"\nID=linux\nPRETTY_NAME="Linux"\n',
            "resolv.conf": "",
            "host.conf": "",
            "localtime": utc_zone(),
            "timezone": "Etc/UTC\n",
        },
        superblock,
    )


def utc_zone() -> bytes:
    """UTC as a TZif file of version 2 (RFC 8536)."""

    def block(version: bytes) -> bytes:
        counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
        return b"TZif" + version + bytes(15) + counts + struct.pack(">lBB", 0, 0, 0) + b"UTC\0"

    return block(b"2") + block(b"2") + b"\nUTC0\n"
