"""The x86-64 Linux ABI as constants and struct packers: no state, no policy, no I/O.

Rules: names are the kernel's. Sizes are those of the kernel's structs on x86-64, also where glibc's differ
(sigaction, termios, sigset). A packer never fails for values of the controller's own nodes. Only the `unpack_*`
functions read guest data, and they take bytes of exactly the right size.
"""

from __future__ import annotations

import os
import struct
from typing import Final, Protocol

# open(2)
O_ACCMODE: Final = 0o3
O_RDONLY: Final = 0o0
O_WRONLY: Final = 0o1
O_RDWR: Final = 0o2
O_CREAT: Final = 0o100
O_EXCL: Final = 0o200
O_NOCTTY: Final = 0o400
O_TRUNC: Final = 0o1000
O_APPEND: Final = 0o2000
O_NONBLOCK: Final = 0o4000
O_DSYNC: Final = 0o10000
O_ASYNC: Final = 0o20000
O_DIRECT: Final = 0o40000
O_LARGEFILE: Final = 0o100000
O_DIRECTORY: Final = 0o200000
O_NOFOLLOW: Final = 0o400000
O_NOATIME: Final = 0o1000000
O_CLOEXEC: Final = 0o2000000
O_SYNC: Final = 0o4010000
O_PATH: Final = 0o10000000
O_TMPFILE: Final = 0o20200000
O_KNOWN: Final = (
    O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | O_DSYNC | O_ASYNC
    | O_DIRECT | O_LARGEFILE | O_DIRECTORY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC | O_SYNC | O_PATH
    | O_TMPFILE
)  # fmt: skip

# *at(2) calls
AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_REMOVEDIR: Final = 0x200
AT_EACCESS: Final = 0x200
AT_SYMLINK_FOLLOW: Final = 0x400
AT_NO_AUTOMOUNT: Final = 0x800
AT_EMPTY_PATH: Final = 0x1000
AT_STATX_SYNC_TYPE: Final = 0x6000
RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2
RENAME_WHITEOUT: Final = 4
RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_CACHED: Final = 0x20

# access(2), lseek(2), utimensat(2)
F_OK: Final = 0
X_OK: Final = 1
W_OK: Final = 2
R_OK: Final = 4
SEEK_SET: Final = 0
SEEK_CUR: Final = 1
SEEK_END: Final = 2
SEEK_DATA: Final = 3
SEEK_HOLE: Final = 4
UTIME_NOW: Final = 0x3FFFFFFF
UTIME_OMIT: Final = 0x3FFFFFFE

# file types (the high bits of st_mode) and linux_dirent64's d_type
S_IFMT: Final = 0o170000
S_IFSOCK: Final = 0o140000
S_IFLNK: Final = 0o120000
S_IFREG: Final = 0o100000
S_IFBLK: Final = 0o060000
S_IFDIR: Final = 0o040000
S_IFCHR: Final = 0o020000
S_IFIFO: Final = 0o010000
DT_UNKNOWN: Final = 0
DT_FIFO: Final = 1
DT_CHR: Final = 2
DT_DIR: Final = 4
DT_BLK: Final = 6
DT_REG: Final = 8
DT_LNK: Final = 10
DT_SOCK: Final = 12

# fcntl(2)
F_DUPFD: Final = 0
F_GETFD: Final = 1
F_SETFD: Final = 2
F_GETFL: Final = 3
F_SETFL: Final = 4
F_GETLK: Final = 5
F_SETLK: Final = 6
F_SETLKW: Final = 7
F_SETOWN: Final = 8
F_GETOWN: Final = 9
F_SETSIG: Final = 10
F_GETSIG: Final = 11
F_OFD_GETLK: Final = 36
F_OFD_SETLK: Final = 37
F_OFD_SETLKW: Final = 38
F_SETLEASE: Final = 1024
F_GETLEASE: Final = 1025
F_NOTIFY: Final = 1026
F_DUPFD_CLOEXEC: Final = 1030
F_SETPIPE_SZ: Final = 1031
F_GETPIPE_SZ: Final = 1032
F_ADD_SEALS: Final = 1033
F_GET_SEALS: Final = 1034
FD_CLOEXEC: Final = 1
F_RDLCK: Final = 0
F_WRLCK: Final = 1
F_UNLCK: Final = 2
LOCK_SH: Final = 1
LOCK_EX: Final = 2
LOCK_NB: Final = 4
LOCK_UN: Final = 8
CLOSE_RANGE_UNSHARE: Final = 2
CLOSE_RANGE_CLOEXEC: Final = 4
FALLOC_FL_KEEP_SIZE: Final = 1
RWF_HIPRI: Final = 1

# ioctl(2)
TCGETS: Final = 0x5401
TCSETS: Final = 0x5402
TCSETSW: Final = 0x5403
TCSETSF: Final = 0x5404
TCSBRK: Final = 0x5409
TCXONC: Final = 0x540A
TCFLSH: Final = 0x540B
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
FIONREAD: Final = 0x541B
FIONBIO: Final = 0x5421
TIOCGSID: Final = 0x5429
TCGETS2: Final = 0x802C542A
TCSETS2: Final = 0x402C542B
TCSETSW2: Final = 0x402C542C
TCSETSF2: Final = 0x402C542D
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452

# mmap(2)
PROT_READ: Final = 1
PROT_WRITE: Final = 2
PROT_EXEC: Final = 4
MAP_SHARED: Final = 0x01
MAP_PRIVATE: Final = 0x02
MAP_SHARED_VALIDATE: Final = 0x03
MAP_TYPE: Final = 0x0F
MAP_FIXED: Final = 0x10
MAP_ANONYMOUS: Final = 0x20
MAP_GROWSDOWN: Final = 0x100
MAP_DENYWRITE: Final = 0x800
MAP_EXECUTABLE: Final = 0x1000
MAP_LOCKED: Final = 0x2000
MAP_NORESERVE: Final = 0x4000
MAP_POPULATE: Final = 0x8000
MAP_NONBLOCK: Final = 0x10000
MAP_STACK: Final = 0x20000
MAP_FIXED_NOREPLACE: Final = 0x100000
MS_ASYNC: Final = 1
MS_INVALIDATE: Final = 2
MS_SYNC: Final = 4
MREMAP_MAYMOVE: Final = 1
MREMAP_FIXED: Final = 2
MREMAP_DONTUNMAP: Final = 4
PAGE_SIZE: Final = 4096

# futex(2)
FUTEX_WAIT: Final = 0
FUTEX_WAKE: Final = 1
FUTEX_WAIT_BITSET: Final = 9
FUTEX_WAKE_BITSET: Final = 10
FUTEX_CMD_MASK: Final = 0x7F
FUTEX_PRIVATE_FLAG: Final = 0x80
FUTEX_BITSET_MATCH_ANY: Final = 0xFFFFFFFF
FUTEX_CLOCK_REALTIME: Final = 0x100

# clock_gettime(2)
CLOCK_REALTIME: Final = 0
CLOCK_MONOTONIC: Final = 1
CLOCK_PROCESS_CPUTIME_ID: Final = 2
CLOCK_THREAD_CPUTIME_ID: Final = 3
CLOCK_MONOTONIC_RAW: Final = 4
CLOCK_REALTIME_COARSE: Final = 5
CLOCK_MONOTONIC_COARSE: Final = 6
CLOCK_BOOTTIME: Final = 7
CLOCK_REALTIME_ALARM: Final = 8
CLOCK_BOOTTIME_ALARM: Final = 9
CLOCK_TAI: Final = 11
TIMER_ABSTIME: Final = 1
ITIMER_REAL: Final = 0
ITIMER_VIRTUAL: Final = 1
ITIMER_PROF: Final = 2

# poll(2), epoll(7)
POLLIN: Final = 0x001
POLLPRI: Final = 0x002
POLLOUT: Final = 0x004
POLLERR: Final = 0x008
POLLHUP: Final = 0x010
POLLNVAL: Final = 0x020
POLLRDNORM: Final = 0x040
POLLRDBAND: Final = 0x080
POLLWRNORM: Final = 0x100
POLLWRBAND: Final = 0x200
POLLRDHUP: Final = 0x2000
EPOLL_CTL_ADD: Final = 1
EPOLL_CTL_DEL: Final = 2
EPOLL_CTL_MOD: Final = 3
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLWAKEUP: Final = 1 << 29
EPOLLONESHOT: Final = 1 << 30
EPOLLET: Final = 1 << 31
EPOLL_CLOEXEC: Final = O_CLOEXEC
EFD_SEMAPHORE: Final = 1

# signals
SIGHUP: Final = 1
SIGINT: Final = 2
SIGQUIT: Final = 3
SIGKILL: Final = 9
SIGSEGV: Final = 11
SIGPIPE: Final = 13
SIGXFSZ: Final = 25
SIGALRM: Final = 14
SIGTERM: Final = 15
SIGCHLD: Final = 17
SIGCONT: Final = 18
SIGSTOP: Final = 19
SIGTSTP: Final = 20
SIGTTIN: Final = 21
SIGTTOU: Final = 22
SIGURG: Final = 23
SIGVTALRM: Final = 26
SIGPROF: Final = 27
SIGWINCH: Final = 28
SIGSYS: Final = 31
NSIG: Final = 64
SIG_DFL: Final = 0
SIG_IGN: Final = 1
SIG_BLOCK: Final = 0
SIG_UNBLOCK: Final = 1
SIG_SETMASK: Final = 2
SS_ONSTACK: Final = 1
SS_DISABLE: Final = 2
MINSIGSTKSZ: Final = 2048

# sockets
AF_UNIX: Final = 1
SOCK_STREAM: Final = 1
SOCK_DGRAM: Final = 2
SOCK_SEQPACKET: Final = 5
SOCK_TYPE_MASK: Final = 0xF
SOL_SOCKET: Final = 1
MSG_PEEK: Final = 2
MSG_DONTWAIT: Final = 0x40
MSG_NOSIGNAL: Final = 0x4000
MSG_CMSG_CLOEXEC: Final = 0x40000000

# getrlimit(2)
RLIMIT_CPU: Final = 0
RLIMIT_FSIZE: Final = 1
RLIMIT_DATA: Final = 2
RLIMIT_STACK: Final = 3
RLIMIT_CORE: Final = 4
RLIMIT_RSS: Final = 5
RLIMIT_NPROC: Final = 6
RLIMIT_NOFILE: Final = 7
RLIMIT_AS: Final = 9
RLIMIT_SIGPENDING: Final = 11
RLIM_NLIMITS: Final = 16
RLIM_INFINITY: Final = (1 << 64) - 1

PATH_MAX: Final = 4096
NAME_MAX: Final = 255
IOV_MAX: Final = 1024
PIPE_BUF: Final = 4096
CLK_TCK: Final = 100
NS: Final = 1_000_000_000
# statfs(2)
ST_RDONLY: Final = 1
ST_VALID: Final = 0x20
TMPFS_MAGIC: Final = 0x01021994
PROC_SUPER_MAGIC: Final = 0x9FA0


class StatLike(Protocol):
    """The attributes that `pack_stat` reads; the vfs's `Stat` has them."""

    @property
    def dev(self) -> int: ...
    @property
    def ino(self) -> int: ...
    @property
    def mode(self) -> int: ...
    @property
    def nlink(self) -> int: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def rdev(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def atime_ns(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def ctime_ns(self) -> int: ...
    @property
    def blksize(self) -> int: ...


STAT: Final = struct.Struct("<QQQIIIIQqqqqqqqqq3q")
STATX: Final = struct.Struct("<IIQIIIHHQQQQ qIi qIi qIi qIi IIII QII 12Q")
STATFS: Final = struct.Struct("<qqQQQQQQqqq4q")
TIMESPEC: Final = struct.Struct("<qq")
ITIMERVAL: Final = struct.Struct("<qqqq")
TMS: Final = ITIMERVAL
RUSAGE: Final = struct.Struct("<qqqq14q")
SYSINFO: Final = struct.Struct("<q3Q6QHHIQQII")
RLIMIT: Final = struct.Struct("<QQ")
POLLFD: Final = struct.Struct("<ihh")
EPOLL_EVENT: Final = struct.Struct("<IQ")
WINSIZE: Final = struct.Struct("<HHHH")
TERMIOS: Final = struct.Struct("<IIIIB19s")
FLOCK: Final = struct.Struct("<hhIqqiI")
SIGACTION: Final = struct.Struct("<QQQQ")
STACK_T: Final = struct.Struct("<QiIQ")
DIRENT_HEAD: Final = struct.Struct("<QqHB")
OPEN_HOW: Final = struct.Struct("<QQQ")
INT: Final = struct.Struct("<i")
UINT: Final = struct.Struct("<I")
U64: Final = struct.Struct("<Q")

STATX_BASIC_STATS: Final = 0x7FF
_M64: Final = (1 << 64) - 1


def pack_stat(stat: StatLike) -> bytes:
    """Returns the struct stat of stat(2), 144 bytes."""
    atime, mtime, ctime = stat.atime_ns, stat.mtime_ns, stat.ctime_ns
    return STAT.pack(
        stat.dev & _M64, stat.ino & _M64, stat.nlink, stat.mode, stat.uid, stat.gid, 0,
        stat.rdev & _M64, stat.size, stat.blksize, stat.blocks,
        atime // NS, atime % NS, mtime // NS, mtime % NS, ctime // NS, ctime % NS, 0, 0, 0,
    )  # fmt: skip


def stat_to_statx(stat: bytes) -> bytes:
    """Converts the 144 bytes of a struct stat into a struct statx of 256 bytes, without a birth time."""
    (dev, ino, nlink, mode, uid, gid, _, rdev, size, blksize, blocks,
     atime, atime_ns, mtime, mtime_ns, ctime, ctime_ns, *_rest) = STAT.unpack(stat)  # fmt: skip
    return STATX.pack(
        STATX_BASIC_STATS, blksize, 0, nlink & 0xFFFFFFFF, uid, gid, mode & 0xFFFF, 0,
        ino, size & _M64, blocks & _M64, 0,
        atime, atime_ns, 0, 0, 0, 0, ctime, ctime_ns, 0, mtime, mtime_ns, 0,
        os.major(rdev), os.minor(rdev), os.major(dev), os.minor(dev), 0, 0, 0, *(0,) * 12,
    )  # fmt: skip


def pack_statfs(
    kind: int = TMPFS_MAGIC,
    *,
    blocks: int = 0,
    free: int = 0,
    files: int = 0,
    files_free: int = 0,
    block_size: int = PAGE_SIZE,
    read_only: bool = False,
) -> bytes:
    """Returns the struct statfs of statfs(2), 120 bytes. `blocks` and `free` count blocks, not bytes."""
    flags = ST_VALID | (ST_RDONLY if read_only else 0)
    return STATFS.pack(
        kind, block_size, blocks, free, free, files, files_free, 0,
        NAME_MAX, block_size, flags, 0, 0, 0, 0,
    )  # fmt: skip


def pack_timespec(ns: int) -> bytes:
    """Returns the struct timespec (16 bytes) of a time in nanoseconds, which may lie before 1970."""
    return TIMESPEC.pack(ns // NS, ns % NS)


def pack_timeval(ns: int) -> bytes:
    """Returns the struct timeval (16 bytes) of a time in nanoseconds."""
    return TIMESPEC.pack(ns // NS, ns % NS // 1000)


def unpack_timespec(data: bytes) -> int | None:
    """Returns the nanoseconds of a struct timespec, or None where the kernel would answer EINVAL."""
    seconds, ns = TIMESPEC.unpack(data)
    if seconds < 0 or not 0 <= ns < NS:
        return None
    return int(seconds * NS + ns)


def unpack_timeval(data: bytes) -> int | None:
    """Returns the nanoseconds of a struct timeval, or None where the kernel would answer EINVAL."""
    seconds, us = TIMESPEC.unpack(data)
    if seconds < 0 or not 0 <= us < 1_000_000:
        return None
    return int(seconds * NS + us * 1000)


def pack_rusage(user_ns: int, system_ns: int, max_rss_kib: int = 0, minor_faults: int = 0) -> bytes:
    """Returns the struct rusage of getrusage(2), 144 bytes."""
    return RUSAGE.pack(
        user_ns // NS, user_ns % NS // 1000, system_ns // NS, system_ns % NS // 1000,
        max_rss_kib, 0, 0, 0, minor_faults, *(0,) * 9,
    )  # fmt: skip


def pack_utsname(*fields: str) -> bytes:
    """Returns the struct utsname of uname(2): six fields of 65 bytes, each cut to 64 bytes and NUL-terminated."""
    return b"".join(field.encode()[:64].ljust(65, b"\0") for field in fields)


def pack_sysinfo(uptime: int, total_ram: int, free_ram: int, processes: int) -> bytes:
    """Returns the struct sysinfo of sysinfo(2), 112 bytes; sizes are in bytes."""
    return SYSINFO.pack(uptime, 0, 0, 0, total_ram, free_ram, 0, 0, 0, 0, processes & 0xFFFF, 0, 0, 0, 0, 1, 0)


def pack_dirent(ino: int, offset: int, d_type: int, name: bytes) -> bytes:
    """Returns one linux_dirent64 of getdents64(2), padded to a multiple of 8 bytes."""
    size = (DIRENT_HEAD.size + len(name) + 8) & ~7
    head = DIRENT_HEAD.pack(ino & _M64, offset, size, d_type)
    return (head + name).ljust(size, b"\0")


ECHO: Final = 0o10
"""The flag ECHO in c_lflag of termios(3)."""

DEFAULT_TERMIOS: Final = TERMIOS.pack(
    0x500, 0x5, 0xBF, 0x8A3B, 0, bytes.fromhex("031c7f150400010011131a00120f1716000000")
)
"""The settings of a Linux console: ICRNL IXON, OPOST ONLCR, 38400 8N1, canonical with echo."""
