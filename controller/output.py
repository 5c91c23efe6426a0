"""What the guest prints: counted, limited, kept for the Result, handed on while it runs, made safe
for terminals.

Rules: a guest cannot make the controller keep more than the limits say, however small its writes
are. The bytes that are kept and handed on are the guest's own; only `TerminalFilter` changes any,
on the way to a terminal.
"""

import codecs
import re
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from proxybox.policies import Output

STREAMS: Final = ("stdout", "stderr")


class Transcript:
    """Both streams and the order in which they were written, in little more memory than the bytes
    take.
    """

    __slots__ = ("_last", "_runs", "data")

    def __init__(self) -> None:
        self.data = {name: bytearray() for name in STREAMS}
        self._runs = array("Q")  # lengths of runs, of stdout and stderr by turns
        self._last = "stderr"

    def append(self, stream: str, data: bytes) -> None:
        """Keeps what was written to a stream."""
        if not data:
            return
        self.data[stream] += data
        if stream == self._last and self._runs:
            self._runs[-1] += len(data)
            return
        if stream == self._last:
            self._runs.append(0)  # stderr speaks first
        self._runs.append(len(data))
        self._last = stream

    def append_tail(self, stream: str, data: bytes, size: int) -> None:
        """Keeps the last bytes of a stream, `size` at least and twice as many at the most; they have no place in
        `chunks`.
        """
        kept = self.data[stream]
        kept += data[-size:]
        if len(kept) > 2 * size:
            del kept[:-size]

    def chunks(self) -> Iterator[tuple[str, bytes]]:
        """What was written, in order, as (stream, bytes); neighbours of one stream are joined."""
        offsets = [0, 0]
        for index, length in enumerate(self._runs):
            turn = index % 2
            stream, start = STREAMS[turn], offsets[turn]
            offsets[turn] += length
            if length:
                yield stream, bytes(self.data[stream][start : start + length])


class OutputSink:
    """One stream's way out of the box, with its limits.

    policy: limits in bytes and lines, and what happens beyond them. callback: gets every piece that
    is within them. keep: all of it for the Result; tail: else so many bytes of its end. on_limit:
    called once when the box is to end for it. `truncated` and `over` can be read at any time.
    """

    __slots__ = (
        "_bytes_left", "_callback", "_ends", "_keep", "_lines_left", "_tail", "is_tty", "name", "on_limit",
        "callers", "over", "transcript", "truncated", "winsize", "written",
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
        except BrokenPipeError:
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
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"  # C0 and C1 controls
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"  # what reorders text
    "\u00ad\u034f\u115f\u1160\u17b4\u17b5\u180e\u200b\u2060-\u2065\u206a-\u206f\u3164\ufeff\uffa0"  # what does not show
    "\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd"  # what stands around others
    "\u180b-\u180f\u2800\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0100-\U000e01ef"
    "\ufff9-\ufffb\U000e0000-\U000e007f]"  # annotations and tags, which do not either
)


def _visible(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class TerminalFilter:
    """Makes output harmless for a terminal: controls, and so all escape sequences (CSI, OSC, DCS
    ...), in C0 or C1 form, become visible text such as \\x1b; so do bytes that are not UTF-8 and
    characters that reorder text.

    Newline, tab and carriage return pass. Takes pieces cut anywhere; gives UTF-8.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """What to show for the next piece; `final` ends a character that was cut off too."""
        if _PLAIN(data) and not self._decoder.getstate()[0]:
            return data
        return _UNSAFE.sub(_visible, self._decoder.decode(data, final)).encode()


def neutralise(data: bytes) -> bytes:
    """`TerminalFilter` for a whole text."""
    if _PLAIN(data):
        return data
    return TerminalFilter().feed(data, final=True)
