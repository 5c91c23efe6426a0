"""How many descriptors guests may make their controller hold open, in all boxes and in each."""

import errno
import gc
import resource
import subprocess
import sys

import pytest

from proxybox.controller.costs import descriptorshare
from proxybox.controller.costs.descriptorshare import FLOOR, Allotment, DescriptorShare, soft_limit


def fill(box: Allotment) -> int:
    """Fills a box's share, and returns how many descriptors that took."""
    before = box.held
    try:
        while True:
            box.take()
    except OSError as error:
        if error.errno != errno.ENFILE:
            raise
    return box.held - before


def boxes_of(soft: int, count: int) -> list[Allotment]:
    share = DescriptorShare(lambda: soft)
    return [Allotment(share) for _ in range(count)]


def test_the_first_leaves_half_and_the_next_half_of_that() -> None:
    assert [fill(box) for box in boxes_of(1024, 8)] == [136, 72, 40, 24, 16, 12, 10, 9]


@pytest.mark.parametrize("soft", [64, 256, 1024, 20_000])
def test_all_together_never_take_more_than_half(soft: int) -> None:
    boxes = boxes_of(soft, 1000)
    taken = [fill(box) for box in boxes]
    assert soft // 4 <= sum(taken) <= soft // 2
    assert all(taken[: soft // 4 // FLOOR])
    assert min(taken[: soft // 4 // FLOOR]) >= FLOOR


def test_who_gives_back_leaves_it_to_the_others() -> None:
    one, other = boxes_of(1024, 2)
    fill(one)
    fill(other)
    one.give_back(one.held)
    assert fill(other) > 0
    other.give_back(other.held)
    assert (one.held, other.held) == (0, 0)
    assert fill(one) == 136
    assert fill(one.again()) == 72


def test_several_at_once_are_all_or_none() -> None:
    (box,) = boxes_of(1024, 1)
    with pytest.raises(OSError, match="descriptors"):
        box.take(137)
    assert box.held == 0
    box.take(136)


def test_the_limit_is_that_of_the_moment() -> None:
    soft = 1024
    box = Allotment(DescriptorShare(lambda: soft))
    fill(box)
    soft = 4096
    assert fill(box) > 300
    soft = 64
    assert fill(box) == 0
    box.give_back(box.held)


def test_a_collector_in_the_middle_does_not_wait_for_itself() -> None:
    """Garbage collection may close a file of a dead box at any point."""
    share = DescriptorShare(lambda: gc.collect() or 1024)

    class Held:
        def __init__(self) -> None:
            self.box = Allotment(share)
            self.box.take()
            self.me = self

        def __del__(self) -> None:
            self.box.give_back()

    Held()
    with descriptorshare._counting():
        Held()
        gc.collect()
    assert share._held == 0


def test_no_limit_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert soft_limit() > 1 << 20


RAISING = """
import resource
from proxybox.controller.costs import descriptorshare
from proxybox.controller.costs.descriptorshare import raise_own_limit
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (100, hard))
raise_own_limit()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == min(hard, 1 << 16))
"""


def test_processes_of_our_own_take_what_they_may() -> None:
    done = subprocess.run([sys.executable, "-c", RAISING], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"
