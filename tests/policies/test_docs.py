"""docs/policies.md says what is declared."""

import runpy
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/policies.md"


def test_the_tables_are_those_of_the_declarations():
    made = runpy.run_path(str(ROOT / "tools/policytables.py"))["page"](PAGE.read_text())
    assert PAGE.read_text() == made, "its tables are stale: make policies"
