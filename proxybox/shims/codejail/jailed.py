"""The program that runs code as Open edX's codejail does. It runs in a box; the trusted side only reads its text.

It reads its task from given.json, runs the code in the folder jail, and writes the variables to left.json. That file is
untrusted: the code shares the process with this program, and can write any data there.
"""

from __future__ import annotations  # the guest's Python may be 3.9

import contextlib
import json
import os
import sys
import types
from typing import Any, TextIO

#: Folders that the code may not use, as far as they are this user's own.
_HIDDEN = ("/etc", "/sys", "/tmp")  # noqa: S108 - of the box
#: compile's flag for a syntax tree. The module ast has this constant, too, but its import takes long.
_PyCF_ONLY_AST = 0x400
_NO_VALUE = object()


class _Nowhere:
    """Drops the text that the code prints: codejail shows it to nobody."""

    def write(self, text: str) -> int:
        """Drops a text."""
        return len(text)

    def flush(self) -> None:
        """Does nothing."""


def json_safe(variables: dict[Any, Any]) -> dict[str, Any]:
    """Returns the variables that JSON can represent, in their form after JSON; byte strings in UTF-8 become text."""
    safe = {}
    for name, value in variables.items():
        if name == "__builtins__" or not isinstance(value, (type(None), int, float, bytes, str, list, tuple, dict)):
            continue
        name, value = _carried(name), _carried(value)
        if name is not _NO_VALUE and value is not _NO_VALUE:
            safe[name] = value
    carried: dict[str, Any] = json.loads(json.dumps(safe))
    return carried


def _carried(value: Any) -> Any:
    try:
        return json.loads(json.dumps(_decoded(value)))
    except Exception:  # the code's own classes may raise any exception
        return _NO_VALUE


def _decoded(value: Any) -> Any:
    """Returns the value with its byte strings as text. Raises UnicodeDecodeError."""
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, (list, tuple)):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {_decoded(key): _decoded(item) for key, item in value.items()}
    return value


def _show(kind: type, error: BaseException, trace: types.TracebackType | None) -> None:
    """Prints a traceback without the frame of this file, which codejail does not have."""
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    error.__traceback__ = trace
    sys.__excepthook__(kind, error, trace)


def _prepare(path: list[str], most: int | None) -> None:
    """Prepares the process as codejail does. path: names from which modules are imported. most: bytes of a file."""
    os.chdir("jail")
    with contextlib.suppress(FileExistsError):
        os.mkdir("tmp")
    os.environ["TMPDIR"] = "tmp"
    sys.argv[:] = ["jailed_code"]
    sys.path[0] = os.getcwd()
    sys.path += path
    for folder, mode in (("..", 0o111), *((hidden, 0) for hidden in _HIDDEN)):
        with contextlib.suppress(OSError):
            os.chmod(folder, mode)
    if most is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))


def _compiled(text: str) -> types.CodeType:
    """Compiles codejail's one statement, without columns: CPython 3.13 would underline it in tracebacks."""
    tree: Any = compile(text, "jailed_code", "exec", _PyCF_ONLY_AST)
    (statement,) = tree.body
    call = statement.value
    for node in (statement, call, call.func, *call.args):
        node.col_offset = node.end_col_offset = -1
    return compile(tree, "jailed_code", "exec")


def _begin() -> tuple[TextIO, types.CodeType, dict[str, Any]]:
    """Prepares the run. Returns the file for the variables, the code object that runs the code, and its variables."""
    with open("given.json", encoding="ascii") as file:
        code, variables, path, most = json.load(file)
    left = open("left.json", "w", encoding="ascii")  # noqa: SIM115 - nothing can be opened there later
    _prepare(path, most)
    sys.excepthook = _show
    with open("jailed_code", encoding="utf-8") as file:
        jailed = _compiled(file.read())
    sys.stdout = _Nowhere()
    return left, jailed, {"__name__": "__main__", "code": code, "g_dict": variables}


if __name__ == "__main__":
    _left, _jailed, _names = _begin()
    exec(_jailed, _names)  # noqa: S102 - in a box
    json.dump(json_safe(_names["g_dict"]), _left)
    _left.close()
