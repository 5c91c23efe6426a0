"""Finds how two recorded runs differ, and what may have caused this (docs/diff.md).

Rule: both records may be forged, also together. The memory and the work of a comparison have limits, and a comparison
that reaches a limit says so.
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
