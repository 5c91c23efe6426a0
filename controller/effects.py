"""What a handler returns: an answer, or a wait for a driver to carry out.

Rule: nothing here waits or talks to a guest. The same values serve every driver.
"""

from collections.abc import Callable
from typing import TypeAlias

import attrs

#: Bytes to store in the guest: (guest address, data).
Write: TypeAlias = tuple[int, bytes]


@attrs.frozen(slots=True)
class Blocked:
    """The call cannot be answered yet.

    attempt: tried again whenever something in this world has changed; None means "still not ready". May raise OSError.
    deadline_ns: host monotonic nanoseconds at which `on_timeout` gives the answer; None waits for ever.
    on_interrupt: the answer when a signal ends the wait; -EINTR when None.
    host_fd: a host descriptor whose readability may unblock the call (standard input only).
    """

    attempt: Callable[[], "Reply | None"]
    deadline_ns: int | None = None
    on_timeout: Callable[[], "Reply"] | None = None
    on_interrupt: Callable[[], "Reply"] | None = None
    host_fd: int | None = None


#: The value of the system call as the kernel would return it (>= 0 or -errno), with what is to be stored, or a wait.
Reply: TypeAlias = int | tuple[int, *tuple[Write, ...]] | Blocked
