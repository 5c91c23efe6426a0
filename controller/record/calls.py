"""The table of calls in a record: which arguments a call reads, so that two requests can be compared.

The registers and bytes of a request also hold what no handler reads: addresses, registers that the call does not use,
structures that are only written to. `CallForm.asked` leaves that out. It uses the roles of the handlers' arguments
(roles.py) at the time of the recording, and `Row.asked` for the calls that read an argument only when another one says
so.
"""

import functools
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

import attrs

from proxybox.controller.calleffects import CallEffect
from proxybox.controller.dispatch import TABLE, compile_invoke
from proxybox.controller.errors import GuestMisbehaved, RecordError
from proxybox.controller.header import CALL_OPEN, MAX_PAYLOAD, Fetch
from proxybox.controller.oscalls.rows import numbers_of
from proxybox.controller.roles import ROW_SIZE, Memory, Scalar, stub_row

#: The calls that can print the data in their requests, which directly follows the registers.
PASSING: Final = numbers_of(CallEffect.WRITES, but_not=CallEffect.READS | CallEffect.SOCKETS)
_CODES: Final = frozenset({"i4x", "I4x", "q", "Q"})
_MOST_ROWS: Final = 1024


@attrs.define(eq=False)
class CallForm:
    """A row of the table of calls of a record."""

    number: int
    name: str
    family: str
    parameters: tuple[tuple[str, Scalar | Memory], ...]
    _decode: Callable[..., Any] | None = attrs.field(default=None, init=False)

    def _compiled(self) -> Callable[..., Any]:
        """Returns the decoder. Its source uses generated names, because those of a record may be anything."""
        own = {name: f"a{at}" for at, (name, _) in enumerate(self.parameters)}
        parameters = [
            (own[name], attrs.evolve(role, length=own.get(role.length, "")) if isinstance(role, Memory) else role)
            for name, role in self.parameters
        ]
        return compile_invoke(lambda _, *values: values, parameters)

    def arguments(self, frame: bytes) -> dict[str, Any]:
        """Returns the arguments by name, with bytes for the contents of the guest's memory.

        Raises GuestMisbehaved for a malformed request, and OSError for one with an unreadable argument.
        """
        if self._decode is None:
            self._decode = self._compiled()
        values = self._decode(None, None, frame)
        return dict(zip((name for name, _ in self.parameters), values, strict=True))

    def asked(self, frame: bytes) -> dict[str, Any]:
        """Returns the arguments that the call reads, without addresses.

        Raises GuestMisbehaved for a malformed request.
        """
        return self.both(frame)[1]

    def both(self, frame: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
        """Returns all arguments, and what `asked` returns: the error alone where an argument is unreadable.

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
        row = TABLE.get(self.number)
        only = None if row is None else row.asked
        try:
            return asked if only is None else only(asked, arguments)
        except (KeyError, TypeError, ValueError, struct.error):
            raise RecordError(f"the record's row of {self.name} is another call's") from None

    def pack(self) -> list[Any]:
        """Returns the row as a JSON array."""
        return [self.number, self.name, self.family, [[name, *_packed(role)] for name, role in self.parameters]]


def _packed(role: Scalar | Memory) -> tuple[Any, ...]:
    if isinstance(role, Scalar):
        return role.code, role.is_address
    return int(role.fetch), role.size, role.length, role.optional, role.with_address


def table() -> list[Any]:
    """Returns the table of all calls, as a record stores it."""
    return [
        CallForm(number, row.name, row.family, tuple(row.parameters)).pack() for number, row in sorted(TABLE.items())
    ]


def read_table(data: Any) -> dict[int, CallForm]:
    """Returns the rows of a record's table, by number. Raises RecordError for an invalid table."""
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
    """Returns the stub's table of these calls, as `dispatch.stub_table` does for the controller's own calls."""
    made = b"".join(stub_row(number, list(row.parameters)) for number, row in sorted(rows.items()) if number <= 0xFFFF)
    if len(made) // ROW_SIZE > _MOST_ROWS:
        raise RecordError("the record has no table of calls")
    return made


def _lengths(vector: bytes) -> tuple[int, ...]:
    return tuple(size for _, size in struct.iter_unpack("<QQ", vector[: len(vector) // 16 * 16]))


def same(one: CallForm, ours: bytes, theirs: bytes) -> bool:
    """Whether two requests of a call agree in what `asked` returns. Raises GuestMisbehaved for a malformed one.

    one: the call's row in the record. ours: a request of today's stub. theirs: a request in the record.
    """
    return ours == theirs or _as_today(one).asked(ours) == one.asked(theirs)


def _as_today(one: CallForm) -> CallForm:
    """Returns the row for requests of today's stub: its own call for open(2) had other arguments earlier."""
    is_opening = one.number == CALL_OPEN and any(name == "room" for name, _ in one.parameters)
    return _opening_of_today() if is_opening else one


@functools.cache
def _opening_of_today() -> CallForm:
    row = TABLE[CALL_OPEN]
    return CallForm(CALL_OPEN, row.name, row.family, tuple(row.parameters))


def number_of(frame: bytes) -> int:
    """Returns the number of the call. Raises GuestMisbehaved for bytes that are no request."""
    if len(frame) < 56:
        raise GuestMisbehaved("a request is shorter than its registers")
    return int.from_bytes(frame[4:8], "little")
