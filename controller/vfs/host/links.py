"""The texts that symbolic links may have in folders of the host, where others follow the links that a box leaves.

Rules: a text may go up only at its beginning. The meaning of `name/..` depends on the entry of that name, which a
rename or another commit may change later. `../..` at the beginning keeps its meaning as long as the link's folder stays
as deep as it was. So a link with `..` behind a name is not made, and a folder is not moved whole when links in it go up
out of it. A text must not lead to a name that is hidden from the box either. Otherwise a program of the host that reads
`notes.txt` could read `.env`, and a mount of a folder that has become a link to `.git` would show it to a box.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from proxybox.controller.abi import DT_DIR, DT_LNK
from proxybox.controller.errors import Denied
from proxybox.controller.vfs.nodes import PORTION, Directory, Entry, Symlink

if TYPE_CHECKING:
    from proxybox.controller.vfs.host.boundary import HostRoot

MAX_SEARCHED = 2_048
"""How many entries of a folder that is moved are searched for links."""
_AS_FAR_AS_AN_ENTRY = 64
"""The search counts so many folders on the way to a host folder or link as one entry, because they take as long."""


def steps_up(text: bytes) -> int:
    """How many folders up the text leads at its beginning."""
    ups = 0
    for part in text.split(b"/"):
        if part == b"..":
            ups += 1
        elif part not in (b"", b"."):
            break
    return ups


def goes_up_behind_a_name(text: bytes) -> bool:
    """Whether `..` follows a name in the text (`name/..`), so that the meaning depends on the entry of that name."""
    return text.split(b"/").count(b"..") > steps_up(text)


def names_in(text: bytes) -> list[bytes]:
    """Returns the names in a text, without those that stand for a folder itself or the one above."""
    return [name for name in text.split(b"/") if name not in (b"", b".", b"..")]


def refuse_behind_a_name(text: bytes) -> None:
    """Raises EPERM for a text with `..` behind a name."""
    if goes_up_behind_a_name(text):
        raise Denied(errno.EPERM, "a symbolic link with .. behind a name")


def _means_the_same(text: bytes, depth: int) -> bool:
    """Whether a link that lies `depth` folders below a moved folder leads to the same place after the move."""
    return not goes_up_behind_a_name(text) and steps_up(text) <= depth


def refuse_moving_links_of_the_host(root: HostRoot, folder: bytes) -> None:
    """Raises EXDEV for a folder with links that go up out of it, so that the guest copies it instead of moving it.

    Hidden links count too. A folder that is too large or lies too deep to be searched is refused as well: the host
    walks from the root to each folder and link.
    """
    left, searched = [(folder, 0)], 0
    while left:
        path, depth = left.pop()
        way = path.count(b"/") // _AS_FAR_AS_AN_ENTRY
        entries = root.kinds(path, MAX_SEARCHED - searched)
        searched += len(entries) + way
        for name, kind in entries:
            below = path + b"/" + name
            if kind == Directory.kind:
                left.append((below, depth + 1))
            elif kind == Symlink.kind:
                searched += way
                if searched <= MAX_SEARCHED and not _means_the_same(root.read_link(below), depth):
                    raise Denied(errno.EXDEV, "a link in the folder goes up out of it")
        if searched > MAX_SEARCHED:
            raise Denied(errno.EXDEV, f"a folder with more than {MAX_SEARCHED} entries goes to another one")


def refuse_moving_links(folder: Directory) -> None:
    """As `refuse_moving_links_of_the_host`, for a folder of an overlay.

    A link that is not found within the steps of one call may be moved: a commit checks every link.
    """
    steps = folder.superblock.steps
    others = steps.left
    steps.renew()
    try:
        _search(folder)
    except Denied:
        raise
    except OSError:  # no step is left, or the host refuses to show it
        pass
    finally:
        steps.left = others


def _search(folder: Directory) -> None:
    left, searched = [(folder, 0)], 0
    while left:
        directory, depth = left.pop()
        for name, _, kind in _entries(directory):
            searched += 1
            if searched > MAX_SEARCHED:
                return
            if kind not in (DT_DIR, DT_LNK):
                continue
            node = directory.lookup(name)
            if isinstance(node, Directory):
                left.append((node, depth + 1))
            elif isinstance(node, Symlink) and not _means_the_same(node.target, depth):
                raise Denied(errno.EXDEV, "a link in the folder goes up out of it")


def _entries(directory: Directory) -> list[Entry]:
    """The entries of a folder; none when it has many more than are searched, because listing takes time for each."""
    listing = directory.listing()
    for _ in range(4 * (MAX_SEARCHED // PORTION + 1)):  # an overlay goes through each name several times
        try:
            next(listing)
        except StopIteration as end:
            found: list[Entry] = end.value
            return found
    listing.close()
    return []
