"""Removes folders in which other users chose the names, the modes and the depth."""

import os


def remove_folder(path: str, *, dir_fd: int | None = None) -> None:
    """Removes a folder with its content, and follows no link. No process may write to it meanwhile. Raises OSError.

    shutil.rmtree recurses, and fails at Python's limit of recursion: 1,000 levels take a path of 2,000 bytes.
    """
    top = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        os.fchmod(top, 0o700)
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(path, dir_fd=dir_fd)


def _empty(top: int) -> None:
    """Removes the content of a folder. It moves folders up, so that their depth does not matter."""
    pending: list[str] = []
    _unlink(top, top, pending)
    while pending:
        name = pending.pop()
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=top)
        try:
            _unlink(fd, top, pending)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=top)


def _unlink(folder: int, top: int, pending: list[str]) -> None:
    """Removes the files of a folder, and moves its folders to `top`, under new names that are added to `pending`."""
    for entry in os.listdir(folder):
        try:
            os.unlink(entry, dir_fd=folder)
        except IsADirectoryError:
            os.chmod(entry, 0o700, dir_fd=folder)  # a folder can be moved only if it can be written to
            pending.append(os.urandom(16).hex())
            os.rename(entry, pending[-1], src_dir_fd=folder, dst_dir_fd=top)
