"""A wait for a condition variable first lets other threads run: a spurious wake-up, as POSIX allows."""

import pytest

import proxybox

PROLOGUE = """
import ctypes, errno, queue, threading, time
libc = ctypes.CDLL(None)
condition, mutex = ctypes.create_string_buffer(48), ctypes.create_string_buffer(40)
class Time(ctypes.Structure): _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]
def wait(seconds):
    end = time.time() + seconds
    return libc.pthread_cond_timedwait(condition, mutex, ctypes.byref(Time(int(end), int(end % 1 * 1e9))))
"""
CASES = {
    "it ends by its time": """
libc.pthread_mutex_lock(mutex)
for seconds in (0.02, 0, -5):
    answers = [wait(seconds) for _ in range(100)]
    assert set(answers) <= {0, errno.ETIMEDOUT} and errno.ETIMEDOUT in answers, answers
""",
    "it does not end before": """
libc.pthread_mutex_lock(mutex)
began = time.monotonic()
while wait(0.05) != errno.ETIMEDOUT: pass
assert time.monotonic() - began >= 0.05
""",
    "the mutex is its own afterwards": """
libc.pthread_mutex_lock(mutex)
for _ in range(50):
    wait(0.001)
    assert libc.pthread_mutex_trylock(mutex) == errno.EBUSY
""",
    "the mutex is free meanwhile": """
held, found = threading.Event(), []
def other():
    held.wait(); libc.pthread_mutex_lock(mutex); found.append(1)
    libc.pthread_cond_signal(condition); libc.pthread_mutex_unlock(mutex)
thread = threading.Thread(target=other); thread.start()
libc.pthread_mutex_lock(mutex); held.set()
end = time.monotonic() + 200
while not found: assert wait(60) == 0 and time.monotonic() < end
thread.join()
""",
    "a mutex that is not held": """
kind = ctypes.create_string_buffer(16)
libc.pthread_mutexattr_init(kind); libc.pthread_mutexattr_settype(kind, 2); libc.pthread_mutex_init(mutex, kind)
for _ in range(40): assert wait(0.001) == errno.EPERM
assert libc.pthread_mutex_trylock(mutex) == 0
""",
    "a mutex that is held twice": """
kind = ctypes.create_string_buffer(16)
libc.pthread_mutexattr_init(kind); libc.pthread_mutexattr_settype(kind, 1); libc.pthread_mutex_init(mutex, kind)
libc.pthread_mutex_lock(mutex); libc.pthread_mutex_lock(mutex)
assert {wait(0.001) for _ in range(40)} == {0, errno.ETIMEDOUT}
""",
    "a nonsense of a time": """
libc.pthread_mutex_lock(mutex)
assert errno.EINVAL in [libc.pthread_cond_timedwait(condition, mutex, ctypes.byref(Time(1, -1))) for _ in range(100)]
""",
    "queues, and one that computes": """
there, back, computed = queue.Queue(), queue.Queue(), []
def echo():
    while (number := there.get()) is not None: back.put(number)
def compute():
    while not done: computed.append(sum(range(1000)))
done = False
threads = [threading.Thread(target=each) for each in (echo, compute, compute)]
for each in threads: each.start()
for number in range(500): there.put(number); assert back.get() == number
while not computed: time.sleep(0.001)
done = True; there.put(None)
for each in threads: each.join()
""",
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_waits(case: str) -> None:
    with proxybox.Sandbox(limits={"wall_time": 300, "cpu_time": 100}) as box:
        result = box.run(PROLOGUE + case)
    assert result.ok, f"{result}\n{result.stderr}"
