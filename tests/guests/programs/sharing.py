"""The parts of multiprocessing that work in one process: locks, semaphores, values, pipes, thread pools."""

import multiprocessing
import multiprocessing.dummy
import threading

multiprocessing.set_start_method("fork")  # otherwise a CPython 3.14 starts a process for the first lock
lock = multiprocessing.Lock()
with lock:
    print(lock.acquire(timeout=0.01), lock.acquire(block=False))
semaphore = multiprocessing.Semaphore(2)
print(semaphore.acquire(), semaphore.acquire(), semaphore.acquire(False), semaphore.get_value())
thread = threading.Timer(0.01, semaphore.release)
thread.start()
print(semaphore.acquire(timeout=20))
event = multiprocessing.Event()
threading.Thread(target=event.set).start()
print(event.wait(20))
value = multiprocessing.Value("i", 5)
with value.get_lock():
    value.value += 1
print(value.value, multiprocessing.Array("d", [1, 2])[:])

here, there = multiprocessing.Pipe()
here.send({"a": [1, 2]})
print(there.recv(), there.poll(0))
with multiprocessing.dummy.Pool(3) as pool:
    print(pool.map(lambda n: n * n, range(5)))
