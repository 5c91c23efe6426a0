"""The guest's output: it is counted, limited, stored for the Result, passed on, and made safe for terminals.

Rules: a guest cannot make the controller store more than the limits allow, however small its writes are. The bytes that
are stored and passed on are the guest's own. Only `TerminalFilter` changes bytes, on the way to a terminal.
"""

import codecs
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

import attrs

from proxybox.controller.callers import Callers, RaisedByCaller

if TYPE_CHECKING:
    from proxybox.policies import Output

STREAMS: Final = ("stdout", "stderr")


#: The most turns of the two streams whose order is stored. Each takes 8 bytes, and a turn may be a single byte.
MOST_TURNS: Final = 1 << 16


@attrs.frozen
class Interleaved:
    """The output of both streams, with its order; pieces are made only when they are requested.

    ends: where each turn ends in its stream. The turns of stdout and stderr alternate, beginning with stdout.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    ends: Sequence[int] = ()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """Yields (stream, bytes) in order; adjacent pieces of one stream are joined."""
        data, starts = (self.stdout, self.stderr), [0, 0]
        for index, end in enumerate(self.ends):
            turn = index % 2
            if end > starts[turn]:
                yield STREAMS[turn], data[turn][starts[turn] : end]
                starts[turn] = end


class Transcript:
    """Both streams and the order in which they were written, in little more memory than the bytes take.

    After MOST_TURNS turns, all that follows counts as one turn of each stream.
    """

    __slots__ = ("_ends", "_last", "data")

    def __init__(self) -> None:
        self.data = {name: bytearray() for name in STREAMS}
        self._ends = array("Q")
        self._last = "stderr"

    def append(self, stream: str, data: bytes) -> None:
        """Stores bytes that were written to a stream."""
        if not data:
            return
        written, ends = self.data[stream], self._ends
        written += data
        if stream == self._last:
            if not ends:
                ends.append(0)  # stderr is written first: stdout's turn is empty
                ends.append(0)
            ends[-1] = len(written)
        elif len(ends) < MOST_TURNS:
            ends.append(len(written))
            self._last = stream
        else:
            ends[-2] = len(written)

    def append_tail(self, stream: str, data: bytes, size: int) -> None:
        """Stores the last bytes of a stream: at least `size`, and at most twice as many.

        They have no place in the order.
        """
        tail = self.data[stream]
        tail += data[-size:]
        if len(tail) > 2 * size:
            del tail[:-size]

    def interleaved(self) -> Interleaved:
        """Returns all output so far."""
        return Interleaved(bytes(self.data["stdout"]), bytes(self.data["stderr"]), self._ends[:])


class WriteFailed(OSError):
    """Raised by a callback: the program's write fails with this errno, as it does for a BrokenPipeError."""


class OutputSink:
    """One output stream of the box, with its limits.

    policy: limits in bytes and lines, and what happens beyond them. callback: gets every piece that is within them.
    keep: whether all of it is stored for the Result. tail: how many bytes of its end are stored otherwise. on_limit:
    called when the box has to end because of the limits. watch: called with all written bytes, also beyond the limits.
    `truncated` and `over` can be read at any time.
    """

    __slots__ = (
        "_bytes_left",
        "_callback",
        "_ends",
        "_keep",
        "_lines_left",
        "_tail",
        "callers",
        "is_tty",
        "name",
        "on_limit",
        "over",
        "transcript",
        "truncated",
        "watch",
        "winsize",
        "written",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        policy: "Output | None" = None,
        transcript: Transcript | None = None,
        callback: Callable[[bytes], object] | None = None,
        *,
        keep: bool = True,
        tail: int = 0,
        is_tty: bool = False,
        winsize: tuple[int, int] = (24, 80),
    ) -> None:
        self.name = name
        self.is_tty = is_tty
        self.winsize = winsize
        self.on_limit: Callable[[], None] | None = None
        self.watch: Callable[[bytes], object] | None = None
        self.callers = Callers()
        self._keep = keep
        self._tail = tail
        self.begin(policy, Transcript() if transcript is None else transcript, callback)

    def begin(
        self, policy: "Output | None", transcript: Transcript, callback: Callable[[bytes], object] | None = None
    ) -> None:
        """Starts to count and store anew, for the next call of a session or the owner of a warm box."""
        self.transcript = transcript
        self.truncated = False
        self.over = False
        self.written = 0
        self._callback = callback
        self._ends = policy is not None and policy.on_excess == "end"
        self._bytes_left: int | None = None if policy is None else policy.limit
        self._lines_left: int | None = None if policy is None else policy.lines

    def keep_all(self) -> None:
        """Stores all of it from now on, whatever the caller has requested."""
        self._keep = True

    def getvalue(self) -> bytes:
        """Returns the stored bytes of this stream: all of it, its tail, or nothing."""
        return bytes(self.transcript.data[self.name])

    def write(self, data: bytes) -> int:
        """Accepts a write of the guest, and returns its whole length, even where some bytes were cut off."""
        size = len(data)
        self.written += size
        if self.watch is not None:
            self.watch(data)
        if self.over:
            self.truncated = self.truncated or size > 0
            return size
        allowed = self._within(data)
        if allowed:
            if self._keep:
                self.transcript.append(self.name, allowed)
            elif self._tail:
                self.transcript.append_tail(self.name, allowed, self._tail)
            if self._callback is not None:
                self._hand_on(allowed)
        if len(allowed) < size:
            self.over = True
            self.cut()
        return size

    def cut(self) -> None:
        """Notes that output was left out; a policy may end the box for this."""
        self.truncated = True
        if self._ends and self.on_limit is not None:
            self.on_limit()

    def _within(self, data: bytes) -> bytes:
        if self._bytes_left is not None:
            data = data[: self._bytes_left]
        if self._lines_left is not None:
            lines = data.count(b"\n")
            if lines >= self._lines_left:
                data = _first_lines(data, self._lines_left)
                lines = data.count(b"\n")
            self._lines_left -= lines
        if self._bytes_left is not None:
            self._bytes_left -= len(data)
        return data

    def _hand_on(self, data: bytes) -> None:
        """Passes the bytes to the caller's function.

        When it raises BrokenPipeError or WriteFailed, the guest's write fails.
        """
        if self._callback is None:
            return
        try:
            with self.callers:
                self._callback(data)
        except RaisedByCaller as raised:
            if not isinstance(raised.error, BrokenPipeError | WriteFailed):
                raise
            error = raised.error
        else:
            return
        raise error


def _first_lines(data: bytes, count: int) -> bytes:
    end = 0
    for _ in range(count):
        end = data.index(b"\n", end) + 1
    return data[:end]


# --- terminals ------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(rb"[\t\n\r -~]*").fullmatch
#: These join letters of Arabic and Indic scripts, and the parts of pictures.
_JOINERS: Final = "\u200c\u200d"
#: Characters that do not show, although their categories do not say so: the HANGUL FILLERs, KHMER VOWEL INHERENT AQ and
#: AA, BRAILLE PATTERN BLANK, COMBINING GRAPHEME JOINER, and the VARIATION SELECTORs except those that pictures use.
_HIDDEN: Final = re.compile(
    r"HANGUL (CHOSEONG |JUNGSEONG )?FILLER|HALFWIDTH HANGUL FILLER|KHMER VOWEL INHERENT A[QA]|BRAILLE PATTERN BLANK"
    r"|COMBINING GRAPHEME JOINER|MONGOLIAN FREE VARIATION SELECTOR .*|VARIATION SELECTOR-(1[7-9]|[2-9]\d|\d{3})"
)

#: Bytes that are made visible at a time. Any character may be replaced, and takes 100 bytes of memory meanwhile.
_PIECE: Final = 1 << 16


def _is_unsafe(char: str) -> bool:
    """Whether a terminal might act on a character, not show it, or show something unpredictable.

    By category these are controls, formats (which also reorder text), surrogates, line separators, private use, and
    unassigned characters. By name they are other characters that do not show.
    """
    category = unicodedata.category(char)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return char not in "\t\n\r" + _JOINERS
    return category in ("Lo", "Mn", "So") and _HIDDEN.fullmatch(unicodedata.name(char, "")) is not None


def _visible(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class TerminalFilter:
    """Makes output harmless for a terminal.

    Controls, and so all escape sequences (CSI, OSC, DCS ...), in C0 or C1 form, become visible text such as \\x1b. So
    do bytes that are not UTF-8, and characters that reorder text or do not show.

    Newline, tab and carriage return pass. Pieces may be cut anywhere. The result is UTF-8, and at most four times as
    long.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """Returns the text to show for the next piece; `final` also ends a character that was cut off."""
        if _PLAIN(data) and not self._decoder.getstate()[0]:
            return data
        pieces = [self._visible(data[at : at + _PIECE]) for at in range(0, len(data), _PIECE)]
        return b"".join(pieces) + (self._visible(b"", final) if final else b"")

    def _visible(self, data: bytes, final: bool = False) -> bytes:
        text = self._decoder.decode(data, final)
        chars = set(text)
        unsafe = {char: _visible(char) for char in chars if _is_unsafe(char)}
        if unsafe:
            text = text.translate({ord(char): unsafe.get(char, char) for char in chars})
        return text.encode()


def neutralise(data: bytes) -> bytes:
    """Applies `TerminalFilter` to a whole text."""
    if _PLAIN(data):
        return data
    return TerminalFilter().feed(data, final=True)
