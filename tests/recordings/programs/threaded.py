"""Small programs of several threads, as people write them. Each waits, synchronises, prints or ends in another way."""

from typing import Any, Final

STDIN: Final = "Ada\n42\nyes\nquit\n"
LIMITS: Final[dict[str, Any]] = {"wall_time": 120, "cpu_time": 60}

_HEAD: Final = """
import concurrent.futures, os, queue, random, sys, threading, time
from threading import Thread
def all_of(*targets, **options):
    threads = [Thread(target=each, **options) for each in targets]
    for each in threads: each.start()
    for each in threads: each.join()
"""

#: Threads that wait for each other.
MEETING: Final = {
    "a lock": """
done, lock = [], threading.Lock()
def work():
    for n in range(60):
        with lock: done.append((threading.current_thread().name, n))
all_of(*[work] * 4); print(done)
""",
    "no lock": """
total = 0
def work():
    global total
    for _ in range(3000): now = total; total = now + 1
all_of(*[work] * 3); print(total)
""",
    "a reentrant lock": """
lock, seen = threading.RLock(), []
def work(n=5):
    with lock:
        seen.append((n, time.monotonic()))
        if n: work(n - 1)
all_of(*[work] * 5); print(seen)
""",
    "a condition": """
ready, items = threading.Condition(), []
def take():
    with ready:
        while not items: ready.wait()
        print("got", items.pop(), flush=True)
def put():
    for n in range(4):
        with ready: items.append(n); ready.notify()
        time.sleep(random.random() / 1000)
all_of(take, take, put, take, take)
""",
    "a condition for all": """
ready, go = threading.Condition(), []
def wait(k):
    with ready: print(k, ready.wait_for(lambda: go, timeout=20), flush=True)
def start():
    time.sleep(0.002)
    with ready: go.append(1); ready.notify_all()
all_of(*(lambda k=k: wait(k) for k in range(5)), start)
""",
    "a semaphore": """
free, most, now = threading.BoundedSemaphore(2), 0, 0
def work():
    global most, now
    with free: now += 1; most = max(most, now); time.sleep(0.001); now -= 1
all_of(*[work] * 6); print(most)
try: free.release()
except ValueError as error: print(error)
""",
    "an event": """
rang = threading.Event()
def wait(): print("rang", rang.wait(10), time.time(), flush=True)
def ring(): time.sleep(0.003); rang.set()
all_of(wait, wait, ring); print(rang.is_set(), threading.Event().wait(0.002))
""",
    "a barrier": """
meet = threading.Barrier(3, action=lambda: print("all here"))
def work():
    for _ in range(4): print(meet.wait(), end=" ", flush=True)
all_of(work, work, work)
try: threading.Barrier(2).wait(0.002)
except threading.BrokenBarrierError: print("broken")
""",
    "a queue": """
jobs, results = queue.Queue(), queue.Queue()
def work():
    while (job := jobs.get()) is not None: results.put((job, job ** 2, threading.get_ident())); jobs.task_done()
threads = [Thread(target=work) for _ in range(3)]
for each in threads: each.start()
for n in range(40): jobs.put(n)
jobs.join()
for _ in threads: jobs.put(None)
for each in threads: each.join()
print([results.get() for _ in range(40)])
""",
    "a full queue": """
few = queue.Queue(1)
def put():
    for n in range(20): few.put(n)
def take():
    for _ in range(20): print(few.get(), end=" "); time.sleep(random.random() / 5000)
all_of(put, take)
try: few.get(timeout=0.002)
except queue.Empty: print("empty")
""",
    "other queues": """
first, last, simple = queue.PriorityQueue(), queue.LifoQueue(), queue.SimpleQueue()
def put(k):
    for n in range(5): first.put(random.random()); last.put(n); simple.put((k, n))
all_of(*(lambda k=k: put(k) for k in range(3)))
print([[each.get() for _ in range(15)] for each in (first, last, simple)])
""",
    "a timeout of a lock": """
lock = threading.Lock(); lock.acquire()
def work(): print(lock.acquire(timeout=0.003), lock.acquire(blocking=False), lock.acquire(timeout=20))
waiting = Thread(target=work); waiting.start(); time.sleep(0.01); lock.release(); waiting.join()
""",
    "a dinner": """
forks = [threading.Lock() for _ in range(5)]
def eat(k):
    for n in range(6):
        a, b = sorted((k, (k + 1) % 5))
        with forks[a], forks[b]: print(k, n, end=";"); time.sleep(0)
all_of(*(lambda k=k: eat(k) for k in range(5)))
""",
    "pipes": """
r, w = os.pipe()
def put():
    for n in range(10): os.write(w, b"%d," % n); time.sleep(0.0005)
    os.close(w)
def take():
    while data := os.read(r, 5): print(data)
all_of(take, put)
""",
    "sockets of its own": """
import socket, select
a, b = socket.socketpair()
def echo():
    while data := b.recv(100): b.sendall(data.upper())
    b.close()
def ask():
    for word in ("hello", "there", "bye"):
        a.sendall(word.encode()); select.select([a], [], []); print(a.recv(100))
    a.shutdown(socket.SHUT_WR)
all_of(echo, ask)
""",
    "a flag that is looked at": """
stopped = False
def work():
    n = 0
    while not stopped: time.sleep(0.0005); n += 1
    print("looked", n > 0)
each = Thread(target=work); each.start(); time.sleep(0.01); stopped = True; each.join()
""",
    "a race": """
seen = []
def work(k):
    for _ in range(40): os.stat("/box"); seen.append(k)
all_of(*(lambda k=k: work(k) for k in range(4))); print(seen)
""",
    "turns": """
condition, turns = threading.Condition(), []
def work(k):
    for _ in range(5):
        with condition:
            condition.wait_for(lambda: len(turns) % 3 == k, timeout=20)
            turns.append((k, time.monotonic())); condition.notify_all()
all_of(*(lambda k=k: work(k) for k in range(3))); print(turns)
""",
    "a flag that is spun on": """
go = False
def work():
    while not go: pass
    print("went")
each = Thread(target=work); each.start(); time.sleep(0.002); go = True; each.join()
""",
}  # fmt: skip

#: Threads that libraries make.
POOLS: Final = {
    "a pool's map": """
with concurrent.futures.ThreadPoolExecutor(4) as pool: print(list(pool.map(lambda n: (n, os.urandom(2)), range(20))))
""",
    "what is done first": """
def work(n): time.sleep(random.random() / 300); return n, threading.current_thread().name
with concurrent.futures.ThreadPoolExecutor(3, "worker") as pool:
    for each in concurrent.futures.as_completed([pool.submit(work, n) for n in range(9)]): print(each.result())
""",
    "exceptions of a pool": """
with concurrent.futures.ThreadPoolExecutor(2, initializer=lambda: print("begins")) as pool:
    jobs = [pool.submit(lambda n=n: 1 / n) for n in (1, 0, 2)]
print([each.exception() for each in jobs]); jobs[1].result()
""",
    "a pool that is left": """
pool = concurrent.futures.ThreadPoolExecutor(2)
jobs = [pool.submit(time.sleep, 0.002) for _ in range(8)]
print(jobs[0].result(), jobs[7].cancel()); pool.shutdown(wait=False, cancel_futures=True); print([each.cancelled() for each in jobs])
""",
    "a time limit of a future": """
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    slow = pool.submit(time.sleep, 0.02)
    try: slow.result(0.002)
    except concurrent.futures.TimeoutError: print("too late")
    print(concurrent.futures.wait([slow]).done == {slow})
""",
    "a pool of multiprocessing": """
from multiprocessing.pool import ThreadPool
try:
    with ThreadPool(3) as pool: print(pool.map(abs, range(-5, 5)), sorted(pool.imap_unordered(str, range(5))))
except OSError as error: print(type(error).__name__, error.errno)
""",
    "asyncio's threads": """
import asyncio
def block(n): time.sleep(random.random() / 500); return n, threading.current_thread().name
async def main():
    print(await asyncio.gather(*(asyncio.to_thread(block, n) for n in range(6))))
    print(await asyncio.get_running_loop().run_in_executor(None, os.getpid))
asyncio.run(main())
""",
    "a loop in a thread": """
import asyncio
loop = asyncio.new_event_loop(); each = Thread(target=loop.run_forever); each.start()
async def answer(n): await asyncio.sleep(0.001); return n, time.monotonic()
print([asyncio.run_coroutine_threadsafe(answer(n), loop).result() for n in range(5)])
loop.call_soon_threadsafe(loop.stop); each.join(); loop.close()
""",
    "timers": """
rung = []
timers = [threading.Timer(0.001 * k, rung.append, (k,)) for k in (3, 1, 2, 900_000)]
for each in timers: each.start()
timers[-1].cancel()
for each in timers: each.join()
print(rung)
""",
    "logs": """
import logging
logging.basicConfig(stream=sys.stdout, format="%(asctime)s %(threadName)s %(thread)d %(message)s")
all_of(*(lambda k=k: [logging.warning("%d of %d", n, k) for n in range(6)] for k in range(3)))
""",
    "tests with threads": """
import unittest
class Test(unittest.TestCase):
    def test_one(self):
        seen = []; all_of(lambda: seen.append(1), lambda: seen.append(2)); self.assertEqual(sum(seen), 3)
    def test_bad(self):
        with concurrent.futures.ThreadPoolExecutor() as pool: self.assertEqual(pool.submit(time.time).result(), 0)
unittest.main(argv=["t"])
""",
    "a database for each": """
import sqlite3
def work(k):
    base = sqlite3.connect("/tmp/all.db", timeout=20)
    with base: base.execute("create table if not exists t (k)"); base.execute("insert into t values (?)", (k,))
    base.close()
for k in range(3): all_of(lambda: work(k))
print(sqlite3.connect("/tmp/all.db").execute("select * from t").fetchall())
""",
    "threads of threads": """
def grow(n):
    if n: all_of(lambda: grow(n - 1), lambda: grow(n - 1))
    print(n, end=" ")
grow(3)
""",
    "many short ones": "for k in range(60): all_of(lambda: print(k, end=' '))",
    "its own random numbers": """
def work(k): mine = random.Random(); print(k, mine.random(), len({str(n) for n in range(50)}), os.urandom(3), flush=True)
all_of(*(lambda k=k: work(k) for k in range(4)))
""",
    "threading.local": """
own = threading.local()
def work(k): own.k = k; time.sleep(random.random() / 1000); print(k == own.k, hasattr(own, "other"))
all_of(*(lambda k=k: work(k) for k in range(5))); print(hasattr(own, "k"))
""",
    "the bare module": """
import _thread
done = _thread.allocate_lock(); done.acquire()
_thread.start_new_thread(lambda: (print("in", _thread.get_ident() != threading.main_thread().ident), done.release()), ())
done.acquire(); time.sleep(0.002); print("out")
""",
    "context": """
import contextvars
name = contextvars.ContextVar("name", default="none")
def work(k): name.set(k); time.sleep(0); print(name.get())
all_of(*(lambda k=k: contextvars.copy_context().run(work, k) for k in range(3))); print(name.get())
""",
}  # fmt: skip

#: Printing, beginning and ending.
ENDING: Final = {
    "first calls": "all_of(lambda: print(os.getpid()), lambda: os.stat('/'), lambda: time.sleep(0), lambda: os.urandom(1), lambda: None)",
    "an exception in a thread": "all_of(lambda: 1 / 0, lambda: print('fine'), lambda: [][1])\nprint('main ends')",
    "an excepthook of threads": """
threading.excepthook = lambda args: print("hook", args.exc_type.__name__, args.thread.name)
all_of(lambda: {}["x"]); 1 / 0
""",
    "sys.exit in a thread": "all_of(lambda: sys.exit(3))\nprint('on')\nsys.exit(4)",
    "os._exit in a thread": "each = Thread(target=lambda: (time.sleep(0.003), os._exit(5))); each.start()\nwhile True: time.sleep(0.001)",
    "a signal from a thread": """
import signal
signal.signal(signal.SIGUSR1, lambda *_: print("handled in", threading.current_thread() is threading.main_thread()))
all_of(lambda: os.kill(os.getpid(), signal.SIGUSR1)); time.sleep(0.002)
signal.setitimer(signal.ITIMER_REAL, 0.003); signal.signal(signal.SIGALRM, lambda *_: print("rang")); all_of(lambda: time.sleep(0.01))
""",
    "an alarm in a join": """
import signal
signal.signal(signal.SIGALRM, lambda *_: print("rang", time.monotonic()))
each = Thread(target=time.sleep, args=(0.02,)); each.start()
signal.setitimer(signal.ITIMER_REAL, 0.005); each.join(); time.sleep(0.01); print("done")
""",
    "a main thread that ends first": "Thread(target=lambda: (time.sleep(0.005), print('last', time.time()))).start()\nprint('first')",
    "a main thread that fails": "Thread(target=lambda: (time.sleep(0.003), print('still'))).start()\nraise ValueError(time.time())",
    "a daemon that sleeps": "Thread(target=lambda: (time.sleep(60), print('never')), daemon=True).start()\nprint('ends')",
    "a daemon that waits": "Thread(target=queue.Queue().get, daemon=True).start()\nThread(target=sys.stdin.read, daemon=True).start()\nprint('ends')",
    "a daemon that prints": """
def tick():
    while True: print("tick", end=" ", flush=True); time.sleep(0.001)
Thread(target=tick, daemon=True).start(); time.sleep(0.01); print("ends")
""",
    "a daemon that writes files": """
def note():
    for n in range(10**6): open("note.txt", "a").write(f"{n}\\n")
Thread(target=note, daemon=True).start(); time.sleep(0.02); print("ends")
""",
    "a daemon that computes": """
def count():
    n = 0
    while True: n += 1
Thread(target=count, daemon=True).start(); print("ends")
""",
    "at exit": """
import atexit
done = threading.Event(); each = Thread(target=lambda: (done.wait(), print("thread ends"))); each.start()
threading._register_atexit(done.set); atexit.register(print, "at exit"); print("main ends")
""",
    "much output": """
def work(k):
    for n in range(300): print(k, n, "x" * 200)
all_of(*(lambda k=k: work(k) for k in range(4)))
""",
    "cut output": """
def work(k):
    for n in range(3000): sys.stdout.write(f"{k} {n} {random.random()} " + "y" * 120); sys.stdout.flush()
all_of(*(lambda k=k: work(k) for k in range(3)))
""",
    "two streams": """
all_of(*(lambda s=s: [print(n, id(s), file=s, flush=True) for n in range(30)] for s in (sys.stdout, sys.stderr)))
""",
    "a prompt in a thread": "all_of(lambda: print('hello', input('name? ')), lambda: print('and', input('age? ')))",
    "a progress": """
done = 0
def show():
    while done < 20: print(f"\\r{done}/20", end="", file=sys.stderr, flush=True); time.sleep(0.001)
each = Thread(target=show); each.start()
for done in range(1, 21): sum(range(20_000)); time.sleep(0.0005)
each.join(); print("done")
""",
    "computing side by side": """
def primes(a, b): found.append((a, sum(all(n % d for d in range(2, int(n ** 0.5) + 1)) for n in range(a, b))))
found = []; all_of(*(lambda k=k: primes(2000 * k + 2, 2000 * k + 2000) for k in range(4))); print(found)
""",
    "garbage of threads": """
import gc, weakref
class Node: pass
def work():
    for _ in range(400): node = Node(); node.me = node
    gc.collect()
all_of(*[work] * 3); print(len([each for each in gc.get_objects() if isinstance(each, Node)]) < 900)
""",
    "deep threads": """
def down(n): return n and down(n - 1) + 1
threading.stack_size(1 << 20); all_of(lambda: print(down(200)), lambda: print(len(sys._current_frames()) > 1))
""",
    "too many": """
stop, made = threading.Event(), []
try:
    for _ in range(40): each = Thread(target=stop.wait); each.start(); made.append(each)
except RuntimeError as error: print(len(made), error)
stop.set()
for each in made: each.join()
""",
    "a switch interval": """
sys.setswitchinterval(1e-5); seen = []
def work(k):
    for n in range(2000): seen.append(k)
all_of(*(lambda k=k: work(k) for k in range(3))); print(sum(a != b for a, b in zip(seen, seen[1:])))
""",
}  # fmt: skip

PROGRAMS: Final = {name: _HEAD + code for name, code in (MEETING | POOLS | ENDING).items()}
