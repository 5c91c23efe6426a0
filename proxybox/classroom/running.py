"""Runs a classroom with uvicorn: from the first messages to the teacher to the backup at the end."""

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from proxybox.classroom.addresses import addresses
from proxybox.classroom.alone import ClassroomError, alone
from proxybox.classroom.app import app
from proxybox.classroom.certificates import CertificateError
from proxybox.classroom.config import LAN, ClassroomConfig
from proxybox.classroom.edge import ClassroomMiddleware
from proxybox.classroom.lesson import Lesson
from proxybox.classroom.place import ClassroomAddress
from proxybox.classroom.showing import ClassroomFacts, as_json, show
from proxybox.serve.connections.bounds import Bounds
from proxybox.serve.listening import ListenError, begin, listening, settle

import uvicorn  # isort: skip - app says what to install
import uvloop  # isort: skip
from proxybox.serve.connections.http import protocols  # isort: skip
from proxybox.serve.ending import EndingServer  # isort: skip

#: The most backups, and the form of their names: the time, so that they sort by it.
_BACKUPS: Final = 10
_BACKUP: Final = "%Y-%m-%d-%H%M%S.sqlite"
#: Seconds that requests have to end. Streams are ended before.
_GRACE: Final = 2
#: Seconds for which a browser's connection stays open for the next request: fewer handshakes on Wi-Fi, above all with
#: TLS.
_KEPT_OPEN: Final = 60
#: Variables that a desktop sets for its programs.
_DESKTOPS: Final = ("DISPLAY", "WAYLAND_DISPLAY")
#: Seconds between two checks of the addresses.
_LOOK: Final = 10.0
_EVERY_ADDRESS: Final = ""  # as bind(2) of Python's sockets expects it

log = logging.getLogger("proxybox.classroom")


@attrs.frozen(kw_only=True)
class Manner:
    """How facts are shown. json: in one line. opens: the page, in a browser. verbose: also joins and warnings."""

    json: bool = False
    opens: bool = False
    verbose: bool = False

    def tell(self, facts: ClassroomFacts) -> None:
        """Prints the facts of a classroom that has opened."""
        if self.json:
            print(as_json(facts), flush=True)
        else:
            show(facts, sys.stdout)
        if self.opens and not any(os.environ.get(name) for name in _DESKTOPS):
            print("proxybox: there is no desktop here to open a browser on", file=sys.stderr)
        elif self.opens:
            threading.Thread(target=webbrowser.open, args=(facts.teacher,), daemon=True).start()  # it may take seconds

    def say(self, line: str) -> None:
        """Prints a line for a person, unless the output is JSON or the terminal was closed."""
        if not self.json:
            with contextlib.suppress(OSError):
                print(line, flush=True)


def run(config: ClassroomConfig, manner: Manner) -> int:
    """Runs the classroom until a signal ends it, and returns the exit status.

    Raises ProxyboxError if it cannot open.
    """
    begin("proxybox", level=logging.WARNING if manner.verbose else logging.ERROR)
    if manner.verbose:
        log.setLevel(logging.INFO)
    with alone(config.data) as held, _listening(config) as listener:
        place = ClassroomAddress(attrs.evolve(config, port=listener.getsockname()[1]))
        held.write(f"process {os.getpid()}, {place.addresses[0]}")
        held.flush()
        edge = app(place.config)
        edge.lesson.everybody.addresses = place.addresses
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(edge, listener, place, manner))
    return 0


async def _serve(edge: ClassroomMiddleware, listener: socket.socket, place: ClassroomAddress, manner: Manner) -> None:
    lesson = edge.lesson
    options = uvicorn.Config(
        edge, log_config=None, access_log=False, server_header=False, proxy_headers=False, lifespan="on", ws="none",
        http=protocols(Bounds())["http"],
        timeout_keep_alive=_KEPT_OPEN, timeout_graceful_shutdown=_GRACE,
        ssl_context_factory=None if (context := place.context) is None else lambda *_: context,
    )  # fmt: skip

    async def drain() -> None:
        manner.say("\nThe lesson ends. Everything is kept.")
        # A browser that does not close its connection in time is cut off. This is not reported.
        logging.getLogger("uvicorn").setLevel(logging.CRITICAL)
        lesson.hub.close()

    server = EndingServer(options, drain, log)
    watch = asyncio.create_task(_watch(lesson, place, manner))
    try:
        manner.say("The boxes are made ready ...")
        try:
            await lesson.start()
        except OSError as error:
            raise ClassroomError(str(error)) from error
        settle()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # the terminal was closed (not under nohup(1))
            signal.signal(signal.SIGHUP, server.handle_exit)
        manner.tell(_told(lesson, place))
        await server.serve([listener])
    finally:
        watch.cancel()
        await lesson.close()
        if server.started:
            await asyncio.to_thread(_back_up, lesson)


async def _watch(lesson: Lesson, place: ClassroomAddress, manner: Manner) -> None:
    """Reports new addresses of the classroom to the teacher, on the terminal and on the page."""
    while True:
        await asyncio.sleep(_LOOK)
        try:
            has_moved = place.look()
        except CertificateError as error:
            log.warning("the certificate stays as it was: %s", error)
            continue
        if has_moved:
            lesson.everybody.addresses = place.addresses
            lesson.tell_state()
            facts = f"; the certificate's SHA-256 is {place.fingerprint}" if place.fingerprint else ""
            manner.say(f"Students open {place.addresses[0]} now{facts}.")


def _told(lesson: Lesson, place: ClassroomAddress) -> ClassroomFacts:
    return ClassroomFacts(
        title=lesson.course.title, addresses=place.addresses, code=lesson.everybody.code,
        teacher=f"{place.teacher}/teacher#{lesson.teacher_key}", course=str(lesson.course.folder),
        data=lesson.config.data, fingerprint=place.fingerprint, is_local=lesson.config.is_local,
    )  # fmt: skip


def _back_up(lesson: Lesson) -> None:
    """Writes a copy of the database, and removes the oldest copy if there are too many. Logs errors."""
    folder = Path(lesson.config.data, "backups")
    try:
        lesson.store.backup(str(folder / time.strftime(_BACKUP)))
        for old in sorted(folder.glob("*.sqlite"))[:-_BACKUPS]:
            old.unlink()
    except OSError as error:
        log.error("there is no backup of this lesson: %s", error)


# --- the listening socket ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _listening(config: ClassroomConfig) -> Iterator[socket.socket]:
    """Yields the listening socket of a classroom. Raises ClassroomError, which says what to do."""
    host = _EVERY_ADDRESS if config.host == LAN else config.host
    with contextlib.ExitStack() as stack:
        try:
            listener = stack.enter_context(listening((host, config.port), f"{config.host}:{config.port}"))
        except ListenError as error:
            raise ClassroomError(_why_not(config, error)) from None
        yield listener


def _why_not(config: ClassroomConfig, error: ListenError) -> str:
    if error.errno == errno.EADDRINUSE:
        other = config.port % 65_535 + 1
        return f"port {config.port} is in use by another program: end that, or choose another port (--port {other})"
    if error.errno == errno.EACCES:
        return f"port {config.port} needs rights that you do not have: choose one from 1024 (--port 8080)"
    if error.errno == errno.EADDRNOTAVAIL or error.errno <= 0:  # such as for an unknown host name (gai_strerror(3))
        return f"this machine has no address {config.host} (--host lan: all that it has: {', '.join(addresses())})"
    return str(error)
