"""Functions of the caller that a program may call: the only way to pass abilities into a box.

Rules: arguments and results are plain values of bounded size (values.py), never other objects. Exceptions of a function
are raised in the program (controller/callers.py); nothing that a program sends can raise here. A function runs in the
trusted process: what it does with its arguments is its author's responsibility.
"""

import contextvars
import datetime
import inspect
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import attrs

from proxybox.controller.callers import Callers, RaisedByCaller, is_of_signal
from proxybox.controller.exchange import values
from proxybox.policies.errors import PolicyError, shown
from proxybox.policies.sizes import to_duration, to_size

Value = TypeVar("Value")

#: The program gets at most so many characters of an exception's message.
_LONGEST_MESSAGE = 4096
#: An encoded call of this many bytes or fewer is decoded in one turn, a longer one in several.
_SHORT = 4096
_UNCOUNTED = Callers()
#: The most keyword arguments of a call: they are checked and copied in one turn.
_MOST_NAMED = 4096


def _named(name: str, convert: Callable[[Any], Value], value: Any) -> Value:
    try:
        return convert(value)
    except PolicyError as error:
        raise error.under(name) from None


def _to_timeout(value: float | str | datetime.timedelta | None) -> float | None:
    return _named("timeout", to_duration, value)


def _to_size(value: int | str | None) -> int | None:
    return _named("size", to_size, value)


@attrs.frozen
class HostFunction:
    """A function with limits of its own.

    function: takes and returns plain values. timeout: seconds after which the program gets a TimeoutError; a function
    with a timeout runs in a thread of its own, and goes on there. None: the function runs in the thread that serves the
    box, which is faster, for as long as it takes. A coroutine function (of an AsyncSandbox) is cancelled at the
    timeout. size: the most bytes of its encoded arguments, and of its encoded result; None for the policy's
    session.value_size.
    """

    function: Callable[..., Any]
    timeout: float | None = attrs.field(default=None, converter=_to_timeout)
    size: int | None = attrs.field(default=None, converter=_to_size)

    def __attrs_post_init__(self) -> None:
        if not callable(self.function):
            raise PolicyError(f"function: want a function, got {shown(self.function)}")
        if self.timeout is not None and self.timeout <= 0:
            raise PolicyError(f"timeout: want a duration above 0, or None, got {self.timeout!r}")
        if self.size is not None and self.size < 1:
            raise PolicyError(f"size: want a size of 1 byte or more, or None, got {self.size!r}")

    @property
    def is_async(self) -> bool:
        """Whether the function needs an event loop."""
        return inspect.iscoroutinefunction(self.function)


@attrs.frozen
class Pending:
    """An answer that does not exist yet.

    take: returns the answer, or None while there is none. deadline_ns: on the host's monotonic clock; None for no
    deadline. expired: the answer when the deadline comes first.
    """

    take: Callable[[], bytes | None]
    deadline_ns: int | None = None
    expired: bytes = b""


@attrs.define(eq=False)
class EncodedCall:
    """A call whose arguments have not been decoded yet.

    turns: a generator that decodes them, makes the call and returns the answer. size: of the encoded call, in bytes.
    """

    turns: "values.Turns[bytes | Pending]"
    size: int
    has_begun: bool = False

    def go_on(self) -> bytes | Pending | None:
        """Carries out one turn. Returns the answer, or None where more turns are left."""
        self.has_begun = True
        try:
            next(self.turns)
        except StopIteration as end:
            answer: bytes | Pending = end.value
            return answer
        return None


class Spawn(Protocol):
    """Begins a call outside this thread. Its result, or what it raised, is passed to `done`.

    timeout: seconds after which the result is no longer needed; None for no limit.
    """

    def __call__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        done: Callable[[Any, BaseException | None], None], timeout: float | None,
    ) -> None:  # fmt: skip
        """Begins the call and returns at once."""


def in_thread(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
    done: Callable[[Any, BaseException | None], None], timeout: float | None,
) -> None:  # fmt: skip
    """Begins a call in a new thread, which has a copy of this one's context (contextvars).

    It is the `Spawn` of functions with a timeout.
    """

    def call() -> None:
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            done(None, error)
        else:
            done(result, None)

    context = contextvars.copy_context()
    threading.Thread(target=context.run, args=(call,), name="proxybox-function", daemon=True).start()


class HostFunctions:
    """The functions that one sandbox lets its programs call.

    value_size: the most bytes of a function's arguments and result, unless it has a size of its own. spawn: begins
    coroutine functions; None where there is no event loop.
    """

    def __init__(
        self, functions: Mapping[str, Callable[..., Any] | HostFunction], value_size: int, spawn: Spawn | None = None
    ) -> None:
        self._functions = {name: _checked(name, function, spawn) for name, function in functions.items()}
        self._value_size = value_size
        self._spawn = spawn

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the program's module `host`."""
        return tuple(self._functions)

    @property
    def has_async(self) -> bool:
        """Whether one of the functions needs an event loop."""
        return any(function.is_async for function in self._functions.values())

    def call(
        self, data: bytes, notify: Callable[[], None], callers: Callers = _UNCOUNTED
    ) -> bytes | Pending | EncodedCall:
        """The answer to an encoded call.

        notify: called when a pending answer has come. callers: a context that is entered around the function.

        Nothing but the name is decoded when the function does not exist, or when the call is larger than its size.
        """
        try:
            name = values.first_text(data, 3)
            known = self._functions[name]
        except (KeyError, ValueError) as error:
            return failed(ValueError(f"no such call of a host function: {error}"))
        size = known.size or self._value_size
        if len(data) > size:
            return failed(ValueError(f"the arguments of host.{name} take {len(data)} bytes, more than {size}"))
        turns = self._turns(name, known, data, size, notify, callers)
        return values.at_once(turns) if len(data) <= _SHORT else EncodedCall(turns, len(data))

    def _turns(
        self, name: str, known: HostFunction, data: bytes, size: int, notify: Callable[[], None],
        callers: Callers,
    ) -> "values.Turns[bytes | Pending]":  # fmt: skip
        try:
            _, args, kwargs = yield from values.decoding(data, size)
            if type(args) is not tuple or type(kwargs) is not dict or any(type(key) is not str for key in kwargs):
                raise ValueError("a call is a name, a tuple and a dict with names")
            if len(kwargs) > _MOST_NAMED:
                raise ValueError(f"more than {_MOST_NAMED} arguments are named")
        except ValueError as error:
            return failed(ValueError(f"no such call of a host function: {error}"))
        if known.timeout is None and not known.is_async:
            try:
                with callers:
                    result = known.function(*args, **kwargs)
            except RaisedByCaller as raised:
                if is_of_signal(raised.error):
                    raise
                return failed(raised.error)
            return _answer(result, size)
        return self._begin(name, known, args, kwargs, size, notify)

    def _begin(
        self, name: str, known: HostFunction, args: tuple[Any, ...], kwargs: dict[str, Any], size: int,
        notify: Callable[[], None],
    ) -> bytes | Pending:  # fmt: skip
        came: list[bytes] = []

        def done(result: Any, error: BaseException | None) -> None:
            came.append(_answer(result, size) if error is None else failed(error))
            notify()

        spawn = self._spawn if known.is_async and self._spawn is not None else in_thread
        try:
            spawn(known.function, args, kwargs, done, known.timeout)
        except RuntimeError as error:  # no thread can be started
            return failed(error)
        expired = failed(TimeoutError(f"host.{name} took longer than {known.timeout} seconds"))
        deadline = None if known.timeout is None else time.monotonic_ns() + int(known.timeout * 1e9)
        return Pending(lambda: came[0] if came else None, deadline, expired)


def _checked(name: str, function: Callable[..., Any] | HostFunction, spawn: Spawn | None) -> HostFunction:
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
        raise PolicyError(f"functions: {name!r} is no name that a program could call: want an identifier")
    if not callable(function) and not isinstance(function, HostFunction):
        raise PolicyError(f"functions: {name}: want a function, not {type(function).__name__}")
    known = function if isinstance(function, HostFunction) else HostFunction(function)
    if known.is_async and spawn is None:
        raise PolicyError(f"functions: {name} is a coroutine function: it needs an AsyncSandbox")
    return known


def _answer(result: Any, size: int) -> bytes:
    try:
        return values.encode(("ok", result), size, ("", "result"))
    except Exception as error:
        return failed(TypeError(f"what the host function returned cannot cross: {error}"))


def failed(error: BaseException) -> bytes:
    """The encoded answer that makes the call raise this exception in the program."""
    try:
        words = str(error)[:_LONGEST_MESSAGE]
    except BaseException:  # raised by the exception's own method
        words = "(its message could not be made)"
    return values.encode(("error", type(error).__name__, words))
