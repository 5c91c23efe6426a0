"""Converts a caller's argument into a policy."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from proxybox.policies.errors import PolicyError, Problem, shown
from proxybox.policies.models import Policy
from proxybox.policies.named import PRESETS, is_file_name, preset


def as_policy(value: Policy | str | os.PathLike[str] | Mapping[str, Any] | None) -> Policy:
    """Returns the policy of a Policy, a preset's name, a TOML file, a dict, or None (default).

    A text that ends in ".toml" or has a "/" is the name of a file. Raises PolicyError.
    """
    if isinstance(value, Policy):
        return value
    if value is None:
        return preset("default")
    if isinstance(value, str) and (value in PRESETS or not is_file_name(value)):
        return preset(value)
    if isinstance(value, Mapping | str | os.PathLike):
        from proxybox.policies import loading  # files are the rarer case, and load more modules

        return loading.from_dict(value) if isinstance(value, Mapping) else loading.load_policy(value)
    raise PolicyError(
        Problem(
            key="policy",
            message="want a Policy, the name of a preset, a file or a dict",
            given=shown(value),
            allowed=", ".join(PRESETS),
        )
    )
