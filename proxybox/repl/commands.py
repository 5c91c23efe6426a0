"""The % commands, which only this prompt has. Each is one function; its docstring is its help text.

A command gets the shell and the text that was typed after its name. It raises CommandFailed when it cannot do its work.
"""

import os
import shlex
import shutil
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from proxybox import ProxyboxError
from proxybox.modulepath import programs_of_absolute_folders
from proxybox.policies import explain_policy
from proxybox.policies.errors import nearest
from proxybox.repl.loop import Shell
from proxybox.repl.screen import one_line


class CommandFailed(Exception):
    """A command could not do its work; the text says why."""


class WrongUse(Exception):
    """The typed text does not fit the usage of the command."""


@attrs.frozen
class PercentCommand:
    """One command.

    usage: the arguments after its name. words: the completions for them: fixed words, or "host" and "box" for files on
    either side, "branch" for branches, "command" for commands.
    """

    name: str
    usage: str
    run: Callable[[Shell, str], None]
    words: tuple[str, ...] = ()

    @property
    def form(self) -> str:
        """How the command is typed."""
        return f"%{self.name} {self.usage}".rstrip()

    @property
    def short(self) -> str:
        """The first line of its help."""
        return (self.run.__doc__ or "").split("\n")[0]


COMMANDS: Final[dict[str, PercentCommand]] = {}


def command(usage: str = "", words: Iterable[str] = ()) -> Callable[[Callable[[Shell, str], None]], object]:
    """Returns a decorator that adds a function to the commands, under the function's name."""

    def enter(function: Callable[[Shell, str], None]) -> Callable[[Shell, str], None]:
        name = function.__name__.rstrip("_")
        COMMANDS[name] = PercentCommand(name, usage, function, tuple(words))
        return function

    return enter


def dispatch(shell: Shell, line: str) -> None:
    """Carries out a line that begins with %."""
    name, _, rest = line[1:].strip().partition(" ")
    found = COMMANDS.get(name)
    if found is None:
        near = [each for each in COMMANDS if name and each.startswith(name)]
        if len(near) != 1:
            shell.screen.fail(_unknown(name, near))
            return
        found = COMMANDS[near[0]]
    try:
        found.run(shell, rest.strip())
    except WrongUse:
        shell.screen.fail(f"usage: {found.form}")
    except CommandFailed as error:
        shell.screen.fail(str(error))
    except ProxyboxError as error:
        shell.screen.fail(one_line(str(error), 400))
    except (ValueError, RuntimeError) as error:  # a path with a NUL byte, or ~USER of an unknown user
        shell.screen.fail(one_line(str(error)))
    except OSError as error:
        where = f": {one_line(str(error.filename))}" if error.filename is not None else ""
        shell.screen.fail(f"{error.strerror or error}{where}")


def _unknown(name: str, near: Sequence[str]) -> str:
    """Returns the message for an unknown command. near: the commands whose names begin with the typed one."""
    if name.startswith("%"):
        return "there are no magics of cells (%%) at this prompt (%help lists its commands)"
    near = near or [each for each in (nearest(name, COMMANDS),) if each]
    meant = f": %{' or %'.join(near)}?" if near else ""
    return f"there is no command %{one_line(name)}{meant} (%help lists them; IPython's other magics are not there)"


def words_of(text: str, least: int, most: int) -> list[str]:
    """Splits the typed text into words, with quotes as in a shell."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise CommandFailed(f"{error}: {one_line(text)}") from None
    if not least <= len(words) <= most:
        raise WrongUse
    return words


# --- the box ----------------------------------------------------------------------------------------------------------


@command()
def policy(shell: Shell, _: str) -> None:
    """What the box may do, in plain words."""
    for section in explain_policy(shell.console.policy):
        shell.screen.say(section.title, "bold")
        for line in section.lines:
            shell.screen.say(f"  {line}")


@command()
def limits(shell: Shell, _: str) -> None:
    """What has been used, and what is left."""
    from proxybox.terminal.tables import table

    rows = [[name, used, left] for name, used, left in usage(shell)]
    shell.screen.say(table(["", "used", "limit"], rows))


def usage(shell: Shell) -> list[tuple[str, str, str]]:
    """Returns how much of each limit was used: (name, used, limit)."""
    policy, total, last = shell.console.policy, shell.console.session.usage, shell.console.last
    limits, session = policy.limits, policy.session
    call = last.usage if last is not None else None
    rows = [
        ("time of the last block", seconds(call.wall if call else 0), limit(limits.wall_time, seconds)),
        ("CPU time of the last block", seconds(call.cpu if call else 0), limit(limits.cpu_time, seconds)),
        ("OS calls of the last block", f"{call.calls if call else 0:,}", limit(limits.calls, "{:,}".format)),
        ("output of the last block", size(call.output if call else 0), limit(policy.output.limit, size)),
        ("CPU time", seconds(total.cpu), limit(session.cpu_time, seconds)),
        ("time since the start", seconds(total.wall), limit(session.wall_time, seconds)),
        ("OS calls", f"{total.calls:,}", limit(session.calls, "{:,}".format)),
        ("memory (resident)", size(total.memory or 0), limit(limits.memory, size)),
        ("files", size(total.disk), limit(limits.disk, size)),
    ]
    copies = len(shell.console.branches) - 1 + sum(
        state is not None for branch in shell.console.branches.values() for state in branch.states
    )  # fmt: skip
    return [*rows, ("copies (%undo, %branch)", str(copies), str(session.branches))]


def size(number: int) -> str:
    """Formats bytes for people: 61M."""
    for unit, factor in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if number >= factor:
            return f"{number / factor:.1f}".removesuffix(".0") + unit
    return str(number)


def seconds(number: float) -> str:
    """Formats seconds for people."""
    return f"{number * 1000:.1f} ms" if number < 1 else f"{number:.2f} s"


def limit(number: float | None, show: Callable[[int], str]) -> str:
    """Formats a limit, in the same way as its use."""
    return "none" if number is None else show(number)  # type: ignore[arg-type]


@command()
def denied(shell: Shell, _: str) -> None:
    """Which OS calls were refused since the start, and why."""
    if not shell.console.denials:
        shell.screen.say("Nothing was refused.")
    for denial, count in shell.console.denials.items():
        often = f", {count:,} times" if count > 1 else ""
        call = f"{denial.call}: " if denial.call else ""
        shell.screen.say(f"{call}{denial.errno}: {one_line(denial.reason)}{often}")


@command("on|off|denied", ("on", "off", "denied"))
def trace(shell: Shell, text: str) -> None:
    """Shows OS calls as they happen: all of them, or only refused ones."""
    if text not in ("on", "off", "denied", ""):
        raise WrongUse
    shell.tracing = text or shell.tracing
    shell.screen.say(f"Tracing is {shell.tracing}.")


@command("[box]", ("box",))
def reset(shell: Shell, text: str) -> None:
    """Forgets all names; files and modules stay. `%reset box` begins again in a new box."""
    if text == "box":
        shell.renew()  # prints that a new box was started
    elif text:
        raise WrongUse
    else:
        shell.console.session.reset()
        shell.console.keep()
        shell.screen.say("All names are forgotten.")


# --- files ------------------------------------------------------------------------------------------------------------


@command("[PATH]", ("box",))
def ls(shell: Shell, text: str) -> None:
    """Lists a folder in the box."""
    (path,) = words_of(text, 0, 1) or ["."]
    for entry in shell.console.session.list_files(path):
        mark = {"directory": "/", "link": "@", "other": "?"}.get(entry.type, "")
        moment = time.strftime("%Y-%m-%d %H:%M", time.gmtime(min(max(entry.mtime, 0), 1 << 37)))
        shell.screen.say(f"{entry.mode:04o} {size(entry.size):>8} {moment} {one_line(entry.name)}{mark}")


#: Bytes of a file that %cat shows.
_MOST_SHOWN = 1 << 20


@command("PATH", ("box",))
def cat(shell: Shell, text: str) -> None:
    """Shows a file in the box."""
    (path,) = words_of(text, 1, 1)
    data = shell.console.session.read_file(path, _MOST_SHOWN)
    shell.screen.writer("stdout")(data.decode("utf-8", "backslashreplace"))
    shell.screen.finish_line()


@command("HOST_PATH [PATH]", ("host", "box"))
def put(shell: Shell, text: str) -> None:
    """Copies one of your files into the box."""
    source, *rest = words_of(text, 1, 2)
    path = Path(source).expanduser()
    data = path.read_bytes()
    target = rest[0] if rest else path.name
    shell.console.session.write_file(target, data)
    shell.screen.say(f"{size(len(data))} bytes are in the box as {one_line(target)}.")


@command("PATH [HOST_PATH] [-f]", ("box", "host"))
def get(shell: Shell, text: str) -> None:
    """Copies a file out of the box; -f replaces one of yours."""
    words = words_of(text, 1, 3)
    force = "-f" in words
    source, *rest = [word for word in words if word != "-f"] or [""]
    data = shell.console.session.read_file(source)
    target = Path(rest[0] if rest else os.path.basename(source)).expanduser()
    if target.is_dir():
        target /= os.path.basename(source)
    store(target, data, force=force, again="%get ... -f")
    shell.screen.say(f"{size(len(data))} bytes are in {one_line(str(target))}.")


def store(path: Path, data: bytes, *, force: bool, again: str) -> None:
    """Writes a file of the user. An existing file is replaced only with `force`, which the user must type."""
    try:
        with open(path, "wb" if force else "xb") as file:
            file.write(data)
    except FileExistsError:
        raise CommandFailed(f"{one_line(str(path))} exists already: {again} replaces it") from None


# --- states -----------------------------------------------------------------------------------------------------------


@command()
def undo(shell: Shell, _: str) -> None:
    """Goes back to the state before the last block: names, modules and files of the box."""
    shell.console.go_back()
    shell.screen.say("Back to before the last block.")


@command("[NAME | -d NAME]", ("branch",))
def branch(shell: Shell, text: str) -> None:
    """Changes to another branch; a new one begins with the current state. Without a name: lists the branches."""
    console = shell.console
    words = words_of(text, 0, 2)
    if not words:
        for name in console.branches:
            shell.screen.say(f"{'*' if name == console.current else ' '} {name}")
    elif words[0] == "-d":
        if len(words) != 2 or words[1] not in console.branches or words[1] == console.current:
            raise CommandFailed("usage: %branch -d NAME, of another branch than the current one")
        console.drop(words[1])
        shell.screen.say(f"The branch {words[1]} is gone.")
    else:
        if len(words) != 1 or not words[0].isidentifier():
            raise CommandFailed("usage: %branch NAME, of letters, digits and _")
        new = console.branch_to(words[0])
        shell.screen.say(f"{'A new branch' if new else 'In the branch'}: {words[0]}.")


# --- code -------------------------------------------------------------------------------------------------------------


@command("CODE")
def time_(shell: Shell, text: str) -> None:
    """Runs code, and shows its time and OS calls."""
    if not text:
        raise WrongUse
    shell.run(text)
    last = shell.console.last
    if last is not None:
        used = last.usage
        shell.screen.say(f"wall {seconds(used.wall)}, CPU {seconds(used.cpu)}, {used.calls:,} OS calls", "dim")


@command("[HOST_FILE]", ("host",))
def edit(shell: Shell, text: str) -> None:
    """Opens your editor with the last block, or with one of your files, and runs the saved code."""
    words = words_of(text, 0, 1)
    if words:
        path = Path(words[0]).expanduser()
        _edited(filename=str(path))
        code: str | None = path.read_text()
    else:
        code = _edited(shell.console.blocks[-1] if shell.console.blocks else "", extension=".py")
    if code is None or not code.strip():
        shell.screen.say("Nothing to run.")
        return
    shell.run(code)


def _edited(*given: Any, **options: Any) -> str | None:
    import click

    with programs_of_absolute_folders():
        try:
            edited: str | None = click.edit(*given, **options)
        except click.ClickException as error:
            raise CommandFailed(error.format_message()) from None
    return edited


@command("HOST_FILE [-f]", ("host",))
def save(shell: Shell, text: str) -> None:
    """Saves the blocks that were run; -f replaces a file."""
    words = words_of(text, 1, 2)
    force = "-f" in words
    names = [word for word in words if word != "-f"]
    if len(names) != 1:
        raise WrongUse
    code = "".join(block.rstrip("\n") + "\n" for block in shell.console.blocks)
    store(Path(names[0]).expanduser(), code.encode(), force=force, again="%save ... -f")
    shell.screen.say(f"{len(shell.console.blocks)} blocks are in {one_line(names[0])}.")


@command("[inline]", ("inline",))
def matplotlib(shell: Shell, text: str) -> None:
    """Does nothing, because notebooks begin with it: figures are announced without it, and saved with savefig."""
    if text not in ("", "inline"):
        raise CommandFailed(
            "a terminal shows no figures, and a box has no windows: plt.savefig('figure.png') in the same block, then "
            "%get figure.png"
        )


@command("HOST_FILE", ("host",))
def run(shell: Shell, text: str) -> None:
    """Runs one of your files in the session: it can use the session's names, and its own names stay there."""
    (name,) = words_of(text, 1, 1)
    code = Path(name).expanduser().read_bytes().decode("utf-8-sig")
    shell.run(code, name=os.path.basename(name), echo=False)


@command()
def page(shell: Shell, _: str) -> None:
    """Shows the whole last long value or error in a pager."""
    if not shell.screen.last:
        raise CommandFailed("nothing was cut so far")
    shell.screen.page(shell.screen.last)


#: The fewest columns for the description of a command beside its form.
_LEAST_COLUMNS = 30
_KEYS = (
    ("NAME? NAME??", "What is known of an object, and its source; F1 shows it beside the cursor."),
    ("Alt-Enter", "Runs a block, whatever it looks like; Ctrl-O begins a new line."),
    ("exit", "Leaves, as Ctrl-D does. Ctrl-C interrupts what runs; Ctrl-Z suspends, and the shell's fg goes on."),
)


@command("[COMMAND]", ("command",))
def help_(shell: Shell, text: str) -> None:
    """Lists the commands, or describes one."""
    name = text.removeprefix("%")
    if name:
        found = COMMANDS.get(name)
        if found is None:
            raise CommandFailed(f"there is no command %{one_line(name)} (%help lists them)")
        shell.screen.say(found.form, "bold")
        shell.screen.say(f"  {found.short}")
        return
    rows = [(each.form, each.short) for each in COMMANDS.values()] + [*_KEYS]
    width = max(len(form) for form, _ in rows)
    columns = max(shutil.get_terminal_size().columns - 1, 20)
    for form, what in rows:
        # The description stands beside the form if there is room for it, and otherwise below.
        if columns >= width + 2 + _LEAST_COLUMNS:
            head, indent = f"{form:<{width}}  ", " " * (width + 2)
        else:
            head, indent = f"{form}\n    ", "    "
        lines = textwrap.wrap(what, columns - len(indent), break_long_words=False, break_on_hyphens=False)
        shell.screen.say(head + f"\n{indent}".join(lines))


def completions(shell: Shell, text: str) -> tuple[int, Sequence[str]]:
    """Returns completions at the end of a line that begins with %: where the word begins, and the words."""
    name, space, rest = text[1:].partition(" ")
    if not space:
        return 1, [each for each in COMMANDS if each.startswith(name)]
    found = COMMANDS.get(name)
    if found is None or not found.words:
        return len(text), []
    *before, word = rest.split(" ")
    kind = found.words[min(len(before), len(found.words) - 1)]
    if kind == "box" and found.name != "reset":
        known = box_files(shell, word)
    elif kind == "host":
        known = host_files(word)
    elif kind == "branch":
        known = list(shell.console.branches)
    elif kind == "command":
        known = list(COMMANDS)
    else:
        known = list(found.words)
    return len(text) - len(word), [each for each in known if each.startswith(word)]


def box_files(shell: Shell, word: str) -> list[str]:
    """Returns files in the box whose paths begin with `word`."""
    folder, slash, _ = word.rpartition("/")
    try:
        entries = shell.console.session.list_files(folder + slash or ".")
    except (OSError, ProxyboxError):
        return []
    paths = [f"{folder}{slash}{entry.name}{'/' if entry.type == 'directory' else ''}" for entry in entries]
    return [shlex.quote(path) if path.isprintable() else "" for path in paths]


def host_files(word: str) -> list[str]:
    """Returns the user's files whose paths begin with `word`."""
    folder, slash, _ = word.rpartition("/")
    try:
        with os.scandir(os.path.expanduser(folder + slash) or ".") as entries:
            found = sorted((entry.name, entry.is_dir()) for entry in entries)
    except OSError:
        return []
    return [shlex.quote(f"{folder}{slash}{name}{'/' if is_folder else ''}") for name, is_folder in found]
