"""Functions that tests ship to boxes, or that workers import."""

import time


def double(x: float, times: int = 2) -> float:
    """Multiplies. Its source is shipped."""
    return times * x


def fails(x: int) -> int:
    """Raises IndexError for x > 1. Its source is shipped."""
    return [1, 2][x]


def loops() -> None:
    """Never returns. Its source is shipped."""
    while True:
        pass


def add(a: int, b: int) -> int:
    """A host function; workers import it by its name."""
    return a + b


def waits() -> str:
    """A host function that exceeds its time limit."""
    time.sleep(3600)
    return "never"


def stops() -> None:
    """A host function that raises SystemExit."""
    raise SystemExit(3)
