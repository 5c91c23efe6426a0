"""The platforms from which a classroom accepts launches: a TOML file.

[[platforms]]
issuer = "https://moodle.school.example"
client_id = "kZb3xVwq"
deployments = ["1"]
auth_login_url = "https://moodle.school.example/mod/lti/auth.php"
auth_token_url = "https://moodle.school.example/mod/lti/token.php"
key_set_url = "https://moodle.school.example/mod/lti/certs.php"
"""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import attrs

from proxybox.policies.building import build, model
from proxybox.policies.checks import refusal
from proxybox.policies.errors import PolicyError, Problem
from proxybox.serve.config import is_loopback, to_texts
from proxybox.teach.folders import in_file, parsed

_MOST_TEXT: Final = 2_000
_ORIGIN: Final = re.compile(r"https?://(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?", re.ASCII)


def to_url(value: str) -> str:
    """Returns a URL of https, or of http on this computer. Raises PolicyError for any other."""
    parts = _parts(value) if isinstance(value, str) and len(value) <= _MOST_TEXT and value.isprintable() else None
    if parts is None or not parts.hostname or parts.username is not None or parts.fragment:
        raise refusal('want an address such as "https://moodle.school.example"', value)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise refusal("want an address that begins with https://", value)
    return value


def origin_of(url: str) -> str:
    """Returns the origin of a URL, if none of its signs has a meaning in a header. Raises PolicyError."""
    parts = _parts(url)
    if parts is None or not _ORIGIN.fullmatch(origin := f"{parts.scheme}://{parts.netloc}"):
        raise refusal("want a host name or an address, and a port", url)
    return origin


def _parts(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # such as an IPv6 address without its end
        return None


def _to_text(value: str) -> str:
    if isinstance(value, str) and 0 < len(value) <= _MOST_TEXT and value.isprintable():
        return value
    raise refusal("want a text of one line", value)


def _to_text_or_none(value: str) -> str:
    return _to_text(value) if value != "" else ""


def _to_deployments(value: Any) -> tuple[str, ...]:
    deployments = to_texts(value, "deployment ids")
    if not deployments:
        raise refusal("want at least one deployment id: the platform shows it where the tool is registered", value)
    return deployments


def _to_flag(value: bool) -> bool:
    if isinstance(value, bool):
        return value
    raise refusal("want true or false", value)


@model("")
@attrs.frozen(kw_only=True)
class Platform:
    """A platform, as the classroom is registered there.

    issuer, client_id, deployments: the ids of the platform, of the classroom there, and of its deployments.
    auth_login_url, auth_token_url, key_set_url: the platform's URLs. auth_audience: the audience in requests for
    tokens, if it is not auth_token_url. teachers: whether the platform's instructors become the teachers of their
    classes.
    """

    issuer: str = attrs.field(converter=to_url)
    client_id: str = attrs.field(converter=_to_text)
    deployments: tuple[str, ...] = attrs.field(converter=_to_deployments)
    auth_login_url: str = attrs.field(converter=to_url)
    auth_token_url: str = attrs.field(converter=to_url)
    key_set_url: str = attrs.field(converter=to_url)
    auth_audience: str = attrs.field(default="", converter=_to_text_or_none)
    teachers: bool = attrs.field(default=False, converter=_to_flag)

    @property
    def name(self) -> str:
        """The name of the platform in the database."""
        return f"{self.issuer} {self.client_id}"


def _to_platforms(value: Any) -> tuple[Platform, ...]:
    if not isinstance(value, list | tuple) or not value:
        raise refusal("want at least one [[platforms]]", value)
    made: list[Platform] = []
    problems: list[Problem] = []
    for at, item in enumerate(value):
        try:
            made.append(build(Platform, item))
        except PolicyError as error:
            problems += error.under(f"[{at}]").problems
    if problems:
        raise PolicyError(*problems)
    if len({each.name for each in made}) < len(made):
        raise refusal("a platform stands there twice, with the same issuer and client_id", [each.name for each in made])
    return tuple(made)


@model("")
@attrs.frozen(kw_only=True)
class Platforms:
    """All platforms of a classroom."""

    platforms: tuple[Platform, ...] = attrs.field(converter=_to_platforms)


def load_platforms(path: Path) -> tuple[Platform, ...]:
    """Returns the platforms in a file. Raises PolicyError with all faults, or ExerciseError if the file is not TOML."""
    try:
        return build(Platforms, parsed(path)).platforms
    except PolicyError as error:
        raise PolicyError(*in_file(error.problems, path)) from None
