"""Records of tests that failed, for teachers: FOLDER/SUBMISSION/TEST.pbx (docs/teaching.md).

Each test is recorded, because its result is not known before; the records of passed tests are removed.
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

#: The most bytes of a record. A longer one is given up, and the test goes on without it.
LIMIT: Final = 64 << 20
_GIVEN_UP: Final = "a record that would need more than 64 MiB was given up"
#: The end of a folder's name that is not simply the submission's name.
_DIGEST: Final = re.compile(r"-[0-9a-f]{16}\Z")


def _safe(name: str) -> str:
    """Returns a name without path separators, of a bounded length."""
    short = re.sub(r"[^\w.-]+", "_", name)[:60].encode()[:180].decode("utf-8", "ignore")
    return short.strip("._") or "_"


def _folder(submission: str) -> str:
    """Returns the name of the folder of a submission, different for each submission."""
    safe, data = _safe(submission), submission.encode("utf-8", "surrogatepass")
    # A student may choose the name of another submission's folder, or of a device.
    is_own = safe == submission and not _DIGEST.search(safe) and not is_device(safe)
    return safe if is_own else f"{safe}-{hashlib.sha256(data).hexdigest()[:16]}"


@attrs.define
class GradingRecords:
    """The records of the current test, in a folder.

    The submissions are tested one after another, each by all tests.
    """

    folder: str
    _submission: str | None = None
    _test: str = ""
    _tests: set[str] = attrs.field(factory=set)  # of the current submission
    _begun: list[str] = attrs.field(factory=list)
    _shared: tuple[str, ...] = ()

    def begin(self, submission: str, test: str) -> None:
        """Sets the names for the records of the next test."""
        if submission != self._submission:
            self._submission, self._tests = submission, set()
        stem = _safe(test)
        names = itertools.chain((stem,), (f"{stem}.{count}" for count in itertools.count(2)))
        self._test = next(name for name in names if name not in self._tests)
        self._tests.add(self._test)
        self._begun, self._shared = [], ()

    @property
    def begun(self) -> tuple[str, ...]:
        """The paths of this test's records so far."""
        return tuple(self._begun)

    def next(self) -> str:
        """Returns the path for a further record of the test. No file exists there. Raises OSError."""
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
        """Adds the records of an earlier test, which show why this one fails, too."""
        self._shared = paths

    def settle(self, verdict: Verdict) -> Verdict:
        """Returns the verdict with the records of its test. If it has passed, the records are removed."""
        if not verdict.passed and verdict.status != "skipped":
            begun = (*self._begun, *self._shared)
            kept = tuple(filter(os.path.exists, begun))
            return attrs.evolve(verdict, records=kept, unrecorded="" if len(kept) == len(begun) else _GIVEN_UP)
        for path in self._begun:
            with contextlib.suppress(OSError):
                os.unlink(path)
        with contextlib.suppress(OSError):  # the folder has records of other tests
            os.rmdir(self._place())
        return verdict

    def _place(self) -> str:
        return os.path.join(self.folder, _folder(self._submission or ""))
