"""What a warm guest's own Python and its caller say to each other, through the one reserved OS call.

    exchange(message, size, answer, room) -> size of the whole answer

The first byte of a message says what it is:

    r  the result of the last command (nothing at first): the next command is the answer, when there is one
    w  the same, for a result that was given already: the wait had been interrupted
    h  a call of one of the caller's functions: what it returned is the answer
    +  a piece of a longer message, whose end comes with one of the others
    -  the next piece of an answer that was longer than its room

Whatever comes is a claim of untrusted code, of bounded size.
"""

import errno
from collections.abc import Callable

from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.hostfunctions import HostFunctions, Pending
from proxybox.controller.roles import MAX_PAYLOAD

#: What stands around a value in a message: names, a traceback.
ENVELOPE = 1 << 18


class Port:
    """The controller's side. value_size: of one value, at the most, in bytes. notify: called, from any thread, when the
    wait for a function of the caller's may be over."""

    __slots__ = ("_command", "_partial", "_rest", "_waits", "functions", "notify", "result", "value_size")

    def __init__(self, value_size: int = 1 << 20, functions: HostFunctions | None = None) -> None:
        self.value_size = value_size
        self.notify: Callable[[], None] = lambda: None
        self.result: bytes | None = None
        self.functions = functions
        self._waits = False
        self._command: bytes | None = None
        self._partial: dict[int, bytearray] = {}  # by thread, as the next
        self._rest: dict[int, bytes] = {}

    def post(self, command: bytes) -> None:
        """What the guest shall do next. It is told when the call that it waits in is tried again."""
        self._command = command
        self.result = None

    def is_idle(self) -> bool:
        """Whether the guest waits for a command, and there is none."""
        return self._waits and self._command is None

    def exchange(self, tid: int, message: bytes, address: int, room: int) -> Reply:
        """The answer to a message of a thread, or a wait. EINVAL, EMSGSIZE."""
        kind, data, room = message[:1], message[1:], min(room, MAX_PAYLOAD)
        if kind == b"+":
            partial = self._partial.setdefault(tid, bytearray())
            if len(partial) + len(data) > self.value_size + ENVELOPE:
                raise OSError(errno.EMSGSIZE, "a message that is larger than session.value_size allows")
            partial += data
            return 0
        if kind == b"-":
            rest = self._rest.pop(tid, b"")
            if len(rest) > room:
                self._rest[tid] = rest[room:]
            return len(rest[:room]), (address, rest[:room])
        if tid in self._partial:
            data = bytes(self._partial.pop(tid)) + data
        if kind in (b"r", b"w"):
            if kind == b"r":
                self.result = data
            self._waits = True
            return self._wait(Pending(self._next), tid, address, room)
        if kind == b"h" and self.functions is not None:
            answer = self.functions.call(data, lambda: self.notify())
            if isinstance(answer, bytes):
                return self._give(answer, tid, address, room)
            return self._wait(answer, tid, address, room)
        raise OSError(errno.EINVAL, "no such message")

    def _next(self) -> bytes | None:
        command, self._command = self._command, None
        if command is not None:
            self._waits = False
        return command

    def _wait(self, pending: Pending, tid: int, address: int, room: int) -> Reply:
        def attempt() -> Reply | None:
            answer = pending.take()
            return None if answer is None else self._give(answer, tid, address, room)

        def expire() -> Reply:
            return self._give(pending.expired, tid, address, room)

        reply = attempt()
        return Blocked(attempt, pending.deadline_ns, expire) if reply is None else reply

    def _give(self, answer: bytes, tid: int, address: int, room: int) -> Reply:
        if len(answer) > room:
            self._rest[tid] = answer[room:]
        return len(answer), (address, answer[:room])

    def take_result(self) -> bytes:
        """What the guest gave last. Raises GuestMisbehaved where it gave nothing."""
        result, self.result = self.result, None
        if result is None:
            raise GuestMisbehaved("a session that asks for a command has given no result")
        return result
