"""A pool: boxes that stand ready, for callers who cannot wait for a start.

    with proxybox.Pool(size=4, preload=["json"]) as pool:
        pool.run("print(1)").stdout
        list(pool.map(double, range(10)))  # a function, shipped as its source

Each box serves one program and is gone; a thread makes the next from a zygote of the pool's own. With `processes=`
the controllers themselves are spread over processes (workers.py).
"""

import inspect
import os
import textwrap
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from types import FunctionType
from typing import Any, Self

import attrs

from proxybox import given
from proxybox.controller.boxes.box import Box
from proxybox.controller.boxes.worldbuilding import WorldTemplate
from proxybox.controller.costs.descriptorshare import soft_limit
from proxybox.controller.errors import CannotCopy, SandboxClosedError, SandboxStartError
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.guests.finding import find_guest
from proxybox.controller.guests.guest import Guest, require_bootstrap
from proxybox.controller.process.undertaker import settle, undertaker
from proxybox.controller.warm.nursery import is_worn
from proxybox.controller.warm.preloading import check_preload
from proxybox.controller.warm.ready import ReadyBox
from proxybox.controller.warm.session import Copies, LiveSession
from proxybox.controller.warm.start import WarmStart
from proxybox.controller.warm.zygote import Zygote
from proxybox.given import Content, Input, as_source, as_text_callback
from proxybox.policies import Policy, as_policy, evolve
from proxybox.program import Program
from proxybox.result import Result, result_of
from proxybox.sandbox import AsPath, Callback, Code, Functions, folder_of, program_of, with_timeout
from proxybox.session import Session
from proxybox.workers import Workers

#: A start that fails is tried again so often, behind pauses of so many seconds.
_TRIES, _PAUSE = 5, 0.1
#: Seconds without a new program, after which boxes are made beside those that run.
_QUIET = 0.05


class Pool(Executor):
    """Warm boxes, ready to be used.

    policy, policy_fields, functions, packages, guest: as for `Sandbox`. size: how many boxes stand ready, and how many
    programs run at once; further callers wait. processes: how many processes of controllers, among which the boxes are
    divided; 0 for none but this one. What a `stdin` function gives is read to its end for them before a program
    begins. preload: modules that are imported before, besides the policy's. warm: boxes are copies of one guest, which
    share its hash seed and addresses; False starts each by itself, before it is asked for.

    Also a concurrent.futures.Executor: `submit` takes source, which gives a Result, or a function, which is shipped as
    its source and gives its value. From any thread.
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
        **policy_fields: Any,
    ) -> None:
        self.size = given.count("size", size, 1)
        given.count("processes", processes, 0)
        given.flag("warm", warm)
        self.policy = with_preload(policy, preload, policy_fields)
        self._closed = False
        self._threads: ThreadPoolExecutor | None = None
        self._making = threading.Lock()
        folders, named = given.packages(packages), given.functions(functions)
        self._boxes: Workers | Boxes
        guest = given.guest(guest)
        found = guest_with(find_guest(guest), folders)
        require_bootstrap(found)
        check_preload(Box(self.policy, found))
        host = HostFunctions(named, self.policy.session.value_size) if named else None
        if processes:
            _check_room(size, _CALLERS + 2 * size)  # both ends of a socket for each box
            options = {"functions": dict(named), "packages": folders, "guest": guest, "warm": warm}
            self._boxes = Workers(self.policy, options, size, min(processes, size))
        else:
            self._boxes = Boxes(Box(self.policy, found), host, size, warm=warm)

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
    ) -> Result:
        """As `Sandbox.run`, in a box that stands ready. Waits while `size` programs run."""
        self._check_open()
        program = program_of(code, args, files)
        folder_of(program, self.policy)
        result = self._boxes.run(
            program, given.duration("timeout", timeout), as_source(stdin),
            as_text_callback("on_stdout", on_stdout), as_text_callback("on_stderr", on_stderr),
        )  # fmt: skip
        return result.check() if check else result

    def run_file(self, path: str | os.PathLike[str], *args: Any, **options: Any) -> Result:
        """`run` for the script at `path`, which may be given as a str."""
        return self.run(AsPath(path), *args, **options)

    @property
    def ready(self) -> int:
        """How many boxes stand ready now; of this process's."""
        return 0 if isinstance(self._boxes, Workers) else self._boxes.ready

    def session(self, *, timeout: float | str | None = None) -> Session:
        """A session in a box that stands ready; it counts as a program that runs until it is closed. Not with
        `processes`."""
        self._check_open()
        if isinstance(self._boxes, Workers):
            raise ValueError("a pool with processes= has no sessions: they live in this process")
        return self._boxes.session(given.duration("timeout", timeout))

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> "Future[Any]":
        """Source with the arguments of `run`: a Future of its Result. A function with arguments of plain data: a Future
        of its value, or of the ExecutionError that tells why there is none. Raises TypeError for what has no source."""
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
        return self._boxes.call(name, source, args, dict(kwargs)).check().value

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As Executor.shutdown; without `wait` programs that run are cancelled."""
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


def guest_with(guest: Guest, packages: tuple[str, ...]) -> Guest:
    """An interpreter with further folders of packages."""
    return attrs.evolve(guest, packages=(*guest.packages, *packages)) if packages else guest


def with_preload(policy: Policy | str | os.PathLike[str] | None, preload: Iterable[str], fields: Any) -> Policy:
    """The policy of a pool."""
    made = evolve(as_policy(policy), **fields) if fields else as_policy(policy)
    names = given.modules(preload)
    return evolve(made, preload=(*made.preload, *names)) if names else made


def source_of(fn: Any) -> str:
    """What a function is shipped as. Raises TypeError for one that does not stand for itself."""
    if not isinstance(fn, FunctionType) or fn.__name__ == "<lambda>":
        given.wrong_kind("fn", "source text, the path of a script, or a function that was made with def", fn)
    if fn.__closure__:
        free = ", ".join(fn.__code__.co_freevars)
        raise TypeError(f"{fn.__name__} uses names of the function around it ({free}): give them as arguments")
    try:
        return textwrap.dedent(inspect.getsource(fn))
    except OSError as error:
        raise TypeError(f"the source of {fn.__name__} cannot be found: {error}") from error


#: Descriptors that a controller holds for a box whose guest has opened nothing, and those that are left to the caller.
_DESCRIPTORS, _CALLERS = 6, 128


def make_room(size: int) -> None:
    """Raises ValueError where this process may not open what so many boxes need (RLIMIT_NOFILE): half of its limit is
    for what their guests open (descriptorshare.py). The limit is the caller's affair: it is not raised here."""
    _check_room(size, 2 * (_CALLERS + _DESCRIPTORS * size))


def _check_room(size: int, needed: int) -> None:
    soft = soft_limit()
    if soft < needed:
        raise ValueError(
            f"size={size}: this process may open {soft} descriptors, and so many boxes want {needed}: raise its limit "
            "before (ulimit -n, or resource.setrlimit)"
        )


class Boxes:
    """The boxes of a pool in this process. warm: as for `Pool`."""

    def __init__(self, box: Box, functions: HostFunctions | None, size: int, *, warm: bool = True) -> None:
        make_room(size)
        self._template = WorldTemplate(box.policy, box.guest)
        self._box = attrs.evolve(box, template=self._template)
        self._functions = functions
        self._size = size
        self._slots = threading.BoundedSemaphore(size)
        self._ready: deque[ReadyBox] = deque()
        self._change = threading.Condition()
        self._taken = 0.0
        self._zygote: Zygote | None = None
        self._renewing = threading.Lock()
        self._is_single = not warm
        self._closed = False
        self._running: set[Box] = set()
        self._copies: weakref.WeakSet[Copies] = weakref.WeakSet()
        self._filler = threading.Thread(target=self._fill, name="proxybox-pool-filler", daemon=True)
        self._filler.start()

    @property
    def ready(self) -> int:
        """How many boxes stand ready."""
        return len(self._ready)

    # --- use ----------------------------------------------------------------------------------------------------------

    def run(
        self, program: Program, timeout: float | None, stdin: Any, on_stdout: Any, on_stderr: Any,
        on_begin: Callable[[Callable[[], None]], object] | None = None,
    ) -> Result:  # fmt: skip
        """One program in one box. on_begin: is given what cancels it."""
        policy = with_timeout(self._box.policy, timeout)
        box = attrs.evolve(self._box, policy=policy)
        asked = time.monotonic_ns()
        with self._slots:
            queued = time.monotonic_ns() - asked
            self._running.add(box)
            if on_begin is not None:
                on_begin(box.cancel)
            try:
                finished = None
                while finished is None:
                    finished = self.take().run(
                        program.words, box, folder=folder_of(program, policy), stdin=stdin,
                        on_stdout=on_stdout, on_stderr=on_stderr,
                    )  # fmt: skip
            finally:
                self._running.discard(box)
                with self._change:
                    self._change.notify()
        finished = attrs.evolve(finished, usage=attrs.evolve(finished.usage, queue=queued / 1e9))
        return result_of(finished, policy)

    def call(
        self, name: str, source: str, args: tuple[Any, ...], kwargs: dict[str, Any],
        on_begin: Callable[[Callable[[], None]], object] | None = None,
    ) -> Result:  # fmt: skip
        """One function in one box."""
        with self.session(None) as session:
            if on_begin is not None:
                on_begin(session.close)
            defined = session.exec(source)
            return session.call(name, *args, **kwargs) if defined.ok else defined

    def session(self, timeout: float | None) -> Session:
        """A session in the next box; its slot is free again when it has ended."""
        self._slots.acquire()
        try:
            live = self.take().session()
        except BaseException:
            self._slots.release()
            raise
        live.at_end.append(self._slots.release)
        self._copies.add(live.copies)
        return Session(live, self._box.policy, timeout)

    def take(self) -> ReadyBox:
        """The next box: one that stands ready, else one that is made now."""
        while True:
            with self._change:
                ready = self._ready.popleft() if self._ready else None
                self._taken = time.monotonic()
            if ready is None:
                return self._make()
            if ready.is_alive():
                return ready
            ready.close()

    # --- supply -------------------------------------------------------------------------------------------------------

    def _make(self) -> ReadyBox:
        """A box from the zygote, or from a new one where that has died. Raises SandboxStartError."""
        failed = zygote = None
        for left in reversed(range(_TRIES)):
            if self._closed:
                raise SandboxClosedError("the pool is closed: make another one for further runs")
            try:
                zygote = self._living_zygote(failed)
                return ReadyBox(WarmStart(box=self._box, zygote=zygote, functions=self._functions))
            except (OSError, CannotCopy, SandboxStartError):
                if not left:
                    raise
                failed = zygote
        raise AssertionError

    def _living_zygote(self, failed: Zygote | None) -> Zygote | None:
        """A zygote, and not the one that has failed."""
        with self._renewing:
            old = self._zygote
            if self._is_single:
                return None
            if old is None or is_worn(old) or old is failed:
                try:
                    self._zygote = Zygote(self._box.policy, self._box)
                except CannotCopy:  # this host gives no listener: each box is started by itself
                    self._is_single, self._zygote = True, None
                if old is not None:
                    undertaker().bury(old.close)
            return self._zygote

    def _pause(self) -> float:
        """Seconds until a box is to be made. Making one takes time from the programs that run in this process, so it is
        done between them, or when nobody has asked for a box in a while."""
        if len(self._ready) >= self._size:
            return float("inf")
        return max(0.0, self._taken + _QUIET - time.monotonic()) if self._running else 0.0

    def _fill(self) -> None:
        """The thread that keeps `size` boxes ready."""
        while not self._closed:
            with self._change:
                while not self._closed and (pause := self._pause()):
                    self._change.wait(None if pause == float("inf") else pause)
            if self._closed:
                return
            try:
                made = self._make()
            except SandboxClosedError:
                return
            except Exception:  # whoever runs something meets it, too
                with self._change:
                    self._change.wait(_PAUSE)
                continue
            with self._change:
                self._ready.append(made)

    # --- the end ------------------------------------------------------------------------------------------------------

    def cancel(self) -> None:
        """Ends what runs."""
        for box in tuple(self._running):
            box.cancel()
        for session in self._living():
            session.cancel()

    def _living(self) -> tuple[LiveSession, ...]:
        """Sessions, and their copies."""
        return tuple(live for copies in tuple(self._copies) for live in tuple(copies.living))

    def close(self) -> None:
        """Ends all boxes."""
        self._closed = True
        with self._change:
            self._change.notify_all()
        self._filler.join()
        for session in self._living():
            session.cancel()
            session.close()
        while self._ready:
            self._ready.popleft().close()
        if self._zygote is not None:
            self._zygote.close()
        self._template.close()
