"""The evaluator: an expression in, its value out, many times.

with proxybox.Evaluator(functions={"price": price}) as evaluator:
    evaluator.evaluate("price(item) * count if count < 100 else None", {"item": "tea", "count": 3})
"""

import functools
import math
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Final, Self

from proxybox import argumentchecks, commands
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.evaluating.copied import Copied
from proxybox.evaluating.session import ExpressionBox, ExpressionSession
from proxybox.evaluating.sessioncache import SessionCache
from proxybox.evaluating.supply import Supply, closed
from proxybox.policies import Policy, PolicyError, as_policy, evolve
from proxybox.pool.boxes import make_room
from proxybox.sandbox import Functions

#: No names, or no functions.
NONE: Final[Mapping[str, Any]] = MappingProxyType({})
#: How deep evaluations may be nested: an expression calls the caller's function, which evaluates an expression.
MOST_NESTED: Final = 16
#: Seconds for an expression, unless a policy says otherwise.
WALL_TIME: Final = 1
#: The most copies that a policy can allow. The size of an evaluator bounds their number.
_BRANCHES = 1000

#: The number of evaluations that contain the running code.
_depth: ContextVar[int] = ContextVar("proxybox_evaluations", default=0)
_duration = functools.lru_cache(maxsize=64, typed=True)(functools.partial(argumentchecks.duration, "timeout"))


class Evaluator:
    """Evaluates expressions of Python that others have written, in boxes, and returns their values.

    policy, policy_fields, packages, guest: as for `Sandbox`; without a policy it is the preset "strict" with one second
    of wall time for each expression. names: variables of all expressions: plain data. functions: functions of the
    caller, or HostFunction objects, that expressions call by their names. setup: statements of the caller's own, such
    as imports and definitions, that run before the first expression; expressions can use the names that they define.
    timeout: seconds for each expression, in place of limits.wall_time. size: how many expressions are evaluated at
    once; further threads wait.

    fresh: whether each expression is evaluated in a box that no other expression could change. `size` such boxes are
    ready, and a thread makes new ones. Without it, a box is used for further expressions: variables are removed, but an
    expression can change modules, builtins and files for later ones.

    Raises SandboxStartError when no box can be started, and ExecutionError when `setup` fails. It can be used from any
    thread, also from one in a function that an expression calls. In a process that forks, each child has boxes of its
    own.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        names: Mapping[str, Any] = NONE,
        functions: Functions = NONE,
        setup: str = "",
        timeout: float | str | None = None,
        fresh: bool = False,
        size: int = 4,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        **policy_fields: Any,
    ) -> None:
        self.policy = _policy_of(policy, policy_fields, argumentchecks.flag("fresh", fresh))
        self.size = argumentchecks.count("size", size, 1)
        make_room(size, 2 * size + 1 if fresh else size)  # as many in use, and the original
        value_size = self.policy.session.value_size
        self._fresh = fresh
        self._functions = _functions_of(functions, value_size)
        self._named = dict(argumentchecks.functions(functions))
        self._names = dict(argumentchecks.names(names))
        _check_distinct(self._names, self._named)
        self._setup = argumentchecks.source(setup, value_size, limit="session.value_size", name="setup")
        self._timeout = argumentchecks.duration("timeout", timeout)
        self._options: dict[str, Any] = {
            "packages": argumentchecks.packages(packages),
            "guest": argumentchecks.guest(guest),
        }
        self._closed = False
        self._starting = threading.Lock()
        self._box: ExpressionBox
        self._supply: Supply | None = None
        self._end: weakref.finalize[[], Evaluator] | None = None
        self._start()
        _evaluators.add(self)

    def _start(self) -> Supply:
        """Starts the first box of this process, unless another thread does."""
        with self._starting:
            if self._closed:
                raise closed()
            if self._supply is None:
                self._box = box = ExpressionBox(self.policy, **self._options)
                make = functools.partial(_made, box, self._names, self._functions, self._setup)
                try:
                    self._supply = (Copied if self._fresh else SessionCache)(make, self.size)
                except BaseException:
                    box.close()
                    raise
                self._end = weakref.finalize(self, self._supply.retire)
            return self._supply

    def _forget(self) -> None:
        """In a forked child: forgets the boxes, which are those of the parent, without ending them."""
        if self._supply is not None:
            _of_parents.append((self._supply, self._box))
        if self._end is not None:
            self._end.detach()
        self._supply, self._starting = None, threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the evaluator and its boxes.

        Expressions that other threads still evaluate are cancelled (ExecutionError); threads that wait, and later
        calls, get SandboxClosedError.
        """
        with self._starting:
            self._closed = True
            supply = self._supply
        if supply is not None:
            supply.retire()
            self._box.close()
            supply.join()

    @property
    def ready(self) -> int:
        """How many boxes wait for an expression now: with `fresh`, the copies that are ready."""
        return 0 if self._supply is None else self._supply.ready

    def evaluate(
        self,
        expression: str,
        names: Mapping[str, Any] = NONE,
        functions: Functions = NONE,
        *,
        timeout: float | str | None = None,
    ) -> Any:
        """Evaluates an expression, and returns its value: plain data, which the expression's author has chosen.

        names, functions: further ones for this expression alone; they hide those of the evaluator. The expression gets
        copies of the values. timeout: seconds of wall time, including the wait for other expressions.

        Raises ExecutionError when the expression fails, with the Result (for limits TimeLimitExceeded,
        MemoryLimitExceeded and others), and when its value is not plain data. Raises TypeError and ValueError for names
        whose values cannot be sent, SandboxStartError when no box can be started, SandboxClosedError after `close`.
        """
        supply = self._supply or self._start()
        code = argumentchecks.source(
            expression, self.policy.session.value_size, "an expression (str)", "session.value_size", "expression"
        )
        own, lent = argumentchecks.names(names) if names is not NONE else names, None
        if functions:
            lent = _functions_of({**self._named, **argumentchecks.functions(functions)}, self.policy.session.value_size)
            _check_distinct(own, functions)
        command = commands.evaluation(code, own, tuple(functions))

        def work(session: ExpressionSession, left: float | None) -> Any:
            if lent is None:
                return session.value(command, left)
            session.lend(lent)
            try:
                return session.value(command, left)
            finally:
                session.lend(self._functions)

        depth = _depth.get()
        if depth >= MOST_NESTED:
            raise RecursionError(f"evaluations are nested more than {MOST_NESTED} deep")
        token = _depth.set(depth + 1)
        try:
            return supply.use(work, self._seconds(timeout), beyond=depth > 0)
        finally:
            _depth.reset(token)

    __call__ = evaluate

    def _seconds(self, timeout: Any) -> float | None:
        """Returns the seconds for an expression; None if they are not limited."""
        seconds = self._timeout if timeout is None else _duration(timeout)
        if seconds is None:
            return self.policy.limits.wall_time
        return None if seconds == math.inf else seconds


def _policy_of(policy: Any, fields: Mapping[str, Any], fresh: bool) -> Policy:
    """Returns the policy for expressions. A session that exceeds its time is not used again, so it gets no grace."""
    base = evolve(as_policy("strict"), limits={"wall_time": WALL_TIME}) if policy is None else as_policy(policy)
    return evolve(evolve(base, **fields), session={"grace": 0, "branches": _BRANCHES if fresh else 0})


def _functions_of(functions: Functions, value_size: int) -> HostFunctions | None:
    named = argumentchecks.functions(functions)
    return HostFunctions(named, value_size) if named else None


def _check_distinct(names: Mapping[str, Any], functions: Mapping[str, Any]) -> None:
    """Raises PolicyError for a name that is both a variable and a function."""
    both = names.keys() & functions.keys()
    if both:
        raise PolicyError(f"names, functions: {min(both)!r} is in both: give one of them another name")


def _made(
    box: ExpressionBox, names: Mapping[str, Any], functions: HostFunctions | None, setup: str
) -> ExpressionSession:
    """Starts a session that is prepared for expressions."""
    session = box.expressions()
    try:
        session.prepare(names, functions, setup)
    except BaseException:
        session.close()
        raise
    return session


_evaluators: "weakref.WeakSet[Evaluator]" = weakref.WeakSet()
#: Objects of the parent of a forked process, which keep a reference: their finalizers would end the parent's guests.
_of_parents: list[tuple[Supply, ExpressionBox]] = []


def _forget() -> None:
    for each in tuple(_evaluators):
        each._forget()


os.register_at_fork(after_in_child=_forget)
