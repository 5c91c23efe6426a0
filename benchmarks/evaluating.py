"""Expressions of users: in a box that is used again, in copies that are ready, and with peers that have no box."""

import statistics
import time
from collections.abc import Callable

import proxybox
from benchmarks.figures import Figure, Target
from benchmarks.peers import EXPRESSION, NAMES
from benchmarks.warm import peers_of, timed
from proxybox.controller.warm import zygotepool
from proxybox.evaluating import shared

#: Calls of each kind, and how many of them do not count.
CALLS, WARM_UP = 4000, 1500
#: Copies that are ready: this many calls are made in a row, and this number of times.
READY, ROUNDS = 16, 20


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns medians, in microseconds."""
    say("peers")
    peers = peers_of("simpleeval", "asteval")
    say("kept boxes")
    kept = _kept()
    say("fresh boxes")
    fresh, one_by_one = _fresh()
    names = kept["names"]
    own = {"floor": "session.eval('1+1')", "floor_value": kept["session"]}
    figures = [
        Figure(name="evaluator('1+1')", value=kept["plain"], unit="us", **own, target=Target(of="value", at_most=60)),
        Figure(name="with three names", value=names, unit="us", **own, target=Target(of="value", at_most=60)),
        Figure(name="evaluate, with three names", value=kept["evaluate"], unit="us", **own),
        Figure(name="with a list of 100 numbers", value=kept["list"], unit="us", **own),
        Figure(name="with a call of a host function", value=kept["function"], unit="us", **own),
        Figure(name="fresh=True, from the stock", value=fresh, unit="us", floor="kept, with three names",
               floor_value=names, target=Target(of="value", at_most=1000)),
        Figure(name="fresh=True, one after another", value=one_by_one, unit="us", floor="kept, with three names",
               floor_value=names),
        Figure(name="with three names", value=names, unit="us", floor="bare eval", floor_value=kept["bare"]),
    ]  # fmt: skip
    return figures + [
        Figure(name="with three names", value=names, unit="us", floor=peer, floor_value=found["expression"] * 1e3)
        for peer, found in peers.items()
        if "expression" in found
    ]


def median(call: Callable[[], object]) -> float:
    """Returns the median time of a call, in microseconds."""
    return 1e3 * statistics.median([timed(call) for _ in range(CALLS)][WARM_UP:])


def _kept() -> dict[str, float]:
    rows = {"rows": list(range(100))}
    with (
        proxybox.Sandbox(warm=True) as box,
        box.session() as session,
        proxybox.Evaluator(functions={"add": lambda a, b: a + b}) as evaluator,
    ):
        found = {
            "session": median(lambda: session.eval("1+1")),
            "plain": median(lambda: evaluator("1+1")),
            "names": median(lambda: evaluator(EXPRESSION, NAMES)),
            "evaluate": median(lambda: proxybox.evaluate(EXPRESSION, NAMES)),
            "list": median(lambda: evaluator("sum(rows)", rows)),
            "function": median(lambda: evaluator("add(a, b)", NAMES)),
            "bare": median(lambda: eval(EXPRESSION, {**NAMES})),
        }
    shared.close()
    zygotepool.close()
    return found


def _fresh() -> tuple[float, float]:
    """Returns the median time of calls for which a copy was ready, and the mean time of many calls in a row."""
    taken = []
    with proxybox.Evaluator(fresh=True, size=READY, timeout=10) as evaluator:
        for _ in range(ROUNDS):
            while evaluator.ready < READY:
                time.sleep(0.01)
            time.sleep(0.02)
            taken += [timed(lambda: evaluator(EXPRESSION, NAMES)) for _ in range(READY - 2)]
        began = time.perf_counter()
        for _ in range(10 * READY):
            evaluator(EXPRESSION, NAMES)
        each = (time.perf_counter() - began) / (10 * READY)
    zygotepool.close()
    return 1e3 * statistics.median(taken), 1e6 * each
