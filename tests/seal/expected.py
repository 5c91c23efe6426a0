"""The calls that the seal must allow, written by hand from the design's table and the man pages, not from the filter.

Each predicate gets the box's kind and six whole registers. A comment says how the kernel uses the registers, so that a
reader can check that a condition covers everything that matters.
"""

from collections.abc import Callable
from typing import NamedTuple

ROUTE = 0x70626F78
ARCH_X86_64, ARCH_I386 = 0xC000003E, 0x40000003
X32 = 0x40000000
#: Other AUDIT_ARCH_* of linux/audit.h: aarch64, arm, riscv64, ppc64le, s390x, mips64, sparc64, and nonsense.
OTHER_ARCHES = (0xC00000B7, 0x40000028, 0xC00000F3, 0xC0000015, 0x80000016, 0x80000008, 0x8000002B, 0, 0xFFFFFFFF, 0x3E)


class Kind(NamedTuple):
    """The properties of a box on which its filter depends, with the names of `seal_filter`.

    forks: it may be copied. zygote: it serves only to be copied. bare: it marshals its calls itself, on descriptors 0
    and 1. listener: the kernel can notify the controller of its calls, though it has no threads (a copy of a zygote).
    serial: one of its threads runs at a time (records, replays). clocks: it reads the host's clocks by calls, which are
    recorded.
    """

    channels: int
    real_time: bool
    threads: bool
    forks: bool = False
    zygote: bool = False
    bare: bool = False
    listener: bool = False
    serial: bool = False
    clocks: bool = False

    @property
    def asks(self) -> bool:
        """Whether the kernel can notify the controller of its calls."""
        return self.listener or self.threads or self.forks

    def __str__(self) -> str:
        time = "real time" if self.real_time else "other time"
        threads = "threads" if self.threads else "one thread"
        copies = (
            ", a zygote"
            if self.zygote
            else ", copies"
            if self.forks
            else ", bare"
            if self.bare
            else ", listener"
            if self.listener
            else ""
        )
        serial = ", one at a time" * self.serial + ", recorded clocks" * self.clocks
        return f"{self.channels} channel{'s' * (self.channels > 1)}, {time}, {threads}{copies}{serial}"


_TIMES_AND_THREADS = [(real_time, threads) for real_time in (False, True) for threads in (False, True)]
KINDS = [
    *(Kind(channels, *both) for channels in (1, 17) for both in _TIMES_AND_THREADS),
    *(Kind(1, *both, forks=True) for both in _TIMES_AND_THREADS),
    *(Kind(17, *both, forks=True, zygote=True) for both in _TIMES_AND_THREADS),
    *(Kind(1, real_time, False, bare=True) for real_time in (False, True)),
    *(Kind(1, real_time, False, listener=True) for real_time in (False, True)),
    *(Kind(17, False, True, forks=forks, serial=True) for forks in (False, True)),
    Kind(17, False, True, serial=True, clocks=True),
]

Predicate = Callable[[Kind, int, int, int, int, int, int], bool]


def low(register: int) -> int:
    """The part of a register that the kernel uses for an int or an unsigned int."""
    return register & 0xFFFFFFFF


def _own_pipes(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # read(unsigned int fd, char *buf, size_t count): the kernel ignores the upper half of fd.
    return 3 <= low(a) < 3 + 2 * kind.channels and low(d) == ROUTE


def _read(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    return _own_pipes(kind, a, b, c, d, e, f) or (kind.bare and low(a) == 0)


def _write(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    return _own_pipes(kind, a, b, c, d, e, f) or (kind.bare and low(a) in (1, 2))


def _mremap(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # mremap(addr, old_len, new_len, flags, new_addr): of the guest's own memory, all of which is private.
    return kind.bare


def _mmap(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # mmap(addr, len, prot, unsigned long flags, fd, off): all 64 bits of flags count. fd is ignored without a file.
    private, fixed, anonymous, noreserve, stack, fixed_noreplace = 0x2, 0x10, 0x20, 0x4000, 0x20000, 0x100000
    may = private | fixed | anonymous | noreserve | stack | fixed_noreplace
    memory = d | may == may and bool(d & private) and bool(d & anonymous)
    # With a file the kernel ignores the upper half of fd. Where it can notify the controller of the call, a file may
    # have a descriptor above the ends of 257 channels: one for each channel of this box.
    file = 517 <= low(e) < 517 + kind.channels and e >> 32 == ROUTE
    return memory or (kind.asks and file and d in (private | more for more in _places()))


def _places() -> tuple[int, ...]:
    fixed, fixed_noreplace = 0x10, 0x100000
    return 0, fixed, fixed_noreplace, fixed | fixed_noreplace


def _munmap(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # munmap(unsigned long addr, size_t len). Only the guest's own memory, whatever it passes.
    return not 0x1000_0000_0000 <= a < 0x2000_0000_0000 or low(c) == ROUTE


def _madvise(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # madvise(unsigned long start, size_t len, int advice): MADV_DONTNEED; MADV_FREE where no stub changes it.
    return low(c) == 4 or (kind.bare and low(c) == 8)


def _futex(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # futex(u32 *uaddr, int op, u32 val, timespec *timeout, u32 *uaddr2, u32 val3): only a pointer whose 64 bits are all
    # 0 means no timeout. FUTEX_WAKE ignores it.
    private, clock_realtime = 128, 256
    if kind.serial:  # each wait and each wake goes to the controller
        return False
    if low(b) == 1 | private:  # FUTEX_WAKE
        return True
    waits = (0 | private, 9 | private, 9 | private | clock_realtime)  # FUTEX_WAIT, FUTEX_WAIT_BITSET
    # Until a time of CLOCK_MONOTONIC, which is different in the box. FUTEX_WAIT_BITSET ignores uaddr2.
    is_monotonic = low(b) == 9 | private
    return low(b) in waits and (d == 0 or (kind.real_time and (low(e) == ROUTE or not is_monotonic)))


def _clone(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # clone(unsigned long flags, newsp, parent_tid, child_tid, tls): five registers, the sixth is free for ROUTE.
    vm, fs, files, sighand, thread, sysvsem = 0x100, 0x200, 0x400, 0x800, 0x10000, 0x40000
    settls, parent_settid, child_cleartid = 0x80000, 0x100000, 0x200000
    pthread = vm | fs | files | sighand | thread | sysvsem | settls | parent_settid | child_cleartid
    # The signal at the end is in the lowest eight bits; with CLONE_PARENT it is the parent's own.
    parent = 0x8000
    return low(f) == ROUTE and ((kind.threads and a == pthread) or (kind.forks and a == parent))


def _prctl(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # prctl(int option, unsigned long, unsigned long, unsigned long, unsigned long): five registers.
    # PR_SET_PDEATHSIG uses the whole second one: SIGKILL.
    return kind.forks and low(a) == 1 and b == 9 and low(f) == ROUTE


def _setsid(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # setsid(void): this process, into a session of its own.
    return kind.zygote


def _setrlimit(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # setrlimit(unsigned int resource, const struct rlimit *): RLIMIT_CPU, RLIMIT_AS, of this process.
    return kind.zygote and low(a) in (0, 9)


def _sched_setaffinity(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # sched_setaffinity(pid_t pid, unsigned int len, unsigned long *mask): this thread.
    return kind.zygote and low(a) == 0


def _seccomp(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # seccomp(unsigned int operation, unsigned int flags, void *args): SECCOMP_SET_MODE_FILTER without a flag, so
    # without a listener. A further filter can only refuse more.
    return kind.zygote and low(a) == 1 and low(b) == 0


def _exit(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # exit(int status), exit_group(int status).
    return low(b) == ROUTE


def _always(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    return True


def _real_time(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    # restart_syscall(void) repeats a wait with a timeout.
    return kind.real_time


def _clock_gettime(kind: Kind, a: int, b: int, c: int, d: int, e: int, f: int) -> bool:
    return kind.clocks and low(a) in (0, 1) and low(c) == ROUTE  # CLOCK_REALTIME, CLOCK_MONOTONIC


#: number -> name, and when the call is allowed. All other calls are refused.
EXPECTED: dict[int, tuple[str, Predicate]] = {
    0: ("read", _read),
    1: ("write", _write),
    9: ("mmap", _mmap),
    10: ("mprotect", _always),
    11: ("munmap", _munmap),
    12: ("brk", _always),
    15: ("rt_sigreturn", _always),
    24: ("sched_yield", _always),
    25: ("mremap", _mremap),
    28: ("madvise", _madvise),
    56: ("clone", _clone),
    60: ("exit", _exit),
    112: ("setsid", _setsid),
    157: ("prctl", _prctl),
    160: ("setrlimit", _setrlimit),
    202: ("futex", _futex),
    203: ("sched_setaffinity", _sched_setaffinity),
    219: ("restart_syscall", _real_time),
    228: ("clock_gettime", _clock_gettime),
    231: ("exit_group", _exit),
    317: ("seccomp", _seccomp),
}
#: Calls that only some boxes have.
ONLY: dict[int, Callable[[Kind], bool]] = {
    25: lambda kind: kind.bare,
    56: lambda kind: kind.threads or kind.forks,
    202: lambda kind: not kind.serial,
    157: lambda kind: kind.forks,
    219: lambda kind: kind.real_time,
    228: lambda kind: kind.clocks,
    **dict.fromkeys((112, 160, 203, 317), lambda kind: kind.zygote),
}


def listed(kind: Kind) -> set[int]:
    """The numbers of which a box of this kind allows any call."""
    return {number for number in EXPECTED if number not in ONLY or ONLY[number](kind)}


def expected(kind: Kind, arch: int, number: int, args: tuple[int, int, int, int, int, int]) -> str:
    """The action that a call in a box must get: ALLOW, TRAP or KILL_PROCESS."""
    if arch != ARCH_X86_64:
        return "KILL_PROCESS"
    _, predicate = EXPECTED.get(number & 0xFFFFFFFF, ("", None))
    return "ALLOW" if predicate and predicate(kind, *args) else "TRAP"
