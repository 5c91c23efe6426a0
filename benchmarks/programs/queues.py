"""Two threads that send each other a number over queues, with timeouts. usage: queues.py UNITS"""

import json
import queue
import sys
import threading
import time

SIZE = 300


def echo(there, back):
    while (number := there.get(timeout=60)) is not None:
        back.put(number)


def unit():
    there, back = queue.Queue(), queue.Queue()
    thread = threading.Thread(target=echo, args=(there, back))
    thread.start()
    total = 0
    for number in range(SIZE):
        there.put(number)
        total += back.get(timeout=60)
    there.put(None)
    thread.join()
    return total


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
