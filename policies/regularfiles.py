"""Opens files only if they are regular files: opening a FIFO would wait, and reading a device may never end."""

import errno
import os
import stat


def regular(path: str, flags: int) -> int:
    """Opens a regular file: the `opener` of open(). Raises OSError for anything else, without waiting for it.

    A file that O_CREAT makes is accessible only to this user.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is no regular file", path)
