"""The boundary to the caller: the exceptions of its functions while a guest is served.

Functions of the caller are host functions, those of `stdin`, `on_stdout` and the like, interceptors, and the audit.
Only these are called within `with callers:`, where `callers` is a `Callers`. The rules:

- An exception of a host function is an exception in the program that has called it. That includes SystemExit,
  GeneratorExit, KeyboardInterrupt, and the CancelledError of an await that other code has cancelled.
- An exception of another function ends only the box for which it was called. `as_raised` raises the same
  exception in the caller of that run. On the way there it is no OSError, which would be the guest's errno, and no
  GuestMisbehaved: it is a `RaisedByCaller`, which no handler of an OS call catches. Some functions may make the guest's
  call fail by an exception: only `OutputSink` and `Stdin` check for this.
- An exception of a signal handler is the caller's own, wherever the signal comes: Ctrl-C in the middle of a host
  function stops the run, and the program around it, as it would anywhere else (`is_of_signal`).
- In an event loop, an exception that is not of class Exception would end the loop or the task group around the run, or
  look as if the run's own task was cancelled. There it becomes a CallbackError (`proxybox/aio/feed.py`).
"""

import opcode
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Final, TypeVar

from proxybox.controller.costs.interpreter import InterpreterShare
from proxybox.controller.costs.meter import Meter

T = TypeVar("T")

#: The instructions of `raise`. No signal handler runs at one of them.
_RAISES: Final = frozenset(opcode.opmap[name] for name in ("RAISE_VARARGS", "RERAISE"))


class RaisedByCaller(BaseException):
    """A function of the caller has raised `error`."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(f"a function of the caller has raised {type(error).__name__}")
        self.error = error


class Callers:
    """The context in which functions of the caller are called.

    Within it the guest's meter counts nothing, and other boxes have their turns of the interpreter. An exception in it
    becomes a RaisedByCaller.
    """

    __slots__ = ("_had_turn", "_interpreter", "_meter")

    def __init__(self, meter: Meter | None = None, interpreter: InterpreterShare | None = None) -> None:
        self._meter = Meter() if meter is None else meter
        self._interpreter = InterpreterShare() if interpreter is None else interpreter
        self._had_turn = False

    def __enter__(self) -> None:
        self._had_turn = self._interpreter.is_in
        self._interpreter.leave()
        self._meter.__enter__()

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._meter.__exit__()
        if self._had_turn:
            self._interpreter.__enter__()
        if error is not None:
            raise RaisedByCaller(error)


def as_raised(action: Callable[[], T]) -> T:
    """Returns the result of `action`. Raises an exception of the caller's function in it unchanged."""
    try:
        return action()
    except RaisedByCaller as raised:
        error = raised.error
    raise error  # after the handler, so that its context does not change


def is_of_signal(error: BaseException) -> bool:
    """Whether the handler of a signal has raised an exception, and not the code that was running.

    error: raised below the calling frame. Handlers run only in the main thread. Python's own handler of SIGINT is in C:
    it raises KeyboardInterrupt between two instructions, or within a function in C, and never in a `raise`. All other
    handlers have a frame, and are the only functions that get the frame of their caller as an argument.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if isinstance(error, BaseExceptionGroup):
        return any(map(is_of_signal, error.exceptions))
    if isinstance(error, Exception) or error.__traceback__ is None:
        return False
    last = error.__traceback__
    while last.tb_next is not None:
        if _is_interrupted_by(last.tb_frame, last.tb_next.tb_frame):
            return True
        last = last.tb_next
    has_handler = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return has_handler and isinstance(error, KeyboardInterrupt) and not _is_in_raise(last)


def _is_interrupted_by(frame: FrameType, handler: FrameType) -> bool:
    frame_values = handler.f_locals.values()
    return any(each is frame or (type(each) is tuple and frame in each) for each in frame_values)


def _is_in_raise(at: TracebackType) -> bool:
    return at.tb_frame.f_code.co_code[at.tb_lasti] in _RAISES
