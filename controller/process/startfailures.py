"""Says why a box has not started, from the message of the launcher, the loader or the stub, and from how it ended."""

import contextlib
import errno
import os
import resource
import signal
import traceback

from proxybox.controller.guests.programs import closed_at
from proxybox.controller.pidfd import has_ended, open_pidfd

#: An interpreter starts in at most this many bytes of address space.
_ENOUGH = 1 << 30
#: Milliseconds to wait for the end of a process that has closed its descriptors.
_PATIENCE = 1000

#: By the step that has failed, which is the first word of the message.
_ADVICE = {
    "seccomp": "this host refuses seccomp filters (seccomp(2), SECCOMP_SET_MODE_FILTER): without one no box can be "
    "sealed. In a container, use a runtime profile that allows seccomp, as Docker's default does",
    "setgroups": "this process is root and may not become another user, as its boxes must: run it as an ordinary user, "
    "or leave it the capabilities CAP_SETGID and CAP_SETUID",
    "setresgid": "there is no group {uid} in this user namespace for boxes of root's: run it as an ordinary user",
    "counter": "this kernel does not keep the time stamp counter from a process (prctl(2), PR_SET_TSC), and a program "
    "could read the host's time by it. In gVisor this is so: only boxes with the real time start there, unrecorded",
    "clocks": "the clock pages of this kernel's vDSO cannot be covered, so the host's clock would be seen in the box",
}


#: By the signal that has ended the interpreter. Before the seal only the kernel sends it signals.
_ENDED: dict[int, str] = {
    signal.SIGSYS: "a seccomp filter around this process ended the interpreter at a call that it does not allow "
    "(SIGSYS; `proxybox doctor` tells which). Such calls have to fail instead: SystemCallErrorNumber=EPERM in a "
    "systemd unit, SCMP_ACT_ERRNO in a container's profile",
    signal.SIGKILL: "the kernel ended the interpreter before it was sealed (SIGKILL): limits.cpu_time is less than a "
    "start needs here, or memory has run out",
}


def signal_that_ended(pid: int) -> int:
    """Returns the signal that ends a child which has closed its descriptors; 0 where none ends it, or not soon."""
    with contextlib.suppress(OSError):  # it was reaped, or no descriptor is left: then its end is not known
        pidfd = open_pidfd(pid)
        try:
            has_ended(pidfd, _PATIENCE)
        finally:
            os.close(pidfd)
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if ended and ended.si_code in (os.CLD_KILLED, os.CLD_DUMPED):
            return ended.si_status
    return 0


def why_no_start(said: str, ended_by: int, box_uid: int) -> str:
    """Returns the reason. said: the message. ended_by: a signal, or 0. box_uid: the user of root's boxes."""
    silent = _small_space() or _ENDED.get(ended_by, "the interpreter ended before it was sealed, without a word")
    if said.startswith(("GLIBC", "symbol lookup")) or "error while loading" in said:
        return f"the interpreter cannot be loaded: {said}"
    if "Permission denied" in said and os.geteuid() == 0:
        return f"{said} ({_closed(said.partition(': ')[0], box_uid)})"
    step = said.partition(":")[0]
    if step == "memory limit" and (why := _small_space()):
        return why
    return _ADVICE[step].format(uid=box_uid) if step in _ADVICE else said or silent


def _small_space() -> str:
    """Returns a message where the limits of this process, which its children inherit, are too small for an interpreter.

    "" where they are large enough.
    """
    for number, option in ((resource.RLIMIT_AS, "v"), (resource.RLIMIT_DATA, "d")):
        soft, hard = resource.getrlimit(number)
        least = min((each for each in (soft, hard) if each != resource.RLIM_INFINITY), default=_ENOUGH)
        if least < _ENOUGH:
            return (
                f"the interpreter ended before it was sealed: what this process starts may have {least >> 20} MiB of "
                f"memory (ulimit -{option}), which is too little for it. Raise that; what a program may use is "
                "limits.memory"
            )
    return ""


def _closed(path: str, box_uid: int) -> str:
    """Returns why the user of root's guests may not run a program, and what to do."""
    place = closed_at(path) if os.path.exists(path) else ""
    if not place:
        return f"a box that root starts runs as user {box_uid}: its interpreter must be readable to everybody"
    what = "enter" if os.path.isdir(place) else "run"
    return (
        f"a box that root starts runs as user {box_uid}, who may not {what} {place}: let everybody do so (chmod o+x "
        f"{place}), copy the interpreter's whole folder to a place such as /opt, or name another one with --guest"
    )


def in_words(error: OSError) -> str:
    """Returns the error of a call of the controller's own, and the name of the call."""
    if error.filename:
        advice = " (is it on a filesystem that is mounted noexec?)" if error.errno == errno.EACCES else ""
        return f"{error.filename}: {error.strerror}{advice}"
    what = error.strerror or str(error)
    place = traceback.extract_tb(error.__traceback__)[-1:]
    return f"{what}, at `{place[0].line}`" if place and place[0].line else what
