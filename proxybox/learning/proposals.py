"""One widening of a policy: its change, the calls that need it, and what else it would allow."""

import os
from collections.abc import Mapping
from typing import Any, Final

import attrs

from proxybox.learning.hostfiles import matches
from proxybox.policies import Mount, Policy, evolve
from proxybox.policies.keys import keys
from proxybox.terminal.harmless import on_one_line

#: The most characters of one name or path in a line for people.
MOST_SHOWN: Final = 160


@attrs.frozen(kw_only=True)
class Proposal:
    """One line, or one mount, that a policy would get.

    mount: a mount to add; it replaces the policy's mount at its target. key, value: a key to set, such as
    "limits.memory". calls: the calls that need it, with counts. why: the reason in words. lets_in: what else it allows.
    secret: why it may expose a secret; an empty text if there is no sign of it. needed: whether the run failed without
    it.
    """

    mount: Mount | None = None
    key: str = ""
    value: Any = None
    calls: Mapping[str, int] = attrs.field(factory=dict)
    why: str = ""
    lets_in: tuple[str, ...] = ()
    secret: str = ""
    needed: bool = True

    @property
    def name(self) -> str:
        """The name that identifies it, so that nobody is asked twice."""
        if self.mount is not None:
            return f"{self.mount.target} {self.mount.source!r} {self.mount.mode} {self.mount.names}"
        return f"{self.key} {self.value}"

    @property
    def source(self) -> str:
        """The file or folder of the host that it shows; an empty text if it shows none."""
        source = None if self.mount is None else self.mount.source
        return source if isinstance(source, str) else ""

    @property
    def is_asked_alone(self) -> bool:
        """Whether --accept-all does not accept it, because it may be secret or changes the host."""
        return bool(self.secret) or (self.mount is not None and self.mount.mode == "rw")

    def described(self) -> str:
        """Returns its change in words, on one line."""
        if self.mount is None:
            return f"{self.key} = {keys()[self.key].in_words(self.value)}"
        target, mode = on_one_line(self.mount.target), self.mount.mode
        if not self.source:
            return f"an empty folder at {target} (what is written there is kept apart and reported)"
        how = {
            "ro": "read-only",
            "rw": "to read and to CHANGE ON THE HOST",
            "overlay": "with changes kept apart from the host",
        }[mode]
        at = "" if self.source == self.mount.target else f" at {target}"
        if self.mount.names is not None:
            names = on_one_line(" or ".join(self.mount.names))
            return f"what is called {names} in {on_one_line(self.source)}{at}, {how}"
        return f"{'the folder ' if os.path.isdir(self.source) else ''}{on_one_line(self.source)}{at}, {how}"

    def wanted_by(self) -> str:
        """Returns in words which calls need it, or the reason without calls."""
        return ", ".join(f"{name} ×{count:,}" for name, count in self.calls.items()) or self.why

    def apply(self, policy: Policy) -> Policy:
        """Returns the policy with this change. Raises PolicyError if it does not fit into this policy."""
        if self.mount is not None:
            return with_mount(policy, self.mount)
        section, _, field = self.key.partition(".")
        return evolve(policy, **{section: {field: self.value}})


def shown(text: str) -> str:
    """Returns a guest's text, or a path, for one of our lines: controls become escapes, and a long text is cut."""
    text = on_one_line(text)
    return text if len(text) <= MOST_SHOWN else f"{text[: MOST_SHOWN // 2]}...{text[-MOST_SHOWN // 2 :]}"


def with_mount(policy: Policy, mount: Mount) -> Policy:
    """Returns the policy with a mount; it replaces the mount at the same target, and mounts that it covers.

    A mount that another one covers is not added: it would only reduce the access within that mount.
    """
    if any(covers(each, mount) and not _is_between(policy, each, mount) for each in policy.filesystem.mounts):
        return policy
    kept = [each for each in policy.filesystem.mounts if each.target != mount.target and not covers(mount, each)]
    below = (at for at, each in enumerate(kept) if each.target.startswith(mount.target + "/"))
    kept.insert(next(below, len(kept)), mount)  # before mounts inside it: a later mount hides an earlier one
    return evolve(policy, filesystem={"mounts": tuple(kept)})


def _is_between(policy: Policy, wide: Mount, narrow: Mount) -> bool:
    """Whether another mount hides a wide one at the place of a narrow one."""
    return any(
        f"{narrow.target}/".startswith(f"{each.target}/") and each.target.startswith(f"{wide.target}/")
        for each in policy.filesystem.mounts
    )


def without_mount(policy: Policy, mount: Mount) -> Policy:
    """Returns the policy without a mount."""
    return evolve(policy, filesystem={"mounts": tuple(each for each in policy.filesystem.mounts if each != mount)})


_RANK: Final = {"ro": 0, "memory": 0, "overlay": 1, "rw": 2}


def covers(wide: Mount, narrow: Mount) -> bool:
    """Whether a mount of a folder includes another mount, at the same place and with at least the same mode."""
    if not isinstance(wide.source, str) or not isinstance(narrow.source, str) or not os.path.isdir(wide.source):
        return False
    rest = narrow.target[len(wide.target) :]
    if wide.names is not None and not matches(wide.names, rest.split("/")[1] if "/" in rest else ""):
        return False
    is_below = narrow.target.startswith(wide.target + "/") and narrow.source == wide.source + rest
    return is_below and "/." not in rest and _RANK[narrow.mode] <= _RANK[wide.mode]
