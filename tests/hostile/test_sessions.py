"""Programs in sessions that ignore interrupts, break the code that runs the session, and leave things for later calls.

A call ends within its limits, and its Result says which limit. The next call works, or reports that the session has
ended.
"""

import threading

import pytest

import proxybox

pytestmark = pytest.mark.cover(2)


@pytest.fixture(params=["cold", "warm"])
def make(request, sandbox, warm, hostile):
    """Makes sessions, from a new process or from a zygote."""

    def session(**options):
        maker = warm if request.param == "warm" else sandbox
        grace = {"grace": 0.2, **options.pop("session", {})}
        return maker(session=grace, **options).session(files=hostile.files, timeout=200)

    return session


def works(session):
    """Whether a session accepts calls. If it has ended, it must report that."""
    if not session.alive:
        with pytest.raises(proxybox.SandboxClosedError):
            session.exec("1")
        return False
    result = session.eval("6 * 7", timeout=20)
    return result.value == 42


# --- interrupts -------------------------------------------------------------------------------------------------------

DEAF = {
    "swallows it": "while True:\n    try:\n        while True: pass\n    except KeyboardInterrupt: pass",
    "swallows all": "while True:\n    try:\n        while True: pass\n    except: pass",
    "goes on in finally": "try:\n    while True: pass\nfinally:\n    while True: pass",
    "ignores the signal": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\nwhile True: pass",
    "has a handler of its own": "import signal; signal.signal(signal.SIGINT, lambda *_: None)\nwhile True: pass",
    "blocks the signal": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass",
    "sleeps on": "import time\nwhile True:\n    try: time.sleep(1000)\n    except KeyboardInterrupt: pass",
    "natively": "import raw; raw.function(bytes([0xEB, 0xFE]))()",
    "waits natively": "import raw; raw.exchange(raw.SLEEP)",
    "in C": "import re; re.match('(a*)*b', 'a' * 200)",
    "in a destructor": "class D:\n    def __del__(self):\n        while True: pass\nimport gc; D(); gc.collect()\nwhile True: pass",
    "in its words": "class E(Exception):\n    def __str__(self):\n        while True: pass\nraise E",
    "in its output": "import sys\nclass F:\n    def flush(self):\n        while True: pass\n    def write(self, text): pass\nsys.stdout = F()",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("code", DEAF.values(), ids=DEAF.keys())
def test_who_does_not_listen(make, code):
    """A program that ignores the interrupt is ended. The Result names the limit and says whether the session has
    ended.
    """
    session = make()
    result = session.exec(code, timeout=0.3)
    assert result.status == "time_limit", result
    assert result.why.startswith("limits.wall_time"), result.why
    assert ("the session has ended" in result.why) is not session.alive
    works(session)


def test_who_listens_lives(make):
    session = make(session={"grace": 20})  # on a busy machine the interrupt may take effect late
    for _ in range(3):
        result = session.exec("while True: pass", timeout=0.2)
        assert (result.status, session.alive) == ("time_limit", True), result
        assert "the session goes on" in result.why
    assert works(session)


def test_a_storm_of_interrupts(make):
    """Another thread interrupts at every moment of many calls. Between calls an interrupt has no effect."""
    session = make()
    over = threading.Event()

    def storm():
        while not over.is_set():
            session.interrupt()

    attack = threading.Thread(target=storm)
    attack.start()
    try:
        for number in range(100):
            result = session.eval(f"sum(range({number}))")
            assert (
                result.value == sum(range(number)) or result.error.type == "KeyboardInterrupt" or not session.alive
            ), result
            if not session.alive:
                break
    finally:
        over.set()
        attack.join()
    assert session.alive
    assert works(session) or works(session)  # the last interrupt may come late


def test_interrupts_without_a_handler(make):
    """The program has removed the handler: the session ends, and the Result reports that."""
    session = make()
    result = session.exec(
        "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); print('x', flush=True)\nwhile True: pass",
        on_stdout=lambda _: session.interrupt(),
    )
    assert (result.status, session.alive) == ("crashed", False), result


# --- what leads the session -------------------------------------------------------------------------------------------

BREAKS = {
    "stdout is none": "import sys; sys.stdout = sys.stderr = None",
    "stdout is odd": "import sys; sys.stdout = sys.stderr = 7",
    "stdout is closed": "import sys; sys.stdout.close(); sys.stderr.close()",
    "builtins are gone": "import builtins\nfor name in list(vars(builtins)): delattr(builtins, name)",
    "builtins lie": "import builtins; builtins.len = builtins.isinstance = builtins.type = builtins.str = lambda *_: 1",
    "no __import__": "import builtins; del builtins.__import__",
    "modules are gone": "import sys; sys.modules.clear()",
    "modules are none": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "__main__ is another": "import sys; sys.modules['__main__'] = 7",
    "the namespace is empty": "globals().clear()",
    "no traceback module": "import sys; sys.modules['traceback'] = None; sys.modules['linecache'] = None",
    "a trace function": "import sys; sys.settrace(lambda *_: 1 / 0); sys.setprofile(lambda *_: 1 / 0)",
    "no recursion": "import sys; sys.setrecursionlimit(30)",
    "an audit hook": "import sys\ndef hook(*_): raise SystemExit(3)\nsys.addaudithook(hook)",
    "excepthook": "import sys; sys.excepthook = sys.displayhook = None",
    "descriptors are closed": "import os\nfor fd in range(100):\n    try: os.close(fd)\n    except OSError: pass",
    "frames of others": "import sys, gc\nfor found in gc.get_objects()[:100000]:\n    if type(found).__name__ == 'Session': found.__dict__.clear()",
    "the working folder is gone": "import os; os.mkdir('/tmp/x'); os.chdir('/tmp/x'); os.rmdir('/tmp/x')",
    "no garbage collector": "import gc; gc.disable()",
    "memory is full": "held = []\ntry:\n    while True: held.append(bytearray(1 << 20))\nexcept MemoryError: pass",
    "all signals are blocked": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))",
    "an alarm": "import signal; signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)",
    "an alarm with a handler": "import signal; signal.signal(signal.SIGALRM, lambda *_: 1 / 0); signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)",
    "the class of str": "import ctypes, sys; sys.stdout.write = lambda *_: 1 / 0",
    "the stub is wiped": "import ctypes, raw; at = raw.stub() & ~4095; raw.syscall(10, at, 4096, 7); ctypes.memset(at, 0, 4096)",
    "the wire is cut": "import raw; raw.exchange(raw.put(bytes(60)), raw.SLEEP)",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("code", BREAKS.values(), ids=BREAKS.keys())
def test_what_leads_it_is_broken(make, code):
    """The session goes on, or reports that it has ended. In both cases the caller's next calls return."""
    session = make(limits={"memory": "300M"})
    session.exec(code, timeout=3)
    for _ in range(3):
        if not session.alive:
            break
        works(session)
    session.close()


ENDS = {
    "os._exit": ("import os; os._exit(7)", 7, None),
    "os.abort": ("import os; os.abort()", None, 6),
    "kill": ("import os; os.kill(os.getpid(), 9)", None, 9),
    "a crash": ("import ctypes; ctypes.string_at(8)", None, 11),
    "natively": ("import raw; raw.exchange((231, 5, raw.ROUTE))", 5, None),
}


@pytest.mark.parametrize(("code", "exit_code", "signal"), ENDS.values(), ids=ENDS.keys())
def test_ends(make, code, exit_code, signal):
    session = make()
    result = session.exec(f"print('before', flush=True)\n{code}")
    assert (result.exit_code, result.signal, result.stdout, session.alive) == (exit_code, signal, "before\n", False)
    assert not works(session)


def test_ends_between_calls(make):
    """A thread of an earlier call ends the process at the next call or between calls.

    On a busy machine it may do so during the call that starts it: then the test uses another session.
    """
    code = (
        "import raw, threading; threading.Thread(target=lambda: raw.syscalls([(24,)] * 100000 + [raw.LEAVE])).start()"
    )
    for _ in range(20):
        session = make()
        session.exec(code)
        if session.alive:
            break
        assert not works(session)
    result = session.eval("__import__('time').sleep(5)")
    assert result.status in ("error", "ok", "crashed"), result
    assert not works(session)


ODD_ERRORS = {
    "no words": "class E(Exception):\n    def __str__(self): raise MemoryError\nraise E",
    "words of another type": "class E(Exception):\n    def __str__(self): return 7\nraise E",
    "words without end": "raise ValueError('x' * (30 << 20))",
    "a name without end": "raise type('E' * 100000, (Exception,), {})",
    "lone surrogates": "raise ValueError('\\ud800')",
    "terminal escapes": "raise ValueError('\\x1b[2J\\x1b]0;title\\x07')",
    "a deep recursion": "def f(): f()\nf()",
    "a chain": "error = None\nfor _ in range(3000):\n    new = ValueError('x' * 100)\n    new.__cause__, error = error, new\nraise error",
    "a circle": "a, b = ValueError(), ValueError()\na.__context__, b.__context__ = b, a\nraise a",
    "a group": "error = ValueError()\nfor _ in range(200): error = ExceptionGroup('x' * 1000, [error])\nraise error",
    "notes": "error = ValueError()\nerror.__notes__ = ['x' * 1000] * 10000\nraise error",
    "no class": "raise 7",
    "an exit in its words": "class E(Exception):\n    def __str__(self): raise SystemExit(3)\nraise E",
    "an exit of an odd kind": "raise SystemExit([1, 2])",
    "an exit with a large number": "raise SystemExit(1 << 80)",
    "a syntax error of its own": "raise SyntaxError('x', ('y' * 100000, 1, 1, 'z' * 100000))",
    "a base": "class E(BaseException): pass\nraise E",
    "a generator's end": "raise GeneratorExit",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("code", ODD_ERRORS.values(), ids=ODD_ERRORS.keys())
def test_odd_errors(make, code):
    """The text of an error is bounded, and can be printed."""
    session = make(limits={"memory": "1G"})
    result = session.exec(code, timeout=100)
    assert result.status in ("ok", "error", "syntax_error", "memory_limit", "crashed"), result.status
    result.summary().encode()
    if result.error is not None:
        assert len(result.error.type) <= 256
        assert len(result.error.message) <= 16384
        assert len(result.error.traceback) <= 65536
        "".join((result.error.type, result.error.message, result.error.traceback)).encode()
    assert works(session) or result.status == "crashed"


VALUES = {
    "an object": "object()",
    "itself": "(lambda found: found.append(found) or found)([])",
    "very deep": "__import__('functools').reduce(lambda inner, _: [inner], range(100000), 0)",
    "too much": "'x' * (5 << 20)",
    "far too many": "[0] * 10_000_000",
    "a str of its own": "type('S', (str,), {'__len__': lambda self: 1 << 60, 'encode': lambda *_: 1 / 0})('x')",
    "an int of its own": "type('I', (int,), {'__index__': lambda self: 1 / 0, 'to_bytes': lambda *_: 1 / 0})(7)",
    "a dict of its own": "type('D', (dict,), {'items': lambda self: iter(int, 1), '__iter__': lambda self: iter(int, 1)})(a=1)",
    "a list of its own": "type('L', (list,), {'__iter__': lambda self: iter(int, 1), '__len__': lambda self: -1})([1])",
    "a huge number": "1 << 100_000_000",
    "lone surrogates": "'\\ud800'",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("expression", VALUES.values(), ids=VALUES.keys())
def test_odd_values(make, expression):
    session = make(limits={"memory": "1G"})
    result = session.eval(expression, timeout=1)
    assert result.status in ("ok", "error", "memory_limit", "time_limit"), result.status
    works(session)


# --- limits -----------------------------------------------------------------------------------------------------------


def test_a_flood_of_output_in_each_call(make, hostile):
    """The output of each call is stored up to the policy's limit."""
    session = make(output={"limit": "100K"})
    before = hostile.resident()
    for _ in range(5):
        result = session.exec("for _ in range(1000): print('x' * 1000)")
        assert (result.ok, result.truncated, len(result.stdout_bytes) <= 100 << 10) == (True, True, True)
    assert session.exec("print('y')").stdout == "y\n"
    assert hostile.resident() - before < 32 << 20


def test_output_that_ends_it(make):
    session = make(output={"limit": "10K", "on_excess": "end"})
    result = session.exec("while True: print('x' * 1000)")
    assert (result.status, session.alive) == ("output_limit", False)


def test_memory_over_many_calls(make):
    session = make(limits={"memory": "200M"})
    statuses = {
        session.exec("held = globals().setdefault('all', []); held.append(bytearray(20 << 20))").status
        for _ in range(20)
    }
    assert statuses == {"ok", "memory_limit"}
    assert session.exec("all.clear()").ok
    assert works(session)


def test_disk_over_many_calls(make):
    session = make(limits={"disk": "1M"})
    results = [session.exec(f"open('/tmp/{number}', 'wb').write(bytes(200_000))") for number in range(10)]
    assert [result.ok for result in results] == [True] * 5 + [False] * 5
    assert (
        "No space" in results[-1].error.message
        or "ENOSPC" in results[-1].error.message
        or "quota" in results[-1].error.message
    )
    assert works(session)


def test_calls_in_one_call(make):
    """limits.calls is the limit of each call. A session that exceeds it ends."""
    session = make(limits={"calls": 5000})
    for _ in range(4):
        assert session.exec("import os\nfor _ in range(3000): os.getppid()").ok
    result = session.exec("while True: os.getppid()")
    assert (result.status, result.why) == ("call_limit", "limits.calls; the session has ended")
    assert not works(session)


@pytest.mark.sized(1)
def test_cpu_time_of_many_calls(make):
    """limits.cpu_time is the limit of each call, not of all together."""
    session = make(limits={"cpu_time": 1})
    for _ in range(4):
        result = session.exec(
            "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: sum(range(10000))"
        )
        assert result.ok, result
    assert works(session)


def test_cpu_time_of_the_whole(make):
    session = make(limits={"cpu_time": 5}, session={"cpu_time": 0.5, "grace": 0})
    result = session.exec("while True: pass")
    assert (result.status, session.alive) == ("time_limit", False), result


def test_threads_that_compute_between_calls(make):
    """No call waits for them, but their time is charged."""
    session = make(limits={"cpu_time": 0.3, "threads": 4})
    result = session.exec(
        "import raw, threading\nfor _ in range(3): threading.Thread(target=raw.function(bytes([0xEB, 0xFE])), daemon=True).start()"
    )
    pid = session._live._live.process.pid
    end = threading.Event()
    for _ in range(500):
        if not session._live._live.process.watch.is_running():
            break
        end.wait(0.02)
    assert not session._live._live.process.watch.is_running(), pid
    if session.alive:  # otherwise the call itself has used up the time
        result = session.eval("1")
    assert (result.status, session.alive) == ("time_limit", False), result


def test_output_of_threads_between_calls(make):
    """Output of a thread while no call runs belongs to the next call."""
    session = make()
    session.exec(
        "import threading, time\ndef f():\n    while True: print('x', flush=True); time.sleep(0.001)\nthreading.Thread(target=f, daemon=True).start()"
    )
    for _ in range(3):
        assert set(session.exec("time.sleep(0.02)").stdout) <= {"x", "\n"}
    session.close()


# --- looks at live objects --------------------------------------------------------------------------------------------

LOOKED_AT = {
    "__repr__ that never ends": "class O:\n    def __repr__(self):\n        while True: pass\no = O()",
    "__dir__ that never ends": "class O:\n    def __dir__(self):\n        while True: pass\no = O()",
    "__dir__ of anything": "class O:\n    def __dir__(self): return [7, None, 'x' * 100000, b'y', '\\ud800', [1]]\no = O()",
    "__getattr__ that exits": "class O:\n    def __getattr__(self, name): raise SystemExit(3)\no = O()",
    "__getattribute__ that never ends": "class O:\n    def __getattribute__(self, name):\n        while True: pass\no = O()",
    "__class__ that lies": "class O:\n    @property\n    def __class__(self): return 7\no = O()",
    "__doc__ of 30 MB": "class O:\n    __doc__ = 'x' * (30 << 20)\no = O()",
    "__doc__ of another type": "class O:\n    __doc__ = {}\no = O()",
    "a signature that lies": "class O:\n    __signature__ = 7\n    def __call__(self): pass\no = O()",
    "__wrapped__ in a circle": "def o(): pass\no.__wrapped__ = o",
    "names without end": "o = type('O', (), {f'name{number}': 1 for number in range(100_000)})()",
    "a namespace of odd names": "globals().update({7: 1, '\\ud800': 2, 'o': 3, None: 4})",
    "a metaclass that raises": "class M(type):\n    def __getattribute__(self, name): raise KeyboardInterrupt\nclass O(metaclass=M): pass\no = O()",
    "it ends the process": "class O:\n    def __dir__(self): __import__('os')._exit(3)\n    def __repr__(self): __import__('os')._exit(3)\no = O()",
}


@pytest.mark.cover(1)
@pytest.mark.parametrize("code", LOOKED_AT.values(), ids=LOOKED_AT.keys())
def test_looks_at_objects(make, monkeypatch, code):
    """Completions and inspections may run the program's code: they end within the limit, and their results have the
    documented form.
    """
    monkeypatch.setattr("proxybox.commands.LOOK_LIMIT", 0.3)
    session = make()
    session.exec(code)
    for look in (
        lambda: session.complete("o."),
        lambda: session.complete("o"),
        lambda: session.inspect("o"),
        lambda: session.inspect("o", detail=1),
        lambda: session.is_complete("o"),
    ):
        if not session.alive:
            break
        found = look()
        if isinstance(found, proxybox.Completion):
            assert type(found.start) is int
            assert all(type(match) is str for match in found.matches)
            "".join(found.matches).encode(errors="surrogatepass")
        elif isinstance(found, proxybox.Inspection):
            texts = (found.name, found.type, found.signature, found.doc, found.source, found.text)
            assert all(text is None or type(text) is str for text in texts)
    works(session)


@pytest.mark.cover(1)
@pytest.mark.parametrize("cursor", [-1, 0, 10**6, 1 << 70])
@pytest.mark.parametrize(
    "text", ["", "o", "\x00", "\ud800", "(" * 1000, "x." * 5000, "lambda: " * 2000, "'" * 99, "\n" * 5000]
)
def test_looks_at_odd_texts(sandbox, text, cursor):
    session = sandbox().session(timeout=60)
    for look in (session.complete, session.inspect):
        if session.alive:
            try:
                look(text, cursor)
            except (TypeError, ValueError, OverflowError, proxybox.ExecutionError):
                continue
    assert session.eval("6 * 7").value == 42
