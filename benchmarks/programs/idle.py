"""Interpreters that wait for a line: MB of proportional set size of each. usage: idle.py COUNT INTERPRETER"""

import json
import subprocess
import sys
from pathlib import Path

PROGRAM = "print('ready', flush=True); input()"

count, interpreter = int(sys.argv[1]), sys.argv[2]
waiting = [
    subprocess.Popen([interpreter, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(count)
]
sizes = []
for process in waiting:
    process.stdout.readline()
for process in waiting:
    text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    sizes.append(next(int(line.split()[1]) * 1024 / 1e6 for line in text.splitlines() if line.startswith("Pss:")))
for process in waiting:
    process.communicate(b"\n")
print(json.dumps({"each": sum(sizes) / count}))
