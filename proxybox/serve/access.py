"""Which paths a key may use, by its scope, and which need none: the one table of that.

Deny by default: a path that stands nowhere here is refused without a key, and with any. So a door that is added has to
be named here; a test walks all routes.
"""

from collections.abc import Mapping
from typing import Final

#: Whether the service takes requests: what load balancers and supervisors ask, who have no key.
HEALTH: Final = frozenset({"/v1/health", "/health", "/health/", "/librechat/health", "/v1/ping"})
#: What is answered also while the service takes no requests.
ALWAYS: Final = frozenset({"/", "/health", "/v1/health", "/librechat/health", "/metrics"})
#: The paths of each scope. One that ends in "/" stands for all below it, but "/" itself, which is a page.
SCOPES: Final[Mapping[str, tuple[str, ...]]] = {
    "client": ("/v1/", "/mcp", "/run_code", "/run_jupyter", "/api/v0/", "/jobe/", "/librechat/"),
    "metrics": ("/metrics",),
    "operator": ("/", "/metrics"),
}


def is_health(path: str) -> bool:
    """Whether no key is needed for a path, whatever keys there are."""
    return path in HEALTH


def may_use(scope: str, path: str) -> bool:
    """Whether a key of this scope may use a path."""
    return any(path == each or (len(each) > 1 and each[-1] == "/" and path.startswith(each)) for each in SCOPES[scope])
