"""Computes for long."""

total = 0
for number in range(30_000_000):
    total = (total + number * number) % 1_000_003
print(total)
