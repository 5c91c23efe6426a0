"""Finds calls at which a filter around this process (a container's, a service manager's) ends a process, not the call.

A filter's answers cannot be read. So each call of a box's start is tried, in a process of its own, with arguments that
the kernel refuses.
"""

import json
import subprocess
import sys

from proxybox.controller.header import CALL_SEALED
from proxybox.controller.seal.filters import NUMBERS

#: Calls of the launcher, the stub and the controller at a start, besides those that a guest may make.
_OF_A_START = {
    "rt_sigaction": 13, "rt_sigprocmask": 14, "dup2": 33, "socketpair": 53, "vfork": 58, "execve": 59, "wait4": 61,
    "fchdir": 81, "fcntl": 72, "getrlimit": 97, "setgroups": 116, "setresuid": 117, "setresgid": 119, "capset": 126,
    "personality": 135, "setpriority": 141, "sched_setscheduler": 144, "pivot_root": 155, "arch_prctl": 158,
    "mount": 165, "umount2": 166, "waitid": 247, "unshare": 272, "pipe2": 293, "prlimit64": 302,
    "pidfd_send_signal": 424, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "pidfd_open": 434,
    "clone3": 435, "close_range": 436, "openat2": 437, "landlock_create_ruleset": 444, "landlock_restrict_self": 446,
}  # fmt: skip
#: These calls would have an effect with -1 as their arguments.
_DO_SOMETHING = frozenset({"exit", "exit_group", "rt_sigreturn", "restart_syscall", "vfork", "brk", "sched_yield"})
#: The stub's proof of its seal: a number that no call has.
_PROOF = "a number that is no call's"

_TRY = """
import ctypes, json, os, sys
syscall, ended = ctypes.CDLL(None).syscall, []
for name, number in json.loads(sys.argv[1]).items():
    pid = os.fork()
    if pid == 0:
        syscall(ctypes.c_long(number), *[ctypes.c_long(-1)] * 6)
        os._exit(0)
    if os.WIFSIGNALED(os.waitpid(pid, 0)[1]):
        ended.append(name)
print(json.dumps(ended))
"""


def calls_that_end_a_process() -> list[str]:
    """Returns the names of calls at which a filter around this process ends a process. Raises OSError, ValueError."""
    calls = {name: number for name, number in (NUMBERS | _OF_A_START).items() if name not in _DO_SOMETHING}
    calls[_PROOF] = CALL_SEALED
    tried = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _TRY, json.dumps(calls)], stdin=subprocess.DEVNULL, capture_output=True,
        timeout=30, check=False,
    )  # fmt: skip
    return [str(name) for name in json.loads(tried.stdout or b"[]")]
