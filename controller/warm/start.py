"""Boxes whose guest is led by the bootstrap: copied from a zygote, or started with it where there is none.

Such a guest asks its caller what to do (port.py). It is told one program, which it runs as the interpreter would,
or becomes a session.
"""

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import attrs

from proxybox.controller.boxes.box import BoxSpec, LiveBox
from proxybox.controller.boxes.worldbuilding import WorldBuilder
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.exchange import values
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.exchange.port import Port
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.warm.bootstrapping import bootstrap_words, mount_bootstrap
from proxybox.controller.warm.zygote import Zygote

#: Bytes of a task: a program that the caller gives may have 64 MiB, its arguments 1.5, and names of functions go along.
_LARGEST = 68 << 20


@attrs.frozen(kw_only=True)
class WarmStart:
    """How guests of one sandbox come to be. zygote: None starts each by itself. Raises SandboxStartError for a guest
    that knows no bootstrap."""

    box: BoxSpec
    zygote: Zygote | None = None
    functions: HostFunctions | None = None

    def __attrs_post_init__(self) -> None:
        require_bootstrap(self.box.guest)

    def program(self, words: Sequence[str], builder: WorldBuilder, started: int) -> LiveBox:
        """A `box.Start`: a guest that is about to run a program."""
        live = self.idle(builder, started)
        self.post(live, "run", words)
        return live

    def session(self, builder: WorldBuilder, started: int) -> LiveBox:
        """A guest that leads a session."""
        live = self.idle(builder, started, forks=self.box.policy.session.branches > 0, cpu_seconds=self.session_cpu())
        self.lead(live)
        return live

    def rehearse(self, live: LiveBox) -> None:
        """Lets an idle guest go the way of a program once: the real one finds all on it in its place. Raises
        SandboxStartError, with the guest closed."""
        self.post(live, "rehearse")
        _serve_until_idle(live)

    def lead(self, live: LiveBox) -> None:
        """Makes a session of an idle guest. Raises SandboxStartError, with the guest closed."""
        self.post(live, "session")
        _serve_until_idle(live)

    def session_cpu(self) -> int:
        """The kernel's hard end of a session, in seconds of CPU time: limits.cpu_time is that of each call."""
        seconds = self.box.policy.session.cpu_time
        return 0 if seconds is None else int(seconds) + 2

    def idle(self, builder: WorldBuilder, started: int, **changes: Any) -> LiveBox:
        """A guest that asks what to do. changes: of its LaunchSpec. The caller closes it. Raises SandboxStartError."""
        port = Port(self.box.policy.session.value_size, self.functions)
        try:
            live = None if self.zygote is None else self.zygote.fork(self.box, builder, started, port, **changes)
        except SandboxStartError:  # it has died; who keeps it makes another for the next
            live = None
        if live is None:
            live = self._start(builder, started, port, **changes)
        _serve_until_idle(live)
        live.process.watch.deadline_ns = None  # that was for its start
        live.ready_ns = time.monotonic_ns()
        return live

    def _start(self, builder: WorldBuilder, started: int, port: Port, **changes: Any) -> LiveBox:
        builder.world.port = port
        mount_bootstrap(builder.world)
        return self.box.start(bootstrap_words("now", self.box.policy.preload), builder, started, **changes)

    def post(self, live: LiveBox, what: str, words: Sequence[str] = ()) -> None:
        """Tells an idle guest what it is to be. A program that the caller has given goes with the word."""
        given = live.builder.given(words[0]) if words else None
        names = () if self.functions is None else self.functions.names
        task = what, names, self.box.policy.session.value_size, tuple(words), given
        post(live, values.encode(task, _LARGEST))


def _serve_until_idle(live: LiveBox) -> None:
    with contextlib.ExitStack() as undo:
        undo.callback(live.close)
        outcome = live.driver.serve(lambda: live.world.port is None or live.world.port.is_idle())
        if outcome is not None:
            said = live.world.stderr.getvalue().decode("utf-8", "backslashreplace").strip()
            raise SandboxStartError(f"a warm guest could not be started: {said or outcome}")
        undo.pop_all()


def post(live: LiveBox, command: bytes) -> None:
    """Gives a guest that is idle its next command, which it gets when it is served."""
    port = live.world.port
    if port is None:
        raise ValueError("this guest takes no commands")
    port.post(command)
