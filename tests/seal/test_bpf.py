"""The BPF checker itself: it accepts, refuses and computes what the kernel of this machine does.

A filter belongs to one thread, so each program is loaded in a thread that ends with it.
"""

import ctypes
import random
import struct
import threading
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.seal.bpf import (
    ACTIONS,
    FIELDS,
    MNEMONICS,
    Call,
    Fact,
    Instruction,
    Invalid,
    action,
    assemble,
    disassemble,
    parse,
    paths,
    run,
    strictest,
)

ALLOW = 0x7FFF0000
LD, RET, JEQ, JA, STORE, FETCH = 0x20, 0x06, 0x15, 0x05, 0x02, 0x60


def program(*lines: tuple[int, ...]) -> bytes:
    """Lines are (code, k) or (code, jt, jf, k)."""
    return b"".join(struct.pack("<HBBI", code, *((0, 0, *k) if len(k) == 1 else k)) for code, *k in lines)


END = RET, ALLOW
REFUSED = {
    "nothing": b"",
    "no return": program((LD, 0)),
    "a return, but not at the end": program(END, (LD, 0)),
    "a load past the call": program((LD, 64), END),
    "a load that is not aligned": program((LD, 2), END),
    "a load of a byte": program((0x30, 0), END),
    "a load of half a word": program((0x28, 0), END),
    "an indirect load": program((0x40, 0), END),
    "a load of a header's length": program((0xB1, 0), END),
    "mod": program((0x94, 3), END),
    "a code that is none": program((0xFFFF, 0), END),
    "division by zero": program((0x34, 0), END),
    "a shift by 32": program((0x64, 32), END),
    "scratch word 16": program((STORE, 16), END),
    "scratch that is unwritten on one way": program((LD, 0), (JEQ, 1, 0, 0), (STORE, 3), (FETCH, 3), END),
    "a jump when true, over the end": program((LD, 0), (JEQ, 1, 0, 0), END),
    "a jump when false, over the end": program((LD, 0), (JEQ, 0, 1, 0), END),
    "a jump far over the end": program((JA, 0xFFFFFFFF), END),
    "4097 instructions": program(*[(LD, 0)] * 4096, END),
}
TAKEN = {
    "one return": program(END),
    "a jump to the end": program((JA, 1), (LD, 0), END),
    "scratch that is written on both ways": program((LD, 0), (JEQ, 1, 0, 0), (JA, 0), (STORE, 3), (FETCH, 3), END),
    "4096 instructions": program(*[(LD, 0)] * 4095, END),
}


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


_libc = ctypes.CDLL(None, use_errno=True)


def under(text: bytes, ask: Callable[[], int]) -> int | None:
    """Loads a filter in a thread, and returns the result of `ask` there; None when the kernel refuses the filter."""
    answers = []

    def thread() -> None:
        filled = _Program(len(text) // 8, text)
        assert _libc.prctl(38, 1, 0, 0, 0) == 0  # PR_SET_NO_NEW_PRIVS
        taken = _libc.syscall(317, 1, 0, ctypes.byref(filled)) == 0  # seccomp, SECCOMP_SET_MODE_FILTER
        answers.append(ask() if taken else None)

    one = threading.Thread(target=thread)
    one.start()
    one.join()
    return answers[0]


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        parse(text)
    assert under(text, lambda: 1) is None


@pytest.mark.parametrize("text", TAKEN.values(), ids=TAKEN.keys())
def test_what_is_taken(text: bytes) -> None:
    assert run(parse(text), Call(0)) == ALLOW
    assert under(text, lambda: 1) == 1


def test_half_an_instruction() -> None:
    with pytest.raises(Invalid):
        parse(program(END)[:-1])


UNUSED = 1000  # a call that does not exist: its result is the filter's


def arbitrary(chance: random.Random) -> bytes:
    """A valid program of random instructions. For UNUSED it returns an errno of 12 bits that it has computed."""
    body: list[tuple[int, ...]] = [(STORE, word) for word in range(16)]
    codes = [code for code, name in MNEMONICS.items() if not name.startswith("ret")]
    length = chance.randrange(5, 60)
    for left in range(length, 0, -1):
        code = chance.choice(codes)
        name = MNEMONICS[code]
        k = chance.choice((0, 1, 2, 0xFF, 0x80000000, 0xFFFFFFFF, chance.getrandbits(32)))
        if name == "ld":
            k = 16 + 4 * chance.randrange(12)
        elif name.endswith(" M"):
            k %= 16
        elif name in ("lsh", "rsh"):
            k %= 32
        elif name == "div":
            k = k or 7
        if name == "ja":
            body.append((code, chance.randrange(left)))
        elif name.startswith("j"):
            body.append((code, chance.randrange(left), chance.randrange(left), k))
        elif name == "div x":  # X may be zero, which would end the thread
            body.append((0x87, 0))
        else:
            body.append((code, k))
    return program((LD, 0), (JEQ, 1, 0, UNUSED), END, *body, (0x54, 0xFFF), (0x44, 0x50000), (0x16, 0))


@pytest.mark.parametrize("seed", range(300))
def test_what_instructions_compute(seed: int) -> None:
    chance = random.Random(seed)
    text = arbitrary(chance)
    registers = [chance.choice((0, 1, 0xFFFFFFFF, 1 << 63, chance.getrandbits(64))) for _ in range(6)]

    def ask() -> int:
        ctypes.set_errno(0)
        _libc.syscall(UNUSED, *map(ctypes.c_uint64, registers))
        return 0x50000 | ctypes.get_errno()

    answer = under(text, ask)
    mine = run(parse(text), Call(UNUSED, registers))
    assert answer == (mine if mine & 0xFFF < 4095 else 0x50000 | 4095)


def test_division_by_zero_at_run_time() -> None:
    """bpf_convert_filter: a program that divides by X = 0 returns 0."""
    assert action(run(parse(program((0x01, 0), (0x3C, 0), END)), Call(0))) == "KILL_THREAD"


def test_the_strictest_counts() -> None:
    """seccomp(2): the order of actions when several filters are in force."""
    order = list(ACTIONS)
    for index, stricter in enumerate(order):
        for milder in order[index:]:
            assert strictest(milder, stricter) == strictest(stricter, milder) == stricter
    assert [ACTIONS[each] for each in order] == [
        "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "USER_NOTIF", "TRACE", "LOG", "ALLOW",
    ]  # fmt: skip
    assert action(0x12340000) == "KILL_PROCESS"
    assert action(0x00050016) == "ERRNO"


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 10**6))
def test_text_and_back(seed: int) -> None:
    text = arbitrary(random.Random(seed))
    assert assemble(disassemble(text, {})) == text


def test_a_comment_is_of_the_field_that_is_compared_on_every_way() -> None:
    """Line 4 is reached with nr and with arch in A, line 2 with nr alone."""
    text = program((LD, 0), (JEQ, 0, 1, 7), (JEQ, 1, 1, 9), (LD, 4), (JEQ, 0, 0, 9), END)
    lines = disassemble(text, {("nr", 7): "seven", ("nr", 9): "nine", ("arch", 9): "an arch"}).splitlines()
    assert [line.partition("; ")[2] for line in lines] == ["", "seven", "nine", "", "", ""]


@settings(derandomize=True, deadline=None)
@given(st.integers(0, 0xFFFFFFFF), st.lists(st.integers(0, (1 << 64) - 1), min_size=6, max_size=6))
def test_one_way_is_taken(number: int, registers: list[int]) -> None:
    """Exactly one way through a program has facts that are true of a call, and its result is the program's."""
    text = parse(
        program(
            (LD, 0), (JEQ, 0, 4, 5), (LD, 16), (0x14, 3), (0x35, 1, 0, 8), END, (LD, 20), (0x54, 0xFF), (JEQ, 1, 0, 0)
        )
        + program((RET, 0), (RET, 0x30000))
    )
    for candidate in (number, number % 8, 5):
        call = Call(candidate, registers)
        taken = [result for facts, result in paths(text) if all(holds(fact, call) for fact in facts)]
        assert taken == [run(text, call)]


def holds(fact: Fact, call: Call) -> bool:
    offset = {name: offset for offset, name in FIELDS.items()}
    words = call.words()
    name, *operation = fact.value.split(" ")
    value = words[offset[name] // 4]
    if operation:
        k = int(operation[1], 16)
        value = value & k if operation[0] == "&" else (value - k) & 0xFFFFFFFF
    return (value == fact.k if fact.comparison == "jeq" else value >= fact.k) == fact.holds


def test_an_instruction_is_eight_bytes() -> None:
    assert parse(program((LD, 0), END)) == [Instruction(LD, 0, 0, 0), Instruction(RET, 0, 0, ALLOW)]
