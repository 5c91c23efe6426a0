"""The first Python in a warm guest: imports what the policy names, waits to be copied, and runs what it is told.

    pypy3 bootstrap.py zygote|now [MODULE...]

Nothing here is trusted once a program has run in the same process, and nothing here defends anything. It talks to the
controller through one reserved OS call, `exchange` (controller/exchange/port.py). The code is for Python 3.9 to 3.11.

A program must find the same as under a bare `pypy3 WORDS`. So the frames here are hidden, as PyPy hides the frames of
its own start (app_main.py, which still handles a program's exceptions and its exit). What is imported here is kept out
of sys.modules, so that a program that imports its own `types.py` gets its own.
"""

import sys

import __pypy__

HERE = "/usr/lib/proxybox"

hidden = __pypy__.hidden_applevel  # such frames are in no traceback, and sys._getframe does not return them

sys.path.remove(HERE)
sys.path_importer_cache.pop(HERE, None)
LIBRARY = sys.path[:]
FROZEN = ("_frozen_importlib", "_frozen_importlib_external")  # `importlib` gives these modules other names
KNOWN = set(sys.modules)  # every program has these modules: used here as they are
OWN = {}


@hidden
def own(name):
    """Imports a module for proxybox alone: a program finds neither the module nor what it imports.

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


values = own("values")
_cffi_backend = own("_cffi_backend")
marshal = own("marshal")

EXCHANGE, EINTR = 511, 4
ROOM, PIECE = 1 << 16, 1 << 19
# the source may hold null bytes: the compiler reports their position
NULLS = getattr(sys.modules.get("_ast"), "PyCF_ACCEPT_NULL_BYTES", 0)


class Link:
    """The reserved OS call. Any thread may use it."""

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

    def stub(self, name):
        """A function of the stub's."""
        kind = _cffi_backend.new_function_type((), _cffi_backend.new_void_type(), False)
        return _cffi_backend.load_library(None, 0).load_function(kind, name)

    @hidden
    def exchange(self, message):
        """Sends a message of one letter and data, and returns the answer."""
        if len(message) > PIECE:
            self.ask(b"*" + message[:PIECE], None, 0)
            for at in range(PIECE, len(message), PIECE):
                self.ask(b"+" + message[at : at + PIECE], None, 0)
            message = b"."
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
            again = b"w"  # the controller has the message already
            size = self.call(EXCHANGE, _cffi_backend.from_buffer(self.chars, again), 1, null, room)
        return size


# --- the caller's functions -------------------------------------------------------------------------------------------


def host_module(link, names, limit):
    """Makes the module `host`, which holds the functions that the caller lets the program call."""
    import builtins

    module = type(sys)("host", "Functions of whoever runs this program.")

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

    for name in names:
        setattr(module, name, function(name))
    module.HostError = HostError
    module.__all__ = [*names, "HostError"]
    sys.modules["host"] = module


# --- one program, as `pypy3 WORDS` would run it -----------------------------------------------------------------------


def new_main(kind=None):
    """An empty module __main__."""
    module = (kind or type(sys))("__main__")
    module.__loader__ = sys.__loader__
    module.__builtins__ = sys.modules["builtins"]
    module.__annotations__ = {}
    sys.modules["__main__"] = module
    return module


@hidden
def prepare(words, given=None, folder=None):
    """The function, and its arguments, that run -c TEXT, -m MODULE, - or a path, with the program's own arguments.

    It follows PyPy's app_main.py. given: the content of the file of that path, and folder: its folder, without
    symbolic links; None where they are not known.
    """
    kind, main = words[0], new_main()
    sys.argv[:] = [kind, *words[2:]] if kind in ("-c", "-m") else words
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[1:] = words
    if kind == "-c":
        sys.path.insert(0, "")
        check_text(words[1])
        return exec, (words[1], main.__dict__)
    if kind == "-m":
        sys.path.insert(0, sys.modules["os.path"].abspath("."))
        import runpy

        return runpy._run_module_as_main, (words[1],)
    if kind == "-":
        sys.path.insert(0, "")
        main.__file__, main.__cached__ = "<stdin>", None
        return exec, (compile(sys.stdin.read(), "<stdin>", "exec", NULLS, True), main.__dict__)
    path = kind if kind.startswith("/") else sys.modules["posix"].getcwd() + "/" + kind
    main.__file__, main.__cached__ = path, None
    source, has_path = (given, False) if given is not None and b"PK\5\6" not in given else read(path)
    if has_path:
        import runpy

        sys.path.insert(0, path)
        return runpy._run_module_as_main, ("__main__", False)
    sys.path.insert(0, folder or sys.pypy_resolvedirof(path))
    loaders = sys.modules["_frozen_importlib_external"]
    if path.endswith(".pyc"):
        main.__loader__ = loaders.SourcelessFileLoader("__main__", path)
        return exec, (compiled(source), main.__dict__)
    main.__loader__ = loaders.SourceFileLoader("__main__", kind)
    return exec, (compile(source, path, "exec", NULLS, True), main.__dict__)


@hidden
def check_text(text):
    try:
        text.encode()
    except UnicodeError:
        print("Unable to decode the command from the command line:", file=sys.stderr)
        raise


@hidden
def read(path):
    """The content of a file, and whether it must be imported from instead of run: a folder or an archive."""
    posix = sys.modules["posix"]
    content = b""
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            piece = posix.read(fd, PIECE)
            while piece:
                content += piece
                piece = posix.read(fd, PIECE)
        finally:
            posix.close(fd)
    except IsADirectoryError:
        return content, True
    except OSError as error:
        print(f"{sys.executable}: can't open file {path}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        raise SystemExit(error.errno) from None
    return content, b"PK\5\6" in content[-(22 + 65535) :] and is_archive(path)


def is_archive(path):
    zipimport = sys.modules["zipimport"]
    try:
        zipimport.zipimporter(path)
    except zipimport.ZipImportError:
        return False
    return True


@hidden
def compiled(content):
    """The code in a .pyc file."""
    import marshal
    from importlib._bootstrap_external import MAGIC_NUMBER

    if content[:4] != MAGIC_NUMBER:
        raise RuntimeError("Bad magic number in .pyc file")
    if len(content) < 16:
        raise RuntimeError("Truncated .pyc file")
    code = marshal.loads(content[16:])  # noqa: S302 - what runs it may do anything in here
    if type(code) is not type(read.__code__):
        raise RuntimeError("Bad code object in .pyc file")
    return code


#: A small program.
SMALL = "def f():\n    print(1, 'a')\nf()\n"

# --- the start --------------------------------------------------------------------------------------------------------


def preload(names):
    """Imports what the policy names. The interpreter reports an import that fails, and the start fails."""
    for name in names:
        __import__(name)
    KNOWN.update(sys.modules.keys() - {"session", "completion", "values"})
    for path in list(sys.path_importer_cache):  # in a copy's world other folders may hold other files
        if not path.startswith(sys.prefix + "/lib/"):
            del sys.path_importer_cache[path]


def warm(session):
    """Does what every session does, so that it is not done for the first time in a copy.

    It is not repeated so often that the JIT compiles it: compiled code costs copies more in pages than it saves them.
    """
    sample = ("eval", ("name", [1, 2.5, None, True], {"key": b"data"}))
    for _ in range(20):
        values.decode(values.encode(sample))
    session.warm(new_main)


def rehearse(words, given=None, aloud=False):
    """Runs a small program the way a real one will run, so that nothing in it is done for the first time later.

    aloud: whether it prints through sys.stdout, to the controller, which drops that. In a guest that will run a program
    the pages that this one will write are its own then.
    """
    mine = sys.modules["__main__"], sys.stdout, sys.argv[:], sys.path[:]
    mine_too = sys.orig_argv[:] if hasattr(sys, "orig_argv") else None
    if not aloud:
        import io

        sys.stdout = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    try:
        task = marshal.loads(marshal.dumps(("run", (), 1, words, given, "/box"), 2))
        function, arguments = prepare(*task[3:])
        function(*arguments)
        sys.stdout.flush()
    except Exception:
        pass  # a module that was imported has broken it, and the program will see that
    sys.modules["__main__"], sys.stdout, sys.argv[:], sys.path[:] = mine
    if mine_too is not None:
        sys.orig_argv[:] = mine_too


def forget_nursery(link, gc, collect):
    """Gives back the memory that the start has used and nothing is in (stub_nursery.c).

    collect: collects at least what is young.
    """
    forget = link.stub("proxybox_forget_nursery")
    gc.disable_finalizers()  # from here on nothing is made that is not needed for this
    collect()
    forget()
    gc.enable_finalizers()


def freshen():
    """Gives a copy random numbers of its own: Python's and OpenSSL's generators notice the fork, NumPy's does not."""
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


@hidden
def main():
    """Waits for a task. Leads a session itself; for a program returns what `prepare` returns."""
    mode, names = sys.argv[1], sys.argv[2:]
    link = Link()
    if mode == "zygote":
        link.stub("proxybox_end_at_once")()  # stub_end.c; functions that are registered later are called
    preload(names)
    session, gc = None, own("gc")
    if mode == "zygote":
        import os

        session = own("session")
        warm(session)
        rehearse(("-c", SMALL))
        gc.collect()
        forget_nursery(link, gc, gc.collect)
        link.exchange(b"r")  # an earlier fork was made by a module that was imported
        os.fork()  # only the copies return from this call, never the zygote itself
        __pypy__.debug_start("proxybox")  # PyPy asks in each copy whether it has a terminal: now, and not at its end
        __pypy__.debug_stop("proxybox")
        freshen()
    else:
        forget_nursery(link, gc, gc.collect_step)  # which does not look at what is old
    what, functions, limit, words, given, folder = marshal.loads(link.exchange(b"r"))
    if what in ("rehearse", "rehearse quietly"):
        aloud = what == "rehearse"
        rehearse(("/box/main.py",) if aloud else ("-c", "pass"), SMALL.encode(), aloud)
        what, functions, limit, words, given, folder = marshal.loads(link.exchange(b"r"))
    if functions:
        host_module(link, functions, limit)
    if what != "session":
        return prepare(words, given, folder)
    (session or own("session")).lead(link, new_main, own, limit)
    return None


if __name__ == "__main__":
    hidden(type(main)(sys._getframe().f_code, {}))  # hides the frame of this module
    todo = main()
    if todo is not None:
        todo[0](*todo[1])
