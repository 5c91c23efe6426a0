"""Many random trees, each reviewed, accepted in part and committed while others change the folder: is anything lost?

`python -m tests.soak.reviews --count 10000` runs them with seeds from 0; a seed that fails is printed, and runs alone
with --first SEED --count 1. Exit status 1 when one has failed.
"""

import argparse
import collections
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.review.scenes import Case, one
from tests.vfs.commitscenes import as_user


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--user", type=int, default=os.geteuid(), help="the user to be, where root runs this")
    options = parser.parse_args()
    with as_user(options.user):
        return review_many(options.first, options.count)


def review_many(first: int, count: int) -> int:
    top = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    os.environ["XDG_STATE_HOME"] = str(top / "state")
    ends: collections.Counter[str] = collections.Counter()
    facts: collections.Counter[str] = collections.Counter()

    def tally(case: Case) -> None:
        facts["changes"] += len(case.review)
        facts["accepted"] += sum(bool(case.review.accepted(item)) for item in case.review)
        facts["accepted in part"] += case.in_part
        facts["trees that others had changed before the commit"] += bool(case.meddler.events)

    failed, began = [], time.monotonic()
    try:
        for seed in range(first, first + count):
            try:
                ends[one(top, seed, tally)] += 1
            except AssertionError as error:
                failed.append(seed)
                print(f"seed {seed}: {error}", flush=True)
    finally:
        shutil.rmtree(top)
    for end, number in ends.most_common():
        print(f"{number:6,}  {end}")
    print(*(f"{number:,} {fact}" for fact, number in facts.items()), sep=", ")
    print(f"{count:6,}  in {time.monotonic() - began:.0f} s; failed: {len(failed)} {failed[:20]}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
