"""Programs a second through `proxybox.map`, which sends chunks, compared with a Pool with as many processes."""

import time
from collections.abc import Callable

import proxybox
from benchmarks.figures import Figure, Target

COUNT, ROUNDS, SIZE = 500, 2, 2
CODE = "print(int(input()) ** 2)"


def run(say: Callable[[str], None]) -> list[Figure]:
    """Returns the best of both, measured in turn. The start of the processes counts on both sides."""
    figures = []
    for processes in (1, 2):
        pooled, mapped, anyhow = [], [], []
        for number in range(1, ROUNDS + 1):
            say(f"{processes} processes, {number} of {ROUNDS}")
            pooled.append(_rate(_pool, processes))
            mapped.append(_rate(_map, processes))
            anyhow.append(_rate(_map_as_completed, processes))
        for name, rates in (("in order", mapped), ("as completed", anyhow)):
            figures.append(
                Figure(
                    name=f"map, {processes} process{'es' if processes > 1 else ''}, {name}",
                    value=max(rates),
                    unit="/s",
                    floor="Pool",
                    floor_value=max(pooled),
                    target=Target(of="ratio", at_least=0.9),
                )
            )
    return figures


def _rate(work: Callable[[int], int], processes: int) -> float:
    began = time.perf_counter()
    count = work(processes)
    return count / (time.perf_counter() - began)


def _pool(processes: int) -> int:
    with proxybox.Pool(size=SIZE * processes, processes=processes) as pool:
        futures = [pool.submit(CODE, stdin=str(number)) for number in range(COUNT)]
        return sum(future.result().ok for future in futures)


def _map(processes: int) -> int:
    return sum(each.ok for each in proxybox.map(CODE, map(str, range(COUNT)), workers=processes, size=SIZE))


def _map_as_completed(processes: int) -> int:
    items = map(str, range(COUNT))
    return sum(each.ok for _, each in proxybox.map(CODE, items, ordered=False, workers=processes, size=SIZE))
