"""Makes one policy from another, by keyword arguments or `--set KEY=VALUE`.

Rule: tables are merged into the existing ones, and everything else replaces the existing value. This is the same in
both ways, and in a file that extends another (loading.py).
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs

from proxybox.policies.building import build, check_field, check_keys, fields_of
from proxybox.policies.errors import ALSO_CALLED, NO_SUCH_KEY, PolicyError, Problem, shown, unknown_key
from proxybox.policies.models import SECTIONS, Policy, Time
from proxybox.policies.sizes import format_size, spoken_duration

#: The keys that one run can have for itself, with how their values are told; words come in order, the loosest first.
_OF_A_RUN: Final[Mapping[str, Mapping[str, Any]]] = {
    "limits": {
        "wall_time": spoken_duration, "cpu_time": spoken_duration, "memory": format_size, "disk": format_size,
        "files": "{:,}".format, "open_files": "{:,}".format, "threads": "{:,}".format, "calls": "{:,}".format,
        "input_wait": ("free", "auto", "counted"),
    },
    "output": {"limit": format_size, "lines": "{:,}".format, "on_excess": ("truncate", "end")},
}  # fmt: skip
_TEXTS = frozenset({"user", "hostname", "locale", "cwd", "home"})


def is_file_name(text: str) -> bool:
    """Whether a policy given as text is the name of a file, not of a preset."""
    return text.endswith(".toml") or "/" in text


def evolve(policy: Policy, /, **policy_fields: Any) -> Policy:
    """Returns `policy` with some fields replaced, as by the keyword arguments of `run` and `Sandbox`.

    A section may be given as its class, which replaces it, or as a dict, which changes the keys that it names:
    evolve(policy, limits={"wall_time": 3}). A dict of `variables` changes those that it names, too. Raises PolicyError
    with all faults.
    """
    problems = [_unknown(problem) for problem in check_keys(Policy, policy_fields)]
    changes: dict[str, Any] = {}
    for name, value in policy_fields.items():
        if name not in SECTIONS:
            changes[name] = value
            continue
        try:
            changes[name] = _merged(getattr(policy, name), value)
        except PolicyError as error:
            problems += error.under(name).problems
    known = {field.name: changes[field.name] for field in attrs.fields(Policy) if field.name in changes}
    try:
        evolved = attrs.evolve(policy, **known)
    except PolicyError as error:
        problems += error.problems
    if problems:
        raise PolicyError(*problems)
    return evolved


def _merged(section: Any, value: Any) -> Any:
    cls = type(section)
    if isinstance(value, cls):
        return value
    fields = fields_of(cls, value)
    if cls is Time and fields.get("kind", section.kind) != section.kind:
        return build(Time, value)  # the start and rate of another kind mean nothing to it
    variables = fields.get("variables")
    if isinstance(variables, Mapping) and hasattr(section, "variables"):
        fields["variables"] = {**section.variables, **variables}
    # Not attrs.evolve: the class has to report a misspelt name.
    return cls(**{**{field.name: getattr(section, field.name) for field in attrs.fields(cls)}, **fields})


def tightened(policy: Policy, /, *, limits: Any = None, output: Any = None) -> Policy:
    """Returns `policy` with limits of one run in place of its own: tables of keys of `Limits` and of `Output`.

    None may be looser than the policy's. Where the policy has no limit, any is tighter. `limits.nursery`,
    `output.escapes` and `output.display` are no limits of a run. Raises PolicyError with all faults.
    """
    sections: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, chosen in (("limits", limits), ("output", output)):
        if chosen is not None:
            try:
                sections[name] = _tighter(getattr(policy, name), chosen, _OF_A_RUN[name])
            except PolicyError as error:
                problems += error.under(name, assumed=True).problems
    if problems:
        raise PolicyError(*problems)
    return attrs.evolve(policy, **sections) if sections else policy


def restricted(policy: Policy, /, **policy_fields: Any) -> Policy:
    """Returns `policy` with some fields replaced, as by `evolve`, and none of the limits of a run looser.

    Of such a limit (they are those of `tightened`), the tighter one counts. `preload` and `require_layers` are added to
    those of the policy. Raises PolicyError with all faults.
    """
    changed = evolve(policy, **policy_fields)
    kept: dict[str, Any] = {}
    for name in ("preload", "require_layers"):
        kept[name] = tuple(dict.fromkeys((*getattr(policy, name), *getattr(changed, name))))
    for name, keys in _OF_A_RUN.items():
        before, after = getattr(policy, name), getattr(changed, name)
        bounds = {key: getattr(before, key) for key in keys}
        looser = {key: bound for key, bound in bounds.items() if _looser_than(bound, getattr(after, key), keys[key])}
        kept[name] = attrs.evolve(after, **looser)
    return attrs.evolve(changed, **kept)


def _tighter(section: Any, value: Any, keys: Mapping[str, Any]) -> Any:
    """Returns a section with other values for some of its `keys`. Raises PolicyError, with keys as in the section."""
    if not isinstance(value, Mapping):
        raise PolicyError(
            Problem(key="", message="want a table of limits", given=shown(value), allowed=", ".join(keys))
        )
    fields = {field.name: field for field in attrs.fields(type(section))}
    problems = [
        Problem(key=key, message="one run cannot have its own", allowed=", ".join(keys))
        if key in fields
        else unknown_key(key, keys)
        for key in value
        if key not in keys
    ]
    for field in (fields[key] for key in keys if key in value):
        chosen, bound, written = value[field.name], getattr(section, field.name), keys[field.name]
        try:
            allowed = _looser_than(bound, check_field(field, chosen), written)
        except PolicyError as error:
            problems += error.problems
            continue
        if allowed:
            what = chosen if isinstance(chosen, str) else shown(chosen)
            problems.append(Problem(key=field.name, message="looser than the policy", given=what, allowed=allowed))
    if problems:
        raise PolicyError(*problems)
    return attrs.evolve(section, **value)


def _looser_than(bound: Any, value: Any, written: Any) -> str:
    """Returns what is allowed, where a value is looser than the policy's; otherwise an empty text."""
    if isinstance(written, tuple):
        allowed = written[written.index(bound) :]
        return "" if value in allowed else ", ".join(allowed)
    is_looser = bound is not None and (value is None or value > bound)
    return f"at most {written(bound)}" if is_looser else ""


def _unknown(problem: Problem) -> Problem:
    """Suggests the key of a section: a caller who writes wall_time=3 most likely means limits.wall_time."""
    found = find_key(ALSO_CALLED.get(problem.key, problem.key))
    return attrs.evolve(problem, meant=found) if found else problem


def find_key(name: str) -> str:
    """Returns the dotted path of the key of that name in any section; empty when there is none.

    A key that both `limits` and `session` have is taken for that of `limits`, which comes first.
    """
    paths = (
        f"{section}.{name}"
        for section, cls in SECTIONS.items()
        if any(field.name == name for field in attrs.fields(cls))
    )
    return next(paths, "")


def setting_keys() -> dict[str, tuple[str, ...]]:
    """Returns the keys that a setting can name, each with the words that it takes where these are few."""
    keys: dict[str, tuple[str, ...]] = {}
    for field in attrs.fields(Policy):
        if field.name not in SECTIONS:
            keys[field.name] = _words_of(Policy, field.name)
            continue
        for below in attrs.fields(SECTIONS[field.name]):
            keys[f"{field.name}.{below.name}"] = _words_of(SECTIONS[field.name], below.name)
    return keys


def _words_of(cls: type[Any], name: str) -> tuple[str, ...]:
    kind = typing.get_type_hints(cls)[name]
    if kind is bool:
        return "true", "false"
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


# --- --set ----------------------------------------------------------------------------------------


def with_settings(policy: Policy, settings: Iterable[str]) -> Policy:
    """Returns `policy` with settings in the form "limits.wall_time=3"; values are written as in TOML.

    Quotes may be left out: limits.memory=256M. Raises PolicyError with all faults.
    """
    fields: dict[str, Any] = {}
    problems: list[Problem] = []
    for setting in settings:
        try:
            _put(fields, setting)
        except PolicyError as error:
            problems += error.problems
    try:
        policy = evolve(policy, **fields)
    except PolicyError as error:
        problems += error.problems
    if problems:
        raise PolicyError(*problems)
    return policy


def _put(fields: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    key = key.strip()
    if not equals or not key:
        message = 'want KEY=VALUE, such as "limits.wall_time=3"'
        raise PolicyError(Problem(key="", message=message, given=shown(setting)))
    first, _, rest = key.partition(".")
    if first not in SECTIONS and first not in {field.name for field in attrs.fields(Policy)}:
        names = [*SECTIONS, *(field.name for field in attrs.fields(Policy))]
        problem = unknown_key(first, set(names))
        raise PolicyError(attrs.evolve(problem if rest else _unknown(problem), key=key))
    path = [first, *rest.split(".", 1)] if rest else [first]
    if len(path) == 3 and path[:2] != ["environment", "variables"]:
        raise PolicyError(Problem(key=key, message=NO_SUCH_KEY))
    if len(path) > 1 and first not in SECTIONS:
        raise PolicyError(Problem(key=key, message=NO_SUCH_KEY, meant=first))
    value = _value(key, text)
    if first == "environment" and (path[-1] in _TEXTS or len(path) == 3):
        value = value if isinstance(value, str) else text
    table = fields
    for name in path[:-1]:
        below = table.get(name)
        if not isinstance(below, dict):
            # After "time=frozen", "time.start=..." adds to it.
            below = {} if below is None else _as_table(name, below)
            table[name] = below
        table = below
    table[path[-1]] = value


def _as_table(name: str, value: Any) -> dict[str, Any]:
    if name in SECTIONS:
        try:
            return fields_of(SECTIONS[name], value)
        except PolicyError as error:
            raise error.under(name) from None
    raise PolicyError(Problem(key=name, message="want a table", given=shown(value)))


def _value(key: str, text: str) -> Any:
    from proxybox.policies import toml  # only --set and files need it

    text = text.strip()
    try:
        parsed = toml.loads(f"value = {text}") if "\n" not in text and "\r" not in text else {}
    except ValueError as error:
        if text[:1] in ("", '"', "'", "[", "{"):
            reason = f"not a TOML value ({error})" if text else "there is no value"
            raise PolicyError(Problem(key=key, message=reason, given=shown(text))) from None
        return text
    return parsed["value"] if parsed.keys() == {"value"} else text
