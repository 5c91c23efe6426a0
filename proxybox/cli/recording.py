"""The commands about records of runs, as click sees them; their work is done in the files of their names."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from proxybox.cli.options import complete_file, guest_option, json_flag, packages_option

REPLAY_HELP = """Run a recorded program again, from its record alone.

RECORD is what `proxybox run --record RECORD` has written. The program runs in a box that has no file,
clock or network: each OS call that it makes is compared with the recorded one and gets its answer. The
first call that differs ends the replay, and both are shown. It needs the interpreter that was recorded.

\b
Examples:
  proxybox run --record run.pbx script.py
  proxybox replay run.pbx
  proxybox replay --json run.pbx
  proxybox replay --at-call 290 run.pbx        (a prompt, in the program at its 290th call)
  echo 'print(total)' | proxybox replay --at-call 290 run.pbx

\b
Exit status: 0 when the program did what it did then, or
  1 it did something else, or the record is not complete   125 it cannot be replayed here   2 usage"""

DIFF_HELP = """Say how two recorded runs differ, and what may have led to it.

FIRST and SECOND are records of `proxybox run --record FILE`. Their calls are aligned by what they ask. It
says where the programs first did different things, which answers had differed before (a clock, randomness,
the order of a directory, a file, standard input, a refusal, the hash seed), and what followed. For a test
that fails only sometimes, record runs until you have one that passes and one that fails. --replay finds
out which answers are the cause: it runs FIRST again in a box, with one kind of SECOND's answers at a time.

\b
Examples:
  proxybox diff good.pbx bad.pbx
  proxybox diff --replay good.pbx bad.pbx
  proxybox diff --html difference.html good.pbx bad.pbx
  proxybox diff --json good.pbx bad.pbx

\b
Exit status: 0 when the program did the same in both, whatever it was answered, or
  1 it did something else   125 a record cannot be read   2 usage"""

record_argument = click.argument("record", type=Path, shell_complete=complete_file)


class CallNumber(click.IntRange):
    """The number of an OS call in a record, from 1 on."""

    name = "number of a call"


CALL = CallNumber(1)


@click.command("replay", help=REPLAY_HELP, short_help="Run a recorded program again, from its record alone.")
@record_argument
@guest_option
@click.option(
    "--guest-library",
    metavar="DIR",
    help="Take lib-python and lib_pypy of a translated PyPy from DIR, as for run.",
    shell_complete=complete_file,
)
@packages_option
@click.option("--until", type=CALL, metavar="N", help="Stop at call N, after showing what was printed before.")
@click.option(
    "--at-call",
    type=CALL,
    metavar="N",
    help="Stop at call N, and run a prompt, or the code on standard input, in a copy of the program.",
)
@click.option("--speed", type=click.FloatRange(0, 1e6, min_open=True), metavar="X",
              help="Wait between calls as the run did, X times as fast.")  # fmt: skip
@click.option("--timeout", metavar="DURATION", help="End the replay after this time: 30, 5m (default: an hour).")
@click.option("--vi", is_flag=True, help="Use the keys of vi at the prompt.")
@click.option("--no-history", is_flag=True, help="Store nothing of what is typed at the prompt.")
@click.option("--quiet", "-q", is_flag=True, help="Do not show what the program prints.")
@json_flag
def replay(record: Path, **options: Any) -> int:
    """Runs a recorded program again."""
    from proxybox.cli import replay as work

    return work.replay(record, **options)


VERIFY_HELP = """Check whether a record is complete, and by whom it is signed.

It says what was run, with which interpreter, under which policy and with what result. With --key, the
record must have a valid signature of that key.

\b
Examples:
  ssh-keygen -t ed25519 -N '' -f grader
  proxybox run --record run.pbx --sign grader script.py
  proxybox verify run.pbx --key grader.pub

\b
Exit status: 0 when it is whole, and signed as was asked for, or
  1 it is not   125 it cannot be read   2 usage"""


@click.command("verify", help=VERIFY_HELP, short_help="Check whether a record is complete, and by whom it is signed.")
@record_argument
@click.option(
    "--key", "keys", multiple=True, metavar="FILE", shell_complete=complete_file,
    help="Require a signature that this public key verifies (made by ssh-keygen or openssl).",
)  # fmt: skip
@json_flag
def verify(record: Path, keys: tuple[str, ...], as_json: bool) -> int:
    """Checks a record."""
    from proxybox.cli import verify as work

    return work.verify(record, keys, as_json=as_json)


@click.command("diff", help=DIFF_HELP, short_help="Say how two recorded runs differ, and why.")
@click.argument("first", type=Path, shell_complete=complete_file)
@click.argument("second", type=Path, shell_complete=complete_file)
@click.option(
    "--html",
    metavar="FILE",
    help="Write an HTML page with both runs side by side; - is standard output.",
    shell_complete=complete_file,
)
@click.option("--replay", "replays", is_flag=True, help="Find the cause: replay FIRST with answers of SECOND.")
@guest_option
@json_flag
def diff(first: Path, second: Path, as_json: bool, html: str | None, replays: bool, guest: str | None) -> int:
    """Compares two records."""
    from proxybox.cli import diff as work

    if as_json and html == "-":
        raise click.UsageError("--json and --html - would both write to standard output")
    return work.compare(first, second, as_json, html, replays, guest)


EXPLAIN_HELP = """Say what a recorded program did.

RECORD is what `proxybox run --record RECORD` has written; it is read, and nothing is run. The output lists
the files that the program read and wrote, what it printed, which resources it used, which calls were
refused and why, and where it waited. A record that was cut off is explained as far as it goes.

With --lines the program is run again in a box, with the answers of the record. At each call, a copy of the
program says which line of Python makes it; a hostile program may say something else.

\b
Examples:
  proxybox explain run.pbx
  proxybox explain --html run.html run.pbx
  proxybox explain --strace run.pbx | less
  proxybox explain --lines run.pbx
  proxybox explain --folded - run.pbx | flamegraph.pl > calls.svg
  proxybox explain --perfetto run.json run.pbx     (open it in https://ui.perfetto.dev)

\b
FILE may be - for standard output, instead of the explanation.
Exit status: 0 when the record could be read, 125 when it is damaged or no record, 2 usage"""


def _file_option(flag: str, text: str) -> Callable[[Callable[..., int]], Callable[..., int]]:
    return click.option(flag, metavar="FILE", help=text, shell_complete=complete_file)


@click.command("explain", help=EXPLAIN_HELP, short_help="Say what a recorded program did.")
@record_argument
@click.option(
    "--all", "everything", is_flag=True, help="Show every file and line, and the interpreter's own files, too."
)
@click.option("--lines", is_flag=True, help="Show which line of the program made each call, by a replay.")
@guest_option
@packages_option
@click.option("--strace", is_flag=True, help="Print all calls, as strace(1) shows calls.")
@_file_option("--svg", "Write a picture: threads, calls and waits over time.")
@_file_option("--html", "Write a page with the picture and the explanation.")
@_file_option("--folded", "Write folded stacks, for flame graphs.")
@click.option(
    "--weight", type=click.Choice(("calls", "us")), default="calls",
    help="Count calls, or microseconds of waiting, in stacks.",
)  # fmt: skip
@_file_option("--perfetto", "Write trace events, for Perfetto and Chrome.")
@json_flag
def explain(record: Path, **options: Any) -> int:
    """Explains a record."""
    from proxybox.cli import explain as work

    return work.explain(record, **options)
