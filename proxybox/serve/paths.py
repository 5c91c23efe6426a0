"""The paths of other systems' doors, as each door declares them, and of a whole service."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import attrs

from proxybox.serve.access import ALWAYS, HEALTH, SCOPES, covers

if TYPE_CHECKING:
    from fastapi import APIRouter


def _to_paths(paths: Iterable[str]) -> tuple[str, ...]:
    found = tuple(paths)
    if any(len(path) < 2 or path[0] != "/" or "{" in path for path in found):  # a template could match any path
        raise ValueError(f'want paths such as "/jobe/", without parameters, got {found}')
    return found


@attrs.frozen(kw_only=True)
class ServiceDoor:
    """The protocol of another system. An entry point of the group `proxybox.serve.doors` refers to a ServiceDoor.

    router: its routes. clients: the paths that keys of the scope "client" may use; one that ends in "/" includes all
    paths below it. health: paths that need no key, because they only report whether the service takes requests. always:
    those of `health` that the door answers also while the service takes no requests; the others get a 503.

    Requests for a path in none of these are always refused. Raises ValueError.
    """

    router: "APIRouter"
    clients: tuple[str, ...] = attrs.field(converter=_to_paths)
    health: tuple[str, ...] = attrs.field(default=(), converter=_to_paths)
    always: tuple[str, ...] = attrs.field(default=(), converter=_to_paths)

    def __attrs_post_init__(self) -> None:
        if not {*self.always} <= {*self.health}:
            raise ValueError(f"always: want some of {self.health}, got {self.always}")


@attrs.frozen
class AccessTable:
    """The paths of a service with these doors besides its own.

    health: paths that need no key. always: paths that are answered also while the service takes no requests.
    """

    doors: tuple[ServiceDoor, ...] = ()
    health: frozenset[str] = attrs.field(init=False)
    always: frozenset[str] = attrs.field(init=False)
    scopes: Mapping[str, tuple[str, ...]] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        clients = (*SCOPES["client"], *(path for door in self.doors for path in door.clients))
        object.__setattr__(self, "health", HEALTH.union(*(door.health for door in self.doors)))
        object.__setattr__(self, "always", ALWAYS.union(*(door.always for door in self.doors)))
        object.__setattr__(self, "scopes", {**SCOPES, "client": clients})

    def may_use(self, scope: str, path: str) -> bool:
        """Returns whether a key of this scope may use a path."""
        return any(covers(each, path) for each in self.scopes[scope])
