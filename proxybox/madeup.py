"""Patterns for names that programs make up for one run: UUIDs, tempfile's, hexadecimal ids, dates and long numbers."""

import re
from typing import Final

MADE_UP: Final = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?<=tmp)[a-z0-9_]{6,}|[0-9a-f]{8,}|\d{4}-\d\d-\d\d|\d{5,}"
)
