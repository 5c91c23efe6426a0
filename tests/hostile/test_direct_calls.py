"""Functions of libc that call the controller without a trap: signals that arrive in the middle of a call, and the
call's result.

The handlers are machine code: Python's own handlers run between bytecodes, never in the middle of a call.
"""

import pytest

EACH_GUEST = True

#: A handler that makes system calls of its own, which trap (getpid, and a read of the first two bytes of descriptor
#: `fd`). It counts its runs and wrong answers.
HANDLER = r"""
import ctypes, os, raw, signal, time
libc = ctypes.CDLL(None, use_errno=True)
cells = raw.code(bytes(4096)); counts = (ctypes.c_long * 4).from_address(cells)
fd = os.open("/box/two", os.O_RDONLY) if os.path.exists("/box/two") else 0
def handler(extra=b""):
    # push rbx; mov rbx, cells; lock inc qword [rbx]; mov eax, getpid; syscall; cmp eax, PID; je ok; lock inc qword [rbx+8]; ok:
    text = bytes.fromhex("53 48bb") + cells.to_bytes(8, "little") + bytes.fromhex("f048ff03 b827000000 0f05 3d")
    text += os.getpid().to_bytes(4, "little") + bytes.fromhex("7405 f048ff4308")
    return raw.code(text + extra + bytes.fromhex("5b c3"))
libc.signal.argtypes = ctypes.c_int, ctypes.c_void_p
"""

CALLS = {
    "getuid": "os.getuid() == uid",
    "stat": "os.stat('/etc/passwd').st_mode == mode",
    "fstat": "os.fstat(file).st_size == 100000",
    "pread": "os.pread(file, 70000, 5) == data[5:70005]",
    "pwrite": "os.pwrite(new, data, 3) == 100000",
    "access": "os.access('/etc/passwd', os.R_OK) and not os.access('/none', 0)",
    "open and close": "os.close(os.open('/etc/passwd', os.O_RDONLY)) is None",
    "lseek and read": "os.lseek(file, 50000, 0) == 50000 and os.read(file, 40000) == data[50000:90000]",
    "write to a pipe and read": "os.write(ends[1], b'some') == 4 and os.read(ends[0], 9) == b'some'",
    "ioctl": "fcntl.ioctl(ends[0], termios.FIONREAD, bytes(4)) == bytes(4)",
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_handler_that_makes_calls_in_the_middle_of_one(hostile, call):
    out = hostile.ok(
        HANDLER
        + f"""
import fcntl, termios
uid, mode, data, ends = os.getuid(), os.stat("/etc/passwd").st_mode, bytes(range(250)) * 400, os.pipe()
open("data", "wb").write(data); file = os.open("data", os.O_RDONLY); new = os.open("new", os.O_RDWR | os.O_CREAT)
libc.signal(signal.SIGALRM, handler()); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
turns = wrong = 0
while counts[0] < 50 or turns < 50:
    turns += 1
    wrong += not ({call})
signal.setitimer(signal.ITIMER_REAL, 0)
print(wrong, counts[1])
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100},
    )
    assert out == "0 0\n"


def test_each_of_many_real_time_signals_arrives(hostile):
    """The controller sends each signal while the guest is in a call. Every signal is delivered."""
    out = hostile.ok(
        HANDLER
        + """
import threading
libc.signal(40, handler())
main, sent, done = threading.main_thread().ident, 0, []
def send():
    global sent
    for _ in range(300):
        try: os.kill(os.getpid(), 40); sent += 1
        except OSError: pass
    done.append(1)
thread = threading.Thread(target=send); thread.start()
while not done: os.getuid(); os.stat("/etc/passwd")
thread.join()
while counts[0] < sent: os.getuid()
print(counts[0] == sent > 100, counts[1])
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100, "threads": 4},
    )
    assert out == "True 0\n"


def test_the_mask_is_as_it_was(hostile):
    """While a signal is deferred all others are blocked. Afterwards only the program's own mask is in force."""
    out = hostile.ok(
        HANDLER
        + """
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, 50})
libc.signal(signal.SIGALRM, handler()); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
while counts[0] < 50: os.getuid()
signal.setitimer(signal.ITIMER_REAL, 0)
print(signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR1, 50})
libc.signal(signal.SIGUSR1, handler()); libc.signal(signal.SIGUSR2, handler())
before = counts[0]; os.kill(os.getpid(), signal.SIGUSR1); os.kill(os.getpid(), signal.SIGUSR2)
print(counts[0] - before, signal.sigpending() == {signal.SIGUSR1})
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100},
    )
    assert out == "True\n1 True\n"


def test_a_wait_is_interrupted(hostile):
    """A read that waits, an epoll_wait and a write into a full pipe: the handler runs, and the call fails with
    EINTR.
    """
    out = hostile.ok(
        HANDLER
        + """
import select
ends = os.pipe(); poll = libc.epoll_create1(0)
libc.siginterrupt(signal.SIGALRM, 1)
libc.sigaction  # signal(3) has SA_RESTART, and the controller answers as the disposition says
buffer = ctypes.create_string_buffer(1 << 20)
class Action(ctypes.Structure): _fields_ = [("handler", ctypes.c_void_p), ("mask", ctypes.c_ulong * 16), ("flags", ctypes.c_int), ("restorer", ctypes.c_void_p)]
action = Action(handler()); libc.sigaction(signal.SIGALRM, ctypes.byref(action), None)
def interrupted(call, *words):
    before = counts[0]
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    answer = call(*words)
    return answer, ctypes.get_errno(), counts[0] - before
print(interrupted(libc.read, ends[0], buffer, 10))
print(interrupted(libc.epoll_wait, poll, buffer, 10, -1))
os.set_blocking(ends[1], False)
while libc.write(ends[1], buffer, 4096) > 0: pass
os.set_blocking(ends[1], True)
print(interrupted(libc.write, ends[1], buffer, 10), counts[1])
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100},
    )
    assert out == "(-1, 4, 1)\n(-1, 4, 1)\n(-1, 4, 1) 0\n"


def test_a_handler_that_jumps_out(hostile):
    """After siglongjmp(3) out of a deferred handler the next calls work on the same channel."""
    out = hostile.ok(
        HANDLER
        + """
environment, timer = ctypes.create_string_buffer(512), (ctypes.c_long * 4)(0, 0, 0, 2000)
word = lambda value: value.to_bytes(8, "little")
setjmp, longjmp, getuid, setitimer = (word(ctypes.cast(getattr(libc, name), ctypes.c_void_p).value) for name in ("__sigsetjmp", "siglongjmp", "getuid", "setitimer"))
at = word(ctypes.addressof(environment))
# rdi = environment; esi = 1; call siglongjmp
jump = raw.code(bytes.fromhex("48bf") + at + bytes.fromhex("be01000000 48b8") + longjmp + bytes.fromhex("4883ec08 ffd0"))
# rbx = cells; sigsetjmp(environment, 1), and wherever that returns to: a turn more; after the twentieth, to the end
text = bytes.fromhex("53 55 4154 4883ec10 48bb") + word(cells) + bytes.fromhex("48bf") + at + bytes.fromhex("be01000000 48b8") + setjmp
text += bytes.fromhex("ffd0 48ff4310 48837b1014 7d28")
# setitimer(ITIMER_REAL, timer, NULL), once; then getuid() for ever
text += bytes.fromhex("31ff 48be") + word(ctypes.addressof(timer)) + bytes.fromhex("31d2 48b8") + setitimer + bytes.fromhex("ffd0")
text += bytes.fromhex("48b8") + getuid + bytes.fromhex("ffd0 ebf2 4883c410 415c 5d 5b c3")
libc.signal(signal.SIGALRM, jump)
raw.function(text)()
print(counts[2], os.getuid(), os.stat("/etc/passwd").st_size > 0)
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100},
    )
    assert out == "20 1000 True\n"


def test_two_threads_and_their_signals(hostile):
    out = hostile.ok(
        HANDLER
        + """
import threading
libc.signal(signal.SIGALRM, handler()); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
wrong = []
def work():
    uid = os.getuid()
    while counts[0] < 50: wrong.extend([1] * (os.getuid() != uid or os.stat("/etc/passwd").st_mode != 0o100644))
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
signal.setitimer(signal.ITIMER_REAL, 0)
print(len(wrong), counts[1])
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100, "threads": 8},
    )
    assert out == "0 0\n"


def test_a_forged_trap_of_the_end_of_a_call(hostile):
    """The stub's call that ends a call with a deferred signal is ENOSYS when there is no such signal."""
    out = hostile.ok("import raw; print(raw.syscall(raw.PUT_OFF), raw.syscall(raw.PUT_OFF, 1, 2, 3, 4, 5, raw.ROUTE))")
    assert out == "-38 -38\n"


def test_an_address_that_cannot_be_read_or_written(hostile):
    out = hostile.ok("""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def failing(name, *words):
    answer = getattr(libc, name)(*words)
    return answer, ctypes.get_errno()
bad = ctypes.c_void_p(8)
file = os.open("/etc/passwd", os.O_RDONLY)
print({failing("stat", bad, bad), failing("stat", b"/", bad), failing("open", bad, 0), failing("read", file, bad, 10), failing("access", bad, 0),
       failing("write", 1, bad, 10), failing("fstat", file, bad), failing("epoll_wait", 0, bad, 1, 0)} - {(-1, 22)})
""")
    assert out == "{(-1, 14)}\n"


#: Signals that no mask defers.
FAULTS = pytest.mark.parametrize("fault", ["SIGSEGV", "SIGBUS"])


@FAULTS
@pytest.mark.parametrize("call", ["os.stat('/etc/passwd')", "os.link('/none', '/box/link')"], ids=["direct", "trapped"])
def test_a_sent_fault_in_the_middle_of_a_call(hostile, call, fault):
    """Another thread sends the fault's signal: the handler runs after the call has its answer."""
    out = hostile.ok(
        HANDLER
        + f"""
import threading
libc.signal(signal.{fault}, handler()); done = []
def send():
    for _ in range(200): os.kill(os.getpid(), signal.{fault})
    done.append(1)
thread = threading.Thread(target=send); thread.start()
while not done:
    try: {call}
    except OSError: pass
thread.join()
print(0 < counts[0] <= 200, counts[1])
""",
        limits={"calls": None, "wall_time": 200, "cpu_time": 100, "threads": 4},
    )
    assert out == "True 0\n"


@FAULTS
def test_a_fault_sent_to_itself(hostile, fault):
    """The signal arrives before kill(2) returns, in the middle of that call. Afterwards the mask is unchanged."""
    out = hostile.ok(
        HANDLER
        + f"""
libc.signal(signal.{fault}, handler()); libc.signal(signal.SIGUSR1, handler())
seen = []
for _ in range(100):
    os.kill(os.getpid(), signal.{fault}); seen.append(counts[0])
os.kill(os.getpid(), signal.SIGUSR1)
print(seen == list(range(1, 101)), counts[0], counts[1], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
"""
    )
    assert out == "True 101 0 set()\n"


@FAULTS
def test_faulthandler_and_a_sent_fault(hostile, fault):
    """faulthandler writes a traceback by calls of its own. Then the signal ends the program."""
    result = hostile.run(
        f"import faulthandler, os, signal\nfaulthandler.enable(); os.kill(os.getpid(), signal.{fault})"
    )
    assert result.status == "crashed", result
    assert 'File "/box/main.py"' in result.stderr


def test_an_open_that_wants_the_whole_file_made_by_hand(hostile):
    """The stub's own call to open and read a whole file obeys the rules for paths, permissions and descriptors of any
    open.

    The number of bytes that are stored at the guest's address is bounded.
    """
    out = hostile.ok(
        """
import ctypes, os, raw
page, name = raw.code(bytes(1 << 20)), lambda text: raw.code(text + bytes(1))
def whole(path, flags=0, place=page, closed=-1): return raw.syscall(510, -100, name(path), flags, 0, place, closed)
size, status = os.path.getsize(os.__file__), os.stat(os.__file__)
fd = whole(os.__file__.encode())
print(fd > 2, ctypes.string_at(page + 144, size) == open(os.__file__, "rb").read(), raw.syscall(8, fd, 0, 1))
ctypes.memset(page, 0, 1 << 20)
untouched = lambda: ctypes.string_at(page, 1 << 20) == bytes(1 << 20)
open("/box/own", "w").write("own")
print(whole(b"/etc/shadow"), whole(b"/none"), whole(b"/box/own") > 2, whole(b"/etc/passwd") > 2, untouched())
print(whole(os.__file__.encode(), os.O_WRONLY), whole(os.__file__.encode(), 0o10000000) > 2, whole(b"/usr/lib") > 2, untouched())
print([whole(b"/none", closed=fd) for fd in (99, -2, 1 << 31, (1 << 64) - 1)], untouched())
print(whole(os.__file__.encode(), place=8), raw.syscall(510, -100, 8, 0, 0, page, -1), raw.syscall(510, 99, name(b"x"), 0, 0, page, -1))
print(whole(os.__file__.encode(), closed=fd) == fd and ctypes.string_at(page + 144 + size, 4096) == bytes(4096))
"""
    )
    lines = out.splitlines()
    assert lines[0] == "True True 0"
    assert lines[1] == "-2 -2 True True True"
    assert lines[2] == "-30 True True True"
    assert lines[3] == "[-2, -2, -2, -2] True"
    assert lines[4] == "-14 -14 -9"
    assert lines[5] == "True"


def test_answers_that_last_asked_for_by_hand(hostile):
    """The stub's own calls obey the rules for paths and permissions of any stat, and for descriptors of any
    epoll_wait.
    """
    out = hostile.ok(
        """
import os, raw, select
page, name = raw.code(bytes(1 << 16)), lambda text: raw.code(text + bytes(1))
def status(path, flags=0, place=page): return raw.syscall(513, name(path), place, flags)
os.symlink("/etc/shadow", "/tmp/link")
print(status(b"/usr"), status(b"/tmp/link", 0x100), status(b"/tmp/link"), status(b"/none"), status(b"/etc/passwd"))
print(status(b"/usr", place=8), raw.syscall(513, 8, page, 0), raw.syscall(513, 0, page, 0), status(b"x" * 5000), status(b""))
print(status(b"relative"), status(b"/box/main.py/"), status(b"/usr", -1), status(b"/usr", 1 << 63))
look, (reader, writer) = select.epoll(), os.pipe()
look.register(reader, select.EPOLLIN)
wait = lambda fd=look.fileno(), place=page, room=9: raw.syscall(514, fd, place, room)
print(wait(), wait(room=0), wait(room=-1), wait(fd=reader), wait(fd=99), wait(fd=-1), wait(place=8))
os.write(writer, b"x")
print(wait(), wait(place=8), wait(room=1 << 31), wait(room=1))
"""
    )
    lines = out.splitlines()
    assert lines[0] == "1 0 -2 -2 0"
    assert lines[1] == "-14 -14 -14 -36 -2"
    assert lines[2] == "-2 -20 -22 1"
    assert lines[3] == "4294967296 -22 -22 -22 -9 -9 4294967296"
    assert lines[4] == "1 -14 -22 1"


#: The registers of the third to the sixth argument: mov rax, REGISTER.
ARGUMENTS = {"rdx": "4889d0", "r10": "4c89d0", "r8": "4c89c0", "r9": "4c89c8"}


@pytest.mark.parametrize("call", ["fstat", "close", "clock_gettime", "read"])
def test_nothing_that_the_filter_asks_for_is_left_behind(hostile, call):
    """ROUTE does not stay in an argument register after a call.

    libc sets only as many registers as a call has arguments: with ROUTE in the fourth, its own read(2) of the program's
    descriptor 3 would natively read the box's channel, and wait for ever.
    """
    out = hostile.ok(
        f"""
import ctypes, raw
libc, memory = ctypes.CDLL(None), raw.code(bytes(4096))
def left(register):  # sub rsp, 8; call rcx; mov rax, REGISTER; add rsp, 8; ret
    text = bytes.fromhex("4883ec08 ffd1" + register + "4883c408 c3")
    function = raw.function(text, ctypes.c_long, ctypes.c_void_p, ctypes.c_long, ctypes.c_void_p, result=ctypes.c_ulong)
    return function(99 if {call!r} != "clock_gettime" else 1, memory, 9, ctypes.cast(libc.{call}, ctypes.c_void_p).value)
print([name for name, code in {ARGUMENTS!r}.items() if left(code) & 0xFFFFFFFF == raw.ROUTE])
# push rbx, r12, r13; mov rbx, rsi; mov r12, rdx; mov rax, rdi; mov rdi, rdx; call rax
# xor eax, eax; mov edi, r12d; mov rsi, rbx; mov edx, 100; syscall; pop r13, r12, rbx; ret
text = bytes.fromhex("53 4154 4155 4889f3 4989d4 4889f8 4889d7 ffd0 31c0 4489e7 4889de ba64000000 0f05 415d 415c 5b c3")
with open("file", "w") as file: file.write("content")
file = open("file", "rb", buffering=0)
reads = raw.function(text, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_long)
print(file.fileno(), reads(ctypes.cast(libc.fstat, ctypes.c_void_p).value, memory, file.fileno()))
""",
        timeout=20,
    )
    assert out == "[]\n3 7\n"
