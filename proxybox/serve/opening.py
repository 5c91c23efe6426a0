"""Finds the doors that a service can have, and imports those that its configuration names.

The service's own doors are modules of `doors/`. Those of other systems are registered by entry points, of this
distribution or of any other that is installed:

    [project.entry-points."proxybox.serve.doors"]
    jobe = "proxybox.serve.doors.jobe:door"

Rules: an entry point leads to code that runs on the trusted side. So a door is imported only when the configuration
names it; the default names only the doors of this distribution. This distribution is the one that contains the running
package: others of the same name are ignored. Entry points are read from the folders of the installation, never from the
current folder. If another distribution registers a name of this one, the name means this one's door. No door may have a
path of another door, and no door of another distribution may have a path below /v1/.
"""

import json
import site
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxybox.modulepath import trusted_path
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, Problem
from proxybox.serve.access import covers
from proxybox.serve.paths import ServiceDoor

if TYPE_CHECKING:
    from importlib.metadata import Distribution, EntryPoint

    from fastapi import APIRouter

#: The group of entry points.
GROUP: Final = "proxybox.serve.doors"
#: The path of the interface's description, which is for clients alone.
OPENAPI: Final = "/v1/openapi.json"
#: The service's own doors, by the names of their files. Their paths are in access.py.
OWN: Final = ("rest", "websocket", "status", "mcp")
#: The folder that contains the running package.
_ROOT: Final = Path(__file__).parents[2]
#: The prefix of paths that are reserved for this distribution.
_OURS: Final = "/v1/"


def own_doors() -> tuple[str, ...]:
    """Returns the names of the doors of this distribution, which are open by default."""
    return (*OWN, *sorted(_of_this_distribution()))


def checked(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of doors. Raises PolicyError for a name that no distribution registers, or more than one."""
    known = own_doors()
    others = {} if set(names) <= set(known) else _of_others()
    for name in names:
        if name in known:
            continue
        if name not in others:
            raise refusal("there is no such door", name, allowed=", ".join((*known, *sorted(others))))
        if len(others[name]) > 1:
            raise refusal(f"two distributions have this door: {', '.join(sorted(others[name]))}", name)
    return tuple(names)


def opened(names: Sequence[str]) -> tuple[list[Any], tuple[ServiceDoor, ...]]:
    """Imports doors. Returns the modules of the service's own ones, and the other doors.

    Raises PolicyError for a door that cannot be imported, or that has a path of another door.
    """
    own = [import_module(f"{GROUP}.{name}") for name in OWN if name in names]
    doors = {name: _loaded(name) for name in dict.fromkeys(names) if name not in OWN}
    problems = [
        Problem(key="doors", message=message) for message in _overlaps([module.router for module in own], doors)
    ]
    if problems:
        raise PolicyError(*problems)
    return own, tuple(doors.values())


def _loaded(name: str) -> ServiceDoor:
    entry = _of_this_distribution().get(name)
    if entry is None:
        (entry,) = _of_others()[checked((name,))[0]].values()
    try:
        door = entry.load()
    except Exception as error:  # a module may raise any exception while it is imported
        why = f"{name}: {entry.value} cannot be imported: {type(error).__name__}: {error}"
        raise PolicyError(Problem(key="doors", message=why)) from error
    if not isinstance(door, ServiceDoor):
        why = f"{name}: {entry.value} is no ServiceDoor (proxybox.serve.interface), but {type(door).__name__}"
        raise PolicyError(Problem(key="doors", message=why))
    return door


def _overlaps(own: "Sequence[APIRouter]", doors: Mapping[str, ServiceDoor]) -> Iterator[str]:
    """Yields a message for each fault of the doors' paths."""
    paths = {"proxybox": [OPENAPI, *(path for router in own for path in _paths(router))]}
    paths |= {name: _paths(door.router) for name, door in doors.items()}
    for name, door in doors.items():
        declared = (*door.clients, *door.health)
        for each in declared if name not in _of_this_distribution() else ():
            if f"{each}/".startswith(_OURS):
                yield f"{name}: no other distribution has paths such as {each}"
        for path in paths[name]:
            if not any(covers(each, path) for each in declared):
                yield f"{name}: nobody may use its path {path}: name it in `clients` or `health`"
        for other, theirs in paths.items():
            for path in theirs:
                if other != name and any(covers(each, path) for each in declared):
                    yield f"{name}: takes the path {path} of {other}"


def _paths(router: "APIRouter") -> list[str]:
    return [str(getattr(route, "path", "")) for route in router.routes]


def _of_this_distribution() -> "dict[str, EntryPoint]":
    from importlib.metadata import distributions  # here, because it takes a third of a configuration's time

    installed = [str(_ROOT), *site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    for each in distributions(name="proxybox", path=installed):
        if _has_the_running_package(each):
            return {entry.name: entry for entry in each.entry_points.select(group=GROUP)}
    return {}  # this is a copy of the sources that is not installed


def _has_the_running_package(distribution: "Distribution") -> bool:
    """Returns whether a distribution contains the running package, or is an editable installation of its folder."""
    if Path(str(distribution.locate_file(""))).resolve() == _ROOT.resolve():
        return True
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    return bool(origin.get("dir_info", {}).get("editable")) and origin["url"] == _ROOT.resolve().as_uri()


def _of_others() -> "dict[str, dict[str, EntryPoint]]":
    """Returns the doors of other distributions, by the door's name, then by the distribution's name."""
    from importlib.metadata import distributions

    found: dict[str, dict[str, EntryPoint]] = {}
    for distribution in distributions(path=trusted_path()):
        owner = (distribution.metadata["Name"] or "").lower()
        for entry in distribution.entry_points.select(group=GROUP):
            if owner != "proxybox":
                found.setdefault(entry.name, {}).setdefault(owner, entry)
    return found
