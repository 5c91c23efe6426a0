"""Writes a run down: a dispatcher that notes each call and its answer, and a thread that makes a file of the notes.

The thread of a driver only appends to a list, since that is on the way of every OS call, and makes events of `BATCH` of
them at a time: another thread that did it would take Python's lock from it again and again. The recorder's own thread
packs, chains and writes the events, and hashes the files that they name, without that lock. At most `_MOST_WAITING`
bytes wait for it.
"""

import errno
import hashlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TypeAlias

import attrs

from proxybox.controller import abi
from proxybox.controller.costs.meter import Meter
from proxybox.controller.dispatch import Dispatcher, denial_of
from proxybox.controller.drivers.engine import served_here
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import Denied, EndBox, RecordError
from proxybox.controller.header import CALL_MAP, CALL_NO_THREAD, CALL_OPEN, LIBRARY, RECORDED, TOLD
from proxybox.controller.process.activity import Patience
from proxybox.controller.record.calls import PASSING
from proxybox.controller.record.events import MOST_FILES, Encoder, Ended, File, LeftOut, OfFile, Refused, placed
from proxybox.controller.record.exactness import BESIDE, LATE, LEFT_OUT, Inexact, as_data
from proxybox.controller.record.format import FrameWriter, Kind
from proxybox.controller.record.onebyone import ALONE_NS, BESIDE_NS, LOOK_NS, OneByOne, wait_for_end
from proxybox.controller.record.redacting import Redacted
from proxybox.controller.status import Status
from proxybox.controller.vfs.host.library import AlteredFile, LibraryFile
from proxybox.controller.wire.protocol import CLOCKS, without_clocks
from proxybox.controller.world.futexes import Futexes

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread, World

#: Notes of which events are made at a time.
BATCH: Final = 512
#: Bytes of events in a frame, and seconds after which a frame is written with what there is.
_FRAME_BYTES, _FRAME_SECONDS = 256 << 10, 0.25
#: Bytes of events that wait to be written.
_MOST_WAITING: Final = 16 << 20
#: How long a driver waits for them.
_LONGEST_WAIT_NS: Final = 60_000_000_000
#: Bytes of a piece of contents.
_PIECE: Final = 1 << 20
#: From this size on, what is read of the interpreter's library is told by its place there.
_PART: Final = 256
_READ, _PREAD = 0, 17
#: Requests and answers that are larger are made events at once: BATCH of them would not go into a frame.
_HEAVY: Final = 4096
_STATUS: Final = abi.STAT.size

#: How often a driver looks at once whether a thread has ended, and nanoseconds between its later looks.
_LOOKS_AT_END, _NEXT_LOOK_NS = 12, 500_000

_now = time.monotonic_ns
#: Events, and the files of the library that they are the first to name, by their numbers.
_Events: TypeAlias = tuple[bytes, list[tuple[int, LibraryFile]]]


class Recorder:
    """The record of one run, in a file that it is given.

    limit: bytes that the file may have. A run that needs more is ended; with `discard`, the file is emptied instead,
    and `discard` called. fault: why the record is not complete, None where it is. inexact: from where on it cannot be
    replayed exactly, None where it can. started_ns: host time. meter: of the guest, on whose account the recorder's
    thread works. The methods can be called from any thread.
    """

    def __init__(self, file: BinaryIO, limit: int, discard: Callable[[], object] | None = None) -> None:
        self.limit = limit
        self._discard = discard
        self.fault: str | None = None
        self.inexact: Inexact | None = None
        self.is_full = False
        self.notes: list[tuple[Any, ...]] = []
        self.started_ns = _now()
        self.meter = Meter()
        self._file = file
        self._frames = FrameWriter(file)
        self._encoder = Encoder(self.started_ns)
        self._names = Encoder(self.started_ns)  # of the recorder's thread
        self._encoding = threading.Lock()
        self._files: dict[LibraryFile, int] = {}
        self._new: list[tuple[int, LibraryFile]] = []  # files that events name, and no frame has told yet
        self._ready: deque[_Events] = deque()
        self._waiting = 0  # bytes in _ready
        self._change = threading.Condition()
        self._closing = False
        self._has_ended = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="proxybox-recorder", daemon=True)

    def begin(self, start: Mapping[str, Any]) -> None:
        """Writes how the run begins. Raises OSError where the file cannot be written."""
        self._frames.write(Kind.START, json.dumps(start).encode())
        self._thread.start()

    def note(self, *note: Any) -> None:
        """Adds a note: the name of a method of this class, without its underscore, and the arguments."""
        self.notes.append(note)
        if len(self.notes) >= BATCH:
            self.encode()

    def encode(self) -> None:
        """Makes events of the notes, and hands them to the recorder's thread. Waits while that is far behind."""
        with self._encoding:
            self._guarded(self._take)
            if self._encoder.size < _FRAME_BYTES:
                return
            made = self._made()
            with self._change:
                self._ready.append(made)
                self._waiting += len(made[0])
                self._change.notify_all()
        self._wait()

    def _wait(self) -> None:
        """Waits while the recorder's thread is far behind. Where others would wait, too, the record ends instead."""
        is_of_engine, until = served_here() is not None, _now() + _LONGEST_WAIT_NS
        with self._change:
            while self._waiting > _MOST_WAITING and self._thread.is_alive() and self.fault is None:
                if (is_of_engine and self._waiting > 4 * _MOST_WAITING) or _now() > until:
                    self.fault = "the disk is slower than the program"
                if is_of_engine:
                    return
                self._change.wait(1)

    def close(self, end: Mapping[str, Any], contents: Iterable[bytes]) -> None:
        """Writes all that is left, and how the run has ended. contents: those that `end` names, in order."""
        self._join()
        if os.getpid() == self._pid:
            self._guarded(lambda: self._finish(end, contents))

    @property
    def chain(self) -> bytes:
        """The chain of the file so far."""
        return self._frames.chain

    def stop(self) -> None:
        """Closes the file, wherever the record has come to."""
        self._join()
        self._file.close()

    def _join(self) -> None:
        if os.getpid() != self._pid:  # a forked child has no such thread, and the file is not its own
            return
        with self._change:
            self._closing = True
            self._change.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def _finish(self, end: Mapping[str, Any], contents: Iterable[bytes]) -> None:
        for content in contents:
            for at in range(0, len(content), _PIECE):
                self._write(Kind.CONTENT, content[at : at + _PIECE])
        self._write(Kind.END, json.dumps({**end, "inexact": as_data(self.inexact)}).encode())

    # --- the recorder's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._change:
                if not self._ready and not self._closing:
                    self._change.wait(_FRAME_SECONDS)
                is_closing = self._closing  # before the look: what is noted from here on is seen
                made = self._ready.popleft() if self._ready else (b"", [])
                self._waiting -= len(made[0])
                self._change.notify_all()
            if not made[0]:
                with self._encoding:
                    if self._ready:  # events that came between the two locks are older than what is to be taken
                        continue
                    self._guarded(self._take)
                    made = self._made()
            if made[0]:
                self._guarded(lambda made=made: self._write_events(*made))  # type: ignore[misc]
                self.meter.beside = time.thread_time_ns()
            elif is_closing:
                return

    def _write_events(self, data: bytes, new: list[tuple[int, LibraryFile]]) -> None:
        """Writes events, and before them the files that they name: to hash a large one takes long."""
        for number, node in new:
            self._names.file(File(number, node.size(), digest_of(node), path_of(node)))
        if new:
            self._write(Kind.EVENTS, self._names.take())
        self._write(Kind.EVENTS, data)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Does a part of the work. The first failure ends the record, and not the run."""
        try:
            action()
        except Exception as error:
            if self.fault is None:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                self.fault = reason or type(error).__name__

    def _take(self) -> None:
        notes = self.notes
        batch = notes[:]
        del notes[: len(batch)]
        if self.fault is not None:
            return
        self._encoder.plain_calls(batch, self._special)

    def _made(self) -> _Events:
        """Takes the events that were made, with the files that they are the first to name."""
        new, self._new = self._new, []
        return self._encoder.take(), new

    def _special(self, note: tuple[Any, ...]) -> None:
        getattr(self, f"_{note[0]}")(*note[1:])

    def _write(self, kind: Kind, data: bytes) -> None:
        if self.fault is not None:
            return
        if self._frames.written > self.limit and kind is not Kind.END:
            self.fault = f"the record has reached its limit of {self.limit:,} bytes"
            if self._discard is None:
                self.is_full = True
            else:
                self._file.truncate(0)
                self._discard()
            return
        self._frames.write(kind, data)

    # --- what is noted ------------------------------------------------------------------------------------------------

    def _stored(self, frame: bytes, reply: tuple[Any, ...], part: tuple[LibraryFile, int, int] | None) -> list[Any]:
        writes = list(reply[1:])
        if part is not None:
            node, offset, skipped = part
            address, data = writes[-1]
            number = self._number(node)
            if number is not None and node.pread(len(data) - skipped, offset) == data[skipped:]:
                writes[-1:] = [(address + skipped, OfFile(number, offset, len(data) - skipped))]
                if skipped:
                    writes[-1:-1] = [(address, data[:skipped])]
        return placed(frame, writes)

    def _answered(self, channel: int, at_ns: int, frame: bytes, reply: tuple[Any, ...], part: Any) -> None:
        self._encoder.call(channel, at_ns, frame, reply[0], self._stored(frame, reply, part))

    def _waits(self, channel: int, at_ns: int, frame: bytes, *_: Any) -> None:
        self._encoder.call(channel, at_ns, frame, None)

    def _later(self, channel: int, at_ns: int, frame: bytes, reply: Any, part: Any) -> None:
        value, stored = (reply, []) if isinstance(reply, int) else (reply[0], self._stored(frame, reply, part))
        self._encoder.answer(channel, at_ns, value, stored)

    def _printed(self, frame: bytes, stream: int, data: bytes) -> None:
        is_passed = int.from_bytes(frame[4:8], "little") in PASSING and frame[60 : 60 + len(data)] == data
        self._encoder.printed(stream, len(data), None if is_passed else data)

    def _refused(self, refused: Refused) -> None:
        self._encoder.refused(refused)

    def _mapped(self, node: LibraryFile) -> None:
        number = self._number(node)
        if number is None:
            raise RecordError("the program maps more files than a record can name")
        self._encoder.mapped(number)

    def _sent(self, signal: int, late: bool, now: int) -> None:
        if self._has_ended:  # other threads interrupt, and may do so as the guest ends
            return
        self._encoder.sent(signal, late, now)
        if late:
            self._inexact(LATE)

    def _inexact(self, why: str) -> None:
        """From the next call on, the program may do something else in a replay."""
        if self.inexact is None:
            self.inexact = Inexact(self._encoder.calls + 1, why)

    def _clocks(self, channel: int, at_ns: int, readings: bytes) -> None:
        self._encoder.clocks(channel, at_ns, readings)

    def _ended(self, ended: Ended) -> None:
        self._has_ended = True
        self._encoder.ended(ended)

    def _number(self, node: LibraryFile) -> int | None:
        """Returns the number of a file of the library, which is told before its first use (`_write_events`)."""
        number = self._files.get(node)
        if number is None and len(self._files) < MOST_FILES:
            number = self._files[node] = len(self._files)
            self._new.append((number, node))
        return number


_LOCALES: Final = b"/usr/lib/locale"
_MAPPING: Final = CALL_MAP.to_bytes(4, "little")
_CLONE: Final = (56).to_bytes(4, "little")
_NO_THREAD: Final = CALL_NO_THREAD.to_bytes(4, "little")
#: What takes effect when it is asked for: clone, what it has come to, exit_group.
_AT_ONCE: Final = (_CLONE, _NO_THREAD, (231).to_bytes(4, "little"))
_digests: dict[LibraryFile, bytes] = {}


def _goes_on_waiting() -> None:
    """The answer of a wait that nothing interrupts."""


def _size(data: Any) -> int:
    return len(data) if isinstance(data, bytes) else 0


def digest_of(node: LibraryFile) -> bytes:
    """Returns the SHA-256 of a file of the library, which is computed once in a process. Raises OSError."""
    known = _digests.get(node)
    if known is None:
        made, at = hashlib.sha256(), 0
        while at < node.size() and (piece := node.pread(_PIECE, at)):
            made.update(piece)
            at += len(piece)
        known = _digests[node] = made.digest()
    return known


def path_of(node: LibraryFile) -> bytes:
    """Returns the path of a file of the library, in a box."""
    return node.library.target.rstrip(b"/") + b"/" + node.relative


def is_named(node: object) -> bool:
    """Whether what is read of a file is told by its place.

    That is so in the interpreter's library, and for what belongs to its build: shared libraries, and the C library's
    locales. All else is data, which another machine may have in another version.
    """
    if not isinstance(node, LibraryFile) or isinstance(node, AlteredFile):
        return False
    return node.library.may_be_mapped or b".so" in node.relative or node.library.target == _LOCALES


class RecordingDispatcher(Dispatcher):
    """Answers the requests of one box, and notes them for its record.

    count_threads: how many threads the kernel counts in the guest. patience: for the thread that has its turn.
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
        self._turns: OneByOne | None = None  # while there is one thread
        self._is_lingering = False  # whether a thread has ended that the kernel still counts
        self._look_at_ns = 0
        self._watched = -1  # `OneByOne.moves` for which `patience` was begun
        self.count_threads: Callable[[], int] = lambda: 0
        self.patience = Patience(lambda: 0, lambda: False)
        for stream, sink in enumerate((world.stdout, world.stderr)):
            sink.watch = lambda data, stream=stream: self._prints(stream, data)

    def _prints(self, stream: int, data: bytes) -> None:
        self._recorder.note("printed", self._frame, stream, data)
        if len(data) > _HEAVY:
            self._recorder.encode()

    def execute(self, thread: "GuestThread", frame: bytes) -> Reply:
        """As `Dispatcher.execute`, with a note."""
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
        """Returns an answer as it is noted, and of which part of the library it is (`_part`)."""
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
        elif len(reply) == 2:  # nearly all
            size = _size(reply[1][1])
        else:
            size = sum(_size(data) for _, data in reply[1:])
        if size > _HEAVY or len(frame) > _HEAVY:
            recorder.encode()  # many of them would be much memory
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
        """Returns the file of the library that the last write of an answer was read from.

        With it comes the offset in the file, and how many bytes of the write come before.
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
        """Returns the wait, of which each answer is noted."""

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
        """Notes an answer that has waited, and returns it: its thread goes on."""
        now = _now()
        if self._turns is not None:
            self._turns.goes(channel, now)
        self._note("later", channel, now, frame, noted)
        return reply

    def _in_turn(
        self, turns: OneByOne, channel: int, frame: bytes, reply: Reply, noted: tuple[Any, Any]
    ) -> Blocked:  # fmt: skip
        """Returns the wait of an answer for its thread's turn."""
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
            return Blocked(attempt, _now() + LOOK_NS, look, _goes_on_waiting)  # the thread that runs takes a signal

        return wait()

    def _goes_beside(self, turns: OneByOne) -> bool:
        """Whether the thread whose turn is next goes on although another one runs: that one has computed for long.

        It may also wait for something of which nothing is known here. A first thread that goes beside another one makes
        the record inexact, so that this is put off for longer.
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
        """Counts the thread that a call is about to begin as one that runs."""
        if not isinstance(reply, int) or reply <= 0:
            return
        child = reply & 0xFFFF
        if self._turns is None:
            self._turns = OneByOne(channel)
            self._world.futexes = Futexes(self._turns.was_alone)
        self._turns.goes(child, _now())

    def _ended(self, turns: OneByOne, now: int) -> None:
        """Lets nobody else run until the kernel has no such thread: it clears the word by which others wait for it.

        Where that takes longer than nearly always, the waits for turns look for it: other guests may have this driver,
        too, and a hostile thread does not end at all.
        """
        if not wait_for_end(self.count_threads, len(self._world.threads), _LOOKS_AT_END):
            turns.lingers()
            self._is_lingering = True
        self._wake_shared()

    def _look_for_end(self, turns: OneByOne, now: int) -> None:
        if now < self._look_at_ns:  # hundreds of waits may be tried at a time, and each look reads a file
            return
        self._look_at_ns = now + _NEXT_LOOK_NS
        if self.count_threads() <= len(self._world.threads):
            self._gone(turns)

    def _gone(self, turns: OneByOne) -> None:
        """No thread that has ended runs any more, or none is waited for."""
        self._is_lingering = False
        turns.has_gone()
        self._wake_shared()

    def _wake_shared(self) -> None:
        """Has those look at their words that wait for the end of a thread."""
        if self._world.futexes is not None:
            self._world.futexes.thread_ended()

    # --- what is noted besides ----------------------------------------------------------------------------------------

    def _record(self, name: str, denied: Denied) -> None:
        denial = denial_of(name, denied)
        self._recorder.note("refused", Refused(denial.call, denial.errno, denial.reason))
        super()._record(name, denied)

    def told(self) -> bytes:
        """As `Dispatcher.told`: where time is real, the guest ships its readings of clocks."""
        offset, unobserved = TOLD.unpack(super().told())
        is_real = self._world.clock.offset_ns() is not None
        return TOLD.pack(offset, unobserved | RECORDED if unobserved and is_real else unobserved)

    def sent(self, signal: int, late: bool) -> None:
        """Notes a signal. It may be called from a handler of a signal, in the middle of `encode`."""
        self._notes.append(("sent", signal, late, _now()))
