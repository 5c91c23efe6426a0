"""A copy in memory of a host folder's regular files, for a box that must not see the folder itself.

Rule: nothing is read that does not fit into the quota, whatever the folder holds. Sizes are checked before files are
read, files are read in pieces, and nothing here recurses.
"""

from proxybox.controller.vfs.memory import MemoryDirectory, MemoryFile
from proxybox.controller.vfs.nodes import Directory, RegularFile, Superblock
from proxybox.controller.vfs.quota import PAGE

MAX_DEPTH = 64
_PIECE = 1 << 20


def copy_of(folder: Directory, superblock: Superblock) -> MemoryDirectory:
    """The copy, in folders and files of `superblock`, whose quota is charged. Links are left out.

    Raises OSError, with ENOSPC when something does not fit, and ValueError for folders that are nested more deeply than
    MAX_DEPTH.
    """
    root = MemoryDirectory(superblock)
    left: list[tuple[Directory, MemoryDirectory, int]] = [(folder, root, 0)]
    while left:
        source, copy, depth = left.pop()
        for name, _, _ in source.entries():
            node = source.lookup(name)
            if isinstance(node, Directory):
                if depth == MAX_DEPTH:
                    raise ValueError(f"it has folders that are nested more than {MAX_DEPTH} deep")
                below = MemoryDirectory(superblock)
                copy.attach(name, below)
                left.append((node, below, depth + 1))
            elif isinstance(node, RegularFile):
                file = MemoryFile(superblock, 0o644, superblock.uid, superblock.gid)
                copy.attach(name, file)
                _fill(file, node)
    return root


def _fill(copy: MemoryFile, source: RegularFile) -> None:
    quota, size, done = copy.superblock.quota, source.size(), 0
    if size > quota.free_pages() * PAGE:
        quota.refuse("a file that is larger than what is left")
    while done < size and (piece := source.pread(_PIECE, done)):
        if copy.pwrite(piece, done) < len(piece):
            quota.refuse("a file that has grown beyond what is left")
        done += len(piece)
