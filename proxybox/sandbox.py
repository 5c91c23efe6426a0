"""Sandboxes: each has a policy, an interpreter and the caller's own rules, for any number of runs.

with proxybox.Sandbox(limits={"wall_time": 2}) as box:
    result = box.run(Path("untrusted.py"), stdin="data")
"""

import math
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias

import attrs

from proxybox import argumentchecks
from proxybox.argumentchecks import Content, Input, as_source
from proxybox.controller.audit import Audit, Interceptor
from proxybox.controller.boxes.box import BoxRunner, Start
from proxybox.controller.boxes.worldbuilding import WorldTemplate
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.guest import Guest
from proxybox.controller.process.reaper import settle
from proxybox.controller.world.streams import StandardStreams
from proxybox.errors import SandboxClosedError  # so that no error has to be imported where descriptors are lacking
from proxybox.policies import Policy, PolicyError, as_policy
from proxybox.program import BOX, MAIN, Program
from proxybox.result import Result, cancelled, result_of
from proxybox.running import Running

if TYPE_CHECKING:  # one run needs none of these: functions that need them import them
    from proxybox.controller.exchange.hostfunctions import HostFunction, HostFunctions, Spawn
    from proxybox.controller.warm.session import Copies, LiveSession
    from proxybox.controller.warm.zygote import Zygote
    from proxybox.records.taking import Taking
    from proxybox.session import Session

Code: TypeAlias = str | os.PathLike[str]
Callback: TypeAlias = Callable[[str], object] | None
#: Why a recorded session has no copies (docs/records.md).
NO_COPIES: Final = "a session that is recorded cannot be copied: start one without a record"
#: Limits of one run in place of its policy's; none may be looser (`policies.tightened`).
Tighter: TypeAlias = Mapping[str, Any] | None
#: Environment variables of one run, besides those of its policy.
Variables: TypeAlias = Mapping[str, str] | None
OnStart: TypeAlias = Callable[[Running], object] | None
Functions: TypeAlias = Mapping[str, "Callable[..., Any] | HostFunction"]


@attrs.frozen(kw_only=True, eq=False)
class PreparedRun:
    """The parts of a run, independent of the class that carries it out.

    policy: of this run (`policy_of_run`). running: its handle for other threads. taking: its record, if it has one.
    """

    program: Program
    streams: StandardStreams
    policy: Policy
    taking: "Taking | None" = None
    running: Running = attrs.field(factory=Running)

    def tell(self, on_start: "OnStart") -> None:
        """Calls the caller's `on_start` with the handle that can end the run."""
        if on_start is not None:
            on_start(self.running)


class AsPath(os.PathLike[str]):
    """Marks a str as a path, because a plain str would be source. The spelling does not change."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = os.fspath(path)

    def __fspath__(self) -> str:
        return self._path


class SandboxBase:
    """The common part of `Sandbox` and `AsyncSandbox`: their arguments, and how boxes are made."""

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        functions: Functions | None = None,
        warm: bool | None = None,
        interceptors: Sequence[Interceptor] = (),
        audit: Audit | None = None,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        guest_library: str | os.PathLike[str] | None = None,
        record: str | os.PathLike[str] | None = None,
        record_limit: int | str | None = None,
        record_redact: Sequence[str] = (),
        record_required: bool = True,
        **policy_fields: Any,
    ) -> None:
        self.policy = as_policy(policy)
        if policy_fields:
            from proxybox.policies import evolve

            try:
                self.policy = evolve(self.policy, **policy_fields)
            except PolicyError as error:
                raise argumentchecks.meant(error, SandboxBase.__init__) from None
        self._interceptors = argumentchecks.interceptors(interceptors)
        self._audit = argumentchecks.function("audit", audit)
        self._packages = argumentchecks.packages(packages)
        self._guest_path = argumentchecks.guest(guest)
        self._guest_library = (
            None if guest_library is None else os.path.abspath(argumentchecks.path("guest_library", guest_library))
        )
        self._warm = warm_is_wanted() if warm is None else argumentchecks.flag("warm", warm)
        self._functions = self._host_functions(argumentchecks.functions(functions))
        self._taking = takes(record, record_limit, record_redact, record_required)
        self._closed = False
        self._boxes: set[BoxRunner] = set()
        self._template: WorldTemplate | None = None
        self._copies: weakref.WeakSet[Copies] = weakref.WeakSet()
        self._has_nursery = False
        self._setup()

    def _setup(self) -> None:
        """Prepares what a subclass needs before its first run."""

    def _host_functions(self, named: Functions) -> "HostFunctions | None":
        if not named:
            return None
        from proxybox.controller.exchange.hostfunctions import HostFunctions

        return HostFunctions(named, self.policy.session.value_size, self._spawn())

    def _spawn(self) -> "Spawn | None":
        """Returns the function that begins coroutine functions; None without an event loop."""
        return None

    def interrupt(self) -> bool:
        """Sends SIGINT to the programs that run here now, as Ctrl-C at a terminal does.

        Can be called from any thread, and from signal handlers. Returns whether there was such a program.
        """
        interrupted = [box.interrupt() for box in tuple(self._boxes)]
        return any(interrupted)

    def guest(self) -> Guest:
        """Returns the interpreter that is used here. Raises SandboxStartError when there is none."""
        guest = find_guest(self._guest_path, self._guest_library)
        if not self._packages:
            return guest
        from proxybox.packages import with_packages

        return with_packages(guest, self._packages)

    def _end(self) -> None:
        """Closes the sandbox for new runs, and cancels running programs and sessions."""
        self._closed = True
        for box in tuple(self._boxes):
            box.cancel()
        for copies in tuple(self._copies):
            for live in tuple(copies.living):
                live.cancel()
                live.close()

    def _settle(self) -> None:
        """Waits until the resources of ended boxes are released."""
        if self._has_nursery:
            from proxybox.controller.warm.zygotepool import sweep

            sweep()
        settle()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosedError("the sandbox is closed: make another one for further runs")

    def _box(self, policy: Policy | None, taking: "Taking | None" = None) -> BoxRunner:
        """Makes the box of one run. policy: of this run; None for the sandbox's."""
        self._check_open()
        if self._template is None:  # made once: PATH and the interpreter's files are the same for all runs
            guest = self.guest()
            if guest.packages:
                from proxybox.packages.compiling import warn_of

                warn_of(guest)
            if self.policy.preload:
                from proxybox.controller.warm.preloading import check_preload

                check_preload(BoxRunner(self.policy, guest))
            self._template = WorldTemplate(self.policy, guest)
        guest, policy = self._template.guest, self.policy if policy is None else policy
        make: Callable[..., BoxRunner] = BoxRunner if taking is None else taking.box
        return make(
            policy, guest, interceptors=self._interceptors, audit=self._audit,
            template=None if self._has_own_variables(policy) else self._template,
        )  # fmt: skip

    def _has_own_variables(self, policy: Policy) -> bool:
        """Whether a run has other environment variables than guests that have already started."""
        return policy.environment != self.policy.environment

    def _start(self, box: BoxRunner, capture: bool = True) -> Start | None:
        """Returns a way to start the program without a new interpreter; None when there is none."""
        zygote = self._zygote(box) if capture else None
        if zygote is None and self._functions is None:
            return None
        from proxybox.controller.warm.start import WarmStart

        return WarmStart(box=box, zygote=zygote, functions=self._functions).program

    def _zygote(self, box: BoxRunner) -> "Zygote | None":
        """Returns a zygote to copy; None if none exists yet, or none is possible."""
        if not self._warm or box.is_observed or box.guest.lacks_bootstrap or self._has_own_variables(box.policy):
            return None
        from proxybox.controller.warm.zygotepool import zygote_pool

        self._has_nursery = True
        return zygote_pool().find(box if box.policy is self.policy else attrs.evolve(box, policy=self.policy))

    def _open_session(
        self, files: Content | None, folder: str | os.PathLike[str] | None, stdin: Input, policy: Policy | None = None,
        taking: "Taking | None" = None,
    ) -> "LiveSession":  # fmt: skip
        """Starts a session. policy: of this session, as `policy_of_run` returns it; None for the sandbox's."""
        from proxybox.controller.warm.session import LiveSession
        from proxybox.controller.warm.start import WarmStart

        place = None if folder is None else os.path.realpath(argumentchecks.folder("folder", folder))
        program = with_files(Program(words=(), folder=place), files)
        source = as_source(stdin)
        if taking is not None:
            taking.is_session = True
        box = self._box(policy, taking)
        start = WarmStart(box=box, zygote=self._zygote(box), functions=self._functions)
        live = LiveSession.start(start, program, source)
        if taking is not None:
            live.copies.refused = NO_COPIES
        self._copies.add(live.copies)
        return live


class Sandbox(SandboxBase):
    """A policy, an interpreter and the caller's own rules, for any number of runs, each in a fresh box.

    policy, policy_fields: as for `run`. functions: what programs can call as `host.NAME(...)`: functions of the caller
    that take and return plain data, or HostFunction objects. interceptors: see `proxybox.controller`. audit: a function
    that is called with each OSCall. packages: paths of host folders of importable packages, virtual environments,
    requirements files, and scripts with inline metadata (docs/packages.md); they are seen read-only. guest: the
    interpreter: "pypy" (the default), "cpython", a version of CPython such as "3.13", the path of a program, of an
    unpacked release or of a virtual environment. guest_library: the folder that has lib-python and lib_pypy, for a PyPy
    that was translated with --sandbox and is not installed beside them. record: a folder in which each run leaves a
    record (docs/records.md), of at most `record_limit` bytes (1 GiB); a recorded run starts its own interpreter.
    record_redact: mounts, environment variables and functions whose contents records leave out. record_required:
    whether a run ends when its record exceeds the limit; otherwise the record is removed, and the run continues.

    warm: whether boxes from the second run on are copies of a guest that has already started. All sandboxes of this
    process with an equivalent policy share this guest. With False each box starts its own interpreter; this is also so
    with interceptors, an audit or a seed. The environment variable PROXYBOX_WARM=0 sets False as the default.

    A sandbox can be used from several threads at once.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the sandbox and its sessions.

        Programs that still run in other threads are cancelled; later runs raise SandboxClosedError.
        """
        self._end()
        self._settle()

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
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        on_start: OnStart = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:
        """As `proxybox.run`, in this sandbox.

        record: a path for the record of this run, from which `proxybox.replay` runs it again.

        limits, output: in place of the policy's for this run alone, by the keys of `Limits` and `Output`
        (`limits={"memory": "64M"}`). None may be looser than the policy's. Of `limits.wall_time` and `timeout` the
        shorter one counts.

        env: environment variables of this run, besides the policy's; a run with some starts its own interpreter.

        on_start: a function that is called once, before the program begins, with the Running by which other threads can
        cancel or interrupt it.
        """
        argumentchecks.function("on_start", on_start)
        job = job_of(
            policy_of_run(self.policy, timeout, limits, output, env), code, args, stdin, files, on_stdout, on_stderr
        )
        job.tell(on_start)
        result = self._run(attrs.evolve(job, taking=self._taking(record)))
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
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        on_start: OnStart = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:
        """Runs a `Program`. The callbacks get bytes; without `capture` the Result has no output.

        limits, output, env, on_start, record: as for `run`.
        """
        argumentchecks.function("on_start", on_start)
        policy = policy_of_run(self.policy, timeout, limits, output, env)
        job = job_of_program(policy, program, stdin, on_stdout, on_stderr, capture)
        job.tell(on_start)
        return self._run(attrs.evolve(job, taking=self._taking(record)))

    def _run(self, job: PreparedRun) -> Result:
        box = self._box(job.policy, job.taking)
        check_is_shown(job.program, box.policy)
        self._boxes.add(box)
        try:
            if self._closed:  # `close` may have ended all boxes just before
                box.cancel()
            with job.running.reached_by(box.cancel, box.interrupt):
                if box.is_cancelled:
                    return cancelled()
                start = self._start(box, job.streams.keep)
                finished = box.run(job.program.words, folder=job.program, streams=job.streams, start=start)
        finally:
            self._boxes.discard(box)
        return with_record(result_of(finished, box.policy), job.taking)

    def run_file(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Result:
        """Does what `run` does, for the script at `path`, which may be a str."""
        return self.run(AsPath(path), *args, **options)

    def session(
        self,
        *,
        files: Content | None = None,
        folder: str | os.PathLike[str] | None = None,
        stdin: Input = None,
        timeout: float | str | None = None,
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        record: str | os.PathLike[str] | None = None,
    ) -> "Session":
        """Starts a session: one guest that stays for many calls.

        files: names below /box with their content. folder: a host folder that is shown at /box, in the way that the
        policy's filesystem.box says. timeout: seconds of wall time for each call, in place of the policy's limit.
        limits, output, env: of this session, as for `run`. record: a path for a record of the whole session, which is
        complete when the session is closed; it cannot be copied meanwhile.

        Raises SandboxStartError when no guest can be started.
        """
        from proxybox.session import Session

        seconds = argumentchecks.duration("timeout", timeout)
        policy, taking = policy_of_run(self.policy, None, limits, output, env), self._taking(record)
        return Session(self._open_session(files, folder, stdin, policy, taking), policy, seconds, taking)


def takes(
    folder: str | os.PathLike[str] | None, limit: int | str | None, redact: Sequence[str] = (), required: bool = True
) -> "Callable[[str | os.PathLike[str] | None], Taking | None]":
    """Returns a function that makes the Taking of the next run: for the given path, otherwise for the folder.

    That function returns None if there is neither a path nor a folder. Both raise TypeError or PolicyError.
    """
    if folder is None:
        return lambda path: None if path is None else _taking().to(path, limit, redact, required)
    from proxybox.records.taking import NumberedRecords

    records = NumberedRecords.at(folder)
    return lambda path: _taking().to(records if path is None else path, limit, redact, required)


def _taking() -> "type[Taking]":
    from proxybox.records.taking import Taking

    return Taking


def with_record(result: Result, taking: "Taking | None") -> Result:
    """Returns the result of a run, with the path of its record, and the record's faults."""
    if taking is None:
        return result
    return attrs.evolve(
        result, record=taking.taken, record_fault=taking.fault, record_inexact=taking.inexact,
        record_digest=taking.digest,
    )  # fmt: skip


def check_is_shown(program: Program, policy: Policy) -> None:
    """Raises PolicyError for a script that the policy hides."""
    script = program.words[0] if program.words else ""
    hidden = script.startswith(f"{BOX}/.") and program.folder is not None and program.single is None
    if hidden and policy.filesystem.hide_dotfiles:
        raise PolicyError(
            f"code: {script[len(BOX) + 1 :]!r} begins with a dot, and the policy hides such files of the host: give it "
            "another name, or allow them (filesystem.hide_dotfiles = false)"
        )


def warm_is_wanted() -> bool:
    """Whether the environment variable PROXYBOX_WARM allows warm guests."""
    return os.environ.get("PROXYBOX_WARM", "1").lower() not in ("0", "no", "off", "false")


# --- arguments of callers ---------------------------------------------------------------------------------------------


def job_of(
    policy: Policy, code: Code, args: Sequence[str], stdin: Input, files: Content | None,
    on_stdout: Callback, on_stderr: Callback,
) -> PreparedRun:  # fmt: skip
    """Checks the arguments of `run`. Raises TypeError, PolicyError or OSError."""
    return PreparedRun(
        program=program_of(code, args, files),
        policy=policy,
        streams=argumentchecks.streams(stdin, on_stdout, on_stderr),
    )


def job_of_program(
    policy: Policy, program: Program, stdin: Input,
    on_stdout: Callable[[bytes], object] | None, on_stderr: Callable[[bytes], object] | None, capture: bool = True,
) -> PreparedRun:  # fmt: skip
    """Checks the arguments of `run_program`. Raises TypeError or PolicyError."""
    takers = argumentchecks.function("on_stdout", on_stdout), argumentchecks.function("on_stderr", on_stderr)
    streams = StandardStreams(stdin=as_source(stdin), stdout=takers[0], stderr=takers[1], keep=capture)
    return PreparedRun(program=program, streams=streams, policy=policy)


def program_of(code: Code, args: Sequence[str] = (), files: Content | None = None) -> Program:
    """Makes a program from source text or the path of a script. Raises TypeError, PolicyError or OSError."""
    argumentchecks.program(code)
    program = Program.source(code, args) if isinstance(code, str) else Program.file(code, args)
    return with_files(program, files)


def with_files(program: Program, files: Content | None) -> Program:
    """Returns a program with more files below /box. Raises TypeError or PolicyError."""
    added = argumentchecks.files(files)
    if MAIN in program.files and any(name == MAIN or name.startswith(f"{MAIN}/") for name in added):
        raise PolicyError(f"files: {MAIN!r} is the name of the code itself: give the file another name")
    return attrs.evolve(program, files={**program.files, **added}) if added else program


def policy_of_run(
    policy: Policy, timeout: float | str | None, limits: Tighter, output: Tighter, env: Variables = None
) -> Policy:
    """Returns the policy of one run: the same object if the run changes nothing in it. Raises PolicyError."""
    if variables := argumentchecks.env(env):
        own = policy.environment
        policy = attrs.evolve(policy, environment=attrs.evolve(own, variables={**own.variables, **variables}))
    seconds = argumentchecks.duration("timeout", timeout)
    if limits is not None or output is not None:
        from proxybox.policies import tightened

        policy = tightened(policy, limits=limits, output=output)
    if seconds is None:
        return policy
    if limits is not None and "wall_time" in limits and policy.limits.wall_time is not None:
        seconds = min(seconds, policy.limits.wall_time)
    wall_time = None if seconds == math.inf else seconds
    return attrs.evolve(policy, limits=attrs.evolve(policy.limits, wall_time=wall_time))
