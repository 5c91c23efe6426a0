"""Messages to a pool's process about its jobs, on a socket of their own: at any moment, and for the right job."""

import pickle
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from proxybox import Policy, Program, Result, Status
from proxybox.pool.worker import _Jobs


class Seen:
    """Boxes that run nothing. cancelled: for each job, whether it was cancelled when it began."""

    policy = Policy()

    def __init__(self) -> None:
        self.cancelled: list[bool] = []

    def run(self, job: Any) -> Result:
        self.cancelled.append(job.running.is_cancelled)
        return Result(status=Status.OK)


def give(pool: Connection) -> None:
    pool.send_bytes(pickle.dumps(("run", Program.source("pass", []), None, None, [], None)))
    assert pickle.loads(pool.recv_bytes())[0] == "result"


@pytest.fixture
def pair() -> Any:
    pool, worker = Pipe()
    seen = Seen()
    jobs = _Jobs(seen, lambda _: None, worker)  # type: ignore[arg-type]
    yield pool, jobs, seen.cancelled
    pool.close()
    jobs.thread.join(60)
    worker.close()


def test_a_job_that_is_cancelled_before_it_was_read_is_cancelled_when_it_begins(pair: Any) -> None:
    pool, jobs, cancelled = pair
    jobs.tell(1, "interrupt")
    jobs.tell(1, "cancel")
    give(pool)
    give(pool)
    assert cancelled == [True, False]


def test_what_comes_too_late_hits_no_other_job(pair: Any) -> None:
    pool, jobs, cancelled = pair
    for number in range(3):
        give(pool)
        jobs.tell(number, "cancel")  # the job before
        jobs.tell(number + 1, "cancel")  # this job, which has ended
    assert cancelled == [False, False, False]


def test_jobs_that_are_given_up_are_cancelled_whenever_they_are_read(pair: Any) -> None:
    pool, jobs, cancelled = pair
    jobs.give_up()
    give(pool)
    assert cancelled == [True]
