"""A box: one program, the world that it sees, the guest that runs it, and the result.

`BoxRunner.run` lists the steps in order. When a guest has ended, only the `BoxResult` remains of it.
"""

import contextlib
import gc
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from proxybox.controller.audit import Audit, Denial, Interceptor
from proxybox.controller.boxes.worldbuilding import OUTSIDE_PROC, BoxFolder, Changed, WorldBuilder, WorldTemplate
from proxybox.controller.callers import as_raised
from proxybox.controller.dispatch import Dispatcher, is_unobserved
from proxybox.controller.drivers.blocking import BlockingDriver, Outcome
from proxybox.controller.guests.guest import Guest
from proxybox.controller.process.cpus import Share, cpus
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.launch import LaunchSpec, launch
from proxybox.controller.process.reaper import reaper
from proxybox.controller.process.undisturbed import Closing, Undisturbed
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.status import Status
from proxybox.controller.world.output import Interleaved, OutputSink
from proxybox.controller.world.state import World
from proxybox.controller.world.stdin import Stdin
from proxybox.controller.world.streams import NO_STREAMS, StandardStreams
from proxybox.policies import Policy

#: When a box with more than this in files in memory has ended, its world is garbage-collected at once.
COLLECT_BYTES = 4 << 20

#: Bytes at the end of standard error that are stored for a caller that wants no output.
ERROR_TAIL = 1 << 16

#: A guest that had at most this many bytes of its memory left, at its peak, counts as one without memory.
_NOTHING_LEFT = 2 << 20
#: The last words of a PyPy that marshals its own calls, when its garbage collector or its wire ran out of memory.
_OUT_OF_MEMORY = re.compile(rb"\bout of memory\b|\bRPython error: MemoryError\b|\bcommand M: failed to allocate\b")


@attrs.frozen(kw_only=True)
class Usage:
    """What a run has cost. Times are in seconds of the host's clock, sizes in bytes.

    queue: the wait until a pool had room for it. start: the time until the first OS call of the sealed guest; 0 in a
    box that was ready before. wall: from start to end. cpu: CPU time of the guest. controller: CPU time that the
    controller has spent on its calls, without functions of the caller's; it differs from run to run. calls: OS calls,
    without readings of clocks. memory: the guest's resident memory at its peak, None where it could not be read (in
    sessions). input: bytes taken from standard input. output: bytes printed. disk: bytes of files that it has added.
    """

    queue: float = 0.0
    start: float = 0.0
    wall: float = 0.0
    cpu: float = 0.0
    controller: float = 0.0
    calls: int = 0
    memory: int | None = None
    input: int = 0
    output: int = 0
    disk: int = 0


@attrs.frozen(kw_only=True, eq=False)
class RunFacts:
    """What the controller knows about a program that has ended, or about one command of a session.

    outcome: how the guest ended; None while it lives. out_of_memory: whether the guest, if the program crashed or the
    command failed, had used up its memory, as far as the controller can tell.
    """

    outcome: Outcome | None
    output: Interleaved
    truncated: bool
    out_of_memory: bool
    denials: Mapping[Denial, int]
    unknown: Mapping[int, int]
    usage: Usage

    @property
    def stdout(self) -> bytes:
        """The bytes that were printed to standard output."""
        return self.output.stdout

    @property
    def stderr(self) -> bytes:
        """The bytes that were printed to standard error."""
        return self.output.stderr


@attrs.frozen(kw_only=True, eq=False)
class BoxResult(RunFacts):
    """The result of a box whose guest has ended.

    exceeded: limits of the world that were reached ("disk", "output", "memory": at some time, the guest had no memory
    left). changes: for each overlay, /box first.
    """

    outcome: Outcome
    exceeded: frozenset[str]
    changes: tuple[Changed, ...]
    layers: Mapping[str, str]


#: A function that gets the interpreter's arguments, the builder of the world, and the start time, and returns a box
#: that is ready to be served (`BoxRunner.start`, warm/start.py).
Start: TypeAlias = Callable[[Sequence[str], WorldBuilder, int], "LiveBox"]


@attrs.frozen(kw_only=True, eq=False)
class BoxRunner:
    """A policy and an interpreter, ready to run one program after another, each in a world of its own.

    template: makes the worlds of warm guests.
    """

    policy: Policy = attrs.field(kw_only=False)
    guest: Guest = attrs.field(kw_only=False)
    interceptors: Sequence[Interceptor] = ()
    audit: Audit | None = None
    template: WorldTemplate | None = None
    _running: set[BlockingDriver] = attrs.field(init=False, factory=set)
    _cancelled: set[bool] = attrs.field(init=False, factory=set)  # empty until `cancel`; an Event takes 3 us to make

    @property
    def is_observed(self) -> bool:
        """Whether the OS calls of the interpreter's start matter, so that a guest must not be copied from a zygote.

        Interceptors and an audit see every call, those of the start included; a seed asks for the same start each
        time.
        """
        return bool(self.interceptors) or self.audit is not None or self.policy.randomness != "system"

    @property
    def is_cancelled(self) -> bool:
        """Whether `cancel` was called. Then no program begins any more."""
        return bool(self._cancelled)

    def cancel(self) -> None:
        """Ends every program that runs now, and each one that would begin later; from any thread.

        Their runs return, with the status "cancelled".
        """
        self._cancelled.add(True)  # before the loop: a driver that is added later finds it
        for driver in tuple(self._running):
            driver.cancel()

    def interrupt(self) -> bool:
        """Sends SIGINT to every program that runs now, as a terminal does; from any thread.

        Returns whether there was such a program.
        """
        running = tuple(self._running)
        for driver in running:
            driver.interrupt()
        return bool(running)

    def run(
        self,
        words: Sequence[str],
        *,
        folder: BoxFolder | None = None,
        streams: StandardStreams = NO_STREAMS,
        start: "Start | None" = None,
    ) -> BoxResult:
        """Runs the interpreter with the arguments `words` until it has ended.

        folder: the content of /box. start: the function that starts the guest, instead of `BoxRunner.start`.

        Raises SandboxStartError, and whatever a callback or an interceptor raises, after the guest was ended.
        """
        started = time.monotonic_ns()
        builder = self.world(start is not None, Stdin(streams.stdin), *self._sinks(streams))
        with Closing(builder.close):
            builder.enter(folder or BoxFolder())
            with Undisturbed() as undisturbed:
                builder.tell_words(words)
                live = (start or self.start)(words, builder, started)
                with Closing(live.close):
                    undisturbed.release()
                    run = self.finish(live)
        collect_behind(builder)
        return run

    def open(
        self,
        words: Sequence[str],
        *,
        folder: BoxFolder | None = None,
        streams: StandardStreams = NO_STREAMS,
        start: "Start | None" = None,
    ) -> "LiveBox":
        """Prepares a box as `run` does, for a caller that runs it with another driver. The caller closes the box."""
        started = time.monotonic_ns()
        with contextlib.ExitStack() as undo, Undisturbed():
            builder = self.world(start is not None, Stdin(streams.stdin), *self._sinks(streams))
            undo.callback(builder.close)
            builder.enter(folder or BoxFolder())
            builder.tell_words(words)
            live = (start or self.start)(words, builder, started)
            undo.pop_all()
            live.undo.callback(builder.close)
            return live

    def world(self, is_warm: bool, stdin: Stdin, stdout: OutputSink, stderr: OutputSink) -> WorldBuilder:
        """Returns a world that is complete except for the content of /box.

        The caller closes it. Raises SandboxStartError.
        """
        if is_warm and self.template is not None:
            made = self.template.make(stdin, stdout, stderr)
            made.tighten(self.policy)
            return made
        builder = WorldBuilder(self.policy, self.guest, BoxFolder())
        try:
            builder.build(stdin, stdout, stderr, with_box=False)
        except BaseException:
            builder.close()
            raise
        return builder

    def start(self, words: Sequence[str], builder: WorldBuilder, started: int, **changes: Any) -> "LiveBox":
        """Starts a guest in the world of the builder, and returns it when it is sealed and waits to begin.

        changes: fields of its LaunchSpec. The caller holds signal handlers back, and closes the guest. Raises
        SandboxStartError.
        """
        with contextlib.ExitStack() as undo:
            cpu = undo.enter_context(self.cpu())
            process = launch(attrs.evolve(self.spec(words, builder), cpu=cpu, **changes))
            undo.callback(process.close)
            return self.serve(process, builder, started, undo)

    def serve(
        self, process: GuestProcess, builder: WorldBuilder, started: int, undo: contextlib.ExitStack
    ) -> "LiveBox":
        """Returns the box of a guest and its world.

        undo: releases the guest's resources; the box takes it over.
        """
        world = builder.world
        world.clock.guest_pid = process.pid
        if process.guest_listener is None:
            world.thread_limit = 1
        dispatcher, driver = self.served_by(process, builder)
        undo.callback(driver.close)
        if world.port is not None:
            world.port.notify = driver.wake
        return LiveBox(
            policy=self.policy, builder=builder, process=process, dispatcher=dispatcher, driver=driver,
            started_ns=started, ready_ns=time.monotonic_ns(), undo=undo.pop_all(),
        )  # fmt: skip

    def served_by(self, process: GuestProcess, builder: WorldBuilder) -> tuple[Dispatcher, BlockingDriver]:
        """Returns the dispatcher, which answers a guest's calls, and the driver, which waits for them."""
        world = builder.world
        dispatcher = Dispatcher(world, self.interceptors, self.audit)
        process.channel = self.guest.channel(process.channel, world, dispatcher, builder.environment)
        return dispatcher, BlockingDriver(process, world, dispatcher)

    @staticmethod
    def cpu() -> Share:
        """A context that gives a CPU for one guest, or None where CPU affinity is not available."""
        return cpus.share()

    def finish(self, live: "LiveBox") -> BoxResult:
        """Serves a guest until it has ended, within the limits of its policy."""
        with self.running(live):
            return live.report(live.driver.run())

    @contextlib.contextmanager
    def running(self, live: "LiveBox") -> Iterator[None]:
        """A context in which a guest runs, within the limits of its policy, until it ends or `cancel` ends it."""
        self._running.add(live.driver)
        try:
            if self.is_cancelled:
                live.driver.cancel()
            live.charge()
            yield
        finally:
            self._running.discard(live.driver)

    def _sinks(self, streams: StandardStreams) -> tuple[OutputSink, OutputSink]:
        """Returns both output streams. A stream that is not stored is a terminal if the caller's own stream is one."""
        policy, keep = self.policy.output, streams.keep
        tty = [not keep and _is_terminal(fd) for fd in (1, 2)]
        stdout = OutputSink("stdout", policy, None, streams.stdout, keep=keep, is_tty=tty[0], winsize=_window(1))
        # The end of standard error says why a program failed, so it is always stored.
        window = _window(2)
        stderr = OutputSink(
            "stderr",
            policy,
            stdout.transcript,
            streams.stderr,
            keep=keep,
            tail=ERROR_TAIL,
            is_tty=tty[1],
            winsize=window,
        )
        return stdout, stderr

    def spec(self, words: Sequence[str], builder: WorldBuilder) -> LaunchSpec:
        """Returns the LaunchSpec of a guest of this box."""
        policy, guest = self.policy, self.guest
        limits, cpu = policy.limits, policy.limits.cpu_time
        seeded = policy.randomness != "system"
        return LaunchSpec(
            guest=guest,
            argv=(builder.executable, *words),
            env=builder.environment(),
            pid=builder.world.process.pid,
            uid=policy.environment.uid,
            gid=policy.environment.gid,
            memory=limits.memory,
            nursery=limits.nursery_size,
            threads=1 if guest.marshals else limits.thread_count,
            real_time=policy.time.kind == "real" and policy.time.sleep == "real",
            host_clocks=is_unobserved(self.interceptors, self.audit),
            cpu_seconds=0 if cpu is None else int(cpu) + 2,
            same_addresses=seeded,
            hide=guest.hidden,
            outside_proc=OUTSIDE_PROC,
            required=policy.require_layers,
            bare=guest.marshals,
            asks_for_room=not guest.marshals,
        )


@attrs.define(kw_only=True, eq=False)
class LiveBox:
    """A guest that runs in its world, with its dispatcher and its driver.

    started_ns, ready_ns: host time. spent_ns: the CPU time that the controller had spent when time began to count.
    calls_before, cpu_before_ns: the calls of its main thread, clock readings included, and its CPU time before it got a
    program. on_report: called with the result before `report` returns it. outcome: how a session has ended; None where
    it has not, or where this is no session.
    """

    policy: Policy
    builder: WorldBuilder
    process: GuestProcess
    dispatcher: Dispatcher
    driver: BlockingDriver
    started_ns: int
    ready_ns: int
    undo: contextlib.ExitStack
    spent_ns: int = 0
    calls_before: int = 0
    cpu_before_ns: int = 0
    on_report: Callable[["LiveBox", BoxResult], BoxResult] | None = None
    outcome: Outcome | None = None

    @property
    def world(self) -> World:
        """The world of the guest."""
        return self.builder.world

    def close(self) -> None:
        """Ends the guest, and releases all its resources."""
        if self.world.port is None:
            self.undo.pop_all().close()
        else:
            self.bury()

    def bury(self) -> None:
        """Does what `close` does, but without waiting: the reaper's thread does the rest."""
        if self.world.exit_code is None:  # otherwise the guest waits forever for an answer
            self.process.watch.kill()
        reaper().bury(self.undo.pop_all().close)

    def charge(self) -> None:
        """Begins to count time against the limits of the policy."""
        cpu, wall, watch = self.policy.limits.cpu_time, self.policy.limits.wall_time, self.process.watch
        watch.begin_sharing()
        watchdog().make_way(watch.cpu)
        watch.deadline_ns = None if wall is None else time.monotonic_ns() + int(wall * 1e9)
        watch.cpu_ns = None if cpu is None else int(cpu * 1e9)
        watch.free(cpu)
        self.spent_ns = watch.meter.spent_ns()

    def report(self, outcome: Outcome) -> BoxResult:
        """Returns the result, when the guest has ended."""
        ended = time.monotonic_ns()
        world, process, cpu = self.world, self.process, self.policy.limits.cpu_time
        if outcome.signal in (signal.SIGXCPU, signal.SIGKILL) and cpu is not None and process.cpu_ns >= cpu * 1e9:
            outcome = attrs.evolve(outcome, status=Status.TIME_LIMIT, why="limits.cpu_time")
        exceeded = set(world.exceeded)
        if self.builder.quota.exceeded:
            exceeded.add("disk")
        if process.has_had_at_most(_NOTHING_LEFT):
            exceeded.add("memory")
        stdout, stderr, said = world.stdout, world.stderr, process.said_last()
        with contextlib.suppress(BrokenPipeError):  # the reader is gone; a living guest would only get EPIPE
            as_raised(lambda: stderr.write(said))
        run = BoxResult(
            outcome=outcome,
            output=stdout.transcript.interleaved(),
            truncated=stdout.truncated or stderr.truncated,
            exceeded=frozenset(exceeded),
            out_of_memory=is_out_of_memory(process, said),
            changes=self.builder.changes(),
            denials=dict(self.dispatcher.denials),
            unknown=dict(self.dispatcher.unknown),
            layers=process.reported_layers(),
            usage=Usage(
                start=max(0, self.ready_ns - self.started_ns) / 1e9,
                wall=(ended - self.started_ns) / 1e9,
                cpu=process.cpu_ns / 1e9,
                controller=(process.watch.meter.spent_ns() - self.spent_ns) / 1e9,
                calls=self.dispatcher.calls,
                memory=process.peak_resident,
                input=world.stdin.taken,
                output=stdout.written + stderr.written,
                disk=self.builder.quota.used_bytes,
            ),
        )
        return run if self.on_report is None else self.on_report(self, run)


def collect_behind(builder: WorldBuilder) -> None:
    """Collects the garbage of a run that has ended, if it had large files in memory.

    A world has many reference cycles: without this, several large worlds could stay in memory until the next
    collection.
    """
    if builder.quota.used_bytes > COLLECT_BYTES:
        gc.collect()


def is_out_of_memory(process: GuestProcess, said: bytes = b"") -> bool:
    """Whether the guest, if it crashed, ran out of memory.

    said: the last words of an interpreter that marshals its own calls.
    """
    return process.ran_out_of_memory or process.was_nearly_full() or _OUT_OF_MEMORY.search(said) is not None


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _window(fd: int) -> tuple[int, int]:
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return (24, 80)
    return (size.lines, size.columns)
