"""Folders of what is kept for a user, by the XDG base directory specification.

They are $XDG_STATE_HOME/proxybox and $XDG_CACHE_HOME/proxybox.
"""

import os


def state_folder(name: str) -> str | None:
    """Returns the path of a folder of what must not be lost, which may not exist yet; None for a user without a home.

    A relative $XDG_STATE_HOME is ignored.
    """
    return _folder("XDG_STATE_HOME", (".local", "state"), name)


def cache_folder(name: str) -> str | None:
    """Returns the same for what can be made anew, in $XDG_CACHE_HOME."""
    return _folder("XDG_CACHE_HOME", (".cache",), name)


def _folder(variable: str, default: tuple[str, ...], name: str) -> str | None:
    parent = os.environ.get(variable, "")
    if not os.path.isabs(parent):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        parent = os.path.join(home, *default)
    return os.path.join(parent, "proxybox", name)
