"""Boxes whose guest runs the bootstrap: it is copied from a zygote, or started with the bootstrap where there is none.

Such a guest requests a task from its caller (port.py): to run one program, as the interpreter would run it, or to
become a session.
"""

import contextlib
import marshal
import time
from collections.abc import Sequence
from typing import Any

import attrs

from proxybox.controller.boxes.box import BoxRunner, LiveBox
from proxybox.controller.boxes.worldbuilding import WorldBuilder
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.exchange.hostfunctions import HostFunctions
from proxybox.controller.exchange.port import Port
from proxybox.controller.guests.guest import require_bootstrap
from proxybox.controller.warm.bootstrapping import bootstrap_words, mount_bootstrap
from proxybox.controller.warm.copyable import CopyableCheck
from proxybox.controller.warm.zygote import Zygote
from proxybox.controller.world.output import Transcript

#: Tasks and commands are sent to the guest as marshal of this version, which every PyPy reads. Messages of a guest are
#: never read as marshal.
MARSHAL = 2


@attrs.frozen(kw_only=True)
class WarmStart:
    """Starts the guests of one sandbox.

    zygote: the guest to copy; with None each guest is started by itself. Raises SandboxStartError for a guest that does
    not support the bootstrap.
    """

    box: BoxRunner
    zygote: Zygote | None = None
    functions: HostFunctions | None = None

    def __attrs_post_init__(self) -> None:
        require_bootstrap(self.box.guest)

    def program(self, words: Sequence[str], builder: WorldBuilder, started: int) -> LiveBox:
        """A `box.Start`: returns a guest that is about to run a program."""
        live = self.idle(builder, started)
        self.post(live, "run", words)
        return live

    def session(self, builder: WorldBuilder, started: int) -> LiveBox:
        """Returns a guest that has become a session."""
        live = self.idle(builder, started, forks=self.box.policy.session.branches > 0, cpu_seconds=self.session_cpu())
        self.lead(live)
        return live

    def rehearse(self, live: LiveBox) -> None:
        """Makes an idle guest run a trivial program once, so that everything is prepared for the real program.

        The program prints, unless the policy may have changed how printing works: by a variable such as
        PYTHONIOENCODING or a module that replaces sys.stdout. The output of the rehearsal is not counted.

        Raises SandboxStartError, with the guest closed.
        """
        policy = self.box.policy
        for stream in (live.world.stdout, live.world.stderr):
            stream.begin(None, Transcript())
        self.post(live, "rehearse quietly" if policy.preload or policy.environment.variables else "rehearse")
        _serve_until_idle(live)

    def lead(self, live: LiveBox) -> None:
        """Turns an idle guest into a session.

        Raises SandboxStartError, with the guest closed.
        """
        self.post(live, "session")
        _serve_until_idle(live)

    def session_cpu(self) -> int:
        """The kernel's hard limit for a session, in seconds of CPU time; limits.cpu_time is the limit of each call."""
        seconds = self.box.policy.session.cpu_time
        return 0 if seconds is None else int(seconds) + 2

    def idle(self, builder: WorldBuilder, started: int, **changes: Any) -> LiveBox:
        """Returns a guest that waits for its task.

        changes: fields of its LaunchSpec. The caller closes the guest. Raises SandboxStartError.
        """
        port = Port(self.box.policy.session.value_size, self.functions)
        try:
            live = None if self.zygote is None else self.zygote.fork(self.box, builder, started, port, **changes)
        except SandboxStartError:  # the zygote has died; its pool starts another one for the next box
            live = None
        copyable = None
        if live is None:
            copyable = CopyableCheck(builder.world)
            port.imported = copyable.imported
            live = self._start(builder, started, port, **changes)
        _serve_until_idle(live)
        port.imported = None  # a program's own messages of this kind are ignored
        if copyable is not None and changes.get("forks"):
            copyable.tell()
        live.process.watch.deadline_ns = None  # that was the limit of its start
        live.ready_ns = time.monotonic_ns()
        return live

    def _start(self, builder: WorldBuilder, started: int, port: Port, **changes: Any) -> LiveBox:
        builder.world.port = port
        mount_bootstrap(builder.world)
        return self.box.start(bootstrap_words("now", self.box.policy), builder, started, **changes)

    def post(self, live: LiveBox, what: str, words: Sequence[str] = ()) -> None:
        """Sends its task to an idle guest.

        A program that the caller has given as data is sent with the task.
        """
        main_source, folder = live.builder.program_at(words[0]) if words else (None, None)
        names = () if self.functions is None else self.functions.names
        task = what, names, self.box.policy.session.value_size, tuple(words), main_source, folder
        post(live, marshal.dumps(task, MARSHAL))


def _serve_until_idle(live: LiveBox) -> None:
    with contextlib.ExitStack() as undo:
        undo.callback(live.close)
        outcome = live.driver.serve(lambda: live.world.port is None or live.world.port.is_idle())
        if outcome is not None:
            said = live.world.stderr.getvalue().decode("utf-8", "backslashreplace").strip()
            limit = outcome.why if outcome.why.startswith("limits.") else ""
            why = f"the box was at {limit} before it could run any code" if limit else said or outcome
            raise SandboxStartError(f"a warm guest could not be started: {why}", limit=limit)
        undo.pop_all()


def post(live: LiveBox, command: bytes) -> None:
    """Posts the next command for an idle guest. The guest gets it when it is served."""
    port = live.world.port
    if port is None:
        raise ValueError("this guest takes no commands")
    port.post(command)
