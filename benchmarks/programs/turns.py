"""Turns of an event loop in which one task is always ready. usage: turns.py UNITS"""

import asyncio
import json
import sys
import time

SIZE = 10_000


async def unit():
    for _ in range(SIZE):
        await asyncio.sleep(0)
    return SIZE


async def main(units):
    for _ in range(units):
        result = await unit()
    return result


began, cpu = time.perf_counter(), time.process_time()
result = asyncio.run(main(int(sys.argv[1])))
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
