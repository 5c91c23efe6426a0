"""Packages for guests: folders, virtual environments, and requirements that are installed outside of any box.

They are named in `packages=` and after `--packages`. No code of a package runs on this side: only wheels are installed.
They are unpacked by a process that can start nothing, and compiled in a box (installing.py).
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxybox.controller.guests.guest import Guest
    from proxybox.packages.watching import Watcher


def with_packages(guest: "Guest", named: Sequence[str]) -> "Guest":
    """Returns a guest with packages. named: as for `folders`. Raises PackagesError and SandboxStartError."""
    return guest.with_packages(folders(named, guest))


def folders(named: Sequence[str], guest: "Guest", watcher: "Watcher | None" = None) -> tuple[str, ...]:
    """Returns the host folders of packages for a guest.

    named: absolute paths of folders, of requirements files, and of scripts with inline metadata (PEP 723); the packages
    that these two require are installed into the cache if they are not in it yet. watcher: gets the progress: an
    installation can take minutes.

    Raises PackagesError.
    """
    found = []
    for path in named:
        if os.path.isdir(path):
            found.append(path)
            continue
        from proxybox.packages.installing import installed
        from proxybox.packages.requirements import wanted
        from proxybox.packages.watching import Watcher

        found.append(installed(wanted(path, guest), guest, watcher or Watcher()))
    return tuple(found)
