"""A guest's process as its controller holds it: how it is ended, measured and reaped, and what it shares with others.

Guests that come from one start, a zygote's children or the copies of a session, are a `Family`: they share the listener
of their filters and the pid namespace, and each is a child of the controller's own.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterable

import attrs

from proxybox.controller import hostproc
from proxybox.controller.header import SEALED_ANSWER
from proxybox.controller.process.keeper import Watch, keeper
from proxybox.controller.process.listener import Door, Knock, Listener
from proxybox.controller.seal.cgroups import Cgroup
from proxybox.controller.seal.layers import Layer
from proxybox.controller.wire.channel import Channel

#: Bytes of last words.
_LAST_WORDS = 1 << 14


class Family:
    """What is given back when the last guest of a start has ended.

    listener: None where none is to be had. init: the first process of the pid namespace, where there is one.
    """

    def __init__(self, listener: Listener | None = None, init: Watch | None = None) -> None:
        self.listener = listener
        self.init = init
        self._members: set[int] = set()
        self._lock = threading.Lock()

    def join(self, pid: int) -> None:
        """One more guest; so it is known that this process is no stray."""
        with self._lock:
            self._members.add(pid)

    def knows(self, pid: int) -> bool:
        """Whether this is one of its processes."""
        return pid in self._members or (self.init is not None and self.init.pid == pid)

    def leave(self, pid: int) -> None:
        """That guest has ended and has been reaped; with the last one all ends."""
        with self._lock:
            self._members.discard(pid)
            if self._members:
                return
        if self.init is not None:
            self.init.kill()  # and with it all that may be left in its namespace
            with contextlib.suppress(OSError):
                if not self.init.unreachable:
                    os.waitid(os.P_PIDFD, self.init.pidfd, os.WEXITED)
            self.init.close()
        if self.listener is not None:
            self.listener.close()


@attrs.define(kw_only=True, eq=False)
class GuestProcess:
    """A guest that is sealed and waits to begin: see `begin`.

    launcher: another child of this process, that has started the guest. door: where its clones stand, None where no
    listener is to be had. births: held while a copy of one of its process group is made. layers: what was seen of each
    that is used. filters: how many seccomp filters it has. last_words: where a guest that marshals its own calls says
    why it ended, None for others.
    """

    pid: int
    watch: Watch
    channel: Channel
    family: Family = attrs.field(factory=Family)
    door: Door | None = None
    births: threading.Lock = attrs.field(factory=threading.Lock)
    layers: dict[str, Layer] = attrs.field(factory=dict)
    launcher: int | None = None
    cgroup: Cgroup | None = None
    last_words: socket.socket | None = None
    filters: int | None = None
    ran_out_of_memory: bool = False
    cpu: int | None = None
    space_limit: int | None = None
    peak_space: int | None = None
    peak_resident: int | None = None
    cpu_ns: int = 0
    first_answer: int = SEALED_ANSWER

    def __attrs_post_init__(self) -> None:
        self.family.join(self.pid)

    def note(self, *seen: Layer) -> None:
        """What was seen of its layers."""
        self.layers.update((layer.name, layer) for layer in seen)

    def told_layers(self) -> dict[str, str]:
        """As `Result.layers` says it."""
        return {name: layer.told for name, layer in self.layers.items()}

    def measure(self) -> None:
        """Keeps how much memory the living guest has used at the most."""
        try:
            peaks = hostproc.peaks(self.pid)
        except OSError:
            return
        self.peak_space = peaks.get("VmPeak", self.peak_space)
        self.peak_resident = peaks.get("VmHWM", self.peak_resident)

    def resident(self) -> int | None:
        """Bytes that are in memory now; None when it cannot be told."""
        try:
            return hostproc.memory(self.pid)[1]
        except (OSError, ValueError):
            return None

    def has_pending(self, number: int) -> bool:
        """Whether a signal that was sent to it waits for the end of a call."""
        return bool(self.watch.undelivered() >> number - 1 & 1)

    def reap(self) -> tuple[int | None, int | None]:
        """(exit code, signal) of the ended guest; both None where somebody else has waited for it."""
        keeper().release(self.watch)
        if self.watch.unreachable:
            return None, None
        self.cpu_ns = max(self.cpu_ns, self.watch.cpu_time_ns())
        self._leave_door()
        try:
            os.waitid(os.P_PIDFD, self.watch.pidfd, os.WEXITED | os.WNOWAIT)  # from here on the pid is its own
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            return None, None
        self.cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        if self.peak_resident is None and self.family.init is not None:
            # Without an init it is a child of vfork(2), of which the kernel tells the controller's own peak.
            self.peak_resident = usage.ru_maxrss * 1024
        self.ran_out_of_memory = self.cgroup is not None and self.cgroup.ran_out_of_memory()
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGTRAP and self.last_words is not None:
            code = -signal.SIGABRT  # stub_signals.c: it cannot send itself that one
        return (code, None) if code >= 0 else (None, -code)

    def begin(self) -> None:
        """Lets the interpreter's `main` run, or a copy go on."""
        self.channel.send(self.first_answer)

    def reap_launcher(self) -> None:
        """Waits for the launcher, which ends when the guest runs and the init has nothing any more."""
        if self.launcher is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.launcher, 0)
            self.launcher = None

    def _leave_door(self) -> None:
        """Before it is reaped: a newborn may have its number next."""
        if self.door is not None:
            self.door.listener.discard(self.door)

    def close(self) -> None:
        """Kills what still runs, reaps it, and closes everything that the controller held for it."""
        self.channel.close()
        self.watch.kill()
        with contextlib.suppress(OSError):
            self.reap()
        self.reap_launcher()
        self._leave_door()
        self.family.leave(self.pid)
        if self.cgroup is not None:
            self.cgroup.close()
        self.watch.close()
        if self.last_words is not None:
            self.last_words.close()

    def said_last(self) -> bytes:
        """What a guest that marshals its own calls has said of its end: untrusted, and of bounded size."""
        if self.last_words is None:
            return b""
        self.last_words.setblocking(False)
        said = b""
        with contextlib.suppress(OSError):
            while len(said) < _LAST_WORDS and (data := self.last_words.recv(_LAST_WORDS - len(said))):
                said += data
        return said


def open_channel(listener: Listener, knock: Knock, first: int, others: Iterable[int] = ()) -> Channel | None:
    """A pipe pair whose far ends the guest at the door holds as `first` and the next, in the place of what they were,
    and under the numbers of `others`, so that nothing is left there; None where descriptors have run out or the guest
    has gone."""
    with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
        try:
            request_read, request_write = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, request_read)
            theirs.callback(os.close, request_write)
            reply_read, reply_write = os.pipe2(os.O_CLOEXEC)
            ours.callback(os.close, reply_write)
            theirs.callback(os.close, reply_read)
        except OSError:
            return None
        numbers = {first, first + 1, *others}
        ends = {number: reply_read if (number - first) % 2 == 0 else request_write for number in numbers}
        if not listener.give_descriptors(knock, ends):
            return None
        ours.pop_all()
        return Channel(request_read, reply_write)
