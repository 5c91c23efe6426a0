"""The OS calls for callers, who can see and change them: the OSCall record, interceptors and their verdicts."""

import enum
from collections.abc import Callable
from typing import Any, TypeAlias

import attrs

from proxybox.policies.errors import PolicyError, shown


class Decision(enum.StrEnum):
    """How a call was decided."""

    ALLOWED = "allowed"
    DENIED = "denied"
    ANSWERED = "answered"
    UNKNOWN = "unknown"


@attrs.define(slots=True)
class OSCall:
    """One OS call as a caller sees it.

    The controller does not store the record. A caller that stores it also stores up to 1 MiB of the guest's data.

    arguments: by the names of the man page. Contents of the guest's memory are bytes, addresses are ints. result: the
    value returned (>= 0 or -errno); None before the call is decided. duration_ns: from the request to its answer, in
    nanoseconds of host time, waits included. paths: where there are interceptors, the absolute paths in the box to
    which the path arguments lead, by the current directory, dirfd and symbolic links. These are each path as it was
    written, each link on the way, and the final place. A rule that checks all of them cannot be evaded by another
    spelling; `arguments` has the paths of the program.
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
    """An interceptor's refusal: the guest sees `errno`, the caller sees `reason`."""

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

    value: the call's result (>= 0 or -errno). writes: the (guest address, bytes) pairs to store in the guest.
    """

    value: int
    writes: tuple[tuple[int, bytes], ...] = ()

    def __attrs_post_init__(self) -> None:
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise TypeError(f"value: want a number, which is what the call returns, got {shown(self.value)}")


Interceptor: TypeAlias = Callable[[OSCall], Deny | Answer | None]
"""A function that gets each call before it is decided; None lets the call go on.

It must not change the record."""
Audit: TypeAlias = Callable[[OSCall], None]
"""A function that gets each call after it was decided, readings of clocks included, which count in no limit."""


@attrs.frozen(slots=True)
class Denial:
    """A call that was refused: its name, the name of the errno that the guest saw, and the reason."""

    call: str
    errno: str
    reason: str
