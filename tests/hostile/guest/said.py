"""The reserved call of warm guests, made without the guest's own Python code."""

import ctypes
import mmap

import raw

EXCHANGE = 511


def say(message, room=1 << 16, address=None):
    """Sends `message` by that call. Returns the size of the answer or -errno, and the part of the answer that fits in
    `room`.
    """
    page = mmap.mmap(-1, max(len(message), 1))  # for this thread alone; ctypes is slow with large texts
    page.write(message)
    text = ctypes.addressof(ctypes.c_char.from_buffer(page))
    inbox = ctypes.create_string_buffer(max(min(room, 1 << 16), 1))
    where = ctypes.addressof(inbox) if address is None else address
    size = raw.syscall(EXCHANGE, text, len(message), where, min(room, 1 << 16))
    return size, inbox.raw[: max(0, min(size, room))] if address is None else b""
