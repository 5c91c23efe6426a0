"""A world on file systems in memory, and calls made to it as dispatch makes them."""

from collections.abc import Callable
from typing import Any

import pytest

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.dispatch import takes_thread
from proxybox.controller.effects import AnotherTurn, Blocked
from proxybox.controller.vfs.descriptors import DescriptorTable
from proxybox.controller.vfs.memory import from_tree
from proxybox.controller.vfs.nodes import Credentials, Superblock
from proxybox.controller.vfs.quota import Quota
from proxybox.controller.vfs.tree import Tree
from proxybox.controller.world.clock import Clock
from proxybox.controller.world.state import World
from proxybox.policies import Policy

FILES = {
    "data": {"hello": "hello, world\n", "empty": "", "sub": {"deep": "x" * 10_000}},
    "tmp": {},
}


class HostTime:
    """A host clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.ns = 5_000_000_000_000

    def __call__(self) -> int:
        return self.ns


class Box:
    """A world with its host clock, and calls whose failures are negative numbers, as for a guest."""

    def __init__(self, policy: Policy) -> None:
        self.host = HostTime()
        clock = Clock(policy.time, self.host, lambda: 1_800_000_000 * 10**9 + self.host.ns)
        quota = Quota(bytes=policy.limits.disk, inodes=policy.limits.files)
        superblock = Superblock(now=clock.wall_ns, quota=quota)
        tree = Tree(from_tree(FILES, superblock))
        self.world = World(
            policy,
            tree,
            DescriptorTable(policy.limits.open_files),
            tree.root,
            Credentials(),
            clock,
            quota,
        )

    def call(self, handler: Callable[..., Any], *arguments: Any) -> Any:
        """Makes a call, with all its turns at once. Returns the reply: an int, (int, writes...), or Blocked."""
        while True:
            try:
                caller = (self.world.thread,) if takes_thread(handler) else ()
                return handler(self.world, *caller, *arguments)
            except AnotherTurn:
                continue
            except OSError as error:
                return -error.errno

    def value(self, handler: Callable[..., Any], *arguments: Any) -> int:
        """Makes a call that must not wait, and returns the number that the guest would see."""
        reply = self.call(handler, *arguments)
        assert not isinstance(reply, Blocked)
        return reply[0] if isinstance(reply, tuple) else reply

    def written(self, handler: Callable[..., Any], *arguments: Any) -> bytes:
        """Makes a successful call, and returns the first data that it stores."""
        reply = self.call(handler, *arguments)
        assert isinstance(reply, tuple), reply
        return reply[1][1]

    def wait_out(self, reply: Any) -> Any:
        """The reply after a wait of which only the timeout happens."""
        assert isinstance(reply, Blocked)
        assert reply.attempt() is None
        assert reply.deadline_ns is not None
        self.host.ns = max(self.host.ns, reply.deadline_ns)
        return reply.on_timeout()


@pytest.fixture
def make_box() -> Callable[..., Box]:
    return lambda **fields: Box(Policy(**fields))


@pytest.fixture
def box(make_box: Callable[..., Box]) -> Box:
    return make_box()
