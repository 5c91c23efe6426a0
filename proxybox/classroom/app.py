"""Puts the classroom together: an ASGI application with all doors."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

try:
    import fastapi
    import itsdangerous  # noqa: F401
    import segno  # noqa: F401
    import sqlalchemy  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(f"the classroom needs {error.name}: pip install 'proxybox[classroom]'") from error

import proxybox
from proxybox.classroom.config import Config
from proxybox.classroom.doors import events, lti, pages, student, teacher
from proxybox.classroom.edge import Edge
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.lti.bridge import Bridge
from proxybox.classroom.lti.platforms import load_platforms
from proxybox.serve.app import tell_faults


def app(config: Config) -> Edge:
    """Returns the application of a lesson, which starts with the server's lifespan unless it was started before.

    Raises ExerciseError or PolicyError when the course makes no sense, and StoreError.
    """
    lesson = Lesson(config)
    bridge = Bridge(lesson, load_platforms(Path(config.lti))) if config.lti else None

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
        openapi_url=None,
    )  # fmt: skip
    inner.state.lesson, inner.state.bridge, inner.state.buckets = lesson, bridge, {}
    for router in (pages.router, student.router, teacher.router, teacher.guarded, events.router, lti.router):
        inner.include_router(router)
    inner.mount("/static", pages.files)
    tell_faults(inner)
    return Edge(inner, lesson)
