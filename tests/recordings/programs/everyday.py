"""Small programs of one thread, as people write them: a record must contain all of it, and a replay must do the same.

Each gets `STDIN`, and the limits of `LIMITS`. Most of them depend on something that differs in each run.
"""

from typing import Any, Final

STDIN: Final = "Ada\n42\nyes\nquit\n"
LIMITS: Final[dict[str, Any]] = {"wall_time": 60, "cpu_time": 30, "disk": "8M"}

#: Output for people, and ends.
ENDS: Final = {
    "nothing": "pass",
    "a greeting": "name = input('Name? ')\nprint(f'Hello, {name}!')",
    "a prompt at the end": "print('working')\nprint('done? ', end='')\ninput()",
    "no newline at the end": "import os\nprint('pid', os.getpid(), end='')",
    "a game": """
import random
secret = random.randrange(100)
while True:
    guess = input("guess: ")
    if not guess.isdigit(): print("no number", guess); continue
    print("higher" if int(guess) < secret else "lower" if int(guess) > secret else "yes")
""",
    "an uncaught exception": "import os\nprint(os.urandom(4).hex())\nopen('/missing/file')",
    "a chained exception": """
import time
def parse(text):
    try: return int(text)
    except ValueError as error: raise RuntimeError(f"at {time.time()}") from error
parse("x")
""",
    "an excepthook": """
import sys, traceback
sys.excepthook = lambda kind, value, tb: print("hook:", kind.__name__, value, len(traceback.extract_tb(tb)))
{}["key"]
""",
    "a message at exit": "import sys, random\nsys.exit(f'gone {random.random()}')",
    "an exit status": "import sys\nprint('three')\nsys.exit(3)",
    "an exit at once": "import os, sys\nprint('lost?')\nsys.stdout.flush()\nprint('unflushed')\nos._exit(9)",
    "things at exit": """
import atexit, os, weakref
class Closing:
    def __del__(self): print("deleted")
atexit.register(lambda: print("first registered", os.getpid()))
atexit.register(print, "last registered")
kept = Closing(); weakref.finalize(kept, print, "finalized")
print("main ends")
""",
    "an error at exit": "import atexit\natexit.register(lambda: 1 / 0)\nprint('main ends')",
    "an interrupt": "print('before', flush=True)\nraise KeyboardInterrupt",
    "a syntax error": "print('never')\nif True print(1)",
    "ended by a signal": "import os, signal, time\nprint(time.time(), flush=True)\nos.kill(os.getpid(), signal.SIGTERM)",
    "aborted": "import os\nprint('a', flush=True)\nos.abort()",
    "much output": "import random\nfor k in range(60_000): print(k, random.random())",
    "much output in one line": "import os\nprint(os.urandom(900_000).hex(), end='')",
    "two streams": """
import sys
for k in range(50):
    print("out", k, file=sys.stdout, flush=k % 3 == 0); print("err", id(k), file=sys.stderr)
""",
    "bytes": "import os, sys\nsys.stdout.buffer.write(bytes(range(256)) + os.urandom(64))",
    "letters": "print('h\\u00e9llo \\u4e16\\u754c \\U0001f600', ascii('\\u00e9'), '\\x1b[1mbold\\x1b[0m', sep='\\n')\n'\\udc80'.encode()",
    "lines of input": "import sys\nfor number, line in enumerate(sys.stdin): print(number, line.strip().upper())",
    "a command loop": """
import cmd
class Shell(cmd.Cmd):
    use_rawinput = False
    def default(self, line): print("you said", line)
    def do_quit(self, _): return True
Shell().cmdloop("welcome")
""",
    "a prompt of Python": "import code\ncode.InteractiveConsole({'x': 3}).interact(banner='hi', exitmsg='bye')",
    "a password": "import getpass, warnings\nwarnings.simplefilter('ignore')\nprint(len(getpass.getpass()))",
    "wrong arguments": """
import argparse
parser = argparse.ArgumentParser(prog="tool")
parser.add_argument("--count", type=int)
print(parser.parse_args(["--count", "3"]))
parser.parse_args(["--count", "many"])
""",
    "deep recursion": "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError as error: print(error)\nf(0)",
    "no memory": "import os\nkept = []\ntry:\n    while True: kept.append(bytearray(64 << 20))\nexcept MemoryError: kept.clear(); print(os.urandom(3))",
    "a full disk": """
try:
    with open("big", "wb") as file:
        for _ in range(20): file.write(b"x" * (1 << 20))
except OSError as error: print(error.strerror)
import os; print(os.path.getsize("big") > 0)
""",
}  # fmt: skip

#: Work with files.
FILES: Final = {
    "csv": """
import csv, random
with open("marks.csv", "w", newline="") as file:
    rows = csv.DictWriter(file, ["name", "mark"]); rows.writeheader()
    for name in ("Ada", "Bo", "Cy"): rows.writerow({"name": name, "mark": random.randint(1, 6)})
with open("marks.csv", newline="") as file: print(sum(int(row["mark"]) for row in csv.DictReader(file)))
""",
    "json": """
import json, time
with open("state.json", "w") as file: json.dump({"at": time.time(), "list": [1, 2.5, None]}, file, indent=1)
print(json.load(open("state.json")))
""",
    "a database": """
import sqlite3, time, random
with sqlite3.connect("notes.db") as base:
    base.execute("create table note (id integer primary key, at real, text text)")
    base.executemany("insert into note (at, text) values (?, ?)", [(time.time(), f"n{k}") for k in range(50)])
    print(base.execute("select count(*), max(at), random() from note").fetchone())
base.close()
""",
    "zip": """
import zipfile, os
with zipfile.ZipFile("a.zip", "w", zipfile.ZIP_DEFLATED) as made:
    for k in range(5): made.writestr(f"f{k}.txt", os.urandom(100).hex())
with zipfile.ZipFile("a.zip") as read: print([(each.filename, each.date_time, each.CRC) for each in read.infolist()])
""",
    "tar": """
import io, tarfile, os
open("one", "w").write("1" * 5000)
with tarfile.open("a.tar.gz", "w:gz") as made: made.add("one")
with tarfile.open("a.tar.gz") as read: print([(each.name, each.mtime, each.size) for each in read])
print(os.path.getsize("a.tar.gz"))
""",
    "compression": """
import bz2, gzip, lzma, os, zlib
data = os.urandom(500) + b"x" * 5000
for kind in (bz2, gzip, lzma):
    with kind.open("file", "wb") as file: file.write(data)
    with kind.open("file") as file: print(kind.__name__, file.read() == data, os.path.getsize("file"))
print(zlib.crc32(data))
""",
    "temporary files": """
import os, tempfile
with tempfile.TemporaryDirectory() as folder:
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file: file.write(b"x"); print(file.name)
    print(os.listdir(folder))
with tempfile.SpooledTemporaryFile(10) as file: file.write(b"y" * 50); print(file.tell())
fd, path = tempfile.mkstemp(); os.close(fd); print(path, tempfile.gettempdir())
""",
    "a log": """
import logging, logging.handlers
logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(message)s", handlers=[
    logging.StreamHandler(), logging.handlers.RotatingFileHandler("app.log", maxBytes=400, backupCount=2)])
for k in range(20): logging.info("event %d", k)
try: 1 / 0
except ZeroDivisionError: logging.exception("it failed")
""",
    "a tree of folders": """
import os, pathlib, shutil
for k in range(4): pathlib.Path(f"src/{k}/deep").mkdir(parents=True); pathlib.Path(f"src/{k}/deep/f.txt").write_text("x" * k)
shutil.copytree("src", "dst"); shutil.move("dst/3", "moved"); shutil.rmtree("src/0")
for folder, names, files in os.walk("."): print(folder, sorted(names), sorted(files))
print(sorted(map(str, pathlib.Path().rglob("*.txt"))), shutil.disk_usage(".")[0] > 0)
""",
    "what files are": """
import os, stat, time
open("a", "w").write("a"); os.chmod("a", 0o640); os.utime("a", (1, 2)); os.link("a", "b"); os.symlink("a", "c")
for entry in sorted(os.scandir("."), key=lambda each: each.name):
    told = entry.stat(follow_symlinks=False); print(entry.name, stat.filemode(told.st_mode), told.st_nlink, told.st_ino)
print(os.stat("a"), os.readlink("c"), time.time() - os.path.getctime("a") < 60)
os.rename("a", "d"); os.remove("b"); print(os.path.exists("c"), os.path.lexists("c"))
""",
    "a mapped file": """
import mmap, os
open("m", "wb").write(os.urandom(8192))
with open("m", "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
    view[:5] = b"hello"; print(view.find(b"hello"), view[100:104])
    view.flush()
print(open("m", "rb").read(5))
""",
    "locks of files": """
import fcntl, os
with open("lock", "w") as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB); fcntl.lockf(file, fcntl.LOCK_EX); file.write(str(os.getpid()))
    os.ftruncate(file.fileno(), 100); os.fsync(file.fileno()); print(os.lseek(file.fileno(), 0, os.SEEK_END))
""",
    "objects kept": """
import pickle, shelve, dbm.dumb, datetime
with open("p", "wb") as file: pickle.dump({"now": datetime.datetime.now(), "set": {1, 2}}, file)
print(pickle.load(open("p", "rb")))
with dbm.dumb.open("d", "c") as base: base[b"k"] = b"v"; print(base.keys())
with shelve.Shelf(dict()) as kept: kept["a"] = [1]; print(kept["a"])
""",
    "modules of one's own": """
import importlib, pathlib, py_compile, sys, zipfile
pathlib.Path("pack").mkdir(); pathlib.Path("pack/__init__.py").write_text("import time; at = time.time()")
pathlib.Path("pack/part.py").write_text("from . import at; print('imported', at)")
sys.path.insert(0, ""); importlib.invalidate_caches(); import pack.part
with zipfile.ZipFile("z.zip", "w") as made: made.writestr("zipped.py", "x = 7")
sys.path.insert(0, "z.zip"); import zipped
print(zipped.x, py_compile.compile("pack/part.py"), importlib.reload(pack).at > 0)
""",
    "settings": """
import configparser, tomllib, io, os
made = configparser.ConfigParser(); made["a"] = {"home": os.environ.get("HOME", ""), "n": "3"}

with open("a.ini", "w") as file: made.write(file)
read = configparser.ConfigParser(); read.read("a.ini"); print(dict(read["a"]))
print(tomllib.loads("x = 1979-05-27T07:32:00Z"))
""",
    "a report in place": """
import fileinput, glob, os, pathlib
for k in range(3): pathlib.Path(f"r{k}.txt").write_text("old line\\n" * 3)
for line in fileinput.input(sorted(glob.glob("r*.txt")), inplace=True): print(line.replace("old", "new"), end="")
print(open("r1.txt").read(), len(os.listdir()))
""",
}  # fmt: skip

#: Requests to the system.
SYSTEM: Final = {
    "clocks": """
import time, datetime
print(time.time_ns(), time.perf_counter(), time.process_time(), time.thread_time(), time.strftime("%c"))
print(datetime.datetime.now(), datetime.datetime.now(datetime.UTC).isoformat(), time.get_clock_info("monotonic"))
began = time.monotonic(); time.sleep(0.01); print(time.monotonic() - began)
""",
    "many clocks": "import time\na = [time.monotonic() for _ in range(2000)]\nprint(a[0], a[-1], a == sorted(a))",
    "time zones": """
import datetime, zoneinfo, calendar, time
print(datetime.datetime.now(zoneinfo.ZoneInfo("Europe/Zurich")), calendar.month(2026, 11), time.tzname)
""",
    "chance": """
import random, secrets, uuid, os
random.shuffle(deck := list(range(20))); print(deck, random.gauss(0, 1), random.SystemRandom().random())
print(secrets.token_urlsafe(), uuid.uuid4(), uuid.uuid1(), os.getrandom(4))
""",
    "order of sets": "print({str(k) for k in range(30)}, hash('a'), id(object()), [object() for _ in range(3)])",
    "garbage": """
import gc, weakref
class Node: pass
gone = []
for k in range(3000):
    node = Node(); node.me = node; weakref.finalize(node, gone.append, k)
del node; gc.collect(); print(len(gone), gone[:3], gc.get_count() if hasattr(gc, "get_count") else "")
""",
    "who I am": """
import os, platform, pwd, getpass, socket, sys, resource
print(os.getpid(), os.getppid(), os.getuid(), os.uname(), platform.platform(), os.cpu_count(), sys.version)
print(resource.getrusage(resource.RUSAGE_SELF).ru_utime >= 0, os.times(), sorted(os.environ.items()))
for ask in (os.getlogin, getpass.getuser, socket.gethostname, lambda: pwd.getpwuid(os.getuid())):
    try: print(ask())
    except (OSError, KeyError, ImportError) as error: print(type(error).__name__)
""",
    "other programs": """
import os, subprocess
for start in (lambda: subprocess.run(["ls"]), lambda: os.system("true"), os.fork, lambda: os.popen("date").read()):
    try: print(start())
    except OSError as error: print(type(error).__name__, error.errno)
""",
    "other processes": """
import multiprocessing
def main():
    worker = multiprocessing.get_context("fork").Process(target=print, args=("child",))
    try: worker.start(); worker.join()
    except OSError as error: print(error.strerror)
main()
with multiprocessing.get_context("fork").Pool(2) as pool: pool.map(abs, [1])
""",
    "no network": """
import socket, urllib.request, http.client
for ask in (lambda: urllib.request.urlopen("http://example.org", timeout=3), lambda: socket.create_connection(("1.2.3.4", 80)),
            lambda: socket.getaddrinfo("example.org", 80), lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(("", 53))):
    try: print(ask())
    except OSError as error: print(type(error).__name__, error)
""",
    "signals": """
import os, signal, time
def note(number, frame): print(signal.Signals(number).name, frame.f_code.co_name)
for each in (signal.SIGUSR1, signal.SIGALRM, signal.SIGINT): signal.signal(each, note)
os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGINT)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01); time.sleep(0.05); signal.alarm(0); signal.setitimer(signal.ITIMER_REAL, 0)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); os.kill(os.getpid(), signal.SIGUSR1); print(signal.sigpending())
""",
    "pipes and polls": """
import os, select, selectors, socket
r, w = os.pipe(); poll = select.poll(); poll.register(r, select.POLLIN); print(poll.poll(5))
os.write(w, b"hi"); print(poll.poll(5), select.select([r], [], [], 0), os.read(r, 9))
a, b = socket.socketpair(); a.sendall(b"x" * 1000)
with selectors.DefaultSelector() as chosen: chosen.register(b, selectors.EVENT_READ, "b"); print(chosen.select(1)[0][0].data, len(b.recv(2000)))
""",
    "asyncio": """
import asyncio, time
async def worker(name, queue):
    while (item := await queue.get()) is not None: await asyncio.sleep(0.001 * item); print(name, item, time.monotonic())
async def main():
    queue = asyncio.Queue(); tasks = [asyncio.create_task(worker(f"w{k}", queue)) for k in range(3)]
    for k in range(9): await queue.put(k)
    for _ in tasks: await queue.put(None)
    await asyncio.gather(*tasks)
    try: await asyncio.wait_for(asyncio.sleep(5), 0.005)
    except asyncio.TimeoutError: print("too late")
asyncio.run(main())
""",
    "asyncio with another program": """
import asyncio
async def main():
    try: print(await asyncio.create_subprocess_exec("ls"))
    except OSError as error: print(error.strerror)
    reader, writer = await asyncio.open_connection("127.0.0.1", 9)
asyncio.run(main())
""",
    "the C library": """
import ctypes
libc = ctypes.CDLL(None); libc.time.restype = ctypes.c_long
print(libc.getpid(), libc.time(None) > 0, libc.abs(-3), libc.rand(), ctypes.create_string_buffer(8).raw)
""",
    "libraries in C": "import ssl, hashlib, zlib, ctypes\nprint(hashlib.sha256(b'a').hexdigest(), ssl.OPENSSL_VERSION, ssl.RAND_bytes(8))",
    "a terminal": """
import os, shutil, sys
print(shutil.get_terminal_size(), sys.stdin.isatty())
for ask in (lambda: os.ttyname(0), lambda: __import__("termios").tcgetattr(0), lambda: __import__("curses").initscr()):
    try: print(ask())
    except Exception as error: print(type(error).__name__)
""",
    "a schedule": """
import sched, time
jobs = sched.scheduler(time.monotonic, time.sleep)
for k in range(4): jobs.enter(0.002 * k, 1, print, (k, time.time()))
jobs.run()
""",
}  # fmt: skip

#: Work with the standard library.
LIBRARY: Final = {
    "unittest": """
import unittest, random
class Test(unittest.TestCase):
    def test_good(self): self.assertLess(random.random(), 1)
    def test_bad(self): self.assertEqual(1, random.random() + 2)
    def test_raises(self): {}["x"]
    @unittest.skip("later")
    def test_skipped(self): pass
unittest.main(argv=["test", "-v"])
""",
    "doctest": """
import doctest, sys, types
module = types.ModuleType("m"); exec('def f(n):\\n    \"\"\"\\n    >>> f(2)\\n    4\\n    >>> f(3)\\n    7\\n    \"\"\"\\n    return n * n', module.__dict__)
module.f.__module__ = "m"; print(doctest.testmod(module))
""",
    "a profile": """
import cProfile, io, pstats
def work(): return sorted(str(k) for k in range(2000))
profile = cProfile.Profile(); profile.runcall(work); said = io.StringIO()
pstats.Stats(profile, stream=said).sort_stats("cumtime").print_stats(8); print(said.getvalue())
""",
    "the profiler itself": """
import _lsprof
profile = _lsprof.Profiler(); profile.enable(); sorted(str(k) for k in range(500)); profile.disable()
print([(str(each.code)[:20], each.callcount, each.totaltime) for each in profile.getstats()])
""",
    "measurements": "import timeit\nprint(timeit.timeit('sum(range(100))', number=2000), timeit.repeat('x = 1', number=10))",
    "a trace": """
import sys, time
lines = []
def trace(frame, event, arg): lines.append((event, frame.f_lineno)); return trace
def f():
    a = time.time()
    return a
sys.settrace(trace); print(f() > 0); sys.settrace(None); print(lines)
""",
    "numbers": """
import decimal, fractions, math, statistics, random, cmath
decimal.getcontext().prec = 50; print(decimal.Decimal(2).sqrt(), fractions.Fraction(random.random()).limit_denominator(99))
print(statistics.stdev(random.random() for _ in range(50)), math.factorial(30), cmath.exp(1j), 2**500 % 97)
""",
    "data classes": """
import collections, dataclasses, enum, functools, heapq, itertools, time
@dataclasses.dataclass(order=True)
class Job: due: float; name: str = dataclasses.field(default="job", compare=False)
heap = [Job(time.time() + k % 3, f"j{k}") for k in range(9)]; heapq.heapify(heap); print([heapq.heappop(heap) for _ in range(3)])
print(enum.Enum("Color", "RED GREEN").RED, collections.Counter("hello"), list(itertools.permutations(range(3))))
fib = functools.lru_cache(lambda n: n if n < 2 else fib(n - 1) + fib(n - 2)); print(fib(60), fib.cache_info())
""",
    "text": """
import re, textwrap, difflib, string, os, base64, hashlib, hmac, struct, html
text = base64.b64encode(os.urandom(300)).decode(); print(re.findall(r"[A-Z]+\\d", text), textwrap.fill(text, 60))
print(list(difflib.unified_diff("a b c".split(), "a c d".split())), string.Template("$x").substitute(x=1))
print(hashlib.sha256(text.encode()).hexdigest(), hmac.new(b"k", b"m", "md5").hexdigest(), struct.pack("<Id", 7, 0.5), html.escape("<"))
""",
    "documents": """
import xml.etree.ElementTree as tree, html.parser, email.message, email.utils, urllib.parse, mailbox
root = tree.fromstring("<a><b x='1'/></a>"); print(tree.tostring(root), urllib.parse.urlsplit("http://u@h:1/p?q#f"))
mail = email.message.EmailMessage(); mail["Subject"] = "s"; mail["Date"] = email.utils.formatdate()
mail["Message-ID"] = email.utils.make_msgid(domain="example.org"); mail.set_content("body"); print(mail)
box = mailbox.mbox("box"); box.add(mail); box.flush(); print(len(box))
""",
    "code about code": """
import ast, dis, inspect, io, contextlib, warnings
print(ast.dump(ast.parse("x = 1"))); said = io.StringIO()
with contextlib.redirect_stdout(said): dis.dis(compile("x + 1", "f", "eval"))
print(len(said.getvalue()) > 10, inspect.signature(print), eval("1 + 1")); warnings.warn("beware"); exec("y = 3"); print(y)
""",
    "a traceback of all": "import faulthandler, traceback, sys\nfaulthandler.dump_traceback(file=sys.stderr)\ntraceback.print_stack()\nprint('on')",
    "what is missing": "try: import tkinter\nexcept ImportError as error: print(type(error).__name__)\nimport no_such_module",
    "games of life": """
import random
cells = {(random.randrange(30), random.randrange(30)) for _ in range(250)}
for _ in range(15):
    near = {}
    for x, y in cells:
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1): near[x + dx, y + dy] = near.get((x + dx, y + dy), 0) + 1
    cells = {at for at, count in near.items() if count == 3 or (count == 4 and at in cells)}
print(len(cells), sorted(cells)[:5])
""",
}  # fmt: skip

PROGRAMS: Final = ENDS | FILES | SYSTEM | LIBRARY
