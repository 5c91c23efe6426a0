"""Finds the translated PyPy that `proxybox guests install` has installed, for `--guest translated`.

Root's guests run as another user, who may not enter root's home. So root installs it where everybody can run it.
"""

import os
from typing import Final

from proxybox.controller.guests.programs import TRANSLATED
from proxybox.controller.statefolder import is_ours, state_folder

#: The folder in which root installs it.
ROOTS_FOLDER: Final = "/var/lib/proxybox/guests"
#: The program, as upstream's makefile names it for each version of the language.
PROGRAMS: Final = ("pypy3-c", "pypy-c")
HOW: Final = "proxybox guests install translated (docs/guests.md)"


def install_folder() -> str | None:
    """Returns the folder in which this user installs guests. It may not exist. None for a user without a home."""
    return ROOTS_FOLDER if os.geteuid() == 0 else state_folder("guests")


def installed() -> str | None:
    """Returns the program of the build that this user has installed, or otherwise root; None where there is none.

    A build that another user could have written does not count.
    """
    for folder in dict.fromkeys((install_folder(), ROOTS_FOLDER)):
        for name in PROGRAMS if folder else ():
            path = os.path.join(folder or "", TRANSLATED, name)
            if os.path.isfile(path) and _are_ours(_folders_of(path)):
                return path
    return None


def _folders_of(path: str) -> list[str]:
    """Returns the folder of a build, and the two above it: guests and proxybox."""
    own = os.path.dirname(path)
    guests = os.path.dirname(own)
    return [os.path.dirname(guests), guests, own]


def _are_ours(folders: list[str]) -> bool:
    try:
        return all(map(is_ours, folders))
    except OSError:
        return False
