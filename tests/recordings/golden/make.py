"""Makes a golden record: `python -m tests.recordings.golden.make NAME`. It is not made again for each change.

There is a golden record for each major version of the format, and for each release that cannot replay older records:
docs/records.md says so then.
"""

import json
import sys
import tempfile
from pathlib import Path

import proxybox
from proxybox.records.signing import sign
from tests.recordings.keys import made
from tests.soak.suite import told

HERE = Path(__file__).parent
CODE = """
import os, random, signal, socket, sys, time
print("rolled", random.randint(1, 6), "at", time.time(), "by", os.getpid())
print(sys.stdin.read(), end="", file=sys.stderr)
signal.signal(signal.SIGALRM, lambda *_: print("rang"))
signal.setitimer(signal.ITIMER_REAL, 0.01)
time.sleep(0.05)
os.kill(os.getpid(), signal.SIGALRM)
try:
    socket.socket()
except OSError as error:
    print(error)
open("kept.txt", "w").write(os.urandom(8).hex())
sys.exit(3)
"""


def main(name: str) -> None:
    record = HERE / f"{name}.pbx"
    result = proxybox.run(CODE, ["--fast"], "typed\n", record=record, guest="pypy")
    (HERE / f"{name}.json").write_text(json.dumps(told(result), indent=1) + "\n")
    with tempfile.TemporaryDirectory() as folder:
        key = made(Path(folder, "key"))
        sign(record, key)
        (HERE / f"{name}.pub").write_bytes(key.with_suffix(".pub").read_bytes())


if __name__ == "__main__":
    main(sys.argv[1])
