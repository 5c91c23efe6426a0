"""A worker process of the service: its boxes and sessions, and a thread for each job that may run at once (wire.py).

The first socket is for control: it brings short orders about jobs that run (cancel, interrupt, input), which are not
answered. Each other socket brings one job after the other. The process ends when the service closes its sockets.

Rule: this process serves hostile guests, so it is given nothing but policies and interpreters: no keys, no database, no
environment of the service. What it runs, it runs through the public API.
"""

import base64
import contextlib
import errno
import functools
import gc
import json
import os
import pickle
import queue
import re
import sys
import tempfile
import threading
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import IO, Any, Final, Literal, get_args

import attrs

from proxybox import argumentchecks
from proxybox.commands import Displayed
from proxybox.controller.boxes.boxfiles import DiskLimitReached
from proxybox.controller.costs.descriptorshare import raise_own_limit
from proxybox.controller.process import priority
from proxybox.controller.record.exactness import as_data as inexact_as_data
from proxybox.controller.record.redacting import HOST
from proxybox.errors import (
    CannotCopy,
    ExecutionError,
    PolicyError,
    SandboxClosedError,
    SandboxStartError,
    SessionBusy,
)  # fmt: skip
from proxybox.jsonvalues import JSONObject, from_json, to_json
from proxybox.policies import Mount, Policy, Problem, evolve
from proxybox.pool.pool import Pool
from proxybox.program import MAIN, Program
from proxybox.result import Result, Status
from proxybox.sandbox import Sandbox
from proxybox.serve import filetransfers
from proxybox.serve.filetransfers import GivenUp
from proxybox.serve.jobevents import JobEvents, Moments
from proxybox.serve.memory import give_back
from proxybox.serve.results import display_event, result_as_json
from proxybox.serve.setup import Setup
from proxybox.serve.wire import AnswerKind, answer
from proxybox.serve.wiredata import JobFailure, JobOrder, PoolState, RequestFault, WorkerState, read
from proxybox.session import Session, Snapshot
from proxybox.streamevents import ErrorEvent, InputRequestEvent, RecordPieceEvent, Stream, as_data

#: Seconds until a thread lets another one go on: an answer must not wait for the thread that makes the next box.
_SWITCH: Final = 0.0002
#: How the message of a parameter that makes no sense begins.
_PARAMETER: Final = re.compile(r"([a-z_]+)(?:\[[^\]]*\])?: ")
#: The most jobs whose orders wait for them, and the most pieces of input that wait for one program.
_MOST_EARLY: Final = 256
_MOST_GIVEN: Final = 16
#: Bytes of one piece of a record, which has no padding in base64, and seconds that a call has to end with its session.
_PIECE: Final = 3 << 18
_LETS_GO: Final = 10.0
#: Characters of an exception's message, and of its traceback, in an event.
_MOST_ERROR: Final = 1 << 16
#: What records leave out: clients learn of the host what a run shows them, and no more.
_REDACTED: Final = (HOST,)


def serve(connections: list[Connection], setup: bytes) -> None:
    """Serves until the service closes the control socket. setup: a `Setup`, pickled by the service."""
    control, *lines = connections
    raise_own_limit()
    sys.setswitchinterval(_SWITCH)
    gc.freeze()  # modules are not looked at again: a full collection would hold up all boxes
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


class _Running:
    """One job that runs: what the control socket can do to it, even before it has begun."""

    def __init__(self) -> None:
        self.input_queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._orders: list[str] = []
        self._can: dict[str, Callable[[], object]] = {}

    def begin(self, cancel: Callable[[], object], interrupt: Callable[[], object]) -> None:
        """Takes what ends the job, and what interrupts it; orders that came before are carried out now."""
        self._can = {"cancel": cancel, "interrupt": interrupt}
        for order in tuple(self._orders):
            self._can[order]()

    def order(self, what: str) -> None:
        """Carries out an order: "cancel" or "interrupt"."""
        self._orders.append(what)
        if what in self._can:
            self._can[what]()


class _Worker:
    """The boxes and sessions of this process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._pools: dict[tuple[str, str], Pool] = {}
        self._sandboxes: dict[tuple[str, str], Sandbox] = {}
        self._sessions: dict[str, Session] = {}
        self._records: dict[str, IO[bytes]] = {}  # by session
        self._snapshots: dict[str, Snapshot] = {}
        self._running: dict[int, _Running] = {}
        self._early: OrderedDict[int, list[JobOrder]] = OrderedDict()
        self._moments = Moments()
        self._ordering = threading.Lock()
        self._making = threading.Lock()

    def start(self) -> None:
        """Has text that is gathered told in time."""
        self._moments.start()

    def close(self) -> None:
        """Ends everything."""
        for running in tuple(self._running.values()):
            running.order("cancel")
        self._moments.close()
        for pool in self._pools.values():
            pool.close()
        for sandbox in self._sandboxes.values():
            sandbox.close()

    # --- orders -------------------------------------------------------------------------------------------------------

    def obey(self, order: JobOrder) -> None:
        """Carries out an order about a job.

        One about a job that has ended is too late, and does nothing. One about a job that has not been read yet, since
        that comes by another socket, waits for it.
        """
        with self._ordering:
            running = self._running.get(order.job)
            if running is None:
                early = self._early.setdefault(order.job, [])
                if len(early) < _MOST_GIVEN:
                    early.append(order)
                if len(self._early) > _MOST_EARLY:
                    self._early.popitem(last=False)
                return
        self._order(running, order)

    @staticmethod
    def _order(running: _Running, order: JobOrder) -> None:
        if order.do == "input":
            if running.input_queue.qsize() < _MOST_GIVEN:
                running.input_queue.put(order.text)
            return
        running.order(order.do)
        running.input_queue.put(None)  # who waits for input gets none

    # --- jobs ---------------------------------------------------------------------------------------------------------

    def serve(self, line: Connection) -> None:
        """Does the jobs of one socket; runs in a thread."""
        with contextlib.suppress(EOFError, OSError):
            while True:
                line.send_bytes(self._do(json.loads(line.recv_bytes()), line))

    def _do(self, job: Mapping[str, Any], line: Connection) -> bytes:
        number, running = job["job"], _Running()
        with self._ordering:
            self._running[number] = running
            early = self._early.pop(number, ())
        for order in early:
            self._order(running, order)
        events = JobEvents(line, self._moments)
        try:
            reply = answer(AnswerKind.RESULT, _DOES[job["op"]](self, _Job(job, events, running, line)))
        except Exception as error:
            reply = answer(AnswerKind.FAILURE, _failure(error))
        finally:
            with self._ordering:
                del self._running[number]
        events.flush()  # nothing is told after the answer
        return reply

    def pool(self, policy: str, language: str) -> Pool:
        """The pool of one policy and one language; it is made at the first request."""
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
        """The sandbox of one policy and one language, for sessions and for runs that ask for input."""
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
    def place(self, asked: Mapping[str, Any]) -> Iterator[Pool | Sandbox]:
        """Where a run belongs: into a pool; where that cannot take it, into a sandbox."""
        if asked.get("folder") or asked.get("options"):
            with self.sandbox_at(asked) as own:
                yield own
        elif asked.get("interactive") or asked.get("env"):
            yield self.sandbox(asked["policy"], asked["language"])
        else:
            yield self.pool(asked["policy"], asked["language"])

    def sandbox_at(self, asked: Mapping[str, Any]) -> Sandbox:
        """A sandbox for one run that has its files at `folder`, or options of the interpreter. The caller closes it."""
        policy = self._setup.policies[asked["policy"]]
        if folder := asked.get("folder"):
            mode: Literal["ro", "overlay"] = "ro" if policy.filesystem.box == "ro" else "overlay"
            mount = Mount(folder, _tree(_files(asked.get("files"))), mode=mode)
            mounts = (*policy.filesystem.mounts, mount)
            policy = evolve(policy, filesystem={"mounts": mounts}, environment={"cwd": folder})
        return self._sandbox(policy, asked["language"], warm=False)

    # --- runs ---------------------------------------------------------------------------------------------------------

    def run(self, job: "_Job") -> JSONObject:
        """Runs one program."""
        asked, program = job.asked, _program(job.asked)
        options: dict[str, Any] = {"timeout": asked.get("timeout"), "stdin": job.stdin(self._setup.input_wait)}
        if asked.get("stream"):
            streams: tuple[Stream, ...] = get_args(Stream)
            for stream in streams:
                options[f"on_{stream}"] = argumentchecks.as_text_callback(f"on_{stream}", job.printed(stream))
        options |= {name: asked.get(name) for name in ("limits", "output", "env")}
        contents = asked.get("return_files") or False
        with self.place(asked) as place:
            if not asked.get("record") or self._setup.record is None:
                result = place.run_program(program, on_start=job.started, **options)
                return job.finished(result_as_json(result, contents=contents))
            with tempfile.TemporaryFile() as file:  # it has no name: what kills this process leaves nothing behind
                result = place.run_program(program, on_start=job.started, record=_path(file), **options)
                return job.finished(result_as_json(result, contents=contents, record=file.read()))

    # --- sessions -----------------------------------------------------------------------------------------------------

    def open(self, job: "_Job") -> JSONObject:
        """Starts a session."""
        asked = job.asked
        options = {name: asked.get(name) for name in ("timeout", "limits", "output", "env")}
        sandbox = self.sandbox(asked["policy"], asked["language"])
        with contextlib.ExitStack() as undo:
            record: IO[bytes] | None = None
            if asked.get("record") and self._setup.record is not None:
                record = undo.enter_context(tempfile.TemporaryFile())
                options["record"] = _path(record)
            try:
                session = sandbox.session(files=_files(asked.get("files")), **options)
            except SandboxStartError as error:
                if error.limit and asked.get("limits"):
                    raise PolicyError(Problem(key=error.limit, message=str(error))) from None
                raise
            undo.pop_all()
        self._sessions[asked["session"]] = session
        if record is not None:
            self._records[asked["session"]] = record
        return {"layers": dict(session.layers)}

    def session(self, asked: Mapping[str, Any]) -> Session:
        """The session that a job names. Raises SandboxClosedError."""
        session = self._sessions.get(asked["session"])
        if session is None or not session.alive:
            raise SandboxClosedError("the session has ended")
        return session

    def command(self, job: "_Job") -> JSONObject:
        """Carries out one command of a session. asked: with `weigh`, the answer has the bytes that it has in memory."""
        asked = job.asked
        session = self.session(asked)
        if asked["command"] not in _WITHOUT_CODE:  # whoever gives up one of these does not mean the call that runs
            job.running.begin(session.interrupt, session.interrupt)
        done = _COMMANDS[asked["command"]](self, session, job)
        if asked.get("weigh") and session.alive:
            done["memory"] = session.usage.memory
        return {**done, "alive": session.alive}

    def fork(self, job: "_Job") -> JSONObject:
        """Makes a copy of a session."""
        self._sessions[job.asked["copy"]] = self.session(job.asked).fork()
        return {}

    def snapshot(self, job: "_Job") -> JSONObject:
        """Keeps the state of a session."""
        self._snapshots[job.asked["snapshot"]] = self.session(job.asked).snapshot()
        return {}

    def restore(self, job: "_Job") -> JSONObject:
        """Goes back to a kept state."""
        snapshot = self._snapshots.get(job.asked["snapshot"])
        if snapshot is None:
            raise SandboxClosedError("there is no such snapshot")
        self.session(job.asked).restore(snapshot)
        return {}

    def forget(self, job: "_Job") -> JSONObject:
        """Gives up a kept state."""
        snapshot = self._snapshots.pop(job.asked["snapshot"], None)
        if snapshot is not None:
            snapshot.close()
        return {}

    def end(self, job: "_Job") -> JSONObject:
        """Ends a session, and tells its record, if it has one, in pieces."""
        session = self._sessions.pop(job.asked["session"], None)
        if session is not None:
            session.close()
        record = self._records.pop(job.asked["session"], None)
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

    def sleep(self, job: "_Job") -> JSONObject:
        """Puts a session to sleep; one that is busy stays awake."""
        self.session(job.asked).sleep()
        return {}

    def state(self, job: "_Job") -> JSONObject:
        """How many boxes stand ready, by policy and language, and how many sessions live."""
        pools = [
            PoolState(policy=policy, language=language, ready=pool.ready, size=pool.size)
            for (policy, language), pool in tuple(self._pools.items())
        ]
        return attrs.asdict(WorkerState(pid=os.getpid(), pools=pools, sessions=len(self._sessions)))

    def give_back(self, job: "_Job") -> JSONObject:
        """Gives back memory that is not needed now."""
        give_back()
        return {}


_DOES: Final[Mapping[str, Callable[[_Worker, "_Job"], JSONObject]]] = {
    "run": _Worker.run, "open": _Worker.open, "command": _Worker.command, "fork": _Worker.fork,
    "snapshot": _Worker.snapshot, "restore": _Worker.restore, "forget": _Worker.forget, "end": _Worker.end,
    "sleep": _Worker.sleep, "state": _Worker.state, "give_back": _Worker.give_back,
}  # fmt: skip


class _Job:
    """One job: what was asked, and how what happens meanwhile is told."""

    def __init__(self, asked: Mapping[str, Any], events: JobEvents, running: _Running, line: Connection) -> None:
        self.asked, self.running, self.line = asked, running, line
        self._telling = events
        self.give, self.tell = events.give, events.tell

    def printed(self, stream: Stream) -> Callable[[str], None]:
        """A callback for what is printed to a stream."""
        return functools.partial(self._telling.print, stream)

    def finished(self, result: JSONObject) -> JSONObject:
        """Tells the exception that is in a result, where events are wanted; returns the result."""
        if self.asked.get("stream") and (error := result["error"]) is not None:
            self.tell(ErrorEvent(**{name: text[:_MOST_ERROR] for name, text in error.items()}))
        return result

    def started(self, running: Any) -> None:
        """Takes what can end the run."""
        self.running.begin(running.cancel, running.interrupt)

    def stdin(self, patience: float) -> Any:
        """What the program reads: the data that was sent, or a function that asks the caller."""
        if not self.asked.get("interactive"):
            return _data(self.asked.get("stdin"))
        return self._asker(patience, _data(self.asked.get("stdin")))

    def _asker(self, patience: float, first: bytes | None) -> Callable[[int], bytes]:
        """A function that gives the data that was sent, and then asks the caller, whose silence is an end of file.

        It stays the standard input of a session after its call, and is at its end then.
        """
        rest = [bytearray(first or b"")]
        ended: list[bool] = []

        def read(size: int) -> bytes:
            buffer = rest[0]
            if not buffer and not ended:
                self.tell(InputRequestEvent())
                try:
                    text = self.running.input_queue.get(timeout=patience)
                except queue.Empty:
                    text = None
                if text is None or text == "":
                    ended.append(True)
                else:
                    buffer += text.encode("utf-8", "surrogatepass")
            piece = bytes(buffer[:size])
            del buffer[:size]
            return piece

        return read


# --- commands of a session --------------------------------------------------------------------------------------------


def _source_command(method: Callable[..., Result], worker: _Worker, session: Session, job: _Job) -> JSONObject:
    asked = job.asked
    shown: list[JSONObject] = []
    options: dict[str, Any] = {"timeout": asked.get("timeout")}
    if asked.get("interactive"):
        options["stdin"] = job.stdin(worker._setup.input_wait)
    elif asked.get("stdin") is not None:
        options["stdin"] = _data(asked["stdin"])
    if method is Session.exec:
        options |= {"name": asked.get("name") or "", "echo": asked.get("echo") or False}

    def take(displayed: Displayed) -> None:
        event = display_event(displayed)
        if asked.get("stream"):
            job.tell(event)
        else:
            shown.append({key: value for key, value in as_data(event).items() if key != "event"})

    if asked.get("stream"):
        options |= {"on_stdout": job.printed("stdout"), "on_stderr": job.printed("stderr")}
    result = method(session, asked["code"], on_display=take, **options)
    return {**job.finished(result_as_json(result)), "display": shown}


def _call(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    args, kwargs = from_json(job.asked["args"]), from_json(job.asked["kwargs"])
    return {**result_as_json(session.call(job.asked["name"], *args, **kwargs)), "display": []}


def _set(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    session.set(job.asked["name"], from_json(job.asked["value"]))
    return {}


def _get(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return {"value": to_json(session.get(job.asked["name"]))}


def _complete(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return attrs.asdict(session.complete(job.asked["code"], job.asked.get("cursor")))


def _inspect(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    found = session.inspect(job.asked["code"], job.asked.get("cursor"), job.asked.get("detail") or 0)
    return {"found": None if found is None else attrs.asdict(found)}


def _is_complete(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return attrs.asdict(session.is_complete(job.asked["code"]))


def _reset(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    session.reset()
    return {}


def _read_file(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return {"base64": base64.b64encode(session.read_file(job.asked["path"], job.asked["limit"])).decode()}


def _write_file(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    session.write_file(job.asked["path"], base64.b64decode(job.asked["base64"]), parents=bool(job.asked.get("parents")))
    return {}


def _receive_file(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    given_up = threading.Event()
    job.running.begin(given_up.set, given_up.set)
    filetransfers.receive(session, job.asked, job.line, job.give, given_up.is_set)
    return {}


def _send_file(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    filetransfers.send(session, job.asked, job.line, job.give)
    return {}


def _list_files(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return {"entries": [attrs.asdict(entry) for entry in session.list_files(job.asked["path"])]}


def _changes(worker: _Worker, session: Session, job: _Job) -> JSONObject:
    return {"files": result_as_json(Result(status=Status.OK, files=session.files))["files"]}


_COMMANDS: Final[Mapping[str, Callable[[_Worker, Session, _Job], JSONObject]]] = {
    "exec": functools.partial(_source_command, Session.exec),
    "eval": functools.partial(_source_command, Session.eval),
    "call": _call, "set": _set, "get": _get, "complete": _complete, "inspect": _inspect, "is_complete": _is_complete,
    "reset": _reset, "read_file": _read_file, "write_file": _write_file, "list_files": _list_files, "changes": _changes,
    "receive_file": _receive_file, "send_file": _send_file,
}  # fmt: skip


#: The commands in which no code of the session runs.
_WITHOUT_CODE: Final = frozenset({"read_file", "write_file", "list_files", "changes", "receive_file", "send_file"})


# --- to and from JSON -------------------------------------------------------------------------------------------------


def _program(asked: Mapping[str, Any]) -> Program:
    """The program that is asked for: code, or files with the path of the one to start.

    With files: folder is where the box has them, in place of /box; options are the interpreter's, before the program.
    """
    files, args = _files(asked.get("files")), asked.get("args") or ()
    if (entry := asked.get("entry")) is not None:
        program = Program.of_files(files, entry, args)
        if folder := asked.get("folder"):
            program = Program(words=(f"{folder}/{entry}", *program.words[1:]))
        return attrs.evolve(program, words=(*argumentchecks.arguments(asked.get("options") or ()), *program.words))
    program = Program.source(asked["code"], args)
    if MAIN in files:
        raise PolicyError(
            f"files: {MAIN!r} is the name of the code itself: give the file another name, or name an entry"
        )
    return attrs.evolve(program, files={**files, **program.files}) if files else program


def _files(asked: Mapping[str, Any] | None) -> dict[str, bytes]:
    return argumentchecks.files({name: _data(content) or b"" for name, content in (asked or {}).items()})


def _tree(files: Mapping[str, bytes]) -> JSONObject:
    """Files by their paths as the tree of a `Mount`."""
    tree: dict[str, Any] = {}
    for path, content in files.items():
        *folders, name = path.split("/")
        folder = tree
        for each in folders:
            folder = folder.setdefault(each, {})
        folder[name] = content
    return tree


def _path(file: IO[bytes]) -> str:
    """The path of a file that has no name, for this process."""
    return f"/proc/self/fd/{file.fileno()}"


def _data(content: Any) -> bytes | None:
    """Bytes that were sent: as text, or in base64."""
    if content is None:
        return None
    if isinstance(content, str):
        return content.encode("utf-8", "surrogatepass")
    return base64.b64decode(content["base64"], validate=True)


# --- failures ---------------------------------------------------------------------------------------------------------


def _failure(error: Exception) -> JobFailure:
    """What the service is told of an exception."""
    for kind, name in _FAILURES:
        if isinstance(error, kind):
            return _detailed(error, JobFailure(type=name, message=str(error)))
    traceback.print_exception(error)
    return JobFailure(type="internal_error", message=type(error).__name__)


def _detailed(error: Exception, failure: JobFailure) -> JobFailure:
    if isinstance(error, PolicyError):
        faults = [RequestFault(loc=_place(problem), msg=str(problem)) for problem in error.problems]
        return attrs.evolve(failure, errors=faults)
    if isinstance(error, OSError):
        number = error.errno or errno.EIO
        message = str(error.strerror) if isinstance(error, DiskLimitReached) else os.strerror(number)
        return attrs.evolve(failure, errno=errno.errorcode.get(number, "EIO"), message=message)
    if isinstance(error, ExecutionError):
        return attrs.evolve(failure, result=result_as_json(error.result))
    return failure


def _place(problem: Problem) -> list[str | int]:
    """Where a request is at fault: a policy's key, or the parameter that a message begins with (argumentchecks.py)."""
    named = _PARAMETER.match(problem.message)
    key = problem.key or (named.group(1) if named else "")
    return [*key.split(".")] if key else []


_FAILURES: Final[tuple[tuple[type[Exception], str], ...]] = (
    (PolicyError, "invalid"),
    (SandboxClosedError, "session_ended"),
    (SessionBusy, "session_busy"),
    (CannotCopy, "cannot_copy"),
    (ExecutionError, "execution_error"),
    (SandboxStartError, "cannot_start"),
    (OSError, "file_error"),
    (GivenUp, "invalid"),
    (ValueError, "invalid"),
    (TypeError, "invalid"),
)
