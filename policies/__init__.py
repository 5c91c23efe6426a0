"""Policies: what a box may do, as pure data. This package imports nothing else of proxybox.

Rule: importing this package loads neither tomllib nor cattrs. The modules that need them are loaded at first use.
"""

from typing import TYPE_CHECKING, Any

from proxybox.policies.errors import PolicyError as PolicyError
from proxybox.policies.errors import Problem as Problem
from proxybox.policies.errors import ProxyboxError as ProxyboxError
from proxybox.policies.meant import as_policy as as_policy
from proxybox.policies.models import LAYERS as LAYERS
from proxybox.policies.models import Environment as Environment
from proxybox.policies.models import Filesystem as Filesystem
from proxybox.policies.models import Limits as Limits
from proxybox.policies.models import Mount as Mount
from proxybox.policies.models import Network as Network
from proxybox.policies.models import Output as Output
from proxybox.policies.models import Policy as Policy
from proxybox.policies.models import SessionLimits as SessionLimits
from proxybox.policies.models import Time as Time
from proxybox.policies.models import parse_mount as parse_mount
from proxybox.policies.named import PRESETS as PRESETS
from proxybox.policies.named import preset as preset

if TYPE_CHECKING:
    from proxybox.policies.dumping import to_dict as to_dict
    from proxybox.policies.dumping import to_toml as to_toml
    from proxybox.policies.explain import Section as Section
    from proxybox.policies.explain import explain_policy as explain_policy
    from proxybox.policies.explain import explain_text as explain_text
    from proxybox.policies.loading import from_dict as from_dict
    from proxybox.policies.loading import from_toml as from_toml
    from proxybox.policies.loading import load_policy as load_policy
    from proxybox.policies.overrides import evolve as evolve
    from proxybox.policies.overrides import tightened as tightened
    from proxybox.policies.overrides import with_settings as with_settings

_LAZY = {
    "Section": "explain",
    "evolve": "overrides",
    "explain_policy": "explain",
    "explain_text": "explain",
    "from_dict": "loading",
    "from_toml": "loading",
    "load_policy": "loading",
    "tightened": "overrides",
    "to_dict": "dumping",
    "to_toml": "dumping",
    "with_settings": "overrides",
}


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_LAZY[name]}"), name)
