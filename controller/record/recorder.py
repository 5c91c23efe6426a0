"""Records a run: notes of calls and answers, and a thread that writes them to a file.

A driver's thread only appends notes to a list, because every OS call waits for that. It encodes `BATCH` notes at a time
as events. A second thread that did this would take Python's lock from it again and again. The recorder's own thread
compresses, chains and writes the events, and hashes the files that they name, without that lock. About `_MOST_WAITING`
bytes may wait for it, or four times as many where a driver must not wait.
"""

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, Final, TypeAlias

from proxybox.controller.costs.meter import Meter
from proxybox.controller.drivers.engine import served_here
from proxybox.controller.errors import RecordError
from proxybox.controller.record.calls import PASSING
from proxybox.controller.record.encoding import Encoder, placed
from proxybox.controller.record.events import MOST_FILES, DenialEvent, EndEvent, LibraryFileEvent, OfFile
from proxybox.controller.record.exactness import LATE, Inexact, as_data
from proxybox.controller.record.format import FrameKind, FrameWriter
from proxybox.controller.record.libraryfiles import digest_of, path_of
from proxybox.controller.vfs.host.library import LibraryFile

#: Notes that are encoded at a time.
BATCH: Final = 512
#: Bytes of events in a frame, and seconds after which a smaller frame is written.
_FRAME_BYTES, _FRAME_SECONDS = 256 << 10, 0.25
#: Bytes of events that wait to be written.
_MOST_WAITING: Final = 16 << 20
#: How long a driver waits for the recorder's thread.
_LONGEST_WAIT_NS: Final = 60_000_000_000
#: Bytes of a piece of contents.
_PIECE: Final = 1 << 20

_now = time.monotonic_ns
#: Encoded events, and the library files that they name for the first time, with their numbers.
_Events: TypeAlias = tuple[bytes, list[tuple[int, LibraryFile]]]


class Recorder:
    """The record of one run, which is written to `file`.

    limit: the maximum size of the file in bytes. A run that needs more is ended; with `discard`, the file is emptied
    instead, and `discard` is called. fault: why the record is not complete; None where it is. inexact: from where on
    the record cannot be replayed exactly; None where it can. started_ns: host time. meter: the guest's meter, which
    also counts the CPU time of the recorder's thread. The methods can be called from any thread.
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
        self._names = Encoder(self.started_ns)  # used by the recorder's thread
        self._encoding = threading.Lock()
        self._files: dict[LibraryFile, int] = {}
        self._new: list[tuple[int, LibraryFile]] = []  # files that events name, and that are in no frame yet
        self._ready: deque[_Events] = deque()
        self._waiting = 0  # bytes in _ready
        self._change = threading.Condition()
        self._closing = False
        self._has_ended = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="proxybox-recorder", daemon=True)

    def begin(self, start: Mapping[str, Any]) -> None:
        """Writes the start of the run, and starts the recorder's thread. Raises OSError."""
        self._frames.write(FrameKind.START, json.dumps(start).encode())
        self._thread.start()

    def note(self, *note: Any) -> None:
        """Adds a note: the name of a method of this class, without its underscore, and the arguments."""
        self.notes.append(note)
        if len(self.notes) >= BATCH:
            self.encode()

    def encode(self) -> None:
        """Encodes the notes. Passes whole frames of events to the recorder's thread; waits while that is far behind."""
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
        """Waits while the recorder's thread is far behind. A driver of several guests ends the record instead."""
        is_of_engine, until = served_here() is not None, _now() + _LONGEST_WAIT_NS
        with self._change:
            while self._waiting > _MOST_WAITING and self._thread.is_alive() and self.fault is None:
                if (is_of_engine and self._waiting > 4 * _MOST_WAITING) or _now() > until:
                    self.fault = "the disk is slower than the program"
                if is_of_engine:
                    return
                self._change.wait(1)

    def close(self, end: Mapping[str, Any], contents: Iterable[bytes]) -> None:
        """Writes the remaining events, the contents that `end` names, in order, and `end`."""
        self._join()
        if os.getpid() == self._pid:
            self._guarded(lambda: self._finish(end, contents))

    @property
    def chain(self) -> bytes:
        """The chain of the file so far."""
        return self._frames.chain

    def stop(self) -> None:
        """Closes the file, whether the record is complete or not."""
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
                self._write(FrameKind.CONTENT, content[at : at + _PIECE])
        self._write(FrameKind.END, json.dumps({**end, "inexact": as_data(self.inexact)}).encode())

    # --- the recorder's thread ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._change:
                if not self._ready and not self._closing:
                    self._change.wait(_FRAME_SECONDS)
                is_closing = self._closing  # read before the notes are taken, so that no note is missed
                made = self._ready.popleft() if self._ready else (b"", [])
                self._waiting -= len(made[0])
                self._change.notify_all()
            if not made[0]:
                with self._encoding:
                    if self._ready:  # events that came between the two locks are older than the notes
                        continue
                    self._guarded(self._take)
                    made = self._made()
            if made[0]:
                self._guarded(lambda made=made: self._write_events(*made))  # type: ignore[misc]
                self.meter.beside = time.thread_time_ns()
            elif is_closing:
                return

    def _write_events(self, data: bytes, new: list[tuple[int, LibraryFile]]) -> None:
        """Writes events, and before them the files that they name for the first time. Hashing these may take long."""
        for number, node in new:
            self._names.file(LibraryFileEvent(number, node.size(), digest_of(node), path_of(node)))
        if new:
            self._write(FrameKind.EVENTS, self._names.take())
        self._write(FrameKind.EVENTS, data)

    def _guarded(self, action: Callable[[], None]) -> None:
        """Calls `action`. The first failure ends the record, but not the run."""
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
        """Returns and removes the encoded events, with the files that they name for the first time."""
        new, self._new = self._new, []
        return self._encoder.take(), new

    def _special(self, note: tuple[Any, ...]) -> None:
        getattr(self, f"_{note[0]}")(*note[1:])

    def _write(self, kind: FrameKind, data: bytes) -> None:
        if self.fault is not None:
            return
        if self._frames.written > self.limit and kind is not FrameKind.END:
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

    def _refused(self, refused: DenialEvent) -> None:
        self._encoder.refused(refused)

    def _mapped(self, node: LibraryFile) -> None:
        number = self._number(node)
        if number is None:
            raise RecordError("the program maps more files than a record can name")
        self._encoder.mapped(number)

    def _sent(self, signal: int, late: bool, now: int) -> None:
        if self._has_ended:  # another thread may interrupt the guest while it ends
            return
        self._encoder.sent(signal, late, now)
        if late:
            self._inexact(LATE)

    def _inexact(self, why: str) -> None:
        """Records that a replay may differ from the run from the next call on."""
        if self.inexact is None:
            self.inexact = Inexact(self._encoder.calls + 1, why)

    def _clocks(self, channel: int, at_ns: int, readings: bytes) -> None:
        self._encoder.clocks(channel, at_ns, readings)

    def _ended(self, ended: EndEvent) -> None:
        self._has_ended = True
        self._encoder.ended(ended)

    def _number(self, node: LibraryFile) -> int | None:
        """Returns the number of a library file; None after MOST_FILES. `_write_events` writes the file first."""
        number = self._files.get(node)
        if number is None and len(self._files) < MOST_FILES:
            number = self._files[node] = len(self._files)
            self._new.append((number, node))
        return number
