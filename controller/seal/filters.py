"""The seal: the one filter that stands between hostile machine code and the kernel, as data.

Promise: once the kernel has taken `seal_filter`, no code in the guest, whatever it does to the stub, reaches the
kernel except by `RULES`. Every other call number, x32's among them, traps to the guest's SIGSYS handler (which may be
hostile by then and gains nothing by it); another ABI, as by `int 0x80`, ends the process. Rows may only touch the
guest's own memory, its own scheduling and its own pipe ends.

The guest's stub is handed the compiled program and installs it (stub.c); the controller sees from outside that a filter
is in force before it answers anything. seccomp(2) says what a filter sees: `struct seccomp_data`, each argument in two
halves of 32 bits.
"""

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

import attrs

from proxybox.controller.header import FIRST_CHANNEL_FD, FORK_FLAGS, ROUTE, SHARED_BASE, THREAD_FLAGS

# --- what is particular to x86-64 -------------------------------------------------------------------------------------

AUDIT_ARCH = 0xC000003E  # linux/audit.h
NUMBERS = {
    "read": 0, "write": 1, "mmap": 9, "mprotect": 10, "munmap": 11, "brk": 12, "rt_sigreturn": 15, "sched_yield": 24,
    "mremap": 25, "madvise": 28, "clone": 56, "exit": 60, "setpgid": 109, "prctl": 157, "setrlimit": 160, "futex": 202,
    "sched_setaffinity": 203, "restart_syscall": 219, "exit_group": 231, "seccomp": 317,
}  # fmt: skip
#: Where the low half of an argument stands in its eight bytes, and the high one.
_LOW, _HIGH = 0, 4

# --- the table --------------------------------------------------------------------------------------------------------

#: Shared mappings of virtual files lie where the high half of an address is this, masked.
SHARED_HIGH, _SHARED_MASK = SHARED_BASE >> 32, 0xFFFFF000

_PRIVATE, _FIXED, _ANONYMOUS, _NORESERVE, _STACK, _FIXED_NOREPLACE = 0x02, 0x10, 0x20, 0x4000, 0x20000, 0x100000
_DONTNEED, _FREE = 4, 8
_WAIT, _WAKE, _WAIT_BITSET, _FUTEX_PRIVATE, _CLOCK_REALTIME = 0, 1, 9, 0x80, 0x100
_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
_RLIMIT_CPU, _RLIMIT_AS, _SECCOMP_SET_MODE_FILTER = 0, 9, 1
_FULL = 0xFFFFFFFF


@attrs.frozen
class Condition:
    """Of one half of argument `arg`: half & mask == value; with `differs`, not so; with `count`, a range from value."""

    arg: int
    value: int = attrs.field(kw_only=True)
    high: bool = attrs.field(default=False, kw_only=True)
    mask: int = attrs.field(default=_FULL, kw_only=True)
    differs: bool = attrs.field(default=False, kw_only=True)
    count: int = attrs.field(default=1, kw_only=True)

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for what no call could meet, or every one does."""
        is_half = 0 <= self.value <= _FULL and 0 < self.mask <= _FULL
        is_alone = self.count == 1 or not (self.differs or self.mask != _FULL)
        if not (0 <= self.arg <= 5 and is_half and self.value & ~self.mask == 0 and self.count >= 0 and is_alone):
            raise ValueError(f"a condition that makes no sense: {self}")


@attrs.frozen
class Rule:
    """The call `name` is let through when all conditions hold. only: in boxes with "threads", with "real_time", that
    make "forks" (zygotes, and sessions that may be copied), or in a "zygote", which nothing untrusted has run in.
    "bare": in a guest that marshals its own calls (translated/), has descriptors 0 to 2, and none of the stub but its
    seal. asks: the controller each time, through the listener (listener.py)."""

    name: str
    where: Sequence[Condition] = ()
    only: str = ""
    asks: bool = False

    def __attrs_post_init__(self) -> None:
        """Raises ValueError for a call that is not known here, and for boxes that there are not."""
        if self.name not in NUMBERS or self.only not in ("", "threads", "real_time", "forks", "zygote", "bare"):
            raise ValueError(f"a rule that makes no sense: {self}")


def low(arg: int, value: int, mask: int = _FULL) -> Condition:
    """The low half of an argument, masked, is `value`."""
    return Condition(arg, value=value, mask=mask)


def high(arg: int, value: int) -> Condition:
    """The high half of an argument is `value`."""
    return Condition(arg, value=value, high=True)


#: Stands for the box's own pipe ends: two descriptors for each channel.
_CHANNELS = Condition(0, value=FIRST_CHANNEL_FD, count=0)
_MAP_MUST = _PRIVATE | _ANONYMOUS
_MAP_MAY = _MAP_MUST | _FIXED | _FIXED_NOREPLACE | _NORESERVE | _STACK
_NO_TIMEOUT = (low(3, 0), high(3, 0))

RULES = (
    # The box's own pipe ends; ROUTE tells them from the guest's descriptors of the same numbers, which trap.
    # What a guest that marshals its own calls speaks on: 0 and 1 are the same pipes once more, 2 is for its last words.
    Rule("read", (_CHANNELS, low(3, ROUTE))),
    Rule("read", (low(0, 0),), only="bare"),
    Rule("write", (_CHANNELS, low(3, ROUTE))),
    Rule("write", (low(0, 1),), only="bare"),
    Rule("write", (low(0, 2),), only="bare"),
    # Private anonymous memory; the JIT needs PROT_EXEC.
    Rule("mmap", (low(3, 0, mask=_FULL & ~_MAP_MAY), low(3, _MAP_MUST, mask=_MAP_MUST), high(3, 0))),
    Rule("mprotect"),
    # Where shared mappings of virtual files live, munmap writes back first.
    Rule("munmap", (Condition(0, value=SHARED_HIGH, mask=_SHARED_MASK, high=True, differs=True),)),
    Rule("munmap", (low(2, ROUTE),)),
    Rule("brk"),
    # The stub does this one for other guests. There is nothing to move but private anonymous memory.
    Rule("mremap", only="bare"),
    Rule("madvise", (low(2, _DONTNEED),)),
    Rule("madvise", (low(2, _FREE),)),
    # Private futexes. A timed wait is a clock: native only where the guest may know the time.
    Rule("futex", (low(1, _WAKE | _FUTEX_PRIVATE),)),
    Rule("futex", (low(1, _WAIT | _FUTEX_PRIVATE), *_NO_TIMEOUT)),
    Rule("futex", (low(1, _WAIT_BITSET | _FUTEX_PRIVATE, mask=_FULL & ~_CLOCK_REALTIME), *_NO_TIMEOUT)),
    Rule("futex", (low(1, _WAIT | _FUTEX_PRIVATE),), only="real_time"),
    Rule("futex", (low(1, _WAIT_BITSET | _FUTEX_PRIVATE, mask=_FULL & ~_CLOCK_REALTIME),), only="real_time"),
    # How the kernel goes on with a timed wait when another thread has taken the signal that woke this one; it only
    # repeats a call that has passed here already.
    Rule("restart_syscall", only="real_time"),
    # Threads: told to the controller, then counted by it through the listener (listener.py).
    Rule("clone", (low(0, THREAD_FLAGS), high(0, 0), low(5, ROUTE)), only="threads", asks=True),
    # Copies of the process: told, and counted in the same way. A copy is adopted at its first call, by which the kernel
    # ends it when the controller ends; a copy that does not make it is ended (birth.py).
    Rule("clone", (low(0, FORK_FLAGS), high(0, 0), low(5, ROUTE)), only="forks", asks=True),
    Rule("prctl", (low(0, _PR_SET_PDEATHSIG), low(1, _SIGKILL), high(1, 0), low(5, ROUTE)), only="forks", asks=True),
    # What a zygote's child still gives up before it takes its own, final filter. All of it is about itself.
    Rule("setpgid", (low(0, 0), low(1, 0)), only="zygote"),
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

#: seccomp(2): what a filter returns. linux/filter.h: struct sock_filter and the instructions that we use.
ALLOW, TRAP, KILL_PROCESS, USER_NOTIF = 0x7FFF0000, 0x00030000, 0x80000000, 0x7FC00000
INSTRUCTION = struct.Struct("=HBBI")
LOAD, AND, SUBTRACT, IF_EQUAL, IF_AT_LEAST, RETURN = 0x20, 0x54, 0x14, 0x15, 0x35, 0x06
NR_AT, ARCH_AT, ARGS_AT = 0, 4, 16  # struct seccomp_data

_Line = tuple[int, int, int, int]


@functools.lru_cache(maxsize=32)
def seal_filter(
    channels: int, *, real_time: bool, threads: bool, forks: bool = False, zygote: bool = False, bare: bool = False
) -> bytes:
    """The program for a guest with so many channels: an array of struct sock_filter (8 bytes each)."""
    there = {
        "": True,
        "real_time": real_time,
        "threads": threads,
        "forks": forks or zygote,
        "zygote": zygote,
        "bare": bare,
    }
    rows = [_with_channels(row, channels) for row in RULES if there[row.only]]
    return _program(rows, hit=ALLOW, otherwise=TRAP, foreign=KILL_PROCESS)


@functools.cache
def listener_filter() -> bytes:
    """The program of the listener: each call of the rows that ask stops at the controller (seccomp_unotify(2)), where
    the seal would let it through. It says nothing about other calls: of two filters, the stricter answer counts."""
    rows = [row for row in RULES if row.asks]
    return _program(rows, hit=USER_NOTIF, otherwise=ALLOW, foreign=ALLOW)


def _with_channels(row: Rule, channels: int) -> Rule:
    where = [attrs.evolve(each, count=2 * channels) if each is _CHANNELS else each for each in row.where]
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
    """The instructions of one row; a condition that fails goes on behind the row."""
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
