"""Errors that all other modules can import, and the reports of a policy's faults.

Rule: a `Problem` is one fault of one key. Callers that know more about its place (the section, the file) add that.
Checks go on after a fault where they can, so that one `PolicyError` reports all faults.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import attrs

_SHOWN: Final = 60
NO_SUCH_KEY: Final = "there is no such key"


class ProxyboxError(Exception):
    """The base of every error that proxybox raises on purpose."""


@attrs.frozen(kw_only=True)
class Problem:
    """One fault in a policy.

    key: dotted path of the key, such as "limits.wall_time"; empty for the policy as a whole. message: what is wrong.
    allowed: the accepted values, in words. given: the given value, shortened. meant: the name that was probably meant,
    for a misspelt one. file: the file that has the fault, if any. assumed: the beginning of `key` that is a guess,
    because the section was built on its own.
    """

    key: str
    message: str
    allowed: str = ""
    given: str = ""
    meant: str = ""
    file: str = ""
    assumed: str = ""

    def under(self, section: str, *, assumed: bool = False) -> Problem:
        """Returns the same fault, with a key from one level further up; an assumed level is replaced."""
        key = self.key.removeprefix(self.assumed).removeprefix(".")
        if section:
            key = section + ("" if not key or key.startswith("[") else ".") + key
        return attrs.evolve(self, key=key, assumed=section if assumed else "")

    def __str__(self) -> str:
        where = ": ".join(part for part in (self.file, self.key) if part)
        text = f"{where}: {self.message}" if where else self.message
        if self.given:
            text += f", got {self.given}"
        if self.meant:
            text += f"; did you mean {self.meant}?"
        if self.allowed:
            text += f" (allowed: {self.allowed})"
        return text


class PolicyError(ProxyboxError, ValueError):
    """A policy is invalid. The text says where, what is allowed, and what was given.

    Takes problems, or plain texts where there is no key to name. problems: every fault that was found.
    """

    problems: tuple[Problem, ...]

    def __init__(self, *problems: Problem | str) -> None:
        self.problems = tuple(
            Problem(key="", message=problem) if isinstance(problem, str) else problem for problem in problems
        )
        super().__init__(*self.problems)

    def __str__(self) -> str:
        if len(self.problems) == 1:
            return str(self.problems[0])
        return f"{len(self.problems)} problems:\n" + "\n".join(f"  {problem}" for problem in self.problems)

    def under(self, section: str, *, assumed: bool = False) -> PolicyError:
        """Returns the same error, with its keys from one level further up."""
        return PolicyError(*(problem.under(section, assumed=assumed) for problem in self.problems))


def shown(value: object) -> str:
    """Returns a value as it is quoted in a message: its repr, shortened. Works for any value."""
    try:
        text = repr(value)
    except Exception:  # ints of over 4,300 digits, deep nesting, a __repr__ that raises
        return f"a value of type {type(value).__name__}"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


#: Keys by their names in other libraries.
ALSO_CALLED: Final = {"timeout": "wall_time", "time_limit": "wall_time", "env": "variables"}


def nearest(name: str, names: Iterable[str]) -> str:
    """Returns the one of `names` that a misspelt `name` most likely means; empty when none is near."""
    import difflib  # only errors need it

    known = {candidate.lower().replace("-", "_"): candidate for candidate in names}
    known = {**{also: key for also, key in ALSO_CALLED.items() if key in known}, **known}
    found = difflib.get_close_matches(name[:100].lower().replace("-", "_"), known, n=1, cutoff=0.6)
    return known[found[0]] if found else ""


def unknown_key(key: Any, names: Iterable[str], *, section: str = "") -> Problem:
    """Returns the problem of a key that does not exist among `names`."""
    names = sorted(names)
    if not isinstance(key, str):
        return Problem(key=section, message="a key must be a text", given=shown(key))
    return Problem(
        key=key if key.isprintable() and 0 < len(key) <= _SHOWN else shown(key),
        message=NO_SUCH_KEY,
        meant=nearest(key, names),
        allowed=", ".join(names),
    ).under(section)
