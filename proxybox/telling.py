"""What a language model is told of a run: its output, value and files, and each refusal and limit in words to act on.

    told(proxybox.run(code, policy=policy), policy)

Rules: what the program wrote is made harmless, is bounded, and stays text. Lines of our own begin with MARK, and no
line of the program does. So a program can neither forge a remark of the box nor push one out by printing much. What a
program has named (files, modules, exceptions) stands in our lines cut, and in quotes unless it is one plain word.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from proxybox.policies import Policy
from proxybox.policies.sizes import spoken_duration, spoken_size
from proxybox.result import GuestError, Result, Status
from proxybox.terminal.harmless import harmless_lines, on_one_line

#: How many characters of what the program wrote are told unless the caller says otherwise, and the least of them.
MOST, LEAST = 16_000, 500
#: What the lines of our own begin with.
MARK: Final = "[box] "
#: What is told where there is nothing to tell.
NOTHING: Final = f"{MARK}nothing was printed"
#: How many files and refusals are named, and how many characters a name or a reason has at most.
_MOST_NAMED, _LONGEST = 20, 200
#: What a line of the program may begin with to look like one of ours: also with letters that only look like these.
_FORGED: Final = re.compile(
    r"^([^\S\n]*)(?=[\[\uff3b\u3010\u3014\u27e6][^\S\n]*[b\u044c\uff42][o0\u043e\u03bf\uff4f][x\u0445\u03c7\uff58]"
    r"[^\S\n]*[\]\uff3d\u3011\u3015\u27e7])",
    re.MULTILINE | re.IGNORECASE,
)
_PLAIN: Final = re.compile(r"[\w./~+@%=,:-]+", re.ASCII)
#: How Python words the errors of files (OSError.__str__), of names of hosts (gai_strerror(3)), and of modules.
_OF_A_FILE: Final = re.compile(r"\[Errno (\d{1,3})\] [^:\n]{1,100}: '([^'\n]{1,4096})'")
_NO_SUCH_HOST: Final = re.compile(
    "Name or service not known|Temporary failure in name resolution|No address associated with hostname"
)
_MODULE: Final = re.compile(r"No module named '(\w++)[\w.]*+'")
_NOT_THERE, _NOT_ALLOWED, _READ_ONLY = (2, 20), (1, 13), 30
#: What a CPython and a PyPy say of input() where there is none.
_NO_INPUT: Final = ("EOF when reading a line", "")
_NO_NETWORK: Final = "this box has no network: work with what is in it, or ask for the data as files"
_NO_PROGRAMS: Final = "no other program can be started in this box, neither a shell nor a subprocess: do it in Python"
_OF_PROGRAMS: Final = ("clone", "clone3", "fork", "vfork", "execve", "execveat")


@attrs.frozen
class Made:
    """A file that a program has made or changed. size: in bytes; None for one that is gone."""

    name: str
    size: int | None


def about(policy: Policy) -> str:
    """Returns what a model should know of a box before it uses it."""
    limits, threads = policy.limits, policy.limits.thread_count
    has = ["no threads" if threads == 1 else f"{threads} threads"]
    if limits.memory is not None:
        has.append(f"{spoken_size(limits.memory)} of memory")
    if limits.wall_time is not None:
        has.append(f"at most {spoken_duration(limits.wall_time)}")
    return (
        f"The box has the standard library, no network and no other programs; {_choice(policy)} (the current folder is "
        f"{policy.environment.cwd}); {', '.join(has)}."
    )


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
    """Returns what a model should read after a run, as one text.

    policy: the one of the run. files: what the program has made or changed; with None, what the result has of it.
    value: the last expression's value, in the program's own text. untold, goes_on: as for `notes`. most: how many
    characters of the program's own texts are told. Of longer ones, these are the beginning and the end.
    """
    texts = result.stdout, result.stderr, trace_of(result), value
    rooms = _rooms([len(text) for text in texts], max(LEAST, most))
    wrote = together(*(cut(text, room)[0] for text, room in zip(texts, rooms, strict=True)))
    made = of_files("files made or changed", made_by(result) if files is None else tuple(files))
    ours = [*made, *notes(result, policy, untold=untold, goes_on=goes_on)]
    return "\n".join(filter(None, (wrote, marked(ours)))) or NOTHING


def marked(lines: Iterable[str]) -> str:
    """Returns lines of our own as they stand beside a program's text."""
    return "\n".join(f"{MARK}{line}" for line in lines)


def made_by(result: Result) -> tuple[Made, ...]:
    """Returns the files that a run has made or changed."""
    changes = (change for change in result.files.changes if change.type == "file")
    return tuple(
        Made(change.name, None if change.kind == "deleted" else len(change.content or b"")) for change in changes
    )


# --- what the program wrote -------------------------------------------------------------------------------------------


def cut(text: str, most: int) -> tuple[str, bool]:
    """Returns text of a program as it can stand among lines of our own, and whether some of it is left out.

    It is harmless, none of its lines begins with MARK, and of more than `most` characters the beginning and the end are
    left.
    """
    shown = safe(text[: most + 1])
    if len(text) <= most and len(shown) <= 2 * most:  # escapes are longer than what they stand for
        return shown, False
    half = most // 2
    left_out = f"{MARK}of {len(text):,} characters the middle is left out here: print less, or write them to a file"
    return f"{safe(text[:half])[:most]}\n{left_out}\n{safe(safe(text[-half:])[-most:])}", True


def safe(text: str) -> str:
    """Returns text of a program without controls, of which no line begins with MARK, nor with what looks like it."""
    return _FORGED.sub(r"\1\\", harmless_lines(text))


def together(stdout: str, stderr: str, *more: str) -> str:
    """Returns texts that `cut` has returned as one; a heading tells which is standard error, where there are others."""
    texts = [text.removesuffix("\n") if text.strip() else "" for text in (stdout, stderr, *more)]
    if texts[1] and len(list(filter(None, texts))) > 1:
        texts[1] = f"{marked(['standard error:'])}\n{texts[1]}"
    return "\n".join(filter(None, texts))


def trace_of(result: Result) -> str:
    """Returns the traceback of a program that has not printed it itself; none of one that has called sys.exit."""
    error = result.error
    return "" if error is None or _is_exit(error) or error.traceback in result.stderr else error.traceback


def _is_exit(error: GuestError | None) -> bool:
    return error is None or error.type == "SystemExit"


def _rooms(sizes: Sequence[int], most: int) -> list[int]:
    """Divides `most` among texts of these sizes: what a short one leaves is there for the longer ones."""
    rooms, left = {}, most
    for count, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        rooms[at] = left // (len(sizes) - count)
        left -= min(sizes[at], rooms[at])
    return [rooms[at] for at in range(len(sizes))]


# --- lines of our own -------------------------------------------------------------------------------------------------


def notes(result: Result, policy: Policy, *, untold: Sequence[str] = (), goes_on: bool | None = None) -> list[str]:
    """Returns all that a model has to know besides the output and the files, in lines without MARK.

    untold: MIME types of what the program has shown and cannot be told. goes_on: whether the session that ran it goes
    on; None where there is none.
    """
    found = remarks(result, policy)
    if untold:
        found.append(f"shown, which cannot be told: {', '.join(map(name, untold[:_MOST_NAMED]))}")
    for path in result.left_open:
        found.append(f"{name(path.removeprefix(f'{policy.environment.cwd}/'))} is still open: close it, or use `with`")
    if result.exit_code and result.status is Status.ERROR and _is_exit(result.error):
        found.append(f"the program ended with exit status {result.exit_code}")
    if goes_on is False:
        found.append("this box has ended, its names and files are gone: the next call starts a new one")
    elif goes_on and result.status not in (Status.OK, Status.ERROR, Status.SYNTAX_ERROR):
        found.append("this box goes on: names and files are kept")
    return found


def remarks(result: Result, policy: Policy) -> list[str]:
    """Returns what limits, refusals and the exception mean; each once."""
    found = [*_of_end(result, policy), *_of_refusals(result, policy), *_of_error(result, policy)]
    if result.truncated and result.status is not Status.OUTPUT_LIMIT:
        found.append(f"the output was cut after {_printable(policy)}: print less")
    return list(dict.fromkeys(found))


def of_files(title: str, files: Sequence[Made]) -> Iterator[str]:
    """Yields a line with the names and sizes of files, if there are any."""
    if files:
        told = [f"{name(it.name)} ({_size(it.size)})" for it in files[:_MOST_NAMED]]
        more = f" and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
        yield f"{title}: {', '.join(told)}{more}"


def _size(size: int | None) -> str:
    return "removed" if size is None else spoken_size(size)


def name(text: str) -> str:
    """Returns a name that a program has chosen as it can stand in a line of our own: cut, and no sentence."""
    shown = _line(text)
    if _PLAIN.fullmatch(shown):
        return shown
    escaped = shown.replace("'", "\\'")
    return f"'{escaped}'"


def _line(text: str) -> str:
    shown = on_one_line(text[: _LONGEST + 1])
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."


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
        yield f"this box has no room left for files{given and f' (limits: {given})'}: remove some, or write less"
    elif result.status is Status.CALL_LIMIT:
        most = policy.session.calls if why == "session.calls" else limits.calls
        yield f"the limit of {_number(most, 'OS calls') or 'OS calls'} was reached: read and write more at a time"
    elif result.status in _ENDS:
        why = f" ({_line(why)})" if why else ""
        yield _ENDS[result.status].format(why=why)


def _of_time(key: str, policy: Policy) -> str:
    """Returns which limit of time was reached. key: where it stands in the policy, such as limits.wall_time."""
    section, _, field = key.partition(".")
    owner = {"limits": policy.limits, "session": policy.session}.get(section)
    seconds = getattr(owner, field) if owner is not None and field in ("wall_time", "cpu_time") else None
    length = "" if seconds is None else f" of {spoken_duration(seconds)}"
    kind = "processor time" if field == "cpu_time" else "time"
    whose = " for all calls" if section == "session" else ""
    return f"the {kind} limit{length}{whose} was reached: do less in one call"


_ENDS: Final = {
    Status.CRASHED: "the interpreter crashed{why}: avoid deep recursion and ctypes",
    Status.DENIED: "the program was ended for a call that this box refuses{why}: do without it",
    Status.MISBEHAVED: "the program broke the rules of this box and was ended{why}",
    Status.CANCELLED: "the program was cancelled from outside",
    Status.INTERNAL_ERROR: "this box failed, which is no fault of the program: try again",
    Status.OVERLOADED: "there are too many boxes at the moment: try again later",
}


def _of_refusals(result: Result, policy: Policy) -> Iterator[str]:
    """Yields what each refused call means."""
    for denial in list(result.denials)[:_MOST_NAMED]:
        if denial.reason.startswith("network:"):
            yield _NO_NETWORK
        elif denial.reason == "limits.threads":
            yield f"this box has no more than {policy.limits.thread_count} threads at once: use fewer"
        elif denial.call in _OF_PROGRAMS:
            yield _NO_PROGRAMS
        elif denial.errno != "EROFS":
            yield f"this box refuses {_line(denial.call)} ({denial.errno}): {_line(denial.reason)}"
        elif _fault_of_a_file(result.error)[0] != _READ_ONLY:  # which names it
            yield f"what is mounted read-only cannot be changed; {_choice(policy)}"
    if len(result.denials) > _MOST_NAMED:
        yield f"{len(result.denials) - _MOST_NAMED:,} more refusals"


def _of_error(result: Result, policy: Policy) -> Iterator[str]:
    """Yields what an exception means here; the exception itself is the program's claim."""
    error = result.error
    if error is None:
        return
    number, path = _fault_of_a_file(error)
    if path:
        yield from _of_a_file(number, path, policy)
    elif _NO_SUCH_HOST.search(error.message):
        yield _NO_NETWORK
    elif error.type == "EOFError" and error.message in _NO_INPUT:
        yield "this box has no more standard input: write the values into the code"
    elif error.type == "ModuleNotFoundError" and (module := _MODULE.search(error.message)) and result.hint:
        yield (
            f"{name(module[1])} is not part of this box and cannot be installed: use the standard library, or write it "
            "yourself"
        )
    elif result.hint:
        yield _line(result.hint.partition(": run the program with ")[0])  # which a model cannot


def _fault_of_a_file(error: GuestError | None) -> tuple[int, str]:
    """Returns the errno and the path that an exception tells; 0 and an empty path where it tells none."""
    found = None if error is None else _OF_A_FILE.match(error.message)
    return (0, "") if found is None else (int(found[1]), found[2])


def _of_a_file(number: int, path: str, policy: Policy) -> Iterator[str]:
    """Yields what there is in the place of a file that a program could not use."""
    places = [*_places(policy), policy.environment.home]
    is_outside = path.startswith("/") and not any(f"{path}/".startswith(f"{place}/") for place in places)
    top = f"/{path.lstrip('/').partition('/')[0]}"
    if number in _NOT_ALLOWED and is_outside and not any(place.startswith(f"{top}/") for place in places):
        yield f"{name(top)} is not part of this box; {_choice(policy)}"
    elif number in (*_NOT_ALLOWED, *_NOT_THERE) and is_outside:
        yield f"{name(path)} is not part of this box; {_choice(policy)}"
    elif number in _NOT_THERE:
        yield f"there is no {name(path)} in this box, which has only what was handed in or made by its code"
    elif number == _READ_ONLY:
        yield f"{name(path)} is mounted read-only; {_choice(policy)}"


def _places(policy: Policy) -> dict[str, bool]:
    """Returns the folders of a box but for its home, which is empty, and whether a program can write to them."""
    filesystem = policy.filesystem
    places = {"/box": filesystem.box != "ro", **{mount.target: mount.mode != "ro" for mount in filesystem.mounts}}
    return {**places, "/tmp": places.get("/tmp", True)}  # noqa: S108 - a path in the box


def _choice(policy: Policy) -> str:
    """Returns where a program can write, and where it can only read."""
    places = _places(policy)
    writable, readable = ([place for place in places if places[place] is which] for which in (True, False))
    lists = (("writable", writable or ["nothing"]), ("read-only", readable))
    return "; ".join(f"{title}: {', '.join(map(_line, found))}" for title, found in lists if found)


def _printable(policy: Policy) -> str:
    output = policy.output
    size = "" if output.limit is None else spoken_size(output.limit)
    return " or ".join(filter(None, (size, _number(output.lines, "lines")))) or "its limit"


def _number(count: int | None, of_what: str) -> str:
    return "" if count is None else f"{count:,} {of_what}"
