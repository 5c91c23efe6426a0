"""Policies from TOML files and dicts.

Rules: all faults of a file, and of the files that it extends, are reported at once, each with its file and its key. A
key that does not exist is a fault. Host paths are relative to their file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs
import cattrs
from cattrs.gen import make_dict_structure_fn, override

from proxybox.policies import toml
from proxybox.policies.building import check_field, check_keys, fields_of
from proxybox.policies.checks import refusal
from proxybox.policies.dumping import to_dict
from proxybox.policies.errors import PolicyError, Problem, shown, unknown_key
from proxybox.policies.models import SECTIONS, Filesystem, Mount, Policy
from proxybox.policies.named import PRESETS, is_file_name, preset
from proxybox.policies.overrides import find_key
from proxybox.policies.regularfiles import regular
from proxybox.policies.trees import split_mount

_FILE_MAX: Final = 1 << 20
_CHAIN_MAX: Final = 8

KeyPath = tuple[str, ...]


def load_policy(path: str | os.PathLike[str]) -> Policy:
    """Returns the policy in a TOML file. Raises PolicyError with all faults, or the reason why it cannot be read."""
    return _resolve(_layers_of_file(os.fspath(path), ()))


def from_toml(text: str, *, name: str = "", folder: str | None = None) -> Policy:
    """Returns the policy in a TOML text.

    name: the text's name in errors. folder: host paths and `extends` in it are relative to this; by default the current
    folder.
    """
    return _resolve(_layers(_parsed(text, name), name, folder or "", ()))


def from_dict(data: Mapping[str, Any], *, name: str = "", folder: str | None = None) -> Policy:
    """Returns the policy in a dict that has the form of a TOML file. The rest is as in `from_toml`."""
    return _resolve(_layers(data, name, folder or "", ()))


# --- files and what they extend -------------------------------------------------------------------

Layer = tuple[str, Mapping[str, Any]]


def _layers_of_file(path: str, chain: tuple[str, ...]) -> list[Layer]:
    try:
        real = os.path.realpath(path)
        if real in chain or len(chain) >= _CHAIN_MAX:
            raise PolicyError(Problem(key="extends", message="extends itself", file=path))
        with open(path, "rb", opener=regular) as stream:
            raw = stream.read(_FILE_MAX + 1)
        if len(raw) > _FILE_MAX:
            raise PolicyError(Problem(key="", message="larger than 1 MiB", file=path))
        text = raw.decode()
    except PolicyError:
        raise
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise PolicyError(Problem(key="", message=message, file=path)) from None
    except ValueError as error:  # a NUL in the path, or bytes that are not UTF-8
        raise PolicyError(Problem(key="", message=str(error), file=shown(path))) from None
    return _layers(_parsed(text, path), path, os.path.dirname(path), (*chain, real))


def _parsed(text: str, name: str) -> dict[str, Any]:
    try:
        return toml.loads(text)
    except ValueError as error:
        raise PolicyError(Problem(key="", message=f"not TOML: {error}", file=name)) from None


def _layers(data: Mapping[str, Any], name: str, folder: str, chain: tuple[str, ...]) -> list[Layer]:
    data = dict(data)
    base = data.pop("extends", None)
    below: list[Layer] = []
    try:
        if base is None:
            pass
        elif not isinstance(base, str):
            raise refusal("want the name of a preset or a file", base, allowed=", ".join(PRESETS))
        elif base in PRESETS or not is_file_name(base):
            below = [(f"preset {base}", to_dict(preset(base)))]
        else:
            below = _layers_of_file(os.path.join(folder, os.path.expanduser(base)), chain)
    except PolicyError as error:
        if error.problems[0].file:
            raise
        raise _in_file(error.under("extends"), name) from None
    return [*below, (name, _anchored(data, folder))]


def _in_file(error: PolicyError, name: str) -> PolicyError:
    return PolicyError(*(attrs.evolve(problem, file=name) for problem in error.problems))


def _anchored(data: dict[str, Any], folder: str) -> dict[str, Any]:
    """Returns `data` with the host paths of its mounts made relative to the file's folder."""
    filesystem = data.get("filesystem")
    mounts = filesystem.get("mounts") if isinstance(filesystem, Mapping) else filesystem
    if not isinstance(mounts, list | tuple) or not folder:
        return data
    anchored = [_anchored_mount(mount, folder) for mount in mounts]
    rest = filesystem if isinstance(filesystem, Mapping) else {}
    return {**data, "filesystem": {**rest, "mounts": anchored}}


def _anchored_mount(mount: Any, folder: str) -> Any:
    if isinstance(mount, str):
        try:
            mount = split_mount(mount)
        except PolicyError:
            return mount  # the fault is reported when the mount is structured
    source = mount.get("source") if isinstance(mount, Mapping) else None
    if isinstance(source, str) and source and not source.startswith(("/", "~")):
        return {**mount, "source": os.path.join(folder, source)}
    return mount


# --- merging --------------------------------------------------------------------------------------


def _resolve(layers: list[Layer]) -> Policy:
    merged: dict[str, Any] = {}
    owners: dict[KeyPath, str] = {}
    try:
        for name, data in layers:
            _merge(merged, data, (), name, owners)
        return _structured(merged)
    except PolicyError as error:
        leaf = layers[-1][0]
        raise PolicyError(*(_owned(problem, owners, leaf) for problem in error.problems)) from None
    except RecursionError:
        message = "nested too deeply"
        raise PolicyError(Problem(key="", message=message, file=layers[-1][0])) from None


def _merge(
    into: dict[str, Any],
    data: Mapping[Any, Any],
    path: KeyPath,
    name: str,
    owners: dict[KeyPath, str],
) -> None:
    for key, value in data.items():
        here = (*path, str(key))
        owners[here] = name
        if not path and key in SECTIONS:
            value = _as_table(key, value)
        below = into.get(key)
        if isinstance(below, dict) and isinstance(value, Mapping) and not _restarts(here, value):
            _merge(below, value, here, name, owners)
        elif isinstance(value, Mapping):
            into[key] = {}
            _merge(into[key], value, here, name, owners)
        else:
            into[key] = value


def _as_table(section: str, value: Any) -> Any:
    try:
        return fields_of(SECTIONS[section], value)
    except PolicyError:
        return value  # the fault is reported when the section is structured


def _restarts(path: KeyPath, value: Mapping[Any, Any]) -> bool:
    """Whether a table names the kind of time: the start and rate of an extended file do not apply to another kind."""
    return path == ("time",) and "kind" in value


def _owned(problem: Problem, owners: dict[KeyPath, str], leaf: str) -> Problem:
    path = tuple(problem.key.replace("[", ".[").split("."))
    while path and path not in owners:
        path = path[:-1]
    return attrs.evolve(problem, file=owners.get(path, leaf))


# --- structuring with cattrs ----------------------------------------------------------------------


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(detailed_validation=True, forbid_extra_keys=True)
    classes: tuple[type[Any], ...] = (Policy, *SECTIONS.values(), Mount)
    for cls in classes:
        converter.register_structure_hook(cls, _class_hook(converter, cls))
    return converter


def _class_hook(converter: cattrs.Converter, cls: type[Any]) -> Callable[[Any, Any], Any]:
    overrides = {field.name: override(struct_hook=_field_hook(converter, cls, field)) for field in attrs.fields(cls)}
    structure = make_dict_structure_fn(
        cls,
        converter,
        _cattrs_detailed_validation=True,
        _cattrs_forbid_extra_keys=True,
        **overrides,  # type: ignore[arg-type]
    )
    return lambda value, _cls: structure(fields_of(cls, value), cls)


def _field_hook(converter: cattrs.Converter, cls: type[Any], field: attrs.Attribute[Any]) -> Callable[[Any, Any], Any]:
    if cls is Policy and field.name in SECTIONS:
        return lambda value, _type: converter.structure(value, SECTIONS[field.name])

    def check(value: Any, _type: Any) -> Any:
        if cls is Filesystem and field.name == "mounts" and isinstance(value, list | tuple):
            value = converter.structure(list(value), list[Mount])
        try:
            return check_field(field, value)
        except PolicyError as error:
            # cattrs notes the field's name itself.
            problems = (attrs.evolve(each, assumed=field.name) for each in error.problems)
            raise PolicyError(*problems) from None

    return check


_CONVERTER: Final = _converter()


def _structured(data: Mapping[str, Any]) -> Policy:
    try:
        return _CONVERTER.structure(data, Policy)
    except (cattrs.BaseValidationError, PolicyError) as error:
        raise PolicyError(*_problems(error, "")) from None


def _problems(error: BaseException, path: str) -> list[Problem]:
    """Returns the leaves of cattrs' tree of errors, each with the path from its notes."""
    if isinstance(error, cattrs.BaseValidationError):
        return [problem for below in error.exceptions for problem in _problems(below, path + _step(below, path))]
    if isinstance(error, PolicyError):
        return list(error.under(path).problems)
    if isinstance(error, cattrs.ForbiddenExtraKeysError):
        problems = check_keys(error.cl, _with_needed(error))
        if not path:
            names = ["extends", *(field.name for field in attrs.fields(Policy))]
            unknown = [unknown_key(key, names) for key in sorted(error.extra_fields)]
            needed = [each for each in problems if each.key not in error.extra_fields]
            problems = [attrs.evolve(each, meant=_meant(each)) for each in unknown] + needed
        return list(PolicyError(*problems).under(path).problems)
    if isinstance(error, KeyError):
        return [Problem(key=path, message="this key is needed")]
    return [Problem(key=path, message=f"{type(error).__name__}: {error}"[:200])]


def _meant(problem: Problem) -> str:
    """Returns the key of that name in a section, unless only the plural of a section's own name is missing."""
    return problem.meant if problem.meant == f"{problem.key}s" else find_key(problem.key) or problem.meant


def _with_needed(error: cattrs.ForbiddenExtraKeysError) -> list[str]:
    """Returns the extra keys and all fields, so that `check_keys` reports no missing keys: KeyErrors report those."""
    return [*error.extra_fields, *(field.name for field in attrs.fields(error.cl))]


def _step(error: BaseException, path: str) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, cattrs.AttributeValidationNote):
            return f".{note.name}" if path else note.name
        if isinstance(note, cattrs.IterableValidationNote):
            return f"[{note.index}]"
    return ""
