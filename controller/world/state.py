"""The state of one guest's world, which the handlers of `oscalls/` read and change.

Rules: there is no I/O with the guest here, and no waiting. A world belongs to one box and is used by one driver at a
time. Guest data causes no exception here except OSError. Times are nanoseconds. "Elapsed" times are box time since the
box started (`Clock.elapsed_ns`), "host" times are `time.monotonic_ns()`.
"""

import errno
from collections.abc import Callable, Set
from typing import TYPE_CHECKING, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.costs.descriptorshare import Allotment
from proxybox.controller.costs.steps import Steps
from proxybox.controller.effects import Blocked, Changes, Reply
from proxybox.controller.errors import Denied
from proxybox.controller.status import Status
from proxybox.controller.world.clock import Clock
from proxybox.controller.world.output import OutputSink
from proxybox.controller.world.randomness import Randomness
from proxybox.controller.world.stdin import Stdin

if TYPE_CHECKING:
    from proxybox.controller.exchange.port import Port
    from proxybox.controller.vfs.descriptors import DescriptorTable
    from proxybox.controller.vfs.nodes import Credentials, Directory, Superblock
    from proxybox.controller.vfs.openfiles import OpenFile
    from proxybox.controller.vfs.quota import Quota
    from proxybox.controller.vfs.tree import Tree
    from proxybox.controller.world.futexes import Futexes
    from proxybox.policies import Policy

FIRST_PID: Final = 100
PENDING_MAX: Final = 64
TIMER_PAUSE_NS: Final = 1_000_000
"""An interval timer fires no more often than this, whatever its interval: each time costs the controller."""
HIDDEN: Final = 1 << 20
"""Descriptor numbers from here on are mappings, which the stub holds and the guest's own calls do not know."""
_NO_ALTSTACK: Final = abi.STACK_T.pack(0, abi.SS_DISABLE, 0, 0)

SI_USER: Final = 0
SI_KERNEL: Final = 0x80
SI_TKILL: Final = -6

#: Signals that a guest can neither block nor handle. SIGSYS brings its OS calls to the stub.
UNTOUCHABLE: Final = frozenset({abi.SIGKILL, abi.SIGSTOP, abi.SIGSYS})
UNTOUCHABLE_MASK: Final = sum(1 << (number - 1) for number in UNTOUCHABLE)
_IGNORED_BY_DEFAULT: Final = frozenset({abi.SIGCHLD, abi.SIGCONT, abi.SIGURG, abi.SIGWINCH})
_STOP_BY_DEFAULT: Final = frozenset({abi.SIGTSTP, abi.SIGTTIN, abi.SIGTTOU})


@attrs.frozen(slots=True, eq=False)
class Ended:
    """Why the box ends.

    status: None where the guest exits by itself; `World.exit_code` is then its exit status. signal: the signal that is
    the reason, if any.
    """

    status: Status | None
    reason: str = ""
    signal: int | None = None


@attrs.define(slots=True, eq=False)
class GuestThread:
    """One thread of the guest.

    channel: the number of the box's pipe pair that the thread uses. calls: how many calls it has made (counted by
    dispatch). slice: its current timed futex wait (oscalls/memory.py). written_back: the mappings that its stub has
    written back for a call that the stub then repeats. since: the module of `preload` that has started it. cpus: the
    set of sched_setaffinity(2), 0 for none.
    """

    tid: int
    channel: int = 0
    sigmask: int = 0
    name: bytes = b"pypy3"
    altstack: bytes = _NO_ALTSTACK
    exited: bool = False
    calls: int = 0
    slice: object = None
    written_back: set[int] = attrs.field(factory=set)
    since: str = ""
    cpus: int = 0

    def blocks(self, number: int) -> bool:
        """Whether the thread's mask blocks the signal."""
        return bool(self.sigmask >> (number - 1) & 1)


@attrs.define(slots=True, eq=False)
class Timer:
    """One interval timer of setitimer(2).

    Times are elapsed box time, or for `cpu` timers the guest's CPU time on the host. not_before_ns: host time before
    which an interval timer does not fire again.
    """

    signal: int
    cpu: bool = False
    due_ns: int | None = None
    interval_ns: int = 0
    host_deadline_ns: int = 0
    not_before_ns: int = 0


def _timers() -> list[Timer]:
    return [Timer(abi.SIGALRM), Timer(abi.SIGVTALRM, cpu=True), Timer(abi.SIGPROF, cpu=True)]


@attrs.define(slots=True, eq=False)
class ProcessState:
    """The guest's only process, as the guest sees it. The ids are invented."""

    pid: int = FIRST_PID
    ppid: int = FIRST_PID - 1
    pgid: int = FIRST_PID
    sid: int = FIRST_PID - 1
    nice: int = 0
    rlimits: dict[int, tuple[int, int]] = attrs.field(factory=dict)
    timers: list[Timer] = attrs.field(factory=_timers)


@attrs.frozen(slots=True)
class Signal:
    """A signal on its way to a thread, or to any thread (None). `code` and `value` are as in siginfo_t."""

    number: int
    thread: GuestThread | None = None
    code: int = SI_USER
    value: int = 0


class SignalState:
    """Dispositions, pending signals, and the signals that the driver has to send to the process.

    pending: signals that wait until no mask blocks them. outbox: signals for the driver. offer_ns: host time at which
    the driver offers signals again that could not be sent yet.
    """

    __slots__ = ("_world", "actions", "offer_ns", "outbox", "pending")

    def __init__(self, world: "World") -> None:
        self._world = world
        self.actions: dict[int, bytes] = {}
        self.pending: list[Signal] = []
        self.outbox: list[Signal] = []
        self.offer_ns: int | None = None

    def handler(self, number: int) -> int:
        """Returns SIG_DFL, SIG_IGN or the address of the guest's handler."""
        action = self.actions.get(number)
        return abi.SIG_DFL if action is None else int.from_bytes(action[:8], "little")

    def raise_signal(self, number: int, thread: GuestThread | None = None, code: int = SI_USER, value: int = 0) -> None:
        """Sends a signal to the guest.

        A blocked signal stays pending, an ignored one is dropped, and one with a handler is put into the outbox. A
        signal whose default is to end the process ends the box. Raises OSError (EAGAIN) for a signal beyond those that
        may be queued.
        """
        signal = Signal(number, thread, code, value)
        if number in UNTOUCHABLE:
            self._deliver(signal)
            return
        blocked = self._is_blocked(signal)
        if (blocked or self.handler(number) not in (abi.SIG_DFL, abi.SIG_IGN)) and self._coincides(signal):
            return
        if blocked:
            self.pending.append(signal)
        else:
            self._deliver(signal)

    def _coincides(self, signal: Signal) -> bool:
        """Whether a signal is merged with another one that is pending.

        A standard signal always is. If PENDING_MAX is reached, a signal of kill(2) is merged, too: there is always room
        for one of each (signal(7), "Queueing and delivery semantics"). Other real-time signals then raise OSError
        (EAGAIN).
        """
        waiting = [*self.pending, *self.outbox]
        if len(waiting) < PENDING_MAX:
            return signal.number <= 31 and signal in self.pending
        if signal.number > 31 and signal.code != SI_USER:
            raise OSError(errno.EAGAIN, "as many signals wait as may (RLIMIT_SIGPENDING)")
        return any(each.number == signal.number for each in waiting)

    def release(self) -> None:
        """Delivers the pending signals that are no longer blocked; called after every change of a mask."""
        if not self.pending:
            return
        waiting, self.pending = self.pending, []
        for signal in waiting:
            if self._is_blocked(signal):
                self.pending.append(signal)
            else:
                self._deliver(signal)

    def pending_mask(self, thread: GuestThread) -> int:
        """Returns the set of rt_sigpending(2)."""
        mask = 0
        for signal in self.pending:
            if signal.thread is None or signal.thread is thread:
                mask |= 1 << (signal.number - 1)
        return mask

    def take(self, thread: GuestThread, mask: int) -> Signal | None:
        """Removes and returns the first pending signal of a set (rt_sigtimedwait(2))."""
        ours = [each for each in self.pending if mask >> (each.number - 1) & 1 and each.thread in (None, thread)]
        if not ours:
            return None
        first = min(ours, key=lambda each: each.number)
        self.pending.remove(first)
        return first

    def _is_blocked(self, signal: Signal) -> bool:
        if signal.thread is not None:
            return signal.thread.blocks(signal.number)
        threads = self._world.threads
        return bool(threads) and all(thread.blocks(signal.number) for thread in threads)

    def _deliver(self, signal: Signal) -> None:
        handler = self.handler(signal.number)
        if handler == abi.SIG_IGN and signal.number not in UNTOUCHABLE:
            return
        if handler != abi.SIG_DFL:
            self.outbox.append(signal)
            return
        number = signal.number
        if number in _IGNORED_BY_DEFAULT or number in _STOP_BY_DEFAULT:
            return
        self._world.end(Ended(Status.CRASHED, f"signal {number}", number))


def _rlimits(policy: "Policy") -> dict[int, tuple[int, int]]:
    def both(value: float | None) -> tuple[int, int]:
        number = abi.RLIM_INFINITY if value is None else int(value)
        return number, number

    limits = policy.limits
    table = dict.fromkeys(range(abi.RLIM_NLIMITS), (abi.RLIM_INFINITY, abi.RLIM_INFINITY))
    table[abi.RLIMIT_CPU] = both(None if limits.cpu_time is None else max(1, limits.cpu_time))
    table[abi.RLIMIT_STACK] = (8 << 20, abi.RLIM_INFINITY)
    table[abi.RLIMIT_CORE] = (0, 0)
    table[abi.RLIMIT_NPROC] = both(limits.threads)
    table[abi.RLIMIT_NOFILE] = both(limits.open_files)
    table[abi.RLIMIT_SIGPENDING] = both(PENDING_MAX)
    table[abi.RLIMIT_AS] = both(limits.memory)
    return table


def _anonymous(world: "World") -> "Superblock":
    """Returns the filesystem of files without names: pipes, stream pairs, memfd."""
    from proxybox.controller.vfs.nodes import Superblock

    owner = world.credentials
    clock = world.clock
    return Superblock(
        dev=14,
        uid=owner.uid,
        gid=owner.gid,
        now=clock.wall_ns,
        clock_is_real=clock.kind == "real",
        quota=world.quota,
        changes=world.changes,
    )


@attrs.define(slots=True, eq=False)
class World:
    """The state of one box that its guest sees.

    The first seven fields must be given; the others follow from the policy.

    flocks: device and inode, and LOCK_SH or LOCK_EX, of each description that holds a lock. stored: the mappings
    that may change a file, by its device and inode (oscalls/stores.py). epoll_watches: how many watches all epoll
    instances have. port: the connection of a warm guest to its caller. on_fork: answers a fork where copies are made;
    without it, a fork is refused. grant_library: allows the thread of a channel to map a file of the host once, and
    takes the descriptor; false where it cannot. make_room: raises the limit of address space for an allocation that has
    failed, with its bytes and its kind (header.py); false where it cannot. allotment: the box's part of the host's
    descriptors. thread: the process's first thread; a handler gets the calling thread as an argument (dispatch.py).
    futexes: where one thread runs at a time; otherwise the process has its own.
    """

    policy: "Policy"
    tree: "Tree"
    descriptors: "DescriptorTable"
    cwd: "Directory"
    credentials: "Credentials"
    clock: Clock
    quota: "Quota"
    randomness: Randomness = attrs.field(
        default=attrs.Factory(lambda world: Randomness(world.policy.randomness), takes_self=True)
    )
    stdin: Stdin = attrs.field(factory=Stdin)
    stdout: OutputSink = attrs.field(
        default=attrs.Factory(lambda world: OutputSink("stdout", world.policy.output), takes_self=True)
    )
    stderr: OutputSink = attrs.field(
        default=attrs.Factory(
            lambda world: OutputSink("stderr", world.policy.output, world.stdout.transcript),
            takes_self=True,
        )
    )
    umask: int = 0o022
    process: ProcessState = attrs.field(factory=ProcessState)
    exceeded: set[str] = attrs.field(factory=set)
    ending: Ended | None = None
    exit_code: int | None = None
    on_exit: Callable[[], None] = lambda: None
    grant_library: Callable[[int, int], bool] = lambda channel, fd: False
    make_room: Callable[[int, int], bool] = lambda size, kind: False
    steps: Steps = attrs.field(default=attrs.Factory(lambda world: world.tree.steps, takes_self=True))
    threads: list[GuestThread] = attrs.field(factory=list)
    thread: GuestThread = attrs.field(
        default=attrs.Factory(lambda world: GuestThread(world.process.pid), takes_self=True)
    )
    signals: SignalState = attrs.field(default=attrs.Factory(SignalState, takes_self=True))
    mappings: dict[int, "OpenFile"] = attrs.field(factory=dict)
    stored: dict[bytes, set[int]] = attrs.field(factory=dict)
    flocks: dict["OpenFile", tuple[bytes, int]] = attrs.field(factory=dict)
    epoll_watches: int = 0
    changes: Changes = attrs.field(factory=Changes)
    anonymous: "Superblock" = attrs.field(default=attrs.Factory(lambda world: _anonymous(world), takes_self=True))
    termios: bytes = abi.DEFAULT_TERMIOS
    thread_limit: int | None = attrs.field(
        default=attrs.Factory(lambda world: world.policy.limits.threads, takes_self=True)
    )
    port: "Port | None" = None
    on_fork: Callable[[], Reply] | None = None
    allotment: Allotment = attrs.field(factory=Allotment)
    futexes: "Futexes | None" = None
    _next_tid: int = FIRST_PID + 1  # above the pid

    def __attrs_post_init__(self) -> None:
        if not self.threads:
            self.threads.append(self.thread)
        if not self.process.rlimits:
            self.process.rlimits = _rlimits(self.policy)
        for sink in (self.stdout, self.stderr):
            sink.on_limit = self._output_limit
        self.stdin.echoes = lambda: bool(abi.TERMIOS.unpack(self.termios)[3] & abi.ECHO)

    def tighten(self, policy: "Policy") -> None:
        """Replaces the policy of the world by one with other limits, of which none is looser.

        Limits that the guest itself has lowered stay lower. The builder changes the quota.
        """
        self.policy, limits = policy, policy.limits
        for resource, (soft, hard) in _rlimits(policy).items():
            old = self.process.rlimits[resource]
            self.process.rlimits[resource] = min(old[0], soft), min(old[1], hard)
        if limits.open_files is not None:
            self.descriptors.open_files = min(self.descriptors.open_files, limits.open_files)
        if limits.threads is not None:
            self.thread_limit = limits.threads if self.thread_limit is None else min(self.thread_limit, limits.threads)
        self.stdin.waiting = limits.input_wait

    def end(self, ended: Ended) -> None:
        """Requests that the driver ends the box; the first reason counts."""
        if self.ending is None:
            self.ending = ended

    def _output_limit(self) -> None:
        self.exceeded.add("output")
        self.end(Ended(Status.OUTPUT_LIMIT, "the guest printed more than the policy allows"))

    def unlock(self, file: "OpenFile") -> None:
        """Releases an open description's flock(2) lock."""
        self.flocks.pop(file, None)
        file.on_close -= {self.unlock}

    # --- threads ----------------------------------------------------------------------------------

    def allocate_thread(self, parent: GuestThread | None = None, channel: int | None = None) -> GuestThread:
        """Returns a new thread on a free channel, which starts with its parent's signal mask and set of cpus.

        Raises Denied beyond `limits.threads`.
        """
        limit = self.thread_limit
        if limit is not None and len(self.threads) >= limit:
            raise Denied(errno.EAGAIN, "limits.threads")
        if channel is None:
            taken = {thread.channel for thread in self.threads}
            channel = next(number for number in range(len(taken) + 1) if number not in taken)
        parent = self.thread if parent is None else parent
        thread = GuestThread(self._next_tid, channel, parent.sigmask, parent.name, cpus=parent.cpus)
        self._next_tid += 1
        self.threads.append(thread)
        return thread

    def end_thread(self, thread: GuestThread) -> None:
        """Removes a thread that has ended: its channel is free, and the signals that wait for it are lost."""
        thread.exited = True
        if thread in self.threads:
            self.threads.remove(thread)
        self.signals.pending = [each for each in self.signals.pending if each.thread is not thread]
        self.signals.release()

    def thread_by_tid(self, tid: int) -> GuestThread | None:
        """Returns the live thread with this id, or None."""
        return next((thread for thread in self.threads if thread.tid == tid), None)

    # --- waiting ----------------------------------------------------------------------------------

    def wait(
        self,
        attempt: Callable[[], Reply | None],
        timeout_ns: int | None = None,
        on_timeout: Callable[[], Reply] = lambda: 0,
        *,
        clock_id: int = abi.CLOCK_MONOTONIC,
        absolute: bool = False,
        on_interrupt: Callable[[], Reply] | None = None,
        host_fd: int | None = None,
        sources: tuple[Set[object], ...] | None = None,
        only_time: bool = False,
    ) -> Reply:
        """Returns the answer of `attempt`; if there is none yet, returns a wait for it by the box's clock.

        sources: as in Blocked. only_time: whether only time can end the wait, as with a sleep.

        Time jumps where sleeps are skipped and no other thread could end the wait: there is no other thread, or
        `only_time` is true. It jumps to the next alarm if that comes first (the answer is then that of `on_interrupt`,
        or -EINTR), otherwise to the end of the wait.
        """
        reply = attempt()
        if reply is None and timeout_ns == 0 and not absolute:
            reply = on_timeout()
        if reply is not None:
            return reply
        alone = len(self.threads) <= 1
        if timeout_ns is None:
            still = Blocked(attempt, on_interrupt=on_interrupt, host_fd=host_fd, sources=sources)
            if alone and self.clock.skips and host_fd is None and self.jump_to_alarm(None):
                return -errno.EINTR if on_interrupt is None else on_interrupt()
            return still
        wait = self.clock.wait(clock_id, timeout_ns, absolute=absolute, skip=alone or only_time)
        if wait.deadline_ns is None:
            if self.jump_to_alarm(wait.ends_ns):
                return -errno.EINTR if on_interrupt is None else on_interrupt()
            self.clock.finish(wait)
            return on_timeout()

        def over() -> Reply:
            self.clock.finish(wait)
            return on_timeout()

        return Blocked(attempt, wait.deadline_ns, over, on_interrupt, host_fd, sources)

    def jump_to_alarm(self, ends_ns: int | None) -> bool:
        """Moves time to an alarm that comes before the end of a skipped wait, if there is one.

        Returns whether the alarm interrupts the wait. ends_ns: None for a wait without an end.
        """
        timer = self.process.timers[abi.ITIMER_REAL]
        if timer.due_ns is None or (ends_ns is not None and timer.due_ns > ends_ns):
            return False
        self.clock.advance_to(timer.due_ns)
        timer.host_deadline_ns = self.clock.host_ns()
        timer.not_before_ns = 0
        before = len(self.signals.outbox)
        self.fire_alarms()
        return self.ending is not None or len(self.signals.outbox) > before

    # --- alarms -----------------------------------------------------------------------------------

    def set_timer(self, which: int, value_ns: int, interval_ns: int) -> None:
        """Arms an interval timer, or disarms it with a value of 0."""
        timer = self.process.timers[which]
        timer.interval_ns = interval_ns
        timer.due_ns = None if value_ns == 0 else self._timer_now(timer) + value_ns
        self._rearm(timer)

    def timer_left(self, which: int) -> tuple[int, int]:
        """Returns (time left, interval) of getitimer(2); an armed timer has at least a microsecond left."""
        timer = self.process.timers[which]
        left = 0 if timer.due_ns is None else max(1_000, timer.due_ns - self._timer_now(timer))
        return left, timer.interval_ns

    def next_alarm_ns(self) -> int | None:
        """Returns the host time at which to call `fire_alarms` or to send signals next, or None."""
        deadlines = [
            timer.host_deadline_ns if timer.cpu or timer.due_ns > self.clock.elapsed_ns() else timer.not_before_ns
            for timer in self.process.timers
            if timer.due_ns is not None
        ]
        if self.signals.offer_ns is not None:
            deadlines.append(self.signals.offer_ns)
        return min(deadlines) if deadlines else None

    def fire_alarms(self) -> None:
        """Raises the signals of all timers that are due, by box time or by the host time that they were set to."""
        host = self.clock.host_ns()
        for timer in self.process.timers:
            if timer.due_ns is None or host < timer.not_before_ns:
                continue
            if not timer.cpu and host >= timer.host_deadline_ns:
                self.clock.advance_to(timer.due_ns)
            now = self._timer_now(timer)
            late = not timer.cpu and host >= timer.host_deadline_ns
            if now < timer.due_ns and not late:
                self._rearm(timer)  # less CPU time than expected has passed
                continue
            if timer.interval_ns:
                skipped = max(0, now - timer.due_ns) // timer.interval_ns + 1
                timer.due_ns += skipped * timer.interval_ns
                timer.not_before_ns = host + TIMER_PAUSE_NS
                self._rearm(timer)
            else:
                timer.due_ns = None
            self.signals.raise_signal(timer.signal, code=SI_KERNEL)

    def _timer_now(self, timer: Timer) -> int:
        return self.clock.host_cpu_ns() if timer.cpu else self.clock.elapsed_ns()

    def _rearm(self, timer: Timer) -> None:
        if timer.due_ns is None:
            return
        if timer.cpu:
            left = max(1_000_000, timer.due_ns - self.clock.host_cpu_ns())
            timer.host_deadline_ns = self.clock.host_ns() + left
        else:
            timer.host_deadline_ns = max(timer.not_before_ns, self.clock.host_deadline_ns(timer.due_ns))
