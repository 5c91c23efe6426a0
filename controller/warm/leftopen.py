"""Files that a call of a session leaves open for writing: the written bytes are in the file before the next call.

Python writes to a buffer first. A PyPy flushes the buffer of a file without references only when its garbage collector
finds it, maybe never. So when a call ends, and has left new files open, the guest collects garbage
(proxybox/guest/leftopen.py). If some are still open, it collects once more, for files that were written to when others
were closed, and flushes the open files. It flushes them after each later call, too, without a request.

This is a part of the call: within its limits, and recorded. A call has at most two such rounds.
"""

import itertools
import marshal
from collections.abc import Iterator

from proxybox.controller.process.watch import Watch
from proxybox.controller.vfs.namei import path_of
from proxybox.controller.vfs.openfiles import RegularOpenFile
from proxybox.controller.warm.start import MARSHAL
from proxybox.controller.world.state import World

#: The most files that a call reports as left open.
_MOST_TOLD = 20
_MOST_ROUNDS = 2


class OpenFileWatch:
    """Which files the calls of one session leave open. watch: of the guest's process."""

    def __init__(self, world: World, watch: Watch) -> None:
        self._world, self._watch = world, watch
        self._rounds = 0
        self._is_late = False
        self._new: list[RegularOpenFile] = []

    def begin(self) -> None:
        """Begins a call."""
        self._rounds, self._new = 0, []

    def command(self, is_before: bool) -> bytes | None:
        """Returns a command for the guest, which it gets first; None for none.

        is_before: whether a call begins; otherwise it ends. A call that was interrupted has no time left, so the next
        call begins with the command. A command that was interrupted is not repeated.
        """
        if is_before and not self._is_late:
            return None
        left = [(fd, file) for fd, file in self._world.descriptors.writable_files() if not file.was_left_open]
        self._is_late = bool(left and self._watch.interrupted and not self._rounds)
        if not left or self._is_late or self._rounds == _MOST_ROUNDS:
            self._rounds = 0
            return None
        self._rounds += 1
        if self._rounds == _MOST_ROUNDS or self._watch.interrupted:
            self._new = [file for _, file in left]
            for file in self._new:
                file.was_left_open = True
        if self._watch.interrupted:
            self._rounds = 0
            return None
        what = "close" if self._rounds == 1 else "save"
        return b"m" + marshal.dumps(("left_open", what, tuple(fd for fd, _ in left)), MARSHAL)  # as `begin` encodes it

    def paths(self) -> tuple[str, ...]:
        """Returns the paths of the files that this call, and no earlier one, has left open."""
        return tuple(path.decode("utf-8", "surrogateescape") for path in self._paths())

    def _paths(self) -> Iterator[bytes]:
        still = {file.location: file for file in self._new if file.references > 0}  # a file may be open many times
        for file in itertools.islice(still.values(), _MOST_TOLD):
            try:
                path = path_of(self._world.tree, file)
            except OSError:  # its folder was removed
                continue
            if path.startswith(b"/") and not path.endswith(b" (deleted)"):
                yield path
