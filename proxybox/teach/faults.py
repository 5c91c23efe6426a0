"""Describes an exception of a test for the test's author: the place, the exception, and the lines that led there.

Only the exercise's own frames are shown, with paths below its folder: so the text is the same on every machine.
"""

import linecache
import os
import traceback
from pathlib import Path
from types import TracebackType

from proxybox.terminal.harmless import harmless

#: How many of the innermost frames of the exercise are shown; characters of a line; characters of the exception's text,
#: which may contain what a submission returned.
_MOST_FRAMES, _MOST_OF_LINE, _MOST_RAISED = 10, 200, 2000


def fault_of(error: BaseException, root: Path) -> str:
    """Describes an exception that a test itself has raised.

    The first line has the innermost place in the exercise, and the exception. The lines that led to it follow, the
    innermost last. Frames that set __tracebackhide__ are left out, as in pytest. root: the folder that contains the
    exercise's folder.
    """
    frames = _frames(error.__traceback__, root)
    lines = traceback.format_exception_only(error)
    # the lines before show the place of a SyntaxError
    raised = "".join(lines[-1:] if isinstance(error, SyntaxError) else lines).strip()
    message = raised if len(raised) <= _MOST_RAISED else raised[:_MOST_RAISED] + "..."
    where = f"{frames[-1][0]}: " if frames else ""
    way = [f"  {place}: in {name}\n    {line}" for place, name, line in frames[-_MOST_FRAMES:]]
    return harmless("\n".join([f"{where}{message}", *(["  ..."] if len(frames) > _MOST_FRAMES else []), *way]))


def summary_of(fault: str) -> str:
    """The first line of a fault."""
    return fault.partition("\n")[0]


def _frames(found: TracebackType | None, root: Path) -> list[tuple[str, str, str]]:
    """The place, function and line of each frame."""
    frames = []
    root = Path(os.path.realpath(root))
    while found is not None:
        frame = found.tb_frame
        path = Path(os.path.realpath(frame.f_code.co_filename))
        is_hidden = frame.f_locals.get("__tracebackhide__", frame.f_globals.get("__tracebackhide__", False))
        if path.is_relative_to(root) and not is_hidden:
            # The path below the exercise's folder: the folder itself has another name each time.
            parts = path.relative_to(root).parts
            line = linecache.getline(str(path), found.tb_lineno).strip()[:_MOST_OF_LINE]
            frames.append((f"{'/'.join(parts[1:] or parts)}:{found.tb_lineno}", frame.f_code.co_name, line))
        found = found.tb_next
    return frames
