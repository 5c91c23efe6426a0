"""Copies worlds: `copy_world` makes a world that has the state of another one, and then changes independently.

A branch of a session begins with the state of the session at that moment: files, descriptors, offsets, locks, pending
signals, alarms, and the time. Where the policy seeds the stream of random bytes, both continue from the same position
and draw the same numbers. A process that fork(2) makes loses its alarms and its pending signals; a branch keeps them,
because it is the whole session once more. copyingfiles.py has the rules, and copies the tree and the open files.
"""

from __future__ import annotations

import attrs

from proxybox.controller.boxes.copyingfiles import Copier, copies, description, shares
from proxybox.controller.errors import CannotCopy
from proxybox.controller.oscalls.memory import Slice
from proxybox.controller.oscalls.polling import EpollFile
from proxybox.controller.oscalls.stores import identity
from proxybox.controller.world.clock import Clock, TimedWait
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.randomness import Randomness
from proxybox.controller.world.state import GuestThread, ProcessState, Signal, SignalState, World
from proxybox.controller.world.stdin import Stdin

shares(TimedWait)


def check_copyable(world: World) -> None:
    """Raises CannotCopy unless the world can be copied now."""
    if len(world.threads) != 1:
        left = next(filter(None, (thread.since for thread in world.threads)), "")
        since = f", left by {left}" if left else ""
        raise CannotCopy(
            f"the program has {len(world.threads)} threads{since}: a copy has only the one that asks for it, so the "
            "others must have ended (join them, shut executors down)"
        )
    if world.ending is not None or world.exit_code is not None:
        raise CannotCopy("the program has ended: there is nothing that could go on")


def copy_world(copier: Copier, old: World, stdin: Stdin, stdout: OutputSink, stderr: OutputSink, pid: int) -> World:
    """Returns the copy, which has its own streams and its own process id.

    The copy is complete only when the caller has called `copier.stand_for` for the object that holds the world's facts,
    and then `copier.finish`. Fields that drivers and sessions set (on_exit, on_fork, grant_library, port) are as in a
    new world: the driver and the session of the copy set them.
    """
    of = copier.of
    copier.stand_for(old.stdin, stdin)
    copier.stand_for(old.stdout, stdout)
    copier.stand_for(old.stderr, stderr)
    stdout.winsize, stderr.winsize = old.stdout.winsize, old.stderr.winsize
    thread = _thread(copier, old.threads[0], pid)
    tree = of(old.tree)
    new = World(
        policy=old.policy, tree=tree, descriptors=of(old.descriptors), cwd=old.cwd, credentials=old.credentials,
        clock=of(old.clock), quota=of(old.quota), randomness=of(old.randomness),
        stdin=stdin, stdout=stdout, stderr=stderr, umask=old.umask, process=_process(old.process, pid),
        exceeded=set(old.exceeded), threads=[thread], thread=thread, epoll_watches=old.epoll_watches,
        changes=of(old.changes), steps=of(old.steps), anonymous=of(old.anonymous), termios=old.termios,
        thread_limit=old.thread_limit, next_tid=max(old._next_tid, pid + 1), allotment=of(old.allotment),
        futexes=None,  # a session that is recorded is not copied
    )  # fmt: skip
    copier.stand_for(old, new)
    _copy_signals(old.signals, new.signals, thread)
    copier.later(_fill_world, old, new)
    return new


def _fill_world(copier: Copier, old: World, new: World) -> None:
    of = copier.of
    new.cwd = of(old.cwd)
    new.mappings = {number: of(file) for number, file in old.mappings.items()}
    for numbers in old.stored.values():
        for number in numbers:
            new.stored.setdefault(identity(new.mappings[number]), set()).add(number)
    new.flocks = {of(file): lock for file, lock in old.flocks.items()}


def _process(old: ProcessState, pid: int) -> ProcessState:
    """Returns the process with its new id. A group or session that it leads gets the same id."""
    return attrs.evolve(
        old,
        pid=pid,
        pgid=pid if old.pgid == old.pid else old.pgid,
        sid=pid if old.sid == old.pid else old.sid,
        rlimits=dict(old.rlimits),
        timers=[attrs.evolve(timer) for timer in old.timers],
    )


def _thread(copier: Copier, old: GuestThread, pid: int) -> GuestThread:
    """Returns the only thread. Its id is that of its process."""
    return copier.stand_for(old, attrs.evolve(old, tid=pid, slice=copier.of(old.slice), written_back=set()))


def _copy_signals(old: SignalState, new: SignalState, thread: GuestThread) -> None:
    def own(signals: list[Signal]) -> list[Signal]:
        """Returns the signals to the process and to the thread that exists in the copy."""
        return [signal if signal.thread is None else attrs.evolve(signal, thread=thread) for signal in signals
                if signal.thread is None or not signal.thread.exited]  # fmt: skip

    new.actions = dict(old.actions)
    new.pending, new.outbox = own(old.pending), own(old.outbox)
    new.offer_ns = old.offer_ns


# --- what only worlds hold --------------------------------------------------------------------------------------------


@copies(Clock)
def _clock(copier: Copier, old: Clock) -> Clock:
    """Returns a clock with the same start of real time and the same jumps of virtual time; CPU time continues."""
    return copier.plain(
        old, guest_pid=None, _host_ns=old._host_ns, _wall_ns=old._wall_ns, _cpu_before_ns=old.host_cpu_ns()
    )


@copies(Randomness)
def _randomness(copier: Copier, old: Randomness) -> Randomness:
    """Returns a stream that continues from the same position if it is seeded, so that a copy is repeatable too.

    Random bytes of the host are used only once, so the copy does not get them.
    """
    return copier.plain(old, _made=bytearray(old._made if old.seeded else b""))


@copies(Slice)
def _slice(copier: Copier, old: Slice) -> Slice:
    return attrs.evolve(old)


@copies(EpollFile)
def _epoll_file(copier: Copier, old: EpollFile) -> EpollFile:
    new: EpollFile = description(copier, old, "_world", watches={}, _watched={}, _sources={})
    copier.later(_fill_watches, old, new)
    return new


def _fill_watches(copier: Copier, old: EpollFile, new: EpollFile) -> None:
    new.begin()
    for watch in old.watches.values():
        new.enter(attrs.evolve(watch, file=copier.of(watch.file)))
