"""The part of the bootstrap that only a CPython has. on_pypy.py has the same names.

CPython cannot hide frames. So the program is called when none of our frames is on the stack: while CPython reports an
exception that has ended the bootstrap, it calls sys.excepthook, which is a C function here (stub_frames.c).
"""

import sys

#: The file names of our frames' code.
FILES = frozenset(
    f"/usr/lib/proxybox/{name}.py"
    for name in (
        "bootstrap", "cells", "completion", "expressions", "leftopen", "on_cpython", "program", "session", "showing",
        "standins", "values",
    )
)  # fmt: skip


def hidden(function):
    """A decorator without effect: a traceback is cut instead (`cut`)."""
    return function


class Calls:
    """Calls of C functions. own: bootstrap.own."""

    def __init__(self, own):
        self.ctypes = ctypes = own("_ctypes")

        class Long(ctypes._SimpleCData):
            _type_ = "l"

        class Address(ctypes._SimpleCData):
            _type_ = "P"

        class Char(ctypes._SimpleCData):
            _type_ = "c"

        class Syscall(ctypes.CFuncPtr):
            _flags_ = ctypes.FUNCFLAG_CDECL | ctypes.FUNCFLAG_USE_ERRNO
            _restype_ = Long
            _argtypes_ = (Long, Address, Long, Address, Long)

        class Plain(ctypes.CFuncPtr):
            _flags_ = ctypes.FUNCFLAG_CDECL
            _restype_ = None

        class Count(ctypes._SimpleCData):
            _type_ = "I"

        class Object(ctypes._SimpleCData):
            _type_ = "O"

        self.char, self.plain, self.count, self.object, self.made = Char, Plain, Count, Object, {}
        self.syscall = Syscall(self.address("syscall"))

    def address(self, name):
        return self.ctypes.dlsym(self.ctypes.dlopen(None, 0), name)

    def stub(self, name):
        """Returns a function of the stub, or of libc, without a result."""
        return self.plain(self.address(name))

    def taking_objects(self, name, count):
        """Returns a function of the stub that takes and returns Python's objects, and holds the GIL."""
        if name in self.made:
            return self.made[name]

        class Function(self.ctypes.CFuncPtr):
            _flags_ = self.ctypes.FUNCFLAG_CDECL | self.ctypes.FUNCFLAG_PYTHONAPI
            _restype_ = self.object
            _argtypes_ = (self.object,) * count

        self.made[name] = Function(self.address(name))
        return self.made[name]

    def running_file(self, name):
        """Returns a function of the stub that takes the path of a script and returns a number, and holds the GIL."""

        class Path(self.ctypes._SimpleCData):
            _type_ = "z"

        class Number(self.ctypes._SimpleCData):
            _type_ = "i"

        class Function(self.ctypes.CFuncPtr):
            _flags_ = self.ctypes.FUNCFLAG_CDECL | self.ctypes.FUNCFLAG_PYTHONAPI
            _restype_ = Number
            _argtypes_ = (Path,)

        return Function(self.address(name))

    def make_immortal(self, objects):
        """Ends the counting of references to these objects (PEP 683), because it would write into their pages.

        Each version marks them in its own way; in versions that are not known here, nothing changes.
        """
        if (3, 12) <= sys.version_info < (3, 14):
            for each in objects:
                self.count.from_address(id(each)).value = 0xFFFFFFFF
        elif sys.version_info[:2] == (3, 14):

            class Function(self.ctypes.CFuncPtr):
                _flags_ = self.ctypes.FUNCFLAG_CDECL | self.ctypes.FUNCFLAG_PYTHONAPI
                _restype_ = None
                _argtypes_ = (self.object,)

            mark = Function(self.address("_Py_SetImmortal"))
            for each in objects:
                mark(each)

    def buffer(self, size):
        return (self.char * size)()

    def content(self, buffer, size):
        return bytes(memoryview(buffer).cast("B")[:size])

    def ask(self, number, message, buffer, room):
        """Returns the result of syscall(2), and errno."""
        size = self.syscall(number, message, len(message), buffer, room)
        return size, self.ctypes.get_errno() if size < 0 else 0


def settle(calls, gc, is_zygote):
    """Avoids writes into the memory that the copies share.

    These come from the garbage collector, and at the end of each program from the reference counts of all modules and
    names.
    """
    if is_zygote:
        gc.collect()
        gc.freeze()
        calls.make_immortal([*sys.modules, *sys.modules.values()])


def fork(calls):
    """Forks; returns what fork(2) does."""
    return calls.taking_objects("proxybox_fork", 0)()


def born():
    """Runs first in each copy."""


# --- how a program is run ---------------------------------------------------------------------------------------------

#: Further names of a new module __main__.
NAMES = ("__annotations__", "__builtins__") if sys.version_info < (3, 14) else ("__builtins__",)
#: Whether the loader of a script has its absolute path.
LOADS_ABSOLUTE = True
#: Whether gc.get_objects also returns objects without references.
SEES_GARBAGE = True


def run_text(text, names):
    """Returns the code of the text of -c."""
    # before 3.10 a declaration of the encoding counted
    code = compile(text if sys.version_info >= (3, 10) else text.encode(), "<string>", "exec", 0, True)
    if sys.version_info >= (3, 13):  # its lines are shown
        import linecache

        linecache._register_code(code, text, "<string>")
    return exec, (code, names)


def broken(link, path, error):
    """Ends a program whose script cannot be compiled. The interpreter reports more for a file than for a text."""
    status = link.calls.running_file("proxybox_run_file")(path.encode("utf-8", "surrogateescape"))
    raise SystemExit(1 if status else 0)  # before 3.12 a file ended at a null byte


def folder_of(path):
    """Returns the folder of a script, without symbolic links."""
    posix, posixpath = sys.modules["posix"], sys.modules["posixpath"]
    try:
        path = posixpath.join(posixpath.dirname(path), posix.readlink(path))
    except OSError:
        pass  # not a link
    return posixpath.realpath(posixpath.dirname(path))


def cannot_open(path, error):
    """Prints that the script cannot be opened; returns the exit status."""
    print(f"{sys.executable}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
    return 2


def exit_status(code):
    """Returns the exit status of SystemExit's code, an int. Raises for another code, which is then printed."""
    if not isinstance(code, int):
        raise TypeError
    return code


class Begin(Exception):
    """Ends the frames of the bootstrap. steps: the generator that is carried out then (stub_frames.c)."""

    def __init__(self, steps):
        self.steps = steps


def start(main, link, own):
    """Carries out the result of `main`: (function, arguments) of a program, or the steps of a session.

    A generator yields steps, (function, arguments). Each function is called with no frame below it, and (result,
    exception) is sent back into the generator.
    """
    lead = link.calls.taking_objects("proxybox_lead", 3)
    sys.excepthook = lead
    raise Begin(from_start_to_end(main, link, own))


def lead(steps):
    """Carries out steps in the middle of a program, for an inspection: there are frames below."""
    came = None
    while True:
        todo = steps.send(came)
        try:
            came = todo[0](*todo[1], **(todo[2] if len(todo) > 2 else {})), None
        except BaseException as error:
            came = None, error


def from_start_to_end(main, link, own):
    """Yields all steps of a program or session, and of its end, which ends the process."""
    sys.excepthook = sys.__excepthook__
    for name in LAST:
        vars(sys).pop(name, None)
    end, raised = End(link, own), []
    try:
        yield from whole(main(link), end)
    except BaseException as error:
        cut(error)
        raised.append(error)
    yield from end.steps(raised)


def whole(todo, end):
    """Yields the steps of a program, or of a session."""
    end.keep(todo)
    if type(todo) is not tuple:
        yield from todo  # which never ends
    try:
        result_of((yield todo))
    finally:
        if todo[0] is exec:
            flush("stderr", "stdout")


def result_of(came):
    """Returns the result of a step, or raises its exception."""
    result, error = came
    if error is not None:
        raise error
    return result


def cut(error):
    """Removes our frames from the traceback of an exception, and from those of its causes."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        error.__traceback__ = without_ours(error.__traceback__)
        error = error.__cause__ or error.__context__


def without_ours(trace):
    """Returns a traceback without our frames: those that called the program, and one of our handler in the middle."""
    while trace is not None and is_ours(trace.tb_frame):
        trace = trace.tb_next
    last = trace
    while last is not None and last.tb_next is not None:
        if is_ours(last.tb_next.tb_frame):
            last.tb_next = last.tb_next.tb_next
        else:
            last = last.tb_next
    return trace


def is_ours(frame):
    """Whether a frame runs code of proxybox."""
    return frame.f_code.co_filename in FILES


# --- the end of a program ---------------------------------------------------------------------------------------------

LAST = ("last_exc", "last_type", "last_value", "last_traceback")
#: Names in sys that are None while modules are cleared.
GONE = ("path", "argv", "ps1", "ps2", *LAST, "path_hooks", "path_importer_cache", "meta_path", "__interactivehook__")
SIGINT = 2


class End:
    """Ends a process as Py_RunMain and Py_FinalizeEx do, as far as a program can notice.

    These also destroy the interpreter itself, which takes three quarters of their time and writes into the memory that
    copies share. Where another thread runs, or a stream cannot be flushed, the interpreter ends in its own way.
    """

    def __init__(self, link, own):
        self.report = link.calls.taking_objects("proxybox_report", 2)
        self.exit = link.calls.stub("exit")
        self.gc, self.ref, self.thread = own("gc"), own("_weakref").ref, sys.modules["_thread"]
        self.module = type(sys)
        self.posix, self.signal = sys.modules["posix"], own("_signal")
        self.modules = sys.modules  # stored, because the program may replace that name
        self.builtins = self.modules["builtins"]
        self.keep(None)

    def keep(self, todo):
        """Stores the modules from before the program begins, and the namespace of a script."""
        self.script = todo[1][1] if type(todo) is tuple and todo[0] is exec and "__file__" in todo[1][1] else {}
        self.names = set(vars(self.builtins))
        self.kept = {id(module): module for name, module in self.modules.items() if name != "__main__"}

    def steps(self, raised):
        """Yields the steps of the end. raised: a list with the program's exception, if any; it is emptied."""
        status, interrupted = 0, isinstance(raised and raised[0], KeyboardInterrupt)
        if raised and isinstance(raised[0], SystemExit) and not sys.flags.inspect:
            status = yield from self.status(raised.pop().code)
            yield tuple, ()  # until the next step, `proxybox_lead` holds the exception, and with it the program's names
        else:
            if raised:
                yield self.report, (raised.pop(), None)
                status = 1
            self.script.pop("__file__", None)
            self.script.pop("__cached__", None)
        self.script = None
        yield from self.finish("threading", "_shutdown")
        yield from self.finish("atexit", "_run_exitfuncs")
        if not interrupted and (self.thread._count() or not flush("stdout", "stderr")):
            raise SystemExit(status)
        try:
            self.clear()
        except BaseException:  # the program has changed builtins or sys.modules
            pass
        if not flush("stdout", "stderr"):
            status = 120
        if interrupted:
            self.signal.signal(SIGINT, self.signal.SIG_DFL)
            self.posix.kill(self.posix.getpid(), SIGINT)
        self.exit(status)

    def status(self, code):
        """Returns the exit status of SystemExit's code. A code that is no number is printed."""
        if code is None or isinstance(code, int):
            return 0 if code is None else code & 0xFF if -(1 << 31) <= code < 1 << 31 else 0xFF
        if getattr(sys, "stderr", None) is None:
            self.posix.write(2, f"{code}\n".encode())
            return 1
        for words, end in (((code,), ""), ((), "\n")):
            yield print, words, {"file": sys.stderr, "end": end}  # which may fail
        return 1

    def finish(self, name, function):
        """Calls a function of a module that the program has imported."""
        module = self.modules.get(name)
        if module is None:
            return
        failed = []
        try:
            result_of((yield getattr(module, function), ()))
        except BaseException as error:
            cut(error)
            failed.append(error)
        if failed and name != "atexit":  # atexit reports its own
            yield self.report, (failed.pop(), module)

    def clear(self):
        """Clears the program's modules: see finalize_modules in CPython's pylifecycle.c."""
        sys.is_finalizing = finalizing
        self.gc.callbacks.clear()
        self.gc.collect()
        self.builtins._ = None
        for name in GONE:
            setattr(sys, name, None)
        for name in ("stdin", "stdout", "stderr"):
            setattr(sys, name, getattr(sys, f"__{name}__", None))
        found = []
        for name in list(self.modules):
            try:
                if id(self.modules[name]) not in self.kept:
                    found.append(self.ref(self.modules[name]))
                self.modules[name] = None
            except TypeError:
                pass  # not a module
        self.modules.clear()
        for name in vars(self.builtins).keys() - self.names:
            delattr(self.builtins, name)
        self.gc.collect()
        for module in reversed(found):
            if type(module()) is self.module:
                self.empty(vars(module()))

    def empty(self, names):
        """As _PyModule_ClearDict: clears names with one leading underscore first."""
        for private in (True, False):
            for name in list(names):
                if name != "__builtins__" and (not private or (name[:1] == "_" and name[1:2] != "_")):
                    names[name] = None


def flush(*names):
    """Flushes the program's streams. Returns whether that succeeded."""
    went_well = True
    for name in names:
        stream = getattr(sys, name, None)
        try:
            if stream is not None and not getattr(stream, "closed", False):
                stream.flush()
        except BaseException:
            went_well = False
    return went_well


def finalizing():
    return True
