"""The result of a comparison, as data: what differs, where, and what may have led to it."""

from collections.abc import Mapping

import attrs

from proxybox.records.differing.judging import AnswerDifference, AnswerPair
from proxybox.records.differing.kinds import DifferenceKind
from proxybox.records.differing.runs import RunInputs


@attrs.frozen
class Apart:
    """An input that differs between both runs. kind: of KINDS. ours, theirs: the values; "" for none."""

    kind: DifferenceKind
    name: str
    ours: str
    theirs: str


@attrs.frozen
class CallPlace:
    """A call of one run. number: 0 for the end of a thread. line: as strace(1) shows it, with its answer."""

    number: int
    line: str


@attrs.frozen
class Parting:
    """The question where the runs part. thread: the thread's number, as `Threads` counts it."""

    thread: int
    a: CallPlace
    b: CallPlace


@attrs.frozen
class CallPair:
    """Two calls side by side.

    how: same, answer (only the answer differs), asked (the question differs), renamed (only times, numbers or names
    that the program has made up differ), left out, or thread. skipped: how many calls of each run are left out here.
    """

    how: str
    thread: int
    a: CallPlace | None = None
    b: CallPlace | None = None
    skipped: tuple[int, int] = (0, 0)


@attrs.frozen
class Cause:
    """A possible cause of the difference. found: the answer; None for an input, or if it is not in the record.

    shows: whether its value is in the differing bytes. count: how many answers differ in this way. tried: the result of
    replays, in the words of trying.py; "" without replays.
    """

    kind: DifferenceKind
    words: str
    found: AnswerDifference | None = None
    ours: str = ""
    theirs: str = ""
    shows: bool = False
    count: int = 1
    tried: str = ""


@attrs.frozen
class DifferingLine:
    """The first line of a stream that differs."""

    stream: str
    number: int
    ours: str
    theirs: str


@attrs.frozen(kw_only=True)
class Difference:
    """How two runs differ. same: whether the program did the same in both, even if answers differ.

    apart: the inputs that differ. parting: the first question that differs; None if no question differs. causes: what
    may have led to it, the likeliest first. first: the first answer that differs. pairs: all differing answers before
    the parting. derived: the numbers of the first run's calls before the parting that differ only in made-up values.
    counts: how many answers differ, by kind. lines: the first output that differs. ends: how both ended. calls: how
    many calls both made. rows: the differences, side by side. is_aligned, is_whole: whether all calls were aligned, and
    read.
    """

    names: tuple[str, str]
    inputs: tuple[RunInputs, RunInputs]
    same: bool
    apart: tuple[Apart, ...]
    parting: Parting | None
    causes: tuple[Cause, ...]
    first: AnswerDifference | None
    counts: Mapping[str, int]
    lines: tuple[DifferingLine, ...]
    ends: tuple[str, str]
    calls: tuple[int, int]
    rows: tuple[CallPair, ...]
    pairs: tuple[AnswerPair, ...] = attrs.field(default=(), repr=False)
    derived: frozenset[int] = attrs.field(default=frozenset(), repr=False)
    is_aligned: bool = True
    is_whole: bool = True
