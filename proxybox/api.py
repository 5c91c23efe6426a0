"""The API: run a program in a box, and keep a policy for many of them.

result = proxybox.run("print(6 * 7)")
with proxybox.Sandbox(limits={"wall_time": 2}) as box:
    result = box.run(Path("untrusted.py"), stdin="data")
"""

import codecs
import io
import os
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Any, Self, TypeAlias

import attrs

from proxybox.controller.audit import Audit, Interceptor
from proxybox.controller.box import Box, Run
from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.guests import Guest, find_guest
from proxybox.controller.output import neutralise
from proxybox.controller.worldbuilding import BoxFolder
from proxybox.policies import Policy, PolicyError, as_policy, evolve
from proxybox.program import MAIN, Program
from proxybox.result import Files, Result, Status, read_error

Code: TypeAlias = str | os.PathLike[str]
Input: TypeAlias = str | bytes | IO[Any] | Callable[[int], bytes | str] | None
Callback: TypeAlias = Callable[[str], object] | None
Content: TypeAlias = Mapping[str, str | bytes]


def run(
    code: Code,
    args: Sequence[str] = (),
    stdin: Input = None,
    files: Content | None = None,
    policy: Policy | str | os.PathLike[str] | None = None,
    timeout: float | str | None = None,
    check: bool = False,
    on_stdout: Callback = None,
    on_stderr: Callback = None,
    **policy_fields: Any,
) -> Result:
    """Runs a program in a box of its own and returns how it ended.

    code: source text, or the path of a script. args: its arguments. stdin: text, bytes, a file object, or a function
    that is asked for at most n bytes. files: names below /box with their content. policy: a Policy, the name of a
    preset or the path of a TOML file; `policy_fields` replace its sections (limits={"memory": "1G"}). timeout:
    seconds of wall time. check: raise ExecutionError unless the program ends well. on_stdout, on_stderr: called with
    text as it is printed.

    Raises PolicyError, SandboxStartError, OSError for a script that cannot be read.
    """
    with Sandbox(policy, **policy_fields) as box:
        return box.run(code, args, stdin, files, timeout=timeout, check=check, on_stdout=on_stdout, on_stderr=on_stderr)


def run_file(path: str | os.PathLike[str], args: Sequence[str] = (), **options: Any) -> Result:
    """`run` for the script at `path`, which may be given as a str."""
    return run(_Path(path), args, **options)


class _Path(os.PathLike[str]):
    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __fspath__(self) -> str:
        return self._path


class Sandbox:
    """A policy, an interpreter and the caller's own rules, for any number of runs: each in a fresh box.

    policy, policy_fields: as for `run`. interceptors: see `proxybox.controller`. audit: called with each OSCall.
    packages: host folders of importable packages, or virtual environments, mounted read-only and put on sys.path.
    guest: the path of the interpreter. May be used from several threads at once.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        interceptors: Sequence[Interceptor] = (),
        audit: Audit | None = None,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        **policy_fields: Any,
    ) -> None:
        self.policy = evolve(as_policy(policy), **policy_fields) if policy_fields else as_policy(policy)
        self._interceptors = tuple(interceptors)
        self._audit = audit
        self._packages = tuple(os.fspath(folder) for folder in packages)
        self._guest_path = guest
        self._closed = False
        self._boxes: set[Box] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the sandbox: programs that still run in other threads are cancelled, later runs raise
        SandboxClosedError."""
        self._closed = True
        for box in tuple(self._boxes):
            box.cancel()

    def interrupt(self) -> bool:
        """Sends SIGINT to the programs that run here now, as Ctrl-C at a terminal does; from any thread, and from
        signal handlers. Whether there was one."""
        told = [box.interrupt() for box in tuple(self._boxes)]
        return any(told)

    def guest(self) -> Guest:
        """The interpreter that runs here. Raises SandboxStartError."""
        guest = find_guest(self._guest_path)
        return attrs.evolve(guest, packages=(*guest.packages, *self._packages)) if self._packages else guest

    def run(
        self,
        code: Code,
        args: Sequence[str] = (),
        stdin: Input = None,
        files: Content | None = None,
        *,
        timeout: float | str | None = None,
        check: bool = False,
        on_stdout: Callback = None,
        on_stderr: Callback = None,
    ) -> Result:
        """As `proxybox.run`, in this sandbox."""
        program = Program.source(code, args) if isinstance(code, str) else Program.file(code, args)
        if files:
            program = _with_files(program, files)
        result = self.run_program(
            program, stdin=stdin, timeout=timeout, on_stdout=_as_text(on_stdout), on_stderr=_as_text(on_stderr)
        )
        return result.check() if check else result

    def run_program(
        self,
        program: Program,
        *,
        stdin: Input = None,
        timeout: float | str | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        capture: bool = True,
    ) -> Result:
        """Runs a `Program`. The callbacks get bytes; without `capture` the Result keeps no output."""
        if self._closed:
            raise SandboxClosedError("the sandbox is closed: make another one for further runs")
        policy = self.policy
        if timeout is not None:
            policy = evolve(policy, limits=attrs.evolve(policy.limits, wall_time=timeout))
        box = Box(policy, self.guest(), interceptors=self._interceptors, audit=self._audit)
        self._boxes.add(box)
        try:
            finished = box.run(
                program.words, folder=BoxFolder(folder=program.folder, single=program.single, files=program.files),
                stdin=_as_source(stdin), on_stdout=on_stdout, on_stderr=on_stderr, capture=capture,
            )  # fmt: skip
        finally:
            self._boxes.discard(box)
        return _result(finished, policy)


def run_program(
    program: Program,
    *,
    stdin: Input = None,
    on_stdout: Callable[[bytes], object] | None = None,
    on_stderr: Callable[[bytes], object] | None = None,
    policy: Policy | None = None,
    guest: str | os.PathLike[str] | None = None,
    audit: Audit | None = None,
    capture: bool = True,
    on_sandbox: Callable[[Sandbox], object] | None = None,
) -> Result:
    """One `Program` in a box of its own: what the command line stands on. on_sandbox: is given the sandbox before the
    program runs in it, for `interrupt` and `close`."""
    with Sandbox(policy, guest=guest, audit=audit) as box:
        if on_sandbox is not None:
            on_sandbox(box)
        return box.run_program(program, stdin=stdin, on_stdout=on_stdout, on_stderr=on_stderr, capture=capture)


# --- what callers give ------------------------------------------------------------------------------------------------


def _with_files(program: Program, files: Content) -> Program:
    added = {name: content.encode() if isinstance(content, str) else bytes(content) for name, content in files.items()}
    for name in added:
        parts = name.split("/")
        if name.startswith("/") or not all(parts) or ".." in parts or "." in parts or "\0" in name:
            raise PolicyError(f"files: {name!r} is no path below /box: want a relative path such as 'data/in.txt'")
    if MAIN in added and MAIN in program.files:
        raise PolicyError(f"files: {MAIN!r} is the name of the code itself: give the file another name")
    return attrs.evolve(program, files={**program.files, **added})


def _as_source(stdin: Input) -> bytes | int | Callable[[int], bytes | str] | None:
    """What the controller can read from. A file object without a descriptor is read whole."""
    if stdin is None or isinstance(stdin, bytes):
        return stdin
    if isinstance(stdin, str):
        return stdin.encode()
    if hasattr(stdin, "fileno"):
        try:
            return int(stdin.fileno())
        except (OSError, io.UnsupportedOperation):
            content = stdin.read()  # type: ignore[union-attr]
            return content.encode() if isinstance(content, str) else bytes(content)
    if callable(stdin):
        return stdin
    raise TypeError(f"stdin: want text, bytes, a file object, a function or None, not {type(stdin).__name__}")


def _as_text(callback: Callback) -> Callable[[bytes], object] | None:
    """A callback for text gets whole characters, wherever the guest's writes are cut."""
    if callback is None:
        return None
    decode = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode

    def give(data: bytes) -> None:
        text = decode(data)
        if text:
            callback(text)

    return give


# --- what they get ----------------------------------------------------------------------------------------------------


def _result(finished: Run, policy: Policy) -> Result:
    stdout, stderr = finished.stdout, finished.stderr
    error, is_syntax = (None, False)
    if finished.outcome.exit_code:
        error, is_syntax = read_error(stderr[-(1 << 16) :].decode("utf-8", "backslashreplace"))
    chunks = finished.output
    if policy.output.escapes == "neutralise":
        stdout, stderr = neutralise(stdout), neutralise(stderr)
        chunks = [(stream, neutralise(data)) for stream, data in chunks]
    status, why = _status(finished, error.type if error else "", is_syntax)
    return Result(
        status=status,
        exit_code=finished.outcome.exit_code,
        signal=finished.outcome.signal,
        why=why,
        stdout_bytes=stdout,
        stderr_bytes=stderr,
        output=tuple((stream, data.decode("utf-8", "backslashreplace")) for stream, data in chunks),
        error=error,
        usage=finished.usage,
        truncated=finished.truncated,
        files=Files(finished.changes),
        denials=finished.denials,
        unknown_calls=finished.unknown,
        layers=finished.layers,
    )


def _status(finished: Run, error: str, is_syntax: bool) -> tuple[Status, str]:
    """The word for an end. Limits come before what the guest says of itself."""
    outcome = finished.outcome
    if outcome.status is not None and outcome.status != "crashed":
        return Status(outcome.status), outcome.why
    if outcome.signal is not None:
        return (Status.MEMORY_LIMIT, "limits.memory") if finished.out_of_memory else (Status.CRASHED, outcome.why)
    if outcome.exit_code == 0:
        return Status.OK, ""
    if error == "MemoryError":
        return Status.MEMORY_LIMIT, "limits.memory"
    if "disk" in finished.exceeded and error == "OSError":
        return Status.DISK_LIMIT, "limits.disk or limits.files"
    return (Status.SYNTAX_ERROR if is_syntax else Status.ERROR), ""


# --- what a host gives ------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Layer:
    """A defence: whether this host gives it, and what to do where it does not."""

    name: str
    available: bool
    mandatory: bool
    detail: str = ""
    advice: str = ""


@attrs.frozen(kw_only=True)
class Diagnosis:
    """Whether boxes can run here: the interpreter, the defences, and what stands in the way."""

    guest: str | None
    layers: tuple[Layer, ...] = ()
    problems: tuple[str, ...] = ()


def diagnose(guest: str | os.PathLike[str] | None = None) -> Diagnosis:
    """Looks for an interpreter, runs a box with it, and tells which defences stood around that box."""
    from proxybox.diagnosis import examine

    return examine(guest)
