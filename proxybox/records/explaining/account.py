"""What a recorded program read, wrote, printed and used, and what was refused: counted call by call."""

import signal
from collections.abc import Callable
from typing import Final

import attrs

from proxybox.controller import abi
from proxybox.controller.calleffects import CallEffect
from proxybox.controller.exchange import values
from proxybox.controller.oscalls.rows import by_effect
from proxybox.controller.record.events import DenialEvent
from proxybox.controller.record.parting import Frame
from proxybox.records.explaining.counting import Counts, Table
from proxybox.records.lines import at_line
from proxybox.records.openfiles import STANDARD, OpenFiles, data, number, succeeded, waited
from proxybox.records.record import RecordedCall, RecordedSignal
from proxybox.terminal.strace import clock_read

MOST_FILES: Final = 20_000
MOST_NAMES: Final = 1000
MOST_WAITS: Final = 5000
MOST_LINES: Final = 20_000
#: The most subjects that are named for one refusal, and the most bytes of output that are stored for one stream.
MOST_SUBJECTS, MOST_PRINTED = 5, 1 << 16
_LONGEST_NAME, _LONGEST = 200, 1000
#: Names of a stream by its number in a record.
STREAMS: Final = ("stdout", "stderr")
_RANDOM: Final = frozenset({"/dev/urandom", "/dev/random"})
_IGNORED: Final = 1  # SIG_IGN


@attrs.define
class FileUse:
    """The use of one file or folder. read, written: bytes. looked: questions such as stat(2) and access(2).

    errors: names of errors, with how often an open or a question got them. changes: other changes, such as `removed`,
    with their counts. lines: the program's lines that made these calls.
    """

    opened: int = 0
    read: int = 0
    written: int = 0
    listed: int = 0
    mapped: int = 0
    looked: int = 0
    errors: Counts[str] = attrs.field(factory=lambda: Counts(16, "other"))
    changes: Counts[str] = attrs.field(factory=lambda: Counts(16, "others"))
    lines: Counts[str] = attrs.field(factory=lambda: Counts(16, "others"))

    @property
    def is_read(self) -> bool:
        """Whether its content was read, listed or mapped, or it was opened and not changed."""
        return bool(self.read or self.listed or self.mapped or (self.opened and not self.is_changed))

    @property
    def is_changed(self) -> bool:
        """Whether it was written or changed."""
        return bool(self.written or self.changes)


@attrs.define
class RefusalCount:
    """A refusal: how often it occurred, since when, for which subjects, and in which lines of the program."""

    count: int = 0
    first_call: int = 0
    first_at: float = 0.0
    subjects: list[str] = attrs.field(factory=list)
    lines: Counts[str] = attrs.field(factory=lambda: Counts(16, "others"))


@attrs.define
class WaitSummary:
    """The waiting for one thing, in seconds."""

    count: int = 0
    total: float = 0.0
    longest: float = 0.0

    def add(self, seconds: float) -> None:
        """Adds one wait."""
        self.count += 1
        self.total += seconds
        self.longest = max(self.longest, seconds)


@attrs.define
class ThreadUse:
    """One thread: its calls, the seconds that they waited, the times of its first and last call."""

    calls: int = 0
    waited: float = 0.0
    first: float = 0.0
    last: float = 0.0


@attrs.define
class LineUse:
    """The calls of one line of the program, the seconds that they waited, and refusals. names: counts by call."""

    function: str = ""
    calls: int = 0
    waited: float = 0.0
    refused: int = 0
    names: Counts[str] = attrs.field(factory=lambda: Counts(16, "others"))


@attrs.define
class StreamSummary:
    """The output to one stream. head: its beginning."""

    size: int = 0
    head: bytearray = attrs.field(factory=bytearray)


@attrs.define
class ResourceCounts:
    """The resources that it used besides files: each is a count, or a sum if its name says so."""

    clocks: Counts[str] = attrs.field(factory=lambda: Counts(64, "other clocks"))
    sleeps: WaitSummary = attrs.field(factory=WaitSummary)
    timers: int = 0
    random_bytes: int = 0
    randomness: int = 0
    threads: int = 0
    identity: int = 0
    sockets: int = 0
    host: Table[str, WaitSummary] = attrs.field(factory=lambda: Table(WaitSummary, MOST_NAMES))
    commands: int = 0
    shown: int = 0
    signals_sent: Counts[str] = attrs.field(factory=lambda: Counts(100, "other signals"))
    signals_handled: Counts[str] = attrs.field(factory=lambda: Counts(100, "other signals"))
    signals_received: Counts[str] = attrs.field(factory=lambda: Counts(100, "other signals"))


def signal_name(value: int | None) -> str:
    """Returns the name of a signal, or its number as text."""
    try:
        return signal.Signals(value or 0).name
    except ValueError:
        return f"signal {value}"


class CallSummary:
    """Counts the calls of a program and their effects. files: must follow each call after `add`."""

    def __init__(self, files: OpenFiles) -> None:
        self._open = files
        self.files: Table[str, FileUse] = Table(FileUse, MOST_FILES)
        self.refusals: Table[DenialEvent, RefusalCount] = Table(RefusalCount, MOST_NAMES)
        self.waits: Table[tuple[str, str], WaitSummary] = Table(WaitSummary, MOST_WAITS)
        self.threads: Table[int, ThreadUse] = Table(ThreadUse, MOST_NAMES)
        self.lines: Table[tuple[str, int | None], LineUse] = Table(LineUse, MOST_LINES)
        self.printed: tuple[StreamSummary, ...] = tuple(StreamSummary() for _ in STREAMS)
        self.asked = ResourceCounts()
        self.by_name: Counts[str] = Counts(MOST_NAMES, "others")
        self.unknown: Counts[str] = Counts(MOST_NAMES, "others")
        self.calls = 0
        self.errors = 0
        self.unanswered = 0
        self.ended = 0.0

    def signals(self, received: list[RecordedSignal]) -> None:
        """Counts signals that the program was sent."""
        for each in received:
            self.asked.signals_received.add(signal_name(each.signal))

    def add(self, call: RecordedCall, subject: str) -> None:
        """Counts one call. subject: as `OpenFiles.subject` returns it."""
        self.calls += 1
        self.errors += call.errno is not None
        self.by_name.add(call.name)
        if call.line is not None:
            self._line(call, call.line)
        self._time(call, subject)
        for refused in call.refusals:
            self._refused(call, refused, subject)
        for stream, printed in call.printed:
            self._printed(stream, printed)
        for clock, _ in call.clocks:
            self.asked.clocks.add(clock_read(clock))
        if call.family == "unknown":
            self.unknown.add(call.name)
        elif call.family == "identity":
            self.asked.identity += 1
        elif call.family == "sockets":
            self.asked.sockets += 1
        if not call.refusals and call.result is not None:
            count = _COUNTED.get(call.name)
            if count is not None:
                count(self, call, subject)
        if call.line is not None and subject in self.files:
            self.files[subject].lines.add(at_line(call.line))

    def _line(self, call: RecordedCall, line: Frame) -> None:
        use = self.lines.of((line.file, line.line))
        use.function = use.function or line.function
        use.calls += 1
        use.waited += waited(call)
        use.refused += bool(call.refusals)
        use.names.add(call.name)

    def _time(self, call: RecordedCall, subject: str) -> None:
        took = waited(call)
        self.unanswered += call.took is None
        ended = call.at + took
        self.ended = max(self.ended, ended)
        thread = self.threads.of(call.thread)
        if not thread.calls:
            thread.first = call.at
        thread.calls += 1
        thread.waited += took
        thread.last = max(thread.last, ended)
        if took > 0:
            self.waits.of((call.name, subject)).add(took)

    def _refused(self, call: RecordedCall, refused: DenialEvent, subject: str) -> None:
        call_name, error, reason = (
            refused.call[:_LONGEST_NAME],
            refused.errno[:_LONGEST_NAME],
            refused.reason[:_LONGEST],
        )
        refusal = self.refusals.of(DenialEvent(call_name, error, reason))
        if not refusal.count:
            refusal.first_call, refusal.first_at = call.number, call.at
        refusal.count += 1
        if call.line is not None:
            refusal.lines.add(at_line(call.line))
        if subject and subject not in refusal.subjects and len(refusal.subjects) < MOST_SUBJECTS:
            refusal.subjects.append(subject)

    def _printed(self, stream: int, printed: bytes) -> None:
        stream_printed = self.printed[min(stream, len(STREAMS) - 1)]
        stream_printed.size += len(printed)
        stream_printed.head += printed[: MOST_PRINTED - len(stream_printed.head)]

    # --- files

    def _opened(self, call: RecordedCall, subject: str) -> None:
        file = self.files.of(subject)
        if call.errno is not None:
            file.errors.add(call.errno)
            return
        file.opened += 1
        flags = number(call, "flags") or 0
        if call.name == "creat" or flags & abi.O_TRUNC:
            file.changes.add("opened anew")
        if "place" in call.arguments and len(call.stored) == 1:  # the status, and the content of a file to read
            file.read += max(0, call.stored[0].size - abi.STAT.size)
        elif "place" in call.arguments:
            file.read += sum(each.size for each in call.stored[1:])

    def _read(self, call: RecordedCall, subject: str) -> None:
        if not succeeded(call):
            return
        self.files.of(subject).read += call.result or 0
        if subject in _RANDOM:
            self.asked.random_bytes += call.result or 0
            self.asked.randomness += 1

    def _wrote(self, call: RecordedCall, subject: str) -> None:
        if succeeded(call) and subject not in STANDARD.values():
            self.files.of(subject).written += call.result or 0

    def _listed(self, call: RecordedCall, subject: str) -> None:
        if call.result == 0:
            self.files.of(subject).listed += 1

    def _mapped(self, call: RecordedCall, subject: str) -> None:
        if subject and succeeded(call):
            self.files.of(subject).mapped += 1

    def _looked(self, call: RecordedCall, subject: str) -> None:
        file = self.files.of(subject)
        file.looked += 1
        if call.errno is not None:
            file.errors.add(call.errno)

    def _transferred(self, call: RecordedCall, subject: str) -> None:
        if succeeded(call):
            source, target = ("in_fd", "out_fd")
            self.files.of(self._open.name(number(call, source))).read += call.result or 0
            if number(call, target) not in STANDARD:
                self.files.of(self._open.name(number(call, target))).written += call.result or 0

    def _renamed(self, call: RecordedCall, subject: str) -> None:
        if (target := self._named_anew(call, subject, "renamed")) is not None:
            self.files.of(subject).changes.add(f"renamed to {target[:_LONGEST_NAME]}")

    def _linked(self, call: RecordedCall, subject: str) -> None:
        self._named_anew(call, subject, "linked")

    def _named_anew(self, call: RecordedCall, subject: str, came: str) -> str | None:
        """Counts the change of the new name, and returns the name; None if the call failed."""
        target = self._open.path(call, "new")
        if not succeeded(call) or target is None:
            return None
        self.files.of(target).changes.add(f"{came} from {subject[:_LONGEST_NAME]}")
        return target

    def _resized(self, call: RecordedCall, subject: str) -> None:
        self.changed(call, subject, "made longer" if "mode" in call.arguments else "cut")

    def _altered(self, call: RecordedCall, subject: str) -> None:
        self.changed(call, subject, next((word for word in _ALTERED if word in call.arguments), "attributes"))

    def changed(self, call: RecordedCall, subject: str, word: str) -> None:
        """Counts a change, under the word for it."""
        if succeeded(call):
            self.files.of(subject).changes.add(word)

    # --- the rest

    def _clock(self, call: RecordedCall, _: str) -> None:
        clock = number(call, "clock_id")
        self.asked.clocks.add(call.name if clock is None else clock_read(clock))

    def _slept(self, call: RecordedCall, _: str) -> None:
        self.asked.sleeps.add(waited(call))

    def _timed(self, call: RecordedCall, _: str) -> None:
        self.asked.timers += 1

    def _random(self, call: RecordedCall, _: str) -> None:
        if succeeded(call):
            self.asked.randomness += 1
            self.asked.random_bytes += call.result or 0

    def _cloned(self, call: RecordedCall, _: str) -> None:
        self.asked.threads += succeeded(call)

    def _sent(self, call: RecordedCall, _: str) -> None:
        if number(call, "sig"):
            self.asked.signals_sent.add(signal_name(number(call, "sig")))

    def _handled(self, call: RecordedCall, _: str) -> None:
        action = data(call, "act")
        if succeeded(call) and action is not None and int.from_bytes(action[:8], "little") > _IGNORED:
            self.asked.signals_handled.add(signal_name(number(call, "sig")))

    def _exchanged(self, call: RecordedCall, _: str) -> None:
        message = data(call, "message") or b""
        message = message.removeprefix(b"*")  # the first piece of a longer one
        kind = message[:1]
        if kind == b"h":
            try:
                name = values.first_text(message[1:], 3)[:_LONGEST_NAME]
            except ValueError:
                name = "<not readable>"
            self.asked.host.of(name).add(waited(call))
        self.asked.commands += kind == b"r"
        self.asked.shown += kind == b"d"


#: The words for changes, by the effect of the call; for altered attributes, the argument with the new value.
_CHANGES: Final = {
    CallEffect.MAKES: "made",
    CallEffect.MAKES | CallEffect.DIRECTORY: "folder made",
    CallEffect.MAKES | CallEffect.SYMLINK: "link made",
    CallEffect.REMOVES: "removed",
    CallEffect.REMOVES | CallEffect.DIRECTORY: "folder removed",
}
_ALTERED: Final = ("mode", "owner", "times")


def _changed(word: str) -> Callable[[CallSummary, RecordedCall, str], None]:
    """Returns a function that counts a change under that word."""
    return lambda account, call, subject: account.changed(call, subject, word)


_COUNTED: Final = by_effect(
    {
        CallEffect.OPENS: CallSummary._opened,
        CallEffect.READS: CallSummary._read,
        CallEffect.WRITES: CallSummary._wrote,
        CallEffect.READS | CallEffect.WRITES: CallSummary._transferred,
        CallEffect.LISTS: CallSummary._listed,
        CallEffect.MAPS: CallSummary._mapped,
        CallEffect.LOOKS: CallSummary._looked,
        CallEffect.RENAMES: CallSummary._renamed,
        CallEffect.LINKS: CallSummary._linked,
        CallEffect.RESIZES: CallSummary._resized,
        CallEffect.ALTERS: CallSummary._altered,
        **{effect: _changed(word) for effect, word in _CHANGES.items()},
        CallEffect.CLOCK: CallSummary._clock,
        CallEffect.SLEEPS: CallSummary._slept,
        CallEffect.TIMERS: CallSummary._timed,
        CallEffect.RANDOMNESS: CallSummary._random,
        CallEffect.STARTS: CallSummary._cloned,
        CallEffect.SENDS: CallSummary._sent,
        CallEffect.SIGNALS: CallSummary._handled,
        CallEffect.CALLER: CallSummary._exchanged,
    },
    nothing=CallEffect.DIRECTORY | CallEffect.SYMLINK | CallEffect.STATUS | CallEffect.SEEKS | CallEffect.CREATES
    | CallEffect.DUPLICATES | CallEffect.CLOSES | CallEffect.ENTERS | CallEffect.WAITS | CallEffect.LOCKS
    | CallEffect.ENDS | CallEffect.IDENTITY | CallEffect.MEMORY | CallEffect.SOCKETS | CallEffect.SYSTEM,
)  # fmt: skip


def kind_of_error(name: str) -> str:
    """Returns an error in plain words."""
    return {"ENOENT": "not there", "ENOTDIR": "not there", "EACCES": "not allowed", "EPERM": "not allowed"}.get(
        name, name
    )
