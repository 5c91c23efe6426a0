"""The options of `run`, `trace` and `repl`, and a parser that reads a well-formed command line fast.

Rules: as with python, everything up to the program (a script, -c CODE, -m MODULE or -) belongs to proxybox, and
everything after it to the program. This parser and click's options are made from one table. A command line that this
parser cannot read is passed to click, which explains the error.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple


class Option(NamedTuple):
    """One option, as `--help`, completion, the manual page and docs/cli.md describe it.

    flags: its spellings. metavar: its kind of value, which decides its completion; None for a flag. many: whether it
    may be repeated. sets: the policy key that it sets, if it does nothing else. see: a page in docs/ with details.
    """

    flags: tuple[str, ...]
    metavar: str | None
    help: str
    many: bool = False
    sets: str = ""
    see: str = ""

    @property
    def name(self) -> str:
        """The key of the option's value: the first, long spelling without dashes."""
        return self.flags[0].lstrip("-").replace("-", "_")


class Parsed(NamedTuple):
    """A command line: the option values by name, the program, and the program's arguments."""

    options: dict[str, str | bool | tuple[str, ...]]
    kind: str  # "code", "module", "script", "stdin", "interactive", or "" when no program was named
    program: str
    arguments: tuple[str, ...]

    def text(self, name: str) -> str | None:
        """The value of an option that takes a value, or None."""
        value = self.options.get(name)
        return value if isinstance(value, str) else None

    def flag(self, name: str) -> bool:
        """Whether a flag was given."""
        return bool(self.options.get(name))

    def texts(self, name: str) -> tuple[str, ...]:
        """The values of an option that may be repeated, in order."""
        value = self.options.get(name)
        return value if isinstance(value, tuple) else ()


PROGRAM: Final = (
    Option(("--code", "-c"), "CODE", "Run CODE; all that follows are the program's arguments."),
    Option(("--module", "-m"), "MODULE", "Run a library module as a script, as python -m does."),
)

BOX: Final = (
    Option(
        ("--policy", "-p"),
        "NAME|FILE",
        "What the program may do: the name of a preset (proxybox policy list) or a TOML file.",
        see="policies.md",
    ),
    Option(("--set", "-s"), "KEY=VALUE", "Change one key of the policy: limits.threads=4.", True),
    Option(
        ("--mount",),
        "SRC:DST[:MODE]",
        "Show a host file or folder at DST; MODE is ro (the default), rw, overlay or memory.",
        True,
    ),
    Option(("--timeout",), "DURATION", "End the program after this time: 2.5, 500ms, 1m.", sets="limits.wall_time"),
    Option(("--memory",), "SIZE", "Let it use at most this much memory: 256M.", sets="limits.memory"),
    Option(("--env",), "NAME=VALUE", "Set an environment variable in the box; nothing is inherited.", True),
    Option(("--rw",), None, "Let the program change its own folder (mounted at /box)."),
    Option(
        ("--guest",),
        "GUEST",
        "Run it with this interpreter: pypy, cpython, 3.13 or a path (default: $PROXYBOX_GUEST, or pypy).",
        see="guests.md#naming-a-guest",
    ),
    Option(
        ("--packages",),
        "PATH",
        "Let it import packages: of a virtual environment, a folder, a requirements file, or a script (PEP 723).",
        True,
        see="packages.md",
    ),
    Option(
        ("--guest-library",),
        "DIR",
        "Take lib-python and lib_pypy of a PyPy translated with --sandbox from DIR.",
        see="guests.md",
    ),
)

RUN: Final = (
    *BOX,
    Option(
        ("--review",),
        None,
        "Show at the end what it has changed in its own folder, and write the changes that you accept.",
        see="review.md",
    ),
    Option(("--record",), "FILE", "Write a record of the run, for `proxybox replay FILE`.", see="records.md"),
    Option(
        ("--redact",),
        "NAME",
        "Leave this out of the record: a mount (its contents), a variable of --env, or @host (paths of mounts).",
        True,
    ),
    Option(
        ("--check",),
        None,
        "Replay the record at once, and say whether the program does the same; the exit status is 125 if not.",
    ),
    Option(
        ("--sign",),
        "KEY",
        "Sign the record with this private key (ssh-keygen -t ed25519).",
        see="records.md#signatures",
    ),
    Option(("--record-limit",), "SIZE", "End the program when its record has this many bytes (1G)."),
    Option(("--json",), None, "Print the result as JSON in place of the program's output."),
    Option(
        ("--verbose", "-v"),
        None,
        "Print on stderr how the program ended, what was refused, and which files it changed.",
    ),
)

TRACE: Final = (
    *BOX,
    Option(("--family", "-f"), "FAMILY", "Show only calls of this family: paths, clock, memory...", True),
    Option(("--denied", "-d"), None, "Show only calls that were refused, or that proxybox does not know."),
    Option(("--summary",), None, "Print a table of calls, errors and times in place of each call."),
    Option(("--output", "-o"), "FILE", "Write the trace to FILE, not to stderr."),
    Option(("--json",), None, "Print a JSON object for each call in place of strace's form."),
)


#: As for `run`, but with the policy to begin with in place of the policy of the run.
LEARN: Final = (
    Option(("--from",), "NAME|FILE", "Begin with this policy: a preset (strict) or a TOML file.", see="policies.md"),
    *BOX[1:],
    Option(("--output", "-o"), "FILE", "Write the policy to FILE, not to stdout."),
    Option(
        ("--accept-all",),
        None,
        "Ask nothing, and allow all that is needed, except secrets and changes of the host.",
        see="learn.md#secrets",
    ),
    Option(("--allow",), "PATH", "Allow this file or folder without a question, even if it looks secret.", True),
    Option(
        ("--writes",),
        "MODE",
        "Let it write to memory (the default), to an overlay (the host's files stay as they are), or to the host (rw).",
    ),
    Option(("--also",), "ARGS", "Run it with these arguments, too, split as a shell does.", True),
    Option(
        ("--input",), "FILE", "Give each run FILE as standard input; - is the input of this command, with --accept-all."
    ),
    Option(("--exit-status",), "N", "Take this exit status as a success, too.", True),
    Option(("--merge",), "FILE", "Begin with what this policy allows, too.", True),
    Option(("--generalise",), None, "Propose folders for files that lie together, and patterns for temporary names."),
    Option(("--rounds",), "N", "Run the program at most N times (100)."),
    Option(("--json",), None, "Print what was learned as JSON."),
)


REPL: Final = (
    *BOX,
    Option(("--folder",), "DIR", "Show this folder at /box; changes stay in the box unless --rw is given."),
    Option(
        ("--record",), "DIR", "Leave a record of the session in DIR, for `proxybox replay`; there is no %undo then."
    ),
    Option(("--vi",), None, "Use the keys of vi, not those of Emacs."),
    Option(("--no-history",), None, "Store nothing of what is typed."),
)

#: The options of `run` that make sense for many programs without folders of their own.
BATCH: Final = (
    *(option for option in BOX if option.name not in ("rw", "guest_library")),
    Option(("--cluster",), "ADDRESS", "Run on the workers of a dask scheduler: tcp://HOST:PORT."),
)


def parse(words: Sequence[str], table: Sequence[Option], *, program: bool = True) -> Parsed | None:
    """Parses a well-formed command line; returns None if click must parse it.

    words: the words after `run` or another command. program: whether that command takes a program.
    """
    known = (*table, *PROGRAM) if program else table
    by_flag = {flag: option for option in known for flag in option.flags}
    values: dict[str, str | bool | tuple[str, ...]] = {}
    lists: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        word = rest[0]
        if word == "-" or not word.startswith("-"):
            break
        del rest[0]
        if word == "--":
            if not rest:
                return None
            break
        taken = _one_option(word, rest, by_flag)
        if taken is None:
            return None
        option, value = taken
        if option in PROGRAM:
            return Parsed(_all(values, lists), option.name, str(value), tuple(rest))
        if option.many:
            lists.setdefault(option.name, []).append(str(value))
        else:
            values[option.name] = value
    if not program and not rest:
        return Parsed(_all(values, lists), "", "", ())
    if not rest or not program:
        return None
    kind = "stdin" if rest[0] == "-" else "script"
    return Parsed(_all(values, lists), kind, rest[0], tuple(rest[1:]))


def _all(
    values: dict[str, str | bool | tuple[str, ...]], lists: dict[str, list[str]]
) -> dict[str, str | bool | tuple[str, ...]]:
    return {**values, **{name: tuple(texts) for name, texts in lists.items()}}


def _one_option(word: str, rest: list[str], by_flag: dict[str, Option]) -> tuple[Option, str | bool] | None:
    """Returns the option that `word` names and its value, maybe taken from `rest`; None if there is no such option."""
    attached: str | None = None
    if word.startswith("--"):
        word, equals, after = word.partition("=")
        attached = after if equals else None
    elif len(word) > 2:
        word, attached = word[:2], word[2:]
    option = by_flag.get(word)
    if option is None:
        return None
    if option.metavar is None:
        return None if attached is not None else (option, True)
    if attached is not None:
        return option, attached
    return (option, rest.pop(0)) if rest else None


def own_words(words: Sequence[str], table: Sequence[Option]) -> list[str]:
    """Returns the command line with `--` after -c CODE and -m MODULE, so that click does not parse the rest."""
    by_flag = {flag: option for option in (*table, *PROGRAM) for flag in option.flags}
    rest = list(words)
    while rest and rest[0] != "-" and rest[0].startswith("-") and rest[0] != "--":
        taken = _one_option(rest.pop(0), rest, by_flag)
        if taken is not None and taken[0] in PROGRAM:
            return [*words[: len(words) - len(rest)], "--", *rest]
    return list(words)
