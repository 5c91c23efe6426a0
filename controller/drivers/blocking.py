"""The blocking driver: the calling thread serves one box, until its guest has ended or waits for its caller.

Two modes. `_serve_alone` is for a guest of one thread with nothing pending: read, execute, write, and nothing else.
`_serve_all` polls: several threads, calls that wait, alarms. What ends a guest that does neither is the keeper.

Both processes run on one CPU where the host allows it: a round trip is a hand-over then, and not a wake-up.
"""

import contextlib
import errno
import os
import select
import time
from collections.abc import Callable, Iterator

import attrs

from proxybox.controller.abi import SIG_DFL, SIG_IGN, SIGINT
from proxybox.controller.channel import READ, Channel
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import EndBox, GuestMisbehaved
from proxybox.controller.keeper import CANCELLED, Watch
from proxybox.controller.listener import Door, Knock, Listener
from proxybox.controller.process import GuestProcess, open_channel
from proxybox.controller.protocol import REPLY
from proxybox.controller.seal import FIRST_CHANNEL_FD
from proxybox.controller.undisturbed import Closing, Undisturbed
from proxybox.controller.world import EXITED, Ended, GuestThread, Signal, World

#: poll(2) takes a C int of milliseconds.
_LONGEST_MS = 1_000_000_000


@attrs.frozen
class Outcome:
    """How a guest ended. exit_code, signal: as the kernel tells (wait(2)). status, why: set where the controller
    ended it (a word of Status)."""

    exit_code: int | None
    signal: int | None
    status: str | None = None
    why: str = ""


class BlockingDriver:
    """Serves one guest: `run` until it has ended, or `serve` again and again, and `close`."""

    def __init__(self, process: GuestProcess, world: World, dispatcher: Dispatcher) -> None:
        self._process = process
        self._world = world
        self._dispatcher = dispatcher
        self._main = process.channel
        self._main.thread = world.threads[0]
        self._channels: dict[int, Channel] = {0: self._main}
        self._newborn: list[GuestThread] = []  # granted, not yet let through by the listener
        self._gone = False
        self._begun = False
        self._interrupted = False
        self._wake = -1
        world.on_exit = process.measure

    def run(self) -> Outcome:
        """Answers calls until the guest is gone. Whatever is no doing of the guest's is raised; `GuestProcess.close`,
        which is the caller's to call, ends the guest then."""
        with Closing(self.close):
            outcome = None
            while outcome is None:
                outcome = self.serve(_never)
            return outcome

    def serve(self, until: Callable[[], bool]) -> Outcome | None:
        """Answers calls until `until` holds, which is looked at when the guest's main thread waits for something: None
        then, and how the guest has ended else. Whatever is no doing of the guest's is raised."""
        if self._wake < 0:
            self._open()
        world = self._world
        try:
            with _on_cpu_of(self._process):
                if not self._begun:
                    self._begun = True
                    self._process.begin()
                while not self._gone and world.ending is None:
                    if until():
                        return None
                    if self._is_alone():
                        self._serve_alone()
                    else:
                        self._serve_all()
            if world.ending is None:
                self._main.reader.end()
        except EndBox as end:
            return self._ended(end.status, end.why)
        except GuestMisbehaved as breach:
            if self._process.watch.expired:  # killed in the middle of a frame
                return self._reaped()
            return self._ended("misbehaved", str(breach))
        ending = world.ending
        if ending is None:
            return self._reaped()
        return self._exited() if ending.status == EXITED else self._ended(ending.status, ending.reason, ending.signal)

    def resume(self) -> None:
        """Tries the call again that the main thread waits in; behind something that the caller has brought about."""
        blocked = self._main.blocked
        if blocked is not None:
            self._world.thread = self._world.threads[0]
            self._release(self._main, self._dispatcher.settle(blocked.attempt))

    def release(self, answer: int | None) -> None:
        """Ends the wait of the main thread; None where it has been answered already."""
        self._main.blocked = None
        if answer is not None:
            self._main.send(answer)

    def wake(self) -> None:
        """Looks again at the calls that wait; from any thread."""
        with self._process.watch.lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _open(self) -> None:
        with Undisturbed():
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            if self._process.door is not None:
                self._process.door.wake = self._wake

    def close(self) -> None:
        """Gives back what serving took; the guest is the caller's to end."""
        with self._process.watch.lock:
            wake, self._wake = self._wake, -1
            if self._process.door is not None:
                self._process.door.wake = -1
            if wake >= 0:
                os.close(wake)
        others, self._channels = self._channels, {0: self._main}
        for channel in others.values():
            if channel is not self._main:
                channel.close()

    def cancel(self) -> None:
        """Ends the guest: `run` returns with the status "cancelled". From any thread, and from signal handlers."""
        self._process.watch.cancel()

    def interrupt(self) -> None:
        """SIGINT for the guest, as from a terminal: its handler runs, and a call that waits is answered EINTR; where
        it has none, the box ends. From any thread, and from signal handlers."""
        disposition = self._world.signals.handler(SIGINT)
        if disposition == SIG_DFL:
            self._world.end(Ended("crashed", "interrupted", SIGINT))
            self._process.watch.kill()
        elif disposition != SIG_IGN:
            self._interrupted = True
            self._process.watch.send(SIGINT)
            self.wake()

    def _ended(self, status: str, why: str, signal: int | None = None) -> Outcome:
        self._process.measure()
        self._process.watch.kill()
        exit_code, _ = self._process.reap()
        return Outcome(exit_code, signal, status, why)

    def _exited(self) -> Outcome:
        """By its own word; what is left of the process is for `GuestProcess.close`."""
        self._process.cpu_ns = self._process.watch.cpu_time_ns()
        return Outcome(self._world.exit_code, None)

    def _reaped(self) -> Outcome:
        exit_code, signal = self._process.reap()
        expired = self._process.watch.expired
        if expired == CANCELLED:
            return Outcome(exit_code, signal, "cancelled", "the caller ended it")
        if expired:
            return Outcome(exit_code, signal, "time_limit", f"limits.{expired}")
        if exit_code is None and signal is None:  # somebody else has waited for our child: the guest's word is left
            exit_code = self._world.exit_code
        return Outcome(exit_code, signal)

    def _is_alone(self) -> bool:
        world = self._world
        return (
            len(world.threads) == 1
            and world.threads[0] is self._main.thread
            and self._main.blocked is None
            and not self._newborn
            and world.next_alarm_ns() is None
        )

    # --- one thread ---------------------------------------------------------------------------------------------------

    def _serve_alone(self) -> None:
        """Until something other than a plain call comes up. This is the path of nearly every OS call."""
        main, world, execute = self._main, self._world, self._dispatcher.execute
        receive, pack = main.reader.receive, REPLY.pack
        request_fd, reply_fd, thread = main.request_fd, main.reply_fd, world.threads[0]
        read, write = os.read, os.write
        threads, outbox, timers = world.threads, world.signals.outbox, world.process.timers
        while True:
            data = read(request_fd, READ)
            frame = receive(data)
            if frame is None:
                if not data:
                    break
                continue
            reply = execute(thread, frame)
            if world.ending is not None:
                return
            if outbox and reply.__class__ is not Blocked:
                self._send_signals()
            if reply.__class__ is int:
                try:
                    write(reply_fd, pack(16, 0, reply))
                except BrokenPipeError:  # here alone: an interceptor may raise one too
                    break
            elif reply.__class__ is tuple:
                main.send(reply)
            else:
                main.blocked = reply  # type: ignore[assignment]
                return
            if outbox or len(threads) != 1 or timers[0].due_ns or timers[1].due_ns or timers[2].due_ns:
                self._after()
                return
        self._gone = True

    # --- several threads, waits, alarms -------------------------------------------------------------------------------

    def _serve_all(self) -> None:
        """One round: wait for whatever comes first, answer what has come, look again at the calls that wait."""
        ready = self._wait()
        if self._wake in ready:
            os.eventfd_read(self._wake)
            if self._interrupted:
                self._interrupted = False
                self._answer_interrupted(Signal(SIGINT))
        for channel in tuple(self._channels.values()):
            if channel.request_fd not in ready:
                continue
            if channel.blocked is not None and ready[channel.request_fd] & select.POLLIN:
                raise GuestMisbehaved("a second call on a channel before the first was answered")
            frame = channel.receive()
            if frame == b"":
                self._gone = True
                return
            if frame is not None:
                self._answer(channel, frame)
            if self._world.ending is not None:
                return
        door = self._process.door
        if door is not None and (door.listener.fd in ready or self._wake in ready):
            self._admit_threads(door)
        self._settle()

    def _answer(self, channel: Channel, frame: bytes) -> None:
        if channel.thread is None:
            raise GuestMisbehaved("a call on a channel that no thread has")
        reply = self._dispatcher.execute(channel.thread, frame)
        if self._world.ending is not None:
            return
        if isinstance(reply, Blocked):
            channel.blocked = reply
        else:
            self._send_signals()
            if not channel.thread.exited:  # an ended thread waits for no answer: its channel may soon be another's
                channel.send(reply)
        self._after()

    def _send_signals(self) -> None:
        """Before the answer of the call that has sent them: as with kill(2), their handlers run before it returns."""
        outbox = self._world.signals.outbox
        while outbox:
            self._interrupt(outbox.pop(0))

    def _after(self) -> None:
        """What a call may have brought about besides its answer: signals to send, threads that came or went."""
        world = self._world
        self._send_signals()
        if len(world.threads) == 1 and world.threads[0] is self._main.thread and len(self._channels) == 1:
            return
        live = set(map(id, world.threads))
        for channel in self._channels.values():
            if channel.thread is not None and id(channel.thread) not in live:
                channel.thread = None
        for thread in world.threads:
            known = self._channels.get(thread.channel)
            if (known is None or known.thread is None) and thread not in self._newborn:
                self._newborn.append(thread)

    def _interrupt(self, signal: Signal) -> None:
        """Sends a real signal. A call that waits is answered EINTR behind it: the signal is blocked in the guest
        while its call is out, so the handler runs before the interrupted code goes on."""
        self._process.watch.send(signal.number)
        self._answer_interrupted(signal)

    def _answer_interrupted(self, signal: Signal) -> None:
        waiting = [channel for channel in self._channels.values() if channel.blocked is not None]
        for channel in waiting:
            thread = channel.thread
            if thread is None or thread.blocks(signal.number) or signal.thread not in (None, thread):
                continue
            on_interrupt = channel.blocked.on_interrupt  # type: ignore[union-attr]
            self._release(channel, -errno.EINTR if on_interrupt is None else self._dispatcher.settle(on_interrupt))
            return

    def _release(self, channel: Channel, reply: Reply | None) -> None:
        """Answers a call that has waited; it may turn out to wait for something else."""
        if isinstance(reply, Blocked):
            channel.blocked = reply
        elif reply is not None:
            channel.blocked = None
            channel.send(reply)

    def _settle(self) -> None:
        """Tries the calls that wait, and ends the waits whose time has come."""
        world = self._world
        alarm = world.next_alarm_ns()
        if alarm is not None and alarm <= time.monotonic_ns():
            world.fire_alarms()
        for channel in tuple(self._channels.values()):
            blocked = channel.blocked
            if blocked is None or channel.thread is None:
                continue
            world.thread = channel.thread
            reply = self._dispatcher.settle(blocked.attempt)
            due = blocked.deadline_ns is not None and blocked.deadline_ns <= time.monotonic_ns()
            if reply is None and due and blocked.on_timeout is not None:
                reply = self._dispatcher.settle(blocked.on_timeout)
            self._release(channel, reply)
        self._after()

    def _wait(self) -> dict[int, int]:
        """Descriptors that are ready, with their events, or nothing when a deadline has come first."""
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        deadlines = [self._world.next_alarm_ns()]
        for channel in self._channels.values():
            poll.register(channel.request_fd, select.POLLIN)
            if channel.blocked is not None:
                deadlines.append(channel.blocked.deadline_ns)
                if channel.blocked.host_fd is not None:
                    poll.register(channel.blocked.host_fd, select.POLLIN)
        if self._process.door is not None:
            poll.register(self._process.door.listener.fd, select.POLLIN)
        due = [deadline for deadline in deadlines if deadline is not None]
        # Rounded up: a wait that ends too early would only be repeated, as one that poll(2) cannot hold is.
        timeout = None if not due else min(max(0, -(-(min(due) - time.monotonic_ns()) // 1_000_000)), _LONGEST_MS)
        with _uncharged(self._process.watch) if self._waits_for_caller() else contextlib.nullcontext():
            return dict(poll.poll(timeout))

    def _waits_for_caller(self) -> bool:
        """Whether every thread waits for the caller's input, for as long as that takes, and for nothing else."""
        waits = [channel.blocked for channel in self._channels.values() if channel.thread is not None]
        return not self._newborn and all(
            wait is not None and wait.host_fd is not None and wait.deadline_ns is None for wait in waits
        )

    # --- threads ------------------------------------------------------------------------------------------------------

    def _admit_threads(self, door: Door) -> None:
        door.listener.sort()
        while (knock := door.next_knock()) is not None:
            self._admit_thread(door, knock)

    def _admit_thread(self, door: Door, knock: Knock) -> None:
        """A clone stands at the kernel's door: it goes on when the handler has granted it, the kernel's own count is
        within the limit, and the guest has been given the channels that it lacks."""
        if not self._newborn or not door.admits(knock.tid) or not self._open_channels(door.listener, knock):
            door.listener.refuse(knock)
            for thread in self._newborn:
                self._world.end_thread(thread)
            self._newborn.clear()
            return
        thread = self._newborn.pop(0)
        self._channels[thread.channel].thread = thread
        door.allow_thread(knock)

    def _open_channels(self, listener: Listener, knock: Knock) -> bool:
        for thread in self._newborn:
            if thread.channel in self._channels:
                continue
            with Undisturbed():  # until `close`, which closes it, knows the channel
                channel = open_channel(listener, knock, FIRST_CHANNEL_FD + 2 * thread.channel)
                if channel is None:
                    return False
                self._channels[thread.channel] = channel
        return True


def _never() -> bool:
    return False


@contextlib.contextmanager
def _uncharged(watch: Watch) -> Iterator[None]:
    """While the guest waits for the caller's input, its wall time stands still."""
    deadline, since = watch.deadline_ns, time.monotonic_ns()
    watch.deadline_ns = None
    try:
        yield
    finally:
        if deadline is not None:
            watch.deadline_ns = deadline + time.monotonic_ns() - since


@contextlib.contextmanager
def _on_cpu_of(process: GuestProcess) -> Iterator[None]:
    """The calling thread runs where its guest runs; its own affinity is restored at the end."""
    if process.cpu is None:
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {process.cpu})
    except OSError:
        yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, before)
