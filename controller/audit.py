"""What a caller can see of OS calls, and change: the OSCall record, interceptors and their verdicts."""

import enum
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from proxybox.policies.errors import PolicyError, shown


class Decision(enum.StrEnum):
    """Who decided a call."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


@attrs.define(slots=True)
class OSCall:
    """One OS call as a caller sees it. Nobody else keeps it: who does keeps up to 1 MiB of the guest's with each.

    arguments: by the names of the man page; what the guest's memory held comes as bytes, addresses as int.
    result: the value returned (>= 0 or -errno); None before the call was decided.
    duration_ns: from the request to its answer, in nanoseconds of host time, waits included.
    paths: where interceptors stand, the absolute paths in the box that the path arguments lead to, by the current
    directory, dirfd and symbolic links: as written, each link on the way, and what is there in the end. A rule that
    looks at all of them cannot be gone around by another spelling; `arguments` has what the program has written.
    """

    name: str
    number: int
    family: str
    arguments: dict[str, Any]
    thread: int
    decision: Decision = Decision.ALLOWED
    result: int | None = None
    errno: str | None = None
    reason: str | None = None
    duration_ns: int = 0
    paths: tuple[bytes, ...] = ()


@attrs.frozen(slots=True)
class Deny:
    """An interceptor's refusal: the guest sees `errno`, the caller `reason`."""

    errno: int
    reason: str = "denied by an interceptor"

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.errno, int) or isinstance(self.errno, bool):
            raise TypeError(f"errno: want a number such as errno.EACCES, got {shown(self.errno)}")
        if not 0 < self.errno < 4096:
            raise PolicyError(f"errno: want a number such as errno.EACCES, got {shown(self.errno)}")


@attrs.frozen(slots=True)
class Answer:
    """An interceptor's own answer: policy and handler are skipped.

    value: what the call returns (>= 0 or -errno). writes: (guest address, bytes) pairs to store.
    """

    value: int
    writes: tuple[tuple[int, bytes], ...] = ()

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise TypeError(f"value: want a number, which is what the call returns, got {shown(self.value)}")


Interceptor: TypeAlias = Callable[[OSCall], Deny | Answer | None]
"""Sees each call before it is decided: None lets it go on. It may change nothing of the record."""
Audit: TypeAlias = Callable[[OSCall], None]
"""Receives each call after it was decided."""


@attrs.frozen(slots=True)
class Denial:
    """A call that policy refused: its name, the errno's name that the guest saw, and why; how often it happened."""

    call: str
    errno: str
    reason: str
