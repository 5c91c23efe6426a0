"""Boxes in gVisor, which is a kernel of its own: they run as elsewhere, and report the layers that they lack there.

`apt-get install runsc` on Debian. tests/seal/sweep.py tests which calls the filter lets through there, too
(docs/seal.md).
"""

import functools
import json
import os
import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.full  # starts gVisor

PROGRAM = """
import json, os, proxybox, tempfile
SLOW = {"cpu_time": 60, "wall_time": 60}
found = {}
def told(name, **options):
    try:
        result = proxybox.run(options.pop("code"), **{"limits": SLOW} | options)
        found[name] = [result.status, result.stdout, result.layers]
    except proxybox.SandboxStartError as error:
        found[name] = ["refused", str(error), {}]
told("plain", code="import json; print(json.dumps([6 * 7]))")
told("endless", code="while True: pass", limits=SLOW | {"wall_time": 1})
told("large", code="bytearray(1 << 33)", limits=SLOW | {"memory": 1 << 27})
told("thread", code="import threading; threading.Thread(target=print).start()")
told("frozen", code="print('ran')", time=proxybox.Time.frozen("2030-01-01"))
told("required", code="print('ran')", require_layers=["namespaces"])
with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o777)
    open(folder + "/data", "w").write("of the host")
    mounts = [proxybox.Mount(target="/data", source=folder, mode="rw")]
    told("mount", code="print(open('/data/data').read()); open('/data/new', 'w').write('x')", filesystem={"mounts": mounts})
    found["written"] = sorted(os.listdir(folder))
with proxybox.Sandbox(limits=SLOW).session() as session:
    session.exec("a = 1")
    found["session"] = session.exec("print(a + 1)").stdout
diagnosis = proxybox.diagnose()
found["problems"] = diagnosis.problems
found["mandatory"] = [layer.available for layer in diagnosis.layers if layer.mandatory]
print(json.dumps(found))
"""


def runsc(*command: str) -> "subprocess.CompletedProcess[str]":
    """Runs a command in gVisor. Its standard output is a pipe, because gVisor truncates it in a file."""
    program = shutil.which("runsc", path=os.environ["PATH"] + ":/usr/sbin:/usr/local/bin")
    if program is None:
        pytest.skip("no runsc here (apt-get install runsc)")
    rootless = [] if os.getuid() == 0 else ["--rootless"]
    return subprocess.run(
        [program, *rootless, "--ignore-cgroups", "--network=none", "do", "-cwd", "/", "--", *command],
        capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


@functools.cache
def why_not() -> str:
    """Why gVisor does not run here; empty where it runs."""
    ended = runsc("/bin/echo", "runs")
    return "" if ended.stdout.strip() == "runs" else ended.stderr or ended.stdout or "it says nothing"


@pytest.mark.pypy
@pytest.mark.outer_layers
@pytest.mark.timeout(300)
@pytest.mark.parametrize("user", [0, 1000])
def test_boxes_in_gvisor(user: int) -> None:
    if why := why_not():
        pytest.skip(f"gVisor does not run here: {why}")
    become = ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    ended = runsc(*become, sys.executable, "-c", PROGRAM)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    found = json.loads(ended.stdout.splitlines()[-1])
    status, stdout, layers = found["plain"]
    assert (status, stdout) == ("ok", "[42]\n")
    assert "missing" not in layers["seal"] + layers["privileges"] + layers["descriptors"] + layers["priority"]
    for name in ("kernel limits", "thread count", "landlock"):
        assert layers[name].startswith("missing: "), layers
    assert found["endless"][0] == "time_limit"
    assert found["large"][0] == "memory_limit"
    assert found["thread"][0] == "error"
    assert found["frozen"][0] == "refused" and "PR_SET_TSC" in found["frozen"][1]
    assert (found["required"][0] == "refused") == layers["namespaces"].startswith("missing: ")
    assert found["mount"][:2] == ["ok", "of the host\n"]
    assert found["written"] == ["data", "new"]
    assert found["session"] == "2\n"
    assert found["problems"] == []
    assert found["mandatory"] == [True] * 4
