"""Stores what a program has tried in its box: its calls with paths, by path, within bounds."""

import enum
import itertools
import os
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Self, TypeAlias

import attrs

from proxybox.controller.audit import OSCall
from proxybox.controller.calleffects import OF_NO_FILE, ON_DESCRIPTORS, CallEffect
from proxybox.controller.oscalls.rows import by_effect, names_of, paths_of

#: The most distinct paths of one run that are stored, and call names for each. Further paths are only counted.
MOST_PATHS: Final = 2_000
MOST_NAMES: Final = 20


class PathAccess(enum.StrEnum):
    """The access to a path that a call requests."""

    LOOK = "look"
    READ = "read"
    LIST = "list"
    ALTER = "alter"
    MAKE = "make"
    REMOVE = "remove"


WRITES: Final = frozenset({PathAccess.ALTER, PathAccess.MAKE, PathAccess.REMOVE})

#: The errors of calls that the policy or its mounts do not allow.
REFUSED: Final = frozenset({"ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS", "EBUSY", "EXDEV"})
_CLOCKS: Final = names_of(CallEffect.CLOCK)
_HOW = struct.Struct("<Q")
_O_PATH = 0o10000000
_O_TMPFILE = 0o20000000
_Wanted: TypeAlias = Iterator[tuple["PathAccess", bytes]]


@attrs.define(slots=True)
class PathUse:
    """One path that a program tried.

    kinds: the requested accesses. calls: how often it tried, by the names of the calls. errors: the names of the errors
    that it got.
    """

    path: bytes
    kinds: set[PathAccess] = attrs.field(factory=set)
    calls: dict[str, int] = attrs.field(factory=dict)
    errors: set[str] = attrs.field(factory=set)

    def count(self, kind: PathAccess, call: OSCall) -> None:
        """Counts one call for this path."""
        self.kinds.add(kind)
        if call.name in self.calls or len(self.calls) < MOST_NAMES:
            self.calls[call.name] = self.calls.get(call.name, 0) + 1
        if call.errno is not None:
            self.errors.add(call.errno)


@attrs.define(slots=True)
class Observed:
    """The paths that one run has tried. `add` is an audit: it gets each call of the run.

    refused: the paths with refused calls, in the order of the last call for each. reached: paths with successful calls.
    more: calls for paths that are not stored, because there are too many. clock: how often it read a clock. short:
    errors because of a limit (EMFILE, ENOSPC), with counts by the names of calls.
    """

    refused: dict[bytes, PathUse] = attrs.field(factory=dict)
    reached: dict[bytes, PathUse] = attrs.field(factory=dict)
    more: int = 0
    clock: int = 0
    short: dict[str, dict[str, int]] = attrs.field(factory=dict)

    @classmethod
    def of(cls, calls: Iterable[OSCall]) -> Self:
        """Returns the paths that recorded calls have tried."""
        observed = cls()
        for call in calls:
            observed.add(call)
        return observed

    def add(self, call: OSCall) -> None:
        """Adds one call, after the decision about it."""
        if call.name in _CLOCKS:
            self.clock += 1
        if call.errno in ("EMFILE", "ENOSPC"):
            names = self.short.setdefault(call.errno, {})
            if call.name in names or len(names) < MOST_NAMES:
                names[call.name] = names.get(call.name, 0) + 1
        for kind, path in wanted(call):
            kept = self.refused if call.errno in REFUSED else self.reached
            if call.errno is not None and kept is self.reached:
                continue
            asked = kept.pop(path, None)
            if asked is None:
                if len(kept) >= MOST_PATHS:
                    self.more += 1
                    continue
                asked = PathUse(path)
            kept[path] = asked  # after the paths that were tried before
            asked.count(kind, call)

    def without(self, other: "Observed") -> "Observed":
        """Returns this without the refused paths of another run, such as that of an empty program."""
        refused = {path: asked for path, asked in self.refused.items() if path not in other.refused}
        return attrs.evolve(self, refused=refused, clock=max(0, self.clock - other.clock))


def wanted(call: OSCall) -> Iterator[tuple[PathAccess, bytes]]:
    """Yields the accesses that a call requests, with absolute paths in the box."""
    wants = _WANTS.get(call.name)
    if wants is not None:
        yield from wants(call)


def _opened(call: OSCall) -> PathAccess:
    flags = _flags(call.arguments)
    if call.name == "creat" or flags & _O_TMPFILE == _O_TMPFILE:
        return PathAccess.MAKE
    if flags & _O_PATH:
        return PathAccess.LOOK
    if flags & os.O_ACCMODE:
        return PathAccess.MAKE if flags & os.O_CREAT and flags & (os.O_TRUNC | os.O_EXCL) else PathAccess.ALTER
    if flags & os.O_CREAT:
        return PathAccess.ALTER
    return PathAccess.LIST if flags & os.O_DIRECTORY else PathAccess.READ


def _flags(arguments: dict[str, Any]) -> int:
    flags, how = arguments.get("flags"), arguments.get("how")
    if isinstance(how, bytes) and len(how) >= _HOW.size:
        return int(_HOW.unpack_from(how)[0])
    return flags if isinstance(flags, int) else 0


def _last(call: OSCall) -> Iterator[bytes]:
    """Yields the path after all links were followed."""
    if call.paths:
        yield call.paths[-1]
    else:
        yield from _written(call, -1)


def _first(call: OSCall) -> Iterator[bytes]:
    """Yields the path as it was written: calls that remove a name follow no link at its end."""
    if call.paths:
        yield call.paths[0]
    else:
        yield from _written(call, 0)


def _written(call: OSCall, which: int) -> Iterator[bytes]:
    """Yields the absolute path of a call without `paths`; a relative path is not known without its folder."""
    names = list(paths_of(call.name))
    path = call.arguments.get(names[which]) if names else None
    if isinstance(path, bytes) and path.startswith(b"/"):
        yield os.path.normpath(path)


def _opens(call: OSCall) -> _Wanted:
    return ((_opened(call), path) for path in _last(call))


def _at_the_end(kind: PathAccess) -> Callable[[OSCall], _Wanted]:
    return lambda call: ((kind, path) for path in _last(call))


def _from_to(kind: PathAccess) -> Callable[[OSCall], _Wanted]:
    """Returns the accesses of a call that gives a file another name. kind: the access to the old name."""
    return lambda call: itertools.chain(
        ((kind, path) for path in _first(call)), ((PathAccess.MAKE, path) for path in _last(call))
    )


_WANTS: Final = by_effect(
    {
        CallEffect.OPENS: _opens,
        CallEffect.LOOKS: _at_the_end(PathAccess.LOOK),
        CallEffect.ALTERS: _at_the_end(PathAccess.ALTER),
        CallEffect.RESIZES: _at_the_end(PathAccess.ALTER),
        CallEffect.MAKES: _at_the_end(PathAccess.MAKE),
        CallEffect.REMOVES: lambda call: ((PathAccess.REMOVE, path) for path in _first(call)),
        CallEffect.RENAMES: _from_to(PathAccess.REMOVE),
        CallEffect.LINKS: _from_to(PathAccess.READ),
    },
    nothing=ON_DESCRIPTORS | CallEffect.STATUS | CallEffect.DIRECTORY | CallEffect.SYMLINK | CallEffect.ENTERS
    | CallEffect.MAPS | OF_NO_FILE,
)  # fmt: skip
