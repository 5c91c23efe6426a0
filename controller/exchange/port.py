"""What a warm guest's own Python and its caller say to each other, through the one reserved OS call.

    exchange(message, size, answer, room) -> size of the whole answer

The first byte of a message says what it is:

    r  the result of the last command (nothing at first): the next command is the answer, when there is one
    h  a call of one of the caller's functions: what it returned is the answer
    d  something to be shown: the answer is empty, and comes when it has been taken
    w  the wait of the last message goes on: a signal had interrupted it
    *  the first piece of a longer message, its letter and all; what was begun before is forgotten
    +  a further piece
    .  the last one: the answer is that of the message
    -  the next piece of an answer that was longer than its room

Whatever comes is a claim of untrusted code, of bounded size.
"""

import errno
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import attrs

from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.exchange.hostfunctions import HostFunctions, Pending, Work, failed
from proxybox.controller.header import MAX_PAYLOAD

#: What stands around a value in a message: names, a traceback.
ENVELOPE = 1 << 18
#: So many functions may run for one box that its threads wait for no longer, or still; and so many of the largest calls
#: they may have been given together: decoded, one takes up to 45 times its bytes.
MOST_RUNNING, MOST_LARGE = 64, 4


@attrs.define
class _Line:
    """One thread's part: the pieces of a message, what is left of an answer, and what it waits for."""

    pieces: bytearray = attrs.field(factory=bytearray)
    rest: bytes = b""
    wait: Pending | Work | None = None


class Port:
    """The controller's side. value_size: of one value, at the most, in bytes. notify: called, from any thread, when the
    wait for a function of the caller's may be over. show: is given what is to be shown, encoded.

    What a guest can leave here is one message and one answer for each channel that its threads may have.
    """

    __slots__ = (
        "_command",
        "_idle",
        "_lines",
        "_running",
        "_works",
        "callers",
        "functions",
        "notify",
        "result",
        "show",
        "value_size",
    )

    def __init__(self, value_size: int = 1 << 20, functions: HostFunctions | None = None) -> None:
        self.value_size = value_size
        self.notify: Callable[[], None] = lambda: None
        self.show: Callable[[bytes], object] | None = None
        self.result: bytes | None = None
        self.functions = functions
        self.callers: AbstractContextManager[None] = nullcontext()  # stands around the caller's functions (meter.py)
        self._command: bytes | None = None
        self._idle: int | None = None  # the channel that waits for a command
        self._lines: dict[int, _Line] = {}  # by channel
        self._running: list[tuple[Pending, int]] = []  # with the size of what they were given
        self._works: deque[Work] = deque()  # one is decoded at a time, since they grow

    def post(self, command: bytes) -> None:
        """What the guest shall do next. It is told when the call that it waits in is tried again.

        Raises RuntimeError while it has not been told the last."""
        if self._command is not None:
            raise RuntimeError("a command was posted before the last was taken")
        self._command = command
        self.result = None

    def is_idle(self) -> bool:
        """Whether the guest waits for a command, and there is none."""
        return self._idle is not None and self._command is None

    def exchange(self, channel: int, message: bytes, address: int, room: int) -> Reply:
        """The answer to a message of the thread on that channel, or a wait. EINVAL, EMSGSIZE."""
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
            if isinstance(line.wait, Work) and line.wait in self._works:
                self._works.remove(line.wait)
            line.wait = self._begin(channel, kind, data)
        if line.wait is None:
            raise OSError(errno.EINVAL, "no such message")
        return self._wait(line, line.wait, address, room)

    def _begin(self, channel: int, kind: bytes, data: bytes) -> Pending | Work | None:
        """What a whole message waits for. None: there is no such message."""
        if self._idle == channel:
            self._idle = None
        if kind == b"r":
            self.result, self._idle = data, channel
            return Pending(self._next)
        if kind == b"d":
            if self.show is not None:
                with self.callers:
                    self.show(data)
            return Pending(lambda: b"")
        if kind == b"h" and self.functions is not None:
            return self._call(self.functions, data)
        return None

    def _call(self, functions: HostFunctions, data: bytes) -> Pending | Work:
        answer = self._refused(len(data)) or functions.call(data, lambda: self.notify(), self.callers)
        if isinstance(answer, Work):
            self._works.append(answer)
            return answer
        return self._answered(answer, len(data))

    def _refused(self, size: int) -> bytes | None:
        """The answer where too many calls still run for one of that size."""
        self._running = [(pending, given) for pending, given in self._running if pending.take() is None]
        if len(self._running) >= MOST_RUNNING:
            return failed(RuntimeError(f"{MOST_RUNNING} calls of host functions still run"))
        if size > MOST_LARGE * (self.value_size + ENVELOPE) - sum(given for _, given in self._running):
            return failed(RuntimeError("calls of host functions still run that were given all that they may be"))
        return None

    def _answered(self, answer: bytes | Pending, size: int) -> Pending:
        if isinstance(answer, bytes):
            return Pending(lambda: answer)
        self._running.append((answer, size))
        return answer

    def _next(self) -> bytes | None:
        command, self._command = self._command, None
        if command is not None:
            self._idle = None
        return command

    def _wait(self, line: _Line, pending: Pending | Work, address: int, room: int) -> Reply:
        if isinstance(pending, Work):
            return self._work(line, pending, address, room)

        def give(answer: bytes) -> Reply:
            line.wait, line.rest = None, answer[room:]
            return len(answer), (address, answer[:room])

        def attempt() -> Reply | None:
            answer = pending.take()
            return None if answer is None else give(answer)

        reply = attempt()
        return Blocked(attempt, pending.deadline_ns, lambda: give(pending.expired)) if reply is None else reply

    def _work(self, line: _Line, work: Work, address: int, room: int) -> Reply:
        """Of a message that is long, one turn after another, as others have theirs. A signal ends this wait as any:
        the guest goes on with it."""

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
        """What the guest gave last. Raises GuestMisbehaved where it gave nothing."""
        result, self.result = self.result, None
        if result is None:
            raise GuestMisbehaved("a session that asks for a command has given no result")
        return result
