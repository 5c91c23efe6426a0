"""SHA-3 and SHAKE (FIPS 202), in Python."""

_MASK = (1 << 64) - 1


def _constants():
    """The constants of the rounds, from the linear feedback shift register of FIPS 202, 3.2.5."""
    state, found = 1, []
    for _ in range(24):
        constant = 0
        for power in range(7):
            if state & 1:
                constant |= 1 << (1 << power) - 1
            state <<= 1
            if state & 0x100:
                state ^= 0x171
        found.append(constant)
    return found


def _places():
    """For each lane but the first, in the order of 3.2.3: its new place, and how far it is rotated."""
    x, y, found = 1, 0, []
    for step in range(24):
        at = x + 5 * y
        x, y = y, (2 * x + 3 * y) % 5
        found.append((at, x + 5 * y, (step + 1) * (step + 2) // 2 % 64))
    return found


_ROUNDS, _PLACES = _constants(), _places()


def _permute(a):
    """Keccak-f[1600], in place."""
    for constant in _ROUNDS:
        columns = [a[x] ^ a[x + 5] ^ a[x + 10] ^ a[x + 15] ^ a[x + 20] for x in range(5)]
        for x in range(5):
            after = columns[(x + 1) % 5]
            change = columns[x - 1] ^ ((after << 1 | after >> 63) & _MASK)
            for at in range(x, 25, 5):
                a[at] ^= change
        b = a[:]
        for at, place, turn in _PLACES:
            b[place] = (a[at] << turn | a[at] >> 64 - turn) & _MASK
        for y in range(0, 25, 5):
            row = b[y : y + 5]
            for x in range(5):
                a[y + x] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5])
        a[0] ^= constant


class _Sponge:
    """One of the functions: a sponge that takes `block_size` bytes at once."""

    def __init__(self, string=b""):
        self._lanes, self._rest = [0] * 25, b""
        self.update(string)

    def update(self, string):
        if isinstance(string, str):
            raise TypeError("Unicode-objects must be encoded before hashing")
        data, size = self._rest + bytes(memoryview(string)), self.block_size
        whole = len(data) // size * size
        for at in range(0, whole, size):
            self._take(self._lanes, data[at : at + size])
        self._rest = data[whole:]

    @staticmethod
    def _take(lanes, block):
        for lane in range(len(block) // 8):
            lanes[lane] ^= int.from_bytes(block[8 * lane : 8 * lane + 8], "little")
        _permute(lanes)

    def _squeezed(self, length):
        lanes, padded = self._lanes[:], bytearray(self._rest + bytes(self.block_size - len(self._rest)))
        padded[len(self._rest)] ^= self._suffix[0]
        padded[-1] ^= 0x80
        self._take(lanes, padded)
        found = b""
        while True:
            found += b"".join(lane.to_bytes(8, "little") for lane in lanes)[: self.block_size]
            if len(found) >= length:
                return found[:length]
            _permute(lanes)

    def copy(self):
        new = type(self)()
        new._lanes, new._rest = self._lanes[:], self._rest
        return new

    @property
    def _capacity_bits(self):
        return 1600 - 8 * self.block_size

    @property
    def _rate_bits(self):
        return 8 * self.block_size


class _Sha3(_Sponge):
    _suffix = b"\x06"

    def digest(self):
        return self._squeezed(self.digest_size)

    def hexdigest(self):
        return self.digest().hex()


class _Shake(_Sponge):
    _suffix = b"\x1f"
    digest_size = 0

    def digest(self, length):
        if not 0 <= length < 1 << 29:
            raise ValueError("value must be positive" if length < 0 else "length is too large")
        return self._squeezed(length)

    def hexdigest(self, length):
        return self.digest(length).hex()


def _named(kind, name, bits, block_size):
    fields = {"name": name, "block_size": block_size, "__doc__": name}
    if kind is _Sha3:
        fields["digest_size"] = bits // 8
    return type(name, (kind,), fields)


sha3_224, sha3_256, sha3_384, sha3_512 = (
    _named(_Sha3, "sha3_%d" % bits, bits, 200 - bits // 4) for bits in (224, 256, 384, 512)
)
shake_128, shake_256 = (_named(_Shake, "shake_%d" % bits, bits, 200 - bits // 4) for bits in (128, 256))
