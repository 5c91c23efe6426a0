"""Processes that work for this process: their start, and the processes of a pool.

    pool ── one socket for each program that may run at once ── worker process: a Pool of its own, a thread per socket
         ── one more socket, for what ends a program ──────────

Both ends are trusted, so messages are pickled. A worker that dies is replaced; a caller who waited for it gets a Result
that says so, or is served by another one if its job had not begun. A worker ends with its pool, because its sockets are
closed then. It imports modules from the same places as this process, and never from the current folder (modulepath.py).
"""

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Set
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from pathlib import Path
from typing import Any, Final

import attrs

from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.process.cpus import shares_of_cpus
from proxybox.controller.world.stdin import Terminal
from proxybox.modulepath import trusted_path
from proxybox.policies import Policy, PolicyError
from proxybox.policies.checks import as_bytes
from proxybox.result import Result, Status, cancelled
from proxybox.running import Running
from proxybox.sandbox import PreparedRun

_PROGRAM: Final = Path(__file__).parent.with_name("worker.py")
#: The most bytes that a `stdin` function may return in all.
_MOST_STDIN: Final = 64 << 20
#: How many workers get a job, one after the other, if each dies before it has read the job.
_TRIES: Final = 3


class Worker:
    """A process that calls the `serve` function of a module with its ends of sockets, and with arguments (worker.py).

    cpus: the CPUs on which it and its guests run; all, if empty. environment: its environment variables; by default
    those of this process. Raises OSError when no process can be started.
    """

    def __init__(
        self, module: str, *arguments: Any, sockets: int = 1, cpus: Set[int] = frozenset(),
        environment: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.cpus = cpus
        self._telling = threading.RLock()
        variables = os.environ if environment is None else environment
        job = pickle.dumps(arguments)
        ours, theirs = zip(*(socket.socketpair() for _ in range(sockets)), strict=True)
        fds = [end.fileno() for end in theirs]
        self.connections = [Connection(end.detach()) for end in ours]
        try:
            self.process = subprocess.Popen(
                [sys.executable, *_python_options(), str(_PROGRAM), *map(str, fds)],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=fds, start_new_session=True,
                env={name: value for name, value in variables.items() if name != "PYTHONPATH"},
            )  # fmt: skip
        except BaseException:
            self.close()
            raise
        finally:
            for end in theirs:
                end.close()
        if cpus:
            with contextlib.suppress(OSError):  # it has ended already, or may not be moved
                os.sched_setaffinity(self.process.pid, cpus)
        with contextlib.suppress(OSError):  # it has ended already: the next request fails, which its caller notices
            self.connections[0].send_bytes(json.dumps({"path": trusted_path(), "module": module}).encode())
            self.connections[0].send_bytes(job)

    def close(self) -> None:
        """Closes our ends of the sockets, at which the process ends."""
        for connection in self.connections:
            connection.close()

    def tell(self, what: Any) -> None:
        """Sends a message on the last socket; from any thread. Raises OSError."""
        data = pickle.dumps(what)
        with self._telling:
            self.connections[-1].send_bytes(data)

    def close_last(self) -> None:
        """Closes our end of the last socket; from any thread."""
        with self._telling:
            self.connections[-1].close()

    def end(self) -> None:
        """Waits for the process, which ends when its sockets are closed.

        It does not close them. Only the thread that uses a socket closes it: otherwise its number could meanwhile be
        that of any other descriptor.
        """
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _python_options() -> list[str]:
    """Returns this process's options for Python, and -P: no imports from the program's folder or the current one."""
    variables = {"-E": sys.flags.ignore_environment, "-s": sys.flags.no_user_site, "-S": sys.flags.no_site}
    return ["-P", *(option for option, is_given in variables.items() if is_given)]


def packed_setup(policy: Policy, options: dict[str, Any]) -> bytes:
    """Packs the parts of boxes for other processes. Raises PolicyError for objects that cannot be pickled."""
    try:
        return pickle.dumps((policy, options))
    except Exception as error:  # pickle raises whatever the methods of an object raise
        raise PolicyError(
            f"the policy and the functions are given to other processes, and this cannot go: {error}. Functions must "
            "stand in a module that can be imported; mounts of functions cannot go at all"
        ) from error


def unpacked_setup(setup: bytes) -> tuple[Policy, dict[str, Any]]:
    """Unpacks the result of `packed_setup`. Raises PolicyError for functions that cannot be imported."""
    try:
        policy, options = pickle.loads(setup)  # noqa: S301 - from our own parent, or whoever gives this process its work
    except (ImportError, AttributeError) as error:
        raise PolicyError(
            f"worker processes cannot import the functions: {error}. Modules are not looked for in the current "
            "folder: install them, or name their folder in PYTHONPATH by its absolute path"
        ) from error
    return policy, options


# --- the workers of a pool --------------------------------------------------------------------------------------------


class _LostError(Exception):
    """A worker has ended. begun: whether it may have begun its job."""

    def __init__(self, error: BaseException, *, begun: bool) -> None:
        super().__init__(type(error).__name__)
        self.begun = begun


@attrs.define(eq=False)
class _Slot:
    """Room for one program at a time, in one worker. `begin` and `receive` raise _LostError.

    number: of its socket. jobs: how many jobs it has got, the next one included.
    """

    worker: Worker
    number: int
    jobs: int = 0

    @property
    def connection(self) -> Connection:
        """The socket of its jobs."""
        return self.worker.connections[self.number]

    def cancel(self) -> None:
        """Makes the worker cancel the job that was begun last. Its result still comes."""
        self._tell("cancel")

    def interrupt(self) -> None:
        """Makes the worker interrupt the job that was begun last."""
        self._tell("interrupt")

    def _tell(self, what: str) -> None:
        with contextlib.suppress(OSError):  # the worker has ended
            self.worker.tell((self.number, self.jobs, what))

    def begin(self, job: bytes, handle: int | None) -> tuple[str, Any]:
        """Sends a job, with the descriptor of its stdin, and returns its first message."""
        try:
            self.connection.send_bytes(job)
            if handle is not None:
                send_handle(self.connection, handle, self.worker.process.pid)
            return self._message()
        except (BrokenPipeError, ConnectionResetError) as error:
            # A closed end resets the other one only if it had unread data.
            raise _LostError(error, begun=False) from error
        except (EOFError, OSError) as error:
            raise _LostError(error, begun=True) from error

    def receive(self) -> tuple[str, Any]:
        """Returns the next message of a job that has begun: its kind and its content."""
        try:
            return self._message()
        except (EOFError, OSError) as error:
            raise _LostError(error, begun=True) from error

    def leave(self, kinds: Collection[str]) -> bool:
        """Cancels the job, because the caller's function has raised, and reads its remaining messages.

        kinds: of messages that are not the last. Returns whether the worker can take another job.
        """
        self.cancel()
        with contextlib.suppress(_LostError):
            while self.receive()[0] in kinds:
                pass
            return True
        return False

    def _message(self) -> tuple[str, Any]:
        kind, answer = pickle.loads(self.connection.recv_bytes())  # noqa: S301 - from our own worker
        return kind, answer


class PoolWorkers:
    """The processes of a Pool with `processes`, among which the CPUs are divided.

    A box's controller, its zygote and its guest switch often, and switches between CPUs cost more.
    """

    def __init__(self, policy: Policy, options: dict[str, Any], size: int, processes: int) -> None:
        self._setup = packed_setup(policy, options)
        self._policy = policy
        sizes = [size // processes + (number < size % processes) for number in range(processes)]
        self._free: deque[_Slot] = deque()
        self._change = threading.Condition()
        self._workers: list[Worker] = []
        self._lock = threading.Lock()
        self._busy: set[_Slot] = set()
        self._closed = False
        for slots, cpus in zip(sizes, shares_of_cpus(processes), strict=True):
            if slots:
                self._start(slots, cpus)

    def _start(self, slots: int, cpus: Set[int]) -> None:
        worker = Worker("proxybox.pool.worker", self._setup, sockets=slots + 1, cpus=cpus)
        self._workers.append(worker)
        for number in range(slots):
            self._set_free(_Slot(worker, number))

    def _set_free(self, slot: _Slot) -> None:
        with self._change:
            self._free.append(slot)
            self._change.notify()

    # --- use ----------------------------------------------------------------------------------------------------------

    def run(self, job: PreparedRun) -> Result:
        """Runs one program in one of the workers."""
        stdin, records = job.streams.stdin, list[str]()
        takers: dict[str, Callable[[Any], object] | None] = {
            "stdout": job.streams.stdout, "stderr": job.streams.stderr, "record": records.append,
        }  # fmt: skip
        if isinstance(stdin, Terminal):
            raise ValueError("stdin: programs of a pool with processes= cannot sit at a terminal of this one's")
        handle = stdin if isinstance(stdin, int) else None
        if callable(stdin):
            stdin = _read_all(stdin)
        wanted = [stream for stream in ("stdout", "stderr") if takers[stream] is not None]
        own, variables = (
            job.policy,
            None if job.policy.environment is self._policy.environment else job.policy.environment,
        )
        policy = None if own is self._policy else (own.limits, own.output, variables)
        record = None if job.taking is None else job.taking.named
        result = self._ask(("run", job.program, policy, stdin, wanted, record), takers, handle, job.running)
        if records and result.record is None:  # its process has ended, or was abandoned
            return attrs.evolve(result, record=Path(records[-1]), record_fault="the process that wrote it has ended")
        return result

    def call(self, name: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any], *, taking: object) -> Result:
        """Calls one function in one of the workers, which has the pool's folder of records, too."""
        return self._ask(("call", name, source, args, kwargs), {}, None, Running())

    def _ask(
        self, job: tuple[Any, ...], callbacks: dict[str, Callable[[Any], object] | None], handle: int | None,
        running: Running,
    ) -> Result:  # fmt: skip
        """Sends a job and returns its result. handle: a descriptor to send with the job, which has it as its stdin."""
        data = pickle.dumps(job)
        tries, queued = 0, 0.0
        while True:
            asked = time.monotonic()
            slot = self._take(running)
            if slot is None:
                return cancelled()
            queued += time.monotonic() - asked
            whole = False
            try:
                slot.jobs += 1
                with running.reached_by(slot.cancel, slot.interrupt):
                    kind, answer = slot.begin(data, handle)
                    while kind in callbacks:
                        try:
                            if (callback := callbacks[kind]) is not None:
                                callback(answer)
                        except BaseException:
                            whole = slot.leave(callbacks)
                            raise
                        kind, answer = slot.receive()
                whole = True
                if kind == "error":
                    raise answer
                result: Result = answer
                return attrs.evolve(result, usage=attrs.evolve(result.usage, queue=queued))
            except _LostError as lost:
                if running.is_cancelled:
                    return cancelled()
                tries += 1
                if lost.begun or tries == _TRIES or self._closed:
                    return self._lost(lost)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    slot.worker.process.wait(1)  # then none of its slots is used again
            finally:
                self._give_back(slot, whole)

    def _lost(self, error: _LostError) -> Result:
        if self._closed:
            return Result(status=Status.CANCELLED, why="the pool was closed")
        return Result(status=Status.INTERNAL_ERROR, why=f"the controller's process has ended ({error})")

    def _take(self, running: Running) -> _Slot | None:
        """Waits for a slot whose worker lives. Returns None for a run that was cancelled before it had one."""
        with running.reached_by(self._look):
            while True:
                with self._change:
                    while not (self._free or self._closed or running.is_cancelled):
                        self._change.wait()
                    if self._closed:
                        raise SandboxClosedError("the pool is closed: make another one for further runs")
                    if running.is_cancelled:
                        self._change.notify()  # it may have been woken instead of a thread that waits
                        return None
                    slot = self._free.popleft()
                    self._busy.add(slot)
                if slot.worker.process.poll() is None:
                    return slot
                self._give_back(slot, False)

    def _look(self) -> None:
        with self._change:
            self._change.notify_all()

    def _give_back(self, slot: _Slot, whole: bool) -> None:
        """Frees a slot; closes it if its job was not completed, so that its worker cancels the job."""
        with self._change:
            self._busy.discard(slot)
            if whole and not self._closed:
                self._set_free(slot)
                return
        slot.connection.close()
        worker = slot.worker
        if all(each.closed for each in worker.connections[:-1]) or worker.process.poll() is not None:
            self._replace(worker)

    def _replace(self, worker: Worker) -> None:
        """Starts a new process in place of one that has ended, or that has no slots left."""
        with self._lock:
            if worker not in self._workers or self._closed:
                return
            self._workers.remove(worker)
            worker.process.kill()
            worker.close_last()
            worker.end()
            self._start(len(worker.connections) - 1, worker.cpus)

    # --- the end ------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ends running programs."""
        with self._change:
            self._closed = True
            self._change.notify_all()
            busy = tuple(self._busy)
        for slot in busy:
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(slot.connection.fileno())) as twin:
                twin.shutdown(socket.SHUT_RDWR)  # the thread that reads from the socket gets EOF

    def close(self) -> None:
        """Ends all processes."""
        self.cancel()
        with self._lock:
            workers, self._workers = self._workers, []
        while self._free:
            self._free.popleft().connection.close()
        for worker in workers:
            worker.close_last()
            worker.end()


def _read_all(source: Callable[[int], bytes | str]) -> bytes:
    """Reads a `stdin` function to its end, to send the data to a worker. Raises ValueError for too much data."""
    pieces, left = [], _MOST_STDIN
    while piece := as_bytes("stdin: what its function returned", source(1 << 16)):
        pieces.append(piece)
        left -= len(piece)
        if left < 0:
            raise ValueError(
                f"stdin: a pool with processes= reads what its function gives to the end before a program begins, and "
                f"that is more than {_MOST_STDIN >> 20} MiB: give it a pipe or a file"
            )
    return b"".join(pieces)
