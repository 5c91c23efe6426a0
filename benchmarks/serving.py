"""The service: the cost of a request beyond its box, and its rate, compared with a pool and a plain subprocess.

The client is a separate process, whose CPU time is measured, because it shares the CPUs with the service.
"""

import asyncio
import contextlib
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.figures import Figure, Target
from proxybox import Pool
from tests.serve.listening import listening, service

HELLO = "print('hello')"
#: Runs of each rate, connections at once, and requests that are timed alone.
RUNS, CLIENTS, ALONE = 2000, 8, 200
#: Python behind FastAPI without a box, as in many services.
PEER = """
import asyncio, sys
from fastapi import FastAPI
from pydantic import BaseModel
class Run(BaseModel):
    code: str
app = FastAPI()
@app.post("/v1/run")
async def run(body: Run) -> dict:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-c", body.code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE)
    stdout, stderr = await process.communicate()
    return {"status": process.returncode, "stdout": stdout.decode(), "stderr": stderr.decode()}
"""


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns figures of the pool, the service and the peer, measured one after the other."""
    say("a pool of two processes")
    pooled = _pool()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with _service(folder) as port:
            say("requests, one at a time")
            _client(port, 200, CLIENTS)
            alone = _client(port, ALONE, 1, pause=0.01)
            say("requests, eight at a time")
            served = _client(port, RUNS, CLIENTS)
        with _peer(folder) as port:
            say("a subprocess behind FastAPI")
            plain_alone = _client(port, ALONE // 4, 1, pause=0.01)
            plain = _client(port, RUNS // 8, CLIENTS)
    above = statistics.median(seconds - wall for seconds, wall in alone["times"])
    one, plain_one = (
        1e3 * statistics.median(each[0] for each in reported["times"]) for reported in (alone, plain_alone)
    )
    return [
        Figure(name="POST /v1/run of hello, above its box", value=1e3 * above, unit="ms",
               target=Target(of="value", at_most=2)),
        Figure(name="POST /v1/run of hello", value=one, unit="ms",
               floor="python3 by subprocess behind FastAPI", floor_value=plain_one),
        Figure(name="runs a second over HTTP", value=_rate(served), unit="/s", floor="Pool(processes=2)",
               floor_value=pooled),
        Figure(name="the same, without the client's CPU time", value=_rate(served, apart=True), unit="/s",
               floor="Pool(processes=2)", floor_value=pooled, target=Target(of="ratio", at_least=0.7)),
        Figure(name="the same", value=_rate(served, apart=True), unit="/s", floor="subprocess behind FastAPI",
               floor_value=_rate(plain, apart=True)),
        Figure(name="the client's CPU time of a request", value=1e3 * served["cpu"] / RUNS, unit="ms"),
    ]  # fmt: skip


def _rate(reported: dict, *, apart: bool = False) -> float:
    """Returns runs a second; apart: as if the client had CPUs of its own."""
    seconds = reported["seconds"] - (reported["cpu"] / len(os.sched_getaffinity(0)) if apart else 0)
    return len(reported["times"]) / seconds


def _pool() -> float:
    """Returns runs a second of a pool, used by as many threads as the service has connections."""
    with Pool(size=CLIENTS, processes=2) as pool, ThreadPoolExecutor(CLIENTS) as threads:
        list(threads.map(lambda _: pool.run(HELLO), range(200)))
        began = time.perf_counter()
        results = list(threads.map(lambda _: pool.run(HELLO), range(RUNS)))
        seconds = time.perf_counter() - began
    assert all(result.ok for result in results)
    return RUNS / seconds


@contextlib.contextmanager
def _service(folder: Path) -> Iterator[int]:
    """A context with a service of two workers; yields its port."""
    config = folder / "serve.toml"
    config.write_text(
        'listen = "127.0.0.1:0"\ndata = "data"\nworkers = 2\nslots = 4\n'
        '[policies]\ndefault = "default"\n[limits]\nconcurrency = 8\n'
    )
    with listening(service(config), folder / "service.log") as begun:
        yield begun.port


@contextlib.contextmanager
def _peer(folder: Path) -> Iterator[int]:
    (folder / "peer.py").write_text(PEER)
    options = ["--app-dir", str(folder), "--port", "0", "--no-access-log"]
    command = [sys.executable, "-m", "uvicorn", "peer:app", *options]
    with listening(command, folder / "peer.log", rb"running on (http://127\.0\.0\.1:\d+)") as begun:
        yield begun.port


# --- the client, in a process of its own ------------------------------------------------------------------------------


def _client(port: int, runs: int, clients: int, pause: float = 0.0) -> dict:
    """Sends runs, and returns their times, each with the box's own, the seconds of all, and the client's CPU time."""
    command = [sys.executable, "-m", "benchmarks.serving", str(port), str(runs), str(clients), str(pause)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    reported: dict = json.loads(done.stdout)
    return reported


async def _ask(port: int, runs: int, pause: float) -> list[tuple[float, float]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"code": HELLO}).encode()
    head = (
        "POST /v1/run HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", answer.lower())[1])  # type: ignore[index]
        result = json.loads(await reader.readexactly(length))
        assert result["stdout"] == "hello\n", result
        times.append((time.perf_counter() - began, result.get("usage", {}).get("wall", 0.0)))
        if pause:
            await asyncio.sleep(pause)
    writer.close()
    return times


async def _main(port: int, runs: int, clients: int, pause: float) -> None:
    began = time.perf_counter()
    times = await asyncio.gather(*(_ask(port, runs // clients, pause) for _ in range(clients)))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({
        "times": [each for some in times for each in some], "seconds": time.perf_counter() - began,
        "cpu": used.ru_utime + used.ru_stime,
    }))  # fmt: skip


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
