"""What a box may do, as data: one frozen class for each section of a policy.

Rules: a value that makes no sense is refused when the object is constructed, with a PolicyError that reports all
faults. Nothing changes afterwards, and nothing here looks at the host. Sizes are bytes and durations are seconds once
converted; None is no limit.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

import attrs

from proxybox.policies import checks
from proxybox.policies.building import build, model, rename
from proxybox.policies.checks import FrozenDict, between, matches, one_of, refusal
from proxybox.policies.errors import nearest
from proxybox.policies.filesystem import Filesystem as Filesystem
from proxybox.policies.filesystem import Mode as Mode
from proxybox.policies.filesystem import Mount as Mount
from proxybox.policies.filesystem import Source as Source
from proxybox.policies.filesystem import parse_mount as parse_mount
from proxybox.policies.moments import Moment, to_moment
from proxybox.policies.sizes import to_duration, to_size

KIB: Final = 1 << 10
MIB: Final = 1 << 20
_EVER: Final = float(1 << 62)
_YEAR: Final = 366 * 86_400.0
VIRTUAL_START: Final = 1_767_225_600.0
"""2026-01-01: where virtual time begins when the policy names no start."""
LAYERS: Final = ("namespaces", "landlock", "cgroup", "speculation", "core-scheduling")
"""What `require_layers` may name: defences that not every host has."""

DISPLAY: Final = (
    "text/plain", "image/png", "image/jpeg", "image/gif", "image/svg+xml", "application/json",
)  # fmt: skip
"""The default of `Output.display`: MIME types that a page can show without trust in their author."""

_bytes = between(0, _EVER, "a size of 0 bytes or more, or none")


# --- time, output ---------------------------------------------------------------------------------


def _to_rate(value: float | str) -> float:
    return checks.limited(
        lambda given: to_duration(given) if isinstance(given, int | float) else None,
        value,
        "a number above 0, such as 2.0",
    )


def _sleeps(self: Time) -> str:
    return "skip" if self.kind in ("frozen", "virtual") else "real"


def _time_form(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else rename(value, "at", "start", to_moment)


@model("time", _time_form)
@attrs.frozen(kw_only=True)
class Time:
    """The box's clocks. Build one with `real`, `frozen`, `virtual` or `scaled`.

    start: the wall clock's first reading: seconds since 1970 UTC, a datetime (UTC where it has no zone) or an ISO 8601
    text. rate: box seconds in a real second. sleep: with "real" a sleep waits, with "skip" it returns at once and the
    clock moves on.
    """

    kind: Literal["real", "frozen", "virtual", "scaled"] = attrs.field(
        default="real", validator=one_of("real", "frozen", "virtual", "scaled")
    )
    start: float | None = attrs.field(
        default=attrs.Factory(lambda self: VIRTUAL_START if self.kind == "virtual" else None, takes_self=True),
        converter=to_moment,
    )
    rate: float = attrs.field(
        default=1.0,
        converter=_to_rate,
        validator=between(0, 1e6, "a rate above 0, at most 1,000,000", above=True),
    )
    sleep: Literal["real", "skip"] = attrs.field(
        default=attrs.Factory(_sleeps, takes_self=True), validator=one_of("real", "skip")
    )

    def __attrs_post_init__(self) -> None:
        if self.kind == "frozen" and self.start is None:
            raise refusal('frozen time needs the time it stands at, such as "2026-01-01T12:00:00Z"', key="at")
        if self.kind == "virtual" and self.start is None:
            raise refusal("virtual time needs a time to start at", key="start")
        if self.kind == "real" and self.start is not None:
            raise refusal('real time starts at the real time; want kind "virtual" or "scaled"', key="start")
        if self.kind != "scaled" and self.rate != 1.0:
            raise refusal(f'only for kind "scaled", not "{self.kind}"', self.rate, key="rate")

    @classmethod
    def real(cls, *, sleep: Literal["real", "skip"] = "real") -> Time:
        """The host's clocks. With sleep="skip" each sleep moves the box's clocks on instead of waiting."""
        return cls(kind="real", sleep=sleep)

    @classmethod
    def frozen(cls, at: Moment, *, sleep: Literal["real", "skip"] = "skip") -> Time:
        """Clocks that stand still at `at`, whatever happens."""
        return cls(kind="frozen", start=at, sleep=sleep)

    @classmethod
    def virtual(cls, start: Moment = VIRTUAL_START, *, sleep: Literal["real", "skip"] = "skip") -> Time:
        """Clocks that begin at `start` and move by sleeps and by being read, never by real time."""
        return cls(kind="virtual", start=start, sleep=sleep)

    @classmethod
    def scaled(cls, rate: float, start: Moment | None = None, *, sleep: Literal["real", "skip"] = "real") -> Time:
        """Clocks that run `rate` times as fast as real ones, beginning at `start` or at the real time."""
        return cls(kind="scaled", rate=rate, start=start, sleep=sleep)


@model("output")
@attrs.frozen(kw_only=True)
class Output:
    """What the box may print: limits of bytes and lines, for each of stdout and stderr.

    on_excess: "truncate" drops the rest, "end" ends the box. escapes: whether terminal escape sequences reach the
    caller: "neutralise" makes them visible text, "raw" lets them through, "auto" neutralises them for terminals alone.
    display: MIME types of what the program displays that a notebook may show, besides plain text. HTML and JavaScript
    are carried out by the page that shows them, so they are shown as they are only if they are named. Of other HTML a
    notebook shows tables and text, unless nothing but plain text is named.
    """

    limit: int | None = attrs.field(default=MIB, converter=to_size, validator=_bytes)
    lines: int | None = attrs.field(
        default=None,
        converter=checks.to_count,
        validator=between(0, _EVER, "0 lines or more, or none"),
    )
    on_excess: Literal["truncate", "end"] = attrs.field(default="truncate", validator=one_of("truncate", "end"))
    escapes: Literal["auto", "neutralise", "raw"] = attrs.field(
        default="auto", validator=one_of("auto", "neutralise", "raw")
    )
    display: tuple[str, ...] = attrs.field(default=DISPLAY, converter=checks.to_mime_types)


# --- limits ---------------------------------------------------------------------------------------

_duration = between(0, _YEAR, "a duration above 0 and of at most 366 days, or none", above=True)
_calls = between(1, _EVER, "1 call or more, or none")
_NURSERY: Final = '"auto", or a size from 1M to 1G'
NURSERY_MOST: Final = 32 * MIB
"""The most that `Limits.nursery` is when it is "auto"."""
MOST_THREADS: Final = 256
"""The most threads of a box, whatever its policy says: each thread has its own channel."""


def _to_nursery(value: int | str) -> int | str:
    return value if value == "auto" else checks.limited(to_size, value, _NURSERY)


def _check_nursery(_: Any, field: attrs.Attribute[Any], value: int | str) -> None:
    if isinstance(value, int) and not MIB <= value <= 1024 * MIB:
        raise refusal(f"want {_NURSERY}", value, key=field.name)


@model("limits")
@attrs.frozen(kw_only=True)
class Limits:
    """How much a box may use before it ends, or before its calls fail. None: no limit.

    wall_time, cpu_time: seconds from the start of the program. memory: of the guest's process, which gets a MemoryError
    first. disk, files: bytes and files that it may add in memory and overlays. open_files: descriptors. threads: at
    once, including the main thread: with 0 or 1 no thread can be started. calls: OS calls in all, without
    readings of clocks. input_wait: whether wall_time stands still while the program waits for standard input: "auto"
    where a person (a terminal) or a function of the caller's gives it, "free" always, "counted" never.

    nursery: bytes of the memory in which a guest's new objects are made (PyPy's PYPY_GC_NURSERY); "auto" is an eighth
    of memory, at most 32 MiB, so that collections do not depend on the machine.

    In a session wall_time, cpu_time and calls count for each call anew, and the others for the session as a whole.
    `SessionLimits` has the limits of all its calls together.
    """

    wall_time: float | None = attrs.field(default=10.0, converter=to_duration, validator=_duration)
    cpu_time: float | None = attrs.field(default=5.0, converter=to_duration, validator=_duration)
    memory: int | None = attrs.field(
        default=512 * MIB,
        converter=to_size,
        validator=between(16 * MIB, _EVER, "a size of 16M or more, or none", "PyPy does not start in less"),
    )
    disk: int | None = attrs.field(default=64 * MIB, converter=to_size, validator=_bytes)
    files: int | None = attrs.field(
        default=10_000,
        converter=checks.to_count,
        validator=between(0, _EVER, "0 files or more, or none"),
    )
    open_files: int | None = attrs.field(
        default=1024,
        converter=checks.to_count,
        validator=between(
            8,
            1 << 20,
            "8 to 1,048,576 descriptors, or none",
            "imports and the standard streams need some",
        ),
    )
    threads: int | None = attrs.field(
        default=16,
        converter=checks.to_count,
        validator=between(0, 1 << 15, "0 to 32,768 threads, or none"),
    )
    calls: int | None = attrs.field(default=1_000_000, converter=checks.to_count, validator=_calls)
    input_wait: Literal["auto", "free", "counted"] = attrs.field(
        default="auto", validator=one_of("auto", "free", "counted")
    )
    nursery: int | str = attrs.field(default="auto", converter=_to_nursery, validator=_check_nursery)

    def __attrs_post_init__(self) -> None:
        if isinstance(self.nursery, int) and self.memory is not None and self.nursery > self.memory // 2:
            raise refusal(
                f"want at most half of limits.memory ({self.memory:,} bytes): the other half is for what lives on",
                self.nursery, key="nursery",
            )  # fmt: skip

    @property
    def nursery_size(self) -> int:
        """Bytes of the nursery."""
        if isinstance(self.nursery, int):
            return self.nursery
        return NURSERY_MOST if self.memory is None else min(NURSERY_MOST, self.memory // 8)

    @property
    def thread_count(self) -> int:
        """How many threads can live at once, including the main thread."""
        return MOST_THREADS if self.threads is None else min(max(self.threads, 1), MOST_THREADS)


_VALUE_SIZE: Final = 'a size from 1K to 64M, such as "1M"'
_GRACE: Final = 'a duration from 0 to 60 seconds, such as "500ms"'


def _to_value_size(value: int | str) -> int:
    return checks.limited(to_size, value, _VALUE_SIZE)


def _to_grace(value: float | str | datetime.timedelta) -> float:
    return checks.limited(to_duration, value, _GRACE)


@model("session")
@attrs.frozen(kw_only=True)
class SessionLimits:
    """What all calls of a session together may use, besides the limits of each call in `Limits`.

    wall_time, cpu_time, calls: seconds from its start, and OS calls; None is no limit. branches: copies of the session
    that may live at once besides it; with 0 it cannot be copied. value_size: bytes of one encoded value that crosses
    the boundary, as an argument or a result. grace: seconds that a call gets to react to the interrupt of a time limit,
    before the session is ended; with 0 it is ended at once.
    """

    wall_time: float | None = attrs.field(default=None, converter=to_duration, validator=_duration)
    cpu_time: float | None = attrs.field(default=None, converter=to_duration, validator=_duration)
    calls: int | None = attrs.field(default=None, converter=checks.to_count, validator=_calls)
    branches: int = attrs.field(
        default=0, converter=checks.to_whole, validator=between(0, 1_000, "0 to 1,000 copies at once")
    )
    value_size: int = attrs.field(default=MIB, converter=_to_value_size, validator=between(KIB, 64 * MIB, _VALUE_SIZE))
    grace: float = attrs.field(default=0.5, converter=_to_grace, validator=between(0, 60, _GRACE))


# --- environment, network -------------------------------------------------------------------------

_id = between(1, (1 << 31) - 1, "an id from 1 to 2,147,483,647", "0 is root, which programs treat specially")


@model("environment")
@attrs.frozen(kw_only=True)
class Environment:
    """What the program is told about its user, its machine and its place in the filesystem.

    variables: environment variables besides those that follow from the rest (HOME, USER, LANG, PATH). user, uid, gid,
    hostname, locale, cpu_count: what the box answers. cwd: the folder that the program starts in; home: its home
    folder; both are paths in the box.
    """

    variables: FrozenDict[str] = attrs.field(factory=FrozenDict, converter=checks.to_variables)
    user: str = attrs.field(
        default="user",
        validator=matches(checks.USER, "a user name: a-z, 0-9, _ and -, no digit first, at most 32 characters", 32),
    )
    uid: int = attrs.field(default=1000, converter=checks.to_whole, validator=_id)
    gid: int = attrs.field(default=1000, converter=checks.to_whole, validator=_id)
    hostname: str = attrs.field(
        default="box",
        validator=matches(
            checks.HOSTNAME,
            "a host name (RFC 1123): letters, digits and inner hyphens, at most 64 characters",
            64,
        ),
    )
    locale: str = attrs.field(
        default="C.UTF-8",
        validator=matches(checks.LOCALE, 'a locale such as "C.UTF-8", "de_DE.UTF-8" or "C"', 64),
    )
    cpu_count: int = attrs.field(
        default=1, converter=checks.to_whole, validator=between(1, 1024, "1 to 1,024 processors")
    )
    cwd: str = attrs.field(default="/box", converter=checks.to_virtual_path)
    home: str = attrs.field(default="/home/user", converter=checks.to_virtual_path)


def _network_form(value: Any) -> Any:
    return {"access": value} if isinstance(value, str) else value


@model("network", _network_form)
@attrs.frozen(kw_only=True)
class Network:
    """What the box may reach: nothing. access: "none"."""

    access: Literal["none"] = attrs.field(default="none", validator=one_of("none"))


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


def _to_randomness(value: str | int) -> str | int:
    if value == "system" and isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 64:
        return value
    raise refusal('want "system", or a seed from 0 to 2**64 - 1', value)


def _to_layers(value: Iterable[str]) -> tuple[str, ...]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise refusal("want a list of layers", value, allowed=", ".join(LAYERS))
    layers = tuple(value)
    for layer in layers:
        if layer not in LAYERS:
            meant = nearest(layer, LAYERS) if isinstance(layer, str) else ""
            raise refusal("there is no such layer", layer, meant=meant, allowed=", ".join(LAYERS))
    return tuple(sorted(set(layers)))


@model("")
@attrs.frozen(kw_only=True)
class Policy:
    """Everything that a box may do. Each section may be given as its class or as a dict.

    randomness: "system", or a seed (0 to 2**64 - 1) that makes the box repeatable. on_denied: what happens when the
    policy refuses a call: "errno" fails it as Linux would, "end" ends the box. require_layers: defences (`LAYERS`)
    without which the box does not start. preload: names of modules that warm guests import, in this order, before
    untrusted code runs. warm_up: Python statements that they run after that, so that what is slow at first is done.
    Raises PolicyError, which reports all faults at once.
    """

    filesystem: Filesystem = attrs.field(factory=Filesystem, converter=_to_filesystem)
    time: Time = attrs.field(factory=Time, converter=_to_time)
    output: Output = attrs.field(factory=Output, converter=_to_output)
    limits: Limits = attrs.field(factory=Limits, converter=_to_limits)
    session: SessionLimits = attrs.field(factory=SessionLimits, converter=_to_session)
    environment: Environment = attrs.field(factory=Environment, converter=_to_environment)
    network: Network = attrs.field(factory=Network, converter=_to_network)
    randomness: str | int = attrs.field(default="system", converter=_to_randomness)
    on_denied: Literal["errno", "end"] = attrs.field(default="errno", validator=one_of("errno", "end"))
    require_layers: tuple[str, ...] = attrs.field(default=(), converter=_to_layers)
    preload: tuple[str, ...] = attrs.field(default=(), converter=checks.to_modules)
    warm_up: str = attrs.field(default="", converter=checks.to_statements)


SECTIONS: Final[Mapping[str, type[Any]]] = {
    "filesystem": Filesystem,
    "time": Time,
    "output": Output,
    "limits": Limits,
    "session": SessionLimits,
    "environment": Environment,
    "network": Network,
}
