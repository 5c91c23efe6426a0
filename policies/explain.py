"""A policy in plain words, in sections: what `proxybox policy explain` prints.

Rule: every key of a policy is explained, and nothing is said that does not follow from the policy. Sentences about one
key alone are in its declaration; sentences about several keys are here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from proxybox.policies.declaring import Measure
from proxybox.policies.keys import PolicyKey, keys
from proxybox.policies.models import Filesystem, Limits, Mount, Output, Policy, SessionLimits, Time
from proxybox.policies.moments import spoken_moment
from proxybox.policies.sizes import spoken_duration, spoken_size


@attrs.frozen
class Section:
    """One part of the explanation: a title, and sentences that say what the policy allows."""

    title: str
    lines: tuple[str, ...]


def explain(policy: Policy) -> tuple[Section, ...]:
    """Explains what a box under `policy` can read, write, see and use up, and what happens when a call is denied."""
    return (
        Section("What it can read", tuple(_reads(policy))),
        Section("What it can write", tuple(_writes(policy.filesystem, policy.limits))),
        Section("What it sees of time", tuple(_time(policy.time))),
        Section("Randomness", (_randomness(policy.randomness),)),
        Section("How long it may run", tuple(_durations(policy.limits, policy.time))),
        Section("How much it may use", tuple(_amounts(policy.limits))),
        Section("What it may print", tuple(_output(policy.output))),
        Section("What holds for a session", tuple(_session(policy.session, policy.limits))),
        Section("Who it believes it is", tuple(_environment(policy))),
        Section("What it can reach", ("No network, no other process, no program to start.",)),
        Section("When a call is denied", (_denied(policy.on_denied),)),
        Section("What the host must give", (_layers(policy.require_layers),)),
    )


explain_policy = explain  # for the package, where `explain` is this module


def explain_text(policy: Policy) -> str:
    """Returns the result of `explain` as plain text."""
    parts = ["\n".join([section.title, *(f"  - {line}" for line in section.lines)]) for section in explain(policy)]
    return "\n\n".join(parts) + "\n"


# --- files ----------------------------------------------------------------------------------------


def _reads(policy: Policy) -> Iterator[str]:
    filesystem = policy.filesystem
    yield "The interpreter and its standard library, and minimal /etc, /dev and /proc of its own."
    if policy.preload:
        yield f"Where it starts warm, imported before any untrusted code runs: {', '.join(policy.preload)}."
    if policy.warm_up:
        yield "Where it starts warm, statements of the policy's have run before any untrusted code (warm_up)."
    if filesystem.box == "memory":
        yield "A copy of the script's folder, at /box, made when the box starts."
    else:
        yield "The folder of the script, at /box."
    for mount in filesystem.mounts:
        if mount.source is not None:
            yield f"{mount.target}: {_source(mount)}."
    if filesystem.hide_dotfiles:
        yield "Of folders of the host, files and folders that begin with a dot are hidden."
    else:
        yield "Of folders of the host, files and folders that begin with a dot are seen too."
    yield from _declared("filesystem", filesystem)


def _source(mount: Mount) -> str:
    source = mount.source
    if isinstance(source, str):
        names = "" if mount.names is None else f", of which only names that match {' or '.join(mount.names)}"
        return f"{source} of the host{names}"
    if isinstance(source, Mapping):
        return f"a tree of {_count(_files_in(source), 'file')} that the policy brings"
    if isinstance(source, bytes):
        return f"a file of {spoken_size(len(source))} that the policy brings"
    return "a file that a function of the caller's generates"


def _files_in(tree: Mapping[str, object]) -> int:
    return sum(_files_in(item) if isinstance(item, Mapping) else 1 for item in tree.values())


def _writes(filesystem: Filesystem, limits: Limits) -> Iterator[str]:
    yield "In memory, until the box ends: /tmp."
    yield {
        "ro": "/box is read-only.",
        "rw": "/box: what it changes there is changed on the host, at once.",
        "overlay": "/box: changes are kept apart and reported; the host's files stay as they are.",
        "memory": "In memory, until the box ends: /box; the host's files stay as they are.",
    }[filesystem.box]
    for mount in filesystem.mounts:
        quota = _quota(mount)
        if mount.mode == "rw":
            yield f"{mount.target}: what it changes there is changed on the host, at once."
        elif mount.mode == "overlay":
            yield f"{mount.target}: changes are kept apart and reported{quota}."
        elif mount.mode == "memory":
            yield f"In memory, until the box ends: {mount.target}{quota}."
        else:
            yield f"{mount.target} is read-only."
    disk = "any amount" if limits.disk is None else f"at most {spoken_size(limits.disk)}"
    files = "any number of files" if limits.files is None else _count(limits.files, "file")
    yield f"All that it writes in memory and overlays together: {disk}, {files}."


def _quota(mount: Mount) -> str:
    parts = []
    if mount.size is not None:
        parts.append(spoken_size(mount.size))
    if mount.files is not None:
        parts.append(_count(mount.files, "file"))
    return f" (at most {' and '.join(parts)})" if parts else ""


# --- time -----------------------------------------------------------------------------------------


def _time(time: Time) -> Iterator[str]:
    start = "now" if time.start is None else spoken_moment(time.start)
    if time.kind == "real":
        yield "The host's clocks."
    elif time.kind == "frozen":
        yield f"Clocks that stand still at {start}."
    elif time.kind == "virtual":
        yield f"Clocks of its own, which start at {start} and move as it sleeps and reads them."
    else:
        yield f"Clocks that start at {start} and run {time.rate:g} times as fast as real ones."
    if time.kind in ("frozen", "virtual"):
        yield "No clock of the host's can be read; alarms go off by its time while the program computes."
    if time.sleep == "real":
        waits = f" divided by {time.rate:g}" if time.kind == "scaled" else ""
        yield f"A sleep waits for its time{waits}."
    elif time.kind == "frozen":
        yield "A sleep returns at once."
    else:
        yield "A sleep returns at once, with the clocks moved on by its length."
    yield from _declared("time", time)


def _randomness(randomness: str | int) -> str:
    if isinstance(randomness, str):
        return "From the host's generator: different in each run."
    return (
        f"From the seed {randomness}: the same program with the same input under the same policy "
        "does the same, byte for byte, if it has one thread and its time is not the host's."
    )


# --- limits ---------------------------------------------------------------------------------------


_WAITING = {
    "auto": "Waiting for a person at a terminal, or a function of the caller's, does not count.",
    "free": "Waiting for standard input does not count.",
    "counted": "Waiting for standard input counts.",
}


def _durations(limits: Limits, time: Time) -> Iterator[str]:
    if limits.wall_time is None:
        yield "As long as it likes."
    else:
        real = "" if time.kind == "real" else " of real time"
        yield f"{spoken_duration(limits.wall_time)}{real} in all; then it is ended (time_limit)."
        yield _WAITING[limits.input_wait]
    if limits.cpu_time is None:
        yield "With any amount of processor time."
    else:
        yield f"{spoken_duration(limits.cpu_time)} of processor time; then the same."


def _amounts(limits: Limits) -> Iterator[str]:
    yield from _declared("limits", limits)
    yield f"Of the memory {spoken_size(limits.nursery_size)} for new objects, between two collections of garbage."
    if limits.thread_count == 1:
        yield "One thread: no other can be started."
    else:
        yield f"{limits.thread_count} threads at once, the main one among them."


def _declared(name: str, section: Any) -> Iterator[str]:
    """Yields the sentences that fields of a section have in their declarations."""
    for key in keys().values():
        if key.section == name and key.facts.explain:
            value = getattr(section, key.field.name)
            yield key.facts.explain_none if value is None else key.facts.explain.format(_amount(key, value))


def _amount(key: PolicyKey, value: Any) -> str:
    if key.facts.measure is Measure.SIZE:
        return spoken_size(value)
    return _count(value, key.facts.noun) if key.facts.noun else key.in_words(value)


def _output(output: Output) -> Iterator[str]:
    parts = []
    if output.limit is not None:
        parts.append(spoken_size(output.limit))
    if output.lines is not None:
        parts.append(_count(output.lines, "line"))
    if not parts:
        yield "Any amount."
    else:
        excess = "the rest is dropped" if output.on_excess == "truncate" else "then it is ended"
        yield f"At most {' and '.join(parts)} on each of stdout and stderr; {excess}."
    yield {
        "auto": "Terminal escape sequences are made visible text on terminals, and kept elsewhere.",
        "neutralise": "Terminal escape sequences are made visible text.",
        "raw": "Terminal escape sequences are passed on as they are: it can control the terminal.",
    }[output.escapes]
    named = [name for name in output.display if name != "text/plain"]
    shown = ", ".join(["plain text", *named])
    rest = "of HTML, tables and text; of" if named and "text/html" not in named else "of"
    yield f"On a notebook's page it can show {shown}; {rest} anything else, the plain text."
    obeyed = [name for name in named if name in ("text/html", "text/markdown", "application/javascript")]
    if obeyed:
        yield f"With {' and '.join(obeyed)} it can do on that page whatever its reader can: read, write and run."
    yield from _declared("output", output)


# --- sessions -------------------------------------------------------------------------------------


def _session(session: SessionLimits, limits: Limits) -> Iterator[str]:
    yield "How long it may run, its OS calls and what it may print: for each call anew; the rest for all together."
    parts = []
    if session.wall_time is not None:
        parts.append(f"{spoken_duration(session.wall_time)} from its start")
    if session.cpu_time is not None:
        parts.append(f"{spoken_duration(session.cpu_time)} of processor time")
    if session.calls is not None:
        parts.append(_count(session.calls, "OS call"))
    if parts:
        yield f"All its calls together: {', '.join(parts)}; then it is ended."
    else:
        yield "It lasts until it is closed, whatever its calls use together."
    if {limits.wall_time, limits.cpu_time, session.wall_time, session.cpu_time} == {None}:
        pass  # nothing interrupts a call
    elif session.grace:
        left = spoken_duration(session.grace)
        yield f"A call that meets a limit of time is interrupted; if it goes on for {left}, the session is ended."
    else:
        yield "A call that meets a limit of time ends the session at once."
    if session.branches:
        copies = "copy" if session.branches == 1 else "copies"
        yield f"{session.branches:,} {copies} of it may live at once besides it."
    else:
        yield "It cannot be copied."
    yield from _declared("session", session)


# --- the rest -------------------------------------------------------------------------------------


def _environment(policy: Policy) -> Iterator[str]:
    it = policy.environment
    yield f"User {it.user} (uid {it.uid}, gid {it.gid}) with the home folder {it.home}."
    processors = _count(it.cpu_count, "processor")
    yield f"On a host named {it.hostname} with {processors}, locale {it.locale}."
    yield from _declared("environment", it)
    if it.variables:
        yield f"Environment variables besides the usual ones: {', '.join(sorted(it.variables))}."
    else:
        yield "No environment variable but the usual ones (HOME, USER, LANG, PATH)."


def _denied(on_denied: str) -> str:
    if on_denied == "end":
        return "The box is ended (denied)."
    return "It fails with an error number, as it would on Linux, and is listed in the result."


def _layers(layers: tuple[str, ...]) -> str:
    if not layers:
        return "Nothing beyond what every box needs; further layers are used where they are there."
    return f"{', '.join(layers)}: a box without them does not start."


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
