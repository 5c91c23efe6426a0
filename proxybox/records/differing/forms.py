"""The form of a question: the question without what a program derives from clocks and random numbers.

A program may sleep for a time that it has computed, write down when it began, or make a file with a name of its own.
Two runs differ in that wherever they are otherwise the same, so calls are aligned by their forms. Whether more than
that differs is decided by the questions themselves.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from proxybox.madeup import MADE_UP
from proxybox.records.record import RecordedCall

#: Times that calls pass: for how long, and until when.
_TIMES: Final = frozenset({"request", "timeout", "time", "times", "new", "value"})
_OF_TIME: Final = frozenset({
    "nanosleep", "clock_nanosleep", "futex", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait",
    "epoll_pwait2", "rt_sigtimedwait", "setitimer", "timerfd_settime", "utimensat", "utime", "utimes", "futimesat",
})  # fmt: skip
_PATHS: Final = frozenset({"path", "old", "new", "target", "name"})
#: Calls that write, and the descriptors that print.
_WRITING: Final = frozenset({"write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg"})
_PRINTING: Final = frozenset({1, 2})
#: Numbers in what is printed.
_NUMBER: Final = re.compile(r"\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
#: Bytes of what is printed that are looked at for that.
_MOST: Final = 1 << 16


def _text(value: bytes) -> str:
    return value[:_MOST].decode("latin-1")


def _printed(value: bytes) -> tuple[str, bytes]:
    return _NUMBER.sub("#", MADE_UP.sub("#", _text(value))), value[_MOST:]


def form_of(call: RecordedCall) -> Mapping[str, Any]:
    """Returns the arguments of a question that belong to its form."""
    asked: Mapping[str, Any] = call.asked
    if call.name in _OF_TIME:
        return {name: bool(value) and name if name in _TIMES else value for name, value in asked.items()}
    if call.name in _WRITING:
        fd = asked.get("fd")
        texts = tuple(_printed(each) for each in asked.values() if isinstance(each, bytes))
        return {"fd": fd, "texts": texts if fd in _PRINTING else ()}
    if not any(name in _PATHS for name in asked):
        return asked
    return {
        name: MADE_UP.sub("#", _text(value)) if name in _PATHS and isinstance(value, bytes) else value
        for name, value in asked.items()
    }
