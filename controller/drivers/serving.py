"""Serves one guest, except for the waiting: the part that all drivers share.

A driver asks what to wait for (`waits`), waits in its own way, and says what is ready (`step`). Nothing here waits for
a guest, except in reads and writes where the controller's pipe ends are blocking (`set_blocking`).

The states of a guest that is served:

    state   event                                                        next state
    NEW     begin: the answer for which the sealed guest waits is sent   SERVED
    SERVED  begin again, later: the main thread's wait is tried again    SERVED
    SERVED  a call comes, time passes, another thread calls wake         SERVED
    SERVED  the main thread's channel ends                               GONE
    any     the world says that the box ends (`World.ending`)            the same, and is_over

`is_over` is true in GONE, and after the world has said that the box ends. Then the driver calls `conclude`, and `reap`
where the process has to end first. A guest in SERVED is either answered or held:

    answered  hold: its output finds no reader         held
    held      let_go, an interrupt, the process's end  answered
    held      begin                                    answered

The calls of a held guest wait in its pipes. The driver looks only for its end and for interrupts. signalling.py is
about signals, and admission.py about new threads.
"""

import contextlib
import enum
import os
import time
from collections.abc import Mapping, Set
from select import POLLIN, POLLOUT

import attrs

from proxybox.controller.abi import SIG_DFL, SIG_IGN, SIGINT
from proxybox.controller.callers import Callers
from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.admission import ThreadAdmission
from proxybox.controller.drivers.signalling import SignalDelivery
from proxybox.controller.drivers.threadchannels import ThreadChannel, any_waits
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.header import FIRST_LIBRARY_FD, REPLY
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.listener import Listener
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.process.watch import CANCELLED, MEMORY, SuspendedWait
from proxybox.controller.status import Status
from proxybox.controller.wire.channel import READ, Channel
from proxybox.controller.world.state import Ended, World

#: For guests that the engine serves: it has turns of its own (turns.py).
_UNLIMITED = InterpreterShare()


@attrs.frozen
class Outcome:
    """How a guest ended.

    exit_code, signal: as the kernel reports them (wait(2)). status, why: set where the controller has ended the guest.
    """

    exit_code: int | None
    signal: int | None
    status: Status | None = None
    why: str = ""


class GuestPhase(enum.Enum):
    """The states in the first table of the module's docstring."""

    NEW = enum.auto()
    SERVED = enum.auto()
    GONE = enum.auto()


class Serving:
    """One guest, its channels, and the waits of its calls.

    `wake`, `cancel`, `interrupt` and `let_go` may be called from any thread, everything else by one thread at a time.
    """

    def __init__(self, process: GuestProcess, world: World, dispatcher: Dispatcher) -> None:
        self._process = process
        self._world = world
        self._dispatcher = dispatcher
        self._main = ThreadChannel(process.channel, world.threads[0])
        self._libraries: dict[int, int] = {} if process.guest_listener is None else process.guest_listener.libraries
        self._due: list[int] = []  # when to try again although no descriptor is ready (ReplayDriver)
        self._lines: dict[int, ThreadChannel] = {0: self._main}
        self._threads = ThreadAdmission(process, world, dispatcher, self._lines, self.wake)
        self._signals = SignalDelivery(
            process, world, dispatcher, self._lines,
            computes=lambda: self.computes, release=self._release, wake=self.wake,
        )  # fmt: skip
        self._phase = GuestPhase.NEW
        # The guest is held while `_holding and not _free`. There are two flags, because the serving thread holds the
        # guest, and any other thread may let it go for good. With one flag, a concurrent `hold` would undo this.
        self._holding = False
        self._free = False
        self._uncharged: SuspendedWait | None = None
        self._verdict: Outcome | None = None
        self._wake = -1
        world.on_exit = process.measure
        world.grant_library = self._grant_library
        world.make_room = process.make_room
        process.watch.waits = self._waits_for_answers
        world.stdin.uncharged = process.watch.uncharged
        world.stdin.waiting = world.policy.limits.input_wait
        self.meter = process.watch.meter
        self.interpreter = process.watch.interpreter
        dispatcher.callers = callers = Callers(self.meter, self.interpreter)
        world.stdin.callers = world.stdout.callers = world.stderr.callers = callers
        if world.port is not None:
            world.port.callers = callers

    # --- before and after ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begins to serve the guest, or begins again: the wait of the main thread may be over now."""
        self._holding = self._free = False
        self._world.changes.everything = True
        if self._wake < 0:
            with Undisturbed():
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                if self._process.guest_listener is not None:
                    self._process.guest_listener.wake = self._wake
        if self._phase is GuestPhase.NEW:
            self._phase = GuestPhase.SERVED
            self._process.begin(self._dispatcher.stub_settings())
        else:
            self.resume()

    def set_blocking(self, blocking: bool) -> None:
        """Sets whether reading and writing wait. If they do, answers that were not written yet are written."""
        if blocking != self._threads.is_blocking:
            self._threads.is_blocking = blocking
            self.interpreter = self._process.watch.interpreter if blocking else _UNLIMITED
            for line in self._lines.values():
                line.channel.set_blocking(blocking)

    @property
    def is_over(self) -> bool:
        """Whether the guest has ended or has to be ended, so that `conclude` has to be called next."""
        return self._phase is GuestPhase.GONE or self._world.ending is not None

    def conclude(self, end: EndBox | GuestMisbehaved | None = None) -> Outcome | None:
        """Ends the serving; no call is answered any more. end: the exception that has ended it, if any.

        Returns the outcome where it is known. Otherwise returns None: the process is ending, or is killed here, and
        `reap` returns the outcome when it has ended.
        """
        world, watch = self._world, self._process.watch
        if end is None and world.ending is None:
            try:
                self._main.channel.reader.end()
            except GuestMisbehaved as breach:
                end = breach
        if isinstance(end, EndBox):
            self._verdict = Outcome(None, None, end.status, end.why)
        elif end is not None:
            if not watch.expired:  # otherwise it was killed before, in the middle of a frame
                self._verdict = Outcome(None, None, Status.MISBEHAVED, str(end))
        elif world.ending is not None:
            if world.ending.status is None:  # the guest exits; `GuestProcess.close` ends the process
                self._process.cpu_ns = watch.cpu_time_ns()
                return Outcome(world.exit_code, None)
            self._verdict = Outcome(None, world.ending.signal, world.ending.status, world.ending.reason)
        if self._verdict is not None:
            self._process.measure()
            watch.kill()
        return None

    def reap(self) -> Outcome:
        """Waits for the end of the guest's process, and returns how it has ended.

        Raises the exception that has stopped the enforcement of its limits (`Watch.fault`), if there is one.
        """
        exit_code, signal = self._process.reap()
        if self._process.watch.fault is not None:
            raise self._process.watch.fault
        if self._verdict is not None:
            return attrs.evolve(self._verdict, exit_code=exit_code)
        expired = self._process.watch.expired
        if expired == CANCELLED:
            return Outcome(exit_code, signal, Status.CANCELLED, "the caller ended it")
        if expired:
            status = Status.MEMORY_LIMIT if expired == MEMORY else Status.TIME_LIMIT
            return Outcome(exit_code, signal, status, f"limits.{expired}")
        if exit_code is None and signal is None:  # other code has reaped our child: believe the guest
            exit_code = self._world.exit_code
        return Outcome(exit_code, signal)

    def close(self) -> None:
        """Releases the resources of serving. The caller has to end the guest."""
        self._world.stdin.restore()
        self.forget_interrupt()
        with self._process.watch.lock:
            wake, self._wake = self._wake, -1
            if self._process.guest_listener is not None:
                self._process.guest_listener.wake = -1
            if wake >= 0:
                os.close(wake)
        self._threads.abandon()
        for number in [*self._lines][1:]:  # all but the main thread's
            self._lines.pop(number).channel.close()
            self._world.allotment.give_back(2)

    # --- what the caller asks for -------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Tries the main thread's waiting call again, after the caller has done something that may end the wait."""
        blocked = self._main.blocked
        if blocked is not None:
            self._release(self._main, self._dispatcher.settle(blocked.attempt))

    def release(self, answer: int | None) -> None:
        """Ends the wait of the main thread. answer: to its call; None where the call has been answered already."""
        self._main.blocked = None
        if self._process.watch.is_parked:
            self._process.watch.unpark()
        if answer is not None:
            self._main.channel.send(answer)

    def wake(self) -> None:
        """Wakes the driver, which then tries the waiting calls again."""
        with self._process.watch.lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def cancel(self) -> None:
        """Ends the guest, with the outcome "cancelled". May be called from signal handlers."""
        self._process.watch.cancel()

    def interrupt(self) -> None:
        """Sends the guest SIGINT, as a terminal does. May be called from signal handlers.

        The guest's handler runs, and a call that waits is answered with EINTR. Where the disposition is SIG_DFL, the
        box ends. A guest that is held is let go.
        """
        disposition = self._world.signals.handler(SIGINT)
        self._process.watch.is_asked = True  # if it waits for its turn, it runs now
        if disposition == SIG_DFL:
            self._world.end(Ended(Status.CRASHED, "interrupted", SIGINT))
            self._process.watch.kill()
        elif disposition != SIG_IGN:
            self._free = True
            self._signals.interrupt()

    def heed_interrupt(self) -> None:
        """After `interrupt`: answers with EINTR a call whose request was on its way when the signal came."""
        self._signals.heed_interrupt()

    def forget_interrupt(self) -> None:
        """Drops an interrupt that waits for a call of the guest, because the command to interrupt is over."""
        self._signals.forget_interrupt()

    def hold(self) -> None:
        """Leaves the guest's calls unanswered until `let_go`: its output has no reader. For the serving thread only."""
        self._holding = True

    def let_go(self, *, for_good: bool = False) -> None:
        """Answers a held guest's calls again. for_good: it is not held again before the next `begin`."""
        self._holding = False
        self._free = self._free or for_good
        self.wake()

    @property
    def is_held(self) -> bool:
        """Whether the guest's calls are not answered now. Only its end and interrupts are looked for."""
        return self._holding and not self._free

    # --- what to wait for ---------------------------------------------------------------------------------------------

    @property
    def main_fd(self) -> int:
        """The descriptor from which the main thread's requests are read."""
        return self._main.channel.request_fd

    def channel_of(self, number: int) -> Channel:
        """Returns the channel of the thread that has this number."""
        return self._lines[number].channel

    @property
    def end_fd(self) -> int | None:
        """The pidfd, which is readable when the process has ended (pidfd_open(2)); None where it cannot be awaited."""
        watch = self._process.watch
        return None if watch.unreachable or watch.pidfd < 0 else watch.pidfd

    @property
    def listener(self) -> Listener | None:
        """The listener of the guest and its family, to which their clones come; None where there is none.

        When `Listener.sort` finds a clone of this guest, it wakes this driver.
        """
        return None if self._process.guest_listener is None else self._process.guest_listener.listener

    @property
    def cpu(self) -> int | None:
        """The CPU on which the guest runs; None for any."""
        return self._process.cpu

    @property
    def is_alone(self) -> bool:
        """Whether the guest has one thread, which computes, and nothing is pending.

        Then only its next request can come, or a call of `wake`. A guest with a granted mapping is not alone until it
        has made the mapping, because that is a notification of the listener.
        """
        world, main = self._world, self._main
        return (
            len(world.threads) == 1
            and world.threads[0] is main.thread
            and main.blocked is None
            and not main.channel.unsent
            and not self._threads.newborn
            and not self._libraries
            and not self._due
            and not self.is_held
            and world.next_alarm_ns() is None
        )

    @property
    def computes(self) -> bool:
        """Whether the guest may be computing: not all of its threads wait for an answer, and it is not held."""
        lines = tuple(self._lines.values())  # `interrupt` calls this in other threads, while lines are added
        return not self.is_held and any(line.thread is not None and line.blocked is None for line in lines)

    def _waits_for_answers(self) -> bool:
        """Whether all of the guest's threads wait for answers, by its own requests."""
        return not self.computes and not self.is_held and not self._threads.newborn

    @property
    def is_stopped(self) -> bool:
        """Whether the guest waits for its turn on the CPU (rotation.py)."""
        return self._process.watch.is_stopped

    def guest_cpu_ns(self) -> int:
        """CPU time of the guest's process, in nanoseconds."""
        return self._process.watch.cpu_time_ns()

    def waits(self) -> tuple[dict[int, int], list[int], int | None]:
        """Returns what the driver has to wait for, besides `listener`, which it always has to watch, too.

        Returns the controller's descriptors with events of poll(2), the caller's descriptors that may become readable,
        and the host time in nanoseconds at which to call `step` in any case; None for no such time.
        """
        fds, callers = {self._wake: POLLIN}, []
        if self.is_held:
            return {**fds, self._process.watch.pidfd: POLLIN}, [], None
        guest_listener, stdin = self._process.guest_listener, self._world.stdin
        deadlines = [self._world.next_alarm_ns(), None if guest_listener is None else guest_listener.late_ns]
        for line in self._lines.values():
            if line.channel.unsent:  # no further request is read before the answer is sent
                fds[line.channel.reply_fd] = POLLOUT
                continue
            fds[line.channel.request_fd] = POLLIN
            if line.blocked is not None:
                deadlines.append(line.blocked.deadline_ns)
                if line.blocked.host_fd is not None:
                    callers.append(line.blocked.host_fd)
                elif stdin.host_fd is not None and line.blocked.names(stdin):  # because an epoll instance watches it
                    callers.append(stdin.host_fd)
        return fds, callers, min((deadline for deadline in deadlines if deadline is not None), default=None)

    def begin_waiting(self) -> None:
        """Called before the driver waits. While the guest waits for the caller's input, its wall time is suspended."""
        if self._uncharged is None and self._waits_for_caller():
            self._uncharged = self._process.watch.suspend()

    def end_waiting(self) -> None:
        """Called when the driver's wait is over."""
        if self._uncharged is not None:
            suspended, self._uncharged = self._uncharged, None
            self._process.watch.resume(suspended)

    def _waits_for_caller(self) -> bool:
        """Whether every thread waits for the caller's input, without a deadline, and this wait is not charged."""
        waits = [line.blocked for line in self._lines.values() if line.thread is not None]
        return (
            bool(waits)
            and not self._threads.newborn
            and all(wait is not None and wait.host_fd is not None and wait.deadline_ns is None for wait in waits)
            and self._world.stdin.is_given_time
        )

    # --- one thread ---------------------------------------------------------------------------------------------------

    def serve_alone(self, *, once: bool = False) -> bool:
        """Answers plain calls until something else happens. Nearly every OS call is answered here.

        Returns whether the guest still `is_alone`. once: also returns when one call was answered, or none has come.
        """
        main, world, execute = self._main, self._world, self._dispatcher.execute
        channel = main.channel
        if not channel.is_plain:
            return self._serve_by_channel(once)
        receive, pack = channel.reader.receive, REPLY.pack
        request_fd, reply_fd, thread = channel.request_fd, channel.reply_fd, world.threads[0]
        read, write = os.read, os.write
        threads, outbox, timers = world.threads, world.signals.outbox, world.process.timers
        libraries, due, interpreter = self._libraries, self._due, self.interpreter
        while True:
            try:
                data = read(request_fd, READ)
            except BlockingIOError:
                return True
            if interpreter.is_limited:
                with interpreter:  # the pieces of a long request, too
                    frame = receive(data)
                    if frame is not None:
                        reply = execute(thread, frame)
            elif (frame := receive(data)) is not None:
                reply = execute(thread, frame)
            if frame is None:
                if not data:
                    break
                continue
            if world.ending is not None:
                return False
            if outbox and reply.__class__ is not Blocked:
                self._signals.send()
            if reply.__class__ is int:
                try:
                    write(reply_fd, pack(16, 0, reply))
                except BrokenPipeError:  # caught only around write(2): an interceptor may raise the same
                    break
                except BlockingIOError:  # the guest does not read its replies
                    channel.send(reply)
            elif reply.__class__ is tuple:
                channel.send(reply)
            else:
                main.blocked = reply  # type: ignore[assignment]
                return False
            if outbox or len(threads) != 1 or timers[0].due_ns or timers[1].due_ns or timers[2].due_ns:
                self._after()
                return False
            if libraries or due:
                return False
            if once:
                return not channel.unsent and not self._holding
        self._phase = GuestPhase.GONE
        return False

    def _serve_by_channel(self, once: bool) -> bool:
        """Does what `serve_alone` does, through a channel that makes the requests and carries out a part of them."""
        main, world, execute = self._main, self._world, self._dispatcher.execute
        channel, thread = main.channel, world.threads[0]
        outbox, timers = world.signals.outbox, world.process.timers
        while True:
            frame = channel.receive()
            if frame == b"":
                break
            if frame is not None:
                with self.interpreter:
                    reply = execute(thread, frame)
                if world.ending is not None:
                    return False
                if isinstance(reply, Blocked):
                    main.blocked = reply
                    return False
                if outbox:
                    self._signals.send()
                channel.send(reply)
            if world.ending is not None:
                return False
            if outbox or timers[0].due_ns or timers[1].due_ns or timers[2].due_ns:
                self._after()
                return False
            if once:
                return not channel.unsent and not self._holding
        self._phase = GuestPhase.GONE
        return False

    # --- several threads, waits, alarms -------------------------------------------------------------------------------

    def step(self, ready: Mapping[int, int]) -> None:
        """Answers new requests, and tries the waiting calls again. ready: descriptors with their events."""
        self.end_waiting()
        woken = self._wake in ready
        if woken:
            self._world.changes.everything = True
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            self._signals.heed_wake()
        if self.is_held:
            if self._process.watch.pidfd not in ready:
                return
            self._free = True  # it has ended: its earlier calls are still answered
        with self.interpreter:
            self._answer_all(ready)
        if self.is_over:
            return
        self._signals.heed_interrupt()
        guest_listener = self._process.guest_listener
        if guest_listener is not None:
            if woken or guest_listener.listener.fd in ready:
                self._threads.answer(guest_listener)
            guest_listener.refuse_late()
        with self.interpreter:
            self._settle()

    def _answer_all(self, ready: Mapping[int, int]) -> None:
        for line in tuple(self._lines.values()):
            channel = line.channel
            if channel.unsent:
                if channel.reply_fd in ready:
                    channel.flush()
                continue
            if channel.request_fd not in ready:
                continue
            if line.blocked is not None and ready[channel.request_fd] & POLLIN:
                raise GuestMisbehaved("a second call on a channel before the first was answered")
            frame = channel.receive()
            if frame == b"":
                self._phase = GuestPhase.GONE
                return
            if frame is not None:
                self._answer(line, frame)
            if self._world.ending is not None:
                return

    def _answer(self, line: ThreadChannel, frame: bytes) -> None:
        if line.thread is None:
            raise GuestMisbehaved("a call on a channel that no thread has")
        reply = self._dispatcher.execute(line.thread, frame)
        if self._world.ending is not None:
            return
        if isinstance(reply, Blocked):
            line.blocked = reply
        else:
            self._signals.send()
            if not line.thread.exited:  # no answer for an ended thread: another thread may soon have its channel
                line.channel.send(reply)
        self._after()

    def _after(self) -> None:
        """Handles the effects of a call besides its answer: signals to send, and threads that have started or ended."""
        world = self._world
        self._signals.send(late=True)
        if len(world.threads) == 1 and world.threads[0] is self._main.thread and len(self._lines) == 1:
            self._threads.newborn.clear()
            return
        self._threads.note_threads()

    def _release(self, line: ThreadChannel, reply: Reply | None) -> None:
        """Answers a call that has waited. reply: None where it still waits, `Blocked` where it has another wait now."""
        if isinstance(reply, Blocked):
            line.blocked = reply
        elif reply is not None:
            line.blocked = None
            if self._process.watch.is_parked:  # checked after the line was changed: see `Watch.park`
                self._process.watch.unpark()
            line.channel.send(reply)

    def _settle(self) -> None:
        """Tries the calls whose sources have changed, and ends the waits whose deadline has passed."""
        world, changes = self._world, self._world.changes
        alarm = world.next_alarm_ns()
        if alarm is not None and alarm <= time.monotonic_ns():
            world.fire_alarms()
        if world.stdin.host_fd is not None and any_waits(self._lines.values()) and world.stdin.readable():
            changes.tell(world.stdin)
        self._try_waits(changes.take())
        for _ in self._lines:  # an answered call may end the wait of another one
            if not changes:
                break
            self._try_waits(changes.take())
        self._after()

    def _try_waits(self, changed: Set[object] | None) -> None:
        """Tries the calls that wait for something in `changed`, or all when that is None."""
        world, now = self._world, time.monotonic_ns()
        world.changes.seen = {}
        for line in tuple(self._lines.values()):
            blocked = line.blocked
            if blocked is None or line.thread is None:
                continue
            due = blocked.deadline_ns is not None and blocked.deadline_ns <= now
            if not due and changed is not None and not blocked.is_about(changed):
                continue
            reply = self._dispatcher.settle(blocked.attempt)
            if reply is None and due and blocked.on_timeout is not None:
                reply = self._dispatcher.settle(blocked.on_timeout)
            self._release(line, reply)
        world.changes.seen = None

    def _grant_library(self, channel: int, fd: int) -> bool:
        """Allows the thread of a channel to map a file of the host once. Owns the descriptor if it returns True."""
        guest_listener = self._process.guest_listener
        return guest_listener is not None and guest_listener.grant_library(FIRST_LIBRARY_FD + channel, fd)
