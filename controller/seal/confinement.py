"""Confines this process before it reads untrusted data: it can start no program, and write only to listed places.

For helpers of the trusted side, such as the one that unpacks packages; guests have the seal (filters.py). Two layers of
the kernel do it: seccomp(2) refuses to start programs and to reach other processes, and landlock(7) opens only the
files that are listed. Both are inherited by child processes, and neither can be removed. Of root's capabilities, only
those over files are left.
"""

import ctypes
import os
import stat
import struct
from collections.abc import Sequence

import attrs

from proxybox.controller.header import ROUTE
from proxybox.controller.seal.filters import (
    ALLOW,
    ARCH_AT,
    ARGS_AT,
    AUDIT_ARCH,
    IF_AT_LEAST,
    IF_EQUAL,
    INSTRUCTION,
    KILL_PROCESS,
    LOAD,
    NR_AT,
    RETURN,
)

_SECCOMP, _EXECVEAT, _CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 317, 322, 444, 445, 446
_SOCKET, _EXECVE, _CAPGET, _CAPSET, _X32 = 41, 59, 125, 126, 0x40000000
#: Calls by which a process reaches another one, or evades this filter: none of them is needed to use the network.
REFUSED = {
    "kill": 62, "ptrace": 101, "rt_sigqueueinfo": 129, "tkill": 200, "tgkill": 234, "add_key": 248, "request_key": 249,
    "keyctl": 250, "unshare": 272, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "setns": 308,
    "process_vm_readv": 310, "process_vm_writev": 311, "bpf": 321, "userfaultfd": 323, "pidfd_send_signal": 424,
    "io_uring_setup": 425, "pidfd_open": 434, "pidfd_getfd": 438, "process_madvise": 440,
}  # fmt: skip
#: Allowed families of sockets: AF_INET, AF_INET6, and AF_NETLINK, by which getaddrinfo(3) reads this machine's
#: addresses. Through AF_UNIX, a process could request other programs to start something.
FAMILIES = 2, 10, 16
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _VERSION, _PATH_BENEATH = 38, 1, 1, 1
_AT_EMPTY_PATH = 0x1000
#: seccomp(2): the call fails with EACCES, as it does by Landlock.
_REFUSE = 0x0005000D
_NO = (RETURN, 0, 0, _REFUSE)
#: The register of the sixth argument, which execveat(2) does not have. Only our own call has ROUTE there.
_SIXTH = ARGS_AT + 8 * 5

#: linux/landlock.h. Without REFER (version 2), nothing can be renamed from one folder to another.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _MAKE_SYM = 1, 2, 4, 8, 1 << 14, 1 << 12
_READ = _READ_FILE | _READ_DIR
#: The rights to remove, make and rename files and folders; not links, devices, sockets or FIFOs.
_WRITE = _READ | _WRITE_FILE | 0x10 | 0x20 | 0x80 | 0x100 | 0x2000 | _TRUNCATE
#: Those of these rights that apply to files which are not folders.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_OLDEST = 2
#: By version, how many access rights the kernel knows; later versions know at least as many as the last entry.
_RIGHTS = {2: 14, 3: 15, 4: 15, 5: 16}
#: From this version on, signals and sockets of abstract names can be confined, too.
_SCOPED_FROM, _SCOPED = 6, 3
#: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH: root reads Python and uv in the folders of other users.
_KEPT_CAPABILITIES, _CAPABILITIES_VERSION = 0b110, 0x20080522


@attrs.frozen(kw_only=True)
class Confinement:
    """The places that a confined process may still open, with everything below. Paths that do not exist are ignored.

    reads: to read. writes: to read and to change. links: where symbolic links can be made. programs: can be read, and
    one of them can be started with `run`; no program can be started in another way.
    """

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    links: bool = False
    programs: Sequence[str] = ()

    def enter(self) -> list[str]:
        """Confines this thread and its children; returns the names of the layers that are in force.

        At least one of the layers refuses to start programs. With "seccomp" alone, all files can still be opened.
        """
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _drop_capabilities()
        return [name for name, enter in (("landlock", self._landlock), ("seccomp", self._seccomp)) if enter()]

    def _seccomp(self) -> bool:
        code = refusing_filter(runs=bool(self.programs))
        program = _Program(len(code) // INSTRUCTION.size, code)
        return bool(_libc.syscall(_SECCOMP, _SET_MODE_FILTER, 0, ctypes.byref(program)) == 0)

    def _landlock(self) -> bool:
        version = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
        if version < _OLDEST:
            return False
        handled = (1 << _RIGHTS.get(version, _RIGHTS[max(_RIGHTS)])) - 1
        attributes = (ctypes.c_uint64 * 3)(handled, 0, _SCOPED)
        size = 24 if version >= _SCOPED_FROM else 8
        rules = _libc.syscall(_CREATE_RULESET, attributes, size, 0)
        if rules < 0:
            return False
        try:
            for paths, rights in (
                (self.reads, _READ),
                (self.writes, _WRITE | (_MAKE_SYM if self.links else 0)),
                (self.programs, _READ_FILE | _EXECUTE),
            ):
                for path in paths:
                    _allow(rules, path, rights & handled)
            return bool(_libc.syscall(_RESTRICT_SELF, rules, 0) == 0)
        finally:
            os.close(rules)


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("rights", ctypes.c_uint64), ("fd", ctypes.c_int))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


_libc = ctypes.CDLL(None, use_errno=True)


def _allow(rules: int, path: str, rights: int) -> None:
    """Allows rights below a path. A path that does not exist, or cannot be reached, needs no rule."""
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if _libc.syscall(_ADD_RULE, rules, _PATH_BENEATH, ctypes.byref(_PathBeneath(rights, fd)), 0):
            raise OSError(ctypes.get_errno(), "landlock_add_rule failed", path)
    finally:
        os.close(fd)


def _drop_capabilities() -> None:
    """Drops root's capabilities, except those over files. By PR_SET_NO_NEW_PRIVS, no program gets them back."""
    header = struct.pack("=Ii", _CAPABILITIES_VERSION, 0)
    sets = ctypes.create_string_buffer(24)
    if _libc.syscall(_CAPGET, header, sets) == 0:
        effective, permitted, *_ = struct.unpack("=6I", sets.raw)
        kept = effective & _KEPT_CAPABILITIES, permitted & _KEPT_CAPABILITIES
        _libc.syscall(_CAPSET, header, struct.pack("=6I", *kept, 0, 0, 0, 0))


def refusing_filter(*, runs: bool) -> bytes:
    """The filter that refuses to start programs, and to reach other processes. runs: `run` can still start one."""
    refused = (*REFUSED.values(), _EXECVE, *(() if runs else (_EXECVEAT,)))
    by_run = ((IF_EQUAL, 0, 4, _EXECVEAT), (LOAD, 0, 0, _SIXTH), (IF_EQUAL, 0, 1, ROUTE), (RETURN, 0, 0, ALLOW), _NO)
    lines = (
        (LOAD, 0, 0, ARCH_AT), (IF_EQUAL, 1, 0, AUDIT_ARCH),
        (RETURN, 0, 0, KILL_PROCESS),  # another ABI, whose calls have other numbers
        (LOAD, 0, 0, NR_AT), (IF_AT_LEAST, 0, 1, _X32), _NO,
        *(line for number in refused for line in ((IF_EQUAL, 0, 1, number), _NO)),
        *(by_run if runs else ()),
        (IF_EQUAL, 0, len(FAMILIES) + 2, _SOCKET), (LOAD, 0, 0, ARGS_AT),
        *((IF_EQUAL, len(FAMILIES) - at, 0, family) for at, family in enumerate(FAMILIES)), _NO,
        (RETURN, 0, 0, ALLOW),
    )  # fmt: skip
    return b"".join(INSTRUCTION.pack(*line) for line in lines)


def run(program: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Replaces this process by a program, in spite of the filter. Returns only by raising OSError."""
    words = [os.fsencode(word) for word in (program, *arguments)]
    variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    argv, envp = ((ctypes.c_char_p * (len(each) + 1))(*each, None) for each in (words, variables))
    fd = os.open(program, os.O_PATH | os.O_CLOEXEC)
    _libc.syscall(_EXECVEAT, fd, b"", argv, envp, _AT_EMPTY_PATH, ROUTE)
    raise OSError(ctypes.get_errno(), "could not be started", program)
