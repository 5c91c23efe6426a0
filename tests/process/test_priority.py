"""Which processes come first on a CPU: in a child, since what is lowered stays so."""

import subprocess
import sys

import pytest

PROGRAM = """
import os
from pathlib import Path
import proxybox
from proxybox.controller.process import priority

def of_session(pid):
    try:
        return int(Path(f"/proc/{pid}/autogroup").read_text().split()[-1])
    except OSError:
        return None  # a kernel without

def children(pid):
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield int(child)
            yield from children(int(child))

priority.lower(7, boxes=9)
print(os.getpriority(os.PRIO_PROCESS, 0), of_session(os.getpid()))
with proxybox.Sandbox() as sandbox, sandbox.session() as session:
    assert session.eval("1").value == 1
    print(sorted({of_session(pid) for pid in children(os.getpid()) if os.getsid(pid) != os.getsid(0)}))
"""

#: Where boxes go to the background, they share the session of their controller, which comes before them.
SHARED = """
import os
import proxybox
from proxybox.controller.process import priority

priority.lower(3, boxes=3, background_after=0.1)
with proxybox.Sandbox() as sandbox, sandbox.session() as session:
    assert session.eval("1").value == 1
    pid = session._live._live.process.pid
    print(os.getpriority(os.PRIO_PROCESS, pid), os.getsid(pid) == os.getsid(0), os.getpgid(pid) == os.getpgid(0))
    print(session.layers["priority"], [ns for ns, _ in priority.steps()])
    priority.to_lowest(pid)
    print(os.getpriority(os.PRIO_PROCESS, pid))
"""


def test_boxes_have_a_priority_of_their_own(guest_kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", PROGRAM], stdout=subprocess.PIPE, text=True, check=True, start_new_session=True
    )
    own, boxes = done.stdout.splitlines()
    niceness, session = own.split()
    assert int(niceness) == 7
    if session == "None":
        pytest.skip("this kernel has no autogroups")
    assert (session, boxes) == ("7", "[9]")


def test_boxes_that_may_go_to_the_background_begin_less_low(guest_kind: str) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", SHARED], stdout=subprocess.PIPE, text=True, check=True, start_new_session=True
    )
    assert done.stdout.splitlines() == ["8 True False", "niceness 8 [20000000, 100000000]", "19"]
