"""Functions that workers import."""

import os
import signal
from pathlib import Path


def ends() -> None:
    """A host function that kills its process, as a fault of the interpreter would."""
    os.kill(os.getpid(), signal.SIGKILL)


def ends_once(mark: str) -> None:
    """A host function that kills its process the first time. mark: a file that it makes then."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return
    ends()


def double(number: int) -> int:
    """Doubles a number. Its source is shipped."""
    return 2 * number


def inverse(number: float) -> float:
    """Returns the inverse. Its source is shipped."""
    return 1 / number
