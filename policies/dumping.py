"""Policies as plain data and as TOML: the forms that loading.py reads back to an equal policy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

import attrs

from proxybox.policies.declaring import Measure, declared
from proxybox.policies.errors import PolicyError, Problem
from proxybox.policies.models import SECTIONS, Mount, Policy
from proxybox.policies.moments import format_moment
from proxybox.policies.sizes import format_size

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def to_dict(policy: Policy) -> dict[str, Any]:
    """Returns `policy` as tables, texts, numbers and lists, all of which JSON and TOML have.

    Raises PolicyError for values that a file cannot have: functions, and contents that are not text.
    """
    data: dict[str, Any] = {}
    for field in attrs.fields(Policy):
        value = getattr(policy, field.name)
        data[field.name] = _section(field.name, value) if field.name in SECTIONS else _plain(value)
    return data


def _section(section: str, value: Any) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for field in attrs.fields(type(value)):
        key = f"{section}.{field.name}"
        item = getattr(value, field.name)
        if key == "filesystem.mounts":
            data["mounts"] = [_mount(mount, f"{key}[{at}]") for at, mount in enumerate(item)]
        elif (measure := declared(field).measure) is Measure.MOMENT:
            data |= {} if item is None else {field.name: format_moment(item)}
        elif measure is Measure.SIZE:
            data[field.name] = item if isinstance(item, str) else format_size(item)
        else:
            data[field.name] = _plain(item)
    return data


def _plain(value: Any) -> Any:
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return dict(value) if isinstance(value, Mapping) else value


def _mount(mount: Mount, key: str) -> dict[str, Any]:
    data: dict[str, Any] = {"target": mount.target}
    source = mount.source
    if isinstance(source, bytes):
        data["content"] = _text(source, f"{key}.source")
    elif isinstance(source, Mapping):
        data["source"] = _tree(source, f"{key}.source")
    elif isinstance(source, str):
        data["source"] = source
    elif source is not None:
        message = "a function cannot be written to a file"
        raise PolicyError(Problem(key=f"{key}.source", message=message))
    data["mode"] = mount.mode
    if mount.size is not None:
        data["size"] = format_size(mount.size)
    if mount.files is not None:
        data["files"] = mount.files
    if mount.names is not None:
        data["names"] = list(mount.names)
    return data


def _tree(tree: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {
        name: _tree(item, key) if isinstance(item, Mapping) else _text(item, f"{key}['{name}']")
        for name, item in tree.items()
    }


def _text(content: bytes, key: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        message = "content that is not UTF-8 cannot be written to a file"
        raise PolicyError(Problem(key=key, message=message)) from None


# --- TOML -----------------------------------------------------------------------------------------


def to_toml(policy: Policy) -> str:
    """Returns `policy` as a TOML file, with every key written out. Raises PolicyError as `to_dict` does."""
    data = to_dict(policy)
    mounts = data["filesystem"].pop("mounts")
    lines = [toml_line(name, value) for name, value in data.items() if name not in SECTIONS]
    for section in SECTIONS:
        lines += ["", f"[{section}]", *(toml_line(*item) for item in data[section].items())]
        if section == "filesystem":
            for mount in mounts:
                lines += ["", "[[filesystem.mounts]]", *(toml_line(*item) for item in mount.items())]
    return "\n".join(lines) + "\n"


def toml_line(name: str, value: Any) -> str:
    """Returns one key with its plain value, as `to_dict` has them, as a line of TOML. Raises PolicyError."""
    return f"{_key(name)} = {_value(value)}"


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else _value(name)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise PolicyError("a text that is not Unicode cannot be written to a file") from None
        # JSON's strings are valid in TOML, except for this one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Mapping):
        return "{" + ", ".join(toml_line(*item) for item in value.items()) + "}"
    return "[" + ", ".join(_value(item) for item in value) + "]"
