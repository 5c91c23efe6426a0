"""Files that a program no longer refers to, but has not closed: PyPy closes them when it collects.

It collects when descriptors run out.
"""

import asyncio

import pytest

import proxybox

pytestmark = pytest.mark.pypy

FEW = {"open_files": 32, "calls": None, "cpu_time": 30}

#: Counts all runs of the collector.
COUNT = """
import gc
runs = []
gc.hooks.on_gc_collect = lambda stats: runs.append(stats)
"""


@pytest.fixture(params=["cold", "warm"])
def box(request):
    with proxybox.Sandbox(warm=request.param == "warm", limits=FEW, session={"branches": 1}) as made:
        yield made


def printed(box, code):
    result = box.run(code, files={"x": b"hello"}, timeout=60)
    assert result.ok, f"{result.summary()}\n{result.stderr[-2000:]}"
    assert result.stderr == ""
    return result.stdout


@pytest.mark.sized(1)
def test_files_that_nobody_holds_are_closed(box):
    assert printed(box, "print(sum(len(open('/box/x').read()) for _ in range(5000)))") == "25000\n"


@pytest.mark.parametrize(
    "make",
    [
        "os.open('/box', os.O_RDONLY)",
        "os.dup(1)",
        "os.pipe()",
        "os.memfd_create('x')",
        "libc.eventfd(0, 0)",
        "fcntl.fcntl(1, fcntl.F_DUPFD, 3)",
        "fcntl.fcntl(1, 1030, 3)",  # F_DUPFD_CLOEXEC
    ],
)
def test_numbers_in_objects_that_close_them(box, make):
    code = f"""
import ctypes, fcntl, os
libc = ctypes.CDLL(None)
class Owner:
    def __init__(self):
        made = {make}
        assert made != -1
        self.numbers = made if type(made) is tuple else (made,)
    def __del__(self):
        for number in self.numbers: os.close(number)
for _ in range(200): Owner()
print("done")
"""
    assert printed(box, code) == "done\n"


@pytest.mark.parametrize(
    "make",
    [
        "socket.socketpair()",
        "select.epoll()",
        "tempfile.TemporaryFile()",
        "os.scandir('/box').__next__()",
        "Circle()",
        "mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_READ)",
        "mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_COPY)",
    ],
)
def test_objects_that_own_descriptors(box, make):
    code = f"""
import mmap, os, select, socket, tempfile
held = open("/box/x", "rb")
class Circle:
    def __init__(self): self.self, self.file = self, open('/box/x')
for _ in range(200): {make}
print("done")
"""
    assert printed(box, code) == "done\n"


def test_folders_that_were_listed_in_part():
    """Open folders use up the bound on their stored entries before they use up the descriptors."""
    code = """
import os
for _ in range(150): next(os.scandir("/box/d"))
print(len(os.listdir("/box/d")))
"""
    files = {f"d/{number:04}": b"" for number in range(2000)}
    with proxybox.Sandbox(limits={"cpu_time": 60}) as box:
        result = box.run(code, files=files, timeout=100)
    assert result.stdout == "2000\n", result


def test_files_of_many_threads(box):
    code = """
import threading
failed = []
def read():
    try:
        for _ in range(150): open("/box/x").read()
    except OSError as error: failed.append(error)
threads = [threading.Thread(target=read) for _ in range(6)]
for each in threads: each.start()
for each in threads: each.join()
print(failed)
"""
    assert printed(box, code) == "[]\n"


def test_a_lack_that_lasts_costs_one_collection_a_call(box):
    """This is true also in a program that has had threads: a call is repeated only if a descriptor was closed."""
    code = (
        COUNT
        + """
import threading
thread = threading.Thread(target=int); thread.start(); thread.join()
held = []
try:
    while True: held.append(open("/box/x"))
except OSError: pass
gc.collect(); runs.clear()
failed = 0
for _ in range(10):
    try: open("/box/x")
    except OSError: failed += 1
print(failed, len(runs))
"""
    )
    failed, runs = printed(box, code).split()
    assert failed == "10"
    assert int(runs) <= 20  # two for each call, as finalizers of the first may leave work for a second


def test_calls_of_cs_own(box):
    """Calls by ctypes, and in a thread that has run no Python code."""
    code = """
import ctypes
libc = ctypes.CDLL(None)
def fill(): return [open("/box/x") for _ in range(20)] and None
fill()
numbers = [libc.open(b"/box/x", 0) for _ in range(15)]
print(-1 in numbers)
for each in numbers: libc.close(each)
thread, answer, name = ctypes.c_ulong(), ctypes.c_void_p(), ctypes.create_string_buffer(b"/box/y")
for _ in range(40):
    open("/box/x")
    assert libc.pthread_create(ctypes.byref(thread), None, ctypes.cast(libc.creat, ctypes.c_void_p), name) == 0
    assert libc.pthread_join(thread, ctypes.byref(answer)) == 0
    assert answer.value is None or answer.value < 32, answer.value
    libc.close(answer.value)
print("done")
"""
    assert printed(box, code) == "False\ndone\n"


def test_who_holds_too_many_is_refused_and_collects_once(box):
    code = f"""{COUNT}
import errno, os
held = []
try:
    while True: held.append(open("/box/x"))
except OSError as error: print(error.errno == errno.EMFILE)
for ask in (lambda: open("/box/x"), lambda: os.dup(0), os.pipe):
    before = len(runs)
    try: ask()
    except OSError as error: print(error.errno == errno.EMFILE, len(runs) - before)
held.pop().close()
before = len(runs)
open("/box/x").close()
print(len(runs) - before, len(held) > 20)
"""
    assert printed(box, code) == "True\nTrue 1\nTrue 1\nTrue 1\n0 True\n"


def test_finalizers_that_open_files_do_not_collect_in_turn(box):
    """Calls in finalizers fail without a collection; the call that made them run goes on."""
    code = """
class Opens:
    def __init__(self): self.file = open("/box/x")
    def __del__(self):
        global refused
        held = []
        try:
            while True: held.append(open("/box/x"))
        except OSError: refused += 1
        for each in (self.file, *held): each.close()
refused = 0
for _ in range(100): Opens()
print(refused > 50)
"""
    assert printed(box, code) == "True\n"


@pytest.mark.parametrize("error", ["KeyboardInterrupt", "TimeoutError"])
def test_what_handlers_of_signals_raise_is_not_lost(box, error):
    code = """
import signal
raised = caught = 0
inside = False
def interrupt(*_):
    global raised, inside
    if inside:
        raised, inside = raised + 1, False
        raise ERROR
signal.signal(signal.SIGALRM, interrupt)
pause = 0.001
signal.setitimer(signal.ITIMER_REAL, pause, pause)
read = 0
while read < 250:
    try:
        inside = True
        open("/box/x").read()
        inside = False
        read += 1
    except ERROR:
        caught += 1
        pause *= 1.02  # on a slow machine a reading takes longer than the first of them
        signal.setitimer(signal.ITIMER_REAL, pause, pause)
signal.setitimer(signal.ITIMER_REAL, 0)
print(raised - caught)
"""
    assert printed(box, code.replace("ERROR", error)) == "0\n"


def test_tracers_see_nothing_of_it(box):
    code = """
import sys
names = set()
def trace(frame, event, argument):
    names.add(frame.f_code.co_name)
    return trace
sys.settrace(trace)
for _ in range(100): open("/box/x").read()
sys.settrace(None)
print(names & {"<module>", "collect", "failed"})
"""
    assert printed(box, code) == "set()\n"


def test_at_the_end_of_the_stack(box):
    """At the end of the stack no finalizer can run: the call fails with an ordinary error, and the program goes on."""
    code = """
import os
def descend():
    try: return descend()
    except RecursionError:
        for _ in range(40): open("/box/x").read()
        raise
try: descend()
except (OSError, RecursionError): print("an error")
print(len(open("/box/x").read()))
"""
    result = box.run(code, files={"x": b"hello"}, timeout=60)
    assert result.ok, result
    assert result.stdout == "an error\n5\n"


def test_in_a_session_and_its_copies(box):
    with box.session(files={"x": b"hello"}, timeout=60) as session:
        read = "sum(len(open('/box/x').read()) for _ in range(200))"
        assert session.eval(read).value == 1000
        with session.fork() as copy:
            assert copy.eval(read).value == 1000
        assert session.eval(read).value == 1000


def test_in_a_box_of_an_engine():
    async def read():
        async with proxybox.AsyncSandbox(limits=FEW) as box:
            return await box.run("print(sum(len(open('/box/x').read()) for _ in range(200)))", files={"x": b"hello"})

    assert asyncio.run(read()).stdout == "1000\n"
