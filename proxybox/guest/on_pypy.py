"""The part of the bootstrap that only a PyPy has. on_cpython.py has the same names."""

import sys

import __pypy__

#: Such frames are in no traceback, and sys._getframe does not return them.
hidden = __pypy__.hidden_applevel
#: The file names of our frames' code, where frames are visible: none, because PyPy hides all but one.
FILES = frozenset()
try:
    # Stops the JIT from tracing from the loop below into code that is new each time: it would compile endlessly.
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
        """Returns a function of the stub without arguments and a result."""
        return self.function(name, (), self.cffi.new_void_type())

    def buffer(self, size):
        return self.cffi.newp(self.chars, size)

    @hidden
    def content(self, buffer, size):
        return self.cffi.buffer(buffer, size)[:]

    @hidden
    def ask(self, number, message, buffer, room):
        """Returns the result of syscall(2), and errno."""
        place = self.cffi.from_buffer(self.chars, message)
        null = self.cffi.newp(self.chars, 1) if buffer is None else buffer
        size = self.syscall(number, place, len(message), null, room)
        return size, self.cffi.get_errno() if size < 0 else 0


def settle(calls, gc, is_zygote):
    """Frees the memory that the start has used and that is empty now (stub_nursery.c)."""
    if is_zygote:
        gc.collect()
    forget = calls.stub("proxybox_forget_nursery")
    gc.disable_finalizers()  # from here on, only objects for this are made
    if is_zygote:
        gc.collect()
    else:
        gc.collect_step()  # this does not visit old objects
    forget()
    gc.enable_finalizers()


@hidden
def fork(calls):
    """Forks; returns what fork(2) does."""
    return sys.modules["posix"].fork()


def born():
    """Runs first in each copy."""
    __pypy__.debug_start("proxybox")  # PyPy checks in each copy whether it has a terminal: now, and not at its end
    __pypy__.debug_stop("proxybox")


# --- how a program is run ---------------------------------------------------------------------------------------------

#: Further names of a new module __main__.
NAMES = ("__builtins__", "__annotations__")
#: Whether the loader of a script has its absolute path.
LOADS_ABSOLUTE = False
#: Whether gc.get_objects also returns objects without references.
SEES_GARBAGE = False


@hidden
def run_text(text, names):
    """Returns the code of the text of -c."""
    return exec, (text, names)


@hidden
def broken(link, path, error):
    """Ends a program whose script cannot be compiled."""
    raise error


@hidden
def folder_of(path):
    """Returns the folder of a script, without symbolic links."""
    return sys.pypy_resolvedirof(path)


@hidden
def cannot_open(path, error):
    """Prints that the script cannot be opened; returns the exit status."""
    print(f"{sys.executable}: can't open file {path}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
    return error.errno


def exit_status(code):
    """Returns the exit status of SystemExit's code, if `int` accepts it. Raises for others, which are then printed."""
    return int(code)


@hidden
def start(main, link, own):
    """Carries out the result of `main`: (function, arguments) of a program, or the steps of a session.

    app_main.py, PyPy's own start, handles a program's exceptions and its exit.
    """
    hidden(type(start)(sys._getframe().f_code, {}))  # hides the frame of the module that calls this
    todo = main(link)
    if type(todo) is tuple:
        todo[0](*todo[1])
    else:
        lead(todo)


def cut(error):
    """Does nothing: our frames are hidden."""


def lead(steps):
    """Carries out steps, (function, arguments). Sends (result, exception) of each back.

    This is the only visible frame below the program's: a signal's handler must get one.
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
        except BaseException as caught:  # and another one just then; a command is interrupted once
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
    """Returns the result of a step, or raises its exception."""
    result, error = came
    if error is not None:
        raise error
    return result
