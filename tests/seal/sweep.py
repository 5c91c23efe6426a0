"""The sweep on the real kernel: calls by machine code under the seal, and the result of each.

Hostile code in a box replaces the stub's SIGSYS handler by its own instructions. A call that the filter stops then has
the result TRAPPED, and any other result is the kernel's. The calls do no harm when they are allowed. The 32-bit ABI
ends the process that uses it: each of its numbers is tried in a process of its own, forked here under a box's two
filters, and some of them in boxes.
"""

import ctypes
import errno
import itertools
import mmap
import os
import resource
import signal
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import attrs

import proxybox
from proxybox.controller.seal.filters import NUMBERS, RULES, listener_filter, seal_filter
from tests.seal.cases import BEYOND, FULL, GARBAGE, TABLE, Registers, argument_sets, around
from tests.seal.expected import ARCH_X86_64, EXPECTED, ROUTE, X32, Kind, expected

TRAPPED = -0x7EAD  # as in guest/raw.py
SCRATCH = 0x2000_0000  # also in guest/raw.py
#: Where the kernel has uretprobe(2) and uprobe(2), no filter sees them. They fail in a process in which root has set no
#: probe.
EXEMPT = {335: "uretprobe", 336: "uprobe"}
#: The boxes of the sweep: the kind of a filter, and the policy for it.
BOXES: dict[str, tuple[Kind, dict[str, Any]]] = {
    "real time, 16 threads": (Kind(16, real_time=True, threads=True), {}),
    "frozen time, one thread": (
        Kind(1, real_time=False, threads=False),
        {"time": proxybox.Time.frozen("2030-01-01"), "limits": {"threads": 1}},
    ),
    "a session that may be copied": (Kind(16, real_time=True, threads=True, forks=True), {"session": {"branches": 1}}),
}

#: Calls that the table allows and that do nothing: no length, no memory, or a value that does not exist.
HARMLESS: dict[int, list[Registers]] = {
    0: [(3, SCRATCH, 0, ROUTE, 0, 0), (GARBAGE | 3, SCRATCH, 0, GARBAGE | ROUTE, FULL, FULL)],
    1: [(4, SCRATCH, 0, ROUTE, 0, 0), (GARBAGE | 4, SCRATCH, 0, GARBAGE | ROUTE, FULL, FULL)],
    9: [(0, 0, 0, 0x22, FULL, 0), (0, 0, 7, 0x124032, 3, 0), (0, 0, GARBAGE | 3, 0x22, GARBAGE, 0)],
    10: [(SCRATCH, 0, 3, 0, 0, 0), (SCRATCH, 0, 3, ROUTE, FULL, FULL)],
    11: [(SCRATCH, 0, 0, 0, 0, 0), (0x1000_0000_0000, 0, ROUTE, 0, 0, 0)],
    12: [(0, 0, 0, 0, 0, 0), (0, FULL, FULL, FULL, FULL, FULL)],
    24: [(0, 0, 0, 0, 0, 0), (FULL, FULL, FULL, FULL, FULL, FULL)],
    28: [(SCRATCH, 0, advice, 0, 0, 0) for advice in (4, 8, GARBAGE | 4, GARBAGE | 8)],
    202: [
        (SCRATCH, operation, 1, timeout, 0, 1)
        for operation in (0x81, 0x80, 0x89, 0x189, GARBAGE | 0x81, GARBAGE | 0x80)
        for timeout in (0, SCRATCH + 64)
    ],
    219: [(0, 0, 0, 0, 0, 0)],
}
#: Calls that do not return. rt_sigreturn: there is no signal frame at the stack pointer, so it ends with SIGSEGV.
ENDING: dict[int, Registers] = {
    15: (0, 0, 0, 0, 0, 0),
    60: (42, ROUTE, 0, 0, 0, 0),
    231: (42, GARBAGE | ROUTE, 0, 0, 0, 0),
}
#: Threads of which the controller does not know.
CLONES: list[Registers] = [
    (0x3D0F00, SCRATCH, 0, 0, 0, ROUTE),
    (0x3D0F00, SCRATCH, FULL, FULL, FULL, GARBAGE | ROUTE),
    (0x3D0F00, SCRATCH, 0, 0, 0, 0),
    (GARBAGE | 0x3D0F00, SCRATCH, 0, 0, 0, ROUTE),
]


#: Copies that nobody has requested, and first calls of copies in processes that are no copies.
COPIES: list[Registers] = [
    (0x8000, 0, 0, 0, 0, ROUTE),
    (0x8000, SCRATCH, FULL, FULL, FULL, GARBAGE | ROUTE),
    (0x8000, 0, 0, 0, 0, 0),
    (0x8011, 0, 0, 0, 0, ROUTE),
    (0x8100, SCRATCH, 0, 0, 0, ROUTE),
    (GARBAGE | 0x8000, 0, 0, 0, 0, ROUTE),
]
BIRTHS: list[Registers] = [
    (1, 9, 0, 0, 0, ROUTE),
    (GARBAGE | 1, 9, FULL, FULL, FULL, GARBAGE | ROUTE),
]


class Boxes(Protocol):
    """The interface of Hostile in tests/hostile/conftest.py."""

    files: dict[str, Any]

    def run(self, code: str, *, files: dict[str, Any] | None = None, **options: Any) -> proxybox.Result: ...

    def symbol(self, name: str) -> int: ...


@attrs.frozen
class Sessions:
    """The same for sessions: each run is the one call of a new session."""

    boxes: Boxes

    @property
    def files(self) -> dict[str, Any]:
        return self.boxes.files

    def symbol(self, name: str) -> int:
        return self.boxes.symbol(name)

    def run(
        self, code: str, *, files: dict[str, Any] | None = None, timeout: float = 20, **options: Any
    ) -> proxybox.Result:
        with proxybox.Sandbox(**options) as box:
            session = box.session(files={**self.files, **(files or {})}, timeout=timeout)
            result = session.exec(code)
            return attrs.evolve(result, files=session.files)


def kind_of_boxes(boxes: Boxes, kind: Kind) -> Boxes:
    """Boxes of a kind: sessions where they may be copied."""
    return Sessions(boxes) if kind.forks else boxes


@attrs.define
class Count:
    """Calls of one sort, and the actions that their numbers got."""

    name: str
    calls: int = 0
    trapped: set[int] = attrs.field(factory=set)
    killed: set[int] = attrs.field(factory=set)
    allowed: set[int] = attrs.field(factory=set)
    #: Where the kernel differs from expected.py: number, registers, the action and the expected one.
    surprises: list[tuple[int, Registers, str, str]] = attrs.field(factory=list)

    def take(self, number: int, registers: Registers, became: str, wanted: str) -> None:
        self.calls += 1
        {"TRAP": self.trapped, "KILL_PROCESS": self.killed, "ALLOW": self.allowed}[became].add(number)
        if became != wanted:
            self.surprises.append((number, registers, became, wanted))

    @property
    def numbers(self) -> int:
        return len(self.trapped | self.killed | self.allowed)

    def line(self) -> str:
        """One row of the table. A number counts as allowed if one of its calls was allowed."""
        trapped = self.trapped - self.allowed
        columns = (self.numbers, self.calls, len(trapped), len(self.killed), len(self.allowed))
        return f"{self.name:52}" + "".join(f"{column:>9,}" for column in columns)


HEAD = f"{'':52}" + "".join(f"{column:>9}" for column in ("numbers", "calls", "trapped", "killed", "allowed"))


def calls_of(kind: Kind) -> dict[str, list[tuple[int, Registers]]]:
    """The calls of each sort: the number's register, with garbage in its upper half, and the others.

    Of the listed numbers these are calls that must trap, and those of HARMLESS.
    """
    sets = argument_sets(kind)
    unlisted = [number for number in TABLE if number not in EXPECTED and number not in EXEMPT]

    def with_sets(numbers: Iterable[int]) -> list[tuple[int, Registers]]:
        return list(itertools.product(numbers, sets.values()))

    edges = [
        (number, registers)
        for number in EXPECTED
        for registers in dict.fromkeys([*sets.values(), *around(number, kind)])
        if expected(kind, ARCH_X86_64, number, registers) == "TRAP"
    ]
    harmless = [(number, registers) for number, several in HARMLESS.items() for registers in several]
    above = [(GARBAGE | number, registers) for number, registers in harmless]
    return {
        "x86-64, 0 to 1023, not listed": with_sets(unlisted),
        "the same, garbage above the number": with_sets(GARBAGE | number for number in unlisted),
        "x86-64, samples from 1024 to 2^32 - 1": with_sets(BEYOND),
        "x32, 0 to 1023": with_sets(X32 | number for number in TABLE),
        "x32, garbage above the number": with_sets(GARBAGE | X32 | number for number in TABLE),
        "listed, calls on the wrong side of an edge": edges,
        "listed, harmless calls": harmless + above,
    }


def in_a_box(boxes: Boxes, kind: Kind, options: dict[str, Any], *, thread: bool = False) -> list[Count]:
    """Makes all calls of `calls_of` in one box. thread: in a thread that was made after the seal."""
    sorts = calls_of(kind)
    calls = [call for several in sorts.values() for call in several]
    text = b"".join(struct.pack("<8Q", number, *(each & FULL for each in registers), 0) for number, registers in calls)
    code = _SWEEP_OF_A_THREAD if thread else "import raw; raw.sweep({on_sigsys})"
    code = code.format(on_sigsys=boxes.symbol("on_sigsys"))
    result = kind_of_boxes(boxes, kind).run(code, files={"calls.bin": text}, **options)
    assert result.ok, f"{result.summary()}\n{result.stderr[-2000:]}"
    results = iter(struct.unpack(f"<{len(calls)}q", result.files["results.bin"]))
    counts = []
    for name, several in sorts.items():
        counts.append(count := Count(name))
        for number, registers in several:
            became = "TRAP" if next(results) == TRAPPED else "ALLOW"
            count.take(number & 0xFFFFFFFF, registers, became, expected(kind, ARCH_X86_64, number, registers))
    return counts


#: The main thread waits when the other one begins: it makes no call while the stub's handler is rewritten.
_SWEEP_OF_A_THREAD = """
import raw, sys, threading
sys.setswitchinterval(100)
waits = threading.Lock()
waits.acquire()
def sweep():
    waits.acquire()
    raw.sweep({on_sigsys})
thread = threading.Thread(target=sweep)
thread.start()
waits.release()
thread.join()
"""


def apart(boxes: Boxes, kind: Kind, options: dict[str, Any]) -> Count:
    """Makes the listed calls that end the process or need a second thread, each in a box of its own."""
    count = Count("listed, that end the process or make a task")
    boxes = kind_of_boxes(boxes, kind)
    for number, registers in ENDING.items():
        result = boxes.run(_ALONE.format(calls=[(number, *registers)], on_sigsys=boxes.symbol("on_sigsys")), **options)
        came_through = not result.stdout and result.signal != signal.SIGSYS
        count.take(number, registers, "ALLOW" if came_through else "TRAP", "ALLOW")
    for registers in BIRTHS if kind.forks else ():
        code = _ALONE.format(calls=[(157, *registers)], on_sigsys=boxes.symbol("on_sigsys"))
        result = boxes.run(code, **options, timeout=0.4)
        # A known guest is no new copy: the call waits until its time is over.
        became = "ALLOW" if (result.status, result.stdout) == ("time_limit", "") else "TRAP"
        count.take(157, registers, became, expected(kind, ARCH_X86_64, 157, registers))
    if kind.threads:
        clones = [*CLONES, *(COPIES if kind.forks else ())]
        calls = [(56, *registers) for registers in clones]
        code = _WITH_A_THREAD.format(calls=calls, on_sigsys=boxes.symbol("on_sigsys"))
        result = boxes.run(code, **options)
        assert result.ok, f"{result.summary()}\n{result.stderr[-2000:]}"
        for registers, answer in zip(clones, result.stdout.split(), strict=True):
            # The controller does not know of such a task, and refuses it.
            became = {str(TRAPPED): "TRAP", str(-errno.EAGAIN): "ALLOW"}[answer]
            count.take(56, registers, became, expected(kind, ARCH_X86_64, 56, registers))
    return count


_ALONE = "import raw; print(raw.trapped_syscalls({calls}, {on_sigsys}))"
#: While a box has one thread, nobody reads the listener: a clone without the stub would wait.
_WITH_A_THREAD = """
import raw, threading
lock = threading.Lock()
lock.acquire()
thread = threading.Thread(target=lock.acquire)
thread.start()
print(*raw.trapped_syscalls({calls}, {on_sigsys}))
lock.release()
thread.join()
"""


def exempt(boxes: Boxes, options: dict[str, Any]) -> Count:
    """Makes the calls that no filter sees: an error or SIGILL is the kernel's own result."""
    count = Count("uretprobe, uprobe: the kernel asks no filter")
    for number in EXEMPT:
        registers = (ROUTE,) * 6
        code = _ALONE.format(calls=[(number, *registers)], on_sigsys=boxes.symbol("on_sigsys"))
        result = boxes.run(code, **options)
        became = "TRAP" if result.stdout == f"[{TRAPPED}]\n" else "ALLOW"
        assert result.signal == signal.SIGILL or result.stdout.startswith("[-"), result
        count.take(number, registers, became, became)
    return count


# --- the 32-bit ABI ---------------------------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


class _Action(ctypes.Structure):
    """struct sigaction of the C library."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_ulong * 16),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


_HANDLER = bytes.fromhex("48c78290000000") + struct.pack("<i", TRAPPED) + b"\xc3"  # as in guest/raw.py
# after the call: mov edi, 0; mov esi, ROUTE; mov eax, 231 (exit_group); syscall
_LEAVE = b"\xbf\0\0\0\0\xbe" + struct.pack("<I", ROUTE) + b"\xb8\xe7\0\0\0\x0f\x05"
_UNTOUCHED = 0x5A5A5A5A5A5A5A5A


def i386_registers() -> list[Registers]:
    """ebx, ecx, edx, esi, edi, ebp: harmless values where possible; garbage in the upper halves."""
    return [(0,) * 6, (FULL,) * 6, (GARBAGE | ROUTE,) * 6, (GARBAGE | 3, SCRATCH, 0, ROUTE, GARBAGE, ROUTE)]


def by_int_80(kind: Kind, numbers: Iterable[int], machine_code: bytes, each: int = 4) -> Count:
    """Makes each call by int 0x80 in forked processes of their own, under the filters of a box.

    machine_code: raw.INT_80. each: how many of the four sets of registers are used, by turns.
    """
    count = Count("i386 by int 0x80, a process each")
    # push rbx ... ret: without the ret, so that the process leaves by exit_group.
    with mmap.mmap(-1, 4096, prot=7) as page:
        page[0 : len(_HANDLER)] = _HANDLER
        page[64 : 64 + len(machine_code) - 1] = machine_code[:-1]
        page[64 + len(machine_code) - 1 : 64 + len(machine_code) - 1 + len(_LEAVE)] = _LEAVE
        first = ctypes.c_char.from_buffer(page)
        address = ctypes.addressof(first)
        sets = i386_registers()
        for number, turn in itertools.product(numbers, range(each)):
            registers = sets[(number + turn) % len(sets)]
            struct.pack_into("<8Q", page, 2048, GARBAGE | number, *registers, _UNTOUCHED)
            status = _one_process(kind, address)
            (result,) = struct.unpack_from("<q", page, 2048 + 56)
            killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGSYS and result == _UNTOUCHED
            became = "KILL_PROCESS" if killed else "TRAP" if result == TRAPPED else "ALLOW"
            count.take(number, registers, became, "KILL_PROCESS")
        del first
    return count


def _one_process(kind: Kind, page: int) -> int:
    """Forks a process that seals itself and makes the call in the shared page. Returns its wait status."""
    libc = ctypes.CDLL(None, use_errno=True)
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(page + 64)
    listener = listener_filter()
    seal = seal_filter(**kind._asdict())
    programs = [_Program(len(text) // 8, text) for text in (listener, seal)]
    handler = _Action(handler=page, flags=4)  # SA_SIGINFO
    child = os.fork()
    if not child:
        try:
            _give_up_privileges()
            done = libc.sigaction(signal.SIGSYS, ctypes.byref(handler), None) | libc.prctl(38, 1, 0, 0, 0)
            for program in programs:
                done |= libc.syscall(317, 1, 0, ctypes.byref(program))
            if not done:
                function(page + 2048)
        finally:
            os._exit(1)
    return os.waitpid(child, 0)[1]


def _give_up_privileges() -> None:
    """Limits the process: if a filter wrongly allows a call, it does no harm here and does not hang."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir("/")
    os.closerange(0, 1 << 16)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(5)
    os.setpgid(0, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)


#: The i386 numbers of calls that would help hostile code most (asm/unistd_32.h).
DANGEROUS_I386 = {
    "exit": 1, "fork": 2, "read": 3, "write": 4, "open": 5, "execve": 11, "mount": 21, "setuid": 23, "ptrace": 26,
    "kill": 37, "getpid": 20, "brk": 45, "ioctl": 54, "mmap": 90, "socketcall": 102, "ipc": 117, "clone": 120,
    "mprotect": 125, "init_module": 128, "prctl": 172, "vfork": 190, "mmap2": 192, "futex": 240, "set_thread_area": 243,
    "exit_group": 252, "openat": 295, "unshare": 310, "perf_event_open": 336, "process_vm_writev": 348, "seccomp": 354,
    "bpf": 357, "execveat": 358, "socket": 359, "clock_gettime64": 403, "io_uring_setup": 425, "clone3": 435,
}  # fmt: skip


def by_int_80_in_boxes(boxes: Boxes, numbers: Iterable[int]) -> Count:
    """Makes calls by int 0x80 inside boxes, one for each number."""
    count = Count("i386 by int 0x80, a box each")
    code = """
import raw
print("before", flush=True)
print("after", raw.call_of_i386(({number}, {registers})), flush=True)
"""
    registers = i386_registers()[-1]
    for number in numbers:
        asked = code.format(number=GARBAGE | number, registers=", ".join(map(str, registers)))
        result = boxes.run(asked)
        killed = result.stdout == "before\n" and result.signal == signal.SIGSYS
        count.take(number, registers, "KILL_PROCESS" if killed else "ALLOW", "KILL_PROCESS")
    return count


def sum_of(name: str, counts: Iterable[Count]) -> Count:
    """The sum of several counts. A bit that no number has marks numbers of i386."""
    total = Count(name)
    for count in counts:
        total.calls += count.calls
        total.trapped |= count.trapped
        total.killed |= {number | _I386 for number in count.killed}
        total.allowed |= count.allowed
        total.surprises += count.surprises
    return total


_I386 = 1 << 32


def listed(kind: Kind) -> set[int]:
    """The numbers that the table allows, from the table itself."""
    there = {
        "": True,
        "parallel": not kind.serial,
        "real_time": kind.real_time,
        "threads": kind.threads,
        "forks": kind.forks,
        "listener": kind.asks,
        "zygote": kind.zygote,
        "bare": kind.bare,
        "clocks": kind.clocks,
    }
    return {NUMBERS[row.name] for row in RULES if there[row.only]}


def table(counts: Iterable[Count]) -> Iterator[str]:
    """The lines of the printed table."""
    yield HEAD
    for count in counts:
        yield count.line()


def machine_code() -> bytes:
    """INT_80 of guest/raw.py, read from the text: importing the module would map memory."""
    scope: dict[str, Any] = {}
    text = (Path(__file__).parents[1] / "hostile/guest/raw.py").read_text()
    start = text.index("INT_80 = ")
    exec(text[start : text.index("\n)\n", start) + 3], scope)
    code: bytes = scope["INT_80"]
    return code
