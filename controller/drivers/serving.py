"""How one guest is served, but for the waiting: what drivers have in common.

A driver asks for what is to be waited for (`waits`), waits in its own way, and says what is ready (`step`). Nothing
here waits for a guest; where the controller's ends are non-blocking (`set_blocking`), nothing here can.

A guest and its driver:

    state   event                                                        next state
    NEW     begin: the answer for which the sealed guest waits is sent   SERVED
    SERVED  begin, after a while: the main thread's wait is tried again  SERVED
    SERVED  a call comes, time passes, somebody wakes it                 SERVED
    SERVED  the main thread's channel ends                               GONE
    any     the world says that the box ends (`World.ending`)            as it was, and over

`is_over` is GONE, or an end that the world has said. What comes next is `conclude`, and `reap` where the process has to
end first. In SERVED a guest may be held, beside all that:

    answered  hold: nobody takes its output            held
    held      let_go, an interrupt, the process's end  answered
    held      begin                                    answered

A held guest's calls wait in its pipes. Only its end and an interrupt are looked at.
"""

import contextlib
import enum
import errno
import os
import time
from collections.abc import Mapping, Set
from select import POLLIN, POLLOUT

import attrs

from proxybox.controller.abi import SIG_DFL, SIG_IGN, SIGINT
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.header import FIRST_CHANNEL_FD, REPLY
from proxybox.controller.process.guestprocess import GuestProcess, open_channel
from proxybox.controller.process.keeper import CANCELLED, Waiting
from proxybox.controller.process.listener import Door, Knock, Listener
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.status import Status
from proxybox.controller.wire.channel import READ, Channel
from proxybox.controller.world.state import Ended, GuestThread, Signal, World

#: How long signals wait that a guest has too many of, where it makes no call meanwhile.
_OFFER_AGAIN_NS = 20_000_000


@attrs.frozen
class Outcome:
    """How a guest ended. exit_code, signal: as the kernel tells (wait(2)). status, why: set where the controller
    ended it."""

    exit_code: int | None
    signal: int | None
    status: Status | None = None
    why: str = ""


class Phase(enum.Enum):
    """The states of the first table above."""

    NEW = enum.auto()
    SERVED = enum.auto()
    GONE = enum.auto()


@attrs.define(eq=False)
class Line:
    """A channel, and who speaks on it: the thread, None where that has ended and no other has come; and what its call
    waits for."""

    channel: Channel
    thread: GuestThread | None = None
    blocked: Blocked | None = None


class Serving:
    """One guest and what it waits for. `resume`, `release` and what follows them is for one thread at a time; `wake`,
    `cancel`, `interrupt`, `let_go` are for any."""

    def __init__(self, process: GuestProcess, world: World, dispatcher: Dispatcher) -> None:
        self._process = process
        self._world = world
        self._dispatcher = dispatcher
        self._main = Line(process.channel, world.threads[0])
        self._lines: dict[int, Line] = {0: self._main}
        self._newborn: list[GuestThread] = []  # granted, not yet let through by the listener
        self._phase = Phase.NEW
        self._blocking = True
        self._interrupted = False  # an interrupt was sent, and no call has been answered EINTR for it yet
        # Held is `_holding and not _free`. They are two, since the thread that serves holds, and any other may let go
        # for good: with one, a hold that is on its way would undo that.
        self._holding = False
        self._free = False
        self._uncharged: Waiting | None = None
        self._verdict: Outcome | None = None
        self._wake = -1
        world.on_exit = process.measure
        world.stdin.uncharged = process.watch.uncharged
        world.stdin.waiting = world.policy.limits.input_wait
        self.meter = dispatcher.callers = process.watch.meter
        world.stdin.callers = world.stdout.callers = world.stderr.callers = self.meter
        if world.port is not None:
            world.port.callers = self.meter

    # --- before and after ---------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Serving begins, or goes on after a while: what the main thread waits for may have come."""
        self._holding = self._free = False
        self._world.changes.everything = True
        if self._wake < 0:
            with Undisturbed():
                self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
                if self._process.door is not None:
                    self._process.door.wake = self._wake
        if self._phase is Phase.NEW:
            self._phase = Phase.SERVED
            self._process.begin()
        else:
            self.resume()

    def set_blocking(self, blocking: bool) -> None:
        """Whether reading and writing wait. What the guest has not read yet is written when they do."""
        if blocking != self._blocking:
            self._blocking = blocking
            for line in self._lines.values():
                line.channel.set_blocking(blocking)

    @property
    def is_over(self) -> bool:
        """Whether the guest has ended, or is to be ended: `conclude` comes next."""
        return self._phase is Phase.GONE or self._world.ending is not None

    def conclude(self, end: EndBox | GuestMisbehaved | None = None) -> Outcome | None:
        """No call is answered any more. end: what was raised. The outcome where it is known; None where the process has
        to end first, as it does now: then `reap`."""
        world, watch = self._world, self._process.watch
        if end is None and world.ending is None:
            try:
                self._main.channel.reader.end()
            except GuestMisbehaved as breach:
                end = breach
        if isinstance(end, EndBox):
            self._verdict = Outcome(None, None, end.status, end.why)
        elif end is not None:
            if not watch.expired:  # else it was killed in the middle of a frame
                self._verdict = Outcome(None, None, Status.MISBEHAVED, str(end))
        elif world.ending is not None:
            if world.ending.status is None:  # by its own word; what is left of the process is for its owner to close
                self._process.cpu_ns = watch.cpu_time_ns()
                return Outcome(world.exit_code, None)
            self._verdict = Outcome(None, world.ending.signal, world.ending.status, world.ending.reason)
        if self._verdict is not None:
            self._process.measure()
            watch.kill()
        return None

    def reap(self) -> Outcome:
        """How the guest has ended. Waits for the end of its process. Raises what kept its limits from being
        enforced."""
        exit_code, signal = self._process.reap()
        if self._process.watch.fault is not None:
            raise self._process.watch.fault
        if self._verdict is not None:
            return attrs.evolve(self._verdict, exit_code=exit_code)
        expired = self._process.watch.expired
        if expired == CANCELLED:
            return Outcome(exit_code, signal, Status.CANCELLED, "the caller ended it")
        if expired:
            return Outcome(exit_code, signal, Status.TIME_LIMIT, f"limits.{expired}")
        if exit_code is None and signal is None:  # somebody else has waited for our child: the guest's word is left
            exit_code = self._world.exit_code
        return Outcome(exit_code, signal)

    def close(self) -> None:
        """Gives back what serving took; the guest is the caller's to end."""
        self._world.stdin.restore()
        with self._process.watch.lock:
            wake, self._wake = self._wake, -1
            if self._process.door is not None:
                self._process.door.wake = -1
            if wake >= 0:
                os.close(wake)
        others, self._lines = self._lines, {0: self._main}
        for line in others.values():
            if line is not self._main:
                line.channel.close()
                self._world.allotment.give_back(2)

    # --- the caller's word --------------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Tries the call again that the main thread waits in; behind something that the caller has brought about."""
        blocked = self._main.blocked
        if blocked is not None:
            self._release(self._main, self._dispatcher.settle(blocked.attempt))

    def release(self, answer: int | None) -> None:
        """Ends the wait of the main thread; None where it has been answered already."""
        self._main.blocked = None
        if answer is not None:
            self._main.channel.send(answer)

    def wake(self) -> None:
        """Looks again at the calls that wait."""
        with self._process.watch.lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def cancel(self) -> None:
        """Ends the guest; its outcome is "cancelled". Also from signal handlers."""
        self._process.watch.cancel()

    def interrupt(self) -> None:
        """SIGINT for the guest, as from a terminal: its handler runs, and a call that waits is answered EINTR; where
        it has none, the box ends. A guest that is held goes on. Also from signal handlers."""
        disposition = self._world.signals.handler(SIGINT)
        if disposition == SIG_DFL:
            self._world.end(Ended(Status.CRASHED, "interrupted", SIGINT))
            self._process.watch.kill()
        elif disposition != SIG_IGN:
            self._interrupted = self._free = True
            self._process.watch.send(SIGINT)
            self.wake()

    def hold(self) -> None:
        """The guest's next calls wait, for readers of its output, until `let_go`. By the thread that serves."""
        self._holding = True

    def let_go(self, *, for_good: bool = False) -> None:
        """Goes on with a guest that is held. for_good: and does not hold it again before the next `begin`."""
        self._holding = False
        self._free = self._free or for_good
        self.wake()

    @property
    def is_held(self) -> bool:
        """Whether its calls are not answered now. Only its end, and an interrupt, are looked at."""
        return self._holding and not self._free

    # --- what to wait for ---------------------------------------------------------------------------------------------

    @property
    def main_fd(self) -> int:
        """From which the main thread's requests come."""
        return self._main.channel.request_fd

    @property
    def end_fd(self) -> int | None:
        """Readable when the process has ended (pidfd_open(2)); None where there is nothing to wait for."""
        watch = self._process.watch
        return None if watch.unreachable or watch.pidfd < 0 else watch.pidfd

    @property
    def listener(self) -> Listener | None:
        """Where the guest's clones come to; with others of its family. What `sort` finds there wakes this one."""
        return None if self._process.door is None else self._process.door.listener

    @property
    def cpu(self) -> int | None:
        """Where the guest runs."""
        return self._process.cpu

    @property
    def is_alone(self) -> bool:
        """Whether a guest of one thread computes, with nothing pending: its next request is all that can come, but for
        what comes by `wake`."""
        world, main = self._world, self._main
        return (
            len(world.threads) == 1
            and world.threads[0] is main.thread
            and main.blocked is None
            and not main.channel.unsent
            and main.channel.is_plain
            and not self._newborn
            and not self.is_held
            and world.next_alarm_ns() is None
        )

    @property
    def computes(self) -> bool:
        """Whether a thread of the guest's is not known to wait for anything."""
        return not self.is_held and any(
            line.thread is not None and line.blocked is None for line in self._lines.values()
        )

    def guest_cpu_ns(self) -> int:
        """CPU time of the guest's process, in nanoseconds."""
        return self._process.watch.cpu_time_ns()

    def waits(self) -> tuple[dict[int, int], list[int], int | None]:
        """Descriptors of the controller's with events of poll(2); the caller's, that may become readable; and host time
        in nanoseconds at which to look again, whatever comes. `listener` is always to be looked at, too."""
        fds, callers = {self._wake: POLLIN}, []
        if self.is_held:
            return {**fds, self._process.watch.pidfd: POLLIN}, [], None
        door, stdin = self._process.door, self._world.stdin
        deadlines = [self._world.next_alarm_ns(), None if door is None else door.late_ns]
        for line in self._lines.values():
            if line.channel.unsent:  # no further request before the answer is gone
                fds[line.channel.reply_fd] = POLLOUT
                continue
            fds[line.channel.request_fd] = POLLIN
            if line.blocked is not None:
                deadlines.append(line.blocked.deadline_ns)
                if line.blocked.host_fd is not None:
                    callers.append(line.blocked.host_fd)
                elif stdin.host_fd is not None and line.blocked.names(stdin):  # an epoll has come to watch it
                    callers.append(stdin.host_fd)
        return fds, callers, min((deadline for deadline in deadlines if deadline is not None), default=None)

    def begin_waiting(self) -> None:
        """The driver waits now. While the guest waits for the caller's input, its wall time stands still."""
        if self._uncharged is None and self._waits_for_caller():
            self._uncharged = self._process.watch.suspend()

    def end_waiting(self) -> None:
        """The driver goes on; behind `begin_waiting`."""
        if self._uncharged is not None:
            suspended, self._uncharged = self._uncharged, None
            self._process.watch.resume(suspended)

    def _waits_for_caller(self) -> bool:
        """Whether every thread waits for input that is given time, for as long as that takes, and for nothing else."""
        waits = [line.blocked for line in self._lines.values() if line.thread is not None]
        return (
            bool(waits)
            and not self._newborn
            and all(wait is not None and wait.host_fd is not None and wait.deadline_ns is None for wait in waits)
            and self._world.stdin.is_given_time
        )

    # --- one thread ---------------------------------------------------------------------------------------------------

    def serve_alone(self, *, once: bool = False) -> bool:
        """Until something other than a plain call comes up; once: or until one has been answered, or there is none.
        Whether the guest still `is_alone`. This is the path of nearly every OS call."""
        main, world, execute = self._main, self._world, self._dispatcher.execute
        channel = main.channel
        receive, pack = channel.reader.receive, REPLY.pack
        request_fd, reply_fd, thread = channel.request_fd, channel.reply_fd, world.threads[0]
        read, write = os.read, os.write
        threads, outbox, timers = world.threads, world.signals.outbox, world.process.timers
        while True:
            try:
                data = read(request_fd, READ)
            except BlockingIOError:
                return True
            frame = receive(data)
            if frame is None:
                if not data:
                    break
                continue
            reply = execute(thread, frame)
            if world.ending is not None:
                return False
            if outbox and reply.__class__ is not Blocked:
                self._send_signals()
            if reply.__class__ is int:
                try:
                    write(reply_fd, pack(16, 0, reply))
                except BrokenPipeError:  # here alone: an interceptor may raise one too
                    break
                except BlockingIOError:  # a guest that does not read its answers
                    channel.send(reply)
            elif reply.__class__ is tuple:
                channel.send(reply)
            else:
                main.blocked = reply  # type: ignore[assignment]
                return False
            if outbox or len(threads) != 1 or timers[0].due_ns or timers[1].due_ns or timers[2].due_ns:
                self._after()
                return False
            if once:
                return not channel.unsent and not self._holding
        self._phase = Phase.GONE
        return False

    # --- several threads, waits, alarms -------------------------------------------------------------------------------

    def step(self, ready: Mapping[int, int]) -> None:
        """Answers what has come, and looks again at the calls that wait. ready: descriptors with their events."""
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
            self._free = True  # it has ended: what it has said before is still to be heard
        self._answer_all(ready)
        if self.is_over:
            return
        if self._interrupted:
            self.heed_interrupt()
        door = self._process.door
        if door is not None:
            if woken or door.listener.fd in ready:
                self._admit_threads(door)
            door.refuse_late()
        self._settle()

    def heed_interrupt(self) -> None:
        """Behind `interrupt`: EINTR for a call whose request was on its way when the signal came."""
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
                self._phase = Phase.GONE
                return
            if frame is not None:
                self._answer(line, frame)
            if self._world.ending is not None:
                return

    def _answer(self, line: Line, frame: bytes) -> None:
        if line.thread is None:
            raise GuestMisbehaved("a call on a channel that no thread has")
        reply = self._dispatcher.execute(line.thread, frame)
        if self._world.ending is not None:
            return
        if isinstance(reply, Blocked):
            line.blocked = reply
        else:
            self._send_signals()
            if not line.thread.exited:  # an ended thread waits for no answer: its channel may soon be another's
                line.channel.send(reply)
        self._after()

    def _send_signals(self) -> None:
        """Before the answer of the call that has sent them: as with kill(2), their handlers run before it returns. What
        the guest has too much of stays: it is sent behind a later call, or after a while.

        A call that waits is answered EINTR behind a signal: that is blocked in the guest while its call is out, so the
        handler runs before the interrupted code goes on."""
        signals = self._world.signals
        signals.offer_ns = None
        if not signals.outbox:
            return
        waiting = signals.outbox[:]
        signals.outbox.clear()
        kept = []
        for signal, is_sent in zip(waiting, self._process.watch.offer([each.number for each in waiting]), strict=True):
            if is_sent:
                self._answer_interrupted(signal)
            else:
                kept.append(signal)
        if kept:
            signals.outbox[:0] = kept
            signals.offer_ns = time.monotonic_ns() + _OFFER_AGAIN_NS

    def _after(self) -> None:
        """What a call may have brought about besides its answer: signals to send, threads that came or went."""
        world = self._world
        self._send_signals()
        if len(world.threads) == 1 and world.threads[0] is self._main.thread and len(self._lines) == 1:
            return
        live = set(map(id, world.threads))
        for line in self._lines.values():
            if line.thread is not None and id(line.thread) not in live:
                line.thread = None
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

    def _release(self, line: Line, reply: Reply | None) -> None:
        """Answers a call that has waited; it may turn out to wait for something else."""
        if isinstance(reply, Blocked):
            line.blocked = reply
        elif reply is not None:
            line.blocked = None
            line.channel.send(reply)

    def _settle(self) -> None:
        """Tries the calls that wait for what has changed, and ends the waits whose time has come."""
        world, changes = self._world, self._world.changes
        alarm = world.next_alarm_ns()
        if alarm is not None and alarm <= time.monotonic_ns():
            world.fire_alarms()
        if world.stdin.host_fd is not None and self._waits() and world.stdin.readable():
            changes.tell(world.stdin)
        self._try_waits(changes.take())
        for _ in self._lines:  # one that is answered may be what another waits for
            if not changes:
                break
            self._try_waits(changes.take())
        self._after()

    def _try_waits(self, changed: Set[object] | None) -> None:
        """changed: None for whatever there is."""
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

    # --- threads ------------------------------------------------------------------------------------------------------

    def _admit_threads(self, door: Door) -> None:
        door.listener.sort()
        while (knock := door.next_knock()) is not None:
            self._admit_thread(door, knock)

    def _admit_thread(self, door: Door, knock: Knock) -> None:
        """A clone stands at the kernel's door: it goes on when the handler has granted it, the kernel's own count is
        within the limit, and the guest has been given the channels that it lacks."""
        if not self._newborn:
            door.refuse(knock)
            return
        if not door.admits(knock.tid) or not self._open_channels(door.listener, knock):
            door.listener.refuse(knock)
            for thread in self._newborn:
                self._world.end_thread(thread)
            self._newborn.clear()
            return
        thread = self._newborn.pop(0)
        self._lines[thread.channel].thread = thread
        door.allow_thread(knock)

    def _open_channels(self, listener: Listener, knock: Knock) -> bool:
        for thread in self._newborn:
            if thread.channel in self._lines:
                continue
            with Undisturbed():  # until `close`, which closes it, knows the channel
                channel = self._open_channel(listener, knock, thread.channel)
                if channel is None:
                    return False
                self._lines[thread.channel] = Line(channel)
            if not self._blocking:
                channel.set_blocking(False)
        return True

    def _open_channel(self, listener: Listener, knock: Knock, number: int) -> Channel | None:
        allotment = self._world.allotment
        try:
            allotment.take(2)
        except OSError:
            return None
        channel = open_channel(listener, knock, FIRST_CHANNEL_FD + 2 * number)
        if channel is None:
            allotment.give_back(2)
        return channel
