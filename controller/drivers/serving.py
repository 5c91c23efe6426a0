"""Serves one guest, except for the waiting: the part that all drivers share.

A driver asks what to wait for (`waits`), waits in its own way, and says what is ready (`step`). Nothing here waits for
a guest; where the controller's pipe ends are non-blocking (`set_blocking`), nothing here can.

The states of a guest that is served:

    state   event                                                        next state
    NEW     begin: the answer for which the sealed guest waits is sent   SERVED
    SERVED  begin again, later: the main thread's wait is tried again    SERVED
    SERVED  a call comes, time passes, another thread calls wake         SERVED
    SERVED  the main thread's channel ends                               GONE
    any     the world says that the box ends (`World.ending`)            the same, and is_over

`is_over` is true in GONE, and after the world has said that the box ends. Then comes `conclude`, and `reap` where the
process has to end first. Besides, a guest in SERVED is either answered or held:

    answered  hold: its output finds no reader         held
    held      let_go, an interrupt, the process's end  answered
    held      begin                                    answered

The calls of a held guest wait in its pipes. The driver looks only for its end and for interrupts.
"""

import contextlib
import enum
import errno
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from select import POLLIN, POLLOUT
from typing import Any, TypeVar

import attrs

from proxybox.controller.abi import SIG_DFL, SIG_IGN, SIGINT
from proxybox.controller.callers import Callers
from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.header import FIRST_CHANNEL_FD, FIRST_LIBRARY_FD, REPLY
from proxybox.controller.process.activity import Patience, all_wait
from proxybox.controller.process.guestprocess import GuestProcess, open_channel
from proxybox.controller.process.installing import Installation, installers
from proxybox.controller.process.listener import GuestListener, Listener, Notification
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.process.watch import CANCELLED, MEMORY, SuspendedWait, Watch
from proxybox.controller.status import Status
from proxybox.controller.wire.channel import READ, Channel
from proxybox.controller.world.state import Ended, GuestThread, Signal, World

#: After this time, signals that exceed what may be pending for a guest are offered again, if it makes no call before.
_OFFER_AGAIN_NS = 20_000_000
#: What `interrupt` puts among the guest's signals where it waits for a call (`Dispatcher.patience_ns`).
_INTERRUPT = Signal(SIGINT)
#: Why a clone is refused where this process may not hold more descriptors for the guest.
_NO_DESCRIPTORS = "descriptors of the controller"
#: For guests that the engine serves: it has turns of its own (turns.py).
_UNLIMITED = InterpreterShare()

T = TypeVar("T")


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


@attrs.define(eq=False)
class ThreadChannel:
    """A channel and its thread.

    thread: None where the last one has ended and no other has taken its place. blocked: what the thread's call waits
    for; None where no call waits.
    """

    channel: Channel
    thread: GuestThread | None = None
    blocked: Blocked | None = None


@attrs.frozen
class LetIn:
    """A clone that was allowed. thread: the one that it makes, on that stack. stops: of the guest, before.

    The kernel begins a clone again when its process is stopped in the middle of it (ERESTARTNOINTR in copy_process).
    """

    thread: GuestThread
    stack: int
    stops: int

    def is_begun_again(self, notification: Notification, watch: Watch) -> bool:
        """Whether this is the same clone, for which the guest was stopped; else a thread's stack is its own."""
        return notification.stack == self.stack and watch.stops > self.stops


class Serving:
    """One guest, and what its calls wait for.

    `wake`, `cancel`, `interrupt` and `let_go` may be called from any thread, everything else by one thread at a time.
    """

    def __init__(self, process: GuestProcess, world: World, dispatcher: Dispatcher) -> None:
        self._process = process
        self._world = world
        self._dispatcher = dispatcher
        self._main = ThreadChannel(process.channel, world.threads[0])
        self._libraries: dict[int, int] = {} if process.guest_listener is None else process.guest_listener.libraries
        self._due: list[int] = []  # when to look at something of which nothing else tells (ReplayDriver)
        self._lines: dict[int, ThreadChannel] = {0: self._main}
        self._newborn: list[GuestThread] = []  # granted; the listener has not let their clones through yet
        self._installing: Installation[Any] | None = None  # for the first of the calls that the kernel holds
        self._let_in: dict[int, LetIn] = {}  # by the host's id of the thread that makes them: the last clones
        self._phase = GuestPhase.NEW
        self._blocking = True
        self._interrupted = False  # an interrupt was sent, and no call has been answered EINTR for it yet
        self._overdue: threading.Timer | None = None  # while an interrupt waits for the guest's next call
        # The guest is held while `_holding and not _free`. There are two flags, since the serving thread holds the
        # guest and any other may let it go for good. With one flag, a concurrent `hold` would undo this.
        self._holding = False
        self._free = False
        self._look_ns: int | None = None  # signals wait for the guest's next call, and it is looked at again then
        waits = partial(all_wait, process.pid)
        self._patience = Patience(process.watch.cpu_time_ns, waits)  # of the serving thread, with those signals
        self._asker_patience = Patience(process.watch.cpu_time_ns, waits)  # with an interrupt; under the watch's lock
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
        """Begins to serve the guest, or begins again: what the main thread waits for may have come meanwhile."""
        self._holding = self._free = False
        self._world.changes.everything = True
        if self._wake < 0:
            with Undisturbed():
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                if self._process.guest_listener is not None:
                    self._process.guest_listener.wake = self._wake
        if self._phase is GuestPhase.NEW:
            self._phase = GuestPhase.SERVED
            self._process.begin(self._dispatcher.stub_config())
        else:
            self.resume()

    def set_blocking(self, blocking: bool) -> None:
        """Sets whether reading and writing wait. When they do, answers that the guest has not read yet are written."""
        if blocking != self._blocking:
            self._blocking = blocking
            self.interpreter = self._process.watch.interpreter if blocking else _UNLIMITED
            for line in self._lines.values():
                line.channel.set_blocking(blocking)

    @property
    def is_over(self) -> bool:
        """Whether the guest has ended or is to be ended, so that `conclude` has to be called next."""
        return self._phase is GuestPhase.GONE or self._world.ending is not None

    def conclude(self, end: EndBox | GuestMisbehaved | None = None) -> Outcome | None:
        """Ends the serving; no call is answered any more. end: the exception that has ended it, if any.

        Returns the outcome where it is known. Otherwise returns None: the process is ending, or is killed here, and
        `reap` gives the outcome when it has ended.
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
            if not watch.expired:  # else it was killed before, in the middle of a frame
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

        Raises the exception that has kept its limits from being enforced (`Watch.fault`), where there is one.
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
        if exit_code is None and signal is None:  # other code has waited for our child: believe the guest
            exit_code = self._world.exit_code
        return Outcome(exit_code, signal)

    def close(self) -> None:
        """Gives back what serving has taken. The caller has to end the guest."""
        self._world.stdin.restore()
        self.forget_interrupt()
        with self._process.watch.lock:
            wake, self._wake = self._wake, -1
            if self._process.guest_listener is not None:
                self._process.guest_listener.wake = -1
            if wake >= 0:
                os.close(wake)
        if self._installing is not None:
            self._installing.abandon()
            self._installing = None
        others, self._lines = self._lines, {0: self._main}
        for line in others.values():
            if line is not self._main:
                line.channel.close()
                self._world.allotment.give_back(2)

    # --- what the caller asks for -------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Tries the main thread's waiting call again, after the caller has done something that may end the wait."""
        blocked = self._main.blocked
        if blocked is not None:
            self._release(self._main, self._dispatcher.settle(blocked.attempt))

    def release(self, answer: int | None) -> None:
        """Ends the wait of the main thread. answer: of its call; None where that has been answered already."""
        self._main.blocked = None
        if self._process.watch.is_parked:
            self._process.watch.unpark()
        if answer is not None:
            self._main.channel.send(answer)

    def wake(self) -> None:
        """Has the driver look again at the calls that wait."""
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
        self._process.watch.is_asked = True  # where it waits for its turn, it goes on
        if disposition == SIG_DFL:
            self._world.end(Ended(Status.CRASHED, "interrupted", SIGINT))
            self._process.watch.kill()
        elif disposition != SIG_IGN:
            self._free = True
            if self._dispatcher.patience_ns and self.computes:
                self._interrupt_soon()
            else:
                self._interrupt_now()

    def _interrupt_now(self) -> None:
        self._dispatcher.sent(SIGINT, True)  # a record has the signal before the calls that its handler makes
        self._process.watch.send(SIGINT)
        self._interrupted = True  # not before: whoever sees this looks whether the signal is pending
        self.wake()

    def _interrupt_soon(self) -> None:
        """Has SIGINT come with the guest's next call; without one in time, while it computes.

        Interrupts that come meanwhile are the same one, as a signal is that is pending (signal(7)).
        """
        with self._process.watch.lock:
            if self._overdue is not None:
                return
            self._asker_patience.begin()
            if not self._look_at_overdue():
                self._interrupt_now()
                return
        self._world.signals.outbox.append(_INTERRUPT)
        self.wake()

    def _look_at_overdue(self) -> bool:
        """Has it looked at soon whether the interrupt still waits. False where the host has no room for a thread."""
        timer = threading.Timer(self._dispatcher.patience_ns / 1e9, self._interrupt_overdue)
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:
            return False
        self._overdue = timer
        return True

    def _interrupt_overdue(self) -> None:
        with self._process.watch.lock:
            waits = self.computes and not self._asker_patience.is_over(self._dispatcher.patience_ns)
            if self._overdue is not None and waits and self._process.watch.is_running() and self._look_at_overdue():
                return
        if self._takes_interrupt():
            self._interrupt_now()

    def _takes_interrupt(self) -> bool:
        """Whether the interrupt that waits for a call is the asker's to send: one asker is told so."""
        with self._process.watch.lock:
            overdue, self._overdue = self._overdue, None
        if overdue is not None:
            overdue.cancel()
        return overdue is not None

    def forget_interrupt(self) -> None:
        """Drops an interrupt that waits for a call of the guest: what it was to interrupt is over."""
        self._takes_interrupt()

    def hold(self) -> None:
        """Lets the guest's next calls wait, for readers of its output, until `let_go`. For the serving thread only."""
        self._holding = True

    def let_go(self, *, for_good: bool = False) -> None:
        """Lets a held guest go on. for_good: it is not held again before the next `begin`."""
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

        Then only its next request can come, or a call of `wake`. A guest that was granted a mapping is not alone until
        it has made it: the kernel asks about that by the listener.
        """
        world, main = self._world, self._main
        return (
            len(world.threads) == 1
            and world.threads[0] is main.thread
            and main.blocked is None
            and not main.channel.unsent
            and not self._newborn
            and not self._libraries
            and not self._due
            and not self.is_held
            and world.next_alarm_ns() is None
        )

    @property
    def computes(self) -> bool:
        """Whether the guest may be computing: not all of its threads wait for an answer, and it is not held."""
        lines = tuple(self._lines.values())  # `interrupt` asks from other threads, while lines are added
        return not self.is_held and any(line.thread is not None and line.blocked is None for line in lines)

    def _waits_for_answers(self) -> bool:
        """Whether none of the guest's threads has anything to do, as it says itself."""
        return not self.computes and not self.is_held and not self._newborn

    @property
    def is_stopped(self) -> bool:
        """Whether the guest waits for its turn on the CPU (rotation.py)."""
        return self._process.watch.is_stopped

    def guest_cpu_ns(self) -> int:
        """CPU time of the guest's process, in nanoseconds."""
        return self._process.watch.cpu_time_ns()

    def waits(self) -> tuple[dict[int, int], list[int], int | None]:
        """What the driver has to wait for, besides `listener`, which it always has to watch, too.

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
                elif stdin.host_fd is not None and line.blocked.names(stdin):  # an epoll instance watches it
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
            and not self._newborn
            and all(wait is not None and wait.host_fd is not None and wait.deadline_ns is None for wait in waits)
            and self._world.stdin.is_given_time
        )

    # --- one thread ---------------------------------------------------------------------------------------------------

    def serve_alone(self, *, once: bool = False) -> bool:
        """Answers plain calls until something else comes up. This is the path of nearly every OS call.

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
                self._send_signals()
            if reply.__class__ is int:
                try:
                    write(reply_fd, pack(16, 0, reply))
                except BrokenPipeError:  # caught only around write(2): an interceptor may raise one as well
                    break
                except BlockingIOError:  # the guest does not read its answers
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
                    self._send_signals()
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
        """Answers what has come, and tries the calls that wait again. ready: descriptors with their events."""
        self.end_waiting()
        woken = self._wake in ready
        if woken:
            self._world.changes.everything = True
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            if self._interrupted and self._waits():
                self._interrupted = False
                self._answer_interrupted(Signal(SIGINT))
        if self.is_held:
            if self._process.watch.pidfd not in ready:
                return
            self._free = True  # it has ended: its earlier calls are still to be answered
        with self.interpreter:
            self._answer_all(ready)
        if self.is_over:
            return
        if self._interrupted:
            self.heed_interrupt()
        guest_listener = self._process.guest_listener
        if guest_listener is not None:
            if woken or guest_listener.listener.fd in ready:
                self._answer_knocks(guest_listener)
            guest_listener.refuse_late()
        with self.interpreter:
            self._settle()

    def heed_interrupt(self) -> None:
        """After `interrupt`: answers with EINTR a call whose request was on its way when the signal came."""
        if self._interrupted and self._waits():
            self._interrupted = False
            if self._process.has_pending(SIGINT):
                self._answer_interrupted(Signal(SIGINT))

    def _waits(self) -> bool:
        return any(line.blocked is not None for line in self._lines.values())

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
            self._send_signals()
            if not line.thread.exited:  # no answer for an ended thread: another may soon have its channel
                line.channel.send(reply)
        self._after()

    def _send_signals(self, *, late: bool = False) -> None:
        """Sends the guest's signals, before the answer of the call that has caused them.

        So their handlers run before the call returns, as with kill(2). Signals that exceed what may be pending stay in
        the outbox, and are sent after a later call, or after _OFFER_AGAIN_NS.

        After a signal was sent, a call that waits is answered with EINTR. The guest blocks the signal while the call is
        under way, so the handler runs before the interrupted code goes on. late: whether no call is being answered.
        """
        signals = self._world.signals
        signals.offer_ns = None
        if not signals.outbox:
            return
        if late and self._holds_back():
            return
        self._look_ns = None
        waiting = signals.outbox[:]
        del signals.outbox[: len(waiting)]  # another thread may have added an interrupt meanwhile
        if any(each is _INTERRUPT for each in waiting):
            waiting = [each for each in waiting if each is not _INTERRUPT]
            if self._takes_interrupt():
                self._interrupt_here(late)
        kept = []
        for signal, is_sent in zip(waiting, self._process.watch.offer([each.number for each in waiting]), strict=True):
            if is_sent:
                self._dispatcher.sent(signal.number, late and self.computes)
                self._answer_interrupted(signal)
            else:
                kept.append(signal)
        if kept:
            signals.outbox[:0] = kept
            signals.offer_ns = time.monotonic_ns() + _OFFER_AGAIN_NS

    def _interrupt_here(self, late: bool) -> None:
        """Sends the interrupt that has waited for a call. late: as for `_send_signals`."""
        if late and self.computes:  # its next call may be on its way
            self._interrupt_now()
            return
        self._dispatcher.sent(SIGINT, False)
        self._process.watch.send(SIGINT)
        self._answer_interrupted(_INTERRUPT)

    def _holds_back(self) -> bool:
        """Whether signals wait a little for the next call of a guest that computes (`Dispatcher.patience_ns`)."""
        patience, now = self._dispatcher.patience_ns, time.monotonic_ns()
        if not patience or not self.computes:
            return False
        if self._look_ns is None:
            self._patience.begin()
            self._look_ns = now + patience
        elif now >= self._look_ns:
            if self._patience.is_over(patience):
                return False
            self._look_ns = now + patience
        self._world.signals.offer_ns = self._look_ns
        return True

    def _after(self) -> None:
        """Handles what a call may have caused besides its answer: signals to send, threads that have come or gone."""
        world = self._world
        self._send_signals(late=True)
        if len(world.threads) == 1 and world.threads[0] is self._main.thread and len(self._lines) == 1:
            self._newborn.clear()
            return
        live = set(map(id, world.threads))
        self._newborn = [each for each in self._newborn if id(each) in live]
        for line in self._lines.values():
            if line.thread is not None and id(line.thread) not in live:
                line.thread = line.blocked = None
        for thread in world.threads:
            known = self._lines.get(thread.channel)
            if (known is None or known.thread is None) and thread not in self._newborn:
                self._newborn.append(thread)

    def _answer_interrupted(self, signal: Signal) -> None:
        waiting = [line for line in self._lines.values() if line.blocked is not None]
        for line in waiting:
            thread = line.thread
            if thread is None or thread.blocks(signal.number) or signal.thread not in (None, thread):
                continue
            on_interrupt = line.blocked.on_interrupt  # type: ignore[union-attr]
            self._release(line, -errno.EINTR if on_interrupt is None else self._dispatcher.settle(on_interrupt))
            return

    def _release(self, line: ThreadChannel, reply: Reply | None) -> None:
        """Answers a call that has waited. reply: None where it still waits, `Blocked` where it now waits otherwise."""
        if isinstance(reply, Blocked):
            line.blocked = reply
        elif reply is not None:
            line.blocked = None
            if self._process.watch.is_parked:  # looked at after the line was changed: see `Watch.park`
                self._process.watch.unpark()
            line.channel.send(reply)

    def _settle(self) -> None:
        """Tries the calls that wait for something that has changed, and ends the waits whose deadline has passed."""
        world, changes = self._world, self._world.changes
        alarm = world.next_alarm_ns()
        if alarm is not None and alarm <= time.monotonic_ns():
            world.fire_alarms()
        if world.stdin.host_fd is not None and self._waits() and world.stdin.readable():
            changes.tell(world.stdin)
        self._try_waits(changes.take())
        for _ in self._lines:  # an answered call may bring what another one waits for
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
        """Allows the thread of a channel to map a file of the host once. Takes the descriptor where it returns True."""
        guest_listener = self._process.guest_listener
        return guest_listener is not None and guest_listener.grant_library(FIRST_LIBRARY_FD + channel, fd)

    # --- threads ------------------------------------------------------------------------------------------------------

    def _answer_knocks(self, guest_listener: GuestListener) -> None:
        guest_listener.listener.sort()
        if self._installing is not None and self._installing.is_done:
            done, self._installing = self._installing, None
            done.finish()
        while self._installing is None and (notification := guest_listener.next_notification()) is not None:
            if notification.maps is not None:
                self._install(
                    partial(guest_listener.answer_mapping, notification, notification.maps), _nothing, _nothing
                )
            else:
                self._admit_thread(guest_listener, notification)

    def _install(self, work: Callable[[], T], then: Callable[[T], object], discard: Callable[[T], object]) -> None:
        """Does what installs descriptors in the guest, and then `then`.

        It takes until a thread of the guest runs. Whoever serves this guest alone waits for that; the engine, which
        does not block, goes on later, when it is woken. discard: for what comes too late.
        """
        if self._blocking:
            with Undisturbed():  # until the channels are in _lines, so that `close` can close them
                then(work())
        else:
            self._installing = Installation(work, then, self.wake, discard)
            installers().submit(self._installing.run)

    def _admit_thread(self, guest_listener: GuestListener, notification: Notification) -> None:
        """Allows or refuses a clone that the kernel holds.

        It is allowed when the handler has granted it, the kernel's count of threads is within the limit, and the guest
        was given the channels that it lacks.
        """
        watch, before = self._process.watch, self._let_in.get(notification.tid)
        is_again = (
            before is not None and before.is_begun_again(notification, watch) and before.thread in self._world.threads
        )
        if not is_again and not self._newborn:
            guest_listener.refuse(notification)
            return
        thread = before.thread if before is not None and is_again else self._newborn[0]
        clone = _Clone(guest_listener, notification, thread, is_again)
        if not guest_listener.admits(notification.tid):
            self._refuse_thread(clone, "limits.threads")
            return
        lacking = [each.channel for each in self._newborn if each.channel not in self._lines]
        if not lacking:
            self._let_thread_in(clone)
            return
        try:
            self._world.allotment.take(2 * len(lacking))
        except OSError:
            self._refuse_thread(clone, _NO_DESCRIPTORS)
            return
        self._install(
            lambda: _opened(guest_listener.listener, notification, lacking),
            lambda opened: self._enter_channels(clone, lacking, opened),
            lambda opened: self._drop_channels(lacking, opened),
        )

    def _enter_channels(self, clone: "_Clone", lacking: list[int], opened: list[Channel]) -> None:
        """Takes over the channels that were opened, as many as the guest could be given, and lets the thread in."""
        for number, channel in zip(lacking, opened, strict=False):
            self._lines[number] = ThreadChannel(channel)
        self._world.allotment.give_back(2 * (len(lacking) - len(opened)))
        if not self._blocking:
            for channel in opened:
                channel.set_blocking(False)
        if len(opened) == len(lacking):
            self._let_thread_in(clone)
        elif clone.guest_listener.listener.is_there(
            clone.notification
        ):  # else the thread was stopped and comes again, or has ended
            self._refuse_thread(clone, _NO_DESCRIPTORS)

    def _drop_channels(self, lacking: list[int], opened: list[Channel]) -> None:
        for channel in opened:
            channel.close()
        self._world.allotment.give_back(2 * len(lacking))

    def _refuse_thread(self, clone: "_Clone", why: str) -> None:
        clone.guest_listener.listener.refuse(clone.notification)
        for each in [clone.thread] if clone.is_again else self._newborn:
            self._world.end_thread(each)
        if not clone.is_again:
            self._newborn.clear()
        self._dispatcher.refuse("clone", why, errno.EAGAIN)

    def _let_thread_in(self, clone: "_Clone") -> None:
        watch, thread, notification = self._process.watch, clone.thread, clone.notification
        if thread not in self._world.threads:  # it was ended while its channel was opened
            clone.guest_listener.listener.refuse(notification)
            return
        self._lines[thread.channel].thread = thread
        with watch.lock:
            if not clone.guest_listener.allow_thread(notification):
                return
            self._let_in[notification.tid] = LetIn(thread, notification.stack, watch.stops - watch.is_stopped)
        if not clone.is_again:
            self._newborn.remove(thread)
        if len(self._let_in) > len(self._world.threads):  # some of these threads have ended
            live = set(map(id, self._world.threads))
            self._let_in = {tid: each for tid, each in self._let_in.items() if id(each.thread) in live}


@attrs.frozen
class _Clone:
    """A clone that the kernel holds. thread: the one that it makes. is_again: whether it was allowed before."""

    guest_listener: GuestListener
    notification: Notification
    thread: GuestThread
    is_again: bool


def _opened(listener: Listener, notification: Notification, numbers: Sequence[int]) -> list[Channel]:
    """Opens the channels of these numbers, and installs their far ends in the guest, until one cannot be had."""
    opened: list[Channel] = []
    for number in numbers:
        channel = open_channel(listener, notification, FIRST_CHANNEL_FD + 2 * number)
        if channel is None:
            break
        opened.append(channel)
    return opened


def _nothing(_: object) -> None:
    pass
