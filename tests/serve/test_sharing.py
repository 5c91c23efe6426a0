"""How the workers of a service share sessions and CPU time."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxybox.controller import hostproc
from proxybox.controller.process import priority
from proxybox.serve.config import ServiceConfig
from proxybox.serve.service import Service
from tests.serve.conftest import serving


async def _opened(config: ServiceConfig, count: int) -> Counter[int]:
    """Opens `count` sessions at once, and returns how many each worker has."""
    service = Service(config)
    await service.start()
    try:
        keys = service.authority.keys
        shown = [keys.add(str(number)) for number in range(count)]
        callers = [service.authority.caller(key, "/v1/sessions", is_open=False) for key in shown]
        opened = await asyncio.gather(*(service.sessions.open(caller, {}) for caller in callers))
        return Counter(session.worker.number for session in opened)
    finally:
        await service.close()


def test_sessions_that_are_asked_for_at_once_are_spread_over_the_workers(tmp_path: Path) -> None:
    config = ServiceConfig(data=str(tmp_path), workers=2, express=False, live=8, policies={"default": "default"})
    assert asyncio.run(_opened(config, 8)) == {0: 4, 1: 4}


def _children(pid: int) -> Iterator[int]:
    for task in hostproc.threads(pid):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield int(child)
            yield from _children(int(child))


@pytest.mark.full
def test_the_express_comes_before_the_other_workers_by_a_small_step(tmp_path: Path) -> None:
    """With a much lower priority a worker would not run at all beside other programs of the host."""
    with serving(tmp_path, "workers = 1\nexpress = true") as server:
        assert server.execute(server.session(), "print(6 * 7)")["stdout"] == "42\n"
        own = os.getpriority(os.PRIO_PROCESS, server.process.pid)
        seen = {os.getpriority(os.PRIO_PROCESS, pid) for pid in _children(server.process.pid)}
    assert {own, min(own + 3, priority.LOWEST)} <= seen
    assert max(seen) <= own + 12
