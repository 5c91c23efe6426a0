"""Leaves Python behind: calls into the C library and the kernel by number."""

import ctypes
import os

libc = ctypes.CDLL(None, use_errno=True)
calls = {
    "open": (2, b"/etc/shadow", 0),
    "socket": (41, 2, 1, 0),
    "execve": (59, b"/bin/sh", None, None),
    "ptrace": (101, 0, 0, 0, 0),
    "mount": (165, b"none", b"/", b"tmpfs", 0, 0),
    "init_module": (175, 0, 0, 0),
    "io_uring_setup": (425, 8, None),
    "openat2": (437, -100, b"/etc/shadow", None, 0),
}
for name, arguments in calls.items():
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    error = os.strerror(ctypes.get_errno()) if result < 0 else "it worked"
    print(f"{name}: {result} ({error})")
