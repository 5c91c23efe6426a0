"""What a cell prints, put together: a print is two writes, and a flood thousands."""

import threading
import time
from collections.abc import Callable

#: Seconds that text may wait for more: whole lines, and a line that has no end yet. The latter may be the question of
#: an input(), which is shown beside the answer and not as output.
_LINES, _UNFINISHED = 0.05, 0.25
#: Characters that are sent at once.
_SIZE = 1 << 18
#: Changes of stream in one cell that are told in their order, each by a message; then what waits is one message for
#: each stream. As many things could be displayed (session.py), of a megabyte.
_MOST_TURNS = 4096


class Streams:
    """Sends what is printed, in its order: when it has waited, when there is much, and whenever `flush` is called.

    send: is given the stream and the text, by one thread at a time.
    """

    def __init__(self, send: Callable[[str, str], object]) -> None:
        self._send = send
        self._stream = "stdout"
        self._turns = 0
        self._parts: dict[str, list[str]] = {"stdout": [], "stderr": []}
        self._size = 0
        self._since = 0.0
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="proxybox-streams", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Another cell: changes of stream are counted anew."""
        with self._changed:
            self._turns = 0

    def write(self, stream: str, text: str) -> None:
        """Takes what was printed."""
        with self._changed:
            if stream != self._stream:
                self._stream = stream
                self._turns += 1
                if self._turns <= _MOST_TURNS:
                    self._send_all()
            if not self._size:
                self._since = time.monotonic()
                self._changed.notify()
            self._parts[stream].append(text)
            self._size += len(text)
            if self._size >= _SIZE:
                self._send_all()

    def flush(self) -> None:
        """Sends what there is."""
        with self._changed:
            self._send_all()

    def take_question(self) -> str:
        """Sends what there is but for a last line of stdout that is not finished, which is returned."""
        with self._changed:
            if self._stream != "stdout":
                self._send_all()
                return ""
            question = self._cut("stdout")
            self._send_all()
            return question

    def close(self) -> None:
        """Ends its thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _cut(self, stream: str) -> str:
        """Takes its last line out, which has no end yet."""
        lines, end, rest = "".join(self._parts[stream]).rpartition("\n")
        self._parts[stream] = [lines + end]
        return rest

    def _send_all(self) -> None:
        for stream, parts in self._parts.items():
            if text := "".join(parts):
                self._send(stream, text)
            parts.clear()
        self._size = 0

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._size:
                    self._changed.wait()
                    continue
                waited = time.monotonic() - self._since
                if waited >= _UNFINISHED:
                    self._send_all()
                elif waited >= _LINES and any("\n" in part for part in self._parts[self._stream]):
                    rest = self._cut(self._stream)
                    self._send_all()
                    if rest:
                        self._parts[self._stream], self._size = [rest], len(rest)
                else:
                    self._changed.wait((_LINES if waited < _LINES else _UNFINISHED) - waited)
