"""Where what lasts for one user is kept: $XDG_STATE_HOME/proxybox, as the XDG base directory specification has it."""

import os


def state_folder(name: str) -> str | None:
    """The path of one of its folders, perhaps made by nobody yet; None for who has no home. A relative variable does
    not count."""
    state = os.environ.get("XDG_STATE_HOME", "")
    if not os.path.isabs(state):
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            return None
        state = os.path.join(home, ".local", "state")
    return os.path.join(state, "proxybox", name)
