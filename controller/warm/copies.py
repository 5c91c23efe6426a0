"""Copies of a session: how many there may be, and how the kernel copies the guest while its world is copied here."""

import contextlib
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from proxybox.controller.boxes.box import BoxRunner, LiveBox
from proxybox.controller.boxes.worldbuilding import WorldBuilder
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import CannotCopy
from proxybox.controller.process.birth import adopt
from proxybox.controller.process.launch import uid_of_guests
from proxybox.controller.seal.inspection import inspect_seal
from proxybox.controller.world.state import World

#: Seconds that the copying of a guest may take, whatever its policy says: the guest's own functions
#: (os.register_at_fork) may run then, in the guest and in the copy.
COPY_LIMIT = 3.0
#: Copies have process ids greater than this.
_BEFORE_COPIES = 1000
#: Seconds to wait for threads that have ended for the program but not yet for the kernel (join returns earlier).
THREADS_END = 0.05


class Copies:
    """Counts the copies of a session, and the copies of its copies.

    limit: the most copies that may live at once. living: the session and its copies. next_pid: the process id of the
    copy made last. refused: why no copies can be made; empty where they can.

    A copy that replaces a session (`restore`) is not counted additionally. It takes the place of the session that it
    replaces, and is counted as that session was.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.living: weakref.WeakSet[Any] = weakref.WeakSet()
        self.next_pid = _BEFORE_COPIES
        self.refused = ""
        self._counted = 0
        self._made = 0
        self._lock = threading.Lock()

    def take(self, counted: bool = True) -> int:
        """Reserves a place for one more copy, and returns the copy's process id in the box.

        counted: whether the copy counts against the limit. Raises CannotCopy.
        """
        if self.refused:
            raise CannotCopy(self.refused)
        with self._lock:
            if counted and self._counted >= self.limit:
                raise CannotCopy(
                    f"{self._counted} copies of this session live, and the policy allows {self.limit} "
                    "(session.branches): close some, or allow more"
                )
            self._counted += counted
            self._made += 1
            self.next_pid += 1
            return self.next_pid

    def give_back(self) -> None:
        """Releases one place that counted against the limit."""
        with self._lock:
            self._counted -= 1

    def left(self) -> None:
        """Notes that a copy has ended.

        After the last one the process ids start again, so that later copies cannot find out how many there were.
        """
        with self._lock:
            self._made -= 1
            if not self._made:
                self.next_pid = _BEFORE_COPIES


class AtFork:
    """A guest that waits in fork(2), so that its world does not change.

    is_parked: whether it waits there. answer: to its fork(2); None where the call has been answered.

    Threads that the program has joined may not have ended yet; the call waits THREADS_END for them.
    """

    def __init__(self, world: World, answer: int) -> None:
        self._world = world
        self.answer: int | None = answer
        self.is_parked = False

    def park(self) -> Reply:
        """Answers fork(2) by a wait; the guest is parked when it has one thread, or after THREADS_END."""

        def attempt() -> Reply | None:
            return self._rest() if len(self._world.threads) == 1 else None

        return attempt() or Blocked(attempt, time.monotonic_ns() + int(THREADS_END * 1e9), self._rest)

    def _rest(self) -> Reply:
        self.is_parked = True
        return Blocked(lambda: None)


def copy_guest(
    box: BoxRunner, live: LiveBox, fork: AtFork, pid: int, copy_world: Callable[[], WorldBuilder], cpu: int | None,
    undo: contextlib.ExitStack,
) -> LiveBox:  # fmt: skip
    """Lets a guest at fork(2) make a copy of itself, and returns the copy, which is served in a copy of the world.

    pid: of the copy, in the box. cpu: the CPU of the copy, where this thread runs. The world is copied while the kernel
    copies the guest. `undo` ends the copy. Raises CannotCopy, SandboxStartError.
    """
    world = _Making(copy_world, undo)
    fork.answer = None  # `adopt` sends the answer
    threads = box.spec((), live.builder).threads
    child, _ = adopt(live.process, pid, threads, cpu=cpu, meanwhile=world.make)
    undo.callback(child.close)
    child.layers = dict(live.process.layers)
    if live.process.memory is not None:
        child.watch.memory = live.process.memory.of_copy(child.pid, child.watch.pidfd)
        child.watch.look_soon()
    child.first_answer = 0  # its filter is in force already
    inspect_seal(child.pid, uid_of_guests(), child.watch.niceness, child.filters)
    copied = box.serve(child, world.made(), time.monotonic_ns(), undo)
    undo.callback(copied.close)
    return copied


class _Making:
    """Makes a world within a call that must not raise: `made` raises the exception."""

    def __init__(self, make: Callable[[], WorldBuilder], undo: contextlib.ExitStack) -> None:
        self._make = make
        self._undo = undo
        self._made: WorldBuilder | BaseException = CannotCopy("the world was not copied")

    def make(self) -> None:
        """Makes the world; `undo` closes it."""
        try:
            self._made = self._make()
            self._undo.callback(self._made.close)
        except BaseException as error:
            self._made = error

    def made(self) -> WorldBuilder:
        """Returns the world. Raises the exception of `make`."""
        if isinstance(self._made, BaseException):
            raise self._made
        return self._made
