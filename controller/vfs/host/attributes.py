"""Extended attributes of host files, of which POSIX access control lists (ACLs) are two: how they are read and set.

Rules: they are read and set by descriptor. They are pairs of a name and a value, sorted by name. Where a file has an
access ACL, the group bits of its mode are the ACL's mask, so that a mode says who may read only together with its ACL.
A value that cannot be read is None, and cannot be set either: a commit that would lose it is refused.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
from collections.abc import Iterator
from typing import Final

Attributes = tuple[tuple[str, bytes | None], ...]

ACCESS: Final = "system.posix_acl_access"
DEFAULT: Final = "system.posix_acl_default"
GONE_ONCE_WRITTEN: Final = frozenset({"security.capability", "security.ima", "security.evm"})
"""What the kernel takes away, or makes anew, when somebody writes to a file."""
MAX_BYTES: Final = 16 << 10
"""Values of one file are read up to this size in all. ext4 stores 4 KiB at most, unless it is told otherwise."""
UNLISTED: Final = "(more names than the kernel lists)"
"""Stands for the attributes of a file whose names together have more than 64 KiB (listxattr(2), E2BIG)."""

_HEADER: Final = struct.Struct("<I")  # posix_acl_xattr_header: the version
_VERSION: Final = 2
_ENTRY: Final = struct.Struct("<HHI")  # posix_acl_xattr_entry: tag, permissions, user or group
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_TAGS: Final = {
    _USER_OBJ: "user", _USER: "user", _GROUP_OBJ: "group", _GROUP: "group", _MASK: "mask", _OTHER: "other",
}  # fmt: skip
_NONE_HERE: Final = (errno.ENOTSUP, errno.ENOSYS)

_Entry = tuple[int, int, int]


class NotCarried(OSError):
    """A file cannot get an attribute, an owner or a group; the text says which, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EPERM, why)


# --- of files ---


def read(fd: int) -> Attributes:
    """The attributes of the file behind a descriptor of any kind, as far as the caller may see them."""
    path = f"/proc/self/fd/{fd}"
    try:
        names = sorted(os.listxattr(path))
    except OSError as error:
        if error.errno in _NONE_HERE:
            return ()
        if error.errno == errno.E2BIG:
            return ((UNLISTED, None),)
        raise
    found, left = [], MAX_BYTES
    for name in names:
        value: bytes | None = None
        if left >= 0:  # otherwise thousands of large values would be read for nothing
            try:
                value = os.getxattr(path, name)
            except OSError as error:
                if error.errno == errno.ENODATA:  # it was removed meanwhile
                    continue
            left -= len(value or b"")
        found.append((name, value if left >= 0 else None))
    return tuple(found)


def write(fd: int, wanted: Attributes) -> None:
    """Sets these attributes of a new file or folder, and removes all other ACLs. Raises NotCarried.

    An ACL comes last, because it may take the right to set others. Afterwards all are read and compared.
    """
    path = f"/proc/self/fd/{fd}"
    found, names = dict(read(fd)), {name for name, _ in wanted}
    for name in (ACCESS, DEFAULT):
        if name in found and name not in names:
            os.removexattr(path, name)
    for name, value in sorted(wanted, key=lambda pair: pair[0] in (ACCESS, DEFAULT)):
        if value is None:
            raise NotCarried(f"its extended attribute {name} cannot be read, or is too large to be kept")
        if found.get(name) != value:
            try:
                os.setxattr(path, name, value)
            except OSError as error:
                raise NotCarried(f"its extended attribute {name} cannot be kept: {error.strerror}") from error
    if wanted:
        found = dict(read(fd))
        for name, value in wanted:
            if found.get(name) != value:
                raise NotCarried(f"its extended attribute {name} cannot be kept: the filesystem has stored another one")


# --- of ACLs ---


def default_acl(fd: int) -> bytes | None:
    """The default ACL of the folder that a descriptor of any kind refers to; None when it has none."""
    try:
        return os.getxattr(f"/proc/self/fd/{fd}", DEFAULT)
    except OSError as error:
        if error.errno in (errno.ENODATA, *_NONE_HERE):
            return None
        raise


def permitted(acl: bytes) -> int:
    """The permission bits that a file can have at most when it is made in a folder with that default ACL."""
    bits = 0
    entries = list(_entries(acl))
    has_mask = any(tag == _MASK for tag, _, _ in entries)
    for tag, permissions, _ in entries:
        bits |= (permissions & 7) << _shift(tag, has_mask=has_mask) if _is_mode(tag, has_mask=has_mask) else 0
    return bits


def with_mode(acl: bytes, mode: int) -> bytes:
    """The access ACL with the permission bits of `mode`, as chmod(2) changes it."""
    entries = list(_entries(acl))
    has_mask = any(tag == _MASK for tag, _, _ in entries)
    return _packed(
        (tag, mode >> _shift(tag, has_mask=has_mask) & 7 if _is_mode(tag, has_mask=has_mask) else permissions, ident)
        for tag, permissions, ident in entries
    )


def inherited(default: bytes | None, mode: int, *, is_folder: bool) -> Attributes:
    """The attributes of a new entry in a folder with that default ACL, with a mode that the ACL permits (acl(5))."""
    if default is None:
        return ()
    access = with_mode(default, mode)
    says_more = any(tag in (_USER, _GROUP, _MASK) for tag, _, _ in _entries(access))  # than the mode says
    return (*(((ACCESS, access),) if says_more else ()), *(((DEFAULT, default),) if is_folder else ()))


def at_mode(attributes: Attributes, mode: int) -> Attributes:
    """The attributes after chmod(2) with that mode."""
    return tuple(
        (name, with_mode(value, mode) if name == ACCESS and value is not None else value) for name, value in attributes
    )


def once_written(attributes: Attributes) -> Attributes:
    """The attributes that a file still has after it was written to."""
    return tuple(pair for pair in attributes if pair[0] not in GONE_ONCE_WRITTEN)


def acl_text(acl: bytes) -> str:
    """The ACL in the short text form of acl(5), with numbers of users and groups."""
    return ",".join(
        f"{_TAGS.get(tag, tag)}:{ident if tag in (_USER, _GROUP) else ''}:{_letters(permissions)}"
        for tag, permissions, ident in _entries(acl)
    )


def has_acl(attributes: Attributes) -> bool:
    """Whether the file has an ACL, which ls(1) marks with a plus."""
    return any(name in (ACCESS, DEFAULT) for name, _ in attributes)


def texts(attributes: Attributes) -> list[str]:
    """The attributes as text for people, one for each. Names are the host's, and are not escaped."""
    return [f"{_SHORT.get(name, name)} {_text(name, value)}" for name, value in attributes]


_SHORT: Final = {ACCESS: "acl", DEFAULT: "default acl"}


def _text(name: str, value: bytes | None) -> str:
    if value is None:
        return "(cannot be read, or is too large)"
    if name in (ACCESS, DEFAULT):
        with contextlib.suppress(OSError):  # an ACL of another form
            return acl_text(value)
    return f"({len(value):,} bytes)"


def _letters(permissions: int) -> str:
    return "".join(letter if permissions & bit else "-" for letter, bit in (("r", 4), ("w", 2), ("x", 1)))


def _is_mode(tag: int, *, has_mask: bool) -> bool:
    """Whether an entry has the same bits as a part of the mode. With a mask, the group's entry does not."""
    return tag in (_USER_OBJ, _OTHER, _MASK if has_mask else _GROUP_OBJ)


def _shift(tag: int, *, has_mask: bool) -> int:
    return {_USER_OBJ: 6, _MASK if has_mask else _GROUP_OBJ: 3}.get(tag, 0)


def _entries(acl: bytes) -> Iterator[_Entry]:
    """The entries: tag, permissions, number of the user or group. Raises OSError for another version."""
    if len(acl) < _HEADER.size or _HEADER.unpack_from(acl)[0] != _VERSION or (len(acl) - _HEADER.size) % _ENTRY.size:
        raise OSError(errno.EOPNOTSUPP, "an access control list of an unknown form")
    yield from _ENTRY.iter_unpack(acl[_HEADER.size :])


def _packed(entries: Iterator[_Entry]) -> bytes:
    return _HEADER.pack(_VERSION) + b"".join(_ENTRY.pack(*entry) for entry in entries)
