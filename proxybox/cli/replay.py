"""`proxybox replay`: runs a recorded program again, from its record alone."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from proxybox.cli import streams
from proxybox.cli.choosing import chosen_packages
from proxybox.cli.failures import CommandError, UsageError, complain
from proxybox.cli.repl import at_prompt
from proxybox.cli.replayed import as_call, as_data, print_replay
from proxybox.cli.run import interrupted, print_failure
from proxybox.controller.errors import CannotCopy
from proxybox.policies import preset
from proxybox.records.replaying import ReplayedCall
from proxybox.records.replaying import replay as replay_record
from proxybox.terminal.harmless import harmless_lines, on_one_line

EXIT_PARTED = 1
_MOST_FRAMES = 12


def replay(
    record: Path, guest: str | None, guest_library: str | None, packages: tuple[str, ...], quiet: bool, as_json: bool,
    until: int | None = None, at_call: int | None = None, speed: float | None = None, timeout: str | None = None,
    vi: bool = False, no_history: bool = False,
) -> int:  # fmt: skip
    """Replays a record, and prints the result. Returns the exit status."""
    silent = quiet or as_json
    stop = None if at_call is None else CallInspector(vi=vi, keeps_history=not no_history)
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
        return print_failure(CommandError(f"--at-call {at_call}: {error} ({told_by})"))
    except OSError as error:
        return print_failure(CommandError(f"can't read {str(record)!r}: {error.strerror or error}"))
    except Exception as error:
        return print_failure(error)
    if as_json:
        json.dump(as_data(done), sys.stdout, indent=2, default=str)
        sys.stdout.write("\n")
    else:
        print_replay(done)
    if done.ok and not done.is_stopped and (wanted := at_call or until):
        flag = "--until" if at_call is None else "--at-call"
        return complain(UsageError(f"{flag}: there is no call {wanted:,}, the record has {done.calls:,}"))
    if stop is not None and stop.status is not None and done.is_stopped:
        return stop.status
    return 0 if done.ok or (done.is_stopped and done.divergence is None) else EXIT_PARTED


class CallInspector:
    """Inspects the program at one call, with a prompt, or with source from standard input.

    status: the exit status of this; None before it.
    """

    def __init__(self, *, vi: bool, keeps_history: bool) -> None:
        self._vi, self._keeps_history = vi, keeps_history
        self.status: int | None = None

    def __call__(self, call: ReplayedCall) -> None:
        """Inspects the program."""
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
    """Returns in words the call and the stack of a program."""
    stack = call.stack()
    lines = [f"proxybox: call {call.number:,}, thread {call.asked.thread}: {as_call(call.asked)}"]
    lines += [on_one_line(f"  {'in' if not k else 'from'} {each.file}:{each.line or '?'}, {each.function}")
              for k, each in enumerate(stack[:_MOST_FRAMES])]  # fmt: skip
    if len(stack) > _MOST_FRAMES:
        lines.append(f"  and {len(stack) - _MOST_FRAMES} frames more")
    return [*lines, "A copy of the program stands here. Its world is empty, and the replay does not notice it."]
