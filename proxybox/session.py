"""Sessions: one guest that stays, and carries out one command after another.

    with proxybox.Sandbox() as box, box.session() as session:
        session.exec("def double(x): return 2 * x")
        session.call("double", 21).value  # 42

Errors of a program are data here, too: every call returns a Result. `value` and `error` in it are claims of the guest.
Whether a call exceeded a limit is known by the controller.
"""

import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar, Unpack

import attrs

from proxybox import argumentchecks, commands
from proxybox.commands import (
    CallOptions,
    Command,
    Completeness,
    Completion,
    Displayed,
    Echo,
    Inspection,
    StreamOptions,
    displayed_of,
)
from proxybox.controller.audit import Audit
from proxybox.controller.boxes.box import Usage
from proxybox.controller.boxes.boxfiles import FileEntry as FileEntry
from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.warm.session import CommandResult, LiveSession
from proxybox.controller.world.state import World
from proxybox.policies import Policy
from proxybox.result import (
    Files,
    GuestError,
    Result,
    Status,
    explained,
    lacked_memory,
    result_with_facts,
    status_of_end,
    told_by,
    with_threads,
)

if TYPE_CHECKING:
    from proxybox.controller.record.exactness import Inexact

T = TypeVar("T")

#: Events that wait for the reader of `stream`. When there are more, the program waits.
_BACKLOG = 64
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")


@attrs.frozen
class Printed:
    """An event of `Session.stream`: text that the program printed. stream: "stdout" or "stderr"."""

    stream: str
    text: str


@attrs.frozen
class Finished:
    """The last event of `Session.stream`."""

    result: Result


class Recording(Protocol):
    """The record that a session leaves (records/taking.py)."""

    @property
    def taken(self) -> Path | None:
        """The path of its file."""

    @property
    def fault(self) -> str:
        """Why it is not complete; empty if it is complete."""

    @property
    def inexact(self) -> "Inexact | None":
        """The place from which on it cannot be replayed exactly; None if it can."""

    @property
    def digest(self) -> str:
        """The digest of its chain so far, in hexadecimal digits."""

    def wait(self, timeout: float | None = None) -> bool:
        """Waits until the record is written, and returns whether it is written. timeout: seconds."""


class SessionBase:
    """The common part of `Session` and `AsyncSession`: everything that does not wait."""

    def __init__(
        self, live: LiveSession, policy: Policy, timeout: float | None = None, taking: Recording | None = None
    ) -> None:
        self._live = live
        self._policy = policy
        self._timeout = timeout
        self._taking = taking

    def interrupt(self) -> None:
        """Raises KeyboardInterrupt in the call that runs, as Ctrl-C does. Can be called from any task or thread."""
        self._live.interrupt()

    @property
    def alive(self) -> bool:
        """Whether the session takes further calls."""
        return self._live.is_alive

    def sleep(self) -> None:
        """Stops the program's threads until the next call, so that they use no CPU.

        The next call and the next copy wake the session; functions such as `read_file` do not. Its memory stays.
        session.wall_time goes on, because it is a limit of real time.

        Raises SessionBusy during a call, and SandboxClosedError when the session has ended.
        """
        self._live.sleep()

    @property
    def asleep(self) -> bool:
        """Whether the session sleeps."""
        return self._live.is_asleep

    @property
    def files(self) -> Files:
        """The files that the session has changed in /box and other overlays since it began."""
        return Files(self._live.changes())

    @property
    def layers(self) -> Mapping[str, str]:
        """The defences that the session's box has, as in `Result.layers`."""
        return self._live.layers

    @property
    def timeout(self) -> float | None:
        """Seconds of wall time for each call from now on; None: as the policy says (limits.wall_time)."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | str | None) -> None:
        self._timeout = argumentchecks.duration("timeout", seconds)

    @property
    def policy(self) -> Policy:
        """The policy of the session."""
        return self._policy

    @property
    def usage(self) -> Usage:
        """What the session has used since it began: `memory` is resident now, `disk` is what its files hold."""
        return self._live.usage()

    @property
    def record(self) -> Path | None:
        """The path of the session's record, which is complete when the session is closed; None without a record."""
        return None if self._taking is None else self._taking.taken

    @property
    def record_fault(self) -> str:
        """Why the record of a closed session is not complete; empty if it is complete."""
        return "" if self._taking is None else self._taking.fault

    @property
    def record_inexact(self) -> "Inexact | None":
        """The place from which on the session's record cannot be replayed exactly; None if it can, so far."""
        return None if self._taking is None else self._taking.inexact

    @property
    def record_digest(self) -> str:
        """The chain of the record so far, in hexadecimal digits: of the whole record when the session was closed."""
        return "" if self._taking is None else self._taking.digest

    def audit(self, audit: Audit | None) -> None:
        """Calls `audit` with every OSCall from now on; with None, no function is called.

        If the policy's time is real, `audit` gets clock readings from the next command on.

        In an AsyncSession it is called by the thread that serves all boxes.
        """
        self._live.audit(argumentchecks.function("audit", audit))

    def _at_rest(self, work: Callable[[World], T]) -> T:
        """Calls `work` with the world of the session, between two calls."""
        with self._live.world() as world:
            return work(world)

    def _arguments(
        self,
        command: Command[Any],
        timeout: float | str | None,
        stdin: Any,
        on_stdout: Callable[[str], object] | None,
        on_stderr: Callable[[str], object] | None,
    ) -> dict[str, Any]:
        """Returns the arguments of LiveSession.begin for a command."""
        seconds = command.timeout if timeout is None else argumentchecks.duration("timeout", timeout)
        return {
            "timeout": self._timeout if seconds is None else seconds,
            "calls": command.calls,
            "streams": argumentchecks.streams(stdin, on_stdout, on_stderr),
        }

    def _source(self, code: str) -> str:
        """Checks source text. Raises TypeError, or ValueError when it is larger than session.value_size."""
        return argumentchecks.source(code, self._policy.session.value_size, limit="session.value_size")


class Session(SessionBase):
    """A live session: see `Sandbox.session`.

    One thread at a time can use it; others get SessionBusy. `interrupt` and `close` can be called from any thread.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- commands -----------------------------------------------------------------------------------------------------

    def exec(self, code: str, *, name: str = "", echo: Echo = False, **options: Unpack[CallOptions]) -> Result:
        """Runs statements.

        name: the file name of the source in tracebacks. echo: whether to behave as a prompt does: the value of the
        expression at the end of the statements is shown (`on_display`) and kept as `_`, output comes line by line, and
        the functions `display` and `clear_output` exist. "display" is the same, but the value is not shown: a program
        runs in this way.

        options, here and below: timeout (seconds, in place of the policy's limits.wall_time), stdin (from this call
        on), on_stdout, on_stderr, on_display (called with each `Displayed`), check, as for `run`. Raises
        SandboxClosedError when the session has ended.
        """
        return self._ask(commands.statements(self._source(code), name, echo), **options)

    def eval(self, code: str, **options: Unpack[CallOptions]) -> Result:
        """Evaluates an expression. The Result has its value, if this is plain data."""
        return self._ask(commands.expression(self._source(code)), **options)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result:
        """Calls the object of this name (with dots) in the session; arguments and result are plain data."""
        return self._ask(commands.call_of(name, args, kwargs))

    def set(self, name: str, value: Any) -> None:
        """Sets a variable to a value of plain data. Raises TypeError or ValueError for a value that cannot be sent."""
        self._ask(commands.setting(name, value))

    def get(self, name: str) -> Any:
        """Returns the value of a name. Raises ExecutionError when it does not exist or is not plain data."""
        return self._ask(commands.getting(name))

    def stream(
        self, code: str, *, name: str = "", echo: Echo = False, **options: Unpack[StreamOptions]
    ) -> Iterator[Printed | Displayed | Finished]:
        """Runs statements as `exec` does, and yields what is printed and shown; the last event has the Result.

        While the reader does not take events, the program waits. When the reader stops iterating, the program is
        interrupted.
        """
        events: queue.Queue[Printed | Displayed | Finished | BaseException] = queue.Queue(_BACKLOG)
        left = threading.Event()

        def put(event: Printed | Displayed) -> None:
            if not left.is_set():
                events.put(event)

        def tell(stream: str) -> Callable[[str], object]:
            return lambda text: put(Printed(stream, text))

        def work() -> None:
            try:
                result = self.exec(
                    code, name=name, echo=echo,
                    on_stdout=tell("stdout"), on_stderr=tell("stderr"), on_display=put, **options,
                )  # fmt: skip
                events.put(Finished(result))
            except BaseException as error:
                events.put(error)

        worker = threading.Thread(target=work, name="proxybox-stream", daemon=True)
        worker.start()
        event: Printed | Displayed | Finished | BaseException | None = None
        try:
            while not isinstance(event, Finished):
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            left.set()
            if not isinstance(event, Finished | BaseException):
                self.interrupt()
                while not isinstance(events.get(), Finished | BaseException):  # `work` may be waiting for room in it
                    pass
            worker.join()

    def complete(self, code: str, cursor: int | None = None) -> Completion:
        """Returns names that can complete the word at the cursor. cursor: a count of characters; None for the end."""
        return self._ask(commands.completion(code, cursor))

    def inspect(self, code: str, cursor: int | None = None, detail: int = 0) -> Inspection | None:
        """Returns what is known about the object at the cursor, or None. detail: 1 requests the source, too."""
        return self._ask(commands.inspection(code, cursor, detail))

    def is_complete(self, code: str) -> Completeness:
        """Returns whether statements are complete, as the guest's own compiler decides."""
        return self._ask(commands.completeness(code))

    def reset(self) -> None:
        """Empties the namespace; modules and files stay."""
        self._ask(commands.resetting())

    # --- files, from outside ------------------------------------------------------------------------------------------

    def read_file(self, path: str, limit: int | str = commands.MOST_READ) -> bytes:
        """Returns the content of a file, as the program would find it, between two calls. No code of the guest runs.

        path: relative to the program's working directory. limit: bytes. Raises OSError, with EFBIG for a larger file.
        """
        return self._at_rest(commands.reading(path, limit))

    def write_file(self, path: str, data: bytes | str, *, parents: bool = False) -> None:
        """Writes or creates a file, with the rights and the limits of the program.

        An existing file stays until the new one is complete and takes its name. parents: whether to create the folders
        above it, too. Raises OSError; with ENOSPC nothing has been changed.
        """
        self._at_rest(commands.writing(path, data, parents))

    def list_files(self, path: str = ".") -> list[FileEntry]:
        """Returns the entries of a folder, by name. Raises OSError."""
        return self._at_rest(commands.listing(path))

    # --- the whole ----------------------------------------------------------------------------------------------------

    def fork(self) -> "Session":
        """Makes a session that continues independently from the same state: variables, modules and files.

        Raises CannotCopy when the policy does not allow it (session.branches), when threads are alive, or when the
        program ends meanwhile, and SandboxClosedError when the session had ended before.
        """
        return Session(self._live.copy(), self._policy, self._timeout)

    def snapshot(self) -> "Snapshot":
        """Stores the current state, for `restore`. This counts as a copy of the session. Raises CannotCopy."""
        return Snapshot(self._live.copy())

    def restore(self, snapshot: "Snapshot") -> None:
        """Goes back to the state of a snapshot, which stays and can be used again. Raises CannotCopy."""
        state, old = state_of(snapshot, self._live), self._live
        with old.replaced():
            self._live = state.copy(old)
        old.close()

    def close(self) -> None:
        """Ends the session; its copies go on. A record is complete then, unless a call runs, which ends soon."""
        self._live.close()
        if self._taking is not None and self._live.is_closed:
            self._taking.wait()

    def _ask(self, command: Command[T], **options: Unpack[CallOptions]) -> T:
        try:
            result: Result | None = self._call(command, **options)
        except ValueError:
            if not command.is_look:
                raise
            result = None
        return command.answer(result)

    def _call(
        self,
        command: Command[Any],
        *,
        timeout: float | str | None = None,
        stdin: Any = None,
        check: bool = False,
        on_stdout: Callable[[str], object] | None = None,
        on_stderr: Callable[[str], object] | None = None,
        on_display: Callable[[Displayed], object] | None = None,
    ) -> Result:
        argumentchecks.function("on_display", on_display)
        answer = self._live.call(
            command.words,
            **self._arguments(command, timeout, stdin, on_stdout, on_stderr),
            on_shown=None if on_display is None else lambda shown, _: on_display(displayed_of(shown)),
        )
        result = session_result(answer, self._policy, self._live.layers)
        return result.check() if check else result


class Snapshot:
    """The state of a session at one moment: see `Session.snapshot`."""

    def __init__(self, live: LiveSession) -> None:
        self._live = live

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Releases the stored state."""
        self._live.close()


def state_of(snapshot: Snapshot, live: LiveSession) -> LiveSession:
    """Returns the state of a snapshot.

    Raises TypeError or ValueError when it is no state of this session or of a copy of it, and SandboxClosedError when
    the snapshot was closed.
    """
    if not isinstance(snapshot, Snapshot):
        argumentchecks.wrong_kind("snapshot", "a Snapshot, as snapshot() gives it", snapshot)
    if snapshot._live.copies is not live.copies:
        argumentchecks.no_sense("snapshot", "one of this session, or of a copy of it", snapshot)
    if not snapshot._live.is_alive:
        raise SandboxClosedError("the snapshot was closed, or has ended: make another one before")
    return snapshot._live


def session_result(answer: CommandResult, policy: Policy, layers: Mapping[str, str]) -> Result:
    """Makes the Result of one call."""
    status, why, exit_code, value, error = Status.OK, "", None, None, None
    claim = answer.claim
    if answer.outcome is not None:
        exit_code = answer.outcome.exit_code
        status, why = status_of_end(answer.outcome)
        if status is Status.CRASHED and lacked_memory(answer.out_of_memory, answer.stderr):
            status, why = Status.MEMORY_LIMIT, "limits.memory"
        why = f"{why}; the session has ended" if why else "the session has ended"
    elif claim is not None and claim[0] == "ok":
        value, exit_code = claim[1], 0
    elif claim is not None and claim[0] == "exit":
        exit_code = claim[1] & 0xFF
        status, error = Status.ERROR if exit_code else Status.OK, GuestError("SystemExit", str(exit_code), "")
    elif claim is not None and claim[0] == "value":
        status, error = Status.ERROR, GuestError("TypeError", _words(claim[1]), "")
    elif claim is not None:
        error = GuestError(*map(_words, claim[1:]))
        trace = told_by(error, error.traceback, answer.denials, answer.out_of_memory)
        status, why = trace or (_status_of_error(error), "")
        why = "" if status is Status.MEMORY_LIMIT else why
    if answer.interrupted and answer.outcome is None:
        status = Status.CALL_LIMIT if answer.interrupted == "calls" else Status.TIME_LIMIT
        why = f"limits.{answer.interrupted}; the call was interrupted, the session goes on"
    if status in (Status.CRASHED, Status.TIME_LIMIT):
        why = with_threads(why, answer.denials)
    made = result_with_facts(
        answer, policy, status=status, why=why, exit_code=exit_code, value=value, error=error,
        left_open=answer.left_open, layers=layers,
    )  # fmt: skip
    return explained(made, policy, wall_time=answer.wall_time)


def _words(text: str) -> str:
    """Returns a guest's text without surrogates, so that it can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def _status_of_error(error: GuestError) -> Status:
    if error.type in _SYNTAX and ", in " not in error.traceback:
        return Status.SYNTAX_ERROR
    return Status.ERROR
