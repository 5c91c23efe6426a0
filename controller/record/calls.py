"""What a request asks, so that two requests can be compared: the table of calls as a record has it.

The registers and bytes of a request also hold what no handler reads: addresses, registers that the call does not use,
structures that are only written to. `Recorded.asked` leaves that out. It goes by the roles of the handlers' arguments
(roles.py), as they were when the run was recorded, and by `_ONLY_AT_TIMES` for the calls that read an argument only
where another one says so.
"""

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.controller import abi
from proxybox.controller.dispatch import TABLE, compile_invoke
from proxybox.controller.errors import GuestMisbehaved, RecordError
from proxybox.controller.header import CALL_OPEN, MAX_PAYLOAD, Fetch
from proxybox.controller.roles import ROW_SIZE, Memory, Scalar, stub_row

#: The calls that can print what they pass, which stands right behind the registers of their requests: write, pwrite64,
#: writev, pwritev, pwritev2.
PASSING: Final = frozenset({1, 18, 20, 296, 328})
_CODES: Final = frozenset({"i4x", "I4x", "q", "Q"})
_MOST_ROWS: Final = 1024


@attrs.define(eq=False)
class CallForm:
    """A row of the table of calls, as a record has it."""

    number: int
    name: str
    family: str
    parameters: tuple[tuple[str, Scalar | Memory], ...]
    _decode: Callable[..., Any] | None = attrs.field(default=None, init=False)

    def _compiled(self) -> Callable[..., Any]:
        """Returns the decoder. Its text is made of names of our own: those of a record may be anything."""
        own = {name: f"a{at}" for at, (name, _) in enumerate(self.parameters)}
        parameters = [
            (own[name], attrs.evolve(role, length=own.get(role.length, "")) if isinstance(role, Memory) else role)
            for name, role in self.parameters
        ]
        return compile_invoke(lambda _, *values: values, parameters)

    def arguments(self, frame: bytes) -> dict[str, Any]:
        """Returns the arguments by name, with bytes for what the guest's memory held.

        Raises GuestMisbehaved for a malformed request, and OSError for one with an unreadable argument.
        """
        if self._decode is None:
            self._decode = self._compiled()
        values = self._decode(None, None, frame)
        return dict(zip((name for name, _ in self.parameters), values, strict=True))

    def asked(self, frame: bytes) -> dict[str, Any]:
        """Returns what the request asks: the arguments that are read, without addresses.

        Raises GuestMisbehaved for a malformed request.
        """
        return self.both(frame)[1]

    def both(self, frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns the arguments, and what the request asks: its error alone where an argument is unreadable.

        Raises GuestMisbehaved for a malformed request.
        """
        try:
            arguments = self.arguments(frame)
        except OSError as error:
            return {}, {"": error.errno}
        return arguments, self._asked(arguments)

    def _asked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        asked: dict[str, Any] = {}
        for name, role in self.parameters:
            value = arguments[name]
            if isinstance(role, Scalar):
                asked[name] = bool(value) if role.is_address else value
            elif isinstance(value, tuple):
                asked[name] = value[1]
            else:
                asked[name] = value
            if name == "iov" and isinstance(role, Memory) and role.fetch is Fetch.BUFFER and value is not None:
                asked[name] = _lengths(value)
        only = _ONLY_AT_TIMES.get(self.number)
        try:
            return asked if only is None else only(asked, arguments)
        except (KeyError, TypeError, ValueError, struct.error):
            raise RecordError(f"the record's row of {self.name} is another call's") from None

    def pack(self) -> list[Any]:
        """Returns the row as JSON has it."""
        return [self.number, self.name, self.family, [[name, *_packed(role)] for name, role in self.parameters]]


def _packed(role: Scalar | Memory) -> tuple[Any, ...]:
    if isinstance(role, Scalar):
        return role.code, role.is_address
    return int(role.fetch), role.size, role.length, role.optional, role.with_address


def table() -> list[Any]:
    """Returns the table of all calls, as a record has it."""
    return [
        CallForm(number, row.name, row.family, tuple(row.parameters)).pack() for number, row in sorted(TABLE.items())
    ]


def read_table(data: Any) -> dict[int, CallForm]:
    """Returns the rows of a record's table, by number. Raises RecordError for one that makes no sense."""
    if not isinstance(data, list) or len(data) > _MOST_ROWS:
        raise RecordError("the record has no table of calls")
    try:
        rows = [_read_row(*row) for row in data]
    except (TypeError, ValueError) as error:
        raise RecordError(f"the record's table of calls makes no sense: {error}") from None
    return {row.number: row for row in rows}


def _read_row(number: Any, name: Any, family: Any, parameters: Any) -> CallForm:
    if not isinstance(number, int) or not 0 <= number < 1 << 32 or len(parameters) > 6:
        raise ValueError("no such call")
    made: list[tuple[str, Scalar | Memory]] = []
    for each, *role in parameters:
        made.append((_name(each), _role(*role)))
    names = [each for each, _ in made]
    counting = [role.length for _, role in made if isinstance(role, Memory) and role.length]
    scalars = {each for each, role in made if isinstance(role, Scalar)}
    if len(set(names)) != len(names) or not set(counting) <= scalars:
        raise ValueError("arguments that are not told apart")
    return CallForm(number, _name(name), _name(family), tuple(made))


def _name(name: Any) -> str:
    if not isinstance(name, str) or not name.isidentifier() or len(name) > 64:
        raise ValueError("a name that is none")
    return name


def _role(*role: Any) -> Scalar | Memory:
    if len(role) == 2:
        code, is_address = role
        if code not in _CODES:
            raise ValueError("an unknown kind of register")
        return Scalar(code, bool(is_address))
    fetch, size, length, optional, with_address = role
    if not isinstance(size, int) or not 1 <= size <= MAX_PAYLOAD:
        raise ValueError("a piece of memory of an impossible size")
    return Memory(Fetch(fetch), size, _name(length) if length else "", bool(optional), bool(with_address))


def stub_rows(rows: Mapping[int, CallForm]) -> bytes:
    """Returns what the stub is told of these calls, as `dispatch.stub_table` does of the controller's own."""
    made = b"".join(stub_row(number, list(row.parameters)) for number, row in sorted(rows.items()) if number <= 0xFFFF)
    if len(made) // ROW_SIZE > _MOST_ROWS:
        raise RecordError("the record has no table of calls")
    return made


# --- calls that read an argument only at times ------------------------------------------------------------------------

_SET_NAME, _SET_NO_NEW_PRIVS, _SET_DUMPABLE = 15, 38, 4
_OP_DEL = 2
_UTIMES = (0x3FFFFFFF, 0x3FFFFFFE)  # UTIME_NOW, UTIME_OMIT
_FLAG_ARGUMENT = frozenset(
    {0, 1030, 2, 4, 8, 1031}
)  # F_DUPFD, F_DUPFD_CLOEXEC, F_SETFD, F_SETFL, F_SETOWN, F_SETPIPE_SZ
_LOCKS = frozenset({5, 6, 7, 36, 37, 38})
_TO_TERMINAL = {0x5402: 36, 0x5403: 36, 0x5404: 36, 0x402C542B: 44, 0x402C542C: 44, 0x402C542D: 44, 0x5414: 8}
_Asked = dict[str, Any]


def _lengths(vector: bytes) -> tuple[int, ...]:
    return tuple(size for _, size in struct.iter_unpack("<QQ", vector[: len(vector) // 16 * 16]))


def _opening(asked: _Asked, answered: _Asked) -> _Asked:
    creates = asked["flags"] & (abi.O_CREAT | abi.O_TMPFILE & ~abi.O_DIRECTORY)
    return asked if creates else {**asked, "mode": 0}


def _opening_whole(asked: _Asked, answered: _Asked) -> _Asked:
    closed = asked["mode"] >> 32
    return {**_opening(asked, answered), "closed": closed}


def _controlling(asked: _Asked, answered: _Asked) -> _Asked:
    address, data = answered["arg"]
    command, kept = asked["cmd"], None
    if command in _FLAG_ARGUMENT:
        kept = address & 0xFFFFFFFF
    elif command in _LOCKS and data is not None:
        kind, whence, _, start, length, _, _ = abi.FLOCK.unpack(data)
        kept = kind, whence, start, length
    return {**asked, "arg": kept}


def _to_device(asked: _Asked, answered: _Asked) -> _Asked:
    _, data = answered["arg"]
    request = asked["request"]
    size = 4 if request in (abi.FIONBIO, abi.FIOASYNC) else _TO_TERMINAL.get(request, 0)
    return {**asked, "arg": None if data is None else data[:size]}


def _process_control(asked: _Asked, answered: _Asked) -> _Asked:
    address, data = answered["arg"]
    kept = None
    if asked["option"] == _SET_NAME and data is not None:
        kept = data[:15].partition(b"\0")[0]
    elif asked["option"] in (_SET_NO_NEW_PRIVS, _SET_DUMPABLE):
        kept = address
    return {**asked, "arg": kept}


def _polling(asked: _Asked, answered: _Asked) -> _Asked:
    data = asked["fds"]
    if data is None:
        return asked
    return {**asked, "fds": tuple((fd, events) for fd, events, _ in struct.iter_unpack("<iHH", data[: len(data) & ~7]))}


def _watching(asked: _Asked, answered: _Asked) -> _Asked:
    event = asked["event"]
    return {**asked, "event": None if event is None or asked["op"] == _OP_DEL else event[:8]}


def _waiting(asked: _Asked, answered: _Asked) -> _Asked:
    is_for_bits = answered["op"] & abi.FUTEX_CMD_MASK == abi.FUTEX_WAIT_BITSET
    return {**asked, "uaddr2": None, "value3": answered["value3"] if is_for_bits else None}


def _acting(asked: _Asked, answered: _Asked) -> _Asked:
    if asked["act"] is None:
        return asked
    handler, flags, _, mask = abi.SIGACTION.unpack(asked["act"])
    return {**asked, "act": (min(handler, 2), flags, mask)}


def _stacking(asked: _Asked, answered: _Asked) -> _Asked:
    return {**asked, "stack": None if asked["stack"] is None else asked["stack"][8:]}


def _queueing(asked: _Asked, answered: _Asked) -> _Asked:
    info = asked["info"]
    return {**asked, "info": None if info is None else (info[8:12], info[24:32])}


def _timing(asked: _Asked, answered: _Asked) -> _Asked:
    if asked["times"] is None:
        return asked
    pairs = struct.iter_unpack("<qq", asked["times"])
    return {**asked, "times": tuple((0 if ns in _UTIMES else seconds, ns) for seconds, ns in pairs)}


_ONLY_AT_TIMES: Final[Mapping[int, Callable[[_Asked, _Asked], _Asked]]] = {
    2: _opening,
    257: _opening,
    CALL_OPEN: _opening_whole,
    72: _controlling,
    16: _to_device,
    157: _process_control,
    7: _polling,
    271: _polling,
    233: _watching,
    202: _waiting,
    13: _acting,
    131: _stacking,
    129: _queueing,
    297: _queueing,
    280: _timing,
}


def same(one: CallForm, ours: bytes, theirs: bytes) -> bool:
    """Whether two requests of a call ask the same. Raises GuestMisbehaved for a malformed one."""
    return ours == theirs or one.asked(ours) == one.asked(theirs)


def number_of(frame: bytes) -> int:
    """Returns the number of the call. Raises GuestMisbehaved for bytes that are no request."""
    if len(frame) < 56:
        raise GuestMisbehaved("a request is shorter than its registers")
    return int.from_bytes(frame[4:8], "little")
