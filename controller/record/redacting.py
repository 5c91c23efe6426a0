"""What a record leaves out: contents of mounts, environment variables, answers of host functions, the host's paths.

What the program does with them is recorded: it may print them, or write them to another place.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import attrs

from proxybox.controller.header import CALL_OPEN
from proxybox.policies import PolicyError

if TYPE_CHECKING:
    from proxybox.controller.vfs.nodes import Node
    from proxybox.controller.world.state import World

#: The name by which a policy's mounts are recorded without the host's paths.
HOST: Final = "@host"
#: read, pread64, readv, preadv, preadv2, exchange.
_READING: Final = frozenset({0, 17, 19, 295, 327})
_EXCHANGE: Final = 511
#: Values of at most this many bytes are not searched for: other data would contain them by chance.
_SHORT: Final = 3
#: Bytes of a message in which the name of the function is looked for.
_NAME: Final = 4096


@attrs.define(eq=False)
class Redacted:
    """What is left out of one record.

    mounts: the superblocks of their files. values: of environment variables. functions: names.
    """

    mounts: frozenset[int] = frozenset()
    values: tuple[bytes, ...] = ()
    functions: tuple[bytes, ...] = ()
    _lines: dict[int, bool] = attrs.field(init=False, factory=dict)  # by channel: whether its message is of a function

    @classmethod
    def of(cls, names: tuple[str, ...], world: "World", environment: Mapping[str, str]) -> "Redacted":
        """Finds out what each name means. Raises PolicyError for one that means nothing in this box."""
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
        """Whether what an answer stores is left out. node: gives that of a descriptor."""
        if any(value in data for _, data in reply[1:] for value in self.values):
            return True
        if number == _EXCHANGE:
            return bool(self.functions) and self._is_of_function(channel, frame[60:])
        if not self.mounts or number not in (*_READING, CALL_OPEN):
            return False
        fd = reply[0] if number == CALL_OPEN else int.from_bytes(frame[8:12], "little", signed=True)
        try:
            return id(node(fd).superblock) in self.mounts
        except OSError:
            return False

    def _is_of_function(self, channel: int, message: bytes) -> bool:
        """Whether the answer to a message of the exchange is a function's (exchange/port.py), or the rest of one."""
        kind = message[:1]
        if kind in (b"h", b"*"):
            is_call = kind == b"h" or message[1:2] == b"h"
            self._lines[channel] = is_call and any(name in message[:_NAME] for name in self.functions)
        elif kind not in (b"+", b".", b"-", b"w"):
            self._lines[channel] = False
        return self._lines.get(channel, False)


def _mount(world: "World", path: str) -> int:
    try:
        node = world.tree.resolve(path.encode("utf-8", "surrogateescape"), world.tree.root, world.credentials)
    except OSError as error:
        raise PolicyError(f"redact: there is no {path!r} in the box ({error.strerror})") from None
    if node.superblock is world.tree.root.superblock:
        raise PolicyError(f"redact: {path!r} is no mount of this box")
    return id(node.superblock)
