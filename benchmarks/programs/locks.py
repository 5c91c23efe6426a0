"""A lock without contention: PyPy reads the clock at each acquire. usage: locks.py UNITS"""

import json
import sys
import threading
import time

SIZE = 100_000


def unit():
    lock, count = threading.Lock(), 0
    for _ in range(SIZE):
        with lock:
            count += 1
    return count


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
