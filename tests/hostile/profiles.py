"""Runs a command, pytest by default, under the seccomp profile that a container engine gives to a container
without capabilities by default:
`python tests/hostile/profiles.py docker|podman|containerd [-c COMMAND... | PYTEST ARGUMENTS...]`.

The allow-lists are, for x86-64: Docker's of moby/profiles, seccomp/default.json, of November 2026; Podman's of
containers/common 0.62, /usr/share/containers/seccomp.json; containerd's of contrib/seccomp/seccomp_default.go of August
2026. With each of them, runc lets calls that are newer than the newest of the list fail with ENOSYS. The lists' entries
for i386 and x32 are left out: calls of i386 are let through, and numbers of x32 are refused like others that are not on
the list.
"""

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

#: Every call of x86-64 that at least one of the profiles allows.
NUMBERS = {
    "read": 0, "write": 1, "open": 2, "close": 3, "stat": 4, "fstat": 5, "lstat": 6, "poll": 7, "lseek": 8, "mmap": 9, "mprotect": 10,
    "munmap": 11, "brk": 12, "rt_sigaction": 13, "rt_sigprocmask": 14, "rt_sigreturn": 15, "ioctl": 16, "pread64": 17, "pwrite64": 18,
    "readv": 19, "writev": 20, "access": 21, "pipe": 22, "select": 23, "sched_yield": 24, "mremap": 25, "msync": 26, "mincore": 27,
    "madvise": 28, "shmget": 29, "shmat": 30, "shmctl": 31, "dup": 32, "dup2": 33, "pause": 34, "nanosleep": 35, "getitimer": 36,
    "alarm": 37, "setitimer": 38, "getpid": 39, "sendfile": 40, "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45,
    "sendmsg": 46, "recvmsg": 47, "shutdown": 48, "bind": 49, "listen": 50, "getsockname": 51, "getpeername": 52, "socketpair": 53,
    "setsockopt": 54, "getsockopt": 55, "clone": 56, "fork": 57, "vfork": 58, "execve": 59, "exit": 60, "wait4": 61, "kill": 62,
    "uname": 63, "semget": 64, "semop": 65, "semctl": 66, "shmdt": 67, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71, "fcntl": 72,
    "flock": 73, "fsync": 74, "fdatasync": 75, "truncate": 76, "ftruncate": 77, "getdents": 78, "getcwd": 79, "chdir": 80, "fchdir": 81,
    "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87, "symlink": 88, "readlink": 89, "chmod": 90, "fchmod": 91,
    "chown": 92, "fchown": 93, "lchown": 94, "umask": 95, "gettimeofday": 96, "getrlimit": 97, "getrusage": 98, "sysinfo": 99, "times": 100,
    "ptrace": 101, "getuid": 102, "syslog": 103, "getgid": 104, "setuid": 105, "setgid": 106, "geteuid": 107, "getegid": 108,
    "setpgid": 109, "getppid": 110, "getpgrp": 111, "setsid": 112, "setreuid": 113, "setregid": 114, "getgroups": 115, "setgroups": 116,
    "setresuid": 117, "getresuid": 118, "setresgid": 119, "getresgid": 120, "getpgid": 121, "setfsuid": 122, "setfsgid": 123, "getsid": 124,
    "capget": 125, "capset": 126, "rt_sigpending": 127, "rt_sigtimedwait": 128, "rt_sigqueueinfo": 129, "rt_sigsuspend": 130,
    "sigaltstack": 131, "utime": 132, "mknod": 133, "personality": 135, "statfs": 137, "fstatfs": 138, "getpriority": 140,
    "setpriority": 141, "sched_setparam": 142, "sched_getparam": 143, "sched_setscheduler": 144, "sched_getscheduler": 145,
    "sched_get_priority_max": 146, "sched_get_priority_min": 147, "sched_rr_get_interval": 148, "mlock": 149, "munlock": 150,
    "mlockall": 151, "munlockall": 152, "modify_ldt": 154, "pivot_root": 155, "prctl": 157, "arch_prctl": 158, "adjtimex": 159,
    "setrlimit": 160, "sync": 162, "mount": 165, "umount2": 166, "reboot": 169, "gettid": 186, "readahead": 187, "setxattr": 188,
    "lsetxattr": 189, "fsetxattr": 190, "getxattr": 191, "lgetxattr": 192, "fgetxattr": 193, "listxattr": 194, "llistxattr": 195,
    "flistxattr": 196, "removexattr": 197, "lremovexattr": 198, "fremovexattr": 199, "tkill": 200, "time": 201, "futex": 202,
    "sched_setaffinity": 203, "sched_getaffinity": 204, "set_thread_area": 205, "io_setup": 206, "io_destroy": 207, "io_getevents": 208,
    "io_submit": 209, "io_cancel": 210, "get_thread_area": 211, "epoll_create": 213, "epoll_ctl_old": 214, "epoll_wait_old": 215,
    "remap_file_pages": 216, "getdents64": 217, "set_tid_address": 218, "restart_syscall": 219, "semtimedop": 220, "fadvise64": 221,
    "timer_create": 222, "timer_settime": 223, "timer_gettime": 224, "timer_getoverrun": 225, "timer_delete": 226, "clock_gettime": 228,
    "clock_getres": 229, "clock_nanosleep": 230, "exit_group": 231, "epoll_wait": 232, "epoll_ctl": 233, "tgkill": 234, "utimes": 235,
    "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "mq_open": 240, "mq_unlink": 241, "mq_timedsend": 242, "mq_timedreceive": 243,
    "mq_notify": 244, "mq_getsetattr": 245, "waitid": 247, "keyctl": 250, "ioprio_set": 251, "ioprio_get": 252, "inotify_init": 253,
    "inotify_add_watch": 254, "inotify_rm_watch": 255, "openat": 257, "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261,
    "newfstatat": 262, "unlinkat": 263, "renameat": 264, "linkat": 265, "symlinkat": 266, "readlinkat": 267, "fchmodat": 268,
    "faccessat": 269, "pselect6": 270, "ppoll": 271, "unshare": 272, "set_robust_list": 273, "get_robust_list": 274, "splice": 275,
    "tee": 276, "sync_file_range": 277, "vmsplice": 278, "utimensat": 280, "epoll_pwait": 281, "signalfd": 282, "timerfd_create": 283,
    "eventfd": 284, "fallocate": 285, "timerfd_settime": 286, "timerfd_gettime": 287, "accept4": 288, "signalfd4": 289, "eventfd2": 290,
    "epoll_create1": 291, "dup3": 292, "pipe2": 293, "inotify_init1": 294, "preadv": 295, "pwritev": 296, "rt_tgsigqueueinfo": 297,
    "recvmmsg": 299, "fanotify_mark": 301, "prlimit64": 302, "name_to_handle_at": 303, "clock_adjtime": 305, "syncfs": 306, "sendmmsg": 307,
    "setns": 308, "getcpu": 309, "process_vm_readv": 310, "process_vm_writev": 311, "sched_setattr": 314, "sched_getattr": 315,
    "renameat2": 316, "seccomp": 317, "getrandom": 318, "memfd_create": 319, "execveat": 322, "membarrier": 324, "mlock2": 325,
    "copy_file_range": 326, "preadv2": 327, "pwritev2": 328, "pkey_mprotect": 329, "pkey_alloc": 330, "pkey_free": 331, "statx": 332,
    "io_pgetevents": 333, "rseq": 334, "uretprobe": 335, "pidfd_send_signal": 424, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434, "clone3": 435, "close_range": 436, "openat2": 437,
    "pidfd_getfd": 438, "faccessat2": 439, "epoll_pwait2": 441, "mount_setattr": 442, "landlock_create_ruleset": 444,
    "landlock_add_rule": 445, "landlock_restrict_self": 446, "memfd_secret": 447, "process_mrelease": 448, "futex_waitv": 449,
    "cachestat": 451, "fchmodat2": 452, "map_shadow_stack": 453, "futex_wake": 454, "futex_wait": 455, "futex_requeue": 456,
    "statmount": 457, "listmount": 458, "lsm_get_self_attr": 459, "lsm_set_self_attr": 460, "lsm_list_modules": 461, "mseal": 462,
    "setxattrat": 463, "getxattrat": 464, "listxattrat": 465, "removexattrat": 466,
}  # fmt: skip
#: CLONE_NEWNS, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWCGROUP.
NAMESPACES = 0x7E020000
#: Address families that socket(2) may have: Docker's list has no AF_ALG and no AF_VSOCK. No family has as high a number
#: as the last one here.
FAMILIES = (*range(12), 13, 14, 15, 16, 17, 18, 21, 22, 24, *range(26, 34), 35, 36, 39, 41, 42, 43, 44, 45)
_BY_ARGUMENTS = {"clone", "personality", "socket"}
_NEW_NAMESPACES = {
    "clone3", "fsconfig", "fsmount", "fsopen", "fspick", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "setns",
    "umount2", "unshare",
}  # fmt: skip
_LSM = {"lsm_get_self_attr", "lsm_set_self_attr", "lsm_list_modules"}
_OF_PODMAN = {"clone", "get_mempolicy", "keyctl", "mbind", "pidfd_getfd", "reboot", "set_mempolicy", "syslog", "socket"}
_NOT_OF_PODMAN = {
    "cachestat", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake", "getxattrat", "io_pgetevents", "listmount", "listxattrat",
    "map_shadow_stack", "mseal", "removexattrat", "setxattrat", "statmount", "uretprobe", "vmsplice",
}  # fmt: skip
_DOCKER = NUMBERS.keys() - _BY_ARGUMENTS - _NEW_NAMESPACES - _LSM - _OF_PODMAN


class Profile(NamedTuple):
    """A profile: the calls that it allows.

    otherwise: the error of other calls. families: those of socket(2), where not all are allowed.
    """

    names: frozenset[str]
    otherwise: int = errno.EPERM
    families: Sequence[int] = ()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the calls that it allows with any arguments."""
        return sorted(NUMBERS[name] for name in self.names)


PROFILES = {
    "docker": Profile(frozenset(_DOCKER), families=FAMILIES),
    # Podman's lets everybody make namespaces. (Some calls fail there with EPERM, such as chroot; here they fail with
    # ENOSYS.)
    "podman": Profile(frozenset(_DOCKER - _NOT_OF_PODMAN | _NEW_NAMESPACES | _OF_PODMAN), otherwise=errno.ENOSYS),
    "containerd": Profile(
        frozenset(_DOCKER - {"getxattrat", "listxattrat", "removexattrat", "setxattrat"} | _LSM),
        families=(*range(38), 39, *range(41, 46)),
    ),
}
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_LOAD, _EQUAL, _ABOVE, _AT_LEAST, _ANY_OF, _RETURN = 0x20, 0x15, 0x25, 0x35, 0x45, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_X86_64 = 0xC000003E
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16

Instruction = tuple[int, int, int, int]
_LET: Instruction = (_RETURN, 0, 0, _ALLOW)
_UNKNOWN: Instruction = (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)


def program(profile: Profile) -> list[Instruction]:
    """The BPF program of a profile: instructions (code, jump if true, jump if false, operand)."""
    refuse: Instruction = (_RETURN, 0, 0, _ERRNO | profile.otherwise)
    newest = profile.numbers[-1]
    text = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, _X86_64), _LET, (_LOAD, 0, 0, _NUMBER)]
    text += _one_of("personality", PERSONALITIES, refuse)
    if "clone" not in profile.names:
        # the flags of clone3 are in memory, which a filter cannot read
        clone, clone3 = NUMBERS["clone"], NUMBERS["clone3"]
        text += [(_EQUAL, 0, 4, clone), (_LOAD, 0, 0, _FIRST_ARGUMENT), (_ANY_OF, 0, 1, NAMESPACES), refuse, _LET]
        text += [(_EQUAL, 0, 1, clone3), _UNKNOWN]
    if profile.families:
        text += _one_of("socket", profile.families, refuse)
    text += [(_ABOVE, 0, 1, newest), _UNKNOWN]
    for first, last in ranges(profile.numbers):
        text += [(_AT_LEAST, 0, 2, first), (_ABOVE, 1, 0, last), _LET]
    return [*text, refuse]


def _one_of(name: str, values: Sequence[int], refuse: Instruction) -> list[Instruction]:
    """The instructions that allow a call when its first argument is one of `values`."""
    size = len(values)
    text = [(_EQUAL, 0, size + 3, NUMBERS[name]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    text += [(_EQUAL, size - index, 0, value) for index, value in enumerate(values)]
    return [*text, refuse, _LET]


def ranges(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """The ranges (first, last) of consecutive numbers."""
    first = last = numbers[0]
    for number in numbers[1:]:
        if number != last + 1:
            yield first, last
            first = number
        last = number
    yield first, last


def install(name: str) -> None:
    """Installs a profile for this process and all processes that it starts. It cannot be removed. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program(PROFILES[name]))
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter could not be installed")


def main(words: list[str]) -> None:
    install(words[0])
    command = words[2:] if words[1:2] == ["-c"] else [sys.executable, "-m", "pytest", *words[1:]]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
