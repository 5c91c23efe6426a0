"""The boxes of a pool in one process: boxes that are ready, and a thread that makes new ones from a zygote."""

import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldTemplate
from proxybox.controller.costs.descriptorshare import soft_limit
from proxybox.controller.errors import CannotCopy, SandboxClosedError, SandboxStartError
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.process.reaper import reaper
from proxybox.controller.warm.copyable import NotCopyable
from proxybox.controller.warm.ready import ReadyBox
from proxybox.controller.warm.session import Copies, LiveSession
from proxybox.controller.warm.start import WarmStart
from proxybox.controller.warm.zygote import Zygote
from proxybox.controller.warm.zygotepool import is_worn
from proxybox.policies import Policy
from proxybox.pool.slots import Slots
from proxybox.result import Result, cancelled, result_of
from proxybox.running import Running
from proxybox.sandbox import NO_COPIES, PreparedRun, with_record
from proxybox.session import Session

if TYPE_CHECKING:
    from proxybox.records.taking import Taking

#: How often a start is tried, and the seconds that the filler thread waits after a failure.
_TRIES, _PAUSE = 5, 0.1
#: When boxes run, seconds without a request for a box after which new boxes are made.
_QUIET = 0.05


#: Descriptors that a controller needs for a box whose guest has opened no files, and those reserved for the caller.
_DESCRIPTORS, CALLERS = 6, 128


def make_room(size: int, boxes: int = 0) -> None:
    """Raises ValueError when this process may not open enough descriptors for `size` boxes (RLIMIT_NOFILE).

    boxes: the number of boxes, where it is not `size`. Half of the limit is for what the guests open
    (descriptorshare.py). The limit is not raised here: that is the caller's decision.
    """
    check_room(size, 2 * (CALLERS + _DESCRIPTORS * (boxes or size)))


def check_room(size: int, needed: int) -> None:
    """Raises ValueError when this process may open fewer than `needed` descriptors, which `size` boxes need."""
    soft = soft_limit()
    if soft < needed:
        raise ValueError(
            f"size={size}: this process may open {soft} descriptors, and so many boxes want {needed}: raise its limit "
            "before (ulimit -n, or resource.setrlimit)"
        )


class PoolBoxes:
    """The boxes of a pool in this process. warm: as for `Pool`."""

    def __init__(self, box: BoxRunner, functions: HostFunctions | None, size: int, *, warm: bool = True) -> None:
        make_room(size)
        self._template = WorldTemplate(box.policy, box.guest)
        self._box = attrs.evolve(box, template=self._template)
        self._functions = functions
        self._size = size
        self._slots = Slots(size)
        self._ready: deque[ReadyBox] = deque()
        self._change = threading.Condition()
        self._taken = 0.0
        self._zygote: Zygote | None = None
        self._renewing = threading.Lock()
        self._is_single = not warm
        self._rehearses = True
        self._closed = self._cancelled = False
        self._running: set[BoxRunner] = set()
        self._copies: weakref.WeakSet[Copies] = weakref.WeakSet()
        self._filler = threading.Thread(target=self._fill, name="proxybox-pool-filler", daemon=True)
        self._filler.start()

    @property
    def policy(self) -> Policy:
        """The policy of the boxes."""
        return self._box.policy

    @property
    def ready(self) -> int:
        """How many boxes are ready."""
        return len(self._ready)

    # --- use ----------------------------------------------------------------------------------------------------------

    def run(self, job: PreparedRun) -> Result:
        """Runs one program in one box."""
        policy, words, taking = job.policy, job.program.words, job.taking
        is_own = taking is not None or policy.environment != self.policy.environment
        box = attrs.evolve(self._box, policy=policy) if taking is None else taking.box(policy, self._box.guest)
        asked = time.monotonic_ns()
        if not self._slots.acquire(running=job.running):
            return cancelled()
        try:
            queued = time.monotonic_ns() - asked
            if taking is not None:
                taking.queued = queued / 1e9
            self._running.add(box)
            if self._cancelled:  # `cancel` may have checked the boxes before
                box.cancel()
            with job.running.reached_by(box.cancel, box.interrupt):
                finished = None
                while finished is None:
                    if box.is_cancelled:
                        return cancelled()
                    if not is_own:
                        finished = self.take(policy).run(words, box, folder=job.program, streams=job.streams)
                    else:
                        start = (
                            None if self._functions is None else WarmStart(box=box, functions=self._functions).program
                        )
                        finished = box.run(words, folder=job.program, streams=job.streams, start=start)
        finally:
            self._running.discard(box)
            self._slots.release()
            self.refill()
        finished = attrs.evolve(finished, usage=attrs.evolve(finished.usage, queue=queued / 1e9))
        return with_record(result_of(finished, policy), taking)

    def call(
        self, name: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any], running: Running | None = None,
        timeout: float | None = None, taking: "Taking | None" = None,
    ) -> Result:  # fmt: skip
        """Calls one function in one box. timeout: seconds of wall time for it, as `given.duration` returns them."""
        with self.session(timeout, taking) as session, (running or Running()).reached_by(session.close):
            defined = session.exec(source)
            return session.call(name, *args, **kwargs) if defined.ok else defined

    def session(self, timeout: float | None, taking: "Taking | None" = None) -> Session:
        """Starts a session in the next box; its slot is free again when the session has ended."""
        self._slots.acquire()
        try:
            live = self.take().session() if taking is None else self._recorded(taking)
        except BaseException:
            self._slots.release()
            raise
        self.refill()
        live.at_end.append(self._slots.release)
        self._copies.add(live.copies)
        return Session(live, self._box.policy, timeout, taking)

    def _recorded(self, taking: "Taking") -> LiveSession:
        """Starts a session with a record, in a box of its own."""
        taking.is_session = True
        box = taking.box(self.policy, self._box.guest)
        live = LiveSession.start(WarmStart(box=box, functions=self._functions), BoxFolder(), None)
        live.copies.refused = NO_COPIES
        return live

    def take(self, policy: Policy | None = None) -> ReadyBox:
        """Returns the next box: one that is ready, or otherwise one that is made now.

        policy: of its run (`policy_of_run`); None for the pool's.
        """
        policy = self.policy if policy is None else policy
        while True:
            with self._change:
                ready = self._ready.popleft() if self._ready else None
                self._taken = time.monotonic()
            if ready is None:
                return self._make(policy)
            is_alive = ready.is_alive()
            if is_alive and ready.tighten(policy):
                return ready
            ready.close()
            if is_alive:  # its limits cannot be lowered, and neither can those of the next one
                return self._make(policy)

    def refill(self) -> None:
        """Makes the thread replace taken boxes. Called when a program has ended, or a session has got its box."""
        with self._change:
            self._change.notify()

    # --- supply -------------------------------------------------------------------------------------------------------

    def _make(self, needed: Policy | None = None) -> ReadyBox:
        """Makes a box from the zygote, or from a new one when it has died. Raises SandboxStartError.

        needed: the policy of a program that waits for it. Then the box does not rehearse, which would take longer than
        it saves.
        """
        box = self._box if needed is None or needed is self.policy else attrs.evolve(self._box, policy=needed)
        failed = zygote = None
        rehearses = self._rehearses and needed is None
        for left in reversed(range(_TRIES)):
            if self._closed:
                raise SandboxClosedError("the pool is closed: make another one for further runs")
            try:
                zygote = self._living_zygote(failed)
                return ReadyBox(WarmStart(box=box, zygote=zygote, functions=self._functions), rehearses)
            except NotCopyable:  # each further start would
                raise
            except (OSError, CannotCopy, SandboxStartError):
                if not left:
                    raise
                if rehearses and zygote is not None and zygote.is_alive():
                    rehearses = self._rehearses = False  # the rehearsal may fail because of the policy
                else:
                    failed = zygote
        raise AssertionError

    def _living_zygote(self, failed: Zygote | None) -> Zygote | None:
        """Returns a zygote other than `failed`; None when boxes are started without one."""
        with self._renewing:
            old = self._zygote
            if self._is_single:
                return None
            if old is None or is_worn(old) or old is failed:
                try:
                    self._zygote = Zygote(self._box.policy, self._box)
                except CannotCopy:  # this host has no seccomp listener for us: each box starts its own interpreter
                    self._is_single, self._zygote = True, None
                if old is not None:
                    reaper().bury(old.close)
            return self._zygote

    def _pause(self) -> float:
        """Returns the seconds until a box has to be made.

        Making a box takes time from the programs that run in this process. So boxes are made when no program runs, or
        when none was requested for a while.
        """
        if len(self._ready) >= self._size:
            return float("inf")
        return max(0.0, self._taken + _QUIET - time.monotonic()) if self._running else 0.0

    def _fill(self) -> None:
        """Keeps `size` boxes ready; runs in a thread."""
        while not self._closed:
            with self._change:
                while not self._closed and (pause := self._pause()):
                    self._change.wait(None if pause == float("inf") else pause)
            if self._closed:
                return
            try:
                made = self._make()
            except (SandboxClosedError, NotCopyable):
                return
            except Exception:  # the caller of `take` gets the same error
                with self._change:
                    self._change.wait(_PAUSE)
                continue
            with self._change:
                self._ready.append(made)

    # --- the end ------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ends running programs and sessions, and programs that wait for a box."""
        self._cancelled = True
        for box in tuple(self._running):
            box.cancel()
        for session in self._living():
            session.cancel()

    def _living(self) -> tuple[LiveSession, ...]:
        """Returns all sessions and their copies."""
        return tuple(live for copies in tuple(self._copies) for live in tuple(copies.living))

    def close(self) -> None:
        """Ends all boxes."""
        self._closed = True
        with self._change:
            self._change.notify_all()
        self._filler.join()
        for session in self._living():
            session.cancel()
            session.close()
        while self._ready:
            self._ready.popleft().close()
        if self._zygote is not None:
            self._zygote.close()
        self._template.close()
