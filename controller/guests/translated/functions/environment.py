"""The environment's variables."""

import errno
import struct

from proxybox.controller.guests.translated.asking import MASK, Allocate, CString, FunctionResult, Steps
from proxybox.controller.guests.translated.libc import Libc, function
from proxybox.controller.header import MAX_PATH, MAX_PAYLOAD

#: Limits of the variables that a guest sets: bytes of one (as execve(2) allows), and their number. Together they have
#: at most MAX_PAYLOAD bytes.
_LONGEST_VARIABLE, _MOST_VARIABLES = 128 * 1024 - 1, 1024


@function("getenv(p)p")
def getenv(libc: Libc, at: int) -> Steps:
    name = b"" if not at else (yield CString(at, MAX_PATH))
    value = libc.environment.get(name)
    return FunctionResult(0) if value is None else FunctionResult((yield from libc.string(name, value)))


@function("get_environ()p")
def get_environ(libc: Libc) -> Steps:
    """Puts all variables into one block of the guest's memory, and their addresses into another."""
    texts = [key + b"=" + value + b"\0" for key, value in libc.environment.items()]
    address: int = yield Allocate(b"".join(texts))
    table = bytearray()
    for text in texts:
        table += struct.pack("<Q", address & MASK)
        address += len(text)
    return FunctionResult((yield Allocate(bytes(table) + bytes(8))))


@function("putenv(p)i")
def putenv(libc: Libc, at: int) -> Steps:
    text = b"" if not at else (yield CString(at, _LONGEST_VARIABLE + 1))
    if len(text) > _LONGEST_VARIABLE:
        return FunctionResult(-1, errno.ENOMEM)
    key, equals, value = text.partition(b"=")
    return _set(libc, key, value if equals else None)


@function("unsetenv(p)i")
def unsetenv(libc: Libc, at: int) -> Steps:
    key = b"" if not at else (yield CString(at, MAX_PATH))
    return FunctionResult(-1, errno.EINVAL) if b"=" in key else _set(libc, key, None)


def _set(libc: Libc, key: bytes, value: bytes | None) -> FunctionResult:
    if not key:
        return FunctionResult(-1, errno.EINVAL)
    if value is None:
        for table in (libc.environment, libc.added, libc.variables):
            table.pop(key, None)
    elif libc.added.get(key) != value:
        others = [len(name) + len(text) for name, text in libc.added.items() if name != key]
        if len(others) >= _MOST_VARIABLES or sum(others) + len(key) + len(value) > MAX_PAYLOAD:
            return FunctionResult(-1, errno.ENOMEM)
        libc.environment[key] = libc.added[key] = value
    return FunctionResult(0)
