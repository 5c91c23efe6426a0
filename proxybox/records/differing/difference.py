"""What came of a comparison, as data: what differs, where, and what may have led to it."""

from collections.abc import Mapping

import attrs

from proxybox.records.differing.judging import AnswerDifference, AnswerPair
from proxybox.records.differing.kinds import DifferenceKind
from proxybox.records.differing.runs import RunInputs


@attrs.frozen
class Apart:
    """Something that both runs were given, and that differs. kind: of KINDS. ours, theirs: "" for nothing."""

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
    """The question where the runs part. thread: the channel of the thread that asks."""

    thread: int
    a: CallPlace
    b: CallPlace


@attrs.frozen
class CallPair:
    """Two calls side by side.

    how: same, answer (only that differs), asked (another question), renamed (it differs in nothing but times, numbers
    or names that the program has made up), left out, or thread. skipped: how many calls of each are left out here.
    """

    how: str
    thread: int
    a: CallPlace | None = None
    b: CallPlace | None = None
    skipped: tuple[int, int] = (0, 0)


@attrs.frozen
class Cause:
    """What may have led to the difference. found: the answer; None for what was given, or is not in the record.

    shows: whether its value is in what differs. count: how many answers differ so. tried: what
    came of replays, as `trying` says it; "" where there were none.
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
    """How two runs differ. same: whether the program did the same in both, whatever it was answered.

    apart: what they were given otherwise. parting: the first question that differs; None where none does. causes: what
    may have led to it, the likeliest first. first: the first answer that differs. pairs: all that do, before the
    parting. derived: the numbers of the first run's calls before it that differ in nothing but made-up values.
    counts: how many there are, by kind. lines: the first output that differs. ends: how both ended. calls: how many
    both made. rows: what differs, side by side. is_aligned, is_whole: whether all calls were aligned, and looked at.
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
