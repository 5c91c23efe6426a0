"""Searching and replacing in a text. usage: regexes.py UNITS"""

import json
import re
import sys
import time

TEXT = "\n".join(
    f"{n}: user{n}@host{n % 7}.example wrote {n * 37 % 1000} words on 2026-{n % 12 + 1:02}-01" for n in range(2000)
)
ADDRESS, DATE, WORD = re.compile(r"[\w.]+@[\w.]+"), re.compile(r"(\d{4})-(\d\d)-(\d\d)"), re.compile(r"\b[a-z]+\b")


def unit():
    total = len(ADDRESS.findall(TEXT)) + len(DATE.sub(r"\3.\2.\1", TEXT))
    return total + sum(len(found.group()) for found in WORD.finditer(TEXT))


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
