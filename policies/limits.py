"""How much a box may use: limits of one run, of all calls of a session, and of printed output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import attrs

from proxybox.policies import checks
from proxybox.policies.building import model
from proxybox.policies.checks import between, one_of, refusal
from proxybox.policies.declaring import Measure, declare
from proxybox.policies.sizes import to_duration, to_size

if TYPE_CHECKING:
    import datetime

KIB: Final = 1 << 10
MIB: Final = 1 << 20
GIB: Final = 1 << 30
EVER: Final = float(1 << 62)
"""Where the range of a number has no end that anybody could mean."""
_YEAR: Final = 366 * 86_400.0

DISPLAY: Final = (
    "text/plain", "image/png", "image/jpeg", "image/gif", "image/svg+xml", "application/json",
)  # fmt: skip
"""The default of `Output.display`: MIME types that a page can show without trust in their author."""

_bytes = between(0, EVER, "a size of 0 bytes or more, or none")


@model("output")
@attrs.frozen(kw_only=True)
class Output:
    """What the box may print: limits of bytes and lines, for each of stdout and stderr.

    HTML and JavaScript that a program displays are executed by the page that shows them, so a notebook shows them
    unchanged only if `display` names them. Of other HTML it shows tables and text, unless nothing but plain text is
    named.
    """

    limit: int | None = attrs.field(
        default=MIB, converter=to_size, validator=_bytes, metadata=declare(
            Measure.SIZE, "how much may be printed, for each of stdout and stderr", tightens=True,
            steps=(64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB),
        ),
    )  # fmt: skip
    lines: int | None = attrs.field(
        default=None, converter=checks.to_count, validator=between(0, EVER, "0 lines or more, or none"),
        metadata=declare(
            Measure.COUNT, "how many lines, for each of them", tightens=True, noun="line",
            steps=(2_000, 10_000, 50_000, 200_000, 1_000_000),
        ),
    )  # fmt: skip
    on_excess: Literal["truncate", "end"] = attrs.field(
        default="truncate", validator=one_of("truncate", "end"),
        metadata=declare(Measure.WORD, "beyond the limit: drop the rest, or end the box", tightens=("truncate", "end")),
    )  # fmt: skip
    escapes: Literal["auto", "neutralise", "raw"] = attrs.field(
        default="auto", validator=one_of("auto", "neutralise", "raw"), metadata=declare(
            Measure.WORD,
            "when terminal escape sequences are turned into visible text: on terminals only, always, or never",
        ),
    )  # fmt: skip
    display: tuple[str, ...] = attrs.field(
        default=DISPLAY, converter=checks.to_mime_types, metadata=declare(
            Measure.TEXTS,
            "MIME types that a notebook shows of what is displayed, besides plain text, which is always shown, and "
            "tables and text of HTML", values=checks.MIME_TYPES, example=["text/plain", "text/html"],
            schema={"items": {"type": "string", "pattern": f"^{checks.MIME_TYPE.pattern}$"}},
        ),
    )  # fmt: skip


# --- limits ---------------------------------------------------------------------------------------

_duration = between(0, _YEAR, "a duration above 0 and of at most 366 days, or none", above=True)
_calls = between(1, EVER, "1 call or more, or none")
_NURSERY: Final = '"auto", or a size from 1M to 1G'
NURSERY_MOST: Final = 32 * MIB
"""The most that `Limits.nursery` is when it is "auto"."""
MOST_THREADS: Final = 256
"""The most threads of a box, whatever its policy says: each thread has its own channel."""


def _to_nursery(value: int | str) -> int | str:
    return value if value == "auto" else checks.limited(to_size, value, _NURSERY)


@model("limits")
@attrs.frozen(kw_only=True)
class Limits:
    """How much a box may use before it ends, or before its calls fail. None: no limit.

    In a session wall_time, cpu_time and calls count for each call anew, and the others for the session as a whole.
    `SessionLimits` has the limits of all its calls together.
    """

    wall_time: float | None = attrs.field(
        default=10.0, converter=to_duration, validator=_duration, metadata=declare(
            Measure.DURATION, "real time from the start of the program to its end; see `input_wait`", tightens=True,
            steps=(5, 10, 20, 60, 120),
        ),
    )  # fmt: skip
    cpu_time: float | None = attrs.field(
        default=5.0, converter=to_duration, validator=_duration, metadata=declare(
            Measure.DURATION, "processor time; may be more than `wall_time`", tightens=True,
            steps=(2, 5, 10, 20, 60, 120),
        ),
    )  # fmt: skip
    memory: int | None = attrs.field(
        default=512 * MIB, converter=to_size,
        validator=between(16 * MIB, EVER, "a size of 16M or more, or none", "PyPy does not start in less"),
        metadata=declare(
            Measure.SIZE,
            "memory that the program uses, not what it reserves; it gets a `MemoryError` first, then the box ends",
            tightens=True, steps=(256 * MIB, 512 * MIB, GIB, 2 * GIB, 4 * GIB),
            explain="{} of memory; more is a MemoryError, then the end.", explain_none="Any amount of memory.",
        ),
    )  # fmt: skip
    disk: int | None = attrs.field(
        default=64 * MIB, converter=to_size, validator=_bytes, metadata=declare(
            Measure.SIZE, "what it writes in memory, overlays and `rw` mounts, all together; deleting gives space back",
            tightens=True, steps=(8 * MIB, 16 * MIB, 64 * MIB, 256 * MIB, GIB, 4 * GIB),
        ),
    )  # fmt: skip
    files: int | None = attrs.field(
        default=10_000, converter=checks.to_count, validator=between(0, EVER, "0 files or more, or none"),
        metadata=declare(
            Measure.COUNT, "how many files, folders and links it adds there", tightens=True, noun="file",
            steps=(500, 2_000, 10_000, 50_000, 200_000),
        ),
    )  # fmt: skip
    open_files: int | None = attrs.field(
        default=1024,
        converter=checks.to_count,
        validator=between(
            8, 1 << 20, "8 to 1,048,576 descriptors, or none", "imports and the standard streams need some"
        ),
        metadata=declare(
            Measure.COUNT,
            "open descriptors; fewer for host files, when the controller itself may open only a few",
            tightens=True, noun="open file", steps=(64, 256, 1_024, 4_096, 16_384),
            explain="{} at once; more fail with EMFILE.", explain_none="Any number of open files.",
        ),
    )  # fmt: skip
    threads: int | None = attrs.field(
        default=16, converter=checks.to_count, validator=between(0, 1 << 15, "0 to 32,768 threads, or none"),
        metadata=declare(
            Measure.COUNT,
            "threads at once, the main one among them: 0 and 1 allow no other, and there are never more than 256. "
            "Where a program fails for want of one, or waits until its time is over, `why` says that one was refused",
            tightens=True, noun="thread", steps=(2, 4, 8, 16, 32, 64, 128, 256),
        ),
    )  # fmt: skip
    calls: int | None = attrs.field(
        default=1_000_000, converter=checks.to_count, validator=_calls, metadata=declare(
            Measure.COUNT,
            "OS calls in all, readings of clocks left out; starting PyPy takes some hundreds. Beyond it the box is "
            "ended (`call_limit`)",
            tightens=True, noun="OS call", steps=(200_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000),
            explain="{} in all; then it is ended (call_limit).", explain_none="Any number of OS calls.",
        ),
    )  # fmt: skip
    input_wait: Literal["auto", "free", "counted"] = attrs.field(
        default="auto", validator=one_of("auto", "free", "counted"), metadata=declare(
            Measure.WORD,
            "whether `wall_time` stops while the program waits for standard input. `auto`: only when a person (a "
            "terminal) or a function of the caller's provides it; `free`: always; `counted`: never. What other "
            "threads compute in this time counts", tightens=("free", "auto", "counted"),
        ),
    )  # fmt: skip
    nursery: int | str = attrs.field(
        default="auto", converter=_to_nursery, validator=between(MIB, GIB, _NURSERY, besides="auto"), metadata=declare(
            Measure.SIZE,
            "the memory in which new objects are made (PyPy's PYPY_GC_NURSERY), before the garbage collector moves "
            "those that are still used: at most half of `memory`, and part of it. `auto`: an eighth of `memory`, at "
            "most 32M. A larger one makes programs with many objects faster, a smaller one makes a box smaller. It "
            "does not depend on the processor's caches, so collections come at the same moments on every machine",
        ),
    )  # fmt: skip

    def __attrs_post_init__(self) -> None:
        if isinstance(self.nursery, int) and self.memory is not None and self.nursery > self.memory // 2:
            raise refusal(
                f"want at most half of limits.memory ({self.memory:,} bytes): the other half is for what lives on",
                self.nursery, key="nursery",
            )  # fmt: skip

    @property
    def nursery_size(self) -> int:
        """Bytes of the nursery."""
        if isinstance(self.nursery, int):
            return self.nursery
        return NURSERY_MOST if self.memory is None else min(NURSERY_MOST, self.memory // 8)

    @property
    def thread_count(self) -> int:
        """How many threads can live at once, including the main thread."""
        return MOST_THREADS if self.threads is None else min(max(self.threads, 1), MOST_THREADS)


_VALUE_SIZE: Final = 'a size from 1K to 64M, such as "1M"'
_GRACE: Final = 'a duration from 0 to 60 seconds, such as "500ms"'


def _to_value_size(value: int | str) -> int:
    return checks.limited(to_size, value, _VALUE_SIZE)


def _to_grace(value: float | str | datetime.timedelta) -> float:
    return checks.limited(to_duration, value, _GRACE)


@model("session")
@attrs.frozen(kw_only=True)
class SessionLimits:
    """What all calls of a session together may use, besides the limits of each call in `Limits`. None: no limit."""

    wall_time: float | None = attrs.field(
        default=None, converter=to_duration, validator=_duration,
        metadata=declare(Measure.DURATION, "real time from the start of the session to its end"),
    )  # fmt: skip
    cpu_time: float | None = attrs.field(
        default=None, converter=to_duration, validator=_duration, metadata=declare(Measure.DURATION, "processor time")
    )
    calls: int | None = attrs.field(
        default=None, converter=checks.to_count, validator=_calls,
        metadata=declare(Measure.COUNT, "OS calls; then it is ended (`call_limit`)", noun="OS call"),
    )  # fmt: skip
    branches: int = attrs.field(
        default=0, converter=checks.to_whole, validator=between(0, 1_000, "0 to 1,000 copies at once"),
        metadata=declare(
            Measure.COUNT,
            "how many copies of the session (`fork()`, `snapshot()`) may exist at once besides it; with 0 it cannot "
            "be copied",
        ),
    )  # fmt: skip
    value_size: int = attrs.field(
        default=MIB, converter=_to_value_size, validator=between(KIB, 64 * MIB, _VALUE_SIZE), metadata=declare(
            Measure.SIZE,
            "largest encoded size of one value that crosses the boundary: arguments and results of `eval`, `call`, "
            "`set`, `get` and of host functions",
            explain="A value that goes in or comes out takes at most {}, encoded.",
        ),
    )  # fmt: skip
    grace: float = attrs.field(
        default=0.5, converter=_to_grace, validator=between(0, 60, _GRACE), metadata=declare(
            Measure.DURATION,
            "at a time limit the call is interrupted; if it has not ended after this time, the session ends. With 0 "
            "it ends at once",
        ),
    )  # fmt: skip
