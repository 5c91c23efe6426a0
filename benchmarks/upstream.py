"""The cost of a translated PyPy's OS calls with upstream's controller, which shannot continues, pinned: prints JSON.

    upstream.py CLIENT HOME COUNT STATEMENT

Run by a Python that has shannot (tools/peers): CLIENT is the tests' client, HOME the folder of its library. Prints the
microseconds of one STATEMENT out of COUNT, without the client's start.
"""

import json
import os
import subprocess
import sys
import time

from shannot.mix_dump_output import MixDumpOutput
from shannot.mix_pypy import MixPyPy
from shannot.mix_vfs import Dir, MixVFS, RealDir
from shannot.virtualizedproc import VirtualizedProc


class Controller(MixPyPy, MixVFS, MixDumpOutput, VirtualizedProc):
    """Upstream's controller, with the library at the path that ours uses."""

    virtual_pid = 100


def main() -> None:
    """Measures one statement."""
    client, home, count, statement = sys.argv[1:]
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    Controller.vfs_root = Dir({"usr": Dir({"lib": Dir({"pypy": RealDir(home)})})})
    times = [seconds(client, statement.replace("COUNT", number)) for number in ("1", count)]
    print(json.dumps((times[1] - times[0]) / (int(count) - 1) * 1e6))


def seconds(client: str, program: str) -> float:
    """Returns the seconds of the client, from its start to its end."""
    began = time.perf_counter()
    process = subprocess.Popen([client, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    Controller(process.stdin, process.stdout).run()
    if process.wait():
        raise RuntimeError(f"the client has ended with {process.returncode}")
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
