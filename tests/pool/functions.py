"""Functions that tests ship to boxes, or that workers import."""

import time


def double(x: float, times: int = 2) -> float:
    """Shipped as its source."""
    return times * x


def fails(x: int) -> int:
    """Shipped as its source."""
    return [1, 2][x]


def loops() -> None:
    """Shipped as its source."""
    while True:
        pass


def add(a: int, b: int) -> int:
    """A host function, by its name in this module."""
    return a + b


def waits() -> str:
    """A host function that takes longer than it may."""
    time.sleep(3600)
    return "never"


def stops() -> None:
    """A host function that leaves its thread."""
    raise SystemExit(3)
