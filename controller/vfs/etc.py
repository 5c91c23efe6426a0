"""A minimal /etc: who and where one is, in the words of the box."""

from __future__ import annotations

import struct

import attrs

from proxybox.controller.vfs.memory import MemoryDirectory, from_tree
from proxybox.controller.vfs.nodes import Superblock


@attrs.frozen(slots=True, kw_only=True)
class Identity:
    """The user and the machine that a box shows."""

    user: str = "user"
    uid: int = 1000
    gid: int = 1000
    group: str = "user"
    home: str = "/home/user"
    hostname: str = "box"


def etc_directory(superblock: Superblock, identity: Identity) -> MemoryDirectory:
    """What is mounted at /etc, owned by the superblock's owner; mount ld.so.cache into it."""
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
            "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
            "resolv.conf": "",
            "host.conf": "",
            "localtime": utc_zone(),
            "timezone": "Etc/UTC\n",
        },
        superblock,
    )


def utc_zone() -> bytes:
    """UTC as a TZif file of version 2: RFC 8536."""

    def block(version: bytes) -> bytes:
        counts = struct.pack(">6l", 0, 0, 0, 0, 1, 4)
        return b"TZif" + version + bytes(15) + counts + struct.pack(">lBB", 0, 0, 0) + b"UTC\0"

    return block(b"2") + block(b"2") + b"\nUTC0\n"
