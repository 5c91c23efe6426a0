"""System calls made by machine code: none but those of the seal's table reach the kernel.

The guest overwrites the stub's SIGSYS handler, as it may. Calls that the filter stops then have the result TRAPPED;
others have the kernel's result. `python -m tests.seal` prints the sweep's counts.
"""

import struct
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))  # for a pytest that was not started as `python -m pytest`
from tests.seal import sweep
from tests.seal.cases import BEYOND, TABLE

EACH_GUEST = True

PROBE = """
import sys, raw
calls = {calls}
results = raw.trapped_syscalls(calls, {on_sigsys})
let_through = [(call, result) for call, result in zip(calls, results) if result != raw.TRAPPED]
print(let_through)
"""


@pytest.fixture
def let_through(hostile):
    """A function that returns the calls that reached the kernel, with their results. calls: source text."""

    def probe(calls, **options):
        text = PROBE.format(calls=calls, on_sigsys=hostile.symbol("on_sigsys"))
        return eval(hostile.ok(text, **options))

    return probe


@pytest.mark.sized(1)
@pytest.mark.parametrize("thread", [False, True], ids=["main thread", "another thread"])
@pytest.mark.parametrize("box", sweep.BOXES)
def test_every_number_of_x86_64_and_x32(hostile, box, thread):
    """The allowed numbers are those of the table, and of their calls only those that expected.py allows."""
    kind, options = sweep.BOXES[box]
    if thread and not kind.threads:
        kind, options = kind._replace(channels=2, threads=True), {**options, "limits": {"threads": 2}}
    counts = [*sweep.in_a_box(hostile, kind, options, thread=thread), sweep.apart(hostile, kind, options)]
    total = sweep.sum_of("all", counts)
    assert total.surprises == []
    assert total.allowed == sweep.listed(kind)
    assert total.numbers == len(TABLE) - len(sweep.EXEMPT) + len(BEYOND) + len(TABLE)  # the numbers of x32


@pytest.mark.sized(1)
@pytest.mark.parametrize("box", sweep.BOXES)
def test_every_number_of_i386(box):
    """Each call in a process of its own, under the filters of a box: the kernel kills it whatever the number is.

    A small process forks them, because this one has much memory to copy.
    """
    code = (
        f"from tests.seal import sweep\nkind, _ = sweep.BOXES[{box!r}]\n"
        "count = sweep.by_int_80(kind, range(512), sweep.machine_code(), each=1)\n"
        "print(count.surprises, len(count.killed))"
    )
    checkout = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True)
    assert ended.stdout == "[] 512\n", ended.stdout + ended.stderr


def test_numbers_of_i386_in_boxes(hostile):
    count = sweep.by_int_80_in_boxes(hostile, sweep.DANGEROUS_I386.values())
    assert count.surprises == []
    assert count.killed == set(sweep.DANGEROUS_I386.values())


def test_what_the_sweep_of_i386_sees_without_a_filter(monkeypatch):
    """Only the filter kills: without one getpid returns, and with one that traps the result is TRAPPED."""
    every = [(0x06, 0, 0, 0x7FFF0000)]
    for value, wanted in ((0x7FFF0000, "allowed"), (0x00030000, "trapped")):
        first = [(0x20, 0, 0, 4), (0x15, 1, 0, 0x40000003), *every, (0x06, 0, 0, value)]
        text = b"".join(struct.pack("<HBBI", *line) for line in first)
        monkeypatch.setattr(sweep, "seal_filter", lambda channels, text=text, **kind: text)
        count = sweep.by_int_80(sweep.BOXES["real time, 16 threads"][0], [20], sweep.machine_code())
        assert getattr(count, wanted) == {20}


def test_the_probe_sees_what_is_let_through(let_through):
    assert [call[0] for call, _ in let_through("[(24,), (39,), (12, 0)]")] == [24, 12]


@pytest.mark.parametrize("number", sweep.EXEMPT)
def test_the_calls_that_the_kernel_exempts_from_filters(hostile, number):
    result = hostile.run(f"import raw; print(raw.syscall({number}, *[raw.ROUTE] * 6))")
    assert result.signal == 4 or int(result.stdout) < 0, result


DANGEROUS = """[
    (59, P, 0, 0), (322, -100, P, 0, 0, 0), (322, 3, E, 0, 0, 0x1000),
    (2, P, 0, 0), (257, -100, P, 0, 0), (437, -100, P, W, 24), (85, P, 0o777),
    (41, 2, 1, 0), (41, 1, 1, 0), (41, 16, 3, 0), (53, 1, 1, 0, W), (42, 3, W, 16), (46, 3, W, 0), (47, 3, W, 0),
    (101, 0, 0, 0, 0), (101, 16, 1, 0, 0), (310, 1, W, 1, W, 1, 0), (311, 1, W, 1, W, 1, 0),
    (317, 0, 0, 0), (317, 1, 0, W), (157, 22, 2, W), (157, 38, 1), (157, 4, 1), (157, 26, 1, 0),
    (157, 0x59616d61, -1), (157, 15, P), (158, 0x1002, W), (158, 0x1003, W),
    (425, 8, W), (426, 3, 1, 1, 1, 0, 0), (427, 3, 0, W, 1),
    (57,), (58,), (435, W, 88), (272, 0x10000000), (272, 0x20000), (308, 3, 0),
    (62, 1, 9), (62, -1, 9), (62, 0, 0), (200, 1, 9), (234, 1, 1, 9), (129, 1, 9, W), (297, 1, 1, 9, W),
    (424, 3, 9, 0, 0), (434, 1, 0), (438, 3, 0, 0),
    (25, W, 4096, 8192, 1, 0), (216, W, 4096, 0, 0, 0), (30, 0, 0, 0), (29, 0, 4096, 0o1777),
    (319, P, 0), (447, 0), (323, 1), (321, 5, W, 120), (298, W, 0, -1, -1, 0),
    (165, P, P, P, 0, 0), (166, P, 0), (161, P), (155, P, P), (428, -100, P, 1), (430, P, 0), (442, 3, P, 0, W, 32),
    (105, 0), (106, 0), (113, 0, 0), (117, 0, 0, 0), (126, W, W), (160, 4, W), (302, 0, 4, W, W),
    (13, 31, W, 0, 8), (14, 0, W, 0, 8), (131, W, 0), (128, W, 0, 0, 8), (282, -1, W, 8, 0),
    (16, 3, 0x5401, W), (16, 4, 0x541B, W), (72, 3, 0, 10), (72, 4, 4, 0o4000), (72, 4, 1031, 1 << 20), (32, 3), (33, 3, 4), (292, 3, 9, 0), (3, 3), (436, 0, -1, 0),
    (22, W), (293, W, 0), (17, 3, W, 8, 0), (19, 3, W, 1), (20, 4, W, 1), (40, 4, 3, 0, 8), (275, 3, 0, 4, 0, 8, 0),
    (276, 3, 4, 8, 0), (278, 4, W, 1, 0), (326, 3, 0, 4, 0, 8, 0),
    (246, 0, 0, 0, 0), (320, 3, 3, 1, P, 0), (175, W, 1, P), (169, 0xfee1dead, 672274793, 0x4321fedc, 0),
    (203, 0, 8, W), (144, 0, 0, W), (314, 0, W, 0), (141, 0, 0, -20), (251, 1, 0, 0),
    (228, 0, W), (96, W, 0), (201, 0), (35, W, 0), (230, 1, 0, W, 0), (222, 0, 0, W), (283, 1, 0), (37, 1),
    (218, W), (273, W, 24), (334, W, 32, 0, 0), (449, W, 1, 0, W, 0), (454, W, 1, 0), (455, W, 0, 2, W, 1), (456, W, W, 0, 1, 1),
    (444, W, 24, 0), (445, 3, 1, W, 0), (446, 3, 0), (248, P, P, 0, 0, -1), (250, 0, -1, 1), (303, -100, P, W, W, 0), (304, 3, W, 0),
    (462, W, 4096, 0), (453, 4096, 0, 1), (329, W, 4096, 1, 0), (330, 0, 0), (325, W, 4096, 1), (149, W, 4096), (151, 1), (237, W, 4096, 1, 0, 0, 0), (256, 0, 0, 0, 0), (279, 0, 1, W, 0, W, 0),
]"""


@pytest.mark.parametrize("time", [None, "2030-01-01"], ids=["real time", "frozen time"])
def test_dangerous_calls_with_plausible_arguments(let_through, time):
    import proxybox

    fields = {} if time is None else {"time": proxybox.Time.frozen(time)}
    calls = "(lambda W, P, E: " + DANGEROUS + ")(raw.code(bytes(8192)), raw.code(b'/etc/passwd\\0'), raw.code(b'\\0'))"
    assert let_through(calls, **fields) == []


def test_clone_with_any_flags_but_those_of_a_thread(let_through):
    calls = """(lambda flags: [(56, word, 0, 0, 0, 0, route) for word in flags for route in (0, raw.ROUTE)])(
        [0x3d0f00 ^ 1 << bit for bit in range(64)]
        + [1 << bit for bit in range(64)] + [0x11 | 1 << bit for bit in range(8, 64)]
        + [0, 17, 0x1200011, 0x4111, 0x10000000, 0x7e020000, 0x3d0f00 | 0x800000, 0x3d0f00 | 0x7e020000]
    )"""
    assert let_through(calls) == []


def test_a_thread_without_leave(let_through):
    """Without ROUTE a clone with the flags of a thread is not a call that the stub has announced."""
    assert let_through("[(56, 0x3d0f00, raw.code(bytes(4096)) + 4000, 0, 0, 0, 0)]") == []


def test_mmap_of_anything_but_private_memory(let_through):
    calls = """[(9, 0, 4096, 7, flags, fd, 0)
        for fd in (-1, 3, 4)
        for flags in (0, 1, 2, 3, 0x20, 0x21, 0x23, 0x2022, 0x8022, 0x122, 0x40022, 0x40021, 0x80022, 0x4022 | 1,
                      0x22 | 1 << 26, 0x22 | 30 << 26, 0x62, 0x8000022, 0x22 | 1 << 32, 0x22 | 1 << 63)
        if (flags, fd) not in ((0x62, -1), (0x62, 3), (0x62, 4))]"""
    assert let_through(calls) == []


def test_madvise_of_anything_but_giving_back(let_through):
    calls = """(lambda page: [(28, page, 4096, advice) for advice in [*range(-2, 130)] if advice != 4])(
        raw.code(bytes(4096)))"""
    assert let_through(calls) == []


def test_futex_of_anything_but_private_waits(let_through):
    calls = """(lambda word: [(202, word, operation, 1, 0, word, 0) for operation in [*range(0, 1024), 1 << 31]
        if operation not in (0x80, 0x81, 0x89, 0x189)])(raw.code(bytes(4096)))"""
    assert let_through(calls) == []


def test_a_timed_wait_is_no_clock_where_time_is_frozen(let_through):
    import proxybox

    calls = """(lambda word: [(202, word, operation, 0, word, 0, -1) for operation in (0x80, 0x180, 0x89, 0x189)])(
        raw.code(bytes(4096)))"""
    assert let_through(calls, time=proxybox.Time.frozen("2030-01-01")) == []


def test_no_wait_to_go_on_with_where_time_is_frozen(let_through):
    """restart_syscall(2) continues timed waits, which are native with real time only. Here there is nothing to
    continue.
    """
    import proxybox

    assert let_through("[(219,)]", time=proxybox.Time.frozen("2030-01-01")) == []
    assert [result for _, result in let_through("[(219,)]")] == [-4]


def test_other_descriptors_than_the_channel(let_through):
    """read and write are native only on the box's own pipe ends, also with garbage in the upper half of the
    register.
    """
    calls = """(lambda page: [(number, fd, page, 1, raw.ROUTE)
        for number in (0, 1) for fd in (0, 1, 2, 35, 36, 255, 1 << 20, -1, -100, 1 << 31, (1 << 32) - 1)])(
        raw.code(bytes(4096)))"""
    assert let_through(calls) == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("int 0x80: write", "b804000000bb01000000cd80c3"),
        ("int 0x80: exit", "b801000000bb2a000000cd80c3"),
        ("int 0x80: getpid", "b814000000cd80c3"),
        ("sysenter", "b8140000000f34c3"),
        ("far return to a 32-bit code segment", "6a23680000100048cb"),
    ],
)
def test_other_doors_into_the_kernel(hostile, name, text):
    """The 32-bit ABI ends the process at once, and so does an instruction that the processor lacks."""
    result = hostile.run(f"""
import raw, ctypes
low = raw.check(raw.syscall(9, 0x100000, 4096, 7, 0x32, -1, 0))
ctypes.memmove(low, bytes.fromhex("b814000000cd80f4"), 8)
print("before", flush=True)
raw.function(bytes.fromhex("{text}"))()
print("after", flush=True)
""")
    assert result.status == "crashed", result
    assert result.signal in (31, 11, 4, 5), result
    assert result.stdout == "before\n"


def test_the_vsyscall_page(hostile):
    """Its entries at fixed addresses are the oldest way to the time."""
    import proxybox

    result = hostile.run(
        """
import raw
at = raw.code(bytes(16))
moment = raw.function(bytes.fromhex("48c7c0000460ff" "31ff" "ffd0" "c3"))()  # time(NULL) at 0xffffffffff600400
print(moment)
""",
        time=proxybox.Time.frozen("2030-01-01"),
    )
    assert result.status == "crashed" or int(result.stdout) == 1893456000, result


@pytest.mark.parametrize(("length", "signal"), [(0, None), (8192, 11)])
def test_the_vdso_as_the_kernel_made_it(hostile, length, signal):
    """madvise with MADV_DONTNEED is native, and restores the kernel's own vDSO, but without its clock data.

    Where other memory is at the clock's address by then, the kernel's code makes a system call, which is answered.
    """
    import proxybox

    result = hostile.run(
        f"LENGTH = {length}"
        """
import ctypes, raw
vdso = raw.module(b"linux-vdso.so.1")
patched = b"\\xb8" + (228).to_bytes(4, "little") + b"\\x0f\\x05\\xc3"  # mov eax, clock_gettime; syscall; ret
at = vdso + ctypes.string_at(vdso, 8192).index(patched)
moment = (ctypes.c_long * 2)()
# push rbx; mov rbx, rsi; madvise(rdi, LENGTH, MADV_DONTNEED); xor edi, edi; mov rsi, moment; call rbx; pop rbx; ret
text = "53" "4889f3" "be" + LENGTH.to_bytes(4, "little").hex() + "ba04000000" "b81c000000" "0f05" "31ff" "48be" + (
    ctypes.addressof(moment).to_bytes(8, "little").hex()) + "ffd3" "5b" "c3"
dropped = raw.function(bytes.fromhex(text), ctypes.c_void_p, ctypes.c_void_p)
print("before", flush=True)
dropped(vdso, at)
print(moment[0], flush=True)
""",
        time=proxybox.Time.frozen("2030-01-01"),
    )
    assert result.stdout == "before\n1893456000\n" or (signal and result.stdout == "before\n"), result
    assert result.signal == signal, result


def test_the_answers_of_the_controller_to_raw_calls(hostile):
    """Calls without libc, but through the stub: each one is refused by the policy."""
    out = hostile.ok("""
import raw
page = raw.code(bytes(8192)); path = raw.code(b"/etc/shadow\\0")
calls = {
    "execve": (59, path, 0, 0), "execveat": (322, -100, path, 0, 0, 0), "fork": (57,), "vfork": (58,),
    "clone fork": (56, 17, 0, 0, 0, 0), "clone3": (435, page, 88), "unshare": (272, 0x10000000),
    "socket": (41, 2, 1, 0), "unix socket": (41, 1, 1, 0), "ptrace": (101, 16, 1, 0, 0),
    "process_vm_readv": (310, 1, page, 1, page, 1, 0), "seccomp": (317, 1, 0, page), "kill init": (62, 1, 9),
    "tgkill": (234, 1, 1, 9), "pidfd_open": (434, 1, 0), "io_uring": (425, 8, page), "bpf": (321, 5, page, 120),
    "mount": (165, path, path, path, 0, 0), "setuid": (105, 0), "shadow": (2, path, 0), "userfaultfd": (323, 1),
    "perf": (298, page, 0, -1, -1, 0), "keyctl": (250, 0, -1, 1), "chroot": (161, path), "reboot": (169, 1, 2, 3),
    "name_to_handle_at": (303, -100, path, page, page, 0), "setns": (308, 3, 0), "shmat": (30, 0, 0, 0),
}
for name, call in calls.items():
    print(name, raw.syscall(*call))
""")
    results = dict(line.rsplit(" ", 1) for line in out.splitlines())
    assert all(int(value) < 0 for value in results.values()), results
