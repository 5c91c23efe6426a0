"""The stored grades of earlier runs: grading can continue after an interruption, and grades only changed submissions.

One line of JSON per grade is added when the grade is known. An incomplete line is ignored: its process ended while it
wrote.
"""

import contextlib
import hmac
import itertools
import json
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cattrs.preconf.json import make_converter

from proxybox import SandboxStartError, __version__
from proxybox.batch.results import open_own
from proxybox.controller import find_guest
from proxybox.controller.statefolder import state_folder
from proxybox.teach.exercise import Exercise
from proxybox.teach.grades import Grade
from proxybox.teach.grading import Packed, digest_of
from proxybox.teach.submissions import GRADES, Submission

FILE = GRADES
#: The most files of a mount that are checked; the others are taken as unchanged.
_MOST_LOOKED_AT = 10_000
#: Grades to and from JSON.
CONVERTER = make_converter()


def key_of(exercise: Packed, submission: Submission, *more: object) -> str:
    """One digest of everything on which a grade depends. more: further things on which it depends."""
    words = (
        __version__,
        exercise.digest,
        submission.student,
        submission.source,
        submission.submitted,
        submission.late,
        submission.id,
        submission.problem,
        *more,
    )
    return digest_of(submission.files, *map(str, words))


def surroundings(exercise: Exercise, guest: str | None, packages: Sequence[str] = ()) -> str:
    """The other things on which a grade depends: the interpreter, packages, mounted host folders; by size and time."""
    files = [Path(each) for each in packages]
    with contextlib.suppress(SandboxStartError):  # on a cluster, the process that distributes tasks needs no guest
        files.append(Path(find_guest(guest).executable))
    for source in (Path(mount.source) for mount in exercise.policy.filesystem.mounts if isinstance(mount.source, str)):
        files += [source, *itertools.islice(sorted(source.rglob("*")), _MOST_LOOKED_AT)]
    payload = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        payload.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(payload)


class GradeRecords:
    """The grades in a folder's file.

    Only grades that this user has written are accepted (a key in the state folder signs them): the folder may have come
    with the submissions. Raises OSError, also for a file that is a link or belongs to another user.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._key = _key()
        self._known: dict[str, Grade] = {}
        with open_own(self._path, os.O_RDWR | os.O_CREAT) as file:
            self._known.update(filter(None, map(self._read, file)))

    def find(self, key: str) -> Grade | None:
        """The stored grade of a key; None if there is none."""
        return self._known.get(key)

    def add(self, key: str, grade: Grade) -> None:
        """Writes a grade at once, unless grading failed: that may succeed the next time."""
        if not grade.failed:
            line = json.dumps({"key": key, "grade": CONVERTER.unstructure(grade)}).encode()
            with open_own(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT) as file:
                file.write(b"\n%s %s\n" % (self._signature(line), line))

    def _signature(self, line: bytes) -> bytes:
        return hmac.digest(self._key, line, "sha256").hex().encode()

    def _read(self, line: bytes) -> tuple[str, Grade] | None:
        signature, _, payload = line.strip().partition(b" ")
        if not hmac.compare_digest(signature, self._signature(payload)):
            return None
        try:
            found = json.loads(payload)
            return found["key"], CONVERTER.structure(found["grade"], Grade)
        except Exception:  # written by another version: graded again
            return None


def _key() -> bytes:
    """The key that signs this user's records.

    If the key cannot be stored, it is a key for this run only: everything is graded again next time.
    """
    fresh, folder = os.urandom(32), state_folder("grades")
    if folder is None:
        return fresh
    path = os.path.join(folder, "key")
    with contextlib.suppress(OSError):
        os.makedirs(folder, 0o700, exist_ok=True)
        if not os.path.lexists(path):
            _keep(fresh, folder, path)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status, kept = os.fstat(fd), file.read(64)
            if (
                stat.S_ISREG(status.st_mode)
                and status.st_uid == os.geteuid()
                and not status.st_mode & 0o077
                and len(kept) == 32
            ):
                return kept
    return fresh


def _keep(key: bytes, folder: str, path: str) -> None:
    """Writes the key completely or not at all. The first process to write a key wins."""
    fd, name = tempfile.mkstemp(dir=folder)  # mode 0600
    try:
        with open(fd, "wb") as file:
            file.write(key)
            file.flush()
            os.fsync(fd)
        try:
            os.link(name, path)
        except FileExistsError:
            pass
        except OSError:  # a filesystem without hard links
            if not os.path.lexists(path):
                os.rename(name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
