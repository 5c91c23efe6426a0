"""Signals that a guest does not accept, and their cost to others.

The kernel counts a user's pending signals over all of its processes: beyond the limit no real-time signal can be sent.
A guest that blocks signals natively, and reports to the controller that it does not, accepts none.
"""

import asyncio
import contextlib
import os
import re
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.process import signalled
from proxybox.controller.seal import layers

#: Every signal that can be handled: the kernel holds all of them pending, and the controller sends them.
TAKES_NONE = """
import os, raw, signal, struct
numbers = [number for number in range(1, 65) if number not in (9, 11, 19, 31, 32, 33)]
for number in numbers: signal.signal(number, lambda *_: None)
signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
nothing = raw.code(bytes(8))
answer = raw.ask(14, (2, nothing, 0, 8), [bytes(8)])[0]
info = raw.code(struct.pack("iii", 0, 0, -1) + bytes(116))
said = []
for turn in range(12):
    for number in reversed(numbers): os.kill(os.getpid(), number)
    said.append(raw.syscall(129, os.getpid(), 40, info))
"""

TAKES_ONE = """
import os, signal
taken = []
for number in (34, 50, 64, 10): signal.signal(number, lambda number, _: taken.append(number))
for number in (34, 50, 64, 10, 34): os.kill(os.getpid(), number)
print(taken)
"""


#: The most signals that may be pending for one guest: those that it has caused, and a SIGCONT where it takes turns.
MOST = signalled.SIGNALS_AT_ONCE + 1
#: Signals that were already pending for the user, where boxes have no namespace and run as this process's user.
before = [0]


def undelivered(pid):
    """How many signals are pending for the user of a process in its user namespace, and how many numbers are pending
    for the process.
    """
    status = Path(f"/proc/{pid}/status").read_text()
    kept = int(re.search(r"ShdPnd:\s*(\w+)", status)[1], 16)
    return queued(pid) - before[-1], kept.bit_count()


def queued(pid):
    return int(re.search(r"SigQ:\s*(\d+)/", Path(f"/proc/{pid}/status").read_text())[1])


#: Without a namespace the kernel counts by user: signals that boxes of other tests may have pending at the same time.
OF_OTHERS = 64


@pytest.fixture(scope="module", autouse=True)
def _engines():
    """Starts the engine before the tests: its threads last, and would count as left behind by a test."""
    the_engine()


pytestmark = pytest.mark.cover(2)


@pytest.fixture(params=["a namespace of its own", "no namespace"])
def spaced(request, monkeypatch):
    before[-1] = 0
    if request.param == "no namespace":
        monkeypatch.setattr(layers, "USED", set())
        before[-1] = queued(os.getpid()) if os.geteuid() else 0
    return request.param


@pytest.mark.cover(1)
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_a_box_takes_no_signal_and_others_get_theirs(hostile, sandbox, warm, spaced, start):
    """The controller holds its signals back: only a few at a time are pending in the kernel."""
    make = warm if start == "warm" else sandbox
    box = make(limits={"calls": None})
    session = box.session(files=hostile.files, timeout=200)
    result = session.exec(TAKES_NONE)
    assert result.ok, result
    assert session.eval("answer").value == 0, "the controller has believed it"
    for pid in hostile.guests():
        queued, kept = undelivered(pid)
        assert kept <= MOST
        assert queued <= MOST + (OF_OTHERS if spaced == "no namespace" else 0)
    assert session.eval("said[-1]").value == -11, "EAGAIN: as many wait as may"
    assert box.run(TAKES_ONE, check=True).stdout == "[34, 50, 64, 10, 34]\n"
    with make() as other:
        assert other.run(TAKES_ONE, check=True).stdout == "[34, 50, 64, 10, 34]\n"
    session.close()


def test_a_copy_of_a_box_that_takes_no_signal_gets_its_own(hostile, sandbox, spaced):
    """A session's copies share its user namespace: only a few signals are pending for each."""
    session = sandbox(session={"branches": 8}, limits={"calls": None}).session(files=hostile.files, timeout=200)
    copies = [session.fork() for _ in range(4)]
    for each in copies[:3]:
        assert each.exec(TAKES_NONE).ok
    others = OF_OTHERS if spaced == "no namespace" else 0
    for pid in hostile.guests():
        assert undelivered(pid)[0] <= 3 * MOST + others
    assert copies[3].exec(TAKES_ONE).stdout == "[34, 50, 64, 10, 34]\n"
    for each in (session, *copies):
        each.close()


def test_a_box_takes_no_signal_and_others_of_its_engine_get_theirs(hostile, spaced):
    async def both():
        async with contextlib.AsyncExitStack() as stack:
            box = await stack.enter_async_context(proxybox.AsyncSandbox(limits={"calls": None}))
            session = await stack.enter_async_context(await box.session(files=hostile.files, timeout=200))
            assert (await session.exec(TAKES_NONE)).ok
            for pid in hostile.guests():
                assert undelivered(pid)[0] <= MOST + (OF_OTHERS if spaced == "no namespace" else 0)
            return (await box.run(TAKES_ONE)).stdout

    assert asyncio.run(both()) == "[34, 50, 64, 10, 34]\n"


def test_a_box_takes_no_signal_and_others_of_its_pool_get_theirs(hostile, spaced):
    with proxybox.Pool(size=2, limits={"calls": None}) as pool:
        first = pool.submit(TAKES_NONE + "print(said[-1])", files=hostile.files)
        second = pool.submit(TAKES_ONE)
        assert first.result().stdout == "-11\n"
        assert second.result().stdout == "[34, 50, 64, 10, 34]\n"


def test_signals_of_one_number_that_were_blocked_come_one_after_the_other(hostile):
    """A program that unblocks the signal gets all of them, even when it makes no call meanwhile."""
    out = hostile.ok(
        """
import ctypes, os, raw, resource, signal, struct
# lock inc qword [counter]; ret
counter = raw.code(bytes(8))
handler = raw.code(b"\\x48\\xb8" + counter.to_bytes(8, "little") + b"\\xf0\\x48\\xff\\x00\\xc3")
restorer = raw.code(b"\\xb8\\x0f\\x00\\x00\\x00\\x0f\\x05")
raw.check(raw.syscall(13, 40, raw.code(struct.pack("QQQQ", handler, 0x04000000, restorer, 0)), 0, 8))
taken = ctypes.c_uint64.from_address(counter)
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
for _ in range(20): os.kill(os.getpid(), 40)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [40])
for _ in range(30): os.getppid()
print(taken.value)
signal.pthread_sigmask(signal.SIG_BLOCK, [40])
for _ in range(20): os.kill(os.getpid(), 40)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [40])
while taken.value < 40: pass
print(taken.value, resource.getrlimit(11))
"""
    )
    assert out == "20\n40 (64, 64)\n"
