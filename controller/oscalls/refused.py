"""Calls that a box refuses by policy, or that do not exist in it.

Each is one row: number, name, errno, reason. A row of DENIED is a denial, which the caller of the box sees in
`Result.denials`. A row of ABSENT answers as a kernel without the call would, so that programs fall back. A number
that is in neither table and has no handler is ENOSYS.
"""

import errno
from collections.abc import Callable
from errno import EACCES, EINVAL, ENOSYS, EOPNOTSUPP, EPERM
from typing import Final

from proxybox.controller.dispatch import oscall
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.roles import Int
from proxybox.controller.world.state import World

Row = tuple[int, str, int, str]

_NETWORK: Final = "network: none"
_PROCESS: Final = "no other programs are started in a box"
_OTHERS: Final = "there is no other process to look into"
_NAMESPACE: Final = "namespaces and mounts are the policy's"
_KERNEL: Final = "not for a guest: it concerns the host's kernel"
_KEYS: Final = "the host's keys are not for a guest"

DENIED: Final[tuple[Row, ...]] = (
    (42, "connect", EPERM, _NETWORK),
    (43, "accept", EPERM, _NETWORK),
    (49, "bind", EPERM, _NETWORK),
    (50, "listen", EPERM, _NETWORK),
    (57, "fork", EPERM, "fork is refused"),
    (58, "vfork", EPERM, "fork is refused"),
    (59, "execve", EPERM, _PROCESS),
    (64, "semget", EPERM, "System V IPC is shared with other processes"),
    (29, "shmget", EPERM, "System V IPC is shared with other processes"),
    (30, "shmat", EPERM, "System V IPC is shared with other processes"),
    (68, "msgget", EPERM, "System V IPC is shared with other processes"),
    (101, "ptrace", EPERM, _OTHERS),
    (126, "capset", EPERM, "a guest has no capabilities"),
    (136, "ustat", EPERM, _KERNEL),
    (139, "sysfs", EPERM, _KERNEL),
    (153, "vhangup", EPERM, _KERNEL),
    (154, "modify_ldt", EPERM, _KERNEL),
    (155, "pivot_root", EPERM, _NAMESPACE),
    (163, "acct", EPERM, _KERNEL),
    (165, "mount", EPERM, _NAMESPACE),
    (166, "umount2", EPERM, _NAMESPACE),
    (167, "swapon", EPERM, _KERNEL),
    (168, "swapoff", EPERM, _KERNEL),
    (169, "reboot", EPERM, _KERNEL),
    (170, "sethostname", EPERM, "the host name is the policy's"),
    (171, "setdomainname", EPERM, "the host name is the policy's"),
    (172, "iopl", EPERM, _KERNEL),
    (173, "ioperm", EPERM, _KERNEL),
    (175, "init_module", EPERM, _KERNEL),
    (176, "delete_module", EPERM, _KERNEL),
    (179, "quotactl", EPERM, _KERNEL),
    (240, "mq_open", EPERM, "POSIX message queues are shared with other processes"),
    (246, "kexec_load", EPERM, _KERNEL),
    (248, "add_key", EPERM, _KEYS),
    (249, "request_key", EPERM, _KEYS),
    (250, "keyctl", EPERM, _KEYS),
    (251, "ioprio_set", EPERM, "scheduling is the policy's"),
    (256, "migrate_pages", EPERM, _KERNEL),
    (272, "unshare", EPERM, _NAMESPACE),
    (279, "move_pages", EPERM, _KERNEL),
    (288, "accept4", EPERM, _NETWORK),
    (298, "perf_event_open", EPERM, _KERNEL),
    (300, "fanotify_init", EPERM, _KERNEL),
    (304, "open_by_handle_at", EPERM, "file handles go past the box's paths"),
    (308, "setns", EPERM, _NAMESPACE),
    (310, "process_vm_readv", EPERM, _OTHERS),
    (311, "process_vm_writev", EPERM, _OTHERS),
    (312, "kcmp", EPERM, _OTHERS),
    (313, "finit_module", EPERM, _KERNEL),
    (314, "sched_setattr", EPERM, "scheduling is the policy's"),
    (317, "seccomp", EPERM, "the box's filter is in place"),
    (320, "kexec_file_load", EPERM, _KERNEL),
    (321, "bpf", EPERM, _KERNEL),
    (322, "execveat", EPERM, _PROCESS),
    (323, "userfaultfd", EPERM, _KERNEL),
    (424, "pidfd_send_signal", EPERM, _OTHERS),
    (425, "io_uring_setup", EPERM, "io_uring makes calls that nobody could answer"),
    (426, "io_uring_enter", EPERM, "io_uring makes calls that nobody could answer"),
    (427, "io_uring_register", EPERM, "io_uring makes calls that nobody could answer"),
    (428, "open_tree", EPERM, _NAMESPACE),
    (429, "move_mount", EPERM, _NAMESPACE),
    (430, "fsopen", EPERM, _NAMESPACE),
    (431, "fsconfig", EPERM, _NAMESPACE),
    (432, "fsmount", EPERM, _NAMESPACE),
    (433, "fspick", EPERM, _NAMESPACE),
    (434, "pidfd_open", EPERM, _OTHERS),
    (438, "pidfd_getfd", EPERM, _OTHERS),
    (440, "process_madvise", EPERM, _OTHERS),
    (442, "mount_setattr", EPERM, _NAMESPACE),
    (443, "quotactl_fd", EPERM, _KERNEL),
    (444, "landlock_create_ruleset", EPERM, "the box's rules are in place"),
    (445, "landlock_add_rule", EPERM, "the box's rules are in place"),
    (446, "landlock_restrict_self", EPERM, "the box's rules are in place"),
    (448, "process_mrelease", EPERM, _OTHERS),
)

_NO_XATTR: Final = "the box's filesystems have no extended attributes"
_NO_TIMER: Final = "use setitimer, or poll with a timeout"
_NO_AIO: Final = "no asynchronous I/O; use threads"
_NO_WATCH: Final = "changes of files are not announced"
_NO_MSG: Final = "no datagrams and no ancillary data; send and recv work on pairs"
_NO_LOCK: Final = "memory cannot be locked"
_NO_NUMA: Final = "no memory policies"
_FALL_BACK: Final = "use read and write"

ABSENT: Final[tuple[Row, ...]] = (
    (103, "syslog", EPERM, "no kernel log"),
    (134, "uselib", ENOSYS, "gone from Linux"),
    (149, "mlock", EPERM, _NO_LOCK),
    (150, "munlock", EPERM, _NO_LOCK),
    (151, "mlockall", EPERM, _NO_LOCK),
    (152, "munlockall", EPERM, _NO_LOCK),
    (27, "mincore", ENOSYS, "which pages are resident is not told"),
    (188, "setxattr", EOPNOTSUPP, _NO_XATTR),
    (189, "lsetxattr", EOPNOTSUPP, _NO_XATTR),
    (190, "fsetxattr", EOPNOTSUPP, _NO_XATTR),
    (191, "getxattr", EOPNOTSUPP, _NO_XATTR),
    (192, "lgetxattr", EOPNOTSUPP, _NO_XATTR),
    (193, "fgetxattr", EOPNOTSUPP, _NO_XATTR),
    (194, "listxattr", EOPNOTSUPP, _NO_XATTR),
    (195, "llistxattr", EOPNOTSUPP, _NO_XATTR),
    (196, "flistxattr", EOPNOTSUPP, _NO_XATTR),
    (197, "removexattr", EOPNOTSUPP, _NO_XATTR),
    (198, "lremovexattr", EOPNOTSUPP, _NO_XATTR),
    (199, "fremovexattr", EOPNOTSUPP, _NO_XATTR),
    (206, "io_setup", ENOSYS, _NO_AIO),
    (209, "io_submit", ENOSYS, _NO_AIO),
    (216, "remap_file_pages", ENOSYS, "use mmap"),
    (222, "timer_create", ENOSYS, _NO_TIMER),
    (223, "timer_settime", ENOSYS, _NO_TIMER),
    (224, "timer_gettime", ENOSYS, _NO_TIMER),
    (225, "timer_getoverrun", ENOSYS, _NO_TIMER),
    (226, "timer_delete", ENOSYS, _NO_TIMER),
    (237, "mbind", ENOSYS, _NO_NUMA),
    (238, "set_mempolicy", ENOSYS, _NO_NUMA),
    (239, "get_mempolicy", ENOSYS, _NO_NUMA),
    (252, "ioprio_get", ENOSYS, "I/O has no priority here"),
    (253, "inotify_init", ENOSYS, _NO_WATCH),
    (274, "get_robust_list", ENOSYS, "robust mutexes end with the process"),
    (275, "splice", EINVAL, _FALL_BACK),
    (276, "tee", EINVAL, _FALL_BACK),
    (278, "vmsplice", EINVAL, _FALL_BACK),
    (282, "signalfd", ENOSYS, "use sigwait, or a handler"),
    (283, "timerfd_create", ENOSYS, _NO_TIMER),
    (286, "timerfd_settime", ENOSYS, _NO_TIMER),
    (287, "timerfd_gettime", ENOSYS, _NO_TIMER),
    (289, "signalfd4", ENOSYS, "use sigwait, or a handler"),
    (294, "inotify_init1", ENOSYS, _NO_WATCH),
    (299, "recvmmsg", EOPNOTSUPP, _NO_MSG),
    (303, "name_to_handle_at", EOPNOTSUPP, "no file handles"),
    (307, "sendmmsg", EOPNOTSUPP, _NO_MSG),
    (315, "sched_getattr", ENOSYS, "use sched_getscheduler"),
    (324, "membarrier", ENOSYS, "use atomic instructions"),
    (325, "mlock2", EPERM, _NO_LOCK),
    (329, "pkey_mprotect", ENOSYS, "no protection keys"),
    (330, "pkey_alloc", ENOSYS, "no protection keys"),
    (331, "pkey_free", ENOSYS, "no protection keys"),
    (334, "rseq", ENOSYS, "glibc does without"),
    (435, "clone3", ENOSYS, "glibc falls back on clone"),
    (447, "memfd_secret", ENOSYS, "use memfd_create"),
    (449, "futex_waitv", ENOSYS, "use futex"),
)


def _refusal(error: type[OSError], code: int, reason: str) -> Callable[[World], Reply]:
    def refuse(world: World) -> Reply:
        raise error(code, reason)

    return refuse


for _error, _rows in ((Denied, DENIED), (OSError, ABSENT)):
    for _number, _name, _code, _reason in _rows:
        oscall(_number, _name)(_refusal(_error, _code, _reason))

_NSCD: Final = (1, 0o2004001, 0)
"""What glibc asks for before it reads /etc/passwd: AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK."""


@oscall(41)
def socket(world: World, domain: Int, kind: Int, protocol: Int) -> Reply:
    """socket(2): refused.

    glibc's own question for its name cache is not recorded as a denial, because the program did not ask it.
    """
    if (domain, kind, protocol) == _NSCD:
        raise OSError(EACCES, "no name cache in a box")
    raise Denied(errno.EPERM, _NETWORK)
