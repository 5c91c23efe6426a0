"""The function `evaluate`, with evaluators that it keeps."""

import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeAlias

from proxybox.controller.perprocess import PerProcess
from proxybox.evaluating.evaluator import NONE, Evaluator
from proxybox.policies import Policy, as_policy
from proxybox.sandbox import Functions

#: How many evaluators are kept, one for each policy and interpreter; the least recently used one is closed.
MOST = 4

_Kind: TypeAlias = tuple[Policy | str | None, str | os.PathLike[str] | None]
_kept: OrderedDict[_Kind, Evaluator] = OrderedDict()
_lock = PerProcess(threading.Lock)


def evaluate(
    expression: str,
    names: Mapping[str, Any] = NONE,
    functions: Functions = NONE,
    *,
    timeout: float | str | None = None,
    policy: Policy | str | os.PathLike[str] | None = None,
    guest: str | os.PathLike[str] | None = None,
) -> Any:
    """Evaluates one expression of Python in a box, and returns its value, as `Evaluator.evaluate` does.

        proxybox.evaluate("price * (1 - discount)", {"price": 20, "discount": 0.25})  # 15.0

    names: its variables; it gets copies of their values. functions: functions of the caller that it calls by their
    names. policy, guest: as for `Evaluator`.

    The box is kept for later calls with the same policy and interpreter, as in an `Evaluator` without `fresh`, so that
    only the first call takes long. Four kinds of box are kept at most, until the process ends.
    """
    return _evaluator(policy, guest).evaluate(expression, names, functions, timeout=timeout)


def _evaluator(policy: Any, guest: Any) -> Evaluator:
    """Returns the evaluator for a policy and an interpreter."""
    kind = (policy if policy is None or isinstance(policy, str) else as_policy(policy)), guest
    with _lock():
        found = _kept.get(kind)
        if found is None:
            found = _kept[kind] = Evaluator(kind[0], guest=guest, size=max(4, os.cpu_count() or 1))
            if len(_kept) > MOST:
                _kept.popitem(last=False)  # it ends when no thread uses it any more
        _kept.move_to_end(kind)
        return found


def close() -> None:
    """Ends the boxes that `evaluate` keeps. It starts new ones when it is called again."""
    with _lock():
        evaluators = tuple(_kept.values())
        _kept.clear()
    for each in evaluators:
        each.close()
