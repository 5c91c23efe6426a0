"""Whether boxes can run here, and with which defences: what `proxybox doctor` prints.

It does not guess: it starts a box, and reports the layers of this box.
"""

import os
from collections.abc import Iterator

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.seal.layers import Layer as Layer
from proxybox.controller.seal.layers import read
from proxybox.modulepath import is_led_by_the_current_folder, relative_entries
from proxybox.sandbox import Sandbox


@attrs.frozen(kw_only=True)
class Diagnosis:
    """Whether boxes can run here.

    guest: path and version of the interpreter, None when there is none. layers: the defences. problems: why no box can
    run. warnings: settings that let code of the current folder run outside of boxes.
    """

    guest: str | None
    layers: tuple[Layer, ...] = ()
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def diagnose(guest: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Looks for an interpreter, runs a box with it, and reports the defences that this box had.

    Raises no exception for anything that a host or an interpreter can cause.
    """
    try:
        found = find_guest(guest)
    except SandboxStartError as error:
        return Diagnosis(guest=None, problems=(str(error),), warnings=tuple(_warnings()))
    named = f"{found.executable} (PyPy, Python {found.version[0]}.{found.version[1]})"
    problems: list[str] = []
    told: dict[str, str] = {}
    try:
        result = Sandbox(guest=guest, limits={"wall_time": 30}).run("print('ready')")
        told = dict(result.layers)
        if result.stdout != "ready\n":
            problems.append(
                f"a box started, but a program in it did not do what it should: {result.summary()}\n{result.stderr}"
            )
    except SandboxStartError as error:
        problems.append(str(error))
    return Diagnosis(guest=named, layers=read(told), problems=tuple(problems), warnings=tuple(_warnings()))


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
