"""The description of the REST interface (OpenAPI 3.1), from which generators make typed clients.

FastAPI makes most of it from the routes. This module adds the parts that FastAPI does not describe: the required key,
problems and their media type, a body with exactly one of two forms, and models of events and messages.
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

#: Problems of any request before it reaches a door: because of its connection, its key and the service's load.
ANYWHERE: Final = (400, 401, 403, 405, 408, 413, 417, 422, 429, 431, 500, 503, 505)
_REF: Final = "#/components/schemas/{model}"


def reference(model: type[BaseModel]) -> str:
    """Returns the reference to the schema of a model in the description."""
    return _REF.format(model=model.__name__)


_PROBLEM: Final = {MEDIA_TYPE: {"schema": {"$ref": reference(models.ProblemDetails)}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the descriptions of problems for OpenAPI: each with the titles of its kinds (problems.py)."""
    return {
        status: {
            "description": "; ".join(title for number, title in KINDS.values() if number == status),
            "content": _PROBLEM,
        }
        for status in statuses
    }


def operation_id(route: APIRoute) -> str:
    """Returns the id of an operation, which is the name of its function; generated clients use it, too."""
    return route.name


def describe(inner: FastAPI, more: Sequence[type[BaseModel]]) -> dict[str, Any]:
    """Returns the description of an application's interface; it is made once. more: models that no route uses."""
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
            schemas["RunResult"]["examples"] = [models.RUN_RESULT]  # FastAPI omits null values
        made["components"]["securitySchemes"] = {
            "key": {"type": "http", "scheme": "bearer", "description": "A key of this service (proxybox serve keys)."}
        }
        made["security"] = [{"key": []}]
        inner.openapi_schema = made
    return inner.openapi_schema


def _forms(both: JSONObject) -> JSONObject:
    """Returns the schema of a body with exactly one of two forms (`RunRequest`), and the schema of each form."""
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
    """Returns the schema of a required value."""
    (wanted,) = (each for each in schema["anyOf"] if each != {"type": "null"})
    return {**{key: value for key, value in schema.items() if key not in ("anyOf", "default")}, **wanted}
