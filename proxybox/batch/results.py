"""The results of `proxybox batch`: one line of JSON each, added as they arrive, so that a command can continue later.

    {"id": "ada", "job": "9f86d081884c7d65", "result": {"status": "ok", ...}}

`job` is a digest of the job. Of several lines with the same id, the last one counts. An incomplete last line, from a
process that ended while it wrote, is removed.
"""

import errno
import fcntl
import json
import os
import stat
import time
from pathlib import Path
from typing import Any, BinaryIO, Final

import attrs

from proxybox.policies.errors import ProxyboxError

#: The most seconds between the write of a result and its sync to the disk.
_RHYTHM: Final = 1.0
_BEGINNING: Final = b'{"id": '
#: Statuses of jobs that are run again, because proxybox or its host has failed, and not the program.
AGAIN: Final = frozenset({"internal_error", "overloaded", "cancelled"})


class ResultsError(ProxyboxError):
    """Results cannot be written here; the text says why."""


@attrs.frozen
class Known:
    """A result that is already in the file. job: the digest of its job."""

    job: str
    status: str


def open_own(path: Path, flags: int) -> BinaryIO:
    """Opens a file that will be written repeatedly, and may have been made by others.

    Raises OSError, also for a link, and for a file that belongs to another user or has another link.
    """
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1 or status.st_uid != os.geteuid():
        os.close(fd)
        raise OSError(errno.EPERM, "not a file of yours", str(path))
    return open(fd, "r+b" if flags & os.O_RDWR else "ab")


def line_of(ident: str, job: str, result: dict[str, Any]) -> bytes:
    """Returns a line of a file of results."""
    return json.dumps({"id": ident, "job": job, "result": result}).encode() + b"\n"


class Results:
    """A file of results, which one process at a time writes.

    known: the results that are already in the file, by the ids of their jobs. repaired: how many bytes of an incomplete
    last line were removed. Raises ResultsError for a file with other content, and OSError.
    """

    def __init__(self, path: Path) -> None:
        self.known: dict[str, Known] = {}
        self.repaired = 0
        self._file = open_own(path, os.O_RDWR | os.O_CREAT)
        self._synced = time.monotonic()
        try:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ResultsError(f"{path}: another process writes there now") from None
            if not self._read():
                raise ResultsError(f"{path}: this is no file of results: name another one")
            os.fsync(self._file.fileno())
        except BaseException:
            self._file.close()
            raise

    def _read(self) -> bool:
        """Reads the file, and removes an incomplete last line. Returns whether it has results."""
        end = 0
        for line in self._file:
            if not line.endswith(b"\n"):
                if not end and not line.startswith(_BEGINNING[: len(line)]):
                    return False
                self.repaired = len(line)
                self._file.truncate(end)
                break
            found = _known(line)
            if found is not None:
                ident, known = found
                self.known[ident] = known
            elif not end:
                return False
            end += len(line)
        self._file.seek(0, os.SEEK_END)
        return True

    def add(self, ident: str, job: str, result: dict[str, Any]) -> None:
        """Writes a result. It is on the disk a second later at the latest, if others follow, or after `close`."""
        self._file.write(line_of(ident, job, result))
        self._file.flush()
        now = time.monotonic()
        if now - self._synced >= _RHYTHM:
            self._synced = now
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Syncs the file to the disk, and closes it."""
        with self._file:
            self._file.flush()
            os.fsync(self._file.fileno())


def _known(line: bytes) -> tuple[str, Known] | None:
    """Returns the result of a line; None for a line that is not one."""
    try:
        found = json.loads(line)
        ident, known = found["id"], Known(found["job"], found["result"]["status"])
    except (ValueError, RecursionError, TypeError, KeyError):
        return None
    is_well = all(isinstance(each, str) for each in (ident, known.job, known.status))
    return (ident, known) if is_well else None
