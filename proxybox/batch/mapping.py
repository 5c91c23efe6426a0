"""`proxybox.map`: one program or function over many items, on any executor; each item in a box of its own.

    for result in proxybox.map("print(int(input()) ** 2)", ["1", "2", "3"]):
        result.stdout

Each item has a result: if a program fails, the others go on. In this it differs from `Pool.map`, which is that of
concurrent.futures.Executor: that returns values, and raises at the first call that fails.
"""

import os
import pickle
import uuid
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Executor
from contextlib import ExitStack
from importlib.util import find_spec
from types import FunctionType
from typing import Any, Final, Literal, TypeAlias, overload

import attrs

from proxybox import __version__, argumentchecks
from proxybox.batch import working
from proxybox.batch.carriers import Executors, cpu_count
from proxybox.batch.clusters import Dask, Ray, client_of
from proxybox.batch.engine import BatchEngine, Carrier
from proxybox.batch.working import FunctionTask, ItemFailed, ProgramTask
from proxybox.controller.exchange import values
from proxybox.errors import BatchError, PolicyError
from proxybox.policies import Policy
from proxybox.policies.checks import as_bytes
from proxybox.pool.executor import Processes, WorkerEnded
from proxybox.pool.pool import Pool, box_of, source_of, with_preload
from proxybox.pool.workers import packed_setup
from proxybox.program import Program
from proxybox.result import Result, Status
from proxybox.sandbox import Code, Functions, check_is_shown, program_of, with_files
from proxybox.terminal.progress import shown_progress

Task: TypeAlias = Code | Callable[[Any], Any]
Answers: TypeAlias = Iterator[tuple[int, bytes]]

#: The most items of a chunk, and its intended seconds. First chunks have as many items as run at once: their answers
#: are sent together, so that items which take long do not delay others.
_MOST_CHUNK, _SECONDS = 64, 0.5
#: No further items are begun while this many bytes of results wait for an earlier one.
_MOST_HELD: Final = 256 << 20
#: How many workers may end one after the other before there is any answer.
_MOST_LOST: Final = 10
_KEYWORDS: Final = ("code", "args", "stdin", "files", "timeout")
_EXECUTORS: Final = "None, an Executor (concurrent.futures), a Client of dask.distributed, or 'ray'"
_OnLost: TypeAlias = Callable[[int, BaseException], object]


@overload
def map(  # noqa: A001
    work: Task | None, items: Iterable[Any], *, ordered: Literal[True] = True, executor: object = None,
    workers: int | None = None, size: int = 2, retries: int = 2, timeout: float | str | None = None,
    window: int = 1024, on_lost: _OnLost | None = None, progress: bool = False,
    policy: Policy | str | os.PathLike[str] | None = None, preload: Iterable[str] = (),
    functions: Functions | None = None, warm: bool = True, packages: Sequence[str | os.PathLike[str]] = (),
    guest: str | os.PathLike[str] | None = None, **policy_fields: Any,
) -> Generator[Result, None, None]: ...  # fmt: skip


@overload
def map(  # noqa: A001
    work: Task | None, items: Iterable[Any], *, ordered: Literal[False], executor: object = None,
    workers: int | None = None, size: int = 2, retries: int = 2, timeout: float | str | None = None,
    window: int = 1024, on_lost: _OnLost | None = None, progress: bool = False,
    policy: Policy | str | os.PathLike[str] | None = None, preload: Iterable[str] = (),
    functions: Functions | None = None, warm: bool = True, packages: Sequence[str | os.PathLike[str]] = (),
    guest: str | os.PathLike[str] | None = None, **policy_fields: Any,
) -> Generator[tuple[int, Result], None, None]: ...  # fmt: skip


def map(  # noqa: A001
    work: Task | None,
    items: Iterable[Any],
    *,
    ordered: bool = True,
    executor: object = None,
    workers: int | None = None,
    size: int = 2,
    retries: int = 2,
    timeout: float | str | None = None,
    window: int = 1024,
    on_lost: _OnLost | None = None,
    progress: bool = False,
    policy: Policy | str | os.PathLike[str] | None = None,
    preload: Iterable[str] = (),
    functions: Functions | None = None,
    warm: bool = True,
    packages: Sequence[str | os.PathLike[str]] = (),
    guest: str | os.PathLike[str] | None = None,
    **policy_fields: Any,
) -> Generator[Any, None, None]:
    """Runs a program or a function for each item, in a box of its own, and yields a Result for each.

    work: source text, the path of a script, a function that takes one argument of plain data and is sent as its source,
    or None where each item has its own code. items: for a program, what it reads (text or bytes), or a mapping of
    keywords of `run`: stdin, args, files, timeout, and code in place of `work`. For a function, its argument; what it
    returns is `result.value`. They may be a generator without an end: they are read as results are taken. An exception
    of the generator, and the error for an invalid item, are raised after the results of the items before it.

    ordered: whether results come in the order of the items. With False, each comes as soon as it exists, in a pair with
    the number of its item, from 0. executor: where it runs. None: processes on this machine, as many as `workers`, or
    the number of CPUs. Otherwise an Executor (concurrent.futures), a Client of dask.distributed, or "ray" for the
    cluster that this process has joined with ray.init; none of them is shut down. workers: how many chunks an Executor
    or Ray works on at once, if that is not the number that they report. size: how many boxes run at once in each
    process.

    retries: how often an item is tried again when the process that worked on it has ended. After that, its Result has
    the status internal_error. With 0, a process has one item at a time, so that no item is given up because of another.
    timeout: seconds of wall time for each item that has none of its own. window: the most items that are begun, or wait
    for an earlier one. on_lost: called with the number of an item whose worker has ended and the exception, each time.
    progress: whether to show a bar on a terminal (the extra cli). The other parameters are as for `Pool`; functions
    have to be importable by the workers.

    Closing the iterator, or Ctrl-C, ends what runs. Raises TypeError or PolicyError for invalid arguments,
    SandboxStartError when no box can be started, and BatchError when the workers cannot do the work.
    """
    made = with_preload(policy, preload, policy_fields)
    argumentchecks.count("size", size, 1)
    batch = Batch(
        work=ItemWork.of(work, made, argumentchecks.duration("timeout", timeout)),
        policy=made,
        options={
            "functions": dict(argumentchecks.functions(functions)),
            "packages": argumentchecks.packages(packages),
            "guest": argumentchecks.guest(guest),
            "warm": argumentchecks.flag("warm", warm),
        },
        executor=_checked(executor),
        workers=None if workers is None else argumentchecks.count("workers", workers, 1),
        size=size,
        retries=argumentchecks.count("retries", retries, 0),
        window=argumentchecks.count("window", window, 1),
        on_lost=argumentchecks.function("on_lost", on_lost) or (lambda *_: None),
    )
    if not isinstance(items, Iterable) or isinstance(items, str | bytes | Mapping):
        argumentchecks.wrong_kind("items", "an iterable of items", items, "put it in a list")
    if argumentchecks.flag("progress", progress) and find_spec("rich") is None:
        raise ModuleNotFoundError("progress: rich is not installed: pip install 'proxybox[cli]'", name="rich")
    batch.check()
    total = len(items) if isinstance(items, Sized) else None
    return batch.results(items, total, ordered=argumentchecks.flag("ordered", ordered), progress=progress)


def _checked(executor: object) -> object:
    if isinstance(executor, Pool):
        argumentchecks.wrong_kind("executor", _EXECUTORS, executor, "a Pool runs programs itself: use its own `map`")
    if not (executor is None or executor == "ray" or client_of(executor) or isinstance(executor, Executor)):
        argumentchecks.wrong_kind("executor", _EXECUTORS, executor)
    return executor


# --- items ------------------------------------------------------------------------------------------------------------


@attrs.frozen
class ItemWork:
    """The work for each item. name, source: of a function; program: of other work, unless items have their own.

    Items with the same program share it, so that it is sent once in a chunk.
    """

    policy: Policy
    timeout: float | None
    program: Program | None = None
    name: str = ""
    source: str = ""

    @classmethod
    def of(cls, work: Any, policy: Policy, timeout: float | None) -> "ItemWork":
        """Checks `work` and returns its ItemWork. Raises TypeError, PolicyError or OSError."""
        if isinstance(work, str | os.PathLike):
            program = program_of(work)
            check_is_shown(program, policy)
            return cls(policy, timeout, program)
        if work is None:
            return cls(policy, timeout)
        if not isinstance(work, FunctionType):
            argumentchecks.wrong_kind(
                "work", "source text, the path of a script, a function made with def, or None", work
            )
        return cls(policy, timeout, name=work.__name__, source=source_of(work))

    def item(self, value: Any) -> ProgramTask | FunctionTask:
        """Checks an item. Raises TypeError, ValueError (also as PolicyError), or OSError."""
        return self._call(value) if self.name else self._run(value)

    def items(self, values: Iterable[Any]) -> Iterator[ProgramTask | FunctionTask]:
        """Checks items as they are read; an error has the number of its item."""
        for number, value in enumerate(values):
            try:
                item = self.item(value)
            except ValueError as error:
                raise PolicyError(f"items[{number}]: {error}") from None
            except TypeError as error:
                raise TypeError(f"items[{number}]: {error}") from None
            yield item

    def _call(self, value: Any) -> FunctionTask:
        encoded = values.encode(value, self.policy.session.value_size)
        return FunctionTask(self.name, self.source, value, self.timeout, len(encoded))

    def _run(self, value: Any) -> ProgramTask:
        keywords = value if isinstance(value, Mapping) else {"stdin": value}
        if unknown := [name for name in keywords if name not in _KEYWORDS]:
            argumentchecks.no_sense("keyword", f"one of {', '.join(_KEYWORDS)}", unknown[0])
        program, own = self.program, keywords.get("code")
        if isinstance(own, bytes):  # the content of a file, in any encoding
            program = Program.content(own)
        elif own is not None:
            program = program_of(own)
            check_is_shown(program, self.policy)
        if program is None:
            argumentchecks.no_sense(
                "code", "source text or the path of a script, since there is none for all items", own
            )
        timeout = argumentchecks.duration("timeout", keywords.get("timeout"))
        stdin = keywords.get("stdin")
        if args := argumentchecks.arguments(keywords.get("args") or ()):
            program = attrs.evolve(program, words=(*program.words, *args))
        return ProgramTask(
            with_files(program, keywords.get("files")),
            None if stdin is None else as_bytes("stdin", stdin),
            self.timeout if timeout is None else timeout,
        )


# --- a batch ----------------------------------------------------------------------------------------------------------


@attrs.define(kw_only=True)
class Batch:
    """A batch that has been checked, with the arguments of `map`."""

    work: ItemWork
    policy: Policy
    options: dict[str, Any]
    executor: object
    workers: int | None
    size: int
    retries: int
    window: int
    on_lost: _OnLost
    setup: bytes = attrs.field(init=False)
    name: str = attrs.field(init=False, factory=lambda: uuid.uuid4().hex)

    @setup.default
    def _packed(self) -> bytes:
        return packed_setup(self.policy, self.options)

    def check(self) -> None:
        """Checks whether boxes can be made, if this machine makes them. Installs packages once."""
        if self.executor is None:
            box = box_of(self.policy, self.options["guest"], self.options["packages"])
            self.options["packages"] = box.guest.packages
            self.setup = self._packed()

    def results(
        self, items: Iterable[Any], total: int | None, *, ordered: bool, progress: bool
    ) -> Generator[Any, None, None]:
        """Yields the values of `map`."""
        with ExitStack() as closing:
            advance = closing.enter_context(shown_progress("Running", total)) if progress else lambda: None
            engine = self._engine(items, total, closing)
            for number, packed in self._in_order(engine) if ordered else self._as_completed(engine):
                result = pickle.loads(packed)  # noqa: S301 - from our own worker
                advance()
                yield result if ordered else (number, result)
            if (error := engine.broken or engine.unreadable) is not None:
                raise error

    def _engine(
        self, items: Iterable[Any], total: int | None, closing: ExitStack
    ) -> "BatchEngine[ProgramTask | FunctionTask, bytes]":
        carrier = self._carrier(closing)
        lost: list[BaseException] = []

        def on_lost(number: int, error: BaseException) -> None:
            self.on_lost(number, error)
            if engine.answered or (lost and lost[-1] is error):
                return
            lost.append(error)
            if len(lost) >= _MOST_LOST:
                raise BatchError(f"workers end one after the other, and nothing has been answered: {error}")

        def is_fatal(error: BaseException) -> bool:
            """Returns whether an exception is a fault of the workers, so that no chunk would have answers."""
            if isinstance(error, BatchError):
                return True
            return not engine.answered and not isinstance(error, WorkerEnded | ItemFailed)

        engine: BatchEngine[ProgramTask | FunctionTask, bytes] = BatchEngine(
            items=self.work.items(items),
            carrier=carrier,
            work=working.run_some,
            pack=self._pack,
            give_up=self._give_up,
            is_fatal=is_fatal,
            retries=self.retries,
            total=total,
            chunk=min(self.size, _MOST_CHUNK),
            most_chunk=_MOST_CHUNK,
            seconds=_SECONDS,
            weigh=lambda item: item.size,
            on_lost=on_lost,
        )
        closing.callback(lambda: engine.stop())
        return engine

    def _carrier(self, closing: ExitStack) -> Carrier:
        """Returns the carrier to the workers, and registers its end."""
        client = client_of(self.executor)
        if client is not None:
            dask = Dask(client, self.workers)
            closing.callback(dask.close, self._end_there())
            return dask
        if self.executor == "ray":
            ray = Ray(self.workers)
            closing.callback(ray.close)
            return ray
        if isinstance(self.executor, Executor):  # its workers may be threads of this process
            closing.callback(working.close_unused)
            closing.callback(working.end_batch, self.name)
            return Executors(self.executor, self.workers)
        workers = self.workers or cpu_count()
        processes = Processes(workers, prepare=working.prepare, leave=working.leave)
        closing.callback(processes.shutdown, cancel_futures=True)

        def end(*raised: object) -> None:
            if raised[0] is not None:
                processes.end()

        closing.push(end)
        return Executors(processes, workers)

    def _end_there(self) -> Callable[[], object]:
        name = self.name

        def end() -> None:  # sent by value to a worker that has begun a chunk, and so has imported this module
            from proxybox.batch.working import end_batch

            end_batch(name, wait=False)

        return end

    def _pack(self, items: Sequence[ProgramTask | FunctionTask]) -> working.Chunk:
        return __version__, self.name, self.setup, self.size, pickle.dumps(items)

    def _give_up(self, number: int, item: ProgramTask | FunctionTask, error: BaseException) -> bytes:
        tries = f"{self.retries + 1} times, and each time" if self.retries else "once, and"
        what = "ended" if isinstance(error, WorkerEnded) else "had a fault"
        why = f"it was tried {tries} its worker {what}: {error}"
        return pickle.dumps(Result(status=Status.INTERNAL_ERROR, why=why))

    def _in_order(self, engine: "BatchEngine[ProgramTask | FunctionTask, bytes]") -> Answers:
        held: dict[int, bytes] = {}
        size = due = 0
        while engine.is_unfinished:
            for number, packed in engine.step(self.window - len(held) if size < _MOST_HELD else 0):
                held[number] = packed
                size += len(packed)
            while (found := held.pop(due, None)) is not None:
                size -= len(found)
                yield due, found
                due += 1

    def _as_completed(self, engine: "BatchEngine[ProgramTask | FunctionTask, bytes]") -> Answers:
        while engine.is_unfinished:
            yield from engine.step(self.window)
