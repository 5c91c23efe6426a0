"""How far one OS call may search: a number of steps of about a quarter of a microsecond each.

`Dispatcher.execute` gives each call `CALL` steps. Code that loops as often as a guest wants takes steps: for the names
and links of a path, and for folders of the host, which cost more the deeper they lie. A call that has none left fails
with an errno from its man page. Work that may be long but must be done is divided into portions (`AnotherTurn`).
"""

import errno
import math

#: The steps of one call: two milliseconds. The longest path in memory has 2,048 names; on the host, the steps suffice
#: for a path of about 150 names.
CALL = 8192


class Steps:
    """The steps that are left of one call.

    left: how many the present call has left; infinite outside of a guest's call.
    """

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.lift()

    def lift(self) -> None:
        """Removes the limit, for work that is not done for a guest's call."""
        self.left: float = math.inf

    def renew(self) -> None:
        """Sets all steps for the next call."""
        self.left = CALL

    def take(self, count: int, code: int = errno.ELOOP) -> None:
        """Takes `count` steps. Raises OSError with `code` where fewer are left."""
        self.left -= count
        if self.left < 0:
            raise OSError(code, "a longer way than one call goes")

    def take_host(self, depth: int) -> None:
        """Takes the steps of a look at a host file: each time the kernel walks to it from the mount's root."""
        self.take(24 + depth // 4, errno.ENAMETOOLONG)
