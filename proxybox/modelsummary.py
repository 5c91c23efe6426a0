"""The text that a language model gets of a run: its output, value and files, and what its end and its refusals mean.

    told(proxybox.run(code, policy=policy), policy)

Rules: what the program wrote is made harmless, is bounded, and stays text. Lines of our own begin with MARK, and no
line of the program does. So a program can neither forge a remark of the box nor push one out by printing much. What a
program has named (files, modules, exceptions) stands in our lines cut, and in quotes unless it is one plain word. What
refusals, limits and exceptions mean is said in explanations.py, for everybody.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import attrs

from proxybox.explanations import choice, explain, name
from proxybox.policies import Policy
from proxybox.policies.sizes import spoken_duration, spoken_size
from proxybox.result import GuestError, Result, Status
from proxybox.terminal.harmless import harmless_lines

#: How many characters of the program's output a model gets by default, and the fewest that a caller can ask for.
MOST, LEAST = 16_000, 500
#: What proxybox's own lines begin with.
MARK: Final = "[box] "
#: The text for a run without output, value, files or remarks.
NOTHING: Final = f"{MARK}nothing was printed"
#: How many files, and types of what was shown, are named.
_MOST_NAMED = 20
#: What a line of the program may begin with to look like one of ours: also with letters that only look like these.
_FORGED: Final = re.compile(
    r"^([^\S\n]*)(?=[\[\uff3b\u3010\u3014\u27e6][^\S\n]*[b\u044c\uff42][o0\u043e\u03bf\uff4f][x\u0445\u03c7\uff58]"
    r"[^\S\n]*[\]\uff3d\u3011\u3015\u27e7])",
    re.MULTILINE | re.IGNORECASE,
)


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
        f"The box has the standard library, no network and no other programs; {choice(policy)} (the current folder is "
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
    characters of the program's own texts it has. Of longer ones, these are the beginning and the end.
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

    untold: MIME types that the program has shown and no text can. goes_on: whether the session that ran it goes
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
    return [each.text for each in explain(result, policy)]


def of_files(title: str, files: Sequence[Made]) -> Iterator[str]:
    """Yields a line with the names and sizes of files, if there are any; those of caches (`.cache/x`) come last."""
    if files:
        files = sorted(files, key=lambda it: f"/{it.name}".find("/.") >= 0)
        named = [f"{name(it.name)} ({_size(it.size)})" for it in files[:_MOST_NAMED]]
        more = f" and {len(files) - _MOST_NAMED:,} more" if len(files) > _MOST_NAMED else ""
        yield f"{title}: {', '.join(named)}{more}"


def _size(size: int | None) -> str:
    return "removed" if size is None else spoken_size(size)
