"""How a run has ended, as its student and the teacher see it: with a line number, and without the terms of a policy."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxybox.classroom.answers import EndedJson, RunErrorJson

#: Characters of an error's message, and of its traceback: its beginning and its end.
_MOST_MESSAGE, _MOST_TRACEBACK = 4_000, 20_000
#: The statuses of runs that ended by themselves or were stopped. Others mean a limit, or a fault of the classroom.
_OF_PROGRAMS: Final = frozenset({"ok", "error", "syntax_error", "cancelled"})
#: The statuses of runs that were interrupted at a limit: their error is the interrupt, not one of the program.
_INTERRUPTED: Final = frozenset({"time_limit", "call_limit"})
#: The frame of a traceback: a file and a line.
_FRAME: Final = re.compile(r'^ *File "(?P<file>[^"\n]{1,200})", line (?P<line>\d{1,7})', re.MULTILINE)
#: The suggestion that Python adds to a message in a traceback.
_MEANT: Final = re.compile(r"\. Did you (?:mean|forget to import)[^\n]{1,200}\?(?=\n|\Z)")
_LOOP: Final = re.compile(r"(?:async\s+for|for|while)\b[^\n]*:")
_BLOCK: Final = re.compile(r"(?:async\s+def|def|class)\b")


def ended(result: Mapping[str, Any], main: str, code: str) -> EndedJson:
    """Returns the end of a run for pages. code: the text of its main file. main: the name of that file."""
    status, error = result["status"], result["error"]
    lines = [] if error is None else list(_lines(error["traceback"], main))
    end = plain_end(status)
    end["hint"], end["truncated"] = result.get("hint") or "", bool(result["truncated"])
    if lines:
        end["line"] = lines[-1]
    if error is not None:
        end["error"] = _shortened(error, end["line"])
    if status in _INTERRUPTED:
        end["loop"] = next(filter(None, (loop_of(code, line) for line in reversed(lines))), None)
    return end


def plain_end(status: str, why: str = "") -> EndedJson:
    """Returns an end with a status and a reason only."""
    return {"status": status, "why": why, "hint": "", "truncated": False, "line": None, "loop": None, "error": None}


def in_a_line(end: EndedJson) -> str:
    """Returns the error of a run in one line, for the teacher; empty if there is none."""
    line = end.get("loop") or end.get("line")
    where = f" (line {line})" if line else ""
    if end["status"] not in _OF_PROGRAMS:
        return f"{end['status'].replace('_', ' ')}{where}"
    if (error := end.get("error")) is not None:
        return f"{error['type']}: {error['message']}".splitlines()[0][:300] + where
    return ""


def loop_of(code: str, line: int) -> int | None:
    """Returns the line of the innermost loop that contains a line, by indentation; None if there is none."""
    depth = None
    for number, text in reversed(list(enumerate(code.split("\n")[:line], 1))):
        words = text.strip()
        here = len(text) - len(text.lstrip())
        if not words or words.startswith("#") or (depth is not None and here >= depth):
            continue
        if _LOOP.match(words):
            return number
        if depth is not None and _BLOCK.match(words):
            return None
        depth = here
    return None


def _lines(traceback: str, main: str) -> Iterator[int]:
    """Yields the lines of the main file in a traceback, the innermost last."""
    for frame in _FRAME.finditer(traceback):
        if frame["file"] in (main, f"/box/{main}"):
            yield int(frame["line"])


def _shortened(error: Mapping[str, Any], line: int | None) -> RunErrorJson:
    """An error for pages, cut to a bounded length, with Python's suggestion ("Did you mean")."""
    traceback, half = error["traceback"], _MOST_TRACEBACK // 2
    message = error["message"][:_MOST_MESSAGE]
    if message and (at := traceback.rfind(message)) >= 0 and (meant := _MEANT.match(traceback, at + len(message))):
        message += meant.group()
    if len(traceback) > _MOST_TRACEBACK:
        traceback = f"{traceback[:half]}\n...\n{traceback[-half:]}"
    return {"type": error["type"][:200], "message": message, "traceback": traceback, "line": line}
