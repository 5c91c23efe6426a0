"""A policy: what a box may do, as data. Each section is a frozen class; the larger ones have their own files.

Rules: an invalid value is refused when the object is constructed, with a PolicyError that reports all faults. Nothing
changes afterwards, and nothing here reads the host. Sizes are bytes and durations are seconds after conversion; None is
no limit. The purpose of a field is in its declaration (declaring.py), and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import attrs

from proxybox.policies import checks
from proxybox.policies.building import build, model
from proxybox.policies.checks import one_of, refusal
from proxybox.policies.clocks import VIRTUAL_START as VIRTUAL_START
from proxybox.policies.clocks import Time as Time
from proxybox.policies.declaring import Measure, declare
from proxybox.policies.environment import Environment as Environment
from proxybox.policies.errors import nearest
from proxybox.policies.filesystem import Filesystem as Filesystem
from proxybox.policies.filesystem import Mode as Mode
from proxybox.policies.filesystem import Mount as Mount
from proxybox.policies.filesystem import Source as Source
from proxybox.policies.filesystem import parse_mount as parse_mount
from proxybox.policies.limits import DISPLAY as DISPLAY
from proxybox.policies.limits import MIB as MIB
from proxybox.policies.limits import MOST_THREADS as MOST_THREADS
from proxybox.policies.limits import NURSERY_MOST as NURSERY_MOST
from proxybox.policies.limits import Limits as Limits
from proxybox.policies.limits import Output as Output
from proxybox.policies.limits import SessionLimits as SessionLimits

LAYERS: Final = ("namespaces", "landlock", "cgroup", "speculation", "core-scheduling")
"""What `require_layers` may name: defences that not every host has."""


def _network_form(value: Any) -> Any:
    return {"access": value} if isinstance(value, str) else value


@model("network", _network_form)
@attrs.frozen(kw_only=True)
class Network:
    """What the box may reach: nothing."""

    access: Literal["none"] = attrs.field(
        default="none", validator=one_of("none"),
        metadata=declare(Measure.WORD, 'a box has no network; `network = "none"` is short for it'),
    )  # fmt: skip


# --- the policy -----------------------------------------------------------------------------------


def _to_filesystem(value: Filesystem | Iterable[Mount] | Mapping[str, Any]) -> Filesystem:
    return build(Filesystem, value)


def _to_time(value: Time | str | Mapping[str, Any]) -> Time:
    return build(Time, value)


def _to_output(value: Output | Mapping[str, Any]) -> Output:
    return build(Output, value)


def _to_limits(value: Limits | Mapping[str, Any]) -> Limits:
    return build(Limits, value)


def _to_session(value: SessionLimits | Mapping[str, Any]) -> SessionLimits:
    return build(SessionLimits, value)


def _to_environment(value: Environment | Mapping[str, Any]) -> Environment:
    return build(Environment, value)


def _to_network(value: Network | str | Mapping[str, Any]) -> Network:
    return build(Network, value)


_RANDOMNESS: Final = '"system", or a seed from 0 to 2**64 - 1'
_LAYERS: Final = "a list of layers"


def _to_randomness(value: str | int) -> str | int:
    if value == "system" and isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    raise refusal(f"want {_RANDOMNESS}", value)


def _to_layers(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refusal(f"want {_LAYERS}", value, allowed=", ".join(LAYERS))
    layers = tuple(value)
    for layer in layers:
        if layer not in LAYERS:
            meant = nearest(layer, LAYERS) if isinstance(layer, str) else ""
            raise refusal("there is no such layer", layer, meant=meant, allowed=", ".join(LAYERS))
    return tuple(sorted(set(layers)))


@model("")
@attrs.frozen(kw_only=True)
class Policy:
    """Everything that a box may do. Each section may be an instance of its class or a dict.

    Raises PolicyError, which reports all faults at once.
    """

    filesystem: Filesystem = attrs.field(factory=Filesystem, converter=_to_filesystem)
    time: Time = attrs.field(factory=Time, converter=_to_time)
    output: Output = attrs.field(factory=Output, converter=_to_output)
    limits: Limits = attrs.field(factory=Limits, converter=_to_limits)
    session: SessionLimits = attrs.field(factory=SessionLimits, converter=_to_session)
    environment: Environment = attrs.field(factory=Environment, converter=_to_environment)
    network: Network = attrs.field(factory=Network, converter=_to_network)
    randomness: str | int = attrs.field(
        default="system", converter=_to_randomness, metadata=declare(
            Measure.COUNT,
            "where random bytes come from; a number is a seed that makes the box repeatable, with time that is "
            "`virtual` or `frozen`",
            values=_RANDOMNESS, example=42, schema={
                "type": ["integer", "string"], "minimum": 0, "maximum": (1 << 64) - 1, "pattern": "^system$",
            },
        ),
    )  # fmt: skip
    on_denied: Literal["errno", "end"] = attrs.field(
        default="errno", validator=one_of("errno", "end"), metadata=declare(
            Measure.WORD,
            "what happens at a denied call: it fails as it would on Linux, or the box ends with the status `denied`",
        ),
    )  # fmt: skip
    require_layers: tuple[str, ...] = attrs.field(
        default=(), converter=_to_layers, metadata=declare(
            Measure.TEXTS,
            f"defences without which the box does not start: {', '.join(f'`{layer}`' for layer in LAYERS)}",
            values=_LAYERS, example=["landlock"], schema={"items": {"enum": list(LAYERS)}},
        ),
    )  # fmt: skip
    preload: tuple[str, ...] = attrs.field(
        default=(), converter=checks.to_modules, metadata=declare(
            Measure.TEXTS,
            "modules that warm guests import, in this order, before any untrusted code runs; none that leaves threads "
            "or open files behind", values=checks.MODULES, example=["json", "xml.dom"],
            schema={"items": {"type": "string", "pattern": r"^[^\W\d]\w*(?:\.[^\W\d]\w*)*$"}},
        ),
    )  # fmt: skip
    warm_up: str = attrs.field(
        default="", converter=checks.to_statements, metadata=declare(
            Measure.TEXT,
            "Python statements that warm guests run after that, in a namespace of their own: what a library does at "
            "its first use is done once, and not in each box. They run in the box, and programs can find them in its "
            "memory", values=checks.STATEMENTS, example="import json; json.loads('[]')",
            schema={"pattern": "^[^\u0000]*$"},
        ),
    )  # fmt: skip


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "filesystem": Filesystem,
    "time": Time,
    "output": Output,
    "limits": Limits,
    "session": SessionLimits,
    "environment": Environment,
    "network": Network,
}
