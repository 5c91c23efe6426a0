"""Files of the interpreter's build. A record has their digests, because a replay has the same files."""

import hashlib
from typing import Final

from proxybox.controller.vfs.host.library import AlteredFile, LibraryFile

#: Bytes that are hashed at a time.
_PIECE: Final = 1 << 20
_LOCALES: Final = b"/usr/lib/locale"
_digests: dict[LibraryFile, bytes] = {}


def digest_of(node: LibraryFile) -> bytes:
    """Returns the SHA-256 of a file of the library, which is computed once in a process. Raises OSError."""
    known = _digests.get(node)
    if known is None:
        made, at = hashlib.sha256(), 0
        while at < node.size() and (piece := node.pread(_PIECE, at)):
            made.update(piece)
            at += len(piece)
        known = _digests[node] = made.digest()
    return known


def path_of(node: LibraryFile) -> bytes:
    """Returns the path of a file of the library, in a box."""
    return node.library.target.rstrip(b"/") + b"/" + node.relative


def is_named(node: object) -> bool:
    """Whether a record replaces data that is read from a file by its place there.

    It does for the interpreter's library, and for what belongs to its build: shared libraries, and the C library's
    locales. Other machines may have other versions of all other files.
    """
    if not isinstance(node, LibraryFile) or isinstance(node, AlteredFile):
        return False
    return node.library.may_be_mapped or b".so" in node.relative or node.library.target == _LOCALES
