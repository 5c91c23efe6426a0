"""Finds submissions: files, folders, archives, and downloads from Moodle, Canvas and Gradescope.

Rules: nothing is unpacked onto the disk, symbolic links are not followed, and the size of one submission is bounded.
Only a path that the caller names is divided into many submissions: no student's submission can become another
student's. A submission that cannot be read has a `problem`, and the others are still graded.
"""

import codecs
import datetime
import functools
import io
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Final

import attrs

from proxybox.teach.archives import IGNORED, MOST_OF_DOWNLOAD, ArchiveFile, members, open_archive
from proxybox.teach.archives import SubmissionError as SubmissionError
from proxybox.teach.downloads import METADATA, GradescopeMetadata, Named, canvas, gradescope, moodle
from proxybox.teach.grades import PassedOver
from proxybox.teach.notebooks import SUFFIX, NotebookError, read_notebook
from proxybox.teach.shown import one_line
from proxybox.teach.student import Failed

#: Limits of one submission. Stored (packed) bytes count if they are more: unpacking takes time even if the result is
#: empty.
MOST_FILES, MOST_BYTES = 500, 20 << 20
#: The most files and folders that are visited, including those that are ignored.
MOST_ENTRIES = 20_000
#: Bytes of a file in which imports are searched.
_MOST_LOOKED_AT = 1 << 16
#: The most passed-over files of one submission that are named.
_MOST_NAMED = 20
#: The file of an earlier grading in its output folder (records.py).
GRADES = ".grades.jsonl"


@attrs.frozen(kw_only=True)
class Submission:
    """The files that one student has handed in.

    files: by their path below its folder. submitted: when, if that is known. late: whether the platform says that it
    came late. id: the author's number or name on the platform. problem: why it could not be read; then there are no
    files.
    """

    student: str
    source: str = ""
    id: str = ""
    files: Mapping[str, bytes] = attrs.field(factory=dict)
    submitted: datetime.datetime | None = None
    late: bool = False
    problem: str = ""

    def main(self, name: str) -> bytes:
        """The content of the main file; of a notebook, its code.

        The main file is the file of that name, in any folder; otherwise the notebook of that name, the only Python
        file, or the only notebook. Raises Failed if there is none, or if it is empty.
        """
        path = self._main_path(name)
        data, what = self.files[path], "The file"
        if path.lower().endswith(SUFFIX):
            what = "The notebook"
            try:
                data = read_notebook(data).code.encode("utf-8", "surrogatepass")
            except NotebookError as error:
                raise Failed(f"{what} {one_line(path)} cannot be read: {one_line(str(error))}.", "error") from None
        if not data.removeprefix(codecs.BOM_UTF8).strip():
            raise Failed(f"{what} {one_line(path)} is empty.", "error")
        return data

    def note(self, name: str) -> str:
        """Information for the reader about the main file: for a notebook, the lines that are not graded."""
        try:
            path = self._main_path(name)
            return read_notebook(self.files[path]).note if path.lower().endswith(SUFFIX) else ""
        except (Failed, NotebookError):
            return ""

    def beside(self, name: str) -> Mapping[str, bytes]:
        """The files as the main file sees them: by path below its folder, and the main file itself as `name`.

        Files outside that folder keep their path, unless it is taken. Raises Failed when there is no main file.
        """
        main = self._main_path(name)
        folder = main[: main.rfind("/") + 1]
        outside = {path: data for path, data in self.files.items() if not path.startswith(folder)}
        below = {path.removeprefix(folder): data for path, data in self.files.items() if path.startswith(folder)}
        return {**outside, **below, name: self.main(name)}

    def _main_path(self, name: str) -> str:
        if self.problem:
            raise Failed(f"The submission cannot be read: {self.problem}.", "error")
        if name in self.files:
            return name
        names = {path: PurePosixPath(path).name for path in self.files}
        found = (
            [path for path in names if names[path] == name]
            or [path for path in names if names[path] == _notebook_of(name)]
            or [path for path in names if path.lower().endswith(".py")]
            or [path for path in names if path.lower().endswith(SUFFIX)]
        )
        if len(found) == 1:
            return found[0]
        held = ", ".join(map(one_line, sorted(self.files)[:5])) or "nothing"
        raise Failed(f"There is no file {name} in the submission, which holds {held}.", "error")


#: A function that is called with a path, and the reason why it is passed over.
_Tell = Callable[[str, str], object]
_NO_METADATA: Final = GradescopeMetadata()


def find_submissions(
    paths: Iterable[Path], file: str, on_passed_over: Callable[[PassedOver], object] = lambda _: None
) -> list[Submission]:
    """All submissions, by name; those with the same name are numbered: `bob`, `bob (2)`.

    file: the exercise's main file. If there are several paths, each is one submission. A single path, a folder or a
    download of Moodle or Canvas, may contain many: each folder, .py, .ipynb and .zip in it is a submission, and with
    the names of Moodle or Canvas all files of one student together. A folder is one submission itself if it has a
    Moodle name, or if it contains the main file and beside it neither archives, nor folders with a main file of their
    own, nor other notebooks, nor .py files that no other of its .py files imports.

    The output of an earlier grading is no submission. on_passed_over: called for everything else that is none, except
    for files of tools (.git, __pycache__ and the like). Raises SubmissionError for a path that does not exist.
    """

    def tell(path: str, why: str) -> None:
        on_passed_over(PassedOver(path=path, why=why))

    try:
        parts = _parts(list(paths), file, tell)
    except OSError as error:
        raise SubmissionError(f"{error.filename}: {error.strerror}") from None
    owners: dict[tuple[str, str, str], list[_Part]] = {}
    # Reversed: Moodle's texts come before its files, so the files replace them.
    for part in sorted(parts, key=lambda part: (part.name, part.source), reverse=True):
        owners.setdefault(part.owner, []).append(part)
    found: dict[str, Submission] = {}
    students = {student for student, _, _ in owners}
    for (student, number, _), parts in sorted(owners.items()):
        number = number.lstrip("0")
        others = (f"{student} ({n})" for n in itertools.chain([number] if number else [], itertools.count(2)))
        name = student if student not in found else next(each for each in others if each not in students | set(found))
        files = itertools.chain.from_iterable(_opened(part.files) for part in parts)
        read = _read(name, ", ".join(part.source for part in parts), files, tell, has_times=not parts[0].is_canvas)
        found[name] = attrs.evolve(read, id=parts[0].id, late=any(part.late for part in parts))
    return [found[name] for name in sorted(found)]


def read_submission(path: Path, student: str | None = None) -> Submission:
    """Reads one file, folder or archive as a submission. Raises SubmissionError if it cannot be read."""
    part = _part(path, lambda *_: None)
    submission = _read(student or part.owner[0], part.source, part.files)
    if submission.problem:
        raise SubmissionError(f"{path}: {submission.problem}")
    return submission


@attrs.frozen
class _Part:
    """A submission, or one of the parts into which a platform divides it.

    named: the parts of its name on Moodle or Canvas. metadata: Gradescope's. is_canvas: it is from Canvas, which gives
    all files the time of the download.
    """

    name: str
    source: str
    files: Iterable[ArchiveFile]
    named: Named | None = None
    metadata: GradescopeMetadata = _NO_METADATA
    is_canvas: bool = False

    @property
    def owner(self) -> tuple[str, str, str]:
        """The common key of the parts of one submission: (student, number, folder), or (student, "", source).

        The number is padded with zeros, so that keys sort by number.
        """
        if self.metadata.student is None and self.named is not None:
            return self.named.student, self.named.id.zfill(20), os.path.dirname(self.source)
        return self.metadata.student or re.sub(r"(?i)\.(py|ipynb|zip)$", "", self.name) or self.name, "", self.source

    @property
    def id(self) -> str:
        return self.metadata.id or (self.named.id if self.named is not None else "")

    @property
    def late(self) -> bool:
        return self.named is not None and self.named.late


def _parts(paths: Sequence[Path], file: str, tell: _Tell) -> list[_Part]:
    for path in paths:
        path.stat()  # a path that does not exist is the caller's mistake, not a student's
    if len(paths) == 1 and not _is_output(paths[0]):
        if paths[0].is_dir() and not _is_one(paths[0], file):
            return _in_folder(paths[0], tell)
        if found := _in_download(paths[0], file, tell):
            return found
    for path in filter(_is_output, paths):
        tell(str(path), _OUTPUT)
    return [_part(path, tell) for path in paths if not _is_output(path)]


def _in_folder(folder: Path, tell: _Tell) -> list[_Part]:
    """The parts in a folder with many submissions, which may be a download that was unpacked."""
    try:
        metadata = gradescope(folder)
    except SubmissionError as error:
        tell(str(folder / METADATA), f"names and times in it are not known: {error}")
        metadata = {}
    why = {child: _why_not(child) for child in sorted(folder.iterdir())}
    of_canvas = canvas(
        (child.name for child in why if not why[child]), (child.name for child in why if why[child] == _KIND)
    )
    parts = []
    for child in why:
        if not why[child] or child.name in of_canvas:
            parts.append(_part(child, tell, metadata.get(child.name, _NO_METADATA), of_canvas.get(child.name)))
        elif child.name not in (*IGNORED, METADATA):
            tell(str(child), why[child])
    return parts


def _part(
    path: Path, tell: _Tell, metadata: GradescopeMetadata = _NO_METADATA, of_canvas: Named | None = None
) -> _Part:
    """One path as a part. metadata, of_canvas: the platform's data about it."""
    name = os.path.basename(os.path.abspath(path))  # also for "."
    named = of_canvas or moodle(name)
    files = _files(path, tell, named.file if named is not None else "")
    dated = files if metadata.time is None else _at(metadata.time, files)
    return _Part(name, str(path), dated, named, metadata, of_canvas is not None)


def _at(time: datetime.datetime, files: Iterable[ArchiveFile]) -> Iterator[ArchiveFile]:
    return (attrs.evolve(each, time=time) for each in files)


def _is_output(path: Path) -> bool:
    return os.path.exists(path / GRADES)


def _is_submitted(name: str) -> bool:
    """Whether a file of this name is a submission. (Every folder is one.)"""
    return name.lower().endswith((".py", SUFFIX, ".zip")) or moodle(name) is not None


_OUTPUT, _LINK = f"it holds the grades of an earlier grading ({GRADES})", "links are not followed"
_NO_FILE = "it is neither a file nor a folder"
_NAME, _KIND = "its name begins with a dot or with __", f"it is no folder, and no .py, {SUFFIX} or .zip file"


def _why_not(path: Path) -> str:
    """Why something in a folder is no submission; empty if it may be one."""
    if path.name.startswith((".", "__")):
        return _NAME
    if path.is_symlink():
        return _LINK
    if _is_output(path):
        return _OUTPUT
    return "" if path.is_dir() or (path.is_file() and _is_submitted(path.name)) else _KIND


def _children(folder: Path) -> list[Path]:
    """The children of a folder that may be submissions."""
    return [child for child in sorted(folder.iterdir()) if not _why_not(child)]


def _notebook_of(file: str) -> str:
    """The name of the notebook that replaces the main file."""
    return f"{file.removesuffix('.py')}{SUFFIX}"


def _is_one(folder: Path, file: str) -> bool:
    """Whether a folder is one submission; see find_submissions."""
    if moodle(folder.name):
        return True
    children, mains = _children(folder), (file, _notebook_of(file))
    for each in children:
        suffix = each.suffix.lower()
        if moodle(each.name) or suffix == ".zip" or any((each / main).is_file() for main in mains):
            return False
        if suffix == SUFFIX and each.is_file() and each.name not in mains:
            return False
    files = {each.name for each in children if each.is_file()}
    modules = {name: name[: -len(".py")] for name in files if name.lower().endswith(".py")}
    known = set(modules.values())
    words = {name: _imported(folder / name) & known for name in {*modules, *files.intersection(mains)}}
    return not files.isdisjoint(mains) and all(
        any(module in words[other] for other in words if other != name)
        for name, module in modules.items()
        if name != file
    )


def _imported(path: Path) -> set[str]:
    """The words in the import statements of a file or notebook."""
    is_notebook = path.name.lower().endswith(SUFFIX)
    try:
        with path.open("rb") as opened:
            data = opened.read(MOST_BYTES if is_notebook else _MOST_LOOKED_AT)
        code = read_notebook(data).code[:_MOST_LOOKED_AT] if is_notebook else data.decode("utf-8", "replace")
    except (OSError, NotebookError):  # reading the submission itself reports this
        return set()
    imports = re.findall(r"^[ \t]*(?:from|import)\b.*", code, re.MULTILINE)
    return {word for each in imports for word in re.findall(r"\w+", each)}


def _in_download(path: Path, file: str, tell: _Tell) -> list[_Part]:
    """The parts in a download of Moodle or Canvas; empty if the path is none."""
    try:
        held = list(members(open_archive(path, MOST_OF_DOWNLOAD)))
    except Exception:  # no archive, or a damaged one: reading the submission itself reports this
        return []
    names = dict.fromkeys(each.path.partition("/")[0] for each in held if not each.path.startswith((".", "__")))
    of_canvas = canvas(filter(_is_submitted, names), itertools.filterfalse(_is_submitted, names))
    tops: dict[str, list[ArchiveFile]] = {}
    others: dict[str, str] = {}
    for each in held:
        top, _, below = each.path.partition("/")
        named = of_canvas.get(top) or moodle(top)
        if top.startswith((".", "__")):
            others[top] = _NAME
        elif top and (below or named is not None or _is_submitted(top)):
            own = named.file if named is not None else ""
            tops.setdefault(top, []).append(attrs.evolve(each, path=below or own or top))
        else:
            others[top] = _KIND
    if file in tops or not (of_canvas or any(map(moodle, tops))):
        return []
    for top, why in others.items():
        tell(f"{path}:{top}", why)
    return [
        _Part(top, f"{path}:{top}", files, of_canvas.get(top) or moodle(top), is_canvas=top in of_canvas)
        for top, files in tops.items()
    ]


def _read(
    student: str, source: str, files: Iterable[ArchiveFile], tell: _Tell = lambda *_: None, *, has_times: bool = True
) -> Submission:
    """Reads a submission. has_times: whether the times of its files are the time of submission."""
    found: dict[str, bytes] = {}
    links: list[str] = []
    times: list[datetime.datetime] = []
    left, problem = MOST_BYTES, ""
    try:
        for number, each in enumerate(files):
            if each.path.startswith("/") or ".." in each.path.split("/"):
                raise SubmissionError(f"{each.path!r} leads out of it")
            if number == MOST_FILES:
                raise SubmissionError(f"more than {MOST_FILES} files")
            if each.is_link:
                links.append(f"{source}:{each.path}")
                continue
            times += [each.time] if each.time else []
            found[each.path] = _bytes(each, left)
            left -= max(len(found[each.path]), each.packed)
    except Exception as error:  # zipfile raises many kinds of exceptions for a damaged archive
        reason = error.strerror if isinstance(error, OSError) else None
        found, problem = {}, one_line(reason or str(error) or repr(error))
    for path in links[:_MOST_NAMED]:
        tell(path, _LINK)
    if len(links) > _MOST_NAMED:
        tell(source, f"{len(links) - _MOST_NAMED} more of what lies in it are links")
    if not times and os.path.isfile(source):
        times.append(_time(Path(source)))
    newest = max(times, default=None) if has_times else None
    return Submission(student=student, source=source, files=found, submitted=newest, problem=problem)


def _bytes(file: ArchiveFile, most: int) -> bytes:
    data, size = bytearray(), file.packed
    with file.open() as opened:
        while size <= most and (chunk := opened.read(1 << 16)):
            data += chunk
            size = max(size, len(data))
    if size > most:
        raise SubmissionError(f"more than {MOST_BYTES >> 20} MiB")
    return bytes(data)


def _files(path: Path, tell: _Tell, own: str) -> Iterator[ArchiveFile]:
    """The files of a file, folder or archive. own: the name of a file, if it differs from that of the path."""
    if path.is_dir():
        yield from _files_below(path, tell)
    elif path.name.lower().endswith(".zip"):
        # The author of an archive chooses the times of its members, so the archive's own time counts.
        yield from _at(_time(path), members(open_archive(path)))
    else:
        yield ArchiveFile(own or path.name, functools.partial(io.FileIO, path), _time(path))


def _files_below(path: Path, tell: _Tell) -> Iterator[ArchiveFile]:
    folders, others = [path], 0
    for each in _walked(folders):
        if each.name in IGNORED:
            continue
        is_link = each.is_symlink()
        if not is_link and each.is_dir():
            folders.append(each)
        elif not is_link and each.is_file():
            yield ArchiveFile(each.relative_to(path).as_posix(), functools.partial(io.FileIO, each), _time(each))
        else:
            others += 1
            if others <= _MOST_NAMED:
                tell(str(each), _LINK if is_link else _NO_FILE)
    if others > _MOST_NAMED:
        tell(str(path), f"{others - _MOST_NAMED} more of what lies in it are links, or no files")


def _walked(folders: Iterable[Path]) -> Iterator[Path]:
    """Yields the paths in folders; more folders may be added during the walk."""
    left = MOST_ENTRIES
    for folder in folders:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, left + 1)]
        left -= len(names)
        if left < 0:
            raise SubmissionError(f"more than {MOST_ENTRIES:,} files and folders, with those that do not count")
        yield from (folder / name for name in sorted(names))


def _time(path: Path) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.UTC)


def _opened(files: Iterable[ArchiveFile]) -> Iterable[ArchiveFile]:
    """The files; if the only file is an archive, the files in it.

    They get the archive's time, which the platform has set.
    """
    found = list(itertools.islice(files, MOST_FILES + 1))
    if len(found) != 1 or not found[0].path.lower().endswith(".zip"):
        return found
    held = members(open_archive(io.BytesIO(_bytes(found[0], MOST_BYTES))))
    return [attrs.evolve(each, time=found[0].time) for each in held]
