"""PyPy's cProfile in a recorded box: it reads a clock of the box, and not the counter of the CPU.

A replay has clocks again as they were, and not the counter (rdtsc), which stays open where time is real: to close it
would make each reading of a clock a call, and each call cost nearly twice as much.
"""

from typing import Final

_CLASS: Final = b"class Profile(_lsprof.Profiler):"
_TIMED: Final = b'''class _Timed(_lsprof.Profiler):
    """Reads a clock, which a replay of the program has again."""

    def __new__(cls, timer=None, timeunit=None, subcalls=True, builtins=True):
        import time
        return super().__new__(cls, timer or time.perf_counter, timeunit or 0.0, subcalls, builtins)


class Profile(_Timed):'''


def with_clock(source: bytes) -> bytes:
    """The source of `cProfile.py` in a recorded box of PyPy."""
    return source.replace(_CLASS, _TIMED, 1)
