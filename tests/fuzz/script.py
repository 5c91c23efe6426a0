"""How a target's bytes are read: as a script of small choices, so that every byte string is a script.

atheris, hypothesis and the kept corpus share this reading; its meaning must not change, or the corpus is lost.
Scripts contain the numbers of calls, so that a new call does not change the scripts of others.
"""

import struct

from proxybox.controller.dispatch import TABLE, Row
from proxybox.controller.header import MAX_PAYLOAD, Fetch
from proxybox.controller.roles import Memory

MASK = (1 << 64) - 1
EDGES = (
    0, 1, 8, 16, 64, 255, 4095, 4096, 1 << 16, 1 << 20, (1 << 20) + 1, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 32) - 1,
    1 << 40, 1 << 47, 1 << 62, (1 << 63) - 1, 1 << 63, MASK, MASK - 1, MASK - 99, 0o100, 0o1000, 0o2000, 0o200000,
    0o20200000, 0o10000000, 100, 101, 1_000_000_000, 999_999_999, 0x3FFFFFFF, 0x3FFFFFFE, 0x3D0F00, 0x7FFF00000000,
)  # fmt: skip
NAMES = (
    b"a", b"b", b"c", b"", b".", b"..", b"tmp", b"rw", b"over", b"ro", b"box", b"proc", b"self", b"fd", b"dev", b"file",
    b"folder", b"link", b"out", b"loop", b"fifo", b".dot", b"mem", b"task", b"100", b"0", b"1", b"3", b"etc", b"made",
    b"n" * 255, b"n" * 256, b"\xff\xfe", b"stdin", b"null", b"main.py", b"cwd", b"exe", b"small", b"shm",
)  # fmt: skip
MARKERS = (0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD, 0xFFFFFFFC, 0x80000000, 0x00100001)


class Script:
    """Reads choices from bytes; after the end every byte is 0. results: the last results of calls."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self.results: list[int] = [0]

    @property
    def ended(self) -> bool:
        return self._at >= len(self._data)

    def byte(self) -> int:
        self._at += 1
        return self._data[self._at - 1] if self._at <= len(self._data) else 0

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width).ljust(width, b"\0"), "little")

    def take(self, count: int) -> bytes:
        self._at += count
        return self._data[self._at - count : self._at]

    def rest(self) -> bytes:
        return self.take(len(self._data))

    # --- what calls are made of ---

    def call(self) -> Row:
        """Returns a call that has a handler."""
        number = self.number(2)
        return TABLE.get(number) or TABLE[sorted(TABLE)[number % len(TABLE)]]

    def register(self) -> int:
        """Returns any 64 bits; small and special values have short scripts."""
        tag = self.byte()
        if tag < 64:
            return tag
        if tag < 128:
            return EDGES[(tag - 64) % len(EDGES)]
        if tag < 160:
            return self.results[-1 - (tag - 128) % len(self.results)] & MASK
        if tag < 192:
            return MASK - (tag - 160)
        if tag < 224:
            return 1 << (tag - 192) | self.byte()
        return self.number(2) if tag < 240 else self.number(8)

    def words(self, size: int) -> bytes:
        """Returns structures or arrays: registers side by side."""
        words = [struct.pack("<Q", self.register()) for _ in range(min(-(-size // 8), 16))]
        return b"".join(words)[:size].ljust(size, b"\0")

    def filled(self, size: int) -> bytes:
        """Returns `size` bytes from a short pattern."""
        pattern = self.take(self.byte() % 32) or b"\0"
        return (pattern * (size // len(pattern) + 1))[:size]

    def path(self) -> bytes:
        tag = self.byte()
        if tag < 240:
            names = [NAMES[self.byte() % len(NAMES)] for _ in range(1 + tag % 6)]
            return (b"/" if tag & 8 else b"") + b"/".join(names) + (b"/" if tag & 16 else b"")
        if tag < 250:
            return self.take(self.byte())
        return b"x/" * self.number(2)

    def memory(self, role: Memory, count: int) -> bytes | int:
        """Returns the memory that the stub would have fetched for an argument, or a marker. count: of its elements."""
        choice = self.byte()
        if choice >= 240:
            return MARKERS[choice % len(MARKERS)]
        if role.fetch is Fetch.STRING:
            return self.path()
        if role.fetch is Fetch.GATHER:
            return self.filled(min(self.register(), MAX_PAYLOAD))
        if role.fetch is Fetch.BITS:
            size = (min(count, 1024) + 63) // 64 * 8
        elif role.length:
            size = min(count * role.size, MAX_PAYLOAD)
        else:
            size = role.size
        return self.words(size) if choice & 1 else self.filled(size)

    def arguments(self, row: Row) -> tuple[tuple[int, ...], tuple[bytes | int, ...]]:
        """Returns registers and memory of the shape that the stub gives a call."""
        registers = tuple(self.register() for _ in row.parameters)
        names = [name for name, _ in row.parameters]
        pieces = []
        for _, role in row.parameters:
            if isinstance(role, Memory):
                pieces.append(self.memory(role, _counted(registers, names, row, role)))
        return registers, tuple(pieces)

    def anything(self) -> tuple[tuple[int, ...], tuple[bytes | int, ...]]:
        """Returns registers and memory that need not have the shape of any call."""
        shape = self.byte()
        registers = tuple(self.register() for _ in range(shape % 7))
        pieces = tuple(
            MARKERS[self.byte() % len(MARKERS)] if shape >> 6 & 1 else self.filled(min(self.register(), MAX_PAYLOAD))
            for _ in range(shape >> 3 & 3)
        )
        return registers, pieces


def _counted(registers: tuple[int, ...], names: list[str], row: Row, role: Memory) -> int:
    """Returns the element count of an argument, as its decoder reads it from the register."""
    if not role.length:
        return 0
    at = names.index(role.length)
    counter = row.parameters[at][1]
    value = registers[at]
    if isinstance(counter, Memory):
        return 0
    (read,) = struct.unpack(f"<{counter.code}", struct.pack("<Q", value))
    return max(0, int(read))
