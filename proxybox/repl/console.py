"""The state of the prompt: a session, its earlier states, branches, and the blocks that ran. It uses no terminal."""

import contextlib
from collections.abc import Callable

import attrs

import proxybox
from proxybox import CannotCopy, Denial, Displayed, Policy, Result, Session, Snapshot

MAIN = "main"
#: The most states that `%undo` can go back to.
MOST_UNDO = 5


@attrs.define
class Branch:
    """A session, and its earlier states, the latest last. None is a state that could not be copied."""

    session: Session
    states: list[Snapshot | None] = attrs.field(factory=list)

    def close(self) -> None:
        """Ends the session and closes its states."""
        self.forget()
        self.session.close()

    def forget(self) -> None:
        """Closes the states."""
        for state in self.states:
            if state is not None:
                state.close()
        self.states = []


@attrs.define
class Observers:
    """The functions that show what happens."""

    on_stdout: Callable[[str], object]
    on_stderr: Callable[[str], object]
    on_display: Callable[[Displayed], object]


class Console:
    """Runs blocks of code in the current branch.

    start: a function that makes a session: the first one, and another one after a session has ended. undo: how many
    states are stored.
    """

    def __init__(self, policy: Policy, start: Callable[[], Session]) -> None:
        self.policy = policy
        self._start = start
        self.undo = min(MOST_UNDO, policy.session.branches // 2)
        self.branches = {MAIN: Branch(start())}
        self.current = MAIN
        self.blocks: list[str] = []
        self.last: Result | None = None
        self.denials: dict[Denial, int] = {}
        self.no_undo = "" if policy.session.branches else "the policy allows no copies (session.branches)"

    @property
    def branch(self) -> Branch:
        """The current branch."""
        return self.branches[self.current]

    @property
    def session(self) -> Session:
        """The session of the current branch."""
        return self.branch.session

    def run(self, code: str, observers: Observers, *, name: str = "", echo: bool = True) -> Result:
        """Runs a block of code. The Result becomes `last`."""
        self.blocks.append(code)
        if not self.branch.states:
            self.keep()
        self.last = self.session.exec(
            code, name=name, echo=echo,
            on_stdout=observers.on_stdout, on_stderr=observers.on_stderr, on_display=observers.on_display,
        )  # fmt: skip
        for denial, count in self.last.denials.items():
            self.denials[denial] = self.denials.get(denial, 0) + count
        return self.last

    def renew(self) -> None:
        """Replaces the current branch's box by a new one."""
        self.branch.close()
        self.branches[self.current] = Branch(self._start())

    # --- copies -------------------------------------------------------------------------------------------------------

    def keep(self) -> None:
        """Stores the current state, so that `go_back` can return to it."""
        if not self.undo or not self.session.alive:
            return
        states = self.branch.states
        if len(states) > self.undo:
            oldest = states.pop(0)
            if oldest is not None:
                oldest.close()
        try:
            states.append(self.session.snapshot())
            self.no_undo = ""
        except proxybox.ProxyboxError as error:
            states.append(None)
            self.no_undo = str(error)

    def go_back(self) -> None:
        """Goes back to the state before the last block. Raises CannotCopy."""
        states = self.branch.states
        if len(states) < 2:
            raise CannotCopy(self.no_undo or "there is no earlier state")
        earlier = states[-2]
        if earlier is None:
            raise CannotCopy("the earlier state could not be kept: threads lived")
        latest = states.pop()
        if latest is not None:
            latest.close()
        self.session.restore(earlier)

    def branch_to(self, name: str) -> bool:
        """Changes to another branch; a new one begins with the current state.

        Returns whether the branch is new. Raises CannotCopy.
        """
        if name in self.branches:
            self.current = name
            return False
        self.branches[name] = Branch(self.session.fork())
        self.current = name
        self.keep()
        return True

    def drop(self, name: str) -> None:
        """Ends a branch that is not the current one."""
        self.branches.pop(name).close()

    def close(self) -> None:
        """Ends all branches."""
        for branch in self.branches.values():
            with contextlib.suppress(proxybox.ProxyboxError):
                branch.close()
