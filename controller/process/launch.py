"""Starts a guest, has it sealed, and checks from outside that it is sealed.

    controller --posix_spawn--> launcher: reports --exec--> pypy3 with the stub: HELLO
    controller: inspects the process in /proc, answers with the filter
    stub: seals itself, and makes a system call that reaches the controller only if it traps: SEALED
    controller: inspects it again (seccomp, no_new_privs, capabilities, uid), and only then answers; `main` begins

Where something that docs/design.md calls mandatory is missing, the start fails with SandboxStartError, before anything
untrusted has run.
"""

import array
import contextlib
import fcntl
import functools
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping, Sequence

import attrs

from proxybox.controller import hostproc
from proxybox.controller.dispatch import stub_table
from proxybox.controller.errors import CannotCopy, GuestMisbehaved, SandboxStartError
from proxybox.controller.guests.guest import Guest
from proxybox.controller.guests.programs import guest_program
from proxybox.controller.header import (
    CALL_HELLO,
    CALL_SEALED,
    CONFIG,
    CONFIG_ASKS_FOR_ROOM,
    CONFIG_EMPTY_ROOT,
    CONFIG_HOST_CLOCKS,
    CONFIG_HUGE_NURSERY,
    CONFIG_HUGE_PAGES,
    CONFIG_LANDLOCK,
    CONFIG_MAGIC,
    CONFIG_REAL_TIME,
    CONFIG_RECORDED,
    CONFIG_SEAL_ONLY,
    CONFIG_SERIAL,
    CONTROL_FD,
    FIRST_CHANNEL_FD,
    LAUNCH_REPORT,
    LAUNCH_SAME_ADDRESSES,
    REQUEST,
    STUB_FD,
)  # fmt: skip
from proxybox.controller.pidfd import open_pidfd
from proxybox.controller.process.guestprocess import Family, GuestProcess
from proxybox.controller.process.listener import GuestListener, Listener
from proxybox.controller.process.memory import Beginning
from proxybox.controller.process.priority import WEIGHT, of_guests
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.roles import ROW_SIZE
from proxybox.controller.seal import layers
from proxybox.controller.seal.filters import INSTRUCTION, listener_filter, seal_filter
from proxybox.controller.seal.inspection import count_filters, inspect_descriptors, inspect_seal
from proxybox.controller.seal.layers import LaunchReport, Layer
from proxybox.controller.wire.channel import Channel

#: Seconds that a start may take. The limits of the program's own time apply after that, when its interpreter is sealed.
START_LIMIT = 60
#: The user and group id of a guest whose controller is root: the last id that Debian reserves and never assigns. 65534
#: would be wrong: daemons run under it, and /proc shows it for ids that have no mapping in a user namespace.
BOX_UID = 65533
#: Capabilities (capabilities(7)) that a controller needs when it is root, to start guests as another user and end them.
_ROOTS_NEEDS = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
#: Descriptors that the child inherits are moved to numbers from here on, above all numbers that it uses.
_ABOVE = 16


@attrs.frozen(kw_only=True, eq=False)
class LaunchSpec:
    """The parameters of the start of one guest.

    argv: of the interpreter; the first is the program's name as the guest sees it. env: its environment variables.
    pid, uid, gid: the ids that it sees. memory: bytes beyond the interpreter's own, None for no limit. threads: the
    most that it may have, the main thread included, 1 to MOST_THREADS. cpu_seconds: the CPU time after which the kernel
    ends it (RLIMIT_CPU). host_clocks: whether it may read the host's clocks, where time is real. hide: pairs of a
    prefix of host paths and its replacement in the guest. outside_proc: paths of the box that do not lead into /proc;
    one that ends in a slash stands for all paths below it. cpu: to which it is pinned, None for any. required: layers
    without which it does not start. bare: it marshals its calls itself, and the stub only seals it. nursery: bytes of
    its garbage collector's nursery, 0 for PyPy's own choice. rows: the stub's table of calls, None for the controller's
    own table. recorded: whether its readings of clocks are recorded or replayed, where time is real. serial: whether
    the controller lets one of its threads run at a time. asks_for_room: whether `memory` limits what it uses, where the
    host lets the controller enforce that; otherwise it limits address space.
    """

    guest: Guest
    argv: Sequence[str]
    env: Mapping[str, str]
    pid: int
    uid: int
    gid: int
    memory: int | None
    threads: int
    real_time: bool
    host_clocks: bool = False
    cpu_seconds: int = 0
    same_addresses: bool = False
    hide: Sequence[tuple[str, str]] = ()
    outside_proc: Sequence[str] = ()
    cpu: int | None = None
    required: Sequence[str] = ()
    forks: bool = False
    zygote: bool = False
    bare: bool = False
    nursery: int = 0
    rows: bytes | None = None
    recorded: bool = False
    serial: bool = False
    asks_for_room: bool = False

    @property
    def wants_listener(self) -> bool:
        """Whether the guest makes calls of which the kernel notifies the controller through a listener."""
        return self.threads > 1 or self.forks or self.zygote

    def filter(self, has_listener: bool) -> bytes:
        """Returns the seccomp filter that seals the guest."""
        return seal_filter(
            self.threads if has_listener else 1, real_time=self.real_time,
            threads=has_listener and self.threads > 1, forks=has_listener and self.forks, listener=has_listener,
            zygote=self.zygote, bare=self.bare, serial=self.serial, clocks=self.recorded and self.rows is None,
        )  # fmt: skip


@functools.cache
def _rows() -> bytes:
    import proxybox.controller.oscalls  # noqa: F401 - fills the table

    return stub_table()


def _config(spec: LaunchSpec, report: LaunchReport) -> bytes:
    """Returns the configuration, which the stub reads first."""
    rows = b"" if spec.bare else _rows() if spec.rows is None else spec.rows
    hide = b"".join(os.fsencode(host) + b"\0" + os.fsencode(seen) + b"\0" for host, seen in spec.hide)
    outside_proc = b"".join(os.fsencode(path) + b"\0" for path in spec.outside_proc)
    listener = listener_filter() if spec.wants_listener else b""
    huge = hostproc.gives_huge_pages() and not spec.bare
    flags = (
        (CONFIG_REAL_TIME if spec.real_time else 0)
        | (CONFIG_HOST_CLOCKS if spec.real_time and spec.host_clocks and not spec.bare else 0)
        | (CONFIG_RECORDED if spec.recorded else 0)
        | (CONFIG_SERIAL if spec.serial else 0)
        | (CONFIG_ASKS_FOR_ROOM if spec.asks_for_room else 0)
        | (CONFIG_EMPTY_ROOT if report.namespaces == 0 else 0)
        | (CONFIG_LANDLOCK if "landlock" in layers.USED else 0)
        | (CONFIG_SEAL_ONLY if spec.bare else 0)
        | (CONFIG_HUGE_PAGES if huge and spec.zygote else 0)
        | (CONFIG_HUGE_NURSERY if huge and not spec.zygote else 0)
    )
    sizes = len(rows) // ROW_SIZE, len(hide), len(outside_proc), len(listener) // INSTRUCTION.size
    head = CONFIG.pack(CONFIG_MAGIC, flags, *sizes, spec.pid, spec.uid, spec.gid, spec.memory or 0, spec.nursery)
    return head + rows + hide + outside_proc + listener


def _launcher_argv(spec: LaunchSpec, niceness: int) -> list[str]:
    flags = layers.launch_flags(layers.USED) | (LAUNCH_SAME_ADDRESSES if spec.same_addresses else 0)
    owner = str(BOX_UID) if os.geteuid() == 0 else "-1"
    cpu = "-1" if spec.cpu is None else str(spec.cpu)
    numbers = [str(os.getpid()), owner, owner, str(niceness), cpu, str(spec.cpu_seconds), str(flags)]
    return ["launcher", *numbers, spec.guest.executable, *spec.argv]


#: Held while the guest's pipe ends are open in the controller, and during fork(2). If another thread forked meanwhile,
#: the pipe ends would stay open in its child, and the controller would not see the end of the guest.
_forking = threading.RLock()
os.register_at_fork(before=_forking.acquire, after_in_parent=_forking.release, after_in_child=_forking.release)


def launch(spec: LaunchSpec) -> GuestProcess:
    """Starts and seals a guest, within START_LIMIT seconds.

    The caller then sets the limits in the guest's `watch`. Raises SandboxStartError with the step that failed, and
    CannotCopy for a guest that is to be copied where there is no seccomp listener; then all processes and descriptors
    of the attempt are ended and closed.
    """
    _require_capabilities()
    with contextlib.ExitStack() as undo:
        try:
            watchdog().make_way(spec.cpu)
            niceness = of_guests(watchdog().niceness)
            launcher, channel, control = _spawn(spec, niceness, undo)
            process, report = _adopt(launcher, channel, control)
            process.watch.niceness = niceness
            undo.pop_all()
            undo.callback(process.close)
            undo.callback(control.close)
            process.cpu = spec.cpu
            watchdog().watch(process.watch)
            process.channel.write(_config(spec, report))
            try:
                _receive_listener(process, control, spec)
                _greet(process, control, report, spec)
            except SandboxStartError:
                if process.watch.expired:  # it was ended during the inspection
                    raise _late() from None
                raise
            if spec.bare:
                process.last_words = control
            else:
                control.close()
        except TimeoutError:
            raise _late() from None
        except OSError as error:
            from proxybox.controller.process.startfailures import in_words

            raise SandboxStartError(f"the box could not be started: {in_words(error)}") from error
        undo.pop_all()
        return process


def _require_capabilities() -> None:
    """Raises SandboxStartError when the controller is root, but may not signal other users.

    It could not end the guests that it starts: neither at a limit, nor at its own end.
    """
    if os.geteuid() != 0:
        return
    held = hostproc.status("self", "CapEff", 16)
    lacking = [name for name, number in _ROOTS_NEEDS.items() if not held >> number & 1]
    if lacking:
        raise SandboxStartError(
            f"this process is root without {', '.join(lacking)}: it could not end its boxes (user {BOX_UID}); "
            "run it as an ordinary user, or leave it these capabilities"
        )


def _spawn(spec: LaunchSpec, niceness: int, undo: contextlib.ExitStack) -> tuple[int, Channel, socket.socket]:
    """Starts the launcher, and returns its pid, the channel and the control socket.

    `undo` closes the channel and the socket. The child's ends are closed in this process before the function returns.
    """
    launcher = guest_program("_launcher")
    guest_program("_overseer.so")  # memory.py needs it, but not yet
    with _forking, contextlib.ExitStack() as inherited:
        stub = _child_end(os.open(guest_program("_stub.so"), os.O_RDONLY | os.O_CLOEXEC), inherited)
        ours, theirs = socket.socketpair()
        undo.callback(ours.close)
        # A bare guest may write its last words here. If the socket is full, they are lost, and the guest does not wait.
        theirs.setblocking(not spec.bare)
        control = _child_end(theirs.detach(), inherited)
        request_read, request_write = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, request_read)
        request_write = _child_end(request_write, inherited)
        reply_read, reply_write = os.pipe2(os.O_CLOEXEC)
        undo.callback(os.close, reply_write)
        reply_read = _child_end(reply_read, inherited)
        ends = (control, reply_read, request_write, stub)
        moves = zip(ends, (CONTROL_FD, FIRST_CHANNEL_FD, FIRST_CHANNEL_FD + 1, STUB_FD), strict=True)
        pid = watchdog().spawn(
            launcher, _launcher_argv(spec, niceness), spec.env, setsid=True, setsigmask=(), setsigdef=range(1, 32),
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in moves],
        )  # fmt: skip
    return pid, Channel(request_read, reply_write), ours


def _child_end(fd: int, inherited: contextlib.ExitStack) -> int:
    """Moves a descriptor above all numbers that the child uses (_ABOVE); `inherited` closes it."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _ABOVE)
    finally:
        os.close(fd)
    inherited.callback(os.close, moved)
    return moved


def _adopt(launcher: int, channel: Channel, control: socket.socket) -> tuple[GuestProcess, LaunchReport]:
    """Returns the processes that the launcher reports: the guest, and its init where it has one.

    Their pids cannot belong to other processes: they are children of the controller that were not reaped. Where this
    fails, all of them are ended.
    """
    deadline = time.monotonic_ns() + START_LIMIT * 10**9
    init_watch = None
    try:
        control.settimeout(START_LIMIT)
        data = control.recv(LAUNCH_REPORT.size)
        report = LaunchReport.unpack(data)
        guest, init = (report.guest, report.init) if report and report.init else (launcher, 0)
        if report is None or not guest:
            raise _start_error(control, data if report is None else b"", gone=launcher)
        if init:
            init_watch = Watch(init, open_pidfd(init))
        watch = Watch(guest, open_pidfd(guest), deadline)
    except BaseException:
        if init_watch is not None:
            init_watch.close()
        _end_group(launcher)
        raise
    family = Family(init=init_watch)
    return GuestProcess(
        pid=guest, watch=watch, channel=channel, family=family, launcher=launcher if init else None
    ), report


def _end_group(launcher: int) -> None:
    """Kills the process group of a launcher, with all its processes, reported or not, and waits for them."""
    with contextlib.suppress(ChildProcessError):
        # Fails where no child of the controller is in the group: its id may belong to another group by now.
        os.waitid(os.P_PGID, launcher, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        os.killpg(launcher, signal.SIGKILL)
        while True:
            os.waitid(os.P_PGID, launcher, os.WEXITED)


def _receive_listener(process: GuestProcess, control: socket.socket, spec: LaunchSpec) -> None:
    if not spec.wants_listener:
        process.note(layers.stands("thread count", "one: the filter lets no other be made"))
        return
    fds = array.array("i")
    text, ancillary, _, _ = control.recvmsg(1, socket.CMSG_SPACE(fds.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: fds.itemsize])
    if fds:
        process.family.listener = Listener(fds[0])
        process.guest_listener = GuestListener(process.family.listener, process.pid, spec.threads)
    elif text != b"n":
        raise _start_error(control, text, process)
    elif spec.zygote or spec.forks:
        raise CannotCopy("no seccomp listener is to be had here, so no guest can be copied")
    none = layers.missing("thread count", "no seccomp listener is to be had here, so the box has one thread")
    process.note(layers.stands("thread count", "by the kernel") if fds else none)


def _greet(process: GuestProcess, control: socket.socket, report: LaunchReport, spec: LaunchSpec) -> None:
    """Receives HELLO, inspects the guest and its layers from outside, sends the filter, and inspects it again."""
    number, space_limit, address, room, root_errno, landlock_errno, settings_at = _frame(process, control)
    if number != CALL_HELLO:
        raise _start_error(control, process=process)
    process.settings_at = 0 if spec.bare else settings_at
    if spec.memory is not None:
        began = Beginning(space_limit - spec.memory, Beginning.of(process.pid).used)
        process.watch.memory = process.watch.memory_of(spec.memory, began, spec.asks_for_room)
    process.note(inspect_descriptors(process.pid, _descriptors(spec)))
    landlock = landlock_errno if "landlock" in layers.USED else None
    process.note(*layers.look_from_outside(process.pid, report, root_errno, landlock))
    if "cgroup" in layers.USED:
        process.note(enter_cgroup(process, spec))
    layers.require(spec.required, process.layers)
    filters = count_filters(process.pid)
    process.reap_launcher()
    program = spec.filter(process.guest_listener is not None)
    length = len(program) // INSTRUCTION.size
    process.channel.send((length, (address, program)) if length <= room else 0)
    if _frame(process, control)[0] != CALL_SEALED:  # only the last step, seccomp(2), can have failed
        raise _start_error(control, b"seccomp", process)
    process.filters = None if filters is None else filters + 1
    process.note(*inspect_seal(process.pid, uid_of_guests(), process.watch.niceness, process.filters))


def _descriptors(spec: LaunchSpec) -> list[int]:
    """Returns the descriptors that a guest holds before it is sealed."""
    return [*range(FIRST_CHANNEL_FD if spec.bare else 0), FIRST_CHANNEL_FD, FIRST_CHANNEL_FD + 1]


def uid_of_guests() -> int:
    """Returns the host's user id under which guests of this process run."""
    return BOX_UID if os.geteuid() == 0 else os.geteuid()


def enter_cgroup(process: GuestProcess, spec: LaunchSpec, shared: int = 0) -> Layer:
    """Puts a guest into a cgroup of its own with the limits of its policy, and returns the state of that layer.

    shared: bytes that it shares with the process from which it was copied: they are charged to it when it writes them.
    """
    from proxybox.controller.seal import cgroups

    memory = None if spec.memory is None else spec.memory + shared
    try:
        process.cgroup = cgroups.Cgroup.create(cgroups.parent_for_boxes(), memory, spec.threads, WEIGHT)
        process.cgroup.add(process.pid)
    except cgroups.Unavailable as error:
        return layers.missing("cgroup", str(error))
    except OSError as error:
        return layers.missing("cgroup", f"the delegated cgroup cannot be used ({error.strerror})")
    return layers.stands("cgroup", "limits of memory and tasks")


def _frame(process: GuestProcess, control: socket.socket) -> tuple[int, ...]:
    """Receives one request, and returns its call number and registers. Raises SandboxStartError where there is none."""
    frame: bytes | None = None
    try:
        while frame is None:
            frame = process.channel.receive()
    except GuestMisbehaved as error:
        raise _start_error(control, process=process) from error
    if not frame:
        raise _start_error(control, process=process, gone=process.pid)
    return REQUEST.unpack_from(frame)[1:]


def _late() -> SandboxStartError:
    return SandboxStartError(f"the interpreter did not start within {START_LIMIT} seconds")


def _start_error(
    control: socket.socket, text: bytes = b"", process: GuestProcess | None = None, gone: int = 0
) -> SandboxStartError:
    """Ends a guest whose start has failed; returns an error with the launcher's, the loader's or the stub's message.

    gone: the id of a process that has ended by itself, or is about to; 0 where none has.
    """
    from proxybox.controller.process.startfailures import signal_that_ended, why_no_start

    signal_ = signal_that_ended(gone) if gone else 0
    if process is not None:
        process.watch.kill()
        if process.family.init is not None:
            process.family.init.kill()
    control.settimeout(1)
    with contextlib.suppress(OSError):
        while data := control.recv(4096):
            text += data
    said = text.decode("utf-8", "backslashreplace").strip()
    return SandboxStartError(f"the box could not be started: {why_no_start(said, signal_, BOX_UID)}")
