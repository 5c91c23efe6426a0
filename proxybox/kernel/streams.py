"""Joins the output of a cell into fewer messages: a print is two writes, and much output is thousands of writes."""

import threading
import time
from collections.abc import Callable

#: Seconds that text may wait for more text: whole lines, and an unfinished line. The latter may be the question of an
#: input(), which is shown beside the answer and not as output.
_LINES, _UNFINISHED = 0.05, 0.25
#: Characters after which text is sent at once.
_SIZE = 1 << 18
#: Changes of stream in one cell that are sent in order, each in a message. After that, the waiting text is sent as one
#: message for each stream. A cell can display as many objects, of a megabyte each (session.py).
_MOST_TURNS = 4096


class StreamSender:
    """Sends output in order: after a short wait, when there is much, and at each call of `flush`.

    send: a function that is called with the stream and the text, by one thread at a time.
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
        """Begins another cell: changes of stream are counted from 0 again."""
        with self._changed:
            self._turns = 0

    def write(self, stream: str, text: str) -> None:
        """Takes text that was printed."""
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
        """Sends the text that waits."""
        with self._changed:
            self._send_all()

    def take_question(self) -> str:
        """Sends the text that waits, except for an unfinished last line of stdout, which it returns."""
        with self._changed:
            if self._stream != "stdout":
                self._send_all()
                return ""
            question = self._cut("stdout")
            self._send_all()
            return question

    def close(self) -> None:
        """Ends the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _cut(self, stream: str) -> str:
        """Removes the unfinished last line of a stream, and returns it."""
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
