"""`proxybox replay`: runs a recorded program again, from its record alone."""

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from proxybox.cli import streams
from proxybox.cli.choosing import chosen_packages
from proxybox.cli.failures import CommandError, UsageError, complain
from proxybox.cli.repl import at_prompt
from proxybox.cli.run import interrupted, tell_failure
from proxybox.controller.audit import OSCall
from proxybox.controller.errors import CannotCopy
from proxybox.controller.record.exactness import as_data as inexact_as_data
from proxybox.controller.record.replayer import Asked, Divergence
from proxybox.policies import preset
from proxybox.records.replaying import Replay, ReplayedCall
from proxybox.records.replaying import replay as replay_record
from proxybox.terminal import strace
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.text import Paint

EXIT_PARTED = 1
_MOST_FRAMES = 12
#: Bytes that are shown before and behind the first difference of two arguments; characters of other values.
_BEFORE, _BEHIND, _MOST_TEXT = 12, 28, 100


def replay(
    record: Path, guest: str | None, guest_library: str | None, packages: tuple[str, ...], quiet: bool, as_json: bool,
    until: int | None = None, at_call: int | None = None, speed: float | None = None, timeout: str | None = None,
    vi: bool = False, no_history: bool = False,
) -> int:  # fmt: skip
    """Replays a record, and says what came of it. Returns the exit status."""
    silent = quiet or as_json
    stop = None if at_call is None else Stop(vi=vi, keeps_history=not no_history)
    try:
        done = replay_record(
            record, guest=guest, guest_library=guest_library, packages=chosen_packages(packages, guest, guest_library),
            on_stdout=None if silent else streams.writer(1, "auto"),
            on_stderr=None if silent else streams.writer(2, "auto"),
            until=until if at_call is None else at_call,
            speed=speed,
            timeout=timeout,
            on_call=stop,
            at=at_call,
        )  # fmt: skip
    except KeyboardInterrupt:
        return interrupted()
    except CannotCopy as error:
        told_by = "proxybox explain --lines tells which calls lines of the program make"
        return tell_failure(CommandError(f"--at-call {at_call}: {error} ({told_by})"))
    except OSError as error:
        return tell_failure(CommandError(f"can't read {str(record)!r}: {error.strerror or error}"))
    except Exception as error:
        return tell_failure(error)
    if as_json:
        json.dump(as_data(done), sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        tell_replay(done)
    if done.ok and not done.is_stopped and (wanted := at_call or until):
        flag = "--until" if at_call is None else "--at-call"
        return complain(UsageError(f"{flag}: there is no call {wanted:,}, the record has {done.calls:,}"))
    if stop is not None and stop.status is not None and done.is_stopped:
        return stop.status
    return 0 if done.ok or (done.is_stopped and done.divergence is None) else EXIT_PARTED


class Stop:
    """Looks into the program at one call, with what a person types, or with the source on standard input.

    status: the exit status of that; None before it.
    """

    def __init__(self, *, vi: bool, keeps_history: bool) -> None:
        self._vi, self._keeps_history = vi, keeps_history
        self.status: int | None = None

    def __call__(self, call: ReplayedCall) -> None:
        """Looks into the program."""
        policy = preset("repl")
        is_prompt = sys.stdin is not None and sys.stdin.isatty()
        text = harmless_lines("\n".join(where(call)))
        if is_prompt:
            self.status = at_prompt(
                policy, lambda: call.session(policy), text, [], vi=self._vi, keeps_history=self._keeps_history
            )
            return
        sys.stderr.write(f"{text}\n")
        with call.session(policy) as session:
            done = session.exec(
                "" if sys.stdin is None else sys.stdin.read(), echo=True, on_stdout=_writer(1), on_stderr=_writer(2),
                on_display=lambda shown: _writer(1)(f"{shown.data.get('text/plain', '')}\n"),
            )  # fmt: skip
        if done.error is not None:
            sys.stderr.write(harmless_lines(done.error.traceback or done.summary()) + "\n")
        self.status = 0 if done.ok else 1


def _writer(number: int) -> Callable[[str], object]:
    write = streams.writer(number, "auto")
    return lambda text: write(text.encode("utf-8", "backslashreplace"))


def where(call: ReplayedCall) -> list[str]:
    """Returns in words where a program stands."""
    stack = call.stack()
    lines = [f"proxybox: call {call.number:,}, thread {call.asked.thread}: {as_call(call.asked)}"]
    lines += [on_one_line(f"  {'in' if not k else 'from'} {each.file}:{each.line or '?'}, {each.function}")
              for k, each in enumerate(stack[:_MOST_FRAMES])]  # fmt: skip
    if len(stack) > _MOST_FRAMES:
        lines.append(f"  and {len(stack) - _MOST_FRAMES} frames more")
    return [*lines, "A copy of the program stands here. Its world is empty, and the replay does not notice it."]


def tell_replay(done: Replay) -> None:
    """Says on stderr what came of a replay."""
    lines = harmless_lines("\n".join(told(done, Paint(sys.stderr))))
    sys.stderr.write(f"{streams.line_break()}{lines}\n")


def told(done: Replay, paint: Paint) -> list[str]:
    """Returns in words what came of a replay, line by line."""
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

    Of bytes a part is shown: what a call passes may be long, and may differ far behind its beginning.
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


def as_call(asked: Asked) -> str:
    """Returns a request as strace(1) shows a call."""
    call = OSCall(asked.name, 0, "", asked.arguments, asked.thread)
    return f"{asked.name}({strace.arguments(call)})"


def as_data(done: Replay) -> dict[str, Any]:
    """Returns what came of a replay as JSON has it."""
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
