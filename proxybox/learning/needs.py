"""Finds the unmet needs of a run: proposals for its policy, and notes.

Rule: each proposal allows as little as it can: a file rather than its folder, an empty folder rather than the host's.
"""

import os
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Final, Literal

import attrs

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.oscalls.rows import names_of
from proxybox.controller.vfs.host.filesystem import HIDDEN_NAMES
from proxybox.explanations import OF_EXCEPTIONS, explain
from proxybox.learning.hostfiles import BOX, Host, Shown, is_empty, is_private, shown_by, size_of
from proxybox.learning.limits import reached
from proxybox.learning.observing import WRITES, Observed, PathAccess, PathUse
from proxybox.learning.proposals import Proposal, shown
from proxybox.policies import Mount, Policy, PolicyError, evolve
from proxybox.policies.sizes import spoken_size
from proxybox.result import Denial, Result
from proxybox.terminal.harmless import on_one_line

Writes = Literal["memory", "overlay", "rw"]
#: The most proposals and notes for one run: a program can try any number of paths.
MOST_PROPOSALS: Final = 20
MOST_TOLD: Final = 20
#: The box's own folders: nothing is mounted over them, or above them.
_OWN: Final = (
    "/", "/proc", "/dev", "/sys", "/etc", "/usr", "/usr/lib", "/usr/bin", "/usr/share", "/lib", "/lib64", "/bin",
    "/tmp", "/home", BOX,  # noqa: S108 - the box's own
)  # fmt: skip
_LOOKED: Final = names_of(CallEffect.LOOKS)
_MADE: Final = names_of(CallEffect.MAKES) & names_of(CallEffect.DIRECTORY)
_LOOSE_END: Final = frozenset({"mounted read-only", "limits.threads", HIDDEN_NAMES})
#: The explanations of exceptions that no OS call shows.
_UNSEEN: Final = frozenset({"module", "standard", *(row for _, _, row in OF_EXCEPTIONS)})
#: A line of a traceback in os.environ, by a PyPy or a CPython.
_OF_ENVIRON: Final = re.compile(r'File "(?:[^"]*/os\.py|<frozen os>)", line')
_ENVIRONMENT: Final = re.compile(r"'([A-Za-z_][A-Za-z0-9_]{0,63})'")


@attrs.frozen(kw_only=True)
class Needs:
    """The needs of one run. proposals: the latest one last. notes: needs that no proposal can meet, in words."""

    proposals: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class NeedsSearch:
    """Finds the unmet needs of a run.

    policy: of the run. host: the files that it may mean. writes: where a program may write: "memory" (an empty folder,
    whose changes stay in memory), "overlay" (the host's folder, with changes in memory) or "rw" (the host's folder or
    file itself). answered: the names of proposals that must not be repeated.
    """

    policy: Policy
    host: Host
    writes: Writes = "memory"
    answered: Container[str] = ()

    def needs(self, result: Result, observed: Observed) -> Needs:
        """Returns the unmet needs of a run with this result. observed: without the requests of an empty program."""
        found = {each.name: each for each in reached(self.policy, result, observed, self.answered)}
        notes: dict[str, None] = {}
        lacking = (*self._of_refused(observed.refused, notes), *self._of_listed(observed.reached, notes))
        for each in lacking:
            if not _comes_of(each, lacking):
                found[each.name] = attrs.evolve(each, needed=not result.ok)
        notes.update(dict.fromkeys(claims(result, self.policy)))
        notes.update(dict.fromkeys(for_ever(result.denials)))
        fresh = [each for each in found.values() if each.name not in self.answered]
        left = len(fresh) - MOST_PROPOSALS
        if left > 0 or observed.more:
            notes[f"it asked for {max(left, 0) + observed.more:,} more paths, which are not proposed"] = None
        return Needs(proposals=tuple(fresh[-MOST_PROPOSALS:]), notes=tuple(notes)[:MOST_TOLD])

    def _of_refused(self, refused: Mapping[bytes, PathUse], notes: dict[str, None]) -> Iterator[Proposal]:
        for asked in refused.values():
            try:
                path = asked.path.decode()
            except UnicodeDecodeError:
                notes[f"{shown(os.fsdecode(asked.path))}: a name that is not UTF-8 cannot be in a policy"] = None
                continue
            if on_one_line(path) != path:
                notes[f"{shown(path)}: a name with invisible signs is not proposed"] = None
                continue
            try:
                made = self._for(path, asked, notes)
            except PolicyError:  # a place that a policy cannot name, such as in /proc
                continue
            if made is not None:
                yield attrs.evolve(made, calls=dict(asked.calls))

    def _of_listed(self, reached: Mapping[bytes, PathUse], notes: dict[str, None]) -> Iterator[Proposal]:
        """Yields proposals for listed folders of the box that show less than the host's folder at their place."""
        mounts = {mount.target: mount for mount in self.policy.filesystem.mounts}
        written = [os.path.dirname(os.fsdecode(path)) for path, asked in reached.items() if asked.kinds & WRITES]
        for asked in reached.values():
            path = os.fsdecode(asked.path)
            if PathAccess.LIST not in asked.kinds or path.startswith(f"{BOX}/") or self._is_own(path):
                continue
            stands_in = path in mounts and not mounts[path].source and mounts[path].source is not None
            if not stands_in and (path in mounts or not any(target.startswith(f"{path}/") for target in mounts)):
                continue
            source = self.host.source_of(without_mounts_at(self.policy, path), path)
            if source is not None and os.path.isdir(source) and not is_empty(source):
                is_written = any(f"{folder}/".startswith(f"{path}/") for folder in written)
                made = self.folder(path, source, notes, "overlay" if is_written else "ro")
                if made is not None:
                    yield attrs.evolve(made, calls=dict(asked.calls))

    def _for(self, path: str, asked: PathUse, notes: dict[str, None]) -> Proposal | None:
        source = self.host.source_of(self.policy, path)
        if asked.kinds & WRITES:
            return self._written(path, source, asked, notes)
        if source is None:
            return None
        if os.path.isdir(source):
            if PathAccess.LIST in asked.kinds:
                return self._shown_folder(path, asked, notes)
            return self._empty_folder(path)  # it only asked whether it exists
        return self._shown_file(path, source, notes)

    # --- reading ---

    def _shown_file(self, path: str, source: str, notes: dict[str, None]) -> Proposal | None:
        if why := self.host.why_never(source):
            notes[f"{shown(source)} is not proposed: {why}"] = None
            return None
        return Proposal(
            mount=Mount(path, source),
            lets_in=(f"this file alone, {spoken_size(size_of(source))}{', yours alone to read' * is_private(source)}",),
            secret=self._why_secret(path, source),
        )

    def _why_secret(self, path: str, source: str) -> str:
        """Returns why a file may be secret, by its real path and by the path that was used, which may be a link."""
        return self.host.why_secret(source) or self.host.why_secret(path)

    def _shown_folder(
        self, path: str, asked: PathUse, notes: dict[str, None], mode: Literal["ro", "overlay", "rw"] = "ro"
    ) -> Proposal | None:
        source = self.host.source_of(self.policy, path)
        if source is None or not os.path.isdir(source) or self._is_own(path):
            return None
        return self.folder(path, source, notes, mode)

    def folder(
        self, path: str, source: str, notes: dict[str, None], mode: Literal["ro", "overlay", "rw"] = "ro"
    ) -> Proposal | None:
        """Returns the proposal of a folder of the host; None, and a reason in `notes`, for one that is never shown."""
        return self.widened(Mount(path, source, mode=mode), notes)

    def widened(self, mount: Mount, notes: dict[str, None]) -> Proposal | None:
        """Returns the proposal of a mount of a folder; None, and a reason in `notes`, for one that is never shown."""
        source = str(mount.source)
        if why := self.host.why_never(source):
            notes[f"{shown(source)} is not proposed: {why}"] = None
            return None
        seen = shown_by(source, mount.names)
        hides = self.policy.filesystem.hide_dotfiles
        return Proposal(
            mount=mount,
            lets_in=tuple(_told_of(seen, hides, mount.names)),
            secret=self._why_secret(mount.target, source) or _secret_in(seen, hides),
        )

    # --- writing ---

    def _written(self, path: str, source: str | None, asked: PathUse, notes: dict[str, None]) -> Proposal | None:
        hidden = next((name for name in path.split("/") if name.startswith(".")), None)
        in_box = path.startswith(f"{BOX}/") and self.policy.filesystem.box in ("overlay", "rw")
        if hidden is not None and (in_box or self._is_of_the_host(os.path.dirname(path))):
            return Proposal(
                key="filesystem.hide_dotfiles",
                value=False,
                lets_in=("all names that begin with a dot, in every folder of the host that it sees",),
                secret=f"{shown(hidden)} begins with a dot: such files are hidden from boxes",
            )
        if path == BOX or path.startswith(f"{BOX}/"):
            if self.policy.filesystem.box == "ro":
                return Proposal(key="filesystem.box", value="overlay", why="it writes in its own folder")
            return None
        parent = os.path.dirname(path)
        if self._is_own(parent):
            # A folder that the program makes in /, as with os.makedirs, can exist from the start.
            made = asked.calls.keys() & _MADE
            return None if not made or parent != "/" else self._empty_folder(path)
        if "ENOENT" not in asked.errors and not self._is_ours(parent):
            notes[f"{shown(path)} is not proposed: it would be in a folder of the box's own"] = None
            return None
        if source is not None and os.path.isdir(source) and asked.calls.keys() <= _MADE | _LOOKED:
            return self._empty_folder(path)  # this folder exists on the host
        beside = self.host.source_of(self.policy, parent)
        if beside is None or not os.path.isdir(beside):
            return None  # it would fail on the host as well
        is_there = source is not None and os.path.isfile(source)
        if self.writes == "rw" and source is not None and is_there and asked.kinds <= {PathAccess.ALTER, *_READS}:
            return self._writable_file(path, source, notes)
        is_removed = PathAccess.REMOVE in asked.kinds and not asked.kinds & {PathAccess.MAKE, PathAccess.ALTER}
        if is_removed and source is None:
            return None
        is_altered = is_removed or (is_there and (PathAccess.ALTER in asked.kinds or self._is_mounted(path)))
        if self.writes == "rw":
            return self.folder(parent, beside, notes, "rw")
        if self.writes == "overlay" or is_altered or self._is_of_the_host(parent):
            return self.folder(parent, beside, notes, "overlay")
        return self._empty_folder(parent)

    def _writable_file(self, path: str, source: str, notes: dict[str, None]) -> Proposal | None:
        made = self._shown_file(path, source, notes)
        return None if made is None else attrs.evolve(made, mount=Mount(path, source, mode="rw"))

    def _empty_folder(self, path: str) -> Proposal | None:
        if self._is_own(path) or self._is_mounted(path):
            return None
        return Proposal(mount=Mount(path, {}, mode="overlay"), lets_in=("nothing of the host",))

    # --- places ---

    def _is_own(self, path: str) -> bool:
        home = self.policy.environment.home
        return path in _OWN or path == home or home.startswith(path + "/")

    def _is_mounted(self, path: str) -> bool:
        return any(mount.target == path for mount in self.policy.filesystem.mounts)

    def _is_ours(self, path: str) -> bool:
        """Whether a folder of the box exists because of a mount: in the mount, or on the way to it."""
        targets = [mount.target for mount in self.policy.filesystem.mounts]
        return any(f"{path}/".startswith(f"{each}/") or each.startswith(f"{path}/") for each in targets)

    def _is_of_the_host(self, path: str) -> bool:
        """Whether a path of the box is in a mount of a folder of the host."""
        over = [mount for mount in self.policy.filesystem.mounts if f"{path}/".startswith(f"{mount.target}/")]
        return bool(over) and isinstance(max(over, key=lambda mount: len(mount.target)).source, str)


_READS: Final = (PathAccess.READ, PathAccess.LOOK)


def _comes_of(proposal: Proposal, others: Iterable[Proposal]) -> bool:
    """Whether an empty folder need not be proposed: the host's folder is proposed in its place, or a mount below it."""
    mount = proposal.mount
    if mount is None or proposal.source:
        return False
    others = [other for other in others if other.mount is not None and other.source]
    if any(other.mount is not None and other.mount.target == mount.target for other in others):
        return True
    below = (other for other in others if other.mount is not None and other.mount.target.startswith(f"{mount.target}/"))
    return not proposal.calls.keys() - _LOOKED and any(below)


def without_mounts_at(policy: Policy, path: str) -> Policy:
    """Returns the policy without mounts at a path, so that the path is searched for on the host."""
    return evolve(
        policy, filesystem={"mounts": tuple(each for each in policy.filesystem.mounts if each.target != path)}
    )


def _told_of(seen: Shown, hides: bool, names: tuple[str, ...] | None) -> Iterator[str]:
    more = "" if seen.whole else "more than "
    what = "all of it" if names is None else "all that matches"
    yield f"{what}, with what is added later: {more}{counted(seen.files, 'file')}, {spoken_size(seen.size)}"
    if seen.hidden:
        stay = "hidden as before" if hides else "WHICH IT SHOWS"
        yield f"{counted(seen.hidden, 'name')} beginning with a dot, {stay}"
    if seen.secrets:
        yield f"LOOKS SECRET: {', '.join(map(shown, seen.secrets))}"


def counted(number: int, noun: str) -> str:
    """Returns a number with a noun, such as "3 files"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _secret_in(seen: Shown, hides: bool) -> str:
    if seen.secrets:
        return f"{shown(seen.secrets[0])} in it is named like a key or a password"
    if seen.hidden and not hides:
        return "it has names that begin with a dot, and the policy hides none"
    return "" if seen.whole else "it is too large to be looked through"


def claims(result: Result, policy: Policy) -> Iterator[str]:
    """Yields the program's claims about needs that the controller cannot see, as hints."""
    error = result.error
    if error is None:
        return
    named = _ENVIRONMENT.fullmatch(error.message)
    if error.type == "KeyError" and named and _OF_ENVIRON.search(error.traceback):
        yield (
            f"it says that it lacks the environment variable {named[1]}, which no OS call shows: "
            f"if you believe it, give it with --env {named[1]}"
        )
    for each in explain(result, policy):
        if each.key in _UNSEEN:
            yield f"what may help, if it is right about its exception: {each}"


def for_ever(denials: Mapping[Denial, int]) -> Iterator[str]:
    """Yields the refusals that no policy changes."""
    for denial, count in denials.items():
        if denial.reason not in _LOOSE_END:
            yield f"{denial.call} stays refused ({shown(denial.reason)}), ×{count:,}"
