"""Virtual environments (PEP 405) on the host, whose packages a guest can have."""

import os
from collections.abc import Iterable

from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.programs import CONFIGURATION


def settings(environment: str) -> dict[str, str]:
    """Returns what pyvenv.cfg says, by lower-case keys. Raises SandboxStartError when it cannot be read."""
    path = os.path.join(environment, CONFIGURATION)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            pairs = [line.partition("=") for line in file]
    except OSError as error:
        raise SandboxStartError(f"{path}: cannot be read ({error.strerror})") from error
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def folders_of(environment: str, name: str, inside: str, installed: Iterable[str]) -> tuple[str, ...]:
    """Returns the folders with packages of a virtual environment.

    name: of the interpreter that uses them. inside: their folder for that interpreter. installed: the folders of
    packages that are installed beside the interpreter; the environment may include them.

    Raises SandboxStartError for an environment that has none for this interpreter.
    """
    if not os.path.isdir(inside):
        known = sorted(each for each in _names(os.path.join(environment, "lib")) if "python" in each or "pypy" in each)
        theirs = f"its packages are for {' and '.join(known)}" if known else "it is broken, or not made yet"
        raise SandboxStartError(
            f"{environment}: a virtual environment without packages for {name} (lib/{name}/site-packages): {theirs}. "
            "Make one with this interpreter, or name another with --guest"
        )
    if settings(environment).get("include-system-site-packages", "").lower() != "true":
        return (inside,)
    return (inside, *filter(os.path.isdir, installed))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
