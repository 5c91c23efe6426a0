"""The calls that each filter allows, simulated instruction by instruction, are those of expected.py, which is written
by hand.

`test_no_other_way_in` is the proof for all 2^32 numbers, all architectures and all arguments: it checks every way
through a program. The other tests compare results for each number and each edge.
"""

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import sweeps
from tests.seal import dumps
from tests.seal.bpf import Call, Fact, Instruction, action, parse, paths, run, strictest
from tests.seal.cases import (
    BEYOND,
    FULL,
    GARBAGE,
    LET_THROUGH,
    LIBRARY,
    TABLE,
    Registers,
    argument_sets,
    around,
    edges,
    same,
)
from tests.seal.expected import (
    ARCH_I386,
    ARCH_X86_64,
    EXPECTED,
    KINDS,
    OTHER_ARCHES,
    ROUTE,
    X32,
    Kind,
    expected,
    listed,
)

SEALS = {kind: parse(dumps.compiled(kind)) for kind in KINDS}
LISTENER = parse(dumps.compiled(None))
EVERYTHING = Kind(17, real_time=True, threads=True, forks=True, zygote=True)
#: The kind with the row for guests that marshal their own calls.
BARE = Kind(1, real_time=True, threads=False, bare=True)
#: The kind with the row for recorded boxes.
CLOCKS = Kind(17, real_time=False, threads=True, serial=True, clocks=True)

each_kind = pytest.mark.parametrize("kind", KINDS, ids=str)
some_kinds = pytest.mark.sized(8)


def answer(program: list[Instruction], number: int, registers: Registers, arch: int = ARCH_X86_64) -> str:
    return action(run(program, Call(number, registers, arch)))


def answers(kind: Kind, arch: int, numbers: Iterable[int]) -> dict[str, set[int]]:
    """The numbers that got each action, with any of the argument sets."""
    found: dict[str, set[int]] = {}
    sets = list(argument_sets(kind).values())
    for number in numbers:
        for registers in sets:
            found.setdefault(answer(SEALS[kind], number, registers, arch), set()).add(number)
    return found


# --- every number -----------------------------------------------------------------------------------------------------


@some_kinds
@each_kind
def test_every_number_of_x86_64(kind: Kind) -> None:
    """With all argument sets together exactly the listed numbers are allowed."""
    allowed = set()
    for number in TABLE:
        for name, registers in argument_sets(kind).items():
            became = answer(SEALS[kind], number, registers)
            assert became == expected(kind, ARCH_X86_64, number, registers), (number, name)
            if became == "ALLOW":
                allowed.add(number)
    assert allowed == listed(kind)


@some_kinds
@each_kind
def test_every_number_of_x32(kind: Kind) -> None:
    """x32 is the architecture x86-64 with bit 30 in the number; its own calls begin at 512."""
    assert answers(kind, ARCH_X86_64, (X32 | number for number in TABLE)) == {
        "TRAP": {X32 | number for number in TABLE}
    }


@some_kinds
@each_kind
def test_every_number_of_i386(kind: Kind) -> None:
    assert answers(kind, ARCH_I386, TABLE) == {"KILL_PROCESS": set(TABLE)}


@some_kinds
@each_kind
def test_numbers_beyond_the_table(kind: Kind) -> None:
    assert answers(kind, ARCH_X86_64, BEYOND) == {"TRAP": set(BEYOND)}
    assert answers(kind, ARCH_I386, BEYOND[::20]) == {"KILL_PROCESS": set(BEYOND[::20])}


@pytest.mark.parametrize("arch", [*OTHER_ARCHES, *(ARCH_X86_64 ^ 1 << bit for bit in range(32))], ids=hex)
def test_other_architectures(arch: int) -> None:
    numbers = [*EXPECTED, 2, 39, 59, *(X32 | number for number in EXPECTED)]
    for kind in KINDS:
        assert answers(kind, arch, numbers) == {"KILL_PROCESS": set(numbers)}


def facts_of(program: list[Instruction], wanted: str) -> list[list[Fact]]:
    return [facts for facts, result in paths(program) if action(result) == wanted]


@each_kind
def test_no_other_way_in(kind: Kind) -> None:
    """Each way to ALLOW requires this architecture and one listed number.

    The one way to KILL_PROCESS is that of other architectures. All others end in TRAP.
    """
    program, allowed = SEALS[kind], set()
    results = {action(result) for _, result in paths(program)}
    assert results == {"ALLOW", "TRAP", "KILL_PROCESS"}
    for facts in facts_of(program, "ALLOW"):
        assert Fact("arch", "jeq", ARCH_X86_64, holds=True) in facts
        allowed |= {(fact.comparison, fact.k) for fact in facts if fact.value == "nr" and fact.holds}
        assert sum(fact.value == "nr" and fact.holds for fact in facts) == 1
    assert allowed == {("jeq", number) for number in listed(kind)}
    assert facts_of(program, "KILL_PROCESS") == [[Fact("arch", "jeq", ARCH_X86_64, holds=False)]]


# --- every condition --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", EXPECTED, ids=lambda number: EXPECTED[number][0])
def test_what_is_let_through_where_there_is_all(number: int) -> None:
    """LET_THROUGH has the same calls as expected.py."""
    assert set(LET_THROUGH) == set(EXPECTED)
    for registers in LET_THROUGH[number]:
        assert "ALLOW" in (answer(SEALS[kind], number, registers) for kind in (EVERYTHING, BARE, CLOCKS)), registers


@pytest.mark.cover(1)
@pytest.mark.parametrize("number", EXPECTED, ids=lambda number: EXPECTED[number][0])
@pytest.mark.parametrize("kind", sweeps.spread(KINDS, 4), ids=str)
def test_the_edges_of_every_condition(kind: Kind, number: int) -> None:
    for registers in around(number, kind):
        assert answer(SEALS[kind], number, registers) == expected(kind, ARCH_X86_64, number, registers), registers


#: A requirement of a condition -> registers that break this one alone. Each of them must trap. There are one channel
#: and no real time, so that all conditions exist, and threads, copies and a zygote's rows.
BROKEN: dict[str, list[tuple[int, Registers]]] = {
    "read, write: a descriptor of the channel": [
        (number, (fd, 0, 0, ROUTE, 0, 0))
        for number in (0, 1)
        for fd in (0, 1, 2, 5, 6, 255, 1 << 31, 0xFFFFFFFF, GARBAGE)
    ],
    "read, write: ROUTE": [
        (number, (fd, 0, 0, route, 0, 0))
        for number in (0, 1)
        for fd in (3, 4)
        for route in (0, ROUTE ^ 1, ROUTE << 32, ROUTE ^ 1 << 31, FULL)
    ],
    "mmap: private": [(9, (0, 4096, 7, flags, FULL, 0)) for flags in (0x20, 0x21, 0x30)],
    "mmap: anonymous": [(9, (0, 4096, 7, flags, 3, 0)) for flags in (0x2, 0x12, 0x4002)],
    "mmap: a file at one of these descriptors": [
        (9, (0, 4096, 7, 0x2, ROUTE << 32 | fd, 0)) for fd in (0, 3, 4, 5, 516, 518, 773, 774, 1 << 31, 0xFFFFFFFF)
    ],
    "mmap: a file with ROUTE": [
        (9, (0, 4096, 7, 0x2, route << 32 | 517, 0)) for route in (0, ROUTE ^ 1, ROUTE ^ 1 << 31, 0xFFFFFFFF)
    ],
    "mmap: a file in private": [(9, (0, 4096, 7, flags, LIBRARY, 0)) for flags in (0, 1, 3, 0x10, 0x11, 0x100001)],
    "mmap: a file with no other flag": [
        (9, (0, 4096, 7, 0x2 | 1 << bit, LIBRARY, 0)) for bit in range(64) if not 0x100032 >> bit & 1
    ],
    "mmap: no other flag": [
        (9, (0, 4096, 7, 0x22 | 1 << bit, FULL, 0)) for bit in range(64) if not 0x124032 >> bit & 1
    ],
    "madvise: giving back": [
        (28, (0, 4096, advice, 0, 0, 0)) for advice in [*range(200), 1 << 31, FULL, GARBAGE] if advice not in (4, 8)
    ],
    "munmap: not of shared mappings": [
        (11, (address, 4096, route, 0, 0, 0))
        for address in (0x1000_0000_0000, 0x1000_0000_1000, 0x1000_FFFF_FFFF, 0x1001_0000_0000, 0x1FFF_FFFF_FFFF)
        for route in (0, ROUTE ^ 1, ROUTE << 32)
    ],
    "futex: these operations": [
        (202, (0, operation, 0, 0, 0, 0)) for operation in [*range(1024), 0x80 | 1 << 31, 0x89 | 1 << 9, 0x181, FULL]
        if operation not in (0x80, 0x81, 0x89, 0x189)
    ],
    "futex: no timeout": [
        (202, (0, operation, 0, timeout, 0, 0))
        for operation in (0x80, 0x89, 0x189, GARBAGE | 0x80)
        for timeout in (1, 1 << 31, 1 << 32, 1 << 63, 0x7FFF_0000_0000, GARBAGE, FULL)
    ],
    "clone: these flags": [
        (56, (flags ^ 1 << bit, 0, 0, 0, 0, ROUTE)) for flags in (0x3D0F00, 0x8000) for bit in range(64)
    ],
    "clone: ROUTE": [
        (56, (flags, 0, 0, 0, 0, route)) for flags in (0x3D0F00, 0x8000) for route in (0, ROUTE ^ 1, ROUTE << 32)
    ],
    "prctl: the death signal alone": [
        (157, (option, 9, 0, 0, 0, ROUTE)) for option in [*range(100), 0x59616D61, 0x53564D41, 1 << 31, FULL]
        if option != 1
    ],
    "prctl: SIGKILL": [
        (157, (1, signal, 0, 0, 0, ROUTE)) for signal in [*range(66), GARBAGE | 9, 1 << 32 | 9, 1 << 63 | 9, FULL]
        if signal != 9
    ],
    "prctl: ROUTE": [(157, (1, 9, ROUTE, ROUTE, ROUTE, route)) for route in (0, ROUTE ^ 1, ROUTE << 32)],
    "setrlimit: CPU time and address space": [
        (160, (resource, 0, 0, 0, 0, 0)) for resource in [*range(20), 1 << 31, FULL] if resource not in (0, 9)
    ],
    "sched_setaffinity: of itself": [(203, (pid, 8, 0, 0, 0, 0)) for pid in (1, 2, 1 << 31, FULL)],
    "seccomp: a filter": [(317, (operation, 0, 0, 0, 0, 0)) for operation in (0, 2, 3, 4, 1 << 31 | 1, FULL)],
    "seccomp: no flag": [(317, (1, 1 << bit, 0, 0, 0, 0)) for bit in range(32)],
    "exit, exit_group: ROUTE": [
        (number, (0, route, ROUTE, ROUTE, ROUTE, ROUTE))
        for number in (60, 231)
        for route in (0, ROUTE ^ 1, ROUTE << 32)
    ],
    "restart_syscall: real time": [(219, same(0)), (219, same(ROUTE))],
}  # fmt: skip


@pytest.mark.parametrize("condition", BROKEN)
def test_each_condition_broken_alone(condition: str) -> None:
    program = parse(dumps.compiled(Kind(1, real_time=False, threads=True, forks=True, zygote=True)))
    for number, registers in BROKEN[condition]:
        assert answer(program, number, registers) == "TRAP", (number, registers)


def test_no_clone_without_threads() -> None:
    assert answer(SEALS[Kind(1, real_time=True, threads=False)], 56, (0x3D0F00, 0, 0, 0, 0, ROUTE)) == "TRAP"


def test_no_file_where_the_kernel_cannot_ask() -> None:
    for kind in KINDS:
        wanted = "ALLOW" if kind.asks else "TRAP"
        assert answer(SEALS[kind], 9, (0, 4096, 5, 0x2, LIBRARY, 0)) == wanted


def test_no_copy_without_copies() -> None:
    for kind in KINDS:
        for number, registers in ((56, (0x8000, 0, 0, 0, 0, ROUTE)), (157, (1, 9, 0, 0, 0, ROUTE))):
            assert answer(SEALS[kind], number, registers) == ("ALLOW" if kind.forks else "TRAP")


def test_what_a_session_has_more_than_other_boxes() -> None:
    """A session has further rows only for copies, and none of a zygote's rows."""
    assert listed(Kind(1, True, True, forks=True)) - listed(Kind(1, True, True)) == {157}
    assert listed(EVERYTHING) - listed(EVERYTHING._replace(zygote=False)) == {112, 160, 203, 317}
    assert listed(BARE) - listed(BARE._replace(bare=False)) == {25}
    assert listed(CLOCKS) - listed(CLOCKS._replace(clocks=False)) == {228}


@some_kinds
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not (kind.zygote or kind.bare or kind.clocks)], ids=str)
def test_a_zygote_takes_nothing_from_its_boxes(kind: Kind) -> None:
    """A copy of a zygote has both filters: it is as sealed as a box that was started as a new process."""
    zygote = parse(dumps.compiled(Kind(257, kind.real_time, kind.threads, forks=True, zygote=True)))
    for number in (*EXPECTED, 2, 39, 59, X32 | 1):
        for registers in [*argument_sets(kind).values(), *(around(number, kind) if number in LET_THROUGH else ())][::7]:
            call = Call(number, registers, ARCH_X86_64)
            became = action(strictest(run(zygote, call), run(SEALS[kind], call)))
            assert became == expected(kind, ARCH_X86_64, number, registers), (number, registers)


#: Registers that look as little as possible like random values.
register = st.one_of(
    st.integers(0, FULL),
    st.sampled_from([0, 1, 2, 3, 4, 8, 36, 37, 0x22, 0x80, 0x81, 0x89, 0x189, 0x3D0F00, ROUTE, FULL, 0x1000_0000_0000]),
).flatmap(lambda value: st.sampled_from(sorted(set(edges(value)))))
registers = st.tuples(*[register] * 6)


@settings(max_examples=sweeps.tries(330, 1000), derandomize=True, deadline=None)
@given(st.sampled_from(KINDS), st.one_of(st.sampled_from(list(EXPECTED)), st.integers(0, FULL)), registers)
def test_any_call(kind: Kind, number: int, chosen: Registers) -> None:
    assert answer(SEALS[kind], number, chosen) == expected(kind, ARCH_X86_64, number, chosen)


@settings(max_examples=sweeps.tries(330, 1000), derandomize=True, deadline=None)
@given(st.sampled_from(KINDS), st.sampled_from(sorted(LET_THROUGH)), st.data())
def test_any_call_near_one_that_is_let_through(kind: Kind, number: int, data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(LET_THROUGH[number]))
    a, b, c, d, e, f = (data.draw(st.sampled_from([value, *edges(value)])) for value in base)
    chosen = a, b, c, d, e, f
    assert answer(SEALS[kind], number, chosen) == expected(kind, ARCH_X86_64, number, chosen)


def test_a_descriptor_is_half_a_register() -> None:
    """read(2) and write(2) take an unsigned int: the kernel ignores the register's upper half, and so may the
    filter.
    """
    for fd, wanted in ((3, "ALLOW"), (36, "ALLOW"), (2, "TRAP"), (37, "TRAP")):
        for above in (0, 1 << 32, 1 << 63, GARBAGE):
            assert answer(SEALS[EVERYTHING], 0, (fd | above, 0, 0, ROUTE, 0, 0)) == wanted


# --- the listener -----------------------------------------------------------------------------------------------------


def both(kind: Kind, number: int, registers: Registers, arch: int = ARCH_X86_64) -> str:
    """The action of the listener's filter and the seal together, as in every box with threads, and in boxes that may be
    copied.
    """
    call = Call(number, registers, arch)
    return action(strictest(run(LISTENER, call), run(SEALS[kind], call)))


WITH_A_LISTENER = [kind for kind in KINDS if kind.asks]


@some_kinds
@pytest.mark.parametrize("kind", WITH_A_LISTENER, ids=str)
def test_mappings_of_files_ask_the_controller(kind: Kind) -> None:
    """The controller is notified of each mapping of a file that the seal allows, but not of plain memory."""
    for chosen in around(9, kind):
        allowed = expected(kind, ARCH_X86_64, 9, chosen) == "ALLOW"
        wanted = "TRAP" if not allowed else "ALLOW" if chosen[3] & 0x20 else "USER_NOTIF"
        assert both(kind, 9, chosen) == wanted, chosen


@some_kinds
@pytest.mark.parametrize("number", [56, 157])
@pytest.mark.parametrize("kind", WITH_A_LISTENER, ids=str)
def test_clones_and_the_first_calls_of_copies_ask_the_controller(kind: Kind, number: int) -> None:
    """The controller is notified of exactly those that the seal allows."""
    for chosen in around(number, kind):
        allowed = expected(kind, ARCH_X86_64, number, chosen) == "ALLOW"
        assert both(kind, number, chosen) == ("USER_NOTIF" if allowed else "TRAP"), chosen


@some_kinds
@pytest.mark.parametrize("kind", WITH_A_LISTENER, ids=str)
def test_the_listener_weakens_nothing_else(kind: Kind) -> None:
    for number in [
        *(number for number in TABLE if number not in (56, 157)),
        *(X32 | number for number in TABLE),
        *BEYOND[::10],
    ]:
        for chosen in argument_sets(kind).values():
            assert both(kind, number, chosen) == expected(kind, ARCH_X86_64, number, chosen), (number, chosen)
    for number in TABLE:
        assert both(kind, number, (0x3D0F00, 0, 0, 0, 0, ROUTE), ARCH_I386) == "KILL_PROCESS"


def test_the_listener_asks_of_these_alone() -> None:
    asked = {frozenset(fact for fact in facts if fact.holds) for facts in facts_of(LISTENER, "USER_NOTIF")}
    its_own = [Fact("arch", "jeq", ARCH_X86_64, holds=True)]

    def equal(*conditions: tuple[str, int], among: tuple[Fact, ...] = ()) -> frozenset[Fact]:
        return frozenset({*its_own, *among, *(Fact(value, "jeq", wanted, holds=True) for value, wanted in conditions)})

    seen = ("args[5].low", ROUTE)
    flags = Fact("args[3].low & 0xffefffef", "jeq", 2, holds=True)
    assert asked == {
        equal(("nr", 9), ("args[3].high", 0), ("args[4].high", ROUTE), among=(flags,)),
        equal(("nr", 56), ("args[0].low", 0x3D0F00), ("args[0].high", 0), seen),
        equal(("nr", 56), ("args[0].low", 0x8000), ("args[0].high", 0), seen),
        equal(("nr", 157), ("args[0].low", 1), ("args[1].low", 9), ("args[1].high", 0), seen),
    }
    assert {action(result) for _, result in paths(LISTENER)} == {"USER_NOTIF", "ALLOW"}
