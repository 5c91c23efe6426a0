"""The operations on boxes that the tools need, wherever the boxes are."""

from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any, Protocol, TypeAlias

import attrs

from proxybox.jsonvalues import JSONObject
from proxybox.policies import Policy
from proxybox.streamevents import WorkerEvent

#: Takes the events of a program.
OnEvent: TypeAlias = Callable[[WorkerEvent], Awaitable[None]]


class McpBoxes(Protocol):
    """The boxes of one client. The methods return the result of a worker's job, and raise Refusal.

    When the task of a call is cancelled, so is the program.
    """

    @property
    def policy(self) -> Policy:
        """The policy of the client's programs."""

    async def run(self, asked: Mapping[str, Any], on_event: OnEvent | None) -> JSONObject:
        """Runs a program in a fresh box. asked: code, stdin, files, timeout."""

    async def open(self) -> str:
        """Starts a session, and returns its id."""

    async def command(self, session: str, command: str, on_event: OnEvent | None = None, **asked: Any) -> JSONObject:
        """Does a command in a session of this client: exec, list_files or read_file."""

    async def end(self, session: str) -> None:
        """Ends a session of this client."""

    def living(self) -> Collection[str]:
        """Returns the ids of this client's sessions."""


@attrs.frozen(kw_only=True)
class McpClient:
    """The client that calls a tool.

    owner: the owner of its sessions. connection: the id of its connection, which has one session; None when requests
    have no connection (protocol version 2026-07-28 over HTTP), so that the client has to name its session.
    """

    boxes: McpBoxes
    owner: str = ""
    connection: str | None = None
