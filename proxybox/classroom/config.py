"""Settings of a classroom: options of the command line, or arguments in Python. The exercises are in the course.

Rules: as for policies, every fault is reported, with its key and what is allowed. Only this computer can connect to a
classroom, unless `host` says otherwise.
"""

import hashlib
import ipaddress
import os
import re
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import attrs

from proxybox.controller.statefolder import state_folder
from proxybox.policies.building import model
from proxybox.policies.checks import HOSTNAME, between, one_of, refusal, to_host_path, to_whole
from proxybox.serve.config import is_loopback, to_texts

#: The host that means all addresses of this computer.
LAN: Final = "lan"
_HOSTNAME_MAX: Final = 253
_HOST: Final = 'a host name or an address, or "lan" for all addresses of this machine'
_NAME: Final = 'a host name, such as "class.school.example"'
_ORIGIN: Final = 'an origin with TLS, such as "https://moodle.school.example"'
_EVERYWHERE: Final = frozenset({"0.0.0.0", "::", "*", ""})  # noqa: S104 - words for it; by default it is loopback
#: The characters of a course's name that are not copied into the name of a folder.
_UNUSUAL: Final = re.compile(r"[^A-Za-z0-9._-]+")
_NAME_MAX: Final = 40


def _to_host(value: str) -> str:
    """Returns a host: "lan" for any word that means all addresses, and IPv6 addresses without brackets."""
    if not isinstance(value, str):
        raise refusal(f"want {_HOST}", value)
    host = value.strip().removeprefix("[").removesuffix("]")
    if host.lower() == LAN or host in _EVERYWHERE:
        return LAN
    return _plain_host(host, _HOST)


def _plain_host(text: str, wanted: str) -> str:
    """Returns a host in its only normal form. Raises PolicyError for anything else."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        host = text.lower().rstrip(".")
        if len(host) > _HOSTNAME_MAX or not HOSTNAME.fullmatch(host):
            raise refusal(f"want {wanted}", text) from None
        return host


def _to_names(value: Any) -> tuple[str, ...]:
    return tuple(_plain_host(name, _NAME) for name in to_texts(value, "host names"))


def _to_origins(value: Any) -> tuple[str, ...]:
    return tuple(map(_to_origin, to_texts(value, "origins")))


def _to_origin(text: str) -> str:
    """Returns an origin in the form of browsers (RFC 6454). Raises PolicyError for anything else, or without TLS."""
    try:
        url = urlsplit(text.strip())
        host, port = url.hostname or "", url.port
    except ValueError:
        raise refusal(f"want {_ORIGIN}", text) from None
    more = url.path.strip("/") or url.query or url.fragment or {"@", "%"} & set(url.netloc)
    if url.scheme.lower() != "https" or not host or more:
        raise refusal(f"want {_ORIGIN}", text)
    host = _plain_host(host, _ORIGIN)
    return f"https://{f'[{host}]' if ':' in host else host}" + (f":{port}" if port not in (None, 443) else "")


def _to_path(value: str) -> str:
    if not isinstance(value, str):
        raise refusal("want a path on the host", value)
    return to_host_path(value) if value else ""


def _to_paths(value: Any) -> tuple[str, ...]:
    return tuple(map(_to_path, to_texts(value, "paths")))


@model("")
@attrs.frozen(kw_only=True)
class ClassroomConfig:
    """A classroom.

    course: the folder of the course; "" for proxybox's example. host: where it listens: a host name,
    an address, or "lan" for all addresses of this machine. port: of TCP; 0 for any that is free. data: the folder for
    all that is kept, one of this course's own by default. tls: "none", "self" (a certificate that the classroom makes
    itself), or "files" (those of `tls_cert` and `tls_key`, PEM). names: further host names under which it is reached.
    seats, guest, packages: how many there may be, the interpreter and its packages, in place of the course's own. lti:
    the file of platforms from which students come, too (lti/platforms.py). embed: origins whose pages may show the
    classroom's within their own.
    """

    course: str = attrs.field(default="", converter=_to_path)
    host: str = attrs.field(default="127.0.0.1", converter=_to_host)
    port: int = attrs.field(default=8080, converter=to_whole, validator=between(0, 65_535, "a port from 0 to 65,535"))
    data: str = attrs.field(
        default=attrs.Factory(lambda config: _data_folder(config.course), takes_self=True), converter=to_host_path
    )
    tls: Literal["none", "self", "files"] = attrs.field(default="none", validator=one_of("none", "self", "files"))
    tls_cert: str = attrs.field(default="", converter=_to_path)
    tls_key: str = attrs.field(default="", converter=_to_path)
    names: tuple[str, ...] = attrs.field(default=(), converter=_to_names)
    seats: int | None = attrs.field(default=None, validator=between(1, 1_000, "1 to 1,000 seats, or none"))
    guest: str | None = None
    packages: tuple[str, ...] = attrs.field(default=(), converter=_to_paths)
    lti: str = attrs.field(default="", converter=_to_path)
    embed: tuple[str, ...] = attrs.field(default=(), converter=_to_origins)

    def __attrs_post_init__(self) -> None:
        if (self.tls == "files") != bool(self.tls_cert and self.tls_key) or bool(self.tls_cert) != bool(self.tls_key):
            raise refusal('tls = "files" needs both tls_cert and tls_key, and they need it', key="tls")
        if self.lti and self.tls == "none":
            raise refusal('LTI needs TLS: tls = "self" or "files"', key="lti")
        if self.embed and self.tls == "none":
            raise refusal('pages within others need TLS: tls = "self" or "files"', key="embed")

    @property
    def is_local(self) -> bool:
        """Whether only this computer can connect to it."""
        return self.host != LAN and is_loopback(self.host)

    def answers_to(self, host: str) -> bool:
        """Whether the host of a request (without its port) is this classroom's: an address, localhost, or a name of it.

        A page of another origin cannot have an address of this computer. But its owner can let a DNS name point here
        (DNS rebinding).
        """
        name = host.removeprefix("[").removesuffix("]").lower().rstrip(".")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in ("localhost", *self.names) or (name == self.host != LAN)
        return True

    @property
    def has_tls(self) -> bool:
        """Whether it speaks HTTPS."""
        return self.tls != "none"


def _data_folder(course: str) -> str:
    """Returns the folder for the data of a course. Two courses whose folders have the same name get different ones."""
    parent = state_folder("classroom")
    if parent is None:
        raise refusal("want a folder: this user has no home folder to keep anything in", key="data")
    if not course:
        return os.path.join(parent, "example")
    folder = Path(course).resolve()
    digest = hashlib.sha256(os.fsencode(folder)).hexdigest()[:8]
    return os.path.join(parent, f"{_UNUSUAL.sub('-', folder.name)[:_NAME_MAX]}-{digest}")
