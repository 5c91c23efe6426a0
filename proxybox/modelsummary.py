"""The text about a run for a language model: its output, value and files, and what its end and its refusals mean.

    told(proxybox.run(code, policy=policy), policy)

Rules: what the program wrote is made harmless, is bounded, and stays text. Lines of our own begin with MARK, and no
line of the program does. So a program can neither forge a remark of the box nor push one out by printing much. Names
that a program has chosen (of files, modules, exceptions) are cut in our lines, and in quotes unless they are one plain
word. The texts about refusals, limits and exceptions are in explanations.py.
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

#: How many characters of the program's output a model gets by default, and the fewest that a caller can request.
MOST, LEAST = 16_000, 500
#: The beginning of proxybox's own lines.
MARK: Final = "[box] "
#: The text for a run without output, value, files or remarks.
NOTHING: Final = f"{MARK}nothing was printed"
#: The most files, and the most MIME types of displayed data, that are named.
_MOST_NAMED = 20
#: Matches the beginning of a program's line that looks like one of our lines, also with similar letters.
_FORGED: Final = re.compile(
    r"^([^\S\n]*)(?=[\[\uff3b\u3010\u3014\u27e6][^\S\n]*[b\u044c\uff42][o0\u043e\u03bf\uff4f][x\u0445\u03c7\uff58]"
    r"[^\S\n]*[\]\uff3d\u3011\u3015\u27e7])",
    re.MULTILINE | re.IGNORECASE,
)


@attrs.frozen
class Made:
    """A file that a program has made, changed or removed. size: in bytes; None for a removed file."""

    name: str
    size: int | None


def about(policy: Policy) -> str:
    """Returns the text that a model should read before it uses a box."""
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
    """Returns the text that a model should read after a run.

    policy: the one of the run. files: the files that the program has made or changed; None for those of the result.
    value: the last expression's value, in the program's own text. untold, goes_on: as for `notes`. most: how many
    characters of the program's own texts are included; of longer texts, the beginning and the end.
    """
    texts = result.stdout, result.stderr, trace_of(result), value
    rooms = _rooms([len(text) for text in texts], max(LEAST, most))
    wrote = together(*(cut(text, room)[0] for text, room in zip(texts, rooms, strict=True)))
    made = of_files("files made or changed", made_by(result) if files is None else tuple(files))
    ours = [*made, *notes(result, policy, untold=untold, goes_on=goes_on)]
    return "\n".join(filter(None, (wrote, marked(ours)))) or NOTHING


def marked(lines: Iterable[str]) -> str:
    """Returns lines of our own, each with MARK before it, for use beside a program's text."""
    return "\n".join(f"{MARK}{line}" for line in lines)


def made_by(result: Result) -> tuple[Made, ...]:
    """Returns the files that a run has made or changed."""
    changes = (change for change in result.files.changes if change.type == "file")
    return tuple(
        Made(change.name, None if change.kind == "deleted" else len(change.content or b"")) for change in changes
    )


# --- what the program wrote -------------------------------------------------------------------------------------------


def cut(text: str, most: int) -> tuple[str, bool]:
    """Returns text of a program for use among lines of our own, and whether a part of it was left out.

    The text is harmless, and none of its lines begins with MARK. If it has more than `most` characters, only the
    beginning and the end remain.
    """
    shown = safe(text[: most + 1])
    if len(text) <= most and len(shown) <= 2 * most:  # an escape is longer than its character
        return shown, False
    half = most // 2
    left_out = f"{MARK}of {len(text):,} characters the middle is left out here: print less, or write them to a file"
    return f"{safe(text[:half])[:most]}\n{left_out}\n{safe(safe(text[-half:])[-most:])}", True


def safe(text: str) -> str:
    """Returns text of a program without control characters; no line begins with MARK or looks as if it did."""
    return _FORGED.sub(r"\1\\", harmless_lines(text))


def together(stdout: str, stderr: str, *more: str) -> str:
    """Joins texts that `cut` has returned; if there are several, a heading marks standard error."""
    texts = [text.removesuffix("\n") if text.strip() else "" for text in (stdout, stderr, *more)]
    if texts[1] and len(list(filter(None, texts))) > 1:
        texts[1] = f"{marked(['standard error:'])}\n{texts[1]}"
    return "\n".join(filter(None, texts))


def trace_of(result: Result) -> str:
    """Returns the program's traceback; "" if the program has printed it, or has ended by sys.exit."""
    error = result.error
    return "" if error is None or _is_exit(error) or error.traceback in result.stderr else error.traceback


def _is_exit(error: GuestError | None) -> bool:
    return error is None or error.type == "SystemExit"


def _rooms(sizes: Sequence[int], most: int) -> list[int]:
    """Divides `most` characters among texts of these sizes: longer texts get the space that short texts do not need."""
    rooms, left = {}, most
    for count, at in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        rooms[at] = left // (len(sizes) - count)
        left -= min(sizes[at], rooms[at])
    return [rooms[at] for at in range(len(sizes))]


# --- lines of our own -------------------------------------------------------------------------------------------------


def notes(result: Result, policy: Policy, *, untold: Sequence[str] = (), goes_on: bool | None = None) -> list[str]:
    """Returns what a model must know besides the output and the files, in lines without MARK.

    untold: MIME types that the program has displayed and that text cannot show. goes_on: whether the session continues;
    None without a session.
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
    """Returns explanations of limits, refusals and the exception, each once."""
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
