"""Runs a command, pytest by default, under a filter like Docker's default seccomp profile for a container without
capabilities: `python tests/hostile/docker_profile.py [-c COMMAND... | PYTEST ARGUMENTS...]`.

An allow-list, as there: what is not on it is EPERM, newer calls than it knows are ENOSYS, and so is clone3, whose
flags no filter can see. No namespaces, mounts, keys, modules, bpf, perf, io_uring, ptrace; personality for a few values.
"""

import ctypes
import errno
import os
import struct
import sys

NEWEST = 451
#: x86-64 numbers that the profile refuses when there are no capabilities.
REFUSED = {
    "ptrace": 101, "syslog": 103, "uselib": 134, "ustat": 136, "sysfs": 139, "vhangup": 153, "pivot_root": 155, "_sysctl": 156,
    "chroot": 161, "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175,
    "delete_module": 176, "get_kernel_syms": 177, "query_module": 178, "quotactl": 179, "nfsservctl": 180,
    "lookup_dcookie": 212, "clock_settime": 227, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239, "kexec_load": 246,
    "add_key": 248, "request_key": 249, "keyctl": 250, "unshare": 272, "move_pages": 279, "perf_event_open": 298,
    "fanotify_init": 300, "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429, "fsopen": 430,
    "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "mount_setattr": 442, "quotactl_fd": 443,
    "set_mempolicy_home_node": 450,
}  # fmt: skip
CLONE, CLONE3, PERSONALITY, SOCKET = 56, 435, 135, 41
NAMESPACES = 0x7E020000
PERSONALITIES = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)

_LOAD, _JUMP_EQUAL, _JUMP_ABOVE, _JUMP_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_X86_64 = 0xC000003E


def program() -> list[tuple[int, int, int, int]]:
    """The filter: (code, jump if true, jump if false, operand)."""
    refuse = (_RETURN, 0, 0, _ERRNO | errno.EPERM)
    text = [(_LOAD, 0, 0, 4), (_JUMP_EQUAL, 1, 0, _X86_64), (_RETURN, 0, 0, _ALLOW), (_LOAD, 0, 0, 0)]
    text += [(_JUMP_EQUAL, 0, 1, CLONE3), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    text += [(_JUMP_ABOVE, 0, 1, NEWEST), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]
    text += [
        (_JUMP_EQUAL, 0, 4, CLONE),
        (_LOAD, 0, 0, 16),
        (_JUMP_SET, 0, 1, NAMESPACES),
        refuse,
        (_RETURN, 0, 0, _ALLOW),
    ]
    text += [(_JUMP_EQUAL, 0, 4, SOCKET), (_LOAD, 0, 0, 16), (_JUMP_EQUAL, 0, 1, 40), refuse, (_RETURN, 0, 0, _ALLOW)]
    size = len(PERSONALITIES)
    text += [(_JUMP_EQUAL, 0, size + 3, PERSONALITY), (_LOAD, 0, 0, 16)]
    text += [(_JUMP_EQUAL, size - index, 0, value) for index, value in enumerate(PERSONALITIES)]
    text += [refuse, (_RETURN, 0, 0, _ALLOW)]
    for number in sorted(REFUSED.values()):
        text += [(_JUMP_EQUAL, 0, 1, number), refuse]
    return [*text, (_RETURN, 0, 0, _ALLOW)]


def install() -> None:
    """Puts the filter on this process and all that it starts, for good. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    code = b"".join(
        struct.pack("HBBI", operation, yes, no, operand & 0xFFFFFFFF) for operation, yes, no, operand in program()
    )
    buffer = ctypes.create_string_buffer(code, len(code))
    head = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.c_char_p(head), 0, 0):
        raise OSError(ctypes.get_errno(), "the filter could not be installed")


def main(words: list[str]) -> None:
    install()
    command = words[1:] if words[:1] == ["-c"] else [sys.executable, "-m", "pytest", *words]
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
