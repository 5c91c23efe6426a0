"""The nursery, where a guest makes its new objects: its size is set by the policy, and not by the processor's
caches.
"""

from pathlib import Path

import pytest

import proxybox
from proxybox.controller.warm import zygotepool as nurseries

pytestmark = pytest.mark.pypy

PROGRAM = """
import gc, os
print([line.split()[-1] for line in str(gc.get_stats()).splitlines() if "nursery" in line][0])
print([name for name in os.environ if name.startswith("PYPY")])
"""


@pytest.mark.parametrize(
    ("limits", "size"),
    [({}, "32.0MB"), ({"memory": "64M"}, "8.0MB"), ({"memory": None}, "32.0MB"), ({"nursery": "2M"}, "2.0MB")],
)
def test_a_guest_has_the_nursery_of_its_policy(limits: dict[str, object], size: str) -> None:
    """Warm boxes of several policies: each is a copy of a guest with the nursery of its policy."""
    with proxybox.Sandbox(limits={"wall_time": 100, "cpu_time": 50, **limits}) as box:
        said = [box.run(PROGRAM).stdout for _ in range(2)]
        with box.session() as session:
            said.append(session.exec(PROGRAM).stdout)
    assert said == [f"{size}\n[]\n"] * 3


def test_a_variable_of_the_policy_s_own_comes_first() -> None:
    result = proxybox.run(PROGRAM, environment={"variables": {"PYPY_GC_NURSERY": "3M"}})
    assert result.stdout == "3.0MB\n['PYPY_GC_NURSERY']\n"


ALLOCATES = """
kept = [(n, str(n)) for n in range(10000)]
for _ in range(200): made = [object() for _ in range(10000)] + [str(n) for n in range(1000)]
print(sum(n for n, text in kept if text == str(n)), 200 * len([x for x in range(1000)]))
"""


def resident(nursery: str) -> int:
    """The resident memory of a zygote, in bytes."""
    with proxybox.Sandbox(limits={"nursery": nursery}) as box:
        zygote = nurseries.zygote_pool().find(box._box(None), now=True)
        assert zygote is not None
        assert box.run(ALLOCATES, check=True).stdout == "49995000 200000\n"
        size = zygote.process.resident()
        assert size is not None
        return size


def test_a_zygote_gives_the_pages_of_its_nursery_back() -> None:
    """The zygote's start touches all of them, and each copy would be charged for them."""
    assert resident("32M") - resident("4M") < 6 << 20


@pytest.mark.cover(1)
@pytest.mark.parametrize("kind", ["bytes", "bytearray"])
@pytest.mark.parametrize("variables", [{}, {"PYPY_GC_NURSERY": "3M"}, {"PYPY_GC_NURSERY": "33M"}])
def test_other_memory_of_that_size_is_left_alone(variables: dict[str, str], kind: str, tmp_path: Path) -> None:
    """If a variable of the policy sets the size, the first memory of the expected size is not the nursery."""
    tmp_path.chmod(0o755)
    (tmp_path / "takes_memory.py").write_text(f"size = (32 << 20) + 1000\nkept = {kind}(b'x') * size\n")
    code = "from takes_memory import kept, size; print(kept.count(b'x') - size)\n" + ALLOCATES
    with proxybox.Sandbox(
        preload=["takes_memory"], packages=[tmp_path], environment={"variables": variables}, limits={"memory": "1G"}
    ) as box:
        for _ in range(3):
            assert box.run(code, check=True).stdout == "0\n49995000 200000\n"


WRITES = """
import os, threading
reader, writer = os.pipe()
os.write(writer, b"f" * 65536)  # full
result, begun = [], threading.Event()
def work():
    junk = [bytearray(1000) for _ in range(5000)]
    data = bytes(bytearray(b"q" * 40000))  # young, and far from the nursery's start
    begun.set()
    os.write(writer, data)  # which pins it while it waits
    result.append((len(data), data.count(b"q")))
thread = threading.Thread(target=work, daemon=True)
thread.start()
begun.wait()
for _ in range(1000): os.sched_yield()
"""


def test_memory_of_other_threads_is_left_alone(tmp_path: Path) -> None:
    """A preloaded module has started a thread: objects that it makes may be anywhere in the nursery."""
    tmp_path.chmod(0o755)
    (tmp_path / "writes.py").write_text(WRITES)
    code = "import os, writes as w\nos.read(w.reader, 65536)\nw.thread.join()\n"
    code += "print(w.result, os.read(w.reader, 99999).count(b'q'))"
    with proxybox.Sandbox(warm=False, preload=["writes"], packages=[tmp_path]) as box, box.session() as session:
        assert session.exec(code, check=True).stdout == "[(40000, 40000)] 40000\n"
