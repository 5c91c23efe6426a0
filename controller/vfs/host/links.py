"""What symbolic links may say in folders of the host's, where others follow what a box leaves.

Rules: a text goes up at its beginning only. What `name/..` means depends on what stands at that name, and that may be
changed later, by a rename or another commit; `../..` at the beginning means the same as long as its folder lies as deep
as it did. So neither is a link with `..` behind a name made, nor a folder moved whose links go up out of it.
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
"""How many entries of a folder that is moved are looked at for links."""
_AS_FAR_AS_AN_ENTRY = 64
"""So many folders on the way to one of the host's take as long as an entry does."""


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
    """Whether what the text means depends on what its names are: `name/..`."""
    return text.split(b"/").count(b"..") > steps_up(text)


def refuse_behind_a_name(text: bytes) -> None:
    """EPERM for a text with `..` behind a name."""
    if goes_up_behind_a_name(text):
        raise Denied(errno.EPERM, "a symbolic link with .. behind a name")


def _means_the_same(text: bytes, depth: int) -> bool:
    """Whether a link so far below a folder that is moved leads where it led before."""
    return not goes_up_behind_a_name(text) and steps_up(text) <= depth


def refuse_moving_links_of_the_host(root: HostRoot, folder: bytes) -> None:
    """EXDEV, so that it is copied instead, for a folder with links that go up out of it, hidden ones included, or one
    that is too large, or lies too deep, to look through: the host walks to each folder and link from the root."""
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
    """The same for a folder of an overlay. What is not found in as many steps as a call has may go: a commit looks at
    every link."""
    steps = folder.superblock.steps
    others = steps.left
    steps.renew()
    try:
        _search(folder)
    except Denied:
        raise
    except OSError:  # no step is left, or the host does not show it
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
    """None of one that has many more than are looked at: to list it takes what it holds."""
    listing = directory.listing()
    for _ in range(4 * (MAX_SEARCHED // PORTION + 1)):  # an overlay goes through each name several times
        try:
            next(listing)
        except StopIteration as end:
            found: list[Entry] = end.value
            return found
    listing.close()
    return []
