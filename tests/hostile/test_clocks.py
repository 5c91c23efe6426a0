"""In a box without real time only an alarm reaches the host's clock: not the vDSO, a counter, a wait, a file or a
process.

In a box with real time the guest may read the host's clocks, and nothing else follows from that.
"""

import datetime
import time
from pathlib import Path

import pytest

from proxybox import Mount, Time
from proxybox.policies import explain_text, preset

MOMENT = 1893456000  # 2030-01-01T00:00:00Z

#: Each prints (what, seconds), in which a host's clock would appear.
CLOCKS = """
import ctypes, os, raw, resource, struct, select, sys, tempfile, threading, time, uuid, datetime
libc = ctypes.CDLL(None)
def show(what, value): print(repr((what, value)))
for name in ("time", "monotonic", "perf_counter", "process_time", "thread_time"):
    show("time." + name, getattr(time, name)())
for number in list(range(12)) + [-2, -6, ~os.getpid() << 3 | 2]:
    try: show(f"clock_gettime {number}", time.clock_gettime(number))
    except OSError: pass
show("datetime", datetime.datetime.now(datetime.timezone.utc).timestamp())
page = raw.code(bytes(4096))
def stamp(*call, form="qq"):
    if raw.syscall(*call) < 0: return None
    whole, part = struct.unpack_from(form, ctypes.string_at(page, 16))
    return whole
show("raw clock_gettime", stamp(228, 0, page))
show("raw clock_gettime, garbage above", stamp(228, 1 << 40, page))
show("raw gettimeofday", stamp(96, page, 0))
show("raw time", raw.syscall(201, 0))
show("libc time", libc.time(None))
spec = (ctypes.c_long * 2)()
libc.clock_gettime(0, spec); show("libc clock_gettime", spec[0])
libc.getauxval.restype = ctypes.c_ulong
vdso = libc.getauxval(33)
if vdso:
    image = ctypes.string_at(vdso, 8192)
    shoff = struct.unpack_from("<Q", image, 0x28)[0]; phoff, phnum = struct.unpack_from("<Q", image, 0x20)[0], struct.unpack_from("<H", image, 56)[0]
    for i in range(phnum):
        kind, _, _, vaddr, _, size = struct.unpack_from("<IIQQQQ", image, phoff + 56 * i)
        if kind == 2:
            tags = dict(struct.unpack_from("<qQ", image, at) for at in range(vaddr, vaddr + size, 16))
    symbols, strings = tags[6], tags[5]
    for at in range(symbols + 24, strings if strings > symbols else symbols + 24 * 20, 24):
        name, info, _, shndx, value, _ = struct.unpack_from("<IBBHQQ", image, at)
        text = image[strings + name : image.index(0, strings + name)].decode()
        if info & 15 == 2 and value and ("gettime" in text):
            function = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_long, ctypes.c_void_p)(vdso + value)
            if function(0, page) == 0: show("vdso " + text, struct.unpack_from("qq", ctypes.string_at(page, 16))[0])
with open("/tmp/fresh", "w") as file: file.write("x")
for path in ("/tmp/fresh", "/box", "/tmp", "/", "/proc", "/proc/self", "/dev/null", "/box/main.py", "/dev", "/etc/passwd"):
    status = os.stat(path)
    show("mtime " + path, status.st_mtime); show("ctime " + path, status.st_ctime); show("atime " + path, status.st_atime)
os.utime("/tmp/fresh"); show("utime now", os.stat("/tmp/fresh").st_mtime)
show("fstat of stdin", os.fstat(0).st_mtime)
show("pipe", os.fstat(os.pipe()[0]).st_mtime)
for path in ("/proc/uptime", "/proc/stat", "/proc/self/stat", "/proc/self/sched", "/proc/self/schedstat", "/proc/schedstat", "/proc/timer_list", "/proc/interrupts",
             "/proc/self/status", "/proc/loadavg", "/proc/driver/rtc", "/proc/meminfo", "/sys/class/rtc/rtc0/since_epoch"):
    try: show(path, open(path).read())
    except OSError: pass
usage = resource.getrusage(resource.RUSAGE_SELF); show("getrusage", usage.ru_utime + usage.ru_stime)
show("times", os.times()[4])
show("sysinfo", raw.syscall(99, page) or struct.unpack("q", ctypes.string_at(page, 8))[0])
show("uuid1", (uuid.uuid1().time - 0x01b21dd213814000) / 1e7)
counter = raw.function(bytes.fromhex("0f31 48c1e220 4809d0 c3"))
show("rdtsc", counter() / 1e9)
counter = raw.function(bytes.fromhex("51 0f01f9 48c1e220 4809d0 59 c3"))
show("rdtscp", counter() / 1e9)
"""


def is_like_the_host(value, moment):
    """Whether a number, or one in a text, is near the host's wall, boot or monotonic time.

    Near means within an hour; on a host whose uptime is near the box's own 1000 seconds, or as many ticks, within half
    a second.
    """
    clocks = [time.time(), time.monotonic(), time.clock_gettime(time.CLOCK_BOOTTIME)]
    if isinstance(value, str):
        # A size of memory is no time, but during two hours of the host's uptime it would look like one.
        lines = [line for line in value.splitlines() if not line.endswith(" kB")]
        words = " ".join(lines).replace(":", " ").split()
        return any(
            is_like_the_host(float(word), moment)
            for word in words
            if word.replace(".", "", 1).isdigit() and float(word) > 1e4
        )
    boxes = 1000, 1000 * 100
    return value is not None and any(
        abs(value - clock) < (0.5 if any(abs(clock - own) < 8000 for own in boxes) else 3600) for clock in clocks
    )


@pytest.mark.parametrize("kind", ["frozen", "virtual"])
def test_no_clock_tells_the_hosts_time(hostile, kind):
    fields = {"time": getattr(Time, kind)(datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC))}
    out = hostile.ok(CLOCKS, **fields)
    shown = dict(eval(line) for line in out.splitlines())
    assert len(shown) > 40
    leaks = {what: value for what, value in shown.items() if is_like_the_host(value, MOMENT)}
    assert not leaks
    walls = (
        "time.time",
        "clock_gettime 0",
        "clock_gettime 5",
        "datetime",
        "raw clock_gettime",
        "raw gettimeofday",
        "raw time",
        "libc time",
        "libc clock_gettime",
        "mtime /tmp/fresh",
        "ctime /tmp/fresh",
        "utime now",
        "uuid1",
    )
    assert {what: shown[what] for what in walls if not MOMENT <= shown[what] < MOMENT + 60} == {}


@pytest.mark.parametrize("name", ["REAL", "VIRTUAL", "PROF"])
def test_an_alarm_is_a_clock_of_the_hosts_and_is_said_to_be(hostile, name):
    """An alarm arrives at most once in a millisecond of the host's time, while no clock of the program moves. The
    policy's description says so.
    """
    out = hostile.ok(
        f"""
import signal, time
number = dict(REAL=signal.SIGALRM, VIRTUAL=signal.SIGVTALRM, PROF=signal.SIGPROF)[{name!r}]
counts, count = [], 0
signal.signal(number, lambda *_: counts.append(count))
before = time.time()
signal.setitimer(signal.ITIMER_{name}, 1e-6, 1e-6)
while len(counts) < 20: count += 1
signal.setitimer(signal.ITIMER_{name}, 0)
print(counts == sorted(counts), counts[-1] > 1000, time.time() - before < 1)
""",
        policy="strict",
    )
    assert out == "True True True\n"
    assert "alarms go off by its time" in explain_text(preset("strict"))


def test_frozen_time_stands_still(hostile):
    """With frozen time only CPU clocks move, by the clock calls. All others show the same time, however much the
    program computes.
    """
    out = hostile.ok(
        """
import time, raw
counter = raw.function(bytes.fromhex("0f31 48c1e220 4809d0 c3"))
def all_clocks():
    return time.time_ns(), time.monotonic_ns(), time.perf_counter_ns(), counter(), open("/proc/uptime").read(), open("/proc/self/stat").read().split()[21]
first = all_clocks()
for _ in range(10 ** 7): pass
print([pair for pair in zip(first, all_clocks()) if pair[0] != pair[1]])
""",
        time=Time.frozen("2030-01-01"),
    )
    assert out == "[]\n"


def test_computing_takes_no_time(hostile):
    """CPU clocks show the same after much and after little computing: they do not measure the host."""
    program = """
import gc, os, resource, time
gc.disable()
before = time.process_time_ns(), time.thread_time_ns(), os.times()[:2], resource.getrusage(0)[:2]
for _ in range({}): pass
after = time.process_time_ns(), time.thread_time_ns(), os.times()[:2], resource.getrusage(0)[:2]
print((after[0] - before[0]) // 1_000_000, (after[1] - before[1]) // 1_000_000, after[2] == before[2])
"""
    fields = {"time": Time.frozen("2030-01-01"), "limits": {"cpu_time": 20}}
    assert {hostile.ok(program.format(turns), **fields) for turns in (10, 2 * 10**8)} == {"0 0 True\n"}


@pytest.mark.parametrize("mode", ["rw", "overlay"])
def test_files_in_host_mounts_have_the_boxs_time(hostile, tmp_path, mode):
    tmp_path.chmod(0o777)
    out = hostile.ok(
        """
import os
def new(): open("/data/new", "w").close(); return "new"
def folder(): os.mkdir("/data/folder"); return "folder"
def link(): os.symlink("x", "/data/link"); return "link"
def hard(): os.link("/data/new", "/data/hard"); return "hard"
def moved(): os.rename("/data/hard", "/data/moved"); return "moved"
def removed(): os.unlink("/data/moved"); return "new"
def written(): open("/data/new", "a").write("x"); return "new"
def cut(): os.truncate("/data/new", 0); return "new"
def mode(): os.chmod("/data/new", 0o600); return "new"
def touched(): os.utime("/data/new"); return "new"
def inside(): open("/data/folder/x", "w").close(); return "folder"
for change in (new, folder, link, hard, moved, removed, written, cut, mode, touched, inside):
    status, above = os.lstat("/data/" + change()), os.stat("/data")
    print((change.__name__, status.st_mtime, status.st_ctime, status.st_atime, above.st_mtime, above.st_ctime))
""",
        filesystem={"mounts": [Mount(target="/data", source=str(tmp_path), mode=mode)]},
        time=Time.frozen("2030-01-01"),
    )
    times = {change: set(moments) for change, *moments in map(eval, out.splitlines())}
    assert {change: moments for change, moments in times.items() if moments != {float(MOMENT)}} == {}


def test_the_counter_by_other_instructions(hostile):
    """rdpmc faults. tpause and umwait, which compare the counter with a deadline, fault or are illegal instructions."""
    for text in ("31c9 0f33 c3", "31c0 31d2 660faef1 c3", "31c0 31d2 f20faef1 c3"):
        result = hostile.run(
            f"import raw; raw.function(bytes.fromhex('{text}'))(); print('ran')",
            time=Time.frozen("2030-01-01"),
            timeout=100,
        )
        assert result.status == "crashed" and result.signal in (4, 11), (text, result.summary(), result.stdout)


def test_the_clock_pages_are_gone(hostile):
    """Readable memory where [vvar] was, beside the vDSO, contains no time of the host."""
    import struct

    out = hostile.ok(
        """
import ctypes, os, raw
libc = ctypes.CDLL(None, use_errno=True)
libc.getauxval.restype = ctypes.c_ulong
vdso = libc.getauxval(33)
reading, writing = os.pipe()
for page in range(-32, 8):
    if libc.write(writing, ctypes.c_void_p(vdso + page * 4096), 4096) == 4096:
        print(page, os.read(reading, 4096).hex())
""",
        time=Time.frozen("2030-01-01"),
    )
    for line in out.splitlines():
        page, text = line.split()
        words = struct.unpack("512Q", bytes.fromhex(text))
        assert not [word for word in words if abs(word - time.time()) < 100], page


def test_clocks_rewritten_by_the_guest_are_the_guests(hostile):
    """A guest that has rewritten the handler of rdtsc's fault learns only that there was a fault."""
    result = hostile.run(
        f"""
import raw, ctypes
handler = raw.stub() + {hostile.symbol("on_bad_memory")}
raw.check(raw.syscall(10, handler & ~4095, 8192, 7))
# skip the two bytes of rdtsc: add qword [rdx+0xa8], 2; ret
ctypes.memmove(handler, bytes.fromhex("488382a800000002c3"), 9)
print(raw.function(bytes.fromhex("b807000000 31d2 0f31 c3"))() & 0xffffffff)
""",
        time=Time.frozen("2030-01-01"),
    )
    assert result.stdout in ("7\n", ""), result


def test_waits_do_not_measure_the_host(hostile):
    """In frozen time with skipped sleeps, timed waits move the clock at most by their own timeouts, however long they
    take on the host.
    """
    out = hostile.ok(
        """
import time, threading, select
before = time.time_ns(), time.monotonic_ns()
time.sleep(0.01); select.select([], [], [], 0.01); select.poll().poll(10)
lock = threading.Lock(); lock.acquire(); lock.acquire(timeout=0.01); threading.Event().wait(0.01)
print((time.time_ns() - before[0]) / 1e9, (time.monotonic_ns() - before[1]) / 1e9)
""",
        time=Time.frozen("2030-01-01", sleep="skip"),
    )
    assert all(0 <= float(word) < 0.2 for word in out.split()), out


def test_two_threads_in_virtual_time_a_century_ahead(hostile):
    """Timed waits until a time of an absolute clock that is far from the host's neither hang nor spin."""
    out = hostile.ok(
        """
import threading, time, queue
q = queue.Queue()
def work():
    for _ in range(50): q.put(1); time.sleep(0.001)
threads = [threading.Thread(target=work) for _ in range(3)]
for t in threads: t.start()
for _ in range(150): q.get(timeout=30)
for t in threads: t.join(timeout=30)
print("done")
""",
        time=Time.virtual("2126-01-01"),
        limits={"cpu_time": 10},
    )
    assert out == "done\n"


# --- boxes with real time ---------------------------------------------------------------------------------------------


def test_where_the_kernel_has_no_time_for_programs(hostile):
    """As on virtual machines whose clock source the vDSO cannot read: the vDSO makes a system call, and the box's
    clocks stay right.
    """
    out = hostile.ok(
        f"""
import ctypes, raw, time
before = time.monotonic_ns(), time.time_ns()
moved = ctypes.c_ulong.from_address(raw.stub() + {hostile.symbol("host_clock_gettime")}).value
raw.check(raw.syscall(10, moved & ~4095, 8192, 7))
ctypes.memmove(moved, bytes.fromhex("b8e4000000 0f05 c3"), 8)  # mov eax, clock_gettime; syscall; ret
print(*(0 < after - first < 60 * 10 ** 9 for first, after in zip(before, (time.monotonic_ns(), time.time_ns()))))
"""
    )
    assert out == "True True\n"


@pytest.mark.parametrize("seen", [b"\xff" * 16, bytes(8) + b"\1" * 8, b"\1" * 8 + bytes(8)])
def test_a_guest_that_forges_what_it_was_told_deceives_itself(hostile, seen):
    result = hostile.run(
        f"""
import ctypes, raw, time
ctypes.memmove(raw.stub() + {hostile.symbol("settings_and_rings")}, {seen!r}, 16)
time.time(), time.monotonic(); print("goes on", flush=True)
import threading; threading.Event().wait(0.01)
"""
    )
    assert result.ok, result
    assert 0 < result.usage.wall < 200


def test_the_offset_is_not_where_the_guest_says(hostile):
    """The controller stores the offset only where the stub has asked for it before the seal, not where a later false
    HELLO says.
    """
    out = hostile.ok(
        """
import ctypes, raw
page = raw.code(bytes(4096))
libc = ctypes.CDLL(None, use_errno=True)
answers = [raw.syscall(number, page, page, 1024, 0, 0, page) for number in (raw.HELLO, raw.SEALED, raw.BORN)]
print(answers, ctypes.string_at(page, 4096) == bytes(4096))
"""
    )
    assert out == "[-38, -38, -38] True\n", out


def test_what_lies_beside_the_moved_vdso(hostile):
    """Beside the vDSO are pages of the kernel's data, some of which may not exist.

    A call that would read one fails with EFAULT and does not end the guest, whether or not the program blocks that
    fault's signal.
    """
    out = hostile.ok(
        f"""
import ctypes, os, raw, signal
libc = ctypes.CDLL(None, use_errno=True)
pages, moved = (ctypes.c_ulong.from_address(raw.stub() + at).value for at in ({hostile.symbol("unreadable_from")}, {hostile.symbol("moved_vdso")}))
null, seen = os.open("/dev/null", os.O_WRONLY), set()
def tried(call, *words): seen.add((call(*words), ctypes.get_errno()))
for _ in range(2):
    for at in range(pages, moved, 2048):
        for start, size in ((at, 1), (at, 4096), (pages - 100, 4096), (at, 1 << 62)):
            tried(libc.write, null, ctypes.c_void_p(start), ctypes.c_ulong(size))
        tried(libc.open, ctypes.c_void_p(at), 0)
        tried(libc.syscall, 2, ctypes.c_void_p(at), 0)
    tried(libc.open, ctypes.c_void_p(pages - 1), 0)
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
print(seen, moved - pages >= 4096, libc.write(null, ctypes.c_void_p(moved), 4096))
"""
    )
    assert out == "{(-1, 14)} True 4096\n"


@pytest.mark.parametrize("observed", ["interceptor", "audit"])
def test_where_calls_are_observed_there_is_no_clock_but_the_boxs(hostile, observed):
    """When calls are observed, machine code has no native clock either: an interceptor may change the wall clock, and
    an audit sees each read.
    """
    from proxybox import Answer

    def noon(call):
        if call.name == "clock_gettime":
            return Answer(0, writes=((call.arguments["timespec"], (43200).to_bytes(8, "little") + bytes(8)),))
        return None

    calls = []
    options = {"interceptors": [noon]} if observed == "interceptor" else {"audit": calls.append}
    out = hostile.ok(
        f"""
import ctypes, raw
libc = ctypes.CDLL(None)
at = [{", ".join(str(hostile.symbol(name)) for name in ("moved_vdso", "unreadable_from"))}]
print([ctypes.c_ulong.from_address(raw.stub() + each).value for each in at])
spec = (ctypes.c_long * 2)(); libc.clock_gettime(0, spec); print(spec[0] == 43200)
""",
        **options,
    )
    assert out == f"[0, 0]\n{observed == 'interceptor'}\n"


#: Loads fifteen vector registers, waits until a time in the past, and stores the registers. rdi: where; rsi: the six
#: words of the call.
REGISTERS = """
import ctypes, raw
import os
PAGE = raw.code(bytes(8192))
def moves(load):
    text = b""
    for number in range(16):  # vmovdqu ymm<n>, [rdi + 32n], or back
        code = bytes([0xC5 if number < 8 else 0xC5, 0xFE if number < 8 else 0x7E, 0x6F if load else 0x7F, 0x87 | (number & 7) << 3])
        text += code + (32 * number).to_bytes(4, "little")
    return text
def keeps(number, words, shift):
    ctypes.memmove(PAGE, bytes(range(1, 129)) * 4, 512)
    text = bytes.fromhex("53 5541544989fc 4889e3 4881ec") + (256 + shift).to_bytes(4, "little") + moves(True)
    for code, word in zip(("48bf", "48be", "48ba", "49ba", "49b8", "49b9"), words):
        text += bytes.fromhex(code) + (word & raw.MASK).to_bytes(8, "little")
    text += bytes.fromhex("b8") + number.to_bytes(4, "little") + bytes.fromhex("0f05 4c89e7 4881c700020000")
    text += moves(False) + bytes.fromhex("4889dc 415c5d5b c3")
    raw.function(text, ctypes.c_void_p)(PAGE)
    return ctypes.string_at(PAGE, 512) == ctypes.string_at(PAGE + 512, 512)
"""


@pytest.mark.skipif(
    "avx2" not in Path("/proc/cpuinfo").read_text().split(), reason="this CPU has no vector registers (AVX2)"
)
def test_a_wait_that_is_made_again_keeps_all_registers(hostile):
    """This includes vector registers, wherever the stack pointer is: the trap's signal frame, which holds them, stays
    unchanged.
    """
    out = hostile.ok(
        REGISTERS
        + """
cell = ctypes.addressof(ctypes.c_uint32.from_address(PAGE + 4096))
spec = PAGE + 4160; ctypes.memmove(spec, (500).to_bytes(8, "little") + bytes(8), 16)
print({keeps(202, (cell, 9 | 128, 0, spec, 0, 0xFFFFFFFF), shift) for shift in range(0, 512, 8)}, {keeps(39, (0,) * 6, shift) for shift in range(0, 64, 8)})
"""
    )
    assert out == "{True} {True}\n"
