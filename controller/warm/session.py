"""A live session: a guest that lives on gets commands, one at a time, each within its own limits.

What the guest sends back is a claim of untrusted code; only its form is checked. That a call was interrupted, that the
guest has ended, and all numbers are known to the controller itself.
"""

import contextlib
import errno
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import attrs

from proxybox.controller.audit import Audit
from proxybox.controller.boxes.box import BoxRunner, LiveBox, RunFacts, Usage, is_out_of_memory
from proxybox.controller.boxes.copying import check_copyable
from proxybox.controller.boxes.worldbuilding import BoxFolder, Changed, WorldBuilder
from proxybox.controller.drivers.blocking import BlockingDriver, Outcome
from proxybox.controller.errors import CannotCopy, GuestMisbehaved, SandboxClosedError, SessionBusy
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.exchange.port import ENVELOPE, Port
from proxybox.controller.process.cpus import on_cpu
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.process.watch import CANCELLED, Watch
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.status import Status
from proxybox.controller.warm.copies import COPY_LIMIT, AtFork, copy_guest
from proxybox.controller.warm.copies import Copies as Copies
from proxybox.controller.warm.leftopen import OpenFileWatch
from proxybox.controller.warm.messages import RESULTS, SHOWN, encoded, form_of
from proxybox.controller.warm.start import WarmStart
from proxybox.controller.world.output import OutputSink, Transcript
from proxybox.controller.world.state import World
from proxybox.controller.world.stdin import Source, Stdin
from proxybox.controller.world.streams import NO_STREAMS, StandardStreams
from proxybox.policies import SessionLimits

#: A function that gets a message that the guest shows, and the number of bytes that the message counts as.
OnShown: TypeAlias = Callable[[tuple[Any, ...], int], object]
#: Each shown message counts as at least this many bytes, because a message to a front end is at least that long.
_LEAST_SHOWN = 256


@attrs.frozen(kw_only=True, eq=False)
class CommandResult(RunFacts):
    """The result of one command.

    claim: ("ok", value), ("value", why it cannot cross), ("error", type, message, traceback) or ("exit", code), as the
    guest says; None where the guest has ended. interrupted: the limit (a key of policy.limits) for which the call was
    interrupted. left_open: the paths of files that the call has left open for writing. wall_time: the limit of the call
    in seconds; None where it had no limit of its own.
    """

    claim: tuple[Any, ...] | None
    interrupted: str
    left_open: tuple[str, ...]
    wall_time: float | None


class LiveSession:
    """One session, or a copy of one.

    Only one thread at a time may use it, except for `interrupt`, `stop`, `cancel` and `close`. at_end: functions that
    are called when the session is closed. A session without references is closed.
    """

    def __init__(
        self, box: BoxRunner, live: LiveBox, copies: Copies, *, is_copy: bool = False, counted: bool = True
    ) -> None:
        self._box = box
        self._live = live
        self._port = _port(live)
        self._left_open = OpenFileWatch(live.world, live.process.watch)
        self._port.first = self._left_open.command
        self.copies = copies
        self._is_counted = is_copy and counted
        self.at_end: list[Callable[[], object]] = [copies.give_back] if self._is_counted else []
        self._lock = threading.Lock()
        self._cpu_end_ns: int | None = None
        self._wall_end_ns: int | None = None
        self._calls_end: float = float("inf")
        self._closing = self._asleep = False
        self._spent_ns = live.process.watch.meter.spent_ns()
        self._begun: _Begun
        self.outcome: Outcome | None = None
        self._end = weakref.finalize(self, _end, live, self.at_end, copies.left if is_copy else None)
        self._end.atexit = False  # the kernel ends guests with their controller
        copies.living.add(self)

    @classmethod
    def start(cls, start: WarmStart, folder: BoxFolder, stdin: Source | None) -> "LiveSession":
        """Starts a new session. Raises SandboxStartError."""
        box, started = start.box, time.monotonic_ns()
        policy = box.policy
        stdout = OutputSink("stdout", policy.output)
        builder = WorldBuilder(policy, box.guest, folder)
        with contextlib.ExitStack() as undo, Undisturbed():
            undo.callback(builder.close)
            builder.build(Stdin(stdin), stdout, OutputSink("stderr", policy.output, stdout.transcript))
            live = start.session(builder, started)
            undo.callback(live.close)
            session = cls.of(box, live)
            undo.pop_all()
            live.undo.callback(builder.close)
            return session

    @classmethod
    def of(cls, box: BoxRunner, live: LiveBox) -> "LiveSession":
        """Returns the session of a guest that has become one."""
        session = cls(box, live, Copies(box.policy.session.branches))
        session._begin(box.policy.session)
        return session

    def _begin(self, limits: SessionLimits) -> None:
        """Sets the limits of the session as a whole, from now on."""
        watch = self._live.process.watch
        if limits.wall_time is not None:
            self._wall_end_ns = time.monotonic_ns() + int(limits.wall_time * 1e9)
        if limits.cpu_time is not None:
            self._cpu_end_ns = watch.charged_ns() + int(limits.cpu_time * 1e9)
        if limits.calls is not None:
            self._calls_end = self._live.dispatcher.calls + limits.calls
        watch.interrupt = self._live.driver.interrupt
        watch.grace_ns = int(limits.grace * 1e9)
        self._rest()

    def _rest(self) -> int:
        """Sets the limits between calls, and returns the CPU time used so far, in nanoseconds.

        These are the limits of the whole session, and a limit of the CPU time that the guest's threads may use until
        the next call.
        """
        return self._renew(self._wall_end_ns)

    def _renew(self, deadline_ns: int | None) -> int:
        """Sets new limits: of wall time, and the policy's of CPU time. Returns the CPU time used so far."""
        policy = self._box.policy
        seconds = policy.limits.cpu_time
        free = policy.session.cpu_time if seconds is None else seconds
        return self._live.process.watch.renew(deadline_ns, seconds, free, self._cpu_end_ns)

    @staticmethod
    def _within(end: int | None, own: int | None) -> int | None:
        return own if end is None else end if own is None else min(end, own)

    @property
    def is_alive(self) -> bool:
        """Whether the session takes commands."""
        return self.outcome is None and self._end.alive

    @property
    def is_closed(self) -> bool:
        """Whether the session was closed, and its last call has returned."""
        return not self._end.alive

    @property
    def is_running(self) -> bool:
        """Whether the guest's process lives: between calls only this detects its end."""
        return self.is_alive and self._live.process.watch.is_running()

    @property
    def is_busy(self) -> bool:
        """Whether a command is running, or the session is being copied."""
        return self._lock.locked()

    @property
    def driver(self) -> BlockingDriver:
        """The driver that serves the guest."""
        return self._live.driver

    def is_idle(self) -> bool:
        """Whether the guest waits for a command and none has been posted."""
        return self._port.is_idle()

    def call(
        self,
        command: tuple[Any, ...],
        *,
        timeout: float | None = None,
        calls: int | None = None,
        streams: StandardStreams = NO_STREAMS,
        on_shown: OnShown | None = None,
    ) -> CommandResult:
        """Carries out one command.

        timeout: seconds of wall time; None means the policy's limit, infinity means no limit. calls: the number of OS
        calls after which the command is interrupted, as it is at the end of its time. streams: without a stdin, the
        session keeps its standard input. on_shown: gets the messages that the guest shows, in the forms of
        messages.SHOWN.

        Raises SandboxClosedError for a session that has ended, TypeError and ValueError for arguments that cannot be
        sent.
        """
        begun = self.begin(command, timeout=timeout, calls=calls, streams=streams, on_shown=on_shown)
        return self.end(begun, self._serve(self.is_idle))

    def _serve(self, until: Callable[[], bool]) -> Outcome | None:
        """Serves the guest between `begin` and `end`.

        An exception that the guest has not caused ends the session, and is raised.
        """
        try:
            return self._live.driver.serve(until, briefly=True)
        except BaseException:
            self.abandon()
            raise

    def begin(
        self,
        command: tuple[Any, ...],
        *,
        timeout: float | None = None,
        calls: int | None = None,
        streams: StandardStreams = NO_STREAMS,
        on_shown: OnShown | None = None,
        blocking: bool = True,
    ) -> "_Begun":
        """Posts a command. The caller then serves the guest until it `is_idle`, and calls `end`.

        blocking: whether serving may wait for a guest that does not read.
        """
        message = encoded(command, self._port.value_size + ENVELOPE)
        if not self._lock.acquire(blocking=False):
            raise SessionBusy("the session is in a call already: one at a time")
        if not self.is_alive:
            self._lock.release()
            raise SandboxClosedError("the session has ended")
        try:
            self._wake()
            watchdog().make_way(self._live.process.cpu)
            self._live.driver.set_blocking(blocking)
            if streams.stdin is not None:
                self._live.world.stdin.feed(streams.stdin)
            begun = self._count_anew(timeout, calls, streams)
            self._port.show = None if on_shown is None else self._taker(on_shown)
            self._port.post(message, self._live.process.to_store(self._live.dispatcher.stub_settings()))
        except BaseException:
            self.abandon()
            raise
        return begun

    def _count_anew(self, timeout: float | None, calls: int | None, streams: StandardStreams) -> "_Begun":
        """Starts new counts of output, refusals, calls and time for one call."""
        world, watch, dispatcher = self._live.world, self._live.process.watch, self._live.dispatcher
        policy = self._box.policy
        transcript = Transcript()
        world.stdout.begin(policy.output, transcript, streams.stdout)
        world.stderr.begin(policy.output, transcript, streams.stderr)
        dispatcher.denials, dispatcher.unknown = {}, {}
        self._left_open.begin()
        dispatcher.limit = min(self._calls_end, dispatcher.calls + (policy.limits.calls or float("inf")))
        dispatcher.limit_name = "session.calls" if dispatcher.limit == self._calls_end else "limits.calls"
        dispatcher.on_limit = None
        world.stdin.asks = calls is None  # completion and other inspections do not request input from the caller
        if calls is not None and dispatcher.calls + calls < dispatcher.limit:
            dispatcher.limit, dispatcher.on_limit = dispatcher.calls + calls, self._stop_for_calls
        now = time.monotonic_ns()
        wall = policy.limits.wall_time if timeout is None else None if timeout == math.inf else timeout
        with watch.lock:
            watch.interrupted = ""
            cpu = self._renew(self._within(self._wall_end_ns, None if wall is None else now + int(wall * 1e9)))
        return _Begun(now, cpu, watch.meter.spent_ns(), dispatcher.calls, transcript, wall)

    def _stop_for_calls(self) -> None:
        """Called by the dispatcher when the call has used up its OS calls.

        OS calls of the guest's reaction to the interrupt are not counted.
        """
        watch, dispatcher = self._live.process.watch, self._live.dispatcher
        dispatcher.limit, dispatcher.limit_name = self._calls_end, "session.calls"
        self._heed(watch, "calls")
        self._live.driver.interrupt()

    @staticmethod
    def _heed(watch: Watch, why: str) -> None:
        with watch.lock:
            watch.deadline_ns = time.monotonic_ns() + watch.grace_ns
            watch.interrupted = watch.interrupted or why

    def _taker(self, on_shown: OnShown) -> Callable[[bytes], object]:
        """Returns the function that gets the guest's shown messages: claims like results, counted like output."""
        sink, left = self._live.world.stdout, self._box.policy.output.limit

        def take(data: bytes) -> None:
            nonlocal left
            size = max(len(data), _LEAST_SHOWN)
            if left is not None and size > left:
                sink.cut()
                return
            left = None if left is None else left - size
            shown = form_of(data, self._port.value_size, SHOWN)
            with self._port.callers:
                on_shown(shown, size)

        return take

    def end(self, begun: "_Begun", outcome: Outcome | None) -> CommandResult:
        """Returns the outcome of the command that was begun."""
        world, process, dispatcher = self._live.world, self._live.process, self._live.dispatcher
        interrupted, claim = process.watch.interrupted, None
        if outcome is None:
            try:
                claim = form_of(self._port.take_result(), self._port.value_size, RESULTS)
            except GuestMisbehaved as breach:
                outcome = Outcome(None, None, Status.MISBEHAVED, str(breach))
        if outcome is None:
            with process.watch.lock:
                process.watch.interrupted = ""  # the call is over, and so is its interrupt
                self._live.driver.forget_interrupt()
                cpu = self._rest()
            if interrupted and self._cpu_end_ns is not None and process.watch.charged_ns() >= self._cpu_end_ns:
                outcome = self.outcome = Outcome(
                    None, None, Status.TIME_LIMIT, "session.cpu_time"
                )  # no CPU time is left
        else:
            self.outcome, cpu = outcome, process.cpu_ns
        self._live.outcome = outcome
        answer = CommandResult(
            claim=claim,
            outcome=outcome,
            interrupted=interrupted,
            out_of_memory=self._is_out_of_memory(claim),
            output=begun.transcript.interleaved(),
            truncated=world.stdout.truncated or world.stderr.truncated,
            denials=dispatcher.denials,
            unknown=dispatcher.unknown,
            left_open=() if claim is None else self._left_open.paths(),
            wall_time=begun.wall_time,
            usage=Usage(
                wall=(time.monotonic_ns() - begun.now) / 1e9,
                cpu=max(0, cpu - begun.cpu) / 1e9,
                controller=(process.watch.meter.spent_ns() - begun.spent) / 1e9,
                calls=dispatcher.calls - begun.calls,
                memory=process.peak_resident,
                output=world.stdout.written + world.stderr.written,
            ),
        )
        self._lock.release()
        if outcome is not None or self._closing:
            self.close()
        return answer

    def _is_out_of_memory(self, claim: tuple[Any, ...] | None) -> bool:
        process = self._live.process
        if claim is None:
            return is_out_of_memory(process)
        return claim[0] == "error" and process.is_nearly_full()

    def abandon(self) -> None:
        """Ends the session after an error while the guest was served; called instead of `end`."""
        self._lock.release()
        self.close()

    def interrupt(self) -> None:
        """Sends SIGINT to the call that runs, if there is one; from any thread. Between calls it does nothing."""
        if self.is_busy:
            self._live.driver.interrupt()

    def stop(self) -> None:
        """Interrupts the call that runs; from any thread.

        A guest that does not stop within the session's grace is ended.
        """
        self._heed(self._live.process.watch, CANCELLED)
        self.interrupt()

    def cancel(self) -> None:
        """Ends the guest; from any thread. A call that runs returns."""
        self._live.driver.cancel()

    def changes(self) -> tuple[Changed, ...]:
        """Returns the changes of the session so far."""
        return self._live.builder.changes()

    def usage(self) -> Usage:
        """Returns the usage of the session since it began; memory is the memory that is resident now."""
        live = self._live
        return Usage(
            start=max(0, live.ready_ns - live.started_ns) / 1e9,
            wall=(time.monotonic_ns() - live.ready_ns) / 1e9,
            cpu=live.process.watch.cpu_time_ns() / 1e9,
            controller=(live.process.watch.meter.spent_ns() - self._spent_ns) / 1e9,
            calls=live.dispatcher.calls,
            memory=live.process.resident(),
            disk=live.builder.quota.used_bytes,
        )

    def sleep(self) -> None:
        """Stops the guest's process until the next command: its threads use no CPU.

        The limits of the session as a whole still count, and can end the guest while it sleeps. Raises SessionBusy
        while a call runs.
        """
        with self._between_calls("it can sleep between calls"):
            self._live.process.watch.stop()
            self._asleep = True

    @property
    def is_asleep(self) -> bool:
        """Whether the guest's process is stopped."""
        return self._asleep and self.is_alive

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            self._live.process.watch.go_on()

    @contextlib.contextmanager
    def world(self) -> Iterator[World]:
        """A context with the session's world, in which no call runs. Raises SessionBusy while one runs.

        A session that sleeps is not woken, because the guest is not needed for this.
        """
        with self._between_calls("its files can be reached between calls"):
            yield self._live.world

    @contextlib.contextmanager
    def _between_calls(self, what: str) -> Iterator[None]:
        """A context in which no call runs, and none can begin. Raises SessionBusy, or SandboxClosedError."""
        if not self._lock.acquire(blocking=False):
            raise SessionBusy(f"the session is in a call: {what}")
        try:
            if not self.is_alive:
                raise SandboxClosedError("the session has ended")
            yield
        finally:
            self._lock.release()
            if self._closing:  # another thread has called `close` meanwhile
                self.close()

    def lend(self, functions: HostFunctions | None) -> None:
        """Sets the caller's functions that the guest may call from now on."""
        self._port.functions = functions

    def audit(self, audit: Audit | None) -> None:
        """Sets the function that is called for every OS call from now on; None removes it."""
        self._live.dispatcher.audit = audit

    @property
    def layers(self) -> Mapping[str, str]:
        """The protection layers around the guest."""
        return self._live.process.reported_layers()

    def copy(self, instead_of: "LiveSession | None" = None) -> "LiveSession":
        """Returns a new session that continues independently from the same state.

        instead_of: the session that the new one replaces; the caller has it in `replaced`. Raises CannotCopy,
        SandboxStartError.
        """
        if not self.is_alive:
            raise SandboxClosedError("the session has ended")
        takes_over = instead_of is not None and (instead_of._end.alive or not instead_of._is_counted)
        pid = self.copies.take(not takes_over)
        try:
            with Undisturbed():
                made = self._copy(pid, not takes_over)
        except BaseException:
            self.copies.left()
            if not takes_over:
                self.copies.give_back()
            raise
        if instead_of is not None and instead_of._end.alive:
            made._is_counted, instead_of._is_counted = instead_of._is_counted, False
            made.at_end[:], instead_of.at_end[:] = instead_of.at_end, []
        return made

    @contextlib.contextmanager
    def replaced(self) -> Iterator[None]:
        """A context in which another session replaces this one: no call runs, and none can begin.

        Raises SessionBusy.
        """
        if not self._lock.acquire(blocking=False):
            raise SessionBusy("the session is in a call: it can go back to another state between calls")
        try:
            yield
        finally:
            self._lock.release()

    def _copy(self, pid: int, counted: bool) -> "LiveSession":
        """Copies the world while the kernel copies the guest, and serves the copy first, on its own CPU.

        Meanwhile this guest returns to where it takes commands, on its CPU.
        """
        live = self._live
        with contextlib.ExitStack() as undo:
            mark = live.world.clock.mark() if len(live.world.threads) == 1 else None
            fork = self._reach_fork()
            try:
                check_copyable(live.world)  # before the guest is copied in vain
                cpu = undo.enter_context(self._box.cpu())
                with on_cpu(cpu), live.process.watch.uncharged():  # it waits, which may take long on a busy machine
                    copied = copy_guest(self._box, live, fork, pid, lambda: self._copy_world(pid), cpu, undo)
                    copied.process.watch.deadline_ns = time.monotonic_ns() + int(COPY_LIMIT * 1e9)
                    ended = copied.driver.serve(_port(copied).is_idle)
            finally:
                self._leave_fork(fork.answer)
                if mark is not None:  # CPython 3.11 reads a clock itself: the next copy would have a later time
                    live.world.clock.back_to(mark)
            if ended is not None:
                raise CannotCopy("the copy ended before it was ready")
            session = LiveSession(self._box, copied, self.copies, is_copy=True, counted=counted)
            session._inherit(self)
            undo.pop_all()
            return session

    def _copy_world(self, pid: int) -> WorldBuilder:
        policy, own = self._box.policy, self._port
        stdout = OutputSink("stdout", policy.output)
        stderr = OutputSink("stderr", policy.output, stdout.transcript)
        builder = self._live.builder.copy(self._live.world.stdin.for_copy(), stdout, stderr, pid=pid)
        builder.world.port = Port(own.value_size, own.functions)
        return builder

    def _reach_fork(self) -> AtFork:
        """Brings the guest to fork(2). Raises CannotCopy."""
        live = self._live
        fork = AtFork(live.world, -errno.EAGAIN)
        begun = self.begin(("fork",), timeout=COPY_LIMIT)
        live.world.on_fork = fork.park  # only after `begin`, which locks the session: another thread may copy it
        outcome = self._serve(lambda: fork.is_parked or self.is_idle())
        live.world.on_fork = None
        if outcome is not None or not fork.is_parked:
            self.end(begun, outcome)
            raise CannotCopy("the program has ended, or does not let itself be copied")
        self._begun = begun
        return fork

    def _leave_fork(self, answer: int | None) -> None:
        """Returns the guest to where it takes commands.

        answer: the answer to its fork(2); None where it has been answered.
        """
        self._live.driver.release(answer)
        outcome = self._serve(self.is_idle)
        if outcome is None and not self._live.process.watch.is_running():  # ended with the copy: reads its last output
            outcome = self._serve(lambda: False)
        self.end(self._begun, outcome)

    def _inherit(self, parent: "LiveSession") -> None:
        """Sets the copy's limits for the whole session to the rest of the parent's."""
        watch, now = self._live.process.watch, parent._live
        self._wall_end_ns = parent._wall_end_ns
        if parent._cpu_end_ns is not None:
            self._cpu_end_ns = watch.charged_ns() + max(0, parent._cpu_end_ns - now.process.watch.charged_ns())
        self._calls_end = self._live.dispatcher.calls + max(0, parent._calls_end - now.dispatcher.calls)
        watch.interrupt, watch.grace_ns = self._live.driver.interrupt, now.process.watch.grace_ns
        self._rest()

    def close(self) -> None:
        """Ends the session; its copies live on. From any thread.

        A call that runs is cancelled, and the session is closed when the call returns.
        """
        self._closing = True
        if not self._lock.acquire(blocking=False):
            self.cancel()
            return
        try:
            self._end()
        finally:
            self._lock.release()


def _end(live: LiveBox, at_end: list[Callable[[], object]], left: Callable[[], object] | None) -> None:
    live.close()
    for call in at_end:
        call()
    if left is not None:
        left()


@attrs.define
class _Begun:
    """The counts at the beginning of a command, and its limit of wall time in seconds."""

    now: int
    cpu: int
    spent: int
    calls: int
    transcript: Transcript
    wall_time: float | None


def _port(live: LiveBox) -> Port:
    if live.world.port is None:
        raise SandboxClosedError("this guest takes no commands")
    return live.world.port
