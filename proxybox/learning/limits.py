"""Limits that a run has reached, and the next value for each, up to a bound.

Rule: no proposal removes a limit, or exceeds the last step of its ladder.
"""

from collections.abc import Container, Iterator
from typing import Final

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.oscalls.rows import names_of
from proxybox.controller.status import Status
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal
from proxybox.policies import Policy
from proxybox.policies.keys import keys
from proxybox.result import Result

#: The proposed values for each limit, one step at a time; they are declared with the limit.
LADDERS: Final = {name: key.facts.steps for name, key in keys().items() if key.facts.steps}
#: Calls that fail with ENOSPC because of the number of files; other calls fail because of bytes.
_ADDS_A_FILE: Final = names_of(CallEffect.OPENS | CallEffect.MAKES | CallEffect.LINKS)
#: If a program has read a clock more often, and used up its time, it may have waited for time to pass.
_WAITS: Final = 5_000
_LETS_IN: Final = {
    "limits.threads": "a clock that no policy can hide: a thread that counts",
    "limits.memory": "this much of the host's memory",
    "limits.disk": "this much of the controller's memory, for what it writes",
    "time.kind": "the host's time, and how long things take",
}


def next_step(key: str, value: float | None) -> int | None:
    """Returns the next value of a limit's ladder; None if there is no limit, or no further step."""
    if value is None:
        return None
    return next((step for step in LADDERS[key] if step > value), None)


def reached(policy: Policy, result: Result, observed: Observed, answered: Container[str] = ()) -> Iterator[Proposal]:
    """Yields proposals for a run that has failed at limits of its policy, or whose output was cut.

    answered: the names of proposals that are not to be made again.
    """
    status, why = result.status, result.why
    if status is Status.OUTPUT_LIMIT or result.truncated:
        lines = max(result.stdout_bytes.count(b"\n"), result.stderr_bytes.count(b"\n"))
        by_lines = policy.output.lines is not None and lines >= policy.output.lines
        yield from _step(policy, "output.lines" if by_lines else "output.limit", "it printed more than it may")
    if result.ok:
        return
    refused = {denial.call: count for denial, count in result.denials.items() if denial.reason == "limits.threads"}
    if refused:
        yield from _step(policy, "limits.threads", "a thread was refused", refused)
        return  # even if another limit has ended it: it may have waited for this thread
    if status is Status.TIME_LIMIT:
        if policy.time.kind in ("virtual", "frozen") and observed.clock > _WAITS:
            note = f"it read the clock {observed.clock:,} times: it may wait for time to pass"
            real = Proposal(key="time.kind", value="real", why=note, lets_in=(_LETS_IN["time.kind"],))
            if real.name not in answered:
                yield real
                return
        key = "limits.wall_time" if "wall_time" in why else "limits.cpu_time"
        yield from _step(policy, key, f"the run was ended by {key}")
    if status is Status.MEMORY_LIMIT:
        yield from _step(policy, "limits.memory", "the run had no memory left")
    if status is Status.CALL_LIMIT:
        yield from _step(policy, "limits.calls", "the run was ended by limits.calls")
    if names := observed.short.get("ENOSPC"):
        of_files = {name: count for name, count in names.items() if name in _ADDS_A_FILE}
        of_bytes = {name: count for name, count in names.items() if name not in of_files}
        if of_bytes:
            yield from _step(policy, "limits.disk", "no space was left", of_bytes)
        if of_files:
            yield from _step(policy, "limits.files", "no file could be added", of_files)
    elif status is Status.DISK_LIMIT:
        yield from _step(policy, "limits.disk", "no space was left")
    if names := observed.short.get("EMFILE"):
        yield from _step(policy, "limits.open_files", "too many files were open", names)


def _step(policy: Policy, key: str, why: str, calls: dict[str, int] | None = None) -> Iterator[Proposal]:
    now = keys()[key].of(policy)
    further = next_step(key, now)
    if further is None:
        return
    lets_in = (_LETS_IN[key],) if key in _LETS_IN else ()
    yield Proposal(
        key=key, value=further, why=f"{why} (at {keys()[key].in_words(now)})", calls=calls or {}, lets_in=lets_in
    )
