"""How a run ended: one word, which is the same from the driver to the Result, and the program's exception."""

import enum

import attrs


class Status(enum.StrEnum):
    """One word for how a run ended."""

    OK = "ok"
    SYNTAX_ERROR = "syntax_error"
    ERROR = "error"
    CRASHED = "crashed"
    TIME_LIMIT = "time_limit"
    MEMORY_LIMIT = "memory_limit"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    CALL_LIMIT = "call_limit"
    DENIED = "denied"
    MISBEHAVED = "misbehaved"
    CANCELLED = "cancelled"
    INTERNAL_ERROR = "internal_error"
    OVERLOADED = "overloaded"


@attrs.frozen
class GuestError:
    """The uncaught exception that the program ended with, as it printed it. Untrusted text."""

    type: str
    message: str
    traceback: str
