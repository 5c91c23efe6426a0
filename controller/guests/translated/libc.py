"""libc for a translated guest: what each function becomes.

Most functions are an OS call, some under another name (`SAME`), some with other arguments (`@function`). A few are
libc's own: folders, the environment, the values of sysconf(3). The others are refused, each with its reason
(`REFUSED`). A function in none of these tables is answered with ENOSYS.

Each function is a generator. It asks for what it needs by `yield`, and returns a `Done`. Errors come from the handlers
and the policy. Whatever the guest gives (addresses, counts, invalid pointers to folders) is checked where it is used.
Structures are those of x86-64 glibc, which are the kernel's except for statvfs.
"""

import errno
import functools
import struct
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

import attrs

import proxybox.controller.oscalls  # noqa: F401 - fills the table
from proxybox.controller.dispatch import TABLE
from proxybox.controller.guests.translated import wire
from proxybox.controller.header import ABSENT, MAX_PATH, MAX_PAYLOAD, TOO_LONG
from proxybox.controller.header import Fetch as Kind
from proxybox.controller.roles import Memory, Scalar
from proxybox.controller.world.state import Ended, World

# --- what a function asks for -----------------------------------------------------------------------------------------


@attrs.define
class FetchMemory:
    """A request for guest memory, as bytes."""

    address: int
    size: int

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.read_memory(self.address, self.size)


@attrs.define
class Text:
    """A request for a C string of the guest, as bytes, cut at `most`."""

    address: int
    most: int

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.read_string(self.address, self.most)


@attrs.define
class Allocate:
    """A request for memory in the guest that holds these bytes; the answer is its address."""

    data: bytes

    def command(self) -> bytes:
        """The command for the guest."""
        return wire.allocate(self.data)


@attrs.define
class Free:
    """A request to free memory that was allocated."""

    address: int


@attrs.define
class SideCall:
    """A request for an OS call that never waits; the answer is (value, writes)."""

    number: int
    registers: tuple[int, ...]
    memory: tuple[bytes | int, ...] = ()


@attrs.define
class Serve(SideCall):
    """A request for an OS call that may wait, or take several turns of the driver. A function makes at most one."""


@attrs.define
class Done:
    """What the function returns.

    writes: (address, bytes) to store in the guest.
    """

    value: float = 0
    errno: int = 0
    writes: tuple[tuple[int, bytes], ...] = ()


Steps: TypeAlias = Generator[Any, Any, Done]
Function: TypeAlias = Callable[..., Steps]

_NUMBER: Final = {row.name: number for number, row in TABLE.items()}
_MASK: Final = (1 << 64) - 1
#: An address that no handler reads. What a handler would write there is used by the function here, or dropped.
_NOWHERE: Final = 0x1000
#: Nothing is mapped below this (vm.mmap_min_addr): an argument smaller than this is a number, not an address.
_LOWEST: Final = 1 << 16


def _written(writes: tuple[tuple[int, bytes], ...]) -> bytes:
    """Returns what an OS call stores; b"" where an interceptor has answered the call with nothing."""
    return writes[0][1] if writes else b""


def failed(value: int) -> bool:
    """Whether an OS call's value is -errno."""
    return -4095 <= value < 0


@functools.cache
def _read_by(name: str) -> tuple[tuple[int, Memory, int, str], ...]:
    """Returns what memory the handler of an OS call reads: the place of the argument with the address, and its role.

    Where another argument counts it, the place of that and its type (a code of struct) follow; else -1 and "".
    """
    places = {parameter: place for place, (parameter, _) in enumerate(TABLE[_NUMBER[name]].parameters)}
    roles = dict(TABLE[_NUMBER[name]].parameters)
    found = []
    for parameter, role in roles.items():
        if isinstance(role, Memory):
            counter = roles.get(role.length)
            code = counter.code if isinstance(counter, Scalar) else "Q"
            found.append((places[parameter], role, places.get(role.length, -1), code if role.length else ""))
    return tuple(found)


def fetched(name: str, registers: tuple[int, ...]) -> Generator[Any, Any, tuple[bytes | int, ...]]:
    """Fetches the memory that the handler of an OS call reads, in the order of its arguments (roles.py)."""
    memory: list[bytes | int] = []
    for place, role, counter, code in _read_by(name):
        address = _argument(registers, place) & _MASK
        if not address or (role.fetch is Kind.SOFT and address < _LOWEST):
            memory.append(ABSENT)
        elif role.fetch is Kind.STRING:
            text: bytes = yield Text(address, role.size)
            memory.append(text if len(text) < role.size and b"\0" not in text else TOO_LONG)
        else:
            size = _size(role, _argument(registers, counter), code)
            memory.append((yield FetchMemory(address, size)) if size else b"")
    return tuple(memory)


def _argument(registers: tuple[int, ...], place: int) -> int:
    """Returns an argument of an OS call; 0 where it has none in that place."""
    return registers[place] if 0 <= place < len(registers) else 0


def _size(role: Memory, counted: int, code: str) -> int:
    """Returns how many bytes a handler reads. counted: the argument that counts them, of this type ("": none does)."""
    size = role.size
    if code:
        (count,) = struct.unpack("<" + code, struct.pack("<Q", counted & _MASK))
        if role.fetch is Kind.BITS:
            size = (min(max(count, 0), 1024) + 63) // 64 * 8
        else:
            size = min(max(count, 0) * role.size, MAX_PAYLOAD)
    return size


def os_call(name: str, *registers: int) -> Generator[Any, Any, tuple[int, tuple[tuple[int, bytes], ...]]]:
    """Makes an OS call that never waits, after fetching what it reads from the guest."""
    memory = yield from fetched(name, registers)
    reply: tuple[int, tuple[tuple[int, bytes], ...]] = yield SideCall(_NUMBER[name], registers, memory)
    return reply


def waited(name: str, *registers: int) -> Generator[Any, Any, tuple[int, tuple[tuple[int, bytes], ...]]]:
    """Makes an OS call that may wait, after fetching what it reads from the guest."""
    memory = (yield from fetched(name, registers)) if _read_by(name) else ()
    reply: tuple[int, tuple[tuple[int, bytes], ...]] = yield Serve(_NUMBER[name], registers, memory)
    return reply


def served(name: str, *registers: int) -> Steps:
    """A function that is an OS call: returns its value, or -1 and errno, together with what the call writes."""
    value, writes = yield from waited(name, *registers)
    return Done(-1, -value) if failed(value) else Done(value, 0, writes)


# --- the tables -------------------------------------------------------------------------------------------------------

#: Functions that are an OS call with the same arguments.
SAME: Final[dict[str, str]] = {
    signature: (kernel or signature.partition("(")[0])
    for signature, kernel in (
        ("access(pi)i", ""), ("chdir(p)i", ""), ("chmod(pi)i", ""), ("chown(pii)i", ""),
        ("chroot(p)i", ""), ("clock_getres(ip)i", ""), ("clock_gettime(ip)i", ""), ("clock_settime(ip)i", ""),
        ("close(i)i", ""), ("dup(i)i", ""), ("dup2(ii)i", ""), ("execve(ppp)i", ""), ("faccessat(ipii)i", "faccessat2"),
        ("fchdir(i)i", ""), ("fchmod(ii)i", ""), ("fchmodat(ipii)i", "fchmodat2"), ("fchown(iii)i", ""),
        ("fchownat(ipiii)i", ""), ("fdatasync(i)i", ""), ("fgetxattr(ippi)i", ""), ("flistxattr(ipi)i", ""),
        ("fork()i", ""), ("fremovexattr(ip)i", ""), ("fsetxattr(ippii)i", ""), ("fstat64(ip)i", "fstat"),
        ("fstatat64(ippi)i", "newfstatat"), ("fsync(i)i", ""), ("ftruncate(ii)i", ""), ("getegid()i", ""),
        ("geteuid()i", ""), ("getgid()i", ""), ("getgroups(ip)i", ""), ("getpgid(i)i", ""), ("getpgrp()i", ""),
        ("getpid()i", ""), ("getppid()i", ""), ("getresgid(ppp)i", ""), ("getresuid(ppp)i", ""), ("getrusage(ip)i", ""),
        ("getsid(i)i", ""), ("gettimeofday(pp)i", ""), ("getuid()i", ""), ("getxattr(pppi)i", ""), ("ioctl(iip)i", ""),
        ("kill(ii)i", ""), ("lchown(pii)i", ""), ("lgetxattr(pppi)i", ""), ("link(pp)i", ""), ("linkat(ipipi)i", ""),
        ("listxattr(ppi)i", ""), ("llistxattr(ppi)i", ""), ("lremovexattr(pp)i", ""), ("lseek(iii)i", ""),
        ("lsetxattr(pppii)i", ""), ("lstat64(pp)i", "lstat"), ("mkdir(pi)i", ""), ("mkdirat(ipi)i", ""),
        ("mknod(pii)i", ""), ("mknodat(ipii)i", ""), ("open(pii)i", ""), ("openat(ipii)i", ""), ("pipe2(pi)i", ""),
        ("pread(ipii)i", "pread64"), ("pwrite(ipii)i", "pwrite64"), ("read(ipi)i", ""), ("readlink(ppi)i", ""),
        ("readlinkat(ippi)i", ""), ("removexattr(pp)i", ""), ("rename(pp)i", ""), ("renameat(ipip)i", ""),
        ("rmdir(p)i", ""), ("sched_get_priority_max(i)i", ""), ("sched_get_priority_min(i)i", ""),
        ("sched_yield()i", ""), ("select(ipppp)i", ""), ("sendfile(iipi)i", ""), ("setgid(i)i", ""),
        ("setgroups(ip)i", ""), ("setpgid(ii)i", ""), ("setpriority(iii)i", ""), ("setregid(ii)i", ""),
        ("setresgid(iii)i", ""), ("setresuid(iii)i", ""), ("setreuid(ii)i", ""), ("setsid()i", ""), ("setuid(i)i", ""),
        ("setxattr(pppii)i", ""), ("stat64(pp)i", "stat"), ("symlink(pp)i", ""), ("symlinkat(pip)i", ""),
        ("sync()v", ""), ("time(p)i", ""), ("times(p)i", ""), ("umask(i)i", ""), ("uname(p)i", ""), ("unlink(p)i", ""),
        ("unlinkat(ipi)i", ""), ("utimensat(ippi)i", ""), ("write(ipi)i", ""),
    )
}  # fmt: skip

_NO_PROCESSES = (errno.EPERM, "a box has one process")
_NO_TERMINAL = (errno.ENOENT, "a box has no terminals to give out")
#: Functions that are refused: errno, and the reason.
REFUSED: Final[dict[str, tuple[int, str]]] = {
    "execv(pp)i": _NO_PROCESSES,
    "fexecve(ipp)i": _NO_PROCESSES,
    "forkpty(pppp)i": _NO_PROCESSES,
    "system(p)i": _NO_PROCESSES,
    "openpty(ppppp)i": _NO_TERMINAL,
    "initgroups(pi)i": (errno.EPERM, "the groups of a box are those of its policy"),
    "getloadavg(pi)i": (errno.EPERM, "the host's load is not the box's business"),
    "getlogin()p": (errno.ENXIO, "nobody has logged in"),
    "confstr(ipi)i": (errno.EINVAL, "there is no such string"),
}

FUNCTIONS: Final[dict[str, Function]] = {}


def function(*signatures: str) -> Callable[[Function], Function]:
    """Registers a function of libc that is not just an OS call. It gets the `Libc` and the arguments."""

    def enter(work: Function) -> Function:
        for signature in signatures:
            FUNCTIONS[signature] = work
        return work

    return enter


def is_answered(signature: str) -> bool:
    """Whether a function is answered with something other than ENOSYS: it is carried out, or refused with a reason."""
    return signature in SAME or signature in FUNCTIONS or signature in REFUSED


@attrs.define
class DirStream:
    """A DIR stream.

    fd: its descriptor. data: what getdents64(2) has returned. at: where the next entry begins in that.
    """

    fd: int
    data: bytes = b""
    at: int = 0


class Libc:
    """The functions of one box, and the state that libc would keep for it.

    home: the path of the interpreter, as the guest sees it. refuse: is told of each function that is refused.
    """

    def __init__(self, world: World, environment: dict[str, str], home: str, refuse: Callable[[str, str, int], object]):
        self.world = world
        self.environment = {_bytes(key): _bytes(value) for key, value in environment.items()}
        self.added: dict[bytes, bytes] = {}  # those of the variables that the guest has set
        self.home = home
        self.folders: dict[int, DirStream] = {}
        #: Strings that stay in the guest's memory, with their addresses; by the name of a variable, or another name.
        self.kept: dict[bytes, tuple[bytes, int]] = {}
        self.stdout = 0
        self._refuse = refuse

    def answer(self, request: wire.Request) -> Steps:
        """Returns the generator that answers a request."""
        signature = request.signature
        if signature in SAME:
            return _same(SAME[signature], request)
        work = FUNCTIONS.get(signature)
        if work is not None:
            return work(self, *request.arguments)
        number, why = REFUSED.get(signature, (errno.ENOSYS, f"{signature} is not known"))
        return self._refused(request, number, why)

    def _refused(self, request: wire.Request, number: int, why: str) -> Steps:
        self._refuse(request.name, why, number)
        return (yield from failure(number, 0 if request.result in "pv" else -1))

    def string(self, name: bytes, text: bytes) -> Generator[Any, Any, int]:
        """Puts a C string into the guest's memory, and returns its address.

        The address stays the same until `name` gets another string, like those of libc's own strings (getenv(3),
        ttyname(3)).
        """
        known, address = self.kept.get(name, (None, 0))
        if known != text:
            if known is not None:
                yield Free(address)
            address = yield Allocate(text + b"\0")
            self.kept[name] = (text, address)
        return address


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def failure(number: int, value: int = -1) -> Steps:
    """A function that fails."""
    yield from ()
    return Done(value, number)


def _same(name: str, request: wire.Request) -> Steps:
    return served(name, *request.arguments)  # type: ignore[arg-type]  # none of SAME has a float


# --- OS calls with other arguments ------------------------------------------------------------------------------------

_S_IFIFO = 0o010000
_O_CLOEXEC, _O_DIRECTORY = 0o2000000, 0o200000
_F_GETFD, _F_SETFD, _F_GETFL, _F_SETFL, _F_SETLK, _F_SETLKW, _F_GETLK = 1, 2, 3, 4, 6, 7, 5
_F_DUPFD_CLOEXEC, _FD_CLOEXEC = 1030, 1
_TCGETS, _TIOCGPGRP, _TIOCSPGRP = 0x5401, 0x540F, 0x5410
_AT_FDCWD = -100
_FLOCK = struct.Struct("<hh4xqqi4x")


@function("_exit(i)v")
def exit_(libc: Libc, status: int) -> Steps:
    """Ends the world; the controller does not wait for what the process does afterwards."""
    yield from os_call("exit_group", status)
    libc.world.end(Ended(None))
    return Done()


@function("mkfifo(pi)i")
def mkfifo(_: Libc, path: int, mode: int) -> Steps:
    return served("mknod", path, mode & 0o7777 | _S_IFIFO, 0)


@function("mkfifoat(ipi)i")
def mkfifoat(_: Libc, fd: int, path: int, mode: int) -> Steps:
    return served("mknodat", fd, path, mode & 0o7777 | _S_IFIFO, 0)


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
    return served("fcntl", fd, _F_DUPFD_CLOEXEC, 0)


@function("rpy_dup2_noninheritable(ii)i")
def rpy_dup2_noninheritable(_: Libc, old: int, new: int) -> Steps:
    return served("dup3", old, new, _O_CLOEXEC)


@function("rpy_get_status_flags(i)i")
def rpy_get_status_flags(_: Libc, fd: int) -> Steps:
    return served("fcntl", fd, _F_GETFL, 0)


@function("rpy_set_status_flags(ii)i")
def rpy_set_status_flags(_: Libc, fd: int, flags: int) -> Steps:
    return served("fcntl", fd, _F_SETFL, flags)


@function("rpy_get_inheritable(i)i")
def rpy_get_inheritable(_: Libc, fd: int) -> Steps:
    value, _writes = yield from os_call("fcntl", fd, _F_GETFD, 0)
    return Done(-1, -value) if failed(value) else Done(int(not value & _FD_CLOEXEC))


@function("rpy_set_inheritable(ii)i")
def rpy_set_inheritable(_: Libc, fd: int, inheritable: int) -> Steps:
    return served("fcntl", fd, _F_SETFD, 0 if inheritable else _FD_CLOEXEC)


@function("posix_fadvise(iiii)i")
def posix_fadvise(_: Libc, fd: int, offset: int, size: int, advice: int) -> Steps:
    value, _writes = yield from os_call("fadvise64", fd, offset, size, advice)
    return Done(-value)  # posix_fadvise returns the error, and leaves errno alone


@function("posix_fallocate(iii)i")
def posix_fallocate(_: Libc, fd: int, offset: int, size: int) -> Steps:
    value, _writes = yield from waited("fallocate", fd, 0, offset, size)
    return Done(-value)


@function("getpriority(ii)i")
def getpriority(_: Libc, which: int, who: int) -> Steps:
    value, _writes = yield from os_call("getpriority", which, who)
    return Done(-1, -value) if failed(value) else Done(20 - value)  # the kernel returns 20 - nice


@function("nice(i)i")
def nice(_: Libc, increment: int) -> Steps:
    value, _writes = yield from os_call("getpriority", 0, 0)
    wanted = max(-20, min(19, 20 - value + max(-40, min(40, increment))))
    done = yield from served("setpriority", 0, 0, wanted)
    return done if done.errno else Done(wanted)


@function("lockf(iii)i")
def lockf(_: Libc, fd: int, command: int, size: int) -> Steps:
    """lockf(3): F_ULOCK, F_LOCK, F_TLOCK, F_TEST, from the current file offset."""
    if not 0 <= command <= 3:
        return (yield from failure(errno.EINVAL))
    kind = 2 if command == 0 else 1  # F_UNLCK, F_WRLCK
    operation = {0: _F_SETLK, 1: _F_SETLKW, 2: _F_SETLK, 3: _F_GETLK}[command]
    lock = _FLOCK.pack(kind, 1, 0, size, 0)  # SEEK_CUR
    return (yield from _fcntl_lock(fd, operation, lock))


def _fcntl_lock(fd: int, operation: int, lock: bytes) -> Steps:
    """Sets or tests a record lock whose struct flock is made here, in memory that is allocated in the guest."""
    address: int = yield Allocate(lock)
    done = yield from served("fcntl", fd, operation, address)
    yield Free(address)
    if operation == _F_GETLK and not done.errno:
        found = next((data for at, data in done.writes if at == address), lock)
        return Done(0) if found[:2] == b"\2\0" else Done(-1, errno.EACCES)
    return Done(done.value, done.errno)


# --- terminals --------------------------------------------------------------------------------------------------------


#: What an ioctl(2) made here reads, because the guest has given no memory for it.
_NOTHING = bytes(44)


def _terminal(fd: int) -> Generator[Any, Any, int]:
    value, _writes = yield SideCall(_NUMBER["ioctl"], (fd, _TCGETS, _NOWHERE), (_NOTHING,))
    return int(value)


@function("isatty(i)i")
def isatty(_: Libc, fd: int) -> Steps:
    value = yield from _terminal(fd)
    return Done(0, -value) if failed(value) else Done(1)


@function("ttyname(i)p")
def ttyname(libc: Libc, fd: int) -> Steps:
    value = yield from _terminal(fd)
    if failed(value):
        return Done(0, -value)
    link = b"/proc/self/fd/%d" % fd  # glibc reads this link, too
    value, writes = yield SideCall(_NUMBER["readlink"], (_NOWHERE, _NOWHERE, MAX_PATH), (link,))
    return Done(0, -value) if failed(value) else Done((yield from libc.string(b"=ttyname", _written(writes))))


@function("ctermid(p)p")
def ctermid(libc: Libc, at: int) -> Steps:
    if at:
        return Done(at, 0, ((at, b"/dev/tty\0"),))
    return Done((yield from libc.string(b"=ctermid", b"/dev/tty")))


@function("tcgetpgrp(i)i")
def tcgetpgrp(_: Libc, fd: int) -> Steps:
    value, writes = yield SideCall(_NUMBER["ioctl"], (fd, _TIOCGPGRP, _NOWHERE), (_NOTHING,))
    if failed(value):
        return Done(-1, -value)
    return Done(struct.unpack("<i", _written(writes).ljust(4, b"\0")[:4])[0])


@function("tcsetpgrp(ii)i")
def tcsetpgrp(_: Libc, fd: int, group: int) -> Steps:
    given = struct.pack("<i40x", max(-1, min(group, 2**31 - 1)))
    value, _writes = yield SideCall(_NUMBER["ioctl"], (fd, _TIOCSPGRP, _NOWHERE), (given,))
    return Done(-1, -value) if failed(value) else Done(0)


# --- folders ----------------------------------------------------------------------------------------------------------

#: struct dirent of glibc: inode, offset, length, type, name[256]; padded to eight bytes.
_DIRENT = struct.Struct("<QqHB")
_DIRENT_SIZE = 280
_MOST_FOLDERS = 1024
#: Bytes of entries that are kept for each open folder until the guest reads them. With many open folders it is less:
#: all of them together keep at most 2 MiB.
_GETDENTS, _FEW_FOLDERS, _GETDENTS_OF_MANY = 32768, 32, 1024


def _open_folder(libc: Libc, fd: int) -> Steps:
    pointer: int = yield Allocate(bytes(_DIRENT_SIZE))
    if not pointer or pointer in libc.folders or len(libc.folders) >= _MOST_FOLDERS:  # not a new address, or too many
        return Done(0, errno.ENOMEM)
    libc.folders[pointer] = DirStream(fd)
    return Done(pointer)


@function("opendir(p)p")
def opendir(libc: Libc, path: int) -> Steps:
    value, _writes = yield from waited("open", path, _O_DIRECTORY | _O_CLOEXEC, 0)
    if failed(value):
        return Done(0, -value)
    done = yield from _open_folder(libc, value)
    if done.errno:
        yield from os_call("close", value)
    return done


@function("fdopendir(i)p")
def fdopendir(libc: Libc, fd: int) -> Steps:
    value, writes = yield SideCall(_NUMBER["fstat"], (fd, _NOWHERE))
    if failed(value):
        return Done(0, -value)
    if struct.unpack_from("<I", _written(writes).ljust(28, b"\0"), 24)[0] & 0o170000 != 0o040000:
        return Done(0, errno.ENOTDIR)
    return (yield from _open_folder(libc, fd))


@function("readdir(p)p")
def readdir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.get(pointer)
    if folder is None:
        return Done(0, errno.EBADF)
    if folder.at >= len(folder.data):
        size = _GETDENTS if len(libc.folders) <= _FEW_FOLDERS else _GETDENTS_OF_MANY
        value, writes = yield Serve(_NUMBER["getdents64"], (folder.fd, _NOWHERE, size))
        if failed(value):
            return Done(0, -value)
        folder.data, folder.at = _written(writes), 0
        if not folder.data:
            return Done(0)
    # struct linux_dirent64
    inode, offset, length, kind = _DIRENT.unpack_from(folder.data, folder.at)
    name = folder.data[folder.at + _DIRENT.size : folder.at + length].partition(b"\0")[0]
    folder.at += length
    entry = (_DIRENT.pack(inode, offset, _DIRENT_SIZE, kind) + name[:255]).ljust(_DIRENT_SIZE, b"\0")
    return Done(pointer, 0, ((pointer, entry),))


@function("rewinddir(p)v")
def rewinddir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.get(pointer)
    if folder is None:
        return Done(0, errno.EBADF)
    folder.data = b""
    yield from os_call("lseek", folder.fd, 0, 0)
    return Done()


@function("closedir(p)i")
def closedir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.pop(pointer, None)
    if folder is None:
        return Done(-1, errno.EBADF)
    yield Free(pointer)
    value, _writes = yield from os_call("close", folder.fd)
    return Done(-1, -value) if failed(value) else Done(0)


@function("dirfd(p)i")
def dirfd(libc: Libc, pointer: int) -> Steps:
    yield from ()
    folder = libc.folders.get(pointer)
    return Done(-1, errno.EINVAL) if folder is None else Done(folder.fd)


# --- names, sizes, file systems ---------------------------------------------------------------------------------------


@function("getcwd(pi)p")
def getcwd(_: Libc, at: int, size: int) -> Steps:
    value, writes = yield from os_call("getcwd", at, size)
    return Done(0, -value) if failed(value) else Done(at, 0, writes)


#: struct statfs of the kernel: type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags.
_STATFS = struct.Struct("<QQQQQQQQQQQ")
#: struct statvfs of glibc: bsize, frsize, blocks, bfree, bavail, files, ffree, favail, fsid, flag, namemax, 6 ints.
_STATVFS = struct.Struct("<QQQQQQQQQQQ24x")
_ST_VALID = 0x20


def _statvfs(name: str, what: int, at: int) -> Steps:
    memory = yield from fetched(name, (what, _NOWHERE))
    value, writes = yield SideCall(_NUMBER[name], (what, _NOWHERE), memory)
    if failed(value):
        return Done(-1, -value)
    _, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags = _STATFS.unpack_from(
        _written(writes).ljust(_STATFS.size, b"\0")
    )
    told = _STATVFS.pack(
        bsize, frsize or bsize, blocks, bfree, bavail, files, ffree, ffree, fsid, flags & ~_ST_VALID, namelen
    )
    return Done(0, 0, ((at, told),))


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
        return Done(-1, -value)
    return Done(_PATHCONF[name]) if name in _PATHCONF else Done(-1, errno.EINVAL)


@function("fpathconf(ii)i")
def fpathconf(_: Libc, fd: int, name: int) -> Steps:
    value, _writes = yield SideCall(_NUMBER["fcntl"], (fd, _F_GETFD, 0), (ABSENT,))
    if failed(value):
        return Done(-1, -value)
    return Done(_PATHCONF[name]) if name in _PATHCONF else Done(-1, errno.EINVAL)


_SC_CLK_TCK, _SC_OPEN_MAX, _SC_PAGESIZE, _SC_NPROCESSORS_CONF, _SC_NPROCESSORS_ONLN = 2, 4, 30, 83, 84


@function("sysconf(i)i")
def sysconf(libc: Libc, name: int) -> Steps:
    yield from ()
    cpus = libc.world.policy.environment.cpu_count
    files = libc.world.policy.limits.open_files
    known = {_SC_CLK_TCK: 100, _SC_OPEN_MAX: 1024 if files is None else files, _SC_PAGESIZE: 4096,
             _SC_NPROCESSORS_CONF: cpus, _SC_NPROCESSORS_ONLN: cpus}  # fmt: skip
    return Done(known[name]) if name in known else Done(-1, errno.EINVAL)


@function("rpy_cpu_count()i")
def rpy_cpu_count(libc: Libc) -> Steps:
    yield from ()
    return Done(libc.world.policy.environment.cpu_count)


@function("clock()i")
def clock(_: Libc) -> Steps:
    """clock(3): the CPU time of the process, in microseconds."""
    value, writes = yield SideCall(_NUMBER["clock_gettime"], (2, _NOWHERE))  # CLOCK_PROCESS_CPUTIME_ID
    if failed(value):
        return Done(-1, -value)
    seconds, nanoseconds = struct.unpack("<qq", _written(writes).ljust(16, b"\0")[:16])
    return Done(seconds * 1_000_000 + nanoseconds // 1000)


# --- the environment --------------------------------------------------------------------------------------------------


#: Limits of the variables that a guest sets: bytes of one (as execve(2) allows), and their number. All together have at
#: most MAX_PAYLOAD bytes.
_LONGEST_VARIABLE, _MOST_VARIABLES = 128 * 1024 - 1, 1024


@function("getenv(p)p")
def getenv(libc: Libc, at: int) -> Steps:
    name = b"" if not at else (yield Text(at, MAX_PATH))
    value = libc.environment.get(name)
    return Done(0) if value is None else Done((yield from libc.string(name, value)))


@function("get_environ()p")
def get_environ(libc: Libc) -> Steps:
    """Puts all variables into one block of the guest's memory, and their addresses into another."""
    texts = [key + b"=" + value + b"\0" for key, value in libc.environment.items()]
    address: int = yield Allocate(b"".join(texts))
    table = bytearray()
    for text in texts:
        table += struct.pack("<Q", address & _MASK)
        address += len(text)
    return Done((yield Allocate(bytes(table) + bytes(8))))


@function("putenv(p)i")
def putenv(libc: Libc, at: int) -> Steps:
    text = b"" if not at else (yield Text(at, _LONGEST_VARIABLE + 1))
    if len(text) > _LONGEST_VARIABLE:
        return Done(-1, errno.ENOMEM)
    key, equals, value = text.partition(b"=")
    return _set(libc, key, value if equals else None)


@function("unsetenv(p)i")
def unsetenv(libc: Libc, at: int) -> Steps:
    key = b"" if not at else (yield Text(at, MAX_PATH))
    return Done(-1, errno.EINVAL) if b"=" in key else _set(libc, key, None)


def _set(libc: Libc, key: bytes, value: bytes | None) -> Done:
    if not key:
        return Done(-1, errno.EINVAL)
    if value is None:
        for table in (libc.environment, libc.added, libc.kept):
            table.pop(key, None)
    elif libc.added.get(key) != value:
        others = [len(name) + len(text) for name, text in libc.added.items() if name != key]
        if len(others) >= _MOST_VARIABLES or sum(others) + len(key) + len(value) > MAX_PAYLOAD:
            return Done(-1, errno.ENOMEM)
        libc.environment[key] = libc.added[key] = value
    return Done(0)


# --- RPython's own ----------------------------------------------------------------------------------------------------


@function("_pypy_init_home()p")
def pypy_init_home(libc: Libc) -> Steps:
    """Returns the path of the interpreter, from which it looks for its library. The guest frees it."""
    return Done((yield Allocate(_bytes(libc.home) + b"\0")))


@function("_pypy_init_free(p)v")
def pypy_init_free(_: Libc, at: int) -> Steps:
    if at:
        yield Free(at)
    return Done()


@function("pypy__allow_attach()v")
def pypy_allow_attach(_: Libc) -> Steps:
    yield from ()
    return Done()


@function("get_stdout()p")
def get_stdout(libc: Libc) -> Steps:
    """Returns a FILE pointer. The guest only ever asks for its descriptor (fileno(3))."""
    if not libc.stdout:
        libc.stdout = yield Allocate(bytes(8))
    return Done(libc.stdout)


@function("fileno(p)i")
def fileno(libc: Libc, pointer: int) -> Steps:
    yield from ()
    return Done(1) if pointer and pointer == libc.stdout else Done(-1, errno.EBADF)
