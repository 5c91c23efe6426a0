"""The channel of a translated guest, which replaces channel.Channel: it produces frames for the dispatcher.

A request names a function of libc. libc.py has a generator for it, which yields its requests: for guest memory, an
allocation there, OS calls (asking.py). `Serve` is an OS call that the driver carries out, and that may wait. `SideCall`
is an OS call that never waits, and is carried out at once. Most functions need no generator (direct.py).
"""

import errno
import struct
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any, Final

from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.guests.translated import direct, wire
from proxybox.controller.guests.translated.asking import (
    MASK,
    Allocate,
    CString,
    FetchMemory,
    Free,
    FunctionResult,
    Serve,
    SideCall,
    Writes,
    done,
)
from proxybox.controller.guests.translated.direct import Direct
from proxybox.controller.guests.translated.libc import Libc
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.wire.channel import Channel

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread

_WORD: Final = struct.Struct("<Q")
_NULL: Final = bytes(8)


class TranslatedReader:
    """The reader that drivers need of a channel: it checks that the channel ends between two requests."""

    __slots__ = ("_channel",)

    def __init__(self, channel: "TranslatedChannel") -> None:
        self._channel = channel

    def end(self) -> None:
        """Called when the channel has ended. Raises GuestMisbehaved when it ended inside a request."""
        if self._channel.is_inside:
            raise GuestMisbehaved("the channel ended inside a request, or an answer to a command")


class TranslatedChannel(Channel):
    """The controller's ends of a translated guest's only channel.

    execute: the dispatcher's method of this name.
    """

    __slots__ = (
        "_arguments", "_begun", "_direct", "_directs", "_execute", "_has_begun", "_libc", "_request", "_running",
        "_wanted",
    )  # fmt: skip

    is_plain = False

    def __init__(
        self, request_fd: int, reply_fd: int, libc: Libc, execute: "Callable[[GuestThread, bytes], Reply]"
    ) -> None:
        super().__init__(request_fd, reply_fd)
        self.reader = TranslatedReader(self)  # type: ignore[assignment]
        self._libc = libc
        self._execute = execute
        self._has_begun = False
        self._begun = bytearray()
        self._request: wire.Request | None = None
        self._running: Generator[Any, Any, FunctionResult] | None = None
        self._wanted: FetchMemory | CString | Allocate | None = None  # the request to the guest
        self._directs = direct.table()
        self._direct: Direct | None = None  # the call by the shorter way
        self._arguments: bytes | None = None  # its arguments, while its string is awaited

    @property
    def is_inside(self) -> bool:
        """Whether a part of a request or of an answer was received."""
        return bool(self._begun)

    def understand(self, data: bytes) -> bytes | None:
        """Returns the next frame to execute, or None when there is none yet. Raises GuestMisbehaved."""
        if not self._begun:
            known = self._direct
            if known is None:
                if self._running is None:
                    known = self._directs.get(data[: 1 + data[0]])
                    if known is not None and len(data) == known.size:
                        return self._begin(known, data)
            elif self._arguments is not None and len(data) >= 8:
                size = len(data) - 8
                if size <= known.longest and size == _WORD.unpack_from(data)[0]:
                    return self._with_string(known, data[8:])
        self._begun += data
        return self._understand_pieces()

    def _begin(self, known: Direct, data: bytes) -> bytes | None:
        """Begins a call by the shorter way: returns its frame, or requests its string from the guest."""
        self._direct = known
        arguments = data[known.begin :]
        if not known.text:
            return known.frame + arguments + known.padding
        address = data[known.text : known.text + 8]
        if address == _NULL:
            return known.with_string(arguments, None)
        self._arguments = arguments
        self.write(b"Z" + address + known.limit)
        return None

    def _with_string(self, known: Direct, text: bytes) -> bytes:
        arguments, self._arguments = self._arguments, None
        return known.with_string(arguments or b"", text)

    def _understand_pieces(self) -> bytes | None:
        """Does what `understand` does, for requests that came in pieces, need more than a string, or are malformed."""
        if self._direct is not None and self._arguments is not None and self._wanted is None:
            self._wanted = CString(0, self._direct.longest)
        if self._wanted is not None:
            return self._take_answer()
        if self._running is not None or self._direct is not None:
            raise GuestMisbehaved("a second call before the first was answered")
        parsed = wire.parse_request(self._begun)
        if parsed is None:
            return None
        self._request, size = parsed
        if size != len(self._begun):
            raise GuestMisbehaved("bytes follow a request")
        self._begun.clear()
        self._running = self._libc.answer(self._request)
        return self._go_on(None)

    def _take_answer(self) -> bytes | None:
        """Passes the guest's answer to a command, when it is complete, to the function."""
        wanted, begun = self._wanted, self._begun
        if isinstance(wanted, FetchMemory):
            if len(begun) < wanted.size:
                return None
            size, start = wanted.size, 0
        else:
            word = wire.parse_word(begun)
            if word is None:
                return None
            size, start = 0, 8
            if isinstance(wanted, CString):
                if word > wanted.most:
                    raise GuestMisbehaved(f"a string of {word} bytes where at most {wanted.most} were asked for")
                size = word
                if len(begun) < start + size:
                    return None
        if len(begun) != start + size:
            raise GuestMisbehaved("bytes follow the answer to a command")
        value: Any = bytes(begun[start:]) if not isinstance(wanted, Allocate) else wire.parse_word(begun)
        begun.clear()
        self._wanted = None
        return self._go_on(value) if self._direct is None else self._with_string(self._direct, value)

    def _go_on(self, value: Any) -> bytes | None:
        """Runs the function until it needs an answer of the guest or a call of the driver.

        Returns the frame for the driver, or None.
        """
        running = self._running
        if running is None:
            raise GuestMisbehaved("an answer that nobody waits for")
        commands = bytearray()
        while True:
            try:
                wanted = running.send(value)
            except StopIteration as stop:
                self._finish(commands, stop.value)
                return None
            value = None
            if isinstance(wanted, Serve):
                if commands:
                    self.write(bytes(commands))
                return wanted.frame()
            if isinstance(wanted, SideCall):
                value = self._call(wanted)
            elif isinstance(wanted, Free):
                commands += wire.free(wanted.address)
            else:
                commands += wanted.command()
                self._wanted = wanted
                self.write(bytes(commands))
                return None

    def _call(self, call: SideCall) -> tuple[int, Writes]:
        reply = self._execute(self._libc.world.threads[0], call.frame())
        if isinstance(reply, Blocked):
            raise RuntimeError(f"{call.name} waits, and is not served")
        return _split(reply)

    def send(self, reply: Reply) -> None:
        """Passes the dispatcher's answer to the function, and runs it further.

        The first answer goes to the stub instead, which waits for it before it runs `main`.
        """
        if self._direct is not None:
            self._direct = None
            if reply.__class__ is int and not -4095 <= reply < 0:
                self.write(b"i" + _WORD.pack(reply & MASK))
            else:
                self.write(_result("i", done(*_split(reply))))
        elif not self._has_begun:
            self._has_begun = True
            super().send(reply)
        else:
            frame = self._go_on(_split(reply))
            if frame is not None:
                raise RuntimeError("a function makes one call at the most that is served")

    def _finish(self, commands: bytearray, ended: FunctionResult) -> None:
        request = self._request
        if request is None:
            raise RuntimeError("nothing was asked")
        self._request = self._running = None
        self.write(bytes(commands + _result(request.result, ended)))


def _result(kind: str, ended: FunctionResult) -> bytes:
    """Returns the commands that end an answer: bytes to store, errno, and the result. kind: of the result."""
    value, number, writes = ended.value, ended.errno, ended.writes
    if writes and not all(address for address, _ in writes):  # NULL: EFAULT, as from the kernel
        value, number, writes = 0 if kind == "p" else -1, errno.EFAULT, ()
    parts = [wire.store(address, data[:MAX_PAYLOAD]) for address, data in writes]
    if number:
        parts.append(wire.error(number))
    return b"".join((*parts, wire.answer(kind, value)))


def _split(reply: Reply) -> tuple[int, Writes]:
    if isinstance(reply, Blocked):
        raise TypeError("a wait has no value yet")
    return (reply, ()) if isinstance(reply, int) else (reply[0], reply[1:])
