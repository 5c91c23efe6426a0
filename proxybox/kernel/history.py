"""The code that was typed, for as long as the kernel lives; it is never written to a disk."""

import fnmatch
from collections import deque
from typing import Any

import attrs

#: The most cells that are remembered.
_MOST = 10_000
#: The number of this kernel's session. A request can also use 0 for it. Earlier sessions are not known.
_SESSION = 1


@attrs.define
class _Cell:
    line: int
    code: str
    output: str | None = None


class History:
    """The cells of a kernel, the oldest first."""

    def __init__(self) -> None:
        self._cells: deque[_Cell] = deque(maxlen=_MOST)

    def add(self, line: int, code: str) -> None:
        """Adds a cell that is about to run. line: its execution count."""
        self._cells.append(_Cell(line, code))

    def add_output(self, text: str) -> None:
        """Adds the value of the last cell."""
        if self._cells:
            self._cells[-1].output = text

    def find(self, kind: str, output: bool, **wanted: Any) -> list[tuple[Any, ...]]:
        """Returns the cells that a history_request selects, in the form of its reply. kind: hist_access_type."""
        number = wanted.get("n")
        if kind == "range":
            found = self._range(wanted.get("session") or 0, wanted.get("start") or 0, wanted.get("stop"))
        elif kind == "search":
            found = self._search(wanted.get("pattern") or "*", bool(wanted.get("unique")))
        else:
            found = list(self._cells)
        if kind != "range" and number is not None:
            found = found[-number:] if number > 0 else []
        return [(_SESSION, cell.line, (cell.code, cell.output) if output else cell.code) for cell in found]

    def _range(self, session: int, start: int, stop: int | None) -> list[_Cell]:
        if session not in (0, _SESSION):
            return []
        return [cell for cell in self._cells if start <= cell.line and (stop is None or cell.line < stop)]

    def _search(self, pattern: str, unique: bool) -> list[_Cell]:
        found = [cell for cell in self._cells if fnmatch.fnmatchcase(cell.code, pattern)]
        if unique:  # of equal cells, only the latest one
            found = list({cell.code: cell for cell in found}.values())
        return found
