"""Warm boxes: from a pool, forked on demand, in a session, and a thousand at once."""

import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import proxybox
from benchmarks.bare import pypy
from benchmarks.figures import Figure, Target
from proxybox.controller.warm import zygotepool

PROGRAM = "print(1)"
ROUNDS = 300
#: Boxes for the figure per second.
CROWD = 3000
_PEERS = Path(__file__).resolve().parent.parent / ".venv-peers" / "bin" / "python"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians of latencies, and the costs of a thousand live boxes."""
    say("peers")
    peers = peers_of("monty", "eryx")
    monty, eryx = peers.get("monty", {}), peers.get("eryx", {})
    say("bubblewrap")
    bubblewrap = _bubblewrap()
    say("a box that stands ready")
    ready = _ready()
    say("a box forked on demand")
    demand = _on_demand()
    say("a session")
    session = _session()
    say(f"{CROWD} boxes")
    rate = _rate()
    say("a thousand boxes")
    crowd = _probe()
    wrapped = {"floor": "bubblewrap + pypy3", "floor_value": bubblewrap}
    figures = [
        Figure(name="box that stands ready, median", value=statistics.median(ready), unit="ms",
               **_of(monty, "fresh", "monty"), target=Target(of="value", at_most=0.5)),
        Figure(name="the same, 95th percentile", value=_percentile(ready, 95), unit="ms", **wrapped,
               target=Target(of="value", at_most=3)),
        Figure(name="box forked on demand, median", value=demand, unit="ms", **_of(eryx, "fresh", "eryx"),
               target=Target(of="value", at_most=2.2)),
        Figure(name="session.eval('1+1')", value=session["eval"] * 1e3, unit="us",
               **_of(monty, "session", "monty", 1e3), target=Target(of="value", at_most=50)),
        Figure(name="host function, from the guest", value=session["function"] * 1e3, unit="us",
               **_of(monty, "function", "monty", 1e3), target=Target(of="value", at_most=30)),
        Figure(name="session.fork()", value=session["fork"], unit="ms", target=Target(of="value", at_most=1.5)),
        Figure(name="fresh boxes, Pool(processes=2)", value=rate, unit="/s", target=Target(of="value", at_least=500)),
        Figure(name="1,000 live boxes, all together", value=crowd["total"], unit="MB",
               target=Target(of="value", at_most=1800)),
        Figure(name="controller, per live box", value=crowd["controller"], unit="MB"),
        Figure(name="descriptors, per live box", value=crowd["descriptors"], unit=""),
        Figure(name="session.eval beside 1,000 boxes", value=crowd["eval"] * 1e3, unit="us", floor="beside none",
               floor_value=crowd["eval_alone"] * 1e3),
    ]  # fmt: skip
    if crowd["guest"] is not None:
        figures.append(Figure(name="idle warm guest, private", value=crowd["guest"], unit="MB",
                              target=Target(of="value", at_most=1.2)))  # fmt: skip
    return figures


def _of(peer: dict[str, Any], key: str, name: str, scale: float = 1.0) -> dict[str, Any]:
    """Returns a peer's figure as the floor, if it has one."""
    return {"floor": name, "floor_value": peer[key] * scale} if key in peer else {}


def _percentile(values: list[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


def timed(measure: Callable[[], object]) -> float:
    """Returns the milliseconds of one call."""
    began = time.perf_counter()
    measure()
    return (time.perf_counter() - began) * 1e3


def _ready() -> list[float]:
    with proxybox.Pool(size=2) as pool:
        taken = []
        for number in range(ROUNDS + 20):
            time.sleep(0.01)  # so that the pool has filled again
            result: list[proxybox.Result] = []
            took = timed(lambda result=result: result.append(pool.run(PROGRAM)))  # type: ignore[misc]
            result[0].check()
            if number >= 20:
                taken.append(took)
    return taken


def _on_demand() -> float:
    with proxybox.Sandbox(warm=True) as box:
        taken = [timed(lambda: box.run(PROGRAM, check=True)) for _ in range(ROUNDS)]
    zygotepool.close()
    return statistics.median(taken[10:])


def _session() -> dict[str, float]:
    functions = {"add": lambda a, b: a + b}
    with proxybox.Sandbox(warm=True, functions=functions, session={"branches": 2}) as box, box.session() as session:
        session.exec(
            "import host, time\n"
            "def many(n):\n"
            "    began = time.perf_counter()\n"
            "    for _ in range(n):\n"
            "        host.add(1, 2)\n"
            "    return (time.perf_counter() - began) / n * 1000",
            check=True,
        )
        evals = [timed(lambda: session.eval("1+1")) for _ in range(5000)]
        calls = [session.call("many", 1000).check().value for _ in range(7)]
        forks = []
        for _ in range(50):
            copies: list[proxybox.Session] = []
            forks.append(timed(lambda copies=copies: copies.append(session.fork())))  # type: ignore[misc]
            copies[0].close()
    zygotepool.close()
    return {
        "eval": statistics.median(evals[1000:]),
        "function": statistics.median(calls[2:]),
        "fork": statistics.median(forks),
    }


def _rate() -> float:
    with proxybox.Pool(size=4, processes=2) as pool:
        for future in [pool.submit(PROGRAM) for _ in range(100)]:
            future.result().check()
        began = time.perf_counter()
        for future in [pool.submit(PROGRAM) for _ in range(CROWD)]:
            future.result().check()
        return CROWD / (time.perf_counter() - began)


def peers_of(*names: str) -> dict[str, Any]:
    """Returns the times of these peers (peers.py); an empty dict if they are not installed."""
    if not _PEERS.is_file():
        return {}
    script = Path(__file__).with_name("peers.py")
    reported = subprocess.run([str(_PEERS), str(script), *names], stdout=subprocess.PIPE, check=False).stdout
    found: dict[str, Any] = json.loads(reported or b"{}")
    return found


def _bubblewrap() -> float | None:
    program = shutil.which("bwrap")
    if program is None:
        return None
    command = [program, "--ro-bind", "/", "/", "--unshare-all", pypy(), "-c", PROGRAM]
    if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode:
        return None
    return statistics.median(
        timed(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)) for _ in range(15)
    )


def _probe() -> dict[str, Any]:
    probe = subprocess.run([sys.executable, "-m", "benchmarks.warm_probe"], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(probe.stdout)
    return found
