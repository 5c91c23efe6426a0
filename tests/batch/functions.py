"""Functions that workers import."""

import os
import signal
from pathlib import Path


def ends() -> None:
    """A host function that ends its process, as a fault of the interpreter would."""
    os.kill(os.getpid(), signal.SIGKILL)


def ends_once(mark: str) -> None:
    """The same, the first time."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return
    ends()


def double(number: int) -> int:
    """Shipped as its source."""
    return 2 * number


def inverse(number: float) -> float:
    """Shipped as its source."""
    return 1 / number
