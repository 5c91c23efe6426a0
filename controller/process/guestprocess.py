"""A guest's process in the controller: how it is ended, measured and reaped, and the resources that it shares.

The guests that come from one start (the children of a zygote, the copies of a session) are a `Family`. They share the
listener of their filters and the pid namespace. Each of them is a child of the controller.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from proxybox.controller import hostproc, pidfd
from proxybox.controller.header import SEALED_ANSWER
from proxybox.controller.process.listener import GuestListener, Listener, Notification
from proxybox.controller.process.memory import Beginning, GuestMemory
from proxybox.controller.process.watch import Watch
from proxybox.controller.process.watchdog import watchdog
from proxybox.controller.seal.layers import Layer
from proxybox.controller.wire.channel import Channel
from proxybox.policies import Limits

if TYPE_CHECKING:
    from proxybox.controller.seal.cgroups import Cgroup

#: The bits of the two signals that libc reserves, 32 and 33.
_OF_LIBC = 3 << 31
#: The most bytes that `said_last` returns.
_LAST_WORDS = 1 << 14


class Family:
    """The resources that the guests of one start share. They are released when the last guest has ended.

    listener: of their seccomp filters; None where there is none. init: the first process of the pid namespace, where
    there is one.
    """

    def __init__(self, listener: Listener | None = None, init: Watch | None = None) -> None:
        self.listener = listener
        self.init = init
        self._members: set[int] = set()
        self._lock = threading.Lock()

    def join(self, pid: int) -> None:
        """Adds a guest. `birth.end_strays` ends processes that no family knows."""
        with self._lock:
            self._members.add(pid)

    def knows(self, pid: int) -> bool:
        """Whether the process `pid` is one of the family's guests, or its init."""
        return pid in self._members or (self.init is not None and self.init.pid == pid)

    def leave(self, pid: int) -> None:
        """Removes a guest that has ended and been reaped. After the last one, ends the init and closes the listener."""
        with self._lock:
            self._members.discard(pid)
            if self._members:
                return
        if self.init is not None:
            self.init.kill()  # the kernel then kills the processes left in its pid namespace (pid_namespaces(7))
            with contextlib.suppress(OSError):
                if not self.init.unreachable:
                    pidfd.wait(self.init.pidfd, self.init.pid, os.WEXITED)
            self.init.close()
        if self.listener is not None:
            self.listener.close()


@attrs.define(kw_only=True, eq=False)
class GuestProcess:
    """One guest process. After its launch it is sealed, and waits for `begin`.

    launcher: pid of the child of the controller that has started the guest, where that is another process.
    guest_listener: its part of the listener, None where there is no listener. fork_lock: held while a guest of its
    process group is copied. layers: those that are used, by name, with their states. settings_at: the address of its
    struct settings; 0 for guests without one. filters: how many seccomp filters it has; None where the kernel does not
    say. last_words: the socket on which a guest that marshals its own calls says why it ends; None for other guests.
    """

    pid: int
    watch: Watch
    channel: Channel
    family: Family = attrs.field(factory=Family)
    guest_listener: GuestListener | None = None
    fork_lock: threading.Lock = attrs.field(factory=threading.Lock)
    layers: dict[str, Layer] = attrs.field(factory=dict)
    launcher: int | None = None
    cgroup: "Cgroup | None" = None
    last_words: socket.socket | None = None
    filters: int | None = None
    ran_out_of_memory: bool = False
    peak_space: int | None = None
    peak_resident: int | None = None
    cpu_ns: int = 0
    first_answer: int = SEALED_ANSWER
    settings_at: int = 0
    _settings: bytes = b""
    _reported_layers: dict[str, str] | None = None

    def __attrs_post_init__(self) -> None:
        self.family.join(self.pid)

    @property
    def cpu(self) -> int | None:
        """The CPU on which it runs; None for any."""
        return self.watch.cpu

    @cpu.setter
    def cpu(self, cpu: int | None) -> None:
        self.watch.cpu = cpu

    @property
    def memory(self) -> GuestMemory | None:
        """The limits of its memory; None for no limit."""
        return self.watch.memory

    def note(self, *seen: Layer) -> None:
        """Stores the states of its layers."""
        self.layers.update((layer.name, layer) for layer in seen)
        self._reported_layers = None

    def reported_layers(self) -> dict[str, str]:
        """Returns the value of `Result.layers`. It is complete when the guest is sealed."""
        if self._reported_layers is None:
            self._reported_layers = {name: layer.text for name, layer in self.layers.items()}
        return dict(self._reported_layers)

    def tighten(self, limits: Limits) -> bool:
        """Lowers the limits in the kernel: of memory beyond what the guest has now, and of threads.

        For a guest that has run nothing untrusted yet. Returns False where the kernel refuses.
        """
        try:
            memory_of_cgroup = None
            if limits.memory is not None:
                asks = self.memory is None or self.memory.asks
                memory = self.watch.memory_of(limits.memory, Beginning.of(self.pid), asks)
                memory_of_cgroup = limits.memory + (memory.began.used or 0)
                if self.memory is None or memory.soft < self.memory.soft:
                    memory.enforce()
                    self.watch.memory = memory
            if self.cgroup is not None:
                self.cgroup.limit(memory_of_cgroup, limits.thread_count)
        except (OSError, ValueError):
            return False
        if self.guest_listener is not None:
            self.guest_listener.tighten(limits.thread_count)
        return True

    def measure(self) -> None:
        """Records the peak memory of the guest, which must still be alive."""
        try:
            peaks = hostproc.peaks(self.pid)
        except OSError:
            return
        self.peak_space = peaks.get("VmPeak", self.peak_space)
        self.peak_resident = peaks.get("VmHWM", self.peak_resident)

    def make_room(self, size: int, kind: int) -> bool:
        """Returns whether the stub should repeat an allocation that has failed (memory.py)."""
        if self.memory is None or not self.memory.ask(size, kind):
            return False
        self.watch.look_soon()
        return True

    def is_nearly_full(self) -> bool:
        """Whether it uses nearly all of its allowed memory now."""
        with contextlib.suppress(OSError, ValueError):
            return self.memory is not None and self.memory.is_nearly_full()
        return False

    def was_nearly_full(self) -> bool:
        """Whether it has ever used nearly all of its allowed memory, as far as that was measured."""
        peak = self.peak_resident if self.peak_space is None else self.peak_space
        return self.memory is not None and self.memory.was_nearly_full(peak)

    def has_had_at_most(self, left: int) -> bool:
        """Whether it had at most `left` bytes of its memory left at some time."""
        return self.memory is not None and self.memory.has_had_at_most(left, self.peak_space)

    def resident(self) -> int | None:
        """Its resident memory now, in bytes; None where /proc does not show it."""
        try:
            return hostproc.memory(self.pid)[1]
        except (OSError, ValueError):
            return None

    def has_pending(self, number: int) -> bool:
        """Whether a signal that was sent to the process is still pending, or deferred by the stub to a call's end."""
        return bool(self.watch.undelivered() >> number - 1 & 1) or self._puts_off()

    def _puts_off(self) -> bool:
        """Whether a thread has a deferred signal: then its mask also blocks the two signals that libc never blocks."""
        with contextlib.suppress(OSError, ValueError):
            return any(hostproc.status(tid, "SigBlk", 16) & _OF_LIBC for tid in hostproc.threads(self.pid))
        return False

    def reap(self) -> tuple[int | None, int | None]:
        """Waits for the guest's end, and returns (exit code, signal).

        Both are None where other code of this process has waited for the guest already, or where the guest is
        unreachable.
        """
        watchdog().release(self.watch)
        if self.watch.unreachable:
            return None, None
        self.cpu_ns = max(self.cpu_ns, self.watch.cpu_time_ns())
        self._close_guest_listener()
        try:
            pidfd.wait(self.watch.pidfd, self.pid, os.WEXITED | os.WNOWAIT)  # a zombie now, so its pid stays its own
            _, status, usage = os.wait4(self.pid, 0)
        except ChildProcessError:
            return None, None
        self.cpu_ns = int((usage.ru_utime + usage.ru_stime) * 1e9)
        if self.peak_resident is None and self.family.init is not None:
            # Without an init the guest was made by vfork(2) (in posix_spawn(3)), and its ru_maxrss includes the
            # controller's own peak.
            self.peak_resident = usage.ru_maxrss * 1024
        self.ran_out_of_memory = self.cgroup is not None and self.cgroup.ran_out_of_memory()
        code = os.waitstatus_to_exitcode(status)
        if code == -signal.SIGTRAP and self.last_words is not None:
            code = -signal.SIGABRT  # it cannot send itself SIGABRT: abort(3) ends with a trap (stub_signals.c)
        return (code, None) if code >= 0 else (None, -code)

    def begin(self, settings: bytes) -> None:
        """Sends the first answer: then `main` runs, or a copy continues. settings: see `Dispatcher.stub_settings`."""
        self.channel.send((self.first_answer, *self.to_store(settings)))

    def to_store(self, settings: bytes) -> tuple[tuple[int, bytes], ...]:
        """Returns the writes of the next answer that give the guest these settings; none if it has them."""
        if not self.settings_at or settings == self._settings:
            return ()
        self._settings = settings
        return ((self.settings_at, settings),)

    def reap_launcher(self) -> None:
        """Waits for the launcher, which ends when the guest runs and the init has closed its descriptors."""
        if self.launcher is not None:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.launcher, 0)
            self.launcher = None

    def _close_guest_listener(self) -> None:
        """Closes its part of the listener before the guest is reaped: afterwards a new guest may get its pid."""
        if self.guest_listener is not None:
            self.guest_listener.listener.discard(self.guest_listener)

    def close(self) -> None:
        """Kills the guest if it still runs, reaps it, and closes its descriptors in the controller."""
        self.channel.close()
        self.watch.kill()
        with contextlib.suppress(OSError):
            self.reap()
        self.reap_launcher()
        self._close_guest_listener()
        self.family.leave(self.pid)
        if self.cgroup is not None:
            self.cgroup.close()
        self.watch.close()
        if self.last_words is not None:
            self.last_words.close()

    def said_last(self) -> bytes:
        """Returns the last words of a guest that marshals its own calls: untrusted, at most _LAST_WORDS bytes."""
        if self.last_words is None:
            return b""
        self.last_words.setblocking(False)
        said = b""
        with contextlib.suppress(OSError):
            while len(said) < _LAST_WORDS and (data := self.last_words.recv(_LAST_WORDS - len(said))):
                said += data
        return said


def open_channel(
    listener: Listener, notification: Notification, first: int, others: Iterable[int] = ()
) -> Channel | None:
    """Makes a pipe pair, and puts its far ends into the guest whose call the kernel holds.

    The guest gets them as the descriptors `first` and `first` + 1, and old descriptors of these numbers are closed.
    They also replace the descriptors `others`, so that the guest does not keep those. Returns None where descriptors
    have run out or the guest has gone.
    """
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
        if not listener.give_descriptors(notification, ends):
            return None
        ours.pop_all()
        return Channel(request_read, reply_write)
