"""A program cannot see how it was started: bare pypy3, a cold box and a warm one look the same to it.

limitations.md lists the remaining differences.
"""

import io
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from proxybox.controller import find_guest

EACH_GUEST = True
SCRIPT = "/box/main.py"

# --- how it is started ------------------------------------------------------------------------------------------------

#: Shows all state at the start of a program, except additions of a distribution to its own interpreter.
STATE = """
import sys
loaded = sorted(set(sys.modules) - {"_distutils_hack", "sitecustomize", "pwd", "encodings.utf_8_sig"})
main = dict(vars(sys.modules["__main__"]))
hooks, finders = list(sys.path_hooks), [each for each in sys.meta_path if isinstance(each, type)]
cache = [each for each in sys.path_importer_cache if each.startswith("/usr/lib/p") and "dist-packages" not in each]
def show(*words): print(*words, file=sys.__stdout__)
show("argv", sys.argv, sys.orig_argv if hasattr(sys, "orig_argv") else "")
show("path", [each for each in sys.path if "dist-packages" not in each])
show("modules", loaded)
for name, value in main.items():
    if name not in ("sys", "loaded"):
        show("main", name, getattr(value, "__name__", None) or type(value), value if type(value) in (str, dict) else "")
show("loader", vars(main["__loader__"]) if not isinstance(main["__loader__"], type) else main["__loader__"])
show("spec", main["__spec__"] and (main["__spec__"].name, main["__spec__"].origin, main["__spec__"].parent))
show("sys", sorted(vars(sys)))
show("flags", sys.flags, sys.warnoptions, sys._xoptions, sys.dont_write_bytecode, sys.getrecursionlimit())
show("finders", [getattr(each, "__qualname__", each) for each in hooks], finders, cache)
show("frames", sys._getframe().f_back, sys._getframe().f_code.co_name, sys._getframe().f_lineno, sys.exc_info())
show("hooks", sys.excepthook is sys.__excepthook__, sys.displayhook is sys.__displayhook__)
show("hooks", sys.gettrace(), sys.getprofile())
show("importlib", vars(sys.modules["_frozen_importlib"])["__name__"], sys.modules["_frozen_importlib_external"])
for stream in (sys.stdin, sys.stdout, sys.stderr):
    show(stream.name, stream.mode, stream.encoding, stream.errors, stream.newlines, stream.line_buffering)
show("same", sys.stdin is sys.__stdin__, sys.stdout is sys.__stdout__, sys.stderr is sys.__stderr__)
import builtins, _frozen_importlib_external as external, gc, _warnings, os, _signal, time, codecs, _thread
show("builtins", dir(builtins), builtins.__import__.__name__)
show("warnings", _warnings.filters, _warnings._defaultaction)
show("system", os.getcwd(), sorted(os.environ.items()), gc.isenabled(), gc.garbage, _thread._count())
show("encodings", sys.getfilesystemencoding(), sys.getfilesystemencodeerrors(), sys.getdefaultencoding(), time.tzname)
show("signals", [_signal.getsignal(number) for number in range(1, 65)])
os.umask(os.umask(0o22)) == 0o22 or show("umask")
import traceback, inspect, threading, atexit, locale, faulthandler
show("stack", traceback.extract_stack(), [frame.function for frame in inspect.stack()])
show("threads", [(thread.name, thread.daemon) for thread in threading.enumerate()])
show("threads", threading.main_thread() is threading.current_thread(), len(sys._current_frames()))
show("atexit", atexit._ncallbacks() if hasattr(atexit, "_ncallbacks") else "")
show("locale", locale.setlocale(locale.LC_ALL), locale.getpreferredencoding(), faulthandler.is_enabled())
show("weak", sys.last_type if hasattr(sys, "last_type") else "no exception yet")
if main["__name__"] == "__main__": show("main")
"""


def archive() -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("__main__.py", STATE)
        file.writestr("helper.py", "")
    return data.getvalue()


STARTS: dict[str, tuple[tuple[str, ...], dict[str, bytes]]] = {
    "script": ((SCRIPT, "a", "", "-c", "ünï"), {"main.py": STATE.encode()}),
    "script in a folder": (("/box/deep/er/main.py",), {"deep/er/main.py": STATE.encode()}),
    "script without a suffix": (("/box/main",), {"main": STATE.encode()}),
    "relative script": (("main.py", "x"), {"main.py": STATE.encode()}),
    "text": (("-c", STATE, "a", "-m"), {}),
    "module": (("-m", "module", "a"), {"module.py": STATE.encode()}),
    "package": (("-m", "package", "a"), {"package/__init__.py": b"here = 1", "package/__main__.py": STATE.encode()}),
    "module of a package": (
        ("-m", "package.inner"),
        {"package/__init__.py": b"", "package/inner.py": b"from . import o\n" + STATE.encode(), "package/o.py": b""},
    ),
    "input": (("-", "a", "b"), {}),
    "folder": (("/box", "a"), {"__main__.py": STATE.encode()}),
    "folder in it": (("/box/app",), {"app/__main__.py": STATE.encode(), "app/helper.py": b""}),
    "archive": (("/box/app.pyz", "a"), {"app.pyz": archive()}),
    "archive after a line": (("/box/app",), {"app": b"#!/usr/bin/env pypy3\n" + archive()}),
}  # fmt: skip


@pytest.mark.sized(7)
@pytest.mark.parametrize(("words", "files"), STARTS.values(), ids=STARTS.keys())
def test_the_state_in_which_a_program_begins(words: tuple[str, ...], files: dict[str, bytes], ways: Any) -> None:
    shown = ways.compare(words, files, STATE if words[0] == "-" else "")
    assert shown.stdout[-1] == "main", shown.stderr


# --- how it goes and ends ---------------------------------------------------------------------------------------------


def programs() -> dict[str, dict[str, bytes]]:
    """The programs in alike.txt, by name: each a main.py, and other files."""
    found = {}
    for text in ("\n" + Path(__file__).with_name("alike.txt").read_text()).split("\n=== ")[1:]:
        name, _, content = (text + "\n").partition("\n")
        main, *others = ("\n" + content).split("\n--- ")
        files = {"main.py": main[1:].encode()}
        for other in others:
            file, _, inside = other.partition("\n")
            files[file] = inside.encode()
        found[name] = files
    return found


SCRIPTS = programs()
MARKS = {"cffi": pytest.mark.pypy}
OTHERS: dict[str, tuple[tuple[str, ...], dict[str, bytes]]] = {
    "null byte": ((SCRIPT,), {"main.py": b"x = 1\x00"}),
    "bad encoding": ((SCRIPT,), {"main.py": b"# coding: utf-8\nx = '\xff'\n"}),
    "latin-1": ((SCRIPT,), {"main.py": b"# coding: latin-1\nprint(ascii('\xe4'))\n"}),
    "byte order mark": ((SCRIPT,), {"main.py": b"\xef\xbb\xbfprint('x')\r\nprint('y')\r\n"}),
    "no script": (("/box/none.py",), {}),
    "no module": (("-m", "none"), {}),
    "no main": (("/box",), {"x.py": b""}),
    "no main in a package": (("-m", "package"), {"package/__init__.py": b"print('init')"}),
    "module that fails": (("-m", "package.x"), {"package/__init__.py": b"", "package/x.py": b"def f(): 1/0\nf()"}),
    "package that fails": (("-m", "package.x"), {"package/__init__.py": b"1/0", "package/x.py": b""}),
    "module of the library": (("-m", "json.tool", "/box/x.json"), {"x.json": b"[1, {}]"}),
    "options of a module": (("-m", "base64", "-x"), {}),
    "text that fails": (("-c", "def f():\n  1/0\nf()"), {}),
    "text that is wrong": (("-c", "def f(:"), {}),
    "text with a cookie": (("-c", "# coding: latin-1\nprint(ascii('\xe4'))"), {}),
    "text that is none": (("-c", "# \udcff"), {}),
    "no text": (("-c", ""), {}),
    "exit in a module": (("-m", "x"), {"x.py": b"import sys; sys.exit(6)"}),
}
STDIN = "first\nsecond line\nüñï\nlast"


@pytest.mark.sized(16)
@pytest.mark.parametrize("files", [pytest.param(SCRIPTS[name], id=name, marks=MARKS.get(name, ())) for name in SCRIPTS])
def test_scripts_go_and_end_alike(files: dict[str, bytes], ways: Any) -> None:
    ways.compare((SCRIPT,), files, STDIN)


@pytest.mark.cover(1)
@pytest.mark.parametrize(("words", "files"), OTHERS.values(), ids=OTHERS.keys())
def test_other_programs_go_and_end_alike(words: tuple[str, ...], files: dict[str, bytes], ways: Any) -> None:
    ways.compare(words, files, STDIN)


def test_recursion_goes_as_deep_within_a_few_frames(ways: Any) -> None:
    code = "def f(n):\n    try:\n        return f(n + 1)\n    except RecursionError:\n        return n\nprint(f(0))"
    program = (SCRIPT,), {"main.py": code.encode()}
    shown = ways.bare(*program), ways.boxed(ways.cold, *program), ways.boxed(ways.warm, *program)
    depth, *others = (int(each.stdout[0]) for each in shown)
    assert all(abs(other - depth) < 10 for other in others)


def test_compiled_programs(ways: Any) -> None:
    source = ways.folder / "source.py"
    source.write_text("import sys\nprint(__file__, sys.path[0], type(__loader__), __cached__, __spec__)\n1 / 0\n")
    compiling = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], '/box/main.py')"
    subprocess.run([find_guest().executable, "-c", compiling, source, f"{source}c"], check=True)
    code = Path(f"{source}c").read_bytes()
    for content in (code, code[:20], code[:10], b"none" + code[4:], code[:16] + b"N"):
        ways.compare(("/box/main.pyc",), {"main.pyc": content})
