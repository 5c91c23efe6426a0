"""The commands as click sees them: their arguments, their help, their completion.

Rules: the work of a command is in the file that has its name, which is imported when the command runs. Every failure
that a user can cause ends with one line on stderr and the exit status from exits.py.
"""

import io
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from proxybox.cli import arguments
from proxybox.cli.arguments import Option, Parsed
from proxybox.cli.exits import EXIT_CANCELLED, EXIT_CANNOT_RUN
from proxybox.cli.recording import diff, explain, replay, verify
from proxybox.cli.serving import serve_group
from proxybox.cli.teaching import (
    classroom_group,
    complete_file,
    exercise_group,
    grade,
    guest_option,
    json_flag,
    packages_option,
)

SHELLS = ("bash", "zsh", "fish")

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


MAIN_EPILOG = """`proxybox COMMAND --help` tells more, with examples.

\b
Environment:
  PROXYBOX_GUEST           the interpreter to use
  PROXYBOX_GUEST_LIBRARY   where lib-python and lib_pypy of a translated PyPy are
  PROXYBOX_INSTALL_UNCONFINED
                           1: packages are installed without Landlock and seccomp, too
  NO_COLOR, FORCE_COLOR    colours never, or always"""


class ProgramCommand(click.Command):
    """A command that takes a program, as python does: what follows the program are the program's own arguments."""

    table: Sequence[Option] = ()

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the words that belong to the command itself, as click does."""
        return super().parse_args(ctx, arguments.own_words(args, self.table))


def main_group() -> click.Group:
    """Makes the group of all commands."""
    group = click.Group(
        "proxybox",
        help="Run untrusted Python in a process that can do nothing but compute and ask.",
        epilog=MAIN_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    click.version_option(package_name="proxybox", message="%(prog)s %(version)s")(group)
    group.add_command(program_command("run", "Run a Python program in a box.", RUN_HELP, arguments.RUN, _run))
    group.add_command(
        program_command("trace", "Run a program and show its OS calls.", TRACE_HELP, arguments.TRACE, _trace)
    )
    group.add_command(
        program_command("learn", "Find the smallest policy for a program.", LEARN_HELP, arguments.LEARN, _learn)
    )
    group.add_command(repl_command())
    group.add_command(mcp_command())
    group.add_command(batch_command())
    for command in (
        serve_group, policy_group, doctor, guests_group, packages_group, kernel_group, grade, exercise_group,
        classroom_group, commits_group, review, undo, explain, replay, diff, verify, completion,
    ):  # fmt: skip
        group.add_command(command)
    return group


def program_command(
    name: str, short: str, text: str, table: Sequence[Option], work: Callable[[Parsed], int]
) -> click.Command:
    """Makes a command that runs a program, from a table of options."""

    def callback(words: tuple[str, ...], **values: Any) -> int:
        set_options = {key: value for key, value in values.items() if value not in (None, False, ())}
        for kind in ("code", "module"):
            if (program := set_options.pop(kind, None)) is not None:
                return work(Parsed(set_options, kind, program, words))
        if words:
            kind = "stdin" if words[0] == "-" else "script"
            return work(Parsed(set_options, kind, words[0], words[1:]))
        if sys.stdin is not None and sys.stdin.isatty():
            raise click.UsageError("name a program: a script, -c CODE, -m MODULE, or - for stdin")
        return work(Parsed(set_options, "stdin", "-", ()))

    command = ProgramCommand(
        name,
        callback=callback,
        help=text,
        short_help=short,
        options_metavar="[OPTIONS] (SCRIPT | -c CODE | -m MODULE | -)",
        params=[
            *(click_option(option) for option in (*table, *arguments.PROGRAM)),
            click.Argument(
                ["words"],
                nargs=-1,
                type=click.UNPROCESSED,
                metavar="[ARGS]...",
                shell_complete=complete_file,
            ),
        ],
        context_settings={"allow_interspersed_args": False},
    )
    command.table = table
    return command


def repl_command() -> click.Command:
    """Makes the command for the prompt."""

    def work(parsed: Parsed) -> int:
        from proxybox.cli.repl import repl

        return repl(parsed)

    return _command("repl", "A Python prompt in a box.", REPL_HELP, arguments.REPL, work)


def mcp_command() -> click.Command:
    """Makes the command for language models."""

    def work(parsed: Parsed) -> int:
        from proxybox.cli.mcp import serve

        return serve(parsed)

    return _command("mcp", "Python in a box for a language model.", MCP_HELP, arguments.BOX, work)


def _command(name: str, short: str, text: str, table: Sequence[Option], work: Callable[[Parsed], int]) -> click.Command:
    """Makes a command that takes no program, from a table of options."""

    def callback(**values: Any) -> int:
        return work(Parsed({key: value for key, value in values.items() if value not in (None, False, ())}, "", "", ()))

    params: list[click.Parameter] = [click_option(option) for option in table]
    return click.Command(name, callback=callback, help=text, short_help=short, params=params)


def batch_command() -> click.Command:
    """Makes the command for many programs."""

    def callback(jobs: str, output: str, processes: int | None, check: bool, as_json: bool, **values: Any) -> int:
        from proxybox.cli.batch import batch

        set_options = {key: value for key, value in values.items() if value not in (None, False, ())}
        parsed = Parsed(set_options, "", "", ())
        return batch(jobs, parsed, output=output, processes=processes, check=check, as_json=as_json)

    own = [
        click.Argument(["jobs"], shell_complete=complete_file),
        click.Option(
            ["--output", "-o"], default="results.jsonl", metavar="FILE", shell_complete=complete_file,
            help="Where results go (./results.jsonl); - for standard output, which cannot go on later.",
        ),
        click.Option(
            ["--processes", "-n"], type=click.IntRange(1), metavar="N",
            help="How many processes make boxes (the CPUs), or work on the cluster at once.",
        ),
        click.Option(["--check"], is_flag=True, help="Exit with 1 where some did not end well."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the summary as JSON."),
    ]  # fmt: skip
    options = [click_option(option) for option in arguments.BATCH]
    return click.Command(
        "batch", callback=callback, help=BATCH_HELP, short_help="Run many programs, each in a box.",
        params=[*own, *options],
    )  # fmt: skip


def click_option(option: Option) -> click.Option:
    """Makes click's form of one option."""
    return click.Option(
        [*option.flags, option.name],
        metavar=option.metavar,
        is_flag=True if option.metavar is None else None,  # False would make the option's value optional
        multiple=option.many,
        help=f"{option.help.removesuffix('.')} ({option.sets})." if option.sets else option.help,
        shell_complete=completers().get(option.metavar or ""),
    )


def completers() -> dict[str, Callable[[click.Context, click.Parameter, str], list[CompletionItem]]]:
    """What completes the value of an option, by its metavar. Other values are texts of the user's own."""
    return {
        "NAME|FILE": complete_policy, "KEY=VALUE": complete_setting, "FAMILY": complete_family, "MODE": complete_writes,
        **dict.fromkeys(("FILE", "DIR", "PATH", "GUEST", "KEY"), complete_file),
    }  # fmt: skip


def complete_policy(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """The presets that begin with `text`, and files."""
    from proxybox.policies import PRESETS

    names = [CompletionItem(name) for name in PRESETS if name.startswith(text)]
    return [CompletionItem(text, type="file"), *names]  # files first: bash drops what comes before them


def complete_writes(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """The ways of writing that begin with `text`."""
    return [CompletionItem(name) for name in ("memory", "overlay", "rw") if name.startswith(text)]


def complete_family(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """The families of calls that begin with `text`."""
    from proxybox.cli.trace import known_families

    return [CompletionItem(name) for name in sorted(known_families()) if name.startswith(text)]


def complete_setting(_: click.Context, __: click.Parameter, text: str) -> list[CompletionItem]:
    """The keys of a policy that begin with `text`; after "=", the words that the key takes."""
    from proxybox.policies.keys import keys

    name, equals, value = text.partition("=")
    if not equals:
        return [CompletionItem(f"{each}=") for each in keys() if each.startswith(name)]
    words = keys()[name].choices if name in keys() else ()
    return [CompletionItem(f"{name}={word}") for word in words if word.startswith(value)]


def _run(parsed: Parsed) -> int:
    from proxybox.cli.run import run

    return run(parsed)


def _trace(parsed: Parsed) -> int:
    from proxybox.cli.trace import trace

    return trace(parsed)


def _learn(parsed: Parsed) -> int:
    from proxybox.cli.learn import learn

    return learn(parsed)


# --- policy -------------------------------------------------------------------------------------

policy_argument = click.argument("policy", metavar="NAME|FILE", shell_complete=complete_policy)
set_option = click.option(
    "--set",
    "-s",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key first.",
    shell_complete=complete_setting,
)


@click.group("policy")
def policy_group() -> None:
    """Look at policies: what a box may do.

    \b
    Examples:
      proxybox policy list
      proxybox policy show strict > mine.toml
      proxybox policy check mine.toml
      proxybox policy check data.toml --guest cpython --packages ~/project/.venv
      proxybox policy explain mine.toml
      proxybox policy minimise mine.toml run.pbx > smaller.toml
      proxybox policy schema > policy.schema.json
    """


@policy_group.command("list")
@json_flag
def policy_list(as_json: bool) -> int:
    """The presets, and what each is for."""
    from proxybox.cli import policy

    return policy.list_presets(as_json=as_json)


@policy_group.command("show")
@policy_argument
@set_option
@json_flag
def policy_show(policy: str, settings: tuple[str, ...], as_json: bool) -> int:
    """A policy as TOML: a start for one of your own."""
    from proxybox.cli import policy as work

    return work.show(policy, settings, as_json=as_json)


@policy_group.command("minimise", short_help="A policy without what recorded runs never used.")
@policy_argument
@click.argument("records", nargs=-1, required=True, metavar="RECORD...", type=Path, shell_complete=complete_file)
@set_option
@json_flag
def policy_minimise(policy: str, records: tuple[Path, ...], settings: tuple[str, ...], as_json: bool) -> int:
    """A policy without what recorded runs (run --record) never used, as TOML.

    Mounts that no run has reached are taken away, folders that were only read become read-only, and limits that are
    far above what was used become lower. What is taken away is told on stderr.
    """
    from proxybox.cli import policy as work

    return work.minimise(policy, records, settings, as_json=as_json)


@policy_group.command("check", short_help="Whether policy files make sense.")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=Path, shell_complete=complete_file)
@guest_option
@packages_option
@json_flag
def policy_check(files: tuple[Path, ...], **options: Any) -> int:
    """Whether policy files make sense; every fault, with its key and what is allowed.

    With --guest or --packages also whether this interpreter, with these packages, has the modules of `preload`.
    """
    from proxybox.cli import policy

    return policy.check(files, **options)


@policy_group.command("explain")
@policy_argument
@set_option
@json_flag
def policy_explain(policy: str, settings: tuple[str, ...], as_json: bool) -> int:
    """What a policy allows and refuses, in words."""
    from proxybox.cli import policy as work

    return work.explain(policy, settings, as_json=as_json)


@policy_group.command("schema")
def policy_schema() -> int:
    """The JSON Schema of policy files, for editors."""
    from proxybox.cli import policy

    return policy.print_schema()


# --- the rest -----------------------------------------------------------------------------------


@click.command("doctor", short_help="Whether boxes run here, and with which defences.")
@click.option("--guest", metavar="GUEST", help="The interpreter to look at.", shell_complete=complete_file)
@json_flag
def doctor(guest: str | None, as_json: bool) -> int:
    """Whether boxes run here: the interpreter, and the defences that this host gives.

    The exit status is 0 when boxes can run, 125 when they cannot; what to do is said.
    """
    from proxybox.cli.doctor import report

    return report(guest, as_json=as_json)


@click.group(
    "guests",
    short_help="The interpreters of this machine, and whether boxes run with them.",
    invoke_without_command=True,
)
@json_flag
@click.pass_context
def guests_group(context: click.Context, as_json: bool) -> int | None:
    """The interpreters that --guest finds by name, each tried in a box.

    The exit status is 0 when a program ran in one of them, 125 otherwise.

    \b
    Examples:
      proxybox guests
      proxybox guests install translated
      proxybox run --guest translated script.py
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli.guests import report

    return report(as_json=as_json)


TRANSLATED = click.argument("kind", type=click.Choice(["translated"]), metavar="translated")


@guests_group.command("install", short_help="Install a PyPy that was translated with --sandbox.")
@TRANSLATED
@click.option(
    "--from", "archives", metavar="FILE", multiple=True, type=Path, shell_complete=complete_file,
    help="An archive of a build (.tar.gz, .tar.bz2, .tar.xz), or of the library for it, in the place of what is "
    "published. May be repeated.",
)  # fmt: skip
def guests_install(kind: str, archives: tuple[Path, ...]) -> int:
    """Install a PyPy that was translated with --sandbox, for --guest translated.

    It is the published build, by its hash, or one from archives of yours. Its own start is not sealed yet:
    use archives of those whom you trust.
    """
    from proxybox.cli import guests

    return guests.install(archives)


@guests_group.command("build", short_help="Translate one from PyPy's source, and install it.")
@click.argument("source", type=Path, shell_complete=complete_file)
@click.option("--check", is_flag=True, help="Only say what is missing for it.")
def guests_build(source: Path, check: bool) -> int:
    """Translate a PyPy with --sandbox from its source (an hour, 6 GiB of memory), and install it.

    What it needs is looked at first. The translation is a program of that source, and runs outside of any box.
    """
    from proxybox.cli import guests

    return guests.build(source, check_only=check)


@guests_group.command("remove", short_help="Remove what was installed.")
@TRANSLATED
def guests_remove(kind: str) -> int:
    """Remove the translated PyPy that was installed. End the boxes that use it before."""
    from proxybox.cli import guests

    return guests.remove()


@click.group("kernel")
def kernel_group() -> None:
    """Jupyter notebooks, every cell of which runs in a box.

    \b
    Examples:
      proxybox kernel install
      proxybox kernel install --name strict --policy strict --display-name 'Python, strict'
      proxybox kernel install --name data --guest cpython --packages requirements.txt
      jupyter lab
    """


#: What is chosen for a kernel: the fields of proxybox.kernel.spec.Choice.
KERNEL_OPTIONS: Final = (
    click.option("--policy", "-p", metavar="NAME|FILE", help="What cells may do.", shell_complete=complete_policy),
    click.option(
        "--folder", metavar="PATH", help="A folder to show at /box; . is the notebook's own. Without it /box is empty."
    ),
    guest_option,
    packages_option,
    click.option(
        "--record", metavar="DIR", help="Leave a record of each session in this folder.", shell_complete=complete_file
    ),
)


def kernel_options(command: Callable[..., int]) -> Callable[..., int]:
    """Gives a command the options of KERNEL_OPTIONS."""
    for option in reversed(KERNEL_OPTIONS):
        command = option(command)
    return command


@kernel_group.command("install", short_help="Let Jupyter find the kernel.")
@click.option("--user", is_flag=True, help="For you alone, and nowhere else.")
@click.option("--prefix", metavar="PATH", help="Below PATH/share/jupyter, and nowhere else.")
@click.option("--sys-prefix", is_flag=True, help="In the environment that proxybox is installed in, and nowhere else.")
@click.option("--name", default="proxybox", metavar="NAME", help="The kernel's name: --kernel_name=NAME.")
@click.option("--display-name", metavar="TEXT", help="What menus show.")
@kernel_options
def kernel_install(user: bool, prefix: str | None, sys_prefix: bool, **options: Any) -> int:
    """Let Jupyter find the kernel.

    It is installed for you, and also over each of proxybox's that Jupyter would find before that, such as
    the one that came with proxybox. The policy, the folder, the interpreter and the packages are the
    kernel's from then on; install it under several names to have several to choose from.
    """
    from proxybox.cli import kernel
    from proxybox.cli.failures import UsageError

    try:
        for_user, where = kernel.prefix_of(user, prefix, sys_prefix)
    except UsageError as error:
        raise click.UsageError(str(error)) from None
    return kernel.install(user=for_user, prefix=where, **options)


@kernel_group.command("uninstall", short_help="Remove what install has written.")
@click.option("--name", default="proxybox", metavar="NAME", help="The kernel's name.")
def kernel_uninstall(name: str) -> int:
    """Remove what install has written. The kernel that came with proxybox stays."""
    from proxybox.cli import kernel

    return kernel.uninstall(name=name)


@kernel_group.command("run", short_help="Serve a front end; Jupyter starts this.")
@click.option("-f", "connection_file", required=True, metavar="FILE", help="The front end's connection file.")
@kernel_options
def kernel_run(connection_file: str, **options: Any) -> int:
    """Serve a front end: what Jupyter starts."""
    from proxybox.cli import kernel

    return kernel.run(connection_file, **options)


@click.group("packages", invoke_without_command=True)
@json_flag
@click.pass_context
def packages_group(context: click.Context, as_json: bool) -> int | None:
    """Packages that were installed for boxes (--packages with a requirements file or a script), with their sizes.

    \b
    Examples:
      proxybox run --packages requirements.txt main.py
      proxybox packages
      proxybox packages prune --older-than 30d
      proxybox packages compile ~/project/.venv --guest cpython
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import packages

    return packages.show(as_json=as_json)


@packages_group.command("compile", short_help="Compile packages once, for all boxes.")
@click.argument("path", type=Path, shell_complete=complete_file)
@guest_option
def packages_compile(path: Path, guest: str | None) -> int:
    """Write the missing .pyc files of a virtual environment or a folder; the interpreter that does it runs in a box.

    Boxes cannot write there: without these files each program compiles what it imports again.
    """
    from proxybox.cli import packages

    return packages.compile_packages(path, guest)


@packages_group.command("prune", short_help="Remove what was not used lately.")
@click.option("--older-than", default="0", metavar="DURATION", help="Only what was not used for so long: 30d, 12h.")
@json_flag
def packages_prune(older_than: str, as_json: bool) -> int:
    """Remove packages; what is needed again is installed again. End the boxes that use them before."""
    from proxybox.cli import packages

    return packages.prune(older_than, as_json=as_json)


@click.group("commits", invoke_without_command=True)
@json_flag
@click.pass_context
def commits_group(context: click.Context, as_json: bool) -> int | None:
    """List commits that were interrupted, and those that can be undone. A commit writes a box's files to the host.

    An interrupted commit loses nothing: new files that are not in place yet, and old ones that were replaced, are in
    a folder .proxybox-commit-ID beside the target. If the target was changed by others since, `resume` and `undo`
    change nothing and say what differs. Files that the commit of a review has replaced are kept for 30 days, of at
    most 20 commits and 1 GiB.

    \b
    Examples:
      proxybox commits
      proxybox commits resume 3f0c2a9d5b7e1846
      proxybox commits undo 3f0c2a9d5b7e1846
      proxybox commits prune --older-than 7d
    """
    if context.invoked_subcommand is not None:
        return None
    from proxybox.cli import commits

    return commits.show(as_json=as_json)


@commits_group.command("resume", short_help="Finish one.")
@click.argument("id")
def commits_resume(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Finish a commit that was cut off."""
    from proxybox.cli import commits

    return commits.resume(id)


@commits_group.command("undo", short_help="Take one back.")
@click.argument("id")
def commits_undo(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Bring the folder back to what it was before a commit that was cut off, or that is done and kept."""
    from proxybox.cli import commits

    return commits.undo(id)


@commits_group.command("prune", short_help="Remove what is kept for undoing.")
@click.option("--older-than", default="0", metavar="DURATION", help="Only of commits that are so old: 30d, 12h.")
@json_flag
def commits_prune(older_than: str, as_json: bool) -> int:
    """Remove what is kept of commits that are done. They can no longer be undone."""
    from proxybox.cli import commits

    return commits.prune(older_than, as_json=as_json)


@click.command("undo", short_help="Take back a commit.")
@click.argument("id")
def undo(id: str) -> int:  # noqa: A002 - as it is called on the command line
    """Bring a folder back to what it was before a commit, as `proxybox commits undo` does.

    The commits that can be undone are listed by `proxybox commits`. Where a file has changed since, nothing is undone,
    and what has changed is said.
    """
    from proxybox.cli import commits

    return commits.undo(id)


@click.command("review", short_help="Decide on changes that wait for it.")
@click.argument("id", required=False)
@click.option("--accept", multiple=True, metavar="N|N.M|all", help="Write this change, or this part of it.")
@click.option("--discard", is_flag=True, help="Throw the changes away.")
@click.option(
    "--page", metavar="FILE", help="Write the page that shows the changes to FILE.", shell_complete=complete_file
)
@json_flag
def review(id: str | None, **options: Any) -> int:  # noqa: A002 - as it is called on the command line
    """Decide on the changes of a program that ran with `proxybox run --review` where there was no terminal.

    Without an ID the reviews that wait are listed. With one, the changes are shown and asked about on a terminal, or
    those that --accept names are written, and nothing else. Changes have the numbers that the page shows.

    \b
    Examples:
      proxybox review
      proxybox review 3f0c2a9d5b7e1846
      proxybox review 3f0c2a9d5b7e1846 --accept 1 --accept 3.2
      proxybox review 3f0c2a9d5b7e1846 --accept all
      proxybox review 3f0c2a9d5b7e1846 --discard
    """
    from proxybox.cli import review as work

    return work.review(id, **options)


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> int:
    """Print the shell's completion script.

    \b
    bash:  eval "$(proxybox completion bash)"           in ~/.bashrc
    zsh:   eval "$(proxybox completion zsh)"            in ~/.zshrc
    fish:  proxybox completion fish > ~/.config/fish/completions/proxybox.fish
    """
    maker = get_completion_class(shell)
    if maker is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(maker(main_group(), {}, "proxybox", "_PROXYBOX_COMPLETE").source())
    return 0


def name_the_nearest(error: click.ClickException) -> None:
    """Has the error of an unknown option name the one that was most likely meant: click names three."""
    from proxybox.policies.errors import nearest

    if isinstance(error, click.NoSuchOption) and error.possibilities:
        error.possibilities[:] = filter(None, [nearest(error.option_name, error.possibilities)])


def run_command(words: list[str]) -> int:
    """Runs one command line with click and returns its exit status."""
    try:
        status = main_group().main(words, prog_name="proxybox", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        name_the_nearest(error)
        from proxybox.terminal.harmless import harmless_lines

        said = io.StringIO()
        error.show(said)
        sys.stderr.write(harmless_lines(said.getvalue()))
        return error.exit_code
    except click.Abort:
        return EXIT_CANCELLED
    except BrokenPipeError:
        from proxybox.cli import streams

        streams.forget(1)
        return EXIT_CANNOT_RUN
    return status if isinstance(status, int) else 0
