"""Which paths of the service's own doors a key may use, by its scope, and which paths need no key.

Other doors: paths.py. Deny by default: a path that is in no table is refused, with a key and without one. A test walks
all routes. This file imports no library, because the help of the command line reads the names of the scopes from it.
"""

from collections.abc import Mapping
from typing import Final

#: Paths that load balancers and supervisors, which have no key, request to learn whether the service takes requests.
HEALTH: Final = frozenset({"/v1/health"})
#: Paths that are answered also while the service takes no requests.
ALWAYS: Final = frozenset({"/", "/v1/health", "/metrics"})
#: The paths of each scope. A path that ends in "/" includes all paths below it, except "/" itself, which is a page.
SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "client": ("/v1/", "/mcp"),
    "metrics": ("/metrics",),
    "operator": ("/", "/metrics"),
}


def covers(declared: str, path: str) -> bool:
    """Returns whether a declared path includes `path`: they are equal, or it ends in "/" and `path` is below it."""
    return path == declared or (len(declared) > 1 and declared[-1] == "/" and path.startswith(declared))
