"""What a record leaves out: contents of mounts, environment variables, answers of host functions, the host's paths.

Their use by the program is recorded: it may print them, or write them to another place.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from proxybox.controller.calleffects import OF_NO_FILE, ON_NAMES, CallEffect
from proxybox.controller.dispatch import TABLE, Row
from proxybox.controller.oscalls.rows import by_effect
from proxybox.controller.roles import Meaning
from proxybox.controller.wire.protocol import REGISTERS
from proxybox.policies import PolicyError

if TYPE_CHECKING:
    from proxybox.controller.vfs.nodes import Node
    from proxybox.controller.world.state import World

#: The name by which a policy's mounts are recorded without the host's paths.
HOST: Final = "@host"
#: Where to find the descriptor of the file whose content an answer has. This depends on the effects of the call; the
#: other effects store no content of a file.
_IN_THE_ANSWER, _IN_THE_REQUEST, _NO_FILE, _OF_THE_CALLER = "answer", "request", "", "caller"
_HOLDING: Final = by_effect(
    {
        CallEffect.OPENS: _IN_THE_ANSWER,  # with the content of a small file (CALL_OPEN)
        CallEffect.READS: _IN_THE_REQUEST,
        CallEffect.READS | CallEffect.WRITES: _NO_FILE,
        CallEffect.CALLER: _OF_THE_CALLER,
    },
    nothing=ON_NAMES | CallEffect.LISTS | CallEffect.LOOKS | CallEffect.STATUS | CallEffect.SEEKS
    | CallEffect.RESIZES | CallEffect.ALTERS | CallEffect.CREATES | CallEffect.DUPLICATES | CallEffect.CLOSES
    | CallEffect.ENTERS | CallEffect.MAPS | OF_NO_FILE,
)  # fmt: skip
#: Values of at most this many bytes are not searched for: other data would contain them by chance.
_SHORT: Final = 3
#: Bytes of a message in which the name of the function is looked for.
_NAME: Final = 4096


@attrs.define(eq=False)
class Redacted:
    """What is left out of one record.

    mounts: the ids of their superblocks. values: values of environment variables. functions: names of functions.
    """

    mounts: frozenset[int] = frozenset()
    values: tuple[bytes, ...] = ()
    functions: tuple[bytes, ...] = ()
    _lines: dict[int, bool] = attrs.field(init=False, factory=dict)  # by channel: whether a function is called

    @classmethod
    def of(cls, names: tuple[str, ...], world: "World", environment: Mapping[str, str]) -> "Redacted":
        """Makes an object from the names in a policy. Raises PolicyError for a name that means nothing in this box."""
        functions = () if world.port is None or world.port.functions is None else world.port.functions.names
        mounts, values, called = set(), [], []
        for name in names:
            if name == HOST:
                continue
            if name.startswith("/"):
                mounts.add(_mount(world, name))
            elif name in environment:
                values.append(environment[name].encode("utf-8", "surrogateescape"))
            elif name in functions:
                called.append(name.encode())
            else:
                raise PolicyError(f"redact: {name!r} is no mount, environment variable or host function of this box")
        return cls(frozenset(mounts), tuple(value for value in values if len(value) > _SHORT), tuple(called))

    def covers(
        self, number: int, channel: int, frame: bytes, reply: tuple[Any, ...], node: Callable[[int], "Node"]
    ) -> bool:
        """Whether what an answer stores is left out. node: returns the node of a descriptor."""
        if any(value in data for _, data in reply[1:] for value in self.values):
            return True
        row = TABLE.get(number)
        holds = _HOLDING.get(row.name, _NO_FILE) if row is not None else _NO_FILE
        if holds == _OF_THE_CALLER:
            return bool(self.functions) and self._is_of_function(channel, frame[60:])
        if not self.mounts or row is None or holds == _NO_FILE:
            return False
        fd = reply[0] if holds == _IN_THE_ANSWER else _descriptor(row, frame)
        try:
            return id(node(fd).superblock) in self.mounts
        except OSError:
            return False

    def _is_of_function(self, channel: int, message: bytes) -> bool:
        """Whether the answer to a message (exchange/port.py) is the answer of one of `functions`, or a part of it."""
        kind = message[:1]
        if kind in (b"h", b"*"):
            is_call = kind == b"h" or message[1:2] == b"h"
            self._lines[channel] = is_call and any(name in message[:_NAME] for name in self.functions)
        elif kind not in (b"+", b".", b"-", b"w"):
            self._lines[channel] = False
        return self._lines.get(channel, False)


def _descriptor(row: Row, frame: bytes) -> int:
    """Returns the descriptor that a request names: the first one, which is a 32-bit register."""
    place = next(at for at, (name, _) in enumerate(row.parameters) if row.meanings.get(name) is Meaning.DESCRIPTOR)
    return int.from_bytes(frame[REGISTERS + 8 * place :][:4], "little", signed=True)


def _mount(world: "World", path: str) -> int:
    try:
        node = world.tree.resolve(path.encode("utf-8", "surrogateescape"), world.tree.root, world.credentials)
    except OSError as error:
        raise PolicyError(f"redact: there is no {path!r} in the box ({error.strerror})") from None
    if node.superblock is world.tree.root.superblock:
        raise PolicyError(f"redact: {path!r} is no mount of this box")
    return id(node.superblock)
