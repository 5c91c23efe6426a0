"""Reads TOML that somebody else may have written."""

import re
import tomllib
from typing import Any

#: tomllib takes the square of the number of a key's parts: half a minute for 100 kB of dots. So many take 1 ms.
_MOST_PARTS = 256
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![\w.-])(?<!\.[ \t]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{_MOST_PARTS}}}")


def loads(text: str) -> dict[str, Any]:
    """Returns what a TOML text says. Raises ValueError for any other one, and for one that would take long."""
    if _LONG_KEY.search(text):
        raise ValueError(f"a key of more than {_MOST_PARTS} parts")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
