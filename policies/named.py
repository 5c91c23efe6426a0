"""The policies that come with proxybox, as objects, so that using one reads no file.

Rule: "default" has the default of every field, which is declared with the field. For each of the others there is an
equal policy in presets/*.toml, to copy from, with the reasons for the numbers; the tests check that they are equal.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from proxybox.policies.errors import PolicyError, Problem, nearest
from proxybox.policies.models import MIB, Filesystem, Limits, Mount, Output, Policy, SessionLimits, Time

PRESETS: Final[Mapping[str, str]] = {
    "default": "a program of your own, kept from doing harm by accident or design",
    "strict": "code from anybody: no threads, no real time, a copy of its folder, tight limits",
    "classroom": "programs of beginners: time to think at input(), short output, clear ends",
    "repl": "a long session at a prompt: no limit on its duration, roomy otherwise",
    "codejail": "problems of Open edX courses: little is seen besides the code's own folder, small files",
}
"""The names of the presets, and what each is for."""


def is_file_name(text: str) -> bool:
    """Whether a policy's name is the name of a file, not of a preset."""
    return text.endswith(".toml") or "/" in text


@functools.cache
def preset(name: str) -> Policy:
    """Returns the preset of that name. Raises PolicyError, with the names of all presets, for any other name."""
    if name == "default":
        return Policy()
    if name == "strict":
        return _strict()
    if name == "classroom":
        return _classroom()
    if name == "repl":
        return _repl()
    if name == "codejail":
        return _codejail()
    raise PolicyError(
        Problem(
            key="",
            message=f'there is no preset "{name[:60]}"',
            meant=nearest(name, PRESETS),
            allowed=", ".join(PRESETS),
        )
    )


def _strict() -> Policy:
    return Policy(
        filesystem=Filesystem(box="memory"),
        time=Time.virtual(),
        output=Output(limit=MIB // 16, lines=2_000, on_excess="end", escapes="neutralise"),
        limits=Limits(
            wall_time=5.0,
            cpu_time=2.0,
            memory=256 * MIB,
            disk=8 * MIB,
            files=500,
            threads=0,
            calls=200_000,
            input_wait="counted",
        ),
    )


def _classroom() -> Policy:
    return Policy(
        output=Output(limit=MIB // 4, lines=5_000),
        limits=Limits(
            wall_time=300.0,
            cpu_time=10.0,
            memory=512 * MIB,
            disk=32 * MIB,
            files=2_000,
            threads=8,
            calls=1_000_000,
        ),
    )


def _repl() -> Policy:
    return Policy(
        output=Output(limit=16 * MIB),
        session=SessionLimits(branches=24),
        limits=Limits(
            wall_time=None,
            cpu_time=None,
            memory=1024 * MIB,
            disk=256 * MIB,
            files=20_000,
            threads=32,
            calls=None,
        ),
    )


def _codejail() -> Policy:
    return Policy(
        filesystem=Filesystem(
            box="memory",
            mounts=tuple(Mount(target, size=0, files=1) for target in ("/etc", "/sys", "/tmp")),  # noqa: S108
        ),
        output=Output(limit=MIB // 16, lines=2_000),
        limits=Limits(
            wall_time=10.0,
            cpu_time=5.0,
            memory=512 * MIB,
            disk=8 * MIB,
            files=500,
            threads=8,
            calls=200_000,
            input_wait="counted",
        ),
    )
