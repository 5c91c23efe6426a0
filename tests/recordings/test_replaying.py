"""Runs that are recorded and replayed, with real guests: the same to the byte, or reported as different."""

import asyncio
import errno
import json
import os
import shutil
import signal
import struct
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox import HostFunction, RecordError, Result, Status
from proxybox.controller.process.reaper import settle
from proxybox.controller.record import recording, watching
from proxybox.controller.record.format import FrameKind, FrameWriter
from tests.recordings.replays import replayed, told
from tests.recordings.rewriting import frames_of, written

EACH_GUEST = True

#: Reads the CPU's time stamp counter, as PyPy's profiler and OpenSSL do.
COUNTER = """
import ctypes, mmap, time
page = mmap.mmap(-1, 4096, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
page.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))
counter = ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
print([time.monotonic_ns(), [counter() for _ in range(600)], time.monotonic_ns()])
"""


@pytest.fixture
def record(tmp_path: Path) -> Path:
    return tmp_path / "run.pbx"


@pytest.mark.parametrize("kind", ["real", "scaled"])
def test_the_counter_of_the_cpu_is_a_clock_that_is_recorded(kind: str, record: Path) -> None:
    result = proxybox.run(COUNTER, time={"kind": kind}, record=record)
    assert result.ok
    before, looks, after = json.loads(result.stdout)
    assert before <= looks[0] < looks[-1] <= after
    assert len(looks) > 256  # more than the stub ships at a time
    assert told(replayed(record).result) == told(result)


def test_the_counter_of_an_observed_program_is_recorded(record: Path) -> None:
    seen = set[str]()
    result = proxybox.run(COUNTER, interceptors=[lambda call: seen.add(call.name)], record=record)
    assert result.ok
    assert "clock_gettime" in seen
    assert told(replayed(record).result) == told(result)


@pytest.mark.pypy
def test_other_readers_of_the_counter_in_a_pypy(record: Path) -> None:
    """Its profiler without a timer, and the hooks of its garbage collector."""
    code = """
import _lsprof, cProfile, gc, io, pstats
def work(): return sum(sorted(range(1000)))
profile, bare, said, times = cProfile.Profile(), _lsprof.Profiler(), io.StringIO(), []
profile.runcall(work); pstats.Stats(profile, stream=said).print_stats()
bare.enable(); work(); bare.disable()
gc.hooks.on_gc_minor = lambda stats: times.append(stats.duration)
kept = [[k] for k in range(2_000_000)]
print(said.getvalue(), [each.totaltime for each in bare.getstats()], times)
"""
    result = proxybox.run(code, record=record).check()
    assert "function calls" in result.stdout
    assert told(replayed(record).result) == told(result)


def test_the_kernels_pages_with_the_time_are_gone_from_a_recorded_box(record: Path) -> None:
    code = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
libc.getauxval.restype = ctypes.c_ulong
vdso, (reading, writing) = libc.getauxval(33), os.pipe()
for page in range(-32, 0):
    if libc.write(writing, ctypes.c_void_p(vdso + page * 4096), 4096) == 4096:
        sys.stdout.buffer.write(os.read(reading, 4096))
"""
    shown = proxybox.run(code, record=record).check().stdout_bytes
    assert not [word for (word,) in struct.iter_unpack("Q", shown) if abs(word - time.time()) < 100]
    assert replayed(record).result.stdout_bytes == shown


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signals wait for the program's next call, however slow the machine is: so their place is exact."""
    monkeypatch.setattr(recording.RecordingDispatcher, "patience_ns", 10**11)


@pytest.mark.usefixtures("patient")
def test_interrupts_of_which_many_come_at_a_time_are_one_for_the_program(record: Path) -> None:
    """A caller may send more than can be pending: signals of one kind are one while they are pending (signal(7))."""
    code = "import host\ntry: host.storm()\nexcept KeyboardInterrupt: print('interrupted')\nprint('went on')"
    with proxybox.Sandbox(functions={"storm": lambda: [box.interrupt() for _ in range(200)]}) as box:
        result = box.run(code, record=record)
    assert result.stdout == "interrupted\nwent on\n", result
    assert told(replayed(record).result) == told(result)


#: A loop until it is interrupted, alone and beside a thread.
ON_AND_ON = """
n = 0
try:
    while True: n += 1; print(n, flush=True)
except KeyboardInterrupt: print("interrupted", n)
"""
BESIDE_A_THREAD = f"""
import threading
goes = threading.Event()
beside = threading.Thread(target=goes.wait); beside.start()
{ON_AND_ON}
goes.set(); beside.join(); print("joined")
"""


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("asked", ["by the thread that serves", "by another thread"])
@pytest.mark.parametrize("code", [ON_AND_ON, BESIDE_A_THREAD], ids=["alone", "beside a thread"])
def test_an_interrupt_comes_with_the_same_call_again(code: str, asked: str, record: Path) -> None:
    printed = threading.Event()

    def interrupt() -> None:
        printed.wait(60)
        box.interrupt()

    def saw(text: str) -> None:
        if "20\n" in text and not printed.is_set():
            printed.set()
            if asked == "by the thread that serves":
                box.interrupt()

    with proxybox.Sandbox() as box:
        other = threading.Thread(target=interrupt)
        if asked == "by another thread":
            other.start()
        result = box.run(code, on_stdout=saw, record=record)
        if asked == "by another thread":
            other.join()
    assert result.ok
    assert "interrupted" in result.stdout
    assert told(replayed(record).result) == told(result)


def test_an_interrupt_of_a_program_that_makes_no_call_does_not_wait_for_one(record: Path) -> None:
    code = "import host\ntry:\n    host.begins()\n    while True: pass\nexcept KeyboardInterrupt: print('interrupted')"
    others = []

    def begins() -> None:
        others.append(threading.Timer(0.05, box.interrupt))
        others[0].start()

    with proxybox.Sandbox(functions={"begins": begins}) as box:
        result = box.run(code, record=record)
    others[0].join()
    assert (result.status, result.stdout) == (Status.OK, "interrupted\n")


@pytest.mark.parametrize("code", ["host.end()", "host.end()\nwhile True: pass", "print('x', flush=True); host.end()"])
def test_a_program_that_is_killed_from_outside(code: str, record: Path) -> None:
    """As by the OOM killer or an operator: the replay ends at the same call."""

    def end() -> None:
        (live,) = (driver for spec in box._boxes for driver in spec._running)
        os.kill(live._process.pid, signal.SIGKILL)

    with proxybox.Sandbox(functions={"end": end}) as box:
        result = box.run(f"import host\n{code}", record=record)
    assert (result.status, result.signal) == (Status.CRASHED, signal.SIGKILL)
    assert told(replayed(record).result) == told(result)


def test_a_replay_needs_nothing_of_what_the_run_had(tmp_path: Path, record: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "in.txt").write_text("from the host")
    script = tmp_path / "script.py"
    script.write_text("import sys; print(open('/data/in.txt').read(), sys.argv, sys.stdin.read(), __file__)")
    with proxybox.Sandbox(filesystem={"mounts": [f"{folder}:/data"]}) as box:
        result = box.run(script, ["a", "b"], "typed", record=record)
    assert result.stdout.startswith("from the host ['/box/script.py', 'a', 'b'] typed")
    shutil.rmtree(folder)
    script.unlink()
    assert told(replayed(record).result) == told(result)


def test_mounts_of_data_are_not_needed_either(record: Path) -> None:
    mounts = [
        proxybox.Mount("/a", {"x.txt": "one"}), proxybox.Mount("/b", {"x.txt": "two"}, mode="overlay"),
        proxybox.Mount("/c", b"three"), proxybox.Mount("/d", lambda: b"four"),
        proxybox.Mount("/e", None, mode="memory"),
    ]  # fmt: skip
    with proxybox.Sandbox(filesystem={"mounts": mounts}) as box:
        result = box.run("print(*(open(p).read() for p in ('/a/x.txt', '/b/x.txt', '/c', '/d')))", record=record)
    assert result.stdout == "one two three four\n", result.stderr
    assert told(replayed(record).result) == told(result)
    with proxybox.Record(record) as read:
        assert [mount.target for mount in read.policy.filesystem.mounts] == ["/a", "/b", "/c", "/d", "/e"]


def test_functions_of_the_caller_are_not_called_again(record: Path) -> None:
    called: list[int] = []

    def square(number: int) -> int:
        called.append(number)
        return number * number

    with proxybox.Sandbox(functions={"square": HostFunction(square)}) as box:
        result = box.run("import host; print([host.square(n) for n in range(5)])", record=record)
    assert result.stdout == "[0, 1, 4, 9, 16]\n"
    assert told(replayed(record).result) == told(result)
    assert called == [0, 1, 2, 3, 4]


def test_files_that_a_run_has_changed_come_from_the_record(record: Path) -> None:
    result = proxybox.run("open('a.txt', 'w').write('new'); open('b', 'wb').write(b'\\xff\\0')", record=record)
    done = replayed(record)
    assert dict(done.result.files) == dict(result.files) == {"a.txt": b"new", "b": b"\xff\0"}
    with proxybox.Record(record) as read:
        assert dict(read.result.files) == dict(result.files)  # type: ignore[union-attr, arg-type]


@pytest.mark.parametrize(
    ("code", "limits", "status"),
    [
        ("while True: pass", {"wall_time": 0.3}, Status.TIME_LIMIT),
        ("import time; time.sleep(60)", {"wall_time": 0.3}, Status.TIME_LIMIT),
        ("import os\nwhile True: os.getppid()", {"calls": 2000}, Status.CALL_LIMIT),
        ("while True: print('x' * 1000)", {}, Status.OUTPUT_LIMIT),
        ("x = []\nwhile True: x.append(bytearray(1 << 20))", {"memory": "64M"}, Status.MEMORY_LIMIT),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", {}, Status.CRASHED),
        ("import ctypes; ctypes.string_at(0)", {}, Status.CRASHED),
    ],
)
def test_ends_by_limits_and_signals(code: str, limits: Any, status: Status, record: Path) -> None:
    with proxybox.Sandbox(limits=limits, output={"limit": "10K", "on_excess": "end"}) as box:
        result = box.run(code, record=record)
    assert result.status is status or (status is Status.CRASHED and result.status is Status.OK)  # PyPy's own string_at
    assert told(replayed(record).result) == told(result)


@pytest.mark.parametrize("time", ["virtual", "frozen", "scaled"])
def test_boxes_with_another_time(time: str, record: Path) -> None:
    code = "import time; print(time.time()); time.sleep(0.01); print(time.monotonic())"
    more = {"frozen": {"at": "2026-01-01T12:00:00Z"}, "scaled": {"rate": 50}}
    with proxybox.Sandbox(time={"kind": time, **more.get(time, {})}) as box:
        result = box.run(code, record=record)
    assert result.ok
    assert told(replayed(record).result) == told(result)


def test_interceptors_have_answered_already(record: Path) -> None:
    asked: list[str] = []

    def intercept(call: proxybox.OSCall) -> proxybox.Answer | None:
        asked.append(call.name)
        return proxybox.Answer(4711) if call.name == "getppid" else None

    with proxybox.Sandbox(interceptors=[intercept]) as box:
        result = box.run("import os; print(os.getppid())", record=record)
    assert result.stdout == "4711\n"
    count = len(asked)
    assert told(replayed(record).result) == told(result)
    assert len(asked) == count


def test_a_session_is_replayed_with_all_its_commands(record: Path) -> None:
    with proxybox.Sandbox() as box, box.session(record=record) as session:
        session.exec("import time, random; a = time.time(), random.random()")
        assert session.eval("a[0] > 0").value is True
        session.exec("print(a)")
        for copy in (session.fork, session.snapshot):
            with pytest.raises(proxybox.CannotCopy, match="recorded cannot be copied: start one without a record"):
                copy()
    assert replayed(record).calls > 100


def test_the_record_of_a_session_is_complete_when_it_is_closed(record: Path) -> None:
    with proxybox.Sandbox() as box:
        assert box.session().record is None
        session = box.session(record=record)
        session.exec("print(1)")
        session.close()
        assert (session.record, session.record_fault) == (record, "")
        with proxybox.Record(record) as read:
            assert read.result is not None
            assert len(session.record_digest) == 64
        replayed(record)


def test_a_session_of_a_loop_tells_of_its_record(record: Path) -> None:
    async def work() -> None:
        async with proxybox.AsyncSandbox() as box:
            async with await box.session(record=record) as session:
                await session.exec("print(1)")
            assert (session.record, session.record_fault, len(session.record_digest)) == (record, "", 64)
            replayed(record)

    asyncio.run(work())


def test_a_session_whose_record_reaches_its_limit_says_so(record: Path) -> None:
    with proxybox.Sandbox(record_limit="128K") as box, box.session(record=record) as session:
        assert session.exec("import os\nwhile True: os.urandom(60_000)").status == Status.DISK_LIMIT
    assert "the record has reached its limit of 131,072 bytes" in session.record_fault


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: print('x' * 1000)", Status.OUTPUT_LIMIT), ("import os; os._exit(7)", Status.ERROR),
        ("import os; os.abort()", Status.CRASHED), ("while True: pass", Status.TIME_LIMIT),
    ],
)  # fmt: skip
def test_a_session_that_ends_before_it_is_closed(code: str, status: Status, record: Path) -> None:
    """Its record contains the reason: the replay ends in the same way."""
    options: dict[str, Any] = {"output": {"limit": "10K", "on_excess": "end"}, "session": {"cpu_time": 0.2}}
    with proxybox.Sandbox(**options) as box, box.session(record=record) as session:
        assert session.exec(code).status == status
        assert not session.alive
    assert replayed(record).result.status == status


def test_a_session_that_is_audited_for_a_while(record: Path) -> None:
    heard: list[proxybox.OSCall] = []
    with proxybox.Sandbox() as box, box.session(record=record) as session:
        session.exec("import time; a = [time.time() for _ in range(9)]")
        session.audit(heard.append)
        session.exec("b = [time.time() for _ in range(9)]")
        session.audit(None)
        assert session.eval("(c := time.time()) > b[0] > a[0]").value is True
        session.exec("print(a, b, c)")
    assert heard
    replayed(record)


def test_a_notebooks_session_leaves_a_record(tmp_path: Path) -> None:
    from proxybox.kernel.box import KernelBox
    from proxybox.kernel.spec import KernelOptions

    box = KernelBox(proxybox.Policy(), lambda size, echo: "", KernelOptions(record=str(tmp_path)))
    assert box.run(lambda session: session.exec("import random; print(random.random())")).ok
    box.close()
    settle()
    replayed(tmp_path / "0001.pbx")


def test_many_runs_leave_numbered_records(tmp_path: Path) -> None:
    folder = tmp_path / "records"
    with proxybox.Sandbox(record=folder) as box:
        results = [box.run(f"print({number})") for number in range(3)]
        results.append(box.run("print(3)", record=tmp_path / "own.pbx"))
    assert sorted(os.listdir(folder)) == ["0001.pbx", "0002.pbx", "0003.pbx"]
    for number, result in enumerate(results):
        assert result.record is not None
        assert replayed(result.record).result.stdout == f"{number}\n"


def test_pools_and_event_loops(tmp_path: Path) -> None:
    with proxybox.Pool(size=1) as pool:
        result = pool.run("import random; print(random.random())", record=tmp_path / "a.pbx")
        assert result.usage.queue > 0  # the record contains that, too
        assert told(replayed(tmp_path / "a.pbx").result) == told(result)
        assert pool.run("print(1)").record is None

    async def both() -> list[Result]:
        async with proxybox.AsyncSandbox(record=tmp_path / "many") as box:
            codes = ["import time; time.sleep(0.01); print(time.time())"] * 3
            done = list(await asyncio.gather(*(box.run(code) for code in codes)))
        async with proxybox.AsyncPool(size=1) as pool:
            return [*done, await pool.run(codes[0], record=tmp_path / "b.pbx")]

    for result in asyncio.run(both()):
        assert result.record is not None
        assert told(replayed(result.record).result) == told(result)


def test_output_comes_as_it_is_replayed(record: Path) -> None:
    result = proxybox.run("import sys; print('a', flush=True); print('b', file=sys.stderr)", record=record)
    pieces: list[tuple[int, bytes]] = []
    proxybox.replay(
        record, on_stdout=lambda data: pieces.append((1, data)), on_stderr=lambda data: pieces.append((2, data))
    )
    assert pieces == [(1, b"a\n"), (2, b"b\n")]
    assert result.ok


def test_a_replay_at_the_recorded_speed_is_not_given_up(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proxybox.run("import time; time.sleep(0.3); print(1)", record=record)
    monkeypatch.setattr(watching, "_LOOK_SECONDS", 0.002)
    done = proxybox.replay(record, speed=1)
    assert done.ok, done.divergence


def test_what_a_record_tells(record: Path) -> None:
    code = "import os, sys\ntry: os.setuid(0)\nexcept OSError: pass\nprint('said')"
    result = proxybox.run(code, args=["one"], record=record)
    with proxybox.Record(record) as read:
        assert read.argv[1:] == ("/box/main.py", "one")
        assert read.environment["HOME"] == "/home/user"
        assert read.policy == proxybox.Policy()
        assert read.recorded.startswith("20")
        calls = list(read.calls())
        assert told(read.result) == told(result)  # type: ignore[arg-type]
    (refused,) = (call for call in calls if call.refusals)
    assert (refused.name, refused.errno, refused.asked) == ("setuid", "EPERM", {"uid": 0})
    assert "policy" in refused.refusals[0].reason
    assert [data for call in calls for _, data in call.printed] == [b"said\n"]
    assert [call.number for call in calls] == sorted(call.number for call in calls)
    assert any(stored.source.endswith("/os.py") or "/encodings" in stored.source
               for call in calls for stored in call.stored)  # fmt: skip


def test_contents_of_the_interpreters_library_are_not_in_a_record(record: Path) -> None:
    proxybox.run("import json, asyncio, decimal", record=record)
    assert record.stat().st_size < 200_000


# --- records that are not whole ---------------------------------------------------------------------------------------


def test_a_record_that_was_cut_off_is_replayed_to_its_end(record: Path) -> None:
    code = "import os\nfor n in range(20_000): os.getppid()\nprint('end')"
    assert proxybox.run(code, record=record).ok
    whole = frames_of(record)
    assert len(whole) > 5
    written(record, [(each.kind, each.data) for each in whole[:4]])
    with record.open("ab") as file:
        file.write(bytes(7))
    done = proxybox.replay(record)
    assert not done.ok
    assert not done.is_complete
    assert done.divergence is None
    assert done.calls > 1000
    assert done.result.status is Status.CANCELLED
    assert "the record ends here" in done.result.why
    with proxybox.Record(record) as read:
        assert read.result is None


def test_a_full_disk_ends_the_record_and_not_the_run(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = FrameWriter.write

    def write(writer: FrameWriter, kind: FrameKind, data: bytes) -> None:
        if kind is FrameKind.EVENTS:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        usual(writer, kind, data)

    monkeypatch.setattr(FrameWriter, "write", write)
    result = proxybox.run("print('done')", record=record)
    assert (result.status, result.stdout) == (Status.OK, "done\n")
    assert "No space left" in result.record_fault
    assert result.to_dict()["record_fault"] == result.record_fault


def test_a_record_ends_a_run_at_its_limit(tmp_path: Path) -> None:
    code = "import os\nwhile True: os.write(os.open('/tmp/a', 577), os.urandom(1 << 20))"
    with proxybox.Sandbox(record=tmp_path, record_limit="2M", limits={"disk": "8M"}) as box:
        result = box.run(code)
    assert result.status is Status.DISK_LIMIT
    assert "limit of 2,097,152 bytes" in result.why
    assert result.record is not None
    assert result.record.stat().st_size < 8 << 20
    assert not proxybox.replay(result.record).ok


def test_a_record_that_is_not_required_is_given_up_at_its_limit(tmp_path: Path) -> None:
    code = "import os\nfor _ in range(6): os.write(os.open('/tmp/a', 577), os.urandom(1 << 20))\nprint('done')"
    with proxybox.Sandbox(record=tmp_path, record_limit="2M", record_required=False, limits={"disk": "8M"}) as box:
        results = [box.run(code), box.run("print('done')")]
        with box.session() as session:
            results.append(session.exec(code))
            assert session.eval("1 + 1").value == 2
    assert [(result.status, result.stdout) for result in results] == [(Status.OK, "done\n")] * 3
    assert results[0].record is None
    assert "limit of 2,097,152 bytes" in results[0].record_fault
    assert (results[1].record, results[1].record_fault) == (tmp_path / "0002.pbx", "")
    assert os.listdir(tmp_path) == ["0002.pbx"]


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"record": 3}, TypeError),
        ({"record": "/nowhere/at/all.pbx"}, proxybox.SandboxStartError),
        ({"record": "/tmp"}, proxybox.PolicyError),
        ({"record": "/dev/full"}, proxybox.SandboxStartError),
        ({"record": "/dev/tty"}, proxybox.SandboxStartError),
    ],
)
def test_a_record_that_cannot_be_written_is_refused(given: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="record"):
        proxybox.run("print(1)", **given)


def test_limits_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    for limit in ("1K", "none", -1):
        with proxybox.Sandbox(record_limit=limit) as box, pytest.raises(proxybox.PolicyError, match="record_limit"):
            box.run("1", record=tmp_path / "a")
    with pytest.raises(proxybox.PolicyError, match="want a folder"):
        proxybox.Sandbox(record=__file__)


# --- programs that do something else ----------------------------------------------------------------------------------


def test_what_is_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("print(1)")
    with pytest.raises(RecordError, match="no record"):
        proxybox.replay(tmp_path / "a")
    with pytest.raises(FileNotFoundError):
        proxybox.replay(tmp_path / "b")


def test_the_random_bytes_of_the_process_are_no_others(record: Path) -> None:
    code = """
import ctypes
libc = ctypes.CDLL(None)
libc.getauxval.restype, libc.getauxval.argtypes = ctypes.c_void_p, [ctypes.c_ulong]
print(ctypes.string_at(libc.getauxval(25), 16))
"""
    result = proxybox.run(code, record=record).check()
    assert result.stdout == f"{bytes(16)}\n"
    assert told(replayed(record).result) == told(result)
