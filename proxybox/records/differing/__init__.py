"""How two recorded runs differ, and what may have led to it (docs/diff.md).

Rule: both records may have been forged, each for the other. The memory and the work that a comparison takes have
limits, and a comparison that reaches one says so.
"""

from proxybox.records.differing.comparing import compare, diff
from proxybox.records.differing.difference import Apart, CallPair, CallPlace, Cause, Difference, DifferingLine, Parting
from proxybox.records.differing.judging import AnswerDifference
from proxybox.records.differing.kinds import KINDS, DifferenceKind, Group, Weight
from proxybox.records.differing.runs import ComparedRun, RunInputs

__all__ = [
    "KINDS",
    "AnswerDifference",
    "Apart",
    "CallPair",
    "CallPlace",
    "Cause",
    "ComparedRun",
    "Difference",
    "DifferenceKind",
    "DifferingLine",
    "Group",
    "Parting",
    "RunInputs",
    "Weight",
    "compare",
    "diff",
]  # fmt: skip
