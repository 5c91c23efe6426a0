"""The box of a kernel: its session, a new session after the old one has ended, and the interrupts."""

import threading
from collections.abc import Callable
from typing import Any

import attrs

from proxybox import Policy, Sandbox, SandboxClosedError, SandboxStartError, Session, Terminal
from proxybox.kernel.spec import KernelOptions

#: Seconds for a cell under the default policy. This is as long as a person may wait for a cell: an impatient person
#: interrupts it, and a forgotten cell ends. This time also limits the number of OS calls.
_WALL_TIME, _CPU_TIME = 600.0, 300.0
#: Bytes of memory under the default policy: the tables of a notebook stay in memory, and each cell adds some.
_MEMORY = 1 << 30
#: Seconds that a cell has to end after a second interrupt.
GRACE = 2.0
_NOTHING = KernelOptions()


def default_policy() -> Policy:
    """Returns the policy of a kernel without a chosen one: the preset `default`, with larger limits for a cell."""
    policy = Policy()
    return attrs.evolve(
        policy,
        limits=attrs.evolve(policy.limits, wall_time=_WALL_TIME, cpu_time=_CPU_TIME, memory=_MEMORY, calls=None),
    )


class KernelBox:
    """One session at a time. Only the thread that runs cells may use it, except for `interrupt` and `close`.

    policy: the chosen policy, or the default. read: a function that answers the program's reads, as for `Terminal`.
    """

    def __init__(self, policy: Policy, read: Callable[[int, bool], str], choice: KernelOptions = _NOTHING) -> None:
        self.policy = policy
        # it has one session, rarely a second one: a zygote would cost more than it saves
        self._sandbox = Sandbox(
            policy, guest=choice.guest or None, packages=choice.packages, warm=False, record=choice.record or None
        )
        self._read = read
        self._folder = choice.folder or None
        self._session: Session | None = None
        self._lock = threading.Lock()
        self._cell = 0
        self._running = False
        self._interrupts = 0
        self._closed = False

    @property
    def session(self) -> Session:
        """A session that takes calls. Raises SandboxStartError or SandboxClosedError."""
        if self._closed:
            raise SandboxClosedError("the kernel ends")
        if self._session is None or not self._session.alive:
            if self._session is not None:
                self._session.close()
            self._session = self._sandbox.session(folder=self._folder, stdin=Terminal(self._read))
            if self._closed:  # another thread has closed the kernel meanwhile, and did not see the new session
                self._session.close()
                raise SandboxClosedError("the kernel ends")
        return self._session

    @property
    def is_alive(self) -> bool:
        """Whether the session of the last call still takes calls."""
        return self._session is not None and self._session.alive

    def python_version(self) -> str:
        """The version of Python in the box, which a front end asks for before anything runs."""
        try:
            return ".".join(map(str, self._sandbox.guest().version))
        except SandboxStartError:  # the first cell raises it again, and shows it
            return "3"

    def run(self, call: Callable[[Session], Any]) -> Any:
        """Calls the session in a way that `interrupt` can interrupt."""
        session = self.session
        with self._lock:
            self._cell += 1
            self._interrupts, self._running = 0, True
        try:
            return call(session)
        finally:
            with self._lock:
                self._running = False

    def interrupt(self) -> None:
        """Raises KeyboardInterrupt in the cell that runs.

        After a second interrupt, a cell that still runs GRACE seconds later is ended with its box. Can be called from
        any thread, and from signal handlers.
        """
        session = self._session
        if session is None or not self._running:
            return
        self._interrupts += 1
        session.interrupt()
        if self._interrupts == 2:
            timer = threading.Timer(GRACE, self._end, (self._cell, session))
            timer.daemon = True
            timer.start()

    def _end(self, cell: int, session: Session) -> None:
        with self._lock:
            if self._running and self._cell == cell:
                session.close()

    def close(self) -> None:
        """Ends the session, so that a cell that runs returns. Can be called from any thread."""
        self._closed = True
        session = self._session
        if session is not None:
            session.close()

    def settle(self) -> None:
        """Releases all resources, when no cell runs any more."""
        self.close()
        self._sandbox.close()
