"""What one OS call may make the controller look up and repeat is bounded, whatever the guest has prepared.

The tests count steps and function calls in this process, which serves the guests. They never measure time.
"""

import asyncio
import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import proxybox
from proxybox.controller.costs import steps
from proxybox.controller.drivers.engine import the_engine
from proxybox.controller.oscalls import polling
from proxybox.controller.vfs import openfiles
from proxybox.controller.vfs.host import boundary, links
from proxybox.controller.vfs.host.boundary import HostRoot
from proxybox.controller.vfs.nodes import PORTION
from proxybox.controller.vfs.overlay import files
from proxybox.controller.world.output import OutputSink

DEEP = 500


@pytest.fixture(scope="module", autouse=True)
def _engines() -> None:
    """Starts the engine before the tests: its threads last, and would count as left behind."""
    the_engine()


@pytest.fixture(params=["blocking", "asyncio", "pool"])
def run(request: pytest.FixtureRequest, hostile: Any) -> Callable[..., proxybox.Result]:
    """Runs a program by either driver, or in a warm box of a pool. This process serves all of them."""
    if request.param == "blocking":
        return hostile.run
    if request.param == "pool":

        def pooled(code: str, policy: Any = None, timeout: float = 20, **options: Any) -> proxybox.Result:
            with proxybox.Pool(policy, size=1, limits=options.pop("limits", {})) as pool:
                return pool.run(code, files=hostile.files, timeout=timeout, **options)

        return pooled

    def served(code: str, policy: Any = None, timeout: float = 20, **options: Any) -> proxybox.Result:
        async def main() -> proxybox.Result:
            async with proxybox.AsyncSandbox(policy, limits=options.pop("limits", {})) as box:
                return await box.run(code, files=hostile.files, timeout=timeout, **options)

        return asyncio.run(main())

    return served


def writable(folder: Path) -> proxybox.Policy:
    """A policy with a writable folder of the host."""
    return proxybox.Policy(
        filesystem={"mounts": [{"target": "/rw", "source": str(folder), "mode": "rw"}]}, environment={"cwd": "/rw"}
    )


class Count:
    """How often a function was called between the guest's words BEGIN and END.

    The words are noticed when they are written, because a callback of an event loop may run later.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.since = 0
        self.counted: list[int] = []

    def told(self, text: str) -> None:
        if "BEGIN" in text:
            self.since = self.calls
        if "END" in text:
            self.counted.append(self.calls - self.since)


@contextlib.contextmanager
def counting(owner: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    """Counts the calls of a function of the controller. owner, name: the function."""
    count, function = Count(), getattr(owner, name)

    def counted(*arguments: Any) -> Any:
        count.calls += 1
        return function(*arguments)

    def written(sink: OutputSink, data: bytes) -> int:
        if sink.name == "stderr":
            count.told(data.decode())
        return write(sink, data)

    write = OutputSink.write
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        patch.setattr(OutputSink, "write", written)
        yield count


TELL = """
import os
def tell(word): os.write(2, word)
"""

# --- paths ------------------------------------------------------------------------------------------------------------

LINKS = f"""
for n in range({DEEP}):
    os.mkdir("a")
    os.chdir("a")
os.chdir("/rw")
way = "/rw" + "/a" * {DEEP} + "/.." * {DEEP + 1} + "/tmp"
for n in range(38):
    os.symlink(way if n == 0 else f"{{way}}/l{{n - 1}}", f"/tmp/l{{n}}")
open("/tmp/x", "w").close()
"""
CALLS = {
    "rename": "os.rename('/tmp/l37/x', '/tmp/y')",
    "rename to": "os.rename('/tmp/x', '/tmp/l37/y')",
    "stat": "os.stat('/tmp/l37')",
    "open": "os.open('/tmp/l37/x', os.O_RDONLY)",
    "create": "os.open('/tmp/l37/z', os.O_RDWR | os.O_CREAT)",
    "chdir": "os.chdir('/tmp/l37')",
    "readlink": "os.readlink('/tmp/l37/l3')",
    "link": "os.link('/tmp/l37/x', '/tmp/y')",
    "access": "raise OSError(ELOOP, '') if not os.access('/tmp/l37', 0) else None",
}


@pytest.fixture
def deep(tmp_path: Path) -> Iterator[Path]:
    """A folder for any user to write to. rm(1) removes it: pytest's own cleaning recurses."""
    folder = tmp_path / "rw"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    subprocess.run(["rm", "-rf", folder], check=True)


def test_links_through_deep_folders_of_the_host(run, hostile, deep, monkeypatch):
    """The links' targets are looked up in few steps.

    When each name was opened from the root again, one rename took ten seconds of its neighbours' time.
    """
    policy = writable(deep)
    attempts = "".join(
        f"""
tell(b"BEGIN")
try:
    {call}
    print("went on")
except OSError as error:
    print(error.errno in (ELOOP, ENAMETOOLONG))
tell(b"END")
"""
        for call in CALLS.values()
    )
    with counting(HostRoot, "look", monkeypatch) as looks:
        result = run(f"from errno import ELOOP, ENAMETOOLONG{TELL}{LINKS}{attempts}", policy=policy)
    assert result.stdout == "True\n" * len(CALLS), result.summary() + result.stdout + result.stderr
    assert len(looks.counted) == len(CALLS)
    assert max(looks.counted) <= steps.CALL // 24
    neighbour = hostile.run("print('served')")
    assert neighbour.stdout == "served\n"


def test_a_folder_far_down_on_the_host(hostile, deep):
    """A deep folder that is reached step by step can be used; a single path to it would be too long."""
    out = hostile.ok("""
import os
from errno import ENAMETOOLONG
for n in range(500):
    os.mkdir("a")
    os.chdir("a")
with open("x", "w") as file: file.write("here")
os.rename("x", "y")
print(open("y").read(), os.listdir("."), len(os.getcwd()))
os.chdir("/rw")
print(len(os.listdir("/rw" + "/a" * 100)))
try: os.stat("/rw" + "/a" * 500)
except OSError as error: print(error.errno == ENAMETOOLONG)
""", policy=writable(deep), timeout=60)  # fmt: skip
    assert out == "here ['y'] 1003\n1\nTrue\n"


SLASHES = """
import os
os.symlink("/tmp/" + "/" * 4000, "/tmp/s0")
for n in range(1, 39): os.symlink(f"s{n - 1}" + "/" * 4000, f"/tmp/s{n}")
os.symlink("/tmp" + "/." * 2000, "/tmp/d0")
for n in range(1, 39): os.symlink(f"d{n - 1}" + "/." * 2000, f"/tmp/d{n}")
"""


def test_links_of_nothing_but_slashes_and_dots(run):
    """Slashes alone are no names and take no steps. Dots are names, and count as steps of the call."""
    result = run(f"""{SLASHES}
print(os.path.isdir("/tmp/s38"), os.path.isdir("/tmp/d2"))
try: os.stat("/tmp/d38")
except OSError as error: print(error.strerror)
""")
    assert result.stdout == "True True\nToo many levels of symbolic links\n", result.summary() + result.stderr


def test_a_folder_of_memory_far_down(hostile):
    """A folder deeper than any path: getcwd and readlink fail with ENAMETOOLONG, and a rename into the folder itself
    with EINVAL.
    """
    out = hostile.ok("""
import os, raw
from errno import ENAMETOOLONG, EINVAL
os.chdir("/tmp")
for n in range(3000):
    os.mkdir("d")
    os.chdir("d")
fd = os.open(".", os.O_RDONLY)
print(raw.syscall(79, raw.code(bytes(1 << 15)), 1 << 15) == -ENAMETOOLONG)
for ask in (lambda: os.readlink(f"/proc/self/fd/{fd}"), lambda: os.readlink("/proc/self/cwd")):
    try: ask()
    except OSError as error: print(error.errno == ENAMETOOLONG)
try: os.rename("/tmp/d", "e")
except OSError as error: print(error.errno == EINVAL)
""", limits={"files": 6000}, timeout=60)  # fmt: skip
    assert out == "True\n" * 4


# --- waits ------------------------------------------------------------------------------------------------------------

PIPES = """
import os, select, threading
ends = [os.pipe() for _ in range(245)]
epoll = select.epoll()
for reader, _ in ends: epoll.register(reader, select.EPOLLIN)
def asking(entries, timeout):
    poll = select.poll()
    for fd in entries: poll.register(fd, select.POLLIN)
    return poll.poll(timeout)
"""
MANY = {"open_files": 1024}


def test_a_poll_that_names_one_epoll_again_and_again(run, monkeypatch):
    """poll has 256 entries for one epoll instance of 245 pipes: each pipe is checked once."""
    with counting(polling, "ready", monkeypatch) as asked:
        result = run(f"""{TELL}{PIPES}
import raw, struct
names = [struct.pack("ihh", epoll.fileno(), 1 << bit % 6 | 1, 0) for bit in range(256)]
asked = raw.code(b"".join(names))
tell(b"BEGIN")
print(raw.syscall(7, asked, 256, 0))
tell(b"END")
os.write(ends[200][1], b"x")
tell(b"BEGIN")
print(raw.syscall(7, asked, 256, 0))
tell(b"END")
""", limits=MANY)  # fmt: skip
    assert result.stdout == "0\n256\n", result.summary() + result.stderr
    assert max(asked.counted) <= 245 + 1


def test_waits_that_have_nothing_to_do_with_a_call(run, monkeypatch):
    """Six threads wait in poll on an epoll of 245 pipes: calls of other threads do not check the pipes.

    Once each such call cost 1.2 s. Pipes are checked when one of them changes.
    """
    with counting(polling, "ready", monkeypatch) as asked:
        result = run(f"""{TELL}{PIPES}
done = []
threads = [threading.Thread(target=lambda: done.append(asking([epoll.fileno()], 15000))) for _ in range(6)]
for thread in threads: thread.start()
other = os.pipe()
for _ in range(300): os.getppid()
tell(b"BEGIN")
for _ in range(300): os.getppid(); os.stat("/etc/passwd"); os.write(other[1], b"x"); os.read(other[0], 1)
tell(b"END")
os.write(ends[100][1], b"x")
for thread in threads: thread.join()
print(len(done), [len(found) for found in done])
""", limits=MANY)  # fmt: skip
    assert result.stdout == "6 [1, 1, 1, 1, 1, 1]\n", result.summary() + result.stderr
    assert asked.counted == [0]


def test_waits_of_many_for_the_same_are_asked_once(run, monkeypatch):
    """The result of checking a pipe for one thread is used for the other threads, until something changes."""
    with counting(polling, "ready", monkeypatch) as asked:
        result = run(f"""{TELL}{PIPES}
done, reader = [], os.pipe()
epoll.register(reader[1], 0)
threads = [threading.Thread(target=lambda: done.append(asking([epoll.fileno()], 15000))) for _ in range(6)]
for thread in threads: thread.start()
for _ in range(300): os.getppid()
tell(b"BEGIN")
for _ in range(20): os.write(reader[1], b"x")
tell(b"END")
os.write(ends[100][1], b"x")
for thread in threads: thread.join()
print(len(done))
""", limits=MANY)  # fmt: skip
    assert result.stdout == "6\n", result.summary() + result.stderr
    assert asked.counted[0] <= 21 * 247


# --- nothing sleeps through what it waits for -------------------------------------------------------------------------

#: How a descriptor becomes ready, and the events that are waited for.
EVENTS = {
    "a write to a pipe": ("r, w = os.pipe(); fd, events = r, IN", "os.write(w, b'x')"),
    "the end of a writer": ("r, w = os.pipe(); fd, events = r, 0", "os.close(w)"),
    "the end of the last of two writers": ("r, w = os.pipe(); v = os.dup(w); fd, events = r, IN", "os.close(w); os.close(v)"),
    "the end of a reader": ("r, w = os.pipe(); fd, events = w, 0", "os.close(r)"),
    "room in a pipe": ("r, w = os.pipe(); fill(w); fd, events = w, OUT", "os.read(r, 1 << 16)"),
    "a larger pipe": ("r, w = os.pipe(); fill(w); fd, events = w, OUT", "fcntl.fcntl(w, 1031, 1 << 18)"),
    "a write to a socket": ("a, b = socket.socketpair(); fd, events = a.fileno(), IN", "b.send(b'x')"),
    "room in a socket": ("a, b = socket.socketpair(); fill(a.fileno()); fd, events = a.fileno(), OUT", "b.recv(1 << 16)"),
    "the end of a socket": ("a, b = socket.socketpair(); fd, events = a.fileno(), IN", "b.close()"),
    "a shutdown": ("a, b = socket.socketpair(); fd, events = a.fileno(), IN", "b.shutdown(socket.SHUT_WR)"),
    "a shutdown of its own": ("a, b = socket.socketpair(); fd, events = a.fileno(), IN", "a.shutdown(socket.SHUT_RD)"),
    "a reader that shuts down": ("a, b = socket.socketpair(); fill(a.fileno()); fd, events = a.fileno(), OUT", "b.shutdown(socket.SHUT_RD)"),
    "a count": ("e = raw.syscall(290, 0, 0); fd, events = e, IN", "os.write(e, bytes([1]) + bytes(7))"),
    "room for a count": ("e = raw.syscall(290, 0, 0); os.write(e, b'\\xfe' + b'\\xff' * 7); fd, events = e, OUT", "os.read(e, 8)"),
    "its own end": ("r, w = os.pipe(); fd, events = r, IN", "os.close(r)"),
}  # fmt: skip
WAYS = {
    "poll": "p = select.poll(); p.register(fd, events); p.poll(ENDLESS)",
    "epoll": "ep.register(fd, events); ep.poll(ENDLESS / 1000)",
    "poll of epoll": "ep.register(fd, events); p = select.poll(); p.register(ep.fileno(), IN); p.poll(ENDLESS)",
    "select": "select.select([fd] if events != OUT else [], [fd] if events != IN else [], [], ENDLESS / 1000)",
    "a watch that is added": "p = select.poll(); p.register(ep.fileno(), IN); p.poll(ENDLESS)",
}
SEEN_BY_FEW = {("its own end", "epoll"), ("its own end", "poll of epoll"), ("its own end", "a watch that is added"), ("its own end", "select")}  # fmt: skip


@pytest.mark.cover(1)
@pytest.mark.parametrize("way", WAYS)
def test_whoever_waits_for_it_is_woken(run, way):
    """Each wait has no time limit, while the program makes calls that have nothing to do with it."""
    events = {event: texts for event, texts in EVENTS.items() if (event, way) not in SEEN_BY_FEW}
    late = "ep.register(fd, events)" if way == "a watch that is added" else ""
    rounds = "".join(
        f"""
{prepare}
ep = select.epoll()
def wait():
    {WAYS[way]}
    print("woken by", {event!r})
thread = threading.Thread(target=wait)
thread.start()
for _ in range(200): os.getppid()
{late}
for _ in range(50): os.getppid()
{happen}
thread.join()
"""
        for event, (prepare, happen) in events.items()
    )
    result = run(f"""
import fcntl, os, raw, select, socket, threading
IN, OUT, ENDLESS = select.POLLIN, select.POLLOUT, 1000000
def fill(fd):
    os.set_blocking(fd, False)
    try:
        while True: os.write(fd, bytes(1 << 16))
    except BlockingIOError: pass
{rounds}
""")
    assert result.stdout.splitlines() == [f"woken by {event}" for event in events], result.summary() + result.stderr


READS = """
import os, raw, socket, struct, threading
r, w = os.pipe()
a, b = socket.socketpair()
e = raw.syscall(290, 0, 0)
got = []
def wait(read): got.append(read())
def woken(read, happen):
    thread = threading.Thread(target=wait, args=(read,))
    thread.start()
    for _ in range(200): os.getppid()
    happen()
    thread.join()
woken(lambda: os.read(r, 1), lambda: os.write(w, b"1"))
woken(lambda: a.recv(1), lambda: b.send(b"2"))
woken(lambda: os.read(a.fileno(), 1), lambda: b.send(b"3"))
woken(lambda: os.read(e, 8)[:1], lambda: os.write(e, b"4" + bytes(7)))
pieces = raw.code(struct.pack("QQ", raw.code(bytes(8)), 1))
woken(lambda: raw.syscall(19, r, pieces, 1), lambda: os.write(w, b"5"))
woken(lambda: os.write(w, bytes(1 << 18)), lambda: [os.read(r, 1 << 16) for _ in range(4)])
woken(lambda: b.sendall(bytes(1 << 18)), lambda: [a.recv(1 << 16) for _ in range(4)])
woken(lambda: a.recv(1), lambda: b.close())
woken(lambda: os.read(r, 1), lambda: os.close(w))
print(got)
"""


def test_whoever_reads_or_writes_is_woken(run):
    result = run(READS)
    assert result.stdout == "[b'1', b'2', b'3', b'4', 1, 262144, None, b'', b'']\n", result.summary() + result.stderr


def test_a_wait_that_another_wait_ends(run):
    """A long write goes on when a waiting reader takes data and makes no further call."""
    result = run("""
import os, threading
r, w = os.pipe()
lock = threading.Lock()
lock.acquire()
def read():
    size = 0
    while size < 1 << 17: size += len(os.read(r, 1 << 16))
    lock.acquire()
threads = [threading.Thread(target=read), threading.Thread(target=lambda: (os.write(w, bytes(1 << 17)), lock.release()))]
for thread in threads: thread.start()
for thread in threads: thread.join()
print("done")
""")
    assert result.stdout == "done\n", result.summary() + result.stderr


def test_standard_input_of_the_hosts_wakes_a_poll(hostile):
    """Standard input of the host makes a poll return, though no call of the box reports it: the driver watches it."""
    reader, writer = os.pipe()

    def seen(text: str) -> None:
        if "NOW" in text:
            os.write(writer, b"line")

    with os.fdopen(reader, "rb") as source:
        result = hostile.run("""
import os, select, threading
def wait(found):
    ep = select.epoll()
    ep.register(0, select.EPOLLIN)
    found.append(ep.poll() == [(0, 1)] and select.select([0], [], [])[0] == [0])
found = []
threads = [threading.Thread(target=wait, args=(found,)) for _ in range(3)]
for thread in threads: thread.start()
for _ in range(200): os.getppid()
os.write(2, b"NOW")
for thread in threads: thread.join()
print(found, os.read(0, 9))
""", stdin=source, on_stderr=seen)  # fmt: skip
    os.close(writer)
    assert result.stdout == "[True, True, True] b'line'\n", result.summary() + result.stderr


def test_a_poll_in_a_session_goes_on_behind_the_call(sandbox):
    """A thread may wait in one call for an event that comes in the next call."""
    with sandbox().session(timeout=200) as session:
        session.exec("""
import os, select, threading
r, w = os.pipe()
found = []
def wait():
    p = select.poll()
    p.register(r, select.POLLIN)
    found.append(len(p.poll()))
thread = threading.Thread(target=wait)
thread.start()
for _ in range(200): os.getppid()
""", check=True)  # fmt: skip
        session.exec("os.write(w, b'x'); thread.join()", check=True)
        assert session.eval("found").value == [1]


# --- folders ----------------------------------------------------------------------------------------------------------

MANY_NAMES = 3 * PORTION + 7


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    """A folder with many files."""
    folder = tmp_path / "wide"
    folder.mkdir()
    for number in range(MANY_NAMES):
        (folder / f"f{number:05}").touch()
    return folder


def mounted(folder: Path) -> proxybox.Policy:
    """A policy that mounts the folder in each mode."""
    modes = ("ro", "rw", "overlay")
    mounts = [{"target": f"/{mode}", "source": str(folder), "mode": mode} for mode in modes]
    return proxybox.Policy(filesystem={"mounts": mounts})


LISTED = f"""
import os, signal
def check(folder, count={MANY_NAMES}):
    names = os.listdir(folder)
    assert names == sorted(names) and len(names) == len(set(names)) == count, (folder, len(names))
"""


def test_a_folder_of_many_names_goes_in_portions(run, wide, monkeypatch):
    """A listing reads and returns at most one portion in each turn. Signals that come between the turns are handled
    after the call.
    """
    turns: list[int] = []
    pack = openfiles.pack_dirent

    def counted(*arguments: Any) -> bytes:
        turns[-1] += 1
        return pack(*arguments)

    def begun(file: Any, size: int) -> bytes:
        turns.append(0)
        return getdents(file, size)

    getdents = openfiles.DirectoryOpenFile.getdents
    monkeypatch.setattr(openfiles, "pack_dirent", counted)
    monkeypatch.setattr(openfiles.DirectoryOpenFile, "getdents", begun)
    result = run(
        f"""{LISTED}
alarms = []
signal.signal(signal.SIGALRM, lambda *told: alarms.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
for _ in range(3):
    check("/ro"); check("/rw"); check("/overlay")
signal.setitimer(signal.ITIMER_REAL, 0)
os.unlink("/overlay/f00001")
open("/overlay/more", "w").close()
os.rename("/overlay/f00002", "/overlay/f99999")
check("/overlay")
os.mkdir("/tmp/d")
for n in range({MANY_NAMES}): os.mknod(f"/tmp/d/{{n:05}}")
check("/tmp/d")
print("listed", bool(alarms))
""",
        policy=mounted(wide),
        limits={"files": 10_000},
    )
    assert result.stdout == "listed True\n", result.summary() + result.stderr
    assert max(turns) <= PORTION
    assert len(turns) > 11 * (MANY_NAMES // PORTION)


def test_a_folder_is_closed_in_the_middle_of_being_listed(hostile, wide):
    """Another thread closes the folder between two turns: the names read so far are freed."""
    out = hostile.ok("""
import os, threading
def listing(fd):
    try: os.listdir(fd)
    except OSError: pass
for _ in range(20):
    fd = os.open("/ro", os.O_RDONLY)
    thread = threading.Thread(target=listing, args=(fd,))
    thread.start()
    os.close(fd)
    thread.join()
print(len(os.listdir("/ro")))
""", policy=mounted(wide))  # fmt: skip
    assert out == f"{MANY_NAMES}\n"


def test_folders_that_are_listed_by_many_threads_at_once(run, wide):
    """Only one listing is in progress at a time, so that they use no more memory than one."""
    result = run(f"""{LISTED}
import threading
done = []
def listing(folder):
    for _ in range(2): check(folder)
    done.append(folder)
threads = [threading.Thread(target=listing, args=(folder,)) for folder in ("/ro", "/rw", "/overlay") * 2]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(done))
""", policy=mounted(wide), timeout=60)  # fmt: skip
    assert result.stdout == "6\n", result.summary() + result.stderr


def test_a_folder_of_many_names_is_seen_by_an_audit_once(hostile, wide):
    """A call of many turns is one call for the audit."""
    calls: list[Any] = []
    code = "import os\nfd = os.open('/ro', os.O_RDONLY)\nos.write(1, b'%d' % len(os.listdir(fd)))"
    policy = mounted(wide)
    with proxybox.Sandbox(policy, audit=calls.append) as box:
        result = box.run(code, timeout=200)
    assert result.stdout == str(MANY_NAMES), result.summary() + result.stderr
    listed = [call for call in calls if call.name == "getdents64"]
    assert all(call.result is not None and call.result >= 0 for call in listed)
    assert len(listed) < 20


def test_a_folder_of_an_overlay_that_goes_to_another_one_is_not_read_whole(run, tmp_path, monkeypatch):
    """A rename in an overlay searches the moved folder for links that lead up out of it, but only up to a limit."""
    monkeypatch.setattr(links, "MAX_SEARCHED", PORTION)
    (tmp_path / "full").mkdir()
    for number in range(20 * PORTION):
        (tmp_path / "full" / f"f{number:05}").touch()
    with counting(boundary, "_kind", monkeypatch) as asked:
        result = run(f"""{TELL}
os.chdir("/overlay")
os.mkdir("d")
tell(b"BEGIN")
for _ in range(10):
    os.rename("full", "d/full")
    os.rename("d/full", "full")
tell(b"END")
print(len(os.listdir("full")))
""", policy=mounted(tmp_path))  # fmt: skip
    assert result.stdout == f"{20 * PORTION}\n", result.summary() + result.stderr
    assert asked.counted[0] <= 20 * 10 * PORTION


def test_folders_far_down_on_the_host_that_go_to_another_one(run, deep, monkeypatch):
    """Deep folders and links are reached from the mount's root. On that way several folders count as one entry."""
    monkeypatch.setattr(links, "MAX_SEARCHED", 256)
    monkeypatch.setattr(links, "_AS_FAR_AS_AN_ENTRY", 4)
    policy = writable(deep)
    with counting(HostRoot, "kinds", monkeypatch) as listed, counting(HostRoot, "read_link", monkeypatch) as read:
        result = run(f"""{TELL}
for n in range(250):
    os.mkdir("a")
    os.chdir("a")
    if n % 2: os.symlink("x", "l")
os.chdir("/rw")
os.mkdir("d")
tell(b"BEGIN")
try: os.rename("a", "d/a")
except OSError as error: print(error.strerror)
tell(b"END")
os.rename("a", "b")
print(os.listdir("."))
""", policy=policy)  # fmt: skip
    assert result.stdout == "Invalid cross-device link\n['b', 'd']\n", result.summary() + result.stderr
    assert 10 < listed.counted[0] < 60  # 170, if the way to a folder did not count
    assert read.counted[0] < 30


def test_more_links_in_a_folder_of_an_overlay_than_a_call_has_steps_for(run, tmp_path):
    """Too many links for one call: the folder may still be moved, and the commit checks all of them."""
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "z-up").symlink_to("../../x")
    for number in range(steps.CALL // 24):
        (tmp_path / "links" / f"l{number}").symlink_to("x")
    result = run(
        "import os; os.chdir('/overlay'); os.mkdir('d'); os.rename('links', 'd/links'); print(os.listdir())",
        policy=mounted(tmp_path),
    )
    assert result.stdout == "['d']\n", result.summary() + result.stderr


def test_a_full_folder_of_an_overlay_is_not_read_to_see_that_it_is_full(run, wide, monkeypatch):
    """Removing it, or moving another folder over it, looks up one name."""
    inner = wide.parent / "outer" / "inner"
    inner.parent.mkdir()
    wide.rename(inner)
    with counting(boundary, "_kind", monkeypatch) as asked:
        result = run(f"""{TELL}
os.chdir("/overlay")
os.mkdir("new")
tell(b"BEGIN")
for _ in range(10):
    for call in (lambda: os.rmdir("inner"), lambda: os.rename("new", "inner")):
        try: call()
        except OSError as error: print(error.strerror)
tell(b"END")
for name in os.listdir("inner"): os.unlink(f"inner/{{name}}")
os.rename("new", "inner")
print(os.listdir("inner"), os.listdir("."))
""", policy=mounted(inner.parent))  # fmt: skip
    assert result.stdout == "Directory not empty\n" * 20 + "[] ['inner']\n", result.summary() + result.stderr
    assert asked.counted[0] <= 20


# --- copies into an overlay -------------------------------------------------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A folder with a file that has 8 MiB of data between holes."""
    folder = tmp_path / "large"
    folder.mkdir()
    with open(folder / "file", "wb") as file:
        for at in range(8):
            file.seek(at << 22)
            file.write(bytes([at + 1]) * (1 << 20))
    return folder


COPIED = """
import os, signal, threading
def check(path):
    with open(path, "rb") as file: data = file.read()
    assert len(data) == 29 << 20, len(data)
    assert all(data[at << 22] == at + 1 and data[(at << 22) + (1 << 20) - 1] == at + 1 for at in range(1, 8))
    return data[:5]
"""


def test_a_large_file_is_copied_up_in_portions(run, large, monkeypatch):
    """Holes are not read, and one turn copies 1 MiB. Signals are handled after the call."""
    sizes: list[list[int]] = []
    copy_up, pages = files.OverlayFile.copy_up, files.MemoryFile.pwrite

    def turn(file: Any, keep_data: bool = True) -> None:
        sizes.append([])
        copy_up(file, keep_data)

    def written(file: Any, data: bytes, offset: int) -> int:
        if sizes:
            sizes[-1].append(len(data))
        return pages(file, data, offset)

    monkeypatch.setattr(files.OverlayFile, "copy_up", turn)
    monkeypatch.setattr(files.MemoryFile, "pwrite", written)
    result = run(f"""{COPIED}
alarms = []
signal.signal(signal.SIGALRM, lambda *told: alarms.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
with open("/overlay/file", "r+b") as file: file.write(b"first")
signal.setitimer(signal.ITIMER_REAL, 0)
print(check("/overlay/file"), bool(alarms))
""", policy=overlaid(large), timeout=60)  # fmt: skip
    assert result.stdout == "b'first' True\n", result.summary() + result.stderr
    assert max(sum(turn) for turn in sizes) <= (1 << 20) + 5
    assert sum(map(sum, sizes)) == (8 << 20) + 5
    assert (large / "file").read_bytes()[:1] == b"\1"


def overlaid(folder: Path) -> proxybox.Policy:
    """A policy that mounts the folder as an overlay."""
    return proxybox.Policy(filesystem={"mounts": [{"target": "/overlay", "source": str(folder), "mode": "overlay"}]})


def test_a_copy_in_the_making_meets_other_threads(run, large):
    """While a file is copied, other threads open, truncate and remove it: the memory is freed."""
    for name in ("more", "again"):
        shutil.copyfile(large / "file", large / name)
    result = run(f"""{COPIED}
def opening(path, flags):
    try: os.close(os.open(path, flags))
    except FileNotFoundError: pass
def together(*calls):
    threads = [threading.Thread(target=opening, args=call) for call in calls]
    for thread in threads: thread.start()
    return threads
used = os.statvfs("/overlay").f_bfree
threads = together(*[("/overlay/file", os.O_RDWR)] * 4)
os.unlink("/overlay/file")
for thread in threads: thread.join()
print(os.listdir("/overlay"), used - os.statvfs("/overlay").f_bfree)  # the page that remembers that it is gone
threads = together(*[("/overlay/more", os.O_RDWR)] * 4, ("/overlay/more", os.O_RDWR | os.O_TRUNC))
for thread in threads: thread.join()
print(os.stat("/overlay/more").st_size, used - os.statvfs("/overlay").f_bfree)
os.chmod("/overlay/again", 0o600)
print(check("/overlay/again")[1:2], used - os.statvfs("/overlay").f_bfree)
""", policy=overlaid(large), timeout=60)  # fmt: skip
    assert result.stdout == "['again', 'more'] 1\n0 1\nb'\\x01' 2049\n", result.summary() + result.stderr


def test_a_copy_in_the_making_that_does_not_fit(run, large):
    """Its memory is freed completely."""
    result = run("""
import os
used = os.statvfs("/tmp").f_bfree
with open("/tmp/x", "wb") as file: file.write(bytes(range(256)) * (4096 * 28))
try: open("/overlay/file", "r+b")
except OSError as error: print(error.strerror)
os.unlink("/tmp/x")
print(os.statvfs("/tmp").f_bfree == used)
""", policy=overlaid(large), limits={"disk": "32M"}, timeout=60)  # fmt: skip
    assert result.stdout == "No space left on device\nTrue\n", result.summary() + result.stderr
