"""Folders: DIR streams, which libc implements in user space."""

import errno
import struct

from proxybox.controller import abi
from proxybox.controller.guests.translated.asking import (
    NOWHERE,
    Allocate,
    Free,
    FunctionResult,
    Serve,
    SideCall,
    Steps,
    failed,
    os_call,
    waited,
    written,
)
from proxybox.controller.guests.translated.libc import DirStream, Libc, function

#: struct dirent of glibc: inode, offset, length, type, name[256]; padded to eight bytes.
_DIRENT_SIZE = 280
_MOST_FOLDERS = 1024
#: Bytes of entries that are stored for each open folder until the guest reads them. With many open folders it is less:
#: all of them together store at most 2 MiB.
_GETDENTS, _FEW_FOLDERS, _GETDENTS_OF_MANY = 32768, 32, 1024


def _open_folder(libc: Libc, fd: int) -> Steps:
    pointer: int = yield Allocate(bytes(_DIRENT_SIZE))
    if not pointer or pointer in libc.folders or len(libc.folders) >= _MOST_FOLDERS:  # not a new address, or too many
        return FunctionResult(0, errno.ENOMEM)
    libc.folders[pointer] = DirStream(fd)
    return FunctionResult(pointer)


@function("opendir(p)p")
def opendir(libc: Libc, path: int) -> Steps:
    value, _writes = yield from waited("open", path, abi.O_DIRECTORY | abi.O_CLOEXEC, 0)
    if failed(value):
        return FunctionResult(0, -value)
    done = yield from _open_folder(libc, value)
    if done.errno:
        yield from os_call("close", value)
    return done


@function("fdopendir(i)p")
def fdopendir(libc: Libc, fd: int) -> Steps:
    value, writes = yield SideCall("fstat", (fd, NOWHERE))
    if failed(value):
        return FunctionResult(0, -value)
    if struct.unpack_from("<I", written(writes).ljust(28, b"\0"), 24)[0] & abi.S_IFMT != abi.S_IFDIR:
        return FunctionResult(0, errno.ENOTDIR)
    return (yield from _open_folder(libc, fd))


@function("readdir(p)p")
def readdir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.get(pointer)
    if folder is None:
        return FunctionResult(0, errno.EBADF)
    if folder.at >= len(folder.data):
        size = _GETDENTS if len(libc.folders) <= _FEW_FOLDERS else _GETDENTS_OF_MANY
        value, writes = yield Serve("getdents64", (folder.fd, NOWHERE, size))
        if failed(value):
            return FunctionResult(0, -value)
        folder.data, folder.at = written(writes), 0
        if not folder.data:
            return FunctionResult(0)
    # struct linux_dirent64
    inode, offset, length, kind = abi.DIRENT_HEAD.unpack_from(folder.data, folder.at)
    name = folder.data[folder.at + abi.DIRENT_HEAD.size : folder.at + length].partition(b"\0")[0]
    folder.at += length
    entry = (abi.DIRENT_HEAD.pack(inode, offset, _DIRENT_SIZE, kind) + name[:255]).ljust(_DIRENT_SIZE, b"\0")
    return FunctionResult(pointer, 0, ((pointer, entry),))


@function("rewinddir(p)v")
def rewinddir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.get(pointer)
    if folder is None:
        return FunctionResult(0, errno.EBADF)
    folder.data = b""
    yield from os_call("lseek", folder.fd, 0, 0)
    return FunctionResult()


@function("closedir(p)i")
def closedir(libc: Libc, pointer: int) -> Steps:
    folder = libc.folders.pop(pointer, None)
    if folder is None:
        return FunctionResult(-1, errno.EBADF)
    yield Free(pointer)
    value, _writes = yield from os_call("close", folder.fd)
    return FunctionResult(-1, -value) if failed(value) else FunctionResult(0)


@function("dirfd(p)i")
def dirfd(libc: Libc, pointer: int) -> Steps:
    yield from ()
    folder = libc.folders.get(pointer)
    return FunctionResult(-1, errno.EINVAL) if folder is None else FunctionResult(folder.fd)
