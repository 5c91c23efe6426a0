"""Sessions for event loops: `AsyncSandbox.session` returns them."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Self, TypeAlias, TypeVar, Unpack

from proxybox.aio.feed import Feed, Over, Reader, ShownReader  # isort: skip - says what to install
from proxybox.aio.errands import Errands  # isort: skip

from proxybox import argumentchecks, commands
from proxybox.commands import CallOptions, Command, Completeness, Completion, Displayed, Echo, Inspection, StreamOptions
from proxybox.controller.boxes.boxfiles import FileEntry
from proxybox.controller.warm.session import LiveSession
from proxybox.controller.world.state import World
from proxybox.policies import Policy
from proxybox.result import Result
from proxybox.session import Finished, Printed, Recording, SessionBase, Snapshot, session_result, state_of

T = TypeVar("T")
_Begun: TypeAlias = tuple[LiveSession, Any, Feed, bool]


class AsyncSession(SessionBase):
    """`Session` for an event loop: see `AsyncSandbox.session`.

    One call at a time; `interrupt` can be called from anywhere. A call is interrupted as by Ctrl-C when its task is
    cancelled or its callback raises. If the program does not end the call within the grace of its policy
    (session.grace), the session ends.
    """

    def __init__(
        self, errands: Errands, live: LiveSession, policy: Policy, timeout: float | None = None,
        taking: Recording | None = None,
    ) -> None:  # fmt: skip
        super().__init__(live, policy, timeout, taking)
        self._errands = errands
        self._feed: Feed | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # --- commands -----------------------------------------------------------------------------------------------------

    async def exec(self, code: str, *, name: str = "", echo: Echo = False, **options: Unpack[CallOptions]) -> Result:
        """As `Session.exec`. on_stdout, on_stderr and on_display may be coroutine functions."""
        return await self._ask(commands.statements(self._source(code), name, echo), **options)

    async def eval(self, code: str, **options: Unpack[CallOptions]) -> Result:
        """As `Session.eval`."""
        return await self._ask(commands.expression(self._source(code)), **options)

    async def call(self, name: str, /, *args: Any, **kwargs: Any) -> Result:
        """As `Session.call`."""
        return await self._ask(commands.call_of(name, args, kwargs))

    async def set(self, name: str, value: Any) -> None:
        """As `Session.set`."""
        await self._ask(commands.setting(name, value))

    async def get(self, name: str) -> Any:
        """As `Session.get`."""
        return await self._ask(commands.getting(name))

    async def stream(
        self, code: str, *, name: str = "", echo: Echo = False, **options: Unpack[StreamOptions]
    ) -> AsyncGenerator[Printed | Displayed | Finished]:
        """As `Session.stream`.

        While the reader does not take events, the program waits, and its wall time goes on. Closing the generator
        (`contextlib.aclosing`) interrupts the program.
        """
        begun = self._begin(commands.statements(self._source(code), name, echo), True, True, True, **options)
        try:
            while not isinstance(event := await begun[2].next(), Over):
                yield event
                begun[2].taken()
        except BaseException:
            await self._leave(begun)
            raise
        yield Finished(self._finish(begun, event))

    async def complete(self, code: str, cursor: int | None = None) -> Completion:
        """As `Session.complete`."""
        return await self._ask(commands.completion(code, cursor))

    async def inspect(self, code: str, cursor: int | None = None, detail: int = 0) -> Inspection | None:
        """As `Session.inspect`."""
        return await self._ask(commands.inspection(code, cursor, detail))

    async def is_complete(self, code: str) -> Completeness:
        """As `Session.is_complete`."""
        return await self._ask(commands.completeness(code))

    async def reset(self) -> None:
        """As `Session.reset`."""
        await self._ask(commands.resetting())

    # --- files, from outside ------------------------------------------------------------------------------------------

    async def read_file(self, path: str, limit: int | str = commands.MOST_READ) -> bytes:
        """As `Session.read_file`."""
        return await self._in_worker(commands.reading(path, limit))

    async def write_file(self, path: str, data: bytes | str, *, parents: bool = False) -> None:
        """As `Session.write_file`."""
        await self._in_worker(commands.writing(path, data, parents))

    async def list_files(self, path: str = ".") -> list[FileEntry]:
        """As `Session.list_files`."""
        return await self._in_worker(commands.listing(path))

    async def _in_worker(self, work: Callable[[World], T]) -> T:
        """Runs `work` in a worker thread, since large files take a while. Work that has begun is not interrupted."""
        return await self._errands.in_worker(lambda: self._at_rest(work), lambda _: None)

    # --- the whole ----------------------------------------------------------------------------------------------------

    async def fork(self) -> "AsyncSession":
        """As `Session.fork`."""
        return AsyncSession(self._errands, await self._copy(self._live), self._policy, self._timeout)

    async def snapshot(self) -> Snapshot:
        """As `Session.snapshot`."""
        return Snapshot(await self._copy(self._live))

    async def restore(self, snapshot: Snapshot) -> None:
        """As `Session.restore`."""
        state, old = state_of(snapshot, self._live), self._live
        with old.replaced():
            self._live = await self._errands.in_worker(lambda: state.copy(old), LiveSession.close)
        old.close()

    async def _copy(self, live: LiveSession) -> LiveSession:
        """Makes a copy in a worker thread; this takes milliseconds, in which the kernel holds the copy."""
        return await self._errands.in_worker(live.copy, LiveSession.close)

    async def close(self) -> None:
        """Ends the session and the call that runs; its copies go on."""
        self._live.close()
        if self._feed is not None:
            await self._feed.ended()
        if self._taking is not None and self._live.is_closed and not self._taking.wait(0):
            await self._errands.in_worker(self._taking.wait, bool)

    # --- one call -----------------------------------------------------------------------------------------------------

    async def _ask(self, command: Command[T], **options: Unpack[CallOptions]) -> T:
        try:
            result: Result | None = await self._call(command, **options)
        except ValueError:
            if not command.is_look:
                raise
            result = None
        return command.answer(result)

    async def _call(
        self,
        command: Command[Any],
        *,
        timeout: float | str | None = None,
        stdin: Any = None,
        check: bool = False,
        on_stdout: Reader = None,
        on_stderr: Reader = None,
        on_display: ShownReader = None,
    ) -> Result:
        for parameter, function in (("on_stdout", on_stdout), ("on_stderr", on_stderr), ("on_display", on_display)):
            argumentchecks.function(parameter, function)
        begun = self._begin(
            command, on_stdout is not None, on_stderr is not None, on_display is not None,
            timeout=timeout, stdin=stdin, check=check,
        )  # fmt: skip
        try:
            over = await begun[2].read(on_stdout, on_stderr, on_display)
        except BaseException:
            await self._leave(begun)
            raise
        return self._finish(begun, over)

    def _begin(
        self, command: Command[Any], stdout: bool, stderr: bool, shown: bool, *,
        timeout: float | str | None = None, stdin: Any = None, check: bool = False,
    ) -> _Begun:  # fmt: skip
        live, feed = self._live, Feed(self._errands.functions)
        begun = live.begin(
            command.words,
            **self._arguments(
                command, timeout, stdin,
                feed.tell("stdout") if stdout else None, feed.tell("stderr") if stderr else None,
            ),
            on_shown=feed.show if shown else None,
            blocking=False,
        )  # fmt: skip
        try:
            self._errands.serve(feed, live.driver, live.is_idle)
        except BaseException:
            live.abandon()
            raise
        self._feed = feed
        return live, begun, feed, check

    async def _leave(self, begun: _Begun) -> None:
        live, at, feed, _ = begun

        def end(over: Over) -> None:
            if over.error is None:
                live.end(at, over.outcome)
            else:
                live.abandon()

        feed.leave(live.stop, end)
        await feed.ended()

    def _finish(self, begun: _Begun, over: Over) -> Result:
        live, at, _, check = begun
        if over.error is not None:
            live.abandon()
        result = session_result(live.end(at, over.get()), self._policy, live.layers)
        return result.check() if check else result
