"""Zygotes: guests that have started, have imported the policy's modules, and wait to be copied.

A zygote never runs untrusted code, and its calls are answered only while it starts. Its copies are boxes, each with its
own world, its own limits and the final filter (birth.py). The copies share the zygote's state in memory: addresses, the
hash seed, imported modules.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import attrs

from proxybox.controller.boxes.box import BoxRunner, LiveBox
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.exchange.port import Port
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.oscalls.transfers import nameless
from proxybox.controller.process.birth import adopt, seal
from proxybox.controller.process.cpus import on_cpu
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.memory import Beginning
from proxybox.controller.process.undisturbed import Undisturbed
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.warm.bootstrapping import bootstrap_words, mount_bootstrap
from proxybox.controller.warm.copyable import SMALL, STANDARD, CopyableCheck
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.state import World
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Limits, Output, Policy, SessionLimits

#: The process id that a zygote sees as its own; no box has this id. OpenSSL and other libraries notice a fork by the
#: change of the process id.
ZYGOTE_PID = 50


def essence(policy: Policy) -> Policy:
    """Returns a policy with only the fields that a zygote's start depends on; if two are equal, they share a zygote."""
    threads = policy.limits.threads
    return attrs.evolve(
        policy,
        limits=Limits(
            wall_time=None, cpu_time=None, memory=None, disk=None, files=None, calls=None,
            threads=None if threads is None or threads > 1 else 1, nursery=policy.limits.nursery_size,
        ),
        output=Output(),
        session=SessionLimits(),
        on_denied="errno",
    )  # fmt: skip


class Zygote:
    """One warm guest.

    `fork` can be called from any thread. When `fork` raises, `is_alive` says whether another try makes sense.
    """

    def __init__(self, policy: Policy, box: BoxRunner) -> None:
        """Starts the zygote.

        Raises SandboxStartError; where a module could not be imported, it quotes the error message. Raises NotCopyable
        for a module that leaves threads or open files behind.
        """
        require_bootstrap(box.guest)
        self._policy = essence(policy)
        self._box = attrs.evolve(box, policy=self._policy, interceptors=(), audit=None)
        self._lock = threading.Lock()
        self._asked = False  # whether the zygote's request for the next copy has been read
        self._closed = False
        self.forks = 0
        self.started = time.monotonic()
        with Undisturbed():
            self._live = self._start()
        self._began = Beginning.of(self._live.process.pid)

    def _start(self) -> LiveBox:
        policy = self._policy
        builder = WorldBuilder(policy, self._box.guest, BoxFolder())
        with contextlib.ExitStack() as undo:
            undo.callback(builder.close)
            stderr = OutputSink("stderr", policy.output)
            world = builder.build(Stdin(), OutputSink("stdout", policy.output), stderr)
            world.process.pid = world.process.pgid = world.thread.tid = ZYGOTE_PID
            mount_bootstrap(world)
            world.port = port = Port()
            copyable = CopyableCheck(world)
            port.imported = copyable.imported
            live = self._box.start(
                bootstrap_words("zygote", policy), builder, time.monotonic_ns(), memory=None, zygote=True
            )
            undo.callback(live.close)
            self._serve(live, port.is_idle, stderr)
            self._reach_fork(live, port, stderr)
            copyable.check()
            world.port = None
            live.undo.push(undo.pop_all())
            live.process.watch.deadline_ns = None  # from here on it has no limit of time
            self._asked = True
            return live

    def _reach_fork(self, live: LiveBox, port: Port, stderr: OutputSink) -> None:
        """Runs the zygote, which has imported everything, until it calls fork(2) for its first copy.

        A module that forks while it is imported is refused.
        """
        parked: list[Blocked] = []

        def park() -> Reply:
            parked.append(Blocked(lambda: None))
            return parked[0]

        live.world.on_fork = park
        port.post(b"")
        live.driver.resume()
        self._serve(live, lambda: bool(parked), stderr)

    @staticmethod
    def _serve(live: LiveBox, until: Callable[[], bool], stderr: OutputSink) -> None:
        outcome = live.driver.serve(until)
        if outcome is not None:
            said = stderr.getvalue().decode("utf-8", "backslashreplace").strip()
            raise SandboxStartError(f"a warm guest could not be started: {said or outcome}")

    @property
    def process(self) -> GuestProcess:
        """The zygote's own process."""
        return self._live.process

    def is_alive(self) -> bool:
        """Whether the zygote can still be copied."""
        return not self._closed and self._live.process.watch.is_running()

    def close(self) -> None:
        """Ends the zygote. Its copies live on."""
        with self._lock:
            self._closed = True
            self._live.close()

    def fork(self, box: BoxRunner, builder: WorldBuilder, started: int, port: Port, **changes: Any) -> LiveBox:
        """Returns a sealed copy, which waits to begin in a world that was built for it.

        changes: fields of its LaunchSpec. Raises SandboxStartError.
        """
        world = builder.world
        self._prepare(world)
        world.port = port
        with contextlib.ExitStack() as undo:
            cpu = undo.enter_context(box.cpu())
            spec = attrs.evolve(box.spec((), builder), cpu=cpu, **changes)
            watchdog().make_way(cpu)
            with self._lock, on_cpu(cpu):
                self._await_request()
                self._move(cpu)
                self._asked = False
                child, born = adopt(self._live.process, world.process.pid, spec.threads, again=True)
                self.forks += 1
            undo.callback(child.close)
            child.layers = {**self._live.process.layers, **child.layers}
            seal(child, spec, born, self._began)
            return box.serve(child, builder, started, undo)

    def _move(self, cpu: int | None) -> None:
        """Moves the zygote, which waits, to the CPU of its next copy, where its caller is."""
        process = self._live.process
        if cpu is not None and cpu != process.cpu:
            with contextlib.suppress(OSError):
                os.sched_setaffinity(process.pid, (cpu,))
                process.cpu = cpu

    def _prepare(self, world: World) -> None:
        """Copies the interpreter's signals, thread state and files from the zygote's world to the copy's."""
        mine = self._live.world
        world.signals.actions.update(mine.signals.actions)
        world.thread.sigmask, world.thread.name = mine.thread.sigmask, mine.thread.name
        world.thread.altstack, world.thread.cpus = mine.thread.altstack, mine.thread.cpus
        for fd in mine.descriptors:
            if fd not in STANDARD:  # a small file in memory: see copyable.py
                old, new = mine.descriptors.get(fd), nameless(world)
                new.pwrite(old.pread(SMALL, 0), 0)
                new.offset = old.offset
                world.descriptors.enter(fd, new, mine.descriptors.cloexec(fd))

    def _await_request(self) -> None:
        """Reads the zygote's request for its next copy; the same request reports the result of the last copy."""
        if self._closed:
            raise SandboxStartError("the warm guest is closed")
        if self._asked:
            return
        frame = None
        while frame is None:
            frame = self._live.process.channel.receive()
        if not frame:
            raise SandboxStartError("the warm guest has ended")
        self._asked = True
