"""Calls for testing filters: every number of every ABI, and the edges of every condition."""

from collections.abc import Iterator

from tests.seal.expected import ROUTE, X32, Kind

Registers = tuple[int, int, int, int, int, int]

FULL = (1 << 64) - 1
GARBAGE = 0xDEADBEEF << 32
#: The descriptor of a file to map that the main thread gets, as the stub passes it.
LIBRARY = ROUTE << 32 | 517

#: Every number of the table of calls, and some beyond it (x86-64 ends at 547 with x32's own, i386 below 512).
TABLE = range(1024)
#: Numbers near powers of two, and near the limits of the number's halves and of its sign.
_BASES = (1 << 16, 1 << 29, 1 << 31, 3 << 30, 0xFFFF0000)
BEYOND = sorted(
    number
    for number in {(1 << bit) + near & 0xFFFFFFFF for bit in range(10, 33) for near in range(-40, 40)}
    | {base | number for base in _BASES for number in range(512)}
    | set(range(1024, 1 << 32, 0x00FEDCB1))
    if number not in TABLE and not X32 <= number < X32 + len(TABLE)
)


def same(register: int) -> Registers:
    """One value in all registers."""
    return (register,) * 6


def argument_sets(kind: Kind) -> dict[str, Registers]:
    """The registers that are tried with every number, by name."""
    last = 2 + 2 * kind.channels
    return {
        "zeros": same(0),
        "ones": same(1),
        "all bits": same(FULL),
        "ROUTE": same(ROUTE),
        "ROUTE, garbage above": same(GARBAGE | ROUTE),
        "garbage above zeros": same(GARBAGE),
        "the channel": (3, 0x7F00_0000_0000, 8, ROUTE, ROUTE, ROUTE),
        "the last descriptor, garbage above": (
            GARBAGE | last,
            0,
            GARBAGE | 8,
            GARBAGE | ROUTE,
            GARBAGE,
            GARBAGE | ROUTE,
        ),
        "a thread": (0x3D0F00, ROUTE, 4, 0, 0, ROUTE),
        "a copy": (0x8000, 0, 0, 0, 0, ROUTE),
        "a death signal": (1, 9, 0, 0, 0, ROUTE),
        "a filter": (1, 0, 0x2000_0000, 0, 0, 0),
        "memory": (0, 4096, 7, 0x22, FULL, 0),
        "a clock": (1, 0x7F00_0000_0000, ROUTE, 0, 0, 0),
        "a wait": (0x7F00_0000_0000, 0x80, 0, 0, 0, 0),
        "giving back": (0x1000_0000_0000, 4096, 8, 0x32, 0, ROUTE),
    }


def edges(value: int) -> Iterator[int]:
    """A register's values near one that a condition may require: each bit flipped, one more, one less."""
    yield from (
        value,
        value - 1 & FULL,
        value + 1 & FULL,
        value | GARBAGE,
        value | 1 << 32,
        value | 1 << 63,
        FULL,
        0,
        1,
    )
    yield from (value ^ 1 << bit for bit in range(64))


#: For each listed number, calls that are allowed in a box with all features; `around` adds their edges.
LET_THROUGH: dict[int, list[Registers]] = {
    0: [(3, 0, 0, ROUTE, 0, 0), same(0)],
    1: [(4, 0, 0, ROUTE, 0, 0), (1, 0, 0, 0, 0, 0), (2, 0, 0, 0, 0, 0)],
    9: [
        (0, 0, 0, 0x22, 0, 0),
        (0, 0, 7, 0x32, FULL, 0),
        (0, 0, 3, 0x124032, 3, 0),
        (0, 0, 0, 0x2, LIBRARY, 0),
        (0, 0, 7, 0x100012, LIBRARY, FULL),
    ],
    10: [same(0)],
    11: [same(0), (0x1000_0000_0000, 0, ROUTE, 0, 0, 0)],
    12: [same(0)],
    15: [same(0)],
    24: [same(0)],
    25: [same(0)],
    28: [(0, 0, 4, 0, 0, 0), (0, 0, 8, 0, 0, 0)],
    56: [(0x3D0F00, 0, 0, 0, 0, ROUTE), (0x8000, 0, 0, 0, 0, ROUTE)],
    60: [(0, ROUTE, 0, 0, 0, 0)],
    112: [same(0)],
    157: [(1, 9, 0, 0, 0, ROUTE)],
    160: [same(0), (9, 0, 0, 0, 0, 0)],
    202: [(0, operation, 0, 0, 0, 0) for operation in (0x80, 0x81, 0x89, 0x189)],
    203: [same(0)],
    219: [same(0)],
    228: [(0, 0, ROUTE, 0, 0, 0), (1, 0, ROUTE, 0, 0, 0)],
    231: [(0, ROUTE, 0, 0, 0, 0)],
    317: [(1, 0, 0, 0, 0, 0)],
}


def around(number: int, kind: Kind) -> Iterator[Registers]:
    """The calls of LET_THROUGH, and those with each register, and each two registers, replaced by values near their
    edges.
    """
    for base in LET_THROUGH[number]:
        own = [0x0FFF_FFFF_FFFF, 0x1001_0000_0000, 0x1FFF_FFFF_FFFF, 0x2000_0000_0000]
        own += [value for fd in (2, 3, 2 + 2 * kind.channels, 3 + 2 * kind.channels) for value in (fd, fd | GARBAGE)]
        values = [[*edges(base[at]), *(own if at == 0 else ())] for at in range(6)]
        values[4] += [LIBRARY - 1, LIBRARY + kind.channels - 1, LIBRARY + kind.channels]
        yield base
        for at in range(6):
            for value in values[at]:
                changed = (*base[:at], value, *base[at + 1 :])
                yield changed
                for second in range(at + 1, 6):
                    for other in (base[second] ^ 1, base[second] | 1 << 32, 0, ROUTE, FULL):
                        yield (*changed[:second], other, *changed[second + 1 :])
