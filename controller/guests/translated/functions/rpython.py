"""Functions of RPython itself."""

import errno

from proxybox.controller.guests.translated.asking import Allocate, Free, FunctionResult, Steps
from proxybox.controller.guests.translated.libc import Libc, as_bytes, function


@function("_pypy_init_home()p")
def pypy_init_home(libc: Libc) -> Steps:
    """Returns the path of the interpreter, from which it looks for its library. The guest frees it."""
    return FunctionResult((yield Allocate(as_bytes(libc.home) + b"\0")))


@function("_pypy_init_free(p)v")
def pypy_init_free(_: Libc, at: int) -> Steps:
    if at:
        yield Free(at)
    return FunctionResult()


@function("pypy__allow_attach()v")
def pypy_allow_attach(_: Libc) -> Steps:
    yield from ()
    return FunctionResult()


@function("get_stdout()p")
def get_stdout(libc: Libc) -> Steps:
    """Returns a FILE pointer. The guest uses it only to get its descriptor (fileno(3))."""
    if not libc.stdout:
        libc.stdout = yield Allocate(bytes(8))
    return FunctionResult(libc.stdout)


@function("fileno(p)i")
def fileno(libc: Libc, pointer: int) -> Steps:
    yield from ()
    return FunctionResult(1) if pointer and pointer == libc.stdout else FunctionResult(-1, errno.EBADF)
