"""Tools of hostile code: machine code, system calls without libc, frames without the stub."""

import ctypes
import mmap
import struct

ROUTE = 0x70626F78  # proxybox/guest/wire.h: the value that the filter requires in an unused register
OWN_CALLS = 0x20420000  # also in wire.h: the stub's own calls
HELLO, FAILED, FAULTED, SEALED, BORN = range(OWN_CALLS + 1, OWN_CALLS + 6)
PUT_OFF = OWN_CALLS + 255
MASK = (1 << 64) - 1
_pages = []


def code(text):
    """Copies machine code into a new page that is readable, writable and executable. Returns its address."""
    page = mmap.mmap(-1, max(len(text), 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=7)
    page.write(text)
    _pages.append(page)
    return ctypes.addressof(ctypes.c_char.from_buffer(page))


def function(text, *arguments, result=ctypes.c_long):
    """A function that Python can call and that runs machine code."""
    return ctypes.CFUNCTYPE(result, *arguments)(code(text))


# push rbx; push rbp; push r12; mov rbx, rdi; mov rbp, rsi
# next: load rax, rdi, rsi, rdx, r10, r8, r9 from (rbx); syscall; mov (rbx+56), rax
# add rbx, 64; dec rbp; jnz next; pop r12; pop rbp; pop rbx; ret
_BATCH = bytes.fromhex(
    "5355415448 89fb 48 89f5"
    "488b03 488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30 0f05 48894338"
    "4883c340 48ffcd 75d6 415c5d5b c3".replace(" ", "")
)
_batch = function(_BATCH, ctypes.c_void_p, ctypes.c_long)


def words(calls):
    """Packs calls for `batch`: eight words each, the last one for the result."""
    made = (ctypes.c_uint64 * (8 * len(calls)))()
    for index, call in enumerate(calls):
        for at, word in enumerate(call):
            made[8 * index + at] = word & MASK
    return made


def batch(made):
    """Makes the system calls of `words` one after another, with no other call between them."""
    _batch(ctypes.addressof(made), len(made) // 8)


def syscalls(calls):
    """Makes system calls one after another, with no other call between them. Returns the result of each."""
    made = words(calls)
    batch(made)
    return [signed(made[8 * index + 7]) for index in range(len(calls))]


def syscall(*call):
    """Makes one system call, and returns its result. call: the number and up to six registers."""
    return syscalls([call])[0]


def signed(word):
    return word - (1 << 64) if word >> 63 else word


# --- frames past the stub ---------------------------------------------------------------------------------------------


def frame(number, registers=(), memory=(), size=None):
    """A request as the stub would write it. size: a false size for its header."""
    tail = b"".join(
        struct.pack("<I", item & 0xFFFFFFFF) if isinstance(item, int) else struct.pack("<I", len(item)) + item
        for item in memory
    )
    words = [word & MASK for word in registers] + [0] * (6 - len(registers))
    return struct.pack("<II6Q", 56 + len(tail) if size is None else size, number, *words) + tail


def put(data, fd=4):
    """The call that writes bytes into the box's own pipe."""
    buffer = ctypes.create_string_buffer(data, len(data))
    _pages.append(buffer)
    return 1, fd, ctypes.addressof(buffer), len(data), ROUTE


_inbox = ctypes.create_string_buffer(1 << 16)
#: The call that reads what the controller has written.
TAKE = 0, 3, ctypes.addressof(_inbox), len(_inbox), ROUTE
#: A call that ends this process at once, and one that waits for ever. The controller receives no request for either.
LEAVE = 231, 0, ROUTE
SLEEP = 202, code(bytes(8)), 128, 0, 0


def exchange(*calls):
    """Makes native calls one after another. No call of the interpreter can come between them, such as the collector's
    for the time.
    """
    syscalls(calls)
    del _pages[-len(calls) :]


def ask(number, registers=(), memory=()):
    """Sends a request without the stub. Returns the value of the reply, and the bytes after it."""
    request = put(frame(number, registers, memory))
    size = check(syscalls([request, TAKE])[1])
    _pages.pop()
    return ctypes.c_int64.from_buffer(_inbox, 8).value, _inbox.raw[16:size]


def check(result):
    if result < 0:
        raise OSError(-result, "raw system call")
    return result


# --- the stub in memory -----------------------------------------------------------------------------------------------


class _Module(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]


def stub():
    """The address at which the loader has mapped the stub."""
    found = []
    visit_type = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Module), ctypes.c_size_t, ctypes.c_void_p)

    def visit(module, size, data):
        if (module.contents.name or b"").startswith(b"/proc/self/fd/"):
            found.append(module.contents.address)
        return 0

    ctypes.CDLL(None).dl_iterate_phdr(visit_type(visit), None)
    return found[0]


def module(name):
    """The address of a library that the loader has mapped, or of the kernel's vDSO."""
    found = []

    def visit(module, size, data):
        if module.contents.name == name:
            found.append(module.contents.address)
        return 0

    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Module), ctypes.c_size_t, ctypes.c_void_p)
    ctypes.CDLL(None).dl_iterate_phdr(kind(visit), None)
    return found[0]


#: The result that a patched handler stores. It means that the call reached no kernel function.
TRAPPED = -0x7EAD
_PATCH = bytes.fromhex("48c78290000000") + struct.pack("<i", TRAPPED) + b"\xc3"  # movq $TRAPPED, 0x90(%rdx); ret


def trapped_syscalls(calls, on_sigsys):
    """Makes calls while the stub's handler stores TRAPPED for each call that the filter stops. Returns the results."""
    handler = stub() + on_sigsys
    check(syscall(10, handler & ~4095, 8192, 7))
    before = ctypes.string_at(handler, len(_PATCH))
    words = (ctypes.c_uint64 * (8 * len(calls)))()
    for index, call in enumerate(calls):
        for at, word in enumerate(call):
            words[8 * index + at] = word & MASK
    pointer = ctypes.addressof(words)
    ctypes.memmove(handler, _PATCH, len(_PATCH))
    _batch(pointer, len(calls))
    ctypes.memmove(handler, before, len(before))
    return [signed(words[8 * index + 7]) for index in range(len(calls))]


# push rbx; push rbp; push r12; mov r12, rdi; load rax, rbx, rcx, rdx, rsi, rdi, rbp from (r12); int 0x80
# mov (r12+56), rax; pop r12; pop rbp; pop rbx; ret
INT_80 = bytes.fromhex(
    "535541544989fc"
    "498b0424 498b5c2408 498b4c2410 498b542418 498b742420 498b7c2428 498b6c2430 cd80 4989442438"
    "415c5d5b c3".replace(" ", "")
)


def call_of_i386(call):
    """Makes one system call with `int $0x80`, and returns its result. call: the number and six registers of 64 bits."""
    made = words([call])
    function(INT_80, ctypes.c_void_p)(ctypes.addressof(made))
    return signed(made[7])


# --- the sweep --------------------------------------------------------------------------------------------------------

#: The memory to which calls of the sweep may point: two pages of zeros.
SCRATCH = 0x2000_0000


def sweep(on_sigsys):
    """Makes the calls of /box/calls.bin, eight words each, like `trapped_syscalls`, and writes the results to
    /box/results.bin.
    """
    check(syscall(9, SCRATCH, 8192, 3, 0x32, -1, 0))
    with open("/box/calls.bin", "rb") as file:
        text = file.read()
    made = (ctypes.c_uint64 * (len(text) // 8)).from_buffer_copy(text)
    handler = stub() + on_sigsys
    check(syscall(10, handler & ~4095, 8192, 7))
    before = ctypes.string_at(handler, len(_PATCH))
    ctypes.memmove(handler, _PATCH, len(_PATCH))
    batch(made)
    ctypes.memmove(handler, before, len(before))
    with open("/box/results.bin", "wb") as file:
        file.write(struct.pack(f"<{len(made) // 8}Q", *made[7::8]))
