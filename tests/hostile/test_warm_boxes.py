"""Boxes of one zygote: what they share, what they do not share, and what one can do to the others.

SECURITY.md describes this; each of its claims is tested here.
"""

import concurrent.futures as futures
import os
import signal
import threading
from pathlib import Path

import pytest

import proxybox
from proxybox.controller.errors import CannotCopy
from proxybox.controller.process import birth, reaper
from proxybox.controller.seal import filters
from proxybox.controller.warm import zygotepool

EACH_GUEST = True


@pytest.fixture
def run(hostile, warm):
    """Runs programs, each in a new box of the same zygote."""
    made = {}

    def run(code, timeout=200, on_stdout=None, files=None, **options):
        key = repr(options)
        if key not in made:
            made[key] = warm(**options)
        box = made[key]
        zygote = zygotepool.zygote_pool().find(box._box(None))
        before = zygote.forks
        result = box.run(code, files={**hostile.files, **(files or {})}, timeout=timeout, on_stdout=on_stdout)
        assert zygote.forks > before
        return result

    def ok(code, **options):
        result = run(code, **options)
        assert result.ok, f"{result.summary()}\n{result.stdout[-2000:]}\n{result.stderr[-2000:]}"
        return result.stdout

    run.ok = ok
    run.zygote = lambda: zygotepool.zygote_pool().find(next(iter(made.values()))._box(None))
    return run


# --- what they have in common -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fact", ["hash('proxybox')", "id(type)", "raw.stub()", "raw.module(b'linux-vdso.so.1')", "os.getpid()"]
)
def test_what_is_the_same_in_all(run, fact):
    """The hash seed and the addresses are the same: SECURITY.md says so, and nothing may depend on their being
    secret.
    """
    code = f"import os, raw; print({fact})"
    assert run.ok(code) == run.ok(code)


# --- what they have not -----------------------------------------------------------------------------------------------


def test_a_file_in_memory_from_before_is_the_own_of_each(run):
    """Each box has its own copy of a memory file that the zygote has made, such as that of libffi for its machine
    code.
    """
    kept = "import os\nos.write(os.memfd_create('m', 0), b'from before')\nos.memfd_create('m')"
    code = """
import fcntl, os
print(os.pread(3, 100, 0), os.lseek(3, 0, 1), fcntl.fcntl(3, fcntl.F_GETFD), fcntl.fcntl(4, fcntl.F_GETFD))
os.pwrite(3, b"changed", 0)
os.ftruncate(3, 8)
print(os.pread(3, 100, 0), os.open("new", os.O_CREAT | os.O_WRONLY))
"""
    for _ in range(3):
        assert run.ok(code, warm_up=kept) == "b'from before' 11 0 1\nb'changedf' 5\n"


RANDOM = {
    "os.urandom": "os.urandom(16).hex()",
    "getrandom": "__import__('ctypes').CDLL(None).getrandom(page, 16, 0) and bytes(page).hex()",
    "random": "random.getrandbits(128)",
    "a Random of its own": "random.Random().getrandbits(128)",
    "secrets": "secrets.token_hex()",
    "uuid4": "uuid.uuid4()",
    "uuid1": "uuid.UUID(int=uuid.uuid1().int)",
    "a temporary file": "tempfile.mktemp()",
    "ssl": "ssl.RAND_bytes(16).hex()",
    "numpy": "numpy.random.random(3)",
}
_IMPORTS = "import multiprocessing, os, random, secrets, ssl, tempfile, uuid; page = __import__('ctypes').create_string_buffer(16)"


@pytest.fixture(scope="module", autouse=True)
def _libraries():
    """Opens the libraries once for all later boxes."""
    proxybox.run(_IMPORTS, check=True)


@pytest.mark.cover(1)
@pytest.mark.parametrize("preloaded", [False, True], ids=["imported", "preloaded"])
@pytest.mark.parametrize("what", RANDOM)
def test_random_numbers(run, what, preloaded):
    """Each box has its own random numbers, also with modules that the zygote has imported and seeded."""
    code = f"{_IMPORTS}\n{'import numpy' if what == 'numpy' else ''}\nprint({RANDOM[what]})"
    modules = ["random", "secrets", "ssl", "tempfile", "uuid"] + (["numpy"] if what == "numpy" else [])
    if what == "numpy" and not proxybox.run("import numpy").ok:
        pytest.skip("the guest has no numpy")
    options = {"preload": modules} if preloaded else {}
    drawn = [run.ok(code, **options) for _ in range(4)]
    assert len(set(drawn)) == 4, drawn


@pytest.mark.cover(1)
@pytest.mark.parametrize("what", [what for what in RANDOM if what != "numpy"])
def test_random_numbers_of_copies(warm, what):
    """Copies of a session begin with the same state, but get different random numbers."""
    session = warm(session={"branches": 2}).session()
    session.exec(f"{_IMPORTS}\n{RANDOM[what]}", check=True)
    with session.fork() as one, session.fork() as two:
        drawn = []
        for each in (session, one, two):
            each.exec(f"drawn = str({RANDOM[what]})", check=True)
            drawn.append(each.get("drawn"))
        assert len(set(drawn)) == 3, drawn


CHANGES = """
import os, signal, sys, builtins, time
os.environ["LEFT"] = "here"; os.putenv("LEFT", "here")
signal.signal(signal.SIGUSR1, lambda *_: None); signal.signal(signal.SIGINT, signal.SIG_IGN); signal.signal(signal.SIGPIPE, signal.SIG_DFL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
os.makedirs("/tmp/left", exist_ok=True); open("/tmp/left/file", "w").write("left"); open("/box/left", "w").write("left")
os.chdir("/tmp/left"); os.umask(0)
os.nice(0); sys.setrecursionlimit(50000); sys.path.insert(0, "/tmp/left"); builtins.left = 1; sys.left = 2
os.dup2(os.open("/tmp/left/file", 0), 77); os.close(0)
signal.setitimer(signal.ITIMER_REAL, 1000)
import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
import threading; threading.left = 3; threading.stack_size(1 << 20)
import ctypes; ctypes.CDLL(None).prctl(15, b"left")
"""
LOOK = """
import os, signal, sys, builtins, threading, resource
print(os.environ.get("LEFT"), sorted(os.environ))
print([signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGPIPE, signal.SIGINT)], signal.pthread_sigmask(signal.SIG_BLOCK, []))
print(os.path.exists("/tmp/left"), os.path.exists("/box/left"), os.getcwd(), os.umask(0))
print(sys.getrecursionlimit(), sys.path, hasattr(builtins, "left"), hasattr(sys, "left"), hasattr(threading, "left"), threading.stack_size())
print(sorted(os.listdir("/proc/self/fd"))[:5], os.path.exists("/proc/self/fd/77"), signal.getitimer(signal.ITIMER_REAL))
print(resource.getrlimit(resource.RLIMIT_NOFILE), open("/proc/self/comm").read(), os.getpriority(0, 0))
"""


def test_what_a_box_changes_is_its_own(run):
    """Files, environment, signals, names, limits and descriptors of a box do not affect the next one."""
    before = run.ok(LOOK)
    run.ok(CHANGES)
    assert run.ok(LOOK) == before


def test_what_a_box_changes_while_the_next_begins(run):
    before, seen = run.ok(LOOK), []
    run(CHANGES + "os.write(1, b'changed\\n')\n", on_stdout=lambda _: seen.append(run.ok(LOOK)))
    assert seen == [before]


@pytest.mark.parametrize(
    "time", [{"kind": "frozen", "start": "2030-01-01"}, {"kind": "virtual", "start": "2030-01-01"}]
)
def test_the_clock_of_each_is_its_own(run, time):
    """The clock of each box begins when the box begins, and sleeps of one box do not move another's."""
    made = {"kind": {"frozen": proxybox.Time.frozen, "virtual": proxybox.Time.virtual}[time["kind"]](time["start"])}
    code = "import time; print(int(time.time()) // 100); time.sleep(1000)"
    assert len({run.ok(code, time=made["kind"]) for _ in range(3)}) == 1


def test_descriptors(run):
    """Of all descriptor numbers that the filter allows, only the box's own two are open."""
    out = run.ok("""
import raw
page = raw.code(bytes(64))
print([fd for fd in range(3, 36) for number in (0, 1) if raw.syscall(number, fd, page, 0, raw.ROUTE) != -9])
""")
    assert out == "[3, 4]\n"


PLACES = """
import ctypes, raw
libc = ctypes.CDLL(None)
places = {
    "libc": ctypes.cast(libc.l64a, ctypes.c_void_p).value & ~7,
    "the stub": raw.stub() + 8,
    "the interpreter": ctypes.cast(libc.PyArg_ValidateKeywordArguments, ctypes.c_void_p).value & ~7,
    "libc's data": ctypes.addressof(ctypes.c_void_p.in_dll(libc, "program_invocation_name")) + 64 & ~7,
    "the zygote's heap": 0,
}
heap = raw.syscall(12, 0) & ~4095
while raw.syscall(10, heap - 4096, 4096, 3) < 0: heap -= 4096
places["the zygote's heap"] = heap - (64 << 10)
"""


def test_words_written_to_common_pages(run):
    """Pages that all copies share with their zygote: writes of one box are its own, and the next box sees the old
    content.
    """
    look = f"{PLACES}\nprint({{name: ctypes.string_at(place, 8).hex() for name, place in places.items()}})"
    before, seen = run.ok(look), []
    writer = f"""{PLACES}
for name, place in places.items():
    raw.check(raw.syscall(10, place & ~4095, 4096, 7))
    ctypes.memset(place, 0x5a, 8)
print("written", flush=True)
raw.exchange(raw.LEAVE)
"""
    result = run(writer, on_stdout=lambda _: seen.append(run.ok(look)))
    assert result.stdout == "written\n", result
    assert seen == [before]
    assert run.ok(look) == before


def test_futexes_on_common_pages(run):
    """The boxes use the same word at the same address of the zygote: waking waiters there reaches no other box."""
    waits = threading.Event()
    waiter = f"""{PLACES}
import struct
print("waits", flush=True)
results = []
for name, place in places.items():
    word = ctypes.c_uint32.from_address(place).value
    results.append(raw.syscall(202, place, 128, word, raw.code(struct.pack("qq", 0, 100_000_000))))
print(results)
"""
    waker = f"""{PLACES}
import time
end = time.monotonic() + 0.7
woken = 0
while time.monotonic() < end:
    woken += sum(raw.syscalls([(202, place, operation, 1 << 30) for place in places.values() for operation in (1, 129)] * 10))
print(woken)
"""
    with futures.ThreadPoolExecutor(2) as pool:
        one = pool.submit(run, waiter, on_stdout=lambda _: waits.set())
        assert waits.wait(200)
        other = pool.submit(run, waker)
        assert one.result().stdout == "waits\n[-110, -110, -110, -110, -110]\n"
        assert other.result().stdout == "0\n"


# --- attacks on neighbours and on the zygote --------------------------------------------------------------------------

CALLS = """[
    *((62, pid, number) for pid in (*range(1, 40), -1, 0, -2, -3) for number in (0, 9, 19)),
    *((234, pid, pid, 9) for pid in range(1, 40)), *((200, pid, 9) for pid in range(1, 40)),
    *((101, request, pid, 0, 0) for pid in range(1, 40) for request in (16, 0x4206)),
    *((310, pid, page, 1, page, 1, 0) for pid in range(1, 40)), *((311, pid, page, 1, page, 1, 0) for pid in range(1, 40)),
    *((434, pid, 0) for pid in range(1, 40)), *((302, pid, 9, page, 0) for pid in range(1, 40)),
    *((109, pid, group) for pid in range(5) for group in range(5)), (112,), *((203, pid, 8, page) for pid in range(5)),
    *((160, resource, page) for resource in range(16)), (317, 1, 0, page), (317, 1, 8, page), (157, 1, 0, 0, 0, 0, raw.ROUTE),
    (157, 1, 9, 0, 0, 0, raw.ROUTE), (56, 0x8000, 0, 0, 0, 0, raw.ROUTE), (61, -1, page, 0, 0), (247, 0, 0, page, 4, 0),
    (424, 3, 9, 0, 0), (440, 3, page, 1, 4, 0), (448, 3, 0), (312, 1, 2, 0, 0, 0), (141, 0, 0, -20), (272, 0x20000000),
    *((257, -100, path, 0) for path in [page]), (165, page, page, page, 0, 0), (155, page, page),
]"""


def test_calls_that_reach_for_others(run, hostile):
    """Neighbours share namespaces, but all calls that could address them trap."""
    out = run.ok(f"""
import raw
page = raw.code(b"/proc/1/mem" + bytes(4096))
calls = {CALLS}
print(len(calls), {{call[0] for call, result in zip(calls, raw.trapped_syscalls(calls, {hostile.symbol("on_sigsys")})) if result != raw.TRAPPED}})
""")
    assert out.endswith(" set()\n"), out
    assert run.zygote().is_alive()


def test_neighbours_behind_a_hole_in_the_filter(run, hostile, monkeypatch):
    """Neighbours share namespaces and the Landlock domain, so a signal would reach them. Tracing fails, because they
    are not dumpable.
    """
    hole, numbers = 0x686F6C65, {"kill": 62, "ptrace": 101}
    monkeypatch.setattr(filters, "NUMBERS", filters.NUMBERS | numbers)
    rows = (*filters.RULES, *(filters.Rule(name, (filters.low(5, hole),)) for name in numbers))
    monkeypatch.setattr(filters, "RULES", tuple(sorted(rows, key=lambda row: filters.NUMBERS[row.name])))
    filters.seal_filter.cache_clear()
    found = []

    def attack(_):
        (pid,) = set(hostile.guests()) - before
        inside = int(Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()[-1])
        code = f"import raw; print([raw.syscall(*call, {hole}) for call in CALLS])".replace(
            "CALLS", f"[(62, {inside}, 0, 0, 0, 0), (101, 0x4206, {inside}, 0, 0, 0), (101, 16, {inside}, 0, 0, 0)]"
        )
        found.append(run.ok(code))

    run("1")
    reaper.settle()
    before = set(hostile.guests())
    try:
        run("print('x', flush=True)", on_stdout=attack)
    finally:
        filters.seal_filter.cache_clear()
    assert found == ["[0, -1, -1]\n"]


def test_processes_that_a_box_can_see(run):
    """A box can see only itself."""
    assert (
        run.ok("import os; print([name for name in os.listdir('/proc') if name.isdigit()] == [str(os.getpid())])")
        == "True\n"
    )


def test_signals_to_everybody(run):
    """kill(-1), kill(0), and kill of all numbers: for the box there is no other process."""
    seen = []
    attack = """
import os, signal, sys
signal.signal(signal.SIGTERM, lambda *_: None)
for pid in [0, -1, *range(1, 3000)]:
    if pid != os.getpid():
        try: os.kill(pid, signal.SIGTERM if pid < 1 else signal.SIGKILL)
        except OSError: pass
os.write(1, b"done\\n")
"""
    result = run(attack, on_stdout=lambda _: seen.append(run.ok("print(1)")))
    assert (result.status, seen) == ("ok", ["1\n"]), result
    assert run.zygote().is_alive()


ENDS = {
    "leaves": "raw.exchange(raw.LEAVE)",
    "dies": "raw.exchange((15,))",
    "lies": "raw.exchange(raw.put(bytes(100)), raw.SLEEP)",
    "says BORN": "raw.exchange(raw.put(raw.frame(raw.BORN, (1, 1, 1))), raw.SLEEP)",
    "asks for a fork": "print(raw.ask(56, (0x1200011,)))",
    "asks for a fork as a zygote does": "print(raw.ask(56, (0x1200011, 0, 0, 0, 0, 7)))",
    "wipes the stub": "import ctypes; at = raw.stub() & ~4095; raw.syscall(10, at, 4096, 7); ctypes.memset(at, 0, 4096); raw.exchange(raw.LEAVE)",
    "unmaps all": "raw.exchange((11, 4096, (1 << 47) - 8192))",
    "fills memory": "held = []\nwhile True: held.append(bytearray(8 << 20))",
    "computes": "while True: pass",
}


@pytest.mark.parametrize("end", ENDS)
def test_ends_of_boxes(run, end):
    """However a box ends, its zygote and the next box still work."""
    run(f"import raw\n{ENDS[end]}", timeout=0.5)
    assert run.ok("print(6 * 7)") == "42\n"
    assert run.zygote().is_alive()


def test_clones_of_a_neighbour(run):
    """Clones of neighbours come to the same listener: a storm of them does not stop others from getting their
    threads.
    """
    ready = threading.Event()
    storm = """
import raw, threading
made = raw.words([(56, 0x3d0f00, 0, 0, 0, 0, raw.ROUTE)] * 1000)
all_there = threading.Event()
def attack():
    all_there.wait()
    while True: raw.batch(made)
for _ in range(6): threading.Thread(target=attack, daemon=True).start()
print("ready", flush=True)
all_there.set()
attack()
"""
    threads = """
import threading
seen = []
for _ in range(100):
    made = [threading.Thread(target=seen.append, args=(1,)) for _ in range(5)]
    for each in made: each.start()
    for each in made: each.join()
print(len(seen))
"""
    options = {"limits": {"threads": 8, "cpu_time": 60}}
    with futures.ThreadPoolExecutor(1) as pool:
        attack = pool.submit(run, storm, on_stdout=lambda _: ready.set(), timeout=3, **options)
        assert ready.wait(100)
        assert run.ok(threads, **options) == "500\n"
        assert attack.result().status in ("time_limit", "misbehaved")


def test_threads_are_counted_for_each(run):
    """Each box of a zygote has as many threads as the policy grants."""
    together = threading.Barrier(3)
    code = """
import threading
release, started = threading.Event(), 0
try:
    for _ in range(20):
        threading.Thread(target=release.wait, daemon=True).start()
        started += 1
except RuntimeError: pass
print(started, flush=True)
release.set()
"""
    with futures.ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(run, code, on_stdout=lambda _: together.wait(200), limits={"threads": 6}) for _ in range(3)]
        assert [job.result().stdout for job in jobs] == ["5\n"] * 3


def test_a_copy_that_does_not_come_holds_up_nobody_else(hostile, warm, run):
    """While the controller waits for one session's copy, other boxes of the zygote begin and end."""
    session = warm(session={"branches": 1}).session(files=hostile.files)
    begun = threading.Event()
    session.exec("import raw, copies\ncopies.instead(lambda: raw.exchange(raw.SLEEP))", check=True)
    raised = []

    def fork():
        try:
            session.fork()
        except (CannotCopy, proxybox.SandboxStartError) as error:
            raised.append(error)

    original = birth._at_first_call

    def at_first_call(parent, *args):
        if parent is session._live._live.process:
            begun.set()
        return original(parent, *args)

    birth._at_first_call = at_first_call
    try:
        waiting = threading.Thread(target=fork)
        waiting.start()
        assert begun.wait(200)
        box = warm(session={"branches": 1})
        for _ in range(3):
            assert box.run("print(1)").stdout == "1\n"
        assert waiting.is_alive()
        session._live.cancel()
        waiting.join(200)
    finally:
        birth._at_first_call = original
    assert raised
    assert not session.alive


# --- limits, and ends of zygotes --------------------------------------------------------------------------------------

LIMITS = {
    "memory": (
        "held = []\nwhile True: held.append(bytearray(8 << 20))",
        {"limits": {"memory": "200M"}},
        "memory_limit",
    ),
    "CPU time": ("while True: pass", {"limits": {"cpu_time": 0.3}}, "time_limit"),
    "disk": (
        "f = open('/tmp/x', 'wb')\nwhile True: f.write(bytes(1 << 16)); f.flush()",
        {"limits": {"disk": "1M"}},
        "disk_limit",
    ),
    "output": ("while True: print('x' * 1000)", {"output": {"limit": "10K", "on_excess": "end"}}, "output_limit"),
    "calls": ("import os\nwhile True: os.getppid()", {"limits": {"calls": 5000}}, "call_limit"),
}


@pytest.mark.parametrize("what", LIMITS)
def test_limits(run, what):
    """Each box has its own limits, from its own beginning."""
    code, options, status = LIMITS[what]
    for _ in range(2):
        assert run(code, **options).status == status
    assert run.ok("print(6 * 7)", **options) == "42\n"


def test_the_kernels_own_limits(run, hostile):
    """The kernel, too, limits each box's address space and CPU time, and the box cannot undo that."""
    seen = []

    def look(_):
        (pid,) = set(hostile.guests()) - before
        limits = Path(f"/proc/{pid}/limits").read_text()
        seen.append({line[:26].strip(): line[26:47].strip() for line in limits.splitlines()})

    run("1", limits={"memory": "100M", "cpu_time": 5})
    reaper.settle()
    before = set(hostile.guests())
    run("print('x', flush=True)", on_stdout=look, limits={"memory": "100M", "cpu_time": 5})
    assert seen[0]["Max cpu time"] == "7"
    assert int(seen[0]["Max address space"]) > 100 << 20
    assert seen[0]["Max core file size"] == "0"


def test_a_zygote_that_is_killed(run):
    """Boxes of a killed zygote go on; the next ones come from another zygote."""
    ok = []

    def kill(_):
        os.kill(run.zygote().process.pid, signal.SIGKILL)
        ok.append(True)

    result = run("print(1, flush=True)\nimport decimal\nprint(decimal.Decimal(2))", on_stdout=lambda _: ok or kill(_))
    assert result.stdout == "1\n2\n", result
    made = proxybox.Sandbox(warm=True)
    assert made.run("print(6 * 7)").stdout == "42\n"
    made.close()


def test_modules_of_the_zygotes_own_are_gone(run):
    """A box has no access to the files from which its zygote was started."""
    assert (
        run.ok(
            "import os, sys; print(os.path.exists('/usr/lib/proxybox'), [path for path in sys.path if 'proxybox' in path])"
        )
        == "False []\n"
    )
