"""Where submissions come from: files, folders, archives, and what Moodle and Gradescope give for download.

Rules: nothing is unpacked onto the disk, symbolic links are not followed, what is read of one submission is bounded.
"""

import datetime
import os
import re
import stat
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import attrs

from proxybox.errors import ProxyboxError
from proxybox.teach.student import Failed

#: Of one submission.
MOST_FILES, MOST_BYTES = 500, 20 << 20
_MOODLE = re.compile(r"(?P<name>[^/]+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?$")
_IGNORED = ("__MACOSX", "__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints")


class SubmissionError(ProxyboxError):
    """A submission that cannot be read; the text says which, and why."""


@attrs.frozen(kw_only=True)
class Submission:
    """What one student has handed in. files: by their path below its folder. submitted: when, where that is known."""

    student: str
    source: str = ""
    files: Mapping[str, bytes] = attrs.field(factory=dict)
    submitted: datetime.datetime | None = None

    def main(self, name: str) -> bytes:
        """The main file: that of the name, in whatever folder, or the only Python file. Raises Failed."""
        if name in self.files:
            return self.files[name]
        same = [path for path in self.files if PurePosixPath(path).name == name]
        found = same or [path for path in self.files if path.endswith(".py")]
        if len(found) == 1:
            return self.files[found[0]]
        held = ", ".join(sorted(self.files)[:5]) or "nothing"
        raise Failed(f"There is no file {name} in the submission, which holds {held}.", "error")


def find_submissions(paths: Iterable[Path], file: str) -> list[Submission]:
    """All submissions, by name. file: the exercise's main file, by which a folder is known to be one submission.

    Raises SubmissionError, also where two have the same name.
    """
    found: dict[str, Submission] = {}
    for path in paths:
        for submission in _in(path, file):
            if submission.student in found:
                other = found[submission.student].source
                raise SubmissionError(f"two submissions of {submission.student!r}: {other}, {submission.source}")
            found[submission.student] = submission
    return [found[name] for name in sorted(found)]


def _in(path: Path, file: str) -> Iterator[Submission]:
    if path.is_dir():
        if _MOODLE.fullmatch(path.name) or (path / file).is_file():
            yield read_submission(path)
            return
        names = _gradescope_names(path)
        for child in sorted(path.iterdir()):
            if child.name in _IGNORED or child.name.startswith(".") or child.is_symlink():
                continue
            if child.is_dir() or child.suffix in (".py", ".zip"):
                yield read_submission(child, names.get(child.name))
    elif path.suffix == ".zip":
        yield from _in_archive(path, file)
    else:
        yield read_submission(path)


def read_submission(path: Path, student: str | None = None) -> Submission:
    """One file, folder or archive as a submission. Raises SubmissionError."""
    try:
        if path.is_dir():
            files = dict(_folder_files(path))
        elif path.suffix == ".zip":
            with _archive(path) as archive:
                files = dict(_members(archive, ""))
        else:
            files = {path.name: _bounded(path.read_bytes(), path)}
        submitted = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)
    except OSError as error:
        raise SubmissionError(f"{path}: {error.strerror or error}") from None
    return Submission(student=student or _student(path.name), source=str(path), files=files, submitted=submitted)


def _student(name: str) -> str:
    moodle = _MOODLE.fullmatch(name)
    return moodle["name"] if moodle else name.removesuffix(".py").removesuffix(".zip")


def _bounded(data: bytes, where: object) -> bytes:
    if len(data) > MOST_BYTES:
        raise SubmissionError(f"{where}: more than {MOST_BYTES >> 20} MiB")
    return data


def _folder_files(folder: Path) -> Iterator[tuple[str, bytes]]:
    total = count = 0
    for path, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each not in _IGNORED)
        for name in sorted(names):
            whole = Path(path, name)
            status = whole.lstat()
            if name in _IGNORED or not stat.S_ISREG(status.st_mode):
                continue
            total, count = total + status.st_size, count + 1
            if total > MOST_BYTES or count > MOST_FILES:
                raise SubmissionError(f"{folder}: more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB")
            yield whole.relative_to(folder).as_posix(), whole.read_bytes()


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise SubmissionError(f"{path}: {error}") from None


def _in_archive(path: Path, file: str) -> Iterator[Submission]:
    """A download of many, each in a folder of its own, or the archive of one."""
    with _archive(path) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist() if "/" in name} - set(_IGNORED)
        if file in archive.namelist() or not any(map(_MOODLE.fullmatch, tops)):
            yield read_submission(path)
            return
        for top in sorted(tops):
            yield Submission(
                student=_student(top), source=f"{path}:{top}", files=dict(_members(archive, top + "/")),
            )  # fmt: skip


def _members(archive: zipfile.ZipFile, prefix: str) -> Iterator[tuple[str, bytes]]:
    total = count = 0
    for info in archive.infolist():
        name = info.filename.removeprefix(prefix)
        parts = PurePosixPath(name).parts
        if not info.filename.startswith(prefix) or info.is_dir() or not parts or set(parts) & set(_IGNORED):
            continue
        if name.startswith("/") or ".." in parts or "\0" in name:
            raise SubmissionError(f"{archive.filename}: {name!r} leads out of the archive")
        total, count = total + info.file_size, count + 1
        if total > MOST_BYTES or count > MOST_FILES:
            raise SubmissionError(f"{archive.filename}: more than {MOST_FILES} files or {MOST_BYTES >> 20} MiB")
        try:
            with archive.open(info) as member:
                data = member.read(info.file_size + 1)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise SubmissionError(f"{archive.filename}: {name}: {error}") from None
        if len(data) > info.file_size:
            raise SubmissionError(f"{archive.filename}: {name} is larger than the archive says")
        yield "/".join(parts), data


def _gradescope_names(folder: Path) -> dict[str, str]:
    """Folders of a Gradescope export by whom they are of, as its submission_metadata.yml says."""
    path = folder / "submission_metadata.yml"
    if not path.is_file():
        return {}
    names: dict[str, str] = {}
    current = ""
    for line in path.read_text("utf-8", "replace").splitlines():
        if line and not line.startswith((" ", "-", "#")):
            current = line.strip().rstrip(":").strip("\"'")
        elif (found := re.match(r"\s*-?\s*:name:\s*(.+)", line)) and current not in names:
            names[current] = found[1].strip().strip("\"'")
    return names
