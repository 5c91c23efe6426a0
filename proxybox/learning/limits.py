"""Limits that a run has reached, and the next value for each, up to a bound.

Rule: no limit is ever proposed to be removed, and none beyond the last step of its ladder.
"""

from collections.abc import Container, Iterator
from typing import Any, Final

from proxybox.controller.status import Status
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal, written_value
from proxybox.policies import Policy
from proxybox.result import Result

_K, _M, _G = 1 << 10, 1 << 20, 1 << 30
#: What is proposed, one step at a time.
LADDERS: Final[dict[str, tuple[int, ...]]] = {
    "limits.wall_time": (5, 10, 20, 60, 120),
    "limits.cpu_time": (2, 5, 10, 20, 60, 120),
    "limits.memory": (256 * _M, 512 * _M, 1 * _G, 2 * _G, 4 * _G),
    "limits.disk": (8 * _M, 16 * _M, 64 * _M, 256 * _M, 1 * _G, 4 * _G),
    "limits.files": (500, 2_000, 10_000, 50_000, 200_000),
    "limits.open_files": (64, 256, 1_024, 4_096, 16_384),
    "limits.threads": (2, 4, 8, 16, 32, 64, 128, 256),
    "limits.calls": (200_000, 1_000_000, 5_000_000, 20_000_000, 100_000_000),
    "output.limit": (64 * _K, 256 * _K, 1 * _M, 4 * _M, 16 * _M, 64 * _M),
    "output.lines": (2_000, 10_000, 50_000, 200_000, 1_000_000),
}
#: Readings of a clock after which a program that used up its time may have waited for time to pass.
_WAITS: Final = 5_000
_LETS_IN: Final = {
    "limits.threads": "a clock that no policy can hide: a thread that counts",
    "limits.memory": "this much of the host's memory",
    "limits.disk": "this much of the controller's memory, for what it writes",
    "time.kind": "the host's time, and how long things take",
}


def value_of(policy: Policy, key: str) -> Any:
    """Returns the value of a key such as "limits.memory"."""
    section, _, field = key.partition(".")
    return getattr(getattr(policy, section), field)


def next_step(key: str, value: float | None) -> int | None:
    """Returns the next value of a limit's ladder; None where there is no limit, or no further step."""
    if value is None:
        return None
    return next((step for step in LADDERS[key] if step > value), None)


def reached(policy: Policy, result: Result, observed: Observed, answered: Container[str] = ()) -> Iterator[Proposal]:
    """Yields what would let a run go on that has failed at limits of its policy, or whose output was cut.

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
        return  # whatever else has ended it, it may have waited for this thread
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
        of_files = {name: count for name, count in names.items() if name.startswith(("open", "mk", "symlink", "link"))}
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
    now = value_of(policy, key)
    further = next_step(key, now)
    if further is None:
        return
    lets_in = (_LETS_IN[key],) if key in _LETS_IN else ()
    yield Proposal(
        key=key, value=further, why=f"{why} (at {written_value(key, now)})", calls=calls or {}, lets_in=lets_in
    )
