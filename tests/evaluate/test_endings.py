"""Evaluators end with their processes and threads; no other code of this process makes boxes meanwhile."""

import pytest

from proxybox import Evaluator, ExecutionError, SandboxStartError
from proxybox.evaluating import shared
from tests import leaks

EACH_GUEST = True


@pytest.fixture(autouse=True)
def alone() -> None:
    shared.close()


def pids() -> set[int]:
    return set(leaks.children())


@pytest.mark.parametrize("is_fresh", [False, True])
def test_one_that_nobody_refers_to_any_more_ends(is_fresh: bool) -> None:
    before, threads = pids(), leaks.threads()
    evaluator = Evaluator(fresh=is_fresh, size=1, timeout=60)
    assert evaluator("1") == 1
    assert pids() - before  # those of earlier tests may still be ending
    del evaluator
    assert leaks.threads_since(threads) == []
    assert leaks.children_since(dict.fromkeys(before, "")) == {}


def test_a_start_that_fails_leaves_nothing() -> None:
    before = dict.fromkeys(pids(), "")
    with pytest.raises(ExecutionError):
        Evaluator(setup="1 / 0", fresh=True)
    with pytest.raises(SandboxStartError):
        Evaluator(guest="/nonexistent/python")
    assert leaks.children_since(before) == {}
