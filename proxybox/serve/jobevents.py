"""The events of a job while it runs: they are sent at once, except printed text, which is buffered for a moment.

Otherwise a program that prints line by line would cause an event for each line, which costs the service more than the
line costs the program. The first text after a pause is sent at once. While the service does not read, the program
waits.
"""

import select
import threading
import time
from multiprocessing.connection import Connection
from typing import Final

from proxybox.serve.wire import AnswerKind, answer
from proxybox.streamevents import Stream, TextEvent, WorkerEvent, as_data

#: Seconds for which text is buffered, and the most characters in the buffer.
_MOMENT: Final = 0.02
_MOST: Final = 1 << 14
#: The most characters of one event: while the service reads an event, it does nothing else.
_LONGEST: Final = 1 << 18


class Moments:
    """Sends buffered text after a moment: one thread for all jobs of a worker, which sleeps while there is none."""

    def __init__(self) -> None:
        self._gathered: set[JobEvents] = set()
        self._some = threading.Condition()
        self._thread = threading.Thread(target=self._serve, name="proxybox-moments", daemon=True)
        self._has_ended = False

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        with self._some:
            self._has_ended = True
            self._some.notify()
        self._thread.join()

    def await_one(self, events: "JobEvents") -> None:
        """Makes the thread send the text of a job after a moment."""
        with self._some:
            self._gathered.add(events)
            self._some.notify()

    def _serve(self) -> None:
        while True:
            with self._some:
                while not self._gathered and not self._has_ended:
                    self._some.wait()
                if self._has_ended:
                    return
            time.sleep(_MOMENT)
            with self._some:
                gathered, self._gathered = self._gathered, set()
            late = {events for events in gathered if not events.flush_if_read()}
            with self._some:
                self._gathered |= late


class JobEvents:
    """Sends the events of one job through a socket."""

    def __init__(self, line: Connection, moments: Moments) -> None:
        self._line, self._moments = line, moments
        self._telling = threading.Lock()
        self._pieces: list[tuple[Stream, str]] = []
        self._size = 0
        self._last = 0.0
        self._is_awaited = False

    def tell(self, event: WorkerEvent) -> None:
        """Sends an event, after the text before it."""
        with self._telling:
            self._flush()
            self._line.send_bytes(answer(AnswerKind.EVENT, as_data(event)))

    def give(self, kind: bytes, data: bytes) -> None:
        """Sends a message of another kind, after the text before it."""
        with self._telling:
            self._flush()
            self._line.send_bytes(kind + data)

    def print(self, stream: Stream, text: str) -> None:
        """Sends a text, at once or together with the text that follows soon."""
        with self._telling:
            self._pieces.append((stream, text))
            self._size += len(text)
            if self._size >= _MOST or time.monotonic() - self._last >= _MOMENT:
                self._flush()
            elif not self._is_awaited:
                self._is_awaited = True
                self._moments.await_one(self)

    def flush(self) -> None:
        """Sends the buffered text: at the end of a job."""
        with self._telling:
            self._flush()

    def flush_if_read(self) -> bool:
        """Sends the buffered text if that does not block; returns whether it is sent or the service has ended."""
        if not self._telling.acquire(blocking=False):
            return False
        try:
            # A socket that can be written to has room for more than the buffer holds.
            if self._pieces and not select.select((), (self._line,), (), 0)[1]:
                return False
            self._flush()
            self._is_awaited = False
            return True
        except (OSError, ValueError):  # the service has ended, and the job with it
            return True
        finally:
            self._telling.release()

    def _flush(self) -> None:
        pieces, self._pieces, self._size = self._pieces, [], 0
        begin = 0
        for at in range(1, len(pieces) + 1):
            if at == len(pieces) or pieces[at][0] != pieces[begin][0]:
                text = "".join(text for _, text in pieces[begin:at])
                for start in range(0, len(text), _LONGEST):
                    event = TextEvent(pieces[begin][0], text[start : start + _LONGEST])
                    self._line.send_bytes(answer(AnswerKind.EVENT, as_data(event)))
                begin = at
        if pieces:
            self._last = time.monotonic()
