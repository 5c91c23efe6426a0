"""Files of the host that a guest maps natively: attacks with the descriptor and with the grant."""

import contextlib
import os

import pytest

from proxybox.controller.process import listener
from proxybox.controller.process.listener import GuestListener, Listener
from proxybox.controller.vfs.host import library

EACH_GUEST = True

#: Requests and maps a library of the interpreter without the stub. `granted` returns the results of the native calls.
PROGRAM = """
import ctypes, mmap, os, raw, threading
LIBRARY, CALL_MAP, PRIVATE, READ = raw.ROUTE << 32 | 517, 512, 2, 1
path = os.__file__  # of the interpreter's library
fd = os.open(path, os.O_RDONLY)
content = os.pread(fd, 8192, 0)
lock = threading.Lock()
lock.acquire()
threading.Thread(target=lock.acquire, daemon=True).start()  # else nobody looks at a call that was not granted
def asked(fd=fd):
    return raw.put(raw.frame(CALL_MAP, (0, 4096, READ, PRIVATE, fd, 0)))
def granted(*calls, fd=fd):
    return raw.syscalls([asked(fd), raw.TAKE, *calls])[2:]
def mapping(at=LIBRARY, prot=READ, flags=PRIVATE, offset=0, where=0):
    return 9, where, 4096, prot, flags, at, offset
"""


@pytest.fixture
def run(hostile, guest_kind):
    return lambda code, **options: hostile.ok(PROGRAM + code, guest=guest_kind, **options)


def test_a_mapping_is_the_file(run):
    code = """
first, = granted(mapping())
later, = granted(mapping(offset=4096))
print(ctypes.string_at(first, 4096) == content[:4096], ctypes.string_at(later, 4096) == content[4096:])
"""
    assert run(code) == "True True\n"


def test_one_grant_is_one_mapping(run):
    code = "first, second = granted(mapping(), mapping()); print(first > 0, second)"
    assert run(code) == "True -11\n"


def test_nothing_is_mapped_without_a_grant(run):
    assert run("print(raw.syscalls([mapping(), mapping(LIBRARY + 1), mapping(where=1 << 32)]))") == "[-11, -11, -11]\n"


def test_the_grant_of_another_thread(run):
    """Another thread's grant is for another descriptor number."""
    assert run("print(*granted(mapping(LIBRARY + 1), mapping(LIBRARY + 15)))") == "-11 -11\n"


def test_nothing_else_can_be_done_with_the_descriptor(run, hostile):
    """The filter lets no other call use it: such a number of the program's own is a virtual descriptor."""
    code = f"""
buffer = raw.code(bytes(4096))
first, = granted(mapping())
name = raw.code(b"\\0")
calls = [
    (0, 517, buffer, 100), (1, 517, buffer, 100), (17, 517, buffer, 100, 0), (18, 517, buffer, 100, 0),
    (19, 517, buffer, 1), (295, 517, buffer, 1, 0, 0), (5, 517, buffer), (8, 517, 0, 0), (16, 517, 0x5401, buffer),
    (3, 517), (32, 517), (33, 517, 3), (292, 517, 3, 0), (40, 4, 517, 0, 100), (72, 517, 0), (73, 517, 2),
    (77, 517, 0), (91, 517, 0o777), (93, 517, 0, 0), (257, 517, name, 0), (322, 517, name, 0, 0, 0x1000),
    (275, 517, 0, 4, 0, 100, 0), (326, 517, 0, 4, 0, 100, 0), (138, 517, buffer), (265, 517, name, 517, name, 0x1000),
]
calls += [(number, first, second, third, raw.ROUTE, raw.ROUTE, raw.ROUTE)
          for number, first, second, third in ((0, 517, buffer, 100), (1, 517, buffer, 100), (3, 517, 0, 0))]
calls += [mapping(flags=flags) for flags in (1, 3, 0x8002, 0x2002, 0x802)]  # shared, validated, populated, locked, ...
calls += [mapping(at=at) for at in (517, 3 | raw.ROUTE << 32, 4 | raw.ROUTE << 32)]
print(set(raw.trapped_syscalls(calls, {hostile.symbol("on_sigsys")})) == {{raw.TRAPPED}})
"""
    assert run(code) == "True\n"


def test_what_is_written_stays_in_the_box(run):
    """Private pages: neither the host's file nor another box sees it."""
    code = """
place, = granted(mapping(prot=3))
before = ctypes.string_at(place, 4096) == content[:4096]
ctypes.memset(place, 0x41, 4096)
again, = granted(mapping())
print(before, ctypes.string_at(again, 4096) == content[:4096], os.pread(fd, 4096, 0) == content[:4096])
"""
    assert run(code) == run(code) == "True True True\n"


def test_the_file_that_was_granted_and_no_other(run):
    """A grant is for one file: meanwhile the guest closes its descriptor and gives the number to another file."""
    code = """
with open("/box/mine", "wb") as file: file.write(b"mine" * 1024)
other = os.open("/box/mine", os.O_RDONLY)
closing = raw.put(raw.frame(3, (fd,)))
moving = raw.put(raw.frame(33, (other, fd)))
place = raw.syscalls([asked(), raw.TAKE, closing, raw.TAKE, moving, raw.TAKE, mapping()])[-1]
print(ctypes.string_at(place, 4096) == content[:4096], os.pread(fd, 4, 0))
"""
    assert run(code) == "True b'mine'\n"


def test_files_that_may_change_are_not_granted(run, tmp_path):
    """Files of the box and of mounted folders, writable or not, are copied."""
    tmp_path.chmod(0o755)
    (tmp_path / "file").write_bytes(b"x" * 8192)
    code = """
with open("/box/file", "wb") as file: file.write(b"x" * 8192)
for name in ("/box/file", "/ro/file", "/rw/file", "/overlay/file"):
    fd = os.open(name, os.O_RDONLY)
    value, _ = raw.ask(CALL_MAP, (0, 4096, READ, PRIVATE, fd, 0))
    print(0 <= value < 1 << 40, *raw.syscalls([mapping()]), end=" ")
    with mmap.mmap(fd, 8192, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ) as mapped: print(mapped[:] == b"x" * 8192)
"""
    folder = str(tmp_path)
    mounts = [{"target": f"/{mode}", "source": folder, "mode": mode} for mode in ("ro", "rw", "overlay")]
    assert run(code, filesystem={"mounts": mounts}) == "True -11 True\n" * 4


def test_the_systems_own_libraries_are_not_granted(run):
    """Other processes of the host have the same pages: the processor's cache would show how they use them."""
    code = """
fd = os.open("/usr/lib/x86_64-linux-gnu/libc.so.6", os.O_RDONLY)
print(0 <= raw.ask(CALL_MAP, (0, 4096, READ, PRIVATE, fd, 0))[0] < 1 << 40, *raw.syscalls([mapping()]))
"""
    assert run(code) == "True -11\n"


def test_mappings_without_end_are_copied(run, monkeypatch):
    """Each mapping wakes the driver of other boxes, so the number is limited. Later ones are copied, which the box pays
    for.
    """
    monkeypatch.setattr(listener, "MAPPINGS_AT_ONCE", 400)
    monkeypatch.setattr(listener, "MAPPING_EVERY_NS", 10**12)
    code = """
answers = [raw.ask(CALL_MAP, (0, 4096, READ, PRIVATE, fd, 0))[0] >> 41 for _ in range(500)]
import sqlite3
print(answers.index(0) < 401, sum(answers) == answers.index(0), sqlite3.connect(":memory:").execute("select 1").fetchone())
"""
    assert run(code) == "True True (1,)\n"


def test_an_audit_sees_each_mapping_as_mmap(hostile, guest_kind):
    seen = []
    code = "import mmap, os\nfd = os.open(os.__file__, os.O_RDONLY)\nmmap.mmap(fd, 12305, mmap.MAP_PRIVATE, mmap.PROT_READ)"
    hostile.ok(code, guest=guest_kind, audit=seen.append)
    mapped = [call for call in seen if call.name == "mmap" and call.arguments["length"] == 12305]
    assert [(call.number, call.result) for call in mapped] == [(9, 0)]


def test_what_may_not_be_read_is_not_granted(run):
    """An O_PATH descriptor, a closed one, a folder, and a shared mapping are not granted."""
    code = """
by_path = os.open(path, 0o10000000)  # O_PATH
for asked in ((by_path, PRIVATE), (999, PRIVATE), (os.open("/usr", os.O_RDONLY), PRIVATE), (fd, 1)):
    print(raw.ask(CALL_MAP, (0, 4096, READ, asked[1], asked[0], 0))[0] >> 41 == 1, *raw.syscalls([mapping()]))
"""
    assert run(code) == "False -11\n" * 4


def test_grants_that_are_never_taken(run, hostile, monkeypatch):
    """The controller stores one grant for each channel, and none after the box has ended (`_unharmed`)."""
    most, grant = [0], Listener.sort

    def look(self):
        most[0] = max(most[0], len(os.listdir("/proc/self/fd")))
        grant(self)

    monkeypatch.setattr(Listener, "sort", look)
    before = len(os.listdir("/proc/self/fd"))
    code = """
for _ in range(3000): raw.syscalls([asked(), raw.TAKE])
print(*granted(mapping(LIBRARY + 1)))
"""
    assert run(code) == "-11\n"
    assert most[0] < before + 100


@pytest.mark.parametrize("flags", [0, 0x10], ids=["anywhere", "fixed"])
def test_past_the_end_of_the_file(hostile, guest_kind, flags):
    """The kernel's SIGBUS is for the box alone. For memory that a call names, the stub answers EFAULT."""
    code = """
size = os.fstat(fd).st_size + 4095 & ~4095
request = raw.put(raw.frame(CALL_MAP, (0, 8192, READ, PRIVATE, fd, size)))
where = 0x2000_0000
place = raw.syscalls([request, raw.TAKE, (9, where, 8192, READ, PRIVATE | FLAGS, LIBRARY, size)])[-1]
libc = ctypes.CDLL(None, use_errno=True)
print(libc.write(1, ctypes.c_void_p(place), 4), os.strerror(ctypes.get_errno()), flush=True)
ctypes.string_at(place, 1)
"""
    result = hostile.run(PROGRAM + code.replace("FLAGS", str(flags)), guest=guest_kind)
    assert (result.status, result.signal, result.stdout) == ("crashed", 7, "-1 Bad address\n"), result


def test_a_copy_has_no_grant_of_its_parents(hostile, guest_kind, warm):
    """A copy inherits the descriptor, but cannot map the file with it."""
    with contextlib.closing(
        warm(guest=guest_kind, session={"branches": 2}).session(files=hostile.files, timeout=200)
    ) as session:
        program = PROGRAM.replace("threading.Thread", "0 and threading.Thread").replace(".start()", "")
        assert session.exec(program + "\nprint(granted(mapping())[0] > 0)").stdout == "True\n"
        session.exec("raw.syscalls([asked(), raw.TAKE])")  # leaves a grant open
        with contextlib.closing(session.fork()) as copy:
            threads = "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
            assert copy.exec(threads + "print(*raw.syscalls([mapping()]))").stdout == "-11\n"
            code = "print(granted(mapping())[0] > 0)"
            assert copy.exec(code).stdout == session.exec(code).stdout == "True\n"


@pytest.mark.parametrize("missing", ["ioctl", "file"])
def test_where_it_cannot_be_given_it_is_copied(hostile, guest_kind, monkeypatch, missing):
    """Before 5.9 Linux cannot add descriptors, and a host file may no longer exist: the file is copied."""
    if missing == "ioctl":
        monkeypatch.setattr(
            GuestListener, "answer_mapping", lambda self, notification, number: self.listener.refuse(notification)
        )
    else:
        monkeypatch.setattr(library.LibraryFile, "host_descriptor", lambda self: None)
    code = "import ctypes, sqlite3, zlib; print(zlib.crc32(b'abc'), sqlite3.connect(':memory:').execute('select 1').fetchone())"
    assert hostile.ok(code, guest=guest_kind) == "891568578 (1,)\n"


def test_a_box_of_one_thread_copies_them(hostile, guest_kind):
    """Its filter has no listener by which the kernel could notify of a mapping, unless it is a copy of a zygote."""
    code = "import sqlite3; print(sqlite3.connect(':memory:').execute('select 1').fetchone())"
    assert hostile.ok(code, guest=guest_kind, limits={"threads": 1}) == "(1,)\n"
