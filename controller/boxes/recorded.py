"""Boxes whose runs are recorded: a box that writes START when its guest is sealed, and END when it has ended."""

import contextlib
import datetime
import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from signal import SIGKILL
from typing import Any, BinaryIO, Final

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller import hostproc
from proxybox.controller.boxes.box import BoxResult, BoxRunner, LiveBox
from proxybox.controller.boxes.runsasdata import run_as_data
from proxybox.controller.boxes.worldbuilding import WorldBuilder
from proxybox.controller.dispatch import Dispatcher, is_unobserved
from proxybox.controller.drivers.blocking import BlockingDriver, Outcome
from proxybox.controller.errors import SandboxStartError
from proxybox.controller.guests.builds import builds_of
from proxybox.controller.process.activity import Patience, all_wait
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.launch import LaunchSpec
from proxybox.controller.record import calls, events
from proxybox.controller.record.exactness import ADDRESSES, Inexact
from proxybox.controller.record.format import MAJOR
from proxybox.controller.record.recorder import Recorder
from proxybox.controller.record.recording import RecordingDispatcher
from proxybox.controller.record.redacting import HOST, Redacted
from proxybox.controller.seal.layers import SAME_ADDRESSES
from proxybox.controller.status import Status
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Mount, Policy
from proxybox.policies.dumping import to_dict

#: The default limit of a record, in bytes.
LIMIT: Final = 1 << 30
#: The fields of a LaunchSpec that a record has, each with its least value, and the first value that is too large.
LAUNCH: Final[Mapping[str, tuple[int, int]]] = {
    "pid": (1, 1 << 22), "uid": (0, 1 << 32), "gid": (0, 1 << 32), "memory": (0, 1 << 48), "nursery": (0, 1 << 40),
    "threads": (1, 257), "recorded": (0, 2), "serial": (0, 2),
}  # fmt: skip


@attrs.frozen(kw_only=True, eq=False)
class RecordedRunner(BoxRunner):
    """A box whose one run is recorded.

    open_record: returns the file to write; called when the guest is sealed. limit: its most bytes. discard: removes a
    record that would exceed the limit, so that the run continues without one; the packing of the record is not charged
    to the run then. None: such a run is ended, and packing is charged. is_session: whether the guest takes commands
    until its caller closes it. redact: names of the data that the record leaves out (redacting.py). queued: returns how
    many seconds the run waited for its turn. concluded: set when the file is closed.
    """

    open_record: Callable[[], BinaryIO]
    limit: int = LIMIT
    discard: Callable[[], object] | None = None
    is_session: bool = False
    redact: tuple[str, ...] = ()
    queued: Callable[[], float] = float
    concluded: threading.Event = attrs.field(init=False, factory=threading.Event)
    _recorder: list[Recorder] = attrs.field(init=False, factory=list)
    _launched: list[LaunchSpec] = attrs.field(init=False, factory=list)

    @property
    def is_observed(self) -> bool:
        """Always true: a record begins with the guest's start."""
        return True

    @property
    def chain(self) -> bytes:
        """The hash of the whole record (format.py)."""
        return self._recorder[0].chain if self._recorder else b""

    @property
    def fault(self) -> str | None:
        """Why the record is not complete; None if it is complete."""
        return self._recorder[0].fault if self._recorder else "the box was not started"

    @property
    def inexact(self) -> Inexact | None:
        """Where exact replay of the record ends; None if all of it can be replayed exactly."""
        return self._recorder[0].inexact if self._recorder else None

    def spec(self, words: Sequence[str], builder: WorldBuilder) -> LaunchSpec:
        """Returns the LaunchSpec of the guest: with fixed addresses, and without clocks that it can read by itself."""
        if self.guest.marshals:
            raise SandboxStartError(f"{self.guest.executable} marshals its own calls, and cannot be recorded")
        usual = super().spec(words, builder)
        made = attrs.evolve(
            usual, same_addresses=True, real_time=False, recorded=usual.real_time and usual.host_clocks, serial=True,
            asks_for_room=False,  # used memory differs from run to run, and so would refusals
        )  # fmt: skip
        self._launched.append(made)
        return made

    def _sinks(self, streams: StandardStreams) -> tuple[OutputSink, OutputSink]:
        """As `BoxRunner._sinks`. Both store the output, which is also in the record."""
        sinks = super()._sinks(streams)
        if self.policy.output.limit is not None:  # without a limit, it could exceed the memory
            for sink in sinks:
                sink.keep_all()
        return sinks

    def start(self, words: Sequence[str], builder: WorldBuilder, started: int, **changes: Any) -> LiveBox:
        """As `BoxRunner.start`. A recorded guest cannot be copied."""
        return super().start(words, builder, started, **{**changes, "forks": False})

    def serve(self, process: GuestProcess, builder: WorldBuilder, started: int, undo: contextlib.ExitStack) -> LiveBox:
        """As `BoxRunner.serve`; at the end, the record is concluded."""
        live = super().serve(process, builder, started, undo)
        live.on_report = self._conclude
        live.undo.callback(self._close, live)
        return live

    def _close(self, live: LiveBox) -> None:
        """Ends the record of a closed session, and closes the file."""
        try:
            if self.is_session and live.on_report is not None and self._recorder[0].fault is None:
                live.report(live.outcome or Outcome(None, SIGKILL, Status.CANCELLED, "the session was closed"))
            self._recorder[0].stop()
        finally:
            self.concluded.set()

    def served_by(self, process: GuestProcess, builder: WorldBuilder) -> tuple[Dispatcher, BlockingDriver]:
        """As `BoxRunner.served_by`, with a recorder."""
        world = builder.world
        redacted = Redacted.of(self.redact, world, builder.environment()) if self.redact else None
        with contextlib.ExitStack() as undo:
            try:
                file = undo.enter_context(self.open_record())
                recorder = Recorder(file, self.limit, self.discard)
                self._recorder.append(recorder)
                recorder.begin(self._start(process, builder))
            except OSError as error:
                raise SandboxStartError(f"the record cannot be written: {error.strerror}") from error
            undo.pop_all()
        dispatcher = RecordingDispatcher(recorder, redacted, world, self.interceptors, self.audit)
        dispatcher.count_threads = functools.partial(threads_of, process)
        dispatcher.patience = Patience(process.watch.cpu_time_ns, functools.partial(all_wait, process.pid))
        if not process.layers[SAME_ADDRESSES].available:
            recorder.note("inexact", ADDRESSES)
        driver = BlockingDriver(process, world, dispatcher)
        if self.discard is None:
            recorder.meter = driver.meter
        return dispatcher, driver

    def _start(self, process: GuestProcess, builder: WorldBuilder) -> dict[str, Any]:
        from proxybox import __version__

        spec = self._launched[-1]
        guest = self.guest
        return {
            "proxybox": __version__,
            "format": MAJOR,
            "recorded": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "guest": {
                "name": guest.name, "executable": guest.visible(guest.executable), "builds": builds_of(guest),
                "packages": len(guest.packages),
            },
            "policy": _policy_as_data(self.policy, self.redact),
            "argv": list(spec.argv),
            "environment": {name: "" if name in self.redact else value for name, value in spec.env.items()},
            "redacted": list(self.redact),
            "launch": {name: getattr(spec, name) for name in LAUNCH},
            "session": self.is_session,
            "keeps_output": self.policy.output.limit is not None,
            "unobserved": is_unobserved(self.interceptors, self.audit),
            "intercepted": bool(self.interceptors),
            "addresses": process.layers[SAME_ADDRESSES].text,
            "calls": _table(),
        }  # fmt: skip

    def _conclude(self, live: LiveBox, run: BoxResult) -> BoxResult:
        live.on_report = None
        run = attrs.evolve(run, usage=attrs.evolve(run.usage, queue=self.queued()))
        recorder, outcome = self._recorder[0], run.outcome
        status = "" if outcome.status is None else str(outcome.status)
        recorder.note("ended", events.EndEvent(status, outcome.why, outcome.exit_code, outcome.signal))
        recorder.close(*run_as_data(run))
        return run


def threads_of(process: GuestProcess) -> int:
    """Returns how many threads of a guest have not ended."""
    try:
        return hostproc.running_threads(process.pid)
    except (OSError, ValueError):
        return 0


@functools.cache
def _table() -> list[Any]:
    return calls.table()


def _policy_as_data(policy: Policy, redact: tuple[str, ...]) -> dict[str, Any]:
    """Returns the policy as JSON has it, without values of redacted variables.

    Contents that were given as data are left out: the record has the parts that were read. With HOST redacted, a
    mount's path on the host is replaced by its path in the box.
    """
    variables = {name: "" if name in redact else value for name, value in policy.environment.variables.items()}
    policy = attrs.evolve(policy, environment=attrs.evolve(policy.environment, variables=variables))

    def without(mount: Mount) -> Mount:
        source = mount.source
        if isinstance(source, str):
            return attrs.evolve(mount, source=mount.target) if HOST in redact else mount
        return mount if source is None else attrs.evolve(mount, source={} if isinstance(source, Mapping) else b"")

    mounts = tuple(map(without, policy.filesystem.mounts))
    return to_dict(attrs.evolve(policy, filesystem=attrs.evolve(policy.filesystem, mounts=mounts)))
