"""A pool: boxes that are ready, for callers who cannot wait for the start of a box.

    with proxybox.Pool(size=4, preload=["json"]) as pool:
        pool.run("print(1)").stdout
        list(pool.map(double, range(10)))  # a function, sent as its source

Each box runs one program and is then ended; a thread makes the next one from the pool's own zygote. With `processes=`
the controllers themselves are divided among processes (workers.py).
"""

import inspect
import os
import textwrap
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import FunctionType
from typing import Any, Self

import attrs

from proxybox import argumentchecks
from proxybox.argumentchecks import Content, Input
from proxybox.controller.boxes.box import BoxRunner
from proxybox.controller.errors import SandboxClosedError
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.process.reaper import settle
from proxybox.controller.warm.preloading import check_preload
from proxybox.packages import with_packages
from proxybox.packages.compiling import warn_of
from proxybox.policies import Policy, as_policy, evolve
from proxybox.pool.boxes import CALLERS, PoolBoxes, check_room
from proxybox.pool.workers import PoolWorkers
from proxybox.program import Program
from proxybox.result import Result
from proxybox.sandbox import (
    AsPath,
    Callback,
    Code,
    Functions,
    OnStart,
    Tighter,
    Variables,
    check_is_shown,
    job_of,
    job_of_program,
    policy_of_run,
    takes,
)
from proxybox.session import Session


class Pool(Executor):
    """Boxes that have started already, ready to be used.

    policy, policy_fields, functions, packages, guest: as for `Sandbox`. size: how many boxes are ready, and how many
    programs run at once; further callers wait. processes: the number of controller processes among which the boxes are
    divided; 0 for this process alone. With processes, a `stdin` function is read to its end before its program begins.
    preload: modules that are imported in advance, besides the policy's. warm: whether boxes are copies of one guest,
    which have the same hash seed and addresses; with False each box starts its own interpreter, before it is needed.
    record, record_limit, record_redact: as for `Sandbox`; a recorded run starts its own interpreter.

    A pool is also a concurrent.futures.Executor: `submit` takes source and returns a Future of its Result, or takes a
    function, which is sent as its source, and returns a Future of its value. It can be used from any thread.
    """

    def __init__(
        self,
        policy: Policy | str | os.PathLike[str] | None = None,
        *,
        size: int = 4,
        processes: int = 0,
        preload: Iterable[str] = (),
        functions: Functions | None = None,
        warm: bool = True,
        packages: Sequence[str | os.PathLike[str]] = (),
        guest: str | os.PathLike[str] | None = None,
        record: str | os.PathLike[str] | None = None,
        record_limit: int | str | None = None,
        record_redact: Sequence[str] = (),
        **policy_fields: Any,
    ) -> None:
        self.size = argumentchecks.count("size", size, 1)
        argumentchecks.count("processes", processes, 0)
        argumentchecks.flag("warm", warm)
        self.policy = with_preload(policy, preload, policy_fields)
        self._closed = False
        self._threads: ThreadPoolExecutor | None = None
        self._making = threading.Lock()
        self._taken = takes(record, record_limit, record_redact)
        folders, named = argumentchecks.packages(packages), argumentchecks.functions(functions)
        self._boxes: PoolWorkers | PoolBoxes
        guest = argumentchecks.guest(guest)
        box = box_of(self.policy, guest, folders)
        host = HostFunctions(named, self.policy.session.value_size) if named else None
        if processes:
            check_room(size, CALLERS + 2 * (size + processes))  # both ends of a socket for each box and each process
            options = {
                "functions": dict(named), "packages": box.guest.packages, "guest": guest, "warm": warm,
                "record": (None if record is None else os.path.abspath(record), record_limit, record_redact),
            }  # fmt: skip
            self._boxes = PoolWorkers(self.policy, options, size, min(processes, size))
        else:
            self._boxes = PoolBoxes(box, host, size, warm=warm)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
        """As `Sandbox.run`, in a box that is ready. Waits while `size` programs run, after calling `on_start`."""
        self._check_open()
        argumentchecks.function("on_start", on_start)
        policy = policy_of_run(self.policy, timeout, limits, output, env)
        job = job_of(policy, code, args, stdin, files, on_stdout, on_stderr)
        check_is_shown(job.program, self.policy)
        job.tell(on_start)
        result = self._boxes.run(attrs.evolve(job, taking=self._taken(record)))
        return result.check() if check else result

    def run_program(
        self,
        program: Program,
        *,
        stdin: Input = None,
        timeout: float | str | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
        limits: Tighter = None,
        output: Tighter = None,
        env: Variables = None,
        on_start: OnStart = None,
        record: str | os.PathLike[str] | None = None,
    ) -> Result:
        """As `Sandbox.run_program`, in a box that is ready."""
        self._check_open()
        argumentchecks.function("on_start", on_start)
        policy = policy_of_run(self.policy, timeout, limits, output, env)
        job = job_of_program(policy, program, stdin, on_stdout, on_stderr)
        check_is_shown(program, self.policy)
        job.tell(on_start)
        return self._boxes.run(attrs.evolve(job, taking=self._taken(record)))

    def run_file(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Result:
        """Does what `run` does, for the script at `path`, which may be a str."""
        return self.run(AsPath(path), *args, **options)

    @property
    def ready(self) -> int:
        """How many boxes of this process are ready now; 0 with `processes`."""
        return 0 if isinstance(self._boxes, PoolWorkers) else self._boxes.ready

    def session(self, *, timeout: float | str | None = None, record: str | os.PathLike[str] | None = None) -> Session:
        """Starts a session in a box that is ready; with a record, in its own box. record: as for `Sandbox`.

        Until it is closed, it counts as a program that runs. Raises ValueError in a pool with `processes`.
        """
        self._check_open()
        if isinstance(self._boxes, PoolWorkers):
            raise ValueError("a pool with processes= has no sessions: they live in this process")
        return self._boxes.session(argumentchecks.duration("timeout", timeout), self._taken(record))

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Runs source or a function in a thread of the pool, and returns a Future.

        For source, with the arguments of `run`, it is a Future of the Result. For a function, with arguments of plain
        data, it is a Future of its value, or of the ExecutionError that says why there is none. Raises TypeError for a
        function whose source cannot be sent.
        """
        self._check_open()
        work: Callable[..., Any] = self.run
        if isinstance(fn, str | os.PathLike):
            args = (fn, *args)
        else:
            source = source_of(fn)
            work, args, kwargs = self._call, (fn.__name__, source, args, kwargs), {}
        with self._making:
            if self._threads is None:
                self._threads = ThreadPoolExecutor(self.size, thread_name_prefix="proxybox-pool")
        return self._threads.submit(work, *args, **kwargs)

    def _call(self, name: str, source: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        return self._boxes.call(name, source, args, dict(kwargs), taking=self._taken(None)).check().value

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Does what Executor.shutdown does; without `wait`, programs that run are cancelled."""
        self._closed = True
        if not wait:
            self._boxes.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=cancel_futures or not wait)
        self._boxes.close()
        settle()

    def close(self) -> None:
        """Cancels programs that run, and ends all boxes."""
        self.shutdown(wait=False)

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosedError("the pool is closed: make another one for further runs")


def box_of(policy: Policy, guest: str | None, packages: Sequence[str]) -> BoxRunner:
    """Returns the parts of a pool's boxes, and installs missing packages. Raises as `Pool` does.

    guest, packages: as `argumentchecks` returns them.
    """
    found = with_packages(find_guest(guest), packages)
    warn_of(found)
    require_bootstrap(found)
    box = BoxRunner(policy, found)
    check_preload(box)
    return box


def with_preload(policy: Policy | str | os.PathLike[str] | None, preload: Iterable[str], fields: Any) -> Policy:
    """Returns the policy of a pool, with the modules of `preload`."""
    made = evolve(as_policy(policy), **fields) if fields else as_policy(policy)
    names = argumentchecks.modules(preload)
    return evolve(made, preload=(*made.preload, *names)) if names else made


def source_of(fn: Any) -> str:
    """Returns the source of a function. Raises TypeError for one that needs names of a function around it."""
    if not isinstance(fn, FunctionType) or fn.__name__ == "<lambda>":
        argumentchecks.wrong_kind("fn", "source text, the path of a script, or a function that was made with def", fn)
    if fn.__closure__:
        free = ", ".join(fn.__code__.co_freevars)
        raise TypeError(f"{fn.__name__} uses names of the function around it ({free}): give them as arguments")
    try:
        return textwrap.dedent(inspect.getsource(fn))
    except OSError as error:
        raise TypeError(f"the source of {fn.__name__} cannot be found: {error}") from error
