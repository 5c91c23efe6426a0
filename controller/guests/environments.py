"""Folders of packages on the host: virtual environments (PEP 405), and what is installed beside an interpreter."""

import os
from typing import TYPE_CHECKING

from proxybox.controller.errors import SandboxStartError

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest

CONFIGURATION = "pyvenv.cfg"


def is_environment(folder: str) -> bool:
    """Whether a folder is a virtual environment."""
    return os.path.isfile(os.path.join(folder, CONFIGURATION))


def settings(environment: str) -> dict[str, str]:
    """Returns what pyvenv.cfg says, by lower-case keys. Raises SandboxStartError when it cannot be read."""
    path = os.path.join(environment, CONFIGURATION)
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            pairs = [line.partition("=") for line in file]
    except OSError as error:
        raise SandboxStartError(f"{path}: cannot be read ({error.strerror})") from error
    return {key.strip().lower(): value.strip() for key, separator, value in pairs if separator}


def folders_of(guest: "Guest", folder: str) -> tuple[str, ...]:
    """Returns the folders of packages that `folder` stands for: itself, or those of a virtual environment.

    Raises SandboxStartError for a virtual environment that has none for this interpreter.
    """
    if not is_environment(folder):
        return (folder,)
    inside = guest.site_packages(folder)
    if not os.path.isdir(inside):
        known = sorted(name for name in _names(os.path.join(folder, "lib")) if "python" in name or "pypy" in name)
        theirs = f"its packages are for {' and '.join(known)}" if known else "it is broken, or not made yet"
        raise SandboxStartError(
            f"{folder}: a virtual environment without packages for {guest.name} (lib/{guest.name}/site-packages): "
            f"{theirs}. Make one with this interpreter, or name another with --guest"
        )
    if settings(folder).get("include-system-site-packages", "").lower() != "true":
        return (inside,)
    return (inside, *(each for each in guest.installed_folders() if os.path.isdir(each)))


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
