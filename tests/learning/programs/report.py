"""Reads all texts of a folder, and writes a report into another one."""

import os
import sys
from pathlib import Path

texts = sorted(Path(sys.argv[1], "texts").glob("*.txt"))
words = sum(len(text.read_text().split()) for text in texts)
out = Path(sys.argv[1], "out")
(out / "report.txt").write_text(f"{len(texts)} texts, {words} words\n")
os.replace(out / "report.txt", out / "final.txt")
print((out / "final.txt").read_text(), end="")
assert words == 5
