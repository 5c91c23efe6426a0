"""The controller's computing for a guest is charged to that guest: programs whose calls cost more than their own
code.
"""

import itertools
import os
import time

import anyio
import pytest

import proxybox
from proxybox.controller.costs.meter import Meter, thread_clock, thread_time_ns
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.process.watch import Watch
from proxybox.controller.world.randomness import MOST_AT_ONCE, Randomness

#: Nearly all of the time of this program is the controller's.
DEAR = "import os\nwhile True: os.urandom(1 << 20)"
CALLS = {"wall_time": 200, "cpu_time": 0.3, "calls": None}


@pytest.fixture(scope="module", autouse=True)
def _engines(_warm):
    """Starts the engine before the tests: it lasts as long as the process."""
    the_engine()


def in_a_loop(code, **options):
    async def run():
        async with proxybox.AsyncSandbox(warm=False, **options) as box:
            return await box.run(code)

    return anyio.run(run)


def in_a_pool(code, **options):
    with proxybox.Pool(size=1, **options) as pool:
        return pool.run(code)


@pytest.mark.parametrize("way", [proxybox.run, in_a_pool, in_a_loop], ids=["blocking", "pool", "loop"])
def test_a_program_that_lets_the_controller_compute(way):
    """Its CPU limit ends it, though most of the time is the controller's. As much time of the controller as the limit
    is free.
    """
    result = way(DEAR, limits=CALLS)
    assert (result.status, result.why) == ("time_limit", "limits.cpu_time"), result
    assert result.usage.controller > 0.3
    assert result.usage.cpu + result.usage.controller > 0.6


def test_a_session_that_lets_the_controller_compute(sandbox):
    session = sandbox(limits=CALLS).session()
    for _ in range(2):  # each call is new
        result = session.exec(DEAR)
        assert (result.status, result.why.partition(";")[0]) == ("time_limit", "limits.cpu_time"), result
        assert session.alive
        assert result.usage.controller > 0.3
    assert session.usage.controller > 0.6


def test_a_session_as_a_whole(sandbox):
    """The controller's time beyond the free part of each call counts for all calls together."""
    session = sandbox(limits=CALLS, session={"cpu_time": 0.7}).session()
    while session.alive:
        result = session.exec(DEAR)
        assert result.status == "time_limit", result


def test_a_program_that_computes_by_itself_has_its_whole_time(hostile):
    """Nothing of its time is the controller's, so the whole limit is its own."""
    result = hostile.run("import time\nwhile True: pass", limits={"wall_time": 200, "cpu_time": 0.3})
    assert (result.status, result.why) == ("time_limit", "limits.cpu_time"), result
    assert result.usage.cpu >= 0.3


def test_functions_of_the_callers_are_not_the_guests(sandbox):
    """Time of a host function, an interceptor, a callback or an input function is the caller's."""

    def compute(*_):
        until = time.thread_time() + 0.05
        while time.thread_time() < until:
            pass

    def given(size):
        compute()
        return "x\n"

    seen = []

    def intercept(call):
        if call.name == "getppid":
            compute(), seen.append(call)

    limits = {"wall_time": 200, "cpu_time": 2}
    box = sandbox(functions={"compute": compute}, interceptors=[intercept], limits=limits)
    code = "import os, host\nfor _ in range(8): host.compute(); os.getppid(); print(input(), flush=True)"
    result = box.run(code, stdin=given, on_stdout=compute)
    assert result.ok, result
    assert len(seen) == 8
    assert result.usage.controller < 8 * 0.05


def test_its_own_start_is_not_charged():
    with proxybox.Sandbox(warm=False) as box:
        first = box.run("pass").usage
    assert first.controller < first.start + first.wall


# --- a wait that is none ----------------------------------------------------------------------------------------------

#: Requests input, does not read the answer, and computes: wall time stops while a program waits for a person.
FORGED = """
import raw, ctypes
buffer = raw.code(bytes(64))
spin = raw.function(bytes([0xEB, 0xFE]))
raw.syscalls([raw.put(raw.frame(0, (0, buffer, 1)))])
spin()
"""


@pytest.mark.parametrize("word", ["auto", "free"])
def test_a_forged_wait_computes_at_its_own_cost(hostile, word):
    controller, terminal = os.openpty()
    with open(terminal) as file:
        result = hostile.run(FORGED, stdin=file, timeout=None,
                             limits={"wall_time": 0.5, "cpu_time": None, "input_wait": word})  # fmt: skip
    os.close(controller)
    assert (result.status, result.why) == ("time_limit", "limits.wall_time"), result


def test_a_forged_wait_in_a_loop(hostile):
    controller, terminal = os.openpty()

    async def run():
        async with proxybox.AsyncSandbox(warm=False, limits={"wall_time": 0.5, "cpu_time": None}) as box:
            return await box.run(FORGED, files=hostile.files, stdin=file)

    with open(terminal) as file:
        result = anyio.run(run)
    os.close(controller)
    assert (result.status, result.why) == ("time_limit", "limits.wall_time"), result


# --- the parts --------------------------------------------------------------------------------------------------------


def burn(seconds):
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_a_meter_counts_another_thread_that_works_for_the_guest():
    meter = Meter()
    meter.beside = 5
    assert meter.spent_ns() == 5


def test_a_meter_counts_who_serves_and_not_the_caller():
    meter = Meter()
    burn(0.01)
    assert meter.spent_ns() == 0
    meter.begin(thread_time_ns(), thread_clock())
    burn(0.02)
    assert meter.spent_ns() >= 0.02e9  # while it is served
    with meter:
        before = meter.spent_ns()
        burn(0.02)
        with meter:
            burn(0.01)
        assert meter.spent_ns() == before
    burn(0.01)
    meter.end(thread_time_ns())
    total = meter.spent_ns()
    assert total >= before + 0.01e9
    burn(0.01)
    assert meter.spent_ns() == total
    with meter:
        pass
    assert meter.spent_ns() == total


def test_what_is_free_is_carried_no_further(monkeypatch):
    """A call's unused free time is not added to the next call's."""
    watch = Watch(os.getpid(), -1)
    spent = itertools.chain((0, 500), itertools.repeat(900))
    monkeypatch.setattr(Meter, "spent_ns", lambda _: next(spent))
    monkeypatch.setattr(Watch, "cpu_time_ns", lambda _: 0)
    watch.free(200e-9)
    assert watch.charged_ns() == 300
    watch.free(100e-9)  # 700 are beyond the free part
    assert watch.charged_ns() == 700
    assert watch.charged_ns() == 700
    assert watch.renew(5, 400e-9, 0, None) == 0
    assert (watch.deadline_ns, watch.cpu_ns) == (5, 1100)
    assert watch.renew(None, 400e-9, None, 900) == 0
    assert (watch.deadline_ns, watch.cpu_ns) == (None, 900)
    assert watch.renew(7, None, 1, None) == 0
    assert (watch.deadline_ns, watch.cpu_ns) == (7, None)


# --- turns of one call ------------------------------------------------------------------------------------------------


def test_random_bytes_are_made_in_turns(monkeypatch, hostile):
    """A MiB of random bytes costs much time: at most MOST_AT_ONCE are made in one turn, and no byte is used twice."""
    made, before = [], Randomness.bytes

    def count(self, size):
        made.append(size)
        return before(self, size)

    monkeypatch.setattr(Randomness, "bytes", count)
    code = """
import ctypes, os, threading
def get(found):
    buffer = ctypes.create_string_buffer(1 << 20)
    assert ctypes.CDLL(None).getrandom(buffer, 1 << 20, 0) == 1 << 20
    found.append(buffer.raw)
found = [os.urandom(1 << 20) for _ in range(3)]
threads = [threading.Thread(target=get, args=(found,)) for _ in range(3)]
for each in threads: each.start()
for each in threads: each.join()
pieces = {each[at:at + 4096] for each in found for at in range(0, 1 << 20, 4096)}
print(len(pieces), sorted({len(each) for each in found}))
"""
    assert hostile.ok(code) == f"{6 * 256} [{1 << 20}]\n"
    assert max(made) <= MOST_AT_ONCE
    assert sum(made) >= 6 << 20


def test_seeded_bytes_do_not_depend_on_turns(hostile):
    code = "import os, zlib; print(zlib.crc32(os.urandom({}) + os.urandom({})))"
    whole, parts = (
        hostile.ok(code.format(1 << 20, 0), randomness=1),
        hostile.ok(code.format(1000, (1 << 20) - 1000), randomness=1),
    )
    assert whole == parts
