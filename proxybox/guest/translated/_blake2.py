"""BLAKE2b and BLAKE2s (RFC 7693), in Python, with their parameters for keys and trees."""

import struct as _struct

_SIGMA = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
#: The words of the state that are mixed with each other: columns, then diagonals.
_MIXED = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)


class _Blake2:
    """The common part of both functions. Each has its own word width in bits, rounds, rotations and first values."""

    def __new__(
        cls,
        data=b"",
        *,
        digest_size=None,
        key=b"",
        salt=b"",
        person=b"",
        fanout=1,
        depth=1,
        leaf_size=0,
        node_offset=0,
        node_depth=0,
        inner_size=0,
        last_node=False,
    ):
        digest_size = cls.MAX_DIGEST_SIZE if digest_size is None else digest_size
        key, salt, person = (bytes(each or b"") for each in (key, salt, person))
        for value, most, why in (
            (
                digest_size - 1,
                cls.MAX_DIGEST_SIZE - 1,
                "digest_size must be between 1 and %d bytes" % cls.MAX_DIGEST_SIZE,
            ),
            (len(key), cls.MAX_KEY_SIZE, "maximum key length is %d bytes" % cls.MAX_KEY_SIZE),
            (len(salt), cls.SALT_SIZE, "maximum salt length is %d bytes" % cls.SALT_SIZE),
            (len(person), cls.PERSON_SIZE, "maximum person length is %d bytes" % cls.PERSON_SIZE),
            (fanout, 255, "fanout must be between 0 and 255"),
            (depth - 1, 254, "depth must be between 1 and 255"),
            (node_depth, 255, "node_depth must be between 0 and 255"),
            (inner_size, cls.MAX_DIGEST_SIZE, "inner_size must be between 0 and is %d" % cls.MAX_DIGEST_SIZE),
        ):
            if not 0 <= value <= most:
                raise ValueError(why)
        if not 0 <= (leaf_size or 0) < 1 << 32:
            raise OverflowError("leaf_size is too large")
        if not 0 <= (node_offset or 0) < 1 << cls._OFFSET_BITS:
            raise OverflowError("node_offset is too large")
        self = object.__new__(cls)
        width = cls._BITS // 8
        offset = (node_offset or 0).to_bytes(cls._OFFSET_BITS // 8, "little")
        parameters = _struct.pack("<BBBBI", digest_size, len(key), fanout, depth, leaf_size or 0) + offset
        parameters += bytes((node_depth, inner_size)) + bytes(cls._RESERVED)
        parameters += salt.ljust(cls.SALT_SIZE, b"\0") + person.ljust(cls.PERSON_SIZE, b"\0")
        words = (int.from_bytes(parameters[at : at + width], "little") for at in range(0, 8 * width, width))
        self._state = [first ^ word for first, word in zip(cls._FIRST, words)]  # noqa: B905 - strict= is not in 3.6
        self._rest, self._count, self._is_last_node = b"", 0, bool(last_node)
        self.digest_size = digest_size
        if key:
            self.update(key.ljust(cls.block_size, b"\0"))
        self.update(data)
        return self

    def update(self, data):
        if isinstance(data, str):
            raise TypeError("Unicode-objects must be encoded before hashing")
        data, size = self._rest + bytes(memoryview(data)), self.block_size
        at = 0
        while len(data) - at > size:  # the last block, also a whole one, waits for the end
            self._count += size
            self._compress(self._state, data[at : at + size], self._count, False)
            at += size
        self._rest = data[at:]

    def _compress(self, state, block, count, is_last):
        bits = self._BITS
        mask = (1 << bits) - 1
        words = _struct.unpack(self._LAYOUT, block)
        v = state + list(self._FIRST)
        v[12] ^= count & mask
        v[13] ^= count >> bits
        if is_last:
            v[14] ^= mask
            if self._is_last_node:
                v[15] ^= mask
        one, two, three, four = self._TURNS
        for turn in range(self._ROUNDS):
            order = _SIGMA[turn % 10]
            for number, (a, b, c, d) in enumerate(_MIXED):
                va, vb, vc, vd = v[a], v[b], v[c], v[d]
                va = (va + vb + words[order[2 * number]]) & mask
                vd ^= va
                vd = vd >> one | vd << bits - one & mask
                vc = (vc + vd) & mask
                vb ^= vc
                vb = vb >> two | vb << bits - two & mask
                va = (va + vb + words[order[2 * number + 1]]) & mask
                vd ^= va
                vd = vd >> three | vd << bits - three & mask
                vc = (vc + vd) & mask
                vb ^= vc
                v[a], v[b], v[c], v[d] = va, vb >> four | vb << bits - four & mask, vc, vd
        for at in range(8):
            state[at] ^= v[at] ^ v[at + 8]

    def digest(self):
        state, rest = self._state[:], self._rest
        self._compress(state, rest.ljust(self.block_size, b"\0"), self._count + len(rest), True)
        return b"".join(word.to_bytes(self._BITS // 8, "little") for word in state)[: self.digest_size]

    def hexdigest(self):
        return self.digest().hex()

    def copy(self):
        new = object.__new__(type(self))
        vars(new).update(vars(self))
        new._state = self._state[:]
        return new


class blake2b(_Blake2):
    """BLAKE2b: for machines of 64 bits."""

    name = "blake2b"
    SALT_SIZE = PERSON_SIZE = 16
    MAX_KEY_SIZE = MAX_DIGEST_SIZE = 64
    block_size = 128
    _BITS, _ROUNDS, _TURNS, _LAYOUT, _OFFSET_BITS, _RESERVED = 64, 12, (32, 24, 16, 63), "<16Q", 64, 14
    _FIRST = (
        0x6A09E667F3BCC908,
        0xBB67AE8584CAA73B,
        0x3C6EF372FE94F82B,
        0xA54FF53A5F1D36F1,
        0x510E527FADE682D1,
        0x9B05688C2B3E6C1F,
        0x1F83D9ABFB41BD6B,
        0x5BE0CD19137E2179,
    )


class blake2s(_Blake2):
    """BLAKE2s: for machines of 8 to 32 bits."""

    name = "blake2s"
    SALT_SIZE = PERSON_SIZE = 8
    MAX_KEY_SIZE = MAX_DIGEST_SIZE = 32
    block_size = 64
    _BITS, _ROUNDS, _TURNS, _LAYOUT, _OFFSET_BITS, _RESERVED = 32, 10, (16, 12, 8, 7), "<16I", 48, 0
    _FIRST = tuple(word >> 32 for word in blake2b._FIRST)
