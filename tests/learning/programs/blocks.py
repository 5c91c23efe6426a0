"""Needs much memory."""

blocks = [bytearray(40 << 20) for _ in range(9)]
print(sum(map(len, blocks)) >> 20, "MiB")
