"""Finds the parts of a policy that recorded runs never used: the reverse of learning.

Rule: no box and no host is needed here, only records: calls and results.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import attrs

from proxybox.controller.audit import OSCall
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.oscalls.rows import names_of
from proxybox.learning.limits import LADDERS
from proxybox.learning.observing import REFUSED, WRITES, wanted
from proxybox.policies import Policy
from proxybox.policies.keys import keys
from proxybox.result import Result

_STARTS: Final = names_of(CallEffect.STARTS)
#: A limit is called wide when it is at least this many times what the runs have used.
MARGIN: Final = 2


@attrs.frozen
class Unused:
    """A part of a policy that runs have not used.

    key: its path, such as "filesystem.mounts[1]" or "limits.memory". used: the actual use, in words. value: a
    sufficient value; None if the whole part can be removed.
    """

    key: str
    used: str
    value: Any = None


def unused(policy: Policy, calls: Iterable[OSCall], results: Iterable[Result] = ()) -> list[Unused]:
    """Returns the parts of a policy that some runs never used: mounts, write access, threads, and too wide limits.

    calls: all calls of all these runs, best with `paths`, which records of runs with interceptors have. Without
    `paths`, only absolute paths are known. results: of the same runs; without them no limit is checked.
    """
    used = Used(policy)
    for call in calls:
        used.add(call)
    found = list(used.unused())
    known = list(results)
    if known:
        found += _limits(policy, known)
    return found


class Used:
    """The parts of a policy that runs use. `add` is an audit: it gets each call."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._at = {os.fsencode(mount.target): at for at, mount in enumerate(policy.filesystem.mounts)}
        self._touched: set[int] = set()
        self._written: set[int] = set()
        self._wrote_box = False
        self._threads = False

    def add(self, call: OSCall) -> None:
        """Adds one call, after the decision about it."""
        if call.name in _STARTS and call.errno is None:
            self._threads = True
        for kind, path in wanted(call):
            at = self._mount_of(path)
            is_write = kind in WRITES and call.errno is None
            if at is None:
                self._wrote_box |= is_write and path.startswith(b"/box/")
            elif call.errno not in REFUSED:
                self._touched.add(at)
                if is_write:
                    self._written.add(at)

    def _mount_of(self, path: bytes) -> int | None:
        """Returns the number of the mount for a path: the one with the longest target on the way to it."""
        while len(path) > 1:
            if path in self._at:
                return self._at[path]
            path = os.path.dirname(path)
        return None

    def unused(self) -> Iterator[Unused]:
        """Yields the unused parts of the mounts and of the threads."""
        filesystem = self.policy.filesystem
        for at, mount in enumerate(filesystem.mounts):
            key = f"filesystem.mounts[{at}]"
            if at not in self._touched:
                yield Unused(key, f"nothing at {mount.target} was reached")
            elif mount.mode in ("rw", "overlay") and isinstance(mount.source, str) and at not in self._written:
                yield Unused(f"{key}.mode", f"nothing at {mount.target} was written", "ro")
        if filesystem.box == "rw" and not self._wrote_box:
            yield Unused("filesystem.box", "nothing in /box was written", "ro")
        if self.policy.limits.thread_count > 1 and not self._threads:
            yield Unused("limits.threads", "no thread was started", 0)


def _limits(policy: Policy, results: list[Result]) -> Iterator[Unused]:
    most: dict[str, float] = {
        "limits.wall_time": max(each.usage.wall for each in results),
        "limits.cpu_time": max(each.usage.cpu for each in results),
        "limits.calls": max(each.usage.calls for each in results),
        "limits.disk": max(each.usage.disk for each in results),
        "output.limit": max(max(len(each.stdout_bytes), len(each.stderr_bytes)) for each in results),
    }
    for key, used in most.items():
        enough = next((step for step in LADDERS[key] if step >= used * MARGIN), None)
        limit = keys()[key].of(policy)
        if enough is not None and (limit is None or enough < limit):
            yield Unused(key, f"{used:,.6g} were used at the most", enough)
