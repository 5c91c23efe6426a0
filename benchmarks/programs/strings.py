"""Building, splitting, searching and formatting text. usage: strings.py UNITS"""

import json
import re
import sys
import time

TEXT = "the guest sees what the controller says and nothing else of the host it runs on ünïcode"
WORDS = TEXT.split(" ")


def unit():
    lines = []
    for number in range(4_000):
        line = " ".join(WORDS[(number * step) % len(WORDS)] for step in range(1, 12))
        lines.append(f"{number:06d}: {line.capitalize()}, {number / 7:.3f}")
    text = "\n".join(lines)
    found = sum(len(match[1]) for match in re.finditer(r"(\d+): \w+ (?:the|host)\b", text))
    swapped = text.replace("the", "The").upper().lower()
    reversed_words = sum(len(word[::-1].strip(".,")) for word in swapped.split())
    return found + reversed_words + len(text.encode().decode())


began, cpu = time.perf_counter(), time.process_time()
for _ in range(int(sys.argv[1])):
    result = unit()
seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
print(json.dumps({"seconds": seconds, "cpu": cpu, "check": result}))
