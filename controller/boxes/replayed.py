"""Boxes that are answered from a record: the same guest, in a world with only its library, answered by events."""

import contextlib
import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence, Set
from itertools import chain
from typing import Any, Final, TypeGuard

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.boxes.box import BoxResult, BoxRunner, LiveBox
from proxybox.controller.boxes.reading import RecordReader
from proxybox.controller.boxes.recorded import LAUNCH, threads_of
from proxybox.controller.boxes.worldbuilding import WorldBuilder
from proxybox.controller.dispatch import Dispatcher
from proxybox.controller.drivers.blocking import BlockingDriver
from proxybox.controller.errors import RecordError
from proxybox.controller.guests.builds import builds_of
from proxybox.controller.guests.guest import Guest
from proxybox.controller.pidfd import has_ended
from proxybox.controller.process.activity import all_wait
from proxybox.controller.process.guestprocess import GuestProcess
from proxybox.controller.process.launch import LaunchSpec
from proxybox.controller.record import calls, events
from proxybox.controller.record.parting import RequestText
from proxybox.controller.record.replaydriver import ReplayDriver
from proxybox.controller.record.replayer import Replayer
from proxybox.controller.record.watching import watch
from proxybox.controller.wire.channel import Channel
from proxybox.policies import Policy, PolicyError
from proxybox.policies.checks import to_variables
from proxybox.policies.loading import from_dict

#: Values of fields that records of earlier versions do not have.
_UNTOLD: Final = {"serial": 0}
#: The most bytes of one text of START.
_MOST_TEXT: Final = 1 << 20
#: The most bytes of each stream that a replay stores.
_MOST_OUTPUT: Final = 64 << 20


@attrs.frozen(eq=False)
class Standing:
    """A replay at a call that is as recorded, and waits for its answer. number: of the call, counted from 1."""

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
        """The call as text for people."""
        return self.driver.replayer.request_text(self.call.channel, self.call.frame)


@attrs.frozen(kw_only=True, eq=False)
class ReplayedRunner(BoxRunner):
    """A box that is answered from a record. until: the number of the call at which to stop. speed: see `Replayer`.

    on_call: called with each call that is as recorded, or only with call `at`, before it is answered; the guest can be
    inspected then. loosely: see `Replayer`.
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
        """Always true: a record begins with the guest's start."""
        return True

    @property
    def is_checked(self) -> bool:
        """Whether answers of the policy are compared with what this version answers."""
        from proxybox import __version__

        start = self.record.start
        return start.get("proxybox") == __version__ and start.get("intercepted") is False

    @property
    def replayer(self) -> Replayer:
        """The Replayer that answers the guest, when it was started."""
        return self._replayer[0]

    def spec(self, words: Sequence[str], builder: WorldBuilder) -> LaunchSpec:
        """Returns the LaunchSpec of the recorded guest."""
        start = self.record.start
        argv, environment = start.get("argv"), start.get("environment")
        if not isinstance(environment, dict) or not _are_texts(argv) or not _are_texts([*chain(*environment.items())]):
            raise RecordError("the record does not tell how its interpreter was started")
        try:
            to_variables(environment)  # before the seal, the dynamic linker obeys some of them
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
        """As `BoxRunner.serve`; at the end, the replay is concluded."""
        live = super().serve(process, builder, started, undo)
        live.on_report = self._conclude
        live.undo.callback(self.replayer.conclude)
        return live

    def _conclude(self, live: LiveBox, run: BoxResult) -> BoxResult:
        self.replayer.conclude()
        return run

    def served_by(self, process: GuestProcess, builder: WorldBuilder) -> tuple[Dispatcher, BlockingDriver]:
        """As `BoxRunner.served_by`, with a Replayer as the dispatcher."""
        record = self.record
        replayer = Replayer(builder.world, record.events(), record.rows, record.decoder.files, process.settings_at)
        replayer.speed, replayer.loosely = self.speed, self.loosely
        replayer.look_at(self.until)
        replayer.count_threads = functools.partial(threads_of, process)
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
    """Returns the fields of a LaunchSpec that a record has. Raises RecordError for impossible values."""
    launch = {name: stored.get(name, _UNTOLD.get(name)) if isinstance(stored, dict) else None for name in LAUNCH}
    for name, value in launch.items():
        if name == "memory" and value is None:
            launch[name] = _memory_here()
            continue
        if not isinstance(value, int) or not LAUNCH[name][0] <= value < LAUNCH[name][1]:
            raise RecordError(f"the record starts its interpreter with {name} = {value!r}")
    launch["memory"] = min(launch["memory"] or 0, _memory_here())
    return launch


def _memory_here() -> int:
    """Returns how many bytes of memory this machine has: a record cannot give its program more."""
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
    """Returns how a replayed run differs from the recorded one; "" where it does not.

    keeps_output: false where the record has output only in its calls. is_session: whether it is a session, whose output
    and refusals belong to its calls. All calls were compared.
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
