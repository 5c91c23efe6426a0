"""Notebooks as submissions: the code cells of a Jupyter notebook as one Python source.

Nothing of a notebook is run or compiled here: it is JSON of bounded size, and its code is text. Lines that belong to
IPython and not to Python (%magics, !commands, questions such as name?) are left out, and the note lists them.
"""

import functools
import json
import re
from collections.abc import Iterator
from typing import Any

import attrs

SUFFIX = ".ipynb"
#: MOST_CODE: characters of code. MOST_PARTS: signs that begin or separate values of JSON; each may become an object of
#: 200 bytes.
MOST_CODE, MOST_PARTS = 1 << 20, 1_000_000
#: The most cells and the most left-out lines that the note names; characters of each line.
_MOST_NAMED, _MOST_OF_LINE = 20, 80
#: Cells that begin with one of these contain Python: %%time measures the lines below it.
_PYTHON_CELLS = ("%%time", "%%timeit", "%%capture", "%%prun")
_LANGUAGES = ("python", "python3", "ipython", "ipython3", "pypy", "proxybox")
#: A line that is no Python, with its continuation lines after a backslash.
_IPYTHON = re.compile(r"(?P<indent>[ \t]*+)(?P<words>(?:[%!?]|\w[\w.]*+\?{1,2}[ \t]*+(?=\n|\Z))(?:\\\n|[^\n])*+)")
#: Pieces of source, to find where a line begins a statement: not in a string, in brackets, or after a backslash.
_PIECE = re.compile(
    r"""
    (?P<text>
        "{3}(?:[^"\\]|\\.|"(?!""))*+(?:"{3})?
      | '{3}(?:[^'\\]|\\.|'(?!''))*+(?:'{3})?
      | "(?:[^"\\\n]|\\.)*+"?
      | '(?:[^'\\\n]|\\.)*+'?
    )
    | (?P<comment>\#[^\n]*+)
    | (?P<joined>\\\n)
    | (?P<line>\n)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | [^"'\#\\\n(\[{)\]}]++
    | \\
    """,
    re.VERBOSE | re.DOTALL,
)


class NotebookError(ValueError):
    """Data that is not a notebook, or a notebook that cannot be graded; the text says why."""


@attrs.frozen
class Notebook:
    """A notebook's code.

    code: of all code cells, one after another. note: information for the reader of the grade.
    """

    code: str
    note: str


@functools.lru_cache(maxsize=2)
def read_notebook(data: bytes) -> Notebook:
    """Parses a notebook. Raises NotebookError if it cannot be graded."""
    parts: list[str] = []
    begins: list[int] = []
    left_out: list[str] = []
    line = size = 0
    is_empty = True
    for number, source in enumerate(_code_cells(_parsed(data)), 1):
        size += len(source)
        is_empty = is_empty and not source.strip()
        if size > MOST_CODE:
            raise NotebookError(f"more than {MOST_CODE >> 20} MiB of code")
        part = f"# Code cell {number}\n{_python(source, left_out)}\n"
        begins.append(line + 2)
        line += part.count("\n")
        parts.append(part)
    return Notebook("" if is_empty else "".join(parts), _note(begins, left_out))


def _parsed(data: bytes) -> Any:
    if sum(data.count(sign) for sign in (b"[", b"{", b",", b":")) > MOST_PARTS:
        raise NotebookError(f"more than {MOST_PARTS:,} parts")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except RecursionError:
        raise NotebookError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise NotebookError(f"no text in UTF-8 (byte {error.start})") from None
    except ValueError as error:  # also for an int of over 4,300 digits
        raise NotebookError(f"no JSON: {error}") from None


def _code_cells(parsed: Any) -> Iterator[str]:
    """The source of each code cell."""
    cells = parsed.get("cells") if isinstance(parsed, dict) else None
    if not isinstance(cells, list):
        raise NotebookError("no notebook of Jupyter's format 4, which has a list of cells")
    language = _language(parsed.get("metadata"))
    if language and language.lower() not in _LANGUAGES:
        raise NotebookError(f"a notebook in {language[:40]}, not in Python")
    for cell in cells:
        if not isinstance(cell, dict):
            raise NotebookError("a cell is no object")
        if cell.get("cell_type") == "code":
            source = cell.get("source", "")
            if isinstance(source, list) and all(isinstance(each, str) for each in source):
                source = "".join(source)
            if not isinstance(source, str):
                raise NotebookError("the source of a code cell is no text")
            yield source.replace("\r\n", "\n").replace("\r", "\n")


def _language(metadata: Any) -> str:
    """The language of a notebook by its metadata; empty if it names none."""
    for key, name in (("kernelspec", "language"), ("language_info", "name")):
        found = metadata.get(key) if isinstance(metadata, dict) else None
        if isinstance(found, dict) and isinstance(found.get(name), str):
            return str(found[name])
    return ""


def _python(source: str, left_out: list[str]) -> str:
    """A cell with the lines that belong to IPython made comments; it keeps its number of lines."""
    begin = len(source) - len(source.lstrip())
    first, rest, _ = source[begin:].partition("\n")
    if first.startswith("%%") and first.split()[0] not in _PYTHON_CELLS:
        left_out.append(f"{first} (the whole cell)")
        return "# " + source.replace("\n", "\n# ")
    if first.startswith("%%"):
        left_out.append(first)
        end = begin + len(first)
        return f"{source[:begin]}# {first}{_without_lines(source[end:], left_out) if rest else source[end:]}"
    return _without_lines(source, left_out)


def _without_lines(source: str, left_out: list[str]) -> str:
    out: list[str] = []
    at = depth = 0
    is_statement = True
    while at < len(source):
        found = _IPYTHON.match(source, at) if is_statement else None
        is_statement = False
        if found is not None:
            left_out.append(found["words"])
            words = found["words"].replace("\n", "\n# ")
            out.append(f"{found['indent']}pass  # {words}")
        else:
            found = _PIECE.match(source, at)
            if found is None:  # never happens: each character begins a piece
                break
            out.append(found[0])
            depth = max(0, depth + (found.lastgroup == "open") - (found.lastgroup == "close"))
            is_statement = found.lastgroup == "line" and not depth
        at = found.end()
    return "".join(out)


def _note(begins: list[int], left_out: list[str]) -> str:
    where = ", ".join(f"cell {number} from line {line}" for number, line in enumerate(begins[:_MOST_NAMED], 1))
    message = f"Of the notebook its code cells are graded, one behind another: {where or 'there are none'}"
    message += ", and so on." if len(begins) > _MOST_NAMED else "."
    if left_out:
        named = "\n".join(f"    {' '.join(each.split())[:_MOST_OF_LINE]}" for each in left_out[:_MOST_NAMED])
        more = f"\n    and {len(left_out) - _MOST_NAMED} more" if len(left_out) > _MOST_NAMED else ""
        message += f"\nThese lines are IPython's and no Python; they are not run:\n{named}{more}"
    return message
