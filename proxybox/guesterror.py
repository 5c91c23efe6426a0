"""The exception that a program has ended with."""

import attrs


@attrs.frozen
class GuestError:
    """The uncaught exception that the program ended with, as it printed it. Untrusted text."""

    type: str
    message: str
    traceback: str
