"""Answers a guest from a record, as long as its requests are those of the recorded run.

    execute   the thread's request is stored, and the record is followed as far as possible
    follow    a call       compare it with its thread's request, and answer; wait where there is no request yet
              an answer    answer the thread's earlier call
              a signal     send it, before the guest gets an answer
              the end      end the guest where the controller ended it; otherwise the guest ends by itself

The order of all calls is that of the record. A request that comes before its turn waits. Nothing is guessed: the first
request that differs, or does not come, is the divergence, and ends the box.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Set
from errno import EPERM
from signal import SIGKILL
from typing import TYPE_CHECKING, Final

import attrs

from proxybox.controller.audit import Denial
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import NUMBERS, TABLE, Dispatcher, denial_of, unknown_name
from proxybox.controller.effects import Blocked, Reply
from proxybox.controller.errors import Denied, GuestMisbehaved, RecordError
from proxybox.controller.header import CALL_CLOCKS, CALL_NO_THREAD, CLOCK_RING, NOT_RECORDED, REPLAYED, RING, SETTINGS
from proxybox.controller.oscalls.rows import numbers_of
from proxybox.controller.record import events
from proxybox.controller.record.calls import PASSING, CallForm, number_of, same
from proxybox.controller.record.libraryfiles import digest_of
from proxybox.controller.record.onebyone import wait_for_end
from proxybox.controller.record.parting import Diverged, Divergence, RequestText
from proxybox.controller.status import Status
from proxybox.controller.vfs.host.library import LibraryFile
from proxybox.controller.wire.protocol import CLOCKS, without_clocks
from proxybox.controller.world.state import PENDING_MAX, Ended, Signal

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread, World

#: The most events, and bytes of them, that are read ahead for the next call of a thread.
_MOST_AHEAD, _MOST_BYTES = 4096, 16 << 20
_RING_SIZE: Final = CLOCK_RING.size + 8 * RING
#: The calls by which threads begin and end. Their handlers run in a replay too: the driver needs their effects.
_CLONE: Final = NUMBERS["clone"]
_EXIT: Final = NUMBERS["exit"]
_EXIT_GROUP: Final = NUMBERS["exit_group"]
_OF_THREADS = frozenset({_CLONE, _EXIT, _EXIT_GROUP})
#: The families of calls whose answers depend only on the policy, and on earlier calls of these families.
_OF_POLICY: Final = frozenset({"identity", "refused"})
#: The calls that threads may still make when the process ends: exit, a slice of a wait, their readings of clocks.
_AT_THE_END: Final = frozenset({_EXIT, NUMBERS["futex"], CALL_CLOCKS})
#: The calls that print data of another descriptor.
_MOVING: Final = numbers_of(CallEffect.READS) & numbers_of(CallEffect.WRITES)
#: The calls that write the bytes at their second argument; the third one is the number of bytes.
_WRITING: Final = frozenset(number for number in PASSING if "buf" in dict(TABLE[number].parameters))
#: From this number on, several signals of one number can be pending.
_REAL_TIME: Final = 32
#: How often the end of a thread is checked before it is checked whether all threads wait.
_LOOKS_AT_END: Final = 12
#: Longer times between two events of a record count as this.
LONGEST_NS: Final = 3_600_000_000_000


class Replayer(Dispatcher):
    """Answers one guest from the events of a record.

    rows: the record's table of calls. divergence: where the guest has diverged from the record; None where it has not.
    is_over: whether the whole record was followed. speed: how many seconds of the record pass in one second; None for
    as fast as possible. has_ended: waits at most so many milliseconds for the end of the guest, and returns whether it
    has ended. waits: whether all threads of the guest wait. rounds: how often the driver has looked for calls.
    has_deadline: whether the driver is to do something for the guest at a certain time. steps: how often the replay has
    continued. pauses: whether `speed` or a function of the caller delays the replay. concluded: set when the guest has
    ended. loosely: the numbers of calls of which only the kind is compared: where other answers are tried, the program
    may use other times and names.
    """

    __slots__ = (
        "_ahead", "_answers", "_at", "_begun_ns", "_checked", "_exits", "_files", "_first", "_frames", "_given_up",
        "_on_call", "_pending", "_plain", "_read", "_rows", "_settings_at", "_until", "calls_followed", "concluded",
        "count_threads", "divergence", "due", "has_deadline", "has_ended", "is_over", "is_stopped", "is_unobserved",
        "kill", "loosely", "next", "pauses", "rest", "rounds", "seen", "speed", "steps", "waits", "wake",
    )  # fmt: skip

    def __init__(
        self, world: "World", recorded: Iterator[events.Event], rows: dict[int, CallForm],
        files: dict[int, events.LibraryFileEvent], settings_at: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(world)
        self._settings_at = settings_at
        self.look_at(None)
        self.wake: Callable[[], None] = lambda: None  # makes the driver look again
        self.kill: Callable[[], None] = lambda: None  # ends the guest
        self.speed: float | None = None
        self.has_ended: Callable[[int], object] = lambda wait_ms: False
        self.loosely: Set[int] = frozenset()
        self.count_threads: Callable[[], int] = lambda: 0
        self.waits: Callable[[], bool] = lambda: False
        self.rounds = 0
        self.has_deadline = False
        self._begun_ns = time.monotonic_ns()
        self.is_unobserved = True
        self._ahead: deque[events.Event] = deque()
        self._read: dict[int, bytes] = {}  # by channel: the readings that came with a request
        self._rows = rows
        self._checked = {number for number, row in TABLE.items() if row.family in _OF_POLICY and number in rows}
        self._plain = frozenset(number.to_bytes(4, "little") for number in rows.keys() - _OF_THREADS - self._checked)
        self._files = files
        self.rest = recorded
        self.next: events.Event | None = None
        self.divergence: Divergence | None = None
        self.is_over = False
        self.is_stopped = False
        self.calls_followed = 0
        self.due: list[int] = []  # when the next signal is to be sent, where that is the next event
        self.seen: events.CallEvent | None = None
        self._frames: dict[int, bytes] = {}  # by channel: requests that were compared and are not answered yet
        self._pending: dict[int, bytes] = {}  # by channel: requests whose turn has not come
        self._answers: dict[int, Reply] = {}
        self.concluded = threading.Event()
        self._given_up: Diverged | None = None
        self._exits = False  # exit_group was answered
        self.pauses = False  # `speed` or `_on_call` delays the replay
        self.steps = 0
        self._step()

    def look_at(
        self, until: int | None, on_call: Callable[[events.CallEvent], object] | None = None, at: int | None = None
    ) -> None:  # fmt: skip
        """Sets the number of the call at which to stop, and a function for each call, or only for call `at`."""
        self._until, self._on_call, self._at = math.inf if until is None else until, on_call, at
        self._first = min(self._until, math.inf if on_call is None else at or 1)  # calls before it need neither

    # --- the driver's side --------------------------------------------------------------------------------------------

    def execute(self, thread: "GuestThread", frame: bytes) -> Reply:
        """Returns the answer to a request, or a wait for its turn."""
        thread.calls += 1
        channel = thread.channel
        event = self.next
        if (  # the path of nearly every call
            isinstance(event, events.CallEvent)
            and event.is_plain
            and event.answer is not None
            and event.frame == frame
            and event.channel == channel
            and frame[4:8] in self._plain
            and self.speed is None
            and self.calls_followed + 1 < self._first
        ):
            self.calls_followed += 1
            self.seen = event
            self._step()
            coming = self.next
            if isinstance(coming, events.CallEvent) and coming.channel == channel and not coming.effects:
                return event.answer.value
            self._answer(channel, frame, event.answer, event.at_ns)
        else:
            if frame[7] & CLOCKS:
                frame, self._read[channel] = without_clocks(frame)
            self._pending[channel] = frame
        self.follow()
        if channel in self._answers:
            return self._answers.pop(channel)
        return Blocked(lambda: self._answers.pop(channel, None), on_interrupt=lambda: None)

    def look(self, now: int) -> None:
        """Sends a signal whose time has come."""
        if self.due and now >= self.due[0]:
            self.due.clear()
            self.follow(late=True)

    def give_up(self) -> None:
        """Ends the guest, because the next call of the record does not come."""
        expected = self.next if isinstance(self.next, events.CallEvent) else None
        waiting = next(iter(self._pending.items()), None)
        self._given_up = Diverged("a call does not come", expected, waiting)
        self.kill()

    # --- following the record -----------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Called when the guest has ended. Reads the rest of the record."""
        self.concluded.set()
        if self._given_up is not None and self.divergence is None:
            self._diverge(self._given_up)
        if not self.is_over and self.divergence is None and self._world.ending is None:
            if self._exits:  # other threads end in any order while the process ends
                while isinstance(self.next, events.CallEvent) and number_of(self.next.frame) in _AT_THE_END:
                    self._step()
            if isinstance(self.next, events.EndEvent):
                self.is_over = True
            else:
                expected = self.next if isinstance(self.next, events.CallEvent) else None
                self._diverge(Diverged("the program has ended, where it went on", expected))
        for _ in self.rest:
            pass

    def follow(self, *, late: bool = False) -> None:
        """Follows the record as far as the guest's requests allow. late: whether the next signal is due."""
        if self._world.ending is not None:
            return
        try:
            while self._follow(late):
                late = False
        except Diverged as parting:
            self._diverge(parting)
        self._world.changes.everything = True  # the waits of other threads may be over

    def _step(self) -> None:
        """Goes to the next event."""
        self.steps += 1
        self.next = self._ahead.popleft() if self._ahead else self._fetch()

    def _fetch(self) -> events.Event | None:
        event = next(self.rest, None)
        while event.__class__ is events.LibraryFileEvent:
            event = next(self.rest, None)
        return event

    def _coming(self, channel: int) -> events.CallEvent | None:
        """Returns the next call of a thread; None where it has no other, or one that is too far away."""
        if isinstance(self.next, events.CallEvent) and self.next.channel == channel:
            return self.next
        for known in self._ahead:
            if isinstance(known, events.CallEvent) and known.channel == channel:
                return known
        size = sum(map(_weight, self._ahead))
        while len(self._ahead) < _MOST_AHEAD and size < _MOST_BYTES and (event := self._fetch()) is not None:
            self._ahead.append(event)
            size += _weight(event)
            if isinstance(event, events.CallEvent) and event.channel == channel:
                return event
        return None

    # --- clocks -------------------------------------------------------------------------------------------------------

    def stub_settings(self) -> bytes:
        """Returns the settings of the guest (struct settings in wire.h), and the first readings of the main thread."""
        if not self.is_unobserved:
            return SETTINGS.pack(0, False, NOT_RECORDED)
        return SETTINGS.pack(0, True, REPLAYED) + self._ring(0)

    def _is_settings(self, address: int, data: bytes) -> bool:
        """Whether `data`, stored at `address`, would change the guest's settings."""
        begin = self._settings_at
        return bool(begin) and address < begin + SETTINGS.size and address + len(data) > begin

    def _new_settings(self, address: int, data: bytes) -> bytes:
        """Returns the settings that replace those of an answer in the middle of the run, as for a session's audit."""
        if address != self._settings_at or len(data) != SETTINGS.size:
            raise RecordError("an answer stores in a part of the guest's settings: the record is damaged")
        self.is_unobserved = bool(SETTINGS.unpack(data)[1])
        return SETTINGS.pack(0, self.is_unobserved, REPLAYED if self.is_unobserved else NOT_RECORDED)

    def _ring(self, channel: int) -> bytes:
        """Returns a thread's ring with the readings that it makes before its next call; b"" when it makes none."""
        readings = _readings(self._coming(channel))
        count = len(readings) // 9
        head = CLOCK_RING.pack(0, count, readings[:count]) + readings[count:]
        return head if count else b""

    def _given(self, channel: int) -> tuple[tuple[int, bytes], ...]:
        """Returns what an answer stores as well, so that the thread finds its next readings."""
        ring = self._ring(channel) if self._settings_at and self.is_unobserved else b""
        return ((self._settings_at + SETTINGS.size + channel * _RING_SIZE, ring),) if ring else ()

    def _follow(self, late: bool) -> bool:
        """Follows the next event, if that can be done now."""
        event = self.next
        if isinstance(event, events.CallEvent):
            frame = self._pending.pop(event.channel, None)
            if frame is None:
                return False  # the thread has to make its call first
            if not self._compare(event, frame):
                event = _fitted(event, frame)
            self.calls_followed += 1
            self.seen = event
            if self._on_call is not None and self._at in (None, self.calls_followed):
                self.pauses = True
                self._on_call(event)
                self.pauses = False
                self.steps += 1
            if self.calls_followed >= self._until:
                self.is_stopped = True
                self._world.end(Ended(Status.CANCELLED, f"stopped at call {self._until:,}, as was asked for"))
                return False
            self._step()
            self._carry_effects(event.channel, frame, event.effects)
            if (number := number_of(frame)) not in self._rows:
                self.count_unknown(number)
            if event.answer is not None:
                if number in self._checked:
                    self._check(event, frame, event.answer)
                self._answer(event.channel, frame, event.answer, event.at_ns)
            else:
                self._frames[event.channel] = frame
            return True
        elif isinstance(event, events.Answered):
            waiting = self._frames.pop(event.channel, None)
            if waiting is None:
                raise RecordError("an answer to no call: the record is damaged")
            self._step()
            self._carry_effects(event.channel, waiting, event.effects)
            self._answer(event.channel, waiting, event.answer, event.at_ns)
            return True
        elif isinstance(event, events.Sent):
            if event.late and not late and not self._pending and not self._frames:
                if not self.due:
                    self.due.append(time.monotonic_ns() + self._wait(event))
                return False
            self.due.clear()
            outbox = self._world.signals.outbox
            if len(outbox) >= PENDING_MAX:
                raise RecordError("more signals at a time than there can be: the record is damaged")
            if event.signal >= _REAL_TIME or all(each.number != event.signal for each in outbox):  # as in signal(7)
                outbox.append(Signal(event.signal))
        elif isinstance(event, events.EndEvent):
            return self._end(event)
        elif event is None:
            self._cut_off()
            return False
        self._step()
        return True

    def _wait(self, event: events.Sent) -> int:
        return min(max(0, event.at_ns - (0 if self.seen is None else self.seen.at_ns)), LONGEST_NS)

    def _compare(self, event: events.CallEvent, frame: bytes) -> bool:
        """Raises Diverged unless a request is the recorded one, and GuestMisbehaved for a malformed request.

        Returns False where only the kind of the call was compared.
        """
        if _readings(event) != self._read.pop(event.channel, b""):
            raise Diverged("the program reads clocks at other times before this call", event, (event.channel, frame))
        number = number_of(frame)
        row = self._rows.get(number)
        if number == number_of(event.frame) and self.calls_followed + 1 in self.loosely:
            return False
        if number != number_of(event.frame) or (row is not None and not same(row, frame, event.frame)):
            raise Diverged("the program asks something else", event, (event.channel, frame))
        return True

    def _carry_effects(self, channel: int, frame: bytes, effects: tuple[events.Effect, ...]) -> None:
        world = self._world
        for effect in effects:
            if isinstance(effect, events.PrintedData):
                sink = world.stderr if effect.stream else world.stdout
                sink.write(self._printed(frame, effect))
            elif isinstance(effect, events.Mapped):
                self._map(channel, effect.file)
            elif isinstance(effect, events.DenialEvent):
                self.count_denial(Denial(effect.call, effect.errno, effect.reason))

    def look_at_policy(self, *, does: bool) -> None:
        """Sets whether recorded answers are compared with the policy's: not where an interceptor may have answered."""
        self._checked = self._checked if does else set()

    def _check(self, event: events.CallEvent, frame: bytes, answer: events.RecordedAnswer) -> None:
        """Raises Diverged unless a call was answered as the policy answers it."""
        thread = next((each for each in self._world.threads if each.channel == event.channel), None)
        row, refused = TABLE[number_of(frame)], None
        if thread is None:
            return
        try:
            reply = row.invoke(self._world, thread, frame)
        except Denied as denied:
            denial = denial_of(row.name, denied)
            refused, reply = events.DenialEvent(denial.call, denial.errno, denial.reason), -(denied.errno or EPERM)
        except OSError as error:
            reply = -(error.errno or 0)
        value, *stored = reply if isinstance(reply, tuple) else (reply,)
        then = next((each for each in event.effects if isinstance(each, events.DenialEvent)), None)
        if (value, refused) != (answer.value, then) or stored != self._writes(frame, answer):
            why = f"the policy answers this call with {value}, and not with {answer.value}"
            raise Diverged(why, event, is_answer=True)

    def _writes(self, frame: bytes, answer: events.RecordedAnswer) -> list[tuple[int, bytes]]:
        """Returns what an answer stores, as pairs of address and data."""
        if not answer.stored:
            return []
        registers = events.REGISTERS(frame)
        return [
            (
                ((0 if each.register == events.NO_REGISTER else registers[each.register]) + each.offset) % (1 << 64),
                self._bytes(each.data),
            )
            for each in answer.stored
        ]

    def _answer(self, channel: int, frame: bytes, answer: events.RecordedAnswer, at_ns: int) -> None:
        value, number = answer.value, number_of(frame)
        reply: Reply = value
        if number in _OF_THREADS:
            self._carry_out(number, channel, frame, value)
        if number == _CLONE and value > 0:
            reply = value = self._made(channel, value)
        if self.speed is not None:
            wait = self._begun_ns + at_ns / self.speed - time.monotonic_ns()
            self.pauses = True
            self.has_ended(int(min(max(0, wait), LONGEST_NS)) // 1_000_000)  # a time limit may end the guest meanwhile
            self.pauses = False
            self.steps += 1
        if number == _EXIT:
            return  # another thread may soon have its channel
        writes = [
            (address, self._new_settings(address, data) if self._is_settings(address, data) else data)
            for address, data in self._writes(frame, answer)
        ]
        writes += self._given(channel)
        if number == _CLONE and value > 0:
            writes += self._given(value & 0xFFFF)
        if writes:
            reply = (value, *writes)
        self._answers[channel] = reply

    def _printed(self, frame: bytes, effect: events.PrintedData) -> bytes:
        """Returns what a call has printed: its own data, where the request has any."""
        number, passed = number_of(frame), frame[60 : 60 + effect.size]
        if number in PASSING and len(passed) == effect.size and effect.data in (None, passed):
            return passed
        if number in _MOVING and effect.data is not None:
            return self._bytes(effect.data)
        raise RecordError("a call prints what it does not pass: the record is damaged")

    def _carry_out(self, number: int, channel: int, frame: bytes, value: int) -> None:
        """Runs the handler of a call that begins or ends threads. Raises RecordError when its answer differs."""
        world = self._world
        thread = next((each for each in world.threads if each.channel == channel), None)
        self._exits = self._exits or number == _EXIT_GROUP
        if value < 0 or thread is None:
            return
        try:
            done = TABLE[number].invoke(world, thread, frame)
        except OSError as error:
            done = -(error.errno or 0)
        if thread.exited:
            self._await_end(len(world.threads))
        if done != value:
            raise RecordError(f"the thread that the record has cannot be made here ({TABLE[number].name})")

    def _await_end(self, left: int) -> None:
        """Waits until the kernel has ended a thread, and cleared the futex word on which others wait.

        This stops when all threads wait, as a hostile thread may. A thread that computes instead is ended
        (watching.py).
        """
        while not wait_for_end(self.count_threads, left, _LOOKS_AT_END) and not self.waits():
            pass

    def _made(self, channel: int, granted: int) -> int:
        """Returns the result of a granted clone(2): where the kernel made no thread then, none is made now."""
        coming = self._coming(channel)
        if coming is None or number_of(coming.frame) != CALL_NO_THREAD:
            return granted
        tid, error = events.REGISTERS(coming.frame)[:2]
        thread = self._world.thread_by_tid(tid)
        if thread is None or tid != granted >> 16 or not 1 << 64 > error >= (1 << 64) - 4095:
            raise RecordError("a thread was not made that was not granted: the record is damaged")
        self._world.end_thread(thread)
        if coming is self.next:
            self._step()
        else:
            self._ahead.remove(coming)
        self._carry_effects(channel, coming.frame, coming.effects)
        self.calls_followed += 1
        return int(error) - (1 << 64)

    def _bytes(self, data: events.Data) -> bytes:
        if isinstance(data, bytes):
            return data
        if isinstance(data, events.LeftOut):
            why = f"the record leaves out {data.size:,} bytes that the program reads here"
            raise Diverged(why, self.seen, is_answer=True)
        return self._file(data.file).pread(data.size, data.offset)

    def _file(self, number: int) -> LibraryFile:
        """Returns a file of the library. Raises RecordError unless it is the file that the recorded run has read."""
        file, world = self._files[number], self._world
        shown = file.path.decode("utf-8", "backslashreplace")
        try:
            node = world.tree.resolve(file.path, world.tree.root, world.credentials)
            is_same = isinstance(node, LibraryFile) and node.size() == file.size and digest_of(node) == file.digest
        except OSError as error:
            raise RecordError(
                f"the interpreter here has no {shown} ({error.strerror}), which the run has read"
            ) from None
        if not is_same or not isinstance(node, LibraryFile):
            raise RecordError(f"{shown} is another one here than the run has read: replay with the same interpreter")
        return node

    def _map(self, channel: int, number: int) -> None:
        fd = self._file(number).host_descriptor()
        if fd is None or not self._world.grant_library(channel, fd):
            raise RecordError("a library cannot be mapped here as it was in the recorded run")

    # --- ends ---------------------------------------------------------------------------------------------------------

    def _end(self, event: events.EndEvent) -> bool:
        self.is_over = True
        if event.status:
            self._world.end(Ended(_status(event.status), event.why, event.signal))
        elif event.signal == SIGKILL:  # it was killed from outside: it cannot do that itself
            self.kill()
        elif self._exits and all(number_of(frame) in _AT_THE_END for frame in self._pending.values()):
            return False  # in the recorded run, the process ended before these calls were noted
        elif self._pending:
            raise Diverged("the program goes on, where it had ended", None, next(iter(self._pending.items())))
        return False

    def _cut_off(self) -> None:
        """Ends the guest where the record is cut off: the controller was killed, or could not write any more."""
        self._world.end(Ended(Status.CANCELLED, "the record ends here, before the program did"))

    def _diverge(self, parting: Diverged) -> None:
        expected = parting.expected
        self.divergence = Divergence(
            self.calls_followed + (not parting.is_answer),
            parting.why,
            None if expected is None else self.request_text(expected.channel, expected.frame),
            None if parting.got is None else self.request_text(*parting.got),
        )
        self._world.end(Ended(Status.CANCELLED, f"the replay parts from its record: {parting.why}"))

    def request_text(self, channel: int, frame: bytes) -> RequestText:
        """Returns a request as text for people."""
        thread = next((each.tid for each in self._world.threads if each.channel == channel), 0)
        number = number_of(frame)
        row = self._rows.get(number)
        if row is None:
            return RequestText(thread, unknown_name(number), {})
        try:
            return RequestText(thread, row.name, *row.both(frame))
        except (GuestMisbehaved, RecordError):
            return RequestText(thread, row.name, {})


def _readings(call: events.CallEvent | None) -> bytes:
    """Returns the readings of clocks that came with a recorded call."""
    effects = () if call is None else call.effects
    return next((each.raw for each in effects if isinstance(each, events.Clocks)), b"") if effects else b""


def _fitted(call: events.CallEvent, frame: bytes) -> events.CallEvent:
    """Returns a recorded call, changed to answer a request that was compared loosely: all of its data is written."""
    size, then = events.REGISTERS(frame)[2], events.REGISTERS(call.frame)[2]
    if number_of(frame) not in _WRITING or call.answer is None or call.answer.value != then:
        return call
    effects = tuple(
        events.PrintedData(each.stream, size) if isinstance(each, events.PrintedData) else each for each in call.effects
    )
    return attrs.evolve(call, answer=events.RecordedAnswer(size), effects=effects)


def _weight(event: events.Event) -> int:
    """Returns how many bytes an event takes while it is read ahead."""
    if not isinstance(event, events.CallEvent | events.Answered):
        return 0
    stored = () if event.answer is None else event.answer.stored
    size = sum(len(each.data) for each in stored if isinstance(each.data, bytes))
    size += sum(map(events.held_by, event.effects))
    return size + len(event.frame) if isinstance(event, events.CallEvent) else size


def _status(name: str) -> Status:
    try:
        return Status(name)
    except ValueError:
        raise RecordError(f"the run has ended as {name!r}, which this proxybox does not know") from None
