"""Joins several policies into one, and many files into their folder: the result is wider than each run has needed."""

import glob
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from proxybox.learning.proposals import covers, with_mount
from proxybox.madeup import MADE_UP
from proxybox.policies import Mount, Policy, evolve
from proxybox.policies.checks import MOST_PATTERNS, NAME_MAX
from proxybox.policies.keys import OF_ONE_RUN, of_one_run

_RANK: Final = ("ro", "memory", "overlay", "rw")
#: From this number of siblings on, a folder is proposed in place of its files.
FEWEST_SIBLINGS: Final = 3


def merged(first: Policy, second: Policy) -> Policy:
    """Returns a policy for the programs of both policies: the mounts of both, and the looser limits.

    Variables are those of both, and time is real if it is real in one of them. Other settings without an order, such as
    randomness, are those of the first.
    """
    policy = first
    for mount in second.filesystem.mounts:
        policy = _with(policy, mount)
    changes: dict[str, dict[str, Any]] = {}
    for section in OF_ONE_RUN:
        for name, key in of_one_run(section).items():
            mine, other = key.of(first), key.of(second)
            changes.setdefault(section, {})[name] = other if key.looser(mine, other) else mine
    changes["filesystem"] = {
        "box": max(first.filesystem.box, second.filesystem.box, key=_RANK.index),
        "hide_dotfiles": first.filesystem.hide_dotfiles and second.filesystem.hide_dotfiles,
        "mounts": policy.filesystem.mounts,
    }
    changes["environment"] = {"variables": {**second.environment.variables, **first.environment.variables}}
    if second.time.kind == "real":
        changes["time"] = {"kind": "real"}
    return evolve(policy, **changes)


def _with(policy: Policy, mount: Mount) -> Policy:
    same = next((each for each in policy.filesystem.mounts if each.target == mount.target), None)
    if same is not None and None not in (same.names, mount.names) and same.source == mount.source:
        return with_mount(policy, attrs.evolve(same, names=(*(same.names or ()), *(mount.names or ()))))
    if any(covers(each, mount) for each in policy.filesystem.mounts):
        return policy
    is_narrower = same is not None and (same.names is not None or _RANK.index(same.mode) < _RANK.index(mount.mode))
    if same is not None and not (same.source == mount.source and is_narrower):
        return policy
    return with_mount(policy, mount)


def is_temporary(name: str) -> bool:
    """Whether a file's name looks as if it was made for one run."""
    return MADE_UP.search(name) is not None


def pattern_of(name: str) -> str:
    """Returns an fnmatch pattern for a name, with `*` for the parts that look temporary."""
    return "*".join(map(glob.escape, MADE_UP.split(name)))


@attrs.frozen
class Wider:
    """A mount that could replace some mounts of files: of their folder, or of some names in it.

    files: the mounts that it would replace.
    """

    mount: Mount
    files: tuple[Mount, ...]


def wider(mounts: Iterable[Mount]) -> Iterator[Wider]:
    """Yields mounts that could replace read-only mounts of files: of names that match a pattern, or of folders.

    A pattern replaces temporary names. A folder replaces three siblings or more with other names, names whose pattern
    would be `*` alone, and more or longer patterns than a mount may have.
    """
    folders: dict[tuple[str, str], list[Mount]] = defaultdict(list)
    for mount in mounts:
        if not isinstance(mount.source, str) or mount.mode != "ro" or not os.path.isfile(mount.source):
            continue
        if os.path.basename(mount.source) == os.path.basename(mount.target):
            folders[os.path.dirname(mount.target), os.path.dirname(mount.source)].append(mount)
    for (target, source), files in folders.items():
        patterns = {each: pattern_of(name) for each in files if is_temporary(name := os.path.basename(each.target))}
        names = sorted(set(patterns.values()))
        no_pattern = any(not name.strip("*") or len(os.fsencode(name)) > NAME_MAX for name in names)
        if len(files) - len(patterns) >= FEWEST_SIBLINGS or no_pattern or len(names) > MOST_PATTERNS:
            yield Wider(Mount(target, source), tuple(files))
        elif patterns:
            yield Wider(Mount(target, source, names=names), tuple(patterns))
