"""In place of Open edX's `codejail.safe_exec`: the same names, and the code runs in a box.

    from proxybox.shims import codejail

    codejail.configure(guest="cpython", packages=["requirements.txt"])
    codejail.install()                       # what imports codejail.safe_exec from now on gets this module

    variables = {"x": 16}
    codejail.safe_exec("x = x + 1", variables)

The box is made at the first call, by the process that makes it: in a server that forks workers, in each of them.

Rule: what a run leaves is a claim of untrusted code. It is read as JSON, in bounds, and nothing else is done with it.
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

from proxybox.policies import Policy, as_policy, evolve
from proxybox.result import Result, Status
from proxybox.sandbox import Sandbox
from proxybox.shims.jailed import json_safe as json_safe

#: What runs the code, as tracebacks show it; the names are those of jailed.py.
_JAILED_CODE: Final = b"# codejail's part of this program is in /box/main.py.\nexec(code, g_dict)\n"
#: Where the program is given what to do, and where it leaves the variables, below /box.
_GIVEN: Final = "given.json"
LEFT: Final = "left.json"
MAIN: Final = "main.py"
#: Bytes of the variables that are read, and of files that are copied into one box.
MOST_LEFT: Final = 16 << 20
_MOST_COPIED: Final = 64 << 20
_MOST_FILES: Final = 10_000
#: What is said when the code has written something else than variables.
CORRUPTED: Final = "Sandboxed code produced corrupted stdout."


class SafeExecException(Exception):
    """The code has failed. The text has what it printed to standard error, and its exit status."""


# --- a run, for this module and for the service's door ----------------------------------------------------------------


@functools.cache
def _main() -> bytes:
    return (resources("proxybox.shims") / "jailed.py").read_bytes()


def jail(
    code: str,
    variables: Mapping[str, Any],
    files: Mapping[str, bytes],
    path: Sequence[str] = (),
    most: int | None = None,
) -> dict[str, bytes]:
    """Returns the files of a program (`MAIN` is its entry) that runs code as codejail does, and leaves `LEFT`.

    files: names in the code's folder, with their content. path: which of them modules are imported from. most: bytes
    that one file may have.
    """
    beside = {f"jail/{name}": content for name, content in files.items() if name != "jailed_code"}
    job = json.dumps([code, variables, list(path), most]).encode()
    return {**beside, "jail/jailed_code": _JAILED_CODE, _GIVEN: job, MAIN: _main()}


def failure(status: str, exit_code: int | None, signal: int | None, stdout: bytes, stderr: bytes) -> str | None:
    """Returns codejail's message for a program that has not ended with 0; None for one that has."""
    if status == Status.OK:
        return None
    number = exit_code if exit_code is not None else -(signal or 9)  # what the controller ends, it kills
    return f"Couldn't execute jailed code: stdout: {stdout!r}, stderr: {stderr!r} with status code: {number}"


def variables_of(left: bytes) -> dict[str, Any] | None:
    """Returns the variables in `LEFT`; None when it has something else, which untrusted code may have written."""
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
    """The boxes of this process, by the context that overrides limits. `None` is for all others."""

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
    """Sets what code runs in: a policy, and the interpreter and the packages as for `Sandbox`.

    overrides: limits in place of the policy's, by the `limit_overrides_context` they are for. Code that runs in boxes
    of the setting before is ended. Raises PolicyError.
    """
    global _jail
    made = _Jail(as_policy(policy), dict(overrides or {}), {"guest": guest, "packages": tuple(packages)})
    for limits in made.overrides.values():
        evolve(made.policy, limits=limits)
    before, _jail = _jail, made
    before.close()


def install() -> None:
    """Makes this module `codejail.safe_exec` for whatever imports that from now on."""
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
    """Runs code in a box with these variables, and puts those that it leaves in `globals_dict`, if JSON can carry them.

    files: host paths of files and folders that are copied into the code's folder; symbolic links in folders are left
    out. python_path: names of archives and folders that modules are imported from; what is not among `extra_files` is
    copied. limit_overrides_context: one of the `overrides` of `configure`; any other has no effect. slug: is taken, and
    has no effect. extra_files: names, without folders, and contents of further files.

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
    """Is refused: in codejail it runs the code in this process. Raises SafeExecException."""
    raise SafeExecException("not_safe_exec is refused: code runs in a box, or not at all")


def _left(result: Result) -> dict[str, Any]:
    """The variables that a run has left. Raises SafeExecException."""
    if result.status is Status.INTERNAL_ERROR:
        raise SafeExecException(f"Couldn't execute sandboxed code: {result.why}")
    message = failure(result.status, result.exit_code, result.signal, result.stdout_bytes, result.stderr_bytes)
    left = None if message else variables_of(result.files.get(LEFT, b""))
    if left is None:
        raise SafeExecException(message or CORRUPTED)
    return left


def _name(name: str) -> str:
    """A name of a file without a folder. Raises ValueError."""
    if "/" in name or name in ("", ".", "..", "tmp"):
        raise ValueError(f"extra_files: want names without folders, and not 'tmp', got {name!r}")
    return name


def _copies(paths: Iterable[str]) -> dict[str, bytes]:
    """The content of host files and of the files in host folders, by their names in the code's folder."""
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
    """Names in the code's folder, and host paths, of a file or of the files of a folder. Raises ValueError."""
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
