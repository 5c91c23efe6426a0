"""Modules for threads that are made of those for event loops (tools/unasync.py)."""

import re

import pytest

from tools.unasync import ROOT, TWINS, twin_of


@pytest.mark.parametrize("source", TWINS)
def test_a_twin_says_what_its_source_says(source: str) -> None:
    made = twin_of(source)
    assert (ROOT / TWINS[source]).read_text(encoding="utf-8") == made, f"{source} has changed: run `make twins`"
    left = re.findall(r"(?i).*(?:\ba?sync\b|await|a(?:enter|exit|nyio)|event loop|coroutine|\btasks?\b).*", made)
    assert not left, "for event loops alone: tools/unasync.py needs a rule"
