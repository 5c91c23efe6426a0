"""How a copied guest becomes a box of its own.

    parent: waits in fork(2) ── the controller grants it ── clone: held by the kernel, allowed by the controller
    child:  prctl(PR_SET_PDEATHSIG): held by the kernel, which reports its pid; gets its own pipe ends, allowed
    child:  BORN. A zygote's child now takes its limits and its final filter, and is inspected as after any start

Promise: the controller knows every copy. If a granted fork does not produce a child that reports itself with this
prctl, the parent is ended with all processes that it has made.
"""

import contextlib
import functools
import os
import select
import signal
import time
from collections.abc import Callable

from proxybox.controller import hostproc
from proxybox.controller.errors import GuestMisbehaved, SandboxStartError
from proxybox.controller.header import CALL_BORN, CALL_SEALED, FIRST_CHANNEL_FD, FORK_AGAIN, INSPECT, NEWBORN, REQUEST
from proxybox.controller.pidfd import open_pidfd
from proxybox.controller.process.guestprocess import GuestProcess, open_channel
from proxybox.controller.process.launch import LaunchSpec, enter_cgroup, uid_of_guests
from proxybox.controller.process.listener import ExpectedCopy, GuestListener, Notification
from proxybox.controller.process.memory import Beginning
from proxybox.controller.process.reaper import reaper
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.seal import layers
from proxybox.controller.seal.filters import INSTRUCTION
from proxybox.controller.seal.inspection import inspect_seal
from proxybox.controller.wire.channel import Channel

#: Seconds from the grant of a fork until the first call of the copy. If it does not come, the parent is ended.
FORK_LIMIT = 10
#: Seconds from then on until the copy is sealed. After that, only the copy is ended.
BIRTH_LIMIT = 10


def adopt(
    parent: GuestProcess,
    pid: int,
    threads: int,
    *,
    again: bool = False,
    cpu: int | None = None,
    meanwhile: Callable[[], object] | None = None,
    inspected: Channel | None = None,
) -> tuple[GuestProcess, tuple[int, int, int]]:
    """Grants a parent its fork, and takes over the child, whose process id in its box is `pid`.

    Returns the child and what its BORN request says: the address for its filter, how many instructions fit there, and
    the address for its limits. again: whether the parent calls fork(2) again at once. cpu: the child's; None for the
    parent's. meanwhile: is called once, while the kernel copies the parent, and must not raise. inspected: the channel
    of a thread that has not called fork(2), but whose process is to be inspected (stub_inspect.c).

    Raises SandboxStartError when no child can be taken over. The parent, and the processes that it has made, are ended
    when the fork itself fails; a child that fails after that is ended alone.
    """
    listener = parent.family.listener
    if listener is None or parent.guest_listener is None:
        raise SandboxStartError("this guest cannot be copied")
    deadline = time.monotonic_ns() + int(FORK_LIMIT * 1e9)
    with parent.fork_lock, parent.watch.awake():  # after a stop, the kernel would begin the clone again
        try:
            with listener.expect(os.getpgid(parent.pid)) as expected:
                parent.guest_listener.may_fork = True
                if inspected is None:
                    parent.channel.send(pid << 16 | (FORK_AGAIN if again else 0))
                else:
                    _ask(inspected)
                child, notification = _take_in(parent, parent.guest_listener, expected, deadline, meanwhile)
        except (OSError, SandboxStartError) as error:
            end_strays(parent)
            raise SandboxStartError(f"the guest could not be copied: {error}") from error
    if not again:
        child.fork_lock = parent.fork_lock
    child.guest_listener = GuestListener(listener, child.pid, threads)
    child.guest_listener.installed.update(parent.guest_listener.installed)
    child.cpu, child.watch.niceness = parent.cpu, parent.watch.niceness
    if cpu not in (None, parent.cpu):
        with contextlib.suppress(OSError):
            os.sched_setaffinity(child.pid, (cpu,))
            child.cpu = cpu
    listener.allow(notification)
    watchdog().watch(child.watch)
    try:
        number, address, room, limits, *_ = _frame(child)
        if number != CALL_BORN:
            raise SandboxStartError("the copy did not say what it shall")
    except BaseException:
        child.close()
        raise
    return child, (address, room, limits)


def _ask(inspected: Channel) -> None:
    """Requests a copy for an inspection. Raises SandboxStartError for a guest that does not read its answers.

    A guest that does not read could make calls and copies until its pipe is full. Then this would wait forever, because
    the time of an inspection is not charged.
    """
    poll = select.poll()
    poll.register(inspected.reply_fd, select.POLLOUT)
    if not any(events & select.POLLOUT for _, events in poll.poll(0)):
        raise SandboxStartError("it does not read its answers")
    inspected.send(INSPECT)


def _take_in(
    parent: GuestProcess,
    guest_listener: GuestListener,
    expected: ExpectedCopy,
    deadline: int,
    meanwhile: Callable[[], object] | None,
) -> tuple[GuestProcess, Notification]:
    """Returns the new child, which the kernel still holds. Its parent's pipe ends have been replaced in it."""
    notification = _at_first_call(parent, guest_listener, expected, deadline, meanwhile)
    watch = Watch(notification.tid, open_pidfd(notification.tid), time.monotonic_ns() + int(BIRTH_LIMIT * 1e9))
    channel = None
    if guest_listener.listener.is_there(
        notification
    ):  # it still waits, so its pid cannot belong to another process by now
        channel = open_channel(guest_listener.listener, notification, FIRST_CHANNEL_FD, guest_listener.installed)
    if channel is None:
        watch.close()
        raise SandboxStartError("its copy has ended, or descriptors have run out")
    child = GuestProcess(
        pid=notification.tid, watch=watch, channel=channel, family=parent.family, filters=parent.filters
    )
    child.settings_at = parent.settings_at
    return child, notification


def _at_first_call(
    parent: GuestProcess,
    guest_listener: GuestListener,
    expected: ExpectedCopy,
    deadline: int,
    meanwhile: Callable[[], object] | None,
) -> Notification:
    """Waits for the child's first call. Before that, `Listener.sort` allows one clone of the parent."""
    poll = select.poll()
    for fd in (guest_listener.listener.fd, expected.wake, parent.watch.pidfd):
        poll.register(fd, select.POLLIN)
    while True:
        left = deadline - time.monotonic_ns()
        ready = dict(poll.poll(max(0, left // 1_000_000)))
        guest_listener.listener.sort()
        if meanwhile is not None and not guest_listener.may_fork:  # the clone was allowed
            meanwhile()
            meanwhile = None
        if expected.newborn is not None:
            return expected.newborn
        if parent.watch.pidfd in ready:
            raise SandboxStartError("it has ended")
        if left <= 0:
            raise SandboxStartError(f"its copy did not come within {FORK_LIMIT} seconds")


def seal(child: GuestProcess, spec: LaunchSpec, born: tuple[int, int, int], began: Beginning) -> None:
    """Gives a zygote's child its limits and its final filter, and inspects it from outside.

    began: the memory of the zygote. Raises SandboxStartError.
    """
    address, room, limits = born
    program = spec.filter(True)
    length = len(program) // INSTRUCTION.size
    child.cpu = spec.cpu
    space = most = 0
    if spec.memory is not None:
        child.watch.memory = memory = child.watch.memory_of(spec.memory, began, spec.asks_for_room)
        space, most = memory.soft, memory.most()
    newborn = NEWBORN.pack(space, most, spec.cpu_seconds, -1 if spec.cpu is None else spec.cpu)
    child.channel.send((length, (address, program), (limits, newborn)) if length <= room else -1)
    if _frame(child)[0] != CALL_SEALED:
        raise SandboxStartError("the copy could not be sealed")
    child.filters = None if child.filters is None else child.filters + 1
    child.note(*inspect_seal(child.pid, uid_of_guests(), child.watch.niceness, child.filters))
    if "cgroup" in layers.USED:
        child.note(enter_cgroup(child, spec, began.used or 0))
    layers.require(spec.required, child.layers)


def _frame(child: GuestProcess) -> tuple[int, ...]:
    """Returns a child's next request: its call number and registers. Raises SandboxStartError where there is none."""
    frame: bytes | None = None
    with contextlib.suppress(GuestMisbehaved):
        while frame is None:
            frame = child.channel.receive()
    if not frame:
        raise SandboxStartError("the copy ended before it was ready")
    return REQUEST.unpack_from(frame)[1:]


def end_strays(parent: GuestProcess) -> None:
    """Ends a parent, and every child of the controller in its process group that is not in the parent's family."""
    parent.watch.kill()
    ended = select.poll()
    ended.register(parent.watch.pidfd, select.POLLIN)
    ended.poll(1000)
    try:
        group = os.getpgid(parent.pid)
    except OSError:
        return
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        if parent.family.knows(pid):
            continue
        with contextlib.suppress(OSError, ValueError):
            ppid, pgrp = hostproc.stat(pid, 4, 5)
            if ppid == os.getpid() and pgrp == group:
                os.kill(pid, signal.SIGKILL)
                reaper().bury(functools.partial(_wait_for, pid))


def _wait_for(pid: int) -> None:
    with contextlib.suppress(ChildProcessError):  # `end_strays` has found it twice, and it has been waited for
        os.waitpid(pid, 0)
