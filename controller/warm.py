"""Boxes whose guest is led by the bootstrap: copied from a zygote, or started with it where there is none.

Such a guest asks its caller what to do (port.py). It is told one program, which it runs as the interpreter would,
or becomes a session.
"""

import contextlib
import time
from collections.abc import Callable, Sequence

import attrs

from proxybox.controller import values
from proxybox.controller.bootstrapping import bootstrap_words, mount_bootstrap
from proxybox.controller.box import Box, LiveBox, Run
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.hostfunctions import HostFunctions
from proxybox.controller.output import OutputSink, Transcript
from proxybox.controller.port import Port
from proxybox.controller.stdin import Source, Stdin
from proxybox.controller.undisturbed import Closing, Undisturbed
from proxybox.controller.worldbuilding import BoxFolder, WorldBuilder
from proxybox.controller.zygote import Zygote


@attrs.frozen(kw_only=True)
class WarmStart:
    """How guests of one sandbox come to be. zygote: None starts each by itself."""

    box: Box
    zygote: Zygote | None = None
    functions: HostFunctions | None = None

    def program(self, words: Sequence[str], builder: WorldBuilder, started: int) -> LiveBox:
        """A `box.Start`: a guest that is about to run a program."""
        live = self.idle(builder, started)
        self._post(live, "run", tuple(words))
        return live

    def session(self, builder: WorldBuilder, started: int) -> LiveBox:
        """A guest that is about to become a session."""
        live = self.idle(builder, started, forks=self.box.policy.session.branches > 0)
        self._post(live, "session", ())
        return live

    def idle(self, builder: WorldBuilder, started: int, *, forks: bool = False) -> LiveBox:
        """A guest that asks what to do. forks: it may be copied. The caller closes it. Raises SandboxStartError."""
        port = Port(self.box.policy.session.value_size, self.functions)
        if self.zygote is not None:
            live = self.zygote.fork(self.box, builder, started, port, forks=forks)
        else:
            live = self._start(builder, started, port, forks)
        with contextlib.ExitStack() as undo:
            undo.callback(live.close)
            outcome = live.driver.serve(port.is_idle)
            if outcome is not None:
                said = builder.world.stderr.getvalue().decode("utf-8", "backslashreplace").strip()
                raise SandboxStartError(f"a warm guest could not be started: {said or outcome}")
            undo.pop_all()
        live.ready_ns = time.monotonic_ns()
        return live

    def _start(self, builder: WorldBuilder, started: int, port: Port, forks: bool) -> LiveBox:
        builder.world.port = port
        mount_bootstrap(builder.world)
        return self.box.start(bootstrap_words("now", self.box.policy.preload), builder, started, forks=forks)

    def _post(self, live: LiveBox, what: str, words: tuple[str, ...]) -> None:
        names = () if self.functions is None else self.functions.names
        post(live, values.encode((what, names, self.box.policy.session.value_size, words), 1 << 26))


def post(live: LiveBox, command: bytes) -> None:
    """Gives a guest that is idle, or about to be, its next command."""
    port = live.world.port
    if port is None:
        raise ValueError("this guest takes no commands")
    port.post(command)
    live.driver.resume()


class ReadyBox:
    """A warm guest in a world without a program yet, for whoever comes next."""

    def __init__(self, start: WarmStart) -> None:
        """Raises SandboxStartError."""
        self._start = start
        policy = start.box.policy
        self._builder = WorldBuilder(policy, start.box.guest, BoxFolder())
        stdout = OutputSink("stdout", policy.output)
        self._builder.build(Stdin(), stdout, OutputSink("stderr", policy.output, stdout.transcript), with_box=False)
        try:
            with Undisturbed():
                self._live = start.idle(self._builder, time.monotonic_ns())
        except BaseException:
            self._builder.close()
            raise
        self.made = time.monotonic()

    def is_alive(self) -> bool:
        """Whether its guest still lives."""
        return self._live.process.watch.is_running()

    def run(
        self,
        words: Sequence[str],
        box: Box,
        *,
        folder: BoxFolder | None = None,
        stdin: Source | None = None,
        on_stdout: Callable[[bytes], object] | None = None,
        on_stderr: Callable[[bytes], object] | None = None,
    ) -> Run:
        """As `Box.run`, and then it is gone. box: whose policy may have other limits of time and calls."""
        with Closing(self.close):
            self._live.started_ns = time.monotonic_ns()
            self._builder.enter(folder or BoxFolder())
            world, output, transcript = self._live.world, box.policy.output, Transcript()
            world.stdin.feed(stdin)
            world.stdout.begin(output, transcript, on_stdout)
            world.stderr.begin(output, transcript, on_stderr)
            self._start._post(self._live, "run", tuple(words))
            self._live.policy = box.policy
            return box.finish(self._live)

    def close(self) -> None:
        """Ends it."""
        self._builder.close()
        self._live.close()
