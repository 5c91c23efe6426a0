"""The service: what every door asks for a run or a session, whatever protocol it speaks.

door ── Service.run ──┐
     ── Sessions ─────┴─ Jobs ── gate ── a line of a worker ── the box
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxybox.serve.callers import ANONYMOUS, Caller
from proxybox.serve.config import Config
from proxybox.serve.jobs import Jobs
from proxybox.serve.keys import Keys
from proxybox.serve.memory import give_back
from proxybox.serve.metrics import Metrics
from proxybox.serve.problems import Refusal
from proxybox.serve.sessions import Sessions
from proxybox.serve.store import Store
from proxybox.serve.trial import TrialFailed, try_out
from proxybox.serve.workers import Job, LineKind, WorkerLost

#: Seconds without a job after which memory is given back.
_CALM: Final = 3.0
#: Seconds that a look at the workers takes at most.
_SOON: Final = 2.0


class Service:
    """One service. It takes requests while `state` is "ready"; otherwise `why` says why not."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.state, self.why = "starting", "the service tries itself out"
        self.began = time.time()
        self.has_started = self._has_ended = False
        self.keys = Keys(config.keys_file)
        self._may_be_open = config.is_local and not config.require_keys
        self.metrics = Metrics()
        self.jobs = Jobs(config)
        self.jobs.on_lost.append(lambda _: self.metrics.workers_lost.inc())
        self.store: Store
        self.sessions: Sessions
        self._running: dict[str, tuple[str, Job]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts the workers, and begins to try itself out; `state` tells when that has ended. Raises StoreError."""
        self.has_started = True
        name = f"{socket.gethostname()} {self.config.listen}"
        self.store = await asyncio.to_thread(Store, self.config.database_url, name)
        self.sessions = Sessions(self.config.sessions, self.jobs, self.store)
        await self.jobs.workers.start()
        work = self._try_out(), self.sessions.watch(), self._give_back_memory()
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
        """Gives back, once after each rush of requests, what it has left behind."""
        seen = given = 0
        while True:
            await asyncio.sleep(_CALM)
            began, seen = seen, self.jobs.begun
            if seen == began != given and not self.jobs.are_any:
                given = seen
                give_back()
                for number in tuple(self.jobs.workers.processes):
                    with contextlib.suppress(Refusal, WorkerLost):
                        await self.jobs.ask_itself({"op": "give_back"}, number)
                given = seen = self.jobs.begun

    async def tried(self) -> None:
        """Waits until it has tried itself out."""
        await asyncio.wait(self._tasks[:1])

    async def drain(self) -> None:
        """Takes no further requests, and waits for what runs, for as long as the configuration says."""
        self.state, self.why = "draining", "the service is about to end"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.config.drain):
                while self.jobs.are_any:
                    await asyncio.sleep(0.05)

    async def close(self) -> None:
        """Ends everything; to be called once or more often."""
        if self._has_ended:
            return
        self._has_ended = True
        self.state, self.why = "draining", "the service has ended"
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.sessions.close()
        await self.jobs.workers.close()
        await asyncio.to_thread(self.store.close)

    async def look(self) -> list[dict[str, Any]]:
        """Returns what each worker says of its pools and sessions; nothing for one that does not answer soon."""

        async def ask(number: int) -> dict[str, Any] | None:
            try:
                async with asyncio.timeout(_SOON):
                    state: dict[str, Any] = await self.jobs.ask_itself({"op": "state"}, number)
                    return {"worker": number, **state}
            except (TimeoutError, Refusal, WorkerLost):
                return None

        found = await asyncio.gather(*(ask(number) for number in sorted(self.jobs.workers.processes)))
        return [state for state in found if state is not None]

    # --- what doors ask -----------------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether no key is needed: on loopback, while there is none. Raises KeysError."""
        return self._may_be_open and not self.keys.are_needed

    def caller(self, presented: str | None, *, is_open: bool) -> Caller:
        """Returns who has presented a key; None is no key, which will do where `is_open`. Raises Refusal."""
        if presented is not None:
            key = self.keys.find(presented)
            if key is not None:
                return Caller.of(key)
        elif is_open:
            return ANONYMOUS
        raise Refusal("unauthorized", headers={"WWW-Authenticate": "Bearer"})

    async def run(
        self,
        caller: Caller,
        asked: Mapping[str, Any],
        *,
        identity: str = "",
        on_event: Callable[[dict[str, Any]], Any] | None = None,
    ) -> bytes:
        """Runs a program and returns its Result as JSON.

        asked: code, or files with an entry, and what else a worker takes (worker.py); policy and language are names, or
        None. identity: by which the caller can reach the run while it goes on. on_event: gets what happens meanwhile.
        When the task is cancelled, the box is ended. A run whose worker ends is begun once more, on another worker,
        unless its caller has been told something of it or it can change files of the host. Raises Refusal.
        """
        job = {
            **asked, "op": "run", "policy": self.jobs.policy(caller, asked.get("policy")),
            "language": self.jobs.language(asked.get("language")), "stream": on_event is not None,
        }  # fmt: skip
        began = time.monotonic()
        kind: LineKind = "live" if asked.get("interactive") or asked.get("env") else "run"
        try:
            data = await self.jobs.ask(
                kind, caller, job, on_event=on_event,
                on_begin=lambda begun: self._running.update({identity: (caller.key, begun)}),
                is_repeatable=not self.config.policies[job["policy"]].filesystem.changes_host,
            )  # fmt: skip
        except WorkerLost as error:
            why = f"{error}: the program may have run in part"
            raise Refusal("worker-lost", why, headers={"Retry-After": "1"}) from None
        finally:
            self._running.pop(identity, None)
        self.metrics.ran(data, time.monotonic() - began)
        return data

    def running(self, caller: Caller, identity: str) -> Job:
        """Returns a run of this caller that goes on. Raises Refusal."""
        key, job = self._running.get(identity, (None, None))
        if job is None or key != caller.key:
            raise Refusal("not-found", "there is no such run, or it has ended")
        return job
