"""More tasks than the policy grants: the kernel's count is checked from outside during the attack."""

import os

import pytest

import proxybox
from tests.hostile.conftest import GuestObserver

EACH_GUEST = True


class Watcher(GuestObserver):
    """most: the highest number of tasks that any guest had."""

    most = 0

    def look(self, pid):
        self.most = max(self.most, len(os.listdir(f"/proc/{pid}/task")))


@pytest.fixture
def watched(hostile):
    with Watcher(hostile) as watcher:
        yield watcher


STORM = """
import threading, time
release = threading.Event()
started = 0
try:
    for _ in range(200):
        threading.Thread(target=release.wait, daemon=True).start()
        started += 1
except RuntimeError as error:
    print(error)
print(started)
release.set()
"""


@pytest.mark.parametrize("limit", [1, 2, 8])
def test_a_storm_of_threads(hostile, watched, limit):
    out = hostile.ok(STORM, limits={"threads": limit})
    assert out.splitlines()[-1] == str(limit - 1)
    assert watched.most <= limit


NATIVE_STORM = """
import raw, time
# clone(THREAD_FLAGS, stack, &tid, &tid, tls) with ROUTE; the child waits for ever on a futex.
stack = raw.code(bytes(1 << 16))
child = raw.SLEEP[1]
body = bytes.fromhex(
    "53" "4889fb"                            # push rbx; mov rbx, rdi
    "b838000000" "bf000f3d00"                # mov eax, 56; mov edi, 0x3d0f00
    "4889de" "4889da" "4989da" "4d31c0"      # rsi, rdx, r10 = stack; r8 = 0
    "41b9" + raw.ROUTE.to_bytes(4, "little").hex() +
    "0f05" "85c0" "7502" "ebfe"              # syscall; test eax; jnz +2; jmp .
    "5b" "c3")
clone = raw.function(body, raw.ctypes.c_void_p)
results = []
for index in range(100):
    {announce}
    results.append(clone(stack + 32768))
print([result for result in results if result > 0].__len__(), min(results))
time.sleep(0.2)
"""


def test_native_clones_that_nobody_was_told_of(hostile, watched):
    """Machine code clones with ROUTE: each clone waits until the listener is read, when the box has another thread or
    ends.
    """
    result = hostile.run(NATIVE_STORM.format(announce="pass"), limits={"threads": 4}, timeout=0.4)
    assert result.status in ("time_limit", "ok"), result
    assert watched.most == 1


@pytest.mark.parametrize("policy", [{"policy": "strict"}, {"limits": {"threads": 0}}, {"limits": {"threads": 1}}])
def test_a_clone_where_one_thread_is_allowed(policy):
    """The filter of such a box has no row for clones, and there is no listener."""
    with proxybox.Sandbox(warm=False, **policy) as box:
        layers = box.run("print(1)", check=True).layers
    assert layers["thread count"] == "one: the filter lets no other be made"


def test_native_clones_announced_by_forged_frames(hostile, watched):
    """The clones are announced by forged frames and never end: the kernel's own count limits them."""
    announce = "raw.ask(56, (0x3d0f00, stack + 32768, stack, stack, 0))"
    result = hostile.run(NATIVE_STORM.format(announce=announce), limits={"threads": 4}, timeout=3)
    assert watched.most <= 4, watched.most
    assert result.status in ("ok", "time_limit", "crashed", "misbehaved"), result


def test_native_clones_after_forged_ends(hostile, watched):
    """The guest falsely reports that its threads have ended."""
    result = hostile.run(
        """
import threading, raw
def fake_end(told):
    raw.batch(told)
forged = 0
for _ in range(30):
    told = raw.words([raw.put(raw.frame(60, (0,)), fd=6), raw.SLEEP])  # on channel 1, which is free again then
    try:
        threading.Thread(target=fake_end, args=(told,), daemon=True).start()
    except RuntimeError:
        continue
    while not told[7]: pass  # until the forged end is on its way
    forged += 1
print(forged)
""",
        limits={"threads": 4},
    )
    assert watched.most <= 4, watched.most
    assert result.status in ("ok", "time_limit", "crashed", "misbehaved", "error"), result
    assert result.stdout == "3\n", "as many as the kernel lets in said that they had ended"


@pytest.mark.parametrize(
    "number",
    [
        "(56, 0x11, 0, 0, 0, 0, raw.ROUTE)",
        "(56, 0x1200011, 0, 0, 0, 0, raw.ROUTE)",
        "(57,)",
        "(58,)",
        "(435, raw.code(bytes(88)), 88)",
    ],
)
def test_a_fork_bomb(hostile, watched, number):
    out = hostile.ok(f"""
import raw
print(set(raw.syscalls([{number}] * 500)))
""")
    assert all(result < 0 for result in eval(out)), out
    assert watched.most_guests <= 1
    assert watched.most <= 1


def test_a_fork_bomb_in_python(hostile, watched):
    out = hostile.ok("""
import os, subprocess, multiprocessing
for way in (os.fork, os.forkpty, lambda: subprocess.run(["true"]), lambda: os.system("true"), lambda: os.popen("true"),
            lambda: multiprocessing.Process(target=print).start()):
    try:
        print("came through", way())
    except OSError:
        print("refused")
""")
    assert "came through" not in out.replace("came through -1", "").replace("came through 32512", ""), out
    assert watched.most_guests <= 1


def test_threads_that_come_and_go(hostile, watched):
    """Thousands of threads in turn, but never more than granted at once."""
    out = hostile.ok(
        """
import threading
for _ in range(300):
    threads = [threading.Thread(target=int) for _ in range(3)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
print("done")
""",
        limits={"threads": 4, "cpu_time": 20},
    )
    assert out == "done\n"
    assert watched.most <= 4


def test_threads_that_spin_are_charged(hostile):
    """CPU time is the time of all threads."""
    result = hostile.run(
        """
import threading
def spin():
    while True: pass
for _ in range(7): threading.Thread(target=spin, daemon=True).start()
spin()
""",
        limits={"cpu_time": 0.5},
    )
    assert (result.status, result.why) == ("time_limit", "limits.cpu_time")


def test_the_main_thread_ends_natively_and_another_goes_on(hostile):
    result = hostile.run(
        """
import threading, raw
hang = raw.function(b"\\xeb\\xfe")
threading.Thread(target=lambda: raw.exchange(raw.SLEEP)).start()
raw.exchange((60, 0, raw.ROUTE))
""",
        timeout=0.4,
    )
    assert result.status == "time_limit", result


def test_calls_on_the_channels_of_other_threads(hostile):
    """One thread writes frames for another that waits: only its own box is harmed."""
    result = hostile.run(
        """
import threading, raw
ready = threading.Event()
def wait():
    ready.set()
    threading.Event().wait()
threading.Thread(target=wait, daemon=True).start()
ready.wait()
for _ in range(5):
    raw.exchange(raw.put(raw.frame(39), fd=6))
raw.exchange(raw.SLEEP)
""",
        timeout=0.4,
    )
    assert result.status in ("misbehaved", "time_limit", "crashed"), result


@pytest.mark.sized(1)
@pytest.mark.parametrize("time", [proxybox.Time.real(), proxybox.Time.virtual("2030-01-01"), proxybox.Time.scaled(5)])
def test_signals_while_many_threads_wait_for_a_time(hostile, time):
    """A thread that wakes up for a signal that another thread has taken continues its wait."""
    out = hostile.ok(
        """
import os, signal, threading
signal.signal(signal.SIGUSR1, lambda *_: None)
over = False
def wait():
    lock = threading.Lock()
    lock.acquire()
    while not over: lock.acquire(timeout=0.003)
threads = [threading.Thread(target=wait) for _ in range(12)]
for each in threads: each.start()
for _ in range(300): os.kill(os.getpid(), signal.SIGUSR1)
over = True
for each in threads: each.join()
print("done")
""",
        limits={"threads": 16, "cpu_time": 15},
        time=time,
        timeout=300,
    )
    assert out == "done\n"
