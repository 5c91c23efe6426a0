"""limits.memory limits used memory: reservations are free, a higher limit gives more, and a program above the limit
ends in time.
"""

import ctypes
from collections.abc import Callable, Iterator

import pytest

import proxybox
from benchmarks import memory_limits
from proxybox import AsyncSandbox, Result, Sandbox, Status
from proxybox.controller import hostproc
from proxybox.controller.process import reaper
from proxybox.controller.process.overseer import Overseen
from proxybox.controller.warm import zygotepool

EACH_GUEST = True
M = 1 << 20
TIME = {"cpu_time": 60, "wall_time": 200}

RESERVES = """
import mmap
def reserve(size):
    return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000)  # MAP_NORESERVE
def use(kept, size):
    for at in range(0, size, 1 << 20): kept[at:at + (1 << 20)] = ONE
ONE = b"x" * (1 << 20)
kept = reserve(1 << 30)
"""
FILL = """
filled = []
try:
    while True: filled.append(bytearray(1 << 20))
except MemoryError:
    count, filled = len(filled), None
print(count)
"""
#: The part of the memory that a guest can use for such objects: PyPy needs some for its garbage collector.
PART = {"pypy": 0.6, "cpython": 0.9}

Run = Callable[..., Result]


@pytest.fixture(scope="module", params=["a box", "a warm box", "a session"])
def run(request: pytest.FixtureRequest, guest_kind: str) -> Iterator[Run]:
    """Runs a program with the limit `memory`."""
    with Sandbox(warm=request.param != "a box", limits=TIME | {"memory": "4G"}) as box:

        def run(code: str, memory: str) -> Result:
            limits = {"memory": memory}
            if request.param != "a session":
                return box.run(code, limits=limits)
            with Sandbox(warm=True, limits=TIME | limits) as other, other.session() as session:
                return session.exec(code)

        yield run
    zygotepool.close()
    reaper.settle()


def test_a_reservation_is_free_and_all_of_the_memory_can_still_be_used(run: Run, guest_kind: str) -> None:
    result = run(RESERVES + FILL, "256M")
    assert result.ok, result
    assert 256 * PART[guest_kind] < int(result.stdout) <= 256


@pytest.mark.full
def test_more_memory_is_more(run: Run, guest_kind: str) -> None:
    counts = [int(run(RESERVES + FILL, f"{size}M").stdout) for size in (200, 300, 600, 900, 1000, 1100, 1500)]
    assert counts == sorted(set(counts)), counts
    assert counts[-1] > 1500 * PART[guest_kind], counts


def test_what_is_reserved_counts_when_it_is_used(run: Run, guest_kind: str) -> None:
    used = run(RESERVES + "use(kept, 150 << 20)" + FILL, "256M")
    assert used.ok, used
    assert 100 * PART[guest_kind] - 20 < int(used.stdout) <= 106, used
    given_back = run(RESERVES + "use(kept, 150 << 20)\nkept.madvise(mmap.MADV_DONTNEED)" + FILL, "256M")
    assert 256 * PART[guest_kind] < int(given_back.stdout) <= 256, given_back


def test_who_uses_too_much_of_a_reservation_is_ended(run: Run) -> None:
    result = run(RESERVES + "print('so far', flush=True)\nuse(kept, 1 << 30)\nprint('too far')", "256M")
    assert (result.status, result.stdout) == (Status.MEMORY_LIMIT, "so far\n"), result
    assert result.why.startswith("limits.memory")


def test_pages_that_the_kernel_may_take_are_given_back(run: Run, guest_kind: str) -> None:
    """MADV_FREE acts like MADV_DONTNEED: the pages become zeros at once, and do not count."""
    code = "use(kept, 150 << 20)\nkept.madvise(mmap.MADV_FREE)\nprint(kept[0])"
    result = run(RESERVES + code + FILL, "256M")
    zero, count = result.stdout.split()
    assert (zero, int(count) > 256 * PART[guest_kind]) == ("0", True), result


def test_one_object_that_is_too_large_is_a_memory_error(run: Run) -> None:
    code = "\ntry: bytearray(300 << 20)\nexcept MemoryError: print('no')"
    assert run(RESERVES + code, "256M").stdout == "no\n"


@pytest.mark.cpython
@pytest.mark.parametrize("name", memory_limits.HOSTILE)
def test_who_uses_memory_as_fast_as_it_can_is_ended_in_time(name: str, guest_kind: str) -> None:
    """The usual excess is about 25 MiB, with the interpreter. The test allows 128 MiB."""
    assert memory_limits.beyond(memory_limits.HOSTILE[name], 512) <= 128


#: Sends output to the host, and uses memory as fast as it can, without waiting for the reply.
TELLS_AND_USES = """
import ctypes, mmap, threading
kept = mmap.mmap(-1, 6 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
at = ctypes.addressof(ctypes.c_char.from_buffer(kept))
threading.Thread(target=print, args=("begins",), kwargs={"flush": True}).start()
for _ in range(5): ctypes.memset(at, 1, 100 << 20)  # it takes a while until the host has been told
ctypes.memset(at, 1, 6 << 30)
"""


@pytest.mark.cpython
def test_that_needs_no_interpreter_of_the_host(guest_kind: str) -> None:
    """Other threads of the host program may hold the interpreter's lock. Here one holds it for two seconds."""

    def hold(text: str) -> None:
        ctypes.PyDLL(None).poll(None, 0, 2000)

    with Sandbox(limits={**TIME, "memory": "256M"}, guest="cpython") as box:
        result = box.run(TELLS_AND_USES, on_stdout=hold)
    assert (result.status, result.stdout) == (Status.MEMORY_LIMIT, "begins\n"), result
    assert result.why.startswith("limits.memory")
    assert result.usage.memory is not None
    assert result.usage.memory < (256 + 80) * M


#: A program whose first thread ends while another one goes on.
ENDS_ITS_FIRST_THREAD = """
import ctypes, mmap, threading
kept = mmap.mmap(-1, 2 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE)
at = ctypes.addressof(ctypes.c_char.from_buffer(kept))
def use():
    while not ended: pass
    for i in range(20): sum(range(1 << 16))  # it has ended in the kernel, too
    print("begins", flush=True)
    ctypes.memset(at, 1, 2 << 30)
    print("too far", flush=True)
ended = []
threading.Thread(target=use).start()
ended.append(1)
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.cpython
def test_who_ends_its_first_thread_is_looked_at(guest_kind: str) -> None:
    with Sandbox(limits={**TIME, "memory": "256M"}, guest="cpython") as box:
        result = box.run(ENDS_ITS_FIRST_THREAD)
    assert (result.status, result.stdout) == (Status.MEMORY_LIMIT, "begins\n"), result
    assert result.why.startswith("limits.memory")


@pytest.mark.cpython
def test_stacks_of_threads_are_reservations(run: Run) -> None:
    code = """
import threading
threading.stack_size(64 << 20)
event = threading.Event()
threads = [threading.Thread(target=event.wait) for _ in range(12)]
for each in threads: each.start()
event.set()
for each in threads: each.join()
"""
    result = run(code + FILL, "256M")
    assert result.ok, result
    assert 200 < int(result.stdout) <= 256


def test_nobody_looks_at_a_box_that_has_reserved_nothing(guest_kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit is that of its address space."""
    looks: list[int] = []
    measure = hostproc.space_and_use

    def counted(pid: int) -> tuple[int, int]:
        looks.append(pid)
        return measure(pid)

    with Sandbox(warm=True, limits=TIME) as box, box.session() as session:
        monkeypatch.setattr(hostproc, "space_and_use", counted)
        session.exec("import time\nkept = bytearray(100 << 20)\nend = time.monotonic() + 0.3", check=True)
        session.exec("while time.monotonic() < end: pass", check=True)
    assert looks == []
    zygotepool.close()
    reaper.settle()


def test_who_has_reserved_much_and_waits_is_stopped_until_it_gets_an_answer(
    guest_kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the watchdog does not measure it, however long it waits."""
    rests: list[bool] = []
    rest = Overseen.rest

    def noted(overseen: Overseen, value: bool) -> None:
        rests.append(value)
        rest(overseen, value)

    monkeypatch.setattr(Overseen, "rest", noted)
    memory = {"memory": "256M", "wall_time": 20}
    with Sandbox(warm=True, limits=memory, session={"branches": 1}) as box, box.session() as session:
        session.exec(RESERVES, check=True)
        watch = session._live._live.process.watch
        assert watch.memory is not None
        assert watch.memory.is_watched
        watch.memory._seen_ns -= 10**10  # as if it had waited that long
        for _ in range(500):
            if watch.is_parked:
                break
            proxybox.run("pass")  # gives the watchdog some time
        assert watch.is_parked
        assert hostproc.state(watch.pid) == "T"
        assert rests[-1]
        for _ in range(3):
            assert session.eval("len(kept)").value == 1 << 30
            assert not watch.is_parked
            assert not rests[-1]
        with session.fork() as other:
            watch.park()
            assert other.eval("len(kept)").value == 1 << 30
            assert session.eval("len(kept)").value == 1 << 30
    zygotepool.close()
    reaper.settle()


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_session_in_an_event_loop_goes_on_likewise(guest_kind: str) -> None:
    async with (
        AsyncSandbox(warm=True, limits={"memory": "256M", "wall_time": 20}) as box,
        await box.session() as session,
    ):
        await session.exec(RESERVES, check=True)
        watch = session._live._live.process.watch
        for _ in range(3):
            watch.park()
            assert watch.is_parked
            assert (await session.eval("len(kept)")).value == 1 << 30
    zygotepool.close()
    reaper.settle()
