"""The attempts of code that has got out of its box: to change a folder of the host, and to connect to a port.

`reach` does it by machine code, `python` with Python's library. Without a box both succeed: see test_jail_escapes.py.
"""

import ctypes
import os
import socket
import struct
import subprocess

import raw

OPEN, SOCKET, CONNECT = 2, 41, 42
_READ_WRITE_TRUNCATE, _CREATE = 0o1002, 0o101


def calls(folder):
    """System calls that each leave a visible change in `folder` if they succeed."""
    folder = os.fsencode(folder)

    def path(name):
        return raw.code(folder + b"/" + name + b"\0")

    return [
        (OPEN, path(b"file"), _READ_WRITE_TRUNCATE, 0),
        (257, -100, path(b"by openat"), _CREATE, 0o666),
        (437, -100, path(b"by openat2"), raw.code(struct.pack("<3Q", _CREATE, 0o600, 0)), 24),
        (85, path(b"by creat"), 0o666),
        (76, path(b"file"), 1),
        (83, path(b"by mkdir"), 0o777),
        (88, path(b"file"), path(b"by symlink")),
        (86, path(b"file"), path(b"by link")),
        (90, path(b"file"), 0o6777),
        (133, path(b"by mknod"), 0o010666, 0),
        (280, -100, path(b"file"), 0, 0),
    ]


def reach(folder, port):
    """Makes the calls by machine code. Returns the numbers of those that were not refused."""
    made = calls(folder)
    results = raw.syscalls(made)
    reached = [call[0] for index, call in enumerate(made) if results[index] >= 0]
    fd = raw.syscall(SOCKET, 2, 1, 0)
    address = raw.code(struct.pack("<H", 2) + struct.pack(">H", port) + bytes([127, 0, 0, 1]) + bytes(8))
    if raw.syscall(CONNECT, fd, address, 16) >= 0:
        reached.append(CONNECT)
    return reached


def python(folder, port):
    """Tries several of Python's own ways. Returns the names of those that succeeded."""
    reached = []
    for name, way in {
        "open": lambda: open(folder + "/by open", "w").close(),
        "system": lambda: os.system(f"touch '{folder}/by system'") and 1 // 0,
        "subprocess": lambda: subprocess.run(["touch", folder + "/by subprocess"], check=True),
        "rename": lambda: os.rename(folder + "/file", folder + "/by rename"),
        "chmod": lambda: os.chmod(folder, 0o700),
        "libc": lambda: ctypes.CDLL(None).creat(os.fsencode(folder) + b"/by libc", 0o666) < 0 and 1 // 0,
        "socket": lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
    }.items():
        try:
            way()
            reached.append(name)
        except (OSError, ArithmeticError, subprocess.SubprocessError):
            pass
    return reached
