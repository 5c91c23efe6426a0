"""Sessions: one guest that stays, and takes one command after another.

    with proxybox.Sandbox() as box, box.session() as session:
        session.exec("def double(x): return 2 * x")
        session.call("double", 21).value  # 42

What a program does wrong is data here, too: every call gives a Result. `value` and `error` in it are what the guest
says; that a call met a limit is what the controller knows.
"""

import queue
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeAlias

import attrs

from proxybox.controller import boxfiles
from proxybox.controller.audit import Audit
from proxybox.controller.box import Usage
from proxybox.controller.boxfiles import FileEntry as FileEntry
from proxybox.controller.output import neutralise
from proxybox.controller.session import Answer, LiveSession
from proxybox.policies import Policy
from proxybox.policies.sizes import to_duration, to_size
from proxybox.result import Files, GuestError, Result, Status, status_of_end

Callback: TypeAlias = Callable[[str], object] | None

#: Seconds, and OS calls, for a look at the live objects of a session: it runs the program's code.
LOOK_LIMIT, LOOK_CALLS = 1.0, 5000
#: Bytes that are read of a file, where nothing else is said.
MOST_READ = 64 << 20
#: Events that wait for who reads `stream`; then the program waits.
_BACKLOG = 64
#: Of completions.
_MOST_NAMES, _LONGEST_NAME = 1000, 200
_WORD = re.compile(r"[^\W\d]\w*\Z")
_INDENT = re.compile(r"[ \t]{0,200}")
_SYNTAX = ("SyntaxError", "IndentationError", "TabError")


@attrs.frozen
class Printed:
    """An event of `Session.stream`: text that was printed. stream: "stdout" or "stderr"."""

    stream: str
    text: str


@attrs.frozen
class Displayed:
    """Something that was shown: an event of `Session.stream`, and what `on_display` gets. By the guest's word.

    kind: "value" is that of the expression which the statements end in, "display" what the program has displayed;
    "clear" takes away what was shown before (`wait`: as soon as there is something new). data: by MIME type, text as
    str, pictures as bytes or in base64. metadata: what is to be known of it.
    """

    kind: str
    data: Mapping[str, Any] = attrs.field(factory=dict)
    metadata: Mapping[str, Any] = attrs.field(factory=dict)
    wait: bool = False


@attrs.frozen
class Finished:
    """The last event of `Session.stream`."""

    result: Result


@attrs.frozen
class Completion:
    """What may stand at the cursor. start: where the word begins, in characters. By the guest's word."""

    start: int
    matches: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Inspection:
    """What is known of an object; texts are None where there are none. By the guest's word."""

    name: str
    type: str
    signature: str | None = None
    doc: str | None = None
    source: str | None = None
    text: str | None = None


@attrs.frozen
class Completeness:
    """status: "complete", "incomplete" or "invalid"; indent: of the next line."""

    status: str
    indent: str = ""


class Session:
    """A live session: see `Sandbox.session`. One thread at a time; `interrupt` and `close` from any."""

    def __init__(self, live: LiveSession, policy: Policy, timeout: float | None = None) -> None:
        self._live = live
        self._policy = policy
        self._timeout = timeout

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- commands -----------------------------------------------------------------------------------------------------

    def exec(self, code: str, *, name: str = "", echo: bool = False, **options: Any) -> Result:
        """Runs statements. name: of the source, in tracebacks. echo: as a prompt does: the value of the expression that
        they end in is shown (`on_display`) and kept as `_`, output comes line by line, and `display` and `clear_output`
        are there.

        options, here and below: timeout (seconds, for the policy's limits.wall_time), stdin (from here on), on_stdout,
        on_stderr, on_display (called with each `Displayed`), check, as for `run`. Raises SandboxClosedError when the
        session has ended.
        """
        return self._call(("exec", code, name, echo), **options)

    def eval(self, code: str, **options: Any) -> Result:
        """Evaluates an expression, whose value the Result has, as far as it is plain data."""
        return self._call(("eval", code), **options)

    def call(self, name: str, *args: Any, **kwargs: Any) -> Result:
        """Calls what the session has under a name (with dots); arguments and result are plain data."""
        return self._call(("call", name, args, kwargs))

    def set(self, name: str, value: Any) -> None:
        """Gives a name a value of plain data. TypeError, ValueError for one that cannot cross."""
        self._call(set_command(name, value)).check()

    def get(self, name: str) -> Any:
        """The value of a name. Raises ExecutionError where there is none, or none that is plain data."""
        return self._call(("get", name)).check().value

    def stream(self, code: str, **options: Any) -> Iterator[Printed | Displayed | Finished]:
        """Runs statements and tells what is printed and shown as it comes; the last event has the Result. A reader that
        does not read lets the program wait; one that stops reading interrupts it."""
        events: queue.Queue[Printed | Displayed | Finished | BaseException] = queue.Queue(_BACKLOG)
        left = threading.Event()

        def put(event: Printed | Displayed) -> None:
            if not left.is_set():
                events.put(event)

        def tell(stream: str) -> Callable[[str], object]:
            return lambda text: put(Printed(stream, text))

        def work() -> None:
            try:
                events.put(
                    Finished(
                        self.exec(code, on_stdout=tell("stdout"), on_stderr=tell("stderr"), on_display=put, **options)
                    )
                )
            except BaseException as error:
                events.put(error)

        worker = threading.Thread(target=work, name="proxybox-stream", daemon=True)
        worker.start()
        try:
            while True:
                event = events.get()
                if isinstance(event, BaseException):
                    raise event
                yield event
                if isinstance(event, Finished):
                    return
        finally:
            left.set()
            if worker.is_alive():
                self.interrupt()
            while worker.is_alive():
                try:
                    events.get(timeout=0.05)
                except queue.Empty:
                    continue

    def complete(self, code: str, cursor: int | None = None) -> Completion:
        """Names that may stand at the cursor (a count of characters; the end without)."""
        at = len(code) if cursor is None else cursor
        return completion_of(self._look(("complete", code, at)), code, at)

    def inspect(self, code: str, cursor: int | None = None, detail: int = 0) -> Inspection | None:
        """What stands at the cursor, None where nothing is known. detail: 1 asks for the source, too."""
        return inspection_of(self._look(("inspect", code, len(code) if cursor is None else cursor, detail)))

    def is_complete(self, code: str) -> Completeness:
        """Whether statements are whole, as the guest's own compiler sees it."""
        return completeness_of(self._look(("is_complete", code)))

    def reset(self) -> None:
        """An empty namespace; modules and files stay."""
        self._call(("reset",)).check()

    def _look(self, command: tuple[Any, ...]) -> Any:
        try:
            result = self._call(command, timeout=LOOK_LIMIT, calls=LOOK_CALLS)
        except ValueError:  # code that is too large to cross
            return None
        return result.value if result.ok else None

    # --- files, from outside ------------------------------------------------------------------------------------------

    def read_file(self, path: str, limit: int | str = MOST_READ) -> bytes:
        """The content of a file as the program would find it, between two calls; none of its code runs for it. path:
        from its working directory. limit: bytes; EFBIG for a larger one. Raises OSError."""
        size = to_size(limit)
        with self._live.world() as world:
            return boxfiles.read(world, path, MOST_READ if size is None else size)

    def write_file(self, path: str, data: bytes | str, *, parents: bool = False) -> None:
        """Gives a file another content, or makes it, with the rights and the limits of the program. parents: makes the
        folders above it, too. Raises OSError."""
        with self._live.world() as world:
            boxfiles.write(world, path, data.encode() if isinstance(data, str) else bytes(data), parents=parents)

    def list_files(self, path: str = ".") -> list[FileEntry]:
        """What stands in a folder, by name. Raises OSError."""
        with self._live.world() as world:
            return boxfiles.listing(world, path)

    # --- the whole ----------------------------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """KeyboardInterrupt for the call that runs, as Ctrl-C gives; from any thread."""
        self._live.interrupt()

    def fork(self) -> "Session":
        """A session that goes on by itself from the same state: variables, modules, files, all of it.

        Raises CannotCopy: the policy does not allow it (session.branches), threads live, or it has ended.
        """
        return Session(self._live.copy(), self._policy, self._timeout)

    def snapshot(self) -> "Snapshot":
        """The state of now, for `restore`. It counts as a copy of the session. Raises CannotCopy."""
        return Snapshot(self._live.copy())

    def restore(self, snapshot: "Snapshot") -> None:
        """Goes back to the state of a snapshot, which stays and can be used again. Raises CannotCopy."""
        new = snapshot._live.copy()
        old, self._live = self._live, new
        old.close()

    @property
    def alive(self) -> bool:
        """Whether it takes further calls."""
        return self._live.is_alive

    @property
    def files(self) -> Files:
        """What it has changed in /box and other overlays since it began."""
        return Files(self._live.changes())

    @property
    def layers(self) -> Mapping[str, str]:
        """What stands around it, as in `Result.layers`."""
        return self._live.layers

    @property
    def timeout(self) -> float | None:
        """Seconds of wall time for each call from now on; None: as the policy says (limits.wall_time)."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | str | None) -> None:
        self._timeout = to_duration(seconds)

    @property
    def policy(self) -> Policy:
        """What it may do."""
        return self._policy

    @property
    def usage(self) -> Usage:
        """What it has used since it began: `memory` is resident now, `disk` what files hold."""
        return self._live.usage()

    def audit(self, audit: Audit | None) -> None:
        """From now on `audit` is called with every OSCall; None: nobody is."""
        self._live.audit(audit)

    def close(self) -> None:
        """Ends it; its copies go on."""
        self._live.close()

    def _call(
        self,
        command: tuple[Any, ...],
        *,
        timeout: float | str | None = None,
        calls: int | None = None,
        stdin: Any = None,
        check: bool = False,
        on_stdout: Callback = None,
        on_stderr: Callback = None,
        on_display: Callable[[Displayed], object] | None = None,
    ) -> Result:
        seconds = self._timeout if timeout is None else to_duration(timeout)
        if stdin is None and on_stdout is None and on_stderr is None and on_display is None:
            answer = self._live.call(command, timeout=seconds, calls=calls)
        else:
            from proxybox.api import as_source, as_text_callback

            answer = self._live.call(
                command, timeout=seconds, calls=calls, stdin=None if stdin is None else as_source(stdin),
                on_stdout=as_text_callback(on_stdout), on_stderr=as_text_callback(on_stderr),
                on_shown=None if on_display is None else lambda shown: on_display(displayed_of(shown)),
            )  # fmt: skip
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
        """Gives it up."""
        self._live.close()


# --- what a command is, and what comes of it; for AsyncSession, too ---------------------------------------------------


def set_command(name: str, value: Any) -> tuple[Any, ...]:
    """Raises ValueError for what is no name."""
    if not name.isidentifier():
        raise ValueError(f"{name!r} is no name of a variable")
    return ("set", {name: value})


def completion_of(value: Any, code: str, cursor: int) -> Completion:
    """Names by the guest's word, as the next two are; which word they are for is ours to say, so that nothing else can
    come into its place."""
    found = _WORD.search(code[max(0, cursor - _LONGEST_NAME) : cursor])
    word = "" if found is None else found.group()
    names = value[1] if isinstance(value, tuple) and len(value) == 2 and type(value[1]) is list else []
    matches = [
        name
        for name in names[:_MOST_NAMES]
        if isinstance(name, str) and len(name) <= _LONGEST_NAME and name.startswith(word) and name.isidentifier()
    ]
    return Completion(cursor - len(word), tuple(matches))


def inspection_of(value: Any) -> Inspection | None:
    """What is known of an object."""
    if not isinstance(value, dict):
        return None
    texts = {key: text for key, text in value.items() if isinstance(text, str)}
    optional = {key: texts.get(key) for key in ("signature", "doc", "source", "text")}
    return Inspection(name=texts.get("name", ""), type=texts.get("type", ""), **optional)


def completeness_of(value: Any) -> Completeness:
    """Whether statements are whole."""
    if isinstance(value, tuple) and len(value) == 2 and all(isinstance(text, str) for text in value):
        status, indent = value
        return Completeness(status, indent if _INDENT.fullmatch(indent) else "")
    return Completeness("unknown")


def displayed_of(shown: tuple[Any, ...]) -> Displayed:
    """What the guest shows."""
    kind, *rest = shown
    if kind == "clear":
        return Displayed(kind, wait=rest[0])
    data, metadata = ({key: value for key, value in part.items() if isinstance(key, str)} for part in rest)
    return Displayed(kind, data, metadata)


def session_result(answer: Answer, policy: Policy, layers: Mapping[str, str]) -> Result:
    """The Result of one call."""
    status, why, exit_code, value, error = Status.OK, "", None, None, None
    signal = None
    claim = answer.claim
    if answer.outcome is not None:
        exit_code, signal = answer.outcome.exit_code, answer.outcome.signal
        status, why = status_of_end(answer.outcome)
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
        status = _status_of_error(error)
    if answer.interrupted and answer.outcome is None:
        status, why = Status.TIME_LIMIT, f"limits.{answer.interrupted}; the call was interrupted, the session goes on"
    safe = policy.output.escapes == "neutralise"
    return Result(
        status=status,
        exit_code=exit_code,
        signal=signal,
        why=why,
        stdout_bytes=neutralise(answer.stdout) if safe else answer.stdout,
        stderr_bytes=neutralise(answer.stderr) if safe else answer.stderr,
        printed=answer.output,
        neutralised=safe,
        value=value,
        error=error,
        usage=answer.usage,
        truncated=answer.truncated,
        denials=answer.denials,
        unknown_calls=answer.unknown,
        layers=layers,
    )


def _words(text: str) -> str:
    """A guest's, as can be printed."""
    return text.encode("utf-8", "backslashreplace").decode()


def _status_of_error(error: GuestError) -> Status:
    if error.type == "MemoryError":
        return Status.MEMORY_LIMIT
    if error.type in _SYNTAX and ", in " not in error.traceback:
        return Status.SYNTAX_ERROR
    return Status.ERROR
