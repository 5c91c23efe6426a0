"""A job while a worker does it: its events for the service, and the service's orders."""

import functools
import queue
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, Final

from proxybox.jsonvalues import JSONObject
from proxybox.serve.jobevents import JobEvents
from proxybox.serve.jobprograms import data_of
from proxybox.serve.wiredata import JobOrder
from proxybox.serve.workerjobs import Content
from proxybox.streamevents import ErrorEvent, InputRequestEvent, Stream

#: The most pieces of input that wait for one program.
MOST_INPUT: Final = 16
#: The most characters of an exception's message, and of its traceback, in an event.
_MOST_ERROR: Final = 1 << 16


class RunningJob:
    """One job that runs. line: its socket. input_wait: seconds that a program waits for its caller's input."""

    def __init__(self, events: JobEvents, line: Connection, input_wait: float) -> None:
        self.line, self.give, self.tell = line, events.give, events.tell
        self._events, self._input_wait = events, input_wait
        self._input: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._orders: list[str] = []
        self._functions: dict[str, Callable[[], object]] = {}

    # --- orders -------------------------------------------------------------------------------------------------------

    def begin(self, cancel: Callable[[], object], interrupt: Callable[[], object]) -> None:
        """Sets the functions that end and interrupt the job; orders that have arrived before are carried out now."""
        self._functions = {"cancel": cancel, "interrupt": interrupt}
        for order in tuple(self._orders):
            self._functions[order]()

    def obey(self, order: JobOrder) -> None:
        """Carries out an order, which may arrive before the job begins."""
        if order.do == "input":
            if self._input.qsize() < MOST_INPUT:
                self._input.put(order.text)
            return
        self._orders.append(order.do)
        if order.do in self._functions:
            self._functions[order.do]()
        self._input.put(None)  # a program that waits for input gets the end of its input

    # --- events -------------------------------------------------------------------------------------------------------

    def printed(self, stream: Stream) -> Callable[[str], None]:
        """Returns a callback for the text that is printed to a stream."""
        return functools.partial(self._events.print, stream)

    def started(self, running: Any) -> None:
        """Sets the functions that end and interrupt the run."""
        self.begin(running.cancel, running.interrupt)

    def tell_error(self, result: JSONObject) -> None:
        """Sends the exception of a result, if it has one."""
        if (error := result["error"]) is not None:
            self.tell(ErrorEvent(**{name: text[:_MOST_ERROR] for name, text in error.items()}))

    def stdin(self, first: Content | None, *, interactive: bool) -> Any:
        """Returns the program's input: the data that was sent, or a function that requests more from the caller."""
        return self._asker(data_of(first)) if interactive else data_of(first)

    def _asker(self, first: bytes | None) -> Callable[[int], bytes]:
        """Returns a function that reads the data that was sent, and then the caller's input.

        No answer in time is an end of file. After the call, it remains the standard input of the session, at its end.
        """
        rest = [bytearray(first or b"")]
        ended: list[bool] = []

        def read(size: int) -> bytes:
            buffer = rest[0]
            if not buffer and not ended:
                self.tell(InputRequestEvent())
                try:
                    text = self._input.get(timeout=self._input_wait)
                except queue.Empty:
                    text = None
                if text is None or text == "":
                    ended.append(True)
                else:
                    buffer += text.encode("utf-8", "surrogatepass")
            piece = bytes(buffer[:size])
            del buffer[:size]
            return piece

        return read
