"""A zygote does not know its programs' surroundings: their own modules, the policy's settings, the world of the box."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest

import proxybox
from proxybox.controller.guests.programs import guest_program
from proxybox.program import Program

EACH_GUEST = True
SCRIPT = "/box/main.py"
LIMITS = {"wall_time": 200, "cpu_time": 60, "memory": "1G"}

MakeSandbox = Callable[..., proxybox.Sandbox]

# --- modules of its own -----------------------------------------------------------------------------------------------

#: Names of modules that the bootstrap consists of or needs, and some that students use.
SHADOWING = (
    *("bootstrap", "session", "values", "completion", "host"),
    *("types", "traceback", "random", "linecache", "tokenize", "token", "ast", "enum", "re", "struct", "_struct"),
    *("warnings", "inspect", "signal", "keyword", "functools", "collections", "operator", "itertools", "contextlib"),
    *("copyreg", "reprlib", "textwrap", "codeop", "dis", "importlib", "runpy", "datetime", "threading", "string"),
    *("json", "math", "queue", "typing", "dataclasses", "io", "__future__", "_cffi_backend", "numpy"),
)
SHADOWED = f"""
import sys
for name in {SHADOWING}:
    module = sys.modules.pop(name, None)
    print(name, "loaded" if module else "", end=" ")
    if module: sys.modules[name] = module
    module = __import__(name)
    print(getattr(module, "__file__", "built in"))
    if module.__name__ in ("importlib", "io"): continue
import os, abc, codecs
print(os.__file__, abc.__file__, codecs.__file__)
"""


def test_modules_of_the_program_go_before_those_that_a_bare_interpreter_has_not_loaded(ways: Any) -> None:
    files = {f"{name}.py": b"" for name in (*SHADOWING, "os", "abc", "codecs", "site", "posixpath")}
    shown = ways.compare((SCRIPT,), {**files, "main.py": SHADOWED.encode()})
    assert "types  /box/types.py" in shown.stdout, shown.stderr
    shown = ways.compare(("-c", SHADOWED), files)
    # CPython 3.13 itself needs linecache for -c
    assert "types  /box/types.py" in shown.stdout or "'linecache' has no" in shown.stderr[0], shown.stderr


def test_what_a_policy_preloads_is_there_with_all_that_it_needs(warm_sandbox: MakeSandbox) -> None:
    code = "import heapq; print(sorted({'random', 'heapq', 'bisect', 'session'} & seen), heapq.__file__)"
    box = warm_sandbox(preload=["random"])
    result = box.run(f"import sys; seen = set(sys.modules); {code}", files={"heapq.py": "", "random.py": ""})
    assert result.stdout == "['bisect', 'random'] /box/heapq.py\n", result
    assert len({box.run("import random; print(random.random())").stdout for _ in range(3)}) == 3


def test_modules_that_the_policy_preloads_may_be_called_as_ours_are(warm_sandbox: MakeSandbox, tmp_path: Path) -> None:
    ours = [path.stem for path in Path(guest_program("bootstrap.py")).parent.glob("*.py")]
    for name in (*ours, "values", "kind"):
        (tmp_path / f"{name}.py").write_text("THEIRS = True")
    tmp_path.chmod(0o755)
    box = warm_sandbox(preload=[*ours, "values", "kind"], packages=[tmp_path])
    result = box.run(
        "import session, values, program, kind, bootstrap as b; print(session.THEIRS, values.THEIRS, b.THEIRS)"
    )
    assert result.stdout == "True True True\n", result
    with box.session() as session:
        assert session.eval("__import__('session').THEIRS").value is True


# --- environment and clock --------------------------------------------------------------------------------------------

VARIABLES: tuple[dict[str, str], ...] = (
    {"PYTHONWARNINGS": "error::UserWarning", "PYTHONOPTIMIZE": "2", "PYTHONPATH": "/box/lib", "PYTHONUNBUFFERED": "1"},
    {"PYTHONIOENCODING": "latin-1:replace", "PYTHONFAULTHANDLER": "1", "PYTHONINSPECT": "1", "PYTHONHASHSEED": "5"},
    {"PYTHONDEVMODE": "1", "PYTHONUTF8": "0", "LANG": "C", "PYTHONNOUSERSITE": "1", "TZ": "Asia/Tokyo"},
)
SEEN = """
import sys
print(sorted(set(sys.modules) - {"_distutils_hack", "sitecustomize", "pwd", "encodings.utf_8_sig"}))
print([each for each in sys.path if "dist-packages" not in each], sys.flags, sys.warnoptions, sys.argv)
for stream in (sys.stdin, sys.stdout, sys.stderr):
    print(stream.encoding, stream.errors, stream.line_buffering, stream.write_through)
import faulthandler, locale, os, time
print(faulthandler.is_enabled(), sorted(os.environ), locale.setlocale(locale.LC_ALL), time.tzname, __doc__)
try:
    import inner
    print(inner.__file__)
except ImportError as error: print(error)
print(__debug__)
import warnings
warnings.warn("told")
open(__file__)
"""


@pytest.mark.parametrize("variables", VARIABLES, ids=lambda variables: " ".join(variables))
def test_environment_variables_of_the_policy(variables: dict[str, str], ways: Any, warm_sandbox: MakeSandbox) -> None:
    locale = {"locale": variables["LANG"]} if "LANG" in variables else {}
    fields = {"variables": {name: value for name, value in variables.items() if name != "LANG"}, **locale}
    there = attrs.evolve(
        ways,
        cold=proxybox.Sandbox(warm=False, limits=LIMITS, environment=fields),
        warm=warm_sandbox(limits=LIMITS, environment=fields),
    )
    there.compare((SCRIPT,), {"main.py": SEEN.encode(), "lib/inner.py": b""}, **variables)


FROZEN = {"kind": "frozen", "at": "2026-01-01T12:00:00Z"}


@pytest.mark.parametrize("time", ["real", FROZEN, "virtual"], ids=["real", "frozen", "virtual"])
def test_modules_are_found_whatever_the_clock_says(time: Any, warm_sandbox: MakeSandbox) -> None:
    """The zygote has cached the contents of folders that are different in its copies, with the same time by their
    clock.
    """
    box = warm_sandbox(time=time, environment={"variables": {"PYTHONPATH": "/box:/box/lib:lib"}}, preload=["json"])
    for name in ("one", "two"):
        files = {f"{name}.py": "", f"lib/{name}_inner.py": ""}
        assert box.run(f"import {name}, {name}_inner, decimal", files=files).ok
    with box.session(files={"three.py": "", "lib/four.py": ""}) as session:
        assert session.exec("import three, four").ok


@pytest.mark.parametrize("time", [FROZEN, "virtual"], ids=["frozen", "virtual"])
def test_a_clock_that_is_not_real_says_the_same(time: Any, warm_sandbox: MakeSandbox) -> None:
    code = (
        "import time; print(int(time.time()), int(time.monotonic()), time.localtime()[:5], time.get_clock_info('time'))"
    )
    cold = proxybox.run(code, time=time)
    assert cold.ok
    assert warm_sandbox(time=time).run(code).stdout == cold.stdout


# --- what only a box has ----------------------------------------------------------------------------------------------

SYSTEM = """
import os, resource, signal, sys, time, threading, socket, platform, getpass, locale, errno
print(os.getpid(), os.getppid(), os.getpgrp(), os.getsid(0), os.getuid(), os.getgid(), os.getgroups(), os.getlogin)
print(threading.get_native_id(), os.nice(0), os.getcwd(), os.umask(0), os.getloadavg(), os.cpu_count(),)
limits = [name for name in sorted(dir(resource)) if name.startswith("RLIMIT_")]
print([(name, resource.getrlimit(getattr(resource, name))) for name in limits])
print(signal.pthread_sigmask(signal.SIG_BLOCK, []), signal.getitimer(signal.ITIMER_REAL), signal.sigpending())
print(sorted(os.listdir("/proc/self/fd")), sorted(os.listdir("/proc/self")), sorted(os.listdir("/")))
for name in ("cmdline", "comm", "environ", "limits", "cgroup"):
    try: print(name, open("/proc/self/" + name).read())
    except OSError as error: print(error)
for fd in range(5):
    try: print(os.fstat(fd), os.isatty(fd), os.get_inheritable(fd), os.get_blocking(fd))
    except OSError as error: print(fd, errno.errorcode[error.errno])
for path in ("/box", "/tmp", "/home/user", "/usr/lib", __file__):
    print(path, os.stat(path)[:1], os.stat(path)[3:7], os.access(path, os.W_OK))
    print(sorted(os.listdir(path))[:9] if os.path.isdir(path) else "")
print(os.path.exists("/usr/lib/proxybox"), platform.uname(), getpass.getuser(), socket.gethostname())
print(sorted(os.environ.items()), os.get_terminal_size.__name__, os.statvfs("/tmp")[:5])
os.mkdir("made"); open("written", "w").close(); os.chmod("written", 0o600); os.rename("given", "taken")
print(sorted(os.listdir()), os.stat("made").st_mode, os.stat("written").st_uid)
"""


def test_the_system_around_a_program(cold: proxybox.Sandbox, warm: proxybox.Sandbox) -> None:
    words, files = (SCRIPT,), {"main.py": SYSTEM.encode(), "given": b"content"}
    one, other = (box.run_program(Program(words=words, files=files)) for box in (cold, warm))
    assert one.ok, one.stderr
    numbers = re.compile(r"(?:st_ino|st_[acm]time|_integer_[acm]time)=[\d.]+")
    assert numbers.sub("", other.stdout).splitlines() == numbers.sub("", one.stdout).splitlines()
    assert dict(other.files) == dict(one.files)
    assert [(each.path, each.kind) for each in other.files.changes] == [
        (each.path, each.kind) for each in one.files.changes
    ]
