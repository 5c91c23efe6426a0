"""Objects of which each process has one, such as a thread or a cache. A forked child makes its own.

    @PerProcess
    def engine() -> Engine:
        return Engine()

    engine().serve(guest)

fork(2) copies the memory of the parent, but only the thread that forks. So the child would have objects whose threads
are missing, and locks that no thread releases.
"""

import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A function that always returns the same object, which its first call in a process makes. From any thread.

    make: makes the object. An exception of `make` is raised by the call, and the next call tries again. forget: is
    called in a forked child with the object of the parent, where there is one. made: the object, where there is one
    already.

    Use it only at the top level of a module, because Python cannot remove a hook that is called after a fork.
    """

    def __init__(self, make: Callable[[], T], forget: Callable[[T], object] | None = None) -> None:
        self.__doc__ = make.__doc__
        self.made: T | None = None
        self._make, self._forget = make, forget
        self._making = threading.Lock()
        os.register_at_fork(after_in_child=self._after_fork)

    def __call__(self) -> T:
        """Returns the object of this process."""
        made = self.made
        return self._first() if made is None else made

    def _first(self) -> T:
        with self._making:
            if self.made is None:  # otherwise another thread was faster
                self.made = self._make()
            return self.made

    def _after_fork(self) -> None:
        made, self.made, self._making = self.made, None, threading.Lock()
        if made is not None and self._forget is not None:
            self._forget(made)
