"""A process of a pool: it has boxes of its own, and a socket for each program that may run at once (workers.py).

On one more socket, the last, the pool requests that a job is cancelled or interrupted. The process ends when the
sockets of all jobs are closed. A program is cancelled when its socket is closed.
"""

import contextlib
import functools
import os
import pickle
import select
import socket
import threading
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.process.reaper import settle
from proxybox.controller.world.streams import StandardStreams
from proxybox.pool.boxes import PoolBoxes
from proxybox.pool.workers import unpacked_setup
from proxybox.running import Running
from proxybox.sandbox import PreparedRun, takes

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxybox.records.taking import Taking

    Taken: TypeAlias = Callable[[str | None], Taking | None]


def serve(connections: list[Connection], setup: bytes) -> None:
    """Serves until the pool has closed its ends of all sockets. setup: the policy and the pool's options, pickled."""
    *sockets, cancellations = connections
    boxes: PoolBoxes | Exception
    try:
        boxes, taken = _boxes(setup, len(sockets))
    except Exception as error:  # this is the answer to each job, because no caller waits for `serve`
        boxes, taken = error, _no_record
    _watch([_Jobs(boxes, taken, connection) for connection in sockets], cancellations)
    if not isinstance(boxes, Exception):
        boxes.cancel()
        boxes.close()
    settle()


def _no_record(_: object) -> None:
    return None


def _boxes(setup: bytes, size: int) -> "tuple[PoolBoxes, Taken]":
    policy, options = unpacked_setup(setup)
    guest = find_guest(options["guest"]).with_packages(options["packages"])
    functions = options["functions"]
    host = HostFunctions(functions, policy.session.value_size) if functions else None
    raise_own_limit()  # unlike the caller's process, this one belongs to proxybox alone
    return PoolBoxes(BoxRunner(policy, guest), host, size, warm=options["warm"]), takes(*options["record"])


def _watch(jobs: "list[_Jobs]", cancellations: Connection) -> None:
    """Waits for sockets whose other end is closed, and cancels their jobs. cancellations: the socket with requests."""
    poll = select.poll()
    poll.register(cancellations.fileno(), select.POLLIN)
    left = {job.connection.fileno(): job for job in jobs}
    for fd in left:
        poll.register(fd, select.POLLRDHUP)
    while left:
        for fd, _ in poll.poll():
            if fd != cancellations.fileno():
                poll.unregister(fd)
                left.pop(fd).give_up()
                continue
            try:
                number, job, what = pickle.loads(cancellations.recv_bytes())  # noqa: S301 - from our own pool
            except (EOFError, OSError):
                poll.unregister(fd)
            else:
                jobs[number].tell(job, what)


class _Jobs:
    """The jobs of one socket, in a thread of their own."""

    def __init__(self, boxes: PoolBoxes | Exception, taken: "Taken", connection: Connection) -> None:
        self.connection = connection
        self._boxes = boxes
        self._taken = taken
        self._lock = threading.Lock()
        self._count = 0
        self._running: dict[int, Running] = {}  # the job that was begun last, and the requests about the next one
        self._is_given_up = False
        self.thread = threading.Thread(target=self._serve, name="proxybox-worker", daemon=True)
        self.thread.start()

    def give_up(self) -> None:
        """Cancels the job that runs, and all later ones: the pool no longer waits for them."""
        with self._lock:
            self._is_given_up = True
            running = tuple(self._running.values())
        for each in running:
            each.cancel()

    def tell(self, job: int, what: str) -> None:
        """Cancels or interrupts a job, by its number. The job may not have been read yet."""
        with self._lock:
            if job < self._count:
                return
            running = self._running.setdefault(job, Running())
        if what == "cancel":
            running.cancel()
        else:
            running.interrupt()

    def _begin(self) -> Running:
        """Counts a job, and returns its `Running`, by which it can be ended."""
        with self._lock:
            self._count += 1
            self._running = {self._count: self._running.get(self._count) or Running()}
            running = self._running[self._count]
            if self._is_given_up:
                running.cancel()
            return running

    def _serve(self) -> None:
        try:
            with contextlib.suppress(EOFError, OSError):
                while True:
                    self._tell(*self._do(self.connection.recv_bytes()))
        finally:  # a pool that waits for an answer notices the end; `_watch` still uses the descriptor
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self.connection.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)

    def _do(self, data: bytes) -> tuple[str, Any]:
        handle, running = None, self._begin()
        try:
            job = pickle.loads(data)  # noqa: S301 - from our own pool
            if job[0] == "run" and isinstance(job[3], int):
                handle = recv_handle(self.connection)
            if isinstance(self._boxes, Exception):
                raise self._boxes
            if job[0] == "call":
                _, name, source, args, kwargs = job
                return "result", self._boxes.call(name, source, args, kwargs, running, taking=self._taken(None))
            _, program, tighter, stdin, wanted, record = job
            takers = {stream: functools.partial(self._tell, stream) for stream in wanted}
            streams = StandardStreams(
                stdin=stdin if handle is None else handle, stdout=takers.get("stdout"), stderr=takers.get("stderr")
            )
            policy = self._boxes.policy
            if tighter is not None:
                environment = tighter[2] or policy.environment  # the pool's own object if it is equal
                policy = attrs.evolve(policy, limits=tighter[0], output=tighter[1], environment=environment)
            taking = self._taken(record)
            if taking is not None:
                taking.on_file = functools.partial(self._tell, "record")
            job = PreparedRun(program=program, streams=streams, policy=policy, taking=taking, running=running)
            return "result", self._boxes.run(job)
        except BaseException as error:  # also the exceptions of host functions
            return "error", error if isinstance(error, Exception) else RuntimeError(f"{type(error).__name__}: {error}")
        finally:
            if handle is not None:
                os.close(handle)

    def _tell(self, kind: str, what: Any) -> None:
        try:
            data = pickle.dumps((kind, what))
        except Exception as error:
            data = pickle.dumps(("error", RuntimeError(f"{kind} cannot be sent: {error}; {what!r}"[:4096])))
        self.connection.send_bytes(data)
