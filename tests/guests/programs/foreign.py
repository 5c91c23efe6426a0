"""ctypes and cffi: the C library, structures, callbacks, errno."""

import ctypes
import ctypes.util
import os

libc = ctypes.CDLL(None, use_errno=True)
libc.strlen.restype = ctypes.c_size_t
print(libc.strlen(b"twelve bytes"), libc.abs(-5), libc.toupper(ord("a")))
libc.atof.restype = ctypes.c_double
print(libc.atof(b"2.5"))


class Pair(ctypes.Structure):
    _fields_ = [("first", ctypes.c_int), ("second", ctypes.c_double)]


pair = Pair(1, 2.5)
print(pair.first, pair.second, ctypes.sizeof(Pair), bytes(pair)[:4])
array = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
COMPARE = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
libc.qsort(array, len(array), ctypes.sizeof(ctypes.c_int), COMPARE(lambda a, b: a[0] - b[0]))
print(list(array))
buffer = ctypes.create_string_buffer(20)
libc.snprintf(buffer, ctypes.sizeof(buffer), b"%d-%s", ctypes.c_int(42), b"text")
print(buffer.value)
print(libc.getpid() == os.getpid(), libc.getuid() == os.getuid())
print(libc.open(b"/no/such/file", 0), os.strerror(ctypes.get_errno()))
print(libc.chdir(ctypes.c_void_p(1)), os.strerror(ctypes.get_errno()))
memory = ctypes.create_string_buffer(b"\0" * 16)
libc.memset(memory, ord("z"), 4)
print(memory.raw, ctypes.string_at(memory, 3))
libm = ctypes.CDLL("libm.so.6")
libm.cbrt.restype = ctypes.c_double
libm.cbrt.argtypes = [ctypes.c_double]
print(libm.cbrt(27.0))

import cffi

ffi = cffi.FFI()
ffi.cdef("size_t strlen(const char *); typedef struct { int a; short b; } thing;")
C = ffi.dlopen(None)
print(C.strlen(b"cffi"), ffi.sizeof("thing"), ffi.new("thing *", {"a": 3}).a)
