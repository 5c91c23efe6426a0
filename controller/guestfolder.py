"""Where the programs and sources of the untrusted side lie on the host."""

import functools
import os


@functools.cache
def guest_folder() -> str:
    """The folder of the programs and sources of the untrusted side."""
    above = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    installed = os.path.join(above, "guest")  # in an uninstalled checkout, controller/ is at the top of the tree
    return installed if os.path.isdir(installed) else os.path.join(above, "proxybox", "guest")
