"""The configuration of a service: from a TOML file, from options of the command line, or from Python.

    listen = "127.0.0.1:8000"

    [policies.default]            # clients choose one by its name and can only tighten it
    extends = "strict"

    [languages.data]              # an interpreter, its packages, and modules that are imported in advance
    guest = "cpython"
    packages = ["requirements.txt"]
    preload = ["pandas"]

    [limits]
    concurrency = 8

Rules: as for policies, every fault is reported, with its file, its key and what is allowed; a key that does not exist
is a fault; host paths are relative to the file.
"""

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import attrs

from proxybox.controller.statefolder import state_folder
from proxybox.policies import Policy, PolicyError, Problem, as_policy, evolve, preset, toml
from proxybox.policies import loading as policy_files
from proxybox.policies.building import build, model
from proxybox.policies.checks import between, limited, one_of, refusal, to_modules, to_whole
from proxybox.policies.errors import shown
from proxybox.policies.regularfiles import regular
from proxybox.policies.sizes import to_duration, to_size
from proxybox.serve.connections.bounds import Bounds
from proxybox.serve.keys import mark_of
from proxybox.serve.opening import checked, own_doors
from proxybox.serve.retention import Retention
from proxybox.serve.setup import Interpreter

T = TypeVar("T")

_MIB: Final = 1 << 20
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
_FILE_MAX: Final = 1 << 20
#: The least rate of a transfer of a session's file, in bytes a second.
_FILE_RATE: Final = 64 << 10

_BODY: Final = 'a size from 1K to 1G, such as "8M"'
_BODIES: Final = 'a size from 1K to 1T, such as "32M"'
_FILE: Final = 'a size from 1K to 1T, such as "64M"'
_RECORD: Final = 'a size from 64K to 64M, such as "16M"'
_COUNT: Final = "a whole number of 1 or more"
_SOON: Final = 'a duration above 0 and of at most a day, such as "30s"'


def _to_body(value: int | str) -> int:
    return limited(to_size, value, _BODY)


def _to_room(value: int | str) -> int:
    return limited(to_size, value, 'a size, such as "256M"')


def _to_file(value: int | str) -> int:
    return limited(to_size, value, _FILE)


def _to_bodies(value: int | str) -> int:
    return limited(to_size, value, _BODIES)


def _to_record(value: int | str) -> int:
    return limited(to_size, value, _RECORD)


def _to_seconds(value: float | str) -> float:
    return limited(to_duration, value, _SOON)


def _bodies() -> Any:
    return attrs.field(
        default=None,
        converter=attrs.converters.optional(_to_bodies),
        validator=attrs.validators.optional(between(1 << 10, 1 << 40, _BODIES)),
    )


@model("limits")
@attrs.frozen(kw_only=True)
class ServiceLimits:
    """Bounds of what clients may request.

    body: bytes of one request. bodies: bytes of requests of one key that are in memory at once, while they are
    received, wait or run; None for four times `body`. bodies_of_all: of all keys; None for four times that. files: how
    many files one request may have. concurrency: how many runs of one key may run at once; None for three quarters of
    all slots. live: the same for calls of sessions and for runs that wait for input. queue: how many requests may wait.
    queue_wait: seconds that a request waits at most. input_wait: seconds that a program waits for its caller's input.
    file: bytes of one file of a session that is read or written. artefacts: bytes of files that are stored for a key.
    record: bytes of the record of a run or a session; with None, clients cannot request records.
    """

    body: int = attrs.field(
        default=8 * _MIB,
        converter=_to_body,
        validator=between(1 << 10, 1 << 30, _BODY),
    )
    bodies: int | None = _bodies()
    bodies_of_all: int | None = _bodies()
    files: int = attrs.field(default=1_000, converter=to_whole, validator=between(0, 100_000, "0 to 100,000 files"))
    concurrency: int | None = attrs.field(default=None, validator=between(1, 10_000, f"{_COUNT}, or none"))
    live: int | None = attrs.field(default=None, validator=between(1, 10_000, f"{_COUNT}, or none"))
    queue: int = attrs.field(
        default=256, converter=to_whole, validator=between(0, 1 << 20, "a whole number of 0 or more")
    )
    queue_wait: float = attrs.field(
        default=30.0,
        converter=_to_seconds,
        validator=between(0, 86_400, _SOON, above=True),
    )
    input_wait: float = attrs.field(
        default=60.0,
        converter=_to_seconds,
        validator=between(0, 86_400, _SOON, above=True),
    )
    file: int = attrs.field(default=64 * _MIB, converter=_to_file, validator=between(1 << 10, 1 << 40, _FILE))
    artefacts: int = attrs.field(default=256 * _MIB, converter=_to_room)
    record: int | None = attrs.field(
        default=None,
        converter=attrs.converters.optional(_to_record),
        validator=attrs.validators.optional(between(64 << 10, 64 << 20, _RECORD)),
    )


@model("sessions")
@attrs.frozen(kw_only=True)
class ServiceSessions:
    """How many sessions may exist, and when those that nobody uses are stopped and ended.

    most: of all keys together. share: of one key. sleep_after: seconds without a request after which a session's
    process is stopped until the next one. end_after: seconds without a request after which it is ended. last: seconds
    from its start after which it is ended even if it is used. records: whether the database stores how each has ended,
    so that later requests get that answer.
    """

    most: int = attrs.field(default=200, converter=to_whole, validator=between(0, 100_000, "0 to 100,000 sessions"))
    share: int = attrs.field(default=50, converter=to_whole, validator=between(0, 100_000, "0 to 100,000 sessions"))
    sleep_after: float = attrs.field(
        default=60.0,
        converter=_to_seconds,
        validator=between(0, 86_400, _SOON, above=True),
    )
    end_after: float = attrs.field(
        default=1800.0,
        converter=_to_seconds,
        validator=between(0, 86_400, _SOON, above=True),
    )
    last: float = attrs.field(
        default=86_400.0,
        converter=_to_seconds,
        validator=between(0, 86_400, _SOON, above=True),
    )
    records: bool = True


def _to_policies(value: Any) -> Mapping[str, Policy]:
    return _named(value, _meant)


def to_texts(value: Any, wanted: str) -> tuple[str, ...]:
    """Returns a list of texts. wanted: their description in error messages."""
    if not isinstance(value, list | tuple) or not all(isinstance(each, str) for each in value):
        raise refusal(f"want a list of {wanted}", value)
    return tuple(value)


def _to_paths(value: Any) -> tuple[str, ...]:
    return to_texts(value, "paths")


def _to_guest(value: str | None) -> str | None:
    if value is None or (isinstance(value, str) and value):
        return value
    raise refusal('want the name or the path of an interpreter, such as "cpython"', value)


def _to_origins(value: Any) -> tuple[str, ...]:
    return to_texts(value, "origins")


@model("")
@attrs.frozen(kw_only=True)
class Language:
    """The interpreter of one language, as for `Sandbox`. packages: host paths. preload: names of modules."""

    guest: str | None = attrs.field(default=None, converter=_to_guest)
    packages: tuple[str, ...] = attrs.field(default=(), converter=_to_paths)
    preload: tuple[str, ...] = attrs.field(default=(), converter=to_modules)

    def interpreter(self) -> Interpreter:
        """Returns the interpreter in the form of a worker's `Setup`."""
        return Interpreter(guest=self.guest, packages=self.packages, preload=self.preload)


def _to_languages(value: Any) -> Mapping[str, Language]:
    return _named(value, lambda entry: build(Language, entry))


def _named(value: Any, make: Callable[[Any], T]) -> dict[str, T]:
    """Returns a table as objects by their names. Raises PolicyError with all faults."""
    if not isinstance(value, Mapping) or not value:
        raise refusal("want a table of at least one name", value)
    made: dict[str, T] = {}
    problems: list[Problem] = []
    for name, entry in value.items():
        try:
            if not isinstance(name, str) or not _NAME.match(name):
                raise refusal("want a name of letters, digits, '.', '_', '+' and '-', at most 64", name)
            made[name] = make(entry)
        except PolicyError as error:
            problems += error.under(str(name)).problems
    if problems:
        raise PolicyError(*problems)
    return made


def _to_limits(value: ServiceLimits | Mapping[str, Any]) -> ServiceLimits:
    return build(ServiceLimits, value)


def _to_sessions(value: ServiceSessions | Mapping[str, Any]) -> ServiceSessions:
    return build(ServiceSessions, value)


def _to_bounds(value: Bounds | Mapping[str, Any]) -> Bounds:
    return build(Bounds, value)


def _to_retention(value: Retention | Mapping[str, Any]) -> Retention:
    return build(Retention, value)


def _to_doors(value: Any) -> tuple[str, ...]:
    return checked(to_texts(value, "doors"))


def _check_listen(_: object, field: "attrs.Attribute[Any]", value: Any) -> None:
    try:
        address_of(value)
    except (ValueError, AttributeError, TypeError):
        raise refusal(
            'want an address such as "127.0.0.1:8000", "[::1]:8000" or "unix:/run/proxybox.sock"', value, key=field.name
        ) from None


def _policies() -> Mapping[str, Policy]:
    """Returns the policies of a service that configures none: those of the same names, whose sessions can be copied."""
    return {name: evolve(preset(name), session={"branches": 8}) for name in ("default", "strict")}


def _cpus() -> int:
    return len(os.sched_getaffinity(0))


@model("")
@attrs.frozen(kw_only=True)
class ServiceConfig:
    """A service. Each section may be given as its class or as a table.

    listen: an address, or "unix:PATH". data: the folder of the database and the file of keys. database:
    an SQLAlchemy URL; None for SQLite in `data`. keys: the file of keys, which has to exist; None for keys.json in
    `data`. require_keys: whether a key is needed on loopback, too, even before the first one was made. workers:
    processes that have the boxes. express: whether one more worker serves keys that have no other request at that time;
    it has a higher CPU priority. slots, live: how many runs, and how many calls of sessions and runs that ask for
    input, each worker does at once. log: the form of log lines. origins: web pages that may use the service (CORS).
    doors: which protocols are spoken (opening.py). drain: seconds that a service waits for its runs after SIGTERM.
    policies, languages: by the names that clients use; the first of each is for requests that name none.
    """

    listen: str = attrs.field(default="127.0.0.1:8000", validator=_check_listen)
    data: str = attrs.field(factory=lambda: state_folder("serve") or "")
    database: str | None = None
    keys: str | None = None
    require_keys: bool = False
    workers: int = attrs.field(factory=_cpus, converter=to_whole, validator=between(1, 1024, "1 to 1,024 processes"))
    express: bool = True
    slots: int = attrs.field(default=4, converter=to_whole, validator=between(1, 256, "1 to 256 runs"))
    live: int = attrs.field(default=16, converter=to_whole, validator=between(1, 1024, "1 to 1,024 calls"))
    log: Literal["text", "json"] = attrs.field(default="text", validator=one_of("text", "json"))
    origins: tuple[str, ...] = attrs.field(default=(), converter=_to_origins)
    doors: tuple[str, ...] = attrs.field(factory=own_doors, converter=_to_doors)
    drain: float = attrs.field(default=30.0, converter=_to_seconds, validator=between(0, 86_400, _SOON))
    limits: ServiceLimits = attrs.field(factory=ServiceLimits, converter=_to_limits)
    sessions: ServiceSessions = attrs.field(factory=ServiceSessions, converter=_to_sessions)
    connections: Bounds = attrs.field(factory=Bounds, converter=_to_bounds)
    retention: Retention = attrs.field(factory=Retention, converter=_to_retention)
    policies: Mapping[str, Policy] = attrs.field(factory=_policies, converter=_to_policies)
    languages: Mapping[str, Language] = attrs.field(factory=lambda: {"python": Language()}, converter=_to_languages)

    def __attrs_post_init__(self) -> None:
        if not self.data:
            raise refusal("want a folder: this user has no home folder to keep anything in", key="data")

    @property
    def address(self) -> tuple[str, int] | str:
        """The address at which it listens: host and port, or the path of a socket."""
        return address_of(self.listen)

    @property
    def is_local(self) -> bool:
        """Whether only this machine can connect to it."""
        address = self.address
        return isinstance(address, str) or is_loopback(address[0])

    @property
    def keys_file(self) -> str:
        """The path of the file of keys."""
        return self.keys or os.path.join(self.data, "keys.json")

    @property
    def keys_mark(self) -> Path:
        """The path of the mark which records that keys were made for this service, or named in its configuration."""
        return mark_of(os.path.join(self.data, "keys.json"))

    @property
    def database_url(self) -> str:
        """The URL of the database."""
        return self.database or f"sqlite:///{os.path.join(self.data, 'proxybox.sqlite')}"

    @property
    def bodies(self) -> int:
        """How many bytes of requests of one key may be in memory at once."""
        return self.limits.bodies or 4 * self.limits.body

    @property
    def bodies_of_all(self) -> int:
        """How many bytes of requests of all keys may be in memory at once."""
        return self.limits.bodies_of_all or 4 * self.bodies

    @property
    def share(self) -> int:
        """How many runs of one key may run at once."""
        return self.limits.concurrency or max(1, self.workers * self.slots * 3 // 4)

    @property
    def live_share(self) -> int:
        """How many calls of sessions, and runs that ask for input, of one key may run at once."""
        return self.limits.live or max(1, self.workers * self.live * 3 // 4)

    @property
    def transfer_time(self) -> float:
        """How many seconds a transfer of a session's file may take: it occupies a line of the session's worker."""
        return self.connections.time + self.limits.file / _FILE_RATE


def address_of(text: str) -> tuple[str, int] | str:
    """Returns host and port, or the path of a socket. Raises ValueError."""
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not os.path.isabs(path):
            raise ValueError(text)
        return path
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not port.isdecimal() or int(port) > 65_535 or (":" in host and not text.startswith("[")):
        raise ValueError(text)
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, by its address or as localhost."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load_config(path: str | os.PathLike[str], **changes: Any) -> ServiceConfig:
    """Returns the service in a TOML file, with some keys replaced. Raises PolicyError with all faults."""
    name = os.fspath(path)
    try:
        with open(name, "rb", opener=regular) as file:
            data = file.read(_FILE_MAX + 1)
        if len(data) > _FILE_MAX:
            raise PolicyError(Problem(key="", message="larger than 1 MiB", file=name))
        table = toml.loads(data.decode())
    except OSError as error:
        raise PolicyError(Problem(key="", message=f"cannot be read: {error.strerror}", file=name)) from None
    except ValueError as error:
        raise PolicyError(Problem(key="", message=f"not TOML: {error}", file=name)) from None
    folder = os.path.dirname(os.path.abspath(name))
    try:
        return ServiceConfig(**{**_anchored(table, folder), **changes})
    except PolicyError as error:
        raise PolicyError(*(attrs.evolve(problem, file=problem.file or name) for problem in error.problems)) from None


def _anchored(table: dict[str, Any], folder: str) -> dict[str, Any]:
    """Returns the table with its host paths made relative to its folder, and its policies made."""
    for key in ("data", "keys"):
        if isinstance(table.get(key), str):
            table[key] = _path(table[key], folder)
    if isinstance(table.get("policies"), Mapping):
        table["policies"] = {name: _policy(entry, folder) for name, entry in table["policies"].items()}
    languages = table.get("languages")
    if isinstance(languages, Mapping):
        table["languages"] = {name: anchored_language(entry, folder) for name, entry in languages.items()}
    return table


def _policy(entry: Any, folder: str) -> Any:
    """Returns a policy made from a table, with paths relative to the folder.

    A table with faults is returned as it is, and reported later.
    """
    if not isinstance(entry, Mapping):
        return _path(entry, folder) if isinstance(entry, str) and entry.endswith(".toml") else entry
    return _Anchored(entry, folder)


class _Anchored(dict[str, Any]):
    """A policy's table with the folder that its paths are relative to."""

    def __init__(self, table: Mapping[str, Any], folder: str) -> None:
        super().__init__(table)
        self.folder = folder


def anchored_language(entry: Any, folder: str) -> Any:
    """Returns the table of a language with the host paths in it made relative to a folder."""
    if not isinstance(entry, Mapping):
        return entry
    anchored = dict(entry)
    if isinstance(packages := entry.get("packages"), list):
        anchored["packages"] = [_path(each, folder) if isinstance(each, str) else each for each in packages]
    guest = entry.get("guest")
    if isinstance(guest, str) and "/" in guest:
        anchored["guest"] = _path(guest, folder)
    return anchored


def _path(text: str, folder: str) -> str:
    return os.path.normpath(os.path.join(folder, os.path.expanduser(text)))


def _meant(entry: Any) -> Policy:
    if isinstance(entry, _Anchored):
        return policy_files.from_dict(entry, folder=entry.folder)
    if not isinstance(entry, str | Mapping | Policy):
        raise refusal("want a table, the name of a preset or a file", shown(entry))
    return as_policy(entry)
