"""A caller that has run out of descriptors: starts fail with a clear error, runs end well, and nothing is left
behind.
"""

import os
import subprocess
import sys

CALLER = """
import os, resource
import proxybox
from proxybox.controller.guests.finding import find_guest

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
        limits={"files": 1_000, "disk": "1M", "wall_time": 200, "cpu_time": 60},
    )
    assert set(result.stdout.split()) == {"/tmp", "/box", "/home/user", "/dev/shm"}, result.summary()


def test_waiting_for_input_beside_other_work_is_charged(hostile) -> None:
    """Waiting for the caller's input is free only while the program does nothing else."""
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


WARM = """
import resource
import proxybox
from proxybox.controller.warm import zygotepool

box = proxybox.Sandbox(warm=True)
assert box.run("1").ok
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (8, hard))  # all of these numbers are taken
try: box.run("1")
except (OSError, proxybox.SandboxStartError): print("no start", end=" ")
resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
kind = box._box(None)
print([zygotepool.zygote_pool().find(kind) is not None for _ in range(4)])
box.close()
zygotepool.close()
"""


def test_warm_starts_come_back_when_a_shortage_has_passed() -> None:
    done = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("no start [False, False, True, True]\n", "")


FILLER = """
import resource
import proxybox

hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
with proxybox.Pool(size=1) as pool:
    assert pool.run("1").ok
    while not pool.ready: pass
    filler = pool._boxes._filler
    failures = []
    make = pool._boxes._make
    def failing():
        try: return make()
        except BaseException as error:
            failures.append(type(error).__name__)
            raise
    pool._boxes._make = failing
    resource.setrlimit(resource.RLIMIT_NOFILE, (8, hard))  # all of these numbers are taken
    pool._boxes.take().close()
    with pool._boxes._change: pool._boxes._change.notify()
    while len(failures) < 2 and filler.is_alive(): pass
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    while not pool.ready and filler.is_alive(): pass
    print(filler.is_alive(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_a_pool_is_filled_again_when_a_shortage_has_passed() -> None:
    """A pool refills after EMFILE, which once ended the thread that does it."""
    done = subprocess.run([sys.executable, "-c", FILLER], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("True 1024\n", "")


ROOM = """
import resource
import proxybox
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
try: proxybox.Pool(size=20)
except ValueError as error: print("ulimit -n" in str(error), end=" ")
with proxybox.Pool(size=20, processes=1) as pool: print(pool.run("print(1)").stdout.strip(), end=" ")
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_the_callers_limit_is_never_raised() -> None:
    done = subprocess.run([sys.executable, "-c", ROOM], capture_output=True, text=True, timeout=120, check=False)
    assert (done.stdout, done.stderr) == ("True 1 300\n", "")
