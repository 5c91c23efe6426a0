"""RLIMIT_AS of a guest, set from outside (prlimit(2)), also where the guest is another user's.

A controller that is root starts its guests as another user. The kernel lets it change their limits if it has
CAP_SYS_RESOURCE, which containers rarely give, or if its real user and group are theirs. To the kernel these ids are a
thread's own (credentials(7)). So a thread takes those of the guest, keeps its effective ids and so its capabilities,
sets the limit, and ends: nothing has to be undone, wherever it is interrupted.
"""

import ctypes
import errno
import functools
import os
import resource
import threading

from proxybox.controller import hostproc

# x86-64: by number, because libc's functions change the ids of all threads.
_SETRESUID, _SETRESGID = 117, 119
_KEPT = -1


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def set_space(pid: int, soft: int, hard: int | None = None) -> int:
    """Sets the limits of address space of a child that has not been reaped, and returns the new soft limit.

    soft: reduced to the hard limit if that is lower. hard: None leaves the hard limit unchanged. Raises OSError.
    """
    wanted = functools.partial(_set, pid, soft, hard)
    try:
        return wanted()
    except PermissionError:
        if os.geteuid() != 0:
            raise
    done: list[int | OSError] = []
    thread = threading.Thread(target=_as_its_user, args=(pid, wanted, done), name="proxybox-limits", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, "no thread is left to set a limit") from error
    thread.join()
    result = done[0]
    if isinstance(result, OSError):
        raise result
    return result


def _set(pid: int, soft: int, hard: int | None) -> int:
    most = resource.prlimit(pid, resource.RLIMIT_AS)[1] if hard is None else hard
    soft = soft if most == resource.RLIM_INFINITY else min(soft, most)
    resource.prlimit(pid, resource.RLIMIT_AS, (soft, most))
    return soft


def _as_its_user(pid: int, wanted: "functools.partial[int]", done: list[int | OSError]) -> None:
    """Runs in a thread of its own."""
    try:
        for number, key in ((_SETRESGID, "Gid"), (_SETRESUID, "Uid")):
            if _libc().syscall(number, hostproc.status(pid, key), _KEPT, _KEPT) < 0:
                raise OSError(ctypes.get_errno(), "the guest's user")
        done.append(wanted())
    except (OSError, ValueError) as error:
        done.append(error if isinstance(error, OSError) else OSError(errno.ESRCH, str(error)))
