"""Where the records of a sandbox's runs are written."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import attrs

from proxybox import argumentchecks
from proxybox.controller.boxes.recorded import LIMIT, RecordedRunner
from proxybox.controller.record.exactness import Inexact
from proxybox.controller.statefolder import make_ours_alone
from proxybox.policies import PolicyError

#: The suffix of a record's name.
SUFFIX = ".pbx"
#: A path for the record of one run.
Where: TypeAlias = str | os.PathLike[str]


@attrs.define
class NumberedRecords:
    """A folder for the records of many runs, which are numbered: 0001.pbx, 0002.pbx and so on."""

    folder: str
    _last: int = attrs.field(init=False, default=0)

    @classmethod
    def at(cls, folder: object) -> "NumberedRecords":
        """Makes the folder if it does not exist. Raises TypeError, PolicyError or OSError."""
        path = os.path.abspath(argumentchecks.path("record", folder))
        if os.path.lexists(path) and not os.path.isdir(path):
            raise PolicyError(f"record: want a folder, in which each run leaves a record, got the file {path!r}")
        os.makedirs(path, exist_ok=True)
        return cls(path)

    def open(self) -> tuple[str, BinaryIO]:
        """Makes the next file that does not exist yet; other threads and processes may do so, too. Raises OSError."""
        number = self._last
        while True:
            number += 1
            path = os.path.join(self.folder, f"{number:04}{SUFFIX}")
            try:
                file = _opened(path, os.O_EXCL)
            except FileExistsError:
                continue
            self._last = number
            return path, file


def _opened(path: str, flag: int) -> BinaryIO:
    """Opens a new file that only its owner can read: a record has the program's inputs. Raises OSError.

    A special file, such as a pipe, could make the controller wait, and other programs with it.
    """
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | flag, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file")
        make_ours_alone(fd)
    except OSError:
        os.close(fd)
        raise
    return open(fd, "wb", buffering=0)


@attrs.define
class Taking:
    """The record of a future run. path: of the file, after it was made.

    where: the absolute path of a file, or the folder in which a file is made. is_required: whether the run is ended if
    its record needs more than `limit`; otherwise the record is removed. is_session: whether it is a session, which ends
    when it is closed. queued: seconds that it has waited in a pool. on_file: called with the path after the file was
    made.
    """

    where: str | NumberedRecords
    limit: int = LIMIT
    path: str = ""
    is_required: bool = True
    is_session: bool = False
    queued: float = 0.0
    redact: tuple[str, ...] = ()
    on_file: Callable[[str], object] | None = None
    _box: RecordedRunner | None = attrs.field(init=False, default=None)

    @classmethod
    def to(
        cls, where: "Where | NumberedRecords", limit: object = None, redact: object = (), required: object = True
    ) -> "Taking":  # fmt: skip
        """Checks the place for a record. Raises TypeError or PolicyError."""
        size = LIMIT if limit is None else argumentchecks.size("record_limit", limit)
        if size is None or size < 1 << 16:
            raise PolicyError(f"record_limit: want a size of 64K or more, got {limit!r}")
        names = argumentchecks.several("record_redact", redact, "names (str)")
        for name in names:
            argumentchecks.text("record_redact", name)
        is_required = argumentchecks.flag("record_required", required)
        if isinstance(where, NumberedRecords):
            return cls(where, size, redact=names, is_required=is_required)
        path = os.path.abspath(argumentchecks.path("record", where))
        if os.path.isdir(path):
            raise PolicyError(f"record: {path!r} is a folder: name a file for the record of one run")
        return cls(path, size, redact=names, is_required=is_required)

    @property
    def named(self) -> str | None:
        """The path that the caller has named; None if the folder chooses the name."""
        return self.where if isinstance(self.where, str) else None

    def file(self) -> BinaryIO:
        """Makes the file. Raises OSError."""
        if isinstance(self.where, NumberedRecords):
            self.path, file = self.where.open()
        else:
            self.path, file = self.where, _opened(self.where, os.O_TRUNC)
        if self.on_file is not None:
            self.on_file(self.path)
        return file

    def _remove(self) -> None:
        os.unlink(self.path)
        self.path = ""

    def box(self, *args: Any, **fields: Any) -> RecordedRunner:
        """Returns the box of the run."""
        self._box = RecordedRunner(
            *args, open_record=self.file, limit=self.limit, is_session=self.is_session, redact=self.redact,
            queued=lambda: self.queued, discard=None if self.is_required else self._remove, **fields,
        )  # fmt: skip
        return self._box

    @property
    def taken(self) -> Path | None:
        """The path of the record; None if no record was begun."""
        return Path(self.path) if self.path else None

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the record of an ending session is written, and returns whether it is. timeout: seconds."""
        return self._box is None or self._box.concluded.wait(timeout)

    @property
    def fault(self) -> str:
        """Why the record of an ended run is not complete; empty if it is complete."""
        return (self._box and self._box.fault) or ""

    @property
    def inexact(self) -> Inexact | None:
        """The place from which on the record cannot be replayed exactly; None if it can."""
        return self._box.inexact if self._box else None

    @property
    def digest(self) -> str:
        """The chain of the record so far, in hexadecimal digits."""
        return self._box.chain.hex() if self._box else ""
