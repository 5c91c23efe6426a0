"""The seal: the one seccomp filter between hostile machine code and the kernel, as data.

Promise: once the kernel has installed `seal_filter`, no code in the guest, whatever it does to the stub, reaches the
kernel except through `RULES`. Every other call number, also those of x32, traps to the guest's SIGSYS handler (which
may be hostile by then, but gains nothing by the trap). A call by another ABI, such as `int 0x80`, ends the process.
Calls that a row allows may only touch the guest's own memory, its own scheduling and its own pipe ends. Of the host's
files, a guest can map only one that the controller has installed for that very call, open for reading.

The stub receives the compiled program and installs it (stub.c). The controller checks from outside that a filter is in
force before it answers any OS call. seccomp(2) describes what a filter sees: `struct seccomp_data`, with each argument
in two halves of 32 bits.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import attrs

from proxybox.controller.header import (
    FIRST_CHANNEL_FD,
    FIRST_LIBRARY_FD,
    FORK_FLAGS,
    MAX_CHANNELS,
    ROUTE,
    SHARED_BASE,
    THREAD_FLAGS,
)

# --- what is particular to x86-64 -------------------------------------------------------------------------------------

AUDIT_ARCH = 0xC000003E  # linux/audit.h
NUMBERS = {
    "read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigreturn": 15, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "clone": 56, "exit": 60, "setsid": 112, "prctl": 157, "setrlimit": 160, "futex": 202,
    "sched_setaffinity": 203, "restart_syscall": 219, "clock_gettime": 228, "exit_group": 231, "seccomp": 317,
}  # fmt: skip
#: The offsets of the low and the high half of an argument in its eight bytes.
_LOW, _HIGH = 0, 4

# --- the table --------------------------------------------------------------------------------------------------------

#: Shared mappings of virtual files are at the addresses whose high half, masked, is this.
SHARED_HIGH, _SHARED_MASK = SHARED_BASE >> 32, 0xFFFFF000

_PRIVATE, _FIXED, _ANONYMOUS, _NORESERVE, _STACK, _FIXED_NOREPLACE = 0x02, 0x10, 0x20, 0x4000, 0x20000, 0x100000
_DONTNEED, _FREE = 4, 8
_WAIT, _WAKE, _WAIT_BITSET, _FUTEX_PRIVATE, _CLOCK_REALTIME = 0, 1, 9, 0x80, 0x100
_CLOCK_MONOTONIC = 1
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_RLIMIT_CPU, _RLIMIT_AS, _SECCOMP_SET_MODE_FILTER = 0, 9, 1
_FULL = 0xFFFFFFFF
_KINDS = ("", "parallel", "threads", "real_time", "forks", "listener", "zygote", "bare", "clocks")


@attrs.frozen(eq=False)
class Condition:
    """A condition on one half of argument `arg`: half & mask == value.

    differs: the condition is half & mask != value instead. count: the half is one of `count` numbers from `value` on.
    """

    arg: int
    value: int = attrs.field(kw_only=True)
    high: bool = attrs.field(default=False, kw_only=True)
    mask: int = attrs.field(default=_FULL, kw_only=True)
    differs: bool = attrs.field(default=False, kw_only=True)
    count: int = attrs.field(default=1, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for a condition that no call could meet, or that every call meets."""
        is_half = 0 <= self.value <= _FULL and 0 < self.mask <= _FULL
        is_alone = self.count == 1 or not (self.differs or self.mask != _FULL)
        if not (0 <= self.arg <= 5 and is_half and self.value & ~self.mask == 0 and self.count >= 0 and is_alone):
            raise ValueError(f"a condition that makes no sense: {self}")


@attrs.frozen(eq=False)
class Rule:
    """A row of the table: the call `name` is allowed when all conditions `where` hold.

    only: the kind of guest that has the row; "" for all. "parallel": one whose threads run in parallel. "threads": one
    that may have several threads. "real_time": one that may know the host's time. "forks": one that may be copied (a
    zygote, some sessions). "listener": one with a listener, which the kernel can notify of calls. "zygote": a zygote,
    in which nothing untrusted has run. "bare": one that marshals its own calls (translated/), has descriptors 0 to 2,
    and uses the stub for the seal only. "clocks": one whose readings of the host's clocks are recorded. asks: whether
    the kernel notifies the controller of each call, through the listener (listener.py).
    """

    name: str
    where: Sequence[Condition] = ()
    only: str = ""
    asks: bool = False

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for an unknown call, and for an unknown kind of guest."""
        if self.name not in NUMBERS or self.only not in _KINDS:
            raise ValueError(f"a rule that makes no sense: {self}")


def low(arg: int, value: int, mask: int = _FULL) -> Condition:
    """Returns the condition that the low half of an argument, masked, is `value`."""
    return Condition(arg, value=value, mask=mask)


def high(arg: int, value: int) -> Condition:
    """Returns the condition that the high half of an argument is `value`."""
    return Condition(arg, value=value, high=True)


#: A placeholder for the box's own pipe ends, two descriptors for each channel. `_with_channels` puts their number in.
_CHANNELS = Condition(0, value=FIRST_CHANNEL_FD, count=0)
#: A placeholder for the descriptors of files that a guest maps, one for each channel.
_LIBRARIES = Condition(4, value=FIRST_LIBRARY_FD, count=0)
_MAP_MUST = _PRIVATE | _ANONYMOUS
_MAP_MAY = _MAP_MUST | _FIXED | _FIXED_NOREPLACE | _NORESERVE | _STACK
_NO_TIMEOUT = (low(3, 0), high(3, 0))

RULES = (
    # The box's own pipe ends. The stub passes ROUTE; calls on the guest's virtual descriptors of the same numbers come
    # without it, and trap. A guest that marshals its own calls uses 0 and 1, which are duplicates of these, and 2 for
    # its last words.
    Rule("read", (_CHANNELS, low(3, ROUTE))),
    Rule("read", (low(0, 0),), only="bare"),
    Rule("write", (_CHANNELS, low(3, ROUTE))),
    Rule("write", (low(0, 1),), only="bare"),
    Rule("write", (low(0, 2),), only="bare"),
    # Private anonymous memory; the JIT needs PROT_EXEC.
    Rule("mmap", (low(3, 0, mask=_FULL & ~_MAP_MAY), low(3, _MAP_MUST, mask=_MAP_MUST), high(3, 0))),
    # A private mapping of a file that never changes and that the box may read. The kernel notifies the controller of
    # each such call. The controller installs the file that it has just approved; the descriptor has no other use.
    Rule(
        "mmap",
        (low(3, _PRIVATE, mask=_FULL & ~(_FIXED | _FIXED_NOREPLACE)), high(3, 0), _LIBRARIES, high(4, ROUTE)),
        only="listener", asks=True,
    ),
    Rule("mprotect"),
    # Not for shared mappings of virtual files: the stub has to write them back before munmap.
    Rule("munmap", (Condition(0, value=SHARED_HIGH, mask=_SHARED_MASK, high=True, differs=True),)),
    Rule("munmap", (low(2, ROUTE),)),
    Rule("brk"),
    # For other guests the stub emulates mremap. Only private memory exists that it could move.
    Rule("mremap", only="bare"),
    Rule("madvise", (low(2, _DONTNEED),)),
    # Pages that are freed by FREE count as used until the kernel takes them. For other guests the stub makes it
    # DONTNEED.
    Rule("madvise", (low(2, _FREE),), only="bare"),
    # Private futexes. A timed wait is a clock, so it is native only where the guest may know the time. Where one thread
    # runs at a time, the controller has to know which.
    Rule("futex", (low(1, _WAKE | _FUTEX_PRIVATE),), only="parallel"),
    Rule("futex", (low(1, _WAIT | _FUTEX_PRIVATE), *_NO_TIMEOUT), only="parallel"),
    Rule(
        "futex",
        (low(1, _WAIT_BITSET | _FUTEX_PRIVATE, mask=_FULL & ~_CLOCK_REALTIME), *_NO_TIMEOUT),
        only="parallel",
    ),
    Rule("futex", (low(1, _WAIT | _FUTEX_PRIVATE),), only="real_time"),
    Rule("futex", (low(1, _WAIT_BITSET | _FUTEX_PRIVATE | _CLOCK_REALTIME),), only="real_time"),
    # Until a time of the host's CLOCK_MONOTONIC. A program passes the box's time; the stub subtracts the difference.
    Rule("futex", (low(1, _WAIT_BITSET | _FUTEX_PRIVATE), low(4, ROUTE)), only="real_time"),
    # By this call the kernel continues a timed wait when another thread has taken the signal that woke this one. It
    # only repeats a call that has passed the filter already.
    Rule("restart_syscall", only="real_time"),
    # The host's CLOCK_REALTIME and CLOCK_MONOTONIC, which the stub notes for the record. Such a guest has no other
    # clock.
    Rule("clock_gettime", (low(0, 0, mask=_FULL & ~_CLOCK_MONOTONIC), low(2, ROUTE)), only="clocks"),
    # Threads: the controller first grants one, and then counts the clone through the listener (listener.py).
    Rule("clone", (low(0, THREAD_FLAGS), high(0, 0), low(5, ROUTE)), only="threads", asks=True),
    # Copies of the process are granted and counted in the same way. A copy is adopted at its first call, the prctl,
    # which makes the kernel end it when the controller ends. A copy that does not make this call is ended (birth.py).
    Rule("clone", (low(0, FORK_FLAGS), high(0, 0), low(5, ROUTE)), only="forks", asks=True),
    Rule("prctl", (low(0, _PR_SET_PDEATHSIG), low(1, _SIGKILL), high(1, 0), low(5, ROUTE)), only="forks", asks=True),
    # A zygote's child sets limits before it installs its final filter. All of these calls affect only itself.
    Rule("setsid", (), only="zygote"),
    Rule("setrlimit", (low(0, _RLIMIT_CPU),), only="zygote"),
    Rule("setrlimit", (low(0, _RLIMIT_AS),), only="zygote"),
    Rule("sched_setaffinity", (low(0, 0),), only="zygote"),
    Rule("seccomp", (low(0, _SECCOMP_SET_MODE_FILTER), low(1, 0)), only="zygote"),
    Rule("exit", (low(1, ROUTE),)),
    Rule("exit_group", (low(1, ROUTE),)),
    Rule("rt_sigreturn"),
    Rule("sched_yield"),
)  # fmt: skip


# --- from the table to the kernel's instructions ----------------------------------------------------------------------

#: The results of a filter (seccomp(2)); then, from linux/filter.h, struct sock_filter and the instructions used here.
ALLOW, TRAP, KILL_PROCESS, USER_NOTIF = 0x7FFF0000, 0x00030000, 0x80000000, 0x7FC00000
INSTRUCTION = struct.Struct("=HBBI")
LOAD, AND, SUBTRACT, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x54, 0x14, 0x15, 0x35, 0x06
NR_AT, ARCH_AT, ARGS_AT = 0, 4, 16  # struct seccomp_data

_Line = tuple[int, int, int, int]


@functools.lru_cache(maxsize=32)
def seal_filter(
    channels: int,
    *,
    real_time: bool,
    threads: bool = False,
    forks: bool = False,
    listener: bool = False,
    zygote: bool = False,
    bare: bool = False,
    serial: bool = False,
    clocks: bool = False,
) -> bytes:
    """Returns the filter of a guest with `channels` channels, as an array of struct sock_filter (8 bytes each).

    The guest has a listener where it has threads or may be copied, and may have one in other cases. serial: one of its
    threads runs at a time. clocks: its readings of the host's clocks are recorded.
    """
    there = {
        "": True,
        "parallel": not serial,
        "real_time": real_time,
        "threads": threads,
        "forks": forks or zygote,
        "listener": listener or threads or forks or zygote,
        "zygote": zygote,
        "bare": bare,
        "clocks": clocks,
    }
    rows = [_with_channels(row, channels) for row in RULES if there[row.only]]
    return _program(rows, hit=ALLOW, otherwise=TRAP, foreign=KILL_PROCESS)


@functools.cache
def listener_filter() -> bytes:
    """Returns the listener's filter: the kernel notifies the controller of each call that a row with `asks` allows.

    This is done by seccomp_unotify(2). The filter allows all other calls, which leaves them to the seal: of two
    filters, the stricter answer counts.
    """
    rows = [_with_channels(row, MAX_CHANNELS) for row in RULES if row.asks]
    return _program(rows, hit=USER_NOTIF, otherwise=ALLOW, foreign=ALLOW)


def _with_channels(row: Rule, channels: int) -> Rule:
    counts = {id(_CHANNELS): 2 * channels, id(_LIBRARIES): channels}
    where = [attrs.evolve(each, count=counts[id(each)]) if id(each) in counts else each for each in row.where]
    return attrs.evolve(row, where=where)


def _program(rows: Iterable[Rule], *, hit: int, otherwise: int, foreign: int) -> bytes:
    lines: list[_Line] = [(LOAD, 0, 0, ARCH_AT), (IF_EQUAL, 1, 0, AUDIT_ARCH), (RETURN, 0, 0, foreign)]
    lines.append((LOAD, 0, 0, NR_AT))
    for name, group in groupby(rows, key=lambda row: row.name):
        same = list(group)
        block = [line for row in same for line in _row(row, hit)]
        if same[-1].where:
            block.append((RETURN, 0, 0, otherwise))
        lines += [(IF_EQUAL, 0, len(block), NUMBERS[name]), *block]
    lines.append((RETURN, 0, 0, otherwise))
    return b"".join(INSTRUCTION.pack(*line) for line in lines)


def _row(row: Rule, hit: int) -> Iterator[_Line]:
    """Returns the instructions of one row. Where a condition fails, they jump to the end of the row."""
    pieces = [_condition(each) for each in row.where]
    rest = sum(len(piece) for piece in pieces) + 1
    for piece, each in zip(pieces, row.where, strict=True):
        rest -= len(piece)
        code, _, _, value = piece.pop()
        leave_if = (rest, 0) if each.differs or code == IF_AT_LEAST else (0, rest)
        yield from piece
        yield code, *leave_if, value
    yield RETURN, 0, 0, hit


def _condition(each: Condition) -> list[_Line]:
    lines = [(LOAD, 0, 0, ARGS_AT + 8 * each.arg + (_HIGH if each.high else _LOW))]
    if each.count != 1:
        return [*lines, (SUBTRACT, 0, 0, each.value), (IF_AT_LEAST, 0, 0, each.count)]
    if each.mask != _FULL:
        lines.append((AND, 0, 0, each.mask))
    return [*lines, (IF_EQUAL, 0, 0, each.value)]
