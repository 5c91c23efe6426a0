"""Every answer of a classroom in these tests is compared with its declaration (proxybox/classroom/answers.py)."""

import re
from typing import Any, Final

import httpx
import pytest

pytest.importorskip("fastapi", reason="the classroom is made of FastAPI (extra classroom)")

import fastapi

from proxybox.classroom.app import ROUTERS
from proxybox.jsonvalues import JSONObject
from proxybox.serve.models import ProblemDetails
from proxybox.serve.openapi import describe, problems
from proxybox.serve.problems import KINDS
from tests.serve import declared


def _openapi() -> JSONObject:
    """Returns the OpenAPI description of all routes, each of which may answer with any problem."""
    inner = fastapi.FastAPI(title="classroom", responses=problems(*(status for status, _ in KINDS.values())))
    for router in ROUTERS:
        inner.include_router(router)
    return describe(inner, [ProblemDetails])


CLASSROOM: Final = declared.Declared(
    openapi=_openapi,
    paths=re.compile("/api/"),
    where="declare it in proxybox/classroom/answers.py, and name it in the route (proxybox/classroom/doors/)",
)


class CheckedHTTP(httpx.HTTPTransport):
    """An httpx transport that compares answers with their declarations."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return declared.checked(request, super().handle_request(request), CLASSROOM)


class CheckedASGI(httpx.ASGITransport):
    """The same transport for an application in this process."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return declared.checked(request, await super().handle_async_request(request), CLASSROOM)


def client(url: str, *, address: str | None = None, **more: Any) -> httpx.Client:
    """Returns a client of a classroom. address: of this machine, from which it connects."""
    return httpx.Client(base_url=url, transport=CheckedHTTP(local_address=address, verify=False), timeout=60, **more)


def client_within(edge: Any, url: str, **more: Any) -> httpx.AsyncClient:
    """Returns a client of a classroom in this process."""
    return httpx.AsyncClient(transport=CheckedASGI(edge), base_url=url, timeout=60, **more)
