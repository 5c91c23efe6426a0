"""Builds the classes of a policy, from arguments or short forms, and reports all faults at once.

Rule: for any arguments, the result is an instance or a PolicyError. The exception is arguments that Python itself
refuses, such as a third positional one: those are a TypeError, as for any class.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias, TypeVar

import attrs

from proxybox.policies.checks import refusal
from proxybox.policies.declaring import described
from proxybox.policies.errors import PolicyError, Problem, shown, unknown_key

T = TypeVar("T")
Form: TypeAlias = Callable[[Any], Any]
"""Turns a short form into a table of fields, and returns anything else unchanged."""

_forms: dict[type[Any], Form] = {}


def check_field(field: attrs.Attribute[Any], value: Any) -> Any:
    """Returns the converted value of one field. Raises PolicyError with keys that begin with the field's name."""
    convert: Callable[[Any], Any] | None = field.converter  # type: ignore[assignment]
    try:
        converted = value if convert is None else convert(value)
    except PolicyError as error:
        raise error.under(field.name) from None
    except RecursionError:
        raise refusal("nested too deeply", key=field.name) from None
    if field.validator is not None:
        try:
            field.validator(None, field, converted)
        except PolicyError as error:  # the message quotes the original value
            problems = (attrs.evolve(problem, given=shown(value)) for problem in error.problems)
            raise PolicyError(*problems) from None
    return converted


def check_keys(cls: type[attrs.AttrsInstance], keys: Collection[Any]) -> list[Problem]:
    """Returns a problem for each of `keys` that is no field of `cls`, and for each required field that is missing."""
    fields = attrs.fields(cls)
    names = [field.name for field in fields]
    problems = [unknown_key(key, names) for key in keys if key not in names]
    for field in fields:
        if field.default is attrs.NOTHING and field.name not in keys:
            problems.append(Problem(key=field.name, message="this key is needed"))
    return problems


def _all_problems(cls: type[attrs.AttrsInstance], given: dict[str, Any]) -> list[Problem]:
    problems = check_keys(cls, given)
    for field in attrs.fields(cls):
        if field.name in given:
            try:
                check_field(field, given[field.name])
            except PolicyError as error:
                problems += error.problems
    return problems


def model(section: str, form: Form | None = None) -> Callable[[type[T]], type[T]]:
    """Decorates an attrs class: its constructor reports all faults in one PolicyError.

    section: the first part of the keys of these problems, such as "limits", until `under` replaces it. form: converts
    the short forms that `fields_of` accepts besides a table of fields.
    """

    def decorate(cls: type[T]) -> type[T]:
        fields = attrs.fields(cls)  # type: ignore[arg-type]
        build = cls.__init__
        names = frozenset(field.name for field in fields)
        needed = frozenset(field.name for field in fields if field.default is attrs.NOTHING)
        positional = tuple(field.name for field in fields if not field.kw_only)

        def construct(self: T, *args: Any, **given: Any) -> None:
            if args:
                if len(args) > len(positional) or not given.keys().isdisjoint(positional[: len(args)]):
                    build(self, *args, **given)  # raises the TypeError that Python raises for such arguments
                given.update(zip(positional, args, strict=False))
            found: tuple[Problem, ...] = ()
            if names >= given.keys() >= needed:
                try:
                    build(self, **given)
                    return
                except PolicyError as error:
                    found = error.problems
            problems = _all_problems(cls, given) or found  # type: ignore[arg-type]
            raise PolicyError(*problems).under(section, assumed=True)

        functools.update_wrapper(construct, build)
        cls.__init__ = construct  # type: ignore[assignment, method-assign]
        cls.__doc__ = described(cls.__doc__, fields)
        if form is not None:
            _forms[cls] = form
        return cls

    return decorate


def fields_of(cls: type[Any], value: Any) -> dict[str, Any]:
    """Returns the constructor's arguments for a class of a policy, from a table or a short form.

    Raises PolicyError for anything else. The values are not checked.
    """
    if cls in _forms:
        value = _forms[cls](value)
    if not isinstance(value, Mapping):
        raise refusal(f"want a table of {', '.join(field.name for field in attrs.fields(cls))}", value)
    if not all(isinstance(key, str) for key in value):
        raise PolicyError(*check_keys(cls, value))
    return dict(value)


def rename(table: Any, key: str, name: str, convert: Callable[[Any], Any]) -> Any:
    """For short forms: returns `table` with `key` under another name. Raises PolicyError when it has both."""
    if not isinstance(table, Mapping) or key not in table:
        return table
    if name in table:
        raise refusal(f"{key} and {name} exclude each other", key=key)
    table = dict(table)
    try:
        table[name] = convert(table.pop(key))
    except PolicyError as error:
        raise error.under(key) from None
    return table


def build(cls: type[T], value: Any) -> T:
    """Returns an instance of a class of a policy, from an instance or from a value that `fields_of` accepts.

    Raises PolicyError for anything else.
    """
    return value if isinstance(value, cls) else cls(**fields_of(cls, value))
