"""The user and the machine that a program sees."""

from __future__ import annotations

import re
from typing import Final

import attrs

from proxybox.policies import checks
from proxybox.policies.building import model
from proxybox.policies.checks import FrozenDict, between, matches
from proxybox.policies.declaring import Measure, declare

_USER: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}", re.ASCII)
_LOCALE: Final = re.compile(r"(?:C|POSIX|[a-z]{2,3}(?:_[A-Z]{2})?)(?:\.[A-Za-z0-9-]{1,20})?(?:@[a-z]{1,20})?", re.ASCII)
_id = between(1, (1 << 31) - 1, "an id from 1 to 2,147,483,647", "0 is root, which programs treat specially")


@model("environment")
@attrs.frozen(kw_only=True)
class Environment:
    """The user, the machine and the place in the filesystem that a program sees."""

    variables: FrozenDict[str] = attrs.field(
        factory=FrozenDict, converter=checks.to_variables, metadata=declare(
            Measure.VARIABLES,
            "environment variables besides those that follow from the other keys (HOME, USER, LANG, PATH): each at "
            "most 128 KiB, and all of them 1 MiB", values=checks.VARIABLES, example={"TZ": "UTC"},
        ),
    )  # fmt: skip
    user: str = attrs.field(
        default="user",
        validator=matches(_USER, "a user name: a-z, 0-9, _ and -, no digit first, at most 32 characters", 32),
        metadata=declare(Measure.TEXT, "the name of its user", example="ann"),
    )  # fmt: skip
    uid: int = attrs.field(
        default=1000, converter=checks.to_whole, validator=_id, metadata=declare(Measure.COUNT, "its user's number")
    )
    gid: int = attrs.field(
        default=1000, converter=checks.to_whole, validator=_id, metadata=declare(Measure.COUNT, "its group's number")
    )
    hostname: str = attrs.field(
        default="box",
        validator=matches(
            checks.HOSTNAME, "a host name (RFC 1123): letters, digits and inner hyphens, at most 64 characters", 64
        ),
        metadata=declare(Measure.TEXT, "the name of its machine", example="worker-1"),
    )
    locale: str = attrs.field(
        default="C.UTF-8", validator=matches(_LOCALE, 'a locale such as "C.UTF-8", "de_DE.UTF-8" or "C"', 64),
        metadata=declare(Measure.TEXT, "what LANG says", example="de_DE.UTF-8"),
    )  # fmt: skip
    cpu_count: int = attrs.field(
        default=1, converter=checks.to_whole, validator=between(1, 1024, "1 to 1,024 processors"),
        metadata=declare(Measure.COUNT, "how many processors it is told of", noun="processor"),
    )  # fmt: skip
    cwd: str = attrs.field(
        default="/box", converter=checks.to_virtual_path, metadata=declare(
            Measure.PATH, "where the program starts", values=checks.PATH, example="/data", explain="It starts in {}."
        ),
    )  # fmt: skip
    home: str = attrs.field(
        default="/home/user", converter=checks.to_virtual_path,
        metadata=declare(Measure.PATH, "its home folder", values=checks.PATH, example="/home/ann"),
    )  # fmt: skip
