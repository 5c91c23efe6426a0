"""The sessions of all callers: their workers, who may use them, and the end of those that nobody uses.

A session that is not used for a while is put to sleep: its process is stopped until the next request. After a longer
while it is ended. The database stores how each has ended, for the answers to later requests, and the record of each
that was recorded (sessionrecords.py).
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from typing import Any, Final

import attrs

from proxybox.serve.callers import ITSELF, Caller, new_id
from proxybox.serve.config import ServiceSessions
from proxybox.serve.jobs import ServiceJobs
from proxybox.serve.problems import Refusal, going_on
from proxybox.serve.sessionrecords import KeptRecord, SessionRecords, Take
from proxybox.serve.sessionstate import SessionState
from proxybox.serve.store import LIVE, ServiceStore
from proxybox.serve.workeranswers import JobAnswer, ResultFacts
from proxybox.serve.workerjobs import AnyJob, EndJob, ForkJob, OpenJob, SleepJob, SnapshotJob, command_job
from proxybox.serve.workers import LineKind, OnEvent, Transfer, WorkerJob, WorkerLost, WorkerProcess

log = logging.getLogger("proxybox.serve")

#: Why a session has ended whose worker has died.
_LOST: Final = "the process that served it has ended"
#: The commands that run code of the session.
_CALLS: Final = frozenset({"exec", "eval", "call"})
#: Seconds between two checks for unused sessions, and for old records.
_RHYTHM: Final = 1.0
_EXPIRING: Final = 60.0
#: Seconds for which the record of a session is requested from a worker that has no free line.
_INSISTS: Final = 120.0
#: How many sessions are ended at once when the service ends: more could exceed the queue for lines.
_AT_ONCE: Final = 8


@attrs.define(eq=False, kw_only=True)
class Served:
    """One session.

    made, used: monotonic seconds. busy: how many requests use it now. has_call: whether a call runs or waits for its
    turn; call: the call that runs. recorded: whether it has a record. end: the task that ends it.
    """

    id: str
    caller: Caller
    worker: WorkerProcess
    policy: str
    language: str
    made: float = attrs.field(factory=time.monotonic)
    used: float = attrs.field(factory=time.monotonic)
    busy: int = 0
    asleep: bool = False
    snapshots: set[str] = attrs.field(factory=set)
    has_call: bool = False
    call: WorkerJob | None = None
    recorded: bool = False
    end: asyncio.Task[None] | None = None

    @property
    def state(self) -> SessionState:
        """The state of the session, for its owner."""
        now = time.monotonic()
        return SessionState(
            id=self.id, policy=self.policy, language=self.language, age=round(now - self.made, 3),
            idle=0.0 if self.busy else round(now - self.used, 3),
            state="busy" if self.busy else "asleep" if self.asleep else "awake",
            snapshots=sorted(self.snapshots), recorded=self.recorded,
        )  # fmt: skip


class Sessions:
    """All sessions of a service."""

    def __init__(self, limits: ServiceSessions, jobs: ServiceJobs, store: ServiceStore) -> None:
        self._limits, self._jobs, self._store = limits, jobs, store
        self._records = SessionRecords(store, jobs.config.limits.artefacts, limits.end_after)
        jobs.on_lost.append(self._lost)
        self._all: dict[str, Served] = {}
        self._opening: dict[str, int] = {}
        self._beginning: set[Served] = set()
        self._closing: dict[str, Served] = {}  # those that are being ended
        self._insists = _INSISTS
        self._ending: dict[str, tuple[str, str, str]] = {}  # by id: key, state, reason; until they are stored
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._all)

    def asleep(self) -> int:
        """Returns how many sessions sleep."""
        return sum(session.asleep for session in self._all.values())

    # --- beginning ----------------------------------------------------------------------------------------------------

    async def open(self, caller: Caller, asked: Mapping[str, Any]) -> Served:
        """Starts a session. asked: policy, language, limits, output, files, timeout, env, record. Raises Refusal."""
        policy, language = self._jobs.policy(caller, asked.get("policy")), self._jobs.language(asked.get("language"))
        with self._room(caller):
            if asked.get("record"):
                await self._check_records(caller)
            identity, worker = new_id(), self._least_used(caller)
            job = OpenJob(**{**asked, "session": identity, "policy": policy, "language": language})
            session = Served(
                id=identity, caller=caller, worker=worker, policy=policy, language=language, recorded=job.record
            )  # fmt: skip
            return await self._begin(session, job)

    async def fork(self, caller: Caller, identity: str) -> Served:
        """Makes a copy of a session. Raises Refusal."""
        async with self._using(caller, identity) as session:
            with self._room(caller):
                copy = Served(
                    id=new_id(), caller=caller, worker=session.worker, policy=session.policy, language=session.language
                )
                return await self._begin(copy, ForkJob(session=identity, copy=copy.id))

    @contextlib.contextmanager
    def _room(self, caller: Caller) -> Any:
        """A context in which one more session is counted. Raises Refusal."""
        mine = self.of(caller)
        opening = sum(self._opening.values())
        if len(mine) + self._opening.get(caller.key, 0) >= self._limits.share:
            raise Refusal(
                "rate-limited", f"this key has {len(mine)} sessions, and may have {self._limits.share}: end some",
                headers={"Retry-After": "10"},
            )  # fmt: skip
        if len(self._all) + opening >= self._limits.most:
            raise Refusal("overloaded", "there are too many sessions", headers={"Retry-After": "10"})
        self._opening[caller.key] = self._opening.get(caller.key, 0) + 1
        try:
            yield
        finally:
            self._opening[caller.key] -= 1
            if not self._opening[caller.key]:
                del self._opening[caller.key]

    async def _check_records(self, caller: Caller) -> None:
        """Raises Refusal if there is no space for one more record of the largest size."""
        limit = self._jobs.record_limit()
        room = await self._records.room_for(caller.key, limit)
        sessions = {*self._all.values(), *self._beginning, *self._closing.values()}
        recorded = sum(session.recorded and session.caller.key == caller.key for session in sessions)
        if recorded >= room:
            raise Refusal(
                "too-large", f"{recorded} sessions of this key are recorded, and its files leave room for {room} "
                f"records of {limit:,} bytes (limits.artefacts): end some, or give up records that are kept",
            )  # fmt: skip

    async def _begin(self, session: Served, job: AnyJob) -> Served:
        """Does a job that makes a session. If the caller cancels that, no session is left behind."""
        self._beginning.add(session)
        try:
            await self._ask(session.caller, job, session.worker)
            if session.worker.ended:
                raise Refusal("worker-lost", headers={"Retry-After": "1"})
            self._all[session.id] = session
            if self._limits.records:
                key = session.caller.key
                await self._store.ask(self._store.begin_session, session.id, key, session.policy, session.language)
        except BaseException:
            self._all.pop(session.id, None)
            self._behind(self._tell(session, EndJob(session=session.id)))
            raise
        finally:
            self._beginning.discard(session)
        return session

    def _behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Does work in a task for which nobody waits."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _least_used(self, caller: Caller) -> WorkerProcess:
        """Returns the worker with the fewest sessions in use, and among equals the one with the fewest sessions.

        The express worker is for callers that have no session yet, as long as there is another worker.

        Raises Refusal.
        """
        living = [worker for worker in self._jobs.workers.processes.values() if not worker.ended]
        if self.of(caller):
            living = [worker for worker in living if not worker.express] or living
        if not living:
            raise Refusal("worker-lost", headers={"Retry-After": "1"})
        sessions = {*self._all.values(), *self._beginning}
        has = Counter(session.worker.number for session in sessions)
        busy = Counter(session.worker.number for session in sessions if session.busy or session in self._beginning)
        return min(living, key=lambda worker: (busy[worker.number], has[worker.number], not worker.express))

    # --- use ----------------------------------------------------------------------------------------------------------

    def of(self, caller: Caller) -> list[Served]:
        """Returns the sessions of a caller, the oldest first."""
        return [session for session in self._all.values() if session.caller.key == caller.key]

    async def find(self, caller: Caller, identity: str) -> Served:
        """Returns a session of a caller. Raises Refusal, which says how it has ended."""
        session = self._all.get(identity)
        if session is not None and session.caller.key == caller.key:
            return session
        await self._closed(caller, identity)
        key, state, reason = self._ending.get(identity, ("", "", ""))
        if not self._limits.records:
            raise Refusal("session-ended", "the session has ended, or there was none")
        if not state or key != caller.key:
            known = await self._store.ask(self._store.session, identity, caller.key)
            if known is None:
                raise Refusal("not-found", "there is no such session")
            state, reason = known["state"], known["reason"]
            if state == LIVE:
                raise Refusal("not-found", "there is no such session here: another service has it, or had it")
        raise Refusal("session-ended", f"the session has ended: {reason}", state=state, reason=reason)

    async def _closed(self, caller: Caller, identity: str) -> None:
        """Waits for a session that is being ended."""
        session = self._closing.get(identity)
        if session is not None and session.caller.key == caller.key and session.end is not None:
            await asyncio.shield(session.end)

    @contextlib.asynccontextmanager
    async def _using(self, caller: Caller, identity: str) -> Any:
        session = await self.find(caller, identity)
        session.busy += 1
        session.asleep = False
        try:
            yield session
        finally:
            session.busy -= 1
            session.used = time.monotonic()

    async def command(
        self, caller: Caller, identity: str, command: str, *,
        on_event: OnEvent | None = None, transfer: Transfer | None = None, **asked: Any,
    ) -> JobAnswer:  # fmt: skip
        """Does a command in a session, and returns the answer as JSON. Raises Refusal.

        command: such as "exec". asked: the fields of its class (workerjobs.py) that doors choose.
        """
        async with self._using(caller, identity) as session:
            fields = {**asked, "session": identity, "policy": session.policy, "stream": on_event is not None}
            job = command_job(command, fields)
            with _calling(session) if command in _CALLS else contextlib.nullcontext() as began:
                data = await self._ask(
                    caller, job, session.worker, on_event=on_event, on_begin=began, transfer=transfer
                )
            if not data.facts.alive:
                why = data.facts.why if isinstance(data.facts, ResultFacts) else ""
                await self._end(session, "ended", why or "its program has ended it")
            return data

    async def _ask(
        self, caller: Caller, job: AnyJob, worker: WorkerProcess, *,
        on_event: OnEvent | None = None, on_begin: Callable[[WorkerJob], object] | None = None,
        transfer: Transfer | None = None,
    ) -> JobAnswer:  # fmt: skip
        kind: LineKind = "live" if transfer is None else "file"
        try:
            async with asyncio.timeout(None if transfer is None else self._jobs.config.transfer_time):
                return await self._jobs.ask(
                    kind, caller, job, on_event=on_event, on_begin=on_begin, worker=worker.number, transfer=transfer
                )
        except TimeoutError:
            raise Refusal("timeout", "the file was too slow on its way") from None
        except WorkerLost as error:
            if job.op == "open":
                raise Refusal("worker-lost", headers={"Retry-After": "1"}) from None
            raise Refusal("session-ended", f"the session was lost: {error}", state="lost", reason=str(error)) from None
        except Refusal as refusal:
            ended = self._all.get(getattr(job, "session", ""))
            if refusal.kind == "session-ended" and job.op != "restore" and ended is not None:
                await self._end(ended, "ended", "its program has ended it")
            raise

    async def input(self, caller: Caller, identity: str, text: str) -> None:
        """Sends standard input to the call that runs. Raises Refusal."""
        session = await self.find(caller, identity)
        if session.call is None:
            raise Refusal("session-busy", "no call runs that could take input")
        session.call.input(text)

    async def interrupt(self, caller: Caller, identity: str) -> None:
        """Interrupts the call that runs, if one does. Raises Refusal."""
        session = await self.find(caller, identity)
        if session.call is not None:
            session.call.interrupt()

    # --- kept states --------------------------------------------------------------------------------------------------

    async def snapshot(self, caller: Caller, identity: str) -> str:
        """Stores the state of a session, and returns its id. Raises Refusal."""
        async with self._using(caller, identity) as session:
            name = new_id()
            await self._ask(caller, SnapshotJob(op="snapshot", session=identity, snapshot=name), session.worker)
            session.snapshots.add(name)
            return name

    async def restore(self, caller: Caller, identity: str, snapshot: str) -> None:
        """Restores a stored state. Raises Refusal."""
        async with self._using(caller, identity) as session:
            self._check_snapshot(session, snapshot)
            await self._ask(caller, SnapshotJob(op="restore", session=identity, snapshot=snapshot), session.worker)

    async def forget(self, caller: Caller, identity: str, snapshot: str) -> None:
        """Removes a stored state. Raises Refusal."""
        async with self._using(caller, identity) as session:
            self._check_snapshot(session, snapshot)
            await self._ask(caller, SnapshotJob(op="forget", session=identity, snapshot=snapshot), session.worker)
            session.snapshots.discard(snapshot)

    @staticmethod
    def _check_snapshot(session: Served, snapshot: str) -> None:
        if snapshot not in session.snapshots:
            raise Refusal("not-found", "this session has no such snapshot")

    # --- records ------------------------------------------------------------------------------------------------------

    async def record(self, caller: Caller, identity: str) -> KeptRecord:
        """Returns the record of a session that has ended. Raises Refusal, which says why it has none."""
        await self._closed(caller, identity)
        record = await self._records.find(caller.key, identity)
        return record or await self._lacks_record(caller, identity)

    def record_as_json(self, record: KeptRecord) -> AsyncIterator[bytes]:
        """Yields a record as JSON, as in a Result, in pieces."""
        return self._records.as_json(record)

    async def forget_record(self, caller: Caller, identity: str) -> None:
        """Removes the record of a session that has ended. Raises Refusal if it has none."""
        await self._closed(caller, identity)
        if not await self._records.remove(caller.key, identity):
            await self._lacks_record(caller, identity)

    async def _lacks_record(self, caller: Caller, identity: str) -> Any:
        """Raises the Refusal that says why a session has no record."""
        try:
            session = await self.find(caller, identity)
        except Refusal as refusal:
            if refusal.kind == "session-ended":
                refusal.detail = f"no record is kept of this session: {refusal.detail}"
            raise
        if session.recorded:
            raise Refusal("session-busy", "the session has not ended: its record is there when it has")
        raise Refusal("not-found", "this session is not recorded")

    # --- the end ------------------------------------------------------------------------------------------------------

    async def end(self, caller: Caller, identity: str) -> None:
        """Ends a session. Raises Refusal if it does not exist."""
        await self._end(await self.find(caller, identity), "ended", "it was closed")

    def end_unless(self, is_good: Callable[[str], bool]) -> None:
        """Ends the sessions of keys that are no longer valid. is_good: returns whether the key of an id is valid."""
        fates = {key: is_good(key) for key in {session.caller.key for session in self._all.values()}}
        for session in tuple(self._all.values()):
            if not fates[session.caller.key]:
                self._behind(self._end(session, "ended", "its key was revoked, or has expired"))

    async def _end(self, session: Served, state: str, reason: str) -> None:
        if await self._finish(session, state, reason):
            await self._note_end(session.id)

    async def _finish(self, session: Served, state: str, reason: str) -> bool:
        """Ends a session, and returns whether this call has ended it.

        If the caller is cancelled, the session ends all the same.
        """
        if self._all.pop(session.id, None) is None:
            return False
        self._closing[session.id] = session
        session.end = asyncio.get_running_loop().create_task(self._conclude(session, state, reason))
        await asyncio.shield(session.end)
        return True

    async def _conclude(self, session: Served, state: str, reason: str) -> None:
        """Does the work of `_finish`: everything except the note of the end in the database."""
        try:
            if session.recorded:
                reason += await self._keep_record(session)
            elif not session.worker.ended:
                for snapshot in tuple(session.snapshots):
                    await self._tell(session, SnapshotJob(op="forget", session=session.id, snapshot=snapshot))
                await self._tell(session, EndJob(session=session.id))
        finally:
            if self._limits.records:
                self._ending[session.id] = session.caller.key, state, reason
            del self._closing[session.id]

    async def _keep_record(self, session: Served) -> str:
        """Ends a session that is recorded, and stores its record. Returns "", or the reason if that was impossible."""
        if session.call is not None:
            session.call.input("")  # a program that waits for input would delay the end of its call

        async def hand_over(take: Take) -> bytes:
            job, until = EndJob(session=session.id), time.monotonic() + self._insists
            while True:
                try:
                    return await self._jobs.ask("live", ITSELF, job, on_event=take, worker=session.worker.number)
                except Refusal as refusal:  # its worker does calls of others
                    if refusal.kind not in ("overloaded", "rate-limited") or time.monotonic() >= until:
                        raise
                await asyncio.sleep(_RHYTHM)

        why = _LOST if session.worker.ended else await self._records.keep(session.caller.key, session.id, hand_over)
        return f"; its record is lost: {why}" if why else ""

    async def _note_end(self, identity: str) -> bool:
        """Stores how a session has ended, and returns whether that was possible; otherwise `_note_ends` tries again."""
        if identity in self._ending:
            _, state, reason = self._ending[identity]
            try:
                await self._store.ask(self._store.end_session, identity, state, reason)
            except Refusal:
                return False
            self._ending.pop(identity, None)
        return True

    async def _note_ends(self) -> None:
        """Stores the ends that are not stored yet, until the database fails."""
        for identity in tuple(self._ending):
            if not await self._note_end(identity):
                return

    async def _tell(self, session: Served, job: AnyJob) -> None:
        """Does a job for a session that may have ended meanwhile."""
        with contextlib.suppress(Refusal, WorkerLost):
            await self._jobs.ask_itself(job, session.worker.number)

    def _lost(self, worker: WorkerProcess) -> None:
        """Removes the sessions of a worker that has died."""
        for session in [session for session in self._all.values() if session.worker is worker]:
            del self._all[session.id]
            if self._limits.records:
                reason = f"{_LOST}, and its record is lost with it" if session.recorded else _LOST
                self._ending[session.id] = session.caller.key, "lost", reason
                self._behind(self._note_ends())

    async def watch(self) -> None:
        """Handles unused sessions, ends that are not stored yet, and old records, until it is cancelled."""
        await asyncio.gather(self._watch(), self._keep_noting(), self._expire())

    async def _expire(self) -> None:
        while True:
            with contextlib.suppress(Refusal):
                await self._records.expire()
            await asyncio.sleep(_EXPIRING)

    async def _keep_noting(self) -> None:
        while True:
            await asyncio.sleep(_RHYTHM)
            await self._note_ends()

    async def _watch(self) -> None:
        """Puts sessions that nobody uses to sleep, and ends them later. Others do not wait until a record is stored."""
        while True:
            await asyncio.sleep(_RHYTHM)
            now = time.monotonic()
            for session in tuple(self._all.values()):
                with going_on("a session is not watched"):
                    await self._look_at(session, now)

    async def _look_at(self, session: Served, now: float) -> None:
        if now - session.made > self._limits.last:
            self._behind(self._end(session, "ended", f"it had lasted {self._limits.last:g} s"))
        elif session.busy:
            return
        elif now - session.used > self._limits.end_after:
            self._behind(self._end(session, "ended", f"nobody had used it for {self._limits.end_after:g} s"))
        elif not session.asleep and now - session.used > self._limits.sleep_after:
            session.asleep = True
            await self._tell(session, SleepJob(session=session.id))

    async def close(self) -> None:
        """Ends all, several at a time: a session in which a call runs may take seconds to end its record."""
        self._insists = 0.0
        turns = asyncio.Semaphore(_AT_ONCE)

        async def finish(session: Served) -> None:
            async with turns:
                await self._finish(session, "ended", "the service has ended")

        ends = [session.end for session in self._closing.values() if session.end is not None]
        for fault in await asyncio.gather(*ends, *map(finish, tuple(self._all.values())), return_exceptions=True):
            if fault is not None:
                log.error("a session is not closed", exc_info=fault)
        await self._note_ends()


@contextlib.contextmanager
def _calling(session: Served) -> Iterator[Callable[[WorkerJob], object]]:
    """A context in which a call runs; the function sets the job that can be interrupted. Raises Refusal."""
    if session.has_call:
        raise Refusal("session-busy")
    session.has_call = True
    try:
        yield lambda job: setattr(session, "call", job)
    finally:
        session.has_call, session.call = False, None
