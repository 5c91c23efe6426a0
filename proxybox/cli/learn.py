"""`proxybox learn`: runs a program in boxes until it passes, and writes the smallest policy under which it does.

Rule: a policy is widened only by an answer of the user: at the terminal, or by --accept-all and --allow. The program's
output is not shown during this, so that it cannot look like a question or an answer.
"""

import contextlib
import functools
import json
import os
import shlex
import sys
import termios
from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from proxybox.cli.arguments import Parsed
from proxybox.cli.choosing import choose_policy, chosen_packages, named_policy
from proxybox.cli.failures import CommandError, UsageError
from proxybox.cli.run import interrupted, print_failure, program_of
from proxybox.cli.streams import text_file
from proxybox.learning.hostfiles import Host
from proxybox.learning.learner import WELL, Enough, Learned, LearnedRun, Learner, passes
from proxybox.learning.merging import merged
from proxybox.learning.needs import Writes, counted
from proxybox.learning.observing import Observed
from proxybox.learning.proposals import Proposal, shown
from proxybox.learning.writing import to_commented_toml
from proxybox.policies import Policy, to_dict
from proxybox.program import Program
from proxybox.sandbox import Sandbox
from proxybox.terminal.harmless import harmless_lines, on_one_line
from proxybox.terminal.text import Paint

EXIT_FAILS: Final = 1
_MOST_INPUT: Final = 64 << 20
_WRITES: Final[tuple[Writes, ...]] = ("memory", "overlay", "rw")
#: The number of lines that are shown of the end of stderr, if the program does not pass.
_LINES_SHOWN: Final = 10
_MOST_STATUSES: Final = 256
_NO_TERMINAL: Final = (
    "learn asks before it lets anything in, and there is no terminal to ask at: run it at one, or give --accept-all "
    "(and --allow PATH for each secret)"
)


def learn(parsed: Parsed) -> int:
    """Learns a policy for the program of a command line, and writes it; returns the exit status."""
    try:
        learned = learned_from(parsed)
        text = toml_of(learned, parsed)
        write(text, learned, parsed)
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        return print_failure(error)
    return 0 if learned.passes else EXIT_FAILS


def learned_from(parsed: Parsed) -> Learned:
    """Learns as a command line requests. Raises UsageError, CommandError and the exceptions of a box."""
    if parsed.kind == "stdin":
        raise UsageError("learn runs a program several times: want a script, -c CODE or -m MODULE")
    programs = [program_of(each) for each in argument_sets(parsed)]
    if not parsed.flag("accept_all") and not (_is_terminal(sys.stdin) and _is_terminal(sys.stderr)):
        raise CommandError(_NO_TERMINAL)
    check_output(parsed.text("output"))
    policy = first_policy(parsed)
    runner = ObservedBoxes(programs=programs, stdin=standard_input(parsed), sandbox=sandboxes(parsed))
    allowed = tuple(os.path.realpath(os.path.expanduser(path)) for path in parsed.texts("allow"))
    learner = Learner(
        policy=policy,
        host=Host(home=os.path.realpath(os.path.expanduser("~")), folder=programs[0].folder),
        run=runner,
        decide=AcceptAll(allowed) if parsed.flag("accept_all") else Questions(allowed),
        writes=one_of("--writes", parsed.text("writes") or "memory"),
        rounds=rounds(parsed.text("rounds")),
        generalise=parsed.flag("generalise"),
        accepted=accepted(parsed.texts("exit_status")),
        tell=lambda line: print(f"proxybox: {on_one_line(line)}", file=sys.stderr, flush=True),
    )
    return learner.learn()


def _is_terminal(stream: Any) -> bool:
    return stream is not None and bool(stream.isatty())


# --- what the options say -----------------------------------------------------------------------------------------


def check_output(path: str | None) -> None:
    """Raises CommandError if no file can be written there. It is called before all questions."""
    if path is None:
        return
    folder = os.path.dirname(os.path.abspath(path))
    if (
        os.path.isdir(path)
        or not os.path.isdir(folder)
        or not os.access(path if os.path.exists(path) else folder, os.W_OK)
    ):
        raise CommandError(f"can't write the policy to {path!r}: no file can be written there")


def first_policy(parsed: Parsed) -> Policy:
    """Returns the policy to begin with: --from, the options that change it, and what --merge adds."""
    options = {**parsed.options, "policy": parsed.text("from") or "strict"}
    if variables := parsed.texts("env"):
        options["env"] = tuple(map(with_value, variables))
    policy = choose_policy(parsed._replace(options=options))
    for name in parsed.texts("merge"):
        policy = merged(policy, named_policy(name))
    return policy


def with_value(variable: str) -> str:
    """Returns NAME=VALUE: a NAME alone gets its value from this environment. Raises UsageError if it has none."""
    if "=" in variable:
        return variable
    if variable not in os.environ:
        raise UsageError(f"--env: there is no environment variable {variable!r} here; want NAME=VALUE, or one that is")
    return f"{variable}={os.environ[variable]}"


def accepted(statuses: Sequence[str]) -> frozenset[int]:
    """Returns the exit statuses with which the program ends well. Raises UsageError."""
    found = set(WELL)
    for each in statuses:
        if not (each.isascii() and each.isdigit() and int(each) < _MOST_STATUSES):
            raise UsageError(f"--exit-status: want a number from 0 to {_MOST_STATUSES - 1}, got {each!r}")
        found.add(int(each))
    return frozenset(found)


def argument_sets(parsed: Parsed) -> list[Parsed]:
    """Returns the command line once for its own arguments, and once for each --also."""
    try:
        further = [tuple(shlex.split(words)) for words in parsed.texts("also")]
    except ValueError as error:
        raise UsageError(f"--also: {error}") from None
    return [parsed, *(parsed._replace(arguments=words) for words in further)]


def standard_input(parsed: Parsed) -> bytes:
    """Reads the standard input for each run. Raises CommandError."""
    name = parsed.text("input")
    if name is None:
        return b""
    try:
        if name == "-":
            data = sys.stdin.buffer.read(_MOST_INPUT + 1)
        else:
            with open(name, "rb") as file:
                data = file.read(_MOST_INPUT + 1)
    except OSError as error:
        raise CommandError(f"can't read {name!r}: {error.strerror or error}") from None
    if len(data) > _MOST_INPUT:
        raise CommandError(f"--input: {name!r} has more than 64 MiB")
    return data


def one_of(flag: str, word: str) -> Writes:
    """Returns a way of writing by its name. Raises UsageError for another word."""
    for known in _WRITES:
        if word == known:
            return known
    raise UsageError(f"{flag}: want one of {', '.join(_WRITES)}, got {word!r}")


def rounds(text: str | None) -> int:
    """Returns the most runs. Raises UsageError."""
    if text is None:
        return 100
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:6]) <= 1000:
        raise UsageError(f"--rounds: want a number from 1 to 1000, got {text!r}")
    return int(text)


def sandboxes(parsed: Parsed) -> Callable[..., Sandbox]:
    """Returns a function that makes a sandbox for a policy, with the command line's interpreter and packages."""
    guest, library = parsed.text("guest"), parsed.text("guest_library")
    packages = chosen_packages(parsed.texts("packages"), guest, library)
    return functools.partial(Sandbox, guest=guest, guest_library=library, packages=packages)


# --- runs ---------------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True, eq=False)
class ObservedBoxes:
    """Runs programs in boxes, and observes each. Requests that an empty program also makes are left out."""

    programs: Sequence[Program]
    stdin: bytes
    sandbox: Callable[..., Sandbox]
    _start: Observed | None = None

    def __call__(self, policy: Policy) -> list[LearnedRun]:
        """Runs each program once with this policy. Raises SandboxStartError and PolicyError."""
        if self._start is None:
            self._start = self._run(policy, Program.content(b"")).observed
        runs = [self._run(policy, program) for program in self.programs]
        return [attrs.evolve(run, observed=run.observed.without(self._start)) for run in runs]

    def _run(self, policy: Policy, program: Program) -> LearnedRun:
        observed = Observed()
        with self.sandbox(policy, interceptors=[lambda _: None], audit=observed.add) as box:  # so calls have paths
            return LearnedRun(box.run_program(program, stdin=self.stdin), observed)


# --- answers ------------------------------------------------------------------------------------------------------


@attrs.define
class Answers:
    """Allows without a question the paths of --allow. allowed: these paths without links."""

    allowed: tuple[str, ...] = ()

    def is_allowed(self, proposal: Proposal) -> bool:
        """Whether --allow names the file or folder that a proposal shows, or a folder that contains it."""
        source = proposal.source
        return bool(source) and any(source == path or source.startswith(f"{path}/") for path in self.allowed)


@attrs.define
class AcceptAll(Answers):
    """Allows all proposals, except those that may be secret or change the host."""

    def __call__(self, proposal: Proposal) -> bool:
        """Returns whether it is allowed."""
        return not proposal.is_asked_alone or self.is_allowed(proposal)


@attrs.define
class Questions(Answers):
    """Asks at the terminal."""

    _all: bool = False
    _number: int = 0

    def __call__(self, proposal: Proposal) -> bool:
        """Asks about a proposal, and returns whether it is allowed. Raises Enough at `q`, and at the end of input."""
        if self.is_allowed(proposal) or (self._all and not proposal.is_asked_alone):
            return True
        self._number += 1
        paint = Paint(sys.stderr)
        print(f"\n[{self._number}] {paint('bold', harmless_lines(proposal.described()))}", file=sys.stderr)
        for line in details(proposal):
            print(f"    {harmless_lines(line)}", file=sys.stderr)
        if proposal.secret:
            print(paint("red", f"    SECRET? {harmless_lines(proposal.secret)}"), file=sys.stderr)
        while True:
            answer = self._answer(
                "    let it in? y: yes, n: no, a: yes to all that is not asked alone, q: no more [n] "
            )
            if answer in ("y", "yes"):
                return True
            if answer in ("", "n", "no"):
                return False
            if answer in ("a", "all"):
                self._all = True
                if not proposal.is_asked_alone:
                    return True
                print("    this one is asked alone: y or n", file=sys.stderr)
            elif answer in ("q", "quit"):
                raise Enough

    @staticmethod
    def _answer(question: str) -> str:
        with contextlib.suppress(OSError, ValueError, termios.error):
            termios.tcflush(sys.stdin, termios.TCIFLUSH)  # input before the question is no answer
        print(question, end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line:
            print(file=sys.stderr)
            raise Enough
        return line.strip().lower()


def details(proposal: Proposal) -> list[str]:
    """Returns the lines of a question after the change itself."""
    why = f"wanted by {proposal.wanted_by()}"
    if proposal.calls and proposal.why:
        why += f": {proposal.why}"
    lines = [why if proposal.needed else f"{why}; the program passed without it"]
    return lines + [f"lets in {each}" for each in proposal.lets_in]


# --- what comes of it ---------------------------------------------------------------------------------------------


def toml_of(learned: Learned, parsed: Parsed) -> str:
    """Returns the policy as TOML, with comments."""
    return to_commented_toml(learned.policy, learned.lines, head(learned, parsed))


def head(learned: Learned, parsed: Parsed) -> list[str]:
    """Returns the comments at the beginning of the file."""
    name = {"code": "a program of -c", "module": f"the module {parsed.program}"}.get(parsed.kind, parsed.program)
    ends = f"Learned by proxybox for {on_one_line(name)}"
    lines = [f"{ends}, which passes under it." if learned.passes else f"{ends}, which does NOT pass under it."]
    if not learned.passes:
        lines += [f"It ended: {run.result.summary()}" for run in learned.runs]
    lines += [f"Not let in: {each.described()} (wanted by {each.wanted_by()})" for each in learned.declined]
    return lines + [f"Also: {each}" for each in learned.notes]


def write(text: str, learned: Learned, parsed: Parsed) -> None:
    """Writes the policy, or the whole result as JSON, and a summary. Raises CommandError."""
    output = json.dumps(as_json(learned, text), indent=2) + "\n" if parsed.flag("json") else text
    path = parsed.text("output")
    if path is not None:
        try:
            with text_file(path, f"the policy to {path!r}") as file:
                file.write(output)
        except OSError as error:
            raise CommandError(f"can't write the policy to {path!r}: {error.strerror}") from None
    else:
        print_policy(output)
    for line in summary(learned):
        print(f"proxybox: {harmless_lines(line)}", file=sys.stderr)


def print_policy(output: str) -> None:
    """Prints a policy: as harmless text on a terminal, otherwise as UTF-8, the encoding of TOML."""
    if _is_terminal(sys.stdout):
        sys.stdout.write(harmless_lines(output))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(output.encode())
    sys.stdout.flush()


def summary(learned: Learned) -> list[str]:
    """Returns the result in words, line by line."""
    lines = [f"let in: {each.described()}" for each in learned.lines]
    lines += [f"not let in: {each.described()}{_why_alone(each)}" for each in learned.declined]
    lines += [f"not needed, and left out: {each.described()}" for each in learned.dropped]
    lines += list(learned.notes)
    if learned.passes:
        return [*lines, f"the program passes under this policy, with {counted(len(learned.lines), 'line')} learned"]
    for run in learned.runs:
        if not passes([run], learned.accepted):
            last = run.result.stderr.rstrip("\n").split("\n")[-_LINES_SHOWN:]
            lines += [f"| {shown(line)}" for line in last if line]
            lines.append(f"the program does not pass: {shown(run.result.summary())}")
    return lines


def _why_alone(proposal: Proposal) -> str:
    """Returns why --accept-all does not allow something, and which option does."""
    if not proposal.is_asked_alone:
        return ""
    why = f"SECRET: {proposal.secret}" if proposal.secret else "it changes the host"
    return f" ({why}; with --accept-all it is let in by --allow {shlex.quote(on_one_line(proposal.source))})"


def as_json(learned: Learned, text: str) -> dict[str, Any]:
    """Returns the result as a JSON object."""
    return {
        "passes": learned.passes,
        "rounds": learned.rounds,
        "policy": to_dict(learned.policy),
        "toml": text,
        "lines": [line_as_json(each) for each in learned.lines],
        "declined": [line_as_json(each) for each in learned.declined],
        "dropped": [line_as_json(each) for each in learned.dropped],
        "told": list(learned.notes),
        "runs": [run.result.summary() for run in learned.runs],
    }


def line_as_json(line: Proposal) -> dict[str, Any]:
    """Returns one proposal as a JSON object."""
    mount = line.mount
    return {
        "told": line.described(),
        "mount": mount
        and {
            "target": mount.target,
            "source": line.source or None,
            "mode": mount.mode,
            "names": mount.names,
        },
        "key": line.key or None,
        "value": line.value,
        "calls": dict(line.calls),
        "why": line.why,
        "lets_in": list(line.lets_in),
        "secret": line.secret,
        "needed": line.needed,
    }
