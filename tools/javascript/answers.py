"""Writes types/server.d.ts: the types of the server's messages, from proxybox/classroom/answers.py and pageevents.py.

tsc then reports scripts that read keys or listen to events which do not exist.
"""

import inspect
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

from proxybox.classroom import answers
from proxybox.classroom.pageevents import EVENTS

TYPES = Path(__file__).parent / "types/server.d.ts"
SIMPLE = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", Any: "any"}


def name_of(kind: type) -> str:
    """Returns the name of a class in JavaScript."""
    return kind.__name__.removesuffix("Json")


def written(hint: Any) -> str:
    """Returns a type in TypeScript."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint in SIMPLE:
        return SIMPLE[hint]
    if origin is Literal:
        return " | ".join(f'"{each}"' for each in inner)
    if origin in (Union, types.UnionType):
        return " | ".join(map(written, inner))
    if origin in (list, tuple):
        return f"{written(inner[0])}[]"
    if origin in (dict, Mapping):
        return f"Record<string, {written(inner[1])}>"
    return name_of(hint)


def lines() -> Iterator[str]:
    """Returns the lines of the file."""
    yield "// Made by answers.py from proxybox/classroom/answers.py."
    yield f"export type EventName = {written(Literal[tuple(EVENTS)])};"
    yield f"export type RunKind = {written(answers.RunKind)};"
    for kind in filter(is_typeddict, vars(answers).values()):
        yield f"/** {inspect.getdoc(kind)} */"
        yield f"export interface {name_of(kind)} {{"
        for key, hint in get_type_hints(kind, include_extras=True).items():
            is_optional = get_origin(hint) is NotRequired
            yield f"  {key}{'?' if is_optional else ''}: {written(get_args(hint)[0] if is_optional else hint)};"
        yield "}"


if __name__ == "__main__":
    TYPES.write_text("\n".join([*lines(), ""]))
