"""A worker process of the service: its boxes and sessions, and a thread for each job that may run at once (wire.py).

The first socket is for control: it receives short orders about running jobs (cancel, interrupt, input), which are not
answered. Each other socket receives one job after the other. The process ends when the service closes its sockets.

Rule: this process serves hostile guests, so it gets only policies and interpreters: no keys, no database, no
environment of the service. It runs programs through the public API.
"""

import base64
import contextlib
import gc
import json
import os
import pickle
import sys
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import IO, Any, Final, Literal, get_args

import attrs

from proxybox import argumentchecks
from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.controller.process import priority
from proxybox.controller.record.exactness import as_data as inexact_as_data
from proxybox.controller.record.redacting import HOST
from proxybox.errors import PolicyError, SandboxClosedError, SandboxStartError
from proxybox.jsonvalues import JSONObject
from proxybox.policies import Mount, Policy, Problem, evolve
from proxybox.pool.pool import Pool
from proxybox.sandbox import Sandbox
from proxybox.serve.jobevents import JobEvents, Moments
from proxybox.serve.jobfailures import failure_of
from proxybox.serve.jobprograms import files_of, program_of, tree_of
from proxybox.serve.memory import give_back
from proxybox.serve.results import result_as_json
from proxybox.serve.runningjob import MOST_INPUT, RunningJob
from proxybox.serve.sessioncommands import carry_out
from proxybox.serve.setup import Setup
from proxybox.serve.wire import AnswerKind, answer
from proxybox.serve.wiredata import JobOrder, PoolState, WorkerState, read
from proxybox.serve.workeranswers import answer_with_facts
from proxybox.serve.workerjobs import (
    EndJob,
    ForkJob,
    MemoryJob,
    OpenJob,
    RunJob,
    SessionCommand,
    SleepJob,
    SnapshotJob,
    StateJob,
    read_job,
)
from proxybox.session import Session, Snapshot
from proxybox.streamevents import RecordPieceEvent, Stream

#: Seconds until another thread may run (sys.setswitchinterval): answers must not wait for the thread that makes boxes.
_SWITCH: Final = 0.0002
#: The most jobs that are not read yet whose orders are stored.
_MOST_EARLY: Final = 256
#: Bytes of a piece of a record (base64 without padding), and seconds that a call has to end with its session.
_PIECE: Final = 3 << 18
_LETS_GO: Final = 10.0
#: Omitted from records: clients learn no more of the host than a run shows them.
_REDACTED: Final = (HOST,)


def serve(connections: list[Connection], setup: bytes) -> None:
    """Serves until the service closes the control socket. setup: a `Setup`, pickled by the service."""
    control, *lines = connections
    raise_own_limit()
    sys.setswitchinterval(_SWITCH)
    gc.freeze()  # modules are exempt from collections: a full one would delay all boxes
    reply: Setup = pickle.loads(setup)  # noqa: S301 - from our own parent
    priority.lower(reply.nice)
    worker = _Worker(reply)
    worker.start()
    for line in lines:
        threading.Thread(target=worker.serve, args=(line,), name="proxybox-serve", daemon=True).start()
    with contextlib.suppress(EOFError, OSError):
        while True:
            worker.obey(read(JobOrder, control.recv_bytes()))
    worker.close()


class _Worker:
    """The boxes and sessions of this process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._pools: dict[tuple[str, str], Pool] = {}
        self._sandboxes: dict[tuple[str, str], Sandbox] = {}
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, IO[bytes]] = {}  # by session
        self._snapshots: dict[str, Snapshot] = {}
        self._running: dict[int, RunningJob] = {}
        self._early: OrderedDict[int, list[JobOrder]] = OrderedDict()
        self._moments = Moments()
        self._ordering = threading.Lock()
        self._making = threading.Lock()

    def start(self) -> None:
        """Starts the thread that sends buffered text."""
        self._moments.start()

    def close(self) -> None:
        """Ends everything."""
        for running in tuple(self._running.values()):
            running.obey(JobOrder(job=0, do="cancel"))
        self._moments.close()
        for pool in self._pools.values():
            pool.close()
        for sandbox in self._sandboxes.values():
            sandbox.close()

    # --- orders -------------------------------------------------------------------------------------------------------

    def obey(self, order: JobOrder) -> None:
        """Carries out an order about a job.

        An order about a job that has ended does nothing. An order about a job that has not been read yet (from another
        socket) waits for it.
        """
        with self._ordering:
            running = self._running.get(order.job)
            if running is None:
                early = self._early.setdefault(order.job, [])
                if len(early) < MOST_INPUT:
                    early.append(order)
                if len(self._early) > _MOST_EARLY:
                    self._early.popitem(last=False)
                return
        running.obey(order)

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def serve(self, line: Connection) -> None:
        """Does the jobs of one socket; runs in a thread."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                line.send_bytes(self._do(json.loads(line.recv_bytes()), line))

    def _do(self, message: JSONObject, line: Connection) -> bytes:
        number = message.pop("job")
        events = JobEvents(line, self._moments)
        job = RunningJob(events, line, self._setup.input_wait)
        with self._ordering:
            self._running[number] = job
            early = self._early.pop(number, ())
        for order in early:
            job.obey(order)
        try:
            asked = read_job(message)
            reply = AnswerKind.RESULT + answer_with_facts(_DOES.get(type(asked), _Worker.command)(self, asked, job))
        except Exception as error:
            reply = answer(AnswerKind.FAILURE, failure_of(error))
        finally:
            with self._ordering:
                del self._running[number]
        events.flush()  # nothing is sent after the answer
        return reply

    def pool(self, policy: str, language: str) -> Pool:
        """Returns the pool of a policy and a language, which is made at the first request."""
        with self._making:
            pool = self._pools.get((policy, language))
            if pool is None:
                interpreter = self._setup.interpreters[language]
                pool = self._pools[policy, language] = Pool(
                    self._setup.policies[policy], size=self._setup.slots, preload=interpreter.preload,
                    packages=interpreter.packages, guest=interpreter.guest,
                    record_limit=self._setup.record, record_redact=_REDACTED,
                )  # fmt: skip
            return pool

    def sandbox(self, policy: str, language: str) -> Sandbox:
        """Returns the sandbox of a policy and a language, for sessions and for runs that ask for input."""
        with self._making:
            sandbox = self._sandboxes.get((policy, language))
            if sandbox is None:
                sandbox = self._sandboxes[policy, language] = self._sandbox(self._setup.policies[policy], language)
            return sandbox

    def _sandbox(self, policy: Policy, language: str, warm: bool | None = None) -> Sandbox:
        interpreter = self._setup.interpreters[language]
        if interpreter.preload:
            policy = evolve(policy, preload=(*policy.preload, *interpreter.preload))
        return Sandbox(
            policy, packages=interpreter.packages, guest=interpreter.guest, warm=warm,
            record_limit=self._setup.record, record_redact=_REDACTED,
        )  # fmt: skip

    @contextlib.contextmanager
    def place(self, asked: RunJob) -> Iterator[Pool | Sandbox]:
        """A context with the place for a run: a pool, or a sandbox for runs that a pool cannot do."""
        if asked.folder or asked.options:
            with self.sandbox_at(asked) as own:
                yield own
        elif asked.interactive or asked.env:
            yield self.sandbox(asked.policy, asked.language)
        else:
            yield self.pool(asked.policy, asked.language)

    def sandbox_at(self, asked: RunJob) -> Sandbox:
        """Returns a sandbox for a run with files at `folder`, or with interpreter options. The caller closes it."""
        policy = self._setup.policies[asked.policy]
        if asked.folder:
            mode: Literal["ro", "overlay"] = "ro" if policy.filesystem.box == "ro" else "overlay"
            mount = Mount(asked.folder, tree_of(files_of(asked.files)), mode=mode)
            mounts = (*policy.filesystem.mounts, mount)
            policy = evolve(policy, filesystem={"mounts": mounts}, environment={"cwd": asked.folder})
        return self._sandbox(policy, asked.language, warm=False)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def run(self, asked: RunJob, job: RunningJob) -> JSONObject:
        """Runs one program."""
        program, stdin = program_of(asked), job.stdin(asked.stdin, interactive=asked.interactive)
        options: dict[str, Any] = {"timeout": asked.timeout, "stdin": stdin, "on_start": job.started}
        if asked.stream:
            streams: tuple[Stream, ...] = get_args(Stream)
            for stream in streams:
                options[f"on_{stream}"] = argumentchecks.as_text_callback(f"on_{stream}", job.printed(stream))
        options |= {"limits": asked.limits, "output": asked.output, "env": asked.env}
        with self.place(asked) as place, contextlib.ExitStack() as undo:
            record: IO[bytes] | None = None
            if asked.record and self._setup.record is not None:
                record = undo.enter_context(_unnamed_file())
                options["record"] = _path(record)
            ended = place.run_program(program, **options)
            read = None if record is None else record.read()
        result = result_as_json(ended, contents=asked.return_files, record=read)
        if asked.stream:
            job.tell_error(result)
        return result

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open(self, asked: OpenJob, _: RunningJob) -> JSONObject:
        """Starts a session."""
        options: dict[str, Any] = {"timeout": asked.timeout, "output": asked.output, "env": asked.env}
        sandbox = self.sandbox(asked.policy, asked.language)
        with contextlib.ExitStack() as undo:
            record: IO[bytes] | None = None
            if asked.record and self._setup.record is not None:
                record = undo.enter_context(_unnamed_file())
                options["record"] = _path(record)
            try:
                session = sandbox.session(files=files_of(asked.files), limits=asked.limits, **options)
            except SandboxStartError as error:
                if error.limit and asked.limits:
                    raise PolicyError(Problem(key=error.limit, message=str(error))) from None
                raise
            undo.pop_all()
        self._sessions[asked.session] = session
        if record is not None:
            self._records[asked.session] = record
        return {"layers": dict(session.layers)}

    def session(self, identity: str) -> Session:
        """Returns the session of an id. Raises SandboxClosedError."""
        session = self._sessions.get(identity)
        if session is None or not session.alive:
            raise SandboxClosedError("the session has ended")
        return session

    def command(self, asked: SessionCommand, job: RunningJob) -> JSONObject:
        """Does a command in a session."""
        return carry_out(self.session(asked.session), asked, job)

    def fork(self, asked: ForkJob, _: RunningJob) -> JSONObject:
        """Makes a copy of a session."""
        self._sessions[asked.copy] = self.session(asked.session).fork()
        return {}

    def snapshot(self, asked: SnapshotJob, _: RunningJob) -> JSONObject:
        """Stores the state of a session, restores a stored state, or removes one."""
        if asked.op == "snapshot":
            self._snapshots[asked.snapshot] = self.session(asked.session).snapshot()
        elif asked.op == "restore":
            if (snapshot := self._snapshots.get(asked.snapshot)) is None:
                raise SandboxClosedError("there is no such snapshot")
            self.session(asked.session).restore(snapshot)
        elif (snapshot := self._snapshots.pop(asked.snapshot, None)) is not None:
            snapshot.close()
        return {}

    def end(self, asked: EndJob, job: RunningJob) -> JSONObject:
        """Ends a session, and sends its record, if it has one, in pieces."""
        session = self._sessions.pop(asked.session, None)
        if session is not None:
            session.close()
        record = self._records.pop(asked.session, None)
        if session is None or session._taking is None or record is None:
            return {}
        with record:
            fault = "" if session._taking.wait(_LETS_GO) else "a call of the session had not ended"
            while piece := record.read(_PIECE):
                job.tell(RecordPieceEvent(base64=base64.b64encode(piece).decode()))
        return {
            "record_fault": fault or session.record_fault, "record_inexact": inexact_as_data(session.record_inexact),
            "record_digest": session.record_digest,
        }  # fmt: skip

    def sleep(self, asked: SleepJob, _: RunningJob) -> JSONObject:
        """Puts a session to sleep; one that is busy stays awake."""
        self.session(asked.session).sleep()
        return {}

    def state(self, _: StateJob, __: RunningJob) -> JSONObject:
        """Returns how many boxes are ready, by policy and language, and how many sessions exist."""
        pools = [
            PoolState(policy=policy, language=language, ready=pool.ready, size=pool.size)
            for (policy, language), pool in tuple(self._pools.items())
        ]
        return attrs.asdict(WorkerState(pid=os.getpid(), pools=pools, sessions=len(self._sessions)))

    def give_back(self, _: MemoryJob, __: RunningJob) -> JSONObject:
        """Returns unused memory to the kernel."""
        give_back()
        return {}


#: All other jobs are commands of a session.
_DOES: Final[Mapping[type, Callable[[_Worker, Any, RunningJob], JSONObject]]] = {
    RunJob: _Worker.run, OpenJob: _Worker.open, ForkJob: _Worker.fork, SnapshotJob: _Worker.snapshot,
    EndJob: _Worker.end, SleepJob: _Worker.sleep, StateJob: _Worker.state, MemoryJob: _Worker.give_back,
}  # fmt: skip


def _unnamed_file() -> IO[bytes]:
    """Returns a file without a name for a record: if this process is killed, no file remains."""
    return tempfile.TemporaryFile()


def _path(file: IO[bytes]) -> str:
    """Returns a path for a file that has no name, for this process."""
    return f"/proc/self/fd/{file.fileno()}"
