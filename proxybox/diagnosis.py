"""Finds out whether boxes can run here, and with which defences; `proxybox doctor` prints the result.

It does not guess: it starts a box, and reports the layers of this box.
"""

import functools
import os
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.finding import find_guest, find_guests
from proxybox.controller.guests.guest import Guest
from proxybox.controller.seal.layers import Layer as Layer
from proxybox.controller.seal.layers import read
from proxybox.controller.seal.outer import calls_that_end_a_process
from proxybox.modulepath import is_led_by_the_current_folder, relative_entries
from proxybox.sandbox import Sandbox

_T = TypeVar("_T")


@attrs.frozen(kw_only=True)
class Diagnosis:
    """Whether boxes can run here.

    guest: path and version of the interpreter, None when there is none. layers: the defences. problems: why no box can
    run. warnings: settings that let code of the current folder run outside of boxes, and what the interpreter lacks.
    """

    guest: str | None
    layers: tuple[Layer, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def diagnose(guest: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Looks for an interpreter, runs a box with it, and reports the defences that this box had.

    Raises no exception: each failure becomes one of the problems.
    """
    problems: list[str] = []
    warnings = _probe(problems, "the look at the environment", lambda: tuple(_warnings())) or ()
    found = _probe(problems, "the search for an interpreter", lambda: find_guest(guest))
    if found is None:
        return Diagnosis(guest=None, problems=tuple(problems), warnings=warnings)
    named = f"{found.executable} ({found.title}, Python {found.version[0]}.{found.version[1]})"
    found_layers, problem = _probe(problems, "the start of a box", lambda: _try(guest)) or ({}, "")
    if problem:
        problems.append(problem)
    if problems and not found_layers and (ended := _probe(problems, "the trial of calls", calls_that_end_a_process)):
        problems.append(
            f"a seccomp filter around this process ends a process at {', '.join(ended)}, instead of refusing the call"
        )
    layers = _probe(problems, "the list of layers", lambda: read(found_layers)) or ()
    return Diagnosis(guest=named, layers=layers, problems=tuple(problems), warnings=(*warnings, *found.warnings))


def _probe(problems: list[str], what: str, look: Callable[[], _T]) -> _T | None:
    """Returns what `look` returns; None if it fails: then the failure is added to `problems`."""
    try:
        return look()
    except SandboxStartError as error:
        problems.append(str(error))
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        problems.append(
            f"{what} has failed: {type(error).__name__}: {error} (in {place.name}, {os.path.basename(place.filename)} "
            f"line {place.lineno}). This is a fault of proxybox's own, or of this installation"
        )
    return None


@attrs.frozen(kw_only=True)
class FoundGuest:
    """An interpreter of this machine.

    path: where it was found. kind: "PyPy", "CPython" or "translated PyPy"; version: of the Python language; both are ""
    if it cannot be a guest. packages: host folders of its virtual environment's packages. sessions: whether it can have
    sessions, pools and copies. problem: why no program runs in it; "" if a program did. warnings: features that it
    lacks.
    """

    path: str
    kind: str = ""
    version: str = ""
    packages: tuple[str, ...] = ()
    sessions: bool = False
    problem: str = ""
    warnings: tuple[str, ...] = ()


def guests() -> Iterator[FoundGuest]:
    """Yields the interpreters that find_guest finds by name, each after a test program has run in a box with it."""
    for path, found in find_guests():
        yield _tried(path, found)


def tried(path: str) -> FoundGuest:
    """Returns the interpreter at a path, after a test program has run in a box with it."""
    try:
        return _tried(path, find_guest(path))
    except SandboxStartError as error:
        return _tried(path, error)


def _tried(path: str, found: Guest | SandboxStartError) -> FoundGuest:
    if isinstance(found, SandboxStartError):
        return FoundGuest(path=path, problem=str(found))
    version = f"{found.version[0]}.{found.version[1]}"
    problems: list[str] = []
    _, problem = _probe(problems, "the start of a box", functools.partial(_try, path)) or ({}, problems[0])
    return FoundGuest(
        path=path, kind=found.title, version=version, packages=found.packages,
        sessions=not found.lacks_bootstrap, problem=problem, warnings=found.warnings,
    )  # fmt: skip


def _try(guest: str | os.PathLike[str] | None) -> tuple[dict[str, str], str]:
    """Runs a program in a box; returns its layers, and why the program did not do what it should, or ""."""
    result = Sandbox(guest=guest, limits={"wall_time": 60, "cpu_time": 60}).run("print('ready')")
    if result.stdout == "ready\n":
        return dict(result.layers), ""
    why = f"a box started, but a program in it did not do what it should: {result.summary()}\n{result.stderr}"
    return dict(result.layers), why


def _warnings() -> Iterator[str]:
    if is_led_by_the_current_folder():
        yield (
            "this Python was started with -m, with -c or as a prompt: modules of the folder that it is started in go "
            "before Python's own, whoever may write there. Use the command proxybox, or python -P -m proxybox"
        )
    for variable, what in (("PYTHONPATH", "modules"), ("PATH", "programs")):
        if relative := relative_entries(variable):
            yield (
                f"{variable} has {_entries(relative)}: {what} are taken from the folder that a command is started in, "
                "whoever may write there. Write its entries as absolute paths, and no empty one"
            )


def _entries(relative: list[str]) -> str:
    named = ", ".join(repr(entry) for entry in relative if entry)
    return " and ".join([*(["an empty entry"] if "" in relative else []), *([f"the entry {named}"] if named else [])])
