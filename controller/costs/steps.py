"""What one OS call may cost in walking: a number of steps, of about a quarter of a microsecond each.

`Dispatcher.execute` gives each call `CALL` steps. Whatever loops as often as a guest wants takes them: names and links
of a path, folders of the host, which cost the more the deeper they lie. A call that has none left fails with the errno
that its man page has for too long a way. What may be long and has to be done all the same goes in portions
(`Unfinished`).
"""

import errno
import math

#: Of one call: two milliseconds. The longest path in memory has 2,048 names, one on the host takes 150.
CALL = 8192


class Steps:
    """left: those of the call that is being answered; without end where no guest calls."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.lift()

    def lift(self) -> None:
        """What follows is done for nobody's call."""
        self.left: float = math.inf

    def renew(self) -> None:
        """Another call begins."""
        self.left = CALL

    def take(self, count: int, code: int = errno.ELOOP) -> None:
        """Takes so many. An OSError of that `code` where they are not left."""
        self.left -= count
        if self.left < 0:
            raise OSError(code, "a longer way than one call goes")

    def take_host(self, depth: int) -> None:
        """Takes what it costs to look at a file of the host: the kernel walks to it from the mount's root each time."""
        self.take(24 + depth // 4, errno.ENAMETOOLONG)
