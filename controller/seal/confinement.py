"""Confines this process, before it reads what strangers wrote: it starts no program, and writes where it was told.

For helpers of the trusted side, such as the one that unpacks packages; guests have the seal (filters.py). Two layers of
the kernel do it: seccomp(2) refuses execve(2), and landlock(7) opens only the files that are listed. Both are inherited
by what the process starts, and neither can be taken off again.
"""

import ctypes
import os
import stat
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
_EXECVE, _X32 = 59, 0x40000000
_PR_SET_NO_NEW_PRIVS, _SET_MODE_FILTER, _VERSION, _PATH_BENEATH = 38, 1, 1, 1
_AT_EMPTY_PATH = 0x1000
#: seccomp(2): the call fails with EACCES, as it does by Landlock.
_REFUSE = 0x0005000D
#: The register of the sixth argument, which execveat(2) does not have. Ours carries ROUTE there, nobody else's does.
_SIXTH = ARGS_AT + 8 * 5

#: linux/landlock.h. Without REFER (version 2), nothing can be renamed from one folder to another.
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE, _MAKE_SYM = 1, 2, 4, 8, 1 << 14, 1 << 12
_READ = _READ_FILE | _READ_DIR
#: Removes and makes files and folders, and renames them: no links, devices, sockets or FIFOs.
_WRITE = _READ | _WRITE_FILE | 0x10 | 0x20 | 0x80 | 0x100 | 0x2000 | _TRUNCATE
#: Of these rights, those that a file has that is no folder.
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
_OLDEST = 2
#: By version, how many access rights the kernel knows; later versions know at least as many as the last one here.
_RIGHTS = {2: 14, 3: 15, 4: 15, 5: 16}


@attrs.frozen(kw_only=True)
class Confinement:
    """What a confined process may still open, with all that is below: files and folders that are not there are none.

    reads: to read. writes: to read and to change. links: symbolic links can be made there. programs: to start one of
    them with `run`, and to read it; nothing can be started in another way.
    """

    reads: Sequence[str] = ()
    writes: Sequence[str] = ()
    links: bool = False
    programs: Sequence[str] = ()

    def enter(self) -> list[str]:
        """Confines this thread and what it starts; returns the names of the layers that are in force.

        At least one of these refuses to start programs. With "seccomp" alone, files are opened as before.
        """
        _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        return [name for name, enter in (("landlock", self._landlock), ("seccomp", _refuse_programs)) if enter()]

    def _landlock(self) -> bool:
        version = _libc.syscall(_CREATE_RULESET, None, 0, _VERSION)
        if version < _OLDEST:
            return False
        handled = (1 << _RIGHTS.get(version, _RIGHTS[max(_RIGHTS)])) - 1
        rules = _libc.syscall(_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(handled)), 8, 0)
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
    """Allows rights below a path. What is not there, or cannot be reached, needs no rule."""
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


def exec_filter() -> bytes:
    """The filter that refuses to start programs, but for `run`."""
    lines = (
        (LOAD, 0, 0, ARCH_AT),
        (IF_EQUAL, 1, 0, AUDIT_ARCH),
        (RETURN, 0, 0, KILL_PROCESS),  # another ABI, whose calls have other numbers
        (LOAD, 0, 0, NR_AT),
        (IF_AT_LEAST, 4, 0, _X32),
        (IF_EQUAL, 3, 0, _EXECVE),
        (IF_EQUAL, 0, 3, _EXECVEAT),
        (LOAD, 0, 0, _SIXTH),
        (IF_EQUAL, 1, 0, ROUTE),
        (RETURN, 0, 0, _REFUSE),
        (RETURN, 0, 0, ALLOW),
    )
    return b"".join(INSTRUCTION.pack(*line) for line in lines)


def _refuse_programs() -> bool:
    code = exec_filter()
    program = _Program(len(code) // INSTRUCTION.size, code)
    return bool(_libc.syscall(_SECCOMP, _SET_MODE_FILTER, 0, ctypes.byref(program)) == 0)


def run(program: str, arguments: Sequence[str], environment: dict[str, str]) -> None:
    """Replaces this process by a program, in spite of the filter. Returns only by raising OSError."""
    words = [os.fsencode(word) for word in (program, *arguments)]
    variables = [os.fsencode(f"{name}={value}") for name, value in environment.items()]
    argv, envp = ((ctypes.c_char_p * (len(each) + 1))(*each, None) for each in (words, variables))
    fd = os.open(program, os.O_PATH | os.O_CLOEXEC)
    _libc.syscall(_EXECVEAT, fd, b"", argv, envp, _AT_EMPTY_PATH, ROUTE)
    raise OSError(ctypes.get_errno(), "could not be started", program)
