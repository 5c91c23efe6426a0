"""Guests without a process: threads that send any bytes of a test."""

import contextlib
import os
import threading
from collections.abc import Callable

import attrs
import pytest

from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.costs.meter import Meter
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.blocking import BlockingDriver, Outcome
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.wire.channel import Channel
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Policy


@attrs.define(eq=False)
class FakeWatch:
    """Stands for a Watch of the watchdog; it ends no process."""

    pid: int = 0
    deadline_ns: int | None = None
    expired: str = ""
    fault: BaseException | None = None
    killed: bool = False
    is_asked: bool = False
    is_stopped: bool = False
    is_parked: bool = False
    meter: Meter = attrs.field(factory=Meter)
    interpreter: InterpreterShare = attrs.field(factory=InterpreterShare)
    lock: threading.Lock = attrs.field(factory=threading.Lock)
    waits: Callable[[], bool] = bool

    def kill(self) -> None:
        self.killed = True

    def cpu_time_ns(self) -> int:
        """Returns 0: it uses no CPU time."""
        return 0

    uncharged = staticmethod(contextlib.nullcontext)

    def suspend(self) -> None:
        """Does nothing: wall time is not counted here."""

    def resume(self, suspended: None) -> None:
        """Does nothing: wall time is not counted here."""

    def send(self, number: int) -> None:
        """Checks the number of a signal that the controller would send."""
        assert 1 <= number <= 64


@attrs.define(eq=False)
class FakeProcess:
    channel: Channel
    watch: FakeWatch = attrs.field(factory=FakeWatch)
    guest_listener: None = None
    cpu: None = None
    pid: int = 0

    def begin(self, seen: bytes) -> None:
        """Does nothing: the guest's thread sends by itself."""

    def make_room(self, size: int, kind: int) -> bool:
        """Returns False: the guest has no memory of its own."""
        return False

    def measure(self) -> None:
        """Does nothing: there is nothing to measure."""

    def reap(self) -> tuple[int | None, int | None]:
        """Returns the result for a child that another thread has already waited for."""
        return None, None


def drain(fd: int, kept: list[bytes], answered: threading.Event) -> None:
    while data := os.read(fd, 65536):
        kept.append(data)
        answered.set()
    answered.set()


def speak(fd: int, pieces: list[bytes], answered: threading.Event) -> None:
    """Writes the first piece at once, and the others after its answer."""
    try:
        for piece in pieces:
            while piece:
                piece = piece[os.write(fd, piece) :]
            answered.wait()
    except BrokenPipeError:
        pass
    finally:
        os.close(fd)


@pytest.fixture(scope="session")
def converse():
    """Returns a function that runs a driver against a guest which sends `first` and then `pieces`.

    The function returns the Outcome, and all replies.
    """
    guest = find_guest()
    policy = Policy(limits={"calls": 100_000})

    def run(first: bytes, pieces: list[bytes], **watching) -> tuple[Outcome, bytes]:
        builder = WorldBuilder(policy, guest, BoxFolder(files={"main.py": b"print(1)"}))
        world = builder.build(Stdin(b"input"), OutputSink("stdout", policy.output), OutputSink("stderr", policy.output))
        world.thread_limit = 1
        request_read, request_write = os.pipe()
        reply_read, reply_write = os.pipe()
        channel, replies, answered = Channel(request_read, reply_write), [], threading.Event()
        threads = [
            threading.Thread(target=speak, args=(request_write, [first, *pieces], answered)),
            threading.Thread(target=drain, args=(reply_read, replies, answered)),
        ]
        for thread in threads:
            thread.start()
        try:
            dispatcher = Dispatcher(world, **watching)
            return BlockingDriver(FakeProcess(channel), world, dispatcher).run(), b"".join(replies)
        finally:
            channel.close()
            for thread in threads:
                thread.join()
            os.close(reply_read)
            builder.close()

    return run
