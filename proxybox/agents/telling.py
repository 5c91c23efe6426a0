"""What a model is told of a run: its output, its value and files, and each refusal and limit in words to act on.

    told(proxybox.run(code, policy=policy), policy)

Rules: what the program wrote is made harmless, is bounded, and stays text. Lines of our own begin with MARK, and no
line of the program does. So a program can neither forge a remark of the box nor push one out by printing much.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

import attrs

from proxybox.policies import Policy
from proxybox.policies.sizes import spoken_duration, spoken_size
from proxybox.result import GuestError, Result, Status
from proxybox.terminal.harmless import harmless_lines, on_one_line

#: How many characters of what the program wrote are told unless the caller says otherwise, and the least of them.
MOST, LEAST = 16_000, 500
#: What the lines of our own begin with.
MARK = "[box] "
#: What is told where there is nothing to tell.
NOTHING = f"{MARK}done; the program printed nothing"
#: How many files and refusals are named, and how many characters a name or a reason has at most.
_MOST_NAMED, _LONGEST = 20, 200
_FORGED = re.compile(r"^(\s*)\[box\]", re.MULTILINE | re.IGNORECASE)
_PATH = re.compile(r"\[Errno \d+\] [\w ]+: '(/[^'\n]{0,200})'")
_MODULE = re.compile(r"No module named '(\w+)[\w.]*'")
_OF_PATHS = {
    "FileNotFoundError": "is not in this box, which has no files of its host",
    "PermissionError": "is not for programs in this box",
}
_NO_NETWORK = "there is no network here: work with what is in the box"
_NO_PROGRAMS = "no other program can be started here, neither a shell nor a subprocess: do it in Python"
#: Exceptions by which a program fails for want of a network before it makes a call that is refused.
_OF_NETWORKS = ("gaierror", "URLError", "ConnectError", "ConnectionError")


@attrs.frozen
class Made:
    """A file that a program has made or changed. size: in bytes; None for one that is gone."""

    name: str
    size: int | None


def told(
    result: Result,
    policy: Policy,
    *,
    files: Iterable[Made] | None = None,
    value: str = "",
    untold: Sequence[str] = (),
    goes_on: bool | None = None,
    most: int = MOST,
) -> str:
    """Returns what a model should read after a run.

    policy: the one of the run. files: what the program has made or changed; with None, what the result has of it.
    value: the last expression's value, in the program's own text. untold: MIME types of what it has shown besides.
    goes_on: whether the session that ran it goes on; None where there is none. most: how many characters of the
    program's own texts are told. Of longer ones, these are the beginning and the end.
    """
    parts = list(_texts(result, value, max(LEAST, most)))
    notes = [*_of_files(made_by(result) if files is None else tuple(files)), *remarks(result, policy)]
    if untold:
        notes.append(f"shown, which cannot be told: {', '.join(map(_line, untold[:_MOST_NAMED]))}")
    if result.exit_code and result.status is Status.ERROR and _is_exit(result.error):
        notes.append(f"the program ended with exit status {result.exit_code}")
    if goes_on is False:
        notes.append("the session has ended: its names and files are gone, and the next call starts a new one")
    elif goes_on and result.status not in (Status.OK, Status.ERROR, Status.SYNTAX_ERROR):
        notes.append("the session goes on: names and files are kept")
    if not parts and not notes:
        return NOTHING
    return "\n".join([*parts, *(MARK + note for note in notes)])


def made_by(result: Result) -> tuple[Made, ...]:
    """Returns the files that a run has made or changed."""
    changes = (change for change in result.files.changes if change.type == "file")
    return tuple(
        Made(change.name, None if change.kind == "deleted" else len(change.content or b"")) for change in changes
    )


def quoted(text: str, most: int) -> str:
    """Returns text of a program as it can stand among lines of our own.

    It is harmless, none of its lines begins with MARK, and of more than `most` characters the beginning and the end are
    left.
    """
    shown = _safe(text[: most + 1])
    if len(text) <= most and len(shown) <= 2 * most:  # escapes are longer than what they stand for
        return shown
    half = most // 2
    left_out = f"{MARK}of {len(text):,} characters the middle is left out here: print less, or write them to a file"
    return f"{_safe(text[:half])[:most]}\n{left_out}\n{_safe(_safe(text[-half:])[-most:])}"


def _safe(text: str) -> str:
    return "\n".join(_FORGED.sub(r"\1\\[box]", line) for line in harmless_lines(text).splitlines())


# --- what the program wrote -------------------------------------------------------------------------------------------


def _texts(result: Result, value: str, most: int) -> Iterator[str]:
    """Yields standard output, standard error, the traceback and the value; each where there is one."""
    trace = "" if result.error is None or _is_printed(result.error, result) else result.error.traceback
    all_texts = ("", result.stdout), ("standard error:", result.stderr), ("", trace), ("", value)
    present = [(title, text) for title, text in all_texts if text.strip()]
    for (title, text), room in zip(present, _rooms([len(text) for _, text in present], most), strict=True):
        yield f"{MARK}{title}\n{quoted(text, room)}" if title and len(present) > 1 else quoted(text, room)


def _is_printed(error: GuestError, result: Result) -> bool:
    """Whether a traceback need not be told: a program has printed it, or it says nothing of the program."""
    return _is_exit(error) or error.traceback in result.stderr


def _is_exit(error: GuestError | None) -> bool:
    return error is None or error.type == "SystemExit"


def _rooms(sizes: Sequence[int], most: int) -> list[int]:
    """Divides `most` among texts of these sizes: what a short one leaves is there for the longer ones."""
    rooms, left = {}, most
    for count, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        rooms[at] = left // (len(sizes) - count)
        left -= min(sizes[at], rooms[at])
    return [rooms[at] for at in range(len(sizes))]


# --- remarks of our own -----------------------------------------------------------------------------------------------


def _of_files(files: Sequence[Made]) -> Iterator[str]:
    if files:
        named = [
            f"{_line(each.name)} ({'removed' if each.size is None else spoken_size(each.size)})"
            for each in files[:_MOST_NAMED]
        ]
        more = f" and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
        yield f"files made or changed: {', '.join(named)}{more}"


def remarks(result: Result, policy: Policy) -> list[str]:
    """Returns what limits, refusals and the exception mean; each once."""
    found = [*_of_end(result, policy), *_of_refusals(result, policy), *_of_error(result, policy)]
    if result.truncated and result.status is not Status.OUTPUT_LIMIT:
        found.append(f"the output was cut after {_printable(policy)}: print less")
    return list(dict.fromkeys(found))


def _of_end(result: Result, policy: Policy) -> Iterator[str]:
    """Yields how a limit, a signal or the controller has ended the program."""
    limits, why = policy.limits, result.why.partition(";")[0]
    if result.status is Status.TIME_LIMIT:
        yield _of_time(why.partition(" ")[0], policy)
    elif result.status is Status.MEMORY_LIMIT:
        size = "" if limits.memory is None else f" of {spoken_size(limits.memory)}"
        yield f"the memory limit{size} was reached: hold less at a time"
    elif result.status is Status.OUTPUT_LIMIT:
        yield f"the program was ended because it printed more than {_printable(policy)}: print less"
    elif result.status is Status.DISK_LIMIT or (result.error and "[Errno 28]" in result.error.message):
        sizes = ("" if limits.disk is None else spoken_size(limits.disk), _number(limits.files, "files"))
        given = ", ".join(filter(None, sizes))
        yield f"no room is left for files{given and f' (limits: {given})'}: remove some, or write less"
    elif result.status is Status.CALL_LIMIT:
        yield "the limit of OS calls was reached: read and write more at a time"
    elif result.status in _ENDS:
        yield _ENDS[result.status].format(why=_line(why or result.summary()))


def _of_time(key: str, policy: Policy) -> str:
    """Returns which limit of time was reached. key: where it stands in the policy, such as limits.wall_time."""
    section, _, name = key.partition(".")
    owner = {"limits": policy.limits, "session": policy.session}.get(section)
    seconds = getattr(owner, name) if owner is not None and name in ("wall_time", "cpu_time") else None
    length = "" if seconds is None else f" of {spoken_duration(seconds)}"
    kind = "processor time" if name == "cpu_time" else "time"
    whose = " for all calls" if section == "session" else ""
    return f"the {kind} limit{length}{whose} was reached: do less in one call"


_ENDS = {
    Status.CRASHED: "the interpreter crashed ({why})",
    Status.DENIED: "the program was ended for a call that is refused here ({why})",
    Status.MISBEHAVED: "the program broke the box and was ended ({why})",
    Status.CANCELLED: "the program was cancelled from outside",
    Status.INTERNAL_ERROR: "the box failed, which is no fault of the program: try again",
    Status.OVERLOADED: "there are too many boxes at the moment: try again later",
}


def _of_refusals(result: Result, policy: Policy) -> Iterator[str]:
    """Yields what each refused call means."""
    for denial in list(result.denials)[:_MOST_NAMED]:
        if denial.reason.startswith("network:"):
            yield _NO_NETWORK
        elif denial.reason == "fork is refused" or denial.call.startswith("exec"):
            yield _NO_PROGRAMS
        elif denial.reason == "limits.threads":
            yield f"no more than {max(1, policy.limits.threads or 1)} threads can run at once"
        elif denial.errno == "EROFS":
            yield f"what is mounted read-only cannot be changed; {_writable(policy)}"
        else:
            yield f"refused: {_line(denial.call)} ({denial.errno}): {_line(denial.reason)}"
    if len(result.denials) > _MOST_NAMED:
        yield f"{len(result.denials) - _MOST_NAMED:,} more refusals"


def _of_error(result: Result, policy: Policy) -> Iterator[str]:
    """Yields what an exception means here; the exception itself is the program's claim."""
    error = result.error
    if error is None:
        return
    if error.type.rpartition(".")[2] in _OF_NETWORKS:
        yield _NO_NETWORK
    elif error.type == "EOFError":
        yield "there is no standard input here: write the values into the code"
    elif error.type == "ModuleNotFoundError" and (module := _MODULE.search(error.message)) and result.hint:
        yield f"{_line(module[1])} is not installed here and cannot be: use the standard library, or write it yourself"
    elif error.type in _OF_PATHS and (path := _PATH.search(error.message)) and not _is_below(path[1], _places(policy)):
        yield f"{_line(path[1])} {_OF_PATHS[error.type]}; {_writable(policy)}"
    elif result.hint:
        yield _line(result.hint.partition(": run the program with ")[0])  # which a model cannot


def _is_below(path: str, places: Iterable[str]) -> bool:
    return any(f"{path}/".startswith(f"{place}/") for place in places)


def _places(policy: Policy) -> list[str]:
    """Returns the folders that a program can write to."""
    filesystem = policy.filesystem
    own = ["/box"] if filesystem.box != "ro" else []
    mounted = [mount.target for mount in filesystem.mounts if mount.mode != "ro"]
    return list(dict.fromkeys([*own, "/tmp", policy.environment.home, *mounted]))  # noqa: S108 - a path in the box


def _writable(policy: Policy) -> str:
    return f"writable: {', '.join(map(_line, _places(policy)))}"


def _printable(policy: Policy) -> str:
    output = policy.output
    size = "" if output.limit is None else spoken_size(output.limit)
    return " or ".join(filter(None, (size, _number(output.lines, "lines"))))


def _number(count: int | None, of_what: str) -> str:
    return "" if count is None else f"{count:,} {of_what}"


def _line(text: str) -> str:
    shown = on_one_line(text[: _LONGEST + 1])
    return shown if len(text) <= _LONGEST else f"{shown[:_LONGEST]}..."
