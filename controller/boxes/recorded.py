"""Boxes whose runs are recorded, and boxes that are answered from a record.

RecordedRunner  a BoxRunner that writes START when its guest is sealed, and END when it has ended
ReplayedRunner  a BoxRunner that starts the same guest in a world with nothing but its library, and answers by events
"""

import contextlib
import datetime
import functools
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import chain
from signal import SIGKILL
from typing import Any, BinaryIO, Final, TypeGuard

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller import hostproc
from proxybox.controller.audit import Denial
from proxybox.controller.boxes.box import BoxResult, BoxRunner, LiveBox, Usage
from proxybox.controller.boxes.worldbuilding import Changed, WorldBuilder
from proxybox.controller.dispatch import Dispatcher, is_unobserved
from proxybox.controller.drivers.blocking import BlockingDriver, Outcome
from proxybox.controller.errors import RecordError, SandboxStartError
from proxybox.controller.guests.builds import builds_of
from proxybox.controller.guests.guest import Guest
from proxybox.controller.pidfd import has_ended
from proxybox.controller.process.activity import Patience, all_wait
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.launch import LaunchSpec
from proxybox.controller.record import calls, events
from proxybox.controller.record.exactness import ADDRESSES, Inexact, read_inexact
from proxybox.controller.record.format import MAJOR, FrameKind, frames
from proxybox.controller.record.parting import Divergence, RequestText
from proxybox.controller.record.recorder import Recorder
from proxybox.controller.record.recording import RecordingDispatcher
from proxybox.controller.record.redacting import HOST, Redacted
from proxybox.controller.record.replaydriver import ReplayDriver
from proxybox.controller.record.replayer import Replayer
from proxybox.controller.record.watching import watch
from proxybox.controller.seal.layers import SAME_ADDRESSES
from proxybox.controller.status import Status
from proxybox.controller.vfs.overlay.changes import Change
from proxybox.controller.wire.channel import Channel
from proxybox.controller.world.output import Interleaved, OutputSink
from proxybox.controller.world.streams import StandardStreams
from proxybox.policies import Mount, Policy, PolicyError
from proxybox.policies.checks import to_variables
from proxybox.policies.dumping import to_dict
from proxybox.policies.loading import from_dict

#: Bytes that a record may have where nothing else is said.
LIMIT: Final = 1 << 30
#: What of a LaunchSpec a record tells, with the least number, and the first one that is too large.
_LAUNCH: Final[Mapping[str, tuple[int, int]]] = {
    "pid": (1, 1 << 22), "uid": (0, 1 << 32), "gid": (0, 1 << 32), "memory": (0, 1 << 48), "nursery": (0, 1 << 40),
    "threads": (1, 257), "recorded": (0, 2), "serial": (0, 2),
}  # fmt: skip
#: What it was where a record of an earlier version does not tell.
_UNTOLD: Final = {"serial": 0}
#: The most bytes of all contents that END names, and of one text of START.
_MOST_CONTENT, _MOST_TEXT = 512 << 20, 1 << 20
#: The most bytes of the list of changed files, and values in it: each takes a hundred bytes when it is read.
_MOST_LIST, _MOST_VALUES = 128 << 20, 2 << 20
#: Bytes of each stream that a replay keeps.
_MOST_OUTPUT: Final = 64 << 20
#: The most signatures of a record, and bytes of one.
_MOST_SIGNATURES, _LONGEST_SIGNATURE = 64, 64 << 10


# --- recording --------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True, eq=False)
class RecordedRunner(BoxRunner):
    """A box whose one run is recorded.

    open_record: returns the file to write, when the guest is sealed. limit: bytes that it may have. discard: removes a
    record that would need more, without which the run goes on; it pays for no packing then. None where such a run is
    ended. is_session: whether the guest takes commands until its caller closes it. redact: names of what the record
    leaves out (redacting.py). queued: returns for how many seconds the run has waited for its turn. concluded: set when
    the file is closed.
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
        """Always: a record begins with the guest's start."""
        return True

    @property
    def chain(self) -> bytes:
        """The chain of the whole record."""
        return self._recorder[0].chain if self._recorder else b""

    @property
    def fault(self) -> str | None:
        """Why the record is not complete; None where it is."""
        return self._recorder[0].fault if self._recorder else "the box was not started"

    @property
    def inexact(self) -> Inexact | None:
        """From where on the record cannot be replayed exactly; None where it can."""
        return self._recorder[0].inexact if self._recorder else None

    def spec(self, words: Sequence[str], builder: WorldBuilder) -> LaunchSpec:
        """Returns how the guest is started: at the same addresses, and without clocks that it can read by itself."""
        if self.guest.marshals:
            raise SandboxStartError(f"{self.guest.executable} marshals its own calls, and cannot be recorded")
        usual = super().spec(words, builder)
        made = attrs.evolve(
            usual, same_addresses=True, real_time=False, recorded=usual.real_time and usual.host_clocks, serial=True,
            asks_for_room=False,  # what is used differs from run to run, and so would what is refused
        )  # fmt: skip
        self._launched.append(made)
        return made

    def _sinks(self, streams: StandardStreams) -> tuple[OutputSink, OutputSink]:
        """As `BoxRunner._sinks`. Both keep what is printed, which the record tells, too."""
        sinks = super()._sinks(streams)
        if self.policy.output.limit is not None:  # else it could be more than there is memory
            for sink in sinks:
                sink.keep_all()
        return sinks

    def start(self, words: Sequence[str], builder: WorldBuilder, started: int, **changes: Any) -> LiveBox:
        """As `BoxRunner.start`. Nothing that is recorded is copied."""
        return super().start(words, builder, started, **{**changes, "forks": False})

    def serve(self, process: GuestProcess, builder: WorldBuilder, started: int, undo: contextlib.ExitStack) -> LiveBox:
        """As `BoxRunner.serve`, with what comes at the end of a record."""
        live = super().serve(process, builder, started, undo)
        live.on_report = self._conclude
        live.undo.callback(self._close, live)
        return live

    def _close(self, live: LiveBox) -> None:
        """Ends the record of a session that is closed, and closes the file."""
        try:
            if self.is_session and live.on_report is not None and self._recorder[0].fault is None:
                live.report(live.outcome or Outcome(None, SIGKILL, Status.CANCELLED, "the session was closed"))
            self._recorder[0].stop()
        finally:
            self.concluded.set()

    def served_by(self, process: GuestProcess, builder: WorldBuilder) -> tuple[Dispatcher, BlockingDriver]:
        """As `BoxRunner.served_by`, with a record."""
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
        dispatcher.count_threads = functools.partial(_threads_of, process)
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
            "launch": {name: getattr(spec, name) for name in _LAUNCH},
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


def _threads_of(process: GuestProcess) -> int:
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

    Contents that it was given as data are left out: what was read of them is recorded. With HOST redacted, a mount's
    path in the box stands in the place of that on the host.
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


# --- a Run as data ----------------------------------------------------------------------------------------------------


def run_as_data(run: BoxResult) -> tuple[dict[str, Any], list[bytes]]:
    """Returns a Run as JSON has it, and the contents that it names, in order."""
    contents: list[bytes] = []

    def number(data: bytes | None) -> int | None:
        if data is None:
            return None
        contents.append(data)
        return len(contents) - 1

    end = {
        "outcome": {**attrs.asdict(run.outcome), "status": run.outcome.status and str(run.outcome.status)},
        "stdout": number(run.stdout),
        "stderr": number(run.stderr),
        "turns": list(run.output.ends),
        "printed": [number(run.output.stdout), number(run.output.stderr)],
        "truncated": run.truncated,
        "exceeded": sorted(run.exceeded),
        "out_of_memory": run.out_of_memory,
        "denials": [[*attrs.astuple(denial), count] for denial, count in run.denials.items()],
        "unknown": [list(each) for each in run.unknown.items()],
        "layers": dict(run.layers),
        "usage": attrs.asdict(run.usage),
        "changes": number(json.dumps([
            [
                {
                    "name": change.name.encode("utf-8", "surrogateescape").hex(), "path": change.path.hex(),
                    "kind": change.kind, "type": change.type, "mode": change.mode, "content": number(change.content),
                    "target": number(change.target), "old": number(change.old),
                }
                for change in overlay.changes
            ]
            for overlay in run.changes
        ]).encode()),
        "left_out": [overlay.left_out for overlay in run.changes],
    }  # fmt: skip
    end["sizes"] = [len(content) for content in contents]
    return end, contents


def run_of_data(end: Any, pieces: Iterator[bytes]) -> BoxResult:
    """Returns the Run that END tells. Raises RecordError for what `run_as_data` does not make."""
    try:
        sizes = [int(size) for size in end["sizes"]]
        if min(sizes, default=0) < 0 or sum(sizes) > _MOST_CONTENT:
            raise ValueError("contents of an impossible size")
        joined = b"".join(pieces)
        if len(joined) != sum(sizes):
            raise ValueError("contents that are not there")
        contents, at = [], 0
        for size in sizes:
            contents.append(joined[at : at + size])
            at += size
        return _run_of_data(end, lambda number: None if number is None else contents[_index(number)])
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, RecursionError) as error:
        raise RecordError(f"the end of the record makes no sense: {error}") from None


def _index(number: Any) -> int:
    if not isinstance(number, int) or number < 0:
        raise ValueError("no number of a content")
    return number


def _run_of_data(end: Any, content: Callable[[Any], Any]) -> BoxResult:
    stored = end["outcome"]
    status = None if stored["status"] is None else Status(stored["status"])
    usage, printed, told_changes = end["usage"], end["printed"], _listed(content(end["changes"]))
    fields = {each.name for each in attrs.fields(Usage)}
    changed = [
        Changed(None, False, tuple(_change(each, content) for each in overlay), int(left_out))
        for overlay, left_out in zip(told_changes, end["left_out"], strict=True)
    ]
    return BoxResult(
        outcome=Outcome(_number(stored["exit_code"]), _number(stored["signal"]), status, str(stored["why"])),
        stdout=content(end["stdout"]),
        stderr=content(end["stderr"]),
        output=Interleaved(content(printed[0]), content(printed[1]), [int(each) for each in end["turns"]]),
        truncated=bool(end["truncated"]),
        exceeded=frozenset(map(str, end["exceeded"])),
        out_of_memory=bool(end["out_of_memory"]),
        changes=tuple(changed),
        denials={Denial(str(call), str(number), str(why)): int(count) for call, number, why, count in end["denials"]},
        unknown={int(number): int(count) for number, count in end["unknown"]},
        layers={str(name): str(stored) for name, stored in end["layers"].items()},
        usage=Usage(**{name: _amount(name, value) for name, value in usage.items() if name in fields}),
    )


def _listed(data: bytes) -> Any:
    """Returns what the list of changed files has, which may be small as it is packed."""
    if len(data) > _MOST_LIST or sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise ValueError("more changed files than are read")
    return json.loads(data)


def _amount(name: str, value: Any) -> Any:
    if value is None and name == "memory":
        return None
    if type(value) not in (int, float) or not abs(value) < 1 << 63:
        raise ValueError(f"no amount of {name}")
    return value


def _number(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise TypeError("no number")
    return value


def _change(stored: Any, content: Callable[[Any], Any]) -> Change:
    return Change(
        name=bytes.fromhex(stored["name"]).decode("utf-8", "surrogateescape"), path=bytes.fromhex(stored["path"]),
        kind=str(stored["kind"]), type=str(stored["type"]), mode=int(stored["mode"]),
        content=content(stored["content"]), target=content(stored["target"]), old=content(stored["old"]),
    )  # fmt: skip


# --- reading ----------------------------------------------------------------------------------------------------------


@attrs.define(eq=False)
class RecordReader:
    """A record, from its beginning to its end, once.

    start: what START tells. run: how the run has ended, when all events were read; None in a record that was cut off.
    inexact: from where on it cannot be replayed exactly, as it says at its end. chain: of all that was read.
    """

    start: dict[str, Any]
    rows: dict[int, calls.CallForm]
    decoder: events.Decoder
    _frames: Iterator[Any]
    run: BoxResult | None = None
    inexact: Inexact | None = None
    end: dict[str, Any] | None = None
    chain: bytes = b""
    _ends_at: int = 0
    _file: BinaryIO | None = None
    signatures: list[tuple[bytes, dict[str, Any]]] = attrs.field(factory=list)

    @classmethod
    def open(cls, file: BinaryIO) -> "RecordReader":
        """Begins to read a record. Raises RecordError."""
        rest = frames(file)
        first = next(rest, None)
        if first is None or first.kind != FrameKind.START:
            raise RecordError("the record ends before it tells what was run")
        start = _json(first.data)
        made = cls(start, calls.read_table(start.get("calls")), events.Decoder(), rest, chain=first.chain)
        made._file = file
        return made

    def events(self) -> Iterator[events.Event]:
        """Yields all events. After the last one, `run` is set, unless the record was cut off. Raises RecordError."""
        pieces: list[bytes] = []
        size = 0
        for frame in self._frames:
            if self.end is not None and frame.kind != FrameKind.SIGNATURE:
                raise RecordError("something follows the end of the record")
            before, self.chain = self.chain, frame.chain
            if frame.kind == FrameKind.EVENTS:
                yield from self.decoder.events(frame.data)
            elif frame.kind == FrameKind.CONTENT:
                size += len(frame.data)
                if size > _MOST_CONTENT:
                    raise RecordError("the contents of the record are larger than any record's")
                pieces.append(frame.data)
            elif frame.kind == FrameKind.END:
                self.end = _json(frame.data)
                self.run, self.inexact = run_of_data(self.end, iter(pieces)), read_inexact(self.end.get("inexact"))
                pieces.clear()
            elif frame.kind == FrameKind.SIGNATURE:
                if len(self.signatures) >= _MOST_SIGNATURES or len(frame.data) > _LONGEST_SIGNATURE:
                    raise RecordError("a signature that is too long, or one too many")
                self.signatures.append((before, _json(frame.data)))
            self._ends_at = frame.ends_at
        if self.end is not None and self._file is not None and self._file.seek(0, os.SEEK_END) != self._ends_at:
            raise RecordError("bytes that are no frame follow the end of the record")


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise RecordError("a part of the record is no JSON object")
    return value


# --- replaying --------------------------------------------------------------------------------------------------------


@attrs.frozen(eq=False)
class Standing:
    """Where a replay stands: a call is as recorded, and waits for its answer. number: of the call, from 1 on."""

    process: GuestProcess
    driver: ReplayDriver
    number: int
    call: events.CallEvent

    @property
    def channel(self) -> Channel:
        """The channel of the thread that has made the call."""
        return self.driver.channel_of(self.call.channel)

    @property
    def asked(self) -> RequestText:
        """The call, for people."""
        return self.driver.replayer.asked(self.call.channel, self.call.frame)


@attrs.frozen(kw_only=True, eq=False)
class ReplayedRunner(BoxRunner):
    """A box that is answered from a record. until: the number of the call at which to stop. speed: see `Replayer`.

    on_call: called with each call that is as recorded, or with call `at` alone, before it is answered; the guest can be
    looked into then. loosely: see `Replayer`.
    """

    record: RecordReader
    until: int | None = None
    speed: float | None = None
    on_call: Callable[[Standing], object] | None = None
    at: int | None = None
    loosely: Set[int] = frozenset()
    _replayer: list[Replayer] = attrs.field(init=False, factory=list)

    @classmethod
    def of(cls, record: RecordReader, guest: Guest, timeout: float = math.inf, **fields: Any) -> "ReplayedRunner":
        """Returns the box for a record. Raises RecordError where this interpreter is not the one that was recorded."""
        stored = record.start.get("guest")
        builds = stored.get("builds") if isinstance(stored, dict) else None
        if not isinstance(stored, dict) or not isinstance(builds, dict):
            raise RecordError("the record does not tell by which interpreter it was made")
        here = builds_of(guest)
        other = sorted(name for name in {*builds, *here} if builds.get(name) != here.get(name))
        if other:
            raise RecordError(
                f"the record was made by another build of {stored.get('name')}: {', '.join(map(str, other[:4]))} "
                f"differ{'s' if len(other) == 1 else ''} from {guest.executable}'s. Name the same one with --guest"
            )
        return cls(policy=_alone(policy_of(record.start), timeout), guest=guest, record=record, **fields)

    @property
    def is_observed(self) -> bool:
        """Always: a record begins with the guest's start."""
        return True

    @property
    def is_checked(self) -> bool:
        """Whether answers of the policy are compared with what this version answers."""
        from proxybox import __version__

        start = self.record.start
        return start.get("proxybox") == __version__ and start.get("intercepted") is False

    @property
    def replayer(self) -> Replayer:
        """What answers the guest, once it is started."""
        return self._replayer[0]

    def spec(self, words: Sequence[str], builder: WorldBuilder) -> LaunchSpec:
        """Returns how the recorded guest was started."""
        start = self.record.start
        argv, environment = start.get("argv"), start.get("environment")
        if not isinstance(environment, dict) or not _are_texts(argv) or not _are_texts([*chain(*environment.items())]):
            raise RecordError("the record does not tell how its interpreter was started")
        try:
            to_variables(environment)  # before the seal, the loader of libraries obeys some of them
        except PolicyError as error:
            raise RecordError(f"the record's environment makes no sense: {error}") from None
        made = attrs.evolve(
            super().spec(words, builder), argv=tuple(argv), env=environment, same_addresses=True, real_time=False,
            asks_for_room=False, rows=calls.stub_rows(self.record.rows), **_launch_of(start.get("launch")),
        )  # fmt: skip
        if self.on_call is not None and not made.wants_listener:  # with one, the guest would map files by itself
            raise RecordError("a program that may have no other thread (limits.threads) cannot be looked into")
        return attrs.evolve(made, forks=self.on_call is not None)

    def serve(self, process: GuestProcess, builder: WorldBuilder, started: int, undo: contextlib.ExitStack) -> LiveBox:
        """As `BoxRunner.serve`, with what comes at the end of a record."""
        live = super().serve(process, builder, started, undo)
        live.on_report = self._conclude
        live.undo.callback(self.replayer.conclude)
        return live

    def _conclude(self, live: LiveBox, run: BoxResult) -> BoxResult:
        self.replayer.conclude()
        return run

    def served_by(self, process: GuestProcess, builder: WorldBuilder) -> tuple[Dispatcher, BlockingDriver]:
        """As `BoxRunner.served_by`, with a record."""
        record = self.record
        replayer = Replayer(builder.world, record.events(), record.rows, record.decoder.files, process.config_at)
        replayer.speed, replayer.loosely = self.speed, self.loosely
        replayer.look_at(self.until)
        replayer.count_threads = functools.partial(_threads_of, process)
        replayer.waits = functools.partial(all_wait, process.pid)
        replayer.has_ended = functools.partial(has_ended, process.watch.pidfd)
        replayer.is_unobserved = bool(record.start.get("unobserved"))
        replayer.look_at_policy(does=self.is_checked)
        self._replayer.append(replayer)
        driver = ReplayDriver(process, builder.world, replayer)
        driver.follow(replayer)
        if (on_call := self.on_call) is not None:

            def look(call: events.CallEvent) -> None:
                with process.watch.uncharged():
                    on_call(Standing(process, driver, replayer.calls_followed, call))

            replayer.look_at(self.until, look, self.at)
        watch(replayer, process)
        return replayer, driver


def _launch_of(stored: Any) -> dict[str, Any]:
    """Returns the fields of a LaunchSpec that a record tells. Raises RecordError for values that cannot be."""
    launch = {name: stored.get(name, _UNTOLD.get(name)) if isinstance(stored, dict) else None for name in _LAUNCH}
    for name, value in launch.items():
        if name == "memory" and value is None:
            launch[name] = _memory_here()
            continue
        if not isinstance(value, int) or not _LAUNCH[name][0] <= value < _LAUNCH[name][1]:
            raise RecordError(f"the record starts its interpreter with {name} = {value!r}")
    launch["memory"] = min(launch["memory"] or 0, _memory_here())
    return launch


def _memory_here() -> int:
    """Returns how much memory this machine has, in bytes: a record cannot give its program more."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _are_texts(value: Any) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(
        isinstance(each, str) and len(each) < _MOST_TEXT and "\0" not in each and _can_be_written(each)
        for each in value
    )


def _can_be_written(text: str) -> bool:
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return False
    return True


def policy_of(start: Mapping[str, Any]) -> Policy:
    """Returns the recorded policy, whose mounts lack contents that were given as data. Raises RecordError."""
    stored = start.get("policy")
    if isinstance(stored, dict) and "extends" in stored:
        raise RecordError("the record's policy extends another one: a record names no file of the host")
    try:
        return from_dict(stored if isinstance(stored, dict) else {}, name="the record's policy")
    except PolicyError as error:
        raise RecordError(f"the record's policy makes no sense: {error}") from None


def _alone(policy: Policy, timeout: float) -> Policy:
    """Returns the policy of a replay: with no file of the host, other limits of time, and bounded output."""
    output = policy.output
    if output.limit is None or output.limit > _MOST_OUTPUT:
        output = attrs.evolve(output, limit=_MOST_OUTPUT)
    return attrs.evolve(
        policy,
        filesystem=attrs.evolve(policy.filesystem, mounts=(), box="overlay"),
        limits=attrs.evolve(policy.limits, wall_time=None if timeout == math.inf else timeout, cpu_time=None),
        output=output,
        environment=attrs.evolve(policy.environment, cwd="/"),
        require_layers=(),
    )


def outcome_differs(recorded: BoxResult, replayed: BoxResult, *, keeps_output: bool, is_session: bool = False) -> str:
    """Returns in what a replayed run differs from the recorded one; "" where it does not.

    keeps_output: false where the record has no output but in its calls. is_session: whether it is a session, whose
    output and refusals belong to its calls. All calls were compared.
    """
    for name in ("stdout", "stderr", "truncated") if keeps_output else ():
        if getattr(recorded, name) != getattr(replayed, name):
            return name
    if not is_session and (recorded.denials, recorded.unknown) != (replayed.denials, replayed.unknown):
        return "what was refused"
    one, other = recorded.outcome, replayed.outcome
    pairs = {
        "how it ended": (one.status, other.status), "the reason": (one.why, other.why),
        "the exit status": (one.exit_code, other.exit_code), "the signal": (one.signal, other.signal),
    }  # fmt: skip
    return next((name for name, (first, second) in pairs.items() if first != second), "")


__all__ = ["Divergence", "RecordReader", "RecordedRunner", "ReplayedRunner", "outcome_differs"]
