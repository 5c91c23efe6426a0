"""Clocks that a guest reads without the controller, in boxes with real time. Reads of a clock are not counted in any
box.
"""

import threading
import time
from typing import Any

import pytest

import proxybox
from proxybox import Answer, OSCall, Time

#: Reads that the guest answers itself with real time, and one that the controller answers in every box.
READS = {
    "time.time": "time.time()",
    "time.monotonic": "time.monotonic()",
    "time.perf_counter": "time.perf_counter()",
    "datetime": "datetime.datetime.now()",
    "gettimeofday": "libc.gettimeofday(place, None)",
    "time(2)": "libc.time(None)",
    "the coarse clock": "time.clock_gettime(6)",
}
PROGRAM = """
import ctypes, datetime, time
libc = ctypes.CDLL(None); place = (ctypes.c_long * 2)()
for _ in range({count}): {read}
"""
KINDS = {
    "real": Time.real(),
    "virtual": Time.virtual(),
    "frozen": Time.frozen("2030-01-01"),
    "scaled": Time.scaled(2.0),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_no_read_is_counted(read: str) -> None:
    with proxybox.Sandbox() as box:
        few, many = (box.run(PROGRAM.format(read=read, count=count)) for count in (10, 1000))
    assert few.ok, few.stderr
    assert many.usage.calls - few.usage.calls < 100


@pytest.mark.parametrize("kind", KINDS)
def test_reads_reach_no_limit_of_calls(kind: str) -> None:
    with proxybox.Sandbox(time=KINDS[kind], limits={"calls": 2000}) as box:
        result = box.run(PROGRAM.format(read="time.time()", count=5000))
    assert result.ok, result


def test_other_calls_reach_it() -> None:
    with proxybox.Sandbox(limits={"calls": 2000}) as box:
        result = box.run("import os\nfor _ in range(5000): os.getuid()")
    assert result.status == "call_limit"


def test_the_clocks_are_those_of_the_controller() -> None:
    """libc, a system call and the time of a new file agree: there is one wall clock and one monotonic clock."""
    before = time.time()
    with proxybox.Sandbox() as box:
        result = box.run("""
import ctypes, os, time
libc = ctypes.CDLL(None)
def trapped(clock):
    place = (ctypes.c_long * 2)(); libc.syscall(228, clock, place); return place[0] * 10 ** 9 + place[1]
for clock in (time.CLOCK_REALTIME, time.CLOCK_MONOTONIC):
    moments = [time.clock_gettime_ns(clock), trapped(clock), time.clock_gettime_ns(clock), trapped(clock)]
    assert moments == sorted(moments), moments
open("new", "w").close()
assert abs(os.stat("new").st_mtime - time.time()) < 60
print(time.time(), time.monotonic())
""")
    wall, monotonic = map(float, result.stdout.split())
    assert before <= wall <= time.time()
    assert 1000 <= monotonic <= 1000 + time.time() - before


def test_an_audit_sees_each_read() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        result = box.run(PROGRAM.format(read="time.time()", count=50))
    reads = [call for call in calls if call.family == "clock"]
    assert len([call for call in reads if call.name == "gettimeofday" or call.arguments.get("clock_id") == 0]) >= 50
    assert len(calls) - len(reads) == result.usage.calls


def test_an_interceptor_answers_each_read() -> None:
    def noon(call: OSCall) -> Answer | None:
        if call.name == "gettimeofday" and call.arguments["timeval"]:
            return Answer(0, writes=((call.arguments["timeval"], (12 * 3600).to_bytes(8, "little") + bytes(8)),))
        if call.name == "clock_gettime" and call.arguments["clock_id"] == 0:
            return Answer(0, writes=((call.arguments["timespec"], (12 * 3600).to_bytes(8, "little") + bytes(8)),))
        return None

    with proxybox.Sandbox(interceptors=[noon]) as box:
        assert box.run("import time; print({int(time.time()) for _ in range(5)})").stdout == "{43200}\n"


def test_an_audit_of_a_session_sees_the_reads_of_its_time() -> None:
    def reads() -> int:
        return sum(call.name in ("gettimeofday", "clock_gettime") for call in calls)

    calls: list[OSCall] = []
    with proxybox.Sandbox() as box, box.session() as session:
        session.exec("import time")
        session.audit(calls.append)
        session.exec("for _ in range(50): time.time()")
        seen = reads()
        session.audit(None)
        assert session.eval("[time.time() for _ in range(50)][0] > 0").value
        assert seen >= 50
        assert reads() == seen


def test_a_copy_of_a_session_goes_on_by_the_same_clock() -> None:
    with proxybox.Sandbox(session={"branches": 2}) as box, box.session() as session:
        session.exec("import time; before = time.monotonic(), time.time()")
        with session.fork() as copy:
            first, second = (each.eval("(time.monotonic(), time.time())").value for each in (session, copy))
            before = session.eval("before").value
    assert all(0 <= each[0] - before[0] < 60 and 0 <= each[1] - before[1] < 60 for each in (first, second))
    assert before[0] >= 1000


@pytest.mark.parametrize("observed", [False, True])
def test_a_wait_until_a_time_of_the_monotonic_clock(observed: bool) -> None:
    """sem_clockwait(3) uses a futex with an absolute time: it ends by the box's clock, not by the host's."""
    program = """
import ctypes, time
libc = ctypes.CDLL(None, use_errno=True)
semaphore = ctypes.create_string_buffer(64); libc.sem_init(semaphore, 0, 0)
def wait(until):
    spec = (ctypes.c_long * 2)(int(until), int(until % 1 * 1e9))
    answer = libc.sem_clockwait(semaphore, time.CLOCK_MONOTONIC, spec)
    return answer and ctypes.get_errno()
end = time.monotonic() + 0.05
print(wait(end), time.monotonic() >= end, wait(0.5), wait(end), libc.sem_post(semaphore), wait(end))
print(wait(1000.0), libc.sem_post(semaphore), wait(1e18))
"""
    options: dict[str, Any] = {"audit": lambda call: None} if observed else {}
    with proxybox.Sandbox(**options) as box:
        result = box.run(program)
    assert result.stdout == "110 True 110 110 0 0\n110 0 0\n", result


def test_a_wait_is_ended_by_another_thread_and_by_a_signal() -> None:
    with proxybox.Sandbox(limits={"wall_time": 200}) as box:
        result = box.run("""
import ctypes, signal, threading, time
libc = ctypes.CDLL(None, use_errno=True)
semaphore = ctypes.create_string_buffer(64); libc.sem_init(semaphore, 0, 0)
def wait():
    until = (ctypes.c_long * 2)(int(time.monotonic()) + 10 ** 6, 0)
    answer = libc.sem_clockwait(semaphore, time.CLOCK_MONOTONIC, until)
    return answer and ctypes.get_errno()
threading.Timer(0.05, lambda: libc.sem_post(semaphore)).start()
print(wait())
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.05)
print(wait())
""")
    assert result.stdout == "0\n4\n", result


def test_locks_ask_for_no_clock() -> None:
    with proxybox.Sandbox() as box:
        result = box.run("""
import queue, threading
lock, box = threading.Lock(), queue.Queue()
for _ in range(10000):
    with lock: pass
    box.put(1); box.get(timeout=10)
""")
    assert result.ok, result
    assert result.usage.calls < 2000


def test_the_time_zone_is_read_once() -> None:
    calls: list[OSCall] = []
    with proxybox.Sandbox(audit=calls.append) as box:
        result = box.run("import datetime\nprint({datetime.datetime.now().astimezone().tzname() for _ in range(50)})")
    assert result.stdout == "{'UTC'}\n"
    assert len([call for call in calls if b"localtime" in bytes(call.arguments.get("path") or b"")]) < 5


def test_two_boxes_at_once_have_clocks_of_their_own() -> None:
    told: list[float] = []
    with proxybox.Sandbox() as box:

        def run() -> None:
            told.append(float(box.run("import time; print(time.monotonic())").stdout))

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(told) == 4
    assert all(1000 <= moment < 1200 for moment in told)
