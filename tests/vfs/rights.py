"""ACLs and extended attributes in the kernel's format, and which users may open a file: for tests that write host
files.

The binary format is that of linux/posix_acl_xattr.h. It is written here a second time, so that the code is not compared
with itself.
"""

from __future__ import annotations

import contextlib
import os
import stat
import struct
from pathlib import Path

import pytest

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="root alone gives files away, and becomes another user")

ACCESS, DEFAULT, CAPABILITY = "system.posix_acl_access", "system.posix_acl_default", "security.capability"
#: cap_net_raw, permitted and effective, in the form of linux/capability.h.
NET_RAW = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)
#: User 1001 is refused what the group may do, and user 1003 may do more than the group. The mode shows neither.
SOME_REFUSED = "user::rw-,user:1001:---,user:1003:rw-,group::r--,mask::rw-,other::---"
#: A default ACL.
FOR_NEW = "user::rwx,user:1003:rwx,group::r-x,mask::rwx,other::---"
_TAGS = {"user": (1, 2), "group": (4, 8), "mask": (16, 16), "other": (32, 32)}


def acl(text: str) -> bytes:
    """An ACL from its short text form with numbers: "user::rw-,user:1001:---,group::r--,mask::r--,other::---"."""
    entries = []
    for entry in text.split(","):
        kind, who, letters = entry.split(":")
        permissions = sum(bit for bit, letter in zip((4, 2, 1), letters, strict=True) if letter != "-")
        entries.append((_TAGS[kind][bool(who)], permissions, int(who) if who else 0xFFFFFFFF))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def of(path: Path) -> tuple[int, int, int, dict[str, bytes]]:
    """The mode, owner, group and attributes of a file or folder. A link has no attributes."""
    seen = path.lstat()
    if stat.S_ISLNK(seen.st_mode):
        return 0o777, seen.st_uid, seen.st_gid, {}
    has = {name: os.getxattr(path, name) for name in os.listxattr(path)}
    return stat.S_IMODE(seen.st_mode), seen.st_uid, seen.st_gid, has


def of_all(folder: Path) -> dict[str, tuple[int, int, int, dict[str, bytes]]]:
    """The values of `of` for everything in a folder, by path."""
    return {str(path.relative_to(folder)): of(path) for path in sorted(folder.rglob("*"))}


def set_default(folder: Path, text: str | None) -> None:
    """Sets a folder's default ACL, or removes it."""
    with contextlib.suppress(OSError):
        os.removexattr(folder, DEFAULT)
    if text is not None:
        os.setxattr(folder, DEFAULT, acl(text))


def may(path: Path, uid: int, *groups: int, flags: int = os.O_RDONLY) -> bool:
    """Whether a process of a user in these groups can open a file."""
    pid = os.fork()
    if pid == 0:
        code = 2
        with contextlib.suppress(BaseException):
            os.setgroups(groups)
            os.setgid(groups[0])
            os.setuid(uid)
            try:
                os.close(os.open(path, flags))
                code = 0
            except PermissionError:
                code = 1
        os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 1)
    return status == 0


def why_not(folder: Path) -> str:
    """Why ACLs and attributes cannot be tested in a folder; empty when they can."""
    probe = folder / "probe"
    probe.touch()
    try:
        os.setxattr(probe, ACCESS, acl("user::rw-,user:1001:---,group::r--,mask::r--,other::---"))
        os.setxattr(probe, "user.probe", b"1")
    except OSError as error:
        return f"the filesystem of {folder} stores no ACLs or no attributes ({error.strerror})"
    finally:
        probe.unlink()
    return ""
