"""`python -m tests.seal`: makes system calls inside boxes, and prints a table of those that reach the kernel.

`python -m tests.seal golden` shows the differences between golden/ and controller/seal/filters.py; --write makes
golden/ anew.
"""

import argparse
import sys

from tests.hostile.conftest import Hostile
from tests.seal import dumps, sweep
from tests.seal.cases import TABLE
from tests.seal.expected import EXPECTED


def show_sweep() -> int:
    """Prints the table. Returns 0 when every call had the result that expected.py says and the allowed numbers are the
    listed ones.
    """
    boxes, good, foreign = Hostile(), True, []
    for name, (kind, options) in sweep.BOXES.items():
        counts = [*sweep.in_a_box(boxes, kind, options), sweep.apart(boxes, kind, options)]
        foreign.append(attempt := sweep.by_int_80(kind, TABLE, sweep.machine_code()))
        total = sweep.sum_of("all, the exempt left out", [*counts, attempt])
        print(f"{name}\n", *sweep.table([*counts, attempt, total, sweep.exempt(boxes, options)]), sep="\n")
        allowed, wanted = total.allowed, sweep.listed(kind)
        names = [EXPECTED[number][0] if number in EXPECTED else hex(number) for number in sorted(allowed)]
        print(f"\nallowed: {', '.join(names)}")
        print(f"that is the list of the table: {'yes' if allowed == wanted else f'NO, it has {sorted(wanted)}'}\n")
        good &= allowed == wanted and not total.surprises
        for surprise in total.surprises[:20]:
            print("NOT AS IT SHALL BE:", surprise)
    in_boxes = sweep.by_int_80_in_boxes(boxes, sweep.DANGEROUS_I386.values())
    print(*sweep.table([in_boxes]), sep="\n")
    return 0 if good and not in_boxes.surprises else 1


def show_golden(write: bool) -> int:
    """Prints the differences. Returns 1 when there are some and they are not written."""
    differences = [text for name, kind in dumps.programs() if (text := dumps.difference(name, kind))]
    print(*differences, sep="\n", end="" if differences else "golden/ is as controller/seal/filters.py is\n")
    if write:
        dumps.write()
    return 1 if differences and not write else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.seal", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("sweep", help="the table (what happens without a command)")
    commands.add_parser("golden", help="the kept text of the filters").add_argument("--write", action="store_true")
    given = parser.parse_args()
    return show_golden(given.write) if given.command == "golden" else show_sweep()


if __name__ == "__main__":
    sys.exit(main())
