"""How a run ended, in one word that is the same from the driver to the Result."""

import enum


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
