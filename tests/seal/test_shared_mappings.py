"""Shared mappings of virtual files are written back at munmap(2): the filter recognizes their addresses and traps."""

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
    """The stub uses no address twice: 64 mappings of 200 MiB, one after another, reach 12 GiB beyond the first."""
    assert proxybox.run(PROGRAM, timeout=200, check=True).stdout == "[]\n"


COHERENT = """
import gc, mmap, os
fd = os.open("file", os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(3 * 4096))
first = mmap.mmap(fd, 0)
first[1:6] = b"first"
print(os.pread(fd, 6, 0), open("file", "rb").read(6))        # what was stored is read
second = mmap.mmap(fd, 0)
print(second[1:6])                                            # and mapped
second[4096:4102] = b"second"
second.close()
first[4096 * 2] = 7
first.flush()
print(os.pread(fd, 6, 4096), os.pread(fd, 1, 8192))           # a flush does not undo another mapping's pages
os.pwrite(fd, b"written", 2)
os.lseek(fd, 4096, 0)
os.write(fd, b"later")
print(first[0:9], first[4096:4102])                           # what is written is seen in a mapping
first[0] = 65
os.truncate(fd, 100)
first.close()
print(os.stat(fd).st_size, os.pread(fd, 4, 0))                # and a mapping makes no file longer
"""
COHERENT_SAID = r"""
b'\x00first' b'\x00first'
b'first'
b'second' b'\x07'
b'\x00fwritten' b'laterd'
100 b'Afwr'
"""


MANY = """
import mmap, os
fd = os.open("file", os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(4096))
readers = [mmap.mmap(fd, 0, access=mmap.ACCESS_READ) for _ in range(3000)]
writers = []
for number in range(2000):
    other = os.open(f"file{number}", os.O_RDWR | os.O_CREAT)
    os.write(other, bytes(4096))
    writers.append(mmap.mmap(other, 0))
    writers[-1][0] = number % 251
    os.close(other)
    if number % 2:
        writers[-1].close()
print(sum(open(f"file{number}", "rb").read(1)[0] == number % 251 for number in range(2000)))
"""


def test_what_is_stored_is_seen_by_who_reads_maps_or_writes_the_file() -> None:
    result = proxybox.run(COHERENT)
    assert (result.status, result.stdout) == ("ok", COHERENT_SAID.lstrip()), result.stderr


def test_mappings_by_the_thousand() -> None:
    """Mappings that are only read cost nothing. (Python keeps a descriptor for each.)"""
    result = proxybox.run(MANY, timeout=300, limits={"cpu_time": 100, "open_files": 8192})
    assert (result.status, result.stdout) == ("ok", "2000\n"), result.stderr
