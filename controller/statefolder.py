"""The folder of what is kept for a user: $XDG_STATE_HOME/proxybox, by the XDG base directory specification."""

import os


def state_folder(name: str) -> str | None:
    """Returns the path of a folder in it, which may not exist yet; None for a user without a home.

    A relative $XDG_STATE_HOME is ignored.
    """
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "proxybox", name)
