"""Files that somebody has named are opened as regular files alone: a FIFO would be waited for, a device never ends."""

import errno
import os
import stat


def regular(path: str, flags: int) -> int:
    """Opens a regular file: the `opener` of open(). Raises OSError for anything else, without waiting for it.

    One that O_CREAT makes is of this user alone.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC, 0o600)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise OSError(errno.EINVAL, "it is no regular file", path)
