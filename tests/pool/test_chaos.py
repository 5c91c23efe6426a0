"""Processes are killed while a pool works: every caller gets its right answer or the right error, and nothing is left.

A seed determines which process is killed, and when. The kernel's effects differ between runs, but not what callers may
see.
"""

import contextlib
import os
import random
import signal
import threading
from pathlib import Path

import pytest

import proxybox
from proxybox import Pool, Status
from tests.pool.conftest import below, children

pytestmark = pytest.mark.full  # kills in loops

#: Runs with processes, runs in one process, callers at once, and runs between two kills.
RUNS, IN_ONE_PROCESS, CALLERS, BETWEEN = 900, 500, 8, 20


class Killer:
    """Kills one of the pool's processes at every BETWEENth run."""

    def __init__(self, before: set[str], seed: int) -> None:
        self._before = before
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._runs = 0
        self.killed = {"guest": 0, "worker": 0}

    def ran(self) -> None:
        """Counts a run that has ended."""
        with self._lock:
            self._runs += 1
            if self._runs % BETWEEN == BETWEEN // 2:  # so the last runs end after the last kill
                self._kill()

    def _kill(self) -> None:
        direct = sorted(children() - self._before)
        workers = [pid for pid in direct if self._is_python(pid)]
        guests = [pid for pid in direct if pid not in workers] + [pid for worker in workers for pid in below(worker)]
        # Zygotes and inits are among the guests. A worker's end ends all its boxes, so only every tenth victim is a
        # worker.
        is_its_turn = sum(self.killed.values()) % 10 == 9
        kind, victims = ("worker", workers) if workers and is_its_turn else ("guest", guests)
        for victim in self._random.sample(victims, len(victims)):
            with contextlib.suppress(ProcessLookupError):  # it has already ended: try another one
                os.kill(int(victim), signal.SIGKILL)
                self.killed[kind] += 1
                return

    @staticmethod
    def _is_python(pid: str) -> bool:
        try:
            return b"proxybox/worker.py" in Path("/proc", pid, "cmdline").read_bytes()
        except OSError:
            return False


@pytest.mark.timeout(600)
@pytest.mark.parametrize("processes", [0, 2], ids=["here", "processes"])
def test_processes_are_killed_at_random(processes: int) -> None:
    before = children()
    killer = Killer(before, seed=processes)
    wrong: list[proxybox.Result | BaseException] = []
    ended = {"ok": 0, "killed": 0, "lost": 0}
    numbers = iter(range(RUNS if processes else IN_ONE_PROCESS))
    lock = threading.Lock()

    def caller(pool: Pool) -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                result = pool.run(f"print({number}, input())", stdin=f"line {number}\n")
            except proxybox.SandboxStartError:  # its process was killed at each attempt to start it
                result = proxybox.Result(status=Status.INTERNAL_ERROR)
            except BaseException as error:
                wrong.append(error)
                continue
            killer.ran()
            if result.status is Status.OK and result.stdout == f"{number} line {number}\n":
                kind = "ok"
            elif result.status is Status.CRASHED and result.signal == signal.SIGKILL:
                kind = "killed"
            elif result.status is Status.INTERNAL_ERROR:
                kind = "lost"
            else:
                wrong.append(result)
                continue
            with lock:
                ended[kind] += 1

    with Pool(size=4, processes=processes) as pool:
        threads = [threading.Thread(target=caller, args=(pool,)) for _ in range(CALLERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert pool.run("print('well')").stdout == "well\n"
    assert sum(ended.values()) == (RUNS if processes else IN_ONE_PROCESS)
    assert ended["ok"] > 0.9 * sum(ended.values())
    assert killer.killed["guest"] > 20
    assert killer.killed["worker"] > (3 if processes else -1)
