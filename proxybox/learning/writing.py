"""Writes a learned policy as TOML: its additions to a preset, with comments that say which calls need each line.

Rule: comments have text of guests in them, so each is made harmless and is one line. The text is parsed again before it
is returned, and must give exactly this policy.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from proxybox.learning.merging import is_temporary, pattern_of
from proxybox.learning.proposals import Proposal
from proxybox.policies import PRESETS, Policy, PolicyError, from_toml, preset, to_dict
from proxybox.policies.dumping import toml_line
from proxybox.policies.models import SECTIONS
from proxybox.terminal.harmless import on_one_line

#: The most characters of one comment, which may contain names that a guest chose.
MOST_COMMENT: Final = 240

Data = dict[str, Any]
Comments = Mapping[str, Sequence[str]]


def to_commented_toml(policy: Policy, lines: Iterable[Proposal] = (), head: Iterable[str] = ()) -> str:
    """Returns a policy as a TOML file that extends a preset, with comments.

    lines: the learned lines; each of their keys and mounts gets a comment. head: comments at the beginning. Raises
    PolicyError for a policy that a file cannot express.
    """
    data = to_dict(policy)
    base, beyond = _nearest(data)
    text = "\n".join(_lines(base, beyond, _comments(lines), head)) + "\n"
    if from_toml(text, name="the learned policy", folder="/") != policy:
        raise PolicyError("this policy cannot be written as a file that says the same")
    return text


def _nearest(data: Data) -> tuple[str, Data]:
    """Returns the preset that needs the fewest additional keys, and these keys."""
    found = ((name, _beyond(data, to_dict(preset(name)))) for name in PRESETS)
    return min(found, key=lambda item: sum(len(each) if isinstance(each, dict) else 1 for each in item[1].values()))


def _beyond(data: Data, base: Data) -> Data:
    beyond: Data = {}
    for key, value in data.items():
        if value == base[key]:
            continue
        if key == "time":
            beyond[key] = value  # a table that names a kind replaces the whole section
        elif key in SECTIONS:
            beyond[key] = {name: item for name, item in value.items() if item != base[key].get(name)}
        else:
            beyond[key] = value
    return beyond


def _lines(base: str, beyond: Data, comments: Comments, head: Iterable[str]) -> Iterator[str]:
    yield from map(comment, head)
    yield toml_line("extends", base)
    for key, value in beyond.items():
        if key not in SECTIONS:
            yield toml_line(key, value)
    for section in SECTIONS:
        keys = dict(beyond.get(section, {}))
        mounts = keys.pop("mounts", None) if section == "filesystem" else None
        if keys or mounts == []:
            yield from ("", f"[{section}]")
        for name, value in keys.items():
            yield from map(comment, comments.get(f"{section}.{name}", ()))
            yield toml_line(name, value)
        if mounts == []:
            yield toml_line("mounts", mounts)
        for mount in mounts or ():
            yield from ("", "[[filesystem.mounts]]")
            yield from map(comment, comments.get(mount["target"], ()))
            yield from (toml_line(*item) for item in mount.items())


def _comments(lines: Iterable[Proposal]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in lines:
        notes = [f"wanted by {line.wanted_by()}" + (f": {line.why}" if line.calls and line.why else "")]
        notes += [f"lets in {each}" for each in line.lets_in]
        if line.secret:
            notes.append(f"SECRET: {line.secret}")
        name = "" if line.mount is None else line.mount.target.rpartition("/")[2]
        if is_temporary(name):
            notes.append(f"the name looks made for one run, as {pattern_of(name)}: --generalise asks about such names")
        found[line.key if line.mount is None else line.mount.target] = notes
    return found


def comment(text: str) -> str:
    """Returns any text as one comment line of TOML."""
    shown = on_one_line(text)
    return f"# {shown if len(shown) <= MOST_COMMENT else shown[:MOST_COMMENT] + '...'}"
