"""Times of other projects for the same work: prints a JSON object of milliseconds.

Run by a Python that has them (tools/peers).

    peers.py NAME...

A peer that is not installed, or fails, is omitted.
"""

import json
import statistics
import sys
import time
from collections.abc import Callable

ROUNDS = 200
#: The same as in benchmarks/evaluating.py.
EXPRESSION, NAMES = "a * b if c == 'x' else 0", {"a": 3, "b": 2.5, "c": "x"}


def median(measure: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Returns the milliseconds of one call, after ten that do not count."""
    for _ in range(10):
        measure()
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        measure()
        taken.append((time.perf_counter() - began) * 1e3)
    return statistics.median(taken)


def monty() -> dict[str, float]:
    """pydantic-monty: a Rust interpreter of a part of Python, in subprocesses."""
    import pydantic_monty

    with pydantic_monty.Monty() as pool:

        def fresh() -> None:
            with pool.checkout() as session:
                session.feed_run("print(1)", print_callback=lambda stream, text: None)

        found = {"fresh": median(fresh)}
        with pool.checkout() as session:
            found["session"] = median(lambda: session.feed_run("1+1"))
            one = {"add": lambda a, b: a + b}
            none = median(lambda: session.feed_run("0", external_lookup=one))
            many = "\n".join(["add(1, 2)"] * 20)  # a session allows 1,000 calls in all
            found["function"] = (median(lambda: session.feed_run(many, external_lookup=one), 20) - none) / 20
        return found


def eryx() -> dict[str, float]:
    """pyeryx: CPython in WebAssembly."""
    import eryx

    sandbox, session = eryx.Sandbox(), eryx.Session()
    return {
        "fresh": median(lambda: sandbox.execute("print(1)"), 100),
        "session": median(lambda: session.execute("1+1")),
    }


def simpleeval() -> dict[str, float]:
    """simpleeval: walks the tree of an expression, in the same process."""
    import simpleeval

    return {"expression": median(lambda: simpleeval.simple_eval(EXPRESSION, names=NAMES), 5000)}


def asteval() -> dict[str, float]:
    """asteval: the same for more of the language; its interpreter is used again."""
    import asteval

    interpreter = asteval.Interpreter()

    def evaluate() -> object:
        interpreter.symtable.update(NAMES)
        return interpreter(EXPRESSION)

    return {"expression": median(evaluate, 5000)}


def main() -> None:
    """Prints the results."""
    found = {}
    for peer in (monty, eryx, simpleeval, asteval):
        if peer.__name__ not in sys.argv[1:]:
            continue
        try:
            found[peer.__name__] = peer()
        except Exception as error:  # not installed, or another version: no figure
            found[peer.__name__] = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
