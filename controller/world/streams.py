"""The standard streams of one program as its caller sets them: one value that is passed from the API to the world."""

from collections.abc import Callable
from typing import TypeAlias

import attrs

from proxybox.controller.world.stdin import Source

#: A function that gets printed bytes as they come.
Taker: TypeAlias = Callable[[bytes], object]


@attrs.frozen(kw_only=True, eq=False)
class StandardStreams:
    """The sources and receivers of one program's standard streams.

    stdin: the source that the program reads (stdin.py). None: it reads nothing; in a session, the source does not
    change. stdout, stderr: functions that get the output, or None. keep: whether the Result has the output, too. It
    always has the end of standard error.
    """

    stdin: Source | None = None
    stdout: Taker | None = None
    stderr: Taker | None = None
    keep: bool = True


#: Nothing is read, and all output is stored.
NO_STREAMS = StandardStreams()
