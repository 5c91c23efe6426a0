"""The review of a run's changes: which are accepted, what they need of each other, and how they are committed."""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress

import attrs

from proxybox.controller.boxes.worldbuilding import Changed, commit_and_keep_all
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.vfs.commits.committing import Committed
from proxybox.controller.vfs.commits.leading import LinkWalk, TooManySteps
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.policies.errors import ProxyboxError
from proxybox.review.items import Item, hunks_of
from proxybox.review.lines import DiffBudget
from proxybox.terminal.harmless import on_one_line

_Key = tuple[int, bytes, bool]  # the number of the overlay, the path, whether it is a deletion


class ReviewRefused(ProxyboxError):
    """A change cannot be accepted, or a review cannot be committed; the text says why. Nothing was written."""


class Review:
    """The changes of a run. They are accepted in whole or in part, and then committed.

    items: one for each change that could be written, deletions first. At first, nothing is accepted. Rules: accepting a
    change also accepts the new folders that contain it, and nothing else. If it needs a deletion, that has to be
    accepted before: a folder can only be deleted with its whole content, and a file can only replace something that is
    deleted. Rejecting a change also rejects the changes that need it.
    """

    def __init__(self, overlays: Iterable[Changed] = ()) -> None:
        self._overlays = tuple(attrs.evolve(each, changes=_shown(each)) for each in overlays if each.source is not None)
        self._overlays = tuple(each for each in self._overlays if each.changes)
        self._seal = seal(self._overlays)
        self._numbers: dict[_Key, int] = {}
        self._where: list[_Key] = []
        self.items = self._made()
        self._accepted: dict[int, frozenset[int]] = {}
        self._needed_by: dict[int, list[int]] = {}
        for item in self.items:
            for other in self._needs(item):
                self._needed_by.setdefault(other, []).append(item.number)
        self._is_done = False

    def __iter__(self) -> Iterator[Item]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def __repr__(self) -> str:
        return f"<Review {self.id}: {len(self._accepted)} of {len(self.items)} changes accepted>"

    @property
    def id(self) -> str:
        """16 hexadecimal digits that depend on everything in the review."""
        return self._seal[:16]

    @property
    def overlays(self) -> tuple[Changed, ...]:
        """The changes that are reviewed, by the folders that they are for."""
        return self._overlays

    # --- accepting and rejecting ---

    def accepted(self, item: Item | int) -> frozenset[int]:
        """The numbers of the accepted hunks of an item. item: the item or its number."""
        return self._accepted.get(self._item(item).number, frozenset())

    def accept(self, item: Item | int, hunks: Iterable[int] | None = None) -> None:
        """Accepts an item, or these hunks of it, in addition to those that are accepted already.

        New folders that contain the item are accepted, too. Raises ReviewRefused, with nothing accepted, if the item
        needs a deletion that is not accepted or can never be written, and for a hunk that does not exist.
        """
        item = self._item(item)
        chosen = self._hunks(item, hunks)
        for folder in self._folders_for(item):
            self._accepted[folder.number] = self._hunks(folder, None)
        if chosen:
            self._accepted[item.number] = self.accepted(item) | chosen

    def _folders_for(self, item: Item) -> list[Item]:
        """The new folders that would be accepted with an item. Raises ReviewRefused if it cannot be accepted."""
        left, folders = [item], []
        while left:
            each = left.pop()
            if each.refusal:
                raise ReviewRefused(f"{each.name}: {each.refusal}")
            for number in self._needs(each):
                other = self.items[number - 1]
                if number in self._accepted:
                    continue
                if other.change.kind == "deleted":
                    raise ReviewRefused(f"{each.name}: accept first that {other.name} is deleted")
                left.append(other)
                folders.append(other)
        return folders

    def reject(self, item: Item | int, hunks: Iterable[int] | None = None) -> None:
        """Rejects an item, or these hunks of it. If nothing of it is left, the items that need it are rejected, too."""
        item = self._item(item)
        left = self.accepted(item) - self._hunks(item, hunks)
        if left:
            self._accepted[item.number] = left
            return
        gone = [item.number]
        while gone:
            number = gone.pop()
            self._accepted.pop(number, None)
            gone.extend(other for other in self._needed_by.get(number, ()) if other in self._accepted)

    def accept_all(self) -> tuple[Item, ...]:
        """Accepts everything that can be accepted, and returns the items that cannot."""
        refused = []
        for item in self.items:
            try:
                self.accept(item)
            except ReviewRefused:
                refused.append(item)
        return tuple(refused)

    def reject_all(self) -> None:
        """Rejects everything."""
        self._accepted.clear()

    def inside(self, item: Item | int) -> list[Item]:
        """The items in the folder of this item that need it: those that are added in an added folder."""
        found, left = [], [self._item(item).number]
        while left:
            for number in self._needed_by.get(left.pop(), ()):
                found.append(self.items[number - 1])
                left.append(number)
        return sorted(found, key=lambda each: each.number)

    def why_not(self, item: Item | int) -> str:
        """Why an item cannot be accepted at the moment; empty if it can."""
        try:
            self._folders_for(self._item(item))
        except ReviewRefused as error:
            return str(error)
        return ""

    # --- the commit ---

    def commit(self) -> Committed:
        """Writes the accepted changes, and nothing else, to the host folders: all of them or none.

        The changes are those that this review has shown. The replaced content is kept for a while (30 days, 20 commits,
        1 GiB): until then `proxybox.commits.undo` takes the commit back by its `id`. Raises as `Files.commit` does, and
        ReviewRefused for a review that was committed already.
        """
        if self._is_done:
            raise ReviewRefused("this review was committed already")
        if seal(self._overlays) != self._seal:
            raise ReviewRefused("the changes are not those that were reviewed")
        done = commit_and_keep_all(self._wanted())
        self._is_done = True
        return done

    def _wanted(self) -> list[Changed]:
        wanted: list[list[Change]] = [[] for _ in self._overlays]
        for item in self.items:
            change = item.with_hunks(self.accepted(item))
            if change is not None:
                wanted[self._where[item.number - 1][0]].append(change)
        return [
            attrs.evolve(overlay, changes=tuple(sorted(changes, key=lambda each: (each.path, each.kind != "deleted"))))
            for overlay, changes in zip(self._overlays, wanted, strict=True)
            if changes
        ]

    # --- items and their dependencies ---

    def _made(self) -> tuple[Item, ...]:
        found = [(number, change) for number, each in enumerate(self._overlays) for change in each.changes]
        found.sort(key=lambda pair: (pair[1].kind != "deleted", pair[0], _place(pair[1])))
        refusals, work, items = _Refusals(self._overlays), DiffBudget(), []
        for number, (overlay, change) in enumerate(found, 1):
            key = overlay, change.path, change.kind == "deleted"
            self._numbers[key] = number
            self._where.append(key)
            items.append(
                Item(
                    number=number,
                    change=change,
                    folder=on_one_line(str(self._overlays[overlay].source)),
                    hunks=hunks_of(change, work),
                    refusal=refusals.of(overlay, change),
                )
            )
        self._within: dict[_Key, list[int]] = {}
        for overlay, path, is_deleted in self._where:
            if is_deleted:
                key = overlay, path.rpartition(b"/")[0], True
                self._within.setdefault(key, []).append(self._numbers[overlay, path, True])
        return tuple(items)

    def _needs(self, item: Item) -> list[int]:
        """The numbers of the items that this one needs."""
        overlay, path, is_deleted = self._where[item.number - 1]
        if is_deleted:
            return self._within.get((overlay, path, True), []) if item.change.type == "dir" else []
        folder = self._numbers.get((overlay, path.rpartition(b"/")[0], False))
        needed = [] if folder is None or self.items[folder - 1].change.kind != "added" else [folder]
        gone = self._numbers.get((overlay, path, True))
        return needed if gone is None else [*needed, gone]

    def _item(self, item: Item | int) -> Item:
        number = item if isinstance(item, int) else item.number
        if not 1 <= number <= len(self.items):
            raise ReviewRefused(f"there is no change {number}")
        return self.items[number - 1]

    def _hunks(self, item: Item, hunks: Iterable[int] | None) -> frozenset[int]:
        every = frozenset(hunk.number for hunk in item.hunks)
        chosen = every if hunks is None else frozenset(hunks)
        if not chosen <= every:
            raise ReviewRefused(f"{item.name}: there is no hunk {min(chosen - every)}")
        return chosen


class _Refusals:
    """The reasons why changes cannot be written, as far as they are known before the commit."""

    def __init__(self, overlays: Iterable[Changed]) -> None:
        self._links: dict[tuple[int, bytes], str] = {}
        self._incomplete: dict[int, str] = {}
        for number, overlay in enumerate(overlays):
            if overlay.left_out:
                words = (
                    f"{overlay.left_out} changes of this folder were not kept, and what was moved there would be lost"
                )
                self._incomplete[number] = words
            if any(change.target is not None for change in overlay.changes):
                with suppress(SandboxStartError):
                    self._walk(number, overlay)

    def _walk(self, number: int, overlay: Changed) -> None:
        coming = {change.path: change for change in overlay.changes if change.kind != "deleted"}
        deleted = {change.path: change for change in overlay.changes if change.kind == "deleted"}
        root = HostRoot(overlay.source or "")
        try:
            walk = LinkWalk(root, coming, deleted, overlay.hides)
            for change in coming.values():
                if change.type == "symlink" and (why := walk.refusal(change)):
                    self._links[number, change.path] = why
        except TooManySteps:
            pass  # the commit reports it
        finally:
            root.close()

    def of(self, overlay: int, change: Change) -> str:
        """Why the change cannot be written; empty if no reason is known."""
        if overlay in self._incomplete:
            return self._incomplete[overlay]
        if change.type == "file" and change.kind != "deleted" and change.content is None:
            return "too large to be kept, or not to be read"
        return "" if change.kind == "deleted" else self._links.get((overlay, change.path), "")


def _shown(overlay: Changed) -> tuple[Change, ...]:
    """The changes that a commit would write: none with a name that is hidden from the box."""
    return tuple(change for change in overlay.changes if not any(map(overlay.hides, change.path.split(b"/"))))


def _place(change: Change) -> list[tuple[int, bytes]]:
    """The sort key of a change: the content of a folder is deleted before the folder, and added after it."""
    parts = [(1, name) for name in change.path.split(b"/")]
    return [*parts, (2, b"")] if change.kind == "deleted" else [*parts, (0, b"")]


def seal(overlays: Iterable[Changed]) -> str:
    """A digest of everything that is reviewed."""
    digest = hashlib.sha256()
    for overlay in overlays:
        digest.update(repr((overlay.source, overlay.hide_dotfiles, overlay.left_out, overlay.identity)).encode())
        for change in overlay.changes:
            contents = [
                None if data is None else hashlib.sha256(data).digest() for data in (change.content, change.old)
            ]
            facts = change.name, change.path, change.kind, change.type, change.mode, change.old_mode
            links = change.target, change.old_target
            origins = [None if each is None else attrs.astuple(each) for each in (change.origin, change.like)]
            digest.update(repr((facts, links, origins, change.default, contents)).encode())
    return digest.hexdigest()
