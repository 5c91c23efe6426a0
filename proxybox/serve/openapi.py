"""The description of the REST interface (OpenAPI 3.1), of which generators make typed clients.

FastAPI makes most of it from the routes. Added here is what it has no words for: the key that is needed, problems and
their media type, a body of which exactly one of two forms is wanted, and models of events and messages.
"""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from proxybox.jsonvalues import JSONObject
from proxybox.serve import models
from proxybox.serve.problems import KINDS, MEDIA_TYPE

#: Problems that any request may get before a door has seen it: of its connection, its key and the service's room.
ANYWHERE: Final = (400, 401, 403, 405, 408, 413, 417, 422, 429, 431, 500, 503, 505)
_REF: Final = "#/components/schemas/{model}"


def reference(model: type[BaseModel]) -> str:
    """Returns where the schema of a model stands in the description."""
    return _REF.format(model=model.__name__)


_PROBLEM: Final = {MEDIA_TYPE: {"schema": {"$ref": reference(models.ProblemDetails)}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns how OpenAPI tells these problems: each with the titles of its kinds (problems.py)."""
    return {
        status: {
            "description": "; ".join(title for number, title in KINDS.values() if number == status),
            "content": _PROBLEM,
        }
        for status in statuses
    }


def operation_id(route: APIRoute) -> str:
    """Returns the name of an operation: that of its function, which generated clients use for theirs."""
    return route.name


def describe(inner: FastAPI, more: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """Returns the description of an application's interface; it is made once. more: models that no route names."""
    if inner.openapi_schema is None:
        made = get_openapi(
            title=inner.title, version=inner.version, description=inner.description, routes=inner.routes,
            license_info={"name": "MIT", "identifier": "MIT"}, servers=[{"url": "/"}],
        )  # fmt: skip
        _, definitions = models_json_schema([(model, "serialization") for model in more], ref_template=_REF)
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        schemas |= definitions.get("$defs", {})
        if "RunRequest" in schemas:
            schemas |= _forms(schemas["RunRequest"])
            schemas["RunResult"]["examples"] = [models.RUN_RESULT]  # FastAPI leaves out what is null
        made["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "A key of this service (proxybox serve keys)."}
        }
        made["security"] = [{"key": []}]
        inner.openapi_schema = made
    return inner.openapi_schema


def _forms(both: JSONObject) -> JSONObject:
    """The schema of a body of which exactly one of two forms is wanted (`RunRequest`), and that of each form."""
    named = {}
    for name, needed, other in models.RUN_FORMS:
        properties = {key: value for key, value in both["properties"].items() if key not in other}
        properties |= {key: _not_null(properties[key]) for key in needed}
        named[name] = {**both, "title": name, "properties": properties, "required": list(needed)}
        named[name].pop("examples", None)
    refs = [{"$ref": _REF.format(model=name)} for name in named]
    kept = {key: both[key] for key in ("title", "description", "examples") if key in both}
    return {**named, "RunRequest": {**kept, "oneOf": refs}}


def _not_null(schema: JSONObject) -> JSONObject:
    """The schema of a value that cannot be left out."""
    (wanted,) = (each for each in schema["anyOf"] if each != {"type": "null"})
    return {**{key: value for key, value in schema.items() if key not in ("anyOf", "default")}, **wanted}
