"""Makes one policy from another, by keyword arguments or `--set KEY=VALUE`.

Rule: tables are merged into the existing ones, and all other values replace the existing value. This is the same in
both ways, and in a file that extends another (loading.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from proxybox.policies.building import build, check_field, check_keys, fields_of
from proxybox.policies.declaring import Measure
from proxybox.policies.errors import ALSO_CALLED, NO_SUCH_KEY, PolicyError, Problem, shown, unknown_key
from proxybox.policies.keys import OF_ONE_RUN, PolicyKey, keys, of_one_run
from proxybox.policies.models import SECTIONS, Policy, Time


def evolve(policy: Policy, /, **policy_fields: Any) -> Policy:
    """Returns `policy` with some fields replaced, as by the keyword arguments of `run` and `Sandbox`.

    A section may be an instance of its class, which replaces it, or a dict, which changes the keys that it names:
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
        return build(Time, value)  # the start and rate of another kind do not apply to it
    variables = fields.get("variables")
    if isinstance(variables, Mapping) and hasattr(section, "variables"):
        fields["variables"] = {**section.variables, **variables}
    # Not attrs.evolve: the class has to report a misspelt name.
    return cls(**{**{field.name: getattr(section, field.name) for field in attrs.fields(cls)}, **fields})


def tightened(policy: Policy, /, *, limits: Any = None, output: Any = None) -> Policy:
    """Returns `policy` with limits of one run instead of its own: tables of keys of `Limits` and of `Output`.

    None may be looser than the policy's. Where the policy has no limit, any is tighter. Keys that one run may not
    tighten by their declaration (`limits.nursery`, `output.escapes`) are no limits of a run. Raises PolicyError with
    all faults.
    """
    sections: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, chosen in (("limits", limits), ("output", output)):
        if chosen is not None:
            try:
                sections[name] = _tighter(getattr(policy, name), chosen, of_one_run(name))
            except PolicyError as error:
                problems += error.under(name, assumed=True).problems
    if problems:
        raise PolicyError(*problems)
    return attrs.evolve(policy, **sections) if sections else policy


def restricted(policy: Policy, /, **policy_fields: Any) -> Policy:
    """Returns `policy` with some fields replaced, as by `evolve`, but with no limit of a run looser.

    Of each such limit (of `tightened`), the tighter value counts. `preload` and `require_layers` are added to those of
    the policy. Raises PolicyError with all faults.
    """
    changed = evolve(policy, **policy_fields)
    fields: dict[str, Any] = {}
    for name in ("preload", "require_layers"):
        fields[name] = tuple(dict.fromkeys((*getattr(policy, name), *getattr(changed, name))))
    for section in OF_ONE_RUN:
        looser = {
            name: key.of(policy)
            for name, key in of_one_run(section).items()
            if key.looser(key.of(policy), key.of(changed))
        }
        fields[section] = attrs.evolve(getattr(changed, section), **looser)
    return attrs.evolve(changed, **fields)


def check_timeout(policy: Policy, seconds: float) -> None:
    """Checks that a time limit of one run is not looser than its policy's. Raises PolicyError."""
    key = keys()["limits.wall_time"]
    if allowed := key.looser(key.of(policy), seconds):
        raise PolicyError(
            Problem(key="timeout", message="looser than the policy", given=shown(seconds), allowed=allowed)
        )


def within(policy: Policy, wanted: Mapping[str, float]) -> dict[str, dict[str, float]]:
    """Returns tables for `tightened`: the wanted limits of one run, or the policy's limit where that is tighter.

    wanted: by keys such as "limits.memory" that accept numbers; a number below a key's range becomes the range's least
    number. Raises PolicyError for other keys.
    """
    tables: dict[str, dict[str, float]] = {}
    for name, value in wanted.items():
        key = keys().get(name)
        if key is None or key.range is None:
            raise PolicyError(Problem(key=name, message="want a limit that is a number"))
        most, value = key.of(policy), max(value, key.range.low)
        tables.setdefault(key.section, {})[key.field.name] = value if most is None else min(value, most)
    return tables


def _tighter(section: Any, value: Any, keys: Mapping[str, PolicyKey]) -> Any:
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
        chosen, bound = value[field.name], getattr(section, field.name)
        try:
            allowed = keys[field.name].looser(bound, check_field(field, chosen))
        except PolicyError as error:
            problems += error.problems
            continue
        if allowed:
            what = chosen if isinstance(chosen, str) else shown(chosen)
            problems.append(Problem(key=field.name, message="looser than the policy", given=what, allowed=allowed))
    if problems:
        raise PolicyError(*problems)
    return attrs.evolve(section, **value)


def _unknown(problem: Problem) -> Problem:
    """Suggests the key of a section: a caller who writes wall_time=3 most likely means limits.wall_time."""
    found = find_key(ALSO_CALLED.get(problem.key, problem.key))
    return attrs.evolve(problem, meant=found) if found else problem


def find_key(name: str) -> str:
    """Returns the dotted path of the key of that name in any section; empty when there is none.

    For a key that both `limits` and `session` have, it is that of `limits`.
    """
    return next((key.name for key in keys().values() if key.section and key.field.name == name), "")


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
    if len(path) == 3 or (key in keys() and keys()[key].facts.measure in (Measure.TEXT, Measure.PATH)):
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
