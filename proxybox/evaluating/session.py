"""Sessions for expressions, and the boxes that they live in."""

import math
from collections.abc import Mapping
from typing import Any

from proxybox import commands
from proxybox.commands import Command
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.result import ExecutionError, Status
from proxybox.sandbox import Sandbox
from proxybox.session import Session, session_result

#: Seconds that a session may take for its preparation, and for the rehearsal.
PREPARATION = 30.0
#: The statuses of an expression that has failed by itself; its session can be used again.
_OWN_FAULTS = (Status.ERROR, Status.SYNTAX_ERROR)


class ExpressionSession(Session):
    """A session that returns the values of expressions."""

    def prepare(self, names: Mapping[str, Any], functions: HostFunctions | None, setup: str) -> None:
        """Sets the names and functions of all expressions, and runs `setup`. Raises ExecutionError when that fails."""
        self._live.lend(functions)
        if names or functions is not None:
            lent = () if functions is None else functions.names
            self._ask(commands.lending(names, lent), timeout=PREPARATION)
        if setup:
            self._ask(commands.statements(self._source(setup), "<setup>", False), timeout=PREPARATION, check=True)

    def rehearse(self) -> None:
        """Evaluates an expression of ours, so that the next one finds everything loaded. Raises ExecutionError."""
        self.value(commands.evaluation("None", {"_": 0}, ()), PREPARATION)

    def value(self, command: Command[Any], timeout: float | None) -> Any:
        """Returns the value of an evaluation. timeout: seconds; None: no limit. Raises ExecutionError."""
        answer = self._live.call(command.words, timeout=math.inf if timeout is None else timeout)
        if answer.outcome is None and not answer.interrupted and answer.claim is not None and answer.claim[0] == "ok":
            return answer.claim[1]  # the usual case, in which no Result is made
        return command.answer(session_result(answer, self._policy, self._live.layers))

    def lend(self, functions: HostFunctions | None) -> None:
        """Sets the functions that expressions may call from now on."""
        self._live.lend(functions)

    def fork(self) -> "ExpressionSession":
        """See Session.fork."""
        return ExpressionSession(self._live.copy(), self._policy, self._timeout)

    @property
    def is_running(self) -> bool:
        """Whether its guest runs."""
        return self._live.is_running

    def cancel(self) -> None:
        """Ends it, from any thread; a call that runs returns."""
        self._live.cancel()


class ExpressionBox(Sandbox):
    """The sandbox of sessions for expressions."""

    def expressions(self) -> ExpressionSession:
        """Starts a session. Raises SandboxStartError."""
        return ExpressionSession(self._open_session(None, None, None), self.policy)


def has_spoilt(error: BaseException) -> bool:
    """Returns whether an evaluation's exception means that its session must not be used again, though it is alive."""
    return isinstance(error, ExecutionError) and error.result.status not in _OWN_FAULTS
