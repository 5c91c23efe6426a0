"""The classic ways out of a Python jail: they work, and find only the box's own files.

If one led out of the box, the folder and the port of `outside` would be touched. The first test shows that the same
code touches them without a box.
"""

import os
import shutil
import subprocess

import pytest

EACH_GUEST = True


def test_the_same_code_without_a_box_touches_everything(hostile, outside, tmp_path):
    """The attempts that the other tests make would be noticed."""
    for name, text in hostile.files.items():
        (tmp_path / name).write_text(text)
    interpreter = os.environ.get("PROXYBOX_GUEST") or shutil.which("pypy3")
    for way, count in ((outside.reach, 12), (outside.python, 7)):
        done = subprocess.run([interpreter, "-c", f"print({way})"], cwd=tmp_path, capture_output=True, text=True)
        assert len(eval(done.stdout)) == count, done
        assert not outside.is_untouched()
        shutil.rmtree(outside.folder)
        outside.folder.mkdir(0o777)
        (outside.folder / "file").write_text("untouched")
    while True:
        try:
            outside.listener.accept()[0].close()
        except BlockingIOError:
            break
    outside._before = outside._state()


#: Each sets `found` to something that a jail would have hidden.
ESCAPES = {
    "a walk of the subclasses": """
found = [c for c in ().__class__.__base__.__subclasses__() if c.__name__ == "_wrap_close"][0].__init__.__globals__["system"]
""",
    "a walk of the subclasses of the subclasses": """
seen, todo = set(), [object]
while todo:
    for c in type.__subclasses__(todo.pop()):
        if c not in seen: seen.add(c); todo.append(c)
found = [c for c in seen if c.__name__ == "Popen"][0]
""",
    "frames": """
import sys
def inner():
    frame = sys._getframe()
    while frame.f_back: frame = frame.f_back
    return frame.f_globals["__builtins__"]
found = inner()
found = getattr(found, "open", None) or found["open"]
""",
    "the frame of a traceback": """
try: 1 / 0
except ZeroDivisionError as error: found = error.__traceback__.tb_frame.f_builtins["__import__"]
""",
    "the frame of a generator": """
def look():
    yield g.gi_frame.f_back
g = look()
found = next(g).f_builtins["__import__"]
""",
    "the collector": """
import gc, os
found = [o for o in gc.get_objects() if isinstance(o, dict) and o.get("__name__") == "posix"] or [os.__dict__]
found = found[0]["open"]
""",
    "a code object made by hand": """
def f(): return open
code = f.__code__.replace(co_names=("__import__",))
found = type(f)(code, {"__builtins__": __builtins__})()
""",
    "a code object with other constants": """
def f(): return "harmless"
f.__code__ = f.__code__.replace(co_consts=tuple("os" if each == "harmless" else each for each in f.__code__.co_consts))
found = __import__(f())
""",
    "marshal": """
import marshal
found = eval(marshal.loads(marshal.dumps(compile("__import__('posix')", "x", "eval"))))
""",
    "pickle": """
import pickle
found = pickle.loads(b"cposix\\nsystem\\n.")
""",
    "a format string": """
import os
class A:
    def __init__(self): pass
found = "module 'os'" in "{0.__init__.__globals__[os]}".format(A())
""",
    "an emptied builtins": """
env = {"__builtins__": {}}
found = eval("[c for c in ().__class__.__base__.__subclasses__() if c.__name__ == 'Quitter'][0].__init__.__globals__", env)["__builtins__"]
""",
    "a deleted open, found again": """
import builtins
del builtins.open
import io
found = builtins.open = io.open
""",
    "the loader": """
found = __loader__.__class__ if __loader__ else None
import importlib.machinery
found = importlib.machinery.SourceFileLoader
""",
    "an import from the importer": """
import sys
found = sys.modules["posix"]
sys.modules.pop("os", None)
import os
""",
    "a meta path of its own": """
import sys, types
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None): return None
sys.meta_path.insert(0, Finder)
found = sys.modules["_io"].open
""",
    "a descriptor of a method": """
found = type.__getattribute__(type, "__subclasses__")(object)
""",
    "an attribute of a coroutine": """
async def c(): pass
co = c(); found = co.cr_code.__class__; co.close()
""",
    "a decorator without a call": """
@exec
@(lambda _: "found = exec")
class A: pass
""",
    "the breakpoint": """
import sys
found = sys.breakpointhook
""",
    "an audit hook": """
import sys
events = []
sys.addaudithook(lambda name, arguments: events.append(name))
found = events.append
""",
    "the interpreter's own internals": """
import __pypy__
found = __pypy__
""",
    "the trace of another's frame": """
import sys
found = []
def trace(frame, event, argument):
    found.append(frame.f_globals); return trace
sys.settrace(trace); (lambda: 0)(); sys.settrace(None)
""",
    "a thread's state": """
import threading, sys
found = sys._current_frames()
""",
    "ctypes and an address": """
import ctypes
found = ctypes.CDLL(None).system
""",
}


#: Escapes that exist only on PyPy.
OF_PYPY = ("the interpreter's own internals",)


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(code, id=name, marks=[pytest.mark.pypy] if name in OF_PYPY else [])
        for name, code in ESCAPES.items()
    ],
)
def test_an_escape(hostile, outside, code):
    out = hostile.ok(f"import outside\n{code}\nprint(bool(found))\nprint({outside.reach}, {outside.python})")
    assert out == "True\n[] []\n"
