"""The first Python in a warm guest: imports what the policy names, waits to be copied, and runs what it is told.

    pypy3 bootstrap.py zygote|now [MODULE...]

Nothing here is trusted once a program has run in the same process, and nothing here defends anything. What it says to
the controller goes through one reserved OS call, `exchange` (controller/port.py says what). Python 3.9 to 3.11; only
what PyPy has in memory anyway, or what programs are likely to want, is imported.
"""

import sys

import __pypy__
import _cffi_backend

HERE = "/usr/lib/proxybox"
sys.path[0] = HERE  # which leaves it again, below
import session  # noqa: E402
import values  # noqa: E402

hidden = __pypy__.hidden_applevel  # such frames are in no traceback, and not seen by sys._getframe

EXCHANGE, EINTR = 511, 4
ROOM, PIECE = 1 << 16, 1 << 19


class Link:
    """The reserved call. From any thread."""

    def __init__(self):
        integer = _cffi_backend.new_primitive_type("long")
        address = _cffi_backend.new_pointer_type(_cffi_backend.new_void_type())
        kind = _cffi_backend.new_function_type((integer, address, integer, address, integer), integer, False)
        self.call = _cffi_backend.load_library(None, 0).load_function(kind, "syscall")
        self.chars = _cffi_backend.new_array_type(
            _cffi_backend.new_pointer_type(_cffi_backend.new_primitive_type("char")), None
        )
        self.buffers = [self.buffer(ROOM)]

    def buffer(self, size):
        return _cffi_backend.newp(self.chars, size)

    @hidden
    def exchange(self, message):
        """Says a message of one letter and data; the answer."""
        while len(message) > PIECE:
            piece, message = message[1 : PIECE + 1], message[:1] + message[PIECE + 1 :]
            self.ask(b"+" + piece, None, 0)
        buffer = self.buffers.pop() if self.buffers else self.buffer(ROOM)
        try:
            size = self.ask(message, buffer, ROOM)
            if size <= ROOM:
                return _cffi_backend.buffer(buffer, size)[:]
            parts = [_cffi_backend.buffer(buffer, ROOM)[:]]
        finally:
            self.buffers.append(buffer)
        size -= ROOM
        while size > 0:
            room = min(size, PIECE)
            buffer = self.buffer(room)
            self.ask(b"-", buffer, room)
            parts.append(_cffi_backend.buffer(buffer, room)[:])
            size -= room
        return b"".join(parts)

    @hidden
    def ask(self, message, buffer, room):
        place = _cffi_backend.from_buffer(self.chars, message)
        null = _cffi_backend.newp(self.chars, 1) if buffer is None else buffer
        size = self.call(EXCHANGE, place, len(message), null, room)
        while size < 0:
            if _cffi_backend.get_errno() != EINTR:
                raise OSError(_cffi_backend.get_errno(), "the caller cannot be reached")
            again = b"w"  # for what was said already
            size = self.call(EXCHANGE, _cffi_backend.from_buffer(self.chars, again), 1, null, room)
        return size


# --- functions of the caller's ----------------------------------------------------------------------------------------


def host_module(link, names):
    """The module `host`: what the caller lets the program call."""
    import builtins
    import types

    module = types.ModuleType("host", "Functions of whoever runs this program.")

    class HostError(Exception):
        """A function of the host's failed with an exception that is not known here."""

    HostError.__module__ = "host"

    def function(name):
        @hidden
        def call(*args, **kwargs):
            answer = values.decode(link.exchange(b"h" + values.encode((name, args, kwargs), LIMIT)), LIMIT)
            if answer[0] == "ok":
                return answer[1]
            kind = getattr(builtins, answer[1], None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise kind(answer[2])
            raise HostError(f"{answer[1]}: {answer[2]}")

        call.__name__ = call.__qualname__ = name
        call.__module__ = "host"
        return call

    for name in names:
        setattr(module, name, function(name))
    module.HostError = HostError
    module.__all__ = [*names, "HostError"]
    sys.modules["host"] = module


LIMIT = 1 << 20


# --- one program, as `pypy3 WORDS` would run it -----------------------------------------------------------------------


def new_main():
    """An empty module __main__."""
    import types

    module = types.ModuleType("__main__")
    module.__builtins__ = sys.modules["builtins"]
    module.__annotations__ = {}
    sys.modules["__main__"] = module
    return module


@hidden
def run_program(words):
    """Runs it to its end: -c TEXT, -m MODULE, -, or a path; and arguments."""
    kind, main = words[0], new_main()
    if kind == "-c":
        sys.argv = ["-c", *words[2:]]
        sys.path.insert(0, "")
        run_text(words[1], "<string>", main)
    elif kind == "-m":
        sys.argv = ["-m", *words[2:]]
        sys.path.insert(0, cwd())
        run_module(words[1], True)
    elif kind == "-":
        sys.argv = list(words)
        sys.path.insert(0, "")
        run_text(sys.stdin.read(), "<stdin>", main)
    else:
        sys.argv = list(words)
        run_path(kind, main)


def cwd():
    import os

    return os.getcwd()


@hidden
def run_path(path, main):
    import os

    if os.path.isdir(path) or path.endswith((".zip", ".pyz")):
        sys.path.insert(0, path)
        run_module("__main__", False)
        return
    sys.path.insert(0, os.path.dirname(path))
    try:
        with open(path, "rb") as file:
            source = file.read()
    except OSError as error:
        print(f"{sys.executable}: can't open file {path!r}: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    from importlib.machinery import SourceFileLoader

    main.__file__ = path
    main.__cached__ = None
    main.__loader__ = SourceFileLoader("__main__", path)
    run_text(source, path, main)


@hidden
def run_text(source, name, main):
    run(lambda: exec(compile(source, name, "exec", 0, True), main.__dict__))


@hidden
def run_module(name, alter_argv):
    import runpy

    run(lambda: runpy._run_module_as_main(name, alter_argv))


@hidden
def run(program):
    """An uncaught exception is told as PyPy tells it; SystemExit is PyPy's own to carry out."""
    try:
        hidden(program)()
    except SystemExit:
        raise
    except BaseException:
        kind, error, trace = sys.exc_info()
        sys.last_type, sys.last_value, sys.last_traceback = kind, error, trace
        flush()
        try:
            sys.excepthook(kind, error, trace)
        except SystemExit:
            raise
        except BaseException:
            sys.__excepthook__(kind, error, trace)
        raise SystemExit(1) from None


def flush():
    """Standard output, if it still can be."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


# --- the start --------------------------------------------------------------------------------------------------------


def preload(names):
    """Imports what the policy names. What fails is told by the interpreter, and the start fails."""
    for name in names:
        __import__(name)


def warm(link):
    """What every session does is compiled once, by the JIT, for all copies."""
    sample = ("eval", ("name", [1, 2.5, None, True], {"key": b"data"}))
    for _ in range(300):
        values.decode(values.encode(sample))
    session.warm()


def rehearse():
    """Goes the way of a program once, so that nothing on it is done for the first time when a program comes."""
    import io

    mine = sys.modules["__main__"], sys.stdout, sys.argv, list(sys.path)
    sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    task = values.decode(values.encode(("run", (), LIMIT, ("-c", "def f():\n    print(1, 'a')\nf()\n"))))
    run_program(task[3])
    flush()
    sys.modules["__main__"], sys.stdout, sys.argv, sys.path[:] = mine


def freshen():
    """A copy draws its own random numbers: Python's and OpenSSL's notice the fork, NumPy's does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


@hidden
def main():
    """Waits for what to do; a session is led here, a program is returned."""
    global LIMIT
    mode, names = sys.argv[1], sys.argv[2:]
    link = Link()
    sys.path.remove(HERE)
    preload(names)
    for name in ("completion", "session", "values"):
        del sys.modules[name]
    if mode == "zygote":
        import gc
        import os

        warm(link)
        rehearse()
        gc.collect()
        os.fork()  # the zygote itself never comes back from here
        freshen()
        rehearse()
    task = values.decode(link.exchange(b"r"))
    LIMIT = task[2]
    if task[1]:
        host_module(link, task[1])
    if task[0] == "session":
        session.lead(link, new_main, task[2])
        return None
    return task[3]


if __name__ == "__main__":
    import types

    hidden(types.FunctionType(sys._getframe().f_code, {}))  # this very frame
    words = main()
    if words is not None:
        run_program(words)
