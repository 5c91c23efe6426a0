"""The lines of the controller's modules that a target's inputs run: `lines.py [--choose] TARGET FILE...`.

Without --choose it prints a table by module, and at the end two numbers: the lines run, and all lines. With it, it
prints at most CHOSEN of the files. Together these have as many steps from line to line, and answers of calls, as
possible.
"""

import heapq
import sys
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
import targets

import proxybox.controller

CHOSEN = 200
ROOT = str(Path(proxybox.controller.__file__).parent)


class Steps:
    """A trace function that collects steps: (code, from line, to line)."""

    def __init__(self) -> None:
        self.seen: set[tuple[CodeType, int, int]] = set()
        self._ours: dict[CodeType, bool] = {}

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        code = frame.f_code
        ours = self._ours.get(code)
        if ours is None:
            ours = self._ours[code] = code.co_filename.startswith(ROOT)
        if not ours:
            return None
        last = 0
        add = self.seen.add

        def local(frame: FrameType, event: str, arg: object) -> Any:
            nonlocal last
            if event == "line":
                add((code, last, frame.f_lineno))
                last = frame.f_lineno
            return local

        return local


def lines_of(code: CodeType) -> set[int]:
    """Returns the lines of all functions in a module, without those that run at its import."""
    found: set[int] = set()
    if code.co_flags & CO_OPTIMIZED:
        found = {line for _, _, line in code.co_lines() if line and line != code.co_firstlineno}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= lines_of(inner)
    return found


def run(name: str, data: bytes, steps: Steps) -> set[Any]:
    """Returns the steps of this input, and the answers of its calls."""
    steps.seen = set()
    sys.settrace(steps)
    try:
        answers = set(targets.converse(data)) if name == "calls" else set()
        if name != "calls":
            targets.TARGETS[name](data)
    except AssertionError:
        answers = set()  # a finding: it is stored in findings/
    finally:
        sys.settrace(None)
    return steps.seen | {("answer", *answer) for answer in answers if answer[0] in targets.TABLE}


def choose(name: str, files: list[str]) -> None:
    """Prints the file with the most new steps, again and again. It looks only at files that may still have the most."""
    numbers: dict[Any, int] = {}
    steps = Steps()
    left: list[tuple[int, int, str, frozenset[int]]] = []
    for file in files:
        data = Path(file).read_bytes()
        seen = frozenset(numbers.setdefault(step, len(numbers)) for step in run(name, data, steps))
        left.append((-len(seen), len(data), file, seen))
    heapq.heapify(left)
    known: set[int] = set()
    for _ in range(CHOSEN):
        while left:
            _, size, file, seen = heapq.heappop(left)
            new = len(seen - known)
            if new and left and -new > left[0][0]:
                heapq.heappush(left, (-new, size, file, seen))
            elif new:
                known |= seen
                print(file)
                break


def main(name: str, files: list[str]) -> None:
    known, steps = set(), Steps()
    for file in files:
        known |= run(name, Path(file).read_bytes(), steps)
    ran: dict[str, set[int]] = {}
    for step in known:
        if isinstance(step[0], CodeType):
            ran.setdefault(step[0].co_filename, set()).add(step[2])
    covered = total = 0
    for path in sorted(ran):
        there = lines_of(compile(Path(path).read_text(), path, "exec"))
        total += len(there)
        print(f"{Path(path).relative_to(ROOT)!s:28} {len(ran[path] & there):4} of {len(there):4}")
        covered += len(ran[path] & there)
    print(covered, total)


if __name__ == "__main__":
    if sys.argv[1] == "--choose":
        choose(sys.argv[2], sys.argv[3:])
    else:
        main(sys.argv[1], sys.argv[2:])
