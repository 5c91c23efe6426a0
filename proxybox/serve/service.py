"""The service: every door, whatever its protocol, uses it for runs and sessions.

door ── Service.run ──┐
     ── Sessions ─────┴─ Jobs ── gate ── a line of a worker ── the box
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from proxybox.serve.authority import Authority
from proxybox.serve.callers import Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.jobs import ServiceJobs
from proxybox.serve.memory import give_back
from proxybox.serve.metrics import Metrics
from proxybox.serve.problems import Refusal, going_on
from proxybox.serve.sessions import Sessions
from proxybox.serve.store import ServiceStore
from proxybox.serve.trial import TrialFailed, try_out
from proxybox.serve.wiredata import WorkerState
from proxybox.serve.workeranswers import JobAnswer, ResultFacts
from proxybox.serve.workerjobs import MemoryJob, RunJob
from proxybox.serve.workers import LineKind, OnEvent, WorkerJob, WorkerLost

#: Seconds without a job after which memory is returned to the kernel.
_CALM: Final = 3.0
#: The most seconds that a request for the state of the workers takes.
_SOON: Final = 2.0


class Service:
    """One service. It takes requests while `state` is "ready"; otherwise `why` has the reason.

    has_keys: whether keys decide who may use it; otherwise, the code that uses the service checks its callers.
    """

    def __init__(self, config: ServiceConfig, *, has_keys: bool = True) -> None:
        self.config = config
        self.state, self.why = "starting", "the service tests its boxes"
        self.began = time.time()
        self.has_started = self._has_ended = False
        self.authority = Authority(config, decides=has_keys)
        self.metrics = Metrics()
        self.jobs = ServiceJobs(config, self.authority)
        self.jobs.on_lost.append(lambda _: self.metrics.workers_lost.inc())
        self.store: ServiceStore
        self.sessions: Sessions
        self._running: dict[tuple[str, str], WorkerJob | None] = {}  # by key and id; None for a run that waits
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the workers, and begins the trial of the service; `state` changes when that has ended.

        Raises StoreError and KeysError.
        """
        self.has_started = True
        self.authority.begin()
        name = f"{socket.gethostname()} {self.config.listen}"
        self.store = await asyncio.to_thread(ServiceStore, self.config.database_url, name, self.config.retention)
        self.sessions = Sessions(self.config.sessions, self.jobs, self.store)
        await self.jobs.workers.start()
        self.authority.on_look.append(self.sessions.end_unless)
        work = self._try_out(), self.sessions.watch(), self._give_back_memory(), self.authority.watch()
        self._tasks = [asyncio.create_task(each) for each in work]

    async def _try_out(self) -> None:
        try:
            await try_out(self.jobs)
        except TrialFailed as error:
            self.state, self.why = "failed", str(error)
        else:
            if self.state == "starting":
                self.state, self.why = "ready", ""

    async def _give_back_memory(self) -> None:
        """Returns memory to the kernel, once after many requests."""
        seen = counted = 0
        while True:
            await asyncio.sleep(_CALM)
            began, seen = seen, self.jobs.begun
            if seen == began != counted and not self.jobs.are_any:
                counted = seen
                give_back()
                for number in tuple(self.jobs.workers.processes):
                    with going_on("memory is not returned"), contextlib.suppress(Refusal, WorkerLost):
                        await self.jobs.ask_itself(MemoryJob(), number)
                counted = seen = self.jobs.begun

    async def tried(self) -> None:
        """Waits until the trial has ended."""
        await asyncio.wait(self._tasks[:1])

    async def drain(self) -> None:
        """Takes no further requests, and waits for the running ones, for as long as the configuration says."""
        self.state, self.why = "draining", "the service is about to end"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain):
                while self.jobs.are_any:
                    await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Ends the service; may be called more than once."""
        if self._has_ended:
            return
        self._has_ended = True
        self.state, self.why = "draining", "the service has ended"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with going_on("the sessions are not closed"):
            await self.sessions.close()
        with going_on("the workers are not closed"):
            await self.jobs.workers.close()
        await asyncio.to_thread(self.store.close)

    async def look(self) -> dict[int, WorkerState]:
        """Returns the state of each worker's pools and sessions, without workers that do not answer soon."""

        async def ask(number: int) -> WorkerState | None:
            try:
                async with asyncio.timeout(_SOON):
                    return await self.jobs.state(number)
            except (TimeoutError, Refusal, WorkerLost):
                return None

        numbers = sorted(self.jobs.workers.processes)
        found = await asyncio.gather(*map(ask, numbers))
        return {number: state for number, state in zip(numbers, found, strict=True) if state is not None}

    # --- what doors ask -----------------------------------------------------------------------------------------------

    async def run(
        self,
        caller: Caller,
        asked: Mapping[str, Any],
        *,
        identity: str = "",
        on_event: OnEvent | None = None,
    ) -> JobAnswer:
        """Runs a program and returns its Result as JSON.

        asked: the fields of a `RunJob` that doors choose; policy and language are names, or None. identity: the id by
        which the caller can use the run while it runs; "" for none. on_event: gets the events of the run. When the task
        is cancelled, the box is ended. A run whose worker ends is begun once more, on another worker, unless its caller
        has received an event of it or it can change files of the host. Raises Refusal.
        """
        job = RunJob(**{
            **asked, "policy": self.jobs.policy(caller, asked.get("policy")),
            "language": self.jobs.language(asked.get("language")), "stream": on_event is not None,
        })  # fmt: skip
        began = time.monotonic()
        kind: LineKind = "live" if job.interactive or job.env else "run"
        with self._reachable(caller, identity) as on_begin:
            try:
                data = await self.jobs.ask(
                    kind, caller, job, on_event=on_event, on_begin=on_begin,
                    is_repeatable=not self.config.policies[job.policy].filesystem.changes_host,
                )  # fmt: skip
            except WorkerLost as error:
                why = f"{error}: the program may have run in part"
                raise Refusal("worker-lost", why, headers={"Retry-After": "1"}) from None
        if isinstance(data.facts, ResultFacts):
            self.metrics.ran(data.facts, time.monotonic() - began)
        return data

    @contextlib.contextmanager
    def _reachable(self, caller: Caller, identity: str) -> Iterator[Callable[[WorkerJob], object]]:
        """A context in which a run can be found by its id; yields a function to be called when it begins.

        Raises Refusal.
        """
        self.check_free(caller, identity)
        name = caller.key, identity
        self._running[name] = None
        try:
            yield lambda job: self._running.update({name: job})
        finally:
            self._running.pop(name, None)

    def check_free(self, caller: Caller, identity: str) -> None:
        """Checks that no run of this caller has this id. Raises Refusal."""
        if identity and (caller.key, identity) in self._running:
            raise Refusal("conflict", "a run that was asked for with this X-Request-Id goes on")

    def running(self, caller: Caller, identity: str) -> WorkerJob:
        """Returns a run of this caller that has not ended. Raises Refusal."""
        job = self._running.get((caller.key, identity))
        if job is None:
            raise Refusal("not-found", "there is no such run, or it has ended")
        return job
