"""Models of pydantic for OpenAPI, which are made from the attrs classes that declare the bodies."""

import functools
import inspect
import operator
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any, get_args, get_origin, get_type_hints

import attrs
from pydantic import BaseModel, create_model

from proxybox.resultjson import SOMETIMES


@functools.cache
def model_of(kind: type[Any], name: str = "") -> type[BaseModel]:
    """Returns the model of a class of attrs, with the models of its fields."""
    hints = get_type_hints(kind)
    absent = {field.name for field in attrs.fields(kind) if field.metadata == SOMETIMES}
    keys = {field.name: hints[field.name] for field in attrs.fields(kind)}
    return model_of_keys(name or kind.__name__, inspect.getdoc(kind) or "", keys, absent=absent)


def model_of_keys(
    name: str, doc: str, keys: Mapping[str, Any], *, base: type[BaseModel] | None = None, absent: Collection[str] = ()
) -> type[BaseModel]:
    """Returns a model of keys and their types, based on `base`. absent: keys that are not always sent."""
    fields: dict[str, Any] = {key: (_described(kind), None if key in absent else ...) for key, kind in keys.items()}
    return create_model(name, __doc__=doc, __base__=base, **fields)


def _described(hint: Any) -> Any:
    """Returns a type in which models replace the attrs classes."""
    if isinstance(hint, type) and attrs.has(hint):
        return model_of(hint)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return functools.reduce(operator.or_, map(_described, arguments))
    if origin in (list, dict, tuple):
        return origin[tuple(map(_described, arguments))]
    return dict[str, Any] if origin is Mapping else hint
