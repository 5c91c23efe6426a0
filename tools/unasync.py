#!/usr/bin/env python3
"""Writes the twins, for threads, of modules for event loops: the same text without `await` and related syntax.

usage: tools/unasync.py    (`make twins`; a test fails if a twin differs from its source)

A paragraph of a docstring that begins with "In an event loop:" is removed, too.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
#: The source of each twin, and the twin.
TWINS = {"proxybox/remote/aclient.py": "proxybox/remote/client.py"}
#: Patterns and their replacements, applied one after the other.
RULES = (
    (r"\basync (?=def|for|with)|\bawait ", ""),
    (r"\b__a(?=enter__|exit__)", "__"),
    (r"\ba(?=close\(|closing\(|iter_lines\(|read\()", ""),
    (r"\ban `Async", "a `"),
    (r"\bAsync(?=[A-Z])", ""),
    (r"\nimport anyio\n", ""),
    (r"\nimport inspect\n", "\nimport time\n"),
    (r"\banyio\.sleep\b", "time.sleep"),
    (r"\banyio\.CancelScope\(shield=True\), ", ""),
    (r" *if inspect\.isawaitable\((\w+)\):\n *\1 = \1\n", ""),
    (r"\n\n *In an event loop:[^\"]*?(?=\n\n|(\n *)?\"\"\")", ""),
    (r"\btask(?=s?\b)", "thread"),
)


def twin_of(source: str) -> str:
    """Returns the text of a twin. source: the path of its source, relative to the root."""
    text = (ROOT / source).read_text(encoding="utf-8")
    head = f'"""What {Path(source).name} is, for threads, and is made of: change that file, and then `make twins`."""'
    text = re.sub(r'\A"""[^"]*"""', head, text)
    for pattern, instead in RULES:
        text = re.sub(pattern, instead, text)
    for command in (["check", "--fix-only", "--unsafe-fixes", "--select=I,UP028"], ["format"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--quiet", f"--stdin-filename={TWINS[source]}", "-"]
        text = subprocess.run(ruff, input=text, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
    return text


if __name__ == "__main__":
    for source, twin in TWINS.items():
        (ROOT / twin).write_text(twin_of(source), encoding="utf-8")
