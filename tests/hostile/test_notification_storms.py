"""Endless clones and mappings that are not granted: the kernel notifies the controller of each, and the thread waits.

The tests count how often the controller answers. That depends on the clock alone, not on the number of threads.
"""

import asyncio
import contextlib
import time

import pytest

import proxybox
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.process.listener import REFUSED_AT_ONCE, REFUSED_EVERY_NS, Listener

#: Threads that clone, or map a file, natively and repeatedly while the program runs.
STORM = """
import os, raw, threading
stack = raw.code(bytes(1 << 16)) + 32768
THREAD, COPY = (56, 0x3d0f00, stack, stack, stack, 0, raw.ROUTE), (56, 0x8000, 0, 0, 0, 0, raw.ROUTE)
MAPPING = 9, 0, 4096, 1, 2, raw.ROUTE << 32 | 517, 0
answers, begin = set(), threading.Event()
def storm(call):
    begin.wait()
    while True: answers.update(raw.syscalls([call] * 3))
for _ in range(5): threading.Thread(target=storm, args=({call},), daemon=True).start()
begin.set()
"""

#: Calls during a storm of thread clones, without new threads: the storm's clones would take their grants.
CALLS = """
for _ in range(1000): os.stat("/etc/passwd")
print(answers)
"""
#: Ends the program at once: an ending CPython would free the code that the threads run.
END = "\nimport sys; sys.stdout.flush(); os._exit(0)\n"
THREADS = """
import os, threading
started = []
for turn in range(40):
    one = threading.Thread(target=started.append, args=(turn,))
    one.start()
    one.join()
    os.stat("/etc/passwd")
print(started == list(range(40)))
"""


@pytest.fixture(scope="module", autouse=True)
def _engines():
    """Starts the engine before the tests: its threads last, and would count as left behind by a test."""
    the_engine()


class Refusals:
    """Counts refusals. most: how many there may have been in the time since the start."""

    def __init__(self):
        self.count, self._since = 0, time.monotonic_ns()

    @property
    def most(self):
        return REFUSED_AT_ONCE + 1 + (time.monotonic_ns() - self._since) // REFUSED_EVERY_NS


@pytest.fixture
def refusals(monkeypatch):
    refuse, counted = Listener.refuse, Refusals()

    def count(self, notification):
        counted.count += 1
        refuse(self, notification)

    monkeypatch.setattr(Listener, "refuse", count)
    return counted


def test_clones_of_threads_without_end(hostile, refusals):
    assert hostile.ok(STORM.format(call="THREAD") + CALLS + END) == "{-11}\n"
    assert REFUSED_AT_ONCE <= refusals.count <= refusals.most


@pytest.mark.parametrize(
    ("call", "program", "printed"),
    [("THREAD", CALLS, "{-11}\n"), ("COPY", THREADS, "True\n"), ("MAPPING", THREADS, "True\n")],
    ids=["threads", "copies", "mappings"],
)
def test_calls_without_end_in_a_copy(hostile, warm, refusals, call, program, printed):
    """A session and its copies share one listener: the storm wakes the others only as often as it is answered.

    Granted clones are allowed at once, also in the same box.
    """
    with contextlib.closing(warm(session={"branches": 4}).session(files=hostile.files, timeout=200)) as session:
        with contextlib.closing(session.fork()) as copy:
            result = copy.exec(STORM.format(call=call) + program)
            assert result.stdout == printed, result
            assert session.exec(THREADS, check=True).stdout == "True\n"
            with contextlib.closing(session.fork()) as another:
                assert another.eval("6 * 7").value == 42
        assert REFUSED_AT_ONCE <= refusals.count <= refusals.most


def test_clones_without_end_in_a_box_of_an_engine(hostile, refusals):
    async def both():
        async with proxybox.AsyncSandbox() as box:
            return await asyncio.gather(
                box.run(STORM.format(call="THREAD") + CALLS + END, files=hostile.files), box.run(THREADS)
            )

    storm, other = asyncio.run(both())
    assert (storm.stdout, other.stdout) == ("{-11}\n", "True\n"), (storm, other)
    assert REFUSED_AT_ONCE <= refusals.count <= refusals.most


def test_a_signal_does_not_have_the_door_opened_sooner(hostile, refusals):
    """A signal interrupts the waiting clone, which is then repeated: the controller does not answer sooner."""
    alarms = """
import signal
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
"""
    hostile.ok(alarms + STORM.format(call="THREAD") + CALLS + END, limits={"cpu_time": 20})
    assert refusals.count <= refusals.most
