"""What limits, refusals and exceptions of a box mean: one table, for all texts to persons and models.

    explain(proxybox.run(code, policy=policy), policy)  # what `Result.explanations` has

Rules: a text says what happened, and what the program can do then. It is the same for the command line, the prompt,
notebooks, the classroom, models and the service, so it names neither fields of policies nor options of commands. The
remedy names them; it is only for readers who may have chosen the policy. A text contains names that a program has
chosen, but no other text of the program. Such names are cut, on one line, and in quotes unless they are plain words.
"""

import re
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

import attrs

from proxybox.controller.audit import Denial
from proxybox.controller.status import Status
from proxybox.controller.vfs.host.filesystem import HIDDEN_NAMES
from proxybox.policies import Policy
from proxybox.policies.sizes import spoken_duration, spoken_size
from proxybox.terminal.harmless import on_one_line

#: How many refusals are explained, and how many characters a name or a reason has at most.
_MOST_REFUSALS, LONGEST = 20, 200

#: The row for output that was cut while the program went on.
CUT: Final = "cut"
#: The texts and remedies, by names of our own.
TABLE: Final[Mapping[str, tuple[str, str]]] = {
    # limits
    "wall_time": ("the time limit{of} was reached: do less at a time", "limits.wall_time"),
    "cpu_time": ("the processor time limit{of} was reached: do less at a time", "limits.cpu_time"),
    "session.wall_time": ("the time limit for all calls was reached: do less at a time", "session.wall_time"),
    "session.cpu_time": ("the processor time limit for all calls was reached: do less at a time", "session.cpu_time"),
    "time": ("the time limit was reached: do less at a time", ""),
    "memory": ("the memory limit{of} was reached: hold less at a time", "limits.memory"),
    "threads": ("this box has no more than {of} threads at once: use fewer", "limits.threads"),
    "output": ("the program was ended because it printed more than {of}: print less", "output.limit"),
    CUT: ("the output was cut after {of}: print less", "output.limit"),
    "disk": ("this box has no room left for files{of}: remove some, or write less", "limits.disk, limits.files"),
    "calls": ("the limit of {of} was reached: read and write more at a time", "limits.calls"),
    "session.calls": ("the limit of {of} was reached: read and write more at a time", "session.calls"),
    "open_files": (
        "no more files can be open in this box at once: close each when it is done with (`with open(...)`)",
        "limits.open_files",
    ),
    # other ends
    "crashed": ("the interpreter crashed{why}: avoid deep recursion and ctypes", ""),
    "denied": ("the program was ended for a call that this box refuses{why}: do without it", "on_denied"),
    "misbehaved": ("the program broke the rules of this box and was ended{why}", ""),
    "cancelled": ("the program was cancelled from outside", ""),
    "internal_error": ("this box failed, which is no fault of the program: try again", "please report it{why}"),
    "overloaded": ("there are too many boxes at the moment: try again later", ""),
    # refusals
    "network": ("this box has no network: work with what is in it, or ask for the data as files", ""),
    "programs": (
        "no other program can be started in this box, neither a shell nor a subprocess: do it in Python", "",
    ),
    "hidden": (
        "names that begin with a dot are hidden in folders of the host, and nothing there gets one: use another name",
        "filesystem.hide_dotfiles",
    ),
    "read_only": ("{what} is mounted read-only; {places}", "filesystem.mounts"),
    "some_read_only": ("what is mounted read-only cannot be changed; {places}", "filesystem"),
    "refused": ("this box refuses {what} ({errno}): {reason}", ""),
    "more": ("{what} more refusals", ""),
    # exceptions
    "outside": ("{what} is not part of this box; {places}", "filesystem.mounts"),
    "not_there": (
        "there is no {what} in this box, which has only what was handed in or made by its code", "filesystem.mounts",
    ),
    "hidden_there": (
        "there is no {what} in this box: names that begin with a dot are hidden in folders of the host",
        "filesystem.hide_dotfiles",
    ),
    "no_input": ("this box has no more standard input: write the values into the code", ""),
    "module": (
        "{what} is not part of this box, and no program can install it: use the standard library, or write it yourself",
        "packages are named from outside: --packages, packages=",
    ),
    "standard": ("this interpreter was installed without {what}", ""),
    "other_packages": (
        "these packages may have been installed for another interpreter than that of this box", "see proxybox guests",
    ),
    "tracemalloc": ("the interpreter of this box is a PyPy, which has no tracemalloc", "guest=\"cpython\""),
    "getrefcount": ("the interpreter of this box is a PyPy, which does not count references", "guest=\"cpython\""),
    "pythonapi": ("the interpreter of this box is a PyPy, which has no C API by ctypes", "guest=\"cpython\""),
}  # fmt: skip

#: Exceptions that have a row: the type, a pattern for the message, and the row.
OF_EXCEPTIONS: Final = tuple(
    (kind, re.compile(pattern), row)
    for kind, pattern, row in (
        ("ModuleNotFoundError", r"'_tracemalloc'", "tracemalloc"),
        ("AttributeError", r"module 'sys' has no attribute 'getrefcount'", "getrefcount"),
        ("AttributeError", r"module 'ctypes' has no attribute 'pythonapi'", "pythonapi"),
        ("OSError", r"\[Errno 24\] Too many open files", "open_files"),
        ("OSError", r"\[Errno 28\] ", "disk"),
        (
            "ImportError",
            r"(?i)numpy C-extensions failed|you should not try to import numpy from its source directory",
            "other_packages",
        ),
    )
)
#: How Python words the errors of files (OSError.__str__), of names of hosts (gai_strerror(3)), and of modules.
_OF_A_FILE: Final = re.compile(r"\[Errno (\d{1,3})\] [^:\n]{1,100}: '([^'\n]{1,4096})'")
_NO_SUCH_HOST: Final = re.compile(
    "Name or service not known|Temporary failure in name resolution|No address associated with hostname"
)
_MODULE: Final = re.compile(r"No module named '(\w++)([\w.]*+)'")
_NOT_THERE, _NOT_ALLOWED, _READ_ONLY = (2, 20), (1, 13), 30
#: The messages of CPython and PyPy for input() without standard input.
_NO_INPUT: Final = ("EOF when reading a line", "")
_PLAIN: Final = re.compile(r"[\w./~+@%=,:-]+", re.ASCII)


@attrs.frozen
class Explanation:
    """One explanation.

    key: the name of its row. text: a sentence without its full stop, for readers of the result. remedy: what the person
    who chose the policy can change; empty if there is nothing.
    """

    key: str
    text: str
    remedy: str = ""

    def __str__(self) -> str:
        return f"{self.text} ({self.remedy})" if self.remedy else self.text


class ClaimedError(Protocol):
    """The exception that has ended a program, as the program claims."""

    @property
    def type(self) -> str:
        """Its class."""

    @property
    def message(self) -> str:
        """Its text."""


class Ending(Protocol):
    """The part of a Result that is explained."""

    @property
    def status(self) -> Status:
        """How the program ended."""

    @property
    def why(self) -> str:
        """The limit, by its name in the policy, or the call."""

    @property
    def signal(self) -> int | None:
        """The signal that killed it."""

    @property
    def error(self) -> ClaimedError | None:
        """The exception that it ended with."""

    @property
    def denials(self) -> Mapping[Denial, int]:
        """What was refused."""

    @property
    def truncated(self) -> bool:
        """Whether output is missing."""


def explain(ending: Ending, policy: Policy) -> tuple[Explanation, ...]:
    """Returns explanations of limits, refusals and the exception, each once. policy: of the run."""
    found = [*_of_end(ending, policy), *_of_refusals(ending, policy), *_of_error(ending, policy)]
    if ending.truncated and ending.status is not Status.OUTPUT_LIMIT:
        found.append(_row(CUT, of=_printable(policy)))
    return tuple(dict.fromkeys(found))


def _row(key: str, **values: str) -> Explanation:
    text, remedy = TABLE[key]
    return Explanation(key, text.format(**values), remedy.format(**values))


def name(text: str) -> str:
    """Returns a name that a program has chosen, cut, and in quotes unless it is a plain word, for a line of our own."""
    shown = line(text)
    if _PLAIN.fullmatch(shown):
        return shown
    escaped = shown.replace("'", "\\'")
    return f"'{escaped}'"


def line(text: str) -> str:
    """Returns text that a program may have chosen, cut and on one line."""
    shown = on_one_line(text[: LONGEST + 1])
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}..."


# --- ends -------------------------------------------------------------------------------------------------------------


def _of_end(ending: Ending, policy: Policy) -> Iterator[Explanation]:
    """Yields how a limit, a signal or the controller has ended the program."""
    status, limits, why = ending.status, policy.limits, ending.why.partition(";")[0]
    if status is Status.TIME_LIMIT:
        yield _of_time(why.partition(" ")[0], policy)
    elif status is Status.MEMORY_LIMIT:
        yield _row("memory", of=_of(None if limits.memory is None else spoken_size(limits.memory)))
    elif status is Status.OUTPUT_LIMIT:
        yield _row("output", of=_printable(policy))
    elif status is Status.DISK_LIMIT:
        yield _row("disk", of=_room(policy))
    elif status is Status.CALL_LIMIT:
        is_all = why == "session.calls"
        most = policy.session.calls if is_all else limits.calls
        yield _row("session.calls" if is_all else "calls", of=_number(most, "OS calls") or "OS calls")
    elif status.value in TABLE:
        why = _of_signal(ending.signal) if status is Status.CRASHED and ending.signal is not None else line(why)
        yield _row(status.value, why=f" ({why})" if why else "")


def _of_signal(number: int) -> str:
    try:
        return f"signal {number}: {signal.strsignal(number)}"
    except ValueError:
        return f"signal {number}"


def _of_time(key: str, policy: Policy) -> Explanation:
    """Returns the explanation for a limit of time. key: its name in the policy, such as limits.wall_time."""
    if key in ("session.wall_time", "session.cpu_time"):
        return _row(key)
    if key not in ("limits.wall_time", "limits.cpu_time"):
        return _row("time")
    field = key.removeprefix("limits.")
    seconds: float | None = getattr(policy.limits, field)
    return _row(field, of=_of(None if seconds is None else spoken_duration(seconds)))


def _of(size: str | None) -> str:
    return "" if size is None else f" of {size}"


def _room(policy: Policy) -> str:
    limits = policy.limits
    sizes = ("" if limits.disk is None else spoken_size(limits.disk), _number(limits.files, "files"))
    sizes_text = ", ".join(filter(None, sizes))
    return f" (limits: {sizes_text})" if sizes_text else ""


def _printable(policy: Policy) -> str:
    output = policy.output
    size = "" if output.limit is None else spoken_size(output.limit)
    return " or ".join(filter(None, (size, _number(output.lines, "lines")))) or "its limit"


def _number(count: int | None, of_what: str) -> str:
    return "" if count is None else f"{count:,} {of_what}"


# --- refusals ---------------------------------------------------------------------------------------------------------


def _starts_a_program(call: str) -> bool:
    from proxybox.controller.calleffects import CallEffect
    from proxybox.controller.oscalls.rows import names_of  # late: clients of a service do not need them

    return call in names_of(CallEffect.STARTS)


def _of_refusals(ending: Ending, policy: Policy) -> Iterator[Explanation]:
    """Yields what each refused call means."""
    for denial in list(ending.denials)[:_MOST_REFUSALS]:
        if denial.reason.startswith("network:"):
            yield _row("network")
        elif denial.reason == "limits.threads":
            yield _row("threads", of=str(policy.limits.thread_count))
        elif denial.reason == HIDDEN_NAMES:
            yield _row("hidden")
        elif _starts_a_program(denial.call):
            yield _row("programs")
        elif denial.errno != "EROFS":
            yield _row("refused", what=line(denial.call), errno=denial.errno, reason=line(denial.reason))
        elif _fault_of_a_file(ending.error)[0] != _READ_ONLY:  # otherwise the exception names the file
            yield _row("some_read_only", places=choice(policy))
    if len(ending.denials) > _MOST_REFUSALS:
        yield _row("more", what=f"{len(ending.denials) - _MOST_REFUSALS:,}")


# --- exceptions -------------------------------------------------------------------------------------------------------


def _of_error(ending: Ending, policy: Policy) -> Iterator[Explanation]:
    """Yields what an exception means here; the exception itself is the program's claim."""
    error = ending.error
    if error is None:
        return
    number, path = _fault_of_a_file(error)
    known = next((row for kind, what, row in OF_EXCEPTIONS if kind == error.type and what.search(error.message)), "")
    if known:
        yield _row(known, of=_room(policy))
    elif path:
        yield from _of_a_file(number, path, policy)
    elif _NO_SUCH_HOST.search(error.message):
        yield _row("network")
    elif error.type == "EOFError" and error.message in _NO_INPUT:
        yield _row("no_input")
    elif error.type == "ModuleNotFoundError" and (module := _MODULE.search(error.message)):
        if module[1] not in sys.stdlib_module_names:
            yield _row("module", what=name(module[1]))
        elif not module[2]:
            yield _row("standard", what=name(module[1]))


def _fault_of_a_file(error: ClaimedError | None) -> tuple[int, str]:
    """Returns the errno and the path in an exception's message; 0 and an empty path if it has none."""
    found = None if error is None else _OF_A_FILE.match(error.message)
    return (0, "") if found is None else (int(found[1]), found[2])


def _of_a_file(number: int, path: str, policy: Policy) -> Iterator[Explanation]:
    """Yields the explanation for a file that a program could not use."""
    places = [*_places(policy), policy.environment.home]
    is_outside = path.startswith("/") and not any(f"{path}/".startswith(f"{place}/") for place in places)
    top = f"/{path.lstrip('/').partition('/')[0]}"
    if number in _NOT_ALLOWED and is_outside and not any(place.startswith(f"{top}/") for place in places):
        yield _row("outside", what=name(top), places=choice(policy))
    elif number in (*_NOT_ALLOWED, *_NOT_THERE) and is_outside:
        yield _row("outside", what=name(path), places=choice(policy))
    elif number in _NOT_THERE:
        is_hidden = policy.filesystem.hide_dotfiles and _has_a_hidden_name(path)
        yield _row("hidden_there" if is_hidden else "not_there", what=name(path))
    elif number == _READ_ONLY:
        yield _row("read_only", what=name(path), places=choice(policy))


def _has_a_hidden_name(path: str) -> bool:
    return any(each.startswith(".") for each in path.split("/") if each not in (".", ".."))


# --- places -----------------------------------------------------------------------------------------------------------


def _places(policy: Policy) -> dict[str, bool]:
    """Returns the folders of a box, without its empty home, and whether a program can write to each."""
    filesystem = policy.filesystem
    places = {"/box": filesystem.box != "ro", **{mount.target: mount.mode != "ro" for mount in filesystem.mounts}}
    return {**places, "/tmp": places.get("/tmp", True)}  # noqa: S108 - a path in the box


def choice(policy: Policy) -> str:
    """Returns in words where a program can write, and where it can only read."""
    places = _places(policy)
    writable, readable = ([place for place in places if places[place] is which] for which in (True, False))
    lists = (("writable", writable or ["nothing"]), ("read-only", readable))
    return "; ".join(f"{title}: {', '.join(map(line, found))}" for title, found in lists if found)
