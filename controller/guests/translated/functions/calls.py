"""OS calls with other arguments than the function of libc has."""

import errno
import os
import struct

from proxybox.controller import abi
from proxybox.controller.guests.translated.asking import (
    Allocate,
    Free,
    FunctionResult,
    Steps,
    failed,
    failure,
    os_call,
    served,
    waited,
)
from proxybox.controller.guests.translated.libc import Libc, function
from proxybox.controller.world.state import Ended


@function("_exit(i)v")
def exit_(libc: Libc, status: int) -> Steps:
    """Ends the world; the controller does not wait for what the process does afterwards."""
    yield from os_call("exit_group", status)
    libc.world.end(Ended(None))
    return FunctionResult()


@function("mkfifo(pi)i")
def mkfifo(_: Libc, path: int, mode: int) -> Steps:
    return served("mknod", path, mode & 0o7777 | abi.S_IFIFO, 0)


@function("mkfifoat(ipi)i")
def mkfifoat(_: Libc, fd: int, path: int, mode: int) -> Steps:
    return served("mknodat", fd, path, mode & 0o7777 | abi.S_IFIFO, 0)


@function("pipe(p)i")
def pipe(_: Libc, fds: int) -> Steps:
    return served("pipe2", fds, 0)


@function("killpg(ii)i")
def killpg(_: Libc, group: int, number: int) -> Steps:
    return failure(errno.EINVAL) if group < 0 else served("kill", -group, number)


@function("waitpid(ipi)i")
def waitpid(_: Libc, pid: int, status: int, options: int) -> Steps:
    return served("wait4", pid, status, options, 0)


@function("setpgrp()i")
def setpgrp(_: Libc) -> Steps:
    return served("setpgid", 0, 0)


@function("setegid(i)i")
def setegid(_: Libc, gid: int) -> Steps:
    return served("setresgid", -1, gid, -1)


@function("seteuid(i)i")
def seteuid(_: Libc, uid: int) -> Steps:
    return served("setresuid", -1, uid, -1)


@function("futimens(ip)i")
def futimens(_: Libc, fd: int, times: int) -> Steps:
    return served("utimensat", fd, 0, times, 0)


@function("rpy_dup_noninheritable(i)i")
def rpy_dup_noninheritable(_: Libc, fd: int) -> Steps:
    return served("fcntl", fd, abi.F_DUPFD_CLOEXEC, 0)


@function("rpy_dup2_noninheritable(ii)i")
def rpy_dup2_noninheritable(_: Libc, old: int, new: int) -> Steps:
    return served("dup3", old, new, abi.O_CLOEXEC)


@function("rpy_get_status_flags(i)i")
def rpy_get_status_flags(_: Libc, fd: int) -> Steps:
    return served("fcntl", fd, abi.F_GETFL, 0)


@function("rpy_set_status_flags(ii)i")
def rpy_set_status_flags(_: Libc, fd: int, flags: int) -> Steps:
    return served("fcntl", fd, abi.F_SETFL, flags)


@function("rpy_get_inheritable(i)i")
def rpy_get_inheritable(_: Libc, fd: int) -> Steps:
    value, _writes = yield from os_call("fcntl", fd, abi.F_GETFD, 0)
    return FunctionResult(-1, -value) if failed(value) else FunctionResult(int(not value & abi.FD_CLOEXEC))


@function("rpy_set_inheritable(ii)i")
def rpy_set_inheritable(_: Libc, fd: int, inheritable: int) -> Steps:
    return served("fcntl", fd, abi.F_SETFD, 0 if inheritable else abi.FD_CLOEXEC)


@function("posix_fadvise(iiii)i")
def posix_fadvise(_: Libc, fd: int, offset: int, size: int, advice: int) -> Steps:
    value, _writes = yield from os_call("fadvise64", fd, offset, size, advice)
    return FunctionResult(-value)  # posix_fadvise returns the error, and leaves errno alone


@function("posix_fallocate(iii)i")
def posix_fallocate(_: Libc, fd: int, offset: int, size: int) -> Steps:
    value, _writes = yield from waited("fallocate", fd, 0, offset, size)
    return FunctionResult(-value)


@function("getpriority(ii)i")
def getpriority(_: Libc, which: int, who: int) -> Steps:
    value, _writes = yield from os_call("getpriority", which, who)
    return FunctionResult(-1, -value) if failed(value) else FunctionResult(20 - value)  # the kernel returns 20 - nice


@function("nice(i)i")
def nice(_: Libc, increment: int) -> Steps:
    value, _writes = yield from os_call("getpriority", 0, 0)
    wanted = max(-20, min(19, 20 - value + max(-40, min(40, increment))))
    done = yield from served("setpriority", 0, 0, wanted)
    return done if done.errno else FunctionResult(wanted)


@function("lockf(iii)i")
def lockf(_: Libc, fd: int, command: int, size: int) -> Steps:
    """lockf(3): F_ULOCK, F_LOCK, F_TLOCK, F_TEST, from the current file offset."""
    if not 0 <= command <= 3:
        return (yield from failure(errno.EINVAL))
    kind = abi.F_UNLCK if command == 0 else abi.F_WRLCK
    operation = {0: abi.F_SETLK, 1: abi.F_SETLKW, 2: abi.F_SETLK, 3: abi.F_GETLK}[command]
    lock = abi.FLOCK.pack(kind, os.SEEK_CUR, 0, 0, size, 0, 0)
    return (yield from _fcntl_lock(fd, operation, lock))


def _fcntl_lock(fd: int, operation: int, lock: bytes) -> Steps:
    """Sets or tests a record lock whose struct flock is made here, in memory that is allocated in the guest."""
    address: int = yield Allocate(lock)
    done = yield from served("fcntl", fd, operation, address)
    yield Free(address)
    if operation == abi.F_GETLK and not done.errno:
        found = next((data for at, data in done.writes if at == address), lock)
        (kind,) = struct.unpack_from("<h", found.ljust(2, b"\0"))
        return FunctionResult(0) if kind == abi.F_UNLCK else FunctionResult(-1, errno.EACCES)
    return FunctionResult(done.value, done.errno)
