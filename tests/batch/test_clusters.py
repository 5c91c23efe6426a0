"""Batches on clusters of dask, and of Ray where it is installed.

Each is in its own process: both leave threads behind.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.full  # starts clusters

ROOT = Path(__file__).parents[2]


def python(*words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {
        **os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder),
        "DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "10m", **environment,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=variables, capture_output=True, text=True, timeout=290, check=False
    )


def test_a_worker_is_killed_in_the_middle(tmp_path: Path) -> None:
    """Runs the example with fewer items."""
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    done = python(str(ROOT / "examples/cluster.py"), "200", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "200 of 200 submissions answered" in done.stdout
    assert "lost: 0; run again after they had answered: 0\n" in done.stdout


DASK = """
import os
import proxybox
from proxybox.batch import clusters
from tests.batch.functions import double, ends

def main():
    from distributed import Client, LocalCluster
    cluster = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**cluster) as unsafe, Client(unsafe) as client:
        try:
            list(proxybox.map("1", [""], executor=client))
        except proxybox.BatchError as error:
            print(error)
    os.environ["PYTHONSAFEPATH"] = "1"
    with LocalCluster(**cluster) as safe, Client(safe) as client:
        print([result.value for result in proxybox.map(double, range(5), executor=client.get_executor())])
        code = "import host, sys\\nif sys.argv[1] == '1': host.ends()\\nprint(sys.argv[1])"
        items = [{"args": [str(number)]} for number in range(3)]
        for retries in 0, 1:
            for result in proxybox.map(code, items, executor=client, functions={"ends": ends}, retries=retries):
                print(result.status, result.stdout.strip(), result.why.partition(':')[0])
        results = proxybox.map("import time; time.sleep(300 * int(input()))", ["0", "1", "1", "1"], executor=client,
                               size=1, limits={"wall_time": 1000})
        print(next(results).status)
        results.close()
        print(next(proxybox.map("print('after')", [""], executor=client)).stdout)
        clusters.__version__ = "0.0.9"
        try:
            list(proxybox.map("1", [""], executor=client))
        except proxybox.BatchError as error:
            print(error)

if __name__ == "__main__":
    main()
"""


def test_what_dasks_workers_do(tmp_path: Path) -> None:
    """Unsafe workers get no items.

    An item that kills its worker is given up alone. A closed batch frees the workers.
    """
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    (tmp_path / "script.py").write_text(DASK)
    done = python("script.py", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    unsafe, values, *lines, version = done.stdout.rstrip("\n").split("\n")
    assert unsafe.startswith("1 of the cluster's workers (such as tcp://127.0.0.1:")
    assert "PYTHONSAFEPATH=1 dask worker" in unsafe
    assert values == "[0, 2, 4, 6, 8]"
    assert lines[:3] == ["ok 0 ", "internal_error  it was tried once, and its worker ended", "ok 2 "]
    assert lines[3:6] == ["ok 0 ", "internal_error  it was tried 2 times, and each time its worker ended", "ok 2 "]
    assert lines[6:] == ["ok", "after", ""]
    assert "cannot schedule new futures" not in done.stderr
    assert re.fullmatch(r"a worker of the cluster has proxybox \S+, and 0\.0\.9 is here", version)


LEAVING = """
import os, threading
from pathlib import Path
import proxybox

def main():
    from distributed import Client, LocalCluster
    notes = Path("notes").absolute()
    notes.mkdir()
    (notes / "runs").touch()
    with LocalCluster(n_workers=3, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        def run(number):
            while (notes / "runs").stat().st_size < number:
                pass
            return [address for address, keys in client.processing().items() if keys]

        def tell():
            client.retire_workers(run(1))
            (address,) = run(2)
            (nanny,) = (each for each in cluster.workers.values() if each.worker_address == address)
            cluster.loop.add_callback(nanny.close)  # as a cluster does that takes a worker for lost
            run(3)
            (notes / "go").touch()

        thread = threading.Thread(target=tell, daemon=True)
        thread.start()
        code = "import os\\nopen('/notes/runs', 'ab', 0).write(b'x')\\nwhile 'go' not in os.listdir('/notes'): pass"
        filesystem = {"mounts": [proxybox.Mount("/notes", str(notes), mode="rw")]}
        lost = []
        (result,) = proxybox.map(code, [""], executor=client, retries=0, filesystem=filesystem,
                                 on_lost=lambda number, error: lost.append(number), limits={"wall_time": 200})
        print(result.status, result.why, lost, (notes / "runs").read_text())

if __name__ == "__main__":
    main()
"""


def test_an_item_is_not_to_blame_for_workers_of_dasks_that_are_told_to_leave(tmp_path: Path) -> None:
    """One worker is retired and one is closed while it runs the item. The item then ends on the third worker."""
    pytest.importorskip("distributed", reason="the extra cluster is not installed")
    (tmp_path / "script.py").write_text(LEAVING)
    done = python("script.py", folder=tmp_path, PYTHONSAFEPATH="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok  [0, 0] xxx\n"


RAY = """
import proxybox, ray
from tests.batch.functions import double, ends
try:
    list(proxybox.map("1", [""], executor="ray"))
except proxybox.BatchError as error:
    print(error)
ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
print([result.value for result in proxybox.map(double, range(5), executor="ray")])
code = "import host, sys\\nif sys.argv[1] == '1': host.ends()\\nprint(sys.argv[1])"
items = [{"args": [str(number)]} for number in range(3)]
for result in proxybox.map(code, items, executor="ray", functions={"ends": ends}, retries=1):
    print(result.status, result.stdout.strip(), result.why.partition(':')[0])
results = proxybox.map("import time; time.sleep(300 * int(input()))", ["0", "1", "1", "1"], executor="ray", size=1,
                       limits={"wall_time": 1000})
print(next(results).status)
results.close()
print(next(proxybox.map("print('after')", [""], executor="ray")).stdout, end="")
ray.shutdown()
"""


def test_what_rays_workers_do(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed; no extra brings it")
    (tmp_path / "script.py").write_text(RAY)
    done = python("script.py", folder=tmp_path, TMPDIR="/tmp")  # its sockets have long paths
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line for line in done.stdout.splitlines() if "(raylet)" not in line] == [
        "executor: 'ray' wants a connection, which ray.init(...) makes",
        "[0, 2, 4, 6, 8]",
        "ok 0 ",
        "internal_error  it was tried 2 times, and each time its worker ended",
        "ok 2 ",
        "ok",
        "after",
    ]
