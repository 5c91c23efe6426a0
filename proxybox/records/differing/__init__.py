"""How two recorded runs differ, and what may have led to it (docs/diff.md).

Rule: both records may have been forged, each for the other. The memory and the work that a comparison takes have
limits, and a comparison that reaches one says so.
"""

from proxybox.records.differing.comparing import compare, diff
from proxybox.records.differing.difference import Apart, Cause, Difference, Line, Parting, Place, Row
from proxybox.records.differing.judging import Found
from proxybox.records.differing.kinds import KINDS, Group, Kind, Weight
from proxybox.records.differing.runs import Given, Side

__all__ = [
    "KINDS", "Apart", "Cause", "Difference", "Found", "Given", "Group", "Kind", "Line", "Parting", "Place", "Row",
    "Side", "Weight", "compare", "diff",
]  # fmt: skip
