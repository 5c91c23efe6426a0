"""Reviews of random changes to random trees, with changes by the host meanwhile, and the states that must follow.

The expected state is computed from what the review shows: texts are assembled from the lines of the diffs, and not by
the code that writes them.
"""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from proxybox.controller.abi import RENAME_EXCHANGE
from proxybox.controller.boxes.worldbuilding import Changed
from proxybox.controller.vfs import namei
from proxybox.controller.vfs.commits import keeping, recovering
from proxybox.controller.vfs.commits.refusals import CommitFailed, CommitRefused, CommitUnfinished
from proxybox.controller.vfs.host import boundary
from proxybox.controller.vfs.overlay.collecting import changes_of
from proxybox.controller.vfs.overlay.mount import OverlayDirectory, OverlayMount
from proxybox.review import Item, Review, ReviewRefused
from tests.vfs.commitscenes import Guest, State, killed_at, on_host, overlay_over

NAMES = ("a", "b", "c", "d")
OWN = ".proxybox-commit-"


class Editor(Guest):
    """A guest that also edits lines, and writes texts and binary files."""

    def text(self, path: bytes, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        file = namei.open_file(self._tree, path, self._start, self._me, flags, 0o644)
        file.write(data)
        file.close()

    def edit(self, path: bytes, choice: random.Random) -> None:
        file = namei.open_file(self._tree, path, self._start, self._me, os.O_RDONLY, 0)
        data = file.read(1 << 20)
        file.close()
        assert isinstance(data, bytes)
        self.text(path, edited(data, choice))


def edited(data: bytes, choice: random.Random) -> bytes:
    """Returns the text with some lines changed, removed and inserted."""
    lines = data.split(b"\n")
    for _ in range(choice.randint(1, 5)):
        at = choice.randrange(len(lines) + 1)
        kind = choice.randrange(3)
        if kind == 0:
            lines.insert(at, b"inserted %d" % choice.randrange(10**9))
        elif at < len(lines):
            lines[at : at + 1] = [] if kind == 1 else [b"changed %d" % choice.randrange(10**9)]
    return b"\n".join(lines)


def a_path(choice: random.Random) -> str:
    return "/".join(choice.choice(NAMES) for _ in range(choice.randint(1, 3)))


def a_text(choice: random.Random) -> bytes:
    count = choice.choice((0, 1, 3, 40, 60, 60))
    lines = [b"line %d of %d" % (number, choice.randrange(5)) for number in range(count)]
    end = choice.choice((b"\n", b""))
    return b"\n".join(lines) + end + (b"%d" % choice.randrange(10**9) if choice.random() < 0.7 else b"")


def is_inside(folder: Path, path: Path) -> bool:
    """Returns whether a change of this path stays in the folder: the host's links may lead out of it."""
    where = os.path.realpath(path.parent) + "/"
    return where.startswith(os.path.realpath(folder) + "/") and not os.path.islink(path)


def plant(folder: Path, choice: random.Random) -> None:
    """Makes a random tree on the host."""
    for _ in range(choice.randint(2, 9)):
        path = folder / a_path(choice)
        kind = choice.choice(("text", "text", "text", "text", "binary", "folder", "link", "hidden"))
        with suppress(OSError):
            if not is_inside(folder, path):
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            if kind == "folder":
                path.mkdir()
            elif kind == "link":
                path.symlink_to(choice.choice((*NAMES, "/nonexistent/x", "../x")))
            elif kind == "hidden":
                (path.parent / ".hidden").write_bytes(b"hidden %d" % choice.randrange(10**9))
            else:
                data = a_text(choice) if kind == "text" else b"\0%d" % choice.randrange(10**9)
                with path.open("xb") as file:
                    file.write(data)


def names_in(overlay: OverlayMount) -> list[str]:
    """Returns all paths that the box sees in folders that it may read."""
    found, left = [], [("", overlay.root)]
    while left:
        where, directory = left.pop()
        with suppress(OSError):
            for name, _, _ in directory.entries():
                found.append(where + os.fsdecode(name))
                node = directory.lookup(name)
                if isinstance(node, OverlayDirectory):
                    left.append((found[-1] + "/", node))
    return found


def box_steps(guest: Editor, overlay: OverlayMount, choice: random.Random) -> None:
    """Makes random calls of a program, mostly on existing paths; some of them fail."""
    there = sorted(names_in(overlay))
    for _ in range(choice.randint(3, 12)):
        name = choice.choice(("write", "text", "edit", "edit", "edit", "mkdir", "unlink", "rmdir", "symlink", "link",
                              "rename", "rename", "chmod", "rmtree"))  # fmt: skip
        path = choice.choice(there) if there and choice.random() < 0.6 else a_path(choice)
        if name == "text":
            guest("text", path, a_text(choice))
        elif name == "edit":
            guest("edit", choice.choice(there) if there else path, choice)
        elif name == "symlink":
            guest("symlink", choice.choice((*NAMES, "../a", "/etc/passwd", "../../../x")), path)
        elif name == "link":
            guest("link", path, a_path(choice))
        elif name == "rename":
            guest("rename", path, a_path(choice), choice.choice((0, 0, RENAME_EXCHANGE)))
        elif name == "chmod":
            guest("chmod", path, choice.choice((0o755, 0o700, 0o600, 0o644)))
        elif name == "rmtree":
            for inner in ("/".join((path, one)) for one in NAMES):
                guest("unlink", inner)
                guest("rmdir", inner)
            guest("rmdir", path)
        else:
            guest(name, path)


class Meddler:
    """Changes that others on the host make meanwhile. events: the paths of each change; words: texts that must stay."""

    def __init__(self, folder: Path, choice: random.Random) -> None:
        self._folder, self._choice = folder, choice
        self.events: list[set[str]] = []
        self.words: set[bytes] = set()

    def meddle(self) -> None:
        choice = self._choice
        before = on_host(self._folder)
        there = [path for path in before if OWN not in path]
        name = choice.choice((*there, a_path(choice), a_path(choice)))
        path = self._folder / name
        word = b"the host's %d" % choice.randrange(10**12)
        kind = choice.choice(("in place", "same size and time", "another", "unlink", "mkdir", "rename", "chmod"))
        if not is_inside(self._folder, path):
            return
        with suppress(OSError):
            if kind == "mkdir":
                path.mkdir()
            elif kind == "chmod":
                path.chmod(choice.choice((0o600, 0o640, 0o700)))
            elif kind == "unlink":
                self._forget(path)
                path.unlink()
            elif kind == "rename":
                other = a_path(choice)
                if is_inside(self._folder, self._folder / other) and not (self._folder / other).exists():
                    path.rename(self._folder / other)
            elif kind == "another":
                self._forget(path)
                if not path.is_dir():
                    path.unlink(missing_ok=True)
                    path.write_bytes(word)
                    self.words.add(word)
            elif path.is_file():
                self._forget(path)
                seen = path.stat()
                if kind == "same size and time":
                    word = word.ljust(seen.st_size, b"=")[: seen.st_size]
                with path.open("r+b") as file:
                    file.write(word)
                    file.truncate(len(word))
                if kind == "same size and time":
                    os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
                if len(word) > 20:
                    self.words.add(word)
        after = on_host(self._folder)
        self.events.append({each for each in {*before, *after} if before.get(each) != after.get(each)})

    def touched(self, since: int) -> set[str]:
        """Returns the paths that events from number `since` on have changed."""
        return set().union(*self.events[since:])

    def _forget(self, path: Path) -> None:
        if path.is_file():
            self.words.discard(path.read_bytes())


def patched(old: bytes, hunks: list[tuple[str, ...]]) -> bytes:
    """Returns a text with the shown hunks applied, as patch(1) would apply them."""
    lines = old.split(b"\n")
    ends = old.endswith(b"\n")
    if ends:
        lines.pop()
    made: list[tuple[bytes, bool]] = []
    source = [(line, True) for line in lines]
    if source and not ends:
        source[-1] = source[-1][0], False
    if not old:
        source = []
    at = 0
    for hunk in hunks:
        found = re.fullmatch(r"@@ -(\d+),(\d+) \+(\d+),(\d+) @@", hunk[0])
        assert found
        first = int(found[1]) - (int(found[2]) > 0)
        made += source[at:first]
        at = first
        body = list(hunk[1:])
        for number, line in enumerate(body):
            if line.startswith("\\"):
                continue
            has_end = not (number + 1 < len(body) and body[number + 1].startswith("\\"))
            shown = line[1:].encode(), has_end
            if line[0] in " -":
                assert source[at] == shown, "what was shown is what stood there"
                at += 1
            if line[0] in " +":
                made.append(shown)
        assert first + int(found[2]) == at
    made += source[at:]
    return b"".join(line + (b"\n" if has_end else b"") for line, has_end in made)


def expected(before: State, review: Review) -> State:
    """Returns the state after the commit of the accepted hunks, computed from what the review shows of them."""
    state = dict(before)
    chosen = [(item, review.accepted(item)) for item in review if review.accepted(item)]
    for item, _ in chosen:
        if item.change.kind == "deleted":
            state.pop(item.change.name)
    for item, numbers in chosen:
        if item.change.kind != "deleted":
            state[item.change.name] = as_shown(item, numbers, before.get(item.change.name))
    return state


def as_shown(item: Item, numbers: frozenset[int], was: tuple[str, int, bytes] | None) -> tuple[str, int, bytes]:
    change, hunks = item.change, [hunk for hunk in item.hunks if hunk.number in numbers]
    if change.type == "symlink":
        shown = next(line for hunk in hunks for line in hunk.lines if line.startswith("+leads to "))
        return "link", 0o777, shown.removeprefix("+leads to ").encode()
    mode = change.mode
    if change.kind == "modified" and change.old_mode != change.mode and change.type == "file":
        has_mode = any(line == f"+mode {mode:04o}" for hunk in hunks for line in hunk.lines)
        mode = mode if has_mode else change.old_mode or 0
    if change.type == "dir":
        return "folder", mode, b""
    old = was[2] if was is not None and change.kind == "modified" else b""
    texts = [hunk.lines for hunk in hunks if hunk.lines and hunk.lines[0].startswith("@@")]
    digests = [line for hunk in hunks for line in hunk.lines if line.startswith("+(") and "SHA-256" in line]
    if digests:
        assert change.content is not None
        assert hashlib.sha256(change.content).hexdigest() in digests[0]
        return "file", mode, change.content
    return "file", mode, patched(old, texts)


class Case:
    """One tree, one box, one review."""

    def __init__(self, top: Path, seed: int) -> None:
        self.choice = random.Random(seed)
        self.folder = top / "folder"
        self.folder.mkdir()
        plant(self.folder, self.choice)
        self.meddler = Meddler(self.folder, self.choice)
        with overlay_over(self.folder) as overlay:
            guest = Editor(overlay)
            box_steps(guest, overlay, self.choice)
            self._perhaps_meddle(0.15)
            box_steps(guest, overlay, self.choice)
            changes = changes_of(overlay)
            assert overlay.host is not None
            self.review = Review([Changed(str(self.folder), True, tuple(changes), 0, overlay.host.host.identity)])
        self._perhaps_meddle(0.15)
        self._decide()

    @property
    def in_part(self) -> int:
        """The number of changes that are accepted in part."""
        return sum(0 < len(self.review.accepted(item)) < len(item.hunks) for item in self.review)

    def _perhaps_meddle(self, share: float) -> None:
        while self.choice.random() < share:
            self.meddler.meddle()

    def _decide(self) -> None:
        choice, how = self.choice, self.choice.random()
        if how < 0.2:
            self.review.accept_all()
            return
        for item in self.review:
            if choice.random() < 0.8:
                some = [hunk.number for hunk in item.hunks if choice.random() < 0.6]
                with suppress(ReviewRefused):
                    self.review.accept(item, None if len(item.hunks) == 1 or choice.random() < 0.2 else some)
        for item in self.review:
            if choice.random() < 0.1:
                self.review.reject(item)

    def run(self) -> str:
        """Commits, perhaps while others make changes or until a kill, and undoes the commit; checks all results."""
        choice = self.choice
        before = on_host(self.folder)
        events = len(self.meddler.events)
        self.wanted = expected_or_none(before, self.review)
        how = choice.random()
        if how < 0.1:
            return self._killed(before)
        if how < 0.35:
            with meddling_at(choice.randint(1, 6), self.meddler):
                ended = self._commit()
        else:
            ended = self._commit()
        meddled = self.meddler.touched(events)
        now = shown(on_host(self.folder))
        if ended == "written":
            assert self.wanted is not None, "what was shown is no longer there"
            self._agree(now, self.wanted, meddled)
        elif ended == "refused":
            self._agree(now, before, meddled)
            if not self.meddler.events and not self._may_be_refused():
                raise AssertionError(f"refused: {self.told}")
        else:
            assert len(self.meddler.events) > events
            ended = self._settled()
        self._words_stay()
        if ended == "written" and not self.ident:
            return "nothing accepted"
        if ended == "written":
            ended += ", " + self._undo(before, len(self.meddler.events) > events)
        return ended

    def _may_be_refused(self) -> bool:
        return any(word in self.told for word in ("link", "hidden", "nothing was accepted"))

    def _commit(self) -> str:
        self.ident = self.told = ""
        try:
            self.ident = self.review.commit().id
        except (CommitRefused, CommitFailed, ReviewRefused) as error:
            self.told = str(error)
            return "refused"
        except CommitUnfinished as error:
            self.told = str(error)
            return "unfinished"
        return "written"

    def _agree(self, now: State, wanted: State, meddled: set[str]) -> None:
        """Checks that each path is as wanted, except those that others have changed meanwhile."""
        other = [each for each in {*now, *wanted} if now.get(each) != wanted.get(each)]
        wrong = [each for each in other if not under(each, meddled)]
        assert not wrong, [(each, now.get(each), wanted.get(each)) for each in wrong]

    def _words_stay(self) -> None:
        """Checks that the texts which others on the host have written meanwhile are still in the folder."""
        held = {content for kind, _, content in on_host(self.folder).values() if kind == "file"}
        assert self.meddler.words <= held, self.meddler.words - held

    def _settled(self) -> str:
        for journal in recovering.journals():
            for go_on in (recovering.undo, recovering.resume):
                with suppress(CommitRefused, CommitUnfinished):
                    go_on(journal.id)
                    break
        return "unfinished"

    def _undo(self, before: State, was_meddled: bool) -> str:
        events = len(self.meddler.events)
        self._perhaps_meddle(0.35)
        as_it_is = shown(on_host(self.folder))
        how = self.choice.random()
        if how < 0.1 and not was_meddled:
            killed_at(self.choice.randint(1, 25), partial(quietly, recovering.undo, self.ident))
        elif how < 0.2:
            with meddling_at(self.choice.randint(1, 6), self.meddler), suppress(CommitRefused, CommitUnfinished):
                recovering.undo(self.ident)
        refused = False
        for journal in (*recovering.journals(), *keeping.kept_journals()):
            try:
                recovering.undo(journal.id)
            except (CommitRefused, CommitUnfinished):
                refused = True
        now = shown(on_host(self.folder))
        self._words_stay()
        if refused:
            assert self.meddler.events[events:] or was_meddled, "nobody has changed anything since"
            if not was_meddled and how >= 0.2:
                assert now == as_it_is, "a refused undo changes nothing"
                assert keeping.kept_journals(), "and can be tried again"
            return "undo refused"
        if not was_meddled:
            self._agree(now, shown(before), self.meddler.touched(events))
        return "undone"

    def _killed(self, before: State) -> str:
        """Kills the commit at one of its calls; then it is resumed or undone completely."""
        number = self.choice.randint(1, 40)
        was_killed = killed_at(number, partial(quietly, self.review.commit))
        finishes = self.choice.random() < 0.5
        for journal in recovering.journals():
            forward = journal.phase == "done" or (journal.phase == "applying" and finishes)
            if forward:
                recovering.resume(journal.id)
            else:
                recovering.undo(journal.id)
        now = shown(on_host(self.folder))
        assert now in (shown(before), self.wanted)
        if keeping.kept_journals():
            assert now == self.wanted
            (journal,) = keeping.kept_journals()
            recovering.undo(journal.id)
            assert shown(on_host(self.folder)) == shown(before)
        self._words_stay()
        return "killed" if was_killed else "not killed"


def quietly(work: Callable[..., object], *arguments: object) -> None:
    with suppress(CommitRefused, CommitFailed, ReviewRefused, CommitUnfinished):
        work(*arguments)


def shown(state: State) -> State:
    return {path: value for path, value in state.items() if not path.startswith(OWN) and f"/{OWN}" not in path}


def under(path: str, touched: set[str]) -> bool:
    return any(path == each or path.startswith(each + "/") or each.startswith(path + "/") for each in touched)


def expected_or_none(before: State, review: Review) -> State | None:
    """Returns None when the host has changed so much that the accepted hunks no longer fit."""
    try:
        return expected(before, review)
    except (KeyError, AssertionError, IndexError):
        return None


@contextmanager
def meddling_at(number: int, meddler: Meddler) -> Iterator[None]:
    """Lets others change something in the folder before the rename with this number."""
    rename, count = boundary.rename, [0]

    def watched(*arguments: object) -> None:
        count[0] += 1
        if count[0] == number:
            meddler.meddle()
        rename(*arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(boundary, "rename", watched)
        yield


def remove(folder: Path) -> None:
    """Removes a folder, also with folders in it that nobody may enter."""
    for where, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(os.path.join(where, name)):
                os.chmod(os.path.join(where, name), stat.S_IRWXU)
    shutil.rmtree(folder)


def one(top: Path, seed: int, tally: Callable[[Case], object] = lambda case: None) -> str:
    """Runs one case in a folder of its own, and returns how it ended.

    Raises AssertionError. tally: called with the case.
    """
    case = Case(top, seed)
    tally(case)
    try:
        return case.run()
    finally:
        keeping.prune(0)
        remove(case.folder)
        shutil.rmtree(os.path.join(os.environ["XDG_STATE_HOME"], "proxybox", "commits"), ignore_errors=True)
