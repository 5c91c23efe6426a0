"""The reserved call of warm guests, past the guest's own Python."""

import ctypes
import mmap

import raw

EXCHANGE = 511


def say(message, room=1 << 16, address=None):
    """The size of the answer, or -errno, and as much of the answer as there was room for."""
    page = mmap.mmap(-1, max(len(message), 1))  # of this thread's own; large texts are slow in ctypes
    page.write(message)
    text = ctypes.addressof(ctypes.c_char.from_buffer(page))
    inbox = ctypes.create_string_buffer(max(min(room, 1 << 16), 1))
    where = ctypes.addressof(inbox) if address is None else address
    size = raw.syscall(EXCHANGE, text, len(message), where, min(room, 1 << 16))
    return size, inbox.raw[: max(0, min(size, room))] if address is None else b""
