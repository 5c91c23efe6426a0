"""Reads TOML from untrusted sources."""

import re
import tomllib
from typing import Any

#: The time of tomllib grows with the square of a key's parts: half a minute for 100 kB of dots. This many take 1 ms.
_MOST_PARTS = 256
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w.-])(?<!\.[ \t]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_MOST_PARTS}}}")


def loads(text: str) -> dict[str, Any]:
    """Returns the content of a TOML text. Raises ValueError for other texts, and for a text that would take long."""
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
