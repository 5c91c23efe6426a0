"""The end of a program: in cold, warm and ready boxes, the visible effects of libc's exit are the same.

A zygote's copy leaves out the parts of exit(3) in libraries that only free their memory (stub_end.c).
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import proxybox

EACH_GUEST = True
Run = Callable[[str], proxybox.Result]
LIBC = "import ctypes, os, sys, threading\nlibc = ctypes.CDLL(None)\n"
ATEXIT = (
    LIBC
    + """
@ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_void_p)
def last(status, nothing): os.write(1, b"at exit\\n")
libc.on_exit(last, None)
"""
)
CASES = {
    "a stream of libc": (LIBC + "libc.puts(b'buffered'); print('first')", "first\nbuffered\n"),
    "a function for the end": (ATEXIT + "print('x')", "x\nat exit\n"),
    "output of the last function": (
        ATEXIT.replace('os.write(1, b"at exit\\n")', "libc.puts(b'late')") + "print('x')",
        "x\nlate\n",
    ),
    "a file that nobody closed": (
        "f = open('/tmp/x', 'w'); f.write('kept'); import atexit, os\n"
        "atexit.register(lambda: print('then', os.path.getsize('/tmp/x')))",
        "then 0\n",
    ),
    "after threads": (
        LIBC + "t = threading.Thread(target=libc.puts, args=(b'thread',)); t.start(); t.join(); print('x')",
        "x\nthread\n",
    ),
    "an exit code": (LIBC + "libc.puts(b'x'); sys.exit(3)", "x\n"),
    "an exception": (LIBC + "libc.puts(b'x'); 1/0", "x\n"),
    "a library of its own": (
        LIBC + "import bz2, sqlite3; sqlite3.connect(':memory:'); libc.puts(b'x')",
        "x\n",
    ),
}
#: Cases for PyPy alone: code that calls a CPython after its end crashes.
OF_PYPY = ("a function for the end", "output of the last function")
CODES = {"an exit code": 3, "an exception": 1}


@pytest.fixture(params=["cold", "warm", "ready", "preloaded"])
def run(request: pytest.FixtureRequest, guest_kind: str) -> Iterator[Run]:
    if request.param == "ready":
        with proxybox.Pool(size=1) as pool:
            yield pool.run
        return
    fields = {"preload": ["sqlite3"]} if request.param == "preloaded" else {}
    with proxybox.Sandbox(warm=request.param != "cold", **fields) as box:
        if request.param != "cold":
            box.run("")  # the second run is warm
        yield box.run


@pytest.mark.cover(2)
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.pypy if case in OF_PYPY else ()) for case in CASES]
)
def test_what_libc_does_at_the_end(case: str, run: Run) -> None:
    code, printed = CASES[case]
    result = run(code)
    assert (result.stdout, result.exit_code) == (printed, CODES.get(case, 0)), result


@pytest.mark.pypy
def test_what_a_preloaded_module_has_registered_is_called(tmp_path: Path) -> None:
    """The module has registered it with libc, in the guest from which the box is copied."""
    tmp_path.chmod(0o755)
    (tmp_path / "registers.py").write_text(ATEXIT)
    with proxybox.Sandbox(preload=["registers"], packages=[tmp_path]) as box:
        for _ in range(2):
            assert box.run("import registers; print('x')", check=True).stdout == "x\nat exit\n"
