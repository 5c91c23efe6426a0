"""What was graded already, so that grading can go on where it was cut off, and only what has changed is graded again.

One line of JSON per grade is added as grades come. A line that is not whole, since something ended while it was
written, counts for nothing.
"""

import contextlib
import itertools
import json
from pathlib import Path

from cattrs.preconf.json import make_converter

from proxybox import SandboxStartError, __version__
from proxybox.controller import find_guest
from proxybox.teach.exercise import Exercise
from proxybox.teach.grades import Grade
from proxybox.teach.grading import Packed, digest_of
from proxybox.teach.submissions import GRADES, Submission

FILE = GRADES
#: Files of a mount; of more, the rest is taken as it was.
_MOST_LOOKED_AT = 10_000
_CONVERTER = make_converter()


def key_of(exercise: Packed, submission: Submission, *more: object) -> str:
    """What a grade depends on, in one word. more: whatever else it depends on."""
    words = (
        __version__,
        exercise.digest,
        submission.student,
        submission.source,
        submission.submitted,
        submission.problem,
        *more,
    )
    return digest_of(submission.files, *map(str, words))


def surroundings(exercise: Exercise, guest: str | None) -> str:
    """What else a grade depends on: the interpreter, and host folders that the policy mounts; by size and time."""
    files = []
    with contextlib.suppress(SandboxStartError):  # on a cluster, whoever gives the tasks needs none
        files.append(Path(find_guest(guest).executable))
    for source in (Path(mount.source) for mount in exercise.policy.filesystem.mounts if isinstance(mount.source, str)):
        files += [source, *itertools.islice(sorted(source.rglob("*")), _MOST_LOOKED_AT)]
    told = []
    for path in files:
        try:
            status = path.stat()
        except OSError:
            continue
        told.append(f"{path} {status.st_size} {status.st_mtime_ns}")
    return "\n".join(told)


class Records:
    """The grades of a folder. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._known: dict[str, Grade] = {}
        if self._path.exists():
            with self._path.open("rb") as file:
                self._known.update(filter(None, map(_read, file)))

    def find(self, key: str) -> Grade | None:
        """A grade that was given before."""
        return self._known.get(key)

    def add(self, key: str, grade: Grade) -> None:
        """Keeps a grade, at once; not one that says that grading failed, which may go well the next time."""
        if not grade.failed:
            line = json.dumps({"key": key, "grade": _CONVERTER.unstructure(grade)})
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"\n{line}\n")


def _read(line: bytes) -> tuple[str, Grade] | None:
    try:
        found = json.loads(line)
        return found["key"], _CONVERTER.structure(found["grade"], Grade)
    except Exception:  # not whole, or of another version: it is graded again
        return None
