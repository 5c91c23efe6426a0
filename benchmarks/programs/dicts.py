"""Counting, grouping and joining: dicts keyed by text, numbers and tuples. usage: dicts.py UNITS"""

import itertools
import json
import sys
import time

SIZE = 40_000


def numbers():
    state = 12345
    while True:
        state = (state * 1_103_515_245 + 12_345) & 0x7FFFFFFF
        yield state >> 8


def unit():
    counts, groups, pairs = {}, {}, {}
    for number in itertools.islice(numbers(), SIZE):
        word = f"w{number % 5003}"
        counts[word] = counts.get(word, 0) + 1
        groups.setdefault(number % 211, []).append(word)
        pairs[number % 97, number % 89] = number
    for key in list(pairs):
        if sum(key) % 3 == 0:
            del pairs[key]
    index = {word: key for key, words in groups.items() for word in words}
    return sum(counts[word] * key for word, key in index.items()) + len(pairs)


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
