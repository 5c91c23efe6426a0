"""Ways to crash an interpreter, also those of PyPy alone: after one, hostile machine code runs in the guest.

A crash ends the guest and is reported. Each program first tries to reach `outside` in every way and then crashes, in
one process. If the crash did more than that, the controller would raise or hang.
"""

import pytest

CRASHERS = {
    "bytecode of any bytes": """
import random
draw = random.Random(5)
def f(a=1, *b, c=2): return a
for turn in range(400):
    g = type(f)(f.__code__.replace(co_code=bytes(draw.randrange(256) for _ in range(40)), co_stacksize=draw.randrange(1, 30)), {})
    try: g()
    except BaseException: pass
""",
    "constants that are not there": """
def f(): return "a constant"
f.__code__ = f.__code__.replace(co_consts=())
f()
""",
    "a stack of no size": """
def f(): return [[1, [2, [3, [4, (5, 6, 7, 8)]]]], {1: {2: {3: 4}}}]
f.__code__ = f.__code__.replace(co_stacksize=0)
f()
""",
    "local variables that are not there": """
def f():
    a = 1; b = 2; c = 3
    return a + b + c
f.__code__ = f.__code__.replace(co_nlocals=0, co_varnames=())
f()
""",
    "marshalled code with bits turned": """
import marshal, random
draw = random.Random(3)
good = marshal.dumps(compile("def f(x):\\n    return [x for _ in range(9) if x]\\nf(3)", "x", "exec"))
for turn in range(600):
    bad = bytearray(good)
    for _ in range(draw.randrange(1, 6)): bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
    try: exec(marshal.loads(bytes(bad)), {})
    except BaseException: pass
""",
    "marshalled nesting": "import marshal\nmarshal.loads(b'\\x5b\\x01\\x00\\x00\\x00' * 3000000 + b'N')",
    "a sort that empties its list": """
class A:
    def __init__(self, n): self.n = n
    def __lt__(self, other):
        x.clear(); x.extend(range(1000)); return self.n < other.n
x = [A(n) for n in range(1000)]
try: x.sort()
except (ValueError, TypeError): pass
""",
    "a dictionary changed while it compares": """
class A:
    def __hash__(self): return 1
    def __eq__(self, other):
        d.clear(); d.update({n: n for n in range(500)}); return False
d = {}
for turn in range(200): d[A()] = turn
""",
    "an index that resizes": """
class A:
    def __index__(self):
        b.clear(); return 5
b = bytearray(100000)
b[A():] = b"x" * 10
try: b[A()]
except IndexError: pass
""",
    "a buffer released while it is used": """
class A:
    def __index__(self):
        m.release(); return 1
b = bytearray(1000)
m = memoryview(b)
try: m[A()] = 1
except ValueError: pass
b.clear()
""",
    "a class whose order is its own": """
class M(type):
    def mro(cls): return (cls, int, str, dict, object)
try:
    class A(metaclass=M): pass
    a = A(); a + 1; a["x"]; len(a)
except TypeError: pass
""",
    "bases exchanged while they are looked at": """
class A: pass
class B: pass
class D(A):
    def __getattribute__(self, name):
        D.__bases__ = (B,) if D.__bases__ == (A,) else (A,)
        return super().__getattribute__(name)
d = D()
for turn in range(2000):
    try: getattr(d, "x")
    except AttributeError: pass
""",
    "resurrection without end": """
import gc
kept = []
class A:
    def __del__(self): kept.append(self); A()
A()
for turn in range(50): gc.collect(); kept.clear()
""",
    "a chain of generators": """
g = iter(())
def wrap(inner): yield from inner
for turn in range(100000): g = wrap(g)
next(g, None)
del g
import gc; gc.collect()
""",
    "a chain of maps": "import itertools\ng = ()\nfor turn in range(300000): g = itertools.chain(g)\nnext(g, None)",
    "a deep tree of syntax": """
import ast
node = ast.Constant(1)
for turn in range(200000): node = ast.UnaryOp(ast.Not(), node)
for each in ast.walk(node): each.lineno = each.col_offset = 1
compile(ast.Expression(node), "x", "eval")
""",
    "tracing at the end of the stack": """
import sys
def trace(*a):
    def deeper(): return deeper()
    deeper()
sys.settrace(trace)
def f(): return f()
f()
""",
    "widths beyond sense": "for text in ('%*d', '%.*f'):\n    try: text % (1 << 31, 1)\n    except (OverflowError, MemoryError): pass\nformat(1, '2000000000')",
    "continulets across threads": """
import _continuation, threading
c = _continuation.continulet(lambda c: [c.switch() for _ in range(10)])
c.switch()
t = threading.Thread(target=c.switch); t.start(); t.join()
c.switch(); c.switch()
""",
    "a continulet in itself": """
import _continuation
c = _continuation.continulet(lambda c: c.switch(to=c))
d = _continuation.continulet(lambda d: c.switch(to=d))
try: c.switch(); d.switch(to=c); c.throw(KeyError)
except BaseException as error: pass
c.__init__(lambda c: None); c.switch(); c.switch()
""",
    "parameters of the JIT": """
import pypyjit
for text in ("threshold=1,function_threshold=1", "trace_eagerness=1", "max_unroll_loops=2000000000", "enable_opts=", "loop_longevity=0", "vec=1"):
    try: pypyjit.set_param(text)
    except (ValueError, RuntimeError): pass
def f(n):
    x = 0
    for i in range(n): x += i if i & 1 else -i
    return x
for n in range(3000): f(40)
""",
    "raw memory of _rawffi": """
import _rawffi
array = _rawffi.Array("c")(16)
array.free(); array[3] = b"x"; array.free()
_rawffi.Array("P").fromaddress(0x1234, 4)[0]
""",
    "a builder without end": "import __pypy__\n__pypy__.builders.StringBuilder(1 << 62)\n__pypy__.bytebuffer(1 << 50)",
    "cffi at any address": "import cffi\nffi = cffi.FFI()\nffi.memmove(ffi.cast('char *', 0x1000), b'x' * 1000, 1000)",
    "a buffer longer than memory": "import cffi\nffi = cffi.FFI()\np = ffi.new('char[16]')\nbytes(ffi.buffer(p, 1 << 30))",
    "a callback that is gone": """
import ctypes, gc
F = ctypes.CFUNCTYPE(ctypes.c_int)
address = ctypes.cast(F(lambda: 1), ctypes.c_void_p).value
gc.collect(); x = [bytearray(4096) for _ in range(1000)]; gc.collect()
F(address)()
""",
    "an exception from a callback": """
import ctypes
C = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
def compare(a, b): raise SystemExit(9)
numbers = (ctypes.c_int * 100)(*range(100))
ctypes.CDLL(None).qsort(numbers, 100, 4, C(compare))
""",
    "freed twice": "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.malloc.restype = ctypes.c_void_p\np = ctypes.c_void_p(libc.malloc(100))\nfor _ in range(20): libc.free(p)",
    "longjmp to nowhere": "import ctypes\nctypes.CDLL(None).longjmp(ctypes.create_string_buffer(b'A' * 400), 1)",
    "a library of the guest's own": """
import ctypes
image = bytearray(open("/usr/lib/x86_64-linux-gnu/libc.so.6", "rb").read())
for at in range(64, 4096, 3): image[at] ^= 0x55
open("/tmp/evil.so", "wb").write(image)
ctypes.CDLL("/tmp/evil.so")
""",
    "a library with entries past its end": """
import ctypes
image = bytearray(open("/usr/lib/x86_64-linux-gnu/libc.so.6", "rb").read())
open("/tmp/evil.so", "wb").write(image[:200000])
ctypes.CDLL("/tmp/evil.so")
""",
    "an extension that is none": """
open("/tmp/evil.pypy311-pp73-x86_64-linux-gnu.so", "wb").write(b"\\x7fELF" + bytes(1000))
import sys; sys.path.insert(0, "/tmp")
import evil
""",
    "an image of SQLite with bits turned": """
import sqlite3, random
draw = random.Random(9)
good = sqlite3.connect("/tmp/good"); good.execute("create table t(a, b)")
good.executemany("insert into t values(?, ?)", [(n, "x" * n) for n in range(300)]); good.commit(); good.close()
image = open("/tmp/good", "rb").read()
for turn in range(25):
    bad = bytearray(image)
    for _ in range(60): bad[draw.randrange(100, len(bad))] ^= 1 << draw.randrange(8)
    open("/tmp/bad", "wb").write(bad)
    try:
        db = sqlite3.connect("/tmp/bad"); db.execute("select * from t order by b").fetchall(); db.execute("delete from t"); db.commit()
    except sqlite3.Error: pass
""",
    "entities of XML": """
import xml.etree.ElementTree as tree
text = '<!DOCTYPE x [<!ENTITY a0 "x">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10)) + "]><x>&a9;</x>"
tree.fromstring(text)
""",
    "faults in a handler of faults": """
import signal, ctypes
signal.signal(signal.SIGSEGV, lambda *a: ctypes.string_at(8))
ctypes.string_at(8)
""",
    "a signal handler that jumps": """
import ctypes, raw, signal, struct
action = raw.code(struct.pack("QQQQ", 0x4141414141, 0x04000000, 0x4242424242, 0))
raw.syscall(13, 10, action, 0, 8)
import os; os.kill(os.getpid(), 10)
""",
    "the thread's own state": """
import ctypes, raw
pointer = raw.function(bytes.fromhex("64488b042500000000 c3"))() & raw.MASK
ctypes.memset(pointer, 0x41, 64)
import os; os.stat("/")
""",
    "half of libc unmapped": """
import ctypes, raw
start = ctypes.cast(ctypes.CDLL(None).getpid, ctypes.c_void_p).value & ~0xffff
raw.exchange((11, start, 1 << 20), (39,), raw.SLEEP)
""",
}


@pytest.mark.parametrize("code", CRASHERS.values(), ids=CRASHERS.keys())
def test_a_crash(hostile, outside, code):
    result = hostile.run(
        f"assert {outside.reach} == {outside.python} == []\nprint('before', flush=True)\n{code}\nprint('after')\nprint({outside.reach})\n",
        limits={"memory": "400M", "cpu_time": 2},
        timeout=15,
    )
    assert result.stdout.startswith("before\n"), result
    assert result.status in ("ok", "error", "crashed", "memory_limit", "time_limit", "misbehaved"), result
    assert result.stdout in ("before\n", "before\nafter\n", "before\nafter\n[]\n"), result
    assert result.status != "crashed" or result.signal in (4, 5, 6, 7, 8, 11, 31), result
