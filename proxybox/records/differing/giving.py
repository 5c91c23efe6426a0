"""Differences of the inputs of two runs: the interpreter, the program, its arguments and environment, the policy."""

import json
import shlex
from collections.abc import Iterator, Mapping
from typing import Any, Final

from proxybox.records.differing.difference import Apart
from proxybox.records.differing.kinds import KINDS
from proxybox.records.differing.runs import ComparedRun, RunInputs

#: The most differences of one kind that are shown.
_MOST: Final = 200
#: The most characters of one difference.
_MOST_TEXT: Final = 2000


def given_apart(one: RunInputs, other: RunInputs) -> Iterator[Apart]:
    """Yields the inputs that differ."""
    if one.guest != other.guest:
        yield Apart(KINDS["guest"], "name", one.guest, other.guest)
    yield from _items("guest", one.builds, other.builds)
    if one.argv != other.argv:
        is_code = one.script != other.script or _program(one) != _program(other)
        yield Apart(KINDS["code" if is_code else "arguments"], "command line", _words(one.argv), _words(other.argv))
    yield from _items("environment", one.environment, other.environment)
    yield from _items("policy", dict(_keys(one.policy)), dict(_keys(other.policy)))


def _program(inputs: RunInputs) -> tuple[str, ...]:
    at = next((at for at, word in enumerate(inputs.argv) if word in ("-c", "-m")), None)
    return () if at is None else inputs.argv[at : at + 2]


def _words(words: tuple[str, ...]) -> str:
    return shlex.join(word[:1000] for word in words[:100])[:_MOST_TEXT]


def _items(kind: str, one: Mapping[str, str], other: Mapping[str, str]) -> Iterator[Apart]:
    names = [name for name in {**one, **other} if one.get(name) != other.get(name)]
    for name in names[:_MOST]:
        yield Apart(KINDS[kind], name[:_MOST_TEXT], one.get(name, "")[:_MOST_TEXT], other.get(name, "")[:_MOST_TEXT])


def _keys(policy: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yields the keys of a policy with their values, such as limits.threads."""
    for name, value in policy.items():
        for key, inner in value.items() if isinstance(value, dict) else [("", value)]:
            yield f"{name}.{key}" if key else str(name), _as_text(inner)


def _as_text(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:
        return "..."


def files_apart(a: ComparedRun, b: ComparedRun) -> Iterator[Apart]:
    """Yields the files of the interpreter's library that both runs have read, with different contents."""
    names = [name for name, digest in a.files.items() if b.files.get(name, digest) != digest]
    for name in names[:_MOST]:
        yield Apart(KINDS["guest"], name, a.files[name].hex()[:16], b.files[name].hex()[:16])
