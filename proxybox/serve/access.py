"""Which paths of the service's own doors a key may use, by its scope, and which need none. Other doors: paths.py.

Deny by default: a path that stands nowhere is refused without a key, and with any. A test walks all routes. This file
imports no library: the help of the command line has the names of the scopes from here.
"""

from collections.abc import Mapping
from typing import Final

#: What load balancers and supervisors ask, who have no key: whether the service takes requests.
HEALTH: Final = frozenset({"/v1/health"})
#: What is answered also while the service takes no requests.
ALWAYS: Final = frozenset({"/", "/v1/health", "/metrics"})
#: The paths of each scope. One that ends in "/" stands for all below it, but "/" itself, which is a page.
SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "client": ("/v1/", "/mcp"),
    "metrics": ("/metrics",),
    "operator": ("/", "/metrics"),
}


def covers(declared: str, path: str) -> bool:
    """Whether a path that was declared stands for another one: for itself, or, with a "/" at its end, for all below."""
    return path == declared or (len(declared) > 1 and declared[-1] == "/" and path.startswith(declared))
