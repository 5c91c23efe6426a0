"""Compares entries in a folder of the host with an earlier state.

Rules: there is no recursion, because a box may nest folders deeply. No link is followed; only regular files are
opened.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat as st

import attrs

from proxybox.controller.vfs.host import attributes, boundary


@attrs.frozen(slots=True, kw_only=True)
class Fingerprint:
    """A file, a link, or a folder with everything in it.

    dev, ino, kind (S_IFMT): those of the file, link or folder itself. stamp: a hash over inodes, sizes and times of
    modification, which is cheap. digest: a hash over names, contents and link texts; empty when it was not requested.
    Modes are in neither. rights: a hash over owners, extended attributes and modes, except those of folders, which a
    commit changes for a moment; empty in journals of earlier versions.
    """

    dev: int
    ino: int
    kind: int
    stamp: str = ""
    digest: str = ""
    rights: str = ""

    def has_other_rights(self, other: Fingerprint) -> bool:
        """Whether owners, modes or attributes differ, as far as both are known."""
        return bool(self.rights and other.rights) and self.rights != other.rights

    def is_of(self, seen: os.stat_result | None) -> bool:
        """Whether `seen` is the status of the same inode."""
        if seen is None:
            return False
        return (seen.st_dev, seen.st_ino, st.S_IFMT(seen.st_mode)) == (self.dev, self.ino, self.kind)


def identity(seen: os.stat_result) -> Fingerprint:
    """The fingerprint of an entry of which only the inode matters."""
    return Fingerprint(dev=seen.st_dev, ino=seen.st_ino, kind=st.S_IFMT(seen.st_mode))


def fingerprint(
    root: boundary.HostRoot, path: bytes, *, contents: bool = True, found: set[bytes] | None = None
) -> Fingerprint:
    """The fingerprint of the entry at `path` in the root.

    contents: whether the digest is wanted, for which all files are read. found: receives a digest of each file's
    contents.
    """
    stamp, digest, rights = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    left = [path]
    first: os.stat_result | None = None
    while left:
        here = left.pop()
        with root.path_fd(here) as fd:
            seen = os.fstat(fd)
            first = first or seen
            kind, facts = st.S_IFMT(seen.st_mode), b""
            if kind == st.S_IFREG:
                facts = b"%d %d" % (seen.st_size, seen.st_mtime_ns)
                content = _content(fd) or facts if contents else b""
                if found is not None:
                    found.add(content)
            else:
                content = os.readlink(b"", dir_fd=fd) if kind == st.S_IFLNK else b""
            has = attributes.at_mode(attributes.read(fd), 0)
        mode = 0 if kind == st.S_IFDIR else st.S_IMODE(seen.st_mode)
        name = here[len(path) :]
        stamp.update(repr((name, kind, seen.st_ino, facts)).encode())
        digest.update(repr((name, kind, content)).encode())
        rights.update(repr((name, seen.st_uid, seen.st_gid, mode, has)).encode())
        if kind == st.S_IFDIR:
            names = [name for name, _ in root.kinds(here, boundary.MAX_ENTRIES)]
            left.extend(here + b"/" + name for name in sorted(names, reverse=True))
    if first is None:
        raise OSError("nothing to look at")
    return attrs.evolve(
        identity(first),
        stamp=stamp.hexdigest(),
        digest=digest.hexdigest() if contents else "",
        rights=rights.hexdigest(),
    )


def _content(fd: int) -> bytes:
    """A digest of a file's contents; b"" when the caller cannot read it, so that size and time are used instead."""
    with contextlib.suppress(PermissionError), os.fdopen(boundary.reopen(fd, os.O_RDONLY), "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").digest()
    return b""
