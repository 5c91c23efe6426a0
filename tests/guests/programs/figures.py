"""Big integers, decimals, fractions, floats, recursion, statistics."""

import decimal
import fractions
import math
import statistics
import sys

big = 7**4000
print(len(str(big)), str(big)[:30], big % 1_000_000_007, math.isqrt(big).bit_length())
print(pow(3, 10**18, 10**9 + 7), math.factorial(300) // math.factorial(298), math.comb(200, 100), pow(17, -1, 3120))
print(int.from_bytes(big.to_bytes(1500, "big"), "big") == big, hex(big)[-20:], (big >> 11_000).bit_count(), -7 // 2, -7 % 3)
try:
    str(10**5000)
except ValueError:
    print("more digits than text may have")
decimal.getcontext().prec = 60
print(decimal.Decimal(2).sqrt(), decimal.Decimal(1) / 3, decimal.Decimal("1e-30") + 1)
print(fractions.Fraction(355, 113).limit_denominator(50), sum(fractions.Fraction(1, n) for n in range(1, 30)))
print(0.1 + 0.2, math.fsum([0.1] * 10), float.hex(math.pi), float("1e400"), math.nan != math.nan, repr(5e-324))
print(math.gamma(10.5), math.erf(0.3), math.hypot(3, 4, 12), round(2.675, 2), round(0.5), 1e16 + 1)
print(statistics.mean([1, 2, 4]), statistics.stdev([1.5, 2.5, 4.0]), complex(1, 2) ** 3)


def depth(n):
    return 0 if n == 0 else 1 + depth(n - 1)


def ackermann(m, n):
    return n + 1 if m == 0 else ackermann(m - 1, 1) if n == 0 else ackermann(m - 1, ackermann(m, n - 1))


print(depth(500), ackermann(2, 6))


def forever():
    return forever() + 1


try:
    forever()
except RecursionError as error:
    print("RecursionError", error)
sys.setrecursionlimit(5000)
print(sys.getrecursionlimit(), depth(2000))
nested = []
for _ in range(100_000):
    nested = [nested]
try:
    repr(nested)
except RecursionError:
    print("too deep to show")


def sieve(limit):
    flags = bytearray([1]) * limit
    flags[:2] = b"\0\0"
    for n in range(2, math.isqrt(limit) + 1):
        if flags[n]:
            flags[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return sum(flags)


print(sieve(1_000_000), sum(i * i % 7 for i in range(300_000)))
