"""Builds the classroom: an ASGI application with all doors."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

try:
    import fastapi
    import itsdangerous  # noqa: F401
    import segno  # noqa: F401
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"the classroom needs {error.name}: pip install 'proxybox[classroom]'") from error

import proxybox
from proxybox.classroom.config import ClassroomConfig
from proxybox.classroom.doors import events, pages, student, teacher
from proxybox.classroom.edge import ClassroomMiddleware
from proxybox.classroom.lesson import Lesson
from proxybox.serve.app import refused, tell_faults
from proxybox.serve.database import StoreError
from proxybox.serve.edge import log, visit
from proxybox.serve.problems import Refusal

#: Paths that browsers request from every site.
ROUTERS: Final = (pages.router, student.router, teacher.router, teacher.guarded, teacher.whole, events.router)


def app(config: ClassroomConfig) -> ClassroomMiddleware:
    """Returns the application of a lesson. The server's lifespan starts the lesson if it was not started before.

    Raises ExerciseError or PolicyError if the course has faults, and StoreError.
    """
    lesson = Lesson(config)

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        if not lesson.has_started:
            await lesson.start()
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(lesson.close)
            if bridge is not None:
                await ending.enter_async_context(bridge.open())
            yield

    inner = fastapi.FastAPI(
        title="proxybox classroom", version=proxybox.__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url=None, redirect_slashes=False,
    )  # fmt: skip
    inner.state.lesson = lesson
    for router in ROUTERS:
        inner.include_router(router)
    bridge = None
    if config.lti:
        from proxybox.classroom.doors import lti

        bridge = inner.state.bridge = lti.bridge_of(lesson)
        inner.include_router(lti.router)
    inner.mount("/static", pages.files)
    tell_faults(inner)
    inner.add_exception_handler(StoreError, _not_kept)
    return ClassroomMiddleware(inner, lesson)


async def _not_kept(request: fastapi.Request, error: Exception) -> fastapi.Response:
    """The answer if the database cannot be written: nothing was saved, and the page tries again."""
    log.error("%s: nothing can be kept: %s", visit(request.scope).id, error)
    detail = "Nothing can be kept at the moment. Is the disk of the teacher's computer full?"
    return await refused(request, Refusal("not-ready", detail, headers={"Retry-After": "2"}))
