"""Answers a guest whose run is recorded: notes each call and its answer, and lets one thread run at a time."""

import errno
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller import abi
from proxybox.controller.dispatch import NUMBERS, Dispatcher, denial_of
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import Denied, EndBox
from proxybox.controller.header import CALL_MAP, CALL_NO_THREAD, CALL_OPEN, LIBRARY, RECORDED, SETTINGS
from proxybox.controller.process.activity import Patience
from proxybox.controller.record.events import DenialEvent, LeftOut
from proxybox.controller.record.exactness import BESIDE, LEFT_OUT
from proxybox.controller.record.libraryfiles import is_named
from proxybox.controller.record.onebyone import ALONE_NS, BESIDE_NS, LOOK_NS, OneByOne, wait_for_end
from proxybox.controller.record.recorder import BATCH, Recorder
from proxybox.controller.record.redacting import Redacted
from proxybox.controller.status import Status
from proxybox.controller.vfs.host.library import LibraryFile
from proxybox.controller.wire.protocol import CLOCKS, without_clocks
from proxybox.controller.world.futexes import Futexes

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread, World

_MAPPING: Final = CALL_MAP.to_bytes(4, "little")
_CLONE: Final = NUMBERS["clone"].to_bytes(4, "little")
_NO_THREAD: Final = CALL_NO_THREAD.to_bytes(4, "little")
#: Calls that take effect when they are requested: clone, the report that it made no thread, exit_group.
_AT_ONCE: Final = (_CLONE, _NO_THREAD, NUMBERS["exit_group"].to_bytes(4, "little"))
#: From this size on, data of the interpreter's library is recorded as a place in its file.
_PART: Final = 256
_READ: Final = NUMBERS["read"]
_PREAD: Final = NUMBERS["pread64"]
#: Larger requests and answers are encoded at once: BATCH of them would not fit into a frame.
_HEAVY: Final = 4096
_STATUS: Final = abi.STAT.size

#: How often a driver checks at once whether a thread has ended, and nanoseconds between its later checks.
_LOOKS_AT_END, _NEXT_LOOK_NS = 12, 500_000

_now = time.monotonic_ns


def _goes_on_waiting() -> None:
    """Returns None, so that a signal does not interrupt the wait."""


def _size(data: Any) -> int:
    return len(data) if isinstance(data, bytes) else 0


class RecordingDispatcher(Dispatcher):
    """Answers the requests of one box, and notes them for its record.

    count_threads: how many threads the kernel counts in the guest. patience: measures how long the guest has computed
    since a thread's turn came.
    """

    __slots__ = (
        "_frame", "_is_lingering", "_look_at_ns", "_notes", "_recorder", "_redacted", "_turns", "_watched",
        "count_threads", "patience",
    )  # fmt: skip

    patience_ns = 5_000_000

    def __init__(self, recorder: Recorder, redacted: Redacted | None, world: "World", *rest: Any) -> None:
        super().__init__(world, *rest)
        self._redacted = redacted
        self._recorder = recorder
        self._notes = recorder.notes
        self._frame = b""
        self._turns: OneByOne | None = None  # None while there is one thread
        self._is_lingering = False  # whether a thread has ended that the kernel still counts
        self._look_at_ns = 0
        self._watched = -1  # `OneByOne.moves` when `patience` was begun
        self.count_threads: Callable[[], int] = lambda: 0
        self.patience = Patience(lambda: 0, lambda: False)
        for stream, sink in enumerate((world.stdout, world.stderr)):
            sink.watch = lambda data, stream=stream: self._prints(stream, data)

    def _prints(self, stream: int, data: bytes) -> None:
        self._recorder.note("printed", self._frame, stream, data)
        if len(data) > _HEAVY:
            self._recorder.encode()

    def execute(self, thread: "GuestThread", frame: bytes) -> Reply:
        """As `Dispatcher.execute`, and notes the request and its answer."""
        now, channel, turns = _now(), thread.channel, self._turns
        if frame[7] & CLOCKS:
            frame, readings = without_clocks(frame)
            self._recorder.note("clocks", channel, now, readings)
        self._frame, number = frame, frame[4:8]
        if turns is not None:
            turns.stops(channel)
            if self._is_lingering:
                self._look_for_end(turns, now)
        try:
            reply = super().execute(thread, frame)
        except EndBox:
            self._note("waits", channel, now, frame, (None, None))
            raise
        if isinstance(reply, Blocked):
            self._note("waits", channel, now, frame, (None, None))
            return self._noting(reply, channel, frame)
        if turns is not None:
            if thread.exited:
                self._ended(turns, now)
            elif number not in _AT_ONCE and not turns.may_go_on(channel, now):
                noted = self._noted(channel, frame, reply)
                self._note("waits", channel, now, frame, (None, None))
                return self._in_turn(turns, channel, frame, reply, noted)
            else:
                if number == _NO_THREAD:
                    turns.keeps({each.channel for each in self._world.threads})
                turns.goes(channel, now)
        if number == _CLONE:
            self._cloned(channel, reply)
        if reply.__class__ is int and not (reply == LIBRARY and number == _MAPPING):
            notes = self._notes
            notes.append((None, channel, now, frame, reply))
            if len(notes) >= BATCH or len(frame) > _HEAVY:
                self._recorder.encode()
                if self._recorder.is_full:
                    raise EndBox(Status.DISK_LIMIT, self._recorder.fault or "")
        else:
            self._note("answered", channel, now, frame, self._noted(channel, frame, reply))
        return reply

    def _noted(self, channel: int, frame: bytes, reply: Any) -> tuple[Any, Any]:
        """Returns an answer as it is recorded, and the part of the library that it contains (`_part`)."""
        if isinstance(reply, int) and reply == LIBRARY and frame[4:8] == _MAPPING:
            node = self._file(int.from_bytes(frame[40:44], "little", signed=True))
            if is_named(node):
                self._recorder.note("mapped", node)
            return (reply,), None
        if isinstance(reply, tuple) and self._redacted is not None and self._is_redacted(channel, frame, reply):
            self._recorder.note("inexact", LEFT_OUT)
            return (reply[0], *((address, LeftOut(len(data))) for address, data in reply[1:])), None
        if isinstance(reply, tuple) and len(reply) > 1 and len(reply[-1][1]) >= _PART:
            return reply, self._part(frame, reply)
        return reply, None

    def _note(self, what: str, channel: int, now: int, frame: bytes, noted: tuple[Any, Any]) -> None:
        """Notes an answer that stores something, or one that came later, or a call without an answer."""
        recorder, (reply, part) = self._recorder, noted
        recorder.note(what, channel, now, frame, reply, part)
        if reply.__class__ is not tuple or len(reply) == 1:
            size = 0
        elif len(reply) == 2:  # nearly all answers
            size = _size(reply[1][1])
        else:
            size = sum(_size(data) for _, data in reply[1:])
        if size > _HEAVY or len(frame) > _HEAVY:
            recorder.encode()  # many of them would take much memory
        if recorder.is_full and what != "waits":
            raise EndBox(Status.DISK_LIMIT, recorder.fault or "")

    def _is_redacted(self, channel: int, frame: bytes, reply: tuple[Any, ...]) -> bool:
        number = int.from_bytes(frame[4:8], "little")
        return self._redacted is not None and self._redacted.covers(number, channel, frame, reply, self._file)

    def _file(self, fd: int) -> Any:
        world = self._world
        file = world.mappings.get(fd)
        return (world.descriptors.get(fd) if file is None else file).node

    def _part(self, frame: bytes, reply: tuple[Any, ...]) -> tuple[LibraryFile, int, int] | None:
        """Returns the library file that the data of an answer's last write comes from, or None.

        Also returned: the offset in the file, and how many bytes of the write are before that data.
        """
        number, first = int.from_bytes(frame[4:8], "little"), int.from_bytes(frame[8:12], "little", signed=True)
        size = len(reply[-1][1])
        try:
            if number == CALL_OPEN:
                node, offset, skipped = self._file(reply[0]), 0, _STATUS
            elif number == _PREAD:
                node, offset, skipped = self._file(first), int.from_bytes(frame[32:40], "little"), 0
            elif number == _READ:
                file = self._world.descriptors.get(first)
                node, offset, skipped = file.node, file.offset - size, 0
            else:
                return None
        except OSError:
            return None
        return (node, offset, skipped) if is_named(node) else None

    # --- waits --------------------------------------------------------------------------------------------------------

    def _noting(self, wait: Blocked, channel: int, frame: bytes) -> Blocked:
        """Returns the wait, changed so that its answer is noted."""

        def noted(step: Callable[[], Reply | None]) -> Callable[[], Reply | None]:
            def take() -> Reply | None:
                self._frame = frame
                reply = self.settle(step)
                if isinstance(reply, Blocked):
                    return self._noting(reply, channel, frame)
                if reply is None:
                    return None
                noted = self._noted(channel, frame, reply)
                turns = self._turns
                if turns is not None and not turns.is_free:
                    return self._in_turn(turns, channel, frame, reply, noted)
                return self._goes(channel, frame, reply, noted)

            return take

        interrupted = wait.on_interrupt or (lambda: -errno.EINTR)
        return attrs.evolve(
            wait,
            attempt=noted(wait.attempt),
            on_timeout=wait.on_timeout and noted(wait.on_timeout),  # type: ignore[arg-type]  # it always answers
            on_interrupt=noted(interrupted),
        )

    # --- one thread at a time -----------------------------------------------------------------------------------------

    def _goes(self, channel: int, frame: bytes, reply: Reply, noted: tuple[Any, Any]) -> Reply:
        """Notes an answer that has waited, and returns it, so that its thread continues."""
        now = _now()
        if self._turns is not None:
            self._turns.goes(channel, now)
        self._note("later", channel, now, frame, noted)
        return reply

    def _in_turn(
        self, turns: OneByOne, channel: int, frame: bytes, reply: Reply, noted: tuple[Any, Any]
    ) -> Blocked:  # fmt: skip
        """Returns a wait, which returns the answer when its thread's turn comes."""
        turns.lines_up(channel)

        def go() -> Reply:
            return self._goes(channel, frame, reply, noted)

        def attempt() -> Reply | None:
            if self._is_lingering:
                self._look_for_end(turns, _now())
            return go() if turns.has_turn(channel) else None

        def look() -> Reply:
            return go() if turns.has_turn(channel, overdue=True) and self._goes_beside(turns) else wait()

        def wait() -> Blocked:
            return Blocked(attempt, _now() + LOOK_NS, look, _goes_on_waiting)  # a signal goes to the thread that runs

        return wait()

    def _goes_beside(self, turns: OneByOne) -> bool:
        """Whether the thread whose turn is next may run although another one runs, which has computed for long.

        The other one may also wait for something that is not known here. The first such case makes the record inexact,
        so it is put off for longer.
        """
        if self._watched != turns.moves:
            self._watched = turns.moves
            self.patience.begin()
            return False
        if not self.patience.is_over(ALONE_NS if self._recorder.inexact is None else BESIDE_NS):
            return False
        self._recorder.note("inexact", BESIDE)
        if self._is_lingering:
            self._gone(turns)
        return True

    def _cloned(self, channel: int, reply: Reply) -> None:
        """Counts the thread that a clone(2) is about to start among those that run."""
        if not isinstance(reply, int) or reply <= 0:
            return
        child = reply & 0xFFFF
        if self._turns is None:
            self._turns = OneByOne(channel)
            self._world.futexes = Futexes(self._turns.was_alone)
        self._turns.goes(child, _now())

    def _ended(self, turns: OneByOne, now: int) -> None:
        """Lets no other thread run until the kernel has ended this one, and cleared its word, on which others wait.

        Where that takes unusually long, the waits for turns check it later: the driver may serve other guests too, and
        a hostile thread may never end.
        """
        if not wait_for_end(self.count_threads, len(self._world.threads), _LOOKS_AT_END):
            turns.lingers()
            self._is_lingering = True
        self._wake_shared()

    def _look_for_end(self, turns: OneByOne, now: int) -> None:
        if now < self._look_at_ns:  # hundreds of waits may be tried at a time, and each check reads a file
            return
        self._look_at_ns = now + _NEXT_LOOK_NS
        if self.count_threads() <= len(self._world.threads):
            self._gone(turns)

    def _gone(self, turns: OneByOne) -> None:
        """Notes that no ended thread runs any more, or that nothing waits for its end any more."""
        self._is_lingering = False
        turns.has_gone()
        self._wake_shared()

    def _wake_shared(self) -> None:
        """Lets threads that wait for the end of a thread look at their futex words."""
        if self._world.futexes is not None:
            self._world.futexes.thread_ended()

    # --- what is noted besides ----------------------------------------------------------------------------------------

    def _record(self, name: str, denied: Denied) -> None:
        denial = denial_of(name, denied)
        self._recorder.note("refused", DenialEvent(denial.call, denial.errno, denial.reason))
        super()._record(name, denied)

    def stub_settings(self) -> bytes:
        """As `Dispatcher.stub_settings`: where time is real, the guest sends its readings of clocks."""
        offset, unobserved, readings = SETTINGS.unpack(super().stub_settings())
        is_real = self._world.clock.offset_ns() is not None
        return SETTINGS.pack(offset, unobserved, RECORDED if unobserved and is_real else readings)

    def sent(self, signal: int, late: bool) -> None:
        """Notes a signal. It may be called from a signal handler in the middle of `encode`."""
        self._notes.append(("sent", signal, late, _now()))
