"""The stub under AddressSanitizer and UndefinedBehaviorSanitizer (stub/harness.c): how it is built, and its seeds.

The seeds are answers of a real controller: calls of a recorded program, each with the row of the stub's table, the
guest's memory that the call read, and the answer's bytes.

    python tests/fuzz/stub_harness.py FOLDER     writes the seeds
"""

import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import proxybox
import proxybox.controller.oscalls
from proxybox.controller.dispatch import TABLE, Row
from proxybox.controller.header import CALL_LOOK, CALL_MAP, CALL_OPEN, CALL_STAT, LIBRARY, TOO_LONG, WRITE_BACK
from proxybox.controller.record import events
from proxybox.controller.roles import Memory, stub_row
from proxybox.guest import build

SOURCES = Path(__file__).parent / "stub"
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-fno-strict-aliasing", "-I", str(build.SOURCES))

ARENA, ARENA_READABLE = 0x700000000000, 24 * 4096
LEARN, CALL, POKE, TOLD, HIDE = range(5)
NUMBER, GUESTS, END, MAPPED, ANY = range(5)
#: A longer call is left out: its additional bytes are of the same kind.
LONGEST = 3000

PROGRAM = """
import ctypes, errno, json, mmap, os, select, signal, socket, struct, threading, time
path, libc = os.__file__, ctypes.CDLL(None, use_errno=True)
for _ in range(2):
    fd = os.open(path, os.O_RDONLY); os.fstat(fd); os.read(fd, 10); os.lseek(fd, 5, 1); os.close(fd); os.stat(path)
with open("/box/own", "wb+") as file:
    file.write(b"x" * 5000); file.flush()
    with mmap.mmap(file.fileno(), 5000) as shared:
        shared[:5] = b"12345"; shared.flush(); os.pread(file.fileno(), 5, 0); os.pwrite(file.fileno(), b"ab", 3)
        shared.resize(9000)
    place = ctypes.create_string_buffer(b"onetwo"); at = ctypes.addressof(place)
    pieces = (ctypes.c_size_t * 4)(at, 3, at + 3, 3)
    libc.writev(file.fileno(), pieces, 2); libc.preadv(file.fileno(), pieces, 2, 0)
    file.truncate(100)
os.mkdir("/box/folder"); os.rename("/box/own", "/box/folder/own"); os.listdir("/box/folder"); os.symlink("own", "/box/link")
os.readlink("/box/link"); os.utime("/box/folder", ns=(1, 2)); os.access("/none", 0); os.urandom(70)
one, other = socket.socketpair()
one.sendmsg([b"a", b"bc"]); other.recvmsg(9); select.select([one], [other], [], 0)
poll = select.epoll(); poll.register(one, 1); poll.poll(0); poll.poll(0)
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01); time.sleep(0.05)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); os.kill(os.getpid(), signal.SIGUSR1)
thread = threading.Thread(target=time.sleep, args=(0.001,)); thread.start(); thread.join(0.1); thread.join()
libc.syscall(270, 1, None, None, None, (ctypes.c_long * 2)(0, 1000), None); libc.read(0, ctypes.c_void_p(8), 10)
os.getcwd(); os.chdir("/box/folder"); os.getgroups(); os.uname()
"""


def compiler(*, libfuzzer: bool) -> list[str]:
    """Returns the start of a compiler's command: with the sanitizers, and on request with libFuzzer.

    Their libraries are packages of their own, so each compiler is tried. [] when no compiler has them.
    """
    wanted = [*SANITIZERS, *(["-fsanitize=fuzzer-no-link"] if libfuzzer else [])]
    for name in ("clang",) if libfuzzer else ("gcc", "clang"):
        path = build.find_program(name)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder, "empty.c")
            source.write_text("int main(void) { return 0; }\n")
            command = [path or "", *wanted, "-o", f"{folder}/empty", str(source)]
            if path and not subprocess.run(command, capture_output=True, check=False).returncode:
                return [path, *SANITIZERS, *FLAGS]
    return []


def compile_harness(into: Path, *, libfuzzer: bool) -> Path | None:
    """Compiles the harness with libFuzzer or with our own driver; returns None when no compiler here can.

    Raises BuildError, with the compiler's message.
    """
    program, command = into / "stub-fuzz", compiler(libfuzzer=libfuzzer)
    harness, driver = (str(SOURCES / name) for name in ("harness.c", "driver.c"))
    if not command:
        return None
    into.mkdir(parents=True, exist_ok=True)
    if libfuzzer:
        build.run_compiler([*command, "-fsanitize=fuzzer", "-o", str(program), harness])
        return program
    build.run_compiler([*command, "-fsanitize-coverage=trace-pc", "-c", "-o", f"{into}/harness.o", harness])
    build.run_compiler([command[0], *FLAGS, "-c", "-o", f"{into}/driver.o", driver])  # it is not counted itself
    build.run_compiler([*command, "-o", str(program), f"{into}/harness.o", f"{into}/driver.o"])
    return program


# --- seeds ------------------------------------------------------------------------------------------------------------


def seeds() -> Iterator[bytes]:
    """Yields the calls of a real program, with the answers of a real controller: a few calls in each seed."""
    with tempfile.TemporaryDirectory() as folder:
        record = Path(folder, "run.pbx")
        result = proxybox.run(PROGRAM, record=record, warm=False)
        assert result.ok, result.stderr
        calls, known = [], set()
        with proxybox.Record(record) as read:
            for event in read.reader.events():
                if isinstance(event, events.CallEvent) and event.answer is not None and event.channel == 0:
                    of = int.from_bytes(event.frame[4:8], "little")
                    piece = _call(TABLE[of], event) if of in TABLE else b""
                    if piece and len(piece) < LONGEST and (of, len(piece) // 64, event.answer.value < 0) not in known:
                        known.add((of, len(piece) // 64, event.answer.value < 0))
                        calls.append(piece)
    made = told(1)
    for piece in calls:
        if len(made) + len(piece) > LONGEST:
            yield made
            made = told(1)
        made += piece
    yield made
    yield told(0b1000011, 9) + b"".join(calls[:5])  # clock readings come with answers
    yield bytes([HIDE, 4, 1, 20, 0]) + b"/tmp/!" + b"a/tmp/box\0b/tmp/x\0///"
    yield from _mappings()
    yield from _files()
    yield told(32) + call(202, guests(0), number(9), number(0), guests(64))  # an absolute timeout
    yield told(16) + call(202, guests(0), number(0), number(0), guests(64)) + call(202, guests(0), number(1), number(1))
    yield call(13, number(2), guests(0), number(0), number(8)) + call(14, number(0), guests(0), number(0), number(8))


def told(bits: int, readings: int | None = None) -> bytes:
    """Returns the bits of `be_told` as a record. readings: of clocks."""
    return bytes([TOLD, bits]) + (b"" if readings is None else struct.pack("<I", readings))


def number(value: int) -> bytes:
    """Returns a register with a number of at most 31 bits and a sign."""
    return struct.pack("<Bi", NUMBER, value)


def guests(at: int) -> bytes:
    """Returns a register that points into the guest's memory."""
    return struct.pack("<BI", GUESTS, at)


def mapped(which: int = 0, at: int = 0) -> bytes:
    """Returns a register that points into a mapping that the stub has made."""
    return struct.pack("<BBH", MAPPED, which, at)


def poke(to: bytes, data: bytes) -> bytes:
    """Returns a record by which the guest stores bytes."""
    return bytes([POKE]) + to + struct.pack("<H", len(data)) + data


def value(of: int, *stored: tuple[int, int, bytes]) -> bytes:
    """Returns an answer. stored: each at a register of the request, plus an offset."""
    made = struct.pack("<BqB", 0, of, len(stored))
    return made + b"".join(struct.pack("<BIH", register, at, len(data)) + data for register, at, data in stored)


def call(of: int, *registers: bytes, traps: bool = True, answers: Sequence[bytes] = (), cut: int = 0) -> bytes:
    """Returns a call and its answers; further requests are answered by 0. cut: bytes that the stub reads at a time."""
    six = b"".join((*registers, *[number(0)] * (6 - len(registers))))
    return struct.pack("<BBI", CALL, traps, of) + six + struct.pack("<BB", cut, len(answers)) + b"".join(answers)


def _mappings() -> Iterator[bytes]:
    """Yields a shared mapping that is filled, changed, written back, grown, shrunk and unmapped; and a library's."""
    status = value(0, (1, 48, (9000).to_bytes(8, "little")))
    shared = call(9, number(0), number(8192), number(3), number(1), number(7),
                  answers=[value(5), value(4096, (1, 0, b"x" * 4096)), value(0)])  # fmt: skip
    dirty, written = poke(mapped(0, 10), b"dirty"), value(4096)
    pwrite = call(18, number(7), guests(0), number(4), number(2),
                  answers=[value(WRITE_BACK - 5), status, written, value(4), value(2, (1, 0, b"ok"))])  # fmt: skip
    grow = call(25, mapped(), number(8192), number(12288), number(1), answers=[value(0), status])
    cut = call(25, mapped(), number(12288), number(4096), number(1), answers=[value(0), status])
    msync = call(26, mapped(), number(8192), number(4), answers=[value(0), status, written])
    munmap = call(11, mapped(), number(8192), answers=[status, written, value(0)])
    yield shared + dirty + pwrite + dirty + msync + munmap
    yield shared + dirty + grow + dirty + cut + munmap + call(231)
    yield call(9, number(0), number(4096), number(1), number(2), number(7), answers=[value(LIBRARY), value(5)])
    yield call(9, number(0), number(4096), number(3), number(34), number(-1), answers=[value(0)]) + call(
        25, mapped(), number(4096), number(8192), number(1), answers=[value(0)]
    )


def _files() -> Iterator[bytes]:
    """Yields a file that comes whole: it is read, its status is read, it is closed, and another one is opened."""
    status = bytes(48) + (6).to_bytes(8, "little") + bytes(88)
    opened = call(257, number(-100), guests(0), traps=False, answers=[value(6, (4, 0, status + b"inside"))])
    read = call(0, number(6), guests(4096), number(4), traps=False)
    seek = call(8, number(6), number(-2), number(2), traps=False) + call(
        8, number(6), number(9), number(0), traps=False
    )
    rest = call(5, number(6), guests(8192), traps=False) + call(16, number(6), number(0x5401), traps=False)
    close = call(3, number(6), traps=False)
    look = poke(guests(0), b"/usr/lib\0") + call(21, guests(0), traps=False) + poke(guests(0), b"/proc\0")
    yield told(1) + opened + read + rest + close + look + call(21, guests(0), traps=False) + opened + read + seek + read
    stat = call(262, number(-100), guests(0), guests(4096), traps=False, answers=[value(1, (1, 0, status))])
    yield told(1) + poke(guests(0), b"/usr/lib\0") + stat + stat + call(0, number(3), guests(0), number(3 << 20),
        answers=[value(1 << 20), value(0, (1, 24, (0o100644).to_bytes(4, "little"))), value(7)])  # fmt: skip
    message = struct.pack("<8Q", 0, 0, 256, 2, 0, 0, 0, 0)[:56]
    yield (
        bytes([LEARN])
        + stub_row(46, list(TABLE[46].parameters)).ljust(52, b"\0")
        + poke(guests(0), message)
        + call(46, number(3), guests(0))
    )


def _call(row: Row, event: events.CallEvent) -> bytes:
    """Returns a row of the table, the guest's memory, the call, and its answer."""
    registers = list(events.REGISTERS(event.frame))
    made, at, memory = bytes([LEARN]) + stub_row(row.number, list(row.parameters)).ljust(52, b"\0"), 56, b""
    for place, (_, role) in enumerate(row.parameters):
        if isinstance(role, Memory):
            (size,) = struct.unpack_from("<I", event.frame, at)
            data = b"" if size >= TOO_LONG else event.frame[at + 4 : at + 4 + size]
            at += 4 + len(data)
            if size < TOO_LONG:
                registers[place] = ARENA + 0x1000 * place
                memory += poke(guests(0x1000 * place), data + b"\0")
        elif role.is_address and registers[place]:
            registers[place] = ARENA + 0x8000 + 0x1000 * place
    answer = _answer(event.answer)
    of, traps, registers = _as_a_program(row.number, registers)
    return (
        b"" if answer is None else made + memory + call(of, *map(_register, registers), traps=traps, answers=[answer])
    )


def _as_a_program(of: int, registers: list[int]) -> tuple[int, bool, list[int]]:
    """Returns the program's call behind a call of the stub's own, whether it came by a trap, and its registers."""
    if of == CALL_MAP:
        return 9, True, registers
    if of == CALL_OPEN:
        return 257, False, [*registers[:4], 0, 0]
    if of == CALL_STAT:
        return 262, False, [-100 & (1 << 64) - 1, *registers[:3], 0, 0]
    if of == CALL_LOOK:
        return 232, False, [*registers[:3], 0, 0, 0]
    return of, True, registers


def _register(register: int) -> bytes:
    if ARENA <= register < ARENA + ARENA_READABLE:
        return guests(register - ARENA)
    if register < 1 << 31:
        return number(register)
    return number(register - (1 << 64)) if register >> 31 == (1 << 33) - 1 else struct.pack("<BQ", ANY, register)


def _answer(answer: events.RecordedAnswer | None) -> bytes | None:
    """Returns the answer, as the harness's `make_answer` reads it; None when the record lacks some of its bytes."""
    stored: list[tuple[int, int, bytes]] = []
    for each in () if answer is None else answer.stored:
        if not isinstance(each.data, bytes) or each.register == events.NO_REGISTER or each.offset >= 1 << 32:
            return None
        stored.append((each.register, each.offset, each.data))
    return None if answer is None else value(answer.value, *stored)


if __name__ == "__main__":
    for at, data in enumerate(seeds()):
        Path(sys.argv[1], f"seed-{at:02}").write_bytes(data)
