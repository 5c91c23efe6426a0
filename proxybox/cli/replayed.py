"""The result of a replay, in words and as JSON."""

import sys
from collections.abc import Mapping
from typing import Any

from proxybox.cli import streams
from proxybox.controller.audit import OSCall
from proxybox.controller.record.exactness import as_data as inexact_as_data
from proxybox.controller.record.parting import Divergence, RequestText
from proxybox.records.replaying import Replay
from proxybox.terminal import strace
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.text import Paint

#: How many bytes are shown before and after the first difference of two arguments; the most characters of other values.
_BEFORE, _BEHIND, _MOST_TEXT = 12, 28, 100


def print_replay(done: Replay) -> None:
    """Prints the result of a replay on stderr."""
    lines = harmless_lines("\n".join(in_words(done, Paint(sys.stderr))))
    sys.stderr.write(f"{streams.line_break()}{lines}\n")


def in_words(done: Replay, paint: Paint) -> list[str]:
    """Returns the result of a replay in words, line by line."""
    if done.divergence is not None:
        inexact = done.inexact
        said = "" if inexact is None else f"the record says that it is inexact from call {inexact.call:,} on"
        return [*parting(done.divergence, paint), *([f"proxybox: {said}: {inexact.why}"] if inexact else [])]
    if done.is_stopped:
        return [f"proxybox: the same as recorded until call {done.calls:,}, where it was stopped"]
    if not done.is_complete:
        return [
            f"proxybox: {done.calls:,} OS calls are as recorded; then the record ends, before the program did: the run "
            "was cut off, or its record was"
        ]
    return [f"proxybox: the same as recorded: {done.calls:,} OS calls, {done.result.summary()}"]


def parting(parted: Divergence, paint: Paint) -> list[str]:
    """Returns a divergence with both calls, one below the other."""
    asked = parted.expected or parted.got
    thread = f", thread {asked.thread}" if asked is not None and asked.thread else ""
    lines = [f"proxybox: the replay parts from its record at call {parted.number:,}{thread}: {parted.why}"]
    expected = None if parted.expected is None else as_call(parted.expected)
    got = None if parted.got is None else as_call(parted.got)
    if expected is not None and expected == got:
        lines.append(f"  at        {expected}")
    else:
        lines += [] if expected is None else [f"  {paint('green', 'expected')}  {expected}"]
        lines += [] if got is None else [f"  {paint('red', 'got')}       {got}"]
    if parted.expected is not None and parted.got is not None and parted.expected.name == parted.got.name:
        lines += [f"  {line}" for line in unlike(parted.expected.compared, parted.got.compared)]
    return lines


def unlike(expected: Mapping[str, Any], got: Mapping[str, Any]) -> list[str]:
    """Returns the arguments in which two requests of a call differ, each with both values, line by line.

    Of bytes, only the part around the first difference is shown, because they may be long.
    """
    return [
        on_one_line(f"{name}: {_part(expected.get(name), got.get(name))}")
        for name in expected
        if expected.get(name) != got.get(name)
    ]


def _part(one: Any, other: Any) -> str:
    if not isinstance(one, bytes) or not isinstance(other, bytes):
        return f"{_short(one)} and {_short(other)}"
    pairs = enumerate(zip(one, other, strict=False))
    at = next((at for at, (ours, theirs) in pairs if ours != theirs), min(len(one), len(other)))
    begin = max(0, at - _BEFORE)
    shown = [f"{'...' if begin else ''}{each[begin : at + _BEHIND]!r}" for each in (one, other)]
    return f"at byte {at:,} of {len(one):,} and {len(other):,}: {shown[0]} and {shown[1]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}..."


def as_call(asked: RequestText) -> str:
    """Returns a request as strace(1) shows a call."""
    call = OSCall(asked.name, 0, "", asked.arguments, asked.thread)
    return f"{asked.name}({strace.arguments(call)})"


def as_data(done: Replay) -> dict[str, Any]:
    """Returns the result of a replay as a JSON object."""
    parted = done.divergence
    return {
        "ok": done.ok,
        "calls": done.calls,
        "is_complete": done.is_complete,
        "inexact": inexact_as_data(done.inexact),
        "claims": list(done.claims),
        "divergence": parted and {
            "call": parted.number,
            "why": parted.why,
            "expected": parted.expected and {"thread": parted.expected.thread, "call": as_call(parted.expected)},
            "got": parted.got and {"thread": parted.got.thread, "call": as_call(parted.got)},
        },
        "result": done.result.to_dict(),
    }  # fmt: skip
