"""The standard streams of one program as its caller sets them: one value that goes from the API to the world."""

from collections.abc import Callable
from typing import TypeAlias

import attrs

from proxybox.controller.world.stdin import Source

#: A function that gets what was printed, as it comes.
Taker: TypeAlias = Callable[[bytes], object]


@attrs.frozen(kw_only=True, eq=False)
class StandardStreams:
    """The sources and takers of one program's standard streams.

    stdin: what the program reads (stdin.py). None: it reads nothing; in a session, it goes on with the source that
    it had. stdout, stderr: functions that get what it prints, or None. keep: whether the Result has that, too. It
    always has the end of standard error.
    """

    stdin: Source | None = None
    stdout: Taker | None = None
    stderr: Taker | None = None
    keep: bool = True


#: Nothing is read, and all that is printed is kept.
NO_STREAMS = StandardStreams()
