"""How the workers of a service share what is asked of them: sessions, and CPU time."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller import hostproc
from proxybox.serve.config import Config
from proxybox.serve.service import Service
from tests.process.test_background import may_set_others
from tests.serve.conftest import serving


async def _opened(config: Config, count: int) -> Counter[int]:
    """How many of so many sessions, asked for at once, each worker has."""
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
    config = Config(data=str(tmp_path), workers=2, express=False, live=8, policies={"default": "default"})
    assert asyncio.run(_opened(config, 8)) == {0: 4, 1: 4}


def _children(pid: int) -> Iterator[int]:
    for task in hostproc.threads(pid):
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split():
            yield int(child)
            yield from _children(int(child))


def _behind(pid: int) -> list[int]:
    found = []
    for child in tuple(_children(pid)):
        try:
            if os.sched_getscheduler(child) == os.SCHED_IDLE:
                found.append(child)
        except ProcessLookupError:
            pass
    return found


@pytest.mark.skipif(not may_set_others(), reason="root without CAP_SYS_NICE may not do it")
def test_a_session_that_computes_for_long_goes_to_the_background(tmp_path: Path) -> None:
    with serving(tmp_path, "background_after = 0.05") as server:
        busy, other = server.session(), server.session()
        told: list[dict[str, Any]] = []
        thread = threading.Thread(target=lambda: told.append(server.execute(busy, "while True: pass")))
        thread.start()
        while thread.is_alive() and not _behind(server.process.pid):
            thread.join(0.005)
        behind = _behind(server.process.pid)
        while thread.is_alive():  # it may be before its loop
            server.post(f"{busy}/interrupt")
            thread.join(0.05)
        assert len(behind) == 1
        assert told[0]["error"]["type"] == "KeyboardInterrupt"
        assert server.execute(other, "print(6 * 7)")["stdout"] == "42\n"
        assert _behind(server.process.pid) == behind
