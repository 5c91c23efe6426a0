"""The most prefix reversals that any permutation needs: integers in short lists. usage: fannkuch.py UNITS"""

import json
import sys
import time


def most_flips(size):
    order, counts = list(range(size)), [0] * size
    most = 0
    while True:
        if order[0]:
            row, flips = order[:], 0
            while first := row[0]:
                row[: first + 1] = row[first::-1]
                flips += 1
            if flips > most:
                most = flips
        for index in range(1, size):
            moved = order.pop(0)
            order.insert(index, moved)
            counts[index] += 1
            if counts[index] <= index:
                break
            counts[index] = 0
        else:
            return most


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = most_flips(8)
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
