"""Documents to JSON and back. usage: jsons.py UNITS"""

import json
import sys
import time

RECORDS = [
    {"id": n, "name": f"record {n}", "tags": ["a", "b", str(n)], "ratio": n / 7, "on": n % 2 == 0, "next": None}
    for n in range(200)
]


def unit():
    total = 0
    for _ in range(10):
        text = json.dumps(RECORDS)
        total += len(text) + len(json.loads(text))
    return total


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
