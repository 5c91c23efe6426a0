"""Where a guest makes its new objects: the policy's matter, and not that of the processor's caches."""

from pathlib import Path

import pytest

import proxybox
from proxybox.controller.warm import nursery as nurseries

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
    """Warm boxes of several policies: each is a copy of a guest with its own."""
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
    """Bytes in memory of a zygote."""
    with proxybox.Sandbox(limits={"nursery": nursery}) as box:
        zygote = nurseries.nursery().find(box._box(None), now=True)
        assert zygote is not None
        assert box.run(ALLOCATES, check=True).stdout == "49995000 200000\n"
        size = zygote.process.resident()
        assert size is not None
        return size


def test_a_zygote_gives_the_pages_of_its_nursery_back() -> None:
    """Its start touches them all, and each copy would pay for them."""
    assert resident("32M") - resident("4M") < 6 << 20


@pytest.mark.parametrize("variables", [{}, {"PYPY_GC_NURSERY": "3M"}, {"PYPY_GC_NURSERY": "33M"}])
def test_other_memory_of_that_size_is_left_alone(variables: dict[str, str], tmp_path: Path) -> None:
    """With a size of the policy's own variables, the first memory of the expected size is not the nursery."""
    tmp_path.chmod(0o755)
    (tmp_path / "takes_memory.py").write_text("size = (32 << 20) + 1000\nkept = bytearray(b'x') * size\n")
    code = "from takes_memory import kept, size; print(kept.count(b'x') - size)\n" + ALLOCATES
    with proxybox.Sandbox(
        preload=["takes_memory"], packages=[tmp_path], environment={"variables": variables}, limits={"memory": "1G"}
    ) as box:
        for _ in range(3):
            assert box.run(code, check=True).stdout == "0\n49995000 200000\n"
