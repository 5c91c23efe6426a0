"""`proxybox run`: runs one program in one box, as python would run it."""

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from proxybox.cli import streams
from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy, chosen_packages
from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN, exit_status
from proxybox.cli.failures import CommandError, UsageError, complain
from proxybox.terminal.settings import kept_terminal

if TYPE_CHECKING:
    from proxybox.policies import Policy
    from proxybox.program import Program
    from proxybox.records.replaying import Replay
    from proxybox.result import Result
    from proxybox.sandbox import Sandbox


def run(parsed: Parsed) -> int:
    """Runs the program that a command line names and returns the exit status.

    With --json the program's output is not written during the run, but is a part of the printed result.
    """
    as_json = parsed.flag("json")
    try:
        check_record(parsed)
        result = run_box(parsed, choose_policy(parsed), capture=as_json)
        sign_record(parsed, result)
        checked = replayed(parsed, result)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        return print_failure(error)
    if as_json:
        print_json(result, checked)
    else:
        print_outcome(result, verbose=parsed.flag("verbose"))
        if checked is not None:
            from proxybox.cli.replayed import print_replay

            print_replay(checked)
    status = reviewed(result) if parsed.flag("review") else exit_status(result)
    return status if checked is None or checked.ok else EXIT_CANNOT_RUN


def replayed(parsed: Parsed, result: "Result") -> "Replay | None":
    """Replays the record of a run if --check requests it. Raises RecordError if it cannot be replayed."""
    if not parsed.flag("check") or result.record is None:
        return None
    from proxybox.records.replaying import replay

    guest, library = parsed.text("guest"), parsed.text("guest_library")
    packages = chosen_packages(parsed.texts("packages"), guest, library)
    return replay(result.record, guest=guest, guest_library=library, packages=packages)


def reviewed(result: "Result") -> int:
    """Asks which changes to write. Returns the run's exit status, or 125 if accepted changes are not written."""
    from proxybox.cli.asking import review_changes

    try:
        review_changes(result)
    except KeyboardInterrupt:
        return interrupted()
    except ModuleNotFoundError:  # the caller prints which package is missing
        raise
    except Exception as error:
        return print_failure(error)
    return exit_status(result)


def check_record(parsed: Parsed) -> None:
    """Raises UsageError or CommandError if --sign or --check cannot work."""
    has_record = parsed.text("record") is not None
    if parsed.flag("check") and not has_record:
        raise UsageError("--check replays a record: name one with --record")
    if (key := parsed.text("sign")) is None:
        return
    if not has_record:
        raise UsageError("--sign signs a record: name one with --record")
    signing().public_key_id(key)


def sign_record(parsed: Parsed, result: "Result") -> None:
    """Signs the record of a run if --sign names a key."""
    key = parsed.text("sign")
    if key is not None and result.record is not None and not result.record_fault:
        signing().sign(result.record, key, result.record_digest)


def signing() -> Any:
    """Returns the module for signatures. Raises CommandError if its extra is not installed."""
    try:
        from proxybox.records import signing
    except ImportError as error:
        raise CommandError(str(error)) from None
    return signing


def run_box(parsed: Parsed, policy: "Policy", *, capture: bool, audit: Any = None) -> "Result":
    """Runs the program in a box with this policy, on the streams of this process."""
    from proxybox import api

    escapes = policy.output.escapes
    ctrl_c = CtrlC()
    with kept_terminal():
        result = api.run_program(
            program_of(parsed),
            stdin=streams.standard_input(),
            on_stdout=None if capture else streams.writer(1, escapes),
            on_stderr=None if capture else streams.writer(2, escapes),
            policy=policy,
            guest=parsed.text("guest"),
            guest_library=parsed.text("guest_library"),
            packages=chosen_packages(parsed.texts("packages"), parsed.text("guest"), parsed.text("guest_library")),
            audit=audit,
            capture=capture,
            on_sandbox=ctrl_c.attach,
            record=parsed.text("record"),
            record_limit=parsed.text("record_limit"),
            record_redact=parsed.texts("redact"),
        )
    if ctrl_c.ends(result):
        raise KeyboardInterrupt
    return result


class CtrlC:
    """Sends Ctrl-C to the program, as python does; a second one within two seconds ends the box.

    `attach` begins this when the sandbox exists; before that, Ctrl-C ends the command.
    """

    def __init__(self) -> None:
        self._pressed_at: float | None = None

    def attach(self, box: "Sandbox") -> None:
        """Passes every SIGINT from now on to the program in `box`."""
        import signal
        import time

        def on_sigint(number: int, frame: object) -> None:
            last, self._pressed_at = self._pressed_at, time.monotonic()
            if last is not None and self._pressed_at - last < 2:
                box.close()
            elif not box.interrupt():
                raise KeyboardInterrupt

        with contextlib.suppress(ValueError):  # not the main thread: in a test, or in a program that uses this module
            signal.signal(signal.SIGINT, on_sigint)

    def ends(self, result: "Result") -> bool:
        """Whether the program has ended because of Ctrl-C."""
        if self._pressed_at is None:
            return False
        by_exception = result.error is not None and result.error.type == "KeyboardInterrupt"
        return by_exception or str(result.status) == "cancelled" or result.signal == 2


def program_of(parsed: Parsed) -> "Program":
    """Returns the program that a command line names. Raises CommandError when the script does not exist."""
    from proxybox.program import Program

    arguments = parsed.arguments
    if parsed.kind == "code":
        return Program.code(parsed.program, arguments)
    if parsed.kind == "interactive":
        return Program(words=("-i",), folder=parsed.text("folder"))
    if parsed.kind == "module":
        return Program.module(parsed.program, arguments)
    if parsed.kind == "stdin":
        return Program.stdin(arguments)
    require_script(parsed.program)
    try:
        return Program.file(parsed.program, arguments)
    except OSError as error:
        raise CommandError(f"can't open file {parsed.program!r}: {error.strerror or error}") from None


def require_script(path: str) -> None:
    """Raises CommandError unless `path` can be read, and is a file or a folder with a __main__.py."""
    try:
        os.stat(path)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CommandError(f"can't open file {path!r}: {reason}") from None
    if os.path.isdir(path) and not os.path.exists(os.path.join(path, "__main__.py")):
        raise CommandError(f"can't run {path!r}: a folder without a __main__.py")
    if not os.access(path, os.R_OK):
        raise CommandError(f"can't open file {path!r}: Permission denied")


def print_failure(error: Exception) -> int:
    """Prints one line for an error that the user can correct, and a traceback for a fault of proxybox itself."""
    from proxybox.policies.errors import ProxyboxError

    if not isinstance(error, ProxyboxError | CommandError):
        import traceback

        from proxybox.terminal.harmless import harmless_lines

        sys.stderr.write(harmless_lines("".join(traceback.format_exception(error))))
        error = CommandError("a fault of proxybox's own; please report it with the lines above")
    return complain(error)


def interrupted() -> int:
    """Ends like python at Ctrl-C: by the signal itself, so that a loop in a shell ends too."""
    import signal

    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except ValueError:  # not the main thread: in a test, or in a program that uses this module
        pass
    return EXIT_CANCELLED


def print_json(result: "Result", checked: "Replay | None" = None) -> None:
    """Prints the result as one JSON object on stdout, with the result of a replay of its record."""
    import json

    body = result.to_dict()
    if checked is not None:
        from proxybox.cli.replayed import as_data

        body["check"] = as_data(checked)
    json.dump(body, sys.stdout, indent=2, default=str)
    sys.stdout.write("\n")


def print_outcome(result: "Result", *, verbose: bool) -> None:
    """Prints on stderr how the run ended if proxybox ended it, and advice; with `verbose`, a summary too."""
    lines = [f"proxybox: {each}" for each in result.explanations]
    if result.record_fault:
        lines.append(f"proxybox: the record is not complete: {result.record_fault}")
    if (inexact := result.record_inexact) is not None:
        lines.append(f"proxybox: from call {inexact.call:,} on, a replay of the record may part: {inexact.why}")
    if verbose:
        lines += summary(result)
    if lines:
        from proxybox.terminal.harmless import harmless_lines

        sys.stderr.write(streams.line_break() + harmless_lines("\n".join(lines) + "\n"))


def summary(result: "Result") -> list[str]:
    """Returns the summary of a run for --verbose, line by line."""
    from proxybox.terminal.harmless import on_one_line

    lines = [f"proxybox: {result.status}, exit status {exit_status(result)}"]
    lines += [
        f"proxybox: refused {denial.call}: {denial.errno}: {denial.reason}{often(count)}"
        for denial, count in result.denials.items()
    ]
    lines += [
        f"proxybox: unknown call {number}: ENOSYS{often(count)}" for number, count in result.unknown_calls.items()
    ]
    lines += [f"proxybox: {change.kind} {on_one_line(change.name)}" for change in result.files.changes]
    return lines


def often(count: int) -> str:
    """Returns the number of times in words; "" for one."""
    return f", {count} times" if count > 1 else ""
