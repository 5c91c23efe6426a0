"""The part of the bootstrap that only a PyPy has. on_cpython.py has the same names."""

import sys

import __pypy__

#: Such frames are in no traceback, and sys._getframe does not return them.
hidden = __pypy__.hidden_applevel
#: Where the code of our frames is, of which more than one is seen: nowhere.
FILES = frozenset()
try:
    # Keeps the JIT from tracing from the loop below into code that is new each time: it would compile without end.
    from pypyjit import residual_call as apart
except ImportError:  # a PyPy without residual_call

    @hidden
    def apart(function, *args, **kwargs):
        return function(*args, **kwargs)


class Calls:
    """Calls of C functions. own: bootstrap.own."""

    def __init__(self, own):
        self.cffi = cffi = own("_cffi_backend")
        integer = cffi.new_primitive_type("long")
        address = cffi.new_pointer_type(cffi.new_void_type())
        self.syscall = self.function("syscall", (integer, address, integer, address, integer), integer)
        self.chars = cffi.new_array_type(cffi.new_pointer_type(cffi.new_primitive_type("char")), None)

    def function(self, name, arguments, result):
        kind = self.cffi.new_function_type(arguments, result, False)
        return self.cffi.load_library(None, 0).load_function(kind, name)

    def stub(self, name):
        """A function of the stub's, which takes nothing and returns nothing."""
        return self.function(name, (), self.cffi.new_void_type())

    def buffer(self, size):
        return self.cffi.newp(self.chars, size)

    @hidden
    def content(self, buffer, size):
        return self.cffi.buffer(buffer, size)[:]

    @hidden
    def ask(self, number, message, buffer, room):
        """What syscall(2) returns, and errno."""
        place = self.cffi.from_buffer(self.chars, message)
        null = self.cffi.newp(self.chars, 1) if buffer is None else buffer
        size = self.syscall(number, place, len(message), null, room)
        return size, self.cffi.get_errno() if size < 0 else 0


def settle(calls, gc, is_zygote):
    """Gives back the memory that the start has used and nothing is in (stub_nursery.c)."""
    if is_zygote:
        gc.collect()
    forget = calls.stub("proxybox_forget_nursery")
    gc.disable_finalizers()  # from here on nothing is made that is not needed for this
    if is_zygote:
        gc.collect()
    else:
        gc.collect_step()  # which does not look at what is old
    forget()
    gc.enable_finalizers()


@hidden
def fork(calls):
    """Forks; returns what fork(2) does."""
    return sys.modules["posix"].fork()


def born():
    """Is called first in each copy."""
    __pypy__.debug_start("proxybox")  # PyPy asks in each copy whether it has a terminal: now, and not at its end
    __pypy__.debug_stop("proxybox")


# --- how a program is run ---------------------------------------------------------------------------------------------

#: What a new module __main__ has besides.
NAMES = ("__builtins__", "__annotations__")
#: Whether the loader of a script has its absolute path.
LOADS_ABSOLUTE = False
#: Whether gc.get_objects has what nothing refers to any more.
SEES_GARBAGE = False


@hidden
def run_text(text, names):
    """What runs the text that -c was given."""
    return exec, (text, names)


@hidden
def broken(link, path, error):
    """Ends a program whose script cannot be compiled."""
    raise error


@hidden
def folder_of(path):
    """The folder of a script, without symbolic links."""
    return sys.pypy_resolvedirof(path)


@hidden
def cannot_open(path, error):
    """Says that there is no such script; returns the exit status."""
    print(f"{sys.executable}: can't open file {path}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
    return error.errno


def exit_status(code):
    """The exit status of SystemExit's code: whatever `int` accepts. Any other raises an exception, and is printed."""
    return int(code)


@hidden
def start(main, link, own):
    """Does what `main` returns: (function, arguments) of a program, or the steps of a session.

    app_main.py, PyPy's own start, handles a program's exceptions and its exit.
    """
    hidden(type(start)(sys._getframe().f_code, {}))  # hides the frame of the module that calls this
    todo = main(link)
    if type(todo) is tuple:
        todo[0](*todo[1])
    else:
        lead(todo)


def cut(error):
    """Takes our frames from an exception: they are hidden."""


def lead(steps):
    """Carries out steps, (function, arguments). Sends back what comes of each, (result, exception).

    This is the only visible frame below the program's: a signal's handler must be given one.
    """
    todo, missed = next(steps), None
    while True:
        try:
            while True:
                try:
                    if missed is None:
                        todo = take(steps, *todo)
                    else:
                        error, missed = missed, None
                        todo = steps.send((None, error))
                except BaseException as caught:  # an interrupt between the program and its step
                    missed = caught
        except BaseException as caught:  # and one just then; a command is interrupted once
            missed = caught


@hidden
def take(steps, function, arguments, keywords={}):  # noqa: B006 - never changed
    try:
        result = apart(function, *arguments, **keywords)
    except BaseException as error:
        return steps.send((None, error))
    return steps.send((result, None))


@hidden
def result_of(came):
    """What came of a step: returns its result, or raises its exception."""
    result, error = came
    if error is not None:
        raise error
    return result
