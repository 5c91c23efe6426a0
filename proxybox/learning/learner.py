"""The rounds of learning: run, find what was missing, ask, widen, run again; then remove what is not needed.

Rule: each run is in a box with the policy that was agreed to so far. No run changes the host: during learning, changes
of host files stay in overlays and copies (`for_learning`).
"""

import os
from collections.abc import Callable, Container, Sequence
from typing import Final

import attrs

from proxybox.controller.errors import SandboxStartError
from proxybox.learning.hostfiles import Host
from proxybox.learning.merging import wider
from proxybox.learning.needs import MOST_TOLD, Needs, NeedsSearch, Writes, counted
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal, covers, shown, with_mount, without_mount
from proxybox.policies import Mount, Policy, PolicyError, evolve
from proxybox.result import Result, Status

#: The default exit statuses of programs that end well.
WELL: Final = frozenset({0})
#: The most runs to find out what can be removed again, and the most seconds of all these runs.
MOST_TRIALS: Final = 24
_MOST_SECONDS: Final = 120.0
#: The most bytes of a writable file, whose copy is in memory during learning.
MOST_COPIED: Final = 16 << 20


@attrs.frozen(eq=False)
class LearnedRun:
    """One run: its result, and the requests that an empty program does not make."""

    result: Result
    observed: Observed


Runner = Callable[[Policy], Sequence[LearnedRun]]
"""Runs the program in boxes with a policy, once for each set of arguments."""
Decide = Callable[[Proposal], bool]
"""Whether a proposal is let in. Raises Enough to have no more proposals."""


class Enough(Exception):
    """Raised by a Decide: nothing more is allowed."""


@attrs.frozen(kw_only=True, eq=False)
class Learned:
    """The result of learning.

    policy: the agreed policy. lines: its additions to the first policy. declined: refused proposals. dropped: proposals
    that were allowed but not needed. notes: other remarks, in words. runs: the last ones. rounds: how often the program
    was run before it passed. accepted: the exit statuses with which it ends well.
    """

    policy: Policy
    lines: tuple[Proposal, ...] = ()
    declined: tuple[Proposal, ...] = ()
    dropped: tuple[Proposal, ...] = ()
    notes: tuple[str, ...] = ()
    runs: tuple[LearnedRun, ...] = ()
    rounds: int = 0
    accepted: Container[int] = WELL

    @property
    def passes(self) -> bool:
        """Whether the program ended well with each set of its arguments."""
        return passes(self.runs, self.accepted)


@attrs.define(kw_only=True, eq=False)
class Learner:
    """Learns a policy for one program.

    policy: the first one. run: runs the program. decide: decides about a proposal. tell: gets a line for each round.
    accepted: the exit statuses with which the program ends well.
    """

    policy: Policy
    host: Host
    run: Runner
    decide: Decide
    writes: Writes = "memory"
    rounds: int = 100
    generalise: bool = False
    accepted: Container[int] = WELL
    tell: Callable[[str], object] = lambda _: None
    _first: Policy = attrs.field(default=attrs.Factory(lambda self: self.policy, takes_self=True), init=False)
    _lines: dict[str, Proposal] = attrs.field(factory=dict, init=False)
    _declined: dict[str, Proposal] = attrs.field(factory=dict, init=False)
    _notes: dict[str, None] = attrs.field(factory=dict, init=False)
    _passed: "tuple[Policy, dict[str, Proposal], tuple[LearnedRun, ...]] | None" = attrs.field(default=None, init=False)

    def learn(self) -> Learned:
        """Returns the agreed policy, and the program's results under it."""
        runs: tuple[LearnedRun, ...] = ()
        number = 0
        try:
            while True:
                number += 1
                try:
                    runs = self._run(self.policy)
                except SandboxStartError as error:
                    if not self._shows_folder(error):
                        raise
                    continue
                self.tell(f"run {number}: {'; '.join(shown(run.result.summary()) for run in runs)}")
                if self._passes(runs):
                    self._passed = self.policy, dict(self._lines), runs
                if not self._widen(runs):
                    break
                if number >= self.rounds:
                    self._notes[f"{number} runs were not enough: more can be allowed (--rounds)"] = None
                    runs = self._run(self.policy)
                    break
        except Enough:
            runs = self._run(self.policy)
        runs = self._as_it_passed(runs)
        dropped = self._drop(runs) if self._passes(runs) else ()
        if self.generalise and self._passes(runs):
            self._generalise()
        if dropped or self.generalise:
            runs = self._run(self.policy)
        return Learned(
            policy=self.policy,
            lines=tuple(self._lines.values()),
            declined=tuple(self._declined.values()),
            dropped=dropped,
            notes=self._all_notes(),
            runs=runs,
            rounds=number,
            accepted=self.accepted,
        )

    def _passes(self, runs: Sequence[LearnedRun]) -> bool:
        return passes(runs, self.accepted)

    def _as_it_passed(self, runs: tuple[LearnedRun, ...]) -> tuple[LearnedRun, ...]:
        """Returns the last runs. If they fail, restores the last policy under which the program has passed."""
        if self._passes(runs) or self._passed is None:
            return runs
        policy, lines, passed = self._passed
        for name, line in self._lines.items():
            if name not in lines:
                self._declined[name] = line
                self._notes[f"{shown(line.described())} is left out: with it the program does not pass any more"] = None
        self.policy, self._lines = policy, lines
        return passed

    def _run(self, policy: Policy) -> tuple[LearnedRun, ...]:
        return tuple(self.run(for_learning(policy)))

    def _all_notes(self) -> tuple[str, ...]:
        notes = tuple(self._notes)
        left = len(notes) - MOST_TOLD
        return notes if left <= 0 else (*notes[:MOST_TOLD], f"and {left:,} more")

    # --- more ---

    def _shows_folder(self, error: SandboxStartError) -> bool:
        """Asks whether to show the script's folder itself, after no box could start with a copy of it."""
        if self.policy.filesystem.box != "memory" or self.host.folder is None:
            return False
        self._ask(
            Proposal(
                key="filesystem.box",
                value="overlay",
                why=f"no box starts with a copy of the script's folder: {error}",
                lets_in=(f"all of {self.host.folder}, as it is at each moment; changes are kept apart",),
            )
        )
        return self.policy.filesystem.box != "memory"

    def _widen(self, runs: Sequence[LearnedRun]) -> bool:
        """Asks about the needs of the runs. Returns whether anything was allowed."""
        was = self.policy
        answered = {*self._lines, *self._declined}
        for run in runs:
            search = NeedsSearch(policy=self.policy, host=self.host, writes=self.writes, answered=answered)
            needs: Needs = search.needs(run.result, run.observed)
            self._notes.update(dict.fromkeys(needs.notes))
            for proposal in needs.proposals:
                if proposal.name not in answered:
                    answered.add(proposal.name)
                    self._ask(proposal)
        return self.policy != was

    def _ask(self, proposal: Proposal) -> None:
        try:
            widened = self._widened(proposal)
        except PolicyError as error:
            self._notes[f"{shown(proposal.described())} is not proposed: {error}"] = None
            return
        if widened == self.policy:
            return
        try:
            is_let_in = self.decide(proposal)
        except Enough:
            self._declined[proposal.name] = proposal
            raise
        if not is_let_in:
            self._declined[proposal.name] = proposal
        elif why := self._why_no_start(widened):
            self._notes[f"{shown(proposal.described())} cannot be: {why}"] = None
            self._declined[proposal.name] = proposal
        else:
            self.policy = widened
            self._keep(proposal)

    def _widened(self, proposal: Proposal) -> Policy:
        """Returns the policy with a proposal, without the learned empty folders that it makes unnecessary.

        Raises PolicyError.
        """
        policy = proposal.apply(self.policy)
        if proposal.mount is None or not proposal.source or proposal.mount.mode == "ro":
            return policy
        for line in self._lines.values():
            is_within = line.mount is not None and line.mount.target.startswith(f"{proposal.mount.target}/")
            if line.mount is not None and is_within and not line.source:
                policy = without_mount(policy, line.mount)
        return policy

    def _why_no_start(self, policy: Policy) -> str:
        """Returns why no box starts under a policy whose mounts have changed; an empty text if a box starts."""
        if policy.filesystem == self.policy.filesystem:
            return ""
        try:
            self.run(for_learning(evolve(policy, limits={"calls": 1})))
        except SandboxStartError as error:
            return str(error)
        return ""

    def _keep(self, proposal: Proposal) -> None:
        """Adds a line, and removes lines that it makes unnecessary."""
        mounts = set(map(_place, self.policy.filesystem.mounts))
        self._lines = {
            name: line
            for name, line in self._lines.items()
            if (line.mount is None or _place(line.mount) in mounts)
            and (line.mount is not None or line.key != proposal.key)
        }
        self._lines[proposal.name] = proposal

    # --- less ---

    def _drop(self, runs: Sequence[LearnedRun]) -> tuple[Proposal, ...]:
        """Removes each line without which the program still ends well, with the same output and files."""
        more_time = {"limits.wall_time", "limits.cpu_time"} & {line.key for line in self._lines.values()}
        lines = [
            each for each in self._lines.values() if each.mount is not None or (each.key == "time.kind" and more_time)
        ]
        seconds = sum(run.result.usage.wall for run in runs)
        if not lines:
            return ()
        if len(lines) > MOST_TRIALS or seconds * (len(lines) + 2) > _MOST_SECONDS:
            self._notes["it was not tried what can be left out: that would take too many runs"] = None
            return ()
        wanted = [outcome(run) for run in self._run(repeatable(self.policy))]
        is_same_each_time = wanted == [outcome(run) for run in self._run(repeatable(self.policy))]
        dropped = []
        for line in reversed(lines):
            narrower = self._without(line)
            try:
                without = self._run(repeatable(narrower))
            except SandboxStartError:
                continue
            found = [outcome(run) for run in without]
            if self._passes(without) and (found == wanted or not is_same_each_time):
                self.policy = narrower
                del self._lines[line.name]
                dropped.append(line)
        return tuple(dropped)

    def _without(self, line: Proposal) -> Policy:
        """Returns the policy without a line, and with the first policy's value in its place."""
        if line.mount is None:
            return evolve(self.policy, time=self._first.time)
        policy = without_mount(self.policy, line.mount)
        targets = {mount.target for mount in policy.filesystem.mounts}
        for mount in self._first.filesystem.mounts:
            was_replaced = mount.target == line.mount.target or covers(line.mount, mount)
            if was_replaced and mount.target not in targets:
                policy = with_mount(policy, mount)
        return policy

    def _generalise(self) -> None:
        """Asks about folders that could replace files; if a folder is allowed, the files' lines are removed."""
        learned = {line.mount for line in self._lines.values() if line.mount is not None and not line.secret}
        try:
            taken = {mount.target for mount in self.policy.filesystem.mounts}
            for each in wider(mount for mount in self.policy.filesystem.mounts if mount in learned):
                if each.mount.target in taken:  # the program may need the mount at this place
                    continue
                search = NeedsSearch(policy=self.policy, host=self.host)
                notes: dict[str, None] = {}
                made = search.widened(each.mount, notes)
                self._notes.update(notes)
                if made is not None:
                    calls: dict[str, int] = {}
                    for line in self._lines.values():
                        if line.mount in each.files:
                            calls |= {name: calls.get(name, 0) + count for name, count in line.calls.items()}
                    why = f"stands for {counted(len(each.files), 'file')}"
                    self._ask(attrs.evolve(made, calls=calls, why=why, needed=False))
        except Enough:
            pass


def _place(mount: Mount) -> tuple[str, str, str, tuple[str, ...] | None]:
    return mount.target, repr(mount.source), mount.mode, mount.names


def passes(runs: Sequence[LearnedRun], accepted: Container[int] = WELL) -> bool:
    """Whether all runs ended by themselves, with an accepted exit status, and their output was not cut."""
    return bool(runs) and all(_ended_well(run.result, accepted) and not run.result.truncated for run in runs)


def _ended_well(result: Result, accepted: Container[int]) -> bool:
    return result.ok or (result.status is Status.ERROR and result.exit_code in accepted)


def outcome(run: LearnedRun) -> tuple[object, ...]:
    """Returns what a caller sees of a run: its end, its output, and its changed files."""
    result = run.result
    changes = tuple((change.name, change.kind, change.content) for change in result.files.changes)
    return result.status, result.exit_code, result.stdout_bytes, result.stderr_bytes, changes


def repeatable(policy: Policy) -> Policy:
    """Returns the policy with a seed in place of the host's randomness, so that two runs can be compared."""
    return evolve(policy, randomness=0) if policy.randomness == "system" else policy


def for_learning(policy: Policy) -> Policy:
    """Returns the policy with overlays for folders and copies of files, so that nothing changes the host.

    A file that is too large to be copied cannot be written.
    """
    filesystem = policy.filesystem
    if filesystem.box != "rw" and all(mount.mode != "rw" for mount in filesystem.mounts):
        return policy
    mounts = tuple(_kept_apart(mount) for mount in filesystem.mounts)
    return evolve(policy, filesystem={"mounts": mounts, "box": "overlay" if filesystem.box == "rw" else filesystem.box})


def _kept_apart(mount: Mount) -> Mount:
    if mount.mode != "rw" or not isinstance(mount.source, str):
        return mount
    if not os.path.isfile(mount.source):
        return Mount(mount.target, mount.source, mode="overlay")
    try:
        with open(mount.source, "rb") as file:
            content = file.read(MOST_COPIED + 1)
    except OSError:
        return Mount(mount.target, mount.source)
    if len(content) > MOST_COPIED:
        return Mount(mount.target, mount.source)
    return Mount(mount.target, content, mode="memory")
