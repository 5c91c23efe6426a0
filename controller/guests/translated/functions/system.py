"""Functions about the machine: paths, file systems, processors, times."""

import errno
import struct

from proxybox.controller import abi
from proxybox.controller.guests.translated.asking import (
    NOWHERE,
    FunctionResult,
    SideCall,
    Steps,
    failed,
    fetched,
    os_call,
    written,
)
from proxybox.controller.guests.translated.libc import Libc, function
from proxybox.controller.header import ABSENT, MAX_PATH


@function("getcwd(pi)p")
def getcwd(_: Libc, at: int, size: int) -> Steps:
    value, writes = yield from os_call("getcwd", at, size)
    return FunctionResult(0, -value) if failed(value) else FunctionResult(at, 0, writes)


#: struct statvfs of glibc: bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax, 6 ints.
_STATVFS = struct.Struct("<QQQQQQQQQQQ24x")


def _statvfs(name: str, what: int, at: int) -> Steps:
    memory = yield from fetched(name, (what, NOWHERE))
    value, writes = yield SideCall(name, (what, NOWHERE), memory)
    if failed(value):
        return FunctionResult(-1, -value)
    _, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags, *_ = abi.STATFS.unpack_from(
        written(writes).ljust(abi.STATFS.size, b"\0")
    )
    packed = _STATVFS.pack(
        bsize, frsize or bsize, blocks, bfree, bavail, files, ffree, ffree, fsid, flags & ~abi.ST_VALID, namelen
    )
    return FunctionResult(0, 0, ((at, packed),))


@function("statvfs(pp)i")
def statvfs(_: Libc, path: int, at: int) -> Steps:
    return _statvfs("statfs", path, at)


@function("fstatvfs(ip)i")
def fstatvfs(_: Libc, fd: int, at: int) -> Steps:
    return _statvfs("fstatfs", fd, at)


_PATHCONF = {0: 127, 1: 255, 2: 255, 3: 255, 4: MAX_PATH, 5: 4096, 6: 1, 7: 1, 8: 0}


@function("pathconf(pi)i")
def pathconf(_: Libc, path: int, name: int) -> Steps:
    value, _writes = yield from os_call("access", path, 0)
    if failed(value):
        return FunctionResult(-1, -value)
    return FunctionResult(_PATHCONF[name]) if name in _PATHCONF else FunctionResult(-1, errno.EINVAL)


@function("fpathconf(ii)i")
def fpathconf(_: Libc, fd: int, name: int) -> Steps:
    value, _writes = yield SideCall("fcntl", (fd, abi.F_GETFD, 0), (ABSENT,))
    if failed(value):
        return FunctionResult(-1, -value)
    return FunctionResult(_PATHCONF[name]) if name in _PATHCONF else FunctionResult(-1, errno.EINVAL)


_SC_CLK_TCK, _SC_OPEN_MAX, _SC_PAGESIZE, _SC_NPROCESSORS_CONF, _SC_NPROCESSORS_ONLN = 2, 4, 30, 83, 84


@function("sysconf(i)i")
def sysconf(libc: Libc, name: int) -> Steps:
    yield from ()
    cpus = libc.world.policy.environment.cpu_count
    files = libc.world.policy.limits.open_files
    known = {_SC_CLK_TCK: 100, _SC_OPEN_MAX: 1024 if files is None else files, _SC_PAGESIZE: 4096,
             _SC_NPROCESSORS_CONF: cpus, _SC_NPROCESSORS_ONLN: cpus}  # fmt: skip
    return FunctionResult(known[name]) if name in known else FunctionResult(-1, errno.EINVAL)


@function("rpy_cpu_count()i")
def rpy_cpu_count(libc: Libc) -> Steps:
    yield from ()
    return FunctionResult(libc.world.policy.environment.cpu_count)


@function("clock()i")
def clock(_: Libc) -> Steps:
    """clock(3): the CPU time of the process, in microseconds."""
    value, writes = yield SideCall("clock_gettime", (abi.CLOCK_PROCESS_CPUTIME_ID, NOWHERE))
    if failed(value):
        return FunctionResult(-1, -value)
    seconds, nanoseconds = struct.unpack("<qq", written(writes).ljust(16, b"\0")[:16])
    return FunctionResult(seconds * 1_000_000 + nanoseconds // 1000)
