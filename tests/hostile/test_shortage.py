"""A caller that has run out of descriptors: starts fail clearly, runs end well, nothing is left behind."""

import os
import subprocess
import sys

CALLER = """
import os, resource
import proxybox
from proxybox.controller.guests import find_guest

code = "import threading; t = threading.Thread(target=print, args=('t',)); t.start(); t.join()"
proxybox.run(code)
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
before = len(os.listdir("/proc/self/fd"))
ends = set()
for extra in range(1, 16):
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + extra, hard))
    try:
        end = str(proxybox.run(code).status)
    except proxybox.SandboxStartError:
        end = "no start"
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    assert len(os.listdir("/proc/self/fd")) == before, extra
    ends.add(end)
assert not {"no start", "ok"} - ends, ends
assert not ends - {"no start", "error", "ok"}, ends
"""


def test_every_number_of_descriptors_left() -> None:
    done = subprocess.run([sys.executable, "-c", CALLER], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_no_folder_that_is_charged_to_nobody_can_be_written(hostile) -> None:
    result = hostile.run(
        "import os\n"
        "for folder, folders, _ in os.walk('/'):\n"
        "    try: open(folder + '/x', 'w').close(); print(folder)\n"
        "    except OSError: pass\n",
        limits={"files": 1_000, "disk": "1M", "wall_time": 60, "cpu_time": 60},
    )
    assert set(result.stdout.split()) == {"/tmp", "/box", "/home/user", "/dev/shm"}, result.summary()


def test_waiting_for_input_beside_other_work_is_charged(hostile) -> None:
    """The caller's input may take its time, but only where the program does nothing else meanwhile."""
    reader, writer = os.pipe()
    try:
        with os.fdopen(reader, "rb", buffering=0) as never:
            polling = "import select\nwhile True: select.select([0], [], [], 0.05)"
            assert hostile.run(polling, stdin=never, limits={"wall_time": 0.5}, timeout=None).status == "time_limit"
            beside = (
                "import threading, sys\nthreading.Thread(target=sys.stdin.read, daemon=True).start()\nwhile True: pass"
            )
            assert hostile.run(beside, stdin=never, limits={"wall_time": 0.5}, timeout=None).status == "time_limit"
    finally:
        os.close(writer)
