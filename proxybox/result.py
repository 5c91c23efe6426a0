"""The result of a program in a box: status, output, changed files, refusals, usage.

Rule: `exit_code`, `signal`, `usage`, `denials`, and a `status` that comes from limits, signals and refusals, are facts
that the controller knows. `error` is read from what the guest printed: a claim of untrusted code. For an exit status
other than 0, this claim decides between `error`, `syntax_error`, `memory_limit` and `disk_limit`, and after an abort
between `crashed` and `memory_limit`; the guest cannot influence any other status with it.
"""

import re
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from proxybox.controller.audit import Denial as Denial
from proxybox.controller.boxes.box import BoxResult, RunFacts
from proxybox.controller.boxes.box import Usage as Usage
from proxybox.controller.boxes.worldbuilding import Changed, commit_all
from proxybox.controller.drivers.blocking import Outcome
from proxybox.controller.status import GuestError as GuestError
from proxybox.controller.status import Status as Status
from proxybox.controller.vfs.overlay.changes import Change as Change
from proxybox.controller.world.output import Interleaved, neutralise
from proxybox.policies import Policy
from proxybox.policies.errors import ProxyboxError
from proxybox.terminal.harmless import on_one_line

if TYPE_CHECKING:
    from proxybox.controller.record.exactness import Inexact
    from proxybox.explanations import Explanation
    from proxybox.review import Review

#: How many bytes of output, and how many changes of files, a repr shows.
_SHOWN, _MOST_FILES = 60, 10
_VALUES = reprlib.Repr()
_VALUES.maxstring = _VALUES.maxother = _SHOWN


class Files(Mapping[str, bytes]):
    """The files that a run has added or changed, by their paths below /box, or absolute paths in other places.

    `changes` lists every change with its kind and diff: deletions, folders and links, too.
    """

    def __init__(self, overlays: tuple[Changed, ...] = ()) -> None:
        self._overlays = overlays
        changes = tuple(change for overlay in overlays for change in overlay.changes)
        self.changes = changes
        self._content: dict[str, bytes] = {
            change.name: change.content for change in changes if change.content is not None and change.kind != "deleted"
        }

    def __getitem__(self, path: str) -> bytes:
        return self._content[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def commit(self) -> list[Change]:
        """Writes the changes back to the host folders that they belong to. Only this call does that.

        Returns the changes that it has written: all of them, or none when it fails. Changes that a mount hides
        (dotfiles) are left out. Raises CommitRefused when the host's files have changed since the run, when a hidden
        file would be removed too, or when a symbolic link would lead out of the folder. Raises CommitFailed, an
        OSError, when the host refuses. After both errors the folders are as they were. When they cannot be restored,
        raises CommitUnfinished; `proxybox.commits` can continue this commit, and a commit whose process was killed.
        """
        return commit_all(self._overlays)

    def review(self) -> "Review":
        """Returns the changes as a review, which shows diffs, accepts changes by file or by hunk, and commits them."""
        from proxybox.review import Review

        return Review(self._overlays)

    def __repr__(self) -> str:
        words = ", ".join(f"{change.kind} {on_one_line(change.name[:256])}" for change in self.changes[:_MOST_FILES])
        if len(self.changes) > _MOST_FILES:
            words += f" and {len(self.changes) - _MOST_FILES:,} more"
        return f"<Files: {words or 'nothing changed'}>"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "backslashreplace")


def _cut(text: str) -> str:
    return text if len(text) <= 3 * _SHOWN else f"{text[: 3 * _SHOWN]}..."


def _short_value(value: Any) -> str:
    """Returns the beginning of the repr of a value, which can be any value that a guest can send."""
    try:
        return _cut(_VALUES.repr(value))
    except ValueError:  # an integer of more than 4,300 digits, maybe in a container (sys.set_int_max_str_digits)
        return f"of type {type(value).__name__}"


def _short(data: bytes) -> str:
    """Returns the beginning of the output, as a literal."""
    if len(data) <= _SHOWN:
        return repr(_text(data))
    return f"{_text(data[:_SHOWN])!r}... ({len(data):,} bytes)"


@attrs.frozen(kw_only=True, repr=False)
class Result:
    """How a program has ended, and everything that it left.

    status: how it ended, in one word. exit_code: its exit status, None when it was killed. signal: the number of the
    signal that killed it. why: the reason, when the controller has ended the box, or a limit has made the program fail.
    stdout_bytes, stderr_bytes: its output. value: the value of a session's expression; None for a program. error: the
    exception that it ended with, as the program printed it. usage: the resources that it has used. truncated: whether
    output was cut. files: the files that it has added or changed. denials: refused calls with reasons, each once, with
    counts. unknown_calls: numbers of OS calls that the controller does not implement, with counts. left_open: paths of
    files that this call of a session has opened for writing and not closed; 20 at most. layers: the defences that this
    box had, by name; a text that begins with "missing: " says why the box did not have that defence. record: the path
    of the run's record, None for a run that was not recorded. record_fault: why this record is not complete.
    record_inexact: from which call on a replay may differ from the run, and why; None if it cannot differ.
    record_digest: the chain of the whole record (docs/record-format.md), in hexadecimal digits. explanations: what
    limits, refusals and the exception mean, each with a text for all readers and a remedy for the policy's author.
    """

    status: Status
    exit_code: int | None = None
    signal: int | None = None
    why: str = ""
    stdout_bytes: bytes = b""
    stderr_bytes: bytes = b""
    _printed: Interleaved = attrs.field(default=Interleaved(), repr=False)
    value: Any = None
    error: GuestError | None = None
    usage: Usage = attrs.field(factory=Usage)
    truncated: bool = False
    files: Files = attrs.field(factory=Files)
    denials: Mapping[Denial, int] = attrs.field(factory=dict)
    unknown_calls: Mapping[int, int] = attrs.field(factory=dict)
    left_open: tuple[str, ...] = ()
    layers: Mapping[str, str] = attrs.field(factory=dict)
    record: Path | None = None
    record_fault: str = ""
    record_inexact: "Inexact | None" = None
    record_digest: str = ""
    explanations: "tuple[Explanation, ...]" = ()
    _neutralised: bool = attrs.field(default=False, repr=False)

    def __repr__(self) -> str:
        parts = [
            _cut(self.summary()),
            f"stdout {_short(self.stdout_bytes)}",
            f"stderr {_short(self.stderr_bytes)}",
        ]
        if self.value is not None:
            parts.append(f"value {_short_value(self.value)}")
        if self.files.changes:
            parts.append(f"{len(self.files.changes)} changed files")
        if self.denials:
            parts.append(f"{len(self.denials)} refusals")
        return f"<Result: {', '.join(parts)}>"

    @property
    def stdout(self) -> str:
        """Standard output as text; bytes that are not UTF-8 as backslash escapes."""
        return _text(self.stdout_bytes)

    @property
    def stderr(self) -> str:
        """Standard error as text; bytes that are not UTF-8 as backslash escapes."""
        return _text(self.stderr_bytes)

    @property
    def output(self) -> tuple[tuple[str, str], ...]:
        """The output as (stream, text) pairs, in the order of writing; it is computed each time.

        When a program changes between the streams more than 65,536 times, the rest of each stream is one piece at the
        end.
        """
        made = neutralise if self._neutralised else bytes
        return tuple([(stream, _text(made(data))) for stream, data in self._printed])

    @property
    def ok(self) -> bool:
        """Whether the program ended by itself with exit status 0."""
        return self.status is Status.OK

    @property
    def record_exact(self) -> bool:
        """Whether the run has a complete record that can be replayed exactly, from its first call on."""
        return self.record is not None and not self.record_fault and self.record_inexact is None

    def check(self) -> "Result":
        """Returns this result when it is ok; otherwise raises the ExecutionError for its status."""
        if not self.ok:
            raise _EXCEPTIONS.get(self.status, ExecutionError)(self)
        return self

    def summary(self) -> str:
        """Returns one line for people."""
        parts = [self.status.value.replace("_", " ")]
        if self.why:
            parts.append(f"({self.why})")
        elif self.signal is not None:
            parts.append(f"(signal {self.signal})")
        elif self.error is not None:
            words = f"{self.error.type}: {self.error.message}" if self.error.message else self.error.type
            parts.append(f"({on_one_line(words)})")
        elif self.exit_code:
            parts.append(f"(exit status {self.exit_code})")
        return " ".join(parts)

    @property
    def hint(self) -> str:
        """The texts of `explanations`, a line for each; empty if the box had no part in the program's end."""
        return "\n".join(each.text for each in self.explanations)

    def to_dict(self) -> dict[str, Any]:
        """Returns all fields but `value` for JSON; of a file, the content if it is UTF-8, and the size otherwise."""
        from proxybox.resultjson import KEYS, RECORD_KEYS, written

        return written(self, KEYS if self.record is None else (*KEYS, *RECORD_KEYS))


def cancelled() -> Result:
    """Returns the Result of a program that was cancelled before it had begun."""
    return Result(status=Status.CANCELLED, why="the caller ended it")


# --- what `check` raises ----------------------------------------------------------------------------------------------


class ExecutionError(ProxyboxError):
    """A program did not end well. `result` has all details."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.summary())
        self.result = result


class TimeLimitExceeded(ExecutionError):
    """The program used up the wall time or the CPU time of the policy."""


class MemoryLimitExceeded(ExecutionError):
    """The program ended because it needed more memory than the policy allows."""


class OutputLimitExceeded(ExecutionError):
    """The program printed more than the policy allows, and the policy ends a program for that."""


class DiskLimitExceeded(ExecutionError):
    """The program failed after it had used up the space or the number of files of the policy."""


class CallLimitExceeded(ExecutionError):
    """The program made more OS calls than the policy allows."""


class CallDenied(ExecutionError):
    """A call was refused, and the policy ends the box for this refusal."""


_EXCEPTIONS: dict[Status, type[ExecutionError]] = {
    Status.TIME_LIMIT: TimeLimitExceeded,
    Status.MEMORY_LIMIT: MemoryLimitExceeded,
    Status.OUTPUT_LIMIT: OutputLimitExceeded,
    Status.DISK_LIMIT: DiskLimitExceeded,
    Status.CALL_LIMIT: CallLimitExceeded,
    Status.DENIED: CallDenied,
}


# --- how a result is made ---------------------------------------------------------------------------------------------


def status_of_end(outcome: Outcome) -> tuple[Status, str]:
    """Returns the status of a guest's end, as far as the controller and the kernel know it, and the reason.

    It is ERROR for any exit status other than 0.
    """
    if outcome.status is not None and outcome.status is not Status.CRASHED:
        return outcome.status, outcome.why
    if outcome.signal is not None:
        return Status.CRASHED, outcome.why
    return (Status.OK if outcome.exit_code == 0 else Status.ERROR), ""


_HEADER = "Traceback (most recent call last):\n"
#: The end of stderr when no memory was left for a traceback: of CPython, or of a library that has ended the program.
_NO_MEMORY_LEFT = re.compile(
    r"^(object type name: MemoryError\nobject repr     : .*\nlost sys\.stderr"
    r"|OpenBLAS error: Memory allocation still failed after \d+ retries, giving up\."
    r"|.*cannot allocate memory for thread-local data: ABORT"
    r"|memory allocation of \d+ bytes failed(\nnote: run with `RUST_BACKTRACE=1` .*)?"
    r"|terminate called after throwing an instance of 'std::bad_alloc'\n  what\(\):  std::bad_alloc)\n\Z",
    re.MULTILINE,
)
#: A lack of memory in the message of another exception: of ENOMEM, of the loader of libraries, of orjson.
_NO_MEMORY = re.compile(r"Cannot allocate memory|failed to map segment from shared object|^Not enough memory to ")
#: The messages of Python, and of libraries (EAGAIN), for a thread that cannot be started.
_NO_THREAD = re.compile(r"can't start new thread|Resource temporarily unavailable")
_LED_TO = re.compile(
    r"\n(?:The above exception was the direct cause of the following exception|"
    r"During handling of the above exception, another exception occurred):\n\n"
)
_LAST_LINE = re.compile(r"^([A-Za-z_][\w.]*)(?:: (.*))?$", re.DOTALL)
#: An uncaught exception is searched for in this many characters at the end of standard error.
_TAIL = 64 * 1024


def read_error(stderr: str) -> tuple[GuestError | None, bool]:
    """Returns the exception that a program printed last, and whether it is a syntax error of the program itself.

    Python prints a header before a traceback. For a program that does not compile, it prints the line of the file
    without the header.
    """
    tail = stderr[-_TAIL:]
    if _NO_MEMORY_LEFT.search(tail):
        return GuestError("MemoryError", "", "MemoryError\n"), False
    start = tail.rfind(_HEADER)
    syntax = -1 if start >= 0 else tail.find('  File "')
    if start < 0 and syntax < 0:
        bare = tail.endswith("\nMemoryError\n") or tail == "MemoryError\n"  # the end of PyPy's own output
        return (GuestError("MemoryError", "", "MemoryError\n") if bare else None), False
    text = tail[start if start >= 0 else syntax :]
    lines = text.rstrip("\n").split("\n")
    for index, line in enumerate(lines[1:], 1):
        match = _LAST_LINE.match(line)
        if match and not line.startswith(" "):
            message = "\n".join([match[2] or "", *lines[index + 1 :]]).rstrip()
            error = GuestError(match[1], message, text)
            return error, start < 0 and match[1] in ("SyntaxError", "IndentationError", "TabError")
    return None, False


def explained(result: Result, policy: Policy, *, wall_time: float | None = None) -> Result:
    """Returns the result with its explanations. policy: of the run. wall_time: seconds in place of the policy's.

    The refusals of a program that has ended well are only in `denials`, and are not explained.
    """
    if result.ok and not result.truncated:
        return result
    from proxybox.explanations import CUT, explain

    if wall_time is not None:
        policy = attrs.evolve(policy, limits=attrs.evolve(policy.limits, wall_time=wall_time))
    found = explain(result, policy)
    return attrs.evolve(result, explanations=tuple(each for each in found if each.key == CUT or not result.ok))


def result_of(finished: BoxResult, policy: Policy) -> Result:
    """Makes the Result of a program that has ended."""
    error, is_syntax, printed = None, False, ""
    if finished.outcome.exit_code:
        printed = finished.stderr[-_TAIL:].decode("utf-8", "backslashreplace")
        error, is_syntax = read_error(printed)
    status, why = _status(finished, error, is_syntax, printed)
    made = result_with_facts(
        finished, policy, status=status, why=why, exit_code=finished.outcome.exit_code, error=error,
        files=Files(finished.changes), layers=finished.layers,
    )  # fmt: skip
    return explained(made, policy)


def result_with_facts(facts: RunFacts, policy: Policy, **fields: Any) -> Result:
    """Makes a Result of facts that the controller knows, and of further fields, which the guest can influence."""
    safe = policy.output.escapes == "neutralise"
    return Result(
        signal=None if facts.outcome is None else facts.outcome.signal,
        stdout_bytes=neutralise(facts.stdout) if safe else facts.stdout,
        stderr_bytes=neutralise(facts.stderr) if safe else facts.stderr,
        printed=facts.output,
        neutralised=safe,
        usage=facts.usage,
        truncated=facts.truncated,
        denials=facts.denials,
        unknown_calls=facts.unknown,
        **fields,
    )


_OF_MEMORY = Status.MEMORY_LIMIT, "limits.memory"
_THREAD = "limits.threads refused a thread"


def lacked_memory(out_of_memory: bool, stderr: bytes) -> bool:
    """Whether a crashed guest lacked memory: it had used most of it, or the end of its stderr says so."""
    return out_of_memory or _NO_MEMORY_LEFT.search(stderr[-_TAIL:].decode("utf-8", "backslashreplace")) is not None


def told_by(
    error: GuestError, printed: str, denials: Mapping[Denial, int], out_of_memory: bool
) -> tuple[Status, str] | None:
    """Returns the status and the reason for an exception or its causes; None for an ordinary error.

    printed: the end of what was printed for it. out_of_memory: whether the guest has used most of its memory.
    """
    if _is_lack_of_memory(error) or any(map(_is_lack_of_memory, _causes(printed))):
        return _OF_MEMORY
    if error.type == "BlockingIOError" or not _NO_THREAD.search(error.message):
        return None
    if refused_thread(denials):
        return Status.ERROR, _THREAD
    return _OF_MEMORY if out_of_memory and "thread" in error.message else None  # there was no room for its stack


def refused_thread(denials: Mapping[Denial, int]) -> bool:
    """Whether the policy has refused a thread."""
    return any(denial.reason == "limits.threads" for denial in denials)


def with_threads(why: str, denials: Mapping[Denial, int]) -> str:
    """Adds to the reason of an end that a thread was refused: the program may have waited for this thread."""
    return f"{why}; {_THREAD}" if refused_thread(denials) else why


def _is_lack_of_memory(error: GuestError) -> bool:
    """Whether an exception of Python, a library or the loader of libraries says that no memory is left."""
    return error.type.endswith("MemoryError") or _NO_MEMORY.search(error.message) is not None


def _causes(printed: str) -> Iterator[GuestError]:
    """Yields the causes of the last exception, which are printed before it (traceback.TracebackException)."""
    parts = _LED_TO.split(printed)
    while len(parts) > 1 and parts.pop().rfind(_HEADER) == 0:
        error, _ = read_error(parts[-1])
        if error is not None:
            yield error


def _status(finished: BoxResult, error: GuestError | None, is_syntax: bool, printed: str) -> tuple[Status, str]:
    """Returns the status and the reason. Limits that the controller knows have priority over the guest's output."""
    status, why = status_of_end(finished.outcome)
    if status is Status.CRASHED and lacked_memory(finished.out_of_memory, finished.stderr):
        return _OF_MEMORY
    if status in (Status.CRASHED, Status.TIME_LIMIT):
        return status, with_threads(why, finished.denials)
    if status is not Status.ERROR:
        return status, why
    words = None if error is None else told_by(error, printed, finished.denials, finished.out_of_memory)
    if words is not None:
        return words
    if "disk" in finished.exceeded and error is not None and error.type == "OSError":
        return Status.DISK_LIMIT, "limits.disk or limits.files"
    if is_syntax:
        return Status.SYNTAX_ERROR, ""
    return _OF_MEMORY if "memory" in finished.exceeded else (Status.ERROR, "")
