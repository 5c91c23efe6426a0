"""The engine: a guest that sends anything, or does not read, harms only itself.

The guests are fakes without a process.
"""

import fcntl
import os
import threading

import attrs
import pytest

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.boxes.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.blocking import never
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.drivers.serving import Serving
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.header import REPLY
from proxybox.controller.wire.channel import Channel
from proxybox.controller.wire.protocol import encode_request
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.stdin import Stdin
from proxybox.policies import Policy
from tests.fuzz.conftest import FakeProcess, FakeWatch

GETPID, GETRANDOM = 39, 318


@attrs.define(eq=False)
class Watch(FakeWatch):
    unreachable: bool = True  # there is no process to wait for
    pidfd: int = -1


class Fake:
    """The guest's ends of the pipes, and how the engine has ended the guest."""

    def __init__(self) -> None:
        self.builder = WorldBuilder(Policy(limits={"calls": None}), find_guest(), BoxFolder())
        world = self.builder.build(Stdin(), OutputSink("stdout"), OutputSink("stderr"))
        request_read, self.request = os.pipe()
        self.reply, reply_write = os.pipe()
        self.channel = Channel(request_read, reply_write)
        self.world = world
        self.driver = Serving(FakeProcess(self.channel, Watch()), world, Dispatcher(world))
        self.ended = threading.Event()
        self.outcome = self.error = None
        the_engine().serve(self.driver, never, self.done)

    def done(self, outcome, error) -> None:
        self.outcome, self.error = outcome, error
        self.ended.set()

    def say(self, data: bytes) -> None:
        assert os.write(self.request, data) == len(data)

    def hear(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += os.read(self.reply, size - len(data))
        return data

    def ask(self) -> int:
        """Makes two round trips: all requests from before are in one batch of events with the first of them."""
        for _ in range(2):
            self.say(encode_request(GETPID))
            answer = self.hear(16)
        return int(REPLY.unpack(answer)[2])

    def close(self) -> None:
        if self.request >= 0:
            os.close(self.request)
        assert self.ended.wait(200)
        self.driver.close()
        self.channel.close()
        os.close(self.reply)
        self.builder.close()


@pytest.fixture
def fake():
    made = []

    def make() -> Fake:
        made.append(Fake())
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_half_a_frame_costs_nobody_else(fake):
    slow, other = fake(), fake()
    frame = encode_request(GETPID)
    for at in range(0, len(frame), 3):
        slow.say(frame[at : at + 3])
        assert other.ask() == other.world.process.pid
    assert REPLY.unpack(slow.hear(16))[2] == slow.world.process.pid


def test_the_end_in_the_middle_of_a_frame(fake):
    broken, other = fake(), fake()
    broken.say(encode_request(GETPID)[:10])
    os.close(broken.request)
    broken.request = -1
    assert broken.ended.wait(200)
    assert broken.outcome.status == "misbehaved"
    assert other.ask()


def test_nonsense(fake):
    broken, other = fake(), fake()
    broken.say(b"\xff" * 64)
    assert broken.ended.wait(200)
    assert broken.outcome.status == "misbehaved"
    assert other.ask()


def test_a_guest_that_does_not_read(fake):
    """A reply that the pipe does not take waits.

    The guest's next call runs only after all of the reply has been written.
    """
    deaf, other = fake(), fake()
    size = 1 << 20
    deaf.say(encode_request(GETRANDOM, (4096, size, 0)))
    while not deaf.channel.unsent:
        assert other.ask()
    calls = deaf.world.thread.calls
    deaf.say(encode_request(GETPID))
    for _ in range(50):
        assert other.ask()
    assert deaf.world.thread.calls == calls
    answer = deaf.hear(28 + size)
    assert REPLY.unpack_from(answer)[2] == size
    assert REPLY.unpack(deaf.hear(16))[2] == deaf.world.process.pid


def test_requests_without_end_and_nobody_reads(fake):
    """Small answers fill the pipe. After that the engine answers no further calls, and stores no further answers."""
    deaf, other = fake(), fake()
    fcntl.fcntl(deaf.reply, fcntl.F_SETPIPE_SZ, 4096)
    while not deaf.channel.unsent:
        calls = deaf.world.thread.calls
        deaf.say(encode_request(GETPID))
        while deaf.world.thread.calls == calls:  # it has no turn while it has used more time than the other
            assert other.ask()
        assert other.ask()
    assert len(deaf.channel.unsent) == 16
    os.close(deaf.request)
    deaf.request = -1
    deaf.hear(16 * deaf.world.thread.calls)
    assert deaf.ended.wait(200)


def test_a_guest_that_goes_without_reading(fake):
    deaf = fake()
    deaf.say(encode_request(GETRANDOM, (4096, 1 << 20, 0)))
    os.close(deaf.reply)
    os.close(deaf.request)
    deaf.request = -1
    assert deaf.ended.wait(200)
    assert deaf.error is None
    deaf.reply = os.open("/dev/null", os.O_RDONLY)  # for close


def test_deadlines_that_nobody_waits_for_are_not_kept(fake):
    """A guest that begins long waits and is interrupted, again and again, does not make the list of deadlines grow."""
    engine = the_engine()
    sleeper = fake()
    long = (10**6).to_bytes(8, "little") + bytes(8)
    for _ in range(600):
        sleeper.say(encode_request(35, (4096, 0), (long,)))
        while sleeper.driver._main.blocked is None:
            pass
        sleeper.driver._signals.is_interrupted = True
        sleeper.driver.wake()
        assert REPLY.unpack(sleeper.hear(16))[2] == -4
    assert len(engine._deadlines) <= len(engine._jobs) + 257
