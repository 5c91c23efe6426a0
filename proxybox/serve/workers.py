"""The worker processes in the service: it starts them, sends them jobs, and replaces those that die (worker.py).

    job ── a free line of a worker ── events, then a result ── the line is free again

Each worker has lines of three kinds: for runs, for jobs that can wait long (calls of sessions, runs that ask for
input), and for transfers of files, which may be slow. So slow jobs do not occupy the lines of faster ones. The gate
assigns free lines (gate.py).

One more worker is the express worker: it has a higher CPU priority, and a key has at most one of its lines. So a key
with a single request is not delayed by keys with many requests.
"""

import asyncio
import contextlib
import inspect
import itertools
import logging
import os
import pickle
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any, Final, Literal, NoReturn, TypeVar

import attrs

from proxybox.controller.process.cpus import shares_of_cpus
from proxybox.pool.workers import Worker
from proxybox.serve.setup import Setup
from proxybox.serve.wire import AnswerKind, InputKind, WorkerSocket
from proxybox.serve.wiredata import JobFailure, JobOrder, Ready, ReadyToGive, read, read_worker_event
from proxybox.serve.workeranswers import JobAnswer, read_answer
from proxybox.serve.workerjobs import AnyJob, message_of
from proxybox.streamevents import WorkerEvent

T = TypeVar("T")

log = logging.getLogger("proxybox.serve")

#: The variables that a worker inherits: those for finding programs, files and the locale, and our own.
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR")
_OURS: Final = ("PROXYBOX_GUEST", "PROXYBOX_GUEST_LIBRARY", "PROXYBOX_WARM")
#: Seconds between two starts of a worker that dies at once.
_PAUSE: Final = 1.0
#: How much lower the other workers' priority is, in steps of niceness: they still get about half of a CPU.
_NICE: Final = 3
#: Takes the events of a job: a function, or a coroutine function, during whose call the program waits.
OnEvent = Callable[[WorkerEvent], Any]
#: The kind of a line.
LineKind = Literal["run", "live", "file"]


@attrs.frozen
class Transfer:
    """A transfer of a file. ready: the class of the job's message that it is ready.

    on_ready: takes this message, and yields the pieces for the job. on_data: takes the pieces that the job sends; the
    job waits meanwhile.
    """

    ready: type[Ready]
    on_ready: Callable[[Any], AsyncIterator[bytes]]
    on_data: Callable[[bytes], Awaitable[None]]


class WorkerLost(Exception):
    """A worker has ended in the middle of a job.

    begun: whether the job may have begun.
    """

    def __init__(self, *, begun: bool) -> None:
        super().__init__("the process that served the box has ended")
        self.begun = begun
        self.job: WorkerJob | None = None

    @property
    def shared(self) -> bool:
        """Whether the job's caller has received an event of it, or has sent it an order."""
        return self.job is not None and self.job.shared


class JobFailed(Exception):
    """A worker could not do a job."""

    def __init__(self, failure: JobFailure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@attrs.define(eq=False)
class Slot:
    """A line of a worker, for one job at a time."""

    worker: "WorkerProcess"
    kind: LineKind
    line: WorkerSocket


@attrs.define(eq=False)
class WorkerProcess:
    """A worker. number: its place, which its replacement gets, too. express: whether it has a higher CPU priority.

    gone: is set when it has ended, and none of its slots will be assigned again.
    """

    number: int
    process: Worker
    control: WorkerSocket
    express: bool = False
    slots: list[Slot] = attrs.field(factory=list)
    ended: bool = False
    gone: asyncio.Event = attrs.field(factory=asyncio.Event)

    def order(self, order: JobOrder) -> None:
        """Sends an order about a job; ignores that a worker has ended."""
        with contextlib.suppress(OSError):
            self.control.tell(order)


class WorkerJob:
    """A running job. shared: whether its caller has received an event of it, or has sent it an order."""

    def __init__(self, number: int, slot: Slot) -> None:
        self.number = number
        self.shared = False
        self._slot = slot

    def input(self, text: str) -> None:
        """Sends standard input to the program; an empty text is the end."""
        self._order("input", text)

    def interrupt(self) -> None:
        """Interrupts the program as Ctrl-C does."""
        self._order("interrupt")

    def cancel(self) -> None:
        """Ends the program; in a session, interrupts it."""
        self._order("cancel")

    def _order(self, what: Literal["cancel", "interrupt", "input"], text: str = "") -> None:
        self.shared = True
        self._slot.worker.order(JobOrder(job=self.number, do=what, text=text))


class ServiceWorkers:
    """All worker processes.

    count: how many share the CPUs. live: how many lines each has for jobs that can wait long, and how many for files.
    express: whether there is one more worker with a higher CPU priority. on_free: is called with a free slot. on_lost:
    is called with a worker that has died.
    """

    def __init__(
        self, setup: Setup, count: int, live: int, *, express: bool,
        on_free: Callable[[Slot], object], on_lost: Callable[[WorkerProcess], object],
    ) -> None:  # fmt: skip
        self._setup = setup
        counts: dict[LineKind, int] = {"run": setup.slots, "live": live, "file": live}
        self._kinds = [kind for kind, count in counts.items() for _ in range(count)]
        self._express = count if express else None
        self._on_free, self._on_lost = on_free, on_lost
        self._numbers = itertools.count(1)
        self._cpus = [*shares_of_cpus(count), *([frozenset()] if express else [])]
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False
        self.processes: dict[int, WorkerProcess] = {}

    async def start(self) -> None:
        """Starts all processes. Raises OSError when no process can be started."""
        for number in range(len(self._cpus)):
            await self._start(number)

    async def _start(self, number: int) -> None:
        environment = {name: os.environ[name] for name in (*_INHERITED, *_OURS) if name in os.environ}
        environment["MALLOC_ARENA_MAX"] = "2"  # its threads use large results one after the other, not all at once
        express = number == self._express
        setup = attrs.evolve(self._setup, nice=0 if express or self._express is None else _NICE)
        process = await asyncio.to_thread(
            Worker, "proxybox.serve.worker", pickle.dumps(setup),
            sockets=1 + len(self._kinds), cpus=self._cpus[number], environment=environment,
        )  # fmt: skip
        ends = [socket.socket(fileno=os.dup(connection.fileno())) for connection in process.connections]
        process.close()
        control, *lines = [await WorkerSocket.on(end) for end in ends]
        worker = WorkerProcess(number, process, control, express)
        worker.slots = [Slot(worker, kind, line) for kind, line in zip(self._kinds, lines, strict=True)]
        self.processes[number] = worker
        for slot in worker.slots:
            self._on_free(slot)
        self._spawn(self._watch(worker))

    async def _watch(self, worker: WorkerProcess) -> None:
        """Waits until a worker ends, and replaces it."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        with contextlib.suppress(EOFError, OSError):
            await worker.control.receive()  # a worker sends nothing there, so this ends when it ends
        worker.ended = True
        worker.process.process.kill()
        for each in (worker.control, *(slot.line for slot in worker.slots)):
            each.close()
        await asyncio.to_thread(worker.process.end)
        if self._closed:
            return
        self._on_lost(worker)
        worker.gone.set()
        while not self._closed:
            if loop.time() - began < _PAUSE:
                await asyncio.sleep(_PAUSE)
            began = loop.time()
            with contextlib.suppress(OSError):
                await self._start(worker.number)
                return

    # --- jobs ---------------------------------------------------------------------------------------------------------

    async def ask(
        self,
        slot: Slot,
        job: AnyJob,
        *,
        on_event: OnEvent | None = None,
        on_begin: Callable[[WorkerJob], object] | None = None,
        transfer: Transfer | None = None,
    ) -> JobAnswer:
        """Does a job and returns its result as JSON. Then `on_free` is called with the slot.

        transfer: the file that the job takes or sends. When the task is cancelled, so is the job. Raises JobFailed and
        WorkerLost.
        """
        doing = WorkerJob(next(self._numbers), slot)
        if on_begin is not None:
            on_begin(doing)
        begun, to_come = False, transfer
        try:
            await _or_lost(slot.line.send(message_of(job, doing.number)), begun)
            while True:
                kind, data = await _or_lost(slot.line.receive(), begun)
                begun = True
                if kind == AnswerKind.READY and to_come is not None:
                    ready, to_come = _read(partial(read, to_come.ready), data, slot.worker), None
                    await _give(slot.line, transfer, ready)
                elif kind == AnswerKind.DATA and to_come is None and transfer and transfer.ready is ReadyToGive:
                    await transfer.on_data(data)
                elif kind != AnswerKind.EVENT:
                    break
                else:
                    doing.shared = True
                    event = _read(read_worker_event, data, slot.worker)
                    if on_event is not None and inspect.isawaitable(heard := on_event(event)):
                        await heard
            final = kind if to_come is None or kind == AnswerKind.FAILURE else b""
            answer = _read(partial(_read_final, job.op, final), data, slot.worker)
        except WorkerLost as lost:
            lost.job = doing
            raise
        except BaseException:  # the caller no longer waits, or its function has failed
            doing.cancel()
            self._spawn(self._drain(slot))
            raise
        self._give_back(slot)
        if isinstance(answer, JobFailure):
            raise JobFailed(answer)
        return answer

    async def _drain(self, slot: Slot) -> None:
        """Reads and drops the remaining messages of a job for which nobody waits."""
        is_ready = False
        with contextlib.suppress(WorkerLost):
            while (kind := (await _or_lost(slot.line.receive(), True))[0]) in AnswerKind.MEANWHILE:
                if kind == AnswerKind.READY:
                    if is_ready:
                        _end(slot.worker, "a job is ready for a second time")
                    is_ready = True
                    await _give(slot.line, None, None)
            self._give_back(slot)

    def _give_back(self, slot: Slot) -> None:
        if not slot.worker.ended:
            self._on_free(slot)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Ends all processes, and their jobs."""
        self._closed = True
        for worker in tuple(self.processes.values()):
            worker.control.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _give(line: WorkerSocket, transfer: Transfer | None, ready: Ready | None) -> None:
    """Sends the file for which a job is ready, or the message that it will not come."""
    try:
        if transfer is not None and ready is not None:
            async for piece in transfer.on_ready(ready):
                await _or_lost(line.give(InputKind.PIECE, piece), True)
            await _or_lost(line.give(InputKind.END), True)
            return
    except BaseException:
        # Without waiting: this may be the end of a wait for a full socket. It is one message at most for each job.
        with contextlib.suppress(OSError):
            line.tell_part(InputKind.GIVEN_UP)
        raise
    with contextlib.suppress(OSError):
        await line.give(InputKind.GIVEN_UP)


def _read(form: Callable[[bytes], T], data: bytes, worker: WorkerProcess) -> T:
    """Returns the decoded message of a worker; ends a worker whose message has another form. Raises WorkerLost."""
    try:
        return form(data)
    except (ValueError, RecursionError) as error:
        _end(worker, str(error))


def _read_final(op: str, kind: bytes, data: bytes) -> JobAnswer | JobFailure:
    """Returns the last message of a job. kind: of the message; empty if there cannot be one of its kind yet."""
    if kind not in (AnswerKind.RESULT, AnswerKind.FAILURE):
        raise ValueError("a message of a kind that cannot come now")
    return read_answer(op, data) if kind == AnswerKind.RESULT else read(JobFailure, data)


def _end(worker: WorkerProcess, why: str) -> NoReturn:
    """Ends a worker that has sent what no worker sends. Raises WorkerLost."""
    log.error("worker %d is ended, because its answer has another form: %.500s", worker.number, ascii(why)[1:-1])
    worker.process.process.kill()
    raise WorkerLost(begun=True) from None


async def _or_lost(work: Awaitable[T], begun: bool) -> T:
    """Does one step of a job. Raises WorkerLost when the worker has ended."""
    try:
        return await work
    except (EOFError, OSError) as error:
        # A closed end resets the other one only if it had unread data: after a reset, the job has not begun.
        raise WorkerLost(begun=begun or not isinstance(error, BrokenPipeError | ConnectionResetError)) from error
