"""The commands that take a program, or the same options, as click sees them: their options are in arguments.py."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from proxybox.cli import arguments
from proxybox.cli.arguments import Option, Parsed
from proxybox.cli.options import click_option, complete_file

RUN_HELP = """Run a Python program in a box.

It works as `python` does: the program has the terminal's input and output and its own arguments,
and the exit status is the program's. What it may do is said by a policy; files that it changes are
changed in the box alone unless --rw is given, or --review, which shows them and asks.

\b
Examples:
  proxybox run script.py --its-own-option
  proxybox run -c 'print(6 * 7)'
  proxybox run -m json.tool < data.json
  proxybox run --policy strict --timeout 2 untrusted.py
  proxybox run --mount ./data:/data --set limits.threads=1 script.py
  proxybox run --record run.pbx script.py
  proxybox run --record run.pbx --check script.py

\b
Exit status: the program's own, or
  124 time limit   137 memory limit   153 output, disk or call limit
  126 ended for a refused call        128 + N killed by signal N
  130 interrupted  125 proxybox could not run it, or the record does not replay   2 usage"""

TRACE_HELP = """Run a program in a box and show each call it makes to the operating system.

The calls are shown as strace would show them, with what the box decided; the exit status is the
program's, as with run.

\b
Examples:
  proxybox trace script.py
  proxybox trace --family paths --denied script.py
  proxybox trace --summary -c 'import json'
  proxybox trace --json --output calls.jsonl script.py"""


LEARN_HELP = """Find the smallest policy under which a program passes.

The program runs in a box, again and again, each time with what was let in so far. What it was
refused is proposed line by line: with the calls that wanted it, and what else it would let in. The
policy is printed as TOML, with these as comments. Nothing of the host is changed by learning.

\b
Examples:
  proxybox learn script.py --its-own-option
  proxybox learn -o mine.toml script.py
  proxybox learn --from mine.toml --also '--fast' script.py --slow
  proxybox learn --accept-all --allow ~/.config/app.json script.py
  proxybox learn --merge first.toml second.py > both.toml

\b
Exit status: 0 when the program passes under the policy, or
  1 it does not   125 proxybox could not run it   130 interrupted   2 usage"""


REPL_HELP = """Type Python at a prompt; every line runs in a box.

Tab completes from live objects, NAME? tells about one, Ctrl-C interrupts, and commands that begin
with % show what the box may do and did, move files in and out, and go back to earlier states:
%help lists them. Standard input that is no terminal is run as a script.

\b
Examples:
  proxybox repl
  proxybox repl --policy strict --set limits.wall_time=none
  proxybox repl --folder . --mount ./data:/data"""


MCP_HELP = """Give a language model Python in a box: a server of the Model Context Protocol (MCP).

It speaks over standard input and output, to the program that starts it. Tools: run_python (a fresh
box), execute (a box that is kept) and reset; files of the kept box are resources. `proxybox serve`
has the same tools at /mcp, for many clients.

\b
Examples:
  proxybox mcp
  proxybox mcp --policy strict --timeout 20
  proxybox mcp --guest cpython --packages requirements.txt --mount ~/data:/data"""
BATCH_HELP = """Run many programs, each in a box of its own, and write a line for each result.

JOBS is a file of lines, or - for standard input. Each line is a JSON object: `code` (a text) or
`file` (a path), and `stdin`, `args`, `files`, `timeout` and `id` where they are wanted. Files are
looked for below the folder of JOBS. All lines are checked before the first one runs. Run it again
to go on where it was cut off: what has a result in the output already is not run again.

\b
Examples:
  proxybox batch jobs.jsonl
  proxybox batch jobs.jsonl --output graded.jsonl --policy classroom --timeout 2
  proxybox batch jobs.jsonl --cluster tcp://10.0.0.5:8786
  generate-jobs | proxybox batch - --output - | jq .result.status

\b
Exit status: 0 when all have run, whatever came of them, or
  1 with --check, some did not end well   125 some could not be run, or none
  130 interrupted   2 usage"""


class ProgramCommand(click.Command):
    """A command that takes a program, as python does: the words after the program are its own arguments."""

    table: Sequence[Option] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the words that belong to the command itself, as click does."""
        return super().parse_args(ctx, arguments.own_words(args, self.table))


def program_command(
    name: str, short: str, text: str, table: Sequence[Option], work: Callable[[Parsed], int]
) -> click.Command:
    """Makes a command that runs a program, from a table of options."""

    def callback(words: tuple[str, ...], **values: Any) -> int:
        options = _that_are_set(values)
        for kind in ("code", "module"):
            if (program := options.pop(kind, None)) is not None:
                return work(Parsed(options, kind, program, words))
        if words:
            return work(Parsed(options, "stdin" if words[0] == "-" else "script", words[0], words[1:]))
        if sys.stdin is not None and sys.stdin.isatty():
            raise click.UsageError("name a program: a script, -c CODE, -m MODULE, or - for stdin")
        return work(Parsed(options, "stdin", "-", ()))

    words = click.Argument(
        ["words"], nargs=-1, type=click.UNPROCESSED, metavar="[ARGS]...", shell_complete=complete_file
    )
    command = ProgramCommand(
        name,
        callback=callback,
        help=text,
        short_help=short,
        options_metavar="[OPTIONS] (SCRIPT | -c CODE | -m MODULE | -)",
        params=[*(click_option(option) for option in (*table, *arguments.PROGRAM)), words],
        context_settings={"allow_interspersed_args": False},
    )
    command.table = table
    return command


def box_command(
    name: str, short: str, text: str, table: Sequence[Option], work: Callable[[Parsed], int]
) -> click.Command:
    """Makes a command that takes no program, from a table of options."""

    def callback(**values: Any) -> int:
        return work(Parsed(_that_are_set(values), "", "", ()))

    params: list[click.Parameter] = [click_option(option) for option in table]
    return click.Command(name, callback=callback, help=text, short_help=short, params=params)


def _that_are_set(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, False, ())}


def _work_of(name: str) -> Callable[[Parsed], int]:
    """Returns the function for a command: it has the command's name, and is in the file of this name."""

    def work(parsed: Parsed) -> int:
        done: int = getattr(importlib.import_module(f"proxybox.cli.{name}"), name)(parsed)
        return done

    return work


def batch_command() -> click.Command:
    """Makes the command for many programs."""

    def callback(jobs: str, output: str, processes: int | None, check: bool, as_json: bool, **values: Any) -> int:
        from proxybox.cli.batch import batch

        parsed = Parsed(_that_are_set(values), "", "", ())
        return batch(jobs, parsed, output=output, processes=processes, check=check, as_json=as_json)

    own = [
        click.Argument(["jobs"], shell_complete=complete_file),
        click.Option(
            ["--output", "-o"], default="results.jsonl", metavar="FILE", shell_complete=complete_file,
            help="Write results to FILE (./results.jsonl); - is standard output, which cannot be continued later.",
        ),
        click.Option(
            ["--processes", "-n"], type=click.IntRange(1), metavar="N",
            help="Run boxes in N processes at once (as many as CPUs), here or on the cluster.",
        ),
        click.Option(["--check"], is_flag=True, help="Exit with status 1 when a program has not ended well."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the summary as JSON."),
    ]  # fmt: skip
    options = [click_option(option) for option in arguments.BATCH]
    return click.Command(
        "batch", callback=callback, help=BATCH_HELP, short_help="Run many programs, each in a box.",
        params=[*own, *options],
    )  # fmt: skip


run = program_command("run", "Run a Python program in a box.", RUN_HELP, arguments.RUN, _work_of("run"))
trace = program_command("trace", "Run a program and show its OS calls.", TRACE_HELP, arguments.TRACE, _work_of("trace"))
learn = program_command(
    "learn", "Find the smallest policy for a program.", LEARN_HELP, arguments.LEARN, _work_of("learn")
)
repl = box_command("repl", "A Python prompt in a box.", REPL_HELP, arguments.REPL, _work_of("repl"))
mcp = box_command("mcp", "Python in a box for a language model.", MCP_HELP, arguments.BOX, _work_of("mcp"))
