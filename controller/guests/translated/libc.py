"""libc for a translated guest: how each function is answered.

Most functions are an OS call, some under another name (`SAME`), some with other arguments, and a few are libc's own:
folders, the environment, the values of sysconf(3) (`FUNCTIONS`, which functions/ fills). The others are refused, each
with its reason (`REFUSED`). A function in none of these tables is answered with ENOSYS.

Each function is a generator. It yields its requests, and returns a `FunctionResult` (asking.py). Errors come from the
handlers and the policy. The guest's arguments (addresses, counts, invalid pointers to folders) are checked where they
are used.
"""

import errno
from collections.abc import Callable, Generator
from typing import Any, Final, TypeAlias

import attrs

from proxybox.controller.dispatch import NUMBERS
from proxybox.controller.guests.translated import wire
from proxybox.controller.guests.translated.asking import Allocate, Free, Steps, failure, served
from proxybox.controller.world.state import World

Function: TypeAlias = Callable[..., Steps]

#: The OS call of each function that is an OS call with the same arguments, by the function's signature.
SAME: Final[dict[str, str]] = {}
#: The other functions that are carried out, by their signatures. Each gets the `Libc` and its arguments.
FUNCTIONS: Final[dict[str, Function]] = {}
#: Functions that are refused, by their signatures: errno, and the reason.
REFUSED: Final[dict[str, tuple[int, str]]] = {}


def is_answered(signature: str) -> bool:
    """Whether a function is answered with something other than ENOSYS: it is carried out, or refused with a reason."""
    return signature in SAME or signature in FUNCTIONS or signature in REFUSED


def _once(signature: str) -> str:
    """Returns a signature. Raises ValueError for one that has an answer already."""
    if is_answered(signature):
        raise ValueError(f"{signature} has two answers")
    return signature


def function(*signatures: str) -> Callable[[Function], Function]:
    """Registers a function of libc that is not just an OS call."""

    def enter(work: Function) -> Function:
        for signature in signatures:
            FUNCTIONS[_once(signature)] = work
        return work

    return enter


for _signature, _name in (
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
):  # fmt: skip
    SAME[_once(_signature)] = _name = _name or _signature.partition("(")[0]
    if _name not in NUMBERS:
        raise ValueError(f"{_signature}: no handler answers {_name}")

_NO_PROCESSES = (errno.EPERM, "a box has one process")
_NO_TERMINAL = (errno.ENOENT, "a box has no terminals to give out")
for _signature, _refusal in (
    ("execv(pp)i", _NO_PROCESSES),
    ("fexecve(ipp)i", _NO_PROCESSES),
    ("forkpty(pppp)i", _NO_PROCESSES),
    ("system(p)i", _NO_PROCESSES),
    ("openpty(ppppp)i", _NO_TERMINAL),
    ("initgroups(pi)i", (errno.EPERM, "the groups of a box are those of its policy")),
    ("getloadavg(pi)i", (errno.EPERM, "the host's load is not the box's business")),
    ("getlogin()p", (errno.ENXIO, "nobody has logged in")),
    ("confstr(ipi)i", (errno.EINVAL, "there is no such string")),
):
    REFUSED[_once(_signature)] = _refusal


@attrs.define
class DirStream:
    """A DIR stream.

    fd: its descriptor. data: the bytes of getdents64(2). at: the offset of the next entry in them.
    """

    fd: int
    data: bytes = b""
    at: int = 0


class Libc:
    """The functions of one box, and the state that libc would have in it.

    home: the path of the interpreter, as the guest sees it. refuse: called for each function that is refused.
    """

    def __init__(self, world: World, environment: dict[str, str], home: str, refuse: Callable[[str, str, int], object]):
        self.world = world
        self.environment = {as_bytes(key): as_bytes(value) for key, value in environment.items()}
        self.added: dict[bytes, bytes] = {}  # variables that the guest has set
        self.home = home
        self.folders: dict[int, DirStream] = {}
        #: Strings that stay in the guest's memory, with their addresses, by the name of a variable or another name.
        self.variables: dict[bytes, tuple[bytes, int]] = {}
        self.stdout = 0
        self._refuse = refuse

    def answer(self, request: wire.Request) -> Steps:
        """Returns the generator that answers a request."""
        signature = request.signature
        if signature in SAME:
            return served(SAME[signature], *request.arguments)  # type: ignore[arg-type]  # none of SAME has a float
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
        known, address = self.variables.get(name, (None, 0))
        if known != text:
            if known is not None:
                yield Free(address)
            address = yield Allocate(text + b"\0")
            self.variables[name] = (text, address)
        return address


def as_bytes(text: str) -> bytes:
    """Returns the bytes of a text of the host's in the guest's memory."""
    return text.encode("utf-8", "surrogateescape")
