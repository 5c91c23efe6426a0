"""Packages for guests: folders, virtual environments, and requirements that are installed outside of any box.

What is named stands in `packages=` and after `--packages`. Nothing of a package runs on this side: only wheels are
installed, which are unpacked, and they are compiled in a box.
"""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest


def with_packages(guest: "Guest", named: Sequence[str]) -> "Guest":
    """Returns a guest with packages, as they are named for `folders`. Raises PackagesError and SandboxStartError."""
    return guest.with_packages(folders(named, guest))


def folders(
    named: Sequence[str], guest: "Guest", *, tell: Callable[[str], object] = lambda text: None
) -> tuple[str, ...]:
    """Returns the host folders of packages for a guest.

    named: absolute paths of folders, of requirements files, and of scripts with inline metadata (PEP 723); what these
    two want is installed into the cache when it is not there yet. tell: called with a line before that begins, since it
    can take minutes.

    Raises PackagesError.
    """
    found = []
    for path in named:
        if os.path.isdir(path):
            found.append(path)
            continue
        from proxybox.packages.installing import installed
        from proxybox.packages.requirements import wanted

        found.append(installed(wanted(path, guest), guest, tell))
    return tuple(found)
