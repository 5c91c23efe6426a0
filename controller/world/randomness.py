"""The box's random bytes: from the host's generator, or from a seed that makes every run the same.

Rule: a seeded stream depends only on the seed and on how many bytes were taken before. It is a pseudorandom function
of a secret only as far as the seed is secret: it is for repeatable runs, not for keys.
"""

import os
from typing import Final, TypeAlias

from proxybox.controller.effects import AnotherTurn

MOST_AT_ONCE: Final = 1 << 17
"""Bytes that one turn of a call makes. They cost more than they seem to: about 1.5 ms for each MiB."""
_BLOCK: Final = 1024
Data: TypeAlias = bytes


class Randomness:
    """A stream of random bytes.

    policy: "system", or an int as the seed.
    """

    __slots__ = ("_buffer", "_counter", "_key", "_made", "_offset")

    def __init__(self, policy: "str | int" = "system") -> None:
        self._key = b""
        if not isinstance(policy, str):
            from hashlib import sha256

            self._key = sha256(b"proxybox randomness %d" % policy).digest()
        self._counter = 0
        self._buffer = b""
        self._made = bytearray()  # bytes for calls that are not finished yet
        self._offset = 0

    @property
    def seeded(self) -> bool:
        """Whether the stream repeats from run to run."""
        return bool(self._key)

    def give(self, size: int) -> Data:
        """Returns the next `size` bytes. A call that wants many of them makes them in several turns.

        Raises AnotherTurn while some are missing.
        """
        made = self._made
        if size <= MOST_AT_ONCE and not made:
            return self.bytes(size)
        if len(made) < size:
            made += self.bytes(min(size - len(made), MOST_AT_ONCE))
            if len(made) < size:
                raise AnotherTurn
        data = Data(made[:size])
        del made[:size]
        return data

    def bytes(self, size: int) -> Data:
        """Returns the next `size` bytes, whose number the caller has bounded."""
        if not self._key:
            return os.urandom(size)
        end = self._offset + size
        if end > len(self._buffer):
            missing = end - len(self._buffer)
            fresh = self._expand(max(_BLOCK, missing))
            self._buffer = self._buffer[self._offset :] + fresh
            self._offset, end = 0, size
        data = self._buffer[self._offset : end]
        self._offset = end
        return data

    def _expand(self, size: int) -> Data:
        """Returns new bytes of the stream, in whole blocks: so the stream does not depend on the sizes of calls."""
        from hashlib import shake_128

        blocks = -(-size // _BLOCK)
        first, self._counter = self._counter, self._counter + blocks
        return b"".join(
            shake_128(self._key + number.to_bytes(8, "little")).digest(_BLOCK)
            for number in range(first, first + blocks)
        )
