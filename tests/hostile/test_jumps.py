"""Code that jumps anywhere, by ctypes and by cffi: into the stub, libc, the loader and the interpreter, on and between
instructions, with any registers.

The registers are those of system calls that would change `outside`: a jump that reached the kernel with them would be
noticed there. A jump may do anything to its own box.
"""

import threading

import pytest

import proxybox
from tests import sweeps

#: The ways to call an address from Python.
TOOLS = {
    "ctypes": "import ctypes\njump = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p)(raw.code(TRAMPOLINE))",
    "cffi": "import cffi\njump = cffi.FFI().cast('long (*)(unsigned long)', raw.code(TRAMPOLINE))",
}

#: push rbx; mov rbx, rdi; rax, rdi, rsi, rdx, r10, r8, r9 from (rbx); call (rbx+56); pop rbx; ret
JUMPING = """
import raw, outside, random, ctypes
TRAMPOLINE = bytes.fromhex("53 4889fb 488b03 488b7b08 488b7310 488b5318 4c8b5320 4c8b4328 4c8b4b30 ff5338 5b c3")
{tool}
draw = random.Random({seed})
calls = outside.calls({folder!r})
def words(call, target):
    made = raw.words([call]); made[7] = target & raw.MASK
    return made
{code}
"""

#: Addresses to jump to, by the code that finds them.
PLACES = {
    "functions of the stub": "targets = [raw.stub() + at + draw.choice((0, 0, 1, 2, 3, 5, 8, 13)) for at in {symbols}]",
    "anywhere in the stub": "targets = [raw.stub() + {lowest} + draw.randrange(0x4000) for _ in range(40)]",
    "anywhere in libc": """
start = ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value
targets = [start + draw.randrange(-0x40000, 0x40000) for _ in range(40)]""",
    "the interpreter": """
start = ctypes.cast(ctypes.CDLL(None).PyArg_ValidateKeywordArguments, ctypes.c_void_p).value
targets = [start + draw.randrange(-0x40000, 0x40000) for _ in range(40)]""",
    "the vDSO": """
libc = ctypes.CDLL(None); libc.getauxval.restype = ctypes.c_ulong
targets = [libc.getauxval(33) + draw.randrange(0x400, 0x1000) for _ in range(40)]""",
    "data, and nothing": """
targets = [draw.choice((id(object()), raw.code(bytes(draw.randbytes(64))), draw.getrandbits(47), draw.getrandbits(64), 8))
           for _ in range(40)]""",
}


def text_of(hostile, outside, tool, code, seed):
    symbols = [
        hostile.symbol(name)
        for name in (
            "on_sigsys",
            "on_bad_memory",
            "round_trip",
            "emulate_clone",
            "emulate_mmap",
            "wire_farewell",
            "seal_filter",
        )
        if name in hostile.symbols()
    ]
    code = code.replace("{symbols}", repr(symbols)).replace("{lowest}", str(min(symbols) & ~4095))
    return JUMPING.format(tool=TOOLS[tool], seed=seed, folder=str(outside.folder), code=code)


def jumping(hostile, outside, tool, code, seed=1, **options):
    """The Result of code that can use `jump`, `calls` and `words`."""
    return hostile.run(text_of(hostile, outside, tool, code, seed), **options)


def jumping_for_a_while(hostile, outside, tool, code, seed=1):
    """`jumping` for code that prints a line before it jumps: its box is closed soon afterwards, if it has not ended.

    Only the check of `outside` at the end of each test shows whether the jump reached anything.
    """
    begun = threading.Event()
    with proxybox.Sandbox() as box:
        end = threading.Timer(0.3, box.close)

        def begin(_):
            if not begun.is_set():
                begun.set()
                end.start()

        text = text_of(hostile, outside, tool, code, seed)
        try:
            result = box.run(text, files=hostile.files, timeout=30, on_stdout=begin)
        finally:
            if begun.is_set():
                end.cancel()
                end.join()
    assert result.stdout.startswith("jumping\n"), result
    assert result.status in ("crashed", "cancelled", "misbehaved", "error", "memory_limit", "ok"), result
    return result


@pytest.mark.parametrize("seed", sweeps.spread(range(6), 1))
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
@pytest.mark.parametrize("tool", ["ctypes", pytest.param("cffi", marks=pytest.mark.pypy)])
def test_a_jump(hostile, outside, tool, place, seed):
    """A jump that returns is followed by the next one. Most end by a signal."""
    code = (
        place
        + "\nprint('jumping', flush=True)\nfor target in targets: jump(ctypes.addressof(words(draw.choice(calls), target)))"
    )
    jumping_for_a_while(hostile, outside, tool, code, seed)
    assert outside.is_untouched()


SYSCALLS = """
import re
def instructions(start, size):
    image = ctypes.string_at(start, size)
    return [start + found.start() for found in re.finditer(b"\\x0f\\x05", image)]
libc = ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value
places = instructions(raw.stub() + {lowest}, 0x3000)
assert len(places) > 20
places += draw.sample(instructions(libc & ~4095, 0x8000), 4)
"""


@pytest.mark.parametrize("tool", ["ctypes", pytest.param("cffi", marks=pytest.mark.pypy)])
def test_jumps_to_system_call_instructions(hostile, outside, tool):
    """The instruction is in libc's syscall(), which returns: each call is refused."""
    code = """
code = ctypes.cast(ctypes.CDLL(None).syscall, ctypes.c_void_p).value
at = code + ctypes.string_at(code, 64).index(b"\\x0f\\x05")
print([jump(ctypes.addressof(words(call, at))) for call in calls])
"""
    result = jumping(hostile, outside, tool, code)
    assert result.ok, result
    # libc's function has turned each error into -1.
    assert eval(result.stdout) == [-1] * 11


@pytest.mark.parametrize("index", range(0, 30, 3))
def test_jumps_to_system_call_instructions_of_the_stub(hostile, outside, index):
    """In the stub's own system call instructions, with the registers of another call: the filter does not depend on the
    caller's address.
    """
    code = (
        SYSCALLS
        + f"print('jumping', flush=True)\njump(ctypes.addressof(words(calls[{index} % len(calls)], places[{index} % len(places)])))"
    )
    jumping_for_a_while(hostile, outside, "ctypes", code)
    assert outside.is_untouched()


def test_a_handler_that_makes_the_call_itself(hostile, outside):
    """A call in the handler traps into the handler again, until the stack is full or the kernel ends the process."""
    for index in range(11):
        code = f"""
handler = raw.stub() + {hostile.symbol("on_sigsys")}
raw.check(raw.syscall(10, handler & ~4095, 8192, 7))
call = calls[{index}]
text = b"".join(move + (word & 0xffffffffffffffff).to_bytes(8, "little") for move, word in zip(
    (b"\\x48\\xb8", b"\\x48\\xbf", b"\\x48\\xbe", b"\\x48\\xba", b"\\x49\\xba"), call)) + b"\\x0f\\x05\\xc3"
ctypes.memmove(handler, text, len(text))
raw.exchange((39,), raw.SLEEP)
"""
        result = jumping(hostile, outside, "ctypes", code)
        assert result.status == "crashed" and result.signal in (11, 31), result
        assert outside.is_untouched()


@pytest.mark.parametrize("way", ["mmap", "mprotect", "munmap and mmap"])
def test_memory_laid_over_the_stub(hostile, outside, way):
    """Code of the guest replaces the stub at the addresses from which it calls the kernel: the filter allows no address
    more than others.
    """
    code = f"""
place = raw.stub() + ({hostile.symbol("on_sigsys")} & ~4095)
text = bytes.fromhex("53 5541544889fb4889f5488b03488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f05488943384883c34048ffcd75d6415c5d5bc3")
made = raw.words(calls)
print("jumping", flush=True)
batch = ctypes.CFUNCTYPE(ctypes.c_long, ctypes.c_void_p, ctypes.c_long)(place)
{{
    "mmap": lambda: raw.check(raw.syscall(9, place, 4096, 7, 0x32, -1, 0)),
    "mprotect": lambda: raw.check(raw.syscall(10, place, 4096, 7)),
    "munmap and mmap": lambda: raw.syscalls([(11, place, 4096), (9, place, 4096, 7, 0x32, -1, 0)]),
}}[{way!r}]()
ctypes.memmove(place, text.ljust(4096, b"\\xcc"), 4096)
batch(ctypes.addressof(made), len(calls))
print("returned")
"""
    result = jumping_for_a_while(hostile, outside, "ctypes", code)
    assert result.status in ("crashed", "cancelled", "misbehaved"), result
    assert "returned" not in result.stdout, "the handler is gone: the first call that traps is the last"
    assert outside.is_untouched()
