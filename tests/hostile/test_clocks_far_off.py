"""Waits as a way to the host's time: timed futexes, a counting thread and the clock pages, with a box clock far from
the host's.

A wait until a time in the past ends at once; one until a future time does not. If a wait were native, the host's clock
would decide which times are past, and the guest could find the host's time by bisection.
"""

import datetime
import os
import struct
import subprocess
import time

import pytest

from proxybox import Time
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.programs import guest_folder
from proxybox.controller.world.clock import MONOTONIC_START_NS

YEAR = 365 * 86400


def moments():
    """Three times for a box's clock, in seconds since 1970: 20 years behind, 20 and 100 years ahead of the host."""
    now = int(time.time())
    return {"20 years behind": now - 20 * YEAR, "20 years ahead": now + 20 * YEAR, "100 years ahead": now + 100 * YEAR}


CLOCKS = moments()


def of_kind(kind, seconds):
    at = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return Time.scaled(10, start=at) if kind == "scaled" else getattr(Time, kind)(at)


#: A thread waits until a time of the wall clock, and the main thread wakes it as soon as it waits. Prints the result of
#: the wait.
WAIT = """
import raw, struct, threading, ctypes
def wait(seconds, operation=0x189, nanoseconds=0):
    word, spec, result = raw.code(bytes(8)), raw.code(struct.pack("qq", seconds, nanoseconds)), []
    thread = threading.Thread(target=lambda: result.append(raw.syscall(202, word, operation, 0, spec, 0, 0xffffffff)))
    thread.start()
    while not result:
        ctypes.memset(word, 1, 1); raw.syscall(202, word, 0x81, 1)
    thread.join()
    return result[0]
"""
WOKEN = {0, -11}


@pytest.mark.parametrize("kind", ["frozen", "virtual", "scaled"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_wait_until_a_moment_is_by_the_boxs_clock(hostile, clock, kind):
    """A wait until a time in the box's future begins, whatever the host's clock says.

    The times are near the host's time and between the two clocks. The next test has times in the past.
    """
    box, host = CLOCKS[clock], int(time.time())
    between = [box + (host - box) * part // 4 for part in (1, 2, 3)]
    probes = [seconds for seconds in (*between, host - 3600, host + 3600, box + 40 * YEAR) if seconds > box + YEAR]
    out = hostile.ok(
        f"{WAIT}\nfor seconds in {probes}: print(wait(seconds))", time=of_kind(kind, box), limits={"cpu_time": 15}
    )
    for seconds, result in zip(probes, map(int, out.split()), strict=True):
        assert result in WOKEN, f"{(seconds - host) / YEAR:+.1f} years from the host's now: timed out"


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_past_moment_is_past(hostile, clock):
    """A wait until a time in the box's past ends, though nobody wakes it and that time may be in the host's future."""
    box = CLOCKS[clock]
    out = hostile.ok(
        f"""
import raw, struct
word = raw.code(bytes(8))
for operation in (0x189, 0x89):
    print(raw.syscall(202, word, operation, 0, raw.code(struct.pack("qq", {box - 5} if operation == 0x189 else 0, 1)), 0, 0xffffffff))
""",
        time=of_kind("frozen", box),
        timeout=100,
    )
    assert out == "-110\n-110\n"


@pytest.mark.parametrize("clock", CLOCKS)
def test_halving_finds_the_boxs_clock(hostile, clock):
    """Bisection by waits that are woken at once finds the box's time, which the policy sets, and not the host's."""
    box = CLOCKS[clock]
    out = hostile.ok(
        f"""{WAIT}
low, high = {box - 30 * YEAR}, {box + 130 * YEAR}
def is_past(seconds):
    # Ten waits, each woken as early as can be: one that is past is over before, sooner or later.
    return any(wait(seconds) == -110 for _ in range(10))
while high - low > 30 * 86400:
    middle = (low + high) // 2
    if is_past(middle): low = middle
    else: high = middle
print(low)
""",
        time=of_kind("frozen", box),
        limits={"cpu_time": 20, "calls": None},
        timeout=200,
    )
    found = int(out)
    # If the waker was faster in all ten tries, the bisection goes wrong, but never to the host's time.
    assert abs(found - time.time()) > 100 * 86400


@pytest.mark.parametrize("kind", ["frozen", "virtual"])
@pytest.mark.parametrize("clock", CLOCKS)
def test_every_clock_says_the_boxs_time(hostile, clock, kind):
    out = hostile.ok(
        """
import ctypes, os, raw, struct, time
libc, page = ctypes.CDLL(None), raw.code(bytes(64))
walls = [time.time(), raw.syscall(201, 0), libc.time(None), os.stat("/tmp").st_mtime, os.stat("/box/main.py").st_mtime]
for number in (0, 5, 11): walls.append(time.clock_gettime(number)) if number != 11 else None
raw.syscall(96, page, 0); walls.append(struct.unpack("q", ctypes.string_at(page, 8))[0])
open("/tmp/new", "w").close(); walls.append(os.stat("/tmp/new").st_mtime)
print(walls)
print([time.clock_gettime(number) for number in (1, 4, 6, 7)], raw.function(bytes.fromhex("0f31 48c1e220 4809d0 c3"))() / 1e9, open("/proc/uptime").read().split()[0])
""",
        time=of_kind(kind, CLOCKS[clock]),
    )
    walls, others = out.splitlines()
    # 2^32 seconds end in 2106: a time that is stored as a C int is cut, as on Linux.
    assert not [wall for wall in eval(walls) if not 0 <= (wall + 1 - CLOCKS[clock]) % (1 << 32) < 120], walls
    words = others.replace("[", " ").replace("]", " ").replace(",", " ").split()
    start = MONOTONIC_START_NS / 1e9  # whatever the host's own clock says: after a quarter of an hour it is near this
    assert not [word for word in words if not 0 <= float(word) - start < 120], others


def stands_in_a_file(word):
    """Whether a word is in a file of the interpreter, its libraries or the stub, and so is near today's time only by
    chance.
    """
    executable = find_guest().executable
    maps = subprocess.run(
        [executable, "-c", "print(open('/proc/self/maps').read())"], capture_output=True, text=True, check=True
    ).stdout
    files = {line.split(None, 5)[5] for line in maps.splitlines() if len(line.split(None, 5)) > 5}
    files |= {os.path.join(guest_folder(), name) for name in os.listdir(guest_folder())}
    return any(struct.pack("<Q", word) in open(path, "rb").read() for path in files if os.path.isfile(path))


@pytest.mark.parametrize("clock", CLOCKS)
def test_no_page_holds_the_hosts_clock(hostile, clock):
    """In all readable memory around the vDSO and the stub's clocks no word is near the host's seconds or
    nanoseconds.
    """
    result = hostile.run(
        """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True); libc.getauxval.restype = ctypes.c_ulong
vdso = libc.getauxval(33)
for page in range(-64, 16): libc.write(1, ctypes.c_void_p(vdso + page * 4096), 4096)
""",
        time=of_kind("frozen", CLOCKS[clock]),
        output={"limit": "4M", "escapes": "raw"},
    )
    data, now = result.stdout_bytes, time.time()
    assert result.ok and len(data) >= 4096 and not len(data) % 4096, "the vDSO itself at least"
    near = {word for (word,) in struct.iter_unpack("<Q", data) if min(abs(word - now), abs(word / 1e9 - now)) <= 1000}
    assert [word for word in near if not stands_in_a_file(word)] == []


def test_a_thread_that_counts_is_not_to_be_had_without_threads(hostile):
    """A loop in a second thread would be a timer (limitations.md). With a limit of one thread neither Python nor
    machine code can start it.
    """
    out = hostile.ok(
        """
import raw, threading
try: threading.Thread(target=print).start(); print("a thread")
except RuntimeError: print("none")
stack = raw.code(bytes(1 << 16))
# clone with THREAD_FLAGS and ROUTE; a child would write to the page, and stay
child = raw.function(bytes.fromhex("53 4889fb b838000000 bf000f3d00 4889de 4889da 4989da 4d31c0 41b9") + raw.ROUTE.to_bytes(4, "little") + bytes.fromhex("0f05 85c0 7507 c6430801 ebfe 90 5b c3"), raw.ctypes.c_void_p)
print(child(stack + 32768) < 0)
""",
        time=Time.frozen("2030-01-01"),
        limits={"threads": 1},
    )
    assert out == "none\nTrue\n"


def test_a_thread_that_counts_learns_durations_and_no_moment(hostile):
    """A counting thread measures how long another thread's calls take, but no date.

    The same program prints the same with two box clocks that are 120 years apart.
    """
    program = """
import raw, threading, ctypes, time
page = raw.code(bytes(64))
# lea: count up at (rdi) until 8(rdi) is set
count = raw.function(bytes.fromhex("48ff07 80 7f 08 00 74f7 c3".replace(" ", "")), ctypes.c_void_p)
thread = threading.Thread(target=count, args=(page,)); thread.start()
while not ctypes.c_uint64.from_address(page).value: pass
before = time.time_ns()
for _ in range(1000): time.time_ns()
after = time.time_ns()
ctypes.memset(page + 8, 1, 1); thread.join()
print(ctypes.c_uint64.from_address(page).value > 0, after - before)
"""
    for clock in ("20 years behind", "100 years ahead"):
        out = hostile.ok(program, time=of_kind("frozen", CLOCKS[clock]), limits={"cpu_time": 60})
        assert out == "True 0\n"
