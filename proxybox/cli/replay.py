"""`proxybox replay`: runs a recorded program again, from its record alone."""

import json
import sys
from pathlib import Path
from typing import Any

from proxybox.cli import streams
from proxybox.cli.choosing import chosen_packages
from proxybox.cli.failures import CommandError
from proxybox.cli.run import interrupted, tell_failure
from proxybox.controller.audit import OSCall
from proxybox.controller.record.replayer import Asked, Divergence
from proxybox.records.replaying import Replay
from proxybox.records.replaying import replay as replay_record
from proxybox.terminal import strace
from proxybox.terminal.harmless import harmless_lines
from proxybox.terminal.text import Paint

EXIT_PARTED = 1


def replay(
    record: Path, guest: str | None, guest_library: str | None, packages: tuple[str, ...], quiet: bool, as_json: bool,
    until: int | None = None, speed: float | None = None, timeout: str | None = None,
) -> int:  # fmt: skip
    """Replays a record, and says what came of it. Returns the exit status."""
    silent = quiet or as_json
    try:
        done = replay_record(
            record, guest=guest, guest_library=guest_library, packages=chosen_packages(packages, guest, guest_library),
            on_stdout=None if silent else streams.writer(1, "auto"),
            on_stderr=None if silent else streams.writer(2, "auto"),
            until=until,
            speed=speed,
            timeout=timeout,
        )  # fmt: skip
    except KeyboardInterrupt:
        return interrupted()
    except OSError as error:
        return tell_failure(CommandError(f"can't read {str(record)!r}: {error.strerror or error}"))
    except Exception as error:
        return tell_failure(error)
    if as_json:
        json.dump(as_data(done), sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        sys.stderr.write(harmless_lines("\n".join(told(done, Paint(sys.stderr)))) + "\n")
    return 0 if done.ok or (done.is_stopped and done.divergence is None) else EXIT_PARTED


def told(done: Replay, paint: Paint) -> list[str]:
    """Returns in words what came of a replay, line by line."""
    if done.divergence is not None:
        return parting(done.divergence, paint)
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
    if parted.expected is not None:
        lines.append(f"  {paint('green', 'expected')}  {as_call(parted.expected)}")
    if parted.got is not None:
        lines.append(f"  {paint('red', 'got')}       {as_call(parted.got)}")
    return lines


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
        "divergence": parted and {
            "call": parted.number,
            "why": parted.why,
            "expected": parted.expected and {"thread": parted.expected.thread, "call": as_call(parted.expected)},
            "got": parted.got and {"thread": parted.got.thread, "call": as_call(parted.got)},
        },
        "result": done.result.to_dict(),
    }  # fmt: skip
