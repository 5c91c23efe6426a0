"""Records of tests that failed, for teachers: FOLDER/SUBMISSION/TEST.pbx (docs/teaching.md).

Each test is recorded, since nobody knows before how it ends; the records of those that passed are removed.
"""

import contextlib
import errno
import hashlib
import itertools
import os
import re
from typing import Final

import attrs

from proxybox.records.taking import SUFFIX
from proxybox.teach.filenames import is_device
from proxybox.teach.grades import Verdict

#: Bytes that a record may have. One that needs more is given up, and the test goes on without it.
LIMIT: Final = 64 << 20
_GIVEN_UP: Final = "a record that would need more than 64 MiB was given up"
#: How the name of a folder ends that is not the submission's own.
_DIGEST: Final = re.compile(r"-[0-9a-f]{16}\Z")


def _safe(name: str) -> str:
    """A name that leads out of no folder."""
    short = re.sub(r"[^\w.-]+", "_", name)[:60].encode()[:180].decode("utf-8", "ignore")
    return short.strip("._") or "_"


def _folder(submission: str) -> str:
    """The folder of a submission, which no other one has."""
    safe, data = _safe(submission), submission.encode("utf-8", "surrogatepass")
    # A student may call theirs as another one's folder is, or as a device.
    is_own = safe == submission and not _DIGEST.search(safe) and not is_device(safe)
    return safe if is_own else f"{safe}-{hashlib.sha256(data).hexdigest()[:16]}"


@attrs.define
class GradingRecords:
    """The records of the test that runs, in a folder.

    One submission is tested after another, each by all tests.
    """

    folder: str
    _submission: str | None = None
    _test: str = ""
    _tests: set[str] = attrs.field(factory=set)  # of this submission
    _begun: list[str] = attrs.field(factory=list)
    _shared: tuple[str, ...] = ()

    def begin(self, submission: str, test: str) -> None:
        """Takes the names by which records are found, before the test runs."""
        if submission != self._submission:
            self._submission, self._tests = submission, set()
        stem = _safe(test)
        names = itertools.chain((stem,), (f"{stem}.{count}" for count in itertools.count(2)))
        self._test = next(name for name in names if name not in self._tests)
        self._tests.add(self._test)
        self._begun, self._shared = [], ()

    @property
    def begun(self) -> tuple[str, ...]:
        """The records of this test so far."""
        return tuple(self._begun)

    def next(self) -> str:
        """Returns the path for a further record of the test, where no file is. Raises OSError."""
        place = self._place()
        os.makedirs(self.folder, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(place)
        if os.path.islink(place):  # it may have come with the submissions
            raise OSError(errno.ELOOP, "is a symbolic link", place)
        more = f"-{len(self._begun) + 1}" if self._begun else ""
        path = os.path.join(place, f"{self._test}{more}{SUFFIX}")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._begun.append(path)
        return path

    def share(self, paths: tuple[str, ...]) -> None:
        """Takes the records of an earlier test, which tell why this one fails, too."""
        self._shared = paths

    def settle(self, verdict: Verdict) -> Verdict:
        """Returns the verdict with the records of its test; where it has passed, they are removed."""
        if not verdict.passed and verdict.status != "skipped":
            begun = (*self._begun, *self._shared)
            kept = tuple(filter(os.path.exists, begun))
            return attrs.evolve(verdict, records=kept, unrecorded="" if len(kept) == len(begun) else _GIVEN_UP)
        for path in self._begun:
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # other tests have failed
            os.rmdir(self._place())
        return verdict

    def _place(self) -> str:
        return os.path.join(self.folder, _folder(self._submission or ""))
