"""Where a guest makes its new objects: the policy's matter, and not that of the processor's caches."""

import pytest

import proxybox

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
