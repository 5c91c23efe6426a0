"""Classrooms of tests: `proxybox classroom` in a process group of its own, and its clients."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx

from tests.soak.serving import family


@attrs.frozen
class Classroom:
    """A running classroom. url: its address. code: to join with. key: the teacher's."""

    process: "subprocess.Popen[str]"
    url: str
    code: str
    key: str
    data: Path

    @property
    def port(self) -> int:
        """The port of the classroom's address."""
        return int(self.url.rpartition(":")[2])

    def client(self) -> httpx.Client:
        """Returns a browser without a cookie."""
        from tests.classroom import declared  # it needs the extra classroom

        return declared.client(self.url, headers={"Origin": self.url})

    @contextlib.contextmanager
    def joined(self, name: str) -> Iterator[httpx.Client]:
        """A browser that has a seat."""
        with self.client() as client:
            answer = client.post("/api/join", json={"name": name, "code": self.code})
            assert answer.status_code == 201, answer.text
            yield client

    @contextlib.contextmanager
    def teacher(self) -> Iterator[httpx.Client]:
        """The teacher's browser."""
        with self.client() as client:
            assert client.post("/api/teacher/login", json={"key": self.key}).status_code == 204
            yield client

    def kill(self, *, all_of_it: bool) -> None:
        """Kills the server's process. all_of_it: its descendants, too."""
        for pid in list(family(self.process.pid)) if all_of_it else [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


def log_of(data: Path) -> Path:
    """Returns the file with the classroom's standard error."""
    return data.with_suffix(".log")


def start(data: Path, course: Path, *options: str, port: int = 0) -> tuple["subprocess.Popen[str]", Any]:
    """Starts a classroom; returns its process, and the JSON that it prints when it is open.

    Raises RuntimeError, with what it has said, when it ends before.
    """
    command = [sys.executable, "-P", "-m", "proxybox", "classroom", "--json", "--port", str(port), "--data", str(data)]
    with open(log_of(data), "a") as said:
        process = subprocess.Popen(
            [*command, *options, str(course)], stdout=subprocess.PIPE, stderr=said, text=True, start_new_session=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"it has ended with {process.wait()}: {log_of(data).read_text()}")
    return process, json.loads(line)


def end(process: "subprocess.Popen[str]", number: int = signal.SIGTERM) -> None:
    """Ends a classroom by a signal."""
    with process:
        process.send_signal(number)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


@contextlib.contextmanager
def classroom(data: Path, course: Path, *options: str, port: int = 0) -> Iterator[Classroom]:
    """Opens a classroom for the context. Raises RuntimeError, with its log, when it ends before it is open."""
    process, seen = start(data, course, *options, port=port)
    try:
        yield Classroom(process, seen["addresses"][0], seen["code"], seen["teacher"].partition("#")[2], data)
    finally:
        end(process)


@contextlib.contextmanager
def within(**config: Any) -> Iterator[tuple[Any, asyncio.Runner]]:
    """A classroom in this process, without a socket: the application, and the event loop in which it runs."""
    from proxybox.classroom.app import app
    from proxybox.classroom.config import ClassroomConfig

    edge = app(ClassroomConfig(**config))
    with asyncio.Runner() as loop:
        life = edge._inner.router.lifespan_context(edge._inner)  # type: ignore[attr-defined]
        loop.run(life.__aenter__())
        yield edge, loop
        loop.run(life.__aexit__(None, None, None))


@attrs.frozen
class Told:
    """An event of a stream."""

    id: str
    name: str
    data: Any

    @property
    def number(self) -> int:
        """Its number among all events; 0 where it has none."""
        return int(self.id.rpartition("-")[2] or 0)


def event_of(piece: bytes) -> Told | None:
    """Returns the event in a piece of a stream; None for a comment."""
    fields = dict(line.split(b": ", 1) for line in piece.split(b"\n") if line and not line.startswith(b":"))
    if b"event" not in fields:
        return None
    return Told(fields.get(b"id", b"").decode(), fields[b"event"].decode(), json.loads(fields[b"data"]))
