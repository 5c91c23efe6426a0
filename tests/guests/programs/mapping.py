"""mmap: private and shared maps of files, anonymous memory, resizing, offsets."""

import mmap
import os
import tempfile

path = os.path.join(tempfile.mkdtemp(), "file")
with open(path, "wb") as file:
    file.write(bytes(range(256)) * 64)

with open(path, "r+b") as file:
    with mmap.mmap(file.fileno(), 0) as shared:
        print(len(shared), shared[:4], shared[-1], shared.find(b"\x10\x11"), shared.rfind(b"\xff"))
        shared[0:5] = b"hello"
        shared.flush()
        print(os.pread(file.fileno(), 8, 0))
        shared.seek(10)
        shared.write(b"there")
        print(shared.tell(), shared.read_byte(), shared.size())
        shared.move(100, 0, 5)
        print(shared[100:106])
    print(open(path, "rb").read(16))
    with mmap.mmap(file.fileno(), 4096, access=mmap.ACCESS_COPY, offset=4096) as private:
        private[0:4] = b"mine"
        print(private[:6], os.pread(file.fileno(), 6, 4096))
    with mmap.mmap(file.fileno(), 100, access=mmap.ACCESS_READ) as readonly:
        try:
            readonly[0] = 1
        except TypeError as error:
            print("read only:", type(error).__name__)
        print(readonly[:5], readonly.readline()[:12])
    for length, offset in ((1 << 20, 0), (4096, 100), (0, 1 << 20)):
        try:
            mmap.mmap(file.fileno(), length, offset=offset)
        except (ValueError, OSError) as error:
            print(type(error).__name__)
    shared = mmap.mmap(file.fileno(), 8192)
    shared.resize(12288)
    shared[12287] = 7
    print(len(shared), os.fstat(file.fileno()).st_size)
    shared.close()

with open(path, "rb") as file:
    print(file.read()[12287:])
    try:
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE)
    except PermissionError:
        print("not for writing")

memory = mmap.mmap(-1, 1 << 20)
memory.write(b"anonymous")
memory.madvise(mmap.MADV_DONTNEED, 4096, 4096)
memory.seek(0)
print(memory.read(9), memory[4096:4100], len(memory))
memory.close()
try:
    mmap.mmap(-1, 0)
except (ValueError, OSError) as error:
    print(type(error).__name__)
