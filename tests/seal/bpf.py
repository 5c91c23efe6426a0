"""Classic BPF as seccomp accepts it, written from the kernel's documentation and man pages alone.

It imports nothing of the code that it checks. A program is bytes, an array of struct sock_filter (linux/filter.h).
`check` refuses what the kernel would refuse, `run` returns a program's result for a call, `paths` all possible results
for any call. `disassemble` and `assemble` are inverse to each other.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

# seccomp(2): the results of filters, the strictest first.
ACTIONS = {
    0x80000000: "KILL_PROCESS",
    0x00000000: "KILL_THREAD",
    0x00030000: "TRAP",
    0x00050000: "ERRNO",
    0x7FC00000: "USER_NOTIF",
    0x7FF00000: "TRACE",
    0x7FFC0000: "LOG",
    0x7FFF0000: "ALLOW",
}
#: struct seccomp_data: int nr; __u32 arch; __u64 instruction_pointer; __u64 args[6]; in the byte order of x86-64.
FIELDS = {0: "nr", 4: "arch", 8: "ip.low", 12: "ip.high"} | {
    16 + 8 * index + 4 * half: f"args[{index}].{('low', 'high')[half]}" for index in range(6) for half in range(2)
}
_SIZE = 64
_MAX_LENGTH = 4096  # BPF_MAXINSNS
_SCRATCH = 16  # BPF_MEMWORDS
_WORD = 0xFFFFFFFF

_OPERATIONS = {0x00: "add", 0x10: "sub", 0x20: "mul", 0x30: "div", 0x40: "or", 0x50: "and", 0x60: "lsh", 0x70: "rsh"}
_OPERATIONS |= {0xA0: "xor"}  # without mod, which seccomp_check_filter refuses
_COMPARISONS = {0x10: "jeq", 0x20: "jgt", 0x30: "jge", 0x40: "jset"}
#: The instructions that seccomp_check_filter in the kernel accepts.
MNEMONICS = (
    {
        0x20: "ld", 0x80: "ld len", 0x81: "ldx len", 0x06: "ret", 0x16: "ret a", 0x84: "neg", 0x00: "ld #",
        0x01: "ldx #", 0x07: "tax", 0x87: "txa", 0x60: "ld M", 0x61: "ldx M", 0x02: "st M", 0x03: "stx M", 0x05: "ja",
    }
    | {0x04 | code | 0x08 * x: name + " x" * x for code, name in _OPERATIONS.items() for x in (0, 1)}
    | {0x05 | code | 0x08 * x: name + " x" * x for code, name in _COMPARISONS.items() for x in (0, 1)}
)  # fmt: skip
_CODES = {name: code for code, name in MNEMONICS.items()}


class Invalid(ValueError):
    """The kernel would refuse this program (EINVAL)."""


class Instruction(NamedTuple):
    """struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


class Call(NamedTuple):
    """struct seccomp_data without the instruction pointer, which no filter of proxybox reads."""

    number: int
    args: Sequence[int] = ()
    arch: int = 0xC000003E

    def words(self) -> list[int]:
        """The data of a filter: words of 32 bits in the byte order of x86-64."""
        made = [self.number & _WORD, self.arch & _WORD, 0x12345678, 0x7F00]
        for arg in self.args:
            made += (arg & _WORD, arg >> 32 & _WORD)
        return made + [0] * (16 - len(made))


def parse(program: bytes) -> list[Instruction]:
    """The instructions of a program, after `check`."""
    if len(program) % 8:
        raise Invalid("not a whole number of instructions")
    instructions = [Instruction(*fields) for fields in struct.iter_unpack("<HBBI", program)]
    check(instructions)
    return instructions


def check(program: Sequence[Instruction]) -> None:
    """The checks of bpf_check_classic and seccomp_check_filter. Raises Invalid."""
    if not 0 < len(program) <= _MAX_LENGTH:
        raise Invalid(f"{len(program)} instructions")
    for at, line in enumerate(program):
        name = MNEMONICS.get(line.code)
        if name is None:
            raise Invalid(f"{at}: instruction {line.code:#x}")
        if name == "ld" and (line.k >= _SIZE or line.k % 4):
            raise Invalid(f"{at}: ld {line.k}")
        if (name == "div" and line.k == 0) or (name in ("lsh", "rsh") and line.k >= 32):
            raise Invalid(f"{at}: {name} {line.k}")
        if name.endswith(" M") and line.k >= _SCRATCH:
            raise Invalid(f"{at}: {name} {line.k}")
        if name.startswith("j") and max(_targets(program, at)) >= len(program):
            raise Invalid(f"{at}: a jump out of the program")
    if not MNEMONICS[program[-1].code].startswith("ret"):
        raise Invalid("the end is no return")
    _check_scratch(program)


def _targets(program: Sequence[Instruction], at: int) -> list[int]:
    """The indexes of the instructions that may follow."""
    line = program[at]
    name = MNEMONICS[line.code]
    if name.startswith("ret"):
        return []
    if name == "ja":
        return [at + 1 + line.k]
    return [at + 1 + line.jt, at + 1 + line.jf] if name.startswith("j") else [at + 1]


def _check_scratch(program: Sequence[Instruction]) -> None:
    """Raises Invalid if a word of the scratch memory may be read before it is written."""
    written: list[int | None] = [None] * len(program)
    written[0] = 0
    for at, line in enumerate(program):
        here = written[at]
        if here is None:  # cannot be reached
            continue
        name = MNEMONICS[line.code]
        if name in ("ld M", "ldx M") and not here >> line.k & 1:
            raise Invalid(f"{at}: M[{line.k}] may be unwritten")
        if name in ("st M", "stx M"):
            here |= 1 << line.k
        for to in _targets(program, at):
            before = written[to]
            written[to] = here if before is None else before & here


def run(program: Sequence[Instruction], call: Call) -> int:
    """The result of a program for a call. `check` must have accepted the program."""
    data = call.words()
    a = x = at = 0
    scratch = [0] * _SCRATCH
    while True:
        code, jt, jf, k = program[at]
        at += 1
        if code == 0x20:
            a = data[k >> 2]
        elif code & 7 == 5:
            other = x if code & 8 else k
            if code == 0x05:
                at += k
            elif code & 0xF0 == 0x10:
                at += jt if a == other else jf
            elif code & 0xF0 == 0x20:
                at += jt if a > other else jf
            elif code & 0xF0 == 0x30:
                at += jt if a >= other else jf
            else:
                at += jt if a & other else jf
        elif code & 7 == 6:
            return a if code == 0x16 else k
        elif code == 0x84:
            a = -a & _WORD
        elif code & 7 == 4:
            other = x if code & 8 else k
            if code & 0xF0 == 0x30 and not other:
                return 0  # division by zero ends a program: KILL_THREAD
            a = _calculate(code & 0xF0, a, other)
        elif code in (0x80, 0x00, 0x60, 0x87):
            a = {0x80: _SIZE, 0x00: k, 0x60: scratch[k % _SCRATCH], 0x87: x}[code]
        elif code in (0x81, 0x01, 0x61, 0x07):
            x = {0x81: _SIZE, 0x01: k, 0x61: scratch[k % _SCRATCH], 0x07: a}[code]
        elif code in (0x02, 0x03):
            scratch[k] = a if code == 0x02 else x
        else:
            raise Invalid(f"{at - 1}: instruction {code:#x}")


def _calculate(operation: int, a: int, other: int) -> int:
    match _OPERATIONS[operation]:
        case "add":
            return a + other & _WORD
        case "sub":
            return a - other & _WORD
        case "mul":
            return a * other & _WORD
        case "div":
            return a // other
        case "or":
            return a | other
        case "and":
            return a & other
        case "lsh":
            return a << (other & 31) & _WORD
        case "rsh":
            return a >> (other & 31)
        case _:
            return a ^ other


def strictest(*results: int) -> int:
    """The result that counts of several filters: the smallest as a signed number, without the data bits."""
    return min(results, key=lambda result: ((result & 0xFFFF0000) ^ 0x80000000) - 0x80000000)


def action(result: int) -> str:
    """The name of a filter's result; an unknown one is KILL_PROCESS (seccomp(2))."""
    return ACTIONS.get(result & 0xFFFF0000, "KILL_PROCESS")


# --- every way through a program --------------------------------------------------------------------------------------


class Fact(NamedTuple):
    """A condition on a call that takes a way: `value` compared with k, true or false as in `holds`.

    value: a field's name with the operations on it, such as "args[3].low & 0x22".
    """

    value: str
    comparison: str
    k: int
    holds: bool


def paths(program: Sequence[Instruction]) -> Iterator[tuple[list[Fact], int]]:
    """Every way through a program of loads, constant operations and comparisons: its facts, and its result.

    Ways with contradictory facts are left out. The others cover every number, architecture and argument. Raises Invalid
    for instructions that it cannot follow.
    """
    todo: list[tuple[int, str, list[Fact]]] = [(0, "0", [])]
    while todo:
        at, value, facts = todo.pop()
        line = program[at]
        name = MNEMONICS[line.code]
        if name == "ret":
            yield facts, line.k
        elif name == "ld":
            todo.append((at + 1, FIELDS[line.k], facts))
        elif name in ("and", "sub"):
            todo.append((at + 1, f"{value} {'&-'[name == 'sub']} {line.k:#x}", facts))
        elif name in ("jeq", "jge"):
            for holds, by in ((True, line.jt), (False, line.jf)):
                fact = Fact(value, name, line.k, holds)
                if not any(_contradict(fact, other) for other in facts):
                    todo.append((at + 1 + by, value, [*facts, fact]))
        else:
            raise Invalid(f"{at}: {name} is not followed")


def _contradict(one: Fact, other: Fact) -> bool:
    if one.value != other.value or one.comparison != other.comparison:
        return False
    if one.k == other.k:
        return one.holds != other.holds
    return one.comparison == "jeq" and one.holds and other.holds


# --- text and back ----------------------------------------------------------------------------------------------------


def disassemble(program: bytes, names: Mapping[tuple[str, int], str]) -> str:
    """One line for each instruction. Jumps have the number of lines to skip, first when true, then when false.

    names: the meaning of a number that is compared with a field, such as {("nr", 0): "read"}, for a comment.
    """
    lines = []
    instructions = parse(program)
    for line, field in zip(instructions, _loaded(instructions), strict=True):
        name = MNEMONICS[line.code]
        operand, comment = f"{line.k:#x}", ""
        if name == "ld":
            operand = FIELDS[line.k]
        elif name == "ja":
            operand = f"+{line.k}"
        elif name.startswith("j"):
            operand += f", +{line.jt}, +{line.jf}"
            comment = names.get((field, line.k), "")
        elif name == "ret":
            operand = ACTIONS.get(line.k, operand)
        elif not line.k and (name in ("ld len", "ldx len", "ret a", "neg", "tax", "txa") or name.endswith(" x")):
            operand = ""
        lines.append(f"{name:8}{operand:28}{comment and '; ' + comment}".rstrip())
    return "\n".join(lines) + "\n"


def _loaded(program: Sequence[Instruction]) -> list[str]:
    """The field that was last loaded before each instruction; empty where that depends on the way."""
    loaded: list[str | None] = [""] + [None] * (len(program) - 1)
    for at, line in enumerate(program):
        here = FIELDS[line.k] if MNEMONICS[line.code] == "ld" else loaded[at] or ""
        for to in _targets(program, at):
            loaded[to] = here if loaded[to] in (None, here) else ""
    return [field or "" for field in loaded]


def assemble(text: str) -> bytes:
    """The program of a text by `disassemble`. Comments and empty lines are ignored."""
    offsets = {name: offset for offset, name in FIELDS.items()}
    returns = {name: value for value, name in ACTIONS.items()}
    made = bytearray()
    for line in filter(None, (line.partition(";")[0].rstrip() for line in text.splitlines())):
        name, operand = line[:8].strip(), line[8:].strip()
        jt = jf = k = 0
        if name == "ja":
            k = int(operand)
        elif name.startswith("j"):
            first, to, otherwise = operand.split(", ")
            k, jt, jf = int(first, 16), int(to), int(otherwise)
        elif operand:
            k = offsets[operand] if name == "ld" else returns[operand] if operand in returns else int(operand, 16)
        made += struct.pack("<HBBI", _CODES[name], jt, jf, k)
    return bytes(made)
