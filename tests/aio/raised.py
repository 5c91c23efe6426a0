"""Functions of a caller that raise anything, for `test_what_functions_raise.py` and for the workers of its pools."""

import asyncio
import concurrent.futures
from collections.abc import Callable
from typing import Any


class OwnEnd(BaseException):
    """An exception by which some library ends its own work."""


class Speechless(BaseException):
    """An exception whose `__str__` raises."""

    def __str__(self) -> str:
        raise SystemExit("no words")


#: The exceptions that a function may raise, by name.
RAISES: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError("mine"),
    "FileNotFoundError": lambda: FileNotFoundError(2, "mine"),
    "StopIteration": lambda: StopIteration("mine"),
    "SystemExit": lambda: SystemExit("mine"),
    "KeyboardInterrupt": lambda: KeyboardInterrupt("mine"),
    "GeneratorExit": lambda: GeneratorExit("mine"),
    "CancelledError": lambda: asyncio.CancelledError("mine"),
    "CancelledFuture": lambda: concurrent.futures.CancelledError("mine"),
    "OwnEnd": lambda: OwnEnd("mine"),
    "Speechless": Speechless,
    "Group": lambda: BaseExceptionGroup("mine", [SystemExit("inner"), OwnEnd("inner")]),
}


def fail(name: str) -> Any:
    """A host function that raises an exception of RAISES."""
    raise RAISES[name]()


#: A program that prints the exception that the host function `fail` raises in it.
ASKS = """
import host, sys
try: print(host.fail(sys.argv[1]))
except BaseException as error: print(type(error).__name__, str(error).partition(':')[0])
"""


def told(name: str) -> str:
    """Returns what ASKS prints for an exception of RAISES."""
    error = RAISES[name]()
    kind = type(error).__name__
    if kind in ("ValueError", "FileNotFoundError", "StopIteration"):
        return f"{kind} {str(error).partition(':')[0]}\n"
    return f"HostError {kind}\n"
