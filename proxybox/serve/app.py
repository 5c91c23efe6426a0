"""Puts the service together: an ASGI application with all doors.

proxybox.serve.app.app(config)      for uvicorn, or any other server of ASGI
"""

import contextlib
import json
from collections.abc import AsyncIterator

try:
    import fastapi
    import prometheus_client  # noqa: F401
    import sqlalchemy  # noqa: F401
    import uvicorn  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"the service needs {error.name}: pip install 'proxybox[server]'") from error
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

import proxybox
from proxybox.serve import asking
from proxybox.serve.asking import ClientGone, invalid
from proxybox.serve.config import ServiceConfig
from proxybox.serve.edge import ServiceMiddleware, log, visit
from proxybox.serve.openapi import describe, operation_id
from proxybox.serve.opening import OPENAPI, opened
from proxybox.serve.paths import AccessTable
from proxybox.serve.problems import MEDIA_TYPE, Refusal, of_status
from proxybox.serve.service import Service

_DESCRIPTION = """Runs untrusted Python in sealed boxes, each of whose OS calls a trusted controller answers or denies.

Errors are problem details (RFC 9457); `errors` of a 422 says where the request is at fault. Every answer has an
`X-Request-Id`."""


def app(config: ServiceConfig | None = None) -> ServiceMiddleware:
    """Returns the application of a service, which starts with the server's lifespan and tests its boxes first.

    Raises PolicyError for a door that cannot be opened.
    """
    service = Service(config or ServiceConfig())
    own, doors = opened(service.config.doors)
    service.authority.access = AccessTable(doors)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        if not service.has_started:
            await service.start()
        try:
            yield
        finally:
            await service.close()

    inner = fastapi.FastAPI(
        title="proxybox", version=proxybox.__version__, description=_DESCRIPTION, lifespan=lifespan,
        docs_url=None, redoc_url=None,  # their pages load scripts from other hosts
        openapi_url=OPENAPI, generate_unique_id_function=operation_id,
    )  # fmt: skip
    inner.state.service = service
    for router in (*(module.router for module in own), *(door.router for door in doors)):
        inner.include_router(router)
    models = [model for module in own for model in getattr(module, "MODELS", ())]
    inner.openapi = lambda: describe(inner, models)  # type: ignore[method-assign]
    tell_faults(inner)
    if service.config.origins:
        inner.add_middleware(
            CORSMiddleware, allow_origins=service.config.origins, allow_methods=["*"], allow_headers=["*"],
            expose_headers=["X-Request-Id", "Retry-After", "Mcp-Session-Id"],
        )  # fmt: skip
    ways = asking.password, lambda connection: connection.headers.get("x-api-key")
    return ServiceMiddleware(inner, service, ways)


def tell_faults(inner: fastapi.FastAPI) -> None:
    """Makes an application answer with problem details when it fails."""
    inner.add_exception_handler(Refusal, refused)
    inner.add_exception_handler(RequestValidationError, _invalid)
    inner.add_exception_handler(HTTPException, _of_the_framework)
    inner.add_exception_handler(ClientGone, _gone)
    inner.add_exception_handler(ClientDisconnect, _gone)
    inner.add_exception_handler(Exception, _failed)


# --- faults, in our own form ------------------------------------------------------------------------------------------


async def refused(request: Request, error: Exception) -> Response:
    """Answers a request with a refusal."""
    assert isinstance(error, Refusal)  # noqa: S101 - Starlette's types know only Exception
    body = json.dumps(error.body(visit(request.scope).id))
    return Response(body, error.status, error.headers, media_type=MEDIA_TYPE)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    return await refused(request, invalid(error))


async def _of_the_framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    refusal = of_status(error.status_code)
    refusal.headers.update(error.headers or {})
    return await refused(request, refusal)


async def _gone(_: Request, __: Exception) -> Response:
    """Returns an answer that nobody reads; its status, nginx's 499, is for the log."""
    return Response(status_code=499)


async def _failed(request: Request, error: Exception) -> Response:
    log.error("%s failed", visit(request.scope).id, exc_info=error)
    return await refused(request, Refusal("internal-error"))
