"""The journal of a commit, written before the first change, so that an interrupted commit can be finished or undone.

Rules: the journal is in the caller's state folder, which only the caller can use (0700) and which is never within the
folder that is committed to, so that a submission cannot contain a journal. It is on the disk before the first change.
It does not record how far the commit has come: that is determined by where the inodes are. The phase says which of the
two states of the folder is wanted.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import functools
import os
import re
import stat as st
import time
from collections.abc import Iterator
from typing import Any, Final

import attrs

from proxybox.controller.statefolder import state_folder
from proxybox.controller.vfs.commits.fingerprints import Fingerprint
from proxybox.controller.vfs.commits.refusals import CommitRefused
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.host.attributes import Attributes

_ID: Final = re.compile(r"[0-9a-f]{16}")
_TRIES: Final = 100
HOW_TO_MOVE: Final = "set XDG_STATE_HOME to a folder of yours elsewhere"


class CommitPhase(enum.StrEnum):
    """The phase of a commit.

    staging: nothing was changed yet. applying: under way, to be finished or undone. done, undone: only the commit's own
    folder is left.
    """

    STAGING = "staging"
    APPLYING = "applying"
    DONE = "done"
    UNDONE = "undone"


class Act(enum.StrEnum):
    """What a step does.

    put: puts an entry into a free place. swap: replaces an entry by another one. take: takes an entry away. mode: sets
    the mode of a folder. apart: removes the empty folders of one that the host does not move, and puts the new entry in
    its place if there is one. part: takes away an entry of such a folder (apart.py).
    """

    PUT = "put"
    SWAP = "swap"
    TAKE = "take"
    MODE = "mode"
    PART = "part"
    APART = "apart"


@attrs.frozen(slots=True, kw_only=True)
class RemovedFolder:
    """A folder that is removed, and made again when the commit is undone. path: like a step's."""

    path: str
    mode: int
    uid: int
    gid: int
    attributes: Attributes = ()

    @property
    def place(self) -> bytes:
        """The path as the host has it, in bytes."""
        return os.fsencode(self.path)


@attrs.frozen(slots=True, kw_only=True)
class Step:
    """One change of one place.

    path: below the target; undecodable bytes as surrogates. slot: its number in the commit's own folder. new, old: the
    new entry of the place, and the old one. mode, old_mode: the new and the old mode of a folder. folders: the folders
    that are taken apart, each before those in it.
    """

    act: Act
    path: str
    slot: int = 0
    new: Fingerprint | None = None
    old: Fingerprint | None = None
    mode: int = 0
    old_mode: int = 0
    folders: tuple[RemovedFolder, ...] = ()

    @property
    def place(self) -> bytes:
        """The path as the host has it, in bytes."""
        return os.fsencode(self.path)


@attrs.frozen(slots=True, kw_only=True)
class Journal:
    """The journal of one commit.

    folder: the target, with its device and inode (`dev`, `ino`). staging: the commit's own folder, below the target.
    keeps: whether removed entries are kept when the commit is done, so that it can be undone. together: the ids of all
    commits that were done together with this one and are undone with it, itself included. kept_bytes: the size of the
    kept entries.
    """

    id: str
    phase: CommitPhase
    folder: str
    dev: int
    ino: int
    staging: str
    started: float
    staging_ino: int = 0
    steps: tuple[Step, ...] = ()
    keeps: bool = False
    together: tuple[str, ...] = ()
    kept_bytes: int = 0
    version: int = 1

    @property
    def is_kept(self) -> bool:
        """Whether the commit is done, and can be undone."""
        return self.keeps and self.phase is CommitPhase.DONE

    def is_of(self, root: boundary.HostRoot) -> bool:
        """Whether it is the journal of a commit to that folder, whose device number may differ after a new mount."""
        seen = os.fstat(root.fd)
        return seen.st_ino == self.ino and (seen.st_dev == self.dev or os.fsdecode(root.path) == self.folder)

    def on_device(self, dev: int) -> Journal:
        """The same journal with another device number of its filesystem: inodes and contents identify everything."""

        def there(what: Fingerprint | None) -> Fingerprint | None:
            return None if what is None else attrs.evolve(what, dev=dev)

        steps = [attrs.evolve(step, new=there(step.new), old=there(step.old)) for step in self.steps]
        return self if dev == self.dev else attrs.evolve(self, dev=dev, steps=tuple(steps))


class StateFolder:
    """The folder of the journals of all commits of a user. target: a folder that must not contain the state folder.

    Raises CommitRefused when no journal can be kept.
    """

    def __init__(self, target: boundary.HostRoot | None = None) -> None:
        self.path = _place()
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self._check(target)
        except OSError as error:
            raise CommitRefused([f"no journal can be kept in {self.path}: {error.strerror}: {HOW_TO_MOVE}"]) from error

    def _check(self, target: boundary.HostRoot | None) -> None:
        """Checks that only the caller can write there."""
        for folder in (os.path.dirname(self.path), self.path):
            seen = os.lstat(folder)
            if not st.S_ISDIR(seen.st_mode) or seen.st_uid != os.geteuid():
                raise CommitRefused([f"{folder} is not a folder of yours, so no journal is kept there: {HOW_TO_MOVE}"])
            if st.S_IMODE(seen.st_mode) & 0o022:
                os.chmod(folder, 0o700)
        os.chmod(self.path, 0o700)
        if target is None:
            return
        top = os.fstat(target.fd)
        above = os.path.realpath(self.path)
        while True:
            seen = os.stat(above)
            if (seen.st_dev, seen.st_ino) == (top.st_dev, top.st_ino):
                shown_path = os.fsdecode(target.path)
                raise CommitRefused([f"the journal would lie in {shown_path}, which is committed to: {HOW_TO_MOVE}"])
            if above == os.path.dirname(above):
                return
            above = os.path.dirname(above)

    # --- journals ---

    def save(self, journal: Journal) -> None:
        """Writes the journal atomically.

        When the target may already have been changed, the journal is on the disk when this returns.
        """
        is_lasting = journal.phase is not CommitPhase.STAGING
        temporary = os.path.join(self.path, f"{journal.id}.new")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(temporary, flags, 0o600), "wb") as file:
                file.write(_converter().dumps(journal).encode())
                file.flush()
                if is_lasting:
                    os.fsync(file.fileno())
            os.rename(temporary, self._file(journal.id))
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
        if is_lasting:
            self._write_out()

    def load(self, ident: str) -> Journal:
        """Reads a journal. Raises CommitRefused when it is missing or invalid."""
        if not _ID.fullmatch(ident):
            raise CommitRefused([f"{ident!r} is no id of a commit"])
        try:
            with open(os.open(self._file(ident), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            raise CommitRefused(
                [f"there is no unfinished commit {ident}, and none of which a backup is kept"]
            ) from None
        try:
            journal: Journal = _converter().loads(text, Journal)
        except Exception as error:
            raise CommitRefused([f"the journal {self._file(ident)} cannot be read: {error!r}"]) from error
        if journal.id != ident or journal.version != 1:
            raise CommitRefused([f"the journal {self._file(ident)} is of another commit, or of a later proxybox"])
        return journal

    def forget(self, journal: Journal) -> None:
        """Removes the journal of a commit that has left no files."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file(journal.id))

    def ids(self) -> list[str]:
        """The ids of all journals in the folder."""
        return sorted(
            name.removesuffix(".json")
            for name in os.listdir(self.path)
            if name.endswith(".json") and _ID.fullmatch(name.removesuffix(".json"))
        )

    def _file(self, ident: str) -> str:
        return os.path.join(self.path, f"{ident}.json")

    def _write_out(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    # --- exclusion ---

    @contextlib.contextmanager
    def alone(self, target: boundary.HostRoot) -> Iterator[None]:
        """Prevents other commits to that folder in the context. Raises CommitRefused when one is under way.

        A lock file prevents the user's own commits. A lock of the folder itself prevents those of other users, where
        its filesystem has such locks.
        """
        seen = os.fstat(target.fd)
        path = os.path.join(self.path, f"{seen.st_dev:x}-{seen.st_ino:x}.lock")
        with contextlib.ExitStack() as held:
            fd = self._lock_file(path)
            held.callback(os.close, fd)
            held.callback(_remove, path)
            shown_path = os.fsdecode(target.path)
            try:
                folder = os.open(f"/proc/self/fd/{target.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise CommitRefused([f"{shown_path} cannot be read: {error.strerror}"]) from error
            held.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                why = "another user's commit is under way, or another program holds a lock of it: lslocks tells which"
                raise CommitRefused([f"{shown_path} is locked (flock): {why}"]) from None
            except OSError:  # the filesystem has no such locks
                pass
            yield

    def _lock_file(self, path: str) -> int:
        """A descriptor of the lock file, locked.

        The last holder removes the file, so another file may have its name by the time it is locked.
        """
        for _ in range(_TRIES):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise _busy() from None
            except FileNotFoundError:
                pass
            os.close(fd)
        raise _busy()


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # if the file stays, nobody holds it
        os.unlink(path)


def _busy() -> CommitRefused:
    return CommitRefused(["another commit to this folder is under way: commit again when it has ended"])


def _place() -> str:
    """The path of the folder for journals: $XDG_STATE_HOME/proxybox/commits."""
    place = state_folder("commits")
    if place is None:
        raise CommitRefused([f"there is no home folder to keep a journal in: {HOW_TO_MOVE}"])
    return place


def new_journal(
    ident: str, target: boundary.HostRoot, staging: bytes, *, together: tuple[str, ...] = (), kept_bytes: int = 0
) -> Journal:
    """The journal of a commit that begins now. together: as in the Journal; empty when nothing is to be kept."""
    seen = os.fstat(target.fd)
    return Journal(
        id=ident, phase=CommitPhase.STAGING, folder=os.fsdecode(target.path), dev=seen.st_dev, ino=seen.st_ino,
        staging=os.fsdecode(staging), started=time.time(), keeps=bool(together), together=together,
        kept_bytes=kept_bytes,
    )  # fmt: skip


@functools.cache
def _converter() -> Any:
    """The JSON converter. cattrs is only imported by callers that commit."""
    from cattrs.preconf.json import make_converter

    return make_converter()
