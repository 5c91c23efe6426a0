"""Records of calls, as an audit gets them, and results, all without a box."""

import errno
import os
from typing import Any

from proxybox.controller.audit import Decision, Denial, OSCall
from proxybox.result import GuestError, Result, Status


def call(name: str, *paths: str, error: str = "", family: str = "paths", **arguments: Any) -> OSCall:
    """Returns a call with some paths. error: the name of the errno with which it failed."""
    result = -getattr(errno, error) if error else 0
    made = {"path": os.fsencode(paths[0]), **arguments} if paths else arguments
    return OSCall(
        name, 0, family, made, 1, Decision.ALLOWED, result, error or None,
        paths=tuple(map(os.fsencode, paths)),
    )  # fmt: skip


def opened(path: str, flags: int = os.O_RDONLY, error: str = "") -> OSCall:
    """Returns a call of openat."""
    return call("openat", path, error=error, dirfd=-100, flags=flags)


def ended(status: str = "ok", *, why: str = "", denials: dict[Denial, int] | None = None, **options: Any) -> Result:
    """Returns a result."""
    return Result(status=Status(status), why=why, denials=denials or {}, **options)


def failed(kind: str, message: str, traceback: str = "") -> Result:
    """Returns the result of a program that ended with an exception."""
    return ended("error", exit_code=1, error=GuestError(kind, message, traceback))
