"""The channel of a translated guest, in the place of channel.Channel: it produces frames for the dispatcher.

A request names a function of libc. libc.py has a generator for it, which asks for what it needs: guest memory, an
allocation there, OS calls. `Serve` is an OS call that the driver carries out, and that may wait. `SideCall` is one that
never waits, and is carried out at once.
"""

import errno
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import GuestMisbehaved
from proxybox.controller.guests.translated import wire
from proxybox.controller.guests.translated.libc import Allocate, Done, FetchMemory, Free, Libc, Serve, SideCall, Text
from proxybox.controller.header import MAX_PAYLOAD
from proxybox.controller.wire.channel import Channel
from proxybox.controller.wire.protocol import encode_request

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread


class TranslatedReader:
    """Does what the drivers need of a channel's reader: checks that the channel ends between two requests."""

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

    __slots__ = ("_begun", "_execute", "_has_begun", "_libc", "_request", "_running", "_wanted")

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
        self._running: Generator[Any, Any, Done] | None = None
        self._wanted: FetchMemory | Text | Allocate | None = None  # what the guest has been asked for

    @property
    def is_inside(self) -> bool:
        """Whether a part of a request or of an answer has come."""
        return bool(self._begun)

    def understand(self, data: bytes) -> bytes | None:
        """Returns the next frame to execute, or None when there is none yet. Raises GuestMisbehaved."""
        self._begun += data
        if self._wanted is not None:
            return self._take_answer()
        if self._running is not None:
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
        """Takes the guest's answer to a command when it is complete, and lets the function go on."""
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
            if isinstance(wanted, Text):
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
        return self._go_on(value)

    def _go_on(self, value: Any) -> bytes | None:
        """Lets the function go on until it needs an answer of the guest or a call of the driver.

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
                return encode_request(wanted.number, wanted.registers, wanted.memory)
            if isinstance(wanted, SideCall):
                value = self._call(wanted)
            elif isinstance(wanted, Free):
                commands += wire.free(wanted.address)
            else:
                commands += wanted.command()
                self._wanted = wanted
                self.write(bytes(commands))
                return None

    def _call(self, call: SideCall) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        reply = self._execute(self._libc.world.threads[0], encode_request(call.number, call.registers, call.memory))
        if isinstance(reply, Blocked):
            raise RuntimeError(f"OS call {call.number} waits, and is not served")
        return _split(reply)

    def send(self, reply: Reply) -> None:
        """Gives the function the dispatcher's answer to its frame, and lets it go on.

        The first answer goes to the stub instead, which waits for it before it lets `main` run.
        """
        if not self._has_begun:
            self._has_begun = True
            super().send(reply)
            return
        if isinstance(reply, Blocked):
            raise RuntimeError("a wait is no answer")
        frame = self._go_on(_split(reply))
        if frame is not None:
            raise RuntimeError("a function makes one call at the most that is served")

    def _finish(self, commands: bytearray, done: Done) -> None:
        request = self._request
        if request is None:
            raise RuntimeError("nothing was asked")
        if done.writes and not all(address for address, _ in done.writes):  # NULL: EFAULT, as from the kernel
            done = Done(0 if request.result == "p" else -1, errno.EFAULT)
        for address, data in done.writes:
            commands += wire.store(address, data[:MAX_PAYLOAD])
        if done.errno:
            commands += wire.error(done.errno)
        commands += wire.answer(request.result, done.value)
        self._running = self._request = None
        self.write(bytes(commands))


def _split(reply: Reply) -> tuple[int, tuple[tuple[int, bytes], ...]]:
    if isinstance(reply, Blocked):
        raise TypeError("a wait has no value yet")
    return (reply, ()) if isinstance(reply, int) else (reply[0], reply[1:])
