"""The first Python code in a warm guest: imports the policy's modules, waits to be copied, and carries out its task.

    pypy3 bootstrap.py zygote|now [MODULE...]

Nothing here is trusted once a program has run in the same process, and nothing here defends anything. It talks to the
controller through one reserved OS call, `exchange` (controller/exchange/port.py). The code is for Python 3.9 to 3.14.
Code for one kind of interpreter is in on_pypy.py and on_cpython.py; the other files import it as `kind`.

A program must find the same environment as with a bare `python WORDS`. So our frames are hidden, or not on the stack.
Modules that are imported here are not in sys.modules, so that a program that imports its own `types.py` gets its own.
"""

import sys

HERE = "/usr/lib/proxybox"

if HERE in sys.path:  # it is not under PYTHONSAFEPATH
    sys.path.remove(HERE)
for place in (HERE, f"{HERE}/bootstrap.py"):
    sys.path_importer_cache.pop(place, None)
LIBRARY = sys.path[:]
FROZEN = ("_frozen_importlib", "_frozen_importlib_external")  # `importlib` gives these modules other names
KNOWN = set(sys.modules)  # every program has these modules: they are used here unchanged
OWN = {}
#: Names of our modules, which the policy's modules may also have.
OURS = {
    "cells", "completion", "expressions", "kind", "leftopen", "on_cpython", "on_pypy", "program", "session", "showing",
    "standins", "values",
}  # fmt: skip


def own(name):
    """Imports a module for proxybox alone: a program finds neither the module nor its imports.

    name: of a module of proxybox or of the library.
    """
    changed = [sys.modules, sys.path_importer_cache, *(vars(sys.modules[frozen]) for frozen in FROZEN)]
    before = [dict(each) for each in changed]
    path, sys.path = sys.path, [HERE, *LIBRARY]
    for theirs in sys.modules.keys() - KNOWN:
        del sys.modules[theirs]
    sys.modules.update(OWN)
    try:
        return __import__(name)
    finally:
        sys.path = path
        OWN.update({new: module for new, module in sys.modules.items() if before[0].get(new) is not module})
        for each, known in zip(changed, before):  # noqa: B905 - strict= is not in 3.9
            for new in each.keys() - known.keys():
                del each[new]
            each.update(known)


kind = OWN["kind"] = own(f"on_{sys.implementation.name}")
values, program = own("values"), own("program")
marshal = own("marshal")
hidden, prepare = kind.hidden, program.prepare
hidden(own)

EXCHANGE, EINTR = 511, 4
ROOM, PIECE = 1 << 16, 1 << 19


class Link:
    """The reserved OS call. Any thread may use it."""

    def __init__(self):
        self.calls = kind.Calls(own)
        self.buffers = [self.calls.buffer(ROOM)]

    @hidden
    def exchange(self, message):
        """Sends a message of one letter and data, and returns the answer."""
        if len(message) > PIECE:
            self.ask(b"*" + message[:PIECE], None, 0)
            for at in range(PIECE, len(message), PIECE):
                self.ask(b"+" + message[at : at + PIECE], None, 0)
            message = b"."
        buffer = self.buffers.pop() if self.buffers else self.calls.buffer(ROOM)
        try:
            size = self.ask(message, buffer, ROOM)
            if size <= ROOM:
                return self.calls.content(buffer, size)
            parts = [self.calls.content(buffer, ROOM)]
        finally:
            self.buffers.append(buffer)
        size -= ROOM
        while size > 0:
            room = min(size, PIECE)
            buffer = self.calls.buffer(room)
            self.ask(b"-", buffer, room)
            parts.append(self.calls.content(buffer, room))
            size -= room
        return b"".join(parts)

    @hidden
    def ask(self, message, buffer, room):
        size, error = self.calls.ask(EXCHANGE, message, buffer, room)
        while size < 0:
            if error != EINTR:
                raise OSError(error, "the caller cannot be reached")
            size, error = self.calls.ask(EXCHANGE, b"w", buffer, room)  # the controller has the message already
        return size


# --- the caller's functions -------------------------------------------------------------------------------------------


def host_module(link, names, limit):
    """Makes the module `host`, which holds the functions that the caller lets the program call."""
    module = type(sys)("host", "Functions of whoever runs this program.")
    function, module.HostError = maker_of_functions(link, limit)
    for name in names:
        setattr(module, name, function(name))
    module.__all__ = [*names, "HostError"]
    sys.modules["host"] = module


def maker_of_functions(link, limit):
    """Returns a function that makes, from a name, a function that calls the caller's; and the class HostError."""
    import builtins

    class HostError(Exception):
        """A function of the host failed with an exception whose class does not exist here."""

    HostError.__module__ = "host"
    HostError.__qualname__ = "HostError"

    def function(name):
        @hidden
        def call(*args, **kwargs):
            asked = values.encode((name, args, kwargs), limit, ("", "args", "kwargs"))
            answer = values.decode(link.exchange(b"h" + asked), limit)
            if answer[0] == "ok":
                return answer[1]
            kind = getattr(builtins, answer[1], None)
            if isinstance(kind, type) and issubclass(kind, Exception):
                raise kind(answer[2])
            raise HostError(f"{answer[1]}: {answer[2]}")

        call.__name__ = call.__qualname__ = name
        call.__module__ = "host"
        return call

    return function, HostError


# --- the start --------------------------------------------------------------------------------------------------------

#: A small program.
SMALL = "def f():\n    print(1, 'a')\nf()\n"


def preload(link, statements, names):
    """Imports the policy's modules, and runs its `warm_up`. The interpreter reports a failure, and the start fails."""
    for name in names:
        __import__(name)
        link.exchange(b"p" + name.encode())
    if statements:
        exec(compile(statements, "<warm_up>", "exec"), {"__name__": "__warm_up__"})
        link.exchange(b"p")
    KNOWN.update(sys.modules.keys() - OURS)


def forget(loaded):
    """Forgets imported modules and cached folders: in a copy's world, the folders may have other files.

    loaded: names of the modules that stay.
    """
    for name in sys.modules.keys() - loaded:
        del sys.modules[name]
    for path in list(sys.path_importer_cache):
        if not path.startswith(sys.prefix + "/lib/"):
            del sys.path_importer_cache[path]


def warm(session):
    """Does the work of every session once, so that it is not done for the first time in a copy.

    It is not repeated so often that the JIT compiles it: compiled code costs copies more pages than it saves time.
    """
    sample = ("eval", ("name", [1, 2.5, None, True], {"key": b"data"}))
    for _ in range(20):
        values.decode(values.encode(sample))
    session.warm(program.new_main)


def rehearse(link, words, main_source=None, aloud=False):
    """Runs a small program the way a real one will run, so that nothing in it is done for the first time later.

    aloud: whether it prints through sys.stdout, to the controller, which drops the output. After that, a guest that
    will run a program has its own copies of the pages that printing writes.
    """
    mine = sys.modules["__main__"], sys.stdout, sys.argv[:], sys.path[:]
    mine_too = sys.orig_argv[:] if hasattr(sys, "orig_argv") else None
    loaded = set(sys.modules)
    if not aloud:
        import io

        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        task = marshal.loads(marshal.dumps(("run", (), 1, words, main_source, "/box"), 2))
        function, arguments = prepare(link, *task[3:])
        function(*arguments)
        sys.stdout.flush()
    except Exception:
        pass  # an imported module has broken it, and the program will notice that
    sys.modules["__main__"], sys.stdout, sys.argv[:], sys.path[:] = mine
    if mine_too is not None:
        sys.orig_argv[:] = mine_too
    forget(loaded)


def freshen():
    """Gives a copy its own random numbers: Python's and OpenSSL's generators notice the fork, NumPy's does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


@hidden
def main(link):
    """Waits for a task. Returns what `prepare` returns, or the steps of a session."""
    mode, statements, names = sys.argv[1], sys.argv[2], sys.argv[3:]
    if mode == "zygote":
        link.calls.stub("proxybox_end_at_once")()  # stub_end.c; functions that are registered later are called
    preload(link, statements, names)
    session, gc, loaded = None, own("gc"), set(sys.modules)
    if mode == "zygote":
        session = own("session")
        warm(session)
        rehearse(link, ("-c", SMALL))
        forget(loaded)
        kind.settle(link.calls, gc, True)
        link.exchange(b"r")  # a fork before this was made by an imported module
        kind.fork(link.calls)  # only the copies return from this call, never the zygote itself
        kind.born()
        freshen()
    else:
        forget(loaded)
        kind.settle(link.calls, gc, False)
    what, functions, limit, words, main_source, folder = marshal.loads(link.exchange(b"r"))
    if what in ("rehearse", "rehearse quietly"):
        aloud = what == "rehearse"
        rehearse(link, ("/box/main.py",) if aloud else ("-c", "pass"), SMALL.encode(), aloud)
        what, functions, limit, words, main_source, folder = marshal.loads(link.exchange(b"r"))
    if functions:
        host_module(link, functions, limit)
    if what != "session":
        return prepare(link, words, main_source, folder)
    return (session or own("session")).steps(link, program.new_main, own, limit, maker_of_functions(link, limit)[0])


if __name__ == "__main__":
    kind.start(main, Link(), own)
