"""A tool for a model: Python that runs in a box, and an answer in words.

    with PythonTool(limits={"wall_time": 5}) as python:
        python("x = 6 * 7")
        python("x")  # '42'

`AsyncPythonTool` is the same for event loops. The other modules here make tools from these for libraries of agents.
"""

import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

from proxybox import argumentchecks
from proxybox.commands import Displayed
from proxybox.modelsummary import MOST, Made, about, marked, told
from proxybox.policies import Policy, PolicyError
from proxybox.result import Files, Result
from proxybox.sandbox import Sandbox, SandboxBase

if TYPE_CHECKING:
    import anyio

    from proxybox.aio.session import AsyncSession
    from proxybox.session import Session, SessionBase

#: Identifies the state of a file: its kind of change, its size, and the hash of its content.
_State = tuple[str, int, int]
#: The name of the tool for a model, the description of its only argument `code`, and its JSON Schema.
NAME: Final = "python"
CODE: Final = "Python source text, of one or more statements"
SCHEMA: Final[Mapping[str, Any]] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": CODE}},
    "required": ["code"],
    "additionalProperties": False,
}


@attrs.frozen
class ToolResult:
    """The outcome of a call of a session. files: the session's changes so far; None when it has ended."""

    result: Result
    session: "SessionBase"
    shown: Sequence[Displayed]
    files: Files | None

    @property
    def value(self) -> str:
        """The text of the values that were shown, as the program wrote them."""
        texts = (each.data.get("text/plain") for each in self.shown)
        return "\n".join(text for text in texts if isinstance(text, str))

    @property
    def untold(self) -> tuple[str, ...]:
        """The MIME types of the shown objects without a text, as the program named them."""
        pictures = [each.data for each in self.shown if each.data and "text/plain" not in each.data]
        return tuple(dict.fromkeys(kind for data in pictures for kind in data))


class PythonToolBase:
    """The common part of `PythonTool` and `AsyncPythonTool`: texts for the model, and the files already reported."""

    def __init__(self, sandbox: SandboxBase, keep: bool, most: int, files: argumentchecks.Content | None) -> None:
        self._policy = sandbox.policy
        self._dropped = weakref.finalize(self, sandbox._end)  # for a tool that is not closed
        self._keep = argumentchecks.flag("keep", keep)
        self._most = argumentchecks.count("most", most, 1)
        self._files = argumentchecks.files(files)
        self._seen: dict[str, _State] = {}

    @property
    def policy(self) -> Policy:
        """The policy of the box."""
        return self._policy

    @property
    def description(self) -> str:
        """The description of the tool for a model."""
        told = "what it prints and the value of a last expression" if self._keep else "what it prints"
        kept = "Names and files are kept from call to call." if self._keep else "Each call begins anew."
        return f"Runs Python in a box and returns {told}. {kept} {about(self._policy)}"

    def refusal(self, code: object) -> str | None:
        """Returns the text about code that cannot be run at all; None if it can be run."""
        try:
            argumentchecks.source(code, self._policy.session.value_size, limit="session.value_size").encode()
        except (TypeError, PolicyError) as error:
            return marked([str(error)])
        except UnicodeEncodeError:
            return marked(["code: want text that can be written as UTF-8"])
        return None

    def told(self, ran: ToolResult, *, with_value: bool = True) -> str:
        """Returns the text about a call of the session. with_value: whether the value is part of it."""
        return told(
            ran.result,
            ran.session.policy,
            files=() if ran.files is None else self._news(ran.files),
            value=ran.value if with_value else "",
            untold=ran.untold,
            goes_on=ran.files is not None,
            most=self._most,
        )

    def _news(self, files: Files) -> list[Made]:
        """Returns the files that have changed since the last call of this method."""
        states = {
            change.name: (change.kind, len(change.content or b""), hash(change.content))
            for change in files.changes
            if change.type == "file"
        }
        changed = {name: state for name, state in states.items() if self._seen.get(name) != state}
        gone = [Made(name, None) for name in self._seen if name not in states]
        self._seen = states
        return [*(Made(name, None if kind == "deleted" else size) for name, (kind, size, _) in changed.items()), *gone]


class PythonTool(PythonToolBase):
    """Python for one model: a callable that takes source text and returns a text for the model.

    policy, options: as for `proxybox.Sandbox`. keep: whether names and files remain from call to call, as in a
    notebook. Then use one tool for one conversation only: later callers can read what is left in it. With False, each
    call has a box of its own. most: how many characters of the program's own texts are returned. files: names below
    /box with their content, for each session or run.

    When the session ends, because of a limit that it did not respect or a crash, the text says so, and the next call
    starts a new session. Several threads may call it: a call waits for the one before.
    """

    def __init__(
        self,
        policy: Any = None,
        *,
        keep: bool = True,
        most: int = MOST,
        files: argumentchecks.Content | None = None,
        **options: Any,
    ) -> None:
        self.sandbox = Sandbox(policy, **options)
        super().__init__(self.sandbox, keep, most, files)
        self._session: Session | None = None
        self._lock = threading.RLock()  # a function that calls the tool again gets SessionBusy, and does not wait

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the box; later calls raise SandboxClosedError."""
        self.sandbox.close()

    def __call__(self, code: str) -> str:
        """Runs the code, and returns the text for a model. Raises SandboxStartError and SandboxClosedError."""
        refusal = self.refusal(code)
        if refusal is not None:
            return refusal
        if not self._keep:
            return told(self.sandbox.run(code, files=self._files), self.policy, most=self._most)
        with self._lock:
            return self.told(self.ran(code))

    def ran(self, code: str) -> ToolResult:
        """Runs the code in the session, for callers that make their own text. One thread at a time may call it."""
        session = self.session()
        shown: list[Displayed] = []
        result = session.exec(code, echo=True, on_display=shown.append)
        return ToolResult(result, session, shown, session.files if session.alive else None)

    def session(self) -> "Session":
        """Returns the session; starts a new one if it has ended."""
        if self._session is None or not self._session.alive:
            self._session, self._seen = self.sandbox.session(files=self._files), {}
        return self._session


class AsyncPythonTool(PythonToolBase):
    """`PythonTool` for event loops (extra `async`), with the same arguments.

    Coroutine functions among `functions` need it to be entered with `async with`. The calls of one event loop wait for
    each other; cancelling a call interrupts its program.
    """

    def __init__(
        self,
        policy: Any = None,
        *,
        keep: bool = True,
        most: int = MOST,
        files: argumentchecks.Content | None = None,
        **options: Any,
    ) -> None:
        from proxybox.aio.sandbox import AsyncSandbox

        self.sandbox = AsyncSandbox(policy, **options)
        super().__init__(self.sandbox, keep, most, files)
        self._session: AsyncSession | None = None
        self._lock: anyio.Lock | None = None

    async def __aenter__(self) -> Self:
        await self.sandbox.__aenter__()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.sandbox.__aexit__(*exception)

    async def close(self) -> None:
        """As `PythonTool.close`."""
        await self.sandbox.close()

    async def __call__(self, code: str) -> str:
        """As calling a `PythonTool`."""
        import anyio
        import anyio.to_thread

        refusal = self.refusal(code)
        if refusal is not None:
            return refusal
        if not self._keep:
            return told(await self.sandbox.run(code, files=self._files), self.policy, most=self._most)
        if self._lock is None:
            self._lock = anyio.Lock()
        async with self._lock:
            session = self._session
            if session is None or not session.alive:
                self._session = session = await self.sandbox.session(files=self._files)
                self._seen = {}
            shown: list[Displayed] = []
            result = await session.exec(code, echo=True, on_display=shown.append)
            files = await anyio.to_thread.run_sync(lambda: session.files) if session.alive else None
            return self.told(ToolResult(result, session, shown, files))
