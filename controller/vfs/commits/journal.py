"""What is written down of a commit before it changes anything, so that it can be finished or undone after any end.

Rules: it stands in the caller's state folder, which is the caller's alone (0700) and never within the folder that is
committed to: what a submission brings is no journal. It is on the disk before the first change, and it does not say how
far the commit has come: that is seen from where the inodes are. The phase says which of the two states of the folder
is wanted.
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

_ID: Final = re.compile(r"[0-9a-f]{16}")
_TRIES: Final = 100
HOW_TO_MOVE: Final = "set XDG_STATE_HOME to a folder of yours elsewhere"


class Phase(enum.StrEnum):
    """staging: nothing was changed yet. applying: under way. done, undone: only the commit's own folder is left."""

    STAGING = "staging"
    APPLYING = "applying"
    DONE = "done"
    UNDONE = "undone"


class Act(enum.StrEnum):
    """put: into a free place. swap: in the place of something. take: away. mode: of a folder.

    apart: of a folder that the host does not move, when it is empty, and something comes to its place. part: what was
    in it is taken away (apart.py).
    """

    PUT = "put"
    SWAP = "swap"
    TAKE = "take"
    MODE = "mode"
    PART = "part"
    APART = "apart"


@attrs.frozen(slots=True, kw_only=True)
class Folder:
    """One that is removed, and made again when the commit is undone. path: as a step's."""

    path: str
    mode: int
    uid: int
    gid: int

    @property
    def place(self) -> bytes:
        """The path as the host has it."""
        return os.fsencode(self.path)


@attrs.frozen(slots=True, kw_only=True)
class Step:
    """One change of one place.

    path: below the target, undecodable bytes as surrogates. slot: its number in the commit's own folder. new, old: what
    is to stand there, and what stood there. mode, old_mode: of a folder. folders: that are taken apart, each before
    those in it.
    """

    act: Act
    path: str
    slot: int = 0
    new: Fingerprint | None = None
    old: Fingerprint | None = None
    mode: int = 0
    old_mode: int = 0
    folders: tuple[Folder, ...] = ()

    @property
    def place(self) -> bytes:
        """The path as the host has it."""
        return os.fsencode(self.path)


@attrs.frozen(slots=True, kw_only=True)
class Journal:
    """One commit. folder: the target, with its device and inode. staging: the commit's own folder, below the target."""

    id: str
    phase: Phase
    folder: str
    dev: int
    ino: int
    staging: str
    started: float
    staging_ino: int = 0
    steps: tuple[Step, ...] = ()
    version: int = 1

    def is_of(self, root: boundary.HostRoot) -> bool:
        """Whether it is a commit to that folder. Where that is mounted again its device may have another number."""
        seen = os.fstat(root.fd)
        return seen.st_ino == self.ino and (seen.st_dev == self.dev or os.fsdecode(root.path) == self.folder)

    def on_device(self, dev: int) -> Journal:
        """The same, where its filesystem has that number now: inodes and contents tell what is what."""

        def there(what: Fingerprint | None) -> Fingerprint | None:
            return None if what is None else attrs.evolve(what, dev=dev)

        steps = [attrs.evolve(step, new=there(step.new), old=there(step.old)) for step in self.steps]
        return self if dev == self.dev else attrs.evolve(self, dev=dev, steps=tuple(steps))


class StateFolder:
    """Where the journals of all commits of a user lie. Raises CommitRefused where there can be none.

    target: a folder that it must not lie in.
    """

    def __init__(self, target: boundary.HostRoot | None = None) -> None:
        self.path = _place()
        try:
            os.makedirs(self.path, 0o700, exist_ok=True)
            self._check(target)
        except OSError as error:
            raise CommitRefused([f"no journal can be kept in {self.path}: {error.strerror}: {HOW_TO_MOVE}"]) from error

    def _check(self, target: boundary.HostRoot | None) -> None:
        """Whether only the caller can write there."""
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
                told = os.fsdecode(target.path)
                raise CommitRefused([f"the journal would lie in {told}, which is committed to: {HOW_TO_MOVE}"])
            if above == os.path.dirname(above):
                return
            above = os.path.dirname(above)

    # --- journals ---

    def save(self, journal: Journal) -> None:
        """Whole or not at all; and on the disk when this returns, as soon as anything may have been changed."""
        is_lasting = journal.phase is not Phase.STAGING
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
        """CommitRefused for one that is not there or makes no sense."""
        if not _ID.fullmatch(ident):
            raise CommitRefused([f"{ident!r} is no id of a commit"])
        try:
            with open(os.open(self._file(ident), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            raise CommitRefused([f"there is no unfinished commit {ident}"]) from None
        try:
            journal: Journal = _converter().loads(text, Journal)
        except Exception as error:
            raise CommitRefused([f"the journal {self._file(ident)} cannot be read: {error!r}"]) from error
        if journal.id != ident or journal.version != 1:
            raise CommitRefused([f"the journal {self._file(ident)} is of another commit, or of a later proxybox"])
        return journal

    def forget(self, journal: Journal) -> None:
        """The commit is over, and nothing of it is left."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._file(journal.id))

    def ids(self) -> list[str]:
        """Of all journals that are kept."""
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
        """No other commit to that folder is under way meanwhile. CommitRefused when one is.

        By a file of the user's own, and by the folder itself, for other users, where its filesystem has such locks.
        """
        seen = os.fstat(target.fd)
        path = os.path.join(self.path, f"{seen.st_dev:x}-{seen.st_ino:x}.lock")
        with contextlib.ExitStack() as held:
            fd = self._lock_file(path)
            held.callback(os.close, fd)
            held.callback(_remove, path)
            told = os.fsdecode(target.path)
            try:
                folder = os.open(f"/proc/self/fd/{target.fd}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            except OSError as error:
                raise CommitRefused([f"{told} cannot be read: {error.strerror}"]) from error
            held.callback(os.close, folder)
            try:
                fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                why = "another user's commit is under way, or another program holds a lock of it: lslocks tells which"
                raise CommitRefused([f"{told} is locked (flock): {why}"]) from None
            except OSError:  # no such locks there
                pass
            yield

    def _lock_file(self, path: str) -> int:
        """The lock file, held. It is removed by whoever held it, so it may be another by the time it is locked."""
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
    with contextlib.suppress(OSError):  # one that stays is held by nobody
        os.unlink(path)


def _busy() -> CommitRefused:
    return CommitRefused(["another commit to this folder is under way: commit again when it has ended"])


def _place() -> str:
    """$XDG_STATE_HOME/proxybox/commits."""
    place = state_folder("commits")
    if place is None:
        raise CommitRefused([f"there is no home folder to keep a journal in: {HOW_TO_MOVE}"])
    return place


def new_journal(ident: str, target: boundary.HostRoot, staging: bytes) -> Journal:
    """Of a commit that begins now."""
    seen = os.fstat(target.fd)
    return Journal(
        id=ident, phase=Phase.STAGING, folder=os.fsdecode(target.path), dev=seen.st_dev, ino=seen.st_ino,
        staging=os.fsdecode(staging), started=time.time(),
    )  # fmt: skip


@functools.cache
def _converter() -> Any:
    """Loaded by those alone who commit."""
    from cattrs.preconf.json import make_converter

    return make_converter()
