"""ServiceJobs: each job waits at the gate for a free line of a worker, which then does it (gate.py, workers.py)."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.jsonvalues import JSONObject
from proxybox.policies.errors import PolicyError
from proxybox.policies.overrides import check_timeout, within
from proxybox.serve.authority import Authority
from proxybox.serve.callers import ITSELF, Caller
from proxybox.serve.config import ServiceConfig
from proxybox.serve.gate import Gate, Overloaded
from proxybox.serve.problems import Refusal
from proxybox.serve.setup import Setup
from proxybox.serve.wiredata import WorkerState, read
from proxybox.serve.workeranswers import ANSWERS, JobAnswer
from proxybox.serve.workerjobs import AnyJob, ExecuteJob, OpenJob, RunJob, StateJob
from proxybox.serve.workers import (
    JobFailed,
    LineKind,
    OnEvent,
    ServiceWorkers,
    Slot,
    Transfer,
    WorkerJob,
    WorkerLost,
    WorkerProcess,
)

log = logging.getLogger("proxybox.serve")

#: The most workers that get a job, one after the other, while each dies before it has begun the job.
_TRIES: Final = 3
#: Seconds to wait until a worker whose socket is closed has ended: after that, its lines are not used again.
_GOES: Final = 1.0


class ServiceJobs:
    """The jobs of a service.

    on_lost: functions that are called with a worker that has died. begun: how many jobs were begun.
    """

    def __init__(self, config: ServiceConfig, authority: Authority) -> None:
        self.config, self._authority = config, authority
        self.on_lost: list[Callable[[WorkerProcess], object]] = []
        self.begun = 0
        limits = config.limits
        shares: Mapping[LineKind, int] = {"run": config.share, "live": config.live_share, "file": config.live_share}
        self.gates = {
            kind: Gate(kind, share=share, queue=limits.queue, patience=limits.queue_wait)
            for kind, share in shares.items()
        }
        setup = Setup(
            policies=dict(config.policies), slots=config.slots, input_wait=limits.input_wait,
            record=limits.record,
            interpreters={name: language.interpreter() for name, language in config.languages.items()},
        )  # fmt: skip
        self.workers = ServiceWorkers(
            setup, config.workers, config.live, express=config.express, on_free=self._free, on_lost=self._lost
        )

    @property
    def are_any(self) -> bool:
        """Whether any job runs or waits."""
        return any(gate.held or gate.waiting for gate in self.gates.values())

    def _free(self, slot: Slot) -> None:
        self.gates[slot.kind].free(slot)

    def _lost(self, worker: WorkerProcess) -> None:
        for gate in self.gates.values():
            gate.lost(worker)
        for tell in self.on_lost:
            tell(worker)

    # --- what is asked for --------------------------------------------------------------------------------------------

    def policy(self, caller: Caller, name: str | None) -> str:
        """Returns the name of the policy for a caller that requests `name`. Raises Refusal."""
        allowed = [each for each in self.config.policies if caller.policies is None or each in caller.policies]
        if name is None and allowed:
            return allowed[0]
        if name in allowed:
            return str(name)
        if name in self.config.policies or not allowed:
            raise Refusal("forbidden", f"this key may use these policies: {', '.join(allowed) or 'none'}")
        raise Refusal("invalid", errors=[_fault("policy", f"there is no such policy (allowed: {', '.join(allowed)})")])

    def language(self, name: str | None) -> str:
        """Returns the name of the language for a request of `name`. Raises Refusal."""
        if name is None:
            return next(iter(self.config.languages))
        if name in self.config.languages:
            return name
        allowed = ", ".join(self.config.languages)
        raise Refusal("invalid", errors=[_fault("language", f"there is no such language (allowed: {allowed})")])

    def record_limit(self) -> int:
        """Returns how many bytes a record may have. Raises Refusal where the service makes no records."""
        limit = self.config.limits.record
        if limit is None:
            why = "this service gives no records (its configuration can allow them: limits.record)"
            raise Refusal("invalid", errors=[_fault("record", why)])
        return limit

    def within(self, policy: str, wanted: Mapping[str, float]) -> dict[str, dict[str, float]]:
        """Returns `limits` and `output` of a run: `wanted` (keys such as "limits.memory"), reduced to the policy's."""
        return within(self.config.policies[policy], wanted)

    # --- doing it -----------------------------------------------------------------------------------------------------

    async def ask(
        self, kind: LineKind, caller: Caller, job: AnyJob, *,
        on_event: OnEvent | None = None, on_begin: Callable[[WorkerJob], object] | None = None,
        worker: int | None = None, transfer: Transfer | None = None, is_repeatable: bool = False,
    ) -> JobAnswer:  # fmt: skip
        """Does a job (`ServiceWorkers.ask`) when it is this caller's turn, while the caller may use the service.

        job: its `timeout`, if it has one, is checked against its `policy`, for all doors.
        worker: the number of the only worker that can do it. is_repeatable: whether the job may be done once more when
        its worker has ended after the job had begun. It is repeated only once, because the job itself may be the cause.
        It is not repeated when its caller knows that it had begun. Raises Refusal and WorkerLost.
        """
        self._check_timeout(job)
        self.begun += 1
        with self._authority.using(caller):
            return await self._ask(
                kind, caller, job, on_event=on_event, on_begin=on_begin, worker=worker, transfer=transfer,
                is_repeatable=is_repeatable,
            )  # fmt: skip

    def _check_timeout(self, job: AnyJob) -> None:
        """Raises Refusal for a job whose timeout its policy does not allow."""
        try:
            if isinstance(job, RunJob | OpenJob | ExecuteJob) and job.timeout is not None:
                check_timeout(self.config.policies[job.policy], job.timeout)
        except PolicyError as error:
            raise Refusal("invalid", str(error), errors=[_fault("timeout", str(error))]) from None

    async def _ask(
        self, kind: LineKind, caller: Caller, job: AnyJob, *,
        on_event: OnEvent | None, on_begin: Callable[[WorkerJob], object] | None,
        worker: int | None, transfer: Transfer | None, is_repeatable: bool,
    ) -> JobAnswer:  # fmt: skip
        before: WorkerLost | None = None
        for left in reversed(range(_TRIES)):
            slot = await self._enter(kind, caller, worker)
            if before is not None and before.shared:  # its caller has sent it something since, which is lost
                self._free(slot)
                raise before
            try:
                return await self.workers.ask(slot, job, on_event=on_event, on_begin=on_begin, transfer=transfer)
            except JobFailed as failed:
                raise refusal_of(failed) from None
            except WorkerLost as lost:
                if not left or worker is not None or lost.shared or (lost.begun and not is_repeatable):
                    raise
                is_repeatable = is_repeatable and not lost.begun
                before = lost
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(slot.worker.gone.wait(), _GOES)
        raise AssertionError

    async def _enter(self, kind: LineKind, caller: Caller, worker: int | None) -> Slot:
        try:
            return await self.gates[kind].enter(caller.key, share=caller.concurrency, worker=worker)
        except Overloaded as error:
            why = "rate-limited" if error.is_own else "overloaded"
            raise Refusal(why, str(error), headers={"Retry-After": str(error.retry_after)}) from None

    async def ask_itself(self, job: AnyJob, worker: int | None = None) -> Any:
        """Does a job of the service's own, and returns the result. Raises Refusal and WorkerLost."""
        answer = await self.ask("run" if job.op == "run" else "live", ITSELF, job, worker=worker)
        try:
            return attrs.asdict(read(ANSWERS[job.op], answer))
        except (ValueError, RecursionError):  # one that is large enough for being passed on unread
            raise WorkerLost(begun=True) from None

    async def state(self, worker: int) -> WorkerState:
        """Returns the state that a worker reports. Raises Refusal, and WorkerLost also for an invalid report."""
        return read(WorkerState, await self.ask("live", ITSELF, StateJob(), worker=worker))


def refusal_of(failed: JobFailed) -> Refusal:
    """Returns the refusal for a job that a worker could not do."""
    failure = failed.failure
    errors = [{"loc": ["body", *fault.loc], "msg": fault.msg} for fault in failure.errors]
    if failure.type == "invalid" and not errors:
        errors = [{"loc": ["body"], "msg": str(failed)}]
    more: JSONObject = {key: value for key, value in (("errno", failure.errno), ("result", failure.result)) if value}
    kind = "disk-limit" if failure.errno == "ENOSPC" else failure.type.replace("_", "-")
    if kind in ("internal-error", "cannot-start"):  # the reason is not for clients
        log.error("a worker failed: %s", failed)
        return Refusal(kind, headers={"Retry-After": "5"} if kind == "cannot-start" else None)
    return Refusal(kind, str(failed), errors=errors, **more)


def _fault(key: str, message: str) -> dict[str, Any]:
    return {"loc": ["body", key], "msg": message}
