"""Calls that a box refuses by policy, or that do not exist in it.

Each is one row: number, name, what it would do, errno, reason. A row of DENIED is a denial, which the caller of the box
sees in `Result.denials`. A row of ABSENT answers as a kernel without the call would, so that programs fall back.
UNANSWERED has the names of the kernel's other calls: they are ENOSYS, and are shown as unknown.
"""

import errno
from collections.abc import Callable
from errno import EACCES, EINVAL, ENOSYS, EOPNOTSUPP, EPERM
from typing import Final

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import oscall, unanswered
from proxybox.controller.effects import Reply
from proxybox.controller.errors import Denied
from proxybox.controller.roles import Int, SocketFamily, SocketKind
from proxybox.controller.world.state import World

Row = tuple[int, str, CallEffect, int, str]

_NETWORK: Final = "network: none"
_PROCESS: Final = "no other programs are started in a box"
_OTHERS: Final = "there is no other process to look into"
_NAMESPACE: Final = "namespaces and mounts are the policy's"
_KERNEL: Final = "not for a guest: it concerns the host's kernel"
_KEYS: Final = "the host's keys are not for a guest"

DENIED: Final[tuple[Row, ...]] = (
    (42, "connect", CallEffect.SOCKETS, EPERM, _NETWORK),
    (43, "accept", CallEffect.CREATES | CallEffect.SOCKETS, EPERM, _NETWORK),
    (49, "bind", CallEffect.SOCKETS, EPERM, _NETWORK),
    (50, "listen", CallEffect.SOCKETS, EPERM, _NETWORK),
    (57, "fork", CallEffect.STARTS | CallEffect.IDENTITY, EPERM, "fork is refused"),
    (58, "vfork", CallEffect.STARTS | CallEffect.IDENTITY, EPERM, "fork is refused"),
    (59, "execve", CallEffect.STARTS, EPERM, _PROCESS),
    (64, "semget", CallEffect.SYSTEM, EPERM, "System V IPC is shared with other processes"),
    (29, "shmget", CallEffect.SYSTEM, EPERM, "System V IPC is shared with other processes"),
    (30, "shmat", CallEffect.MEMORY, EPERM, "System V IPC is shared with other processes"),
    (68, "msgget", CallEffect.SYSTEM, EPERM, "System V IPC is shared with other processes"),
    (101, "ptrace", CallEffect.SYSTEM, EPERM, _OTHERS),
    (126, "capset", CallEffect.NONE, EPERM, "a guest has no capabilities"),
    (136, "ustat", CallEffect.STATUS, EPERM, _KERNEL),
    (139, "sysfs", CallEffect.NONE, EPERM, _KERNEL),
    (153, "vhangup", CallEffect.SYSTEM, EPERM, _KERNEL),
    (154, "modify_ldt", CallEffect.SYSTEM, EPERM, _KERNEL),
    (155, "pivot_root", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (163, "acct", CallEffect.SYSTEM, EPERM, _KERNEL),
    (165, "mount", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (166, "umount2", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (167, "swapon", CallEffect.SYSTEM, EPERM, _KERNEL),
    (168, "swapoff", CallEffect.SYSTEM, EPERM, _KERNEL),
    (169, "reboot", CallEffect.SYSTEM, EPERM, _KERNEL),
    (170, "sethostname", CallEffect.SYSTEM, EPERM, "the host name is the policy's"),
    (171, "setdomainname", CallEffect.SYSTEM, EPERM, "the host name is the policy's"),
    (172, "iopl", CallEffect.SYSTEM, EPERM, _KERNEL),
    (173, "ioperm", CallEffect.SYSTEM, EPERM, _KERNEL),
    (175, "init_module", CallEffect.SYSTEM, EPERM, _KERNEL),
    (176, "delete_module", CallEffect.SYSTEM, EPERM, _KERNEL),
    (179, "quotactl", CallEffect.SYSTEM, EPERM, _KERNEL),
    (240, "mq_open", CallEffect.CREATES, EPERM, "POSIX message queues are shared with other processes"),
    (246, "kexec_load", CallEffect.SYSTEM, EPERM, _KERNEL),
    (248, "add_key", CallEffect.SYSTEM, EPERM, _KEYS),
    (249, "request_key", CallEffect.SYSTEM, EPERM, _KEYS),
    (250, "keyctl", CallEffect.SYSTEM, EPERM, _KEYS),
    (251, "ioprio_set", CallEffect.NONE, EPERM, "scheduling is the policy's"),
    (256, "migrate_pages", CallEffect.MEMORY, EPERM, _KERNEL),
    (272, "unshare", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (279, "move_pages", CallEffect.MEMORY, EPERM, _KERNEL),
    (288, "accept4", CallEffect.CREATES | CallEffect.SOCKETS, EPERM, _NETWORK),
    (298, "perf_event_open", CallEffect.CREATES, EPERM, _KERNEL),
    (300, "fanotify_init", CallEffect.CREATES, EPERM, _KERNEL),
    (304, "open_by_handle_at", CallEffect.OPENS, EPERM, "file handles go past the box's paths"),
    (308, "setns", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (310, "process_vm_readv", CallEffect.SYSTEM, EPERM, _OTHERS),
    (311, "process_vm_writev", CallEffect.SYSTEM, EPERM, _OTHERS),
    (312, "kcmp", CallEffect.SYSTEM, EPERM, _OTHERS),
    (313, "finit_module", CallEffect.SYSTEM, EPERM, _KERNEL),
    (314, "sched_setattr", CallEffect.NONE, EPERM, "scheduling is the policy's"),
    (317, "seccomp", CallEffect.NONE, EPERM, "the box's filter is in place"),
    (320, "kexec_file_load", CallEffect.SYSTEM, EPERM, _KERNEL),
    (321, "bpf", CallEffect.SYSTEM, EPERM, _KERNEL),
    (322, "execveat", CallEffect.STARTS, EPERM, _PROCESS),
    (323, "userfaultfd", CallEffect.CREATES, EPERM, _KERNEL),
    (424, "pidfd_send_signal", CallEffect.SENDS, EPERM, _OTHERS),
    (425, "io_uring_setup", CallEffect.CREATES, EPERM, "io_uring makes calls that nobody could answer"),
    (426, "io_uring_enter", CallEffect.NONE, EPERM, "io_uring makes calls that nobody could answer"),
    (427, "io_uring_register", CallEffect.NONE, EPERM, "io_uring makes calls that nobody could answer"),
    (428, "open_tree", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (429, "move_mount", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (430, "fsopen", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (431, "fsconfig", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (432, "fsmount", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (433, "fspick", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (434, "pidfd_open", CallEffect.CREATES, EPERM, _OTHERS),
    (438, "pidfd_getfd", CallEffect.SYSTEM, EPERM, _OTHERS),
    (440, "process_madvise", CallEffect.MEMORY, EPERM, _OTHERS),
    (442, "mount_setattr", CallEffect.SYSTEM, EPERM, _NAMESPACE),
    (443, "quotactl_fd", CallEffect.SYSTEM, EPERM, _KERNEL),
    (444, "landlock_create_ruleset", CallEffect.CREATES, EPERM, "the box's rules are in place"),
    (445, "landlock_add_rule", CallEffect.NONE, EPERM, "the box's rules are in place"),
    (446, "landlock_restrict_self", CallEffect.NONE, EPERM, "the box's rules are in place"),
    (448, "process_mrelease", CallEffect.SYSTEM, EPERM, _OTHERS),
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
    (103, "syslog", CallEffect.NONE, EPERM, "no kernel log"),
    (134, "uselib", CallEffect.NONE, ENOSYS, "gone from Linux"),
    (149, "mlock", CallEffect.MEMORY, EPERM, _NO_LOCK),
    (150, "munlock", CallEffect.MEMORY, EPERM, _NO_LOCK),
    (151, "mlockall", CallEffect.MEMORY, EPERM, _NO_LOCK),
    (152, "munlockall", CallEffect.MEMORY, EPERM, _NO_LOCK),
    (27, "mincore", CallEffect.MEMORY, ENOSYS, "which pages are resident is not told"),
    (188, "setxattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (189, "lsetxattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (190, "fsetxattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (191, "getxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (192, "lgetxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (193, "fgetxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (194, "listxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (195, "llistxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (196, "flistxattr", CallEffect.STATUS, EOPNOTSUPP, _NO_XATTR),
    (197, "removexattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (198, "lremovexattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (199, "fremovexattr", CallEffect.ALTERS, EOPNOTSUPP, _NO_XATTR),
    (206, "io_setup", CallEffect.NONE, ENOSYS, _NO_AIO),
    (209, "io_submit", CallEffect.NONE, ENOSYS, _NO_AIO),
    (216, "remap_file_pages", CallEffect.MEMORY, ENOSYS, "use mmap"),
    (222, "timer_create", CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (223, "timer_settime", CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (224, "timer_gettime", CallEffect.CLOCK, ENOSYS, _NO_TIMER),
    (225, "timer_getoverrun", CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (226, "timer_delete", CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (237, "mbind", CallEffect.MEMORY, ENOSYS, _NO_NUMA),
    (238, "set_mempolicy", CallEffect.MEMORY, ENOSYS, _NO_NUMA),
    (239, "get_mempolicy", CallEffect.MEMORY, ENOSYS, _NO_NUMA),
    (252, "ioprio_get", CallEffect.NONE, ENOSYS, "I/O has no priority here"),
    (253, "inotify_init", CallEffect.CREATES, ENOSYS, _NO_WATCH),
    (274, "get_robust_list", CallEffect.NONE, ENOSYS, "robust mutexes end with the process"),
    (275, "splice", CallEffect.READS | CallEffect.WRITES, EINVAL, _FALL_BACK),
    (276, "tee", CallEffect.READS | CallEffect.WRITES, EINVAL, _FALL_BACK),
    (278, "vmsplice", CallEffect.WRITES, EINVAL, _FALL_BACK),
    (282, "signalfd", CallEffect.CREATES, ENOSYS, "use sigwait, or a handler"),
    (283, "timerfd_create", CallEffect.CREATES | CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (286, "timerfd_settime", CallEffect.TIMERS, ENOSYS, _NO_TIMER),
    (287, "timerfd_gettime", CallEffect.CLOCK, ENOSYS, _NO_TIMER),
    (289, "signalfd4", CallEffect.CREATES, ENOSYS, "use sigwait, or a handler"),
    (294, "inotify_init1", CallEffect.CREATES, ENOSYS, _NO_WATCH),
    (299, "recvmmsg", CallEffect.SOCKETS, EOPNOTSUPP, _NO_MSG),
    (303, "name_to_handle_at", CallEffect.STATUS, EOPNOTSUPP, "no file handles"),
    (307, "sendmmsg", CallEffect.SOCKETS, EOPNOTSUPP, _NO_MSG),
    (315, "sched_getattr", CallEffect.NONE, ENOSYS, "use sched_getscheduler"),
    (324, "membarrier", CallEffect.NONE, ENOSYS, "use atomic instructions"),
    (325, "mlock2", CallEffect.MEMORY, EPERM, _NO_LOCK),
    (329, "pkey_mprotect", CallEffect.MEMORY, ENOSYS, "no protection keys"),
    (330, "pkey_alloc", CallEffect.MEMORY, ENOSYS, "no protection keys"),
    (331, "pkey_free", CallEffect.MEMORY, ENOSYS, "no protection keys"),
    (334, "rseq", CallEffect.NONE, ENOSYS, "glibc does without"),
    (435, "clone3", CallEffect.STARTS | CallEffect.IDENTITY, ENOSYS, "glibc falls back on clone"),
    (447, "memfd_secret", CallEffect.CREATES, ENOSYS, "use memfd_create"),
    (449, "futex_waitv", CallEffect.WAITS | CallEffect.LOCKS, ENOSYS, "use futex"),
)


#: The kernel's calls that nothing here answers yet. Remove a call from here when it gets a handler.
UNANSWERED: Final = (
    (31, "shmctl"), (65, "semop"), (66, "semctl"), (67, "shmdt"), (69, "msgsnd"), (70, "msgrcv"), (71, "msgctl"),
    (156, "_sysctl"), (174, "create_module"), (177, "get_kernel_syms"), (178, "query_module"), (180, "nfsservctl"),
    (181, "getpmsg"), (182, "putpmsg"), (183, "afs_syscall"), (184, "tuxcall"), (185, "security"),
    (205, "set_thread_area"), (207, "io_destroy"), (208, "io_getevents"), (210, "io_cancel"), (211, "get_thread_area"),
    (212, "lookup_dcookie"), (214, "epoll_ctl_old"), (215, "epoll_wait_old"), (220, "semtimedop"), (236, "vserver"),
    (241, "mq_unlink"), (242, "mq_timedsend"), (243, "mq_timedreceive"), (244, "mq_notify"), (245, "mq_getsetattr"),
    (254, "inotify_add_watch"), (255, "inotify_rm_watch"), (301, "fanotify_mark"), (333, "io_pgetevents"),
    (335, "uretprobe"), (450, "set_mempolicy_home_node"), (451, "cachestat"), (453, "map_shadow_stack"),
    (454, "futex_wake"), (455, "futex_wait"), (456, "futex_requeue"), (457, "statmount"), (458, "listmount"),
    (459, "lsm_get_self_attr"), (460, "lsm_set_self_attr"), (461, "lsm_list_modules"), (462, "mseal"),
    (463, "setxattrat"), (464, "getxattrat"), (465, "listxattrat"), (466, "removexattrat"), (467, "open_tree_attr"),
    (468, "file_getattr"), (469, "file_setattr"),
)  # fmt: skip


def _refusal(error: type[OSError], code: int, reason: str) -> Callable[[World], Reply]:
    def refuse(world: World) -> Reply:
        raise error(code, reason)

    return refuse


for _error, _rows in ((Denied, DENIED), (OSError, ABSENT)):
    for _number, _name, _effect, _code, _reason in _rows:
        oscall(_number, _name, effect=_effect, refused=_reason)(_refusal(_error, _code, _reason))

for _number, _name in UNANSWERED:
    unanswered(_number, _name)

_NSCD: Final = (1, 0o2004001, 0)
"""What glibc asks for before it reads /etc/passwd: AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK."""


@oscall(41, effect=CallEffect.CREATES | CallEffect.SOCKETS, refused=_NETWORK)
def socket(world: World, domain: SocketFamily, kind: SocketKind, protocol: Int) -> Reply:
    """socket(2): refused.

    glibc's own question for its name cache is not recorded as a denial, because the program did not make the call.
    """
    if (domain, kind, protocol) == _NSCD:
        raise OSError(EACCES, "no name cache in a box")
    raise Denied(errno.EPERM, _NETWORK)
