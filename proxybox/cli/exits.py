"""The exit statuses of the command line, and the status for a result."""

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxybox.result import Result

EXIT_USAGE: Final = 2
EXIT_TIME_LIMIT: Final = 124  # as timeout(1)
EXIT_CANNOT_RUN: Final = 125  # proxybox itself failed; timeout(1) and docker use the same status
EXIT_DENIED: Final = 126
EXIT_CANCELLED: Final = 130
EXIT_MEMORY: Final = 137  # 128 + SIGKILL, as after the kernel's own out-of-memory killer
EXIT_NO_READER: Final = 141  # 128 + SIGPIPE, as for a process that writes to a pipe without a reader
EXIT_EXCESS: Final = 153  # 128 + SIGXFSZ

BY_STATUS: Final = {
    "time_limit": EXIT_TIME_LIMIT,
    "memory_limit": EXIT_MEMORY,
    "output_limit": EXIT_EXCESS,
    "disk_limit": EXIT_EXCESS,
    "call_limit": EXIT_EXCESS,
    "denied": EXIT_DENIED,
    "misbehaved": EXIT_CANNOT_RUN,
    "cancelled": EXIT_CANCELLED,
    "internal_error": EXIT_CANNOT_RUN,
    "overloaded": EXIT_CANNOT_RUN,
}


def exit_status(result: "Result") -> int:
    """Returns the exit status for a result: the guest's own status, or the status for the reason of the box's end."""
    status = str(result.status)
    if status in BY_STATUS:
        return BY_STATUS[status]
    if status == "crashed" and result.signal is not None:
        return 128 + result.signal
    return 1 if result.exit_code is None else result.exit_code & 0xFF
