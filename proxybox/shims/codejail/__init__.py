"""A replacement of Open edX's `codejail.safe_exec`: the same names, but the code runs in a box.

    from proxybox.shims import codejail

    codejail.configure(guest="cpython", packages=["requirements.txt"])
    codejail.install()                       # later imports of codejail.safe_exec get this module

    variables = {"x": 16}
    codejail.safe_exec("x = x + 1", variables)

The box is made at the first call, by the process that makes it: in a server that forks workers, in each of them.

Rule: the variables that a run leaves are untrusted data. They are read as JSON, within bounds, and not used otherwise.
"""

import functools
import json
import os
import stat
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files as resources
from typing import Any, Final

import attrs

from proxybox import Policy, Result, Sandbox, Status
from proxybox.policies import as_policy, evolve
from proxybox.shims.codejail.jailed import json_safe as json_safe

#: The program that runs the code, as tracebacks show it; the names are those of jailed.py.
_JAILED_CODE: Final = b"# codejail's part of this program is in /box/main.py.\nexec(code, g_dict)\n"
#: The files below /box from which the program reads its task, and to which it writes the variables.
_GIVEN: Final = "given.json"
LEFT: Final = "left.json"
MAIN: Final = "main.py"
#: The most bytes of the variables that are read, and of files that are copied into one box.
MOST_LEFT: Final = 16 << 20
_MOST_COPIED: Final = 64 << 20
_MOST_FILES: Final = 10_000
#: The message if the code has written something else than variables.
CORRUPTED: Final = "Sandboxed code produced corrupted stdout."


class SafeExecException(Exception):
    """The code has failed. The text has what it printed to standard error, and its exit status."""


# --- a run, for this module and for the service's door ----------------------------------------------------------------


@functools.cache
def _main() -> bytes:
    return (resources("proxybox.shims.codejail") / "jailed.py").read_bytes()


def jail(
    code: str,
    variables: Mapping[str, Any],
    files: Mapping[str, bytes],
    path: Sequence[str] = (),
    most: int | None = None,
) -> dict[str, bytes]:
    """Returns the files of a program (`MAIN` is its entry) that runs code as codejail does, and writes `LEFT`.

    files: names in the code's folder, with their content. path: those from which modules are imported. most: bytes that
    one file may have.
    """
    beside = {f"jail/{name}": content for name, content in files.items() if name != "jailed_code"}
    given = json.dumps([code, variables, list(path), most]).encode()
    return {**beside, "jail/jailed_code": _JAILED_CODE, _GIVEN: given, MAIN: _main()}


def failure(status: str, exit_code: int | None, signal: int | None, stdout: bytes, stderr: bytes) -> str | None:
    """Returns codejail's message for a program that has failed; None for one that has ended with status 0."""
    if status == Status.OK:
        return None
    number = exit_code if exit_code is not None else -(signal or 9)  # the controller kills what it ends
    return f"Couldn't execute jailed code: stdout: {stdout!r}, stderr: {stderr!r} with status code: {number}"


def variables_of(left: bytes) -> dict[str, Any] | None:
    """Returns the variables in `LEFT`; None if untrusted code has written something else there."""
    if len(left) > MOST_LEFT:
        return None
    try:
        found = json.loads(left)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


# --- codejail's own names ---------------------------------------------------------------------------------------------


@attrs.define
class _Jail:
    """The boxes of this process, by the context that overrides limits; `None` for all other contexts."""

    policy: Policy
    overrides: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    boxes: dict[str | None, Sandbox] = attrs.field(factory=dict)
    making: threading.Lock = attrs.field(factory=threading.Lock)

    def box(self, context: str | None) -> Sandbox:
        context = context if context in self.overrides else None
        with self.making:
            if context not in self.boxes:
                limits = {} if context is None else {"limits": self.overrides[context]}
                self.boxes[context] = Sandbox(evolve(self.policy, **limits), **self.options)
            return self.boxes[context]

    def close(self) -> None:
        with self.making:
            for box in self.boxes.values():
                box.close()
            self.boxes.clear()


_jail = _Jail(as_policy("codejail"), {}, {})


def configure(
    policy: Policy | str | os.PathLike[str] = "codejail",
    *,
    guest: str | os.PathLike[str] | None = None,
    packages: Sequence[str | os.PathLike[str]] = (),
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Sets the policy of the boxes, and their interpreter and packages as for `Sandbox`.

    overrides: limits in place of the policy's, by their `limit_overrides_context`. Code that runs with the former
    settings is ended. Raises PolicyError.
    """
    global _jail
    made = _Jail(as_policy(policy), dict(overrides or {}), {"guest": guest, "packages": tuple(packages)})
    for limits in made.overrides.values():
        evolve(made.policy, limits=limits)
    before, _jail = _jail, made
    before.close()


def install() -> None:
    """Makes later imports of `codejail.safe_exec` return this module."""
    here = sys.modules[__name__]
    sys.modules["codejail.safe_exec"] = here
    if (package := sys.modules.get("codejail")) is not None:
        package.safe_exec = here  # type: ignore[attr-defined]


def safe_exec(
    code: str,
    globals_dict: dict[str, Any],
    files: Iterable[str] | None = None,
    python_path: Iterable[str] | None = None,
    limit_overrides_context: str | None = None,
    slug: str | None = None,
    extra_files: Iterable[tuple[str, bytes]] | None = None,
) -> None:
    """Runs code in a box with `globals_dict` as its variables, and updates that with those that JSON can represent.

    files: host paths of files and folders that are copied into the code's folder; symbolic links in folders are
    ignored. python_path: names of archives and folders from which modules are imported; those that are not in
    `extra_files` are copied. limit_overrides_context: one of the `overrides` of `configure`; any other has no effect.
    slug: is ignored. extra_files: names, without folders, and contents of further files.

    Raises SafeExecException when the code fails, and leaves `globals_dict` as it was; ValueError for files that cannot
    be copied.
    """
    extra = {_name(name): content for name, content in extra_files or ()}
    path = [os.path.normpath(each) for each in python_path or ()]
    names = [os.path.basename(each) for each in path]
    sources = [*(files or ()), *(each for each, name in zip(path, names, strict=True) if name not in extra)]
    box = _jail.box(limit_overrides_context)
    content = jail(code, json_safe(globals_dict), {**_copies(sources), **extra}, names, box.policy.limits.disk)
    result = box.run(content.pop(MAIN).decode(), files=content)
    globals_dict.update(_left(result))


def not_safe_exec(*_: Any, **__: Any) -> None:
    """Raises SafeExecException: in codejail, this function runs the code in this process."""
    raise SafeExecException("not_safe_exec is refused: code runs in a box, or not at all")


def _left(result: Result) -> dict[str, Any]:
    """Returns the variables that a run has left. Raises SafeExecException."""
    if result.status is Status.INTERNAL_ERROR:
        raise SafeExecException(f"Couldn't execute sandboxed code: {result.why}")
    message = failure(result.status, result.exit_code, result.signal, result.stdout_bytes, result.stderr_bytes)
    left = None if message else variables_of(result.files.get(LEFT, b""))
    if left is None:
        raise SafeExecException(message or CORRUPTED)
    return left


def _name(name: str) -> str:
    """Returns a name of a file without a folder. Raises ValueError."""
    if "/" in name or name in ("", ".", "..", "tmp"):
        raise ValueError(f"extra_files: want names without folders, and not 'tmp', got {name!r}")
    return name


def _copies(paths: Iterable[str]) -> dict[str, bytes]:
    """Returns the content of host files and of the files in host folders, by their names in the code's folder."""
    found: dict[str, bytes] = {}
    room = _MOST_COPIED
    for path in paths:
        for name, place in _files_at(os.path.abspath(path)):
            with open(place, "rb") as file:
                found[name] = file.read(room + 1)
            room -= len(found[name])
            if room < 0 or len(found) > _MOST_FILES:
                raise ValueError(f"files: want at most {_MOST_FILES:,} files of {_MOST_COPIED >> 20} MiB together")
    return found


def _files_at(path: str) -> Iterable[tuple[str, str]]:
    """Yields names in the code's folder, with host paths, of a file or of the files of a folder. Raises ValueError."""
    mode, above = os.lstat(path).st_mode, os.path.dirname(path)
    if stat.S_ISREG(mode):
        yield os.path.basename(path), path
    elif stat.S_ISDIR(mode):
        for folder, _, names in os.walk(path):
            for place in (os.path.join(folder, name) for name in names):
                if stat.S_ISREG(os.lstat(place).st_mode):
                    yield os.path.relpath(place, above), place
    else:
        raise ValueError(f"files: want a file or a folder, got {path!r}")
