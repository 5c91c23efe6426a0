"""A lock on the data of a class: one process at a time uses it, an open classroom or a command that changes it."""

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from proxybox.policies.errors import ProxyboxError


class ClassroomError(ProxyboxError):
    """The classroom cannot open, for a reason that the teacher can remove."""


@contextlib.contextmanager
def alone(data: str) -> Iterator[IO[str]]:
    """Locks this data, and yields the lock file: other processes read in it who holds the lock. Raises ClassroomError.

    The lock belongs to this process. Its child processes do not inherit it (fcntl_locking(2)).
    """
    folder = Path(data)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(folder / "lock", "a+", opener=_own)  # noqa: SIM115 - closed below
    except OSError as error:
        raise ClassroomError(f"{folder}: nothing can be kept there: {error.strerror} (--data PATH)") from None
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise ClassroomError(f"{folder}: cannot be locked: {error.strerror} (--data PATH)") from None
            file.seek(0)
            raise ClassroomError(
                f"a classroom with this data runs already ({file.read(200).strip()}): end it there with Ctrl-C, or keep"
                " this one's data elsewhere (--data PATH)"
            ) from None
        file.truncate(0)
        yield file


def _own(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
