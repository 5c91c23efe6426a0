"""Threads: locks, conditions, queues, events with timeouts, thread-local data, pools."""

import concurrent.futures
import queue
import sys
import threading
import time

lock = threading.Lock()
total = 0


def add():
    global total
    for _ in range(1000):
        with lock:
            total += 1


threads = [threading.Thread(target=add, name=f"adder-{n}") for n in range(8)]
for thread in threads:
    thread.start()
print(all(thread.ident for thread in threads))
for thread in threads:
    thread.join()
print(total, threading.active_count(), threading.current_thread() is threading.main_thread())

items = queue.Queue(maxsize=4)
taken = []


def consume():
    while (item := items.get()) is not None:
        taken.append(item)
        items.task_done()


consumers = [threading.Thread(target=consume) for _ in range(3)]
for thread in consumers:
    thread.start()
for n in range(100):
    items.put(n)
items.join()
for _ in consumers:
    items.put(None)
for thread in consumers:
    thread.join()
print(sorted(taken) == list(range(100)), items.empty())
started = time.monotonic()
try:
    items.get(timeout=0.03)
except queue.Empty:
    print("empty", 0.03 <= time.monotonic() - started < 20)
print("lock", lock.acquire(), lock.acquire(timeout=0.01), lock.acquire(blocking=False), lock.release())

event = threading.Event()
print("event", event.wait(0.01), threading.Timer(0.01, event.set).start(), event.wait(20))
condition = threading.Condition()
ready = []


def wait():
    with condition:
        ready.append(condition.wait_for(lambda: len(ready) > 10, timeout=0.01))
        ready.append(condition.wait(20))


thread = threading.Thread(target=wait)
thread.start()
while thread.is_alive():
    with condition:
        if ready:
            condition.notify_all()
    thread.join(0.005)
print("condition", ready)

barrier, semaphore, order = threading.Barrier(4), threading.BoundedSemaphore(2), []


def meet():
    with semaphore:
        pass
    order.append(barrier.wait())


threads = [threading.Thread(target=meet) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print("barrier", sorted(order))
try:
    semaphore.release()
except ValueError:
    print("bounded")

local = threading.local()
local.value = "main"


def look():
    local.value = getattr(local, "value", "none")
    return local.value


with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print("local", pool.submit(look).result(), local.value)
    print(list(pool.map(lambda n: n**2, range(10))))
    future = pool.submit(lambda: 1 / 0)
    print(type(future.exception()).__name__)
    futures = [pool.submit(time.sleep, 0.001) for _ in range(20)]
    print(len(concurrent.futures.wait(futures).done))


def hook(args):
    print("uncaught", args.exc_type.__name__)


threading.excepthook = hook
thread = threading.Thread(target=lambda: {}["missing"])
thread.start()
thread.join()
threading.stack_size(1 << 20)
thread = threading.Thread(target=print, args=("small stack",))
thread.start()
thread.join()
again = [threading.Thread(target=lambda: None) for _ in range(100)]
for thread in again:
    thread.start()
    thread.join()
print("a hundred, one after another", sys.getswitchinterval() > 0)
threading.Thread(target=lambda: (threading.main_thread().join(20), print("after main"))).start()
