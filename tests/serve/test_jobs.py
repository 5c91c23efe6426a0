"""Jobs whose workers end: which of them are repeated, in whatever order things happen."""

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from proxybox.serve.authority import Authority
from proxybox.serve.callers import ANONYMOUS
from proxybox.serve.config import ServiceConfig
from proxybox.serve.jobs import ServiceJobs
from proxybox.serve.workerjobs import RunJob
from proxybox.serve.workers import Slot, WorkerJob, WorkerLost


class _Workers:
    """Workers that end with their jobs. ends: for each of them, whether it has begun the job before."""

    def __init__(self, *ends: bool) -> None:
        self.ends, self.asked = list(ends), 0

    async def ask(self, slot: Slot, job: object, *, on_begin: Any, **_: object) -> bytes:
        self.asked += 1
        doing = WorkerJob(self.asked, slot)
        on_begin(doing)
        if not self.ends:
            return b"done"
        error = WorkerLost(begun=self.ends.pop(0))
        error.job = doing
        slot.worker.ended = True
        raise error


def _jobs(folder: Path, *ends: bool, lines: int = 4) -> ServiceJobs:
    config = ServiceConfig(data=str(folder), workers=1)
    jobs = ServiceJobs(config, Authority(config))
    jobs.workers = _Workers(*ends)  # type: ignore[assignment]
    for number in range(lines):
        gone = asyncio.Event()
        gone.set()
        worker: Any = SimpleNamespace(
            number=number, express=False, ended=False, gone=gone, order=lambda *_, **__: None
        )  # fmt: skip
        jobs.gates["run"].free(Slot(worker, "run", None))  # type: ignore[arg-type]
    return jobs


def _ask(jobs: ServiceJobs, begun: list[WorkerJob], *, is_repeatable: bool = True) -> "asyncio.Task[bytes]":
    job = RunJob(policy="default", language="python", code="1")
    return asyncio.create_task(jobs.ask("run", ANONYMOUS, job, on_begin=begun.append, is_repeatable=is_repeatable))


@pytest.mark.parametrize(
    ("ends", "is_repeatable", "asked"),
    [
        ([False, False], False, 3), ([False, False, False], True, 3), ([True], True, 2), ([True, True], True, 2),
        ([True], False, 1), ([False, True], True, 3), ([False, False, True], True, 3), ([True, False], True, 3),
    ],
)  # fmt: skip
def test_how_often_a_job_is_begun(tmp_path: Path, ends: list[bool], is_repeatable: bool, asked: int) -> None:
    async def ask() -> bool:
        jobs = _jobs(tmp_path, *ends)
        try:
            return await _ask(jobs, [], is_repeatable=is_repeatable) == b"done"
        except WorkerLost:
            return False
        finally:
            assert jobs.workers.asked == asked  # type: ignore[attr-defined]

    assert asyncio.run(ask()) == (len(ends) < asked)


@pytest.mark.parametrize("begun", [True, False])
def test_what_is_told_to_a_job_between_two_workers_is_not_lost(tmp_path: Path, begun: bool) -> None:
    """Its client has an answer that the input was taken, or that the run was ended: so it is not repeated."""

    async def tell() -> None:
        jobs, seen = _jobs(tmp_path, begun, lines=1), []
        asking = _ask(jobs, seen)
        while not jobs.gates["run"].waiting:
            await asyncio.sleep(0)
        seen[0].cancel()
        worker: Any = SimpleNamespace(number=0, express=False, ended=False)
        jobs.gates["run"].free(Slot(worker, "run", None))  # type: ignore[arg-type]
        with pytest.raises(WorkerLost):
            await asking
        assert len(seen) == 1
        jobs.gates["run"].lost(seen[0]._slot.worker)
        assert (jobs.gates["run"].held, jobs.gates["run"].lines) == (0, 1)

    asyncio.run(asyncio.wait_for(tell(), 20))
