"""Many clients of one service for a while: good and hostile programs, with measured answers, times and memory.

usage: python -m tests.soak.serving [--clients N] [--seconds S] [--kill | --flood]

Each answer is checked. With --kill, workers and guests are killed meanwhile, and the service itself once, which is then
started again: a request may then be answered by an error that says so, and by nothing else. With --flood, one key
floods the service while another one asks now and then, whose times are printed with the flood and without. All traffic
stays on this machine's loopback. It ends with 0 when no answer was wrong and none was lost.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tests.serve.listening import listening, service

CONFIG = """
listen = "127.0.0.1:{port}"
data = "{data}"
workers = 2
slots = 4
require_keys = true
[policies.default]
extends = "default"
limits = {{ wall_time = 3, cpu_time = 0.2, memory = "128M", calls = 20000 }}
[policies.strict]
extends = "strict"
limits = {{ wall_time = 3, cpu_time = 0.2, memory = "128M" }}
[limits]
queue = 4096
queue_wait = "120s"
"""

#: Programs of clients: how often, the code, the possible ends, and the output, where it is known.
PROGRAMS: tuple[tuple[int, str, tuple[str, ...], str | None], ...] = (
    (60, "print({n} * 7)", ("ok",), "{n7}\n"),
    (12, "import json\nprint(json.dumps({{'n': {n}}}))", ("ok",), '{{"n": {n}}}\n'),
    (8, "raise ValueError({n})", ("error",), ""),
    (4, "for i in range(10): open(f'f{{i}}', 'w').write('x' * {n})\nprint({n})", ("ok",), "{n}\n"),
    (3, "while True: pass", ("time_limit",), None),
    (2, "x = []\nwhile True: x.append(bytearray(1 << 20))", ("memory_limit", "time_limit", "error"), None),
    (2, "while True: print('x' * 1000)", ("time_limit", "output_limit", "call_limit"), None),
    (2, "import os\nwhile True: os.fork()", ("error", "time_limit", "crashed", "memory_limit"), None),
    (2, "import os\nos.kill(os.getpid(), 9)", ("crashed",), ""),
    (2, "import socket\nsocket.create_connection(('127.0.0.1', {port}))", ("error",), ""),
    (1, "open('/etc/shadow').read()", ("error",), ""),
    (1, "import ctypes\nctypes.string_at(1)", ("crashed",), ""),
    (1, "import os\nprint(dict(os.environ))\nos.execv('/bin/sh', ['sh'])", ("error",), None),
)  # fmt: skip


class Client:
    """A client: one connection, and one request after the other. tally: gets the results."""

    def __init__(self, number: int, port: int, key: str, tally: "Tally", may_fail: bool) -> None:
        self._random = random.Random(number)
        self._port, self._key, self._tally, self._may_fail = port, key, tally, may_fail
        self._weights = [program[0] for program in PROGRAMS]

    async def go_on(self, until: float) -> None:
        """Sends requests until a time."""
        while time.monotonic() < until:
            with contextlib.suppress(OSError, EOFError):
                async with _connection(self._port) as (reader, writer):
                    while time.monotonic() < until:
                        await self._one(reader, writer)
                continue
            self._tally.broken += 1
            if not self._may_fail:
                return
            await asyncio.sleep(0.2)  # the service is being started again

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (program,) = self._random.choices(PROGRAMS, self._weights)
        _, code, statuses, printed = program
        number = self._random.randrange(1, 10**6)
        code = code.format(n=number, port=self._port)
        began = time.perf_counter()
        status, result = await _request(reader, writer, self._key, {"code": code})
        self._tally.times.append(time.perf_counter() - began)
        ended = result.get("status", result.get("type"))
        self._tally.ends[str(ended)] += 1
        if status == 200 and ended in statuses:
            if printed is not None and result["stdout"] != printed.format(n=number, n7=number * 7):
                self._tally.wrong.append((code, result))
        elif not (self._may_fail and (ended in ("internal_error", "crashed") or status == 503)):
            self._tally.wrong.append((code, result))


class Tally:
    """The results of all requests. broken: connections that ended during one."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.ends: Counter[str] = Counter()
        self.wrong: list[tuple[str, Any]] = []
        self.broken = 0


@contextlib.asynccontextmanager
async def _connection(port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    try:
        yield reader, writer
    finally:
        writer.close()


async def _request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str, body: Any
) -> tuple[int, dict[str, Any]]:
    data = json.dumps(body).encode()
    writer.write(
        f"POST /v1/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n".encode()
        + data
    )
    head = await reader.readuntil(b"\r\n\r\n")
    found = re.search(rb"content-length: (\d+)", head.lower())
    if found is None:
        raise EOFError
    return int(head[9:12]), json.loads(await reader.readexactly(int(found[1])))


# --- the service ------------------------------------------------------------------------------------------------------


class Service:
    """A service that can be killed, and started again at the same port."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._running = folder, contextlib.ExitStack()
        self.port = 0
        self.start()

    def start(self) -> None:
        """Starts the service, and returns when it is ready."""
        config = self._folder / "serve.toml"
        config.write_text(CONFIG.format(port=self.port, data=self._folder / "data"))
        begun = self._running.enter_context(listening(service(config), self._folder / "log"))
        self.port, self.pid = begun.port, begun.process.pid

    def kill(self) -> None:
        """Kills the service."""
        os.kill(self.pid, signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Ends the service, and returns when it has ended."""
        self._running.close()


def family(pid: int) -> Iterator[int]:
    """Yields the ids of a process and of all its descendants."""
    yield pid
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def resident(pid: int) -> tuple[int, int]:
    """Returns the memory of the service and its workers in MB, without guests: resident, and private of that."""
    used = [0, 0]
    for each in family(pid):
        with contextlib.suppress(OSError):
            if b"proxybox" in Path(f"/proc/{each}/cmdline").read_bytes().split(b"pypy")[0]:
                rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
                for at, name in enumerate(("Rss", r"Private_\w+")):
                    used[at] += sum(int(size) for size in re.findall(rf"^{name}: +(\d+)", rollup, re.MULTILINE))
    return used[0] >> 10, used[1] >> 10


async def _kill(running: Service, until: float) -> None:
    """Kills a worker or a guest from time to time, and the service once."""
    chance = random.Random(1)
    half = time.monotonic() + (until - time.monotonic()) / 2
    while time.monotonic() < until - 5:
        await asyncio.sleep(0.5)
        if half is not None and time.monotonic() > half:
            half = None
            await asyncio.to_thread(running.kill)
            await asyncio.to_thread(running.start)
            continue
        below = list(family(running.pid))[1:]
        if below:
            with contextlib.suppress(OSError):
                os.kill(chance.choice(below), signal.SIGKILL)


async def soak(clients: int, seconds: float, kill: bool, folder: Path) -> int:
    """Runs the soak, prints the results, and returns the exit status."""
    from proxybox.serve.keys import Keys

    keys = Keys(folder / "data" / "keys.json")
    made = [keys.add(f"key{number}") for number in range(20)]
    running = Service(folder)
    port, warm = running.port, Tally()
    try:
        await asyncio.gather(
            *(Client(n, port, made[n % 20], warm, False).go_on(time.monotonic() + 5) for n in range(16))
        )
        before, tally, until = resident(running.pid), Tally(), time.monotonic() + seconds
        work = [Client(1000 + n, port, made[n % 20], tally, kill).go_on(until) for n in range(clients)]
        await asyncio.gather(*work, *([_kill(running, until)] if kill else []))
        print(
            f"{clients} clients, {seconds:g} s: {len(tally.times):,} answers, {len(tally.times) / seconds:.0f} a second"
        )
        print("ended with:", ", ".join(f"{count:,} {end}" for end, count in tally.ends.most_common()))
        cuts = statistics.quantiles(tally.times, n=100)
        print(f"answered in: median {cuts[49]:.2f} s, 99 % {cuts[98]:.2f} s, longest {max(tally.times):.2f} s")
        print(f"wrong answers: {len(tally.wrong)}; connections that broke: {tally.broken}")
        for code, result in tally.wrong[:5]:
            print("  ", repr(code), str(result)[:400])
        if not kill:
            await asyncio.sleep(10)  # an idle service gives memory back
            after = resident(running.pid)
            for what, was, now in zip(("resident", "of that private"), before, after, strict=True):
                print(f"memory of the service and its workers, {what}: {was} MB before, {now} MB after")
        return 1 if tally.wrong or (tally.broken and not kill) else 0
    finally:
        running.end()


async def flood(clients: int, seconds: float, folder: Path) -> int:
    """Prints how long one key waits while another one floods the service, and while none does."""
    from proxybox.serve.keys import Keys

    keys = Keys(folder / "data" / "keys.json")
    quiet, loud = keys.add("quiet"), keys.add("loud")
    running, loop = Service(folder), asyncio.get_running_loop()
    port = running.port
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=os.setsid) as elsewhere:
            await _ask(port, quiet, 3, 0)
            alone = await _ask(port, quiet, seconds, 0.02)
            others = loop.run_in_executor(elsewhere, _pour, port, loud, clients, seconds)
            beside = await _ask(port, quiet, seconds, 0.02)
            answers, used = await others
        for name, times in (("alone", alone), ("beside the flood", beside)):
            cuts = statistics.quantiles(times, n=100)
            print(f"the quiet key {name}: median {1e3 * cuts[49]:.1f} ms, 99 % {1e3 * cuts[98]:.1f} ms ({len(times)})")
        print(
            f"the key that floods, with {clients} connections: {answers / seconds:.0f} answers a second; "
            f"its clients used {used / seconds:.2f} CPUs"
        )
        return 0
    finally:
        running.end()


async def _ask(port: int, key: str, seconds: float, pause: float) -> list[float]:
    """Runs a program again and again, and returns the time of each run in seconds."""
    times, until = [], time.monotonic() + seconds
    async with _connection(port) as (reader, writer):
        while time.monotonic() < until:
            began = time.perf_counter()
            status, result = await _request(reader, writer, key, {"code": "print('hello')"})
            if status != 200 or result["stdout"] != "hello\n":
                raise SystemExit(f"{status}: {result}")
            times.append(time.perf_counter() - began)
            await asyncio.sleep(pause)
    return times


def _pour(port: int, key: str, clients: int, seconds: float) -> tuple[int, float]:
    """Floods the service, and returns the number of answers, and the CPU time of the clients."""

    async def all_of_them() -> int:
        return sum(map(len, await asyncio.gather(*(_ask(port, key, seconds, 0) for _ in range(clients)))))

    return asyncio.run(all_of_them()), time.process_time()


def main() -> int:
    """Parses the command line, and runs the soak; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--flood", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if options.flood:
            return asyncio.run(flood(options.clients, options.seconds, Path(name)))
        return asyncio.run(soak(options.clients, options.seconds, options.kill, Path(name)))


if __name__ == "__main__":
    sys.exit(main())
