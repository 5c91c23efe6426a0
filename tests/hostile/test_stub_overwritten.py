"""The stub belongs to the guest: when it is removed, changed or deceived, the seal and the controller still work."""

import pytest

EACH_GUEST = True

WIPED = """
import raw, ctypes
base = raw.stub()
raw.check(raw.syscall(10, base, {size}, 7))
raw.syscalls([(24,)])
ctypes.memset(base + {start}, {byte}, {length})
print(open("/etc/passwd").read())
"""


@pytest.mark.parametrize("byte", [0x00, 0x90, 0xC3, 0xCC, 0xFF])
def test_the_stub_wiped(hostile, byte):
    """The handler's code is overwritten: the next call ends the process, or nothing answers it."""
    start = hostile.symbol("on_sigsys") & ~0xFFF
    result = hostile.run(WIPED.format(size=0x8000, start=start, length=0x1000, byte=byte), timeout=0.4)
    assert result.status in ("crashed", "time_limit", "misbehaved", "error"), result


def test_the_stub_unmapped(hostile):
    result = hostile.run(
        """
import raw
raw.exchange((11, raw.stub(), 0x100000), (39,), raw.SLEEP)
""",
        timeout=200,
    )
    assert result.status == "crashed", result


@pytest.mark.parametrize("number", [2, 41, 59, 62, 101, 257])
def test_a_handler_that_repeats_the_call(hostile, number):
    """The seal stops the call every time, also in the handler."""
    result = hostile.run(
        f"""
import raw, ctypes
handler = raw.stub() + {hostile.symbol("on_sigsys")}
raw.check(raw.syscall(10, handler & ~4095, 8192, 7))
ctypes.memmove(handler, bytes.fromhex("b8" + ({number}).to_bytes(4, "little").hex() + "0f05c3"), 8)
raw.exchange(({number}, 0, 0, 0), raw.SLEEP)
""",
        timeout=100,
    )
    assert result.status == "crashed" and result.signal in (11, 31), result


def test_the_table_of_roles_overwritten(hostile):
    """The stub then reads the wrong arguments of a call, or none."""
    for byte in (0, 1, 2, 5, 255):
        result = hostile.run(
            f"""
import raw, ctypes
ctypes.memset(raw.stub() + {hostile.symbol("roles")}, {byte}, 512 * 52)
print(open("/etc/passwd").read())
""",
            timeout=2,
        )
        assert result.status in ("misbehaved", "crashed", "time_limit", "error"), result


def test_the_configuration_overwritten(hostile):
    """A false number of channels and a false clock have no effect: the filter was made before."""
    import proxybox

    result = hostile.run(
        f"""
import raw, ctypes, struct, time
ctypes.memmove(raw.stub() + {hostile.symbol("config")} + 4, struct.pack("<II", 257, 3), 8)
print(int(time.time()), raw.syscall(0, 35, 0, 1, raw.ROUTE))
""",
        time=proxybox.Time.frozen("2030-01-01"),
    )
    assert result.stdout in ("1893456000 -9\n", ""), result


def test_the_handlers_overwritten(hostile):
    """With the guest's own table of signals overwritten, a signal runs any code, but in the guest."""
    result = hostile.run(
        f"""
import raw, ctypes, os
ctypes.memset(raw.stub() + {hostile.symbol("actions")}, 0x41, 65 * 32)
os.kill(os.getpid(), 10)
print("after")
""",
        timeout=2,
    )
    assert result.status in ("crashed", "ok", "time_limit"), result


def test_a_forged_signal_frame(hostile):
    """rt_sigreturn loads a mask with SIGSYS: at the next call that traps the kernel ends the process."""
    result = hostile.run(
        """
import raw, ctypes, struct
back = raw.code(bytes.fromhex("b827000000" "0f05" "ebfe"))  # getpid; jmp .
stack = raw.code(bytes(65536)) + 32768
context = bytearray(304)
struct.pack_into("<Q", context, 40 + 8 * 15, stack + 16384)  # rsp
struct.pack_into("<Q", context, 40 + 8 * 16, back)  # rip
struct.pack_into("<HHHH", context, 40 + 8 * 18, 0x33, 0, 0, 0x2b)
struct.pack_into("<Q", context, 296, (1 << 64) - 1)
ctypes.memmove(stack, bytes(context), len(context))
raw.function(bytes.fromhex("4889fc" "b80f000000" "0f05"), ctypes.c_void_p)(stack)
""",
    )
    assert result.status == "crashed" and result.signal in (31, 11), result


def test_a_forged_signal_frame_with_foreign_segments(hostile):
    """rt_sigreturn loads code segments of the kernel or of 32-bit code."""
    for segment in (0x10, 0x18, 0x23, 0x08, 0xFFFF):
        result = hostile.run(
            f"""
import raw, ctypes, struct
stack = raw.code(bytes(65536)) + 32768
context = bytearray(304)
struct.pack_into("<Q", context, 40 + 8 * 15, stack + 16384)
struct.pack_into("<Q", context, 40 + 8 * 16, raw.code(b"\\xeb\\xfe"))
struct.pack_into("<HHHH", context, 40 + 8 * 18, {segment}, 0, 0, 0x2b)
ctypes.memmove(stack, bytes(context), len(context))
raw.function(bytes.fromhex("4889fc" "b80f000000" "0f05"), ctypes.c_void_p)(stack)
""",
            timeout=0.4,
        )
        assert result.status in ("crashed", "time_limit"), result


@pytest.mark.parametrize("action", ["signal.SIG_IGN", "signal.SIG_DFL", "print"])
def test_sigsys_as_a_signal_of_the_guests_own(hostile, action):
    out = hostile.run(f"""
import signal, os
try:
    signal.signal(signal.SIGSYS, {action})
    print("set")
except (OSError, ValueError) as error:
    print("refused")
try:
    signal.pthread_sigmask(signal.SIG_BLOCK, set(range(1, 65)))
except OSError:
    pass
print(os.getpid() > 0, sorted(map(int, signal.pthread_sigmask(signal.SIG_BLOCK, []))) != [])
signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGSYS])
print(os.listdir("/box"))
""")
    assert out.ok, out
    assert "main.py" in out.stdout


def test_sigsys_sent_to_oneself(hostile):
    result = hostile.run("import os, signal; os.kill(os.getpid(), signal.SIGSYS); print(os.getpid() > 0)")
    assert result.status in ("ok", "crashed", "error"), result


def test_siginfo_of_real_signals_names_no_process_of_the_host(hostile):
    """A handler reads the kernel's data about the sender before the stub can replace it."""
    import os

    result = hostile.run(f"""
import raw, ctypes, os, signal, struct
seen = raw.code(bytes(4096))
signal.signal(signal.SIGUSR1, lambda *_: None)
deliver = raw.stub() + {hostile.symbol("deliver")}
raw.check(raw.syscall(10, deliver & ~4095, 8192, 7))
# movabs rax, seen; mov rcx, [rsi+16]; mov [rax], rcx; ret: si_pid and si_uid
ctypes.memmove(deliver, b"\\x48\\xb8" + struct.pack("<Q", seen) + bytes.fromhex("488b4e10" "488908" "c3"), 18)
os.kill(os.getpid(), signal.SIGUSR1)
print(struct.unpack("<II", ctypes.string_at(seen, 8)))
""")
    assert result.ok, result
    pid, _ = eval(result.stdout)
    assert pid != os.getpid(), f"si_pid is the controller's: {result.stdout}"
