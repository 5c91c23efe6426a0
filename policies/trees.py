"""Contents of mounts that are in the policy itself: trees of files as dicts; and the form of --mount.

Rule: the results are in one form: nested dicts that cannot change, names without "/", contents as bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from proxybox.policies.checks import NAME_MAX, FrozenDict, refusal
from proxybox.policies.errors import PolicyError, Problem, nearest, shown

Tree: TypeAlias = FrozenDict[Any]
"""Names to bytes or further trees."""

MODES: Final = ("ro", "rw", "overlay", "memory")
_DEPTH_MAX: Final = 64


def to_tree(value: Mapping[str, Any]) -> Tree:
    """Converts a tree of files: names (or paths below, such as "src/a.py") to text, bytes or further such tables.

    Raises PolicyError for a name that no file can have, a path that occurs twice, and other contents.
    """
    root: dict[str, Any] = {}
    problems: list[Problem] = []
    _fill(root, value, "", 0, problems)
    if problems:
        raise PolicyError(*problems)
    return _frozen(root)


def _fill(into: dict[str, Any], value: Mapping[Any, Any], at: str, depth: int, problems: list[Problem]) -> None:
    for key, content in value.items():
        where = f"{at}/{key}" if isinstance(key, str) else at
        try:
            names = _names(key)
            if depth + len(names) > _DEPTH_MAX:
                raise refusal(f"want folders nested at most {_DEPTH_MAX} deep")
            folder = into
            for name in names[:-1]:
                folder = folder.setdefault(name, {})
                if not isinstance(folder, dict):
                    raise refusal(f"{name} is a file already, and cannot be a folder too")
            if isinstance(content, Mapping):
                below = folder.setdefault(names[-1], {})
                if not isinstance(below, dict):
                    raise refusal("given twice, as a file and as a folder")
                _fill(below, content, where, depth + len(names), problems)
            elif names[-1] in folder:
                raise refusal("given twice")
            else:
                folder[names[-1]] = to_content(content)
        except PolicyError as error:
            key_text = f"[{shown(where.lstrip('/'))}]"
            problems += error.under(key_text).problems


def _names(key: object) -> list[str]:
    if not isinstance(key, str) or not key or "\0" in key:
        raise refusal("want a file name that is not empty and has no NUL", key)
    names = key.split("/")
    for name in names:
        if name in ("", ".", ".."):
            raise refusal('want a path below the mount, without "", "." or ".." between the slashes', key)
        if len(to_content(name)) > NAME_MAX:
            raise refusal(f"want names of at most {NAME_MAX} bytes", key)
    return names


def _frozen(tree: dict[str, Any]) -> Tree:
    return FrozenDict(
        {name: _frozen(content) if isinstance(content, dict) else content for name, content in tree.items()}
    )


def to_content(value: object) -> bytes:
    """Returns the bytes of a file: bytes unchanged, text as UTF-8."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise refusal("want text that can be written as UTF-8", value) from None
    raise refusal("want the file's content as text or bytes, or a table for a folder", value)


def split_mount(text: str) -> dict[str, str]:
    """Returns the fields of a mount given as "SRC:DST[:MODE]"; "\\:" is a colon that is part of a path.

    Raises PolicyError when the text has another form.
    """
    if not isinstance(text, str):
        raise refusal('want "SRC:DST[:MODE]"', text)
    parts = [part.replace("\0", ":") for part in text.replace("\\:", "\0").split(":")]
    form = 'want "SRC:DST[:MODE]", a path on the host, a path in the box and a mode'
    if "\0" in text or len(parts) not in (2, 3) or not all(parts):
        raise refusal(form, text)
    if len(parts) == 3 and parts[2] not in MODES:
        raise refusal(
            f"{form}; {shown(parts[2])} is no mode",
            text,
            meant=nearest(parts[2], MODES),
            allowed=", ".join(MODES),
        )
    return dict(zip(("source", "target", "mode"), parts, strict=False))
