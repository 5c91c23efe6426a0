"""Sessions as users at a prompt and graders use them."""

import contextlib
import errno
import os
import threading
import time
from collections.abc import Iterator

import pytest

import proxybox
from proxybox import Status
from proxybox.controller import find_guest
from proxybox.controller.boxes import copying
from proxybox.controller.drivers.threadchannels import any_waits
from proxybox.controller.process import reaper
from proxybox.controller.process.watch import Watch
from proxybox.controller.warm import zygotepool
from tests import leaks

NEW = pytest.mark.skipif(find_guest().version < (3, 11), reason="came with Python 3.11")


EACH_GUEST = True


@pytest.fixture(scope="module")
def box(guest_kind: str) -> Iterator[proxybox.Sandbox]:
    with proxybox.Sandbox(warm=True) as box:
        yield box
    zygotepool.close()
    reaper.settle()


def said(session: proxybox.Session, code: str) -> str:
    return session.exec(code, check=True).stdout


# --- code -------------------------------------------------------------------------------------------------------------

WHOLE = '''
import functools
from dataclasses import dataclass, field

def twice(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args) * 2
    return inner

@twice
def add(a, b=1):
    """Adds."""
    return a + b

class Base:
    registry = []
    def __init_subclass__(cls):
        cls.registry.append(cls.__name__)

@dataclass
class Point(Base):
    x: int
    y: "list[int]" = field(default_factory=list)
    def __eq__(self, other): return self.x == other.x

async def later(value):
    return value

counter = 0
def count():
    global counter
    counter += 1
    def inside():
        nonlocal_value = 0
        def deeper():
            nonlocal nonlocal_value
            nonlocal_value += 5
            return nonlocal_value
        return deeper
    return inside()() + counter
speed: float = 1.5
'''


def test_definitions_stay_for_later_code(session: proxybox.Session) -> None:
    assert session.exec(WHOLE).ok
    assert session.eval("add(1), add.__doc__, Base.registry, Point(1) == Point(1, [2])").value == (
        (4, "Adds.", ["Point"], True)
    )
    assert session.exec("import asyncio; value = asyncio.run(later(3))").ok
    assert session.eval("value").value == 3
    assert [session.call("count").value for _ in range(2)] == [6, 7]
    assert session.get("counter") == 2
    assert session.exec("import __main__").ok
    assert session.eval("__main__.__annotations__").error is not None  # a class is not plain data
    assert session.eval("__main__.__annotations__['speed'] is float").value is True


def test_what_depends_on_main(session: proxybox.Session) -> None:
    assert session.exec(WHOLE).ok
    # those of annotations depend on the version
    names = "sorted(n for n in globals() if n.startswith('__') and 'annota' not in n)"
    assert session.eval(f"__name__, Point.__module__, {names}").value == (
        "__main__",
        "__main__",
        ["__builtins__", "__doc__", "__loader__", "__name__", "__package__", "__spec__"],
    )
    assert session.eval("__import__('sys').version_info >= (3, 14) or '__annotations__' in globals()").value is True
    assert said(session, "if __name__ == '__main__': print('main')") == "main\n"
    assert said(session, "import pickle; print(pickle.loads(pickle.dumps([Point(4), add])))").startswith(
        "[Point(x=4, y=[])"
    )
    assert said(session, "import typing; print(typing.get_type_hints(Point)['x'])") == "<class 'int'>\n"
    assert said(session, "import __main__, sys; print(__main__.add(1), vars(__main__) is globals())") == "4 True\n"
    assert session.eval("sys.argv, sys.path[0]").value == ([""], "")


def test_a_future_holds_for_what_follows(session: proxybox.Session) -> None:
    assert session.exec("from __future__ import annotations").ok
    assert session.exec("def f(x: undefined) -> also: pass").ok
    assert session.eval("f.__annotations__").value == {"x": "undefined", "return": "also"}
    session.reset()
    assert session.exec("def f(x: undefined): pass\nf.__annotations__").error is not None


def test_source_lines(session: proxybox.Session) -> None:
    session.exec("class A:\n    old = 1\n")
    session.exec("# a comment\nclass A:\n    def f(self):\n        return 1  # here\n\nlast = 1")
    session.exec("def f(x):\n    '''Says\n    much.'''\n    return x")
    session.exec("class B(A):\n    pass", name="cell.py")
    source = "import inspect; print(inspect.getsource({}), end='')"
    assert said(session, source.format("A.f")) == "    def f(self):\n        return 1  # here\n"
    assert said(session, source.format("f")) == "def f(x):\n    '''Says\n    much.'''\n    return x\n"
    classes = {"A": "class A:\n    def f(self):\n        return 1  # here\n", "B": "class B(A):\n    pass\n"}
    for name, text in classes.items():
        found = session.inspect(name, detail=1)
        assert found is not None
        assert found.source == text
        if find_guest().version < (3, 13):  # newer versions store the line of a class, but not its source
            assert said(session, source.format(name)) == text


def test_many_sources(session: proxybox.Session) -> None:
    session.exec("def old(): return 1 / 0")
    for number in range(1100):
        session.exec(f"def f{number}(): return 1 / 0")
    result = session.call("f1099")
    assert result.error is not None
    assert "def f1099(): return 1 / 0" in result.error.traceback
    result = session.call("old")
    assert result.error is not None
    assert "def old" not in result.error.traceback
    assert "line 1, in old" in result.error.traceback


def test_modules_of_the_session_s_own(box: proxybox.Sandbox) -> None:
    names = ("types", "session", "values", "completion", "traceback", "ast", "inspect", "enum", "warnings")
    with box.session(files={f"{name}.py": "MINE = 1" for name in names}) as session:
        assert session.exec(f"import {', '.join(names)}").ok
        assert session.eval(f"[module.MINE for module in ({', '.join(names)})]").value == [1] * len(names)
        result = session.exec("def f(): return undefined\nf()")
        assert result.error is not None
        assert "    def f(): return undefined\n" in result.error.traceback
        assert session.inspect("f") is not None
        assert session.is_complete("f(").status == "incomplete"
        assert session.complete("types.M").matches == ("MINE",)


# --- errors -----------------------------------------------------------------------------------------------------------


def trace(result: proxybox.Result) -> str:
    assert result.error is not None
    lines = result.error.traceback.splitlines()
    return "\n".join(line for line in lines if set(line) - set(" ^~"))


def test_tracebacks_show_lines_of_all_that_was_executed(session: proxybox.Session) -> None:
    session.exec("def outer(x):\n    def inner():\n        return helper(x)\n    return inner()")
    session.exec("def helper(x):\n    return [1 / y for y in (1, x)][0]", name="helper.py")
    assert trace(session.exec("x = 0\nouter(x)")).splitlines()[:7] == [
        "Traceback (most recent call last):",
        '  File "<session-2>", line 2, in <module>',
        "    outer(x)",
        '  File "<session-1>", line 4, in outer',
        "    return inner()",
        '  File "<session-1>", line 3, in inner',
        "    return helper(x)",
    ]
    assert trace(session.call("outer", 0)).splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert '"helper.py", line 2' in trace(session.call("outer", 0))
    assert trace(session.eval("outer(\n0)")).splitlines()[1:3] == [
        '  File "<session-3>", line 1, in <module>',
        "    outer(",
    ]
    assert trace(session.call("nothing")) == "NameError: name 'nothing' is not defined"


def test_chained_errors(session: proxybox.Session) -> None:
    text = trace(session.exec("try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('k') from e"))
    assert "    1 / 0\nZeroDivisionError: division by zero\nThe above exception was the direct cause" in text.replace(
        "\n\n", "\n"
    )
    assert "    raise KeyError('k') from e\nKeyError: 'k'" in text


@NEW
def test_groups_of_errors_and_notes(session: proxybox.Session) -> None:
    result = session.exec("e = ValueError(1); e.add_note('a note')\nraise ExceptionGroup('several', [e, KeyError(2)])")
    assert result.error is not None
    assert (result.error.type, result.error.message) == ("ExceptionGroup", "several (2 sub-exceptions)")
    assert "ValueError: 1\n    | a note" in result.error.traceback


@pytest.mark.parametrize(
    "text", ["1 / 0", "raise SystemExit", "raise KeyboardInterrupt", "return 5", "return 'x' * 10**7"]
)
def test_errors_that_cannot_be_told(text: str, session: proxybox.Session) -> None:
    result = session.exec(f"class E(Exception):\n    def __str__(self): {text}\nraise E")
    assert result.error is not None
    assert result.error.type in ("E", "KeyboardInterrupt", "SystemExit")
    assert len(result.error.message) < 10_000
    assert session.eval("1").value == 1


def test_errors_whose_classes_are_odd(session: proxybox.Session) -> None:
    result = session.exec(
        "class M(type):\n    __name__ = property(lambda self: 1 / 0)\n"
        "class E(Exception, metaclass=M): pass\nraise E('x')"
    )
    assert result.error is not None
    assert result.error.type == "E"
    result = session.exec("class E(Exception):\n    __module__ = 5\n    __traceback__ = 7\nraise E('x')")
    assert result.error is not None
    assert session.eval("1").value == 1


def test_errors_of_many_wide_characters(box: proxybox.Sandbox) -> None:
    with proxybox.Sandbox(box.policy, session={"value_size": "1K"}) as small, small.session() as session:
        result = session.exec("raise ValueError('\\U0001f600' * 100_000)")
        assert result.error is not None
        assert (result.error.type, result.error.message) == ("ValueError", "\U0001f600" * 8192)
        assert session.alive


def test_errors_of_syntax(session: proxybox.Session) -> None:
    for code in ("def f(:", "if x\n    y", "  x = 1", "x = 'a", "return 1", "\0", "x = 1\n\ty"):
        result = session.exec(code)
        assert result.status is Status.SYNTAX_ERROR, code
        assert result.error is not None
        assert 'File "<session-' in result.error.traceback or (code == "\0" and find_guest().title == "CPython")
    assert session.eval("1 +").status is Status.SYNTAX_ERROR
    assert session.eval("x = 1").status is Status.SYNTAX_ERROR
    assert session.exec("exec('def f(:')").status is Status.ERROR


def test_recursion(session: proxybox.Session) -> None:
    session.exec("def f(): return f()")
    for _ in range(2):
        result = session.call("f")
        assert result.error is not None
        assert result.error.type == "RecursionError"
        assert "more times]" in result.error.traceback
    assert session.eval("1").value == 1


def test_the_last_error_is_at_hand(session: proxybox.Session) -> None:
    session.exec("1 / 0")
    session.complete("undefined.")
    assert session.exec("import sys; error = sys.last_value").ok
    assert session.eval("str(error), sys.last_traceback.tb_lineno, sys.exc_info()[0]").value == (
        "division by zero",
        1,
        None,
    )


EXITS = {
    "": 0, "None": 0, "0": 0, "3": 3, "True": 1, "256": 0, "-1": 255, "1 << 80": 0, "'words'": 1, "[]": 1,
}  # fmt: skip
OF_PYPY = {"'7'": 7, "2.9": 2}  # values that `int` accepts


@pytest.mark.parametrize(
    ("code", "status"), [*EXITS.items(), *(pytest.param(*each, marks=pytest.mark.pypy) for each in OF_PYPY.items())]
)
def test_exits(code: str, status: int, session: proxybox.Session) -> None:
    result = session.exec(f"x = 1\ntry:\n    raise SystemExit({code})\nfinally: print('finally')")
    assert (result.exit_code, result.stdout) == (status, "finally\n")
    assert result.error == proxybox.GuestError("SystemExit", str(status), "")
    assert result.status is (Status.ERROR if status else Status.OK)
    assert result.stderr == {"'words'": "words\n", "[]": "[]\n"}.get(code, "")
    assert session.get("x") == 1


# --- streams ----------------------------------------------------------------------------------------------------------


def test_input_for_each_call(session: proxybox.Session) -> None:
    assert session.exec("a = input('? '); b = input()", stdin="one\ntwo\nthree\n").stdout == "? "
    assert session.eval("a, b, input()").value == ("one", "two", "three")
    assert session.exec("import sys; rest = sys.stdin.read()", stdin="new\nlines").ok
    result = session.exec("input()")
    assert result.error is not None
    assert result.error.type == "EOFError"
    assert session.eval("rest, input()", stdin="again").value == ("new\nlines", "again")


def test_output_comes_with_its_call(session: proxybox.Session) -> None:
    assert session.exec("import sys\nprint('a', end='')\nprint('b', end='', file=sys.stderr)\n1 / 0").stdout == "a"
    session.exec("import io\nreal = sys.stdout\nsys.stdout = io.TextIOWrapper(real.buffer, write_through=False)")
    assert session.exec("print('wrapped', end='')").stdout == "wrapped"
    session.exec(
        "wrapped = sys.stdout  # else a CPython would close `real`, too\n"
        "class Tee:\n    def write(self, text): real.write(text.upper())\n    def flush(self): pass\nsys.stdout = Tee()"
    )
    assert session.exec("print('loud', end='')").stdout == "LOUD"
    session.exec("class Bad:\n    def flush(self): 1 / 0\nsys.stdout = Bad()")
    assert session.eval("1").value == 1
    session.exec("sys.stdout = None; sys.stderr.close(); del sys.__stderr__")
    assert session.eval("2").value == 2
    assert session.exec("real.write('still')").stdout == "still"


def test_warnings_say_where(session: proxybox.Session) -> None:
    result = session.exec("import warnings\ndef f():\n    warnings.warn('old')\nf()")
    assert result.stderr == "<session-1>:3: UserWarning: old\n  warnings.warn('old')\n"
    session.is_complete("x is 1")
    assert session.exec("warnings.warn('new', DeprecationWarning)").stderr.startswith(
        "<session-2>:1: DeprecationWarning: new\n"
    )
    assert "SyntaxWarning" in session.exec("x = 1\nx is 1").stderr


# --- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["object()", "lambda: 1", "[1, {2: print}]", "(x for x in ())", "type", "1j", "range(3)"]
)
def test_values_that_cannot_cross(code: str, session: proxybox.Session) -> None:
    result = session.eval(code)
    assert result.status is Status.ERROR
    assert result.error is not None
    assert result.error.type == "TypeError"
    assert "cannot cross" in result.error.message
    assert "value[1]" not in result.error.message or code.startswith("[")
    assert result.value is None


def test_huge_values(box: proxybox.Sandbox, session: proxybox.Session) -> None:
    assert len(session.eval("'x' * 1_000_000").value) == 1_000_000
    assert session.eval("1 << 100_000").value == 1 << 100_000
    for code in ("'x' * 10**7", "[0] * 10**6", "b'x' * (1 << 20)"):
        result = session.eval(code)
        assert result.error is not None
        assert "more than 1,048,576 bytes" in result.error.message
    nested = session.exec("x = []\nfor _ in range(100): x = [x]\nself = []; self.append(self)")
    assert nested.ok
    assert "nested deeper" in str(session.eval("x").error)
    assert "nested deeper" in str(session.eval("self").error)
    session.set("data", {"key": [1, 2.5, None, b"x", {1, 2}]})
    assert session.get("data") == {"key": [1, 2.5, None, b"x", {1, 2}]}
    with pytest.raises((TypeError, ValueError)):
        session.set("data", object())
    with pytest.raises(ValueError, match="no name"):
        session.set("a.b", 1)


def test_calls_of_what_has_dots(session: proxybox.Session) -> None:
    session.exec("import math\nclass A:\n    def f(self, *args, **kwargs): return args, kwargs\na = A()")
    assert session.call("math.sqrt", 4.0).value == 2.0
    assert session.call("a.f", 1, b=2).value == ((1,), {"b": 2})
    assert session.call("len", [1]).value == 1
    assert trace(session.call("a.g")) == "AttributeError: 'A' object has no attribute 'g'"


def test_reset(session: proxybox.Session) -> None:
    session.exec("import json\nx = 1\nwith open('kept', 'w') as f: f.write('1')")
    session.reset()
    assert session.eval("'x' in globals(), 'json' in __import__('sys').modules, open('kept').read()").value == (
        False,
        True,
        "1",
    )
    assert session.exec("class A: pass\nimport pickle; pickle.loads(pickle.dumps(A()))").ok


# --- interrupts -------------------------------------------------------------------------------------------------------


def test_a_call_is_interrupted_and_the_session_goes_on() -> None:
    with proxybox.Sandbox(session={"grace": 60}) as box, box.session() as session:
        result = session.exec("x = 0\nwhile True: x += 1", timeout=0.2)
        assert (result.status, result.why.partition(";")[0]) == (Status.TIME_LIMIT, "limits.wall_time")
        assert result.error is not None
        assert "proxybox" not in result.error.traceback
        assert session.get("x") > 0
        # with the loop itself in the try, CPython 3.11 would leave the try, too
        code = "def wait():\n    while True: pass\n"
        result = session.exec(
            f"{code}try: wait()\nexcept KeyboardInterrupt: kept = 1\nfinally: print('after')", timeout=0.2
        )
        assert (result.status, result.stdout) == (Status.TIME_LIMIT, "after\n")
        assert session.get("kept") == 1


def test_interrupts_at_any_moment_lose_no_command(session: proxybox.Session) -> None:
    """One thread interrupts all the time: each command returns its own result or is interrupted itself."""
    session.exec("import time\ndef f(n):\n    for _ in range(20): pass\n    return n")
    ended = threading.Event()

    def disturb() -> None:
        while not ended.is_set():
            session.interrupt()

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        kept = interrupted = 0
        for number in range(300):
            result = session.call("f", number)
            assert session.alive, result
            if result.error is None:
                assert result.value == number
                kept += 1
            else:
                assert result.error.type == "KeyboardInterrupt"
                interrupted += 1
    finally:
        ended.set()
        thread.join()
    assert kept + interrupted == 300
    for number in range(3):
        assert session.call("f", number).value == number


def test_an_interrupt_between_calls_is_nobody_s(session: proxybox.Session) -> None:
    session.exec("import signal, sys")
    for _ in range(5):
        session.interrupt()
        assert session.eval("1").value == 1
    assert session.eval("signal.getsignal(signal.SIGINT) is signal.default_int_handler").value is True
    session.exec("got = []\nsignal.signal(signal.SIGINT, lambda *args: got.append(args[1] is not None))")
    session.interrupt()
    assert session.eval("got").value == []
    session.exec("import os; os.kill(os.getpid(), signal.SIGINT)\nfor _ in range(9): pass")
    assert session.eval("got, signal.getsignal(signal.SIGINT).__name__").value == ([True], "<lambda>")
    session.exec("signal.signal(signal.SIGINT, signal.SIG_DFL)")
    session.interrupt()
    assert session.eval("signal.getsignal(signal.SIGINT) is signal.SIG_DFL").value is True


def test_handlers_of_other_signals_may_raise_whenever(session: proxybox.Session) -> None:
    session.exec(
        "import signal, time\n"
        "def h(number, frame): raise TimeoutError(frame.f_lineno)\nsignal.signal(signal.SIGALRM, h)"
    )
    for _ in range(20):
        session.exec("signal.setitimer(signal.ITIMER_REAL, 0.001)")
        assert session.alive
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # the last alarm arrives during one of these calls, or before
        if session.exec("signal.setitimer(signal.ITIMER_REAL, 0)").ok:
            break
    assert session.eval("1").value == 1


# --- at a prompt ------------------------------------------------------------------------------------------------------

COMPLETE = {
    "": "complete",
    "x = 1": "complete",
    "# c": "complete",
    "x # c:": "complete",
    "1\\\n+2": "complete",
    "def f(): pass": "complete",
    "x = [\n    1,\n    2]": "complete",
    "if 1:\n    x\n": "complete",
    "if 1:\n    x\n\n": "complete",
    "@d\ndef f():\n    x\n": "complete",
    "try:\n    x\nfinally:\n    y\n": "complete",
    "async def f():\n    await x\n": "complete",
    "x = '''\na\n'''": "complete",
    "for i in range(3):": "incomplete    ",
    "for i in x:\n    y": "incomplete    ",
    "for i in x:\n  if y:": "incomplete      ",
    "@decorator": "incomplete",
    "@decorator\n": "incomplete",
    "class A:\n    @property": "incomplete    ",
    "@d\nclass A:": "incomplete    ",
    "try:\n    x\n": "incomplete",
    "try:\n    x": "incomplete    ",
    "try:\n    x\nexcept E:": "incomplete    ",
    "if 1:\n    x\nelse:": "incomplete    ",
    "if 1:\n    x\nelse:\n    y": "incomplete    ",
    "x = (1,": "incomplete",
    "x = [1,\n2": "incomplete",
    "f(**{": "incomplete",
    "def f(a,\n      b):": "incomplete    ",
    "def f(a):  # c": "incomplete    ",
    "def f(a, *, b=1):": "incomplete    ",
    "x = 1 \\": "incomplete",
    "x = 1 + \\\n": "incomplete",
    '"""abc': "incomplete",
    "a = '''\n   hi": "incomplete   ",
    "async def f():": "incomplete    ",
    "async with x:": "incomplete    ",
    "class A:\n    def f(self):\n        pass\n\n    def g(self):": "incomplete        ",
    "with a as b, \\": "incomplete",
    "x = 'a \\": "incomplete",
    "raise = 2": "invalid",
    "'abc": "invalid",
    "x = )": "invalid",
    "(\n))": "invalid",
    "1 +": "invalid",
    "import": "invalid",
    "a \\ ": "invalid",
    "   x": "invalid",
    "if x:\n    y\n  z": "invalid",
    "return 1": "invalid",
    "await x": "invalid",
    "print 1": "invalid",
    "0x": "invalid",
    "def a():\n x=1\n global x": "invalid",
    "x = \0": "invalid",
}


def test_whether_code_is_complete(session: proxybox.Session) -> None:
    found = {code: session.is_complete(code) for code in COMPLETE}
    assert {code: each.status + each.indent for code, each in found.items()} == COMPLETE


COMPLETIONS = {
    "pri": ["print"],
    "numb": ["number", "number_of"],
    "text.upp": ["upper"],
    "x = text.upp": ["upper"],
    "f(text.upp": ["upper"],
    "import js": ["json"],
    "import sys, js": ["json"],
    "from js": ["json"],
    "from sys import fla": ["flags"],
    "x = 1; imp": ["import"],
    "from sys import (path, fla": ["flags"],
    "thing.": ["attribute", "method"],
    "thing._h": ["_hidden"],
    "f().upp": [],
    "'x'.upp": [],
    "1.": [],
    "nothing.x": [],
    "broken.x": [],
    "import own_mod": ["own_module"],
    "os.pa": [],
    "import os.pat": ["path"],
}


def test_completion(box: proxybox.Sandbox) -> None:
    with box.session(files={"own_module.py": ""}) as session:
        session.exec(
            "number = 1; number_of = 2; text = 'x'\nclass Thing:\n    __slots__ = ('attribute', '_hidden')\n"
            "    def method(self): pass\n"
            "thing = Thing()\nclass Broken:\n    def __dir__(self): 1 / 0\nbroken = Broken()"
        )
        assert {code: list(session.complete(code).matches) for code in COMPLETIONS} == COMPLETIONS
        assert session.complete("x = text.upp + 1", 12) == proxybox.Completion(9, ("upper",))
        assert session.complete("").matches == ()
        assert session.exec("import sys").ok
        assert session.eval("'json' in sys.modules, 'inspect' in sys.modules").value == (False, False)


def test_inspection(session: proxybox.Session) -> None:
    session.exec(
        "import functools\ndef f(a, *, b: int = 2) -> str:\n    '''Does f.\n\n    And more.'''\n"
        "part = functools.partial(f, 1)\nclass A:\n    'A class.'\n    def __init__(self, x): self.x = x\n"
        "a = A(5)\nn = 12\n"
        "class Bad:\n    def __repr__(self): 1 / 0\nbad = Bad()"
    )
    found = session.inspect("f(1, ", 1)
    assert found is not None
    assert (found.name, found.type, found.signature, found.text) == ("f", "function", "(a, *, b: int = 2) -> str", None)
    assert found.doc == "Does f.\n\nAnd more."
    assert found.source is None
    texts = {name: session.inspect(name) for name in ("part", "A", "a.x", "n", "len(", "x = a", "f", "A.__init__")}
    assert all(texts.values())
    signatures = {name: each.signature for name, each in texts.items() if each is not None}
    assert signatures["part"] == "(*, b: int = 2) -> str"
    assert (signatures["A"], signatures["A.__init__"]) == ("(x)", "(self, x)")
    assert [each.text for name, each in texts.items() if each is not None and name in ("a.x", "n")] == ["5", "12"]
    assert [session.inspect(text) for text in ("nothing", "a.nothing", "1 + 1", "", "bad")] == [None] * 5
    assert session.eval("1").value == 1


def test_a_look_has_a_limit(session: proxybox.Session) -> None:
    session.exec("class A:\n    def __getattr__(self, name):\n        while True: pass\na = A()")
    assert session.complete("a.b.c").matches == ()
    assert session.eval("1").value == 1


def test_threads_go_on_between_calls(session: proxybox.Session) -> None:
    session.exec(
        "import threading\nstart, done = threading.Event(), threading.Event()\n"
        "def work():\n    start.wait()\n    done.set()\nthreading.Thread(target=work, daemon=True).start()"
    )
    assert session.exec("start.set()").ok
    assert session.eval("done.wait(60)").value is True


# --- one thing at a time, and copies ----------------------------------------------------------------------------------


def test_a_second_thread_in_a_session_is_told_at_once() -> None:
    """The second thread gets an error, and the first one's call goes on, whatever the second requests."""
    with proxybox.Sandbox(session={"branches": 4}) as box, box.session() as session:
        session.exec("rows = [1]", check=True)
        before, begun, results = session.snapshot(), threading.Event(), []
        code = "print('begun', flush=True)\nline = input()"
        go_on = threading.Event()

        def give(size: int) -> str:
            go_on.wait()
            return "went on\n"

        def run() -> None:
            results.append(session.exec(code, stdin=give, on_stdout=lambda _: begun.set(), timeout=120))

        thread = threading.Thread(target=run)
        thread.start()
        assert begun.wait(120)
        others = (
            lambda: session.exec("rows.clear()"),
            lambda: session.eval("rows"),
            session.fork,
            session.snapshot,
            lambda: session.restore(before),
            lambda: session.read_file("x"),
            lambda: session.write_file("x", "y"),
            session.reset,
        )
        for other in others:
            with pytest.raises(proxybox.SessionBusy, match="in a call"):
                other()
        go_on.set()
        thread.join()
        assert results[0].ok
        assert session.eval("rows, line").value == ([1], "went on")


def test_threads_that_copy_one_session_at_once() -> None:
    """One thread copies, the others get SessionBusy, and the session goes on."""
    with proxybox.Sandbox(session={"branches": 8}) as box, box.session() as session:
        seen: list[BaseException] = []

        def copy() -> None:
            for _ in range(20):
                try:
                    session.snapshot().close()
                except proxybox.ProxyboxError as error:
                    seen.append(error)

        threads = [threading.Thread(target=copy) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {type(error) for error in seen} <= {proxybox.SessionBusy}
        assert session.eval("42").value == 42


def test_virtual_time_does_not_tell_how_many_copies_there_were() -> None:
    with proxybox.Sandbox(time="virtual", session={"branches": 4}) as box, box.session() as session:
        session.exec("import time")
        copies = [session.fork() for _ in range(3)]
        asked = [each.eval("(time.time(), time.process_time())").value for each in copies]
        assert asked == asked[:1] * 3


def test_a_copy_that_is_refused_leaves_the_programs_own_forks_alone() -> None:
    with proxybox.Sandbox(session={"branches": 4}) as box, box.session() as session:
        begun, copied = threading.Event(), threading.Event()

        def give(size: int) -> str:
            begun.set()
            copied.wait()
            return "\n"

        def copy() -> None:
            begun.wait()
            with pytest.raises(proxybox.SessionBusy):
                session.fork()
            copied.set()

        thread = threading.Thread(target=copy)
        thread.start()
        done = session.exec("import os\ninput()\ntry: os.fork()\nexcept OSError: print('none')", stdin=give, timeout=20)
        thread.join()
        assert (done.status, done.stdout) == (proxybox.Status.OK, "none\n")


def test_an_interrupt_is_not_lost_to_a_call_that_has_just_begun_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver may check for an interrupt at the moment at which it is sent."""
    begun, over = threading.Event(), threading.Event()

    def wait() -> None:
        begun.set()
        over.wait()

    functions = {"wait": proxybox.HostFunction(wait, timeout=200)}
    with proxybox.Sandbox(functions=functions, session={"grace": 50}) as box, box.session() as session:
        driver, send = session._live.driver, Watch.send

        def interrupt() -> None:
            begun.wait()
            while not any_waits(driver._lines.values()):
                pass
            session.interrupt()

        def look_and_send(watch: Watch, number: int) -> bool:
            driver.heed_interrupt()
            return send(watch, number)

        monkeypatch.setattr(Watch, "send", look_and_send)
        thread = threading.Thread(target=interrupt)
        thread.start()
        result = session.exec("import host\nhost.wait()", timeout=30)
        thread.join()
        over.set()
        assert (result.status, result.error and result.error.type) == (Status.ERROR, "KeyboardInterrupt")
        assert session.eval("1").value == 1


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="this machine has one CPU")
def test_copies_are_spread_over_the_cpus() -> None:
    """Branches that run at the same time do not wait for each other."""
    with proxybox.Sandbox(session={"branches": 8}) as box, box.session() as session, contextlib.ExitStack() as closing:
        copies = [closing.enter_context(session.fork()) for _ in range(8)]
        processes = [copy._live._live.process for copy in copies]
        cpus = [os.sched_getaffinity(process.pid) for process in processes]
        assert cpus == [{process.cpu} for process in processes]
        assert len(set.union(*cpus)) > 1
        assert [copy.eval("6 * 7").value for copy in copies] == [42] * 8


@pytest.mark.parametrize("fault", [OSError(errno.EMFILE, "Too many open files"), ZeroDivisionError()], ids=repr)
def test_a_world_that_cannot_be_copied_when_the_guest_has_been(
    monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """The world is copied while the kernel copies the guest. If that fails, the guest's copy is ended, and the session
    goes on.
    """

    def fail(*_: object, **__: object) -> None:
        raise fault

    with proxybox.Sandbox(session={"branches": 1}) as box, box.session() as session:
        session.exec("rows = [1]", check=True)
        before = leaks.children()
        with monkeypatch.context() as patch:
            patch.setattr(copying, "copy_world", fail)
            with pytest.raises((proxybox.CannotCopy, ZeroDivisionError)):
                session.fork()
        assert leaks.children_since(before) == {}
        assert session.eval("rows").value == [1]
        with session.fork() as copy:
            assert copy.eval("rows").value == [1]


def test_going_back_takes_the_place_of_the_session() -> None:
    """`branches` counts copies besides the session: here one snapshot, which may be restored many times."""
    with proxybox.Sandbox(session={"branches": 1}) as box, box.session() as session:
        session.exec("import os\nrows = [1]", check=True)
        ids = {session.eval("os.getpid()").value}
        with session.snapshot() as before:
            for _ in range(3):
                session.exec("rows.clear()")
                session.restore(before)
                assert session.eval("rows").value == [1]
                assert session.eval("os.getpid()").value not in ids
                ids.add(session.eval("os.getpid()").value)
            for copy in (session.fork, session.snapshot):
                with pytest.raises(proxybox.CannotCopy, match=r"1 copies of this session live"):
                    copy()
            session.exec("os._exit(3)")
            session.restore(before)
            assert session.eval("rows").value == [1]
        with session.fork() as other:
            assert other.eval("rows").value == [1]
            assert other.eval("os.getpid()").value != session.eval("os.getpid()").value
        session.fork().close()


def test_a_snapshot_that_was_given_up_is_told() -> None:
    """The error names the snapshot. The session is still alive."""
    with proxybox.Sandbox(session={"branches": 1}) as box, box.session() as session:
        before = session.snapshot()
        before.close()
        with pytest.raises(proxybox.SandboxClosedError, match="the snapshot was closed"):
            session.restore(before)
        assert session.eval("42").value == 42


def test_a_snapshot_of_another_session_is_refused() -> None:
    with proxybox.Sandbox(session={"branches": 2}) as box, box.session() as one, box.session() as other:
        with one.snapshot() as state, pytest.raises(ValueError, match="snapshot: want one of this session"):
            other.restore(state)
        assert other.eval("1").value == 1


def test_a_copy_goes_back_to_what_its_original_was() -> None:
    with proxybox.Sandbox(session={"branches": 2}) as box, box.session() as session:
        session.exec("rows = [1]", check=True)
        with session.snapshot() as before, session.fork() as copy:
            copy.exec("rows.append(2)")
            copy.restore(before)
            assert copy.eval("rows").value == [1]
            with pytest.raises(proxybox.CannotCopy):
                session.snapshot()
