"""The messages between the Python code of a warm guest and its caller, through the one reserved OS call.

    exchange(message, size, answer, room) -> size of the whole answer

The first byte of a message says what it is:

    r  the result of the last command (empty at first); the answer is the next command, when there is one
    h  a call of one of the caller's functions; the answer is what it has returned
    d  something to be shown; the answer is empty, and comes when the caller has taken it
    p  the name of a module of `preload` that was imported, or none after `warm_up`; the answer is empty
    w  continues the wait of the last message, which a signal has interrupted
    *  the first piece of a longer message, with its own first byte; pieces that came before are forgotten
    +  a further piece
    .  the last piece; the answer is that of the whole message
    -  asks for the next piece of an answer that was longer than its room

Every message is a claim of untrusted code, of bounded size.
"""

import errno
import time
from collections import deque
from collections.abc import Callable

import attrs

from proxybox.controller.callers import Callers
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.exchange.hostfunctions import EncodedCall, HostFunctions, Pending, failed
from proxybox.controller.header import MAX_PAYLOAD

#: Bytes that a message may have in addition to one value: for names, a traceback.
ENVELOPE = 1 << 18
#: The most host functions that may run for one box at a time, whether its threads still wait for them or not; and how
#: many calls of the largest size they may have together: a decoded call takes up to 45 times its bytes.
MOST_RUNNING, MOST_LARGE = 64, 4


@attrs.define
class _Line:
    """One thread's state: the pieces of a message, the rest of an answer, and what the thread waits for."""

    pieces: bytearray = attrs.field(factory=bytearray)
    rest: bytes = b""
    wait: Pending | EncodedCall | None = None


class Port:
    """The controller's side of the exchange.

    A guest can make this object store at most one message and one answer for each channel of its threads.

    value_size: the most bytes of one value. notify: called, from any thread, when the wait for a host function may be
    over. show: called with the encoded data that is to be shown. imported: called with the names of modules of
    `preload` that were imported. first: returns a command of the controller for the guest, or None: called before a
    command of the caller (True), and after each result (False). The results of such commands are dropped. result: the
    latest result of the guest.
    """

    __slots__ = (
        "_command",
        "_idle",
        "_in_answer",
        "_is_own",
        "_lines",
        "_running",
        "_stores",
        "_works",
        "callers",
        "first",
        "functions",
        "imported",
        "notify",
        "result",
        "show",
        "value_size",
    )

    def __init__(self, value_size: int = 1 << 20, functions: HostFunctions | None = None) -> None:
        self.value_size = value_size
        self.notify: Callable[[], None] = lambda: None
        self.show: Callable[[bytes], object] | None = None
        self.imported: Callable[[bytes], object] | None = None
        self.first: Callable[[bool], bytes | None] = lambda _: None
        self.result: bytes | None = None
        self.functions = functions
        self.callers = Callers()
        self._command: bytes | None = None
        self._stores: tuple[tuple[int, bytes], ...] = ()  # sent with the command
        self._in_answer: tuple[tuple[int, bytes], ...] = ()  # in the answer that is being made
        self._idle: int | None = None  # the channel that waits for a command
        self._is_own = False  # whether the guest's last command was the controller's own
        self._lines: dict[int, _Line] = {}  # by channel
        self._running: list[tuple[Pending, int]] = []  # each with the size of its call
        self._works: deque[EncodedCall] = deque()  # one is decoded at a time, because decoded calls are larger

    def post(self, command: bytes, stores: tuple[tuple[int, bytes], ...] = ()) -> None:
        """Sets the guest's next command, which it gets when its waiting call is tried again.

        stores: addresses and bytes that the answer with the command stores as well.

        Raises RuntimeError while the guest has not taken the last command.
        """
        if self._command is not None:
            raise RuntimeError("a command was posted before the last was taken")
        self._command, self._stores = command, stores
        self.result = None

    def is_idle(self) -> bool:
        """Whether the guest waits for a command, and none was posted."""
        return self._idle is not None and self._command is None

    def exchange(self, channel: int, message: bytes, address: int, room: int) -> Reply:
        """Answers a message of the thread on that channel, or returns its wait.

        Raises OSError: EINVAL for an unknown message, EMSGSIZE for one that is too long.
        """
        line = self._lines.setdefault(channel, _Line())
        kind, data, room = message[:1], message[1:], min(room, MAX_PAYLOAD)
        if kind == b"-":
            piece, line.rest = line.rest[:room], line.rest[room:]
            return len(piece), (address, piece)
        if kind in (b"*", b"+", b"."):
            if kind == b"*":
                line.pieces = bytearray()
            if len(line.pieces) + len(data) > self.value_size + ENVELOPE:
                raise OSError(errno.EMSGSIZE, "a message that is larger than session.value_size allows")
            line.pieces += data
            if kind != b".":
                return 0
            message = bytes(line.pieces)
            kind, data = message[:1], message[1:]
        line.pieces, line.rest = bytearray(), b""
        if kind != b"w":
            if isinstance(line.wait, EncodedCall) and line.wait in self._works:
                self._works.remove(line.wait)
            line.wait = self._begin(channel, kind, data)
        if line.wait is None:
            raise OSError(errno.EINVAL, "no such message")
        return self._wait(line, line.wait, address, room)

    def _begin(self, channel: int, kind: bytes, data: bytes) -> Pending | EncodedCall | None:
        """Starts to handle a whole message. Returns the future answer; None for an unknown message."""
        if self._idle == channel:
            self._idle = None
        if kind == b"r":
            return self._rest(channel, data)
        if kind == b"d":
            if self.show is not None:
                self.show(data)
            return Pending(lambda: b"")
        if kind == b"p" and self.imported is not None:
            self.imported(data)
            return Pending(lambda: b"")
        if kind == b"h" and self.functions is not None:
            return self._call(self.functions, data)
        return None

    def _rest(self, channel: int, result: bytes) -> Pending:
        """Takes the result of a command. The guest is idle then, unless there is a command of the controller's own."""
        if not self._is_own:
            self.result = result
        own = self.first(False)
        self._is_own = own is not None
        if own is not None:
            return Pending(lambda: own)
        self._idle = channel
        return Pending(self._next)

    def _call(self, functions: HostFunctions, data: bytes) -> Pending | EncodedCall:
        answer = self._refused(len(data)) or functions.call(data, lambda: self.notify(), self.callers)
        if isinstance(answer, EncodedCall):
            self._works.append(answer)
            return answer
        return self._answered(answer, len(data))

    def _refused(self, size: int) -> bytes | None:
        """The answer to a call of that size when too many calls still run; None when it may be made."""
        self._running = [(pending, item_size) for pending, item_size in self._running if pending.take() is None]
        if len(self._running) >= MOST_RUNNING:
            return failed(RuntimeError(f"{MOST_RUNNING} calls of host functions still run"))
        if size > MOST_LARGE * (self.value_size + ENVELOPE) - sum(item_size for _, item_size in self._running):
            return failed(RuntimeError("calls of host functions still run that were given all that they may be"))
        return None

    def _answered(self, answer: bytes | Pending, size: int) -> Pending:
        if isinstance(answer, bytes):
            return Pending(lambda: answer)
        self._running.append((answer, size))
        return answer

    def _next(self) -> bytes | None:
        if self._command is None:
            return None
        self._idle = None
        own = self.first(True)
        if own is not None:
            self._is_own = True
            return own
        command, self._command = self._command, None
        self._in_answer, self._stores = self._stores, ()
        return command

    def _wait(self, line: _Line, pending: Pending | EncodedCall, address: int, room: int) -> Reply:
        if isinstance(pending, EncodedCall):
            return self._work(line, pending, address, room)

        def give(answer: bytes) -> Reply:
            line.wait, line.rest = None, answer[room:]
            writes, self._in_answer = ((address, answer[:room]), *self._in_answer), ()
            return len(answer), *writes

        def attempt() -> Reply | None:
            answer = pending.take()
            return None if answer is None else give(answer)

        reply = attempt()
        return Blocked(attempt, pending.deadline_ns, lambda: give(pending.expired)) if reply is None else reply

    def _work(self, line: _Line, work: EncodedCall, address: int, room: int) -> Reply:
        """Decodes a long message in turns, between which other guests are served.

        A signal ends this wait like any other; the guest continues it with a message `w`.
        """

        def attempt() -> Reply | None:
            if not self._works or self._works[0] is not work:
                return None
            try:
                answer = (None if work.has_begun else self._refused(work.size)) or work.go_on()
            except BaseException:
                self._works.popleft()
                raise
            if answer is None:
                return None
            self._works.popleft()
            line.wait = self._answered(answer, work.size)
            return self._wait(line, line.wait, address, room)

        reply = attempt()
        return reply or Blocked(attempt, deadline_ns=time.monotonic_ns(), sources=(), unfinished=True)

    def take_result(self) -> bytes:
        """Returns and removes the latest result of the guest. Raises GuestMisbehaved where there is none."""
        result, self.result = self.result, None
        if result is None:
            raise GuestMisbehaved("a session that asks for a command has given no result")
        return result
