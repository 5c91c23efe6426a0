"""The table of OS calls, the decoders of their requests, and the one function that every call passes.

A handler is a function decorated with `@oscall(number, effect=...)` in `oscalls/`; its annotations (see `roles`)
describe its arguments. `Dispatcher.execute` counts the call against its limit, asks the interceptors, and then calls
the handler, which applies the policy. It turns an OSError into -errno, records denials, and calls the audit. No other
file does any of that.
"""

import errno
import inspect
import struct
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, get_origin

import attrs

from proxybox.controller.audit import Answer, Audit, Decision, Denial, Deny, Interceptor, OSCall
from proxybox.controller.calleffects import CallEffect, Support
from proxybox.controller.callers import Callers
from proxybox.controller.costs.steps import CALL
from proxybox.controller.effects import AnotherTurn, Blocked, Reply
from proxybox.controller.errors import Denied, EndBox, GuestMisbehaved
from proxybox.controller.header import (
    ABSENT,
    CALL_LOOK,
    CALL_MAP,
    CALL_OPEN,
    CALL_STAT,
    LIBRARY,
    MAX_PAYLOAD,
    NOT_RECORDED,
    SETTINGS,
    TOO_LONG,
    Fetch,
)
from proxybox.controller.roles import Meaning, Memory, Scalar, stub_row
from proxybox.controller.status import Status
from proxybox.controller.wire.protocol import MEMORY, REGISTERS
from proxybox.controller.world.calledpaths import called_paths

if TYPE_CHECKING:
    from proxybox.controller.world.state import GuestThread, World

Handler = TypeVar("Handler", bound=Callable[..., Any])
AskedOf: TypeAlias = Callable[[dict[str, Any], dict[str, Any]], dict[str, Any]]
Invoke: TypeAlias = Callable[["World", "GuestThread", bytes], Reply]

_NUMBER = struct.Struct("<4xI")
_U32 = struct.Struct("<I")


class Row:
    """One OS call: its name, what it does, its handler, and the function that calls the handler with a request.

    support, reason: how far it is supported, and why not in full. asked: the parts of its arguments that it reads,
    where it does not read all (oscalls/asked.py).
    """

    __slots__ = (
        "_decode", "_meanings", "asked", "counted", "effect", "family", "handler", "invoke", "name", "number",
        "parameters", "reason", "support",
    )  # fmt: skip

    def __init__(
        self, number: int, name: str, handler: Callable[..., Reply], counted: bool = True, *,
        effect: CallEffect = CallEffect.NONE, support: Support = Support.FULL, reason: str = "",
        asked: AskedOf | None = None,
    ) -> None:  # fmt: skip
        self.number = number
        self.name = name
        self.family = handler.__module__.rpartition(".")[2]
        self.handler = handler
        self.counted = counted
        self.asked = asked
        self.effect = effect
        self.support = support
        self.reason = reason
        self.parameters = _parameters(handler)
        self.invoke: Invoke = self._compile_first
        self._decode: Invoke | None = None
        self._meanings: dict[str, Meaning] | None = None

    @property
    def meanings(self) -> dict[str, Meaning]:
        """The meanings of its arguments, by their names; only of arguments that are more than a number."""
        if self._meanings is None:
            found = {
                name: Meaning.ADDRESS if isinstance(role, Scalar) and role.is_address else role.meaning
                for name, role in self.parameters
            }
            self._meanings = {name: each for name, each in found.items() if each is not Meaning.NOTHING}
        return self._meanings

    @property
    def paths(self) -> dict[str, str]:
        """The arguments that are paths, each with the argument from which it counts; "" where there is none."""
        found, start = {}, ""
        for name, _ in self.parameters:
            meaning = self.meanings.get(name)
            if meaning is Meaning.PATH:
                found[name] = start
            start = name if meaning is Meaning.DIRECTORY else ""
        return found

    def _compile_first(self, world: "World", thread: "GuestThread", frame: bytes) -> Reply:
        """Compiles the decoder when the call is first made: a run uses about sixty calls of three hundred."""
        self.invoke = compile_invoke(self.handler, self.parameters)
        return self.invoke(world, thread, frame)

    def arguments(self, frame: bytes) -> dict[str, Any]:
        """Returns the decoded arguments by name, for the audit and the interceptors."""
        if self._decode is None:
            self._decode = compile_invoke(lambda _, *values: values, self.parameters)
        values: Any = self._decode(None, None, frame)  # type: ignore[arg-type]
        named = zip((name for name, _ in self.parameters), values, strict=True)
        return {name: _shown(value) for name, value in named}


def _shown(value: Any) -> Any:
    """Returns the bytes from guest memory, if they are known, otherwise their address."""
    return value if not isinstance(value, tuple) else value[0] if value[1] is None else value[1]


TABLE: dict[int, Row] = {}
"""The row that answers each call, by the x86-64 number; `oscall` enters a handler here."""

NUMBERS: dict[str, int] = {}
"""The number of each call, by its name: the kernel's, whose handler takes the arguments that its manual page names."""


UNANSWERED: dict[int, str] = {}
"""The names of the kernel's calls that no row answers, by number: they are ENOSYS (oscalls/refused.py)."""


def oscall(
    number: int, name: str = "", *, effect: CallEffect | None = None, partial: str = "", refused: str = "",
    asked: AskedOf | None = None, form_of: str = "", counted: bool = True,
) -> Callable[[Handler], Handler]:  # fmt: skip
    """Enters a handler in the tables under its x86-64 call number and its name, which must be unique.

    effect: what the call does; required in `oscalls/`, and optional for handlers of users. partial, refused: why the
    call is not supported in full, or not at all, in one line. asked: the parts of its arguments that it reads, where it
    does not read all (oscalls/asked.py). form_of: the call of which this is another form, with other arguments, that
    the stub makes under its own number; it has that call's name and effect. counted: whether the call counts in
    limits.calls and in usage.calls.
    """

    def enter(handler: Handler) -> Handler:
        if number in TABLE:
            raise ValueError(f"call {number} has two handlers: {TABLE[number].name}, {handler.__name__}")
        if UNANSWERED.pop(number, None) and _is_own(handler):
            raise ValueError(_ANSWERED.format(number))
        shown = form_of or name or handler.__name__.rstrip("_")
        if not form_of and NUMBERS.setdefault(shown, number) != number:
            raise ValueError(f"{shown} has two numbers: {NUMBERS[shown]} and {number}; which is a form_of it?")
        does = TABLE[NUMBERS[form_of]].effect if form_of else effect
        if does is None and _is_own(handler):
            raise TypeError(f"{shown}: say what it does, @oscall({number}, effect=...), in words of calleffects.py")
        support = Support.REFUSED if refused else Support.PARTIAL if partial else Support.FULL
        TABLE[number] = Row(number, shown, handler, counted, effect=does or CallEffect.NONE, support=support,
                            reason=refused or partial, asked=asked)  # fmt: skip
        return handler

    return enter


def unanswered(number: int, name: str) -> None:
    """Sets the name under which a call without a handler is shown."""
    if number not in TABLE:
        UNANSWERED[number] = name
    elif _is_own(TABLE[number].handler):
        raise ValueError(_ANSWERED.format(number))


_ANSWERED = "call {} has a handler now: take it out of UNANSWERED in oscalls/refused.py"


def _is_own(handler: Callable[..., Any]) -> bool:
    """Whether a handler is in `oscalls/`: users may enter handlers for their own worlds."""
    return handler.__module__.startswith("proxybox.controller.oscalls.")


def unknown_name(number: int) -> str:
    """Returns the name under which a call without a row is shown: the kernel's, if it has one."""
    return UNANSWERED.get(number, f"call_{number}")


def takes_thread(handler: Callable[..., Any]) -> bool:
    """Whether the handler takes the calling thread, as its second argument, before the call's own arguments."""
    names: tuple[str, ...] = inspect.unwrap(handler).__code__.co_varnames
    return names[1:2] == ("thread",)


def _parameters(handler: Callable[..., Any]) -> list[tuple[str, Scalar | Memory]]:
    roles: list[tuple[str, Scalar | Memory]] = []
    annotations, code = handler.__annotations__, inspect.unwrap(handler).__code__
    for name in code.co_varnames[1 + takes_thread(handler) : code.co_argcount]:
        metadata = getattr(annotations[name], "__metadata__", ())
        role = next((item for item in metadata if isinstance(item, Scalar | Memory)), None)
        if role is None:
            raise TypeError(f"{handler.__name__}: argument {name} has no role: annotate it with one of roles.py")
        if isinstance(role, Memory) and get_origin(annotations[name].__origin__) is tuple:
            role = attrs.evolve(role, with_address=True)
        roles.append((name, role))
    if len(roles) > 6:
        raise TypeError(f"{handler.__name__}: a system call has six arguments at the most")
    return roles


def stub_table() -> bytes:
    """Returns the rows of all calls that read guest memory, in the stub's compact form."""
    return b"".join(stub_row(number, row.parameters) for number, row in sorted(TABLE.items()))


# --- decoding ---------------------------------------------------------------------------------------------------------


def compile_invoke(handler: Callable[..., Reply], parameters: list[tuple[str, Scalar | Memory]]) -> Invoke:
    """Returns a function that decodes a request and calls the handler.

    It decodes all registers with one struct call, and then the memory.
    """
    invoke = _compile_any(handler, parameters)
    memory = [(name, role) for name, role in parameters if isinstance(role, Memory)]
    if len(memory) == 1 and memory[0][1].fetch is Fetch.STRING and not memory[0][1].with_address:
        return _compile_one_string(handler, parameters, *memory[0], invoke)
    return invoke


def _compile_one_string(
    handler: Callable[..., Reply], parameters: list[tuple[str, Scalar | Memory]], text: str, role: Memory, other: Invoke
) -> Invoke:
    """Returns a function for calls with one string, such as a path, which decodes well-formed requests faster.

    other: the function for all other requests, which reports their errors.
    """
    codes = "".join(role.code if isinstance(role, Scalar) else "8x" for _, role in parameters)
    unpack = struct.Struct(f"<{codes}{MEMORY - REGISTERS - 8 * len(parameters)}xI").unpack_from
    registers = [name for name, role in parameters if isinstance(role, Scalar)]
    argument_names = ", ".join(["world", *["thread"] * takes_thread(handler), *(name for name, _ in parameters)])
    lines = [
        "def invoke(world, thread, frame):",
        f"    if len(frame) >= {MEMORY + 4}:",
        f"        {', '.join([*registers, '_bytes'])}, = unpack(frame, {REGISTERS})",
        f"        {text} = frame[{MEMORY + 4}:]",
        f"        if _bytes == len({text}) < {role.size} and 0 not in {text}:",
        f"            return handler({argument_names})",
        "    return other(world, thread, frame)",
    ]
    names: dict[str, Any] = {"unpack": unpack, "handler": handler, "other": other}
    exec("\n".join(lines), names)  # noqa: S102 - the text is made of our own handlers' argument names
    return names["invoke"]  # type: ignore[no-any-return]


def _compile_any(handler: Callable[..., Reply], parameters: list[tuple[str, Scalar | Memory]]) -> Invoke:
    codes, registers = "<", []
    for name, role in parameters:
        if isinstance(role, Scalar):
            codes += role.code
            registers.append(name)
        elif role.with_address:
            codes += "Q"
            registers.append(f"{name}_at")
        else:
            codes += "8x"
    unpack = struct.Struct(codes).unpack_from
    memory = [(name, role) for name, role in parameters if isinstance(role, Memory)]
    callers = ["world", "thread"] if takes_thread(handler) else ["world"]
    lines = ["def invoke(world, thread, frame):"]
    names: dict[str, Any] = {"unpack": unpack, "handler": handler, "finish": _finish}
    if registers:
        lines.append(f"    {', '.join(registers)}, = unpack(frame, {REGISTERS})")
    at = "at" if memory else str(MEMORY)
    if memory:
        lines.append(f"    at = {MEMORY}")
    for name, role in memory:
        names[f"take_{name}"] = _TAKERS[role.fetch]
        names[f"role_{name}"] = role
        lines.append(f"    {name}, at = take_{name}(frame, at, role_{name}, {role.length or '0'})")
        if role.with_address:
            lines.append(f"    {name} = {name}_at, {name}")
    lines.append(f"    if {at} != len(frame): finish()")
    lines.append(f"    return handler({', '.join([*callers, *(name for name, _ in parameters)])})")
    exec("\n".join(lines), names)  # noqa: S102 - the text is made of our own handlers' argument names
    return names["invoke"]  # type: ignore[no-any-return]


def _finish() -> None:
    raise GuestMisbehaved("a request is longer than its arguments")


def _blob(frame: bytes, at: int, optional: bool) -> tuple[bytes | None, int]:
    """Returns the next piece of fetched memory, and the offset at which the piece after it begins."""
    if len(frame) < at + 4:
        raise GuestMisbehaved("a request is shorter than its arguments")
    (size,) = _U32.unpack_from(frame, at)
    at += 4
    if size >= TOO_LONG:
        if size == ABSENT and optional:
            return None, at
        if size == TOO_LONG:
            raise OSError(errno.ENAMETOOLONG, "a path of more than 4,095 bytes")
        raise OSError(errno.EFAULT, "an address that the guest cannot read")
    end = at + size
    if end > len(frame):
        raise GuestMisbehaved("an argument is longer than its request")
    return frame[at:end], end


def _take_string(frame: bytes, at: int, role: Memory, _: int) -> tuple[bytes | None, int]:
    text, at = _blob(frame, at, role.optional)
    if text is not None and (len(text) >= role.size or b"\0" in text):
        raise GuestMisbehaved("a string with a NUL inside or without an end")
    return text, at


def _take_buffer(frame: bytes, at: int, role: Memory, count: int) -> tuple[bytes | None, int]:
    data, at = _blob(frame, at, role.optional)
    if data is not None and len(data) != min(max(count, 0) * role.size, MAX_PAYLOAD) and not (count >> 63 and not data):
        raise GuestMisbehaved(f"a buffer of {len(data)} bytes where its length says {count}")
    return data, at


def _take_struct(frame: bytes, at: int, role: Memory, _: int) -> tuple[bytes | None, int]:
    data, at = _blob(frame, at, True)
    if data is not None and len(data) != role.size:
        raise GuestMisbehaved(f"a structure of {len(data)} bytes where {role.size} belong")
    return data, at


def _take_gather(frame: bytes, at: int, role: Memory, _: int) -> tuple[bytes | None, int]:
    data, at = _blob(frame, at, False)
    if data is not None and len(data) > MAX_PAYLOAD:
        raise GuestMisbehaved("more gathered bytes than one call carries")
    return data, at


def _take_bits(frame: bytes, at: int, role: Memory, count: int) -> tuple[bytes | None, int]:
    data, at = _blob(frame, at, True)
    if data is not None and len(data) != (min(max(count, 0), 1024) + 63) // 64 * 8:
        raise GuestMisbehaved("an fd_set of another size than its count says")
    return data, at


_TAKERS = {
    Fetch.STRING: _take_string,
    Fetch.BUFFER: _take_buffer,
    Fetch.STRUCT: _take_struct,
    Fetch.SOFT: _take_struct,
    Fetch.GATHER: _take_gather,
    Fetch.BITS: _take_bits,
}


# --- execution --------------------------------------------------------------------------------------------------------

#: Calls that the stub makes instead of others, which it then answers itself: only where calls are not observed.
_UNOBSERVED = (CALL_OPEN, CALL_LOOK, CALL_STAT)
#: The most distinct denials, and distinct unknown numbers, that are stored for the Result.
MAX_DENIALS = 256


def _negative(error: OSError) -> int:
    """Returns the -errno of an exception: only here an exception becomes a number."""
    return -(error.errno or (errno.EPERM if isinstance(error, Denied) else errno.EIO))


def denial_of(name: str, denied: Denied) -> Denial:
    """Returns the record of a refusal."""
    number = -_negative(denied)
    return Denial(name, errno.errorcode.get(number, str(number)), denied.strerror or "")


def is_unobserved(interceptors: Sequence[Interceptor], audit: Audit | None) -> bool:
    """Whether the calls of a box are not observed, so that its guest may answer some by itself.

    It can then read the host's clocks, where time is real. Only this function decides that.
    """
    return audit is None and not interceptors


class Dispatcher:
    """Answers the requests of one box."""

    __slots__ = (
        "_interceptors", "_steps", "_world", "audit", "callers", "calls", "denials", "limit", "limit_name", "on_limit",
        "unknown",
    )  # fmt: skip

    #: How long a guest may compute while a signal waits for its next call, so that a record can say where it came.
    patience_ns = 0

    def __init__(self, world: "World", interceptors: Sequence[Interceptor] = (), audit: Audit | None = None) -> None:
        self._world = world
        self._steps = world.steps
        self._interceptors = tuple(interceptors)
        self.audit = audit
        self.count_anew()
        self.limit_name = "limits.calls"
        self.on_limit: Callable[[], None] | None = None  # called once at the limit, instead of ending the box
        self.callers = Callers()
        self.denials: dict[Denial, int] = {}
        self.unknown: dict[int, int] = {}

    def count_anew(self) -> None:
        """Starts a new count of calls, up to the policy's limit."""
        self.calls = 0
        self.limit = self._world.policy.limits.calls or float("inf")

    def execute(self, thread: "GuestThread", frame: bytes) -> Reply:
        """Returns the answer to a request, or a wait. Every OS call of every guest passes here.

        Raises GuestMisbehaved for a malformed request, and EndBox when the policy ends the box.
        """
        world = self._world
        self._steps.left = CALL
        thread.calls += 1
        (number,) = _NUMBER.unpack_from(frame)
        row = TABLE.get(number)
        if row is None or row.counted:
            self.calls += 1
            if self.calls > self.limit:
                self._over_limit()
        if row is None:
            return self._unknown(thread, number)
        if self.audit is not None or self._interceptors:
            return -errno.ENOSYS if number in _UNOBSERVED else self._observed(row, thread, frame)
        try:
            return row.invoke(world, thread, frame)
        except OSError as error:
            return self._failure(row.name, error)
        except AnotherTurn:
            return self._going_on(row, thread, frame)

    def stub_settings(self) -> bytes:
        """Returns the settings of the guest (struct settings in wire.h)."""
        is_free = is_unobserved(self._interceptors, self.audit)
        return SETTINGS.pack(self._world.clock.offset_ns() or 0, is_free, NOT_RECORDED)

    def _going_on(self, row: Row, thread: "GuestThread", frame: bytes) -> Blocked:
        """Returns the wait of a call that takes several turns.

        A signal does not interrupt it between its turns, just as on Linux a signal does not interrupt a wait for a
        disk.
        """

        def attempt() -> Reply | None:
            try:
                return row.invoke(self._world, thread, frame)
            except AnotherTurn:
                return None

        now = time.monotonic_ns()
        return Blocked(attempt, deadline_ns=now, on_interrupt=lambda: None, sources=(), unfinished=True)

    def _over_limit(self) -> None:
        if self.on_limit is None:
            raise EndBox(Status.CALL_LIMIT, self.limit_name)
        on_limit, self.on_limit = self.on_limit, None
        on_limit()

    def settle(self, attempt: Callable[[], Reply | None]) -> Reply | None:
        """Returns the answer of `attempt`, a function of a wait; errors become numbers as for any call."""
        self._steps.left = CALL
        try:
            return attempt()
        except OSError as error:
            return self._failure("", error)

    def sent(self, signal: int, late: bool) -> None:
        """Notes that a signal was sent to the guest. late: while it computed; otherwise its call is answered next."""

    def refuse(self, name: str, reason: str, number: int) -> None:
        """Records a refusal that no handler makes, such as of a function of libc that a translated guest may not use.

        number: the errno of the refusal. Raises EndBox when the policy ends the box for a refusal.
        """
        self._failure(name, Denied(number, reason))

    def _failure(self, name: str, error: OSError) -> int:
        """Returns the answer to a call that failed, and records a refusal by policy.

        Raises EndBox when the policy ends the box for a refusal.
        """
        if isinstance(error, Denied):
            self._record(name, error)
        return _negative(error)

    def count_denial(self, denial: Denial) -> None:
        """Counts a refusal, for the Result."""
        if denial in self.denials or len(self.denials) < MAX_DENIALS:
            self.denials[denial] = self.denials.get(denial, 0) + 1

    def count_unknown(self, number: int) -> None:
        """Counts an unknown call, for the Result."""
        if number in self.unknown or len(self.unknown) < MAX_DENIALS:
            self.unknown[number] = self.unknown.get(number, 0) + 1

    def _record(self, name: str, denied: Denied) -> None:
        self.count_denial(denial_of(name, denied))
        if self._world.policy.on_denied == "end":
            raise EndBox(Status.DENIED, f"{name}: {denied.strerror}")

    def _unknown(self, thread: "GuestThread", number: int) -> int:
        """Answers an unknown call number with ENOSYS, counts it, and calls the audit."""
        self.count_unknown(number)
        if self.audit is not None:
            reason = f"no handler for call {number}: add one with @oscall({number}), or answer it with an interceptor"
            with self.callers:
                self.audit(OSCall(unknown_name(number), number, "unknown", {}, thread.tid, Decision.UNKNOWN,
                                   -errno.ENOSYS, "ENOSYS", reason))  # fmt: skip
        return -errno.ENOSYS

    # The same steps, with interceptors or an audit.

    def _observed(self, row: Row, thread: "GuestThread", frame: bytes) -> Reply:
        started = time.perf_counter_ns()
        try:
            arguments = row.arguments(frame)
        except OSError:  # an unreadable argument: the handler is not called
            arguments = {}
        call = OSCall(row.name, 9 if row.number == CALL_MAP else row.number, row.family, arguments, thread.tid)
        if self._interceptors:
            call.paths = called_paths(self._world, row.paths, arguments)
        for intercept in self._interceptors:
            with self.callers:
                verdict = intercept(call)
            if isinstance(verdict, Deny):
                denied = Denied(verdict.errno, verdict.reason)
                return self._audited(call, started, lambda denied=denied: self._raise(denied))  # type: ignore[misc]
            if isinstance(verdict, Answer):
                call.decision = Decision.ANSWERED
                answer: Reply = (verdict.value, *verdict.writes) if verdict.writes else verdict.value
                return self._audited(call, started, lambda answer=answer: answer)  # type: ignore[misc]
            if verdict is not None:
                raise TypeError(f"an interceptor returned {verdict!r}: None, Deny(errno) or Answer(value) is possible")
        return self._audited(call, started, lambda: self._begin(row, thread, frame, call))

    def _begin(self, row: Row, thread: "GuestThread", frame: bytes, call: OSCall) -> Reply:
        try:
            return row.invoke(self._world, thread, frame)
        except AnotherTurn:
            later = self._going_on(row, thread, frame)
        if not call.paths:
            return later

        def attempt() -> Reply | None:
            """Answers EINTR when another thread has changed a link meanwhile.

            The program then makes the call again, and the interceptors are called again.
            """
            if called_paths(self._world, row.paths, call.arguments) != call.paths:
                raise OSError(errno.EINTR, "its paths lead elsewhere than they did")
            return later.attempt()

        return attrs.evolve(later, attempt=attempt)

    @staticmethod
    def _raise(error: OSError) -> Reply:
        raise error

    def _audited(self, call: OSCall, started: int, action: Callable[[], Reply | None]) -> Reply:
        """Carries out `action` and completes the OSCall; a wait completes it when it ends."""
        try:
            reply = action()
        except OSError as error:
            if isinstance(error, Denied):
                call.decision, call.reason = Decision.DENIED, error.strerror
            self._complete(call, started, _negative(error))
            return self._failure(call.name, error)
        except EndBox as end:
            call.decision, call.reason = Decision.DENIED, end.why
            self._complete(call, started, -errno.EPERM)
            raise
        if reply is None:
            return None  # type: ignore[return-value]  # only an attempt gives None, and its caller expects it
        if isinstance(reply, Blocked):
            return attrs.evolve(
                reply,
                attempt=lambda: self._audited(call, started, reply.attempt),
                on_timeout=reply.on_timeout and (lambda: self._audited(call, started, reply.on_timeout)),  # type: ignore[arg-type]
                on_interrupt=lambda: self._audited(call, started, reply.on_interrupt or (lambda: -errno.EINTR)),
            )
        self._complete(call, started, reply)
        return reply

    def _complete(self, call: OSCall, started: int, reply: Reply) -> None:
        value = reply if isinstance(reply, int) else reply[0]  # type: ignore[index]
        value = 0 if value == LIBRARY else value
        call.result = value
        call.errno = errno.errorcode.get(-value) if -4095 <= value < 0 else None
        call.duration_ns = time.perf_counter_ns() - started
        if self.audit is not None:
            with self.callers:
                self.audit(call)
