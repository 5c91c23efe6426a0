"""Descriptors of child processes (pidfd_open(2)), with a replacement where they do not exist.

gVisor of 2024 has none, and profiles of old container engines refuse them. There, a thread waits for the process
without reaping it, and the descriptor is a pipe to which the thread writes at the process's end: for poll(2) both are
the same. Signals are then sent by process id, which belongs to the process until it is reaped; the code that reaps it
waits for the thread first.
"""

import contextlib
import ctypes
import errno
import functools
import os
import select
import signal
import struct
import threading
from collections.abc import Sequence

#: siginfo_t: signo, errno, code, value; the sender's pid and uid are zero.
_SIGINFO = struct.Struct("=iii12xi100x")
_RT_SIGQUEUEINFO, _TGKILL, _PIDFD_SEND_SIGNAL, _SI_QUEUE = 129, 234, 424, -1


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


@functools.cache
def has_pidfds() -> bool:
    """Whether this process gets pidfds, and may use them. Raises OSError where no descriptor is left."""
    try:
        fd = os.pidfd_open(os.getpid())
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.EPERM):
            return False
        raise
    try:
        signal.pidfd_send_signal(fd, 0)
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def open_pidfd(pid: int) -> int:
    """Returns a descriptor that is readable when a child has ended. The child must not be reaped. Raises OSError."""
    if has_pidfds():
        return os.pidfd_open(pid)
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        threading.Thread(target=_write_at_end, args=(pid, writer), name=f"proxybox-end-of-{pid}", daemon=True).start()
    except BaseException as error:
        os.close(reader)
        os.close(writer)
        if isinstance(error, RuntimeError):
            raise OSError(errno.EAGAIN, "no thread is left to wait for a process") from error
        raise
    return reader


def _write_at_end(pid: int, writer: int) -> None:
    with contextlib.suppress(ChildProcessError):  # it has been reaped
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with contextlib.suppress(OSError):  # the pipe has no reader
        os.write(writer, b".")
    os.close(writer)


def has_ended(pidfd: int, wait_ms: int | None = 0) -> bool:
    """Whether the process has ended. wait_ms: how long to wait for that; None for as long as it takes."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(wait_ms))


def wait(pidfd: int, pid: int, flags: int) -> None:
    """Calls waitid(2) for the process. flags: WEXITED, and WNOWAIT to not reap it. Raises ChildProcessError."""
    if has_pidfds():
        os.waitid(os.P_PIDFD, pidfd, flags)
    else:
        has_ended(pidfd, None)
        os.waitid(os.P_PID, pid, flags)


def send(pidfd: int, pid: int, number: int, value: int) -> int:
    """Sends a signal with a value. Returns an errno, 0 where it was sent.

    Its siginfo shows nothing about the sender, which may set it for SI_QUEUE (pidfd_send_signal(2)).
    """
    siginfo = _SIGINFO.pack(number, 0, _SI_QUEUE, value)
    if has_pidfds():
        result = _libc().syscall(_PIDFD_SEND_SIGNAL, pidfd, number, siginfo, 0)
    elif has_ended(pidfd):
        return errno.ESRCH
    else:
        result = _libc().syscall(_RT_SIGQUEUEINFO, pid, number, siginfo)
    return ctypes.get_errno() if result < 0 else 0


def stop_threads(pid: int, tids: Sequence[int]) -> None:
    """Sends SIGSTOP to each of these threads of a process that has not been reaped (tgkill(2))."""
    for tid in tids:
        _libc().syscall(_TGKILL, pid, tid, signal.SIGSTOP)
