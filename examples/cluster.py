"""Runs 10,000 submissions on a cluster of two workers, and kills one of them in the middle.

    pip install 'proxybox[cluster]'
    python examples/cluster.py [COUNT]

Nothing is lost, and nothing that had answered runs again. Each program notes when it runs, in a folder that is mounted
for this: the notes are compared with the times at which the answers came.
"""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import proxybox

SUBMISSION = """
import os, sys, time
note = os.open("/notes/" + sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
os.write(note, b"%f\\n" % time.time())
print(sum(map(int, input().split())))
"""


def main() -> int:
    """Returns 0 where all is as it should be."""
    from distributed import Client, LocalCluster

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    os.environ["PYTHONSAFEPATH"] = "1"  # workers take no modules from the current folder
    with (
        tempfile.TemporaryDirectory() as notes,
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        victim, *_ = client.run(os.getpid).values()
        items = ({"args": [str(number)], "stdin": f"{number} 1\n"} for number in range(count))
        answered: dict[int, float] = {}
        lost: list[int] = []
        began = time.monotonic()
        for number, result in proxybox.map(
            SUBMISSION,
            items,
            ordered=False,
            executor=client,
            on_lost=lambda number, _: lost.append(number),
            filesystem={"mounts": [proxybox.Mount("/notes", notes, mode="rw")]},
        ):
            assert result.check().stdout == f"{number + 1}\n"
            assert number not in answered
            answered[number] = time.time()
            if len(answered) == count // 2:
                while len(os.listdir(notes)) < len(answered) + 2:  # until some have run that have not answered
                    pass
                os.kill(victim, signal.SIGKILL)
        seconds = time.monotonic() - began
        runs = {int(path.name): [*map(float, path.read_text().split())] for path in Path(notes).iterdir()}
    missing = count - len(answered)
    twice = [number for number, times in runs.items() if len(times) > 1]
    wrong = [number for number, times in runs.items() if max(times) > answered[number]]
    print(f"{len(answered):,} of {count:,} submissions answered in {seconds:.1f} s: {count / seconds:.0f} a second")
    print(f"the worker that was killed took {len(lost)} with it, of which {len(twice)} had run, and ran once more")
    print(f"lost: {missing}; run again after they had answered: {len(wrong)}")
    return int(bool(missing or wrong or set(twice) - set(lost)))


if __name__ == "__main__":
    raise SystemExit(main())
