"""What the guest prints: counted, limited, kept for the Result, handed on while it runs, made safe
for terminals.

Rules: a guest cannot make the controller keep more than the limits say, however small its writes
are. The bytes that are kept and handed on are the guest's own; only `TerminalFilter` changes any,
on the way to a terminal.
"""

import codecs
import re
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from proxybox.policies import Output

STREAMS: Final = ("stdout", "stderr")


#: So many turns of the two streams are kept in their order: 8 bytes each, where a turn may be a single byte.
MOST_TURNS: Final = 1 << 16


@attrs.frozen
class Interleaved:
    """What was printed to both streams, and in which order: pieces are made only where somebody asks for them.

    ends: where each turn ends in its stream; turns are stdout's and stderr's alternately.
    """

    stdout: bytes = b""
    stderr: bytes = b""
    ends: Sequence[int] = ()

    def __iter__(self) -> Iterator[tuple[str, bytes]]:
        """(stream, bytes) in order; neighbours of one stream are joined."""
        data, starts = (self.stdout, self.stderr), [0, 0]
        for index, end in enumerate(self.ends):
            turn = index % 2
            if end > starts[turn]:
                yield STREAMS[turn], data[turn][starts[turn] : end]
                starts[turn] = end


class Transcript:
    """Both streams and the order in which they were written, in little more memory than the bytes take: after
    MOST_TURNS turns, all that follows counts as one turn of each stream.
    """

    __slots__ = ("_ends", "_last", "data")

    def __init__(self) -> None:
        self.data = {name: bytearray() for name in STREAMS}
        self._ends = array("Q")
        self._last = "stderr"

    def append(self, stream: str, data: bytes) -> None:
        """Keeps what was written to a stream."""
        if not data:
            return
        kept, ends = self.data[stream], self._ends
        kept += data
        if stream == self._last:
            if not ends:
                ends.append(0)  # stderr speaks first: stdout's turn is empty
                ends.append(0)
            ends[-1] = len(kept)
        elif len(ends) < MOST_TURNS:
            ends.append(len(kept))
            self._last = stream
        else:
            ends[-2] = len(kept)

    def append_tail(self, stream: str, data: bytes, size: int) -> None:
        """Keeps the last bytes of a stream, `size` at least and twice as many at the most; they have no place in the
        order.
        """
        kept = self.data[stream]
        kept += data[-size:]
        if len(kept) > 2 * size:
            del kept[:-size]

    def interleaved(self) -> Interleaved:
        """All of it, as it stands now."""
        return Interleaved(bytes(self.data["stdout"]), bytes(self.data["stderr"]), self._ends[:])


class WriteFailed(OSError):
    """Raised by a callback: the program's write fails with that errno, as it does for a BrokenPipeError."""


class OutputSink:
    """One stream's way out of the box, with its limits.

    policy: limits in bytes and lines, and what happens beyond them. callback: gets every piece that
    is within them. keep: all of it for the Result; tail: else so many bytes of its end. on_limit:
    called once when the box is to end for it. `truncated` and `over` can be read at any time.
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
        self.callers: AbstractContextManager[None] = nullcontext()  # stands around the callback (meter.py)
        self._keep = keep
        self._tail = tail
        self._ends = policy is not None and policy.on_excess == "end"
        self.begin(policy, Transcript() if transcript is None else transcript, callback)

    def begin(
        self, policy: "Output | None", transcript: Transcript, callback: Callable[[bytes], object] | None = None
    ) -> None:
        """From here on all is counted, and kept, anew: for the next call of a session, or the owner of a warm box."""
        self.transcript = transcript
        self.truncated = False
        self.over = False
        self.written = 0
        self._callback = callback
        self._bytes_left: int | None = None if policy is None else policy.limit
        self._lines_left: int | None = None if policy is None else policy.lines

    def getvalue(self) -> bytes:
        """Everything kept of this stream: all of it, its tail, or nothing."""
        return bytes(self.transcript.data[self.name])

    def write(self, data: bytes) -> int:
        """Takes what the guest writes and says that all of it was written, even where some was cut
        off.
        """
        size = len(data)
        self.written += size
        if self.over:
            self.truncated = self.truncated or size > 0
            return size
        kept = self._within(data)
        if kept:
            if self._keep:
                self.transcript.append(self.name, kept)
            elif self._tail:
                self.transcript.append_tail(self.name, kept, self._tail)
            if self._callback is not None:
                self._hand_on(kept)
        if len(kept) < size:
            self.over = True
            self.cut()
        return size

    def cut(self) -> None:
        """Something was left out; a policy may end the box for it."""
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
        """The caller's function may fail: a closed pipe is one for the guest too, the rest ends the
        box.
        """
        try:
            if self._callback is not None:
                with self.callers:
                    self._callback(data)
        except (BrokenPipeError, WriteFailed):
            raise
        except OSError as error:
            raise RuntimeError(f"the {self.name} function failed") from error


def _first_lines(data: bytes, count: int) -> bytes:
    end = 0
    for _ in range(count):
        end = data.index(b"\n", end) + 1
    return data[:end]


# --- terminals ------------------------------------------------------------------------------------

_PLAIN: Final = re.compile(rb"[\t\n\r -~]*").fullmatch
#: Letters of Arabic and Indic scripts, and pictures, are held together by these.
_JOINERS: Final = "\u200c\u200d"
#: No category tells that these do not show. Their names do: the HANGUL FILLERs, KHMER VOWEL INHERENT AQ and AA, BRAILLE
#: PATTERN BLANK, COMBINING GRAPHEME JOINER, and the VARIATION SELECTORs but for those that pictures have.
_HIDDEN: Final = re.compile(
    r"HANGUL (CHOSEONG |JUNGSEONG )?FILLER|HALFWIDTH HANGUL FILLER|KHMER VOWEL INHERENT A[QA]|BRAILLE PATTERN BLANK"
    r"|COMBINING GRAPHEME JOINER|MONGOLIAN FREE VARIATION SELECTOR .*|VARIATION SELECTOR-(1[7-9]|[2-9]\d|\d{3})"
)

#: Made visible at once: while a character is replaced it takes a hundred bytes, and all may have to be.
_PIECE: Final = 1 << 16


def _is_unsafe(char: str) -> bool:
    """Whether a terminal might act on it, not show it, or show what nobody can tell beforehand: by its category,
    controls, formats (which reorder text, too), surrogates, separators of lines, private use, what Unicode has not
    assigned yet; and by its name what else is hidden.
    """
    category = unicodedata.category(char)
    if category[0] == "C" or category in ("Zl", "Zp"):
        return char not in "\t\n\r" + _JOINERS
    return category in ("Lo", "Mn", "So") and _HIDDEN.fullmatch(unicodedata.name(char, "")) is not None


def _visible(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class TerminalFilter:
    """Makes output harmless for a terminal: controls, and so all escape sequences (CSI, OSC, DCS
    ...), in C0 or C1 form, become visible text such as \\x1b; so do bytes that are not UTF-8 and
    characters that reorder text or do not show.

    Newline, tab and carriage return pass. Takes pieces cut anywhere; gives UTF-8, four times as much at the most.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """What to show for the next piece; `final` ends a character that was cut off too."""
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
    """`TerminalFilter` for a whole text."""
    if _PLAIN(data):
        return data
    return TerminalFilter().feed(data, final=True)
