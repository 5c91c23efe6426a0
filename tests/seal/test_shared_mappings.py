"""Shared mappings of virtual files are written back at munmap(2): the filter tells their addresses and traps."""

import proxybox

PROGRAM = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long
libc.munmap.argtypes = ctypes.c_void_p, ctypes.c_size_t
fd = os.open("file", os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(4096))
size, lost = 200 << 20, []
for turn in range(64):
    address = libc.mmap(None, size, 3, 1, fd, 0)  # PROT_READ | PROT_WRITE, MAP_SHARED
    ctypes.memset(address, turn, 1)
    assert libc.munmap(address, size) == 0
    if os.pread(fd, 1, 0) != bytes([turn]):
        lost.append((turn, hex(address)))
print(lost)
"""


def test_more_than_four_gigabytes_in_all_are_written_back() -> None:
    """The stub uses no address twice: 64 mappings of 200 MiB, one after the other, reach 12 GiB beyond the first."""
    assert proxybox.run(PROGRAM, timeout=30, check=True).stdout == "[]\n"
